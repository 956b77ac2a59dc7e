//! What the owners of a class share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bongsu_channels::provider::Provider;
use bongsu_domain::{Class, Delivery, OnUncertain};
use bongsu_policy::{Nights, RepeatLimit, RetryPolicy};
use bongsu_runtime::Clock;
use bongsu_schemas::{Codec, SchemaLookup};
use bongsu_stream::port::{Producer, Record};
use bongsu_suppressions::Suppressed;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{Pending, ReadAhead};
use crate::control::StopSwitch;
use crate::lease::Lease;
use crate::metrics::DispatchMetrics;
use crate::pacing::Pacing;
use crate::restore::Sources;
use crate::yielding::Starts;

/// Records and bytes that were handed to an owner and are not settled, shared with the class loop.
#[derive(Debug)]
pub struct Load {
    records: AtomicUsize,
    bytes: AtomicUsize,
    /// What the partition's deliveries may hold whatever those of others do.
    share: AtomicUsize,
    /// While the partition is paused: what it must fall to before it is read on.
    room_records: AtomicUsize,
    room_bytes: AtomicUsize,
    paused: AtomicBool,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            records: AtomicUsize::default(),
            bytes: AtomicUsize::default(),
            share: AtomicUsize::new(usize::MAX),
            room_records: AtomicUsize::default(),
            room_bytes: AtomicUsize::default(),
            paused: AtomicBool::default(),
        }
    }
}

impl Load {
    /// The partition's deliveries may hold so many bytes, whatever those of others do.
    pub fn set_share(&self, bytes: usize) {
        self.share.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn share(&self) -> usize {
        self.share.load(Ordering::Relaxed)
    }

    /// Adds what is handed over.
    pub fn add(&self, records: usize, bytes: usize) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.records.fetch_sub(1, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// The partition is paused until no more than so many records and bytes are left. Ask
    /// [`Load::has_room`] afterwards: they may have left already.
    pub fn tell_at(&self, records: usize, bytes: usize) {
        self.room_records.store(records, Ordering::Relaxed);
        self.room_bytes.store(bytes, Ordering::Relaxed);
        self.paused.store(true, Ordering::SeqCst);
    }

    /// Whether the partition was paused and has room now; says so once.
    pub fn has_room(&self) -> bool {
        let free = self.is_free();
        if free {
            self.paused.store(false, Ordering::Relaxed);
        }
        free
    }

    /// Whether it is paused and has room.
    pub(super) fn is_free(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
            && self.records.load(Ordering::SeqCst) <= self.room_records.load(Ordering::Relaxed)
            && self.bytes.load(Ordering::SeqCst) <= self.room_bytes.load(Ordering::Relaxed)
    }

    /// Whether its window was full, and has not half emptied since.
    pub(super) fn is_paused(&self) -> bool {
        // The class loop notices that there is room a moment after there is.
        self.paused.load(Ordering::Relaxed) && !self.is_free()
    }

    /// Records and bytes now.
    #[must_use]
    pub fn get(&self) -> (usize, usize) {
        (
            self.records.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

/// Memory that the partitions of a class share.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    most: usize,
}

impl Budget {
    /// A budget of `most` bytes.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            most,
        }
    }

    fn is_free(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.most
    }
}

/// One partition's part of a budget. What it holds is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Part {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Part {
    pub(super) const fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    pub(super) fn set(&mut self, bytes: usize) {
        let known = std::mem::replace(&mut self.bytes, bytes);
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.budget.used.fetch_sub(known, Ordering::Relaxed);
    }

    /// Whether there is room in the budget of all.
    pub(super) fn is_free(&self) -> bool {
        self.budget.is_free()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Memory of the side lanes of a class, shared by its partitions.
#[derive(Debug)]
pub struct LaneBudget {
    bytes: Arc<Budget>,
    keys: AtomicUsize,
}

impl LaneBudget {
    /// What every partition may hold whatever the others do.
    const FLOOR: usize = 64 * 1024;
    /// Memory of one order key that is in a lane.
    const KEY_BYTES: usize = 32;

    /// A budget of `most` bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            bytes: Arc::new(Budget::new(most)),
            keys: AtomicUsize::new(0),
        }
    }
}

/// One partition's part of the lanes' memory. What it holds is given back when it is dropped.
#[derive(Debug)]
pub(super) struct LaneShare {
    bytes: Part,
    budget: Arc<LaneBudget>,
    keys: usize,
}

impl LaneShare {
    pub(super) fn new(budget: Arc<LaneBudget>) -> Self {
        Self {
            bytes: Part::new(Arc::clone(&budget.bytes)),
            budget,
            keys: 0,
        }
    }

