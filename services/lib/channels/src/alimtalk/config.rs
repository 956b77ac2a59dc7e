//! `channels.alimtalk.accounts.<name>`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bongsu_domain::ReferenceKey;
use bongsu_domain::reference::SECRET_BYTES;
use bongsu_domain::target::check_url;
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Duration, Secret};
use serde::{Deserialize, Serialize};

use super::template::Template;
use crate::limits::Limits;
use crate::network::Network;

/// Who carries the notification to Kakao.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Dealer {
    /// Infobank's Bizgo Communication API.
    #[default]
    Bizgo,
    /// NHN Cloud's KakaoTalk Bizmessage.
    Nhn,
    /// Infobank's BizPlus talk API, for accounts that are still on it.
    Bizplus,
    /// Infobank's OMNI API of the first generation, for accounts that are still on it.
    Omni,
}

impl Dealer {
    /// Its word in settings and in the path of its reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bizgo => "bizgo",
            Self::Nhn => "nhn",
            Self::Bizplus => "bizplus",
            Self::Omni => "omni",
        }
    }

    /// Where its API lives. Hosts have moved before, so an account may name another.
    #[must_use]
    pub const fn api_base(self) -> &'static str {
        match self {
            // [R: icomm-api/bizgo-api-spec, 2026-08]
            Self::Bizgo => "https://mars.ibapi.kr",
            // [R: NHN Cloud guide, 2026-05]
            Self::Nhn => "https://kakaotalk-bizmessage.api.nhncloudservice.com",
            // [R: clients of KT and Infobank]
            Self::Bizplus => "https://msggw.supersms.co:9443",
            Self::Omni => "https://omni.ibapi.kr",
        }
    }

    /// Where its tokens are fetched, when it has any.
    #[must_use]
    pub const fn auth_base(self) -> &'static str {
        match self {
            // [R: clients of KT and Infobank]
            Self::Bizplus => "https://msggw-auth.supersms.co:9440",
            Self::Bizgo | Self::Nhn | Self::Omni => self.api_base(),
        }
    }

    /// Whether it wants a token for every request.
    #[must_use]
    pub const fn has_tokens(self) -> bool {
        match self {
            Self::Bizplus | Self::Omni => true,
            Self::Bizgo | Self::Nhn => false,
        }
    }

    /// The codes of an answer that mean "accepted" unless the account names others. [M for BizPlus]
    #[must_use]
    pub const fn accepted_codes(self) -> &'static [&'static str] {
        match self {
            Self::Bizgo | Self::Omni => &["A000"],
            Self::Nhn => &["0"],
            Self::Bizplus => &["A000", "0000"],
        }
    }

    /// The most recipients of one request.
    #[must_use]
    pub const fn most_recipients(self) -> usize {
        match self {
            Self::Bizgo => 200,
            Self::Nhn => 1_000,
            Self::Bizplus | Self::Omni => 1,
        }
    }

    /// Recipients in a second, when nobody set another limit. [R: bizgo-sdk-comm-go, 2026-08; NHN
    /// counts requests, 300 a second, so this holds for one recipient per request]
    #[must_use]
    pub const fn per_second(self, recipients_per_request: usize) -> Option<u32> {
        match (self, recipients_per_request) {
            (Self::Bizgo, _) => Some(200),
            (Self::Nhn, 1) => Some(300),
            (Self::Nhn | Self::Bizplus | Self::Omni, _) => None,
        }
    }

    /// The report codes that mean "delivered" unless the account names others.
    #[must_use]
    pub const fn success_codes(self) -> &'static [&'static str] {
        match self {
            Self::Bizgo | Self::Omni => &["10000", "0000"],
            Self::Nhn => &["1000"],
            // Two clients disagree: `0000` in code, `SUC` in a published article.
            Self::Bizplus => &["0000", "SUC"],
        }
    }
}

/// What the dealer sends when Kakao does not deliver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailoverKind {
    /// Nothing.
    #[default]
    None,
    /// A short text: at most 90 bytes of EUC-KR.
    Sms,
    /// A long text: at most 2,000 bytes of EUC-KR.
    Lms,
}

bongsu_runtime::settings! {
    /// The dealer's own failover to text messages.
    pub struct Failover {
        /// `none`, `sms` or `lms`.
        pub kind: FailoverKind = FailoverKind::None,
        /// The registered number it comes from.
        pub from: String = String::new(),
        /// Title of a long text.
        pub title: String = String::new(),
    }
}

