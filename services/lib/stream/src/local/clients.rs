//! Producers, group members and followers of the local log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::LocalCluster;
use super::faults::Fate;
use super::group::MemberId;
use super::state::Membership;
use crate::error::{CommitError, ConsumeError, ProduceError, TransactionError};
use crate::port::{
    Commit, Follower, GroupConsumer, GroupEvent, GroupMetadata, GroupOptions, Isolation, Outgoing,
    Producer, Record, TopicPartition, TransactionalProducer,
};

/// Most records of one batch of a follower.
const BATCH: usize = 500;

/// Acknowledgements that have not come yet, by the time at which they will.
#[derive(Default)]
struct Pending(Mutex<VecDeque<Instant>>);

impl Pending {
    fn add(&self, at: Instant) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        pending.retain(|p| *p > now);
        pending.push_back(at);
    }

    fn last(&self) -> Option<Instant> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .max()
            .copied()
    }

    fn after(&self, now: Instant) -> usize {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.iter().filter(|p| **p > now).count()
    }
}

pub(super) struct LocalProducer {
    cluster: LocalCluster,
    pending: Pending,
}

impl LocalProducer {
    pub(super) fn new(cluster: LocalCluster) -> Self {
        Self {
            cluster,
            pending: Pending::default(),
        }
    }
}

impl Producer for LocalProducer {
    fn send(&self, record: Outgoing) -> BoxFuture<'static, Result<i64, ProduceError>> {
        let topic = record.topic.to_string();
        let timestamp = self.cluster.now_millis();
        let (result, delay) = self.cluster.change(|state| {
            if let Err(error) = state.check(&record) {
                return (Err(error), Duration::ZERO);
            }
            let lost = |topic| ProduceError::NotAcknowledged {
                topic,
                reason: "a fault on purpose".to_owned(),
            };
            let delay = state.faults.delay();
            match state.faults.record() {
                Fate::QueueFull => (Err(ProduceError::QueueFull), Duration::ZERO),
                Fate::Unacknowledged { written: false } => (Err(lost(topic)), delay),
                Fate::Unacknowledged { written: true } => {
                    state.append(record, timestamp, None);
                    (Err(lost(topic)), delay)
                }
                Fate::Good => (Ok(state.append(record, timestamp, None)), delay),
            }
        });
        if delay.is_zero() {
            return Box::pin(std::future::ready(result));
        }
        let at = Instant::now() + delay;
        self.pending.add(at);
        Box::pin(async move {
            tokio::time::sleep_until(at).await;
            result
        })
    }

    fn drain(&self, deadline: Duration) -> BoxFuture<'_, Result<(), usize>> {
        Box::pin(async move {
            let until = Instant::now() + deadline;
            while let Some(last) = self.pending.last().filter(|at| *at > Instant::now()) {
                tokio::time::sleep_until(last.min(until)).await;
                if Instant::now() >= until {
                    break;
                }
            }
            match self.pending.after(Instant::now()) {
                0 => Ok(()),
                left => Err(left),
            }
        })
    }
}

pub(super) struct LocalTransactional {
    cluster: LocalCluster,
    id: String,
    epoch: u64,
}

impl LocalTransactional {
    pub(super) fn new(cluster: LocalCluster, id: String, epoch: u64) -> Self {
        Self { cluster, id, epoch }
    }
}

impl TransactionalProducer for LocalTransactional {
    fn run(
        &mut self,
        records: Vec<Outgoing>,
        offsets: Vec<Commit>,
        group: GroupMetadata,
    ) -> BoxFuture<'_, Result<(), TransactionError>> {
        Box::pin(async move {
            let membership = group.0.downcast::<Membership>().map_err(|_| {
                TransactionError::Fatal("the group metadata are another adapter's".to_owned())
            })?;
            let slot = (self.id.as_str(), self.epoch);
            let timestamp = self.cluster.now_millis();
            let delay = self.cluster.change(|state| {
                state.begin(slot, records, timestamp, Instant::now())?;
                Ok(state.faults.delay())
            })?;
            // A caller that dies here leaves the transaction open, as with a real broker.
            if delay.is_zero() {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(delay).await;
            }
            self.cluster.change(|state| {
                if state.faults.aborts() {
                    state.abort(slot.0);
                    return Err(TransactionError::Aborted("a fault on purpose".to_owned()));
                }
                if let Some(committed) = state.faults.loses() {
                    if committed {
                        state.finish(slot, offsets, &membership)?;
                    }
                    return Err(TransactionError::Lost("a fault on purpose".to_owned()));
                }
                state.finish(slot, offsets, &membership)
            })
        })
    }
}

