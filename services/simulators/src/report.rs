//! What the requests add up to. Pure: a fold over [`Seen`] in the order of reading.
//!
//! * *Duplicate*: a delivery whose request was read whole and not answered with an error, more than
//!   once. Counted are the extra copies.
//! * *Order violation*: any request of n read after the first request of n+1 of its order key (here:
//!   sender and path), resends and requests answered with an error included. With gaps in the
//!   numbers: any request read after a request with a higher number.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};

use crate::recorder::Seen;

/// The most items any list of a report holds.
pub const LISTED: usize = 100;

/// A request that broke its key's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The request's number.
    pub n: u64,
    /// Sender of the order key.
    pub sender: String,
    /// Address of the order key.
    pub path: String,
    /// Its number within the sender's stream.
    pub seq: i64,
    /// The higher number read before it.
    pub after: i64,
}

/// The most copies one event got to one address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// How many; 1 is as it should be.
    pub max: u64,
    /// The event that got so many.
    pub event_id: String,
    /// The address it got them to.
    pub path: String,
}

/// What arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Requests read whole.
    pub requests: u64,
    /// Distinct deliveries answered 2xx.
    pub accepted: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Requests read whole and not answered: reset, left hanging, or in flight at this moment.
    pub unanswered: u64,
    /// Extra copies of deliveries.
    pub duplicates: u64,
    /// Up to 100 of the deliveries that came more than once.
    pub duplicate_deliveries: Vec<String>,
    /// Requests that broke the order of their key.
    pub order_violations: u64,
    /// Up to 100 of them.
    pub order_violation_list: Vec<Violation>,
    /// Requests that carried no number, so that their order could not be checked.
    pub unnumbered: u64,
    /// The most requests in any sliding window, by the window's milliseconds.
    pub max_in_window: BTreeMap<u64, u64>,
    /// The same for the busiest single address.
    pub max_in_window_per_address: BTreeMap<u64, u64>,
    /// The most copies one event got to one address, requests answered with an error excluded.
    pub copies_per_address: Copies,
    /// Addresses that were reached.
    pub addresses: u64,
    /// Requests by worker.
    pub per_worker: BTreeMap<String, u64>,
    /// Requests by status answered.
    pub per_status: BTreeMap<u16, u64>,
    /// When the first request was read, in Unix microseconds.
    pub first_read_us: u64,
    /// When the last one was.
    pub last_read_us: u64,
}

/// The fold that makes a [`Report`]. Memory: some 100 bytes per distinct delivery.
#[derive(Debug)]
pub struct Analysis {
    report: Report,
    deliveries: HashMap<u128, Copy>,
    copies: HashMap<u128, u64>,
    highest: HashMap<u128, i64>,
    windows: Vec<Window>,
}

#[derive(Debug, Default)]
struct Copy {
    received: u64,
    accepted: bool,
}

#[derive(Debug)]
struct Window {
    millis: u64,
    all: Sliding,
    addresses: HashMap<u128, Sliding>,
}

/// Times within one window, oldest first.
#[derive(Debug, Default)]
struct Sliding {
    times: VecDeque<u64>,
    max: u64,
}

impl Sliding {
    /// Adds a time and forgets those that a window ending at it no longer covers: a window is
    /// half-open, so two requests exactly its length apart are not in one.
    fn add(&mut self, at: u64, width_us: u64) -> u64 {
        while self
            .times
            .front()
            .is_some_and(|t| t.saturating_add(width_us) <= at)
        {
            self.times.pop_front();
        }
        self.times.push_back(at);
        self.max = self.max.max(self.times.len() as u64);
        self.max
    }
}

impl Analysis {
    /// Nothing seen yet; `windows` are lengths in milliseconds.
    #[must_use]
    pub fn new(windows: &[u64]) -> Self {
        Self {
            report: Report::default(),
            deliveries: HashMap::new(),
            copies: HashMap::new(),
            highest: HashMap::new(),
            windows: windows
                .iter()
                .map(|millis| Window {
                    millis: *millis,
                    all: Sliding::default(),
                    addresses: HashMap::new(),
                })
                .collect(),
        }
    }

