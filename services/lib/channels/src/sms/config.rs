//! `channels.sms.accounts.<name>`.

use bongsu_domain::ReferenceKey;
use bongsu_domain::reference::SECRET_BYTES;
use bongsu_domain::target::check_url;
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Duration, Secret};
use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::network::Network;

/// Who carries the text.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// Solapi, for Korea.
    #[default]
    Solapi,
    /// Twilio.
    Twilio,
}

impl Vendor {
    /// Its word in settings and in the path of its reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Solapi => "solapi",
            Self::Twilio => "twilio",
        }
    }

    /// Where its API lives; an account may name another. [R: solapi/documents, Twilio's API
    /// reference, 2026-08]
    #[must_use]
    pub const fn api_base(self) -> &'static str {
        match self {
            Self::Solapi => "https://api.solapi.com",
            Self::Twilio => "https://api.twilio.com",
        }
    }

    /// The most recipients of one request. [R: the same]
    #[must_use]
    pub const fn most_recipients(self) -> usize {
        match self {
            Self::Solapi => 10_000,
            Self::Twilio => 1,
        }
    }
}

/// The longest text an account sends through Solapi. Twilio cuts texts into parts by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Longest {
    /// A short text: at most 90 bytes of EUC-KR.
    Sms,
    /// A long text, where a short one does not suffice: at most 2,000 bytes. It costs more.
    #[default]
    Lms,
}

/// How an account's reports reach us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportMode {
    /// Not at all: what was accepted stays accepted.
    #[default]
    None,
    /// The vendor calls `POST /v1/reports/{provider}/{account}`.
    Webhook,
    /// The gateway asks (Solapi).
    Polling,
}

bongsu_runtime::settings! {
    /// How an account's reports are taken.
    pub struct ReportSettings {
        /// `none`, `webhook` or `polling` (Solapi).
        pub mode: ReportMode = ReportMode::None,
        /// Twilio: the URL it calls, as it is reached from outside, ending in
        /// `/v1/reports/twilio/<account>`. It is sent with every text, and Twilio signs it.
        pub url: String = String::new(),
        /// Solapi: the secret of the webhook in its console. Twilio signs with `api_secret`.
        pub secret: Secret = Secret::default(),
        /// Addresses and networks (`203.0.113.0/24`) callbacks may come from; empty for any. Solapi
        /// sends the same secret with every call and signs nothing, so name its addresses.
        pub allow_from: Vec<String> = Vec::new(),
        /// Proxies of ours whose `X-Forwarded-For` is believed.
        pub trusted_proxies: Vec<String> = Vec::new(),
        /// How long to wait before asking again when nothing was there.
        pub poll_interval: Duration = Duration::secs(5),
        /// How far back a gateway asks that begins to, or takes over: longer than any outage of all
        /// gateways, or the reports of the time before are missed.
        pub poll_look_back: Duration = Duration::secs(3_600),
        /// How long after its own time a change is in the vendor's list: the time before now that
        /// is not asked for yet, and how far the clocks may differ.
        pub poll_settle: Duration = Duration::secs(10),
    }
}

bongsu_runtime::settings! {
    /// One account of the SMS channel: a contract with a vendor and a sender number.
    pub struct Account {
        /// `solapi` or `twilio`.
        pub provider: Vendor = Vendor::Solapi,
        /// Scheme, host and port of the API; empty for the vendor's own.
        pub api_base: String = String::new(),
        /// Solapi's API key, or Twilio's account SID.
        pub api_key: String = String::new(),
        /// Solapi's API secret, or Twilio's primary auth token.
        pub api_secret: Secret = Secret::default(),
        /// The registered number texts come from.
        pub from: String = String::new(),
        /// Twilio: the messaging service that chooses the number, in place of `from`.
        pub messaging_service: String = String::new(),
        /// Recipients of one request (Solapi up to 10,000; Twilio 1).
        pub recipients_per_request: usize = 1,
        /// Solapi: `sms` refuses what does not fit a short text; `lms` sends it as a long one.
        pub longest: Longest = Longest::Lms,
        /// Solapi: the title of a long text when the content has none.
        pub title: String = String::new(),
        /// Signs our reference in the vendor's records, by which a report finds its delivery: at
        /// least 16 characters, the same for every dispatcher and gateway.
        pub reference_secret: Secret = Secret::default(),
        /// Limits of the account, in recipients. The vendors document none.
        pub limits: Limits = Limits::default(),
        /// How reports are taken: `mode`, `url`, `secret`, `allow_from`, `trusted_proxies`,
        /// `poll_interval`, `poll_look_back`, `poll_settle`.
        pub reports: ReportSettings = ReportSettings::default(),
    }
}

