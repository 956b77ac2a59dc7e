//! One class of events: group membership, look-ups that run ahead, transactions in offset order.

mod intake;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bongsu_policy::Repeats;
use bongsu_runtime::{Shutdown, TaskDied, Tasks};
use bongsu_schemas::{Codec, EncodeError, SchemaLookup, SchemaRef};
use bongsu_stream::error::TransactionError;
use bongsu_stream::port::{
    Commit, Committed, GroupConsumer, GroupEvent, Headers, Outgoing, Record, TopicPartition,
};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::digest::Seen;
use crate::error::FanoutError;
use crate::expand::Expander;
use crate::lookup::RecipientLookup;
use crate::metrics::FanoutMetrics;
use crate::rebuild::{Past, Rebuild};
use crate::trail::Trail;
use crate::transactions::{Job, submit};

/// Pause before an aborted transaction is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Memory an open event holds beyond its bytes.
const BOOKKEEPING: usize = 512;
/// A transaction with this many bytes is full, however few its records are.
const COMMIT_BYTES: usize = 8 * 1024 * 1024;

/// Bounds of one class loop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A transaction starts at the earliest this long after the one before, unless it is full.
    pub commit_interval: Duration,
    /// A transaction with this many records is full.
    pub commit_records: usize,
    /// Look-ups at once.
    pub lookups_in_flight: usize,
    /// Events one partition may hold.
    pub window_records: usize,
    /// Bytes of events one partition may hold.
    pub window_bytes: usize,
    /// How long a schema may stay unknown.
    pub schema_patience: Duration,
}

/// What a class loop works with.
pub struct Parts {
    /// Membership.
    pub consumer: Box<dyn GroupConsumer>,
    /// To the transaction task.
    pub jobs: mpsc::Sender<Job>,
    /// Reads events.
    pub codec: Arc<Codec>,
    /// Finds schemas that are missing.
    pub schemas: Arc<dyn SchemaLookup>,
    /// Makes records.
    pub expander: Arc<Expander>,
    /// Finds addresses.
    pub lookup: Arc<dyn RecipientLookup>,
    /// Finds out what was seen before.
    pub rebuild: Rebuild,
    /// Rebuilds that run at once at an assignment.
    pub rebuilders: usize,
    /// Dead letter topic and its number of partitions.
    pub dead_letters: (Arc<str>, i32),
    /// Instruments.
    pub metrics: FanoutMetrics,
    /// Bounds.
    pub limits: Limits,
}

enum Fate {
    LookingUp,
    Ready(Vec<Outgoing>),
}

struct Slot {
    offset: i64,
    /// Of the event, and of what was made of it.
    bytes: usize,
    made: usize,
    /// What is to be noted when it is committed, for an event that counts as seen.
    seen: Option<Seen>,
    fate: Fate,
}

/// One partition while it is ours; `epoch` tells this assignment from an earlier one.
struct Lane {
    epoch: u64,
    backlog: VecDeque<Record>,
    slots: VecDeque<Slot>,
    repeats: Option<Repeats>,
    trail: Trail,
    fetching_schema: bool,
    bytes: usize,
    /// Of these, what was made of events and waits for its transaction.
    made: usize,
    paused: bool,
}

struct Part {
    partition: TopicPartition,
    epoch: u64,
    records: Vec<Outgoing>,
    next_offset: i64,
}

struct Found {
    partition: TopicPartition,
    epoch: u64,
    offset: i64,
    records: Result<Vec<Outgoing>, EncodeError>,
}

struct SchemaAnswer {
    partition: TopicPartition,
    epoch: u64,
    reference: SchemaRef,
    learned: Result<(), String>,
}

struct Rebuilt {
    epoch: u64,
    pasts: BTreeMap<TopicPartition, Past>,
}

type Running = BoxFuture<'static, Result<(), TransactionError>>;

