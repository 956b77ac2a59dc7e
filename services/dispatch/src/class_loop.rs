//! One class of one channel: group membership, owners, commits, drain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_policy::Position;
use bongsu_runtime::{Shutdown, Tasks};
use bongsu_stream::error::CommitError;
use bongsu_stream::port::{
    Cluster, Commit, Committed, GroupConsumer, GroupEvent, Record, TopicPartition,
};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};

use crate::error::DispatchError;
use crate::owner::{Command, Load, Owner, Shared, Status, size_of_record};
use crate::restore::{Restored, restore, to_committed};

/// Batches that may wait for one owner; an owner only ever moves them into its backlog, and the
/// window pauses the partition long before.
const OWNER_QUEUE: usize = 256;
/// How long a final commit is tried.
const FINAL_COMMIT: Duration = Duration::from_secs(3);

/// Bounds of one class loop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Records one partition may hold unsettled.
    pub window_records: usize,
    /// Bytes one partition may hold unsettled.
    pub window_bytes: usize,
    /// How often positions are committed.
    pub commit_interval: Duration,
    /// How long a drain may take.
    pub drain_timeout: Duration,
}

struct Partition {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    load: Arc<Load>,
    paused: bool,
    committed: Option<Committed>,
}

enum Drained {
    Revoked {
        rebalance: u64,
        positions: BTreeMap<TopicPartition, Position>,
    },
    Stopped {
        positions: BTreeMap<TopicPartition, Position>,
    },
}

