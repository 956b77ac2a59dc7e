//! What a sequencer tells of itself: watermark, what has ended above it, who waits and who holds it.

use super::{Pin, Sequencer, State, open};

impl<P> Sequencer<P> {
    /// Every offset below is terminal: the next offset to be read after a restart.
    #[must_use]
    pub const fn watermark(&self) -> i64 {
        self.ring.base()
    }

    /// One past the last admitted offset.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.ring.end()
    }

    /// Offsets at or above the watermark that are terminal, with the tags of their deliveries.
    pub fn settled(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        let restored = self.restored.iter().map(|(offset, tag)| (*offset, *tag));
        self.ring.settled().chain(restored)
    }

    /// How many [`Sequencer::settled`] gives.
    #[must_use]
    pub fn settled_count(&self) -> usize {
        self.ring.settled_count() + self.restored.len()
    }

    /// Deliveries between two attempts, or told to wait before the first: offset, attempts so far, and
    /// the moment of the next (in the past for one that is due and has not started again).
    pub fn waiting(&self) -> impl Iterator<Item = (i64, u32, i64)> + '_ {
        self.entries
            .iter()
            .filter(|entry| match entry.state {
                State::Waiting => true,
                State::Queued => entry.attempts > 0,
                State::Calling | State::Settling | State::Diverting => false,
            })
            .map(|entry| (entry.offset, entry.attempts, entry.wake_at))
    }

    /// What holds the watermark.
    #[must_use]
    pub fn pin(&self) -> Option<Pin> {
        let entry = self.entries.get(self.ring.first_open()?)?;
        Some(Pin {
            offset: entry.offset,
            key: entry.key,
            state: entry.state,
            span: self.ring.span(),
        })
    }

    /// Keys whose head waits for a moment (a retry, a limit, a stop), with the number of deliveries
    /// queued, the longest queue first; at most `most`.
    #[must_use]
    pub fn blocked_keys(&self, most: usize) -> Vec<(u64, usize)> {
        let mut found: Vec<(u64, usize)> = self
            .keys
            .iter()
            .filter(|(_, key)| {
                self.entries
                    .get(key.head)
                    .is_some_and(|head| head.state == State::Waiting)
            })
            .map(|(hash, key)| (*hash, usize::try_from(key.length).unwrap_or(usize::MAX)))
            .collect();
        found.sort_unstable_by_key(|(hash, length)| (std::cmp::Reverse(*length), *hash));
        found.truncate(most);
        found
    }

    /// The sender with the most deliveries in its keys' queues, those in an attempt included, and how
    /// many they are. Looks at all senders.
    #[must_use]
    pub fn busiest_sender(&self) -> Option<(u64, usize)> {
        self.senders
            .iter()
            .map(|sender| (sender.held, sender.hash))
            .max()
            .map(|(held, hash)| (hash, held))
    }

    /// Deliveries in the queues of a sender's keys. Looks at all senders.
    #[must_use]
    pub fn held_by(&self, hash: u64) -> usize {
        let its = self.senders.iter().filter(|sender| sender.hash == hash);
        its.map(|sender| sender.held).sum()
    }

    /// The keys of a sender that have deliveries queued. Looks at all keys.
    #[must_use]
    pub fn keys_of(&self, hash: u64) -> Vec<u64> {
        let its = self.keys.iter().filter(|(_, key)| {
            let sender = self.senders.get(key.sender);
            key.length > 0 && sender.is_some_and(|sender| sender.hash == hash)
        });
        let mut keys: Vec<u64> = its.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    /// Whether a key has deliveries queued or in an attempt.
    #[must_use]
    pub fn has_key(&self, hash: u64) -> bool {
        self.keys.get(&hash).is_some_and(|key| key.length > 0)
    }

    /// Senders that have something to send at `now`.
    #[must_use]
    pub fn ready_senders(&self, now: i64) -> usize {
        let open = self.groups.iter().filter(|(_, g)| g.waits_until <= now);
        open.map(|(_, group)| group.ring.len()).sum()
    }

    /// Ends the deliveries that wait, queued or between attempts, and of which `is_over` says so; the
    /// owner writes their receipts ([`Sequencer::settle`] is done for them). Looks at all that are
    /// open.
    pub fn end_where(&mut self, mut is_over: impl FnMut(&P) -> bool) -> Vec<i64> {
        let over: Vec<i64> = self
            .entries
            .iter()
            .filter(|entry| matches!(entry.state, State::Queued | State::Waiting))
            .filter(|entry| is_over(&entry.payload))
            .map(|entry| entry.offset)
            .collect();
        for offset in &over {
            self.end(*offset);
        }
        over
    }

    /// What the owner kept for an open delivery.
    #[must_use]
    pub fn payload(&self, offset: i64) -> Option<&P> {
        self.entries
            .get(self.ring.open(offset)?)
            .map(|entry| &*entry.payload)
    }

    /// The same, to change it.
    pub fn payload_mut(&mut self, offset: i64) -> Option<&mut P> {
        open(&mut self.entries, &self.ring, offset).map(|entry| &mut *entry.payload)
    }

    /// Attempts of an open delivery so far, the one under way included.
    #[must_use]
    pub fn attempts(&self, offset: i64) -> u32 {
        self.ring
            .open(offset)
            .and_then(|slot| self.entries.get(slot))
            .map_or(0, |entry| entry.attempts)
    }

    /// Where an open delivery stands, its tag, and the moment it waits for.
    #[must_use]
    pub fn state(&self, offset: i64) -> Option<(State, u64, i64)> {
        let entry = self.entries.get(self.ring.open(offset)?)?;
        Some((entry.state, entry.tag, entry.wake_at))
    }

    /// The order key of an open delivery.
    #[must_use]
    pub fn key_of(&self, offset: i64) -> Option<u64> {
        Some(self.entries.get(self.ring.open(offset)?)?.key)
    }

    /// The earliest moment at which [`Sequencer::advance`] or a waiting group has something to do.
    #[must_use]
    pub fn next_timer(&self, now: i64) -> Option<i64> {
        let groups = self
            .groups
            .iter()
            .filter(|(_, group)| group.waits_until > now && !group.ring.is_empty())
            .map(|(_, group)| group.waits_until)
            .min();
        [self.timers.first(), self.expiries.first(), groups]
            .into_iter()
            .flatten()
            .min()
    }

    /// Deliveries admitted and not terminal.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.entries.len()
    }

    /// Deliveries that wait for a moment.
    #[must_use]
    pub const fn waiting_count(&self) -> usize {
        self.counts.waiting
    }

    /// Deliveries in an attempt.
    #[must_use]
    pub const fn calling(&self) -> usize {
        self.counts.calling
    }

    /// Deliveries whose receipt is not acknowledged yet.
    #[must_use]
    pub const fn settling(&self) -> usize {
        self.counts.settling
    }

    /// Memory of the open deliveries, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}
