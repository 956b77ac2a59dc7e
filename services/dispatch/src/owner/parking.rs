//! Parking: keys that wait long go to the side lane, in order, and are served from there.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_policy::hashing::ByHash;
use bongsu_policy::sequencer::State;
use bongsu_stream::error::{ErrorClass, ProduceError};
use bongsu_stream::port::{From, Isolation, Outgoing, Record, TailRange, TopicPartition};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;

use super::admission::{Taken, TakenIn};
use super::{Owner, Pending, size_of_record};
use crate::error::DispatchError;
use crate::intake::{self, Intake};
use crate::journal::{Owners, Source};
use crate::lane::{Keys, Parked, Progress, lane_record, parked_of};
use crate::restore::RestoredLane;

/// Lane records on their way to Kafka at once.
const OUTSTANDING: usize = 256;
/// What a lane record is taken to need before it is read, in bytes.
const PARKED_BYTES: usize = 2_048;
/// Pause before a full producer queue, or a lane that cannot be read, is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// Blocked keys parked at once when the window is full of them.
const UNDER_PRESSURE: usize = 64;
/// A key that waits with so many offsets between it and the last one read goes to the lane in any case.
const PINNED: usize = 50_000;
/// How often the pressure is looked at, milliseconds.
const PRESSURE_MS: i64 = 1_000;

type Appended = (u64, i64, Result<i64, ProduceError>);
type ReadBack = Result<(Vec<Record>, i64), String>;

/// The side lane of one partition.
#[derive(Default)]
pub(super) struct Lane {
    /// Keys that are in it.
    pub(super) keys: Keys,
    /// Where it ended when this owner began.
    pub(super) restored_end: i64,
    /// The owners before this one.
    pub(super) owners: Owners,
    /// Keys with something to be written, each once and only while nothing of it is on its way: a
    /// record that fails must not fall behind its followers.
    queue: VecDeque<u64>,
    /// Original offsets to be written, in order, per key.
    unwritten: HashMap<u64, VecDeque<i64>, ByHash>,
    /// Original offsets that may lie in the lane twice, because a write of them was not acknowledged,
    /// and which copy was taken in.
    doubtful: HashMap<i64, Option<i64>, ByHash>,
    /// The other copies of those that were taken in; they end with them.
    copies: HashMap<i64, Vec<i64>, ByHash>,
    appending: FuturesOrdered<BoxFuture<'static, Appended>>,
    /// The first offset not taken in.
    next: i64,
    /// One past the last offset written.
    end: i64,
    reading: Option<BoxFuture<'static, ReadBack>>,
    /// Bytes that are kept free for what is read.
    reserved: usize,
    again: Option<BoxFuture<'static, ()>>,
    looked_at: i64,
}

/// What the lane came to.
pub(super) enum Wake {
    Appended(Appended),
    ReadBack(ReadBack),
    Again,
}

impl Lane {
    pub(super) fn restored(restored: &RestoredLane) -> Self {
        Self {
            keys: Keys::new(restored.keys.iter().map(|(key, open)| (*key, *open))),
            next: restored.floor,
            end: restored.end,
            restored_end: restored.end,
            owners: restored.owners.clone(),
            doubtful: restored.doubled.iter().map(|o| (*o, None)).collect(),
            ..Self::default()
        }
    }

    /// Nothing is on its way to the lane.
    pub(super) fn is_quiet(&self) -> bool {
        self.unwritten.is_empty() && self.appending.is_empty()
    }

    /// Cancel safe: the streams and futures keep their state.
    pub(super) async fn next(&mut self) -> Wake {
        tokio::select! {
            Some(appended) = self.appending.next(), if !self.appending.is_empty() => {
                Wake::Appended(appended)
            }
            read = super::maybe(self.reading.as_mut()) => {
                self.reading = None;
                Wake::ReadBack(read)
            }
            () = super::maybe(self.again.as_mut()) => {
                self.again = None;
                Wake::Again
            }
            else => std::future::pending().await,
        }
    }

    /// Everything below `next` was taken in, or is not ours.
    pub(super) fn caught_up_to(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    /// Whether there is more in it than was taken in.
    pub(super) fn is_behind(&self) -> bool {
        self.next < self.end || self.reading.is_some()
    }

    fn wait(&mut self) {
        self.again = Some(Box::pin(tokio::time::sleep(AGAIN)));
    }
}

impl Owner {
    /// Decides whether the key of a delivery that waits until `at` goes to the lane.
    pub(super) fn consider_parking(
        &mut self,
        source: Source,
        offset: i64,
        failing_since: i64,
        at: i64,
    ) {
        if source == Source::Lane {
            return;
        }
        let now = self.now;
        let long = at - now >= self.shared.divert_after_ms
            || now - failing_since >= self.shared.divert_after_ms;
        // Behind a flood in the lane it would wait for longer than it must.
        let long = long && self.diversion.floods.is_empty();
        let Some(key) = self.sequencer(source).and_then(|s| s.key_of(offset)) else {
            return;
        };
        if long || self.diversion.is_marked(key) {
            self.park_key(key);
        }
    }

