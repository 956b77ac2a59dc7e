//! `channels.apns.accounts.<name>` and `channels.apns.connection`.

use std::collections::BTreeMap;

use bongsu_domain::target::check_url;
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Duration, Secret};
use serde::{Deserialize, Serialize};
use url::Url;

use super::token::TokenKey;
use super::{certificate, token};
use crate::limits;

/// Which of Apple's two worlds an account pushes to. A device token is valid in one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Apps from the App Store and `TestFlight`.
    Production,
    /// Apps run from Xcode.
    Sandbox,
}

impl Environment {
    /// Where it lives. [R: Apple, "Sending notification requests to APNs", 2026-08]
    #[must_use]
    pub const fn endpoint(self) -> &'static str {
        match self {
            Self::Production => "https://api.push.apple.com",
            Self::Sandbox => "https://api.sandbox.push.apple.com",
        }
    }
}

/// The most connections of one account. Apple's name gives about eight addresses, and more than two
/// connections to each gained nothing. [R: pushy, discussion 1052]
pub const MOST_CONNECTIONS: usize = 16;

bongsu_runtime::settings! {
    /// One account of the APNs channel: a team's key or an app's certificate, and the apps it pushes
    /// to. Its credential is either `key`, `key_id` and `team_id`, or `certificate` and
    /// `certificate_key`.
    pub struct Account {
        /// `production` or `sandbox`. Tokens of the other world are refused as `BadDeviceToken`.
        pub environment: Environment = Environment::Production,
        /// Scheme, host and port instead of Apple's own; for simulators and proxies. Always `https`.
        pub endpoint: String = String::new(),
        /// The app's bundle id, sent as `apns-topic`; push types with a topic of their own get their
        /// suffix added (`.voip`, `.push-type.liveactivity`).
        pub topic: String = String::new(),
        /// Further bundle ids of this account. An address whose `app` is one of them is pushed to
        /// with that topic; every other address with `topic`.
        pub topics: Vec<String> = Vec::new(),
        /// The content of the `.p8` file, best written as `file:/path/AuthKey.p8`.
        pub key: Secret = Secret::default(),
        /// The key's id, ten characters.
        pub key_id: String = String::new(),
        /// The team's id, ten characters.
        pub team_id: String = String::new(),
        /// How long one provider token is used, 20 to 60 minutes, which are Apple's bounds. All
        /// workers make the same token at the same time, so that a restart shows Apple no new one.
        pub token_interval: Duration = Duration::secs(40 * 60),
        /// A client certificate and its issuers as PEM, best written as `file:/path`.
        pub certificate: Secret = Secret::default(),
        /// The certificate's private key as PEM, best written as `file:/path`.
        pub certificate_key: Secret = Secret::default(),
        /// The most connections of this account in one process, 1 to 16. One carries as many pushes
        /// at a time as Apple allows (about 1,000); the next is opened when one is half full.
        pub connections: usize = 4,
        /// The most pushes at a time on one connection, however many Apple would allow.
        pub streams: usize = 1_000,
        /// Limits of the account. Apple names none but for single devices, which it tells itself.
        pub limits: limits::Limits = limits::Limits::default(),
        /// Whether `BadDeviceToken` means that the address is dead. Off, because Apple says the same
        /// of a good token of the other environment.
        pub trust_bad_device_token: bool = false,
    }
}

bongsu_runtime::settings! {
    /// `channels.apns.connection`: how connections are kept.
    pub struct Connections {
        /// How long name resolution, TCP, TLS and HTTP/2's first words may take together.
        pub connect_timeout: Duration = Duration::secs(10),
        /// How long a connection with pushes under way may be silent before it is asked by PING.
        pub silence: Duration = Duration::secs(5),
        /// How long a connection without any may be silent before it is asked.
        pub idle_silence: Duration = Duration::secs(60),
        /// How long the answer to a PING may take. Then the connection counts as dead and is replaced.
        pub ping_timeout: Duration = Duration::secs(5),
        /// How long a connection without a push is kept. Apple wants connections to stay open.
        pub idle_timeout: Duration = Duration::secs(3_600),
        /// The first wait after a connection failed; each further failure doubles it, up to
        /// `backoff_max`. The real waits are spread evenly below these.
        pub backoff: Duration = Duration::millis(250),
        /// The longest wait between two tries to connect.
        pub backoff_max: Duration = Duration::secs(30),
        /// A PEM file of certificate authorities to trust beside the system's.
        pub ca_file: Option<std::path::PathBuf> = None,
    }
}

