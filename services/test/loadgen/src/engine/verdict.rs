//! Adds up what arrived and what was said about it. Pure.
//!
//! * *Lost*: a delivery whose request the simulator never read whole without answering an error, and
//!   that did not end otherwise by right (an uncertain `never_resend` as `unknown`, or an outcome the
//!   drill allows).
//! * *Duplicate*: a delivery whose request was read whole and not answered with an error, more than
//!   once; counted are the extra copies.
//! * *Order violation*: any request of n read after the first request of n+1 of its order key.
//! * *Unmarked*: a delivery with a duplicate whose receipts all say that it is none.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::Load;
use super::log::{Log, Seen};
use super::receipts::Receipts;
use super::writer::Written;

/// Times from enqueueing to the first attempt, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

/// What a run came to.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Verdict {
    pub(crate) sent: usize,
    pub(crate) lost: usize,
    pub(crate) duplicates: usize,
    pub(crate) never_resend_duplicates: usize,
    pub(crate) order_violations: usize,
    pub(crate) unmarked: usize,
    /// Deliveries without any outcome.
    pub(crate) without_outcome: usize,
    pub(crate) outcomes: BTreeMap<String, usize>,
    /// Outcome records beyond one per delivery.
    pub(crate) physical_doubles: usize,
    /// Requests answered with an error.
    pub(crate) errors_answered: usize,
    /// From the beginning of the load to the last request.
    pub(crate) seconds: f64,
    pub(crate) latency: Latency,
}

/// Judges a run; `allowed` are outcomes beside `accepted` that this drill may bring about.
pub(crate) fn judge(
    load: &Load,
    written: &Written,
    log: &Log,
    receipts: &Receipts,
    allowed: &[&str],
) -> Verdict {
    let count = written.count as usize;
    let mut copies = vec![0_u32; count];
    let mut highest: Vec<Option<u32>> = vec![None; load.keys.count()];
    let mut verdict = Verdict {
        sent: count,
        outcomes: receipts.by_outcome(),
        ..Verdict::default()
    };
    for seen in &log.seen {
        if let Some(top) = highest.get_mut(load.key(seen.i) as usize) {
            verdict.order_violations += usize::from(top.is_some_and(|top| seen.i < top));
            *top = Some(top.map_or(seen.i, |top| top.max(seen.i)));
        }
        if !seen.arrived() {
            verdict.errors_answered += 1;
        } else if let Some(n) = copies.get_mut(seen.i as usize) {
            *n += 1;
        }
    }
    for i in 0..written.count {
        let n = copies.get(i as usize).copied().unwrap_or(0);
        let extra = n.saturating_sub(1) as usize;
        let fate = receipts.fate(i);
        let excused = allowed.iter().any(|word| receipts.ended(i, word))
            || load.is_never_resend(i) && receipts.ended(i, "unknown");
        verdict.lost += usize::from(n == 0 && !excused);
        verdict.duplicates += extra;
        verdict.never_resend_duplicates += if load.is_never_resend(i) { extra } else { 0 };
        verdict.unmarked += usize::from(extra > 0 && !fate.marked);
        verdict.without_outcome += usize::from(fate.records == 0);
        verdict.physical_doubles += fate.records.saturating_sub(1) as usize;
    }
    let last = log
        .seen
        .last()
        .map_or(written.begin_us, |seen| seen.read_us);
    verdict.seconds = seconds(last.saturating_sub(written.begin_us));
    verdict.latency = latency(load, written, log, |_| true);
    verdict
}

/// Latencies of the first request of every delivery whose key is `wanted`.
pub(crate) fn latency(
    load: &Load,
    written: &Written,
    log: &Log,
    wanted: impl Fn(u32) -> bool,
) -> Latency {
    let mut first = vec![true; written.count as usize];
    // One microsecond to a day: bounds that cannot be wrong.
    let Ok(mut times) = Histogram::<u64>::new_with_bounds(1, 86_400_000_000, 3) else {
        return Latency::default();
    };
    for seen in &log.seen {
        let Some(is_first) = first.get_mut(seen.i as usize) else {
            continue;
        };
        if std::mem::take(is_first) && wanted(load.key(seen.i)) {
            times.saturating_record(waited_us(load, written, seen).max(1));
        }
    }
    Latency {
        p50_ms: millis(times.value_at_quantile(0.5)),
        p99_ms: millis(times.value_at_quantile(0.99)),
        p999_ms: millis(times.value_at_quantile(0.999)),
        max_ms: millis(times.max()),
    }
}

