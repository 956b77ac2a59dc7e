//! Settings of fanout.

use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{ByteSize, Duration, settings};

settings! {
    /// Events into deliveries.
    pub struct Settings {
        /// The replica's slot: its transactional ids are `fanout.<class>.<slot>`. A restart in the
        /// same slot ends what its predecessor left open at once.
        pub slot: String = "0".to_owned(),
        /// A transaction is committed at the latest after this time.
        pub commit_interval: Duration = Duration::millis(20),
        /// A transaction is committed when it holds this many records.
        pub commit_records: usize = 1_000,
        /// How long an event id is remembered per sender, in broker time.
        pub repeat_window: Duration = Duration::secs(3_600),
        /// Look-ups of recipients that may run at once, per class.
        pub lookups_in_flight: usize = 256,
        /// Events one partition may hold that are not committed; above it, reading pauses.
        pub window_records: usize = 5_000,
        /// Bytes of events one partition may hold that are not committed.
        pub window_size: ByteSize = ByteSize::mib(8),
        /// Bytes that may wait between Kafka and the windows, per class.
        pub fetch_buffer: ByteSize = ByteSize::mib(16),
        /// Kafka declares a silent worker dead after this; the transaction is its fence, so it may
        /// be short.
        pub session_timeout: Duration = Duration::secs(6),
        /// How long the schema of a record may stay unknown before it is a dead letter.
        pub schema_patience: Duration = Duration::secs(30),
    }
}

impl Settings {
    /// Checks across fields; `section` prefixes the keys.
    #[must_use]
    pub fn complaints(&self, section: &str) -> Vec<Complaint> {
        let mut out = Vec::new();
        for (key, wrong) in [
            ("commit_records", self.commit_records == 0),
            ("lookups_in_flight", self.lookups_in_flight == 0),
            ("window_records", self.window_records == 0),
        ] {
            if wrong {
                out.push(Complaint::new(
                    format!("{section}.{key}"),
                    "must be at least 1",
                ));
            }
        }
        if self.slot.is_empty() {
            out.push(Complaint::new(
                format!("{section}.slot"),
                "must not be empty",
            ));
        }
        if self.repeat_window > Duration::secs(24 * 3_600) {
            out.push(Complaint::new(
                format!("{section}.repeat_window"),
                "must be at most 24h",
            ));
        }
        out
    }
}
