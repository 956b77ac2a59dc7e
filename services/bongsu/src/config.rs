//! The settings of the executable: the sum of its sections.

use std::net::SocketAddr;
use std::path::Path;

use bongsu_domain::Channel;
use bongsu_runtime::settings::{Complaint, KeyDoc, Loaded, SettingsError, load_known};
use bongsu_runtime::telemetry::LogFormat;
use bongsu_runtime::{Duration, settings};
use serde::{Deserialize, Serialize};

use crate::rules::RuleSettings;

settings! {
    /// Topics: names, number of partitions, copies, retention.
    pub struct TopicSettings {
        /// Before every topic and group name.
        pub prefix: String = "bongsu.".to_owned(),
        /// N, the number of partitions of events, deliveries and results. It cannot change later
        /// without a drain.
        pub partitions: i32 = 32,
        /// The channels that have topics here. One that needs an account (`apns`) has them as soon as
        /// it has one.
        pub channels: Vec<Channel> = vec![Channel::Webhook, Channel::Discord],
        /// Copies of each partition.
        pub replication: i32 = 3,
        /// Copies that must have a record before it counts as written.
        pub min_insync_replicas: i32 = 2,
        /// How long events, deliveries and results are kept.
        pub retention: Duration = Duration::secs(7 * 24 * 3_600),
        /// How long dead letters are kept.
        pub dead_letter_retention: Duration = Duration::secs(30 * 24 * 3_600),
    }
}

settings! {
    /// The process: logging, metrics and health of services without an HTTP side of their own.
    pub struct ProcessSettings {
        /// Where `/healthz`, `/readyz` and `/metrics` are served for `bongsu run`; off without it
        /// (the gateway serves its own).
        pub ops_listen: Option<SocketAddr> = None,
        /// Log filter: `info`, or `info,bongsu_dispatch=debug`.
        pub log: String = "info,librdkafka=warn".to_owned(),
        /// `text` or `json`.
        pub log_format: LogFormat = LogFormat::Text,
        /// Name of this process on receipts and requests; made of host and process id when empty.
        pub worker_id: String = String::new(),
    }
}

/// All sections.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) kafka: bongsu_stream::kafka::Settings,
    pub(crate) topics: TopicSettings,
    pub(crate) registry: Option<bongsu_stream::schema_source::RegistrySettings>,
    pub(crate) gateway: bongsu_gateway::Settings,
    pub(crate) fanout: bongsu_fanout::Settings,
    pub(crate) dispatch: bongsu_dispatch::Settings,
    pub(crate) ledger: bongsu_ledger::Settings,
    pub(crate) store: bongsu_store::Settings,
    pub(crate) channels: bongsu_channels::Settings,
    pub(crate) rules: RuleSettings,
    pub(crate) process: ProcessSettings,
}

impl Config {
    /// Reads the file (none is fine) and the environment, and checks what `services` need. Unknown
    /// keys and contradictions are told in one list.
    pub(crate) fn read(file: Option<&Path>, services: &[Service]) -> Result<Self, SettingsError> {
        let text = match file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                let key = path.display().to_string();
                SettingsError(vec![Complaint::new(key, error.to_string())])
            })?,
        };
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let Loaded { settings, unknown } = load_known::<Self>(&text, environment)?;
        let mut faults = unknown;
        if let Err(SettingsError(more)) = settings.check(services) {
            faults.extend(more);
        }
        if faults.is_empty() {
            Ok(settings)
        } else {
            Err(SettingsError(faults))
        }
    }

    /// Checks the sections of the services that are to run; every fault at once.
    pub(crate) fn check(&self, services: &[Service]) -> Result<(), SettingsError> {
        let mut faults = Vec::new();
        let t = &self.topics;
        for (key, wrong, message) in [
            ("partitions", t.partitions < 1, "must be at least 1"),
            ("replication", t.replication < 1, "must be at least 1"),
            (
                "min_insync_replicas",
                t.min_insync_replicas < 1 || t.min_insync_replicas > t.replication,
                "must be at least 1 and at most replication",
            ),
        ] {
            if wrong {
                faults.push(Complaint::new(format!("topics.{key}"), message));
            }
        }
        if let Err(wrong) = self.rules.rules() {
            faults.extend(wrong);
        }
        if self.active_channels().is_empty() {
            let message = "is empty, so nothing could ever be sent; name a channel";
            faults.push(Complaint::new("topics.channels", message));
        }
        for service in services {
            match service {
                Service::Gateway => {
                    faults.extend(self.gateway.validate());
                    faults.extend(self.channels.validate());
                    faults.extend(self.store.complaints("store"));
                }
                Service::Fanout => faults.extend(self.fanout.complaints("fanout")),
                Service::Dispatch => {
                    faults.extend(self.dispatch.complaints("dispatch"));
                    faults.extend(self.channels.validate());
                }
                Service::Ledger => {
                    faults.extend(self.ledger.complaints("ledger"));
                    faults.extend(self.store.complaints("store"));
                }
            }
        }
        faults.dedup();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(SettingsError(faults))
        }
    }

    /// The channels that have topics here, in the order of their vocabulary.
    pub(crate) fn active_channels(&self) -> Vec<Channel> {
        let active = |channel: &Channel| {
            self.topics.channels.contains(channel) || self.channels.brings(*channel)
        };
        Channel::ALL.iter().copied().filter(active).collect()
    }

    /// As TOML with secrets starred.
    pub(crate) fn print(&self) -> anyhow::Result<String> {
        Ok(toml::to_string_pretty(self)?)
    }
}

