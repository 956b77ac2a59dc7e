//! The `gateway` section of the settings.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use bongsu_domain::limits;
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{ByteSize, Duration, Secret};
use serde::{Deserialize, Serialize};

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Publish events.
    Publish,
    /// Look at events, deliveries, statistics and suppressions.
    Read,
    /// Say what is not sent to.
    Suppress,
}

/// One key of one publisher.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiKey {
    /// Name of the key, written beside each record (`bongsu-client-id`); not secret.
    pub id: String,
    /// The bearer token.
    pub secret: Secret,
    /// Senders it may speak for and look at: exact names, `team-*`, or `*`.
    pub senders: Vec<String>,
    /// `publish`, `read`, or both.
    pub scopes: Vec<Scope>,
}

bongsu_runtime::settings! {
    /// The HTTP entrance for events and look-ups.
    pub struct Settings {
        /// Where to listen; port 0 takes a free one.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7400)),
        /// API keys as tables of `id`, `secret`, `senders` and `scopes`.
        pub keys: Vec<ApiKey> = Vec::new(),
        /// Take requests without a key, for every sender. For development only.
        pub allow_anonymous: bool = false,
        /// Take webhook addresses that lead into private networks. Dispatch has a setting of its own per account.
        pub allow_private: bool = false,
        /// Largest request body.
        pub max_body: ByteSize = ByteSize::mib(8),
        /// Most events of one request.
        pub max_events: NonZeroUsize = ten_thousand(),
        /// Bytes of all bodies being read or waiting for Kafka; beyond it requests get 503.
        pub max_bytes_in_flight: ByteSize = ByteSize::mib(32),
        /// Largest body of a provider's report.
        pub max_report_body: ByteSize = ByteSize::mib(4),
        /// Bytes of all reports being read or waiting for Kafka, beside those of the other bodies; beyond it reports get 503.
        pub max_report_bytes_in_flight: ByteSize = ByteSize::mib(16),
        /// Open connections; further ones wait in the kernel's backlog.
        pub max_connections: NonZeroUsize = one_thousand(),
        /// Time for the first request of a new connection to begin, for each request's headers, and for an idle connection.
        pub header_timeout: Duration = Duration::secs(30),
        /// Time for a request's body.
        pub body_timeout: Duration = Duration::secs(30),
        /// Time for Kafka's acknowledgements or the store's answer, once the body is read.
        pub request_timeout: Duration = Duration::secs(15),
        /// Time for open requests and the producer to finish at shutdown.
        pub drain_timeout: Duration = Duration::secs(20),
        /// How long the producer waits for a batch to fill; part of every publish's latency.
        pub linger: Duration = Duration::millis(1),
        /// How often Kafka is asked whether it answers, for readiness.
        pub probe_interval: Duration = Duration::secs(5),
    }
}

const fn ten_thousand() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(9_999)
}

const fn one_thousand() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(999)
}

/// Shorter tokens can be guessed.
const SECRET_BYTES: usize = 16;

impl Settings {
    /// Everything that is wrong across fields; keys are named under `gateway`.
    #[must_use]
    pub fn validate(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut complain = |key: String, message: &str| {
            complaints.push(Complaint::new(format!("gateway.{key}"), message));
        };
        if self.keys.is_empty() && !self.allow_anonymous {
            complain(
                "keys".to_owned(),
                "no API key is configured; add one, or set allow_anonymous = true for development",
            );
        }
        if !self.keys.is_empty() && self.allow_anonymous {
            complain(
                "allow_anonymous".to_owned(),
                "contradicts the configured keys: everybody would get in; remove one of the two",
            );
        }
        self.check_sizes(&mut complain);
        for (key, time) in [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("request_timeout", self.request_timeout),
            ("probe_interval", self.probe_interval),
        ] {
            if time.0.is_zero() {
                complain(key.to_owned(), "must be above 0ms");
            }
        }
        if self.linger >= self.request_timeout {
            complain("linger".to_owned(), "must be below request_timeout");
        }
        for (i, key) in self.keys.iter().enumerate() {
            for (field, message) in key.faults() {
                complain(format!("keys[{i}].{field}"), message);
            }
            let earlier = self.keys.iter().take(i);
            if earlier.clone().any(|k| k.id == key.id) {
                complain(format!("keys[{i}].id"), "is used twice; name each key");
            }
            if earlier.into_iter().any(|k| k.secret == key.secret) {
                complain(
                    format!("keys[{i}].secret"),
                    "is used twice; give each key its own",
                );
            }
        }
        complaints
    }

