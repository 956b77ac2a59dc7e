//! The SMS channel's I/O.

use std::collections::{BTreeMap, HashMap, HashSet};

use bongsu_domain::target::check_url;
use bongsu_domain::{Channel, ReferenceKey, Timestamp};
use bongsu_runtime::Clock;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request};
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use super::config::{Account, ReportMode, Vendor};
use super::payload::{self, Text};
use super::{solapi, twilio};
use crate::client::{self, BODY_LIMIT, Reach};
use crate::limits::{Egress, Limits};
use crate::provider::{
    Attempt, AttemptResult, Batching, HEADER_ATTEMPT, HEADER_WORKER, Provider, TryError, only_known,
};
use crate::registry::BuildError;
use crate::retry_after;
use crate::settings::HttpSettings;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Sends texts through the vendors of its accounts.
pub struct SmsProvider {
    accounts: HashMap<String, Ready>,
    client: Client,
    egress: Egress,
    worker: HeaderValue,
    clock: Clock,
}

/// An account, ready to send.
struct Ready {
    account: Account,
    url: Url,
    key: Option<ReferenceKey>,
    /// The URL Twilio reports to.
    callback: Option<String>,
}

/// A delivery of the batch that is to be sent.
struct Item {
    index: usize,
    number: u32,
    text: Text,
}

impl SmsProvider {
    /// Makes the client and reads the accounts.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(
        settings: &HttpSettings<Account>,
        worker: &str,
        clock: Clock,
    ) -> Result<Self, BuildError> {
        let channel = Channel::Sms.as_str();
        // The host is the operator's choice, never the address's: no guard is needed.
        let client = client::build(&settings.client, Reach::Anywhere)
            .map_err(|source| BuildError::Client { channel, source })?;
        let mut accounts = HashMap::new();
        for (name, account) in &settings.accounts {
            let ready = ready(account).map_err(|message| BuildError::Account {
                channel,
                account: name.clone(),
                message,
            })?;
            accounts.insert(name.clone(), ready);
        }
        Ok(Self {
            accounts,
            client,
            egress: settings.egress.clone(),
            worker: HeaderValue::from_str(worker).map_err(|_| BuildError::WorkerId)?,
            clock,
        })
    }

    /// Results of what is refused here, and the rest by account.
    fn sort<'a>(
        &'a self,
        batch: &[Attempt<'_>],
        results: &mut [AttemptResult],
    ) -> BTreeMap<&'a str, Vec<Item>> {
        let mut groups: BTreeMap<&str, Vec<Item>> = BTreeMap::new();
        for (index, attempt) in batch.iter().enumerate() {
            // Checked by `only_known` before any attempt of the batch was made.
            let known = self
                .accounts
                .get_key_value(&attempt.delivery.address.account);
            let Some((name, ready)) = known else {
                continue;
            };
            match payload::text(*attempt, &ready.account, ready.key.as_ref()) {
                Ok(text) => groups.entry(name).or_default().push(Item {
                    index,
                    number: attempt.number,
                    text,
                }),
                Err(unfit) => {
                    tracing::warn!(delivery.id = %attempt.delivery.id, %unfit, "not sent");
                    if let Some(slot) = results.get_mut(index) {
                        *slot = AttemptResult::Refused(unfit.reason());
                    }
                }
            }
        }
        groups
    }

    /// One request, with a result for each of its items.
    async fn send(&self, ready: &Ready, items: &[&Item], deadline: Instant) -> Vec<AttemptResult> {
        let texts: Vec<&Text> = items.iter().map(|item| &item.text).collect();
        let Some((body, limit, mut request)) = self.request(ready, &texts) else {
            return vec![AttemptResult::Unavailable; items.len()];
        };
        let headers = request.headers_mut();
        headers.insert(HEADER_WORKER, self.worker.clone());
        let number = items.iter().map(|item| item.number).max().unwrap_or(1);
        headers.insert(HEADER_ATTEMPT, HeaderValue::from(number));
        match client::exchange_up_to(&self.client, request, body, deadline, limit).await {
            Ok(answer) => {
                let wait = answer.headers.get(RETRY_AFTER).and_then(|value| {
                    retry_after::parse(value.to_str().ok()?, self.clock.now_millis())
                });
                match ready.account.provider {
                    Vendor::Solapi => solapi::results(answer.status, &answer.body, wait, &texts),
                    Vendor::Twilio => {
                        let result = twilio::result(answer.status, &answer.body, wait);
                        vec![result; items.len()]
                    }
                }
            }
            Err(no_answer) => vec![no_answer.result(); items.len()],
        }
    }

    /// Body, bytes the answer may have, and the request.
    fn request(&self, ready: &Ready, texts: &[&Text]) -> Option<(Vec<u8>, usize, Request)> {
        let account = &ready.account;
        let mut request = Request::new(Method::POST, ready.url.clone());
        let (body, limit, form, credential) = match account.provider {
            Vendor::Solapi => (
                solapi::body(&account.from, texts).ok()?,
                solapi::ANSWER_BYTES,
                JSON,
                solapi_credential(account, self.clock)?,
            ),
            Vendor::Twilio => {
                let now = self.clock.now_millis();
                let credential =
                    twilio::authorization(&account.api_key, account.api_secret.expose());
                (
                    twilio::body(account, texts.first()?, ready.callback.as_deref(), now),
                    BODY_LIMIT,
                    FORM,
                    sensitive(&credential)?,
                )
            }
        };
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, form);
        headers.insert(AUTHORIZATION, credential);
        Some((body, limit, request))
    }
}

