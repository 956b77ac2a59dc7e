//! `channels.webhook.accounts.<name>`.

use bongsu_domain::target::check_url;
use bongsu_runtime::Secret;
use bongsu_runtime::settings::Complaint;
use serde::{Deserialize, Serialize};

use super::keys::SigningKey;
use crate::apns::certificate::Identity;
use crate::limits::Limits;

/// The form of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `{"type", "timestamp", "data"}`, as Standard Webhooks advises.
    #[default]
    Standard,
    /// `CloudEvents` 1.0, everything in one JSON object.
    CloudeventsStructured,
    /// `CloudEvents` 1.0, attributes as `ce-…` headers and the data as the body.
    CloudeventsBinary,
}

bongsu_runtime::settings! {
    /// One account of the webhook channel: who signs, and where it may call.
    pub struct Account {
        /// Signing keys: `whsec_` and base64 of 24 to 64 bytes (HMAC), or `whsk_` and base64 of an
        /// ed25519 key. Every request is signed with all of them, so that receivers can move from an
        /// old key to a new one; the newest first. Without any, requests are not signed.
        pub secrets: Vec<Secret> = Vec::new(),
        /// Form of the request: `standard`, `cloudevents-structured` or `cloudevents-binary`.
        pub format: Format = Format::Standard,
        /// The `source` of CloudEvents, a URI reference; `/senders/` and the sender when empty.
        pub source: String = String::new(),
        /// The `type` of what is sent, in every form.
        pub event_type: String = super::payload::TYPE.to_owned(),
        /// Whether targets in private networks may be called. Off, because a webhook's URL is
        /// written by somebody else.
        pub allow_private: bool = false,
        /// Whether all addresses of the account belong to one receiver (a gateway of your own, say):
        /// its `429` and its outages then concern the whole account, not the one address.
        pub one_receiver: bool = false,
        /// User name of HTTP basic authentication; none when empty.
        pub basic_user: String = String::new(),
        /// Its password.
        pub basic_password: Secret = Secret::default(),
        /// A fixed bearer token, sent with every request; none when empty.
        pub bearer: Secret = Secret::default(),
        /// Where bearer tokens are fetched by OAuth 2 client credentials; nowhere when empty. The
        /// operator's own URL: private hosts are fine.
        pub oauth_token_url: String = String::new(),
        /// The client's id there.
        pub oauth_client_id: String = String::new(),
        /// The client's secret there.
        pub oauth_client_secret: Secret = Secret::default(),
        /// The `scope` asked for; none when empty.
        pub oauth_scope: String = String::new(),
        /// The `audience` asked for; none when empty.
        pub oauth_audience: String = String::new(),
        /// Whether id and secret are sent in the form's body instead of as basic authentication.
        pub oauth_in_body: bool = false,
        /// A client certificate with its issuers, PEM, shown to every receiver (mutual TLS).
        pub certificate: Secret = Secret::default(),
        /// Its private key, PEM.
        pub certificate_key: Secret = Secret::default(),
        /// Limits of the account; a webhook's own receiver is limited by `per_address_per_second`.
        pub limits: Limits = Limits::default(),
    }
}

impl Account {
    /// What is wrong; `prefix` is the account's path in the settings.
    #[must_use]
    pub fn validate(&self, prefix: &str) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        for (i, secret) in self.secrets.iter().enumerate() {
            if let Err(message) = SigningKey::new(secret) {
                complaints.push(Complaint::new(format!("{prefix}.secrets[{i}]"), message));
            }
        }
        let mut say = |key: &str, wrong: bool, message: &str| {
            if wrong {
                complaints.push(Complaint::new(format!("{prefix}.{key}"), message));
            }
        };
        let is_header = |text: &str| text.bytes().all(|b| (0x21..=0x7e).contains(&b));
        say(
            "event_type",
            self.event_type.trim().is_empty(),
            "is empty; write what receivers tell notifications by",
        );
        say(
            "source",
            !is_header(&self.source),
            "is no URI reference; write visible ASCII characters only",
        );
        say(
            "basic_user",
            self.basic_user.contains(':'),
            "holds a colon, which ends a user name",
        );
        say(
            "bearer",
            !is_header(self.bearer.expose()),
            "may hold visible ASCII characters only",
        );
        say(
            "basic_user",
            self.ways_in() > 1,
            "only one of basic_user, bearer and oauth_token_url can be sent",
        );
        if self.has_oauth() {
            say(
                "oauth_token_url",
                check_url(&self.oauth_token_url, true).is_err(),
                "is no URL; write https://host/path",
            );
            say(
                "oauth_client_id",
                self.oauth_client_id.is_empty(),
                "is empty, and oauth_token_url is set",
            );
            say(
                "oauth_client_secret",
                self.oauth_client_secret.is_empty(),
                "is empty, and oauth_token_url is set",
            );
        }
        if let Err(error) = self.identity() {
            let key = format!("{prefix}.{}", error.key());
            complaints.push(Complaint::new(key, error.to_string()));
        }
        complaints.extend(self.limits.validate(&format!("{prefix}.limits")));
        complaints
    }

    /// Whether tokens are fetched.
    #[must_use]
    pub const fn has_oauth(&self) -> bool {
        !self.oauth_token_url.is_empty()
    }

    /// The client certificate, when there is one.
    ///
    /// # Errors
    /// When certificate or key cannot be read, or only one of them is there.
    pub fn identity(&self) -> Result<Option<Identity>, crate::apns::certificate::IdentityError> {
        if self.certificate.is_empty() && self.certificate_key.is_empty() {
            return Ok(None);
        }
        Identity::read(&self.certificate, &self.certificate_key).map(Some)
    }

    fn ways_in(&self) -> usize {
        [
            !self.basic_user.is_empty(),
            !self.bearer.is_empty(),
            self.has_oauth(),
        ]
        .into_iter()
        .filter(|set| *set)
        .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_written_as_a_word() {
        let account: Account =
            bongsu_runtime::settings::load("format = \"cloudevents-binary\"", []).unwrap();
        assert_eq!(account.format, Format::CloudeventsBinary);
        assert_eq!(account.validate("a"), []);
    }

    #[test]
    fn every_fault_of_an_account_is_told_without_a_secret() {
        let account = Account {
            secrets: vec![Secret::new("hunter2")],
            basic_user: "a:b".into(),
            bearer: Secret::new("hunter 2"),
            oauth_token_url: "nowhere".into(),
            certificate: Secret::new("hunter2"),
            source: "a b".into(),
            event_type: " ".into(),
            ..Account::default()
        };
        let complaints = account.validate("a");
        let keys: Vec<&str> = complaints.iter().map(|c| c.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "a.secrets[0]",
                "a.event_type",
                "a.source",
                "a.basic_user",
                "a.bearer",
                "a.basic_user",
                "a.oauth_token_url",
                "a.oauth_client_id",
                "a.oauth_client_secret",
                "a.certificate",
            ]
        );
        assert!(complaints.iter().all(|c| !c.message.contains("hunter")));
    }
}