    fn check_sizes(&self, complain: &mut impl FnMut(String, &str)) {
        if self.max_body.0 == 0 || self.max_body > self.max_bytes_in_flight {
            complain(
                "max_body".to_owned(),
                "must be above 0B and at most max_bytes_in_flight, else no such body ever fits",
            );
        }
        let all_reports = self.max_report_bytes_in_flight;
        if self.max_report_body.0 == 0 || self.max_report_body > all_reports {
            complain(
                "max_report_body".to_owned(),
                "must be above 0B and at most max_report_bytes_in_flight, else none ever fits",
            );
        }
        for (key, all) in [
            ("max_bytes_in_flight", self.max_bytes_in_flight),
            ("max_report_bytes_in_flight", all_reports),
        ] {
            if u32::try_from(all.0).is_err() {
                complain(
                    key.to_owned(),
                    "must be below 4GiB; a gateway that holds more should be two",
                );
            }
        }
    }
}

impl ApiKey {
    fn faults(&self) -> Vec<(String, &'static str)> {
        let mut faults = Vec::new();
        if self.id.is_empty()
            || self.id.len() > limits::ID_BYTES
            || !self.id.chars().all(|c| c.is_ascii_graphic())
        {
            faults.push((
                "id".to_owned(),
                "must be 1 to 256 visible ASCII characters without spaces",
            ));
        }
        if self.secret.expose().len() < SECRET_BYTES
            || !self.secret.expose().chars().all(|c| c.is_ascii_graphic())
        {
            faults.push((
                "secret".to_owned(),
                "must be at least 16 visible ASCII characters without spaces",
            ));
        }
        if self.senders.is_empty() {
            faults.push((
                "senders".to_owned(),
                "names nobody; list senders, prefixes (`team-*`) or `*`",
            ));
        }
        for (i, pattern) in self.senders.iter().enumerate() {
            let body = pattern.strip_suffix('*').unwrap_or(pattern);
            if pattern.is_empty() || body.contains('*') {
                faults.push((
                    format!("senders[{i}]"),
                    "must be a name, or a prefix with one `*` at its end",
                ));
            }
        }
        if self.scopes.is_empty() {
            faults.push((
                "scopes".to_owned(),
                "allows nothing; list `publish`, `read` or both",
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ApiKey {
        ApiKey {
            id: "shop".into(),
            secret: Secret::new("0123456789abcdef"),
            senders: vec!["shop-*".into()],
            scopes: vec![Scope::Publish],
        }
    }

    fn complaints(settings: &Settings) -> Vec<String> {
        settings.validate().into_iter().map(|c| c.key).collect()
    }

    #[test]
    fn without_keys_it_refuses_unless_told_otherwise() {
        assert_eq!(complaints(&Settings::default()), ["gateway.keys"]);
        let open = Settings {
            allow_anonymous: true,
            ..Settings::default()
        };
        assert_eq!(complaints(&open), Vec::<String>::new());
        let both = Settings {
            keys: vec![key()],
            ..open
        };
        assert_eq!(complaints(&both), ["gateway.allow_anonymous"]);
    }

    #[test]
    fn every_fault_of_a_key_is_named() {
        let settings = Settings {
            keys: vec![
                key(),
                key(),
                ApiKey {
                    senders: vec!["*a*".into()],
                    ..ApiKey::default()
                },
            ],
            ..Settings::default()
        };
        assert_eq!(
            complaints(&settings),
            [
                "gateway.keys[1].id",
                "gateway.keys[1].secret",
                "gateway.keys[2].id",
                "gateway.keys[2].secret",
                "gateway.keys[2].senders[0]",
                "gateway.keys[2].scopes",
            ]
        );
    }

    #[test]
    fn a_body_that_never_fits_is_refused_at_the_start() {
        let settings = Settings {
            allow_anonymous: true,
            max_bytes_in_flight: ByteSize::mib(1),
            max_report_bytes_in_flight: ByteSize::mib(1),
            ..Settings::default()
        };
        assert_eq!(
            complaints(&settings),
            ["gateway.max_body", "gateway.max_report_body"]
        );
    }
}