/// A service of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Service {
    /// Events and look-ups over HTTP.
    Gateway,
    /// Events into deliveries.
    Fanout,
    /// Deliveries through channels.
    Dispatch,
    /// Status and statistics.
    Ledger,
}

impl Service {
    pub(crate) const ALL: &'static [Self] =
        &[Self::Gateway, Self::Fanout, Self::Dispatch, Self::Ledger];
}

/// `docs/configuration.md`, from the code.
pub(crate) fn reference() -> String {
    let mut out = String::from(
        "# Configuration\n\nGenerated by `bongsu config docs`; do not edit. One TOML file (`--config`), then the \
         environment (`BONGSU__SECTION__KEY`), then flags. Unknown keys are errors. A secret may be \
         written `file:/path`.\n",
    );
    let services: [(&str, &str, Vec<KeyDoc>); 10] = [
        ("topics", "Topics.", TopicSettings::describe()),
        ("process", "The process.", ProcessSettings::describe()),
        (
            "gateway",
            "The HTTP entrance.",
            bongsu_gateway::Settings::describe(),
        ),
        (
            "fanout",
            "Events into deliveries.",
            bongsu_fanout::Settings::describe(),
        ),
        (
            "dispatch",
            "Sending.",
            bongsu_dispatch::Settings::describe(),
        ),
        (
            "dispatch.repeat_guard",
            "Holding back what is said too often to one address.",
            bongsu_dispatch::guard::GuardSettings::describe(),
        ),
        (
            "rules",
            "What law and providers ask of advertising.",
            RuleSettings::describe(),
        ),
        (
            "ledger",
            "Status and statistics.",
            bongsu_ledger::Settings::describe(),
        ),
        (
            "ledger.hygiene",
            "Which addresses are retired, and how many at once are believed to be dead.",
            bongsu_ledger::hygiene::HygieneSettings::describe(),
        ),
        ("store", "The database.", bongsu_store::Settings::describe()),
    ];
    let services = services.map(|(name, about, keys)| (name.to_owned(), about, keys));
    let channels = bongsu_channels::Settings::describe().into_iter();
    let channels = channels.map(|(channel, section)| {
        let name = format!("channels.{channel}.{}", section.name);
        (name, section.about, section.keys)
    });
    for (name, what, keys) in services.into_iter().chain(channels) {
        out.push_str(&format!(
            "\n## [{name}]\n\n{what}\n\n| key | default | meaning |\n|---|---|---|\n"
        ));
        for key in keys {
            let default = if key.default.is_empty() {
                "unset".to_owned()
            } else {
                format!("`{}`", key.default)
            };
            let doc = key.doc.split_whitespace().collect::<Vec<_>>().join(" ");
            out.push_str(&format!(
                "| `{}` | {default} | {} |\n",
                key.key,
                doc.replace('|', "\\|")
            ));
        }
    }
    out.push_str(KAFKA);
    out
}

const KAFKA: &str = "
## [kafka]

How to reach Kafka.

| key | default | meaning |
|---|---|---|
| `bootstrap_servers` | `\"localhost:9092\"` | `host:port`, several separated by commas |
| `client_id` | `\"bongsu\"` | name of this client in the broker's logs and quotas |
| `rack` | unset | rack of this process: reads then go to the nearest replica |
| `compression` | `\"lz4\"` | `none`, `lz4` or `zstd` |
| `group_protocol` | `\"classic\"` | `classic` (cooperative-sticky), or `consumer` (KIP-848, Kafka 4.0 and later): the session timeout is then the broker's `group.consumer.session.timeout.ms`, and dispatch refuses to start when its lease does not fit |
| `tls.ca_file`, `tls.certificate_file`, `tls.key_file`, `tls.key_password` | unset | encryption; with an empty `[kafka.tls]` the system's authorities are trusted |
| `sasl.mechanism` | unset | `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER` |
| `sasl.username`, `sasl.password` | unset | for the first three |
| `sasl.oauth.token_url`, `sasl.oauth.client_id`, `sasl.oauth.client_secret`, `sasl.oauth.scope` | unset | for `OAUTHBEARER`: tokens come from this endpoint by OAuth 2 client credentials (basic authentication), and are replaced after four fifths of their life |
| `extra` | `{}` | further librdkafka settings from a list of allowed keys |

## [registry]

A Confluent-compatible schema registry: `url`, and `username` and `password` when it asks. Without it, schemas are found in the `schemas` topic.

With it, records are written with the registry's ids under the subjects `<topic>-value`: `topics apply` registers them, every start looks them up. `write = false` writes as without a registry and only reads what others wrote with ids.
";