/// The loop's state.
pub struct ClassLoop {
    parts: Parts,
    lanes: BTreeMap<TopicPartition, Lane>,
    lookups: FuturesUnordered<BoxFuture<'static, Found>>,
    schemas: FuturesUnordered<BoxFuture<'static, SchemaAnswer>>,
    rebuilds: FuturesUnordered<BoxFuture<'static, Result<Rebuilt, TaskDied>>>,
    flying: Option<(Running, Vec<Part>, Instant)>,
    /// Transactions that were aborted since the last committed one.
    aborted_in_row: u32,
    last_start: Option<Instant>,
    releases: Vec<u64>,
    epoch: u64,
    /// Which partition is looked at first, and which is collected from first.
    turn: usize,
    collected: usize,
    /// Schemas that were looked for in vain, and since when that is known.
    missing: HashMap<SchemaRef, Instant>,
    stopping: bool,
}

impl ClassLoop {
    /// A loop over a consumer that has just joined.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            lanes: BTreeMap::new(),
            lookups: FuturesUnordered::new(),
            schemas: FuturesUnordered::new(),
            rebuilds: FuturesUnordered::new(),
            flying: None,
            aborted_in_row: 0,
            last_start: None,
            releases: Vec::new(),
            epoch: 0,
            turn: 0,
            collected: 0,
            missing: HashMap::new(),
            stopping: false,
        }
    }

    /// Runs until the shutdown; the transaction under way is finished first.
    ///
    /// # Errors
    /// When reading is impossible for good, or this process was fenced.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), FanoutError> {
        loop {
            let due = self.prepare();
            if self.stopping && self.flying.is_none() {
                self.parts.consumer.close().await;
                return Ok(());
            }
            tokio::select! {
                biased;
                () = shutdown.requested(), if !self.stopping => self.stopping = true,
                result = running(self.flying.as_mut()) => self.land(result)?,
                Some(found) = self.lookups.next(), if !self.lookups.is_empty() => self.found(found)?,
                Some(rebuilt) = self.rebuilds.next(), if !self.rebuilds.is_empty() => {
                    self.rebuilt(rebuilt?);
                }
                Some(answer) = self.schemas.next(), if !self.schemas.is_empty() => {
                    self.schema_answered(answer);
                }
                () = sleep_until(due) => {}
                event = self.parts.consumer.next() => self.meet(event)?,
            }
        }
    }

    /// Moves everything on that can be moved without waiting; gives the moment at which the next
    /// transaction may start, when one is held back by the interval.
    fn prepare(&mut self) -> Option<Instant> {
        if self.stopping {
            return None;
        }
        self.take_in();
        if self.flying.is_some() {
            return None;
        }
        let ready = self.ready_records()?;
        let earliest = self
            .last_start
            .map(|at| at + self.parts.limits.commit_interval);
        if let Some(at) = earliest
            && ready < self.parts.limits.commit_records
            && Instant::now() < at
        {
            return Some(at);
        }
        let parts = self.collect();
        self.fly(parts);
        None
    }

    /// Records that could go into a transaction now; none when no offset could move.
    fn ready_records(&self) -> Option<usize> {
        let mut any = false;
        let mut count = 0;
        for lane in self.lanes.values() {
            for slot in &lane.slots {
                let Fate::Ready(records) = &slot.fate else {
                    break;
                };
                any = true;
                count += records.len();
            }
        }
        any.then_some(count)
    }

    fn collect(&mut self) -> Vec<Part> {
        let limit = self.parts.limits.commit_records;
        let (mut taken, mut bytes) = (0, 0);
        let mut parts = Vec::new();
        // Another partition is first each time: one whose events fill a transaction each must not be
        // the only one that gets on.
        self.collected = self.collected.wrapping_add(1);
        let mut tps: Vec<_> = self.lanes.keys().cloned().collect();
        let first = self.collected.checked_rem(tps.len()).unwrap_or(0);
        tps.rotate_left(first);
        for tp in &tps {
            let Some(lane) = self.lanes.get_mut(tp) else {
                continue;
            };
            let mut part = Part {
                partition: tp.clone(),
                epoch: lane.epoch,
                records: Vec::new(),
                next_offset: -1,
            };
            while taken < limit
                && bytes < COMMIT_BYTES
                && let Some(Slot {
                    fate: Fate::Ready(_),
                    ..
                }) = lane.slots.front()
                && let Some(slot) = lane.slots.pop_front()
            {
                lane.bytes -= slot.bytes;
                lane.made -= slot.made;
                bytes += slot.made;
                lane.trail.pass(slot.offset, slot.seen);
                part.next_offset = slot.offset + 1;
                if let Fate::Ready(records) = slot.fate {
                    // An offset alone counts too: thousands of repeats must not make one
                    // transaction endless.
                    taken += records.len().max(1);
                    part.records.extend(records);
                }
            }
            if part.next_offset >= 0 {
                for stretch in lane.trail.stretches(part.next_offset) {
                    part.records.push(Outgoing {
                        topic: Arc::clone(&self.parts.rebuild.seen),
                        partition: tp.partition,
                        key: None,
                        value: Some(stretch.encode(tp)),
                        headers: Headers::default(),
                    });
                }
                parts.push(part);
            }
        }
        self.resume_where_room();
        parts
    }

    fn fly(&mut self, parts: Vec<Part>) {
        if parts.is_empty() {
            return;
        }
        let records = parts
            .iter()
            .flat_map(|p| p.records.iter().cloned())
            .collect();
        let offsets = parts
            .iter()
            .map(|p| Commit {
                partition: p.partition.clone(),
                committed: Committed {
                    offset: p.next_offset,
                    metadata: String::new(),
                },
            })
            .collect();
        let group = self.parts.consumer.group_metadata();
        let now = Instant::now();
        self.last_start = Some(now);
        self.flying = Some((
            submit(&self.parts.jobs, records, offsets, group),
            parts,
            now,
        ));
    }

    fn land(&mut self, result: Result<(), TransactionError>) -> Result<(), FanoutError> {
        let Some((_, parts, started)) = self.flying.take() else {
            return Ok(());
        };
        match result {
            Ok(()) => {
                self.aborted_in_row = 0;
                self.parts.metrics.committed(started.elapsed());
            }
            Err(TransactionError::Aborted(reason)) => {
                self.aborted_in_row += 1;
                if self.aborted_in_row == 1 {
                    // Every rebalance aborts the transaction that it meets.
                    tracing::info!(reason, "a transaction was aborted and is tried again");
                } else {
                    let times = self.aborted_in_row;
                    tracing::warn!(reason, times, "a transaction was aborted again");
                }
                let ours: Vec<_> = parts
                    .into_iter()
                    .filter(|p| {
                        self.lanes
                            .get(&p.partition)
                            .is_some_and(|l| l.epoch == p.epoch)
                    })
                    .collect();
                if !ours.is_empty() {
                    self.fly_later(ours);
                }
            }
            Err(
                error @ (TransactionError::Lost(_)
                | TransactionError::Fenced { .. }
                | TransactionError::Fatal(_)),
            ) => return Err(error.into()),
        }
        if self.flying.is_none() {
            for rebalance in std::mem::take(&mut self.releases) {
                self.parts.consumer.release(rebalance);
            }
        }
        Ok(())
    }

    /// Tries the same parts again after a pause; a revocation in between waits for it.
    fn fly_later(&mut self, parts: Vec<Part>) {
        self.fly(parts);
        if let Some((running, _, _)) = &mut self.flying {
            let first = std::mem::replace(running, Box::pin(std::future::pending()));
            *running = Box::pin(async move {
                tokio::time::sleep(TRY_AGAIN).await;
                first.await
            });
        }
    }

    fn meet(&mut self, event: GroupEvent) -> Result<(), FanoutError> {
        match event {
            GroupEvent::Records(records) => self.queue(records),
            GroupEvent::Assigned(assigned) => self.assign(assigned),
            GroupEvent::Revoked {
                rebalance,
                partitions,
            } => {
                self.give_up(&partitions);
                if self.flying.is_some() {
                    self.releases.push(rebalance);
                } else {
                    self.parts.consumer.release(rebalance);
                }
            }
            GroupEvent::Lost(partitions) => self.give_up(&partitions),
            GroupEvent::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn give_up(&mut self, partitions: &[TopicPartition]) {
        tracing::info!(count = partitions.len(), "partitions are given up");
        for tp in partitions {
            // What is not committed is read again by the next owner.
            self.lanes.remove(tp);
        }
    }

    fn assign(&mut self, assigned: Vec<(TopicPartition, Option<Committed>)>) {
        tracing::info!(count = assigned.len(), "partitions are assigned");
        self.epoch += 1;
        let epoch = self.epoch;
        for (tp, _) in &assigned {
            let lane = Lane {
                epoch,
                backlog: VecDeque::new(),
                slots: VecDeque::new(),
                repeats: None,
                trail: Trail::default(),
                fetching_schema: false,
                bytes: 0,
                made: 0,
                paused: false,
            };
            self.lanes.insert(tp.clone(), lane);
        }
        // In shares, each on a task of its own: decoding may take more than one core, and a
        // partition starts when its share is read.
        let share = assigned.len().div_ceil(self.parts.rebuilders.max(1));
        for share in assigned.chunks(share.max(1)) {
            let (rebuild, share) = (self.parts.rebuild.clone(), share.to_vec());
            self.rebuilds
                .push(Box::pin(rebuild_apart(rebuild, share, epoch)));
        }
    }

    fn rebuilt(&mut self, rebuilt: Rebuilt) {
        for (tp, past) in rebuilt.pasts {
            if let Some(lane) = self.lanes.get_mut(&tp)
                && lane.epoch == rebuilt.epoch
            {
                lane.repeats = Some(past.repeats);
                lane.trail = past.trail;
            }
        }
    }

    fn queue(&mut self, records: Vec<Record>) {
        for record in records {
            let tp = TopicPartition::new(Arc::clone(&record.topic), record.partition);
            if let Some(lane) = self.lanes.get_mut(&tp) {
                lane.bytes += size_of(&record);
                lane.backlog.push_back(record);
            }
        }
        let limits = self.parts.limits;
        for (tp, lane) in &mut self.lanes {
            let held = lane.backlog.len() + lane.slots.len();
            let full = held >= limits.window_records || lane.bytes >= limits.window_bytes;
            if full && !lane.paused {
                lane.paused = true;
                self.parts.consumer.pause(std::slice::from_ref(tp));
            }
        }
    }

    fn resume_where_room(&mut self) {
        let limits = self.parts.limits;
        for (tp, lane) in &mut self.lanes {
            let held = lane.backlog.len() + lane.slots.len();
            let room = held <= limits.window_records / 2 && lane.bytes <= limits.window_bytes / 2;
            if lane.paused && room {
                lane.paused = false;
                self.parts.consumer.resume(std::slice::from_ref(tp));
            }
        }
    }
}

async fn rebuild_apart(
    rebuild: Rebuild,
    share: Vec<(TopicPartition, Option<Committed>)>,
    epoch: u64,
) -> Result<Rebuilt, TaskDied> {
    let (done, pasts) = oneshot::channel();
    let mut tasks = Tasks::new();
    tasks.spawn("rebuild", async move {
        // Whoever waits may be gone by now.
        drop(done.send(rebuild.run(&share).await));
        Ok::<_, std::convert::Infallible>(())
    });
    tasks.join().await?;
    let pasts = pasts.await.unwrap_or_default();
    Ok(Rebuilt { epoch, pasts })
}

fn size_of_outgoing(record: &Outgoing) -> usize {
    record.value.as_ref().map_or(0, bytes::Bytes::len) + BOOKKEEPING
}

fn size_of(record: &Record) -> usize {
    record.value.as_ref().map_or(0, bytes::Bytes::len) + BOOKKEEPING
}

async fn running(
    flying: Option<&mut (Running, Vec<Part>, Instant)>,
) -> Result<(), TransactionError> {
    match flying {
        Some((running, _, _)) => running.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
