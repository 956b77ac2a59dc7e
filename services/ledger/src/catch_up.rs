//! Where the store and the group disagree about a partition.
//!
//! The store's offset counts. When it lies behind the group's (a database restored from a backup,
//! or a new one: this is how a ledger is rebuilt), the records between are read again before
//! anything newer is written. When it lies beyond the end of the log, the topic was made anew and
//! the offset means nothing any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bongsu_stream::error::ConsumeError;
use bongsu_stream::port::{Cluster, From, Isolation, Record, TailRange, TopicPartition};

/// The stretch looked at first; doubles while it turns out empty (retention, compaction).
const FIRST_STRETCH: i64 = 4_096;

/// What is to be done about a partition that was just assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Difference {
    /// They agree, or the store is ahead, which `apply` sorts out by itself.
    None,
    /// Read from here to there again.
    Behind {
        /// The store's offset.
        from: i64,
        /// The group's offset.
        until: i64,
    },
    /// The store speaks of a log that is gone.
    LogIsNew,
}

/// Compares the store's offset, the group's, and the end of the log.
pub(crate) fn decide_difference(
    stored: Option<i64>,
    committed: Option<i64>,
    end: Option<i64>,
) -> Difference {
    match (stored, committed, end) {
        (Some(stored), _, Some(end)) if stored > end => Difference::LogIsNew,
        (stored, Some(committed), _) if stored.unwrap_or(0) < committed => Difference::Behind {
            from: stored.unwrap_or(0),
            until: committed,
        },
        (_, _, _) => Difference::None,
    }
}

/// Partitions that are being read again.
#[derive(Debug, Default)]
pub(crate) struct CatchUp {
    stretches: BTreeMap<TopicPartition, Stretch>,
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: i64,
    until: i64,
    length: i64,
}

impl CatchUp {
    pub(crate) fn start(&mut self, partition: TopicPartition, from: i64, until: i64) {
        let length = FIRST_STRETCH;
        self.stretches.insert(
            partition,
            Stretch {
                from,
                until,
                length,
            },
        );
    }

    pub(crate) fn drop_partition(&mut self, partition: &TopicPartition) {
        self.stretches.remove(partition);
    }

    pub(crate) fn is_behind(&self, partition: &TopicPartition) -> bool {
        self.stretches.contains_key(partition)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Reads the next records of one partition, at most `limit`.
    pub(crate) async fn read(
        &self,
        cluster: &dyn Cluster,
        limit: usize,
    ) -> Result<Vec<Record>, ConsumeError> {
        let Some((partition, stretch)) = self.stretches.first_key_value() else {
            return Ok(Vec::new());
        };
        let found: Arc<Mutex<Vec<Record>>> = Arc::default();
        let into = found.clone();
        let range = TailRange {
            partition: partition.clone(),
            from: From::Offset(stretch.from),
            until: Some(stretch.end()),
        };
        // What is beyond the limit is read again with the next call: memory stays bounded.
        let each = Box::new(move |record: Record| {
            let mut found = into.lock().unwrap_or_else(PoisonError::into_inner);
            if found.len() < limit {
                found.push(record);
            }
        });
        cluster
            .read_tails(vec![range], Isolation::Committed, each)
            .await?;
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *found))
    }

    /// What [`CatchUp::read`] gave last is written. `whole` when it was less than the limit, so
    /// that the stretch is done.
    pub(crate) fn written(&mut self, records: &[Record], whole: bool) {
        let Some(mut entry) = self.stretches.first_entry() else {
            return;
        };
        let stretch = entry.get_mut();
        let end = stretch.end();
        stretch.length = if records.is_empty() {
            stretch.length.saturating_mul(2)
        } else {
            FIRST_STRETCH
        };
        stretch.from = match records.last() {
            Some(last) if !whole => last.offset + 1,
            Some(_) | None => end,
        };
        if stretch.from >= stretch.until {
            entry.remove();
        }
    }
}

impl Stretch {
    fn end(self) -> i64 {
        self.from.saturating_add(self.length).min(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_offset_counts() {
        let behind = |from, until| Difference::Behind { from, until };
        for (stored, committed, end, expected) in [
            (None, None, Some(9), Difference::None),
            (None, Some(5), Some(9), behind(0, 5)),
            (Some(3), Some(5), Some(9), behind(3, 5)),
            (Some(7), Some(5), Some(9), Difference::None),
            (Some(9), Some(5), Some(9), Difference::None),
            (Some(10), Some(5), Some(9), Difference::LogIsNew),
            (Some(10), None, Some(0), Difference::LogIsNew),
            (Some(10), None, None, Difference::None),
        ] {
            assert_eq!(
                decide_difference(stored, committed, end),
                expected,
                "{stored:?} {committed:?} {end:?}"
            );
        }
    }
}
