//! The sequencer: one partition's order, fairness, window, timers and watermark, as a pure state
//! machine.
//!
//! **Owns** every record of the partition between the watermark and the last admitted offset.
//! **Invariants**, each a property test in `sequencer/tests.rs`:
//!
//! * per order key at most one delivery (or one packed run) is in an attempt, and the next starts
//!   only after the one ahead is *terminal*: its receipt, dead letter or diversion acknowledged by
//!   Kafka. Deliveries that settle without an attempt (expired, suppressed) leave the queue at once;
//! * the watermark never passes an offset that is not terminal, and only ever grows;
//! * senders with something to send are served in turn, by cost, whatever each has waiting.
//!
//! Called by the partition's owner in dispatch, which does the I/O in between. No call costs more
//! than the work it hands out: queues are linked through one slab, so nothing is searched.

mod heap;
mod look;
mod ring;
mod serve;
mod slab;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};

use self::heap::Moments;
use self::ring::{Mark, Ring};
pub use self::serve::Starter;
use self::slab::{NONE, Slab};
use crate::hashing::ByHash;

/// Settled offsets with the tags of their deliveries, as restored or to be checkpointed.
pub type SettledTags = BTreeMap<i64, u64>;

/// Cost units a sender may use up before the next sender's turn.
const QUANTUM: u32 = 8;

/// A record to be put in order.
#[derive(Debug, Clone)]
pub struct Admission<P> {
    /// Its offset; offsets only grow.
    pub offset: i64,
    /// Hashed order key.
    pub key: u64,
    /// Hashed sender: the unit of fairness.
    pub sender: u64,
    /// The account it goes out through; a batch never mixes groups, and a group waits by itself.
    pub group: u32,
    /// What it costs of a sender's turn: 1, or its recipients.
    pub cost: u32,
    /// Eight bytes of its delivery id, compared with what is known of this offset.
    pub tag: u64,
    /// Memory it takes, in bytes.
    pub bytes: usize,
    /// Last useful moment, milliseconds since the epoch.
    pub expires_at: i64,
    /// Attempts made before this owner saw it (a restored or parked delivery).
    pub attempts: u32,
    /// Not before this moment; 0 for at once.
    pub not_before: i64,
    /// Whether it goes to a side lane, behind others of its key: it is in nobody's queue here and
    /// waits for [`Sequencer::acknowledge`] alone.
    pub diverted: bool,
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

/// What admitting a record found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It waits for its turn.
    Queued,
    /// It is known to have ended: it is not sent again.
    AlreadySettled,
    /// Something is known of this offset, but of another delivery: the topic was re-created or the
    /// log cut. It is queued and the operator must hear of it.
    TagMismatch,
}

/// What the owner says of a delivery that could start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Start it.
    Go,
    /// Its key waits until this moment; that is no attempt.
    KeyWaits(i64),
    /// Everything of its group waits until this moment.
    GroupWaits(i64),
    /// It ends without an attempt: it is settled, and the owner writes its receipt.
    End,
    /// Nothing more can start now; ask again when something has changed.
    Stop,
}

/// What [`Sequencer::start`] came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// The batch to attempt, in order; empty when nothing may start.
    pub batch: Vec<i64>,
    /// Deliveries that ended without an attempt, settled already.
    pub ended: Vec<i64>,
}

/// Where an open delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits for those ahead of it, or for its turn.
    Queued,
    /// It waits for a moment: a retry, or a limit of its key.
    Waiting,
    /// An attempt is under way.
    Calling,
    /// It has ended; its receipt is not acknowledged yet.
    Settling,
    /// It is being written to a side lane.
    Diverting,
}

/// The delivery that holds the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Its offset.
    pub offset: i64,
    /// Its order key.
    pub key: u64,
    /// Where it stands.
    pub state: State,
    /// Offsets between it and the last one admitted.
    pub span: usize,
}

#[derive(Debug)]
struct Entry<P> {
    offset: i64,
    key: u64,
    cost: u32,
    tag: u64,
    bytes: usize,
    expires_at: i64,
    attempts: u32,
    wake_at: i64,
    state: State,
    /// Neighbours in the queue of the key.
    next: u32,
    previous: u32,
    /// Apart, so that a free slot takes little: an owner's payload is some 300 bytes.
    payload: Box<P>,
}

#[derive(Debug)]
struct Key {
    head: u32,
    tail: u32,
    length: u32,
    sender: u32,
    /// Whether it stands in its sender's ready queue.
    listed: bool,
}

