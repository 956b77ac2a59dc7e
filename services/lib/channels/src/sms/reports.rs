//! Reports of the SMS vendors. [R: Twilio's webhooks-security page, solapi/documents, public clients
//! of Solapi's webhooks, 2026-08]
//!
//! Twilio signs the URL it calls, our reference in it included, and the whole form. Solapi sends a
//! digest of the webhook's secret, always the same, and signs nothing: what settles a delivery is our
//! reference with its mac, and Solapi's addresses should be listed.

use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest as sha1};
use bongsu_domain::identity::digest;
use bongsu_domain::target::check_url;
use bongsu_domain::{Channel, ReferenceKey, Timestamp};
use bongsu_runtime::Clock;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Method, Request};
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::config::{Account, ReportMode, Vendor};
use super::provider::solapi_credential;
use super::{solapi, twilio};
use crate::client::{self, Reach};
use crate::network::Callers;
use crate::reports::{Callback, Fetched, NotAReport, PollError, Refusal, ReportSource, Told};
use crate::settings::ClientSettings;
use crate::walk::Walk;

/// Bytes of a page of Solapi's list: 500 texts of at most 2,000 bytes and their fields.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The reports of one account.
pub struct Source {
    account: Account,
    callers: Callers,
    references: ReferenceKey,
    client: Client,
    base: Url,
    clock: Clock,
    walk: Walk,
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
        let millis =
            |d: bongsu_runtime::Duration| i64::try_from(d.0.as_millis()).unwrap_or(i64::MAX);
        Ok(Some(Self {
            callers: Callers::new(&reports.allow_from, &reports.trusted_proxies),
            references: account
                .reference_key()
                .ok_or("reference_secret is too short")?,
            client: client::build(client, Reach::Anywhere).map_err(|e| e.to_string())?,
            base: check_url(account.base(), true).map_err(|e| e.to_string())?,
            clock: Clock::system(),
            walk: Walk::new(millis(reports.poll_settle), millis(reports.poll_look_back)),
            account: account.clone(),
        }))
    }

    /// Solapi: the webhook's secret as its SHA-1 in hexadecimal; some clients have seen it as it is.
    /// Compared as digests: how long it takes tells nothing of the secret.
    fn is_solapi(&self, callback: &Callback<'_>) -> bool {
        let given = callback.headers.get("x-solapi-secret");
        let Some(given) = given.and_then(|value| value.to_str().ok()) else {
            return false;
        };
        let secret = self.account.reports.secret.expose();
        let hashed = sha1(&SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let hashed: String = hashed.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let given_digest = digest(&[given.as_bytes()]);
        digest(&[given.to_lowercase().as_bytes()]) == digest(&[hashed.as_bytes()])
            || given_digest == digest(&[secret.as_bytes()])
    }

    /// Solapi: a list of texts; events of another name are no reports. One that cannot be read does
    /// not cost the others their reports.
    fn solapi(&self, callback: &Callback<'_>, body: &[u8]) -> Result<Vec<Told>, NotAReport> {
        let event = callback.headers.get("x-solapi-event-name");
        if event.is_some_and(|name| !name.as_bytes().eq_ignore_ascii_case(b"SINGLE-REPORT")) {
            return Ok(Vec::new());
        }
        let body: Value =
            serde_json::from_slice(body).map_err(|error| NotAReport(error.to_string()))?;
        let list = body
            .as_array()
            .ok_or_else(|| NotAReport("the body is no list".to_owned()))?;
        let read = |item: &Value| {
            let item = if item["data"].is_object() {
                &item["data"]
            } else {
                item
            };
            solapi::told(item, &self.references)
        };
        let (told, unread): (Vec<_>, Vec<_>) = list.iter().map(read).partition(Result::is_ok);
        let told: Vec<Told> = told.into_iter().flatten().collect();
        let Some(fault) = unread.into_iter().find_map(Result::err) else {
            return Ok(told);
        };
        if told.is_empty() {
            return Err(fault);
        }
        tracing::warn!(%fault, read = told.len(), "a report of a callback cannot be read");
        Ok(told)
    }

    /// A page of Solapi's list.
    async fn page(&self, query: &[(&str, String)], deadline: Instant) -> Result<Value, PollError> {
        let mut url = self
            .base
            .join(solapi::LIST_PATH)
            .map_err(|_| PollError::NoAnswer)?;
        url.query_pairs_mut().extend_pairs(query);
        let mut request = Request::new(Method::GET, url);
        let credential = solapi_credential(&self.account, self.clock);
        let credential = credential.ok_or(PollError::NoAnswer)?;
        request.headers_mut().insert(AUTHORIZATION, credential);
        let asked = client::exchange_up_to(&self.client, request, Vec::new(), deadline, PAGE_BYTES);
        let answer = asked.await.map_err(|_| PollError::NoAnswer)?;
        let body: Value = serde_json::from_slice(&answer.body).map_err(|_| PollError::NoAnswer)?;
        if answer.status.is_success() {
            return Ok(body);
        }
        let word = body["errorCode"].as_str().unwrap_or_default();
        let word = format!("{} {word}", answer.status.as_u16());
        Err(PollError::Refused(word.chars().take(64).collect()))
    }
}

