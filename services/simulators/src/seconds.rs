//! What happened in every second: how much was taken, how much refused. Pure: a fold over [`Seen`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recorder::Seen;

/// One second's requests, by the time they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Unix seconds.
    pub at: u64,
    /// Requests read whole.
    pub requests: u64,
    /// Answered 2xx.
    pub accepted: u64,
    /// Answered 429.
    pub throttled: u64,
    /// Answered with another error.
    pub errors: u64,
    /// Not (yet) answered.
    pub unanswered: u64,
}

/// The fold. Memory: some 60 bytes per second in which something was read.
#[derive(Debug, Default)]
pub struct Seconds {
    seconds: BTreeMap<u64, Second>,
}

impl Seconds {
    /// Takes the next request, in any order.
    pub fn see(&mut self, seen: &Seen<'_>) {
        let at = seen.read_us / 1_000_000;
        let second = self.seconds.entry(at).or_default();
        second.at = at;
        second.requests += 1;
        match seen.status {
            None => second.unanswered += 1,
            Some(429) => second.throttled += 1,
            Some(_) if seen.is_error() => second.errors += 1,
            Some(_) if seen.is_accepted() => second.accepted += 1,
            Some(_) => {}
        }
    }

    /// Every second in which something was read, oldest first.
    #[must_use]
    pub fn finish(self) -> Vec<Second> {
        self.seconds.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_in_its_second_and_kind() {
        let mut seconds = Seconds::default();
        let requests = [
            (1_000_000, Some(204)),
            (1_999_999, Some(429)),
            (3_000_000, Some(503)),
            (3_000_001, None),
        ];
        for (read_us, status) in requests {
            seconds.see(&Seen {
                n: 0,
                read_us,
                answered_us: None,
                status,
                delivery_id: "",
                event_id: "",
                sender: "",
                path: "",
                seq: None,
                worker: "",
                attempt: 1,
            });
        }
        let [first, second] = seconds.finish().try_into().unwrap();
        assert_eq!((first.at, first.requests), (1, 2));
        assert_eq!((first.accepted, first.throttled), (1, 1));
        assert_eq!((second.at, second.errors, second.unanswered), (3, 1, 1));
    }
}