/// A membership. Dropping it is a crash: its partitions move when the session has timed out.
pub(super) struct LocalGroupConsumer {
    cluster: LocalCluster,
    group: String,
    member: MemberId,
    closed: bool,
}

impl LocalGroupConsumer {
    pub(super) fn join(cluster: LocalCluster, options: &GroupOptions) -> Self {
        let member = cluster.change(|state| {
            let member = state.number();
            let (group, topics) = state.group(&options.group);
            group.join(member, options, topics);
            member
        });
        Self {
            cluster,
            group: options.group.clone(),
            member,
            closed: false,
        }
    }
}

impl GroupConsumer for LocalGroupConsumer {
    fn next(&mut self) -> BoxFuture<'_, GroupEvent> {
        Box::pin(self.cluster.wait_until(|state| {
            let (group, topics) = state.group(&self.group);
            group.next(self.member, topics)
        }))
    }

    fn commit(&self, commits: Vec<Commit>) -> BoxFuture<'static, Result<(), CommitError>> {
        let result = self.cluster.change(|state| {
            let (group, _) = state.group(&self.group);
            if let Some(p) = group.foreign(self.member, commits.iter().map(|c| &c.partition)) {
                let reason = format!("{p} is not assigned to this member");
                return Err(CommitError::NotOwner(reason));
            }
            for commit in commits {
                group.commit(commit.partition, commit.committed);
            }
            Ok(())
        });
        Box::pin(std::future::ready(result))
    }

    fn pause(&self, partitions: &[TopicPartition]) {
        self.cluster.change(|state| {
            state
                .group(&self.group)
                .0
                .pause(self.member, partitions, true)
        });
    }

    fn resume(&self, partitions: &[TopicPartition]) {
        self.cluster.change(|state| {
            state
                .group(&self.group)
                .0
                .pause(self.member, partitions, false)
        });
    }

    fn release(&self, rebalance: u64) {
        self.cluster.change(|state| {
            let (group, topics) = state.group(&self.group);
            group.release(self.member, rebalance, topics);
        });
    }

    fn group_metadata(&self) -> BoxFuture<'static, Result<GroupMetadata, ConsumeError>> {
        let incarnation = self
            .cluster
            .change(|state| state.group(&self.group).0.incarnation(self.member));
        let result = incarnation.map_or(Err(ConsumeError::Closed), |incarnation| {
            let membership = Membership {
                group: self.group.clone(),
                member: self.member,
                incarnation,
            };
            Ok(GroupMetadata(Arc::new(membership)))
        });
        Box::pin(std::future::ready(result))
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        self.closed = true;
        self.cluster.change(|state| {
            let (group, topics) = state.group(&self.group);
            group.leave(self.member, topics);
        });
        Box::pin(std::future::ready(()))
    }
}

impl Drop for LocalGroupConsumer {
    fn drop(&mut self) {
        if !self.closed {
            let now = Instant::now();
            self.cluster
                .change(|state| state.group(&self.group).0.die(self.member, now));
        }
    }
}

pub(super) struct LocalFollower {
    cluster: LocalCluster,
    positions: Vec<(TopicPartition, i64)>,
    isolation: Isolation,
}

impl LocalFollower {
    pub(super) fn new(
        cluster: LocalCluster,
        positions: Vec<(TopicPartition, i64)>,
        isolation: Isolation,
    ) -> Self {
        Self {
            cluster,
            positions,
            isolation,
        }
    }
}

impl Follower for LocalFollower {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Record>, ConsumeError>> {
        let Self {
            cluster,
            positions,
            isolation,
        } = self;
        let isolation = *isolation;
        Box::pin(async move {
            let records = cluster
                .wait_until(|state| {
                    let mut batch = Vec::new();
                    for (partition, position) in positions.iter_mut() {
                        let topic = state.topics.get(&partition.topic);
                        let Some(log) = topic.and_then(|t| t.partition(partition.partition)) else {
                            continue;
                        };
                        let (records, next) = log.read(*position, i64::MAX, BATCH, isolation);
                        *position = next;
                        batch.extend(records);
                    }
                    (!batch.is_empty()).then_some(batch)
                })
                .await;
            Ok(records)
        })
    }
}