#[derive(Debug, Default)]
struct Sender {
    hash: u64,
    group: u32,
    keys: u32,
    /// Deliveries in the queues of its keys.
    held: usize,
    /// Keys whose head may start.
    ready: VecDeque<u64>,
    deficit: u32,
    /// Whether it stands in the ring of its group.
    active: bool,
}

#[derive(Debug, Default)]
struct Group {
    ring: VecDeque<u32>,
    waits_until: i64,
}

/// One partition's sequencer; `P` is what the owner keeps per delivery.
#[derive(Debug)]
pub struct Sequencer<P> {
    entries: Slab<Entry<P>>,
    ring: Ring,
    /// What is known of offsets not admitted yet.
    restored: SettledTags,
    keys: HashMap<u64, Key, ByHash>,
    senders: Slab<Sender>,
    by_sender: HashMap<(u64, u32), u32, ByHash>,
    groups: Vec<(u32, Group)>,
    turn: usize,
    timers: Moments,
    expiries: Moments,
    bytes: usize,
    counts: Counts,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    waiting: usize,
    calling: usize,
    settling: usize,
}

impl<P> Sequencer<P> {
    /// A sequencer that starts at `committed`, with what is known to have ended at or above it.
    #[must_use]
    pub fn new(committed: i64, mut settled: SettledTags) -> Self {
        let restored = settled.split_off(&committed);
        Self {
            entries: Slab::default(),
            ring: Ring::new(committed),
            restored,
            keys: HashMap::default(),
            senders: Slab::default(),
            by_sender: HashMap::default(),
            groups: Vec::new(),
            turn: 0,
            timers: Moments::default(),
            expiries: Moments::default(),
            bytes: 0,
            counts: Counts::default(),
        }
    }

    /// Takes a record. Offsets that are skipped (transaction markers, compaction) count as terminal.
    /// An offset below one already admitted is ignored as already settled or already here.
    pub fn admit(&mut self, record: Admission<P>) -> Admitted {
        if record.offset < self.ring.end() {
            return Admitted::AlreadySettled;
        }
        let mut found = Admitted::Queued;
        // What is known of an offset that no record turned up for (compacted away) is of no use.
        while let Some(first) = self.restored.first_entry()
            && *first.key() < record.offset
        {
            first.remove();
        }
        if let Some(tag) = self.restored.remove(&record.offset) {
            if tag == record.tag {
                self.ring.push(record.offset, Mark::Settled(tag));
                self.ring.trim();
                return Admitted::AlreadySettled;
            }
            found = Admitted::TagMismatch;
        }
        self.insert(record);
        found
    }

    fn insert(&mut self, record: Admission<P>) {
        let Admission { offset, key, .. } = record;
        self.bytes += record.bytes;
        let waits = record.not_before > 0 && !record.diverted;
        let state = match (record.diverted, waits) {
            (true, _) => State::Diverting,
            (false, true) => State::Waiting,
            (false, false) => State::Queued,
        };
        let slot = self.entries.insert(Entry {
            offset,
            key,
            cost: record.cost.max(1),
            tag: record.tag,
            bytes: record.bytes,
            expires_at: record.expires_at,
            attempts: record.attempts,
            wake_at: record.not_before,
            state,
            next: NONE,
            previous: NONE,
            payload: Box::new(record.payload),
        });
        self.ring.push(offset, Mark::Open(slot));
        self.expiries.push(record.expires_at, offset);
        if waits {
            self.counts.waiting += 1;
            self.timers.push(record.not_before, offset);
        }
        if !record.diverted {
            self.queue(key, record.sender, record.group, slot);
        }
    }

