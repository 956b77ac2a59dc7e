//! The bound on duplicates after a worker was killed or cut off, from the logs of simulator and
//! results alone. Pure.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::log::Log;
use super::receipts::Receipts;

/// One worker that ended without a word.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    /// Its worker id.
    pub(crate) worker: String,
    /// When (a kill: when the signal had been sent), wall clock in microseconds.
    pub(crate) at_us: u64,
}

/// What it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Allowance {
    /// Deliveries whose request the simulator had read whole from it before its successor's first
    /// attempt on their partition, not answered with an error, without an outcome of its own in
    /// `results`.
    pub(crate) bound: usize,
    /// Requests open at that moment: on their way to the simulator (the dead send nothing, so what it
    /// read of them later was on the wire by then), or read and not answered yet.
    pub(crate) open: usize,
    /// Those of `open` that were still on their way.
    pub(crate) on_the_wire: usize,
    /// Requests read from it in the second before: its rate at that moment.
    pub(crate) per_second: usize,
}

impl Allowance {
    /// Of a worker that nobody cut.
    const NONE: Self = Self {
        bound: 0,
        open: 0,
        on_the_wire: 0,
        per_second: 0,
    };

    /// What the bound of a kill may be at most: what was open, and 50 ms of the traffic of that moment.
    pub(crate) const fn ceiling(&self) -> usize {
        self.open + self.per_second.div_ceil(20)
    }
}

/// The allowance of one cut; `partition` gives the partition of a delivery.
pub(crate) fn allowance(
    cut: &Cut,
    log: &Log,
    receipts: &Receipts,
    partition: impl Fn(u32) -> i32,
) -> Allowance {
    let Some(worker) = log.workers.find(&cut.worker) else {
        return Allowance::NONE;
    };
    let writer = receipts.workers.find(&cut.worker);
    let own = log.seen.iter().filter(|seen| seen.worker == worker);
    let served: HashSet<i32> = own.clone().map(|seen| partition(seen.i)).collect();
    let successor = successors(cut, worker, log, &served, &partition);
    let uncertain: HashSet<u32> = own
        .clone()
        .filter(|seen| seen.arrived())
        .filter(|seen| {
            let first = successor.get(&partition(seen.i));
            first.is_none_or(|first| seen.read_us < *first)
        })
        .filter(|seen| {
            let fate = receipts.fate(seen.i);
            fate.records == 0 || Some(fate.worker) != writer
        })
        .map(|seen| seen.i)
        .collect();
    let on_the_wire = own.clone().filter(|seen| seen.read_us > cut.at_us).count();
    let read = own.clone().filter(|seen| seen.read_us <= cut.at_us);
    let unanswered = read.filter(|seen| seen.answered_us == 0 || seen.answered_us > cut.at_us);
    let second = cut.at_us.saturating_sub(1_000_000)..=cut.at_us;
    Allowance {
        bound: uncertain.len(),
        open: on_the_wire + unanswered.count(),
        on_the_wire,
        per_second: own.filter(|seen| second.contains(&seen.read_us)).count(),
    }
}

/// Requests of the worker that were read after its successor's first attempt on their partition, up
/// to `until_us` (when it may own the partition again).
pub(crate) fn zombies(
    cut: &Cut,
    until_us: u64,
    log: &Log,
    partition: impl Fn(u32) -> i32,
) -> usize {
    let Some(worker) = log.workers.find(&cut.worker) else {
        return 0;
    };
    let own = log.seen.iter().filter(|seen| seen.worker == worker);
    let served: HashSet<i32> = own
        .clone()
        .filter(|seen| seen.read_us <= cut.at_us)
        .map(|seen| partition(seen.i))
        .collect();
    let successor = successors(cut, worker, log, &served, &partition);
    own.filter(|seen| seen.read_us > cut.at_us && seen.read_us < until_us)
        .filter(|seen| {
            let first = successor.get(&partition(seen.i));
            first.is_some_and(|first| seen.read_us > *first)
        })
        .count()
}

/// When somebody else first called for each partition that the worker served.
fn successors(
    cut: &Cut,
    worker: u16,
    log: &Log,
    served: &HashSet<i32>,
    partition: impl Fn(u32) -> i32,
) -> HashMap<i32, u64> {
    let mut first = HashMap::new();
    let after = log.seen.partition_point(|seen| seen.read_us <= cut.at_us);
    for seen in log.seen.iter().skip(after) {
        if first.len() == served.len() {
            break;
        }
        let at = partition(seen.i);
        if seen.worker != worker && served.contains(&at) {
            first.entry(at).or_insert(seen.read_us);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::log::Names;
    use crate::engine::verdict::tests::seen;

    #[test]
    fn only_what_was_read_and_has_no_outcome_of_its_own_may_come_again() {
        let mut workers = Names::default();
        let (a, b) = (workers.number("a"), workers.number("b"));
        let log = Log {
            seen: vec![
                seen(10, 0, a, 204), // has its outcome
                seen(11, 1, a, 503), // an error is known to be none
                seen(12, 2, a, 204), // answered, the outcome was not written
                seen(13, 3, a, 0),   // open at the kill
                seen(21, 5, a, 204), // on its way at the kill
                seen(14, 4, a, 204), // settled later by the successor
                seen(30, 2, b, 204),
                seen(31, 3, b, 204),
                seen(32, 4, b, 204),
                seen(33, 9, b, 204),
            ],
            workers,
        };
        let receipts = Receipts::of(&[
            (0, "accepted", "a", false),
            (2, "accepted", "b", true),
            (3, "accepted", "b", true),
            (4, "accepted", "b", true),
            (5, "accepted", "a", false),
        ]);
        let cut = Cut {
            worker: "a".to_owned(),
            at_us: 20,
        };
        let got = allowance(&cut, &log, &receipts, |_| 0);
        let expected = Allowance {
            bound: 3,
            open: 2,
            on_the_wire: 1,
            per_second: 5,
        };
        assert_eq!(got, expected);
        assert_eq!(got.ceiling(), 3);
        // With a partition each, what nobody took over may still come again.
        let got = allowance(&cut, &log, &receipts, |i| i32::try_from(i).unwrap_or(0));
        assert_eq!(got.bound, 3);
        let unknown = Cut {
            worker: "c".to_owned(),
            at_us: 20,
        };
        assert_eq!(allowance(&unknown, &log, &receipts, |_| 0).bound, 0);
    }

    #[test]
    fn an_attempt_after_the_successors_first_is_a_zombies() {
        let mut workers = Names::default();
        let (a, b) = (workers.number("a"), workers.number("b"));
        let log = Log {
            seen: vec![
                seen(10, 0, a, 204),
                seen(25, 1, a, 204), // late, but nobody else has begun
                seen(30, 2, b, 204),
                seen(40, 3, a, 204), // a zombie
                seen(60, 4, a, 204), // its own again
            ],
            workers,
        };
        let cut = Cut {
            worker: "a".to_owned(),
            at_us: 20,
        };
        assert_eq!(zombies(&cut, 50, &log, |_| 0), 1);
        assert_eq!(zombies(&cut, u64::MAX, &log, |_| 0), 2);
    }
}