/// What BizPlus answers a sending with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResponseMethod {
    /// Once the handset's result is known, or the wait for it is over.
    #[default]
    Realtime,
    /// At once: accepted and billed without a look at the handset.
    Push,
    /// The result is asked for.
    Polling,
}

impl ResponseMethod {
    /// BizPlus's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Push => "push",
            Self::Polling => "polling",
        }
    }
}

/// How an account's reports reach us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportMode {
    /// Not at all: what was accepted stays accepted.
    #[default]
    None,
    /// The dealer calls `POST /v1/reports/{provider}/{account}`.
    Webhook,
    /// The gateway asks.
    Polling,
}

bongsu_runtime::settings! {
    /// The names of a report's fields; the dealer's own where empty.
    pub struct ReportFields {
        /// The dealer's id of the notification: `msgKey`, `messageId`.
        pub key: String = String::new(),
        /// The result: `reportCode`, `resultCode`.
        pub code: String = String::new(),
        /// Our reference: `ref`.
        pub reference: String = String::new(),
        /// The time: `reportTime`.
        pub time: String = String::new(),
        /// The medium that was tried: `serviceType`, `msgType`.
        pub medium: String = String::new(),
    }
}

bongsu_runtime::settings! {
    /// How an account's reports are taken.
    pub struct ReportSettings {
        /// `none`, `webhook` or `polling`; the dealer's console must say the same.
        pub mode: ReportMode = ReportMode::None,
        /// What the dealer signs with (Bizgo), or sends as it is (NHN). BizPlus and OMNI sign
        /// nothing: it stands in the URL that is registered with them, `…?secret=<secret>`.
        pub secret: Secret = Secret::default(),
        /// How far a signed time may lie from ours.
        pub tolerance: Duration = Duration::secs(300),
        /// Addresses and networks (`203.0.113.0/24`) callbacks may come from; empty for any. The
        /// body of a Bizgo callback is not signed, so name the dealer's.
        pub allow_from: Vec<String> = Vec::new(),
        /// Proxies of ours whose `X-Forwarded-For` is believed.
        pub trusted_proxies: Vec<String> = Vec::new(),
        /// Codes that mean "delivered"; the dealer's own when empty.
        pub success_codes: Vec<String> = Vec::new(),
        /// The names of a report's fields, where a dealer of Infobank's writes them in another way.
        pub fields: ReportFields = ReportFields::default(),
        /// How long to wait before asking again when nothing was there.
        pub poll_interval: Duration = Duration::secs(1),
        /// NHN: how far back a gateway asks that begins to, or takes over: longer than any outage of
        /// all gateways, or the reports of the time before are missed.
        pub poll_look_back: Duration = Duration::secs(3_600),
        /// NHN: how long after its own time a result is in the list.
        pub poll_settle: Duration = Duration::secs(10),
        /// NHN: how finely the list reads times; below a minute they are written with seconds. [M:
        /// from memory]
        pub poll_step: Duration = Duration::secs(60),
    }
}

