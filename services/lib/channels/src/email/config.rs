//! `channels.email.accounts.<name>`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use bongsu_domain::reference::SECRET_BYTES;
use bongsu_domain::{Mailbox, ReferenceKey};
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Duration, Secret};
use lettre::message::Mailbox as Named;
use serde::{Deserialize, Serialize};

use super::verp::{LOCAL_BYTES, TOKEN_CHARACTERS};
use crate::limits::{Egress, Limits};
use crate::network::Network;

/// How a relay is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// In the clear until STARTTLS, which must be offered.
    #[default]
    Starttls,
    /// From the first byte.
    Implicit,
    /// Not at all: for a relay on the same machine or a network of one's own.
    None,
}

impl Tls {
    /// The usual port. [R: RFC 8314, 3.3 and 7.3]
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

bongsu_runtime::settings! {
    /// How an account's bounces are taken: `POST /v1/reports/email/{account}`.
    pub struct ReportSettings {
        /// What the caller shows as `Authorization: Bearer …`; without it no bounces are taken.
        pub secret: Secret = Secret::default(),
        /// Addresses and networks (`203.0.113.0/24`) bounces may come from; empty for any.
        pub allow_from: Vec<String> = Vec::new(),
        /// Proxies of ours whose `X-Forwarded-For` is believed.
        pub trusted_proxies: Vec<String> = Vec::new(),
    }
}

bongsu_runtime::settings! {
    /// One account of the e-mail channel: a relay and who speaks through it.
    pub struct Account {
        /// The relay's name.
        pub host: String = String::new(),
        /// Its port; 0 for the usual one: 587 for `starttls`, 465 for `implicit`, 25 for `none`.
        pub port: u16 = 0,
        /// `starttls`, `implicit` or `none`.
        pub tls: Tls = Tls::Starttls,
        /// The user of the relay; empty for none.
        pub username: String = String::new(),
        /// The password.
        pub password: Secret = Secret::default(),
        /// What we call ourselves in EHLO; the domain of `from` when empty.
        pub hello: String = String::new(),
        /// Who mails are from: `name@example.com`, or `Shop <name@example.com>`.
        pub from: String = String::new(),
        /// Where answers go, when not to `from`.
        pub reply_to: String = String::new(),
        /// Where bounces go, `bounces@example.com`. With `reference_secret` every mail gets an address
        /// of its own there, `bounces+<reference>@example.com`, by which its bounce finds it.
        pub return_path: String = String::new(),
        /// Signs those references: at least 16 characters, the same for every dispatcher and gateway.
        pub reference_secret: Secret = Secret::default(),
        /// What `List-Unsubscribe` says, `https:` or `mailto:`; `{delivery}`, `{recipient}`,
        /// `{address}` and `{sender}` are replaced. An `https:` address must take a POST at once (RFC 8058).
        pub list_unsubscribe: String = String::new(),
        /// Whether a relay that can is asked to report failures and delays (DSN, RFC 3461).
        pub dsn: bool = true,
        /// Writes who sent a mail, which event and which attempt it is into headers of it: for
        /// rehearsals, for recipients can read them.
        pub trace: bool = false,
        /// The most connections of this account in one process.
        pub connections: usize = 8,
        /// Mails on one connection; then it is replaced. Relays close after some hundred.
        pub mails_per_connection: usize = 100,
        /// How long resolving, TCP, TLS and logging in may take together.
        pub connect_timeout: Duration = Duration::secs(10),
        /// How long an idle connection is kept. Relays close after five minutes; a connection they
        /// closed costs a new one.
        pub idle_timeout: Duration = Duration::secs(60),
        /// How long an address is left alone that was refused for now (greylisting, a busy mailbox).
        /// Servers that greylist take the next try after one to five minutes.
        pub soft_wait: Duration = Duration::secs(300),
        /// A PEM file of certificate authorities to trust beside the system's.
        pub ca_file: Option<PathBuf> = None,
        /// Limits of the account, in mails.
        pub limits: Limits = Limits::default(),
        /// How bounces are taken: `secret`, `allow_from`, `trusted_proxies`.
        pub reports: ReportSettings = ReportSettings::default(),
    }
}

/// `channels.email`, as far as the channel itself reads it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EmailSettings {
    /// Accounts by name. None by default: each has a relay.
    pub accounts: BTreeMap<String, Account>,
    /// The limit of one public IP address.
    pub egress: Egress,
}

