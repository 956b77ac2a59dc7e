//! The local log: topics in memory that keep the port's promises, for `bongsu dev` without a broker
//! and for simulations in virtual time.
//!
//! It has transactions with markers and a last stable offset, fencing, groups with cooperative
//! revocation, and sessions that time out on tokio's clock. There are no threads and no clocks but
//! tokio's, and every choice is in a fixed order: the same calls in the same order give the same
//! result. Unlike a real process, whoever **drops** a group consumer without closing it plays a
//! crash: its partitions move only when the session timeout has passed.

mod clients;
mod faults;
mod group;
mod log;
mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_runtime::Clock;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::clients::{LocalFollower, LocalGroupConsumer, LocalProducer, LocalTransactional};
pub use self::faults::FaultPlan;
use self::faults::Faults;
use self::log::{Partition, Topic};
use self::state::State;
use crate::error::{AdminError, ConsumeError, ProduceError, TransactionError};
use crate::port::{
    Cluster, Follower, GroupConsumer, GroupOptions, Isolation, PartitionLag, Producer, Record,
    TailEnds, TailRange, TopicDescription, TopicPartition, TopicSpec, TransactionalProducer,
};

/// Records read under the lock at a time by a tail.
const CHUNK: usize = 1_000;

struct Inner {
    state: Mutex<State>,
    changed: Notify,
    clock: Clock,
}

/// A log in memory; clones are the same log.
#[derive(Clone)]
pub struct LocalCluster {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for LocalCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalCluster")
    }
}

impl Default for LocalCluster {
    fn default() -> Self {
        Self::new(Clock::system())
    }
}

