//! Consumer groups in memory: sticky, cooperative, with sessions that time out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::log::Topics;
use crate::port::{
    Committed, From, GroupEvent, GroupOptions, Isolation, Record, Reset, TopicPartition,
};

/// Names one membership.
pub(super) type MemberId = u64;

/// Most records of one event.
const BATCH: usize = 500;

struct Reading {
    position: i64,
    paused: bool,
    /// Revoked and not released: still ours, but nothing more is given out.
    leaving: bool,
}

pub(super) struct Member {
    topics: Vec<Arc<str>>,
    reset: Reset,
    session_timeout: Duration,
    owned: BTreeMap<TopicPartition, Reading>,
    events: VecDeque<GroupEvent>,
    revoking: BTreeMap<u64, Vec<TopicPartition>>,
    /// Grows when the member is thrown out and joins again; older proofs are then refused.
    incarnation: u64,
    /// When the session of a member that died without a word ends.
    expires: Option<Instant>,
    /// Where the last batch ended, so that every partition gets its turn.
    cursor: Option<TopicPartition>,
}

impl Member {
    fn new(options: &GroupOptions) -> Self {
        Self {
            topics: options.topics.clone(),
            reset: options.reset,
            session_timeout: options.session_timeout,
            owned: BTreeMap::new(),
            events: VecDeque::new(),
            revoking: BTreeMap::new(),
            incarnation: 0,
            expires: None,
            cursor: None,
        }
    }

    fn keeps(&self) -> usize {
        self.owned.values().filter(|r| !r.leaving).count()
    }

    /// Partitions that could be read, beginning behind the cursor.
    fn turn(&self) -> Vec<TopicPartition> {
        let mut turn: Vec<_> = self
            .owned
            .iter()
            .filter(|(_, r)| !r.paused && !r.leaving)
            .map(|(p, _)| p.clone())
            .collect();
        if let Some(cursor) = &self.cursor {
            let behind = turn.partition_point(|p| p <= cursor);
            turn.rotate_left(behind);
        }
        turn
    }
}

#[derive(Default)]
pub(super) struct Group {
    members: BTreeMap<MemberId, Member>,
    committed: BTreeMap<TopicPartition, Committed>,
    rebalances: u64,
}

impl Group {
    pub(super) fn join(&mut self, id: MemberId, options: &GroupOptions, topics: &Topics) {
        self.members.insert(id, Member::new(options));
        self.rebalance(topics);
    }

    /// Leaves at once.
    pub(super) fn leave(&mut self, id: MemberId, topics: &Topics) {
        self.members.remove(&id);
        self.rebalance(topics);
    }

    /// The member died without a word: its partitions stay with it until its session ends.
    pub(super) fn die(&mut self, id: MemberId, now: Instant) {
        if let Some(member) = self.members.get_mut(&id) {
            member.expires = Some(now + member.session_timeout);
        }
    }

    /// Ends sessions; true when one ended.
    pub(super) fn expire(&mut self, now: Instant, topics: &Topics) -> bool {
        let before = self.members.len();
        self.members
            .retain(|_, m| m.expires.is_none_or(|at| at > now));
        let ended = self.members.len() < before;
        if ended {
            self.rebalance(topics);
        }
        ended
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.members.values().filter_map(|m| m.expires).min()
    }

    /// Throws a member out, by its place in the order of joining; it joins again at once.
    pub(super) fn lose(&mut self, place: usize, topics: &Topics) -> bool {
        let Some(id) = self.members.keys().nth(place).copied() else {
            return false;
        };
        let Some(mut member) = self.members.remove(&id) else {
            return false;
        };
        let lost: Vec<_> = std::mem::take(&mut member.owned).into_keys().collect();
        member.revoking.clear();
        member.incarnation += 1;
        // A revocation nobody has seen yet is overtaken by the loss.
        member
            .events
            .retain(|e| !matches!(e, GroupEvent::Revoked { .. }));
        member.events.push_back(GroupEvent::Lost(lost));
        // First the others take over, then it comes back as a new member.
        self.rebalance(topics);
        self.members.insert(id, member);
        self.rebalance(topics);
        true
    }

    pub(super) fn incarnation(&self, id: MemberId) -> Option<u64> {
        self.members
            .get(&id)
            .filter(|m| m.expires.is_none())
            .map(|m| m.incarnation)
    }

