//! What is known of every offset from the watermark on: a ring indexed by offset.

use std::collections::VecDeque;

/// One offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// No record lies there.
    Gap,
    /// A delivery in this slot.
    Open(u32),
    /// A delivery that ended, by its tag.
    Settled(u64),
}

/// Marks of `base..end`.
#[derive(Debug)]
pub(super) struct Ring {
    base: i64,
    marks: VecDeque<Mark>,
    settled: usize,
}

impl Ring {
    pub(super) const fn new(base: i64) -> Self {
        Self {
            base,
            marks: VecDeque::new(),
            settled: 0,
        }
    }

    /// The watermark: everything below is terminal.
    pub(super) const fn base(&self) -> i64 {
        self.base
    }

    /// One past the last offset.
    pub(super) fn end(&self) -> i64 {
        self.base + i64::try_from(self.marks.len()).unwrap_or(i64::MAX)
    }

    pub(super) fn span(&self) -> usize {
        self.marks.len()
    }

    /// Adds `offset`, which is at or beyond the end.
    pub(super) fn push(&mut self, offset: i64, mark: Mark) {
        if self.marks.is_empty() {
            // A jump (retention, a cut log) must not fill memory with gaps.
            self.base = offset;
        }
        while self.end() < offset {
            self.marks.push_back(Mark::Gap);
        }
        if let Mark::Settled(_) = mark {
            self.settled += 1;
        }
        self.marks.push_back(mark);
    }

    fn mark(&self, offset: i64) -> Option<&Mark> {
        self.marks.get(usize::try_from(offset - self.base).ok()?)
    }

    /// The slot of an open offset.
    pub(super) fn open(&self, offset: i64) -> Option<u32> {
        match self.mark(offset)? {
            Mark::Open(slot) => Some(*slot),
            Mark::Gap | Mark::Settled(_) => None,
        }
    }

    /// The slot of the first open offset: what holds the watermark.
    pub(super) fn first_open(&self) -> Option<u32> {
        match self.marks.front()? {
            Mark::Open(slot) => Some(*slot),
            Mark::Gap | Mark::Settled(_) => None,
        }
    }

    pub(super) fn settle(&mut self, offset: i64, tag: u64) {
        let at = usize::try_from(offset - self.base).unwrap_or(usize::MAX);
        if let Some(mark @ Mark::Open(_)) = self.marks.get_mut(at) {
            *mark = Mark::Settled(tag);
            self.settled += 1;
        }
    }

    /// Moves the watermark past everything that is terminal.
    pub(super) fn trim(&mut self) {
        while let Some(mark) = self.marks.front() {
            match mark {
                Mark::Open(_) => return,
                Mark::Settled(_) => self.settled -= 1,
                Mark::Gap => {}
            }
            self.marks.pop_front();
            self.base += 1;
        }
    }

    pub(super) const fn settled_count(&self) -> usize {
        self.settled
    }

    pub(super) fn settled(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        self.marks
            .iter()
            .zip(self.base..)
            .filter_map(|(mark, offset)| match mark {
                Mark::Settled(tag) => Some((offset, *tag)),
                Mark::Gap | Mark::Open(_) => None,
            })
    }
}
