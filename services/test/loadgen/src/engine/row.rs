//! One scenario's result: figures, and which promises held.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::verdict::Verdict;

/// What a fault excuses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) duplicates: usize,
    pub(crate) order: usize,
}

/// A scenario's result.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    sent: usize,
    lost: usize,
    duplicates: usize,
    duplicate_bound: usize,
    order_violations: usize,
    seconds: f64,
    cpu_us_per_notification: f64,
    /// Deliveries by outcome.
    outcomes: BTreeMap<String, usize>,
    /// Whether every promise held.
    pub(crate) kept: bool,
    /// The promises that did not.
    broken: Vec<String>,
    /// Promises about speed that the quick form only shows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    slow: Vec<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
    #[serde(skip)]
    quick: bool,
}

impl Row {
    /// A result without figures yet.
    pub(crate) fn new(scenario: &str, quick: bool) -> Self {
        Self {
            scenario: scenario.to_owned(),
            sent: 0,
            lost: 0,
            duplicates: 0,
            duplicate_bound: 0,
            order_violations: 0,
            seconds: 0.0,
            cpu_us_per_notification: 0.0,
            outcomes: BTreeMap::new(),
            kept: true,
            broken: Vec::new(),
            slow: Vec::new(),
            more: Map::new(),
            quick,
        }
    }

    /// The figures every run has, and the promises every run keeps; `bound` is how many duplicates
    /// it allows, `allowed` are the outcomes beside `accepted` it may bring about.
    pub(crate) fn judge(&mut self, v: &Verdict, cpu_us: u64, bound: usize, allowed: &[&str]) {
        self.judge_within(
            v,
            cpu_us,
            Bounds {
                duplicates: bound,
                order: 0,
            },
            allowed,
        );
    }

    /// The same where the fault excuses some violations of order too.
    pub(crate) fn judge_within(
        &mut self,
        v: &Verdict,
        cpu_us: u64,
        bounds: Bounds,
        allowed: &[&str],
    ) {
        let bound = bounds.duplicates;
        self.sent += v.sent;
        self.lost += v.lost;
        self.duplicates += v.duplicates;
        self.duplicate_bound += bound;
        self.order_violations += v.order_violations;
        self.seconds += v.seconds;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a drill")]
        let cpu = cpu_us as f64 / v.sent.max(1) as f64;
        self.cpu_us_per_notification = cpu;
        let others: usize = v
            .outcomes
            .iter()
            .filter(|(word, _)| *word != "accepted" && !allowed.contains(&word.as_str()))
            .map(|(_, n)| n)
            .sum();
        for (promise, held) in [
            ("lost 0", v.lost == 0),
            (
                "order violations within the bound",
                v.order_violations <= bounds.order,
            ),
            ("duplicates within the bound", v.duplicates <= bound),
            ("never_resend duplicates 0", v.never_resend_duplicates == 0),
            ("every duplicate is marked", v.unmarked == 0),
            ("every delivery has an outcome", v.without_outcome == 0),
            ("no outcome but the expected ones", others == 0),
        ] {
            self.promise(promise, held);
        }
        for (word, n) in &v.outcomes {
            *self.outcomes.entry(word.clone()).or_default() += n;
        }
        self.add("never_resend_duplicates", &v.never_resend_duplicates);
        self.add("unmarked_duplicates", &v.unmarked);
        self.add("without_outcome", &v.without_outcome);
        self.add("physical_doubles", &v.physical_doubles);
        self.add("errors_answered", &v.errors_answered);
        self.add("latency", &v.latency);
    }

    /// Notes a figure.
    pub(crate) fn add<T: Serialize>(&mut self, name: &str, value: &T) {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.more.insert(name.to_owned(), value);
    }

    /// A figure noted before.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.more.get(name).and_then(Value::as_f64)
    }

    /// A promise that always counts.
    pub(crate) fn promise(&mut self, what: &str, held: bool) {
        if !held {
            self.kept = false;
            self.broken.push(what.to_owned());
        }
    }

    /// A promise about speed: judged at full size, only shown in the quick form, which runs on
    /// machines that do other things.
    pub(crate) fn speed(&mut self, what: &str, held: bool) {
        if !held && self.quick {
            self.slow.push(what.to_owned());
        } else {
            self.promise(what, held);
        }
    }

    /// The line people read.
    pub(crate) fn line(&self) -> String {
        let state = if self.kept {
            "kept".to_owned()
        } else {
            format!("BROKEN: {}", self.broken.join("; "))
        };
        let slow = if self.slow.is_empty() {
            String::new()
        } else {
            format!(" (too slow, not judged: {})", self.slow.join("; "))
        };
        format!(
            "{}: {} sent, {} lost, {} duplicates (bound {}), {} order violations, {:.1} s: {state}{slow}",
            self.scenario,
            self.sent,
            self.lost,
            self.duplicates,
            self.duplicate_bound,
            self.order_violations,
            self.seconds,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_breaks_the_row_and_slowness_only_at_full_size() {
        let mut row = Row::new("x", true);
        row.speed("p99", false);
        assert!(row.kept && row.line().contains("p99"));
        row.promise("lost 0", false);
        assert!(!row.kept);
        let mut full = Row::new("x", false);
        full.speed("p99", false);
        assert!(!full.kept);
    }

    #[test]
    fn outcomes_that_nobody_expected_break_it() {
        let verdict = Verdict {
            sent: 2,
            outcomes: [("accepted".to_owned(), 1), ("dead".to_owned(), 1)].into(),
            ..Verdict::default()
        };
        let mut row = Row::new("x", false);
        row.judge(&verdict, 100, 0, &["dead"]);
        assert!(row.kept);
        row.judge(&verdict, 100, 0, &[]);
        assert!(!row.kept);
    }
}
