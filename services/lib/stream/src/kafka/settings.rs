//! Settings of the Kafka adapter, and the librdkafka configuration they become.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bongsu_runtime::Secret;
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::flush::HAND_OVER;
use crate::port::{GroupOptions, Reset};

/// Largest record a client may send: the largest topic setting in use (`dead-letters`, 2 MiB)
/// and room for headers and framing.
const LARGEST_RECORD_BYTES: usize = 2_300_000;

/// Largest batch: below the smallest `max.message.bytes` in use (1 MiB), because a broker applies
/// that limit to batches.
const BATCH_BYTES: usize = 512 * 1024;

/// How long a transaction may stay open before the broker aborts it.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a record may wait for its answer.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(300);

/// librdkafka keys that `extra` may set: tuning and networking only, nothing that a promise of
/// the port stands on.
const EXTRA_ALLOWED: &[&str] = &[
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "compression.level",
    "connections.max.idle.ms",
    "debug",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "max.in.flight",
    "message.timeout.ms",
    "metadata.max.age.ms",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queued.min.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.cipher.suites",
    "ssl.endpoint.identification.algorithm",
    "topic.metadata.refresh.interval.ms",
];

/// How to reach Kafka.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// Name of this client in the broker's logs and quotas.
    pub client_id: String,
    /// Rack of this process: reads then go to the nearest replica.
    pub rack: Option<String>,
    /// Encryption; without it connections are plain.
    pub tls: Option<Tls>,
    /// Authentication; without it there is none.
    pub sasl: Option<Sasl>,
    /// Compression of what is produced.
    pub compression: Compression,
    /// How groups are kept.
    pub group_protocol: GroupProtocol,
    /// Further librdkafka settings, from a list of allowed keys.
    pub extra: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bootstrap_servers: "localhost:9092".to_owned(),
            client_id: "bongsu".to_owned(),
            rack: None,
            tls: None,
            sasl: None,
            compression: Compression::Lz4,
            group_protocol: GroupProtocol::Classic,
            extra: BTreeMap::new(),
        }
    }
}

/// How a consumer group hands partitions out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocol {
    /// Members agree among themselves, cooperatively; each names its own session timeout.
    Classic,
    /// The broker decides (KIP-848). The session timeout is the group's, on the broker.
    Consumer,
}

/// Encryption. The broker's certificate and name are always checked.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Certificates to trust (PEM); the system's without it.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate (PEM), for brokers that ask for one.
    pub certificate_file: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    pub key_file: Option<PathBuf>,
    /// Password of the private key.
    pub key_password: Option<Secret>,
}

/// Authentication.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// How to authenticate.
    pub mechanism: SaslMechanism,
    /// User, for every mechanism but `OAUTHBEARER`.
    #[serde(default)]
    pub username: Option<String>,
    /// Password, for every mechanism but `OAUTHBEARER`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Where to get tokens, for `OAUTHBEARER`.
    #[serde(default)]
    pub oauth: Option<OauthBearer>,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaslMechanism {
    /// User and password as they are; use it with TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge, SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Salted challenge, SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// Tokens of an `OpenID` provider.
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl SaslMechanism {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// Where `OAUTHBEARER` tokens come from (client credentials grant).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthBearer {
    /// Token endpoint.
    pub token_url: String,
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: Secret,
    /// Scope to ask for.
    #[serde(default)]
    pub scope: Option<String>,
}

/// Compression of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As they are.
    None,
    /// Fast.
    Lz4,
    /// Smaller, at more processor time.
    Zstd,
}

impl Compression {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// The settings cannot be used.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// A field is missing or contradicts another.
    #[error("kafka.{field}: {fault}")]
    Field {
        /// The field, as written in the settings.
        field: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// `extra` names a key that is not on the list.
    #[error("kafka.extra: `{0}` may not be set here")]
    ExtraKey(String),
}

pub(super) fn fault(field: &'static str, fault: &str) -> SettingsError {
    SettingsError::Field {
        field,
        fault: fault.to_owned(),
    }
}

impl Settings {
    /// What every client has in common.
    ///
    /// # Errors
    /// When a field is missing or contradicts another.
    pub(super) fn client_config(&self) -> Result<ClientConfig, SettingsError> {
        if self.bootstrap_servers.trim().is_empty() {
            return Err(fault(
                "bootstrap_servers",
                "at least one host:port is needed",
            ));
        }
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", &self.client_id)
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            // A connection that died without a word is found after this. No request waits longer on a
            // broker that is well: the group's own waits come on top, and a repeated one does no harm.
            .set("socket.timeout.ms", "10000")
            // Nobody reads them, and they cost some hundred KiB per client and broker.
            .set("enable.metrics.push", "false")
            .set("topic.metadata.refresh.interval.ms", "60000")
            // How soon to look again for a topic that has just been made.
            .set("topic.metadata.refresh.fast.interval.ms", "50");
        if let Some(rack) = &self.rack {
            config.set("client.rack", rack);
        }
        self.set_security(&mut config)?;
        for key in self.extra.keys() {
            if !EXTRA_ALLOWED.contains(&key.as_str()) {
                return Err(SettingsError::ExtraKey(key.clone()));
            }
        }
        Ok(config)
    }