/// `channels.apns`, as far as the channel itself reads it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApnsSettings {
    /// Accounts by name. None by default: each has a credential.
    pub accounts: BTreeMap<String, Account>,
    /// How connections are kept.
    pub connection: Connections,
    /// The limit of one public IP address. Apple names none.
    pub egress: limits::Egress,
}

impl Connections {
    /// What is wrong; `prefix` is the section's path in the settings.
    #[must_use]
    pub fn validate(&self, prefix: &str) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        for (name, value) in [
            ("connect_timeout", self.connect_timeout),
            ("silence", self.silence),
            ("idle_silence", self.idle_silence),
            ("ping_timeout", self.ping_timeout),
            ("idle_timeout", self.idle_timeout),
            ("backoff", self.backoff),
        ] {
            if value.0.is_zero() {
                complaints.push(Complaint::new(
                    format!("{prefix}.{name}"),
                    "is zero; leave it out for the default",
                ));
            }
        }
        if self.backoff_max < self.backoff {
            complaints.push(Complaint::new(
                format!("{prefix}.backoff_max"),
                "is shorter than backoff",
            ));
        }
        complaints
    }
}

/// What an account proves itself with.
#[derive(Debug)]
pub enum Credential {
    /// A key: every request carries a provider token.
    Key(Box<TokenKey>),
    /// A client certificate: the connection proves it.
    Certificate(certificate::Identity),
}

/// Something is wrong with a key of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFault {
    /// The key within the account.
    pub key: &'static str,
    /// What is wrong and what to do, without any secret.
    pub message: String,
}

fn fault(key: &'static str, message: impl Into<String>) -> AccountFault {
    AccountFault {
        key,
        message: message.into(),
    }
}

impl Account {
    /// What is wrong; `prefix` is the account's path in the settings.
    #[must_use]
    pub fn validate(&self, prefix: &str) -> Vec<Complaint> {
        let faults = self.faults().into_iter();
        let mut complaints: Vec<_> = faults
            .map(|f| Complaint::new(format!("{prefix}.{}", f.key), f.message))
            .collect();
        complaints.extend(self.limits.validate(&format!("{prefix}.limits")));
        complaints
    }

    fn faults(&self) -> Vec<AccountFault> {
        let mut faults: Vec<_> = [self.url().err(), self.credential().err()]
            .into_iter()
            .flatten()
            .collect();
        if self.topic.is_empty() {
            faults.push(fault(
                "topic",
                "is empty; write the app's bundle id, com.example.app",
            ));
        }
        if !is_topic(&self.topic) && !self.topic.is_empty() {
            faults.push(fault("topic", NOT_A_TOPIC));
        }
        if self.topics.iter().any(|topic| !is_topic(topic)) {
            faults.push(fault("topics", NOT_A_TOPIC));
        }
        let (shortest, longest) = (token::SHORTEST_LIFE, token::LONGEST_LIFE);
        if !(shortest..=longest).contains(&self.token_interval.0) {
            faults.push(fault(
                "token_interval",
                "must lie between 20m and 60m, which are Apple's bounds",
            ));
        }
        if !(1..=MOST_CONNECTIONS).contains(&self.connections) {
            faults.push(fault("connections", "must lie between 1 and 16"));
        }
        if self.streams == 0 {
            faults.push(fault("streams", "must be at least 1"));
        }
        faults
    }

    /// Where the account's requests go.
    ///
    /// # Errors
    /// [`AccountFault`] about `endpoint`.
    pub fn url(&self) -> Result<Url, AccountFault> {
        let text = match self.endpoint.as_str() {
            "" => self.environment.endpoint(),
            given => given,
        };
        // The operator writes it, so private hosts are fine.
        let url = check_url(text, true).map_err(|e| fault("endpoint", e.to_string()))?;
        if url.scheme() != "https" {
            return Err(fault(
                "endpoint",
                "is not https; APNs is never called without TLS",
            ));
        }
        if url.path() != "/" || url.query().is_some() {
            return Err(fault(
                "endpoint",
                "has a path; write scheme, host and port only",
            ));
        }
        Ok(url)
    }

