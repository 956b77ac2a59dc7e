//! Reports of AlimTalk's dealers. [R: icomm-api/bizgo-api-spec reports-webhooks.md; NHN Cloud guide,
//! 2026-08]
//!
//! Bizgo signs only the time of a callback, so whoever saw one can forge others while its time is
//! fresh: what settles a delivery is our own reference with its mac, and the dealer's addresses
//! should be listed. NHN sends a fixed text as its signature. A dealer with a failover reports every
//! way it tried, the failed AlimTalk first; reports only move forward, so the order does not matter.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_domain::identity::digest;
use bongsu_domain::reference::NotOurs;
use bongsu_domain::target::check_url;
use bongsu_domain::{Channel, Outcome, Reason, ReferenceKey, Timestamp};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hmac::{Hmac, Mac as _};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Method, Request};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::Instant;
use url::Url;

use super::classify::reported;
use super::config::{Account, Dealer, ReportMode};
use crate::client::{self, Reach};
use crate::network::Callers;
use crate::reports::{Callback, Fetched, NotAReport, PollError, Refusal, ReportSource, Told};
use crate::settings::ClientSettings;

const POLLING_PATH: &str = "/api/comm/v1/report/polling";
/// Bytes of a poll's answer: a thousand reports of about 400 bytes, with room.
const POLL_BYTES: usize = 4 * 1024 * 1024;

/// The reports of one account.
pub struct Source {
    dealer: Dealer,
    mode: ReportMode,
    secret: String,
    tolerance_ms: i64,
    callers: Callers,
    success: Vec<String>,
    interval: Duration,
    references: ReferenceKey,
    poller: Poller,
}

/// What a poll needs.
struct Poller {
    client: Client,
    base: Url,
    credential: HeaderValue,
}

impl Source {
    /// The source of an account; `None` when it has no reports.
    ///
    /// # Errors
    /// What is wrong with the account.
    pub fn new(account: &Account, client: &ClientSettings) -> Result<Option<Self>, String> {
        let reports = &account.reports;
        if reports.mode == ReportMode::None {
            return Ok(None);
        }
        let success = if reports.success_codes.is_empty() {
            let own = account.provider.success_codes().iter();
            own.map(|code| (*code).to_owned()).collect()
        } else {
            reports.success_codes.clone()
        };
        let mut credential = HeaderValue::from_str(account.api_key.expose())
            .map_err(|_| "api_key cannot stand in a header".to_owned())?;
        credential.set_sensitive(true);
        Ok(Some(Self {
            dealer: account.provider,
            mode: reports.mode,
            secret: reports.secret.expose().to_owned(),
            tolerance_ms: i64::try_from(reports.tolerance.0.as_millis()).unwrap_or(i64::MAX),
            callers: Callers::new(&reports.allow_from, &reports.trusted_proxies),
            success,
            interval: reports.poll_interval.0,
            references: account
                .reference_key()
                .ok_or("reference_secret is too short")?,
            poller: Poller {
                client: client::build(client, Reach::Anywhere).map_err(|e| e.to_string())?,
                base: check_url(account.base(), true).map_err(|e| e.to_string())?,
                credential,
            },
        }))
    }

    fn told(&self, key: String, medium: &str, code: &str, fields: &Value) -> Told {
        let reference = ["ref", "recipientGroupingKey"]
            .iter()
            .find_map(|name| fields[*name].as_str())
            .map_or(Err(NotOurs::Foreign), |text| self.references.read(text));
        Told {
            verdict: self.verdict(code),
            said: format!("{medium}/{code}"),
            at: ["reportTime", "receiveDate", "resultDate"]
                .iter()
                .find_map(|name| time(fields[*name].as_str()?)),
            raw: fields.to_string().into_bytes(),
            key,
            reference,
        }
    }

    fn verdict(&self, code: &str) -> Option<(Outcome, Reason)> {
        if self.success.iter().any(|success| success == code) {
            return Some((Outcome::Delivered, Reason::None));
        }
        reported(code)
    }