/// A credential of Solapi's, for one request.
pub(super) fn solapi_credential(account: &Account, clock: Clock) -> Option<HeaderValue> {
    let date = Timestamp(clock.now_millis()).to_rfc3339();
    let salt = Uuid::new_v4().simple().to_string();
    let secret = account.api_secret.expose();
    sensitive(&solapi::authorization(
        &account.api_key,
        secret,
        &date,
        &salt,
    ))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn ready(account: &Account) -> Result<Ready, String> {
    if let Some(complaint) = account.validate("account").into_iter().next() {
        return Err(complaint.to_string());
    }
    let base = check_url(account.base(), true).map_err(|error| error.to_string())?;
    let path = match account.provider {
        Vendor::Solapi => solapi::SEND_PATH.to_owned(),
        Vendor::Twilio => twilio::path(&account.api_key),
    };
    let reports = &account.reports;
    let called = account.provider == Vendor::Twilio && reports.mode == ReportMode::Webhook;
    Ok(Ready {
        url: base.join(&path).map_err(|error| error.to_string())?,
        key: account.reference_key(),
        callback: called.then(|| reports.url.clone()),
        account: account.clone(),
    })
}

/// Requests of at most `most` recipients, no number twice in one: Solapi removes the second.
fn requests(items: &[Item], most: usize) -> Vec<Vec<&Item>> {
    let mut requests: Vec<(HashSet<&str>, Vec<&Item>)> = Vec::new();
    for item in items {
        let number = item.text.to.digits();
        let room = requests
            .iter_mut()
            .find(|(numbers, items)| items.len() < most && !numbers.contains(number));
        match room {
            Some((numbers, items)) => {
                numbers.insert(number);
                items.push(item);
            }
            None => requests.push((HashSet::from([number]), vec![item])),
        }
    }
    requests.into_iter().map(|(_, items)| items).collect()
}

impl Provider for SmsProvider {
    fn batching(&self) -> Batching {
        let most = self.accounts.values();
        Batching {
            max: most
                .map(|ready| ready.account.recipients_per_request)
                .max()
                .unwrap_or(1),
            packs_one_key: false,
        }
    }

    fn limits(&self, account: &str) -> Limits {
        let ready = self.accounts.get(account);
        ready.map_or_else(Limits::default, |ready| ready.account.limits.clone())
    }

    fn egress(&self) -> Egress {
        self.egress.clone()
    }

    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        async move {
            only_known(Channel::Sms, batch, |name| self.accounts.contains_key(name))?;
            let mut results = vec![AttemptResult::Unavailable; batch.len()];
            let groups = self.sort(batch, &mut results);
            let mut calls = Vec::new();
            for (account, items) in &groups {
                let Some(ready) = self.accounts.get(*account) else {
                    continue;
                };
                for items in requests(items, ready.account.recipients_per_request) {
                    calls.push(async move {
                        let answered = self.send(ready, &items, deadline).await;
                        (items, answered)
                    });
                }
            }
            for (items, answered) in join_all(calls).await {
                for (item, result) in items.iter().zip(answered) {
                    if let Some(slot) = results.get_mut(item.index) {
                        *slot = result;
                    }
                }
            }
            Ok(results)
        }
        .boxed()
    }
}
