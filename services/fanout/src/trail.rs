//! How stretches of seen events follow one another: pure.
//!
//! [`Chain`] is the reader's side: what the stretches of a partition tell together. [`Trail`] is
//! the writer's side: what is seen and not written yet. Invariant: the chain that a reader joins
//! plus the events behind it hold every event that counts as seen.

use std::collections::VecDeque;

use crate::digest::{Damaged, Seen, Stretch};

/// A stretch is written when this many events are seen: what a successor decodes at most.
const STRETCH: usize = 1_000;
/// Most events of one stretch.
const LARGEST: usize = 4_000;
/// Most stretches of a partition in one transaction; a long trail is written bit by bit.
const AT_ONCE: usize = 2;

/// What stretches tell without a gap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// First offset that is covered.
    pub from: i64,
    /// First offset that is not covered any more.
    pub to: i64,
    /// The events that count as seen, in the order in which they were written down.
    pub seen: Vec<Seen>,
    last_from: i64,
}

impl Chain {
    /// Adds what the next record of the partition says; what does not join ends what was before.
    pub fn join(chain: &mut Option<Self>, next: Result<Stretch, Damaged>) {
        let Ok(stretch) = next else {
            *chain = None;
            return;
        };
        match chain {
            // The stretches of two owners may overlap: the later one starts where the marker of
            // the earlier one's last transaction was not there yet.
            Some(chain)
                if !stretch.begins
                    && stretch.from <= chain.to
                    && stretch.from >= chain.last_from =>
            {
                chain.to = chain.to.max(stretch.to);
                chain.last_from = stretch.from;
                chain.seen.extend(stretch.seen);
            }
            _ => {
                *chain = Some(Self {
                    from: stretch.from,
                    to: stretch.to,
                    last_from: stretch.from,
                    seen: stretch.seen,
                });
            }
        }
    }

    /// What of the chain counts for an owner that starts at the committed offset; the flag says
    /// whether the chain goes on there. None when nothing counts.
    #[must_use]
    pub fn until(mut self, committed: i64) -> Option<(Self, bool)> {
        let goes_on = self.to <= committed;
        if !goes_on {
            // The group was set back: what lies ahead is still to come.
            self.seen.retain(|s| s.offset < committed);
            self.to = committed;
        }
        (self.from < self.to).then_some((self, goes_on))
    }
}

/// What is seen and not written yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// First offset that no written stretch covers; none until something is committed.
    from: Option<i64>,
    begins: bool,
    pending: VecDeque<Seen>,
}

impl Trail {
    /// A trail that takes up what is written up to `from`.
    #[must_use]
    pub fn after(from: i64, pending: Vec<Seen>) -> Self {
        Self {
            from: Some(from),
            begins: false,
            pending: pending.into(),
        }
    }

    /// A trail that makes everything written before count no more; without `from` it starts with
    /// the first event.
    #[must_use]
    pub fn anew(from: Option<i64>, pending: Vec<Seen>) -> Self {
        Self {
            from,
            begins: true,
            pending: pending.into(),
        }
    }

    /// An event from `offset` on is to be committed; it counts as seen when it is told.
    pub fn pass(&mut self, offset: i64, seen: Option<Seen>) {
        self.from.get_or_insert(offset);
        self.pending.extend(seen);
    }

