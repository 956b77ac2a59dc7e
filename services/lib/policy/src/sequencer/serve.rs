//! Serving: which delivery starts next. Senders take turns by cost (deficit round robin), groups by
//! call; every start is asked of the owner first.

use super::slab::NONE;
use super::{Packing, Permit, QUANTUM, Sequencer, Started, State};

/// Who is asked before a delivery starts.
pub trait Starter<P> {
    /// Whether the first of a batch may start, after so many attempts.
    fn ask(&mut self, payload: &mut P, attempts: u32) -> Permit;

    /// Whether a delivery that was never attempted may start in the attempt of the one ahead of it.
    /// One that may not is asked for when it has become the first.
    fn follows(&mut self, _payload: &mut P) -> bool {
        true
    }
}

/// Asks a function for each, and lets all follow.
struct Each<F>(F);

impl<P, F: FnMut(&mut P, u32) -> Permit> Starter<P> for Each<F> {
    fn ask(&mut self, payload: &mut P, attempts: u32) -> Permit {
        (self.0)(payload, attempts)
    }
}

impl<P> Sequencer<P> {
    /// The next batch to attempt, at most `packing.max` offsets of one group, each allowed by `ask`
    /// (payload, attempts so far). The owner answers each with [`Sequencer::settle`],
    /// [`Sequencer::retry`] or [`Sequencer::requeue`].
    pub fn start(
        &mut self,
        packing: Packing,
        now: i64,
        ask: impl FnMut(&mut P, u32) -> Permit,
    ) -> Started {
        self.start_by(packing, now, &mut Each(ask))
    }

    /// As [`Sequencer::start`], asking a [`Starter`].
    pub fn start_by(
        &mut self,
        packing: Packing,
        now: i64,
        starter: &mut impl Starter<P>,
    ) -> Started {
        let mut started = Started::default();
        for _ in 0..self.groups.len() {
            let at = self.turn % self.groups.len();
            let stopped = self.start_group(at, packing, now, starter, &mut started);
            if !started.batch.is_empty() || stopped {
                return started;
            }
            self.turn = self.turn.wrapping_add(1);
        }
        started
    }

    /// Serves the senders of a group in turn; true when nothing may start anywhere.
    fn start_group(
        &mut self,
        at: usize,
        packing: Packing,
        now: i64,
        starter: &mut impl Starter<P>,
        started: &mut Started,
    ) -> bool {
        let max = packing.max.max(1);
        while started.batch.len() < max {
            let Some((_, group)) = self.groups.get_mut(at) else {
                return false;
            };
            if group.waits_until > now {
                return false;
            }
            let Some(&slot) = group.ring.front() else {
                return false;
            };
            let Some((sender, hash)) = self
                .senders
                .get_mut(slot)
                .and_then(|sender| sender.ready.front().copied().map(|hash| (sender, hash)))
            else {
                group.ring.pop_front();
                continue;
            };
            if sender.deficit == 0 {
                sender.deficit = QUANTUM;
            }
            let head = self.keys.get(&hash).map_or(NONE, |key| key.head);
            let Some((offset, cost, attempts)) = self
                .entries
                .get(head)
                .filter(|entry| entry.state == State::Queued)
                .map(|entry| (entry.offset, entry.cost, entry.attempts))
            else {
                self.unlist(at, slot, hash);
                continue;
            };
            let permit = match self.entries.get_mut(head) {
                Some(entry) => starter.ask(&mut entry.payload, attempts),
                None => Permit::Stop,
            };
            match permit {
                Permit::Stop => return true,
                Permit::GroupWaits(until) => {
                    self.groups[at].1.waits_until = until;
                    return false;
                }
                Permit::KeyWaits(until) => {
                    self.unlist(at, slot, hash);
                    self.wait(offset, until);
                }
                Permit::End => {
                    self.unlist(at, slot, hash);
                    self.end(offset);
                    started.ended.push(offset);
                }
                Permit::Go => {
                    self.unlist(at, slot, hash);
                    self.charge(at, slot, cost);
                    let most = if packing.one_key && attempts == 0 {
                        max
                    } else {
                        1
                    };
                    self.take(head, most, starter, &mut started.batch);
                    if packing.one_key {
                        return false;
                    }
                }
            }
        }
        false
    }

    /// Marks the head as called, and behind it up to `most` in all that may follow. Only what was
    /// never attempted is packed: one that failed in a pack is retried by itself.
    fn take(
        &mut self,
        head: u32,
        most: usize,
        starter: &mut impl Starter<P>,
        batch: &mut Vec<i64>,
    ) {
        let mut slot = head;
        for n in 0..most {
            let Some(entry) = self.entries.get_mut(slot) else {
                break;
            };
            let fresh = entry.state == State::Queued && entry.attempts == 0;
            if n > 0 && !(fresh && starter.follows(&mut entry.payload)) {
                break;
            }
            entry.state = State::Calling;
            entry.attempts += 1;
            self.counts.calling += 1;
            batch.push(entry.offset);
            slot = entry.next;
        }
    }

    /// Charges a sender's turn, and ends it when it is used up.
    fn charge(&mut self, at: usize, slot: u32, cost: u32) {
        let Some(sender) = self.senders.get_mut(slot) else {
            return;
        };
        sender.deficit = sender.deficit.saturating_sub(cost);
        if sender.deficit == 0 && sender.active {
            let ring = &mut self.groups[at].1.ring;
            ring.rotate_left(1);
        }
    }

    /// Takes the first key out of the ready queue of the sender whose turn it is; a sender without
    /// another leaves the ring.
    fn unlist(&mut self, at: usize, slot: u32, hash: u64) {
        if let Some(sender) = self.senders.get_mut(slot) {
            sender.ready.pop_front();
            if sender.ready.is_empty() {
                sender.active = false;
                self.groups[at].1.ring.pop_front();
            }
        }
        let Some(key) = self.keys.get_mut(&hash) else {
            return;
        };
        key.listed = false;
        if key.length == 0 {
            self.keys.remove(&hash);
            self.release(slot);
        }
    }

    /// Whether [`Sequencer::start`] might give something at `now`.
    #[must_use]
    pub fn has_ready(&self, now: i64) -> bool {
        self.groups
            .iter()
            .any(|(_, group)| group.waits_until <= now && !group.ring.is_empty())
    }

    /// Whether a group with something to send was told to wait.
    #[must_use]
    pub fn has_waiting_group(&self, now: i64) -> bool {
        self.groups
            .iter()
            .any(|(_, group)| group.waits_until > now && !group.ring.is_empty())
    }

    /// Lets every group be asked about again: something it waited for may be free.
    pub fn wake_groups(&mut self) {
        for (_, group) in &mut self.groups {
            group.waits_until = 0;
        }
    }
}