impl Account {
    /// The API's base: the account's, else the vendor's.
    #[must_use]
    pub fn base(&self) -> &str {
        if self.api_base.is_empty() {
            self.provider.api_base()
        } else {
            &self.api_base
        }
    }

    /// The key of our references, when there is a secret for it.
    #[must_use]
    pub fn reference_key(&self) -> Option<ReferenceKey> {
        ReferenceKey::new(self.reference_secret.expose())
    }

    /// What is wrong; `prefix` is the account's path in the settings.
    #[must_use]
    pub fn validate(&self, prefix: &str) -> Vec<Complaint> {
        let mut faults: Vec<(&str, String)> = Vec::new();
        match check_url(self.base(), true) {
            Ok(url) if url.path() == "/" && url.query().is_none() => {}
            Ok(_) => faults.push((
                "api_base",
                "has a path; write scheme, host and port only".to_owned(),
            )),
            Err(error) => faults.push(("api_base", error.to_string())),
        }
        if !is_word(&self.api_key) {
            faults.push((
                "api_key",
                "must be the key (Twilio: the account SID) as the vendor gave it".to_owned(),
            ));
        }
        if self.api_secret.is_empty() {
            faults.push((
                "api_secret",
                "must be the secret (Twilio: the auth token)".to_owned(),
            ));
        }
        self.check_sender(&mut faults);
        let most = self.provider.most_recipients();
        if !(1..=most).contains(&self.recipients_per_request) {
            faults.push((
                "recipients_per_request",
                format!("must lie between 1 and {most} for this vendor"),
            ));
        }
        let each_second = self.limits.per_second;
        if each_second.is_some_and(|n| self.recipients_per_request > n as usize) {
            faults.push((
                "recipients_per_request",
                "is above limits.per_second, so a full request could never be sent".to_owned(),
            ));
        }
        self.check_reports(&mut faults);
        let mut complaints: Vec<Complaint> = faults
            .into_iter()
            .map(|(key, message)| Complaint::new(format!("{prefix}.{key}"), message))
            .collect();
        complaints.extend(self.limits.validate(&format!("{prefix}.limits")));
        complaints
    }

    fn check_sender(&self, faults: &mut Vec<(&str, String)>) {
        let service = &self.messaging_service;
        match self.provider {
            Vendor::Solapi if !service.is_empty() => faults.push((
                "messaging_service",
                "is Twilio's; write `from` for Solapi".to_owned(),
            )),
            Vendor::Solapi if !is_number(&self.from) => faults.push((
                "from",
                "must be the registered number texts come from, digits only".to_owned(),
            )),
            Vendor::Twilio if service.is_empty() == self.from.is_empty() => faults.push((
                "from",
                "write either `from` (+14155552671) or `messaging_service`".to_owned(),
            )),
            Vendor::Twilio if !service.is_empty() && !is_word(service) => faults.push((
                "messaging_service",
                "must be the service's SID (MG…)".to_owned(),
            )),
            Vendor::Solapi | Vendor::Twilio => {}
        }
    }

