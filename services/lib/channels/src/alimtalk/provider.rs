//! The AlimTalk channel's I/O.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bongsu_domain::target::check_url;
use bongsu_domain::{Channel, Delivery, ReferenceKey};
use bongsu_runtime::Clock;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt as _, TryFutureExt as _};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request};
use tokio::time::Instant;
use url::Url;

use super::catalogue::{Catalogue, Source, Templates};
use super::config::{Account, Dealer};
use super::payload::{self, Letter};
use super::session::Session;
use super::{bizgo, infobank, nhn};
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
/// NHN asks for the character set, too.
const JSON_UTF8: HeaderValue = HeaderValue::from_static("application/json;charset=UTF-8");

/// Sends AlimTalk through the dealers of its accounts.
pub struct AlimTalkProvider {
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
    credential: HeaderValue,
    templates: Catalogue,
    /// The token, with dealers that want one.
    session: Option<Session>,
    key: Option<ReferenceKey>,
    /// Recipients of one request; shrinks when the dealer says that it takes fewer.
    most: AtomicUsize,
}

/// A delivery of the batch that is to be sent.
struct Item {
    index: usize,
    number: u32,
    letter: Letter,
}

impl AlimTalkProvider {
    /// Makes the client and reads the accounts.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(
        settings: &HttpSettings<Account>,
        worker: &str,
        clock: Clock,
    ) -> Result<Self, BuildError> {
        let channel = Channel::AlimTalk.as_str();
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

    /// Results of what is refused here, and the rest by account and template.
    fn sort<'a>(
        &'a self,
        batch: &[Attempt<'_>],
        templates: &BTreeMap<&str, Arc<Templates>>,
        results: &mut [AttemptResult],
    ) -> BTreeMap<(&'a str, String), Vec<Item>> {
        let mut groups: BTreeMap<(&str, String), Vec<Item>> = BTreeMap::new();
        for (index, attempt) in batch.iter().enumerate() {
            // Checked by `only_known` before any attempt of the batch was made.
            let known = self
                .accounts
                .get_key_value(&attempt.delivery.address.account);
            let Some((name, ready)) = known else {
                continue;
            };
            // Without templates it stays unavailable.
            let Some(templates) = templates.get(name.as_str()) else {
                continue;
            };
            match ready.letter(*attempt, templates) {
                Ok(letter) => groups
                    .entry((name, letter.template.clone()))
                    .or_default()
                    .push(Item {
                        index,
                        number: attempt.number,
                        letter,
                    }),
                Err(refused) => {
                    if let Some(slot) = results.get_mut(index) {
                        *slot = refused;
                    }
                }
            }
        }
        groups
    }

    /// The templates of every account of a batch that knows them.
    async fn templates<'a>(
        &'a self,
        batch: &[Attempt<'_>],
        deadline: Instant,
    ) -> BTreeMap<&'a str, Arc<Templates>> {
        let mut known = BTreeMap::new();
        for attempt in batch {
            let account = attempt.delivery.address.account.as_str();
            let Some((name, ready)) = self.accounts.get_key_value(account) else {
                continue;
            };
            if known.contains_key(name.as_str()) {
                continue;
            }
            if let Ok(templates) = ready.templates.templates(&self.client, deadline).await {
                known.insert(name.as_str(), templates);
            }
        }
        known
    }

    /// One request, with a result for each of its items; with a dealer of tokens a second one when
    /// the token was refused.
    async fn send(
        &self,
        ready: &Ready,
        items: &[Item],
        templates: &Templates,
        deadline: Instant,
    ) -> Answers {
        let all = |result| Answers::all(result, items.len());
        let Some(session) = &ready.session else {
            return self
                .exchange(ready, items, templates, ready.credential.clone(), deadline)
                .await
                .unwrap_or_else(|| all(AttemptResult::AccountFault));
        };
        for _ in 0..2 {
            let now = self.clock.now_millis();
            let token = match session.header(&self.client, now, deadline).await {
                Ok(token) => token,
                Err(result) => return all(result),
            };
            let answered = self.exchange(ready, items, templates, token.clone(), deadline);
            if let Some(answers) = answered.await {
                return answers;
            }
            session.refused(&token).await;
        }
        all(AttemptResult::AccountFault)
    }

    /// One exchange; `None` when the credential was a token and was refused.
    async fn exchange(
        &self,
        ready: &Ready,
        items: &[Item],
        templates: &Templates,
        credential: HeaderValue,
        deadline: Instant,
    ) -> Option<Answers> {
        let letters: Vec<&Letter> = items.iter().map(|item| &item.letter).collect();
        let Some(body) = ready.body(&letters, templates) else {
            return Some(Answers::all(AttemptResult::Unavailable, items.len()));
        };
        let mut request = Request::new(Method::POST, ready.url.clone());
        let headers = request.headers_mut();
        headers.insert(HEADER_WORKER, self.worker.clone());
        let number = items.iter().map(|item| item.number).max().unwrap_or(1);
        headers.insert(HEADER_ATTEMPT, HeaderValue::from(number));
        let limit = ready.headers(headers, &letters, credential);
        let asked = client::exchange_up_to(&self.client, request, body, deadline, limit);
        Some(match asked.await {
            Ok(answer) => {
                let wait = answer.headers.get(RETRY_AFTER).and_then(|value| {
                    retry_after::parse(value.to_str().ok()?, self.clock.now_millis())
                });
                let results = match ready.account.provider {
                    Dealer::Nhn => nhn::results(answer.status, &answer.body, wait, &letters),
                    Dealer::Bizgo => bizgo::results(answer.status, &answer.body, wait, &letters),
                    Dealer::Bizplus | Dealer::Omni => {
                        let account = &ready.account;
                        let told = infobank::result(account, answer.status, &answer.body, wait)?;
                        vec![told; items.len()]
                    }
                };
                ready.learn(&results);
                Answers {
                    references: ready.names(&results, &answer.body, &letters),
                    results,
                }
            }
            Err(no_answer) => Answers::all(no_answer.result(), items.len()),
        })
    }
}

