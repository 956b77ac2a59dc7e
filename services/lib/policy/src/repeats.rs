//! Which events of one partition were seen before: exact, bounded by the window.
//!
//! A repeat is the same (sender, event id) at a **lower offset of the same partition** within the
//! window of broker time, so the set is a function of the topic and can be rebuilt from it.

use std::collections::{HashMap, VecDeque};

/// What an event is to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Repeat {
    /// Not seen within the window.
    First,
    /// Seen with the same content: nothing is to be done.
    Same,
    /// Seen with other content: somebody reuses ids.
    Conflict,
}

/// The ids of one partition within the window; about 56 bytes each.
#[derive(Debug)]
pub struct Repeats {
    window_ms: i64,
    seen: HashMap<u128, (u64, i64)>,
    by_age: VecDeque<(i64, u128)>,
}

impl Repeats {
    /// Nothing seen; `window_ms` is the width of the window in milliseconds of broker time.
    #[must_use]
    pub fn new(window_ms: i64) -> Self {
        Self {
            window_ms,
            seen: HashMap::new(),
            by_age: VecDeque::new(),
        }
    }

    /// Looks up and remembers an event. Call it in offset order; `at` is the record's broker time.
    pub fn observe(&mut self, key: u128, content: u64, at: i64) -> Repeat {
        self.forget_before(at.saturating_sub(self.window_ms));
        match self.seen.get(&key) {
            Some((known, _)) if *known == content => Repeat::Same,
            Some(_) => Repeat::Conflict,
            None => {
                self.seen.insert(key, (content, at));
                self.by_age.push_back((at, key));
                Repeat::First
            }
        }
    }

    /// How many ids are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    fn forget_before(&mut self, oldest: i64) {
        while let Some((at, key)) = self.by_age.front().copied() {
            if at >= oldest {
                return;
            }
            self.by_age.pop_front();
            self.seen.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_told_from_a_conflict_and_forgotten_after_the_window() {
        let mut repeats = Repeats::new(1_000);
        assert_eq!(repeats.observe(1, 10, 0), Repeat::First);
        assert_eq!(repeats.observe(1, 10, 500), Repeat::Same);
        assert_eq!(repeats.observe(1, 11, 1_000), Repeat::Conflict);
        assert_eq!(repeats.observe(1, 11, 1_001), Repeat::First);
        assert_eq!(repeats.len(), 1);
    }
}
