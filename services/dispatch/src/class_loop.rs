//! One class of one channel: group membership, owners, commits, lease, drain.

mod commits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_domain::Timestamp;
use bongsu_runtime::{Shutdown, Tasks};
use bongsu_stream::port::{
    Cluster, Commit, Committed, GroupConsumer, GroupEvent, Record, TopicPartition,
};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::commits::{Asked, Committing, Reports, final_commit};
use crate::error::DispatchError;
use crate::follow::{Followed, follow_foreign};
use crate::lease::LeaseWatch;
use crate::owner::{Command, Load, Owner, Shared, Status, size_of_record};
use crate::restore::{Restored, add_started, restore};

/// Batches that may wait for one owner; an owner only ever moves them into its backlog, and the
/// window pauses the partition long before.
const OWNER_QUEUE: usize = 256;

/// Bounds of one class loop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Records one partition may hold unsettled.
    pub window_records: usize,
    /// Bytes all partitions of this class may hold unsettled; each has an equal share.
    pub window_bytes: usize,
    /// How often positions are committed.
    pub commit_interval: Duration,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// How long receipts of a former owner may still come in.
    pub foreign_receipts: Duration,
}

/// Why a class loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// A partition could not go on: everything was given up in order, and is to be joined anew.
    Rejoin,
}

struct Partition {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    load: Arc<Load>,
    paused: bool,
    committed: Option<Committed>,
    /// Which assignment it is of.
    generation: u64,
}

enum Drained {
    Revoked {
        rebalance: u64,
        positions: BTreeMap<TopicPartition, Committed>,
    },
    /// What was sent is still receipted (the owners finish), but nothing is committed.
    Lost { count: usize },
    Stopped {
        positions: BTreeMap<TopicPartition, Committed>,
    },
}

/// What restores of one assignment came to, and which assignment it was.
type Restores = (u64, BTreeMap<TopicPartition, Restored>);

/// The loop's state.
pub struct ClassLoop {
    cluster: Arc<dyn Cluster>,
    consumer: Box<dyn GroupConsumer>,
    shared: Arc<Shared>,
    limits: Limits,
    partitions: BTreeMap<TopicPartition, Partition>,
    owners: Tasks,
    restores: FuturesUnordered<BoxFuture<'static, Restores>>,
    generation: u64,
    followers: FuturesUnordered<BoxFuture<'static, ()>>,
    drains: FuturesUnordered<BoxFuture<'static, Drained>>,
    releases: FuturesUnordered<BoxFuture<'static, u64>>,
    reports: Option<BoxFuture<'static, Reports>>,
    commit: Option<Committing>,
    ends: Option<BoxFuture<'static, Asked>>,
    ends_asked: Instant,
    /// When Kafka last told where `results` ends.
    ends_told: Option<Instant>,
    lease_watch: LeaseWatch,
    stopping: Option<Ended>,
    /// What was held when stopping began has ended; revocations may still drain.
    drained: bool,
}

impl ClassLoop {
    /// A loop over a consumer that has just joined.
    #[must_use]
    pub fn new(
        cluster: Arc<dyn Cluster>,
        consumer: Box<dyn GroupConsumer>,
        shared: Arc<Shared>,
        limits: Limits,
    ) -> Self {
        Self {
            cluster,
            consumer,
            shared,
            limits,
            partitions: BTreeMap::new(),
            owners: Tasks::new(),
            restores: FuturesUnordered::new(),
            generation: 0,
            followers: FuturesUnordered::new(),
            drains: FuturesUnordered::new(),
            releases: FuturesUnordered::new(),
            reports: None,
            commit: None,
            ends: None,
            ends_asked: Instant::now(),
            ends_told: None,
            lease_watch: LeaseWatch::default(),
            stopping: None,
            drained: false,
        }
    }