impl Ready {
    fn letter(&self, attempt: Attempt<'_>, templates: &Templates) -> Result<Letter, AttemptResult> {
        let made = payload::letter(attempt, templates, self.key.as_ref());
        let letter = made.map_err(|unfit| {
            tracing::warn!(delivery.id = %attempt.delivery.id, %unfit, "not sent");
            AttemptResult::Refused(unfit.reason())
        })?;
        bizgo::fits(&self.account, &letter).map_err(|reason| {
            tracing::warn!(
                delivery.id = %letter.delivery,
                "not sent: its text is too long for the account's failover to text messages"
            );
            AttemptResult::Refused(reason)
        })?;
        Ok(letter)
    }

    fn body(&self, letters: &[&Letter], templates: &Templates) -> Option<Vec<u8>> {
        let written = match self.account.provider {
            Dealer::Nhn => nhn::body(&self.account, letters),
            Dealer::Bizplus | Dealer::Omni => infobank::body(&self.account, letters.first()?),
            Dealer::Bizgo => {
                let template = letters.first().and_then(|l| templates.get(&l.template));
                let text = template.map_or("", |t| t.text.as_str());
                bizgo::body(&self.account, letters, text)
            }
        };
        written.ok()
    }

    /// Sets the dealer's headers; gives the bytes its answer may have.
    fn headers(
        &self,
        headers: &mut HeaderMap,
        letters: &[&Letter],
        credential: HeaderValue,
    ) -> usize {
        match self.account.provider {
            Dealer::Nhn => {
                headers.insert(CONTENT_TYPE, JSON_UTF8);
                headers.insert(nhn::HEADER_SECRET, credential);
                if let Ok(key) = HeaderValue::from_str(&bizgo::key(letters)) {
                    headers.insert(nhn::HEADER_KEY, key);
                }
                nhn::ANSWER_BYTES
            }
            Dealer::Bizgo | Dealer::Bizplus | Dealer::Omni => {
                headers.insert(CONTENT_TYPE, JSON);
                headers.insert(AUTHORIZATION, credential);
                BODY_LIMIT
            }
        }
    }

    /// The dealer's ids of what it took, as its reports have them.
    fn names(
        &self,
        results: &[AttemptResult],
        body: &[u8],
        letters: &[&Letter],
    ) -> Vec<Option<Box<str>>> {
        if !results.contains(&AttemptResult::Accepted) {
            return Vec::new();
        }
        match self.account.provider {
            Dealer::Nhn => nhn::names(body, letters),
            Dealer::Bizgo => bizgo::names(body, letters),
            Dealer::Bizplus | Dealer::Omni => vec![infobank::name(&self.account, body)],
        }
    }