impl ReportSource for Source {
    fn channel(&self) -> Channel {
        Channel::Sms
    }

    fn verify(&self, callback: &Callback<'_>) -> Result<(), Refusal> {
        if self.account.reports.mode != ReportMode::Webhook {
            return Err(Refusal::NotTaken);
        }
        self.callers.check(callback)?;
        let named = match self.account.provider {
            Vendor::Solapi => self.is_solapi(callback),
            // Checked over the form, once it is read.
            Vendor::Twilio => callback.headers.contains_key("x-twilio-signature"),
        };
        if named {
            Ok(())
        } else {
            Err(Refusal::Signature)
        }
    }

    fn verify_body(&self, callback: &Callback<'_>, body: &[u8]) -> Result<(), Refusal> {
        if self.account.provider != Vendor::Twilio {
            return Ok(());
        }
        let given = callback.headers.get("x-twilio-signature");
        let given = given.and_then(|value| value.to_str().ok());
        let url = match callback.query {
            "" => self.account.reports.url.clone(),
            query => format!("{}?{query}", self.account.reports.url),
        };
        let token = self.account.api_secret.expose();
        let signed =
            given.is_some_and(|given| twilio::is_signed(token, &url, &twilio::form(body), given));
        if signed {
            Ok(())
        } else {
            Err(Refusal::Signature)
        }
    }

    fn read(&self, callback: &Callback<'_>, body: &[u8]) -> Result<Vec<Told>, NotAReport> {
        match self.account.provider {
            Vendor::Solapi => self.solapi(callback, body),
            Vendor::Twilio => {
                twilio::told(body, callback.query, &self.references).map(|told| vec![told])
            }
        }
    }

    fn acknowledgement(&self, _told: &[Told]) -> String {
        // Both look at the status alone.
        "{}".to_owned()
    }

    fn poll_interval(&self) -> Option<Duration> {
        let reports = &self.account.reports;
        (reports.mode == ReportMode::Polling).then_some(reports.poll_interval.0)
    }

    fn poll(&self, deadline: Instant) -> BoxFuture<'_, Result<Option<Fetched>, PollError>> {
        async move {
            // Pages that tell nothing are passed over at once.
            while let Some(ask) = self.walk.ask(self.clock.now_millis()) {
                let mut query = vec![
                    ("dateType", "UPDATED".to_owned()),
                    ("startDate", Timestamp(ask.from).to_rfc3339()),
                    ("endDate", Timestamp(ask.until).to_rfc3339()),
                    ("limit", solapi::PAGE.to_string()),
                ];
                query.extend(ask.page.clone().map(|page| ("startKey", page)));
                let page = match self.page(&query, deadline).await {
                    Err(error) => {
                        self.walk.restart();
                        return Err(error);
                    }
                    Ok(page) => page,
                };
                let next = page["nextKey"].as_str().filter(|key| !key.is_empty());
                let id = self.walk.fetched(&ask, next.map(str::to_owned));
                let told = self.list(&page["messageList"]);
                if told.is_empty() {
                    self.walk.confirm(&id);
                    continue;
                }
                return Ok(Some(Fetched { id, told }));
            }
            Ok(None)
        }
        .boxed()
    }

    fn confirm<'a>(
        &'a self,
        id: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<(), PollError>> {
        self.walk.confirm(id);
        async { Ok(()) }.boxed()
    }
}

impl Source {
    /// The final ones of a page: an object by id, or a list.
    fn list(&self, list: &Value) -> Vec<Told> {
        let items: Vec<&Value> = match list {
            Value::Object(map) => map.values().collect(),
            Value::Array(items) => items.iter().collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        };
        let read = |item: &&Value| match solapi::told(item, &self.references) {
            Ok(told) => told.verdict.is_some().then_some(told),
            Err(error) => {
                tracing::warn!(%error, "a polled report cannot be read");
                None
            }
        };
        items.iter().filter_map(read).collect()
    }
}

#[cfg(test)]
mod tests;
