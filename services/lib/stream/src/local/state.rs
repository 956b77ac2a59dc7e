//! The whole log behind one lock: topics, groups, transactions and what times out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::faults::Faults;
use super::group::{Group, MemberId};
use super::log::{Topics, TransactionNumber};
use crate::error::{AdminError, ProduceError, TransactionError};
use crate::port::{Commit, Outgoing, TopicPartition};

/// How long a transaction may stay open.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// A group membership as a transaction proves it.
#[derive(Debug, Clone)]
pub(super) struct Membership {
    pub(super) group: String,
    pub(super) member: MemberId,
    pub(super) incarnation: u64,
}

struct Open {
    number: TransactionNumber,
    expires: Instant,
    touched: BTreeSet<TopicPartition>,
}

/// What is kept of a transactional id.
#[derive(Default)]
struct Slot {
    /// The newest producer of this id; all before it are fenced.
    epoch: u64,
    open: Option<Open>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) topics: Topics,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) faults: Faults,
    slots: BTreeMap<String, Slot>,
    numbers: u64,
}

impl State {
    /// A number nobody else has.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn group(&mut self, name: &str) -> (&mut Group, &Topics) {
        (
            self.groups.entry(name.to_owned()).or_default(),
            &self.topics,
        )
    }

    /// Why a record cannot be written, if it cannot.
    pub(super) fn check(&self, record: &Outgoing) -> Result<(), ProduceError> {
        let refused = |reason: &str| ProduceError::Refused {
            topic: record.topic.to_string(),
            reason: reason.to_owned(),
        };
        let topic = self
            .topics
            .get(&record.topic)
            .ok_or_else(|| refused("unknown topic"))?;
        if topic.partition(record.partition).is_none() {
            return Err(refused("unknown partition"));
        }
        let bytes = record.key.as_ref().map_or(0, bytes::Bytes::len)
            + record.value.as_ref().map_or(0, bytes::Bytes::len);
        if bytes > topic.max_bytes() {
            return Err(ProduceError::TooLarge {
                topic: record.topic.to_string(),
                bytes,
            });
        }
        Ok(())
    }

    /// Appends a checked record.
    pub(super) fn append(
        &mut self,
        record: Outgoing,
        timestamp: i64,
        transaction: Option<TransactionNumber>,
    ) -> i64 {
        let number = record.partition;
        self.topics
            .get_mut(&record.topic)
            .and_then(|t| t.partition_mut(number))
            .map_or(-1, |p| p.append(record, timestamp, transaction))
    }

    // ---- transactions ------------------------------------------------------------------------

    /// Takes a transactional id over: its open transaction is aborted, its owner fenced.
    pub(super) fn take_slot(&mut self, id: &str) -> u64 {
        let open = {
            let slot = self.slots.entry(id.to_owned()).or_default();
            slot.epoch += 1;
            slot.open.take()
        };
        if let Some(open) = open {
            self.end(&open, false);
        }
        self.slots.get(id).map_or(0, |s| s.epoch)
    }

    fn fenced(&self, id: &str, epoch: u64) -> Result<(), TransactionError> {
        if self.slots.get(id).is_some_and(|s| s.epoch == epoch) {
            return Ok(());
        }
        let reason = "a newer producer took this id over".to_owned();
        Err(TransactionError::Fenced {
            id: id.to_owned(),
            reason,
        })
    }

    /// Opens a transaction and writes its records.
    pub(super) fn begin(
        &mut self,
        (id, epoch): (&str, u64),
        records: Vec<Outgoing>,
        timestamp: i64,
        now: Instant,
    ) -> Result<(), TransactionError> {
        self.fenced(id, epoch)?;
        for record in &records {
            self.check(record)
                .map_err(|e| TransactionError::Aborted(e.to_string()))?;
        }
        // One that was left open by a caller that stopped waiting.
        if let Some(open) = self.slots.get_mut(id).and_then(|s| s.open.take()) {
            self.end(&open, false);
        }
        let number = self.number();
        let mut touched = BTreeSet::new();
        for record in records {
            touched.insert(TopicPartition::new(record.topic.clone(), record.partition));
            self.append(record, timestamp, Some(number));
        }
        if let Some(slot) = self.slots.get_mut(id) {
            slot.open = Some(Open {
                number,
                expires: now + TRANSACTION_TIMEOUT,
                touched,
            });
        }
        Ok(())
    }

    /// Commits the open transaction with the group's offsets, or aborts it.
    pub(super) fn finish(
        &mut self,
        (id, epoch): (&str, u64),
        offsets: Vec<Commit>,
        membership: &Membership,
    ) -> Result<(), TransactionError> {
        self.fenced(id, epoch)?;
        let open = self.slots.get_mut(id).and_then(|s| s.open.take());
        let open =
            open.ok_or_else(|| TransactionError::Aborted("the transaction timed out".to_owned()))?;
        let refusal = self.offsets_refused(&offsets, membership);
        self.end(&open, refusal.is_none());
        if let Some(reason) = refusal {
            return Err(TransactionError::Aborted(reason));
        }
        let (group, _) = self.group(&membership.group);
        for commit in offsets {
            group.commit(commit.partition, commit.committed);
        }
        Ok(())
    }

    /// Aborts the open transaction.
    pub(super) fn abort(&mut self, id: &str) {
        if let Some(open) = self.slots.get_mut(id).and_then(|s| s.open.take()) {
            self.end(&open, false);
        }
    }

    fn offsets_refused(&self, offsets: &[Commit], by: &Membership) -> Option<String> {
        if offsets.is_empty() {
            return None;
        }
        let group = self.groups.get(&by.group);
        let Some(group) = group.filter(|g| g.incarnation(by.member) == Some(by.incarnation)) else {
            return Some("the member is not in the group any more".to_owned());
        };
        group
            .foreign(by.member, offsets.iter().map(|c| &c.partition))
            .map(|p| format!("{p} is not assigned to this member"))
    }

    fn end(&mut self, open: &Open, committed: bool) {
        for touched in &open.touched {
            let topic = self.topics.get_mut(&touched.topic);
            if let Some(partition) = topic.and_then(|t| t.partition_mut(touched.partition)) {
                partition.end_transaction(open.number, committed);
            }
        }
    }

    // ---- time --------------------------------------------------------------------------------

    /// Lets pass what is due; true when something changed.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut due = Vec::new();
        for slot in self.slots.values_mut() {
            if slot.open.as_ref().is_some_and(|o| o.expires <= now) {
                due.extend(slot.open.take());
            }
        }
        for open in &due {
            self.end(open, false);
        }
        let mut changed = !due.is_empty();
        for group in self.groups.values_mut() {
            changed |= group.expire(now, &self.topics);
        }
        changed
    }

    /// When something is due next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let transactions = self
            .slots
            .values()
            .filter_map(|s| s.open.as_ref())
            .map(|o| o.expires);
        let sessions = self.groups.values().filter_map(Group::next_deadline);
        transactions.chain(sessions).min()
    }

    /// The names that do not exist are an error.
    pub(super) fn known(&self, name: &str) -> Result<Arc<str>, AdminError> {
        self.topics
            .get_key_value(name)
            .map(|(n, _)| n.clone())
            .ok_or_else(|| AdminError::Refused {
                what: format!("describe {name}"),
                reason: "unknown topic".to_owned(),
            })
    }
}