    /// Where tokens come from, when the mechanism needs them.
    pub(super) fn oauth(&self) -> Option<&OauthBearer> {
        let sasl = self.sasl.as_ref()?;
        let needed = sasl.mechanism == SaslMechanism::OauthBearer;
        sasl.oauth.as_ref().filter(|_| needed)
    }

    fn set_security(&self, config: &mut ClientConfig) -> Result<(), SettingsError> {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            tls.set(config)?;
        }
        if let Some(sasl) = &self.sasl {
            sasl.set(config)?;
        }
        Ok(())
    }

    fn with_extra(&self, mut config: ClientConfig, keys: &[&str]) -> ClientConfig {
        for (key, value) in &self.extra {
            // A key of the other kind of client would only make librdkafka complain.
            if !keys.iter().any(|k| key.starts_with(k)) {
                config.set(key, value);
            }
        }
        config
    }

    /// A producer's configuration. A linger below a millisecond is kept as a fraction.
    pub(super) fn producer_config(&self, base: &ClientConfig, linger: Duration) -> ClientConfig {
        let mut config = base.clone();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", self.compression.name())
            .set(
                "linger.ms",
                format!("{:.3}", linger.as_secs_f64() * 1_000.0),
            )
            .set("batch.size", BATCH_BYTES.to_string())
            .set("batch.num.messages", "10000")
            .set("message.max.bytes", LARGEST_RECORD_BYTES.to_string())
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "16384")
            .set(
                "message.timeout.ms",
                MESSAGE_TIMEOUT.as_millis().to_string(),
            )
            // A record for a topic that is not there is refused after this long.
            .set("topic.metadata.propagation.max.ms", "5000");
        self.with_extra(config, &["fetch.", "queued."])
    }

    /// The configuration of a transactional producer.
    pub(super) fn transactional_config(&self, base: &ClientConfig, id: &str) -> ClientConfig {
        let mut config = self.producer_config(base, HAND_OVER);
        config
            .set("transactional.id", id)
            .set(
                "transaction.timeout.ms",
                TRANSACTION_TIMEOUT.as_millis().to_string(),
            )
            // librdkafka wants no request and no record to outlive its transaction.
            .set(
                "socket.timeout.ms",
                TRANSACTION_TIMEOUT.as_millis().to_string(),
            )
            .set(
                "message.timeout.ms",
                TRANSACTION_TIMEOUT.as_millis().to_string(),
            );
        config
    }

    /// A consumer's configuration without group settings.
    pub(super) fn consumer_config(&self, base: &ClientConfig) -> ClientConfig {
        let mut config = base.clone();
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", "50")
            // The default of a second leaves holes of that length whenever the queue was full.
            .set("fetch.queue.backoff.ms", "20")
            .set("queued.min.messages", "10000")
            .set("check.crcs", "false");
        let keys = [
            "batch.",
            "compression.",
            "message.timeout",
            "queue.buffering.",
        ];
        self.with_extra(config, &keys)
    }

    /// A group consumer's configuration.
    pub(super) fn group_config(&self, base: &ClientConfig, options: &GroupOptions) -> ClientConfig {
        // Half of the buffer is librdkafka's, half the channel's to the owner.
        let half = (options.buffer_bytes / 2).max(256 * 1024);
        let reset = match options.reset {
            Reset::Earliest => "earliest",
            Reset::Latest => "latest",
        };
        let mut config = self.consumer_config(base);
        config
            .set("group.id", &options.group)
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", reset)
            .set("max.poll.interval.ms", "300000")
            .set("queued.max.messages.kbytes", (half / 1024).to_string())
            // What is fetched at once is held compressed and decompressed, until its last record was
            // taken. Both are limits for compressed bytes; a larger batch comes all the same, alone.
            .set(
                "fetch.max.bytes",
                (half / 2).clamp(1_048_576, 16_777_216).to_string(),
            )
            .set(
                "fetch.message.max.bytes",
                (half / 32).clamp(65_536, 1_048_576).to_string(),
            );
        match self.group_protocol {
            GroupProtocol::Classic => config
                .set("group.protocol", "classic")
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set(
                    "session.timeout.ms",
                    options.session_timeout.as_millis().to_string(),
                )
                .set(
                    "heartbeat.interval.ms",
                    (options.session_timeout / 6).as_millis().to_string(),
                ),
            // Assignor, session and heartbeat are the broker's to say.
            GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
        };
        config
    }
}