/// How many deliveries waited for longer than `most_ms`, by the second in which they were due.
pub(crate) fn late_by_second(
    load: &Load,
    written: &Written,
    log: &Log,
    most_ms: f64,
) -> BTreeMap<u64, usize> {
    let mut first = vec![true; written.count as usize];
    let mut late = BTreeMap::new();
    for seen in &log.seen {
        let is_first = first.get_mut(seen.i as usize).is_some_and(std::mem::take);
        if is_first && millis(waited_us(load, written, seen)) > most_ms {
            *late.entry(load.due(seen.i).as_secs()).or_default() += 1;
        }
    }
    late
}

fn waited_us(load: &Load, written: &Written, seen: &Seen) -> u64 {
    let due = u64::try_from(load.due(seen.i).as_micros()).unwrap_or(u64::MAX);
    seen.read_us
        .saturating_sub(written.begin_us.saturating_add(due))
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a drill")]
pub(crate) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a drill")]
pub(crate) fn millis(us: u64) -> f64 {
    us as f64 / 1e3
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::engine::load::{Keys, tests::load};

    pub(crate) fn seen(read_us: u64, i: u32, worker: u16, status: u16) -> Seen {
        Seen {
            n: read_us,
            read_us,
            answered_us: if status == 0 { 0 } else { read_us + 1 },
            i,
            attempt: 1,
            worker,
            status,
        }
    }

    pub(crate) fn written(count: u32) -> Written {
        Written {
            begin_us: 0,
            count,
            seconds: 1.0,
        }
    }

    fn two_keys() -> Load {
        Load {
            never_resend: 0.0,
            ..load(Keys::Even {
                senders: 2,
                addresses: 1,
            })
        }
    }

    fn of(requests: Vec<Seen>, receipts: &Receipts, count: u32) -> Verdict {
        let log = Log {
            seen: requests,
            ..Log::default()
        };
        judge(&two_keys(), &written(count), &log, receipts, &["dead"])
    }

    #[test]
    fn an_error_and_its_retry_are_neither_loss_nor_duplicate() {
        let receipts = Receipts::of(&[(0, "accepted", "w", false)]);
        let verdict = of(vec![seen(1, 0, 0, 503), seen(2, 0, 0, 204)], &receipts, 1);
        assert_eq!(
            (verdict.lost, verdict.duplicates, verdict.errors_answered),
            (0, 0, 1)
        );
        assert_eq!((verdict.without_outcome, verdict.order_violations), (0, 0));
    }

    #[test]
    fn a_resend_after_the_next_one_breaks_the_order_even_when_it_failed() {
        let receipts = Receipts::of(&[]);
        let requests = vec![seen(1, 0, 0, 503), seen(2, 2, 0, 204), seen(3, 0, 0, 503)];
        assert_eq!(of(requests, &receipts, 3).order_violations, 1);
        // Another key overtakes nothing.
        let requests = vec![seen(1, 0, 0, 204), seen(2, 2, 0, 204), seen(3, 1, 0, 204)];
        assert_eq!(of(requests, &receipts, 3).order_violations, 0);
    }

    #[test]
    fn copies_are_counted_and_their_marks_asked_for() {
        let receipts = Receipts::of(&[(0, "accepted", "w", false), (1, "accepted", "w", true)]);
        let copies = [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1)];
        let requests = copies.map(|(at, i)| seen(at, i, 0, 204)).to_vec();
        let verdict = of(requests, &receipts, 2);
        assert_eq!((verdict.duplicates, verdict.unmarked), (3, 1));
    }

    #[test]
    fn what_never_arrived_is_lost_unless_it_ended_otherwise_by_right() {
        let receipts = Receipts::of(&[(0, "dead", "w", false), (1, "accepted", "w", false)]);
        let verdict = of(vec![seen(1, 1, 0, 503)], &receipts, 3);
        assert_eq!((verdict.lost, verdict.without_outcome), (2, 1));
    }

    #[test]
    fn an_uncertain_delivery_that_may_not_be_sent_twice_is_not_lost() {
        let load = Load {
            never_resend: 1.0,
            ..two_keys()
        };
        let receipts = Receipts::of(&[(0, "unknown", "w", true), (1, "accepted", "w", false)]);
        let log = Log {
            seen: vec![seen(1, 1, 0, 204), seen(2, 1, 0, 0)],
            ..Log::default()
        };
        let verdict = judge(&load, &written(2), &log, &receipts, &[]);
        assert_eq!((verdict.lost, verdict.never_resend_duplicates), (0, 1));
    }

    #[test]
    fn latency_counts_from_the_due_time_to_the_first_request() {
        let load = two_keys();
        // Delivery 10 is due after 100 ms.
        let log = Log {
            seen: vec![seen(160_000, 10, 0, 503), seen(900_000, 10, 0, 204)],
            ..Log::default()
        };
        let got = latency(&load, &written(11), &log, |_| true);
        assert!((got.p99_ms - 60.0).abs() < 0.1, "{got:?}");
        assert_eq!(latency(&load, &written(11), &log, |_| false).max_ms, 0.0);
    }
}
