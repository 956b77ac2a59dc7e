//! What a provider tells later, and when: late, doubled and overtaken by a seeded plan. Pure.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::alimtalk::{ReportMode, ReportPlan};
use crate::faults::{mix, share};

/// How often a report that was not acknowledged is posted again.
const REPEATS: u32 = 3;

/// Something to be told.
#[derive(Debug, Clone)]
pub(crate) struct Due<T> {
    /// When.
    pub(crate) due_us: u64,
    /// Its number; tells those of one moment apart.
    n: u64,
    /// How often it was posted.
    pub(crate) posted: u32,
    /// What.
    pub(crate) what: T,
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due_us, self.n).cmp(&(other.due_us, other.n))
    }
}

/// When something is told, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// When.
    pub(crate) due_us: u64,
    /// Whether twice.
    pub(crate) doubled: bool,
    /// Whether it did not arrive.
    pub(crate) undelivered: bool,
}

/// The plan's decision about number `n`, taken at `now_us`.
pub(crate) fn timing(plan: &ReportPlan, n: u64, now_us: u64) -> Timing {
    let seed = plan.seed;
    let mut due_us = now_us + plan.delay_ms * 1_000;
    if share(seed, n, 2) < plan.late_ratio {
        due_us += plan.late_ms * 1_000;
    }
    if share(seed, n, 3) < plan.reorder_ratio {
        due_us += mix(seed, n, 4) % (plan.reorder_ms * 1_000 + 1);
    }
    Timing {
        due_us,
        doubled: share(seed, n, 5) < plan.double_ratio,
        undelivered: share(seed, n, 6) < plan.undelivered_ratio,
    }
}

/// What is still to be told.
#[derive(Debug)]
pub(crate) struct Later<T> {
    due: BinaryHeap<Reverse<Due<T>>>,
    made: u64,
}

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self {
            due: BinaryHeap::new(),
            made: 0,
        }
    }
}

impl<T> Later<T> {
    /// Schedules something.
    pub(crate) fn push(&mut self, due_us: u64, what: T) {
        self.due.push(Reverse(Due {
            due_us,
            n: self.made,
            posted: 0,
            what,
        }));
        self.made += 1;
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }

    /// The next one that is due; else when the next one will be.
    pub(crate) fn next(&mut self, now_us: u64) -> Result<Due<T>, Option<u64>> {
        match self.due.peek() {
            Some(Reverse(first)) if first.due_us <= now_us => {
                self.due.pop().map(|Reverse(first)| first).ok_or(None)
            }
            Some(Reverse(first)) => Err(Some(first.due_us)),
            None => Err(None),
        }
    }

    /// Takes back what was not acknowledged; false when it is given up.
    pub(crate) fn again(&mut self, mut due: Due<T>, now_us: u64, retry_ms: u64) -> bool {
        if due.posted > REPEATS {
            return false;
        }
        due.due_us = now_us + retry_ms * 1_000;
        self.due.push(Reverse(due));
        true
    }
}

/// Whether the plan posts, and how many at once.
pub(crate) fn posts(plan: &ReportPlan) -> usize {
    match plan.mode {
        ReportMode::Webhook => plan.at_once,
        ReportMode::None | ReportMode::Polling => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_comes_first_and_is_given_up_after_three_repeats() {
        let mut later = Later::default();
        later.push(20, 'b');
        later.push(10, 'a');
        assert_eq!(later.next(5).err(), Some(Some(10)));
        assert_eq!(later.next(20).unwrap().what, 'a');
        let mut due = later.next(20).unwrap();
        assert_eq!(later.next(20).err(), Some(None));
        for posted in 1..=4 {
            due.posted = posted;
            assert_eq!(later.again(due, 0, 1), posted < 4);
            let Ok(next) = later.next(1_000) else {
                return;
            };
            due = next;
        }
    }

    #[test]
    fn shares_of_the_plan_are_kept() {
        let plan = ReportPlan {
            delay_ms: 20,
            late_ratio: 0.1,
            double_ratio: 0.2,
            seed: 7,
            ..ReportPlan::default()
        };
        let all: Vec<Timing> = (0..10_000).map(|n| timing(&plan, n, 0)).collect();
        let count = |holds: fn(&Timing) -> bool| all.iter().filter(|t| holds(t)).count();
        assert!((900..1_100).contains(&count(|t| t.due_us > 20_000)));
        assert!((1_800..2_200).contains(&count(|t| t.doubled)));
        assert_eq!(count(|t| t.undelivered), 0);
    }
}