    /// Runs until the shutdown's drain is done, or until a stalled partition was given up.
    ///
    /// # Errors
    /// When reading or writing is impossible for good.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<Ended, DispatchError> {
        let mut tick = tokio::time::interval(self.limits.commit_interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let room = Arc::clone(&self.shared.room);
        let mut switch = self.shared.switch.clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested(), if self.stopping.is_none() => self.stop(Ended::Stopped),
                Some(drained) = self.drains.next(), if !self.drains.is_empty() => {
                    self.after_drain(drained).await;
                }
                Some(rebalance) = self.releases.next(), if !self.releases.is_empty() => {
                    self.consumer.release(rebalance);
                }
                Some((generation, restored)) = self.restores.next(), if !self.restores.is_empty() => {
                    self.start(generation, restored).await;
                }
                committed = optional(self.commit.as_mut().map(|commit| &mut commit.answer)) => {
                    let sent = self.commit.take().map(|commit| commit.sent);
                    self.remember(committed, sent).await;
                }
                reports = optional(self.reports.as_mut()) => {
                    self.reports = None;
                    self.commit_reports(reports);
                }
                asked = optional(self.ends.as_mut()) => {
                    self.ends = None;
                    self.tell_ends(asked).await;
                }
                Some(()) = self.followers.next(), if !self.followers.is_empty() => {}
                Some(ended) = self.owners.next(), if !self.owners.is_empty() => {
                    ended?;
                }
                _ = tick.tick() => self.tick()?,
                () = room.notified() => self.resume_where_room(),
                () = switch.changed() => self.tell_of_stops().await,
                event = self.consumer.next() => self.meet(event).await?,
            }
            // Not before every drain has ended: the owners end with this loop, and their attempts.
            if let Some(ended) = self.stopping
                && self.drained
                && self.drains.is_empty()
                && self.releases.is_empty()
            {
                self.consumer.close().await;
                return Ok(ended);
            }
        }
    }

    async fn meet(&mut self, event: GroupEvent) -> Result<(), DispatchError> {
        match event {
            GroupEvent::Records(records) => self.hand_over(records).await,
            GroupEvent::Assigned(assigned) => self.assign(assigned),
            GroupEvent::Revoked {
                rebalance,
                partitions,
            } => {
                tracing::info!(
                    rebalance,
                    count = partitions.len(),
                    "partitions are revoked"
                );
                let drain = self.drain(&partitions);
                self.drains.push(Box::pin(async move {
                    Drained::Revoked {
                        rebalance,
                        positions: drain.await,
                    }
                }));
            }
            GroupEvent::Lost(partitions) => {
                tracing::warn!(count = partitions.len(), "partitions are lost");
                self.shared.lease.end();
                let drain = self.drain(&partitions);
                self.drains.push(Box::pin(async move {
                    let count = drain.await.len();
                    Drained::Lost { count }
                }));
            }
            GroupEvent::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn assign(&mut self, assigned: Vec<(TopicPartition, Option<Committed>)>) {
        tracing::info!(count = assigned.len(), "partitions are assigned");
        if self.stopping.is_some() {
            // They are handed on when the consumer closes.
            return;
        }
        self.generation += 1;
        let generation = self.generation;
        for (tp, committed) in &assigned {
            let (commands, receiver) = mpsc::channel(OWNER_QUEUE);
            let (sender, status) = watch::channel(Status::default());
            let load = Arc::new(Load::default());
            let owner = Owner::new(
                Arc::clone(&self.shared),
                tp.partition,
                Arc::clone(&load),
                receiver,
                sender,
            );
            self.owners.spawn("partition owner", owner.run());
            let partition = Partition {
                commands,
                status,
                load,
                paused: false,
                committed: committed.clone(),
                generation,
            };
            self.partitions.insert(tp.clone(), partition);
        }
        if assigned.is_empty() {
            return;
        }
        // A pause meant for an assignment before may have reached this one.
        let all: Vec<_> = assigned.iter().map(|(tp, _)| tp.clone()).collect();
        self.consumer.resume(&all);
        let sources = self.shared.sources.clone();
        let metrics = self.shared.metrics.clone();
        let clock = self.shared.clock;
        let guarded = self.shared.guard.map(|limit| limit.window_ms);
        self.restores.push(Box::pin(async move {
            let since = Instant::now();
            let mut restored = restore(sources.clone(), assigned).await;
            if let Some(window_ms) = guarded {
                let since = Timestamp(clock.now_millis().saturating_sub(window_ms));
                add_started(&sources, &mut restored, since).await;
            }
            let bytes = restored.values().map(|r| r.read.bytes).sum();
            metrics.restore(since.elapsed(), bytes);
            (generation, restored)
        }));
    }

    async fn start(&mut self, generation: u64, restored: BTreeMap<TopicPartition, Restored>) {
        let mut unclean = Vec::new();
        for (tp, restored) in restored {
            // One of an earlier assignment says nothing of this one, and an owner starts once.
            let current = self.partitions.get(&tp);
            let Some(partition) = current.filter(|p| p.generation == generation) else {
                continue;
            };
            tracing::debug!(
                %tp, settled = restored.settled.len(), parked = restored.lane.keys.len(),
                clean = restored.clean, read = restored.read.records, "restored"
            );
            if !restored.clean {
                unclean.push(Followed {
                    partition: tp.partition,
                    from: restored.results_end,
                    commands: partition.commands.clone(),
                });
            }
            let command = Command::Start(Box::new(restored));
            send(&partition.commands, &tp, command).await;
        }
        if !unclean.is_empty() {
            self.followers.push(Box::pin(follow_foreign(
                self.shared.sources.clone(),
                unclean,
                self.limits.foreign_receipts,
            )));
        }
        // The first commit is the claim: nothing is sent before it was taken.
        self.ask_reports();
    }

    async fn hand_over(&mut self, records: Vec<Record>) {
        let share = self.share();
        let mut by_partition: BTreeMap<TopicPartition, Vec<Record>> = BTreeMap::new();
        for record in records {
            let tp = TopicPartition::new(Arc::clone(&record.topic), record.partition);
            by_partition.entry(tp).or_default().push(record);
        }
        for (tp, records) in by_partition {
            let Some(partition) = self.partitions.get_mut(&tp) else {
                continue;
            };
            let bytes = records.iter().map(size_of_record).sum();
            partition.load.set_share(share);
            partition.load.add(records.len(), bytes);
            send(&partition.commands, &tp, Command::Records(records)).await;
            let (open, bytes) = partition.load.get();
            let full = open >= self.limits.window_records || bytes >= share;
            if full {
                // Half of it must be free before it is read on: often enough for speed, rarely enough
                // for the consumer, which throws away what it has fetched at every pause. Told to a paused
                // one too, for its share may have become smaller.
                partition
                    .load
                    .tell_at(self.limits.window_records / 2, share / 2);
                match (partition.load.has_room(), partition.paused) {
                    (true, true) => {
                        partition.paused = false;
                        self.consumer.resume(std::slice::from_ref(&tp));
                    }
                    (false, false) => {
                        partition.paused = true;
                        self.consumer.pause(std::slice::from_ref(&tp));
                    }
                    (true, false) | (false, true) => {}
                }
            }
        }
    }

    /// What one partition may hold of the class's bytes. At least one record is always taken in, for
    /// a window is closed only once it is full.
    fn share(&self) -> usize {
        self.limits.window_bytes / self.partitions.len().max(1)
    }

    /// Reads on where half of the window is free.
    fn resume_where_room(&mut self) {
        for (tp, partition) in &mut self.partitions {
            if partition.paused && partition.load.has_room() {
                partition.paused = false;
                self.consumer.resume(std::slice::from_ref(tp));
            }
        }
    }

    fn tick(&mut self) -> Result<(), DispatchError> {
        if self.stopping.is_none()
            && self
                .partitions
                .values()
                .any(|partition| partition.status.borrow().stalled)
        {
            self.shared.metrics.stalled();
            self.stop(Ended::Rejoin);
            return Ok(());
        }
        self.ask_reports();
        self.ask_ends();
        self.watch_lease();
        self.watch_commit()
    }

    /// Nothing starts without the lease, and nothing else would say why.
    fn watch_lease(&mut self) {
        let needed = !self.partitions.is_empty() && self.restores.is_empty();
        let holds = !needed || self.stopping.is_some() || self.shared.lease.holds();
        if let Some(lapsed) = self.lease_watch.look(holds, Instant::now()) {
            self.shared.metrics.lapsed();
            tracing::warn!(
                seconds = lapsed.as_secs(),
                commit_under_way = self.commit.is_some(),
                reports_under_way = self.reports.is_some(),
                "nothing is sent: Kafka has not taken a commit of this worker for that long"
            );
        }
    }

    /// Wakes every owner: what was stopped may go.
    async fn tell_of_stops(&mut self) {
        for (tp, partition) in &self.partitions {
            send(&partition.commands, tp, Command::Look).await;
        }
    }

    /// Takes partitions from the loop and gives a future of their final positions.
    fn drain(
        &mut self,
        partitions: &[TopicPartition],
    ) -> impl Future<Output = BTreeMap<TopicPartition, Committed>> + Send + 'static {
        let taken: Vec<_> = partitions
            .iter()
            .filter_map(|tp| Some((tp.clone(), self.partitions.remove(tp)?)))
            .collect();
        let timeout = self.limits.drain_timeout;
        async move {
            let deadline = Instant::now() + timeout;
            for (tp, partition) in &taken {
                send(&partition.commands, tp, Command::Drain).await;
            }
            let mut positions = BTreeMap::new();
            for (tp, mut partition) in taken {
                // The owner drops its sender when it ends.
                let ended = async { while partition.status.changed().await.is_ok() {} };
                if tokio::time::timeout_at(deadline, ended).await.is_err() {
                    tracing::warn!(%tp, "the drain deadline passed with attempts under way");
                }
                if let Some(last) = partition.status.borrow().last.clone() {
                    positions.insert(tp, last);
                }
            }
            positions
        }
    }

    fn stop(&mut self, why: Ended) {
        self.stopping = Some(why);
        let all: Vec<_> = self.partitions.keys().cloned().collect();
        self.consumer.pause(&all);
        let drain = self.drain(&all);
        self.drains.push(Box::pin(async move {
            Drained::Stopped {
                positions: drain.await,
            }
        }));
    }

    /// Commits what a drain came to.
    async fn after_drain(&mut self, drained: Drained) {
        let (rebalance, positions) = match drained {
            Drained::Lost { count } => {
                tracing::debug!(count, "lost partitions finished");
                return;
            }
            Drained::Revoked {
                rebalance,
                positions,
            } => (Some(rebalance), positions),
            Drained::Stopped { positions } => (None, positions),
        };
        let commits: Vec<_> = positions
            .into_iter()
            .map(|(partition, committed)| Commit {
                partition,
                committed,
            })
            .collect();
        let commit = final_commit(self.consumer.as_ref(), commits);
        match rebalance {
            Some(rebalance) => {
                self.releases.push(Box::pin(async move {
                    commit.await;
                    rebalance
                }));
            }
            None => {
                commit.await;
                self.drained = true;
            }
        }
    }
}

async fn send(commands: &mpsc::Sender<Command>, tp: &TopicPartition, command: Command) {
    // An owner that ended is found by the join of the owners.
    if commands.send(command).await.is_err() {
        tracing::debug!(%tp, "the owner has ended");
    }
}

async fn optional<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
