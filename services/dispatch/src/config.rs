//! Settings of dispatch.

use bongsu_policy::RetryPolicy;
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{ByteSize, Duration, settings};

settings! {
    /// Sending: how much at once, how long, how often again.
    pub struct Settings {
        /// Attempts open at once per channel and process.
        pub max_in_flight: usize = 512,
        /// Longest time one attempt may take, its answer included.
        pub attempt_timeout: Duration = Duration::secs(10),
        /// Unsettled deliveries one partition may hold; above it, reading the partition pauses.
        pub window_records: usize = 2_000,
        /// Bytes of unsettled deliveries one partition may hold.
        pub window_size: ByteSize = ByteSize::mib(8),
        /// Bytes that may wait between Kafka and the windows, per class.
        pub fetch_buffer: ByteSize = ByteSize::mib(16),
        /// Kafka declares a silent worker dead after this; longer than an attempt, so that a cut-off
        /// worker has finished before its successor starts.
        pub session_timeout: Duration = Duration::secs(20),
        /// How often finished work is committed.
        pub commit_interval: Duration = Duration::secs(1),
        /// How long attempts under way may take to finish at a revocation or shutdown; longer than an
        /// attempt.
        pub drain_timeout: Duration = Duration::secs(15),
        /// How long a batch of receipts may wait to fill.
        pub receipt_linger: Duration = Duration::millis(2),
        /// Upper bound of the wait after the first failed attempt; doubles from there.
        pub retry_base: Duration = Duration::millis(200),
        /// Upper bound of every wait between attempts.
        pub retry_cap: Duration = Duration::secs(30),
        /// Attempts after which a delivery is dead (or unknown, when no answer was seen).
        pub max_attempts: u32 = 12,
        /// How long the schema of a record may stay unknown before it is a dead letter.
        pub schema_patience: Duration = Duration::secs(30),
    }
}

impl Settings {
    /// Checks across fields; `section` prefixes the keys.
    #[must_use]
    pub fn complaints(&self, section: &str) -> Vec<Complaint> {
        let mut out = Vec::new();
        let mut say = |key: &str, wrong: bool, message: String| {
            if wrong {
                out.push(Complaint::new(format!("{section}.{key}"), message));
            }
        };
        say(
            "max_in_flight",
            self.max_in_flight == 0,
            "must be at least 1".into(),
        );
        say(
            "window_records",
            self.window_records == 0,
            "must be at least 1".into(),
        );
        say(
            "max_attempts",
            self.max_attempts == 0,
            "must be at least 1".into(),
        );
        say(
            "drain_timeout",
            self.drain_timeout <= self.attempt_timeout,
            format!(
                "must be longer than attempt_timeout ({})",
                self.attempt_timeout
            ),
        );
        say(
            "session_timeout",
            self.session_timeout <= self.attempt_timeout,
            format!(
                "must be longer than attempt_timeout ({})",
                self.attempt_timeout
            ),
        );
        say(
            "retry_cap",
            self.retry_cap < self.retry_base,
            format!("must be at least retry_base ({})", self.retry_base),
        );
        out
    }

    /// The retry policy these settings ask for.
    #[must_use]
    pub fn retry_policy(&self) -> RetryPolicy {
        let millis = |d: Duration| i64::try_from(d.0.as_millis()).unwrap_or(i64::MAX);
        RetryPolicy {
            base_ms: millis(self.retry_base),
            cap_ms: millis(self.retry_cap),
            max_attempts: self.max_attempts,
        }
    }
}
