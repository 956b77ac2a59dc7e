//! The bound on duplicates of `kill -9`, computed from the logs of simulator and results alone.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::audit::{Outcomes, Request};

/// One kill of a dispatch process.
#[derive(Debug, Clone)]
pub(crate) struct Kill {
    /// The killed process's worker id.
    pub(crate) worker: String,
    /// When the signal had been sent, wall clock in microseconds.
    pub(crate) at_us: u64,
}

/// What a kill allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Requests that the simulator had read whole from the killed process before its successor's
    /// first attempt on their partition, not answered with an error, without an outcome by the
    /// killed process in `results`.
    pub(crate) bound: usize,
    /// Requests open at the kill: on their way to the simulator (the dead send nothing, so what it read
    /// of them later was on the wire by then), or read and not answered yet.
    pub(crate) open: usize,
    /// Those of `open` that were still on their way.
    pub(crate) on_the_wire: usize,
    /// Requests read from the killed process in the second before: its rate at that moment, which is
    /// the highest there is while it catches up.
    pub(crate) per_second: usize,
    /// The most of those in any 40 ms: 4 % of them in even traffic.
    pub(crate) busiest_40_ms: usize,
}

impl Allowance {
    /// What the bound may be at most: what was open, and 50 ms of the traffic of that moment.
    pub(crate) const fn ceiling(&self) -> usize {
        self.open + self.per_second.div_ceil(20)
    }
}

/// The allowance of one kill.
pub(crate) fn allowance(kill: &Kill, requests: &[Request], outcomes: &Outcomes) -> Allowance {
    let last_of_killed = last_reads(kill, requests);
    let mut successor: BTreeMap<i32, u64> = BTreeMap::new();
    for r in requests
        .iter()
        .filter(|r| r.worker != kill.worker && r.read_us > kill.at_us)
    {
        if last_of_killed.contains_key(&r.partition()) {
            successor.entry(r.partition()).or_insert(r.read_us);
        }
    }
    let read: HashSet<&str> = requests
        .iter()
        .filter(|r| {
            r.worker == kill.worker
                && r.arrived()
                && successor
                    .get(&r.partition())
                    .is_none_or(|first| r.read_us < *first)
        })
        .map(|r| r.delivery_id.as_str())
        .collect();
    let bound = read
        .iter()
        .filter(|id| {
            !outcomes
                .by_delivery
                .get(**id)
                .is_some_and(|seen| seen.iter().any(|o| o.worker == kill.worker))
        })
        .count();
    let own = || requests.iter().filter(|r| r.worker == kill.worker);
    let on_the_wire = own().filter(|r| r.read_us > kill.at_us).count();
    let read = own().filter(|r| r.read_us <= kill.at_us);
    let unanswered = read.filter(|r| r.answered_us.is_none_or(|at| at > kill.at_us));
    let open = on_the_wire + unanswered.count();
    let second = kill.at_us.saturating_sub(1_000_000)..=kill.at_us;
    let last = own().filter(|r| second.contains(&r.read_us));
    let mut last: Vec<u64> = last.map(|r| r.read_us).collect();
    last.sort_unstable();
    Allowance {
        bound,
        open,
        on_the_wire,
        per_second: last.len(),
        busiest_40_ms: busiest(&last, 40_000),
    }
}

/// The most of some moments, in order, within any span of that length.
fn busiest(moments: &[u64], span: u64) -> usize {
    let mut most = 0;
    let mut first = 0;
    for (i, at) in moments.iter().enumerate() {
        while moments[first] + span <= *at {
            first += 1;
        }
        most = most.max(i + 1 - first);
    }
    most
}

fn last_reads(kill: &Kill, requests: &[Request]) -> HashMap<i32, u64> {
    requests
        .iter()
        .filter(|r| r.worker == kill.worker)
        .map(|r| (r.partition(), r.read_us))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_span_is_found_wherever_it_lies() {
        assert_eq!(busiest(&[], 40), 0);
        assert_eq!(busiest(&[0, 40, 80], 40), 1, "a span does not hold its end");
        assert_eq!(busiest(&[0, 50, 60, 70, 89, 90, 200], 40), 4);
    }
}