    fn check_reports(&self, faults: &mut Vec<(&str, String)>) {
        let secret = self.reference_secret.expose();
        let reports = &self.reports;
        let wanted = reports.mode != ReportMode::None;
        if (wanted || !secret.is_empty()) && secret.len() < SECRET_BYTES {
            faults.push((
                "reference_secret",
                format!(
                    "must have at least {SECRET_BYTES} characters; without it no report finds its \
                     delivery"
                ),
            ));
        }
        match (self.provider, reports.mode) {
            (Vendor::Solapi, ReportMode::Webhook) if reports.secret.is_empty() => faults.push((
                "reports.secret",
                "is needed to tell Solapi's calls from others".to_owned(),
            )),
            (Vendor::Twilio, ReportMode::Webhook) => match check_url(&reports.url, true) {
                Ok(url) if url.query().is_none() && url.fragment().is_none() => {}
                Ok(_) => faults.push((
                    "reports.url",
                    "has a query; write the URL without it".to_owned(),
                )),
                Err(error) => faults.push(("reports.url", error.to_string())),
            },
            (Vendor::Twilio, ReportMode::Polling) => faults.push((
                "reports.mode",
                "Twilio's list names no reference of ours, so it is not polled; use webhook"
                    .to_owned(),
            )),
            (Vendor::Solapi, _) | (Vendor::Twilio, ReportMode::None) => {}
        }
        if reports.poll_interval.0.is_zero() || reports.poll_look_back.0.is_zero() {
            faults.push((
                "reports",
                "poll_interval and poll_look_back must be above 0ms".to_owned(),
            ));
        }
        for (key, list) in [
            ("reports.allow_from", &reports.allow_from),
            ("reports.trusted_proxies", &reports.trusted_proxies),
        ] {
            if list.iter().any(|text| Network::parse(text).is_none()) {
                faults.push((
                    key,
                    "must hold addresses or networks such as 203.0.113.0/24".to_owned(),
                ));
            }
        }
    }
}

/// A text that can stand in a path and in a header.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn is_number(text: &str) -> bool {
    (4..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A valid account of Solapi, for the tests of the channel.
    pub(crate) fn solapi() -> Account {
        Account {
            api_key: "NCSAPIKEY0000001".into(),
            api_secret: Secret::new("secret"),
            from: "0212345678".into(),
            reference_secret: Secret::new("0123456789abcdef"),
            ..Account::default()
        }
    }

    /// A valid account of Twilio.
    pub(crate) fn twilio() -> Account {
        Account {
            provider: Vendor::Twilio,
            api_key: "AC0123456789abcdef0123456789abcdef".into(),
            api_secret: Secret::new("12345"),
            from: "+14155552671".into(),
            ..solapi()
        }
    }

    fn keys(account: &Account) -> Vec<String> {
        account.validate("a").into_iter().map(|c| c.key).collect()
    }

    #[test]
    fn good_accounts_pass_and_every_fault_is_named() {
        assert_eq!(keys(&solapi()), Vec::<String>::new());
        assert_eq!(keys(&twilio()), Vec::<String>::new());
        let wrong = Account {
            api_base: "https://x.example/v1".into(),
            api_key: "a b".into(),
            api_secret: Secret::default(),
            from: "+82 2".into(),
            recipients_per_request: 10_001,
            reference_secret: Secret::new("short"),
            limits: Limits {
                per_second: Some(0),
                ..Limits::default()
            },
            reports: ReportSettings {
                mode: ReportMode::Webhook,
                allow_from: vec!["everywhere".into()],
                ..ReportSettings::default()
            },
            ..solapi()
        };
        assert_eq!(
            keys(&wrong),
            [
                "a.api_base",
                "a.api_key",
                "a.api_secret",
                "a.from",
                "a.recipients_per_request",
                "a.recipients_per_request",
                "a.reference_secret",
                "a.reports.secret",
                "a.reports.allow_from",
                "a.limits.per_second",
            ]
        );
    }

    #[test]
    fn what_only_the_other_vendor_has_is_refused() {
        let mut account = twilio();
        account.messaging_service = "MG0123".into();
        account.recipients_per_request = 2;
        account.reports.mode = ReportMode::Polling;
        assert_eq!(
            keys(&account),
            ["a.from", "a.recipients_per_request", "a.reports.mode"]
        );
        account = twilio();
        account.reports.mode = ReportMode::Webhook;
        assert_eq!(keys(&account), ["a.reports.url"]);
        account.reports.url = "https://n.example/v1/reports/twilio/main?x=1".into();
        assert_eq!(keys(&account), ["a.reports.url"]);
        account.reports.url = "https://n.example/v1/reports/twilio/main".into();
        assert_eq!(keys(&account), Vec::<String>::new());
        let mut account = solapi();
        account.messaging_service = "MG0123".into();
        assert_eq!(keys(&account), ["a.messaging_service"]);
    }
}