impl Tls {
    fn set(&self, config: &mut ClientConfig) -> Result<(), SettingsError> {
        if self.certificate_file.is_some() != self.key_file.is_some() {
            return Err(fault("tls", "certificate_file and key_file go together"));
        }
        config.set("ssl.endpoint.identification.algorithm", "https");
        if let Some(ca) = &self.ca_file {
            config.set("ssl.ca.location", ca.display().to_string());
        }
        if let (Some(certificate), Some(key)) = (&self.certificate_file, &self.key_file) {
            config.set(
                "ssl.certificate.location",
                certificate.display().to_string(),
            );
            config.set("ssl.key.location", key.display().to_string());
        }
        if let Some(password) = &self.key_password {
            config.set("ssl.key.password", password.expose());
        }
        Ok(())
    }
}

impl Sasl {
    fn set(&self, config: &mut ClientConfig) -> Result<(), SettingsError> {
        config.set("sasl.mechanism", self.mechanism.name());
        if self.mechanism == SaslMechanism::OauthBearer {
            // Tokens are not librdkafka's business (see `oauth`): its own client for them needs libcurl.
            return match &self.oauth {
                Some(_) => Ok(()),
                None => Err(fault(
                    "sasl.oauth",
                    "token_url, client_id and client_secret are needed for OAUTHBEARER",
                )),
            };
        }
        let (Some(username), Some(password)) = (&self.username, &self.password) else {
            return Err(fault(
                "sasl",
                "username and password are needed for this mechanism",
            ));
        };
        config
            .set("sasl.username", username)
            .set("sasl.password", password.expose());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_key_off_the_list_is_refused() {
        let mut settings = Settings::default();
        settings
            .extra
            .insert("enable.idempotence".to_owned(), "false".to_owned());
        assert_eq!(
            settings.client_config().err(),
            Some(SettingsError::ExtraKey("enable.idempotence".to_owned()))
        );
    }

    #[test]
    fn a_password_is_not_shown() {
        let settings = Settings {
            sasl: Some(Sasl {
                mechanism: SaslMechanism::ScramSha512,
                username: Some("bongsu".to_owned()),
                password: Some(Secret::new("hwaseong")),
                oauth: None,
            }),
            ..Settings::default()
        };
        assert!(!format!("{settings:?}").contains("hwaseong"));
        let config = settings.client_config().unwrap();
        assert_eq!(config.get("sasl.password"), Some("hwaseong"));
        assert_eq!(config.get("security.protocol"), Some("sasl_plaintext"));
    }

    #[test]
    fn oauthbearer_says_what_is_missing() {
        let config = |sasl: &str| {
            let settings = Settings {
                sasl: Some(serde_json::from_str(sasl).unwrap()),
                ..Settings::default()
            };
            settings.client_config()
        };
        let missing = config(r#"{"mechanism":"OAUTHBEARER","username":"a","password":"b"}"#);
        let told = missing.unwrap_err().to_string();
        assert!(told.starts_with("kafka.sasl.oauth: token_url"), "{told}");
        let whole = config(
            r#"{"mechanism":"OAUTHBEARER","oauth":{"token_url":"https://id.example/token","client_id":"a","client_secret":"b"}}"#,
        );
        let whole = whole.unwrap();
        assert_eq!(whole.get("sasl.mechanism"), Some("OAUTHBEARER"));
        assert_eq!(whole.get("enable.sasl.oauthbearer.unsecure.jwt"), None);
    }

    #[test]
    fn unknown_fields_are_errors() {
        assert!(serde_json::from_str::<Settings>(r#"{"bootstrap":"x"}"#).is_err());
    }
}