    /// Whether the partition may take more.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.bytes < LaneBudget::FLOOR || self.bytes.is_free()
    }

    /// Records that may be read back at once.
    pub(super) fn batch(&self) -> i64 {
        if self.bytes.is_free() { 512 } else { 64 }
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes.set(self.bytes.bytes + bytes);
    }

    pub(super) fn remove(&mut self, bytes: usize) {
        self.bytes.set(self.bytes.bytes.saturating_sub(bytes));
    }

    /// So many keys are in the lane now.
    pub(super) fn set_keys(&mut self, keys: usize) {
        let known = std::mem::replace(&mut self.keys, keys);
        self.budget.keys.fetch_add(keys, Ordering::Relaxed);
        self.budget.keys.fetch_sub(known, Ordering::Relaxed);
    }

    /// Whether keys may be parked that need not be: they take up to four times the lanes' bytes.
    pub(super) fn has_room_for_keys(&self) -> bool {
        let most = self.budget.bytes.most * 4 / LaneBudget::KEY_BYTES;
        self.budget.keys.load(Ordering::Relaxed) < most
    }
}

impl Drop for LaneShare {
    fn drop(&mut self) {
        self.set_keys(0);
    }
}

/// Attempts that may be open at once. Bulk has a smaller number of its own, so that a campaign never
/// takes the last place from a transactional delivery.
#[derive(Debug, Clone)]
pub struct Permits {
    all: Arc<Places>,
    bulk: Option<Arc<Semaphore>>,
}

/// The places of a channel, shared by both classes, and how many partitions want them.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    most: usize,
    owners: AtomicUsize,
}

impl Places {
    /// So many places.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(most)),
            most,
            owners: AtomicUsize::new(0),
        }
    }
}

/// Whether a partition has attempts under way or waits for a place. Counted out when it is dropped.
#[derive(Debug)]
pub(super) struct Busy {
    all: Arc<Places>,
    counted: bool,
}

impl Busy {
    pub(super) fn new(permits: &Permits) -> Self {
        Self {
            all: Arc::clone(&permits.all),
            counted: false,
        }
    }

