//! Settings of dispatch.

use bongsu_policy::RetryPolicy;
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{ByteSize, Duration, Ratio, settings};

/// How much two clocks, and a busy machine, may be apart.
const DRIFT: std::time::Duration = std::time::Duration::from_millis(1_500);

use crate::guard::GuardSettings;

settings! {
    /// Sending: how much at once, how long, how often again.
    pub struct Settings {
        /// Attempts open at once per channel and process.
        pub max_in_flight: usize = 512,
        /// Longest time one attempt may take, its answer included.
        pub attempt_timeout: Duration = Duration::secs(10),
        /// Share of those places that bulk deliveries may take together, so that a campaign never
        /// takes the last one from a transactional delivery.
        pub bulk_share: Ratio = Ratio::percent(80),
        /// Where more than one transactional delivery in forty starts later than this after it was
        /// written to Kafka (behind limits, stops and others of its key not counted), bulk yields: it
        /// falls to a thirty-second of its places and grows back while they are on time. 0s switches
        /// that off.
        pub bulk_yields_at: Duration = Duration::millis(40),
        /// Unsettled deliveries one partition may hold; above it, reading the partition pauses.
        pub window_records: usize = 2_000,
        /// Bytes of deliveries that a channel holds in this process, what Kafka's client has read
        /// ahead included. Each of its two classes has half: half of that for the windows of its
        /// partitions, a quarter each for reading ahead and for the side lanes.
        pub memory: ByteSize = ByteSize::mib(32),
        /// A key that waits this long, or whose delivery has failed for this long, goes to the side
        /// lane with its followers.
        pub divert_after: Duration = Duration::secs(30),
        /// A sender that holds more than this share of a full window, while others speak in its
        /// partition too, goes through the side lane until little is left of it: what is read behind
        /// it need not wait for it. 100% switches that off.
        pub flood_share: Ratio = Ratio::percent(75),
        /// Kafka declares a silent worker dead after this. `lease` + `attempt_timeout` + a heartbeat
        /// (a sixth of this) + two seconds must fit into it, so that a cut-off worker has finished
        /// before its successor starts.
        pub session_timeout: Duration = Duration::secs(20),
        /// How long after a commit that Kafka took attempts may start.
        pub lease: Duration = Duration::secs(4),
        /// Deliveries that may be started beyond the last commit: after a crash at most so many are
        /// marked as possible duplicates although they were sent once.
        pub headroom: u32 = 50_000,
        /// A partition that stands still for this long is named with what it stands for; one whose attempt
        /// does not end is given up in order and taken anew.
        pub stall_after: Duration = Duration::secs(90),
        /// How often finished work is committed.
        pub commit_interval: Duration = Duration::secs(1),
        /// How long attempts under way may take to finish at a revocation or shutdown; longer than an
        /// attempt.
        pub drain_timeout: Duration = Duration::secs(15),
        /// Time between two hand-overs of receipts to Kafka; a lonely one goes within 2 ms. After a
        /// crash what was answered within it is sent again; a shorter one costs a request for nearly
        /// every receipt.
        pub receipt_linger: Duration = Duration::millis(10),
        /// Upper bound of the wait after the first failed attempt; doubles from there.
        pub retry_base: Duration = Duration::millis(200),
        /// Upper bound of every wait between attempts.
        pub retry_cap: Duration = Duration::secs(30),
        /// Attempts after which a delivery is dead (or unknown, when no answer was seen).
        pub max_attempts: u32 = 12,
        /// Name of the public IP address this process sends from; workers of the same name share its
        /// limits. The host's name when empty.
        pub egress: String = String::new(),
        /// How long the schema of a record may stay unknown before it is a dead letter.
        pub schema_patience: Duration = Duration::secs(30),
        /// Holding back what is said too often to one address; see the section of its own.
        pub repeat_guard: GuardSettings = GuardSettings::default(),
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
            self.session_timeout.0 <= self.longest_silence(),
            format!(
                "must be longer than lease ({}) + attempt_timeout ({}) + a sixth of itself + 2s, or a \
                 cut-off worker could still send while its successor has begun; shorten lease or \
                 attempt_timeout, or lengthen it",
                self.lease, self.attempt_timeout
            ),
        );
        say(
            "lease",
            self.lease.0 <= self.commit_interval.0 * 2,
            format!(
                "must be longer than two commit intervals ({})",
                self.commit_interval
            ),
        );
        say(
            "stall_after",
            self.stall_after <= self.attempt_timeout,
            format!(
                "must be longer than attempt_timeout ({})",
                self.attempt_timeout
            ),
        );
        say(
            "memory",
            self.memory.0 < 1024 * 1024,
            "must be at least 1MiB".into(),
        );
        say(
            "retry_cap",
            self.retry_cap < self.retry_base,
            format!("must be at least retry_base ({})", self.retry_base),
        );
        out.extend(
            self.repeat_guard
                .complaints(&format!("{section}.repeat_guard")),
        );
        out
    }

    /// The longest time between the last word of the group to a worker and the end of its last
    /// attempt, and the drift of two clocks besides.
    fn longest_silence(&self) -> std::time::Duration {
        self.lease.0
            + self.attempt_timeout.0
            + crate::owner::ATTEMPT_GRACE
            + self.session_timeout.0 / 6
            + DRIFT
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
