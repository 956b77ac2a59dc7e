//! What the other workers of a limit said of their learned rates, as long as it is fresh.

use std::collections::BTreeMap;

use super::rate::Word;

/// What was said longer ago counts no more: its speaker is gone, or has all it wants.
pub const HEARD_MS: i64 = 3_000;

/// The last word of each worker.
#[derive(Debug, Clone, Default)]
pub struct Words(BTreeMap<Box<str>, (Word, i64)>);

impl Words {
    /// A worker has said so at `at`.
    pub fn heard(&mut self, worker: &str, word: Word, at: i64) {
        self.0.insert(worker.into(), (word, at));
    }

    /// What counts now; the rest is forgotten.
    pub fn fresh(&mut self, now: i64) -> Vec<Word> {
        self.0.retain(|_, (_, at)| now - *at < HEARD_MS);
        self.0.values().map(|(word, _)| *word).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_counts_for_three_seconds() {
        let word = |rate| Word { rate, quiet_ms: 0 };
        let mut words = Words::default();
        words.heard("a", word(1.0), 1_000);
        words.heard("b", word(2.0), 1_500);
        words.heard("a", word(3.0), 2_000);
        assert_eq!(words.fresh(4_499), [word(3.0), word(2.0)]);
        assert_eq!(words.fresh(4_500), [word(3.0)]);
        assert_eq!(words.fresh(5_000), []);
    }
}
