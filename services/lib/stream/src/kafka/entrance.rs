//! Why a broker lets nobody in: told from what librdkafka reports while connecting.
//!
//! A metadata request to a broker that refuses the handshake ends as a timeout; the reason is in the
//! client's error events and log. Invariant: only what was reported decides, and what is not recognised
//! stays a timeout.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use super::context::{log_error, log_line};
use crate::error::AdminError;

/// The setting to look at when a handshake ended without a word.
const HANDSHAKE: &str = "kafka.tls";

/// What is said when the broker does not believe who is there.
const AUTHENTICATION: &[&str] = &[
    "authentication failed",
    "authentication failure",
    "invalid credentials",
];

/// How a broker's answer to a token begins when it does not take it (RFC 7628, 3.2.2).
const REFUSED_TOKEN: &[&str] = &["authentication error: {\"status\":"];

/// A context that logs and remembers the last refusal.
#[derive(Clone, Default)]
pub(super) struct Entrance(Arc<Mutex<Option<AdminError>>>);

impl Entrance {
    fn hear(&self, text: &str) {
        if let Some(refusal) = recognise(text) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
        }
    }

    /// The last refusal, when there was one.
    pub(super) fn refusal(&self) -> Option<AdminError> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Entrance {
    /// Whether waiting cannot help: a broker that restarts breaks handshakes off too, but it does not
    /// judge them.
    pub(super) fn is_certain(&self) -> bool {
        self.refusal().is_some_and(
            |r| matches!(r, AdminError::NoEntry { setting, .. } if setting != HANDSHAKE),
        )
    }
}

impl ClientContext for Entrance {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(level, facility, text);
        self.hear(text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
        self.hear(reason);
    }
}

impl ConsumerContext for Entrance {}

/// What a line of the log says about entry, if anything.
fn recognise(text: &str) -> Option<AdminError> {
    let said = text.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|w| said.contains(w));
    let (setting, fix) = if any(&["certificate verify failed", "self-signed", "self signed"]) {
        (
            "kafka.tls.ca_file",
            "name the CA that signed the broker's certificate, and reach the broker by a name that is in it",
        )
    } else if any(&["certificate required", "bad certificate"]) {
        (
            "kafka.tls.certificate_file",
            "the broker asks for a client certificate; set it and kafka.tls.key_file",
        )
    } else if any(&["ssl handshake failed", "ssl_handshake"]) {
        (
            HANDSHAKE,
            "check that this listener of the broker speaks TLS",
        )
    } else if any(&[
        "unsupported sasl mechanism",
        "mechanism not enabled",
        "enabled mechanisms",
    ]) {
        (
            "kafka.sasl.mechanism",
            "choose one that this listener of the broker has enabled",
        )
    } else if any(REFUSED_TOKEN) || any(AUTHENTICATION) && said.contains("oauthbearer") {
        (
            "kafka.sasl.oauth",
            "the broker does not accept its tokens: check the scope, and that the broker trusts this token endpoint",
        )
    } else if any(AUTHENTICATION) {
        (
            "kafka.sasl",
            "check username and password, and that the user exists for this mechanism",
        )
    } else {
        return None;
    };
    Some(AdminError::NoEntry {
        setting,
        fix,
        reason: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_is_told_from_a_refused_password() {
        let setting = |line| match recognise(line) {
            Some(AdminError::NoEntry { setting, .. }) => setting,
            other => panic!("{line}: {other:?}"),
        };
        // Both as Kafka 4.1 and librdkafka 2.12 say them.
        let token = r#"b:9: SASL authentication error: {"status":"invalid_token"} (after 3ms in state AUTH_REQ)"#;
        assert_eq!(setting(token), "kafka.sasl.oauth");
        let password = "b:9: SASL authentication error: Authentication failed during authentication \
                        due to invalid credentials with SASL mechanism SCRAM-SHA-256";
        assert_eq!(setting(password), "kafka.sasl");
    }

    #[test]
    fn lines_about_something_else_say_nothing() {
        for line in [
            "127.0.0.1:9/bootstrap: Connect to ipv4#127.0.0.1:9 failed: Connection refused",
            "1/1 brokers are down",
            "Disconnected (after 30000ms in state UP)",
        ] {
            assert!(recognise(line).is_none(), "{line}");
        }
    }
}
