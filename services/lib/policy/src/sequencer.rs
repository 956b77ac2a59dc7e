//! The sequencer: one partition's order, window, timers and watermark, as a pure state machine.
//!
//! **Owns** every record of the partition between the watermark and the last admitted offset.
//! **Invariants**, each a property test in `sequencer/tests.rs`:
//!
//! * per order key at most one delivery (or one packed run) is in an attempt, and the next starts
//!   only after the one ahead is *terminal*: its receipt acknowledged by Kafka. Deliveries that
//!   settle without an attempt (expired) leave the queue at once;
//! * the watermark never passes an offset that is not terminal, and only ever grows;
//! * the results floor is at or below the results offset of every terminal delivery above the
//!   watermark, and of every receipt still to be acknowledged.
//!
//! Called by the partition's owner in dispatch, which does the I/O in between.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

#[cfg(test)]
mod tests;

/// A record to be put in order.
#[derive(Debug, Clone)]
pub struct Admission<P> {
    /// Its offset; offsets only grow.
    pub offset: i64,
    /// Hashed order key.
    pub key: u64,
    /// Eight bytes of its delivery id, compared with what `results` says of this offset.
    pub tag: u64,
    /// Memory it takes, in bytes.
    pub bytes: usize,
    /// Last useful moment, milliseconds since the epoch.
    pub expires_at: i64,
    /// What the owner needs to attempt it.
    pub payload: P,
}

/// How consecutive deliveries may share an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// The most deliveries of one batch.
    pub max: usize,
    /// Whether a batch is consecutive deliveries of one key, rather than of distinct keys.
    pub one_key: bool,
}

/// What may be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Every offset below is terminal: the next offset to be read after a restart.
    pub watermark: i64,
    /// From this offset of `results` on lie all receipts of offsets at or above the watermark.
    pub results_floor: i64,
}

/// What admitting a record found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It waits for its turn.
    Queued,
    /// `results` already holds its receipt: it is not sent again.
    AlreadySettled,
    /// `results` holds a receipt for this offset, but of another delivery: the topic was re-created
    /// or the log cut. It is queued and the operator must hear of it.
    TagMismatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    Waiting,
    Calling,
    Settling,
}

#[derive(Debug)]
struct Entry<P> {
    key: u64,
    bytes: usize,
    expires_at: i64,
    attempts: u32,
    retry_at: i64,
    state: State,
    payload: P,
}

/// One partition's sequencer; `P` is what the owner keeps per delivery.
#[derive(Debug)]
pub struct Sequencer<P> {
    open: BTreeMap<i64, Entry<P>>,
    /// Terminal offsets at or above the watermark, with the results offset of their receipts; none
    /// for what ended as a dead letter.
    terminal: BTreeMap<i64, Option<i64>>,
    /// Receipts found in `results` for offsets not admitted yet: tag and results offset.
    restored: BTreeMap<i64, (u64, i64)>,
    queues: HashMap<u64, VecDeque<i64>>,
    /// Keys whose head may start, in the order in which they became ready.
    ready: VecDeque<u64>,
    timers: BTreeSet<(i64, i64)>,
    expiries: BTreeSet<(i64, i64)>,
    next_offset: i64,
    next_results: i64,
    bytes: usize,
    calling: usize,
    settling: usize,
}

