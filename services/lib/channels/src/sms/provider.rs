//! The SMS channel's I/O.

use std::collections::{BTreeMap, HashMap, HashSet};

use bongsu_domain::target::check_url;
use bongsu_domain::{Channel, Reason, ReferenceKey, Timestamp};
use bongsu_runtime::Clock;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt as _, TryFutureExt as _};
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
    Answers, Attempt, AttemptResult, Batching, HEADER_ATTEMPT, HEADER_WORKER, Provider, TryError,
    only_known,
};
use crate::registry::BuildError;
use crate::retry_after;
use crate::settings::HttpSettings;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Bytes of a request's body, about. Solapi names none; what is still too long for it, or for
/// something on the way, is sent in halves. (D)
const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that a text adds to a request beside its own, generously.
const TEXT_OVERHEAD: usize = 256;
/// Requests that one refused whole may become in an attempt: enough to single out two of ten thousand
/// texts and to send the rest. (D)
const MOST_PARTS: usize = 64;

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

/// What the answer to a request says.
enum Answered {
    /// A result for each of its items, with Twilio's id.
    Each(Answers),
    /// Refused as a whole; this result where it holds one item.
    Whole(AttemptResult),
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

    /// The items' answers, with their places in the batch. A request of several texts that is refused as a whole is sent
    /// again in halves, until the text that it is refused for stands alone.
    async fn send(
        &self,
        ready: &Ready,
        items: &[&Item],
        deadline: Instant,
    ) -> Vec<(Vec<usize>, Answers)> {
        let places = |items: &[&Item]| items.iter().map(|item| item.index).collect::<Vec<_>>();
        let mut answered: Vec<(Vec<usize>, Answers)> = Vec::new();
        let mut parts = vec![items];
        let mut sent = 0;
        while sent < MOST_PARTS
            && let Some(part) = parts.pop()
        {
            sent += 1;
            match (self.exchange(ready, part, deadline).await, part) {
                (Answered::Whole(result), [one]) => {
                    answered.push((vec![one.index], Answers::all(result, 1)));
                }
                (Answered::Whole(_), several) => {
                    let (first, second) = several.split_at(several.len() / 2);
                    parts.extend([second, first]);
                }
                (Answered::Each(told), items) => answered.push((places(items), told)),
            }
            if sent > 1 && Instant::now() >= deadline {
                break;
            }
        }
        let settled = |result: &AttemptResult| {
            matches!(result, AttemptResult::Accepted | AttemptResult::Refused(_))
        };
        // They were refused with others, surely not taken. Free of charge only while it goes on.
        let rest = if answered
            .iter()
            .any(|(_, told)| told.results.iter().any(settled))
        {
            AttemptResult::NotProcessed
        } else {
            AttemptResult::Unavailable
        };
        let left = parts.into_iter();
        answered.extend(left.map(|part| (places(part), Answers::all(rest, part.len()))));
        answered
    }

    /// One request, and what its answer says.
    async fn exchange(&self, ready: &Ready, items: &[&Item], deadline: Instant) -> Answered {
        let texts: Vec<&Text> = items.iter().map(|item| &item.text).collect();
        let Some((body, limit, mut request)) = self.request(ready, &texts) else {
            return Answered::Each(Answers::all(AttemptResult::Unavailable, items.len()));
        };
        let headers = request.headers_mut();
        headers.insert(HEADER_WORKER, self.worker.clone());
        let number = items.iter().map(|item| item.number).max().unwrap_or(1);
        headers.insert(HEADER_ATTEMPT, HeaderValue::from(number));
        let answer = client::exchange_up_to(&self.client, request, body, deadline, limit).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(no_answer) => {
                return Answered::Each(Answers::all(no_answer.result(), items.len()));
            }
        };
        let wait = answer
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| retry_after::parse(value.to_str().ok()?, self.clock.now_millis()));
        match ready.account.provider {
            Vendor::Solapi if solapi::refuses_whole(answer.status, &answer.body) => {
                tracing::warn!(
                    status = answer.status.as_u16(),
                    texts = texts.len(),
                    "Solapi refuses a request as a whole"
                );
                Answered::Whole(AttemptResult::Refused(Reason::InvalidContent))
            }
            Vendor::Solapi => {
                Answered::Each(solapi::results(answer.status, &answer.body, wait, &texts).into())
            }
            Vendor::Twilio => {
                let result = twilio::result(answer.status, &answer.body, wait);
                let mut answers = Answers::all(result, items.len());
                answers.references = vec![twilio::sid(&answer.body)];
                Answered::Each(answers)
            }
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

/// Texts that go in one request.
#[derive(Default)]
struct Shared<'a> {
    numbers: HashSet<&'a str>,
    bytes: usize,
    items: Vec<&'a Item>,
}

/// Requests of at most `most` recipients and about [`REQUEST_BYTES`], no number twice in one: Solapi
/// removes the second.
fn requests(items: &[Item], most: usize) -> Vec<Vec<&Item>> {
    let mut requests: Vec<Shared<'_>> = Vec::new();
    for item in items {
        let number = item.text.to.digits();
        let bytes = item.text.text.len() + item.text.title.len() + TEXT_OVERHEAD;
        let room = requests.iter().position(|shared| {
            shared.items.len() < most
                && shared.bytes + bytes <= REQUEST_BYTES
                && !shared.numbers.contains(number)
        });
        let at = room.unwrap_or_else(|| {
            requests.push(Shared::default());
            requests.len() - 1
        });
        if let Some(shared) = requests.get_mut(at) {
            shared.numbers.insert(number);
            shared.bytes += bytes;
            shared.items.push(item);
        }
    }
    requests.into_iter().map(|shared| shared.items).collect()
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
        let named = self.attempt_named(batch, deadline);
        named.map_ok(|answers| answers.results).boxed()
    }

    fn attempt_named<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Answers, TryError>> {
        async move {
            only_known(Channel::Sms, batch, |name| self.accounts.contains_key(name))?;
            let mut answers = Answers::all(AttemptResult::Unavailable, batch.len());
            let groups = self.sort(batch, &mut answers.results);
            let mut calls = Vec::new();
            for (account, items) in &groups {
                let Some(ready) = self.accounts.get(*account) else {
                    continue;
                };
                for items in requests(items, ready.account.recipients_per_request) {
                    calls.push(async move { self.send(ready, &items, deadline).await });
                }
            }
            for (places, answered) in join_all(calls).await.into_iter().flatten() {
                answers.place(places.into_iter(), answered);
            }
            Ok(answers)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use bongsu_domain::{DeliveryId, Phone};

    use super::super::payload::Kind;
    use super::*;

    #[test]
    fn a_request_has_a_bounded_size_and_no_number_twice() {
        let item = |index: usize, number: &str, bytes: usize| Item {
            index,
            number: 1,
            text: Text {
                delivery: DeliveryId(Default::default()),
                to: Phone::parse(number).unwrap(),
                text: "x".repeat(bytes),
                title: String::new(),
                kind: Kind::Lms,
                reference: None,
                expires_at: 0,
            },
        };
        let third = REQUEST_BYTES / 3;
        let items = [
            item(0, "01011112222", third),
            item(1, "01011112223", third),
            item(2, "01011112224", third),
            item(3, "01011112222", 10),
            item(4, "01011112225", 10),
        ];
        let made = requests(&items, 10);
        let indexes: Vec<Vec<usize>> = made
            .iter()
            .map(|items| items.iter().map(|item| item.index).collect())
            .collect();
        assert_eq!(indexes, [vec![0, 1, 4], vec![2, 3]]);
        assert_eq!(requests(&items, 1).len(), 5);
    }
}
