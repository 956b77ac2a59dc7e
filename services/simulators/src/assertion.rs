//! "Exactly these, in this order": for the tests of those who use the pipeline. Pure.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::compare::address_path;
use crate::recorder::Seen;
use crate::report::LISTED;

/// What must have arrived. Requests answered with an error are left out, so retries in place do not
/// disturb it; a second copy does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// Of this sender only.
    #[serde(default)]
    pub sender: Option<String>,
    /// At this address only; the whole URL or its path.
    #[serde(default, alias = "address")]
    pub path: Option<String>,
    /// The event ids, in order.
    #[serde(alias = "events", alias = "event_ids")]
    pub deliveries: Vec<String>,
}

/// How what arrived differs from an [`Assertion`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Whether it does not.
    pub ok: bool,
    /// How many were expected.
    pub expected: u64,
    /// How many arrived.
    pub received: u64,
    /// The first place (from 0) where the two lists differ.
    pub first_difference: Option<u64>,
    /// What was expected there.
    pub expected_there: Option<String>,
    /// What arrived there.
    pub received_there: Option<String>,
    /// Up to 100 that did not arrive often enough.
    pub missing: Vec<String>,
    /// Up to 100 that arrived too often or were not expected.
    pub surplus: Vec<String>,
}

/// The fold that checks an [`Assertion`].
#[derive(Debug)]
pub struct Check {
    assertion: Assertion,
    received: Vec<String>,
}

impl Check {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(mut assertion: Assertion) -> Self {
        assertion.path = assertion.path.as_deref().map(address_path);
        Self {
            assertion,
            received: Vec::new(),
        }
    }

    /// Takes the next request, in the order of reading.
    pub fn see(&mut self, seen: &Seen<'_>) {
        let wanted = |filter: &Option<String>, value: &str| {
            filter.as_deref().is_none_or(|filter| filter == value)
        };
        if !seen.is_error()
            && wanted(&self.assertion.sender, seen.sender)
            && wanted(&self.assertion.path, seen.path)
        {
            self.received.push(seen.event_id.to_owned());
        }
    }

    /// The result.
    #[must_use]
    pub fn finish(self) -> Difference {
        let (expected, received) = (self.assertion.deliveries, self.received);
        let longest = expected.len().max(received.len());
        let first = (0..longest).find(|i| expected.get(*i) != received.get(*i));
        Difference {
            ok: first.is_none(),
            expected: expected.len() as u64,
            received: received.len() as u64,
            first_difference: first.map(|i| i as u64),
            expected_there: first.and_then(|i| expected.get(i).cloned()),
            received_there: first.and_then(|i| received.get(i).cloned()),
            missing: beyond(&expected, &received),
            surplus: beyond(&received, &expected),
        }
    }
}

/// The items of `list` that `other` does not hold as often.
fn beyond(list: &[String], other: &[String]) -> Vec<String> {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for item in other {
        *left.entry(item).or_default() += 1;
    }
    list.iter()
        .filter(|item| match left.get_mut(item.as_str()) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        })
        .take(LISTED)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &[&str], received: &[(&str, u16)]) -> Difference {
        let mut check = Check::new(Assertion {
            sender: Some("s".into()),
            path: Some("http://localhost:1/hook/a".into()),
            deliveries: expected.iter().map(|e| (*e).to_owned()).collect(),
        });
        for (event_id, status) in received {
            for (sender, path) in [("s", "/hook/a"), ("other", "/hook/a"), ("s", "/hook/b")] {
                check.see(&Seen {
                    n: 0,
                    read_us: 0,
                    answered_us: None,
                    status: Some(*status),
                    delivery_id: "",
                    event_id,
                    sender,
                    path,
                    seq: None,
                    worker: "",
                    attempt: 1,
                });
            }
        }
        check.finish()
    }

    #[test]
    fn exactly_these_in_this_order_or_the_difference() {
        assert!(check(&["1", "2"], &[("1", 503), ("1", 200), ("2", 200)]).ok);
        let swapped = check(&["1", "2"], &[("2", 200), ("1", 200)]);
        assert_eq!((swapped.ok, swapped.first_difference), (false, Some(0)));
        assert!(swapped.missing.is_empty() && swapped.surplus.is_empty());
        let copy = check(&["1", "2"], &[("1", 200), ("1", 200), ("2", 200)]);
        assert_eq!(copy.first_difference, Some(1));
        assert_eq!(copy.surplus, ["1"]);
        let lost = check(&["1", "2"], &[("1", 200)]);
        assert_eq!(
            (lost.missing, lost.received_there),
            (vec!["2".to_owned()], None)
        );
    }
}