    /// The dealer takes fewer recipients than we sent: the next requests are half as large.
    fn learn(&self, results: &[AttemptResult]) {
        if results.len() > 1 && results.contains(&AttemptResult::NotProcessed) {
            let most = (results.len() / 2).max(1);
            self.most.fetch_min(most, Ordering::Relaxed);
            tracing::warn!(most, "the dealer takes fewer recipients per request");
        }
    }
}

fn ready(account: &Account) -> Result<Ready, String> {
    if let Some(complaint) = account.validate("account").into_iter().next() {
        return Err(complaint.to_string());
    }
    let base = check_url(account.base(), true).map_err(|error| error.to_string())?;
    let path = match account.provider {
        Dealer::Nhn => nhn::path(&account.app_key),
        Dealer::Bizgo => bizgo::SEND_PATH.to_owned(),
        dealer @ (Dealer::Bizplus | Dealer::Omni) => infobank::send_path(dealer).to_owned(),
    };
    let mut credential = HeaderValue::from_str(account.api_key.expose())
        .map_err(|_| "api_key cannot stand in a header".to_owned())?;
    credential.set_sensitive(true);
    let mut templates = BTreeMap::new();
    for (code, template) in account.all_templates()? {
        let prepared = template.prepare().map_err(|fault| fault.to_string())?;
        templates.insert(code, prepared);
    }
    let session = account.provider.has_tokens().then(|| {
        let auth = check_url(account.auth(), true).map_err(|error| error.to_string())?;
        let url = auth.join(infobank::token_path(account.provider));
        let url = url.map_err(|error| error.to_string())?;
        Session::new(url, &account.client_id, account.api_key.expose())
    });
    let source = account.pull_templates.then(|| {
        let path = nhn::templates_path(&account.app_key, &account.sender_key);
        let url = base.join(&path).map_err(|error| error.to_string())?;
        let refresh = account.templates_refresh.0;
        Ok::<_, String>(Source::new(url, credential.clone(), refresh))
    });
    Ok(Ready {
        session: session.transpose()?,
        url: base.join(&path).map_err(|error| error.to_string())?,
        credential,
        templates: Catalogue::new(templates, source.transpose()?),
        key: account.reference_key(),
        most: AtomicUsize::new(account.recipients_per_request),
        account: account.clone(),
    })
}

impl Provider for AlimTalkProvider {
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

    /// Only Bizgo remembers keys long enough (a day), and only a key of its own stays with a
    /// delivery when it is sent again.
    fn dedupes(&self, delivery: &Delivery) -> bool {
        let remembered = i64::from(bizgo::KEY_SECONDS) * 1_000;
        self.accounts
            .get(&delivery.address.account)
            .is_some_and(|ready| {
                ready.account.provider == Dealer::Bizgo
                    && ready.account.recipients_per_request == 1
                    && delivery.expires_at.millis_since(delivery.accepted_at) <= remembered
            })
    }

    fn limits(&self, account: &str) -> Limits {
        let ready = self.accounts.get(account);
        ready.map_or_else(Limits::default, |ready| ready.account.known_limits())
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
            only_known(Channel::AlimTalk, batch, |name| {
                self.accounts.contains_key(name)
            })?;
            let mut answers = Answers::all(AttemptResult::Unavailable, batch.len());
            let templates = self.templates(batch, deadline).await;
            let groups = self.sort(batch, &templates, &mut answers.results);
            let mut calls = Vec::new();
            for ((account, _), items) in &groups {
                let (Some(ready), Some(templates)) =
                    (self.accounts.get(*account), templates.get(account))
                else {
                    continue;
                };
                let most = ready.most.load(Ordering::Relaxed).max(1);
                for items in items.chunks(most) {
                    calls.push(async move {
                        (items, self.send(ready, items, templates, deadline).await)
                    });
                }
            }
            for (items, answered) in join_all(calls).await {
                answers.place(items.iter().map(|item| item.index), answered);
            }
            Ok(answers)
        }
        .boxed()
    }
}