    /// The first partition that the member does not own.
    pub(super) fn foreign<'a>(
        &self,
        id: MemberId,
        mut partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> Option<&'a TopicPartition> {
        let member = self.members.get(&id);
        partitions.find(|p| !member.is_some_and(|m| m.owned.contains_key(*p)))
    }

    pub(super) fn commit(&mut self, partition: TopicPartition, committed: Committed) {
        self.committed.insert(partition, committed);
    }

    pub(super) fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.committed.get(partition).map(|c| c.offset)
    }

    pub(super) fn pause(&mut self, id: MemberId, partitions: &[TopicPartition], paused: bool) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        for partition in partitions {
            if let Some(reading) = member.owned.get_mut(partition) {
                reading.paused = paused;
            }
        }
    }

    pub(super) fn release(&mut self, id: MemberId, rebalance: u64, topics: &Topics) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        for partition in member.revoking.remove(&rebalance).unwrap_or_default() {
            member.owned.remove(&partition);
        }
        self.rebalance(topics);
    }

    /// The member's next event: what happened first, then records.
    pub(super) fn next(&mut self, id: MemberId, topics: &Topics) -> Option<GroupEvent> {
        let member = self.members.get_mut(&id)?;
        if let Some(event) = member.events.pop_front() {
            return Some(event);
        }
        let mut batch: Vec<Record> = Vec::new();
        for partition in member.turn() {
            if batch.len() >= BATCH {
                break;
            }
            let log = topics
                .get(&partition.topic)
                .and_then(|t| t.partition(partition.partition));
            let (Some(log), Some(reading)) = (log, member.owned.get_mut(&partition)) else {
                continue;
            };
            if reading.position < log.low() {
                reading.position = first(member.reset, log);
            }
            let room = BATCH - batch.len();
            let (records, position) =
                log.read(reading.position, i64::MAX, room, Isolation::Committed);
            reading.position = position;
            if !records.is_empty() {
                batch.extend(records);
                member.cursor = Some(partition);
            }
        }
        (!batch.is_empty()).then_some(GroupEvent::Records(batch))
    }

    /// Moves as few partitions as an even spread needs. What is to move is revoked first, and
    /// assigned once it was released. Members that died unseen keep what they have.
    pub(super) fn rebalance(&mut self, topics: &Topics) {
        self.revoke_surplus(topics);
        let mut assigned: BTreeMap<MemberId, Vec<TopicPartition>> = BTreeMap::new();
        for partition in self.unowned(topics) {
            let next = self
                .members
                .iter()
                .filter(|(_, m)| m.expires.is_none() && m.topics.contains(&partition.topic))
                .min_by_key(|(id, m)| (m.keeps(), **id))
                .map(|(id, _)| *id);
            let Some(id) = next else { continue };
            self.assign(id, &partition, topics);
            assigned.entry(id).or_default().push(partition);
        }
        for (id, partitions) in assigned {
            let with_offsets = partitions
                .into_iter()
                .map(|p| (p.clone(), self.committed.get(&p).cloned()))
                .collect();
            if let Some(member) = self.members.get_mut(&id) {
                member.events.push_back(GroupEvent::Assigned(with_offsets));
            }
        }
    }

    fn assign(&mut self, id: MemberId, partition: &TopicPartition, topics: &Topics) {
        let log = topics
            .get(&partition.topic)
            .and_then(|t| t.partition(partition.partition));
        let committed = self.committed.get(partition).map(|c| c.offset);
        let (Some(member), Some(log)) = (self.members.get_mut(&id), log) else {
            return;
        };
        let position = committed.unwrap_or_else(|| first(member.reset, log));
        let reading = Reading {
            position,
            paused: false,
            leaving: false,
        };
        member.owned.insert(partition.clone(), reading);
    }

    /// All partitions the group reads.
    fn partitions(&self, topics: &Topics) -> BTreeSet<TopicPartition> {
        let names: BTreeSet<_> = self
            .members
            .values()
            .flat_map(|m| m.topics.iter())
            .collect();
        names
            .into_iter()
            .filter_map(|name| topics.get(name).map(|t| (name, t.count())))
            .flat_map(|(name, count)| (0..count).map(|p| TopicPartition::new(name.clone(), p)))
            .collect()
    }

    fn unowned(&self, topics: &Topics) -> Vec<TopicPartition> {
        let mut free = self.partitions(topics);
        for member in self.members.values() {
            free.retain(|p| !member.owned.contains_key(p));
        }
        free.into_iter().collect()
    }

    fn revoke_surplus(&mut self, topics: &Topics) {
        let live = self
            .members
            .values()
            .filter(|m| m.expires.is_none())
            .count();
        if live == 0 {
            return;
        }
        let held: usize = self
            .members
            .values()
            .filter(|m| m.expires.is_some())
            .map(|m| m.owned.len())
            .sum();
        let total = self.partitions(topics).len().saturating_sub(held);
        let floor = total / live;
        // So many members may have one more than the others.
        let mut with_more = total % live;
        for member in self.members.values_mut().filter(|m| m.expires.is_none()) {
            let keeps = member.keeps();
            let quota = if keeps > floor && with_more > 0 {
                with_more -= 1;
                floor + 1
            } else {
                floor
            };
            if keeps <= quota {
                continue;
            }
            let surplus: Vec<_> = member
                .owned
                .iter_mut()
                .rev()
                .filter(|(_, r)| !r.leaving)
                .take(keeps - quota)
                .map(|(p, r)| {
                    r.leaving = true;
                    p.clone()
                })
                .collect();
            self.rebalances += 1;
            member.revoking.insert(self.rebalances, surplus.clone());
            member.events.push_back(GroupEvent::Revoked {
                rebalance: self.rebalances,
                partitions: surplus,
            });
        }
    }
}

fn first(reset: Reset, log: &super::log::Partition) -> i64 {
    match reset {
        Reset::Earliest => log.start(From::Beginning, Isolation::Committed),
        Reset::Latest => log.end(Isolation::Committed),
    }
}