bongsu_runtime::settings! {
    /// One account of the AlimTalk channel: a contract with a dealer and a sender profile.
    pub struct Account {
        /// `bizgo`, `nhn`, `bizplus` or `omni`.
        pub provider: Dealer = Dealer::Bizgo,
        /// Scheme, host and port of the API; empty for the dealer's own.
        pub api_base: String = String::new(),
        /// BizPlus: scheme, host and port of where tokens are fetched; empty for the dealer's own, or
        /// for `api_base` when that is set.
        pub auth_base: String = String::new(),
        /// The key that opens the API: Bizgo's API key, NHN's secret key, the client's password with
        /// OMNI and BizPlus.
        pub api_key: Secret = Secret::default(),
        /// NHN's app key, part of every path.
        pub app_key: String = String::new(),
        /// The client's id with OMNI and BizPlus.
        pub client_id: String = String::new(),
        /// What BizPlus answers with: `realtime`, `push` or `polling`.
        pub response_method: ResponseMethod = ResponseMethod::Realtime,
        /// OMNI and BizPlus: codes of an answer that mean "accepted"; the dealer's own when empty.
        pub accepted_codes: Vec<String> = Vec::new(),
        /// The sender profile's key, 40 characters.
        pub sender_key: String = String::new(),
        /// Recipients of one request. 1: each delivery's id is its idempotency key, and no resend
        /// ever makes a second copy. More (Bizgo 200, NHN 1,000) saves requests, not quota, and
        /// leaves a batch whose answer was never seen open to a second copy.
        pub recipients_per_request: usize = 1,
        /// Templates by code: `text`, `title`, `status` (`approved` when left out).
        pub templates: BTreeMap<String, Template> = BTreeMap::new(),
        /// A TOML file with more templates, one table per code.
        pub templates_file: Option<PathBuf> = None,
        /// Whether templates and their approval state are pulled from the dealer (NHN); they replace
        /// those of the settings with the same code.
        pub pull_templates: bool = false,
        /// How old what was pulled may grow.
        pub templates_refresh: Duration = Duration::secs(300),
        /// The dealer's failover to text messages: `kind`, `from`, `title`.
        pub failover: Failover = Failover::default(),
        /// Signs our reference in the dealer's records, by which a report finds its delivery: at
        /// least 16 characters, the same for every dispatcher and gateway.
        pub reference_secret: Secret = Secret::default(),
        /// Limits of the account, in recipients; the dealer's documented 200 a second (Bizgo; 300 for
        /// NHN) when `per_second` is not set.
        pub limits: Limits = Limits::default(),
        /// How reports are taken: `mode`, `secret`, `tolerance`, `allow_from`, `trusted_proxies`,
        /// `success_codes`, `fields`, `poll_interval`, `poll_look_back`, `poll_settle`, `poll_step`.
        pub reports: ReportSettings = ReportSettings::default(),
    }
}

/// Length of a sender profile's key. [R: Bizgo and NHN guides]
const SENDER_KEY: usize = 40;

impl Account {
    /// The API's base: the account's, else the dealer's.
    #[must_use]
    pub fn base(&self) -> &str {
        if self.api_base.is_empty() {
            self.provider.api_base()
        } else {
            &self.api_base
        }
    }

    /// Where tokens are fetched.
    #[must_use]
    pub fn auth(&self) -> &str {
        match (self.auth_base.as_str(), self.api_base.as_str()) {
            ("", "") => self.provider.auth_base(),
            ("", base) | (base, _) => base,
        }
    }

    /// The codes of an answer that mean "accepted".
    pub fn accepted(&self) -> impl Iterator<Item = &str> {
        let own = self.provider.accepted_codes().iter().copied();
        let own = own.filter(|_| self.accepted_codes.is_empty());
        own.chain(self.accepted_codes.iter().map(String::as_str))
    }

    /// The account's limits, completed by what the dealer documents.
    #[must_use]
    pub fn known_limits(&self) -> Limits {
        let documented = self.provider.per_second(self.recipients_per_request);
        Limits {
            per_second: self.limits.per_second.or(documented),
            ..self.limits.clone()
        }
    }

    /// The key of our references, when there is a secret for it.
    #[must_use]
    pub fn reference_key(&self) -> Option<ReferenceKey> {
        ReferenceKey::new(self.reference_secret.expose())
    }

    /// The templates of the settings and of the file.
    ///
    /// # Errors
    /// When the file cannot be read, is no TOML, or repeats a code.
    pub fn all_templates(&self) -> Result<BTreeMap<String, Template>, String> {
        let mut all = self.templates.clone();
        let Some(path) = &self.templates_file else {
            return Ok(all);
        };
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{shown} cannot be read: {error}"))?;
        let more: BTreeMap<String, Template> = bongsu_runtime::settings::load(&text, [])
            .map_err(|error| format!("{shown}: {error}"))?;
        for (code, template) in more {
            if all.insert(code.clone(), template).is_some() {
                return Err(format!(
                    "{shown}: template `{code}` is in the settings, too"
                ));
            }
        }
        Ok(all)
    }

