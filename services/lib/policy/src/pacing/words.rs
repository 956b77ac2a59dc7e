//! What the other workers of a limit said of their learned rates, as long as it is fresh.

use std::collections::BTreeMap;

use super::rate::Word;

/// What was said longer ago counts no more: its speaker is gone, or has all it wants.
pub const HEARD_MS: i64 = 3_000;

/// The last word of each worker.
///
/// A word's age is judged by the log's clock, which need not agree with this process's: by the newest
/// moment that was read of it. Each worker reads its own words too, so that moment moves on. When the
/// log cannot be read at all, this process's clock says so.
#[derive(Debug, Clone, Default)]
pub struct Words {
    words: BTreeMap<Box<str>, (Word, i64)>,
    /// The newest moment of the log, and when it was read.
    newest: Option<(i64, i64)>,
}

impl Words {
    /// The log has come to `at`, read now.
    pub fn read(&mut self, at: i64, now: i64) {
        if self.newest.is_none_or(|(newest, _)| newest < at) {
            self.newest = Some((at, now));
        }
    }

    /// A worker has said so at `at` of the log.
    pub fn heard(&mut self, worker: &str, word: Word, at: i64) {
        self.forget();
        self.words.insert(worker.into(), (word, at));
    }

    /// What counts now.
    pub fn fresh(&mut self, now: i64) -> Vec<Word> {
        self.forget();
        if self.newest.is_none_or(|(_, read)| now - read >= HEARD_MS) {
            self.words.clear();
        }
        self.words.values().map(|(word, _)| *word).collect()
    }

    fn forget(&mut self) {
        if let Some((newest, _)) = self.newest {
            self.words.retain(|_, (_, at)| newest - *at < HEARD_MS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn word(rate: f64) -> Word {
        Word { rate, quiet_ms: 0 }
    }

    #[test]
    fn the_last_word_of_each_counts_for_three_seconds_of_the_log() {
        // This process is an hour ahead of the log.
        let now = 3_600_000;
        let mut words = Words::default();
        for (worker, rate, at) in [("a", 1.0, 1_000), ("b", 2.0, 1_500), ("a", 3.0, 2_000)] {
            words.read(at, now);
            words.heard(worker, word(rate), at);
        }
        assert_eq!(words.fresh(now + 100), [word(3.0), word(2.0)]);
        words.read(4_500, now + 2_500);
        assert_eq!(words.fresh(now + 2_500), [word(3.0)]);
        words.read(5_000, now + 3_000);
        assert_eq!(words.fresh(now + 3_000), []);
    }

    #[test]
    fn a_log_that_cannot_be_read_ends_every_word() {
        let mut words = Words::default();
        assert_eq!(words.fresh(0), []);
        words.read(1_000, 50_000);
        words.heard("a", word(1.0), 1_000);
        assert_eq!(words.fresh(52_999), [word(1.0)]);
        assert_eq!(words.fresh(53_000), []);
    }
}