impl LocalCluster {
    /// An empty log whose records bear this clock's time.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let inner = Inner {
            state: Mutex::default(),
            changed: Notify::new(),
            clock,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// From now on things go wrong after this plan.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.change(|state| state.faults = Faults::new(plan));
    }

    /// Throws a member out of its group, as a broker does whose heartbeats stay away: its
    /// partitions are lost at once, others take over, and it joins again. Members count from 0 in
    /// the order of joining. False when there is no such member.
    #[must_use]
    pub fn lose_assignment(&self, group: &str, member: usize) -> bool {
        self.change(|state| {
            let (group, topics) = state.group(group);
            group.lose(member, topics)
        })
    }

    /// Drops a partition's records before `offset`, as retention does.
    pub fn trim(&self, partition: &TopicPartition, offset: i64) {
        self.change(|state| {
            let topic = state.topics.get_mut(&partition.topic);
            if let Some(log) = topic.and_then(|t| t.partition_mut(partition.partition)) {
                log.trim(offset);
            }
        });
    }

    fn now_millis(&self) -> i64 {
        self.inner.clock.now_millis()
    }

    /// Changes something and wakes everybody who waits.
    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = self
                .inner
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            state.expire(Instant::now());
            work(&mut state)
        };
        self.inner.changed.notify_waiters();
        result
    }

    /// Looks without changing anything others wait for.
    fn look<T>(&self, work: impl FnOnce(&State) -> T) -> T {
        let (result, changed) = {
            let mut state = self
                .inner
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let changed = state.expire(Instant::now());
            (work(&state), changed)
        };
        if changed {
            self.inner.changed.notify_waiters();
        }
        result
    }

    /// Waits until `ready` gives something; asks again after every change and every time-out.
    async fn wait_until<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let notified = self.inner.changed.notified();
            let (found, changed, deadline) = {
                let mut state = self
                    .inner
                    .state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let changed = state.expire(Instant::now());
                (ready(&mut state), changed, state.next_deadline())
            };
            if changed {
                self.inner.changed.notify_waiters();
            }
            if let Some(found) = found {
                return found;
            }
            match deadline {
                None => notified.await,
                Some(at) => {
                    // Both are only reasons to look again: cancel safe.
                    tokio::select! {
                        () = notified => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }

    fn bounds(&self, range: &TailRange, isolation: Isolation) -> Result<(i64, i64), ConsumeError> {
        let TopicPartition { topic, partition } = &range.partition;
        self.look(|state| {
            let log = state
                .topics
                .get(topic)
                .and_then(|t| t.partition(*partition));
            let log = log.ok_or_else(|| {
                ConsumeError::Client(format!("{} does not exist", range.partition))
            })?;
            let end = log.end(isolation);
            let start = log.start(range.from, isolation);
            Ok((start, range.until.map_or(end, |until| until.min(end))))
        })
    }

    fn chunk(
        &self,
        partition: &TopicPartition,
        (start, stop): (i64, i64),
        isolation: Isolation,
    ) -> (Vec<Record>, i64) {
        self.look(|state| {
            let topic = state.topics.get(&partition.topic);
            topic
                .and_then(|t| t.partition(partition.partition))
                .map_or((Vec::new(), stop), |log| {
                    log.read(start, stop, CHUNK, isolation)
                })
        })
    }
}

impl Cluster for LocalCluster {
    fn describe(&self) -> String {
        "local log (in memory)".to_owned()
    }

    fn is_local(&self) -> bool {
        true
    }

    fn producer(&self, _linger: Duration) -> Result<Arc<dyn Producer>, ProduceError> {
        Ok(Arc::new(LocalProducer::new(self.clone())))
    }

    fn transactional(
        &self,
        transactional_id: &str,
    ) -> BoxFuture<'_, Result<Box<dyn TransactionalProducer>, TransactionError>> {
        let id = transactional_id.to_owned();
        if self.change(|state| state.faults.refuses()) {
            let error = TransactionError::Aborted("the coordinator does not answer".to_owned());
            return Box::pin(std::future::ready(Err(error)));
        }
        let epoch = self.change(|state| state.take_slot(&id));
        let producer = LocalTransactional::new(self.clone(), id, epoch);
        Box::pin(std::future::ready(Ok(
            Box::new(producer) as Box<dyn TransactionalProducer>
        )))
    }

    fn join(&self, options: GroupOptions) -> Result<Box<dyn GroupConsumer>, ConsumeError> {
        Ok(Box::new(LocalGroupConsumer::join(self.clone(), &options)))
    }

    fn read_tails(
        &self,
        ranges: Vec<TailRange>,
        isolation: Isolation,
        mut each: Box<dyn FnMut(Record) + Send>,
    ) -> BoxFuture<'_, Result<TailEnds, ConsumeError>> {
        let takes = self.change(|state| state.faults.tail_takes());
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            let mut ends = TailEnds::new();
            let mut open = Vec::with_capacity(ranges.len());
            for range in &ranges {
                let (start, stop) = self.bounds(range, isolation)?;
                ends.insert(range.partition.clone(), start.max(stop));
                open.push((range.partition.clone(), start, stop));
            }
            for (partition, mut start, stop) in open {
                while start < stop {
                    let (records, next) = self.chunk(&partition, (start, stop), isolation);
                    records.into_iter().for_each(&mut each);
                    if next <= start {
                        break;
                    }
                    start = next;
                    tokio::task::yield_now().await;
                }
            }
            Ok(ends)
        })
    }

    fn ends(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'_, Result<TailEnds, ConsumeError>> {
        let ends = partitions
            .into_iter()
            .map(|partition| {
                let range = TailRange {
                    partition: partition.clone(),
                    from: crate::port::From::Beginning,
                    until: None,
                };
                let (_, end) = self.bounds(&range, Isolation::Uncommitted)?;
                Ok((partition, end))
            })
            .collect();
        Box::pin(std::future::ready(ends))
    }

    fn follow(
        &self,
        ranges: Vec<TailRange>,
        isolation: Isolation,
    ) -> Result<Box<dyn Follower>, ConsumeError> {
        let positions = ranges
            .into_iter()
            .map(|range| {
                let (start, _) = self.bounds(&range, isolation)?;
                Ok((range.partition, start))
            })
            .collect::<Result<_, ConsumeError>>()?;
        Ok(Box::new(LocalFollower::new(
            self.clone(),
            positions,
            isolation,
        )))
    }

    fn topics(
        &self,
        names: Vec<String>,
    ) -> BoxFuture<'_, Result<BTreeMap<String, TopicDescription>, AdminError>> {
        let found = self.look(|state| {
            names
                .into_iter()
                .filter_map(|name| {
                    let topic = state.topics.get(name.as_str())?;
                    let description = TopicDescription {
                        partitions: topic.count(),
                        replication: topic.replication,
                        settings: topic.settings.clone(),
                    };
                    Some((name, description))
                })
                .collect()
        });
        Box::pin(std::future::ready(Ok(found)))
    }

    fn create_topic(&self, spec: TopicSpec) -> BoxFuture<'_, Result<(), AdminError>> {
        let result = self.change(|state| {
            let refused = |reason: &str| AdminError::Refused {
                what: format!("create {}", spec.name),
                reason: reason.to_owned(),
            };
            if state.topics.contains_key(spec.name.as_str()) {
                return Err(refused("the topic exists already"));
            }
            if spec.partitions < 1 {
                return Err(refused("a topic needs a partition"));
            }
            let topic = Topic {
                partitions: (0..spec.partitions).map(|_| Partition::default()).collect(),
                replication: spec.replication,
                settings: spec.settings,
            };
            state.topics.insert(spec.name.into(), topic);
            for group in state.groups.values_mut() {
                group.rebalance(&state.topics);
            }
            Ok(())
        });
        Box::pin(std::future::ready(result))
    }

    fn alter_topic(
        &self,
        name: &str,
        settings: BTreeMap<String, String>,
    ) -> BoxFuture<'_, Result<(), AdminError>> {
        let result = self.change(|state| {
            let known = state.known(name)?;
            if let Some(topic) = state.topics.get_mut(&known) {
                topic.settings.extend(settings);
            }
            Ok(())
        });
        Box::pin(std::future::ready(result))
    }

    fn lag(
        &self,
        group: &str,
        topics: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<PartitionLag>, AdminError>> {
        let result = self.look(|state| {
            let mut lags = Vec::new();
            for name in &topics {
                let name = state.known(name)?;
                for (number, log) in
                    (0..).zip(state.topics.get(&name).iter().flat_map(|t| &t.partitions))
                {
                    let partition = TopicPartition::new(name.clone(), number);
                    let committed = state
                        .groups
                        .get(group)
                        .and_then(|g| g.committed(&partition));
                    let end = log.end(Isolation::Committed);
                    lags.push(PartitionLag {
                        partition,
                        committed,
                        end,
                    });
                }
            }
            Ok(lags)
        });
        Box::pin(std::future::ready(result))
    }

    fn ping(&self, _deadline: Duration) -> BoxFuture<'_, Result<(), AdminError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