/// The loop's state.
pub struct ClassLoop {
    cluster: Arc<dyn Cluster>,
    consumer: Box<dyn GroupConsumer>,
    shared: Arc<Shared>,
    limits: Limits,
    partitions: BTreeMap<TopicPartition, Partition>,
    owners: Tasks,
    restores: FuturesUnordered<BoxFuture<'static, BTreeMap<TopicPartition, Restored>>>,
    drains: FuturesUnordered<BoxFuture<'static, Drained>>,
    releases: FuturesUnordered<BoxFuture<'static, u64>>,
    commit: Option<BoxFuture<'static, Result<Vec<Commit>, CommitError>>>,
    stopping: bool,
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
            drains: FuturesUnordered::new(),
            releases: FuturesUnordered::new(),
            commit: None,
            stopping: false,
        }
    }

    /// Runs until the shutdown's drain is done.
    ///
    /// # Errors
    /// When reading or writing is impossible for good.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), DispatchError> {
        let mut tick = tokio::time::interval(self.limits.commit_interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let room = Arc::clone(&self.shared.room);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested(), if !self.stopping => self.stop(),
                Some(drained) = self.drains.next(), if !self.drains.is_empty() => {
                    if self.after_drain(drained).await {
                        self.consumer.close().await;
                        return Ok(());
                    }
                }
                Some(rebalance) = self.releases.next(), if !self.releases.is_empty() => {
                    self.consumer.release(rebalance);
                }
                Some(restored) = self.restores.next(), if !self.restores.is_empty() => {
                    self.start(restored).await;
                }
                committed = optional(self.commit.as_mut()) => {
                    self.commit = None;
                    self.remember(committed);
                }
                Some(ended) = self.owners.next(), if !self.owners.is_empty() => {
                    ended?;
                }
                _ = tick.tick() => self.commit_positions(),
                () = room.notified() => self.resume_where_room(),
                event = self.consumer.next() => self.meet(event).await?,
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
                // What was sent is still receipted (the owners finish), but nothing is committed.
                let drain = self.drain(&partitions);
                bongsu_runtime::tasks::detach("lost", async move {
                    let given_up = drain.await;
                    tracing::debug!(count = given_up.len(), "lost partitions finished");
                });
            }
            GroupEvent::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn assign(&mut self, assigned: Vec<(TopicPartition, Option<Committed>)>) {
        tracing::info!(count = assigned.len(), "partitions are assigned");
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
            };
            self.partitions.insert(tp.clone(), partition);
        }
        let cluster = Arc::clone(&self.cluster);
        let results = Arc::clone(&self.shared.results);
        self.restores
            .push(Box::pin(restore(cluster, results, assigned)));
    }

    async fn start(&mut self, restored: BTreeMap<TopicPartition, Restored>) {
        for (tp, restored) in restored {
            if let Some(partition) = self.partitions.get(&tp) {
                tracing::debug!(%tp, settled = restored.settled.len(), "restored");
                // An owner that ended is found by the join of the owners.
                if partition
                    .commands
                    .send(Command::Start(restored))
                    .await
                    .is_err()
                {
                    tracing::debug!(%tp, "the owner has ended");
                }
            }
        }
    }

    async fn hand_over(&mut self, records: Vec<Record>) {
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
            partition.load.add(records.len(), bytes);
            if partition
                .commands
                .send(Command::Records(records))
                .await
                .is_err()
            {
                tracing::debug!(%tp, "the owner has ended");
            }
            let (open, bytes) = partition.load.get();
            let full = open >= self.limits.window_records || bytes >= self.limits.window_bytes;
            if full && !partition.paused {
                partition.paused = true;
                self.consumer.pause(std::slice::from_ref(&tp));
            }
        }
    }

    /// Reads on where half of the window is free: often enough for speed, rarely enough for the
    /// consumer, which throws away what it has fetched at every pause.
    fn resume_where_room(&mut self) {
        for (tp, partition) in &mut self.partitions {
            if !partition.paused {
                continue;
            }
            let (open, bytes) = partition.load.get();
            if open <= self.limits.window_records / 2 && bytes <= self.limits.window_bytes / 2 {
                partition.paused = false;
                self.consumer.resume(std::slice::from_ref(tp));
            }
        }
    }

    fn commit_positions(&mut self) {
        if self.commit.is_some() {
            return;
        }
        let commits: Vec<Commit> = self
            .partitions
            .iter()
            .filter_map(|(tp, partition)| {
                let committed = to_committed(partition.status.borrow().position?);
                (partition.committed.as_ref() != Some(&committed)).then(|| Commit {
                    partition: tp.clone(),
                    committed,
                })
            })
            .collect();
        if commits.is_empty() {
            return;
        }
        let commit = self.consumer.commit(commits.clone());
        self.commit = Some(Box::pin(async move { commit.await.map(|()| commits) }));
    }

    fn remember(&mut self, committed: Result<Vec<Commit>, CommitError>) {
        match committed {
            Ok(commits) => {
                for commit in commits {
                    if let Some(partition) = self.partitions.get_mut(&commit.partition) {
                        partition.committed = Some(commit.committed);
                    }
                }
            }
            // Tried again at the next tick; a lost assignment is told by the consumer itself.
            Err(error) => tracing::warn!(%error, "a commit was not taken"),
        }
    }

    /// Takes partitions from the loop and gives a future of their final positions.
    fn drain(
        &mut self,
        partitions: &[TopicPartition],
    ) -> impl Future<Output = BTreeMap<TopicPartition, Position>> + Send + 'static {
        let taken: Vec<_> = partitions
            .iter()
            .filter_map(|tp| Some((tp.clone(), self.partitions.remove(tp)?)))
            .collect();
        let timeout = self.limits.drain_timeout;
        async move {
            let deadline = tokio::time::Instant::now() + timeout;
            for (tp, partition) in &taken {
                if partition.commands.send(Command::Drain).await.is_err() {
                    tracing::debug!(%tp, "the owner has ended");
                }
            }
            let mut positions = BTreeMap::new();
            for (tp, mut partition) in taken {
                // The owner drops its sender when it ends.
                let ended = async { while partition.status.changed().await.is_ok() {} };
                if tokio::time::timeout_at(deadline, ended).await.is_err() {
                    tracing::warn!(%tp, "the drain deadline passed with attempts under way");
                }
                if let Some(position) = partition.status.borrow().position {
                    positions.insert(tp, position);
                }
            }
            positions
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        let all: Vec<_> = self.partitions.keys().cloned().collect();
        self.consumer.pause(&all);
        let drain = self.drain(&all);
        self.drains.push(Box::pin(async move {
            Drained::Stopped {
                positions: drain.await,
            }
        }));
    }

    /// Commits what a drain came to; true when it was the last one.
    async fn after_drain(&mut self, drained: Drained) -> bool {
        let (rebalance, positions) = match drained {
            Drained::Revoked {
                rebalance,
                positions,
            } => (Some(rebalance), positions),
            Drained::Stopped { positions } => (None, positions),
        };
        let commits: Vec<_> = positions
            .into_iter()
            .map(|(partition, position)| Commit {
                partition,
                committed: to_committed(position),
            })
            .collect();
        let commit = final_commit(self.consumer.as_ref(), commits);
        match rebalance {
            Some(rebalance) => {
                self.releases.push(Box::pin(async move {
                    commit.await;
                    rebalance
                }));
                false
            }
            None => {
                commit.await;
                true
            }
        }
    }
}

/// One last commit, tried again for a short time; what it cannot write, the successor finds in
/// `results`.
fn final_commit(
    consumer: &dyn GroupConsumer,
    commits: Vec<Commit>,
) -> impl Future<Output = ()> + Send + 'static {
    let attempt = (!commits.is_empty()).then(|| consumer.commit(commits));
    async move {
        let Some(attempt) = attempt else { return };
        match tokio::time::timeout(FINAL_COMMIT, attempt).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the final commit was not taken"),
            Err(_) => tracing::warn!("the final commit was not answered"),
        }
    }
}

async fn optional<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