    /// Keys whose head may not be sent before the moment given, because it is night there.
    pub(super) fn wait_for_day(&mut self, source: Source, keys: &[(u64, i64)]) {
        if keys.is_empty() {
            return;
        }
        self.shared.metrics.held_by_night(keys.len() as u64);
        let far = self.now + self.shared.divert_after_ms;
        if source == Source::Main {
            for (key, _) in keys.iter().filter(|(_, day)| *day >= far) {
                self.park_key(*key);
            }
        }
    }

    /// Parks the keys that fill a window, the ones with the longest queues first: the partition must
    /// not wait for them.
    fn relieve_pressure(&mut self) {
        let now = self.now;
        if now - self.lane.looked_at < PRESSURE_MS {
            return;
        }
        self.lane.looked_at = now;
        self.free_pinned();
        let (records, _) = self.load.get();
        // Bytes may fill a window long before its records do. What waits for a schema or a commit does not
        // fill it.
        let full = self.is_window_full() || (self.load.is_paused() && self.backlog.is_empty());
        let half = self.shared.window_records / 2;
        let Some(sequencer) = self.sequencer(Source::Main) else {
            return;
        };
        if records < half && !full {
            return;
        }
        let blocked = sequencer.blocked_keys(usize::MAX);
        let held: usize = blocked.iter().map(|(_, length)| length).sum();
        // Of what is in the window: what was read besides waits for it.
        if held < half && !(full && held >= sequencer.open_count() / 2) {
            return;
        }
        for (key, _) in blocked.into_iter().take(UNDER_PRESSURE) {
            self.park_key(key);
        }
    }

    /// Parks the key that holds the commit far behind what was read.
    fn free_pinned(&mut self) {
        let pin = self.sequencer(Source::Main).and_then(|s| s.pin());
        if let Some(pin) = pin.filter(|pin| pin.span > PINNED && pin.state == State::Waiting) {
            self.park_key(pin.key);
        }
    }

    /// Whether anything was parked: nothing is while an attempt of the key is under way.
    pub(super) fn park_key(&mut self, key: u64) -> bool {
        let Some(sequencer) = self.sequencer(Source::Main) else {
            return false;
        };
        let offsets = sequencer.divert(key);
        if offsets.is_empty() {
            return false;
        }
        tracing::debug!(
            partition = self.partition,
            count = offsets.len(),
            "a key goes to the side lane"
        );
        for offset in offsets {
            self.park(key, offset);
        }
        true
    }

    /// Queues a delivery for the lane.
    pub(super) fn park(&mut self, key: u64, offset: i64) {
        self.shared.metrics.parked(1);
        self.lane.keys.park(key);
        self.lane_share.set_keys(self.lane.keys.len());
        let waiting = self.lane.unwritten.entry(key).or_insert_with(|| {
            self.lane.queue.push_back(key);
            VecDeque::new()
        });
        waiting.push_back(offset);
    }

    /// Writes what is queued for the lane, and reads back what did not fit into memory before.
    pub(super) fn feed_lane(&mut self) {
        if !self.draining {
            self.relieve_pressure();
            self.look_for_floods();
            self.read_lane_back();
        }
        while self.lane.again.is_none()
            && self.lane.appending.len() < OUTSTANDING
            && let Some(key) = self.lane.queue.pop_front()
        {
            let unwritten = self.lane.unwritten.get_mut(&key);
            let Some(offset) = unwritten.and_then(VecDeque::pop_front) else {
                self.lane.unwritten.remove(&key);
                continue;
            };
            let Some(record) = self.lane_record_of(offset) else {
                self.lane.queue.push_back(key);
                continue;
            };
            let sent = self.shared.notes.send(record);
            self.lane
                .appending
                .push_back(Box::pin(async move { (key, offset, sent.await) }));
        }
    }

