//! Metrics of the ledger. Labels come from closed vocabularies only.

use std::time::Duration;

use bongsu_runtime::{Metrics, instruments};
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

instruments! {
    /// The instruments of hygiene.
    pub struct HygieneInstruments in "bongsu_hygiene" {
        /// Decisions on addresses: `retired`, `suspected`, `complained` (a reader wants no more), `restored` or `cleared`.
        decisions: Counter<u64> = "bongsu_hygiene_decisions" of "addresses" by [decision], alert "on a jump of `retired`";
        /// Addresses said to be dead that the guard did not believe.
        withheld: Counter<u64> = "bongsu_hygiene_withheld" of "addresses" by [], alert "on any: an environment, topic or credential is probably wrong";
        /// Apps in which nothing is retired because too many addresses are said to be dead at once.
        guarded: Gauge<u64> = "bongsu_hygiene_guarded_scopes" of "scopes" by [], alert "above zero";
        /// Suppression records that mean nothing to this version.
        unreadable: Counter<u64> = "bongsu_hygiene_unreadable" of "records" by [], alert "on any";
    }
}

instruments! {
    /// The instruments of reports without our reference.
    pub struct ReportInstruments in "bongsu_ledger_unmapped" {
        /// Reports that carry a provider's own id only: `kept` until their delivery is known, then
        /// `mapped`, or given up as `unknown` (nobody has the id) or `ambiguous` (two have it);
        /// `not_final` and forged ones are passed over.
        reports: Counter<u64> = "bongsu_ledger_unmapped_reports" of "reports" by [result], alert "on a steady rate of `unknown`, on any `ambiguous`";
    }
}

/// Handles of reports without our reference, built once.
#[derive(Debug, Clone)]
pub struct ReportMetrics(ReportInstruments);

impl ReportMetrics {
    /// Registers the instruments.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self(ReportInstruments::new(metrics))
    }

    /// So many reports came to this.
    pub fn reports(&self, result: &'static str, reports: usize) {
        let label = KeyValue::new("result", result);
        self.0.reports.add(reports as u64, &[label]);
    }
}

/// Handles of hygiene, built once.
#[derive(Debug, Clone)]
pub struct HygieneMetrics(HygieneInstruments);

impl HygieneMetrics {
    /// Registers the instruments.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self(HygieneInstruments::new(metrics))
    }

    /// An address was decided on.
    pub fn decided(&self, decision: &'static str) {
        let label = KeyValue::new("decision", decision);
        self.0.decisions.add(1, &[label]);
    }

    /// Addresses were not believed to be dead.
    pub fn withheld(&self, addresses: u64) {
        self.0.withheld.add(addresses, &[]);
    }

    /// So many scopes are guarded.
    pub fn guarded(&self, scopes: usize) {
        self.0.guarded.record(scopes as u64, &[]);
    }

    /// A record means nothing.
    pub fn unreadable(&self) {
        self.0.unreadable.add(1, &[]);
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
