//! Metrics of the ledger. Labels come from closed vocabularies only.

use std::time::Duration;

use bongsu_runtime::instruments;
use bongsu_store::{ApplyReport, Finding};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};

const SECONDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
];

instruments! {
    /// Handles, built once.
    pub struct LedgerMetrics in "bongsu_ledger" {
        /// Receipts written, copies included, by kind and outcome.
        receipts: Counter<u64> = "bongsu_ledger_receipts" of "receipts" by [kind, outcome], alert "";
        /// Receipts that another ledger had written.
        skipped: Counter<u64> = "bongsu_ledger_skipped_receipts" of "receipts" by [], alert "on a steady rate: two ledgers believe in the same partition";
        /// Time of one database transaction.
        apply_seconds: Histogram<f64> = "bongsu_ledger_apply_duration_seconds" of "seconds" in SECONDS by [], alert "above a second";
        /// Age of the oldest record of a batch when it was written.
        age_seconds: Histogram<f64> = "bongsu_ledger_age_seconds" of "seconds" in SECONDS by [], alert "above a minute";
        /// Receipts not yet committed by the group.
        lag: Gauge<u64> = "bongsu_ledger_lag_records" of "records" by [], alert "when rising";
        /// Batches that could not be written at the first try, by what failed.
        failures: Counter<u64> = "bongsu_ledger_failures" of "batches" by [what], alert "on a steady rate";
        /// Records put aside.
        dead_letters: Counter<u64> = "bongsu_dead_letters" of "records" by [reason], alert "on any";
    }
}

impl LedgerMetrics {
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