    /// The account's credential.
    ///
    /// # Errors
    /// [`AccountFault`] of the first key that is missing, superfluous or wrong.
    pub fn credential(&self) -> Result<Credential, AccountFault> {
        let has_certificate = !self.certificate.is_empty() || !self.certificate_key.is_empty();
        match (self.key.is_empty(), has_certificate) {
            (true, false) => Err(fault(
                "key",
                "is empty; write file:/path/AuthKey.p8, or set certificate and certificate_key",
            )),
            (false, true) => Err(fault(
                "certificate",
                "is set beside key; an account has one credential, so remove one of the two",
            )),
            (false, false) => self.key().map(|key| Credential::Key(Box::new(key))),
            (true, true) => {
                let read = certificate::Identity::read(&self.certificate, &self.certificate_key);
                read.map(Credential::Certificate)
                    .map_err(|e| fault(e.key(), e.to_string()))
            }
        }
    }

    fn key(&self) -> Result<TokenKey, AccountFault> {
        for (name, id) in [("key_id", &self.key_id), ("team_id", &self.team_id)] {
            if id.len() != 10 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(fault(
                    name,
                    "is not ten letters and digits; the developer account shows it",
                ));
            }
        }
        TokenKey::read(&self.key, &self.key_id, &self.team_id)
            .map_err(|message| fault("key", message))
    }

    /// The topic for an address of `app`.
    #[must_use]
    pub fn topic_of<'a>(&'a self, app: Option<&str>) -> &'a str {
        let own = app.and_then(|app| self.topics.iter().find(|topic| *topic == app));
        own.unwrap_or(&self.topic)
    }
}

const NOT_A_TOPIC: &str = "is no bundle id; letters, digits, dots and hyphens only";

fn is_topic(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apns::token::tests::P8;

    fn account() -> Account {
        Account {
            topic: "com.example.app".into(),
            key: Secret::new(P8),
            key_id: "ABCDE12345".into(),
            team_id: "TEAM123456".into(),
            ..Account::default()
        }
    }

    fn keys(account: &Account) -> Vec<String> {
        account.validate("a").into_iter().map(|c| c.key).collect()
    }

    #[test]
    fn a_whole_account_is_fine_and_every_fault_names_its_key() {
        assert_eq!(account().validate("a"), []);
        let change = |change: fn(&mut Account)| {
            let mut account = account();
            change(&mut account);
            keys(&account)
        };
        assert_eq!(change(|a| a.topic.clear()), ["a.topic"]);
        assert_eq!(change(|a| a.topic = "no spaces".into()), ["a.topic"]);
        assert_eq!(change(|a| a.topics = vec!["x y".into()]), ["a.topics"]);
        assert_eq!(change(|a| a.key = Secret::default()), ["a.key"]);
        assert_eq!(change(|a| a.key = Secret::new("hunter2")), ["a.key"]);
        assert_eq!(change(|a| a.key_id = "short".into()), ["a.key_id"]);
        assert_eq!(change(|a| a.team_id = "ABCDE1234-".into()), ["a.team_id"]);
        assert_eq!(
            change(|a| a.endpoint = "http://localhost".into()),
            ["a.endpoint"]
        );
        assert_eq!(
            change(|a| a.endpoint = "https://localhost/3".into()),
            ["a.endpoint"]
        );
        assert_eq!(change(|a| a.connections = 17), ["a.connections"]);
        assert_eq!(change(|a| a.streams = 0), ["a.streams"]);
        let short = |a: &mut Account| a.token_interval = Duration::secs(60);
        assert_eq!(change(short), ["a.token_interval"]);
        let both = |a: &mut Account| a.certificate = Secret::new("x");
        assert_eq!(change(both), ["a.certificate"]);
    }

    #[test]
    fn nothing_secret_is_told() {
        let mut account = account();
        account.key = Secret::new("hunter2");
        let told = format!("{:?} {account:?}", account.validate("a"));
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn an_address_of_another_app_gets_its_topic() {
        let mut account = account();
        account.topics = vec!["com.example.other".into()];
        assert_eq!(account.topic_of(None), "com.example.app");
        assert_eq!(
            account.topic_of(Some("com.example.other")),
            "com.example.other"
        );
        assert_eq!(account.topic_of(Some("com.evil")), "com.example.app");
    }
}