    /// What is wrong; `prefix` is the account's path in the settings.
    #[must_use]
    pub fn validate(&self, prefix: &str) -> Vec<Complaint> {
        let mut faults: Vec<(&str, String)> = Vec::new();
        for (key, base) in [("api_base", self.base()), ("auth_base", self.auth())] {
            if key == "auth_base" && self.auth_base.is_empty() {
                continue;
            }
            match check_url(base, true) {
                Ok(url) if url.path() == "/" && url.query().is_none() => {}
                Ok(_) => faults.push((
                    key,
                    "has a path; write scheme, host and port only".to_owned(),
                )),
                Err(error) => faults.push((key, error.to_string())),
            }
        }
        if !is_header(self.api_key.expose()) {
            faults.push((
                "api_key",
                "must be the key as the dealer gave it, without a prefix or spaces".to_owned(),
            ));
        }
        if self.provider == Dealer::Nhn && !is_segment(&self.app_key) {
            faults.push((
                "app_key",
                "is needed for nhn: letters, digits, `-` and `_`".to_owned(),
            ));
        }
        if self.provider.has_tokens() && !is_header(&self.client_id) {
            faults.push((
                "client_id",
                "is needed for omni and bizplus: the client's id".to_owned(),
            ));
        }
        if self.provider == Dealer::Bizplus && !is_number(&self.failover.from) {
            faults.push((
                "failover.from",
                "BizPlus wants the sender's registered number with every request".to_owned(),
            ));
        }
        if self.pull_templates && self.provider != Dealer::Nhn {
            faults.push((
                "pull_templates",
                "only nhn gives its templates; list them in templates or templates_file".to_owned(),
            ));
        }
        if self.pull_templates && self.templates_refresh.0.is_zero() {
            faults.push((
                "templates_refresh",
                "must be above 0ms; write 5m".to_owned(),
            ));
        }
        if self.sender_key.len() != SENDER_KEY || !is_segment(&self.sender_key) {
            faults.push((
                "sender_key",
                format!("must be the sender profile's key of {SENDER_KEY} characters"),
            ));
        }
        let most = self.provider.most_recipients();
        if !(1..=most).contains(&self.recipients_per_request) {
            faults.push((
                "recipients_per_request",
                format!("must lie between 1 and {most} for this dealer"),
            ));
        }
        let each_second = self.known_limits().per_second;
        if each_second.is_some_and(|n| self.recipients_per_request > n as usize) {
            faults.push((
                "recipients_per_request",
                "is above limits.per_second, so a full request could never be sent".to_owned(),
            ));
        }
        let wanted = self.failover.kind != FailoverKind::None;
        if wanted && self.provider != Dealer::Bizplus && !is_number(&self.failover.from) {
            faults.push((
                "failover.from",
                "must be the registered number text messages come from, digits only".to_owned(),
            ));
        }
        self.check_templates(&mut faults);
        self.check_reports(&mut faults);
        let mut complaints: Vec<Complaint> = faults
            .into_iter()
            .map(|(key, message)| Complaint::new(format!("{prefix}.{key}"), message))
            .collect();
        complaints.extend(self.limits.validate(&format!("{prefix}.limits")));
        complaints
    }

