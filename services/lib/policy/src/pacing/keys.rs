//! Limits and pauses of single keys (addresses, senders, campaigns), in bounded memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::window::{Want, Window};

/// The most keys of one level remembered at once, some 150 bytes each while they are in use.
pub const CAPACITY: usize = 32_768;
/// A search for idle keys that found none is not repeated before this many milliseconds.
const SWEEP_MS: i64 = 100;

/// The keys are hashes already: one multiplication spreads them.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        let mixed = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[derive(Debug)]
struct Key {
    window: Window,
    /// The provider's word; nothing of the key goes before.
    not_before: i64,
}

impl Key {
    fn is_idle(&self, now: i64) -> bool {
        self.not_before <= now && self.window.is_idle(now)
    }
}

/// One level of keys, all under the same limit; 0 is none, and then only pauses are remembered.
#[derive(Debug)]
pub struct Keys {
    limit: u32,
    capacity: usize,
    keys: HashMap<u64, Key, BuildHasherDefault<Spread>>,
    swept: i64,
}

impl Keys {
    /// Nothing remembered; every key may spend `limit` units a second, 0 for any number.
    #[must_use]
    pub fn new(limit: u32, capacity: usize) -> Self {
        Self {
            limit,
            capacity,
            keys: HashMap::default(),
            swept: i64::MIN,
        }
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a grant of this level is charged at all.
    #[must_use]
    pub const fn charges(&self) -> bool {
        self.limit > 0
    }

    /// Asks without taking: `None` when the key may go, else when to ask again. When all memory is
    /// in use by keys that count, an unknown key waits: a limit is never exceeded for want of memory.
    pub fn wait(&mut self, now: i64, key: u64, units: u32) -> Option<i64> {
        if self.limit == 0 && self.keys.is_empty() {
            return None;
        }
        if let Some(known) = self.keys.get_mut(&key) {
            if known.not_before > now {
                return Some(known.not_before);
            }
            return (self.limit > 0)
                .then(|| known.window.wait(now, want(units)))
                .flatten();
        }
        (self.limit > 0 && !self.has_room(now)).then_some(now + SWEEP_MS)
    }

    /// Takes what [`Keys::wait`] has just allowed.
    pub fn take(&mut self, now: i64, key: u64, units: u32) {
        if self.limit == 0 {
            return;
        }
        let limit = self.limit;
        let known = self.keys.entry(key).or_insert_with(|| Key {
            window: Window::new(limit),
            not_before: i64::MIN,
        });
        known.window.take(now, want(units));
    }

    /// The answer to what was taken came.
    pub fn answered(&mut self, now: i64, key: u64, units: u32) {
        if let Some(known) = self.charged(key) {
            let units = known.window.charge(units);
            known.window.answered(now, units, false);
        }
    }

    /// What was taken was never sent.
    pub fn cancelled(&mut self, key: u64, units: u32) {
        if let Some(known) = self.charged(key) {
            let units = known.window.charge(units);
            known.window.cancelled(units, false);
        }
    }

    /// Nothing of the key before `until`. Forgotten when there is no memory for it: that costs a
    /// refused attempt, not correctness.
    pub fn pause(&mut self, now: i64, key: u64, until: i64) {
        if until <= now || (!self.keys.contains_key(&key) && !self.has_room(now)) {
            return;
        }
        let limit = self.limit;
        let known = self.keys.entry(key).or_insert_with(|| Key {
            window: Window::new(limit),
            not_before: until,
        });
        known.not_before = known.not_before.max(until);
    }

    fn charged(&mut self, key: u64) -> Option<&mut Key> {
        if self.limit == 0 {
            return None;
        }
        self.keys.get_mut(&key)
    }

    fn has_room(&mut self, now: i64) -> bool {
        if self.keys.len() < self.capacity {
            return true;
        }
        if now >= self.swept.saturating_add(SWEEP_MS) {
            self.swept = now;
            self.keys.retain(|_, known| !known.is_idle(now));
        }
        self.keys.len() < self.capacity
    }
}

const fn want(units: u32) -> Want {
    Want {
        units,
        bulk: false,
        reserved: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_limit_of_its_own() {
        let mut keys = Keys::new(1, 10);
        assert_eq!(keys.wait(0, 1, 1), None);
        keys.take(0, 1, 1);
        assert!(keys.wait(0, 1, 1).is_some());
        assert_eq!(keys.wait(0, 2, 1), None);
        keys.answered(50, 1, 1);
        assert_eq!(keys.wait(50, 1, 1), Some(1_051));
        assert_eq!(keys.wait(1_051, 1, 1), None);
    }

    #[test]
    fn idle_keys_make_room_and_busy_ones_do_not() {
        let mut keys = Keys::new(1, 4);
        for key in 0..4 {
            assert_eq!(keys.wait(0, key, 1), None);
            keys.take(0, key, 1);
        }
        assert!(keys.wait(0, 9, 1).is_some(), "all are in use");
        for key in 0..3 {
            keys.answered(10, key, 1);
        }
        assert_eq!(keys.wait(2_000, 9, 1), None);
        keys.take(2_000, 9, 1);
        assert_eq!(keys.len(), 2, "the unanswered one and the new one");
    }

    #[test]
    fn without_a_limit_only_pauses_are_remembered() {
        let mut keys = Keys::new(0, 2);
        keys.take(0, 1, 1);
        assert!(keys.is_empty());
        keys.pause(0, 1, 500);
        assert_eq!(keys.wait(0, 1, 1), Some(500));
        assert_eq!(keys.wait(0, 2, 1), None);
        assert_eq!(keys.wait(500, 1, 1), None);
        keys.pause(0, 2, 500);
        keys.pause(0, 3, 500);
        assert_eq!(keys.wait(0, 3, 1), None, "no room: forgotten");
        keys.pause(600, 3, 900);
        assert_eq!(keys.wait(600, 3, 1), Some(900), "the ended ones made room");
    }
}
