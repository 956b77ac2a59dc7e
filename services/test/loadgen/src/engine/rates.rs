//! How fast requests came and were taken, from the simulator's log. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::log::Seen;

/// The requests read between two moments.
fn between(seen: &[Seen], from_us: u64, to_us: u64) -> &[Seen] {
    let from = seen.partition_point(|s| s.read_us < from_us);
    let to = seen.partition_point(|s| s.read_us < to_us);
    seen.get(from..to).unwrap_or_default()
}

/// Requests answered 2xx per second between two moments.
pub(crate) fn goodput(seen: &[Seen], from_us: u64, to_us: u64) -> f64 {
    let taken = between(seen, from_us, to_us)
        .iter()
        .filter(|s| s.accepted());
    #[expect(clippy::cast_precision_loss, reason = "counts of a drill")]
    let (taken, micros) = (taken.count() as f64, to_us.saturating_sub(from_us) as f64);
    taken * 1e6 / micros.max(1.0)
}

/// The same of each worker, in the order in which they were first seen.
pub(crate) fn goodput_per_worker(seen: &[Seen], from_us: u64, to_us: u64) -> Vec<f64> {
    let workers = seen.iter().map(|s| s.worker + 1).max().unwrap_or(0);
    (0..workers)
        .map(|worker| {
            let its: Vec<Seen> = seen
                .iter()
                .copied()
                .filter(|s| s.worker == worker)
                .collect();
            goodput(&its, from_us, to_us)
        })
        .collect()
}

/// The share of the requests between two moments that were answered 429.
pub(crate) fn share_throttled(seen: &[Seen], from_us: u64, to_us: u64) -> f64 {
    let all = between(seen, from_us, to_us);
    let throttled = all.iter().filter(|s| s.status == 429).count();
    #[expect(clippy::cast_precision_loss, reason = "counts of a drill")]
    let share = throttled as f64 / all.len().max(1) as f64;
    share
}

/// The most requests of any sliding second. A second is half open: two requests exactly one second
/// apart are not in one.
pub(crate) fn most_in_a_second(seen: &[Seen]) -> usize {
    let mut oldest = 0;
    let mut most = 0;
    for (newest, s) in seen.iter().enumerate() {
        while seen
            .get(oldest)
            .is_some_and(|o| o.read_us + 1_000_000 <= s.read_us)
        {
            oldest += 1;
        }
        most = most.max(newest + 1 - oldest);
    }
    most
}

/// Seconds from `change_us` until the first second that takes at least `rate` begins; `None` when
/// none does.
pub(crate) fn reached_after(seen: &[Seen], change_us: u64, rate: f64) -> Option<f64> {
    let taken: Vec<u64> = seen
        .iter()
        .filter(|s| s.accepted() && s.read_us >= change_us)
        .map(|s| s.read_us)
        .collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate of hundreds"
    )]
    let needed = rate.ceil().max(1.0) as usize;
    let first = taken
        .windows(needed)
        .find(|w| matches!((w.first(), w.last()), (Some(a), Some(b)) if b - a < 1_000_000))?;
    Some(super::verdict::seconds(first.first()? - change_us))
}

/// For each worker, seconds from then to its last request; 0 for one that sent nothing any more.
pub(crate) fn last_after(seen: &[Seen], from_us: u64) -> Vec<f64> {
    let mut last: BTreeMap<u16, u64> = seen.iter().map(|s| (s.worker, from_us)).collect();
    for s in seen.iter().filter(|s| s.read_us > from_us) {
        last.insert(s.worker, s.read_us);
    }
    let seconds = |until: u64| Duration::from_micros(until - from_us).as_secs_f64();
    last.into_values().map(seconds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::verdict::tests::seen;

    /// One request every `every_us`, every tenth throttled.
    fn stream(from_us: u64, every_us: u64, count: u64) -> Vec<Seen> {
        (0..count)
            .map(|i| {
                let status = if i % 10 == 9 { 429 } else { 204 };
                seen(from_us + i * every_us, 0, 0, status)
            })
            .collect()
    }

    #[test]
    fn goodput_and_the_share_of_429_are_those_of_the_window() {
        let all = stream(0, 10_000, 1_000);
        assert!((goodput(&all, 2_000_000, 6_000_000) - 90.0).abs() < 0.1);
        let one_worker = goodput_per_worker(&all, 2_000_000, 6_000_000);
        assert_eq!(one_worker, [goodput(&all, 2_000_000, 6_000_000)]);
        assert!((share_throttled(&all, 2_000_000, 6_000_000) - 0.1).abs() < 0.001);
        assert_eq!(share_throttled(&all, 20_000_000, 30_000_000), 0.0);
    }

    #[test]
    fn a_sliding_second_is_half_open() {
        assert_eq!(most_in_a_second(&stream(0, 10_000, 300)), 100);
        let burst = [stream(0, 10_000, 100), stream(1_000_000, 1_000, 50)].concat();
        assert_eq!(most_in_a_second(&burst), 145);
    }

    #[test]
    fn a_new_rate_is_reached_when_its_first_full_second_begins() {
        let all = [stream(0, 10_000, 250), stream(2_500_000, 5_000, 1_000)].concat();
        let after = reached_after(&all, 1_000_000, 180.0).unwrap();
        assert!((1.4..1.6).contains(&after), "{after}");
        assert_eq!(reached_after(&all, 1_000_000, 300.0), None);
    }
}