impl<P> Sequencer<P> {
    /// A sequencer that starts at `committed`, with what the tail of `results` holds: per offset
    /// the tag and the results offset, and the end of the tail.
    #[must_use]
    pub fn new(committed: i64, restored: BTreeMap<i64, (u64, i64)>, results_end: i64) -> Self {
        Self {
            open: BTreeMap::new(),
            terminal: BTreeMap::new(),
            restored: restored
                .into_iter()
                .filter(|(offset, _)| *offset >= committed)
                .collect(),
            queues: HashMap::new(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            expiries: BTreeSet::new(),
            next_offset: committed,
            next_results: results_end,
            bytes: 0,
            calling: 0,
            settling: 0,
        }
    }

    /// Takes a record. Offsets that are skipped (transaction markers, compaction) count as terminal.
    /// An offset below one already admitted is ignored as already settled or already here.
    pub fn admit(&mut self, record: Admission<P>) -> Admitted {
        if record.offset < self.next_offset {
            return Admitted::AlreadySettled;
        }
        self.next_offset = record.offset + 1;
        let mut found = Admitted::Queued;
        if let Some((tag, results_offset)) = self.restored.remove(&record.offset) {
            if tag == record.tag {
                self.terminal.insert(record.offset, Some(results_offset));
                self.trim();
                return Admitted::AlreadySettled;
            }
            found = Admitted::TagMismatch;
        }
        let queue = self.queues.entry(record.key).or_default();
        queue.push_back(record.offset);
        if queue.len() == 1 {
            self.ready.push_back(record.key);
        }
        self.bytes += record.bytes;
        self.expiries.insert((record.expires_at, record.offset));
        let entry = Entry {
            key: record.key,
            bytes: record.bytes,
            expires_at: record.expires_at,
            attempts: 0,
            retry_at: 0,
            state: State::Queued,
            payload: record.payload,
        };
        self.open.insert(record.offset, entry);
        found
    }

    /// Moves time on: retries that are due become ready, and the offsets returned have expired
    /// without an attempt under way; the owner writes their receipts ([`Sequencer::settle`] is
    /// done for them here already).
    pub fn advance(&mut self, now: i64) -> Vec<i64> {
        while let Some(&(at, offset)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(entry) = self.open.get_mut(&offset) {
                entry.state = State::Queued;
                self.ready.push_back(entry.key);
            }
        }
        let mut expired = Vec::new();
        while let Some(&(at, offset)) = self.expiries.first() {
            if at > now {
                break;
            }
            self.expiries.pop_first();
            let Some(entry) = self.open.get(&offset) else {
                continue;
            };
            match entry.state {
                State::Queued | State::Waiting => {
                    self.settle(offset);
                    self.leave_queue(offset);
                    expired.push(offset);
                }
                State::Calling | State::Settling => {}
            }
        }
        expired
    }

    /// The next batch to attempt, at most `packing.max` offsets; empty when nothing may start.
    /// The owner must answer each with [`Sequencer::settle`] or [`Sequencer::retry`].
    pub fn start(&mut self, packing: Packing) -> Vec<i64> {
        let mut batch = Vec::new();
        while batch.len() < packing.max.max(1) {
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            let Some(run) = self.startable(key, packing) else {
                continue;
            };
            for offset in run {
                if let Some(entry) = self.open.get_mut(&offset) {
                    entry.state = State::Calling;
                    entry.attempts += 1;
                    self.calling += 1;
                    batch.push(offset);
                }
            }
            if packing.one_key {
                break;
            }
        }
        batch
    }

    fn startable(&self, key: u64, packing: Packing) -> Option<Vec<i64>> {
        let queue = self.queues.get(&key)?;
        let head = *queue.front()?;
        if self.open.get(&head)?.state != State::Queued {
            return None;
        }
        let mut run = vec![head];
        if packing.one_key {
            // Only fresh followers are packed: one that failed in a pack is retried by itself.
            let head_is_fresh = self.open.get(&head)?.attempts == 0;
            let followers = queue
                .iter()
                .skip(1)
                .take(packing.max.saturating_sub(1))
                .take_while(|o| {
                    head_is_fresh
                        && self
                            .open
                            .get(o)
                            .is_some_and(|e| e.state == State::Queued && e.attempts == 0)
                });
            run.extend(followers);
        }
        Some(run)
    }

    /// Whether [`Sequencer::start`] would give something.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.ready.iter().any(|key| {
            self.queues
                .get(key)
                .and_then(VecDeque::front)
                .and_then(|head| self.open.get(head))
                .is_some_and(|entry| entry.state == State::Queued)
        })
    }

    /// The delivery has ended; its receipt is on its way. Its key stays blocked until
    /// [`Sequencer::acknowledge`].
    pub fn settle(&mut self, offset: i64) {
        if let Some(entry) = self.open.get_mut(&offset) {
            match entry.state {
                State::Calling => self.calling -= 1,
                State::Waiting => {
                    self.timers.remove(&(entry.retry_at, offset));
                }
                State::Queued => {}
                State::Settling => return,
            }
            entry.state = State::Settling;
            self.settling += 1;
            self.expiries.remove(&(entry.expires_at, offset));
        }
    }

    /// The attempt failed and is to be repeated at `at`; its key waits.
    pub fn retry(&mut self, offset: i64, at: i64) {
        if let Some(entry) = self.open.get_mut(&offset)
            && entry.state == State::Calling
        {
            self.calling -= 1;
            entry.state = State::Waiting;
            entry.retry_at = at;
            self.timers.insert((at, offset));
            // The deadline may have passed during the attempt and its timer with it.
            self.expiries.insert((entry.expires_at, offset));
        }
    }

    /// Kafka acknowledged the receipt at `results_offset`, or the dead letter (`None`): the delivery
    /// is terminal. Gives back its payload.
    pub fn acknowledge(&mut self, offset: i64, results_offset: Option<i64>) -> Option<P> {
        let entry = self.open.remove(&offset)?;
        self.settling -= 1;
        self.bytes -= entry.bytes;
        self.terminal.insert(offset, results_offset);
        if let Some(at) = results_offset {
            self.next_results = self.next_results.max(at + 1);
        }
        let Entry { key, payload, .. } = entry;
        self.release_key(key, offset);
        self.trim();
        Some(payload)
    }

    fn release_key(&mut self, key: u64, offset: i64) {
        let Some(queue) = self.queues.get_mut(&key) else {
            return;
        };
        let was_head = queue.front() == Some(&offset);
        queue.retain(|o| *o != offset);
        if queue.is_empty() {
            self.queues.remove(&key);
        } else if was_head {
            self.ready.push_back(key);
        }
    }

    fn leave_queue(&mut self, offset: i64) {
        if let Some(key) = self.open.get(&offset).map(|e| e.key) {
            self.release_key(key, offset);
        }
    }

    fn trim(&mut self) {
        let watermark = self.watermark();
        self.terminal = self.terminal.split_off(&watermark);
    }

    fn watermark(&self) -> i64 {
        self.open
            .first_key_value()
            .map_or(self.next_offset, |(offset, _)| *offset)
    }

    /// What may be committed now.
    #[must_use]
    pub fn position(&self) -> Position {
        let acknowledged = self.terminal.values().flatten();
        let not_admitted = self
            .restored
            .values()
            .map(|(_, results_offset)| results_offset);
        let results_floor = acknowledged
            .chain(not_admitted)
            .copied()
            .min()
            .unwrap_or(self.next_results);
        Position {
            watermark: self.watermark(),
            results_floor: results_floor.min(self.next_results),
        }
    }

    /// What the owner kept for an open delivery.
    #[must_use]
    pub fn payload(&self, offset: i64) -> Option<&P> {
        self.open.get(&offset).map(|e| &e.payload)
    }

    /// The same, to change it.
    pub fn payload_mut(&mut self, offset: i64) -> Option<&mut P> {
        self.open.get_mut(&offset).map(|e| &mut e.payload)
    }

    /// Attempts of an open delivery so far, the one under way included.
    #[must_use]
    pub fn attempts(&self, offset: i64) -> u32 {
        self.open.get(&offset).map_or(0, |e| e.attempts)
    }

    /// The earliest moment at which [`Sequencer::advance`] has something to do.
    #[must_use]
    pub fn next_timer(&self) -> Option<i64> {
        let retry = self.timers.first().map(|(at, _)| *at);
        let expiry = self.expiries.first().map(|(at, _)| *at);
        match (retry, expiry) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Deliveries admitted and not terminal.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Deliveries in an attempt.
    #[must_use]
    pub const fn calling(&self) -> usize {
        self.calling
    }

    /// Deliveries whose receipt is not acknowledged yet.
    #[must_use]
    pub const fn settling(&self) -> usize {
        self.settling
    }

    /// Memory of the open deliveries, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}
