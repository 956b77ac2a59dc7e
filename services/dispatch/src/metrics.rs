//! Metrics of dispatch. Labels come from closed vocabularies only.

use bongsu_channels::provider::AttemptResult;
use bongsu_domain::{Channel, Class, Settled};
use bongsu_runtime::Metrics;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, UpDownCounter};

/// Handles for one channel and class, built once.
#[derive(Debug, Clone)]
pub struct DispatchMetrics {
    attempts: Counter<u64>,
    attempt_seconds: Histogram<f64>,
    outcomes: Counter<u64>,
    age_seconds: Histogram<f64>,
    in_flight: UpDownCounter<i64>,
    restored: Counter<u64>,
    mismatches: Counter<u64>,
    dead_letters: Counter<u64>,
    parked: Counter<u64>,
    restore_seconds: Histogram<f64>,
    restore_bytes: Counter<u64>,
    stalls: Counter<u64>,
    labels: [KeyValue; 2],
}

const SECONDS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

impl DispatchMetrics {
    /// Registers the instruments.
    #[must_use]
    pub fn new(metrics: &Metrics, channel: Channel, class: Class) -> Self {
        let meter = metrics.meter("bongsu_dispatch");
        Self {
            attempts: meter
                .u64_counter("bongsu_attempts")
                .with_description("Provider calls, by result. Alert on a rising share of unknown.")
                .build(),
            attempt_seconds: meter
                .f64_histogram("bongsu_attempt_duration_seconds")
                .with_description("Time of one provider call.")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            outcomes: meter
                .u64_counter("bongsu_outcomes")
                .with_description("Deliveries ended, by outcome and reason. Alert on dead.")
                .build(),
            age_seconds: meter
                .f64_histogram("bongsu_delivery_age_seconds")
                .with_description("From the event's broker time to the outcome. Alert on p99.")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            in_flight: meter
                .i64_up_down_counter("bongsu_attempts_in_flight")
                .with_description("Attempts under way; returns to zero.")
                .build(),
            restored: meter
                .u64_counter("bongsu_restored_deliveries")
                .with_description("Deliveries not sent again because results held their receipt.")
                .build(),
            mismatches: meter
                .u64_counter("bongsu_restore_mismatches")
                .with_description("Receipts of another delivery at an offset. Alert on any.")
                .build(),
            dead_letters: meter
                .u64_counter("bongsu_dead_letters")
                .with_description("Records put aside. Alert on any.")
                .build(),
            parked: meter
                .u64_counter("bongsu_parked_deliveries")
                .with_description("Deliveries that went to the side lane.")
                .build(),
            restore_seconds: meter
                .f64_histogram("bongsu_restore_duration_seconds")
                .with_description("Time to read what newly assigned partitions need.")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            restore_bytes: meter
                .u64_counter("bongsu_restore_bytes")
                .with_description("Bytes read for it.")
                .build(),
            stalls: meter
                .u64_counter("bongsu_stalls")
                .with_description("Partitions given up because they could not go on. Alert on any.")
                .build(),
            labels: [
                KeyValue::new("channel", channel.as_str()),
                KeyValue::new("class", class.as_str()),
            ],
        }
    }

    fn with(&self, more: &[KeyValue]) -> Vec<KeyValue> {
        self.labels.iter().chain(more).cloned().collect()
    }

    /// Attempts were started.
    pub fn started(&self, count: usize) {
        self.in_flight
            .add(i64::try_from(count).unwrap_or(i64::MAX), &self.labels);
    }

    /// An attempt ended.
    pub fn attempted(&self, result: AttemptResult, took: std::time::Duration) {
        let word = match result {
            AttemptResult::Accepted => "accepted",
            AttemptResult::Refused(_) => "refused",
            AttemptResult::Throttled { .. } => "throttled",
            AttemptResult::Unavailable => "unavailable",
            AttemptResult::Unknown => "unknown",
            AttemptResult::NotProcessed => "not_processed",
            AttemptResult::AccountFault => "account_fault",
        };
        self.in_flight.add(-1, &self.labels);
        self.attempts
            .add(1, &self.with(&[KeyValue::new("result", word)]));
        self.attempt_seconds
            .record(took.as_secs_f64(), &self.labels);
    }

    /// A delivery ended `age_ms` after its event.
    pub fn settled(&self, settled: Settled, age_ms: i64) {
        let labels = self.with(&[
            KeyValue::new("outcome", settled.outcome.as_str()),
            KeyValue::new("reason", settled.reason.as_str()),
        ]);
        self.outcomes.add(1, &labels);
        #[expect(
            clippy::cast_precision_loss,
            reason = "an age in milliseconds is below 2^52"
        )]
        self.age_seconds
            .record(age_ms as f64 / 1_000.0, &self.labels);
    }

    /// Deliveries went to the side lane.
    pub fn parked(&self, count: u64) {
        self.parked.add(count, &self.labels);
    }

    /// What newly assigned partitions need was read.
    pub fn restore(&self, took: std::time::Duration, bytes: u64) {
        self.restore_seconds
            .record(took.as_secs_f64(), &self.labels);
        self.restore_bytes.add(bytes, &self.labels);
    }

    /// A partition could not go on and was given up.
    pub fn stalled(&self) {
        self.stalls.add(1, &self.labels);
    }

    /// A delivery was found settled in `results`.
    pub fn restored(&self) {
        self.restored.add(1, &self.labels);
    }

    /// `results` spoke of another delivery.
    pub fn mismatched(&self) {
        self.mismatches.add(1, &self.labels);
    }

    /// A record was put aside.
    pub fn dead_lettered(&self, reason: &'static str) {
        self.dead_letters
            .add(1, &self.with(&[KeyValue::new("reason", reason)]));
    }
}
