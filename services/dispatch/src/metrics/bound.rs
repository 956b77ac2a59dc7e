//! Handles whose labels are bound already: what is counted for every delivery costs no look-up.

use std::sync::{OnceLock, PoisonError, RwLock};

use bongsu_channels::provider::AttemptResult;
use bongsu_domain::{Platform, Settled};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundHistogram, BoundUpDownCounter};

use super::apps::Apps;
use super::{Instruments, Lateness};

/// Pairs of platform and app with handles of their own; further ones are looked up each time.
const MAX_PAIRS: usize = 64;

/// The words of attempts' results, in the order of [`Bound::attempts`].
const RESULTS: [&str; 8] = [
    "accepted",
    "refused",
    "throttled",
    "unavailable",
    "unknown",
    "not_processed",
    "account_fault",
    "doubted",
];

const fn index_of(result: AttemptResult) -> usize {
    match result {
        AttemptResult::Accepted => 0,
        AttemptResult::Refused(_) => 1,
        AttemptResult::Throttled { .. } => 2,
        AttemptResult::Unavailable => 3,
        AttemptResult::Unknown => 4,
        AttemptResult::NotProcessed => 5,
        AttemptResult::AccountFault => 6,
        AttemptResult::Doubted => 7,
    }
}

/// One channel's and class's handles. Those of values that may never come are bound at their first.
#[derive(Debug)]
pub(super) struct Bound {
    labels: [KeyValue; 2],
    pub(super) in_flight: BoundUpDownCounter<i64>,
    pub(super) attempt_seconds: BoundHistogram<f64>,
    pub(super) age_seconds: BoundHistogram<f64>,
    pub(super) admitted: BoundCounter<u64>,
    attempts: [OnceLock<BoundCounter<u64>>; 8],
    outcomes: RwLock<Vec<(Settled, BoundCounter<u64>)>>,
    lateness: RwLock<Vec<Late>>,
}

/// The handles of one platform and app.
#[derive(Debug)]
struct Late {
    platform: Platform,
    app: Option<Box<str>>,
    total: BoundHistogram<f64>,
    parts: [OnceLock<(BoundHistogram<f64>, BoundCounter<f64>)>; 5],
}

impl Bound {
    pub(super) fn new(on: &Instruments, labels: [KeyValue; 2]) -> Self {
        Self {
            in_flight: on.in_flight.bind(&labels),
            attempt_seconds: on.attempt_seconds.bind(&labels),
            age_seconds: on.age_seconds.bind(&labels),
            admitted: on.admitted.bind(&labels),
            attempts: Default::default(),
            outcomes: RwLock::default(),
            lateness: RwLock::default(),
            labels,
        }
    }

    fn with<const N: usize>(&self, more: [KeyValue; N]) -> Vec<KeyValue> {
        self.labels.iter().cloned().chain(more).collect()
    }

    pub(super) fn attempted(&self, on: &Instruments, result: AttemptResult) {
        let index = index_of(result);
        self.attempts[index]
            .get_or_init(|| {
                let word = KeyValue::new("result", RESULTS[index]);
                on.attempts.bind(&self.with([word]))
            })
            .add(1);
    }

    pub(super) fn settled(&self, on: &Instruments, settled: Settled) {
        {
            let known = self.outcomes.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, counter)) = known.iter().find(|(key, _)| *key == settled) {
                return counter.add(1);
            }
        }
        let counter = on.outcomes.bind(&self.with([
            KeyValue::new("outcome", settled.outcome.as_str()),
            KeyValue::new("reason", settled.reason.as_str()),
        ]));
        counter.add(1);
        let mut known = self
            .outcomes
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        known.push((settled, counter));
    }

    pub(super) fn lateness(
        &self,
        on: &Instruments,
        apps: &Apps,
        platform: Platform,
        app: Option<&str>,
        lateness: Lateness,
    ) {
        {
            let known = self.lateness.read().unwrap_or_else(PoisonError::into_inner);
            let found = known
                .iter()
                .find(|late| late.platform == platform && late.app.as_deref() == app);
            if let Some(late) = found {
                return self.record(on, apps, late, lateness);
            }
        }
        let late = Late {
            platform,
            app: app.map(Into::into),
            total: on.lateness.bind(&self.with([
                KeyValue::new("platform", platform.as_str()),
                KeyValue::new("app", apps.label(app)),
            ])),
            parts: Default::default(),
        };
        self.record(on, apps, &late, lateness);
        let mut known = self
            .lateness
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_PAIRS {
            known.push(late);
        }
    }

    fn record(&self, on: &Instruments, apps: &Apps, late: &Late, lateness: Lateness) {
        let mut total = 0.0;
        for ((word, took), bound) in lateness.parts().into_iter().zip(&late.parts) {
            if took.is_zero() {
                continue;
            }
            let seconds = took.as_secs_f64();
            total += seconds;
            let (part, sum) = bound.get_or_init(|| {
                let part = KeyValue::new("part", word);
                let platform = KeyValue::new("platform", late.platform.as_str());
                let app = KeyValue::new("app", apps.label(late.app.as_deref()));
                (
                    on.lateness_part.bind(&self.with([platform, part.clone()])),
                    on.lateness_sum.bind(&self.with([app, part])),
                )
            });
            part.record(seconds);
            sum.add(seconds);
        }
        late.total.record(total);
    }
}