    /// Infobank's dealers: one report as an object.
    fn infobank(&self, fields: &Value) -> Result<Told, NotAReport> {
        let text = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| fields[*name].as_str());
            found.filter(|t| !t.is_empty() && t.len() <= 200)
        };
        let missing = |field| NotAReport(format!("`{field}` is missing"));
        let key = text(["msgKey", "messageId"]).ok_or_else(|| missing("msgKey"))?;
        let code = text(["reportCode", "resultCode"]).ok_or_else(|| missing("reportCode"))?;
        let medium = text(["serviceType", "msgType"]).unwrap_or("AT");
        Ok(self.told(key.to_owned(), medium, code, fields))
    }

    /// NHN: several hooks, of which only message results are reports.
    fn nhn(&self, body: &Value) -> Result<Vec<Told>, NotAReport> {
        if body["event"].as_str() != Some("MESSAGE_RESULT_UPDATE") {
            return Ok(Vec::new());
        }
        let hooks = body["hooks"].as_array();
        let hooks = hooks.ok_or_else(|| NotAReport("`hooks` is missing".to_owned()))?;
        Ok(hooks.iter().filter_map(|hook| self.hook(hook)).collect())
    }

    fn hook(&self, hook: &Value) -> Option<Told> {
        let text = |name: &str| match &hook[name] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let seq = text("recipientSeq").unwrap_or_default();
        let key = format!("{}/{seq}", text("requestId")?);
        let status = text("messageStatus").unwrap_or_default();
        // A failover that arrived is an arrival.
        let resent = text("resendStatus").is_some_and(|status| status == "RSC04");
        let (medium, code) = match status.as_str() {
            "COMPLETED" => ("AT", "1000".to_owned()),
            "FAILED" if resent => ("resend", "1000".to_owned()),
            "FAILED" => ("AT", text("resultCode").unwrap_or_default()),
            // An unknown word is not final.
            _ => return None,
        };
        Some(self.told(key, medium, &code, hook))
    }

    fn check_signature(&self, callback: &Callback<'_>) -> Result<(), Refusal> {
        let header = |name: &str| callback.headers.get(name).and_then(|v| v.to_str().ok());
        match self.dealer {
            Dealer::Nhn => {
                let given = header("x-toast-webhook-signature").ok_or(Refusal::Signature)?;
                // Compared as digests: how long it takes tells nothing of the secret.
                let same = digest(&[given.as_bytes()]) == digest(&[self.secret.as_bytes()]);
                if same {
                    Ok(())
                } else {
                    Err(Refusal::Signature)
                }
            }
            Dealer::Bizgo | Dealer::Bizplus | Dealer::Omni => {
                let signed = header("x-ib-timestamp").ok_or(Refusal::Signature)?;
                let given = header("x-ib-signature").and_then(signature);
                let key = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes());
                let key = key.map_err(|_| Refusal::Signature)?;
                key.chain_update(signed)
                    .verify_slice(&given.ok_or(Refusal::Signature)?)
                    .map_err(|_| Refusal::Signature)?;
                let at: i64 = signed.parse().map_err(|_| Refusal::Time)?;
                let apart = callback.now.0.abs_diff(at);
                if apart <= self.tolerance_ms.unsigned_abs() {
                    Ok(())
                } else {
                    Err(Refusal::Time)
                }
            }
        }
    }
}

/// The signature's bytes: hexadecimal in any case, or base64.
fn signature(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if text.len() != 64 {
        return STANDARD.decode(text).ok();
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// A dealer's time: RFC 3339, or without a zone and then Korea's.
fn time(text: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&format!("{}+09:00", text.trim().replace(' ', "T"))))
}