    /// The stretches to be written with a commit of `next_offset`: none while few events are seen.
    pub fn stretches(&mut self, next_offset: i64) -> Vec<Stretch> {
        let mut out = Vec::new();
        while self.pending.len() >= STRETCH && out.len() < AT_ONCE {
            let Some(from) = self.from else {
                return out;
            };
            let count = self.pending.len().min(LARGEST);
            let seen: Vec<_> = self.pending.drain(..count).collect();
            let to = match self.pending.front() {
                None => next_offset,
                Some(next) => next.offset,
            };
            self.from = Some(to);
            let begins = std::mem::take(&mut self.begins);
            out.push(Stretch {
                from,
                to,
                begins,
                seen,
            });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(offset: i64) -> Seen {
        Seen {
            offset,
            at: offset * 10,
            key: u128::from(offset.unsigned_abs()),
            content: 1,
        }
    }

    fn stretch(from: i64, to: i64, begins: bool) -> Stretch {
        Stretch {
            from,
            to,
            begins,
            seen: (from..to).map(seen).collect(),
        }
    }

    fn joined(
        all: impl IntoIterator<Item = Result<Stretch, Damaged>>,
    ) -> Option<(i64, i64, usize)> {
        let mut chain = None;
        for next in all {
            Chain::join(&mut chain, next);
        }
        chain.map(|c| (c.from, c.to, c.seen.len()))
    }

    #[test]
    fn stretches_join_overlap_and_part() {
        let (a, b) = (stretch(0, 10, true), stretch(10, 20, false));
        assert_eq!(joined([Ok(a.clone()), Ok(b.clone())]), Some((0, 20, 20)));
        // Overlapping owners.
        let late = stretch(10, 25, false);
        assert_eq!(
            joined([Ok(a.clone()), Ok(b.clone()), Ok(late)]),
            Some((0, 25, 35))
        );
        // A gap, a damaged record, a new beginning, a step back.
        assert_eq!(
            joined([Ok(a.clone()), Ok(stretch(11, 20, false))]),
            Some((11, 20, 9))
        );
        assert_eq!(
            joined([Ok(a.clone()), Err(Damaged), Ok(b.clone())]),
            Some((10, 20, 10))
        );
        assert_eq!(joined([Ok(a.clone()), Ok(b.clone()), Err(Damaged)]), None);
        assert_eq!(
            joined([Ok(a.clone()), Ok(stretch(5, 8, true))]),
            Some((5, 8, 3))
        );
        assert_eq!(
            joined([Ok(a), Ok(b), Ok(stretch(4, 12, false))]),
            Some((4, 12, 8))
        );
    }

    #[test]
    fn what_lies_ahead_of_the_committed_offset_does_not_count() {
        let mut chain = None;
        Chain::join(&mut chain, Ok(stretch(0, 20, true)));
        let chain = chain.unwrap();
        let (whole, goes_on) = chain.clone().until(20).unwrap();
        assert!(goes_on && whole.seen.len() == 20);
        let (part, goes_on) = chain.clone().until(7).unwrap();
        assert!(!goes_on && part.to == 7 && part.seen.len() == 7);
        assert_eq!(chain.until(0), None);
    }

    #[test]
    fn a_trail_is_written_in_stretches_that_join() {
        let mut trail = Trail::anew(None, Vec::new());
        let mut written = Vec::new();
        for offset in 5..20_005 {
            // Every tenth offset is a marker or a refusal: covered, and not seen.
            trail.pass(offset, (offset % 10 != 0).then(|| seen(offset)));
            if offset % 7 == 0 {
                written.extend(trail.stretches(offset + 1));
            }
        }
        assert!(written[0].begins && written[1..].iter().all(|s| !s.begins));
        assert!(
            written
                .iter()
                .all(|s| (STRETCH..STRETCH + 7).contains(&s.seen.len()))
        );
        let (from, to, count) = joined(written.into_iter().map(Ok)).unwrap();
        assert_eq!(from, 5);
        let left = trail.pending.len();
        assert!(left < STRETCH && count + left == 18_000);
        assert!(trail.pending.front().is_none_or(|s| s.offset >= to));
    }

    #[test]
    fn a_long_trail_is_written_bit_by_bit() {
        let mut trail = Trail::after(100, (100..30_100).map(seen).collect());
        let mut written = Vec::new();
        let mut commits = 0;
        while trail.pending.len() >= STRETCH {
            let some = trail.stretches(30_100);
            assert!(some.len() <= AT_ONCE && some.iter().all(|s| s.seen.len() <= LARGEST));
            written.extend(some);
            commits += 1;
        }
        assert_eq!(commits, 4);
        assert_eq!(
            joined(written.into_iter().map(Ok)),
            Some((100, 30_100, 30_000))
        );
    }
}
