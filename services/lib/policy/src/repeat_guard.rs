//! The repeat guard: the same content to one address from one sender, too often within a window, is
//! held back.
//!
//! It is for publishers that loop: each turn makes a new event, so that no id gives it away, and a
//! person gets the same text a hundred times. The guard counts **first attempts** per (sender,
//! address) and content, exactly, within a sliding window. Both lie in one partition, so its owner
//! decides alone. Classes are counted apart, as they have topics of their own.
//!
//! Memory: about [`COPY_BYTES`] per attempt that started within the window, and never more than
//! `max_copies` of them. Beyond that the oldest are forgotten before their time, which is counted:
//! the guard then sees a shorter window, and lets through what a full one would have held back.

use std::collections::{HashMap, VecDeque};

use bongsu_domain::identity::hash64;
use bongsu_domain::{AddressId, ContentHash, Delivery};

/// Bytes that one remembered attempt takes, about: 24 in the queue and 25 in the map, and both keep
/// room to grow.
pub const COPY_BYTES: usize = 96;

/// Who says something to which address, hashed: what the guard counts by. Unlike the order key it is
/// the same for unordered deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepeatKey(pub u64);

impl RepeatKey {
    /// The key of a sender and an address.
    #[must_use]
    pub fn of(sender: &str, address: &AddressId) -> Self {
        Self(hash64(&[sender.as_bytes(), address.0.as_bytes()]))
    }

    /// The key of a delivery.
    #[must_use]
    pub fn of_delivery(delivery: &Delivery) -> Self {
        Self::of(&delivery.sender, &delivery.address.id)
    }
}

/// How often is too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepeatLimit {
    /// Copies of one content that may start within the window; at least 1.
    pub copies: u32,
    /// Width of the window in milliseconds.
    pub window_ms: i64,
    /// Attempts that are remembered; bounds the memory.
    pub max_copies: usize,
}

/// An attempt that started earlier, as the receipts tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Sender and address.
    pub key: RepeatKey,
    /// What was said.
    pub content: ContentHash,
    /// When, in milliseconds since the epoch. A receipt knows the end and not the start: the copy
    /// then counts a little longer than it must.
    pub at: i64,
}

/// What the guard says of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It may start, and counts as started.
    Allow,
    /// The same was said too often; the delivery is `suppressed` for `repeat`.
    Repeat {
        /// Copies that started within the window.
        copies: u32,
        /// Whether this is the first one held back since the content was last let through: the
        /// moment to raise the alarm, once.
        first: bool,
    },
}

#[derive(Debug, Default)]
struct Seen {
    copies: u32,
    held: bool,
}

/// The guard of one partition.
#[derive(Debug)]
pub struct RepeatGuard {
    limit: RepeatLimit,
    seen: HashMap<(RepeatKey, ContentHash), Seen>,
    by_age: VecDeque<Copied>,
    forgotten_early: u64,
}

impl RepeatGuard {
    /// A guard that has seen nothing.
    #[must_use]
    pub fn new(limit: RepeatLimit) -> Self {
        Self {
            limit,
            seen: HashMap::new(),
            by_age: VecDeque::new(),
            forgotten_early: 0,
        }
    }

    /// A guard that knows what started before it, in any order. What is older than the window at
    /// `now` is left out; what claims to be later than `now` (another worker's clock) counts as now.
    #[must_use]
    pub fn restore(limit: RepeatLimit, copies: impl IntoIterator<Item = Copied>, now: i64) -> Self {
        let oldest = now.saturating_sub(limit.window_ms);
        let mut known: Vec<Copied> = copies
            .into_iter()
            .filter(|copy| copy.at > oldest && is_known(copy.content))
            .map(|copy| Copied {
                at: copy.at.min(now),
                ..copy
            })
            .collect();
        known.sort_by_key(|copy| copy.at);
        let mut guard = Self::new(limit);
        for copy in known {
            guard.remember(copy);
        }
        guard
    }

    /// Decides on a delivery whose first attempt is about to start at `now`; `Allow` counts it as
    /// started. Call it once per delivery, not again for its retries. Content without a hash is
    /// always allowed and never counted: nobody can say what it equals.
    pub fn decide(&mut self, key: RepeatKey, content: ContentHash, now: i64) -> Verdict {
        if !is_known(content) {
            return Verdict::Allow;
        }
        // A clock that goes back must not make a copy look older than those before it.
        let at = self.by_age.back().map_or(now, |last| last.at.max(now));
        self.forget_until(at.saturating_sub(self.limit.window_ms));
        if let Some(seen) = self.seen.get_mut(&(key, content))
            && seen.copies >= self.limit.copies
        {
            let first = !std::mem::replace(&mut seen.held, true);
            return Verdict::Repeat {
                copies: seen.copies,
                first,
            };
        }
        self.remember(Copied { key, content, at });
        Verdict::Allow
    }

    /// Attempts that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    /// How many were forgotten before their time because of `max_copies`, since the start.
    #[must_use]
    pub const fn forgotten_early(&self) -> u64 {
        self.forgotten_early
    }

    fn remember(&mut self, copy: Copied) {
        while self.by_age.len() >= self.limit.max_copies.max(1) {
            self.forget_oldest();
            self.forgotten_early += 1;
        }
        let seen = self.seen.entry((copy.key, copy.content)).or_default();
        seen.copies += 1;
        seen.held = false;
        self.by_age.push_back(copy);
    }

    /// Forgets what started at `oldest` or before.
    fn forget_until(&mut self, oldest: i64) {
        while self.by_age.front().is_some_and(|copy| copy.at <= oldest) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(copy) = self.by_age.pop_front() else {
            return;
        };
        let key = (copy.key, copy.content);
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.copies = seen.copies.saturating_sub(1);
            if seen.copies == 0 {
                self.seen.remove(&key);
            }
        }
    }
}

/// Zero stands for a hash that was not written.
const fn is_known(content: ContentHash) -> bool {
    content.0 != 0
}

#[cfg(test)]
mod tests;
