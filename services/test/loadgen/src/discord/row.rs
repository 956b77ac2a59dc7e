//! What a scenario came to.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::Value;

use super::Scenario;
use super::twin::Seen;
use super::world::Used;

/// The part of the bound that is promised.
const SHARE: f64 = 0.95;
/// Seconds that the quick form leaves beside: until a worker that begins has the whole limit, which
/// its few seconds do not hide.
const QUICK_BEGINNING: f64 = 5.0;

/// One scenario's figures.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    story: &'static str,
    scenario: &'static str,
    system: &'static str,
    notifications: usize,
    workers: usize,
    accepted: u64,
    /// Webhooks that do not exist, and how many of them were asked more than once.
    dead: usize,
    dead_asked_again: usize,
    /// From the first request to the last, as the twin read them.
    seconds: f64,
    /// What the limit of the address allows; 0 where the load does not use it up.
    bound_seconds: f64,
    share_of_bound: f64,
    per_second: f64,
    limit_per_second: u32,
    /// The most requests in any sliding second.
    most_in_a_second: u64,
    /// Answers 429.
    violations: usize,
    /// Of the steady stream, from its hand-over to Kafka to the twin; 0 without one.
    p50_ms: f64,
    p99_ms: f64,
    lost: usize,
    duplicates: u64,
    duplicate_bound: u64,
    cpu_us_per_notification: f64,
    /// The most memory a dispatch process ever took, MiB.
    memory_peak_mib: f64,
    /// Whether every promise was kept.
    pub(crate) kept: bool,
}

/// What is judged.
pub(super) struct Case<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) quick: bool,
    pub(super) wanted: usize,
    pub(super) dead: usize,
    pub(super) steady: usize,
    pub(super) seen: &'a [Seen],
    pub(super) report: &'a Value,
    pub(super) used: Used,
    pub(super) stamps: BTreeMap<usize, u64>,
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
pub(super) fn judge(case: &Case<'_>) -> Row {
    let (scenario, seen) = (case.scenario, case.seen);
    let times = || seen.iter().map(|s| s.read_us);
    let micros = times().max().unwrap_or(0) - times().min().unwrap_or(0);
    let seconds = micros as f64 / 1e6;
    let limit = f64::from(scenario.per_second);
    let bound = if scenario.mix.is_none() {
        seen.len().saturating_sub(1) as f64 / limit
    } else {
        0.0
    };
    let with = |status: u16| seen.iter().filter(move |s| s.status == Some(status));
    let mut asked: HashMap<i64, usize> = HashMap::new();
    for seq in with(404).filter_map(|s| s.seq) {
        *asked.entry(seq).or_default() += 1;
    }
    let arrived = seen.iter().filter(|s| s.status.is_some_and(|s| s < 400));
    let accepted = arrived.clone().count() as u64;
    let numbers: std::collections::HashSet<i64> = arrived.filter_map(|s| s.seq).collect();
    let most = case.report["max_in_window"]["1000"].as_u64().unwrap_or(0);
    let duplicates = case.report["duplicates"].as_u64().unwrap_or(0);
    let lost = (case.wanted - case.dead).saturating_sub(numbers.len());
    let (p50_ms, p99_ms) = lateness(case);
    let violations = with(429).count();
    let share_of_bound = if seconds > 0.0 { bound / seconds } else { 0.0 };
    let beginning = if case.quick { QUICK_BEGINNING } else { 0.0 };
    let in_time = seconds <= bound / SHARE + beginning;
    let dead_asked_again = asked.values().filter(|n| **n > 1).count();
    Row {
        story: "discord",
        scenario: scenario.name,
        system: "bongsu",
        notifications: case.wanted,
        workers: scenario.workers,
        accepted,
        dead: asked.len(),
        dead_asked_again,
        seconds,
        bound_seconds: bound,
        share_of_bound,
        per_second: seen.len() as f64 / seconds.max(1e-6),
        limit_per_second: scenario.per_second,
        most_in_a_second: most,
        violations,
        p50_ms,
        p99_ms,
        lost,
        duplicates,
        // Nothing is killed and no answer withheld.
        duplicate_bound: 0,
        cpu_us_per_notification: case.used.cpu_us as f64 / case.wanted as f64,
        memory_peak_mib: case.used.peak_kib as f64 / 1_024.0,
        kept: (scenario.mix.is_some() || in_time)
            && violations == 0
            && most <= u64::from(scenario.per_second)
            && lost == 0
            && duplicates == 0
            && asked.len() == case.dead
            && dead_asked_again == 0,
    }
}

/// Half and 99 % of the steady deliveries were read within so many milliseconds.
#[expect(clippy::cast_precision_loss, reason = "times of a benchmark")]
fn lateness(case: &Case<'_>) -> (f64, f64) {
    let mut late: Vec<u64> = case
        .seen
        .iter()
        .filter_map(|seen| {
            let number = usize::try_from(seen.seq?)
                .ok()
                .filter(|n| *n < case.steady)?;
            Some(seen.read_us.saturating_sub(*case.stamps.get(&number)?))
        })
        .collect();
    late.sort_unstable();
    let at = |percent: usize| {
        let last = late.len().saturating_sub(1);
        late.get(last * percent / 100)
            .map_or(0.0, |us| *us as f64 / 1e3)
    };
    (at(50), at(99))
}
