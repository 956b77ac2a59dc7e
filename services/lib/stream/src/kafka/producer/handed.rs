//! Which partitions librdkafka still owes answers for.
//!
//! An idempotent producer sends a partition nothing more while five of its records are unanswered.
//! While more is due, librdkafka does not sleep: its thread asks over and over whether it may send, and
//! burns a processor until Kafka answers. Several processes on few processors then starve the very
//! broker they wait for (`docs/benchmarks/walk.md`). So a partition is handed nothing more while it has
//! not answered all of the hand-over before: nothing would be sent in any case.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub(super) type Place = (Arc<str>, i32);

/// Unanswered records of each partition.
#[derive(Default)]
pub(super) struct Handed {
    unanswered: HashMap<Place, usize>,
    /// Partitions of the hand-over that is being made.
    now: HashSet<Place>,
}

impl Handed {
    /// Another hand-over begins.
    pub(super) fn begin(&mut self) {
        self.now.clear();
    }

    /// Whether a partition takes records of this hand-over.
    pub(super) fn takes(&self, place: &Place) -> bool {
        self.now.contains(place) || !self.unanswered.contains_key(place)
    }

    /// A record was handed over.
    pub(super) fn add(&mut self, place: Place) {
        *self.unanswered.entry(place.clone()).or_default() += 1;
        self.now.insert(place);
    }

    /// A record was answered.
    pub(super) fn answered(&mut self, place: &Place) {
        if let Some(left) = self.unanswered.get_mut(place) {
            *left -= 1;
            if *left == 0 {
                self.unanswered.remove(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_takes_one_hand_over_and_the_next_when_all_of_it_is_answered() {
        let mut handed = Handed::default();
        let place = |n: i32| -> Place { ("t".into(), n) };
        handed.begin();
        for _ in 0..3 {
            assert!(handed.takes(&place(0)), "all records of one hand-over");
            handed.add(place(0));
        }
        handed.begin();
        for _ in 0..3 {
            assert!(!handed.takes(&place(0)), "not before its last record");
            assert!(handed.takes(&place(1)), "the others do not wait for it");
            handed.answered(&place(0));
        }
        assert!(handed.takes(&place(0)));
        assert!(handed.unanswered.is_empty(), "nothing is kept of it");
    }
}
