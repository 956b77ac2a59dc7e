//! Which events of one partition were seen before: exact, bounded by the window.
//!
//! A repeat is the same (sender, event id) at a **lower offset of the same partition** within the
//! window of broker time, so the set is a function of the topic and can be rebuilt from it.

use std::collections::hash_map::Entry;
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

/// The ids of one partition within the window, about 100 bytes each.
///
/// Every sight of an id with the same content counts from its own time, so what an event is depends
/// on the window before it alone: a set rebuilt from that window judges as the one before did. A
/// conflicting sight changes nothing.
#[derive(Debug)]
pub struct Repeats {
    window_ms: i64,
    /// Content and last sight of each id.
    seen: HashMap<u128, (u64, i64)>,
    /// One entry per id: a time at which it was seen, and the order in which to look whether it was
    /// seen since.
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

    /// Makes room for `more` ids at once.
    pub fn reserve(&mut self, more: usize) {
        self.seen.reserve(more);
        self.by_age.reserve(more);
    }

    /// Looks up and remembers an event. Call it in offset order; `at` is the record's broker time.
    pub fn observe(&mut self, key: u128, content: u64, at: i64) -> Repeat {
        let oldest = at.saturating_sub(self.window_ms);
        self.forget_before(oldest);
        match self.seen.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert((content, at));
                self.by_age.push_back((at, key));
                Repeat::First
            }
            Entry::Occupied(mut occupied) => {
                let (known, last) = occupied.get_mut();
                if *last < oldest {
                    // Forgotten by rights; its place in the queue has only not come yet.
                    (*known, *last) = (content, at);
                    Repeat::First
                } else if *known == content {
                    *last = at.max(*last);
                    Repeat::Same
                } else {
                    Repeat::Conflict
                }
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
            match self.seen.get(&key) {
                Some((_, last)) if *last >= oldest => self.by_age.push_back((*last, key)),
                Some(_) => drop(self.seen.remove(&key)),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_repeat_is_told_from_a_conflict_and_forgotten_after_the_window() {
        let mut repeats = Repeats::new(1_000);
        assert_eq!(repeats.observe(1, 10, 0), Repeat::First);
        assert_eq!(repeats.observe(1, 10, 500), Repeat::Same);
        assert_eq!(repeats.observe(1, 11, 1_500), Repeat::Conflict);
        assert_eq!(repeats.observe(1, 11, 1_501), Repeat::First);
        assert_eq!(repeats.len(), 1);
    }

    #[test]
    fn memory_is_given_back() {
        let mut repeats = Repeats::new(100);
        for n in 0..10_000 {
            // Key 0 loops for ever, the others come once.
            assert_eq!(
                repeats.observe(0, 0, n),
                if n == 0 { Repeat::First } else { Repeat::Same }
            );
            let key = u128::try_from(n + 1).unwrap();
            assert_eq!(repeats.observe(key, 1, n), Repeat::First);
            assert!(repeats.len() <= 202, "{}", repeats.len());
            assert_eq!(repeats.len(), repeats.by_age.len());
        }
    }

    /// The last sight with the accepted content, by a plain scan of the whole history.
    fn naive(history: &[(u128, u64, i64)], window: i64) -> Vec<Repeat> {
        let mut last: HashMap<u128, (u64, i64)> = HashMap::new();
        history
            .iter()
            .map(|(key, content, at)| match last.get(key).copied() {
                Some((known, seen)) if seen >= at - window => {
                    if known == *content {
                        last.insert(*key, (known, *at));
                        Repeat::Same
                    } else {
                        Repeat::Conflict
                    }
                }
                _ => {
                    last.insert(*key, (*content, *at));
                    Repeat::First
                }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn it_judges_as_a_plain_scan_does(
            steps in proptest::collection::vec((0_u128..6, 0_u64..2, 0_i64..30), 1..200),
        ) {
            let mut at = 0;
            let history: Vec<_> = steps
                .into_iter()
                .map(|(key, content, pause)| {
                    at += pause;
                    (key, content, at)
                })
                .collect();
            let mut repeats = Repeats::new(100);
            let told: Vec<_> = history.iter().map(|(k, c, t)| repeats.observe(*k, *c, *t)).collect();
            prop_assert_eq!(told, naive(&history, 100));
        }

        /// Without conflicts, a set that begins anywhere judges as the whole history does from one
        /// window later on.
        #[test]
        fn the_window_before_an_event_is_enough(
            steps in proptest::collection::vec((0_u128..6, 0_i64..30), 1..200),
            skipped in 0_usize..200,
        ) {
            let mut at = 0;
            let history: Vec<_> = steps
                .into_iter()
                .map(|(key, pause)| {
                    at += pause;
                    (key, at)
                })
                .collect();
            let skipped = skipped.min(history.len() - 1);
            let since = history[skipped].1;
            let mut whole = Repeats::new(100);
            let mut late = Repeats::new(100);
            for (n, (key, at)) in history.iter().enumerate() {
                let told = whole.observe(*key, 1, *at);
                if *at >= since && n >= skipped {
                    let late = late.observe(*key, 1, *at);
                    if *at > since + 100 {
                        prop_assert_eq!(told, late);
                    }
                }
            }
        }
    }
}