    /// Puts an entry at the end of its key's queue.
    fn queue(&mut self, hash: u64, sender: u64, group: u32, slot: u32) {
        let Some(key) = self.keys.get_mut(&hash) else {
            let sender = self.sender(sender, group);
            if let Some(sender) = self.senders.get_mut(sender) {
                sender.held += 1;
            }
            self.keys.insert(
                hash,
                Key {
                    head: slot,
                    tail: slot,
                    length: 1,
                    sender,
                    listed: false,
                },
            );
            self.list(hash);
            return;
        };
        key.length += 1;
        if let Some(sender) = self.senders.get_mut(key.sender) {
            sender.held += 1;
        }
        if key.length == 1 {
            // Its last delivery left while it was listed.
            (key.head, key.tail) = (slot, slot);
            return;
        }
        let tail = std::mem::replace(&mut key.tail, slot);
        if let Some(entry) = self.entries.get_mut(tail) {
            entry.next = slot;
        }
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.previous = tail;
        }
    }

    fn sender(&mut self, hash: u64, group: u32) -> u32 {
        let slot = *self.by_sender.entry((hash, group)).or_insert_with(|| {
            self.senders.insert(Sender {
                hash,
                group,
                ..Sender::default()
            })
        });
        if let Some(sender) = self.senders.get_mut(slot) {
            sender.keys += 1;
        }
        slot
    }

    /// Puts a key whose head may start into its sender's ready queue.
    fn list(&mut self, hash: u64) {
        let Some(key) = self.keys.get_mut(&hash) else {
            return;
        };
        let Some(head) = self.entries.get(key.head) else {
            return;
        };
        if key.listed || head.state != State::Queued {
            return;
        }
        key.listed = true;
        let slot = key.sender;
        let Some(sender) = self.senders.get_mut(slot) else {
            return;
        };
        sender.ready.push_back(hash);
        if !sender.active {
            sender.active = true;
            sender.deficit = 0;
            let group = sender.group;
            self.group(group).ring.push_back(slot);
        }
    }

    fn group(&mut self, id: u32) -> &mut Group {
        let at = match self.groups.iter().position(|(known, _)| *known == id) {
            Some(at) => at,
            None => {
                self.groups.push((id, Group::default()));
                self.groups.len() - 1
            }
        };
        &mut self.groups[at].1
    }

    /// Moves time on: what is due becomes ready, and the offsets returned have expired without an
    /// attempt under way; the owner writes their receipts ([`Sequencer::settle`] is done for them).
    pub fn advance(&mut self, now: i64) -> Vec<i64> {
        while let Some(offset) = self.timers.pop_due(now) {
            let Some(entry) = open(&mut self.entries, &self.ring, offset) else {
                continue;
            };
            // A timer of an earlier wait says nothing any more.
            if entry.state != State::Waiting || entry.wake_at > now {
                continue;
            }
            entry.state = State::Queued;
            self.counts.waiting -= 1;
            let key = entry.key;
            self.list(key);
        }
        let mut expired = Vec::new();
        while let Some(offset) = self.expiries.pop_due(now) {
            let Some(entry) = open(&mut self.entries, &self.ring, offset) else {
                continue;
            };
            match entry.state {
                State::Queued | State::Waiting => {
                    self.end(offset);
                    expired.push(offset);
                }
                // Looked at again when the attempt asks for a retry.
                State::Calling | State::Settling | State::Diverting => {}
            }
        }
        expired
    }

    /// The delivery has ended; its receipt is on its way. Its key stays blocked until
    /// [`Sequencer::acknowledge`].
    pub fn settle(&mut self, offset: i64) {
        let Some(entry) = open(&mut self.entries, &self.ring, offset) else {
            return;
        };
        match entry.state {
            State::Calling => self.counts.calling -= 1,
            State::Waiting => self.counts.waiting -= 1,
            State::Queued => {}
            State::Settling | State::Diverting => return,
        }
        entry.state = State::Settling;
        self.counts.settling += 1;
    }

    /// Settles a delivery and lets those behind it pass: it has seen no attempt under way.
    fn end(&mut self, offset: i64) {
        self.settle(offset);
        if let Some(slot) = self.ring.open(offset) {
            self.leave_queue(slot);
        }
    }

    /// The attempt failed and is to be repeated at `at`; its key waits.
    pub fn retry(&mut self, offset: i64, at: i64) {
        self.back(offset, at, 0);
    }

    /// The attempt never happened (no lease, not processed, account at fault): it is not counted,
    /// and may be made at `at`.
    pub fn requeue(&mut self, offset: i64, at: i64) {
        self.back(offset, at, 1);
    }

    fn back(&mut self, offset: i64, at: i64, uncounted: u32) {
        let Some(entry) = open(&mut self.entries, &self.ring, offset) else {
            return;
        };
        if entry.state != State::Calling {
            return;
        }
        self.counts.calling -= 1;
        entry.attempts -= uncounted;
        entry.state = State::Queued;
        let expires_at = entry.expires_at;
        self.wait(offset, at);
        // The deadline may have passed during the attempt and its timer with it.
        self.expiries.push(expires_at, offset);
    }

    fn wait(&mut self, offset: i64, at: i64) {
        if let Some(entry) = open(&mut self.entries, &self.ring, offset) {
            entry.state = State::Waiting;
            entry.wake_at = at;
            self.counts.waiting += 1;
            self.timers.push(at, offset);
        }
    }

    /// Kafka acknowledged the receipt, the dead letter or the diversion: the delivery is terminal.
    /// Gives back its payload.
    pub fn acknowledge(&mut self, offset: i64) -> Option<P> {
        let slot = self.ring.open(offset)?;
        let state = self.entries.get(slot)?.state;
        match state {
            State::Settling => self.counts.settling -= 1,
            State::Calling => self.counts.calling -= 1,
            State::Waiting => self.counts.waiting -= 1,
            State::Queued | State::Diverting => {}
        }
        self.leave_queue(slot);
        let entry = self.entries.remove(slot)?;
        self.bytes -= entry.bytes;
        self.ring.settle(offset, entry.tag);
        self.ring.trim();
        let live = self.entries.len();
        let ring = &self.ring;
        self.expiries.compact(live, |at| ring.open(at).is_some());
        self.timers.compact(live, |at| ring.open(at).is_some());
        Some(*entry.payload)
    }

    /// A receipt that somebody else wrote: a former owner whose acknowledgement came late, or a
    /// replay. What has not started yet is terminal with it; an attempt under way ends by itself.
    pub fn acknowledge_foreign(&mut self, offset: i64, tag: u64) -> Option<P> {
        if offset >= self.ring.end() {
            self.restored.insert(offset, tag);
            return None;
        }
        let entry = self.entries.get(self.ring.open(offset)?)?;
        match entry.state {
            State::Queued | State::Waiting if entry.tag == tag => self.acknowledge(offset),
            State::Queued
            | State::Waiting
            | State::Calling
            | State::Settling
            | State::Diverting => None,
        }
    }

    /// Takes a key out of the queue, head and followers, to be written to a side lane in the order
    /// given; empty while one of them is in an attempt, or has ended and waits for its receipt (of a
    /// pack, a later one may end before the first). Each is answered by [`Sequencer::acknowledge`].
    pub fn divert(&mut self, hash: u64) -> Vec<i64> {
        let Some(key) = self.keys.get_mut(&hash) else {
            return Vec::new();
        };
        let mut slot = key.head;
        let mut look = slot;
        while let Some(entry) = self.entries.get(look) {
            match entry.state {
                State::Queued | State::Waiting => look = entry.next,
                State::Calling | State::Settling | State::Diverting => return Vec::new(),
            }
        }
        (key.head, key.tail, key.length) = (NONE, NONE, 0);
        let (sender, listed) = (key.sender, key.listed);
        let mut offsets = Vec::new();
        while let Some(entry) = self.entries.get_mut(slot) {
            if entry.state == State::Waiting {
                self.counts.waiting -= 1;
            }
            entry.state = State::Diverting;
            offsets.push(entry.offset);
            slot = std::mem::replace(&mut entry.next, NONE);
            entry.previous = NONE;
        }
        if let Some(sender) = self.senders.get_mut(sender) {
            sender.held -= offsets.len();
        }
        if !listed {
            self.keys.remove(&hash);
            self.release(sender);
        }
        offsets
    }

    fn leave_queue(&mut self, slot: u32) {
        let Some(entry) = self.entries.get_mut(slot) else {
            return;
        };
        let hash = entry.key;
        let (next, previous) = (entry.next, entry.previous);
        (entry.next, entry.previous) = (NONE, NONE);
        let Some(key) = self.keys.get_mut(&hash) else {
            return;
        };
        // One that left before (it expired) is in no queue any more.
        if key.head != slot && previous == NONE {
            return;
        }
        key.length -= 1;
        if let Some(sender) = self.senders.get_mut(key.sender) {
            sender.held -= 1;
        }
        if key.length == 0 {
            let (sender, listed) = (key.sender, key.listed);
            // A listed key is found without a head, and passed over, when its turn comes.
            if listed {
                (key.head, key.tail) = (NONE, NONE);
            } else {
                self.keys.remove(&hash);
                self.release(sender);
            }
            return;
        }
        let was_head = key.head == slot;
        if was_head {
            key.head = next;
        }
        if key.tail == slot {
            key.tail = previous;
        }
        if let Some(entry) = self.entries.get_mut(next) {
            entry.previous = previous;
        }
        if let Some(entry) = self.entries.get_mut(previous) {
            entry.next = next;
        }
        if was_head {
            self.list(hash);
        }
    }

    /// One key of a sender is gone.
    fn release(&mut self, slot: u32) {
        if let Some(sender) = self.senders.get_mut(slot) {
            sender.keys -= 1;
        }
        self.forget(slot);
    }

    fn forget(&mut self, slot: u32) {
        let Some(sender) = self.senders.get(slot) else {
            return;
        };
        if sender.keys == 0 && !sender.active {
            let name = (sender.hash, sender.group);
            self.senders.remove(slot);
            self.by_sender.remove(&name);
        }
    }
}

fn open<'a, P>(
    entries: &'a mut Slab<Entry<P>>,
    ring: &Ring,
    offset: i64,
) -> Option<&'a mut Entry<P>> {
    entries.get_mut(ring.open(offset)?)
}
