//! Metrics of the ledger. Labels come from closed vocabularies only.

use std::time::Duration;

use bongsu_runtime::Metrics;
use bongsu_store::{ApplyReport, Finding};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};

/// Handles, built once.
#[derive(Debug, Clone)]
pub struct LedgerMetrics {
    receipts: Counter<u64>,
    skipped: Counter<u64>,
    apply_seconds: Histogram<f64>,
    age_seconds: Histogram<f64>,
    lag: Gauge<u64>,
    failures: Counter<u64>,
    dead_letters: Counter<u64>,
}

const SECONDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
];

impl LedgerMetrics {
    /// Registers the instruments.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let meter = metrics.meter("bongsu_ledger");
        let seconds = |name: &'static str, what: &'static str| {
            meter
                .f64_histogram(name)
                .with_description(what)
                .with_boundaries(SECONDS.to_vec())
                .build()
        };
        let counter = |name: &'static str, what: &'static str| {
            meter.u64_counter(name).with_description(what).build()
        };
        Self {
            receipts: counter(
                "bongsu_ledger_receipts",
                "Receipts written, copies included, by kind and outcome.",
            ),
            skipped: counter(
                "bongsu_ledger_skipped_receipts",
                "Receipts that another ledger had written. Alert on a steady rate: two ledgers \
                 believe in the same partition.",
            ),
            apply_seconds: seconds(
                "bongsu_ledger_apply_duration_seconds",
                "Time of one database transaction. Alert above a second.",
            ),
            age_seconds: seconds(
                "bongsu_ledger_age_seconds",
                "Age of the oldest record of a batch when it was written. Alert above a minute.",
            ),
            lag: meter
                .u64_gauge("bongsu_ledger_lag_records")
                .with_description("Receipts not yet committed by the group. Alert when rising.")
                .build(),
            failures: counter(
                "bongsu_ledger_failures",
                "Batches that could not be written at the first try, by what failed.",
            ),
            dead_letters: counter("bongsu_dead_letters", "Records put aside. Alert on any."),
        }
    }

    /// A batch was written.
    pub fn applied(&self, report: ApplyReport, took: Duration, age: Duration) {
        self.skipped.add(report.skipped as u64, &[]);
        self.apply_seconds.record(took.as_secs_f64(), &[]);
        self.age_seconds.record(age.as_secs_f64(), &[]);
    }

    /// A receipt was in a batch that was written.
    pub fn received(&self, finding: &Finding) {
        let (kind, outcome) = match finding {
            Finding::Event(outcome) => ("event", outcome.as_str()),
            // An attempt's result is no closed vocabulary on the wire.
            Finding::Attempt { .. } => ("attempt", "none"),
            Finding::Outcome { outcome, .. } => ("outcome", outcome.as_str()),
            Finding::Report { outcome, .. } => ("report", outcome.as_str()),
        };
        let labels = [
            KeyValue::new("kind", kind),
            KeyValue::new("outcome", outcome),
        ];
        self.receipts.add(1, &labels);
    }

    /// So many records of the group wait.
    pub fn lags(&self, records: u64) {
        self.lag.record(records, &[]);
    }

    /// Something that is waited for failed.
    pub fn failed(&self, what: &'static str) {
        self.failures.add(1, &[KeyValue::new("what", what)]);
    }

    /// A record was put aside.
    pub fn dead_lettered(&self, reason: &'static str) {
        self.dead_letters.add(1, &[KeyValue::new("reason", reason)]);
    }
}