    fn lane_record_of(&mut self, offset: i64) -> Option<Outgoing> {
        let lanes = Arc::clone(&self.shared.sources.lanes);
        let epoch = self.notes.epoch();
        let sequencer = self.sequencer(Source::Main)?;
        let (_, _, not_before) = sequencer.state(offset)?;
        let attempts = sequencer.attempts(offset);
        let key = sequencer.key_of(offset)?;
        let pending = sequencer.payload(offset)?;
        let progress = Progress {
            attempts,
            not_before,
            uncertain: pending.may_have_arrived(),
        };
        let id = pending.delivery.as_ref()?.id;
        let record = &pending.record;
        Some(lane_record(&lanes, record, id, (key, progress), epoch))
    }

    pub(super) fn parked(&mut self, wake: Wake) -> Result<(), DispatchError> {
        match wake {
            Wake::Appended((key, offset, Ok(at))) => {
                self.lane.queue.push_back(key);
                self.appended(offset, at);
            }
            Wake::Appended((key, offset, Err(error))) => {
                if error.class() != ErrorClass::Transient {
                    return Err(error.into());
                }
                tracing::warn!(%error, "a parked delivery was not acknowledged and is written again");
                if !matches!(error, ProduceError::QueueFull) {
                    self.lane.doubtful.insert(offset, None);
                }
                self.lane
                    .unwritten
                    .entry(key)
                    .or_default()
                    .push_front(offset);
                self.lane.queue.push_back(key);
                self.lane.wait();
            }
            Wake::ReadBack(Ok((records, until))) => {
                self.lane_share.remove(self.lane.reserved);
                for record in records {
                    self.admit_parked(record);
                }
                self.lane.next = self.lane.next.max(until);
            }
            Wake::ReadBack(Err(error)) => {
                self.lane_share.remove(self.lane.reserved);
                tracing::warn!(error, "the side lane cannot be read back yet");
                self.lane.wait();
            }
            Wake::Again => {}
        }
        Ok(())
    }

    /// The lane has it: the original offset is terminal, and the delivery goes on from the lane.
    fn appended(&mut self, offset: i64, at: i64) {
        let behind = self.lane.is_behind();
        self.lane.end = self.lane.end.max(at + 1);
        let Some(sequencer) = self.sequencer(Source::Main) else {
            return;
        };
        let key = sequencer.key_of(offset);
        let (_, _, not_before) = sequencer.state(offset).unwrap_or((State::Diverting, 0, 0));
        let attempts = sequencer.attempts(offset);
        let Some(pending) = sequencer.acknowledge(offset) else {
            return;
        };
        self.unload(pending.bytes);
        self.notes.ended(Source::Main, offset);
        let fits = self.lane_share.has_room();
        if behind || !fits {
            // Read back from Kafka, in order, once there is room.
            return;
        }
        let uncertain = pending.may_have_arrived();
        let Pending {
            delivery, record, ..
        } = pending;
        let (Some(delivery), Some(key)) = (delivery, key) else {
            return;
        };
        self.lane.next = at + 1;
        if let Some(taken) = self.lane.doubtful.get_mut(&offset) {
            *taken = Some(at);
        }
        let record = Record {
            topic: Arc::clone(&self.shared.sources.lanes),
            offset: at,
            ..record
        };
        let progress = Progress {
            attempts,
            not_before,
            uncertain,
        };
        let parked = Parked {
            origin: offset,
            key,
            tag: delivery.id.tag(),
            progress,
            epoch: Some(self.notes.epoch()),
        };
        self.take_parked(record, delivery, parked);
    }

    /// Takes a record of the lane into its sequencer.
    pub(super) fn admit_parked(&mut self, record: Record) {
        if record.offset < self.lane.next {
            return;
        }
        self.lane.next = record.offset + 1;
        let Some(parked) = parked_of(&record) else {
            return;
        };
        // What an owner before this one parked when it was none any more is open elsewhere.
        let late = if record.offset < self.lane.restored_end {
            self.lane.owners.is_late(parked.epoch, record.offset)
        } else {
            parked.epoch != Some(self.notes.epoch())
        };
        if late {
            return;
        }
        if let Some(taken) = self.lane.doubtful.get_mut(&parked.origin) {
            if let Some(first) = *taken {
                self.hold_copy(record, parked, first);
                return;
            }
            *taken = Some(record.offset);
        }
        match intake::read(&self.shared.codec, &record) {
            Intake::Delivery(delivery) => {
                self.take_parked(record, delivery, parked);
            }
            // It was read once, when it was parked: by a worker that knew a schema this one does not,
            // or the lane is damaged. Its bytes go to the dead letters, from where they can return.
            unread @ (Intake::Unreadable(..) | Intake::NeedsSchema(_)) => {
                let (reason, detail) = match unread {
                    Intake::Unreadable(reason, detail) => (reason, detail),
                    Intake::NeedsSchema(reference) => ("unknown_schema", reference.to_string()),
                    Intake::Delivery(_) => return,
                };
                tracing::error!(
                    partition = self.partition,
                    offset = record.offset,
                    "a parked delivery cannot be read"
                );
                let (offset, bytes) = (record.offset, size_of_record(&record));
                self.load_lane(bytes);
                self.put_aside_from(Source::Lane, record, parked.key, reason, &detail);
                if self.is_gone(offset) {
                    self.unload_lane(bytes);
                }
            }
        }
    }

