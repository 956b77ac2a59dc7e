//! Settings of the ledger.

use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{ByteSize, Duration, settings};

use crate::hygiene::HygieneSettings;

settings! {
    /// Receipts into the store.
    pub struct Settings {
        /// Most receipts of one database transaction.
        pub batch_records: usize = 2_000,
        /// How long a batch may wait to fill.
        pub batch_wait: Duration = Duration::millis(150),
        /// Bytes that may wait between Kafka and the backlog.
        pub fetch_buffer: ByteSize = ByteSize::mib(8),
        /// Records that may wait for the store; above it, reading pauses.
        pub backlog_records: usize = 20_000,
        /// Longest time one database transaction may take.
        pub apply_timeout: Duration = Duration::secs(15),
        /// Upper bound of the wait after the store failed once; doubles from there.
        pub retry_base: Duration = Duration::millis(200),
        /// Upper bound of every wait for the store.
        pub retry_cap: Duration = Duration::secs(10),
        /// Kafka declares a silent ledger dead after this.
        pub session_timeout: Duration = Duration::secs(20),
        /// How long writing what was read may take at shutdown; what is left is read again.
        pub drain_timeout: Duration = Duration::secs(20),
        /// How long the schema of a record may stay unknown before it is a dead letter.
        pub schema_patience: Duration = Duration::secs(30),
        /// How often the lag is measured.
        pub lag_interval: Duration = Duration::secs(5),
        /// How long a provider's report is kept whose delivery is not known: it may come before the
        /// outcome, and it may never be ours.
        pub reports_kept: Duration = Duration::secs(72 * 3_600),
        /// Retiring dead addresses; see the section of its own.
        pub hygiene: HygieneSettings = HygieneSettings::default(),
    }
}

impl Settings {
    /// Checks across fields; `section` prefixes the keys.
    #[must_use]
    pub fn complaints(&self, section: &str) -> Vec<Complaint> {
        let mut out = Vec::new();
        let mut say = |key: &str, wrong: bool, message: &str| {
            if wrong {
                out.push(Complaint::new(format!("{section}.{key}"), message));
            }
        };
        say(
            "batch_records",
            self.batch_records == 0,
            "must be at least 1",
        );
        say(
            "backlog_records",
            self.backlog_records < self.batch_records,
            "must be at least batch_records",
        );
        say(
            "drain_timeout",
            self.drain_timeout < self.apply_timeout,
            "must be at least apply_timeout",
        );
        say(
            "retry_cap",
            self.retry_cap < self.retry_base,
            "must be at least retry_base",
        );
        say(
            "lag_interval",
            self.lag_interval < Duration::millis(100),
            "must be at least 100ms",
        );
        out.extend(self.hygiene.complaints(&format!("{section}.hygiene")));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_accepted_and_contradictions_are_all_named() {
        assert_eq!(Settings::default().complaints("ledger"), []);
        let wrong = Settings {
            batch_records: 0,
            retry_cap: Duration::millis(1),
            ..Settings::default()
        };
        let complaints = wrong.complaints("ledger");
        let keys: Vec<_> = complaints.iter().map(|c| c.key.as_str()).collect();
        assert_eq!(keys, ["ledger.batch_records", "ledger.retry_cap"]);
    }
}