    /// Takes the next request, in the order of reading.
    pub fn see(&mut self, seen: &Seen<'_>) {
        if self.report.requests == 0 {
            self.report.first_read_us = seen.read_us;
        }
        self.report.requests += 1;
        self.report.last_read_us = seen.read_us;
        bump(&mut self.report.per_worker, seen.worker);
        match seen.status {
            Some(status) => *self.report.per_status.entry(status).or_default() += 1,
            None => self.report.unanswered += 1,
        }
        self.count_copies(seen);
        self.check_order(seen);
        let address = key(&[seen.path]);
        for window in &mut self.windows {
            let width = window.millis.saturating_mul(1_000);
            let all = window.all.add(seen.read_us, width);
            self.report.max_in_window.insert(window.millis, all);
            let one = window
                .addresses
                .entry(address)
                .or_default()
                .add(seen.read_us, width);
            let busiest = self
                .report
                .max_in_window_per_address
                .entry(window.millis)
                .or_default();
            *busiest = one.max(*busiest);
            self.report.addresses = window.addresses.len() as u64;
        }
    }

    fn count_copies(&mut self, seen: &Seen<'_>) {
        if seen.is_error() {
            self.report.errors += 1;
            return;
        }
        let copy = self.deliveries.entry(delivery_key(seen)).or_default();
        copy.received += 1;
        if copy.received > 1 {
            self.report.duplicates += 1;
        }
        if copy.received == 2 && self.report.duplicate_deliveries.len() < LISTED {
            self.report.duplicate_deliveries.push(delivery_name(seen));
        }
        if seen.is_accepted() && !copy.accepted {
            copy.accepted = true;
            self.report.accepted += 1;
        }
        let copies = self
            .copies
            .entry(key(&[seen.sender, seen.event_id, seen.path]))
            .or_default();
        *copies += 1;
        if *copies > self.report.copies_per_address.max {
            self.report.copies_per_address = Copies {
                max: *copies,
                event_id: seen.event_id.to_owned(),
                path: seen.path.to_owned(),
            };
        }
    }

    fn check_order(&mut self, seen: &Seen<'_>) {
        let Some(seq) = seen.seq else {
            self.report.unnumbered += 1;
            return;
        };
        let highest = self
            .highest
            .entry(key(&[seen.sender, seen.path]))
            .or_insert(seq);
        if *highest <= seq {
            *highest = seq;
            return;
        }
        self.report.order_violations += 1;
        if self.report.order_violation_list.len() < LISTED {
            self.report.order_violation_list.push(Violation {
                n: seen.n,
                sender: seen.sender.to_owned(),
                path: seen.path.to_owned(),
                seq,
                after: *highest,
            });
        }
    }

    /// The report.
    #[must_use]
    pub fn finish(self) -> Report {
        self.report
    }
}

fn bump(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => {
            counts.insert(name.to_owned(), 1);
        }
    }
}

/// What a delivery is called: its id, or event and address where the request carries no id.
pub(crate) fn delivery_name(seen: &Seen<'_>) -> String {
    if seen.delivery_id.is_empty() {
        format!("{} to {}", seen.event_id, seen.path)
    } else {
        seen.delivery_id.to_owned()
    }
}

pub(crate) fn delivery_key(seen: &Seen<'_>) -> u128 {
    if seen.delivery_id.is_empty() {
        key(&["", seen.sender, seen.event_id, seen.path])
    } else {
        key(&[seen.delivery_id])
    }
}

/// 128 bits that stand for a list of texts; two equal keys of different lists are less likely than a
/// broken memory.
pub(crate) fn key(parts: &[&str]) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        parts.hash(&mut hasher);
        hasher.finish()
    };
    (u128::from(half(1)) << 64) | u128::from(half(2))
}

#[cfg(test)]
mod tests;