impl Poller {
    async fn ask(&self, method: Method, path: &str, deadline: Instant) -> Result<Value, PollError> {
        let url = self.base.join(path).map_err(|_| PollError::NoAnswer)?;
        let mut request = Request::new(method, url);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.credential.clone());
        let asked = client::exchange_up_to(&self.client, request, Vec::new(), deadline, POLL_BYTES);
        let answer = asked.await.map_err(|_| PollError::NoAnswer)?;
        let body: Value = serde_json::from_slice(&answer.body).map_err(|_| PollError::NoAnswer)?;
        let gateway = body["common"]["authCode"].as_str().unwrap_or_default();
        let service = body["data"]["code"].as_str().unwrap_or_default();
        match (gateway, service) {
            ("A000", "A000") => Ok(body["data"]["data"].clone()),
            ("A000", code) | (code, _) => Err(PollError::Refused(code.chars().take(16).collect())),
        }
    }
}

impl ReportSource for Source {
    fn channel(&self) -> Channel {
        Channel::AlimTalk
    }

    fn verify(&self, callback: &Callback<'_>) -> Result<(), Refusal> {
        if self.mode != ReportMode::Webhook {
            return Err(Refusal::NotTaken);
        }
        self.callers.check(callback)?;
        self.check_signature(callback)
    }

    fn read(&self, _callback: &Callback<'_>, body: &[u8]) -> Result<Vec<Told>, NotAReport> {
        let body: Value =
            serde_json::from_slice(body).map_err(|error| NotAReport(error.to_string()))?;
        match self.dealer {
            Dealer::Nhn => self.nhn(&body),
            Dealer::Bizgo | Dealer::Bizplus | Dealer::Omni => Ok(vec![self.infobank(&body)?]),
        }
    }

    fn acknowledgement(&self, told: &[Told]) -> String {
        match (self.dealer, told.first()) {
            (Dealer::Bizgo | Dealer::Omni, Some(told)) => json!({"msgKey": told.key}),
            (Dealer::Bizplus, Some(told)) => json!({"messageId": told.key}),
            (Dealer::Nhn, _) | (Dealer::Bizgo | Dealer::Omni | Dealer::Bizplus, None) => json!({}),
        }
        .to_string()
    }

    fn poll_interval(&self) -> Option<Duration> {
        (self.mode == ReportMode::Polling).then_some(self.interval)
    }