    fn check_templates(&self, faults: &mut Vec<(&str, String)>) {
        match self.all_templates() {
            Err(message) => faults.push(("templates_file", message)),
            Ok(templates) => {
                for (code, template) in &templates {
                    if let Err(fault) = template.prepare() {
                        faults.push(("templates", format!("`{code}`: {fault}")));
                    }
                }
            }
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
        if reports.mode == ReportMode::Webhook && reports.secret.is_empty() {
            faults.push((
                "reports.secret",
                "is needed to check the dealer's signature".to_owned(),
            ));
        }
        if reports.mode == ReportMode::Polling && self.provider == Dealer::Bizplus {
            faults.push((
                "reports.mode",
                "BizPlus documents no way to ask for reports; use webhook".to_owned(),
            ));
        }
        let times = [
            reports.tolerance,
            reports.poll_interval,
            reports.poll_look_back,
            reports.poll_step,
        ];
        if times.iter().any(|time| time.0.is_zero()) {
            faults.push((
                "reports",
                "tolerance, poll_interval, poll_look_back and poll_step must be above 0ms"
                    .to_owned(),
            ));
        }
        for (key, list) in [
            ("reports.allow_from", &reports.allow_from),
            ("reports.trusted_proxies", &reports.trusted_proxies),
        ] {
            if list.iter().any(|text| Network::parse(text).is_none()) {
                faults.push((
                    key,
                    "holds something that is no address and no network; write 203.0.113.7 or \
                     203.0.113.0/24"
                        .to_owned(),
                ));
            }
        }
    }
}

fn is_header(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_segment(text: &str) -> bool {
    let in_segment = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !text.is_empty() && text.bytes().all(in_segment)
}

fn is_number(text: &str) -> bool {
    (4..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A valid account, for the tests of the channel.
    pub(crate) fn account() -> Account {
        Account {
            api_key: Secret::new("key-of-the-account"),
            sender_key: "0123456789abcdef0123456789abcdef01234567".into(),
            reference_secret: Secret::new("0123456789abcdef"),
            templates: BTreeMap::from([(
                "paid".to_owned(),
                Template {
                    text: "#{name}, your order #{no} is paid.".into(),
                    ..Template::default()
                },
            )]),
            ..Account::default()
        }
    }

    fn keys(account: &Account) -> Vec<String> {
        account.validate("a").into_iter().map(|c| c.key).collect()
    }

    #[test]
    fn a_good_account_passes_and_every_fault_is_named() {
        assert_eq!(keys(&account()), Vec::<String>::new());
        assert_eq!(
            keys(&Account {
                api_base: "https://x.example/v1".into(),
                api_key: Secret::new("Bearer x"),
                sender_key: "short".into(),
                recipients_per_request: 201,
                failover: Failover {
                    kind: FailoverKind::Lms,
                    ..Failover::default()
                },
                templates_file: Some("/nowhere/templates.toml".into()),
                reference_secret: Secret::new("short"),
                limits: Limits {
                    per_address_per_second: Some(0),
                    ..Limits::default()
                },
                reports: ReportSettings {
                    mode: ReportMode::Webhook,
                    allow_from: vec!["everywhere".into()],
                    ..ReportSettings::default()
                },
                ..account()
            }),
            [
                "a.api_base",
                "a.api_key",
                "a.sender_key",
                "a.recipients_per_request",
                "a.recipients_per_request",
                "a.failover.from",
                "a.templates_file",
                "a.reference_secret",
                "a.reports.secret",
                "a.reports.allow_from",
                "a.limits.per_address_per_second",
            ]
        );
    }

    #[test]
    fn every_dealer_asks_for_what_it_needs() {
        let of = |dealer, change: fn(&mut Account)| {
            let mut account = Account {
                provider: dealer,
                ..account()
            };
            change(&mut account);
            keys(&account)
        };
        assert_eq!(of(Dealer::Omni, |_| {}), ["a.client_id"]);
        let client = |a: &mut Account| a.client_id = "client".into();
        assert_eq!(of(Dealer::Omni, client), Vec::<String>::new());
        assert_eq!(of(Dealer::Bizplus, client), ["a.failover.from"]);
        let polled = |a: &mut Account| {
            a.client_id = "client".into();
            a.failover.from = "0212345678".into();
            a.auth_base = "https://x.example/v1".into();
            a.reports.mode = ReportMode::Polling;
        };
        assert_eq!(
            of(Dealer::Bizplus, polled),
            ["a.auth_base", "a.reports.mode"]
        );
        let nhn = |a: &mut Account| {
            a.pull_templates = true;
            a.templates_refresh = Duration::millis(0);
            a.reports.mode = ReportMode::Polling;
        };
        assert_eq!(of(Dealer::Nhn, nhn), ["a.app_key", "a.templates_refresh"]);
        let pulled = |a: &mut Account| a.pull_templates = true;
        assert_eq!(of(Dealer::Bizgo, pulled), ["a.pull_templates"]);
    }

    #[test]
    fn tokens_are_fetched_where_the_account_lives() {
        let mut account = Account {
            provider: Dealer::Bizplus,
            ..account()
        };
        assert_eq!(account.auth(), "https://msggw-auth.supersms.co:9440");
        account.api_base = "http://a".into();
        assert_eq!(account.auth(), "http://a");
        account.auth_base = "http://b".into();
        assert_eq!(account.auth(), "http://b");
    }

    #[test]
    fn the_dealers_own_limit_holds_unless_another_is_set() {
        assert_eq!(account().known_limits().per_second, Some(200));
        let told = Account {
            limits: Limits {
                per_second: Some(2_000),
                ..Limits::default()
            },
            ..account()
        };
        assert_eq!(told.known_limits().per_second, Some(2_000));
    }
}
