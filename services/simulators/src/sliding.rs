//! A limit in every sliding second. Pure, with an injected clock (Unix microseconds).

use std::collections::VecDeque;

const SECOND_US: u64 = 1_000_000;

/// What was taken within the last second.
#[derive(Debug, Default)]
pub(crate) struct Sliding {
    taken: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Sliding {
    /// Counts `count` against the second, or refuses all of it; a limit of 0 is none.
    pub(crate) fn take(&mut self, limit: u64, count: u64, now_us: u64) -> bool {
        if limit == 0 {
            return true;
        }
        while let Some((at, n)) = self.taken.front().copied() {
            if at + SECOND_US > now_us {
                break;
            }
            self.sum -= n;
            self.taken.pop_front();
        }
        if self.sum + count > limit {
            return false;
        }
        self.sum += count;
        self.taken.push_back((now_us, count));
        true
    }
}