    fn poll(&self, deadline: Instant) -> BoxFuture<'_, Result<Option<Fetched>, PollError>> {
        async move {
            let data = self.poller.ask(Method::GET, POLLING_PATH, deadline).await?;
            let (Some(id), Some(list)) = (data["reportId"].as_str(), data["report"].as_array())
            else {
                return Ok(None);
            };
            if list.is_empty() {
                return Ok(None);
            }
            let told = list
                .iter()
                .map(|fields| {
                    self.infobank(fields).unwrap_or_else(|error| {
                        tracing::warn!(%error, "a polled report cannot be read");
                        // Kept as it came, with those that have no reference.
                        self.told(String::new(), "", "", &json!({ "unread": fields }))
                    })
                })
                .collect();
            Ok(Some(Fetched {
                id: id.to_owned(),
                told,
            }))
        }
        .boxed()
    }

    fn confirm<'a>(
        &'a self,
        id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), PollError>> {
        async move {
            let path = format!("{POLLING_PATH}/{id}");
            self.poller
                .ask(Method::DELETE, &path, deadline)
                .await
                .map(drop)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use bongsu_domain::{Class, DeliveryId, Reference};
    use bongsu_runtime::Secret;

    use super::super::config::{ReportSettings, tests::account};
    use super::*;

    const SECRET: &str = "callback-secret";
    const NOW: i64 = 1_795_600_800_000;

    fn with(change: impl FnOnce(&mut Account)) -> Source {
        let mut account = Account {
            reports: ReportSettings {
                mode: ReportMode::Webhook,
                secret: Secret::new(SECRET),
                ..ReportSettings::default()
            },
            ..account()
        };
        change(&mut account);
        Source::new(&account, &ClientSettings::default())
            .unwrap()
            .unwrap()
    }

    fn bytes(secret: &str, at: i64) -> Vec<u8> {
        let key = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        key.chain_update(at.to_string())
            .finalize()
            .into_bytes()
            .to_vec()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02X}")).collect()
    }

    fn headers(at: i64, signature: &str) -> HeaderMap {
        [
            ("x-ib-timestamp", at.to_string()),
            ("x-ib-signature", signature.to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
    }

    fn verify(source: &Source, headers: &HeaderMap, peer: &str) -> Result<(), Refusal> {
        source.verify(&Callback {
            headers,
            query: "",
            peer: Some(peer.parse().unwrap()),
            now: Timestamp(NOW),
        })
    }

    fn read(source: &Source, body: &[u8]) -> Result<Vec<Told>, NotAReport> {
        let callback = Callback {
            headers: &HeaderMap::new(),
            query: "",
            peer: None,
            now: Timestamp(NOW),
        };
        source.read(&callback, body)
    }

    #[test]
    fn forged_stale_and_foreign_callbacks_are_refused() {
        let source = with(|a| a.reports.allow_from = vec!["203.0.113.0/24".into()]);
        let check = |at, signature: &str, peer| verify(&source, &headers(at, signature), peer);
        let known = "203.0.113.9";
        assert_eq!(check(NOW, &hex(&bytes(SECRET, NOW)), known), Ok(()));
        assert_eq!(
            check(NOW, &hex(&bytes(SECRET, NOW)).to_lowercase(), known),
            Ok(())
        );
        assert_eq!(
            check(NOW, &STANDARD.encode(bytes(SECRET, NOW)), known),
            Ok(())
        );
        let old = NOW - 300_001;
        assert_eq!(
            check(old, &hex(&bytes(SECRET, old)), known),
            Err(Refusal::Time)
        );
        let ahead = NOW + 300_001;
        assert_eq!(
            check(ahead, &hex(&bytes(SECRET, ahead)), known),
            Err(Refusal::Time)
        );
        assert_eq!(
            check(NOW, &hex(&bytes("another", NOW)), known),
            Err(Refusal::Signature)
        );
        assert_eq!(
            check(NOW + 1, &hex(&bytes(SECRET, NOW)), known),
            Err(Refusal::Signature)
        );
        assert_eq!(check(NOW, "", known), Err(Refusal::Signature));
        assert_eq!(
            check(NOW, &hex(&bytes(SECRET, NOW)), "198.51.100.1"),
            Err(Refusal::Source)
        );
        let polled = with(|a| a.reports.mode = ReportMode::Polling);
        let refused = verify(&polled, &headers(NOW, &hex(&bytes(SECRET, NOW))), known);
        assert_eq!(refused, Err(Refusal::NotTaken));
    }

    #[test]
    fn only_our_own_proxies_are_believed() {
        let source = with(|a| {
            a.reports.allow_from = vec!["203.0.113.9".into()];
            a.reports.trusted_proxies = vec!["10.0.0.0/8".into()];
        });
        let mut headers = headers(NOW, &hex(&bytes(SECRET, NOW)));
        headers.insert(
            "x-forwarded-for",
            "1.1.1.1, 203.0.113.9, 10.0.0.2".parse().unwrap(),
        );
        assert_eq!(verify(&source, &headers, "10.0.0.1"), Ok(()));
        assert_eq!(
            verify(&source, &headers, "198.51.100.1"),
            Err(Refusal::Source)
        );
        headers.insert("x-forwarded-for", "203.0.113.9, 1.1.1.1".parse().unwrap());
        assert_eq!(verify(&source, &headers, "10.0.0.1"), Err(Refusal::Source));
    }

    fn reference() -> Reference {
        Reference {
            channel: Channel::AlimTalk,
            class: Class::Bulk,
            partition: 5,
            delivery: DeliveryId(Default::default()),
        }
    }

    #[test]
    fn a_report_leads_back_to_its_delivery() {
        let source = with(|_| {});
        let own = account().reference_key().unwrap().write(&reference());
        let body = |code: &str, reference: &str| {
            json!({"msgKey": "k1", "serviceType": "ALIMTALK", "msgType": "AT", "reportCode": code,
                   "reportTime": "2026-11-25T19:00:00+09:00", "ref": reference})
            .to_string()
        };
        let read = |body: String| read(&source, body.as_bytes()).unwrap().remove(0);
        let told = read(body("10000", &own));
        assert_eq!(told.reference, Ok(reference()));
        assert_eq!(told.verdict, Some((Outcome::Delivered, Reason::None)));
        assert_eq!(told.at, Some(Timestamp(NOW)));
        assert_eq!(told.said, "ALIMTALK/10000");
        let told = [told];
        assert_eq!(source.acknowledgement(&told), r#"{"msgKey":"k1"}"#);
        let failed = read(body("3018", &own));
        let undelivered = Some((Outcome::Undelivered, Reason::NotReachable));
        assert_eq!(failed.verdict, undelivered);
        assert_eq!(read(body("3005", &own)).verdict, None);
        assert_eq!(
            read(body("10000", "order-17")).reference,
            Err(NotOurs::Foreign)
        );
        let forged = own.replace(".5.", ".6.");
        assert_eq!(read(body("10000", &forged)).reference, Err(NotOurs::Forged));
        for bad in [
            "x",
            "{}",
            r#"{"msgKey":"k"}"#,
            r#"{"msgKey":"","reportCode":"1"}"#,
        ] {
            assert!(self::read(&source, bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(time("2026-11-25 19:00:00"), Some(Timestamp(NOW)));
    }

    #[test]
    fn success_codes_are_a_setting() {
        let source = with(|a| a.reports.success_codes = vec!["SUC".into()]);
        let body = br#"{"messageId":"k","resultCode":"SUC"}"#;
        let told = read(&source, body).unwrap().remove(0);
        assert_eq!(told.verdict, Some((Outcome::Delivered, Reason::None)));
        let body = br#"{"messageId":"k","resultCode":"10000"}"#;
        let told = read(&source, body).unwrap().remove(0);
        let refused = (Outcome::Undelivered, Reason::ProviderRefused);
        assert_eq!(told.verdict, Some(refused));
    }

    #[test]
    fn hooks_of_nhn_are_reports_when_they_are_final() {
        let source = with(|a| {
            a.provider = Dealer::Nhn;
            a.app_key = "app".into();
        });
        let own = account().reference_key().unwrap().write(&reference());
        let hook = |status: &str, resend: &str, code: &str| {
            json!({"hookId": "h", "requestId": "r", "recipientSeq": 1, "messageStatus": status,
                   "resendStatus": resend, "resultCode": code, "recipientGroupingKey": own})
        };
        let body = json!({"event": "MESSAGE_RESULT_UPDATE", "hooks": [
            hook("COMPLETED", "RSC01", "1000"),
            hook("FAILED", "RSC04", "3018"),
            hook("FAILED", "RSC05", "3018"),
            hook("READY", "RSC01", ""),
        ]});
        let told = read(&source, body.to_string().as_bytes()).unwrap();
        let verdicts: Vec<_> = told.iter().map(|t| t.verdict.map(|v| v.0)).collect();
        assert_eq!(
            verdicts,
            [
                Some(Outcome::Delivered),
                Some(Outcome::Delivered),
                Some(Outcome::Undelivered)
            ]
        );
        assert_eq!(told[0].reference, Ok(reference()));
        assert_eq!(told[0].key, "r/1");
        assert_eq!(source.acknowledgement(&told), "{}");
        let other = json!({"event": "TEMPLATE_UPDATE", "hooks": []});
        assert_eq!(read(&source, other.to_string().as_bytes()), Ok(vec![]));
        let signed = |text: &str| {
            let headers = [(
                "x-toast-webhook-signature".parse().unwrap(),
                text.parse().unwrap(),
            )];
            verify(&source, &headers.into_iter().collect(), "203.0.113.9")
        };
        assert_eq!(signed(SECRET), Ok(()));
        assert_eq!(signed("callback-secreT"), Err(Refusal::Signature));
    }
}