impl Account {
    /// The port that is connected to.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self.port {
            0 => self.tls.port(),
            given => given,
        }
    }

    /// The key of our references, when there is a secret for it.
    #[must_use]
    pub fn reference_key(&self) -> Option<ReferenceKey> {
        ReferenceKey::new(self.reference_secret.expose())
    }

    /// Who mails are from.
    ///
    /// # Errors
    /// What is wrong with `from`.
    pub fn sender(&self) -> Result<Named, &'static str> {
        named(&self.from).ok_or("is no mailbox; write name@example.com or Shop <name@example.com>")
    }

    /// What is wrong; `prefix` is the account's path in the settings.
    #[must_use]
    pub fn validate(&self, prefix: &str) -> Vec<Complaint> {
        let faults = self.relay_faults().into_iter().chain(self.mail_faults());
        let mut complaints: Vec<Complaint> = faults
            .map(|(key, message)| Complaint::new(format!("{prefix}.{key}"), message))
            .collect();
        complaints.extend(self.limits.validate(&format!("{prefix}.limits")));
        complaints
    }

    fn relay_faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut faults = Vec::new();
        if !is_host(&self.host) {
            faults.push((
                "host",
                "is no host name; write the relay's, smtp.example.com",
            ));
        }
        if !self.hello.is_empty() && !is_host(&self.hello) {
            faults.push(("hello", "is no host name"));
        }
        match (self.username.is_empty(), self.password.is_empty()) {
            (true, false) => faults.push(("username", "is empty beside a password")),
            (false, true) => faults.push(("password", "is empty beside a user name")),
            (false, false) if self.tls == Tls::None => faults.push((
                "tls",
                "is none, so the password could be read on its way; write starttls or implicit",
            )),
            (true, true) | (false, false) => {}
        }
        for (key, value) in [
            ("connections", self.connections),
            ("mails_per_connection", self.mails_per_connection),
        ] {
            if value == 0 {
                faults.push((key, "must be at least 1"));
            }
        }
        for (key, value) in [
            ("connect_timeout", self.connect_timeout),
            ("soft_wait", self.soft_wait),
        ] {
            if value.0.is_zero() {
                faults.push((key, "is zero; leave it out for the default"));
            }
        }
        faults
    }

    fn mail_faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut faults = Vec::new();
        if let Err(message) = self.sender() {
            faults.push(("from", message));
        }
        if !self.reply_to.is_empty() && named(&self.reply_to).is_none() {
            faults.push(("reply_to", "is no mailbox; write name@example.com"));
        }
        let secret = self.reference_secret.expose();
        let bounces = !self.reports.secret.is_empty();
        if (bounces || !secret.is_empty()) && secret.len() < SECRET_BYTES {
            faults.push((
                "reference_secret",
                "must have at least 16 characters; make one with: openssl rand -hex 32",
            ));
        }
        if !self.return_path.is_empty() {
            match Mailbox::parse(&self.return_path) {
                Err(_) => faults.push(("return_path", "is no mailbox; write bounces@example.com")),
                // A `+` and the reference follow.
                Ok(path) if path.local().len() + 1 + TOKEN_CHARACTERS > LOCAL_BYTES => {
                    faults.push(("return_path", "is too long before its @: 18 characters fit"));
                }
                Ok(_) => {}
            }
        }
        if !self.list_unsubscribe.is_empty() && !is_link(&self.list_unsubscribe) {
            faults.push(("list_unsubscribe", "is neither https://… nor mailto:…"));
        }
        for (key, list) in [
            ("reports.allow_from", &self.reports.allow_from),
            ("reports.trusted_proxies", &self.reports.trusted_proxies),
        ] {
            if list.iter().any(|text| Network::parse(text).is_none()) {
                faults.push((
                    key,
                    "holds something else than addresses and networks; write 203.0.113.0/24",
                ));
            }
        }
        faults
    }
}

/// A mailbox with or without a name; nothing that could end a header's line.
pub(super) fn named(text: &str) -> Option<Named> {
    if text.chars().any(char::is_control) {
        return None;
    }
    let named: Named = text.parse().ok()?;
    Mailbox::parse(named.email.as_ref()).ok()?;
    Some(named)
}

/// What may stand in `List-Unsubscribe` between its brackets.
pub(super) fn is_link(text: &str) -> bool {
    let known = ["https://", "http://", "mailto:"];
    known.iter().any(|scheme| text.starts_with(scheme))
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b','))
}

fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || (!text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn account() -> Account {
        Account {
            host: "smtp.example.com".into(),
            from: "Shop <shop@example.com>".into(),
            return_path: "bounces@example.com".into(),
            reference_secret: Secret::new("0123456789abcdef"),
            ..Account::default()
        }
    }

    #[test]
    fn a_whole_account_is_fine_and_every_fault_names_its_key() {
        assert_eq!(account().validate("a"), []);
        assert_eq!(account().port(), 587);
        let change = |change: fn(&mut Account)| {
            let mut account = account();
            change(&mut account);
            let told = format!("{:?}", account.validate("a"));
            assert!(!told.contains("hunter2"), "{told}");
            let keys = account.validate("a").into_iter().map(|c| c.key);
            keys.collect::<Vec<_>>()
        };
        assert_eq!(change(|a| a.host = "a b".into()), ["a.host"]);
        assert_eq!(change(|a| a.hello = "a\r\nb".into()), ["a.hello"]);
        assert_eq!(change(|a| a.username = "u".into()), ["a.password"]);
        let password = |a: &mut Account| a.password = Secret::new("hunter2");
        assert_eq!(change(password), ["a.username"]);
        let clear = |a: &mut Account| {
            a.username = "u".into();
            a.password = Secret::new("hunter2");
            a.tls = Tls::None;
        };
        assert_eq!(change(clear), ["a.tls"]);
        assert_eq!(change(|a| a.connections = 0), ["a.connections"]);
        assert_eq!(change(|a| a.from = "Shop".into()), ["a.from"]);
        assert_eq!(
            change(|a| a.from = "Shop <a@b.c>\r\nBcc: <e@b.c>".into()),
            ["a.from"]
        );
        assert_eq!(change(|a| a.reply_to = "x".into()), ["a.reply_to"]);
        let short = |a: &mut Account| a.reference_secret = Secret::new("hunter2");
        assert_eq!(change(short), ["a.reference_secret"]);
        let long = |a: &mut Account| a.return_path = format!("{}@b.c", "x".repeat(19));
        assert_eq!(change(long), ["a.return_path"]);
        assert_eq!(
            change(|a| a.list_unsubscribe = "https://a>b".into()),
            ["a.list_unsubscribe"]
        );
        assert_eq!(
            change(|a| a.reports.allow_from = vec!["x".into()]),
            ["a.reports.allow_from"]
        );
    }
}
