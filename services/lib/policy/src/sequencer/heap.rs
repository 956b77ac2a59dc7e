//! Moments of offsets, the earliest first. Entries that mean nothing any more stay until they are
//! due or until they outnumber the live ones.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A heap of (moment, offset).
#[derive(Debug, Default)]
pub(super) struct Moments(BinaryHeap<Reverse<(i64, i64)>>);

impl Moments {
    pub(super) fn push(&mut self, at: i64, offset: i64) {
        self.0.push(Reverse((at, offset)));
    }

    /// The next offset whose moment has come.
    pub(super) fn pop_due(&mut self, now: i64) -> Option<i64> {
        let Reverse((at, _)) = self.0.peek()?;
        if *at > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, offset))| offset)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn first(&self) -> Option<i64> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Throws away what is not wanted once it is most of the heap: deliveries end long before they
    /// would expire, and their entries must not pile up.
    pub(super) fn compact(&mut self, live: usize, wanted: impl Fn(i64) -> bool) {
        if self.0.len() > 4 * live + 1_024 {
            self.0.retain(|Reverse((_, offset))| wanted(*offset));
            if self.0.len() < self.0.capacity() / 4 {
                self.0.shrink_to(2 * self.0.len());
            }
        }
    }
}
