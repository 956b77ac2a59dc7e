//! Reports of AlimTalk's dealers. [R: icomm-api/bizgo-api-spec reports-webhooks.md; NHN Cloud guide,
//! 2026-08]
//!
//! Bizgo signs only the time of a callback, so whoever saw one can forge others while its time is
//! fresh: what settles a delivery is our own reference with its mac, and the dealer's addresses
//! should be listed. NHN sends a fixed text as its signature. BizPlus and OMNI sign nothing: a secret
//! stands in the URL that is registered with them. A dealer with a failover reports every way it
//! tried, the failed AlimTalk first; reports only move forward, so the order does not matter.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_domain::identity::digest;
use bongsu_domain::reference::NotOurs;
use bongsu_domain::{Channel, Outcome, Reason, ReferenceKey, Timestamp};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::Instant;

use super::classify::reported;
use super::config::{Account, Dealer, ReportFields, ReportMode};
use crate::network::Callers;
use crate::reports::{Callback, Fetched, NotAReport, PollError, Refusal, ReportSource, Told};
use crate::settings::ClientSettings;

mod poll;

/// The key of the secret in the URL that is registered with BizPlus or OMNI.
pub const SECRET_QUERY: &str = "secret";

/// The reports of one account.
pub struct Source {
    dealer: Dealer,
    mode: ReportMode,
    secret: String,
    tolerance_ms: i64,
    callers: Callers,
    success: Vec<String>,
    fields: ReportFields,
    interval: Duration,
    references: ReferenceKey,
    poller: poll::Poller,
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
        Ok(Some(Self {
            dealer: account.provider,
            mode: reports.mode,
            secret: reports.secret.expose().to_owned(),
            tolerance_ms: i64::try_from(reports.tolerance.0.as_millis()).unwrap_or(i64::MAX),
            callers: Callers::new(&reports.allow_from, &reports.trusted_proxies),
            success,
            fields: reports.fields.clone(),
            interval: reports.poll_interval.0,
            references: account
                .reference_key()
                .ok_or("reference_secret is too short")?,
            poller: poll::Poller::new(account, client)?,
        }))
    }

    fn told(&self, key: String, medium: &str, code: &str, fields: &Value) -> Told {
        let named = |own: &'static str, name: &str| -> Option<String> {
            let name = if name.is_empty() { own } else { name };
            fields[name].as_str().map(str::to_owned)
        };
        let reference = named("ref", &self.fields.reference)
            .or_else(|| named("recipientGroupingKey", ""))
            .map_or(Err(NotOurs::Foreign), |text| self.references.read(&text));
        Told {
            verdict: self.verdict(code),
            said: format!("{medium}/{code}"),
            at: named("reportTime", &self.fields.time)
                .or_else(|| named("receiveDate", ""))
                .or_else(|| named("resultDate", ""))
                .and_then(|text| time(&text)),
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
        let own = &self.fields;
        // The name of the settings alone, when there is one.
        let text = |name: &str, names: [&str; 2]| {
            let found = match name {
                "" => names.iter().find_map(|name| fields[*name].as_str()),
                name => fields[name].as_str(),
            };
            found.filter(|t| !t.is_empty() && t.len() <= 200)
        };
        let missing = |name: &str, usual: &str| {
            let name = if name.is_empty() { usual } else { name };
            NotAReport(format!("`{name}` is missing"))
        };
        let key = text(&own.key, ["msgKey", "messageId"]);
        let key = key.ok_or_else(|| missing(&own.key, "msgKey"))?;
        let code = text(&own.code, ["reportCode", "resultCode"]);
        let code = code.ok_or_else(|| missing(&own.code, "reportCode"))?;
        let medium = text(&own.medium, ["serviceType", "msgType"]).unwrap_or("AT");
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

    /// Whether a text is the secret. Compared as digests: how long it takes tells nothing of it.
    fn is_secret(&self, given: Option<&str>) -> Result<(), Refusal> {
        let own = digest(&[self.secret.as_bytes()]);
        match given {
            Some(given) if digest(&[given.as_bytes()]) == own => Ok(()),
            Some(_) | None => Err(Refusal::Signature),
        }
    }

    fn check_signature(&self, callback: &Callback<'_>) -> Result<(), Refusal> {
        let header = |name: &str| callback.headers.get(name).and_then(|v| v.to_str().ok());
        match self.dealer {
            Dealer::Nhn => self.is_secret(header("x-toast-webhook-signature")),
            Dealer::Bizplus | Dealer::Omni if header("x-ib-signature").is_none() => {
                let mut pairs = url::form_urlencoded::parse(callback.query.as_bytes());
                let given = pairs.find(|(name, _)| name == SECRET_QUERY);
                self.is_secret(given.as_ref().map(|(_, value)| value.as_ref()))
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
            match self.dealer {
                Dealer::Nhn => self.poll_list(deadline).await,
                Dealer::Bizgo | Dealer::Omni | Dealer::Bizplus => self.poll_batch(deadline).await,
            }
        }
        .boxed()
    }

    fn confirm<'a>(
        &'a self,
        id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), PollError>> {
        async move {
            match self.dealer {
                Dealer::Nhn => {
                    self.poller.walk.confirm(id);
                    Ok(())
                }
                Dealer::Bizgo | Dealer::Omni | Dealer::Bizplus => {
                    self.poller.confirm(id, deadline).await
                }
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