    pub(super) fn set(&mut self, busy: bool) {
        match (std::mem::replace(&mut self.counted, busy), busy) {
            (false, true) => self.all.owners.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.all.owners.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => return,
        };
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// One place.
#[derive(Debug)]
pub(super) struct Permit {
    _all: OwnedSemaphorePermit,
    _bulk: Option<OwnedSemaphorePermit>,
}

impl Permits {
    /// Places out of `all`, and for a bulk class out of `bulk` too.
    #[must_use]
    pub const fn new(all: Arc<Places>, bulk: Option<Arc<Semaphore>>) -> Self {
        Self { all, bulk }
    }

    /// Whether a partition with so many other attempts under way may use a place again without queueing for
    /// it: it does not have more than its equal part. Handing every place on means waking somebody for every
    /// attempt, and the place lies idle until that one's turn. Bulk queues every time, for what it yields is
    /// taken out of that queue.
    pub(super) fn may_keep(&self, others: usize) -> bool {
        let owners = self.all.owners.load(Ordering::Relaxed);
        self.bulk.is_none() && others < self.all.most / owners.max(1)
    }

    pub(super) fn try_acquire(&self) -> Option<Permit> {
        let bulk = match &self.bulk {
            None => None,
            Some(bulk) => Some(Arc::clone(bulk).try_acquire_owned().ok()?),
        };
        let all = Arc::clone(&self.all.free).try_acquire_owned().ok()?;
        Some(Permit {
            _all: all,
            _bulk: bulk,
        })
    }

    /// Waits for a place; none when dispatch ends.
    pub(super) async fn acquire(self) -> Option<Permit> {
        let bulk = match self.bulk {
            None => None,
            Some(bulk) => Some(bulk.acquire_owned().await.ok()?),
        };
        let all = Arc::clone(&self.all.free).acquire_owned().await.ok()?;
        Some(Permit {
            _all: all,
            _bulk: bulk,
        })
    }
}

/// What all owners of a class share.
pub struct Shared {
    /// Where the partitions' logs lie.
    pub sources: Sources,
    /// Reads deliveries and writes receipts.
    pub codec: Arc<Codec>,
    /// Finds schemas that are missing.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The way to the provider.
    pub provider: Arc<dyn Provider>,
    /// For receipts and dead letters.
    pub producer: Arc<dyn Producer>,
    /// For the journal and the lanes: their writers wait for each answer.
    pub notes: Arc<dyn Producer>,
    /// Name of the dead letter topic and its number of partitions.
    pub dead_letters: (Arc<str>, i32),
    /// Attempts open at once, over all partitions of the channel.
    pub permits: Permits,
    /// The class.
    pub class: Class,
    /// How transactional deliveries start: counted by their owners, looked at by those of bulk.
    pub starts: Arc<Starts>,
    /// What may be asked of the provider, over all partitions of the channel.
    pub pacing: Arc<Pacing>,
    /// The repeat guard's limit; none where the channel is not guarded.
    pub guard: Option<RepeatLimit>,
    /// Whether this member may start attempts.
    pub lease: Arc<Lease>,
    /// Memory of the windows.
    pub windows: Arc<Budget>,
    /// Memory of the side lanes.
    pub lane_budget: Arc<LaneBudget>,
    /// How partitions are read ahead for the choice of a start.
    pub read_ahead: Arc<ReadAhead>,
    /// Told when a partition has room again.
    pub room: Arc<Notify>,
    /// Time.
    pub clock: Clock,
    /// What is stopped; each owner asks a copy of its own.
    pub switch: StopSwitch,
    /// What must not be sent to; each owner asks a copy of its own.
    pub suppressed: Suppressed,
    /// When advertising must wait; each owner asks a copy of its own.
    pub nights: Nights,
    /// What follows a failed attempt.
    pub retry: RetryPolicy,
    /// Longest time of one attempt.
    pub attempt_timeout: Duration,
    /// A key that waits, or has failed, for this long goes to the side lane, milliseconds.
    pub divert_after_ms: i64,
    /// Percent of a full window above which a sender floods it.
    pub flood_share: usize,
    /// Deliveries that may be started between two commits.
    pub headroom: i64,
    /// Unsettled records of one partition.
    pub window_records: usize,
    /// Longest time in which a partition may fail to go on by itself, milliseconds.
    pub stall_after_ms: i64,
    /// How long a schema may stay unknown.
    pub schema_patience: Duration,
    /// This process, on receipts and requests.
    pub worker_id: Arc<str>,
    /// Instruments.
    pub metrics: DispatchMetrics,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Shared {
    /// Whether the starts of this class are counted.
    pub(super) fn counts_starts(&self) -> bool {
        self.class == Class::Transactional
    }

    /// Whether this class has so few places that it leaves what can wait.
    pub(super) fn has_little(&self) -> bool {
        self.class == Class::Bulk && self.starts.bulk_has_little()
    }

    /// Whether an attempt of this delivery whose answer was never seen must stay the last one.
    #[must_use]
    pub fn never_twice(&self, delivery: &Delivery) -> bool {
        match delivery.on_uncertain {
            OnUncertain::Resend => false,
            OnUncertain::ResendIfIdempotent => !self.provider.dedupes(delivery),
            OnUncertain::NeverResend => true,
        }
    }
}

/// Bytes a record holds while it is open: its value as it came and decoded, its key, its headers and
/// our bookkeeping.
#[must_use]
pub fn size_of_record(record: &Record) -> usize {
    /// The sequencer's entry, its places in the maps, and what the allocator adds to some fifteen small
    /// texts.
    const OTHERS: usize = 500;
    const BOOKKEEPING: usize = size_of::<Pending>() + size_of::<Delivery>() + OTHERS;
    let value = record.value.as_ref().map_or(0, bytes::Bytes::len);
    let key = record.key.as_ref().map_or(0, bytes::Bytes::len);
    2 * value + key + BOOKKEEPING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept_up_to_the_equal_part_of_those_who_want_places() {
        let places = Arc::new(Places::new(8));
        let permits = Permits::new(Arc::clone(&places), None);
        let [mut one, mut other] = [(); 2].map(|()| Busy::new(&permits));
        one.set(true);
        assert!(permits.may_keep(7), "all are its own");
        other.set(true);
        other.set(true);
        assert!(permits.may_keep(3) && !permits.may_keep(4));
        drop(other);
        assert!(permits.may_keep(7));
        let bulk = Permits::new(places, Some(Arc::new(Semaphore::new(4))));
        assert!(
            !bulk.may_keep(0),
            "what it yields is taken out of the queue"
        );
    }

    #[test]
    fn a_window_that_has_half_emptied_is_not_paused_whoever_noticed() {
        let load = Load::default();
        load.add(10, 1_000);
        assert!(!load.is_paused(), "it was not full");
        load.tell_at(5, 500);
        assert!(load.is_paused());
        for _ in 0..5 {
            load.remove(100);
        }
        assert!(!load.is_paused(), "nobody has asked for its room yet");
        assert!(load.has_room() && !load.has_room(), "it is told once");
    }
}