    /// The second copy of one that was written twice is never sent. It is open until the first has
    /// ended: a successor may see the second alone, or take it for the first.
    fn hold_copy(&mut self, record: Record, parked: Parked, first: i64) {
        let (offset, bytes) = (record.offset, size_of_record(&record));
        let taken = Taken {
            source: Source::Lane,
            origin: parked.origin,
            delivery: None,
            key: parked.key,
            tag: parked.tag,
            progress: parked.progress,
            diverted: true,
        };
        self.load_lane(bytes);
        if self.take_in(record, taken) == TakenIn::Ended {
            self.unload_lane(bytes);
            return;
        }
        self.lane.copies.entry(first).or_default().push(offset);
        if self.is_gone(first) {
            self.end_copies(first);
        }
    }

    /// One that was parked has ended: so have its other copies.
    pub(super) fn end_copies(&mut self, first: i64) {
        if self.lane.copies.is_empty() {
            return;
        }
        for offset in self.lane.copies.remove(&first).unwrap_or_default() {
            let lane = self.sequencer(Source::Lane);
            if let Some(pending) = lane.and_then(|lane| lane.acknowledge(offset)) {
                self.notes.ended(Source::Lane, offset);
                self.unload_lane(pending.bytes);
            }
        }
    }

    fn take_parked(
        &mut self,
        record: Record,
        delivery: Arc<bongsu_domain::Delivery>,
        parked: Parked,
    ) {
        let bytes = size_of_record(&record);
        let tag = delivery.id.tag();
        // What a checkpoint says of it is newer than its headers.
        let offset = record.offset;
        let waits = self
            .restored
            .waiting
            .iter()
            .find(|w| w.lane && w.offset == offset && w.tag.cast_unsigned() == tag);
        let progress = waits.map_or(parked.progress, |w| Progress {
            attempts: w.attempts.unsigned_abs(),
            not_before: w.not_before,
            uncertain: w.uncertain,
        });
        let taken = Taken {
            source: Source::Lane,
            origin: parked.origin,
            delivery: Some(delivery),
            key: parked.key,
            tag,
            progress,
            diverted: false,
        };
        // Counted even when it ends at once: its acknowledgement takes it off again.
        self.load_lane(bytes);
        if self.take_in(record, taken) == TakenIn::Ended && self.is_gone(offset) {
            self.unload_lane(bytes);
        }
    }

    fn load_lane(&mut self, bytes: usize) {
        self.lane_share.add(bytes);
    }

    /// A parked delivery is gone from memory.
    pub(super) fn unload_lane(&mut self, bytes: usize) {
        self.lane_share.remove(bytes);
    }

    fn is_gone(&self, offset: i64) -> bool {
        let lane = self.sequencers.as_ref().map(|[_, lane]| lane);
        lane.is_none_or(|lane| lane.state(offset).is_none())
    }

    /// Reads parked deliveries for which there was no room, once there is some.
    fn read_lane_back(&mut self) {
        let room = self.lane_share.has_room();
        let behind = self.lane.next < self.lane.end;
        if !(behind && room) || self.lane.reading.is_some() || self.lane.again.is_some() {
            return;
        }
        let until = self.lane.end.min(self.lane.next + self.lane_share.batch());
        let count = usize::try_from(until - self.lane.next).unwrap_or(0);
        self.lane.reserved = count * PARKED_BYTES;
        self.lane_share.add(self.lane.reserved);
        let partition = TopicPartition::new(Arc::clone(&self.shared.sources.lanes), self.partition);
        let range = TailRange {
            partition: partition.clone(),
            from: From::Offset(self.lane.next),
            until: Some(until),
        };
        let cluster = Arc::clone(&self.shared.sources.cluster);
        self.lane.reading = Some(Box::pin(async move {
            let found: Arc<Mutex<Vec<Record>>> = Arc::default();
            let sink = Arc::clone(&found);
            let each = Box::new(move |record| {
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(record);
            });
            let ends = cluster
                .read_tails(vec![range], Isolation::Uncommitted, each)
                .await
                .map_err(|e| e.to_string())?;
            let records =
                std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
            Ok((records, ends.get(&partition).copied().unwrap_or(until)))
        }));
    }
}
