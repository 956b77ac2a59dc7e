//! The provider of a channel that makes one HTTP request per delivery: everything but its requests and
//! what their answers mean.
//!
//! A channel implements [`Protocol`] for an account that is ready to send, purely; the I/O, the headers
//! that every request carries, `Retry-After` and the batch are here.

use std::collections::HashMap;
use std::time::Duration;

use bongsu_domain::{Channel, Delivery};
use bongsu_runtime::Clock;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request};
use tokio::time::Instant;
use url::Url;

use crate::client::{self, Answer, Reach};
use crate::limits::{Egress, Limits};
use crate::provider::{
    Attempt, AttemptResult, HEADER_ATTEMPT, HEADER_WORKER, Provider, TryError, only_known,
};
use crate::registry::BuildError;
use crate::retry_after;
use crate::settings::{HttpAccount, HttpSettings};

/// A POST of JSON.
pub struct Outgoing {
    /// Where to. May hold a secret, so there is no `Debug`.
    pub url: Url,
    /// Headers of the channel's own.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// What an answer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Reaction {
    /// This result.
    Done(AttemptResult),
    /// The provider did not take it, and says what to do differently: the request is made anew, once
    /// per attempt. The result holds when even that leads here.
    Again(AttemptResult),
}

/// What is specific to a channel. One value per account.
pub trait Protocol: Send + Sync + 'static {
    /// Whose.
    const CHANNEL: Channel;

    /// How long the provider removes a second copy by a key that every attempt of a delivery carries;
    /// none when it does not. A delivery that may live longer is not one whose copy is removed.
    const REMEMBERS: Option<Duration> = None;

    /// The request of an attempt.
    ///
    /// # Errors
    /// What the attempt comes to without a request.
    fn request(&self, attempt: Attempt<'_>) -> Result<Outgoing, AttemptResult>;

    /// What an answer means; `wait` is its `Retry-After`, when there was one.
    fn react(&self, attempt: Attempt<'_>, answer: &Answer, wait: Option<Duration>) -> Reaction;

    /// What an operator knows of the account's limits.
    fn limits(&self) -> &Limits;
}

/// A channel's provider over its [`Protocol`].
pub struct SingleProvider<P> {
    accounts: HashMap<String, P>,
    client: Client,
    egress: Egress,
    worker: HeaderValue,
    clock: Clock,
}

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

impl<P: Protocol> SingleProvider<P> {
    /// Makes the client and reads the accounts; `ready` says what is wrong with one that cannot be.
    /// The hosts are the operator's choice, never an address's: no guard is needed.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new<A: HttpAccount>(
        settings: &HttpSettings<A>,
        worker: &str,
        clock: Clock,
        ready: impl Fn(&A) -> Result<P, String>,
    ) -> Result<Self, BuildError> {
        let channel = P::CHANNEL.as_str();
        let client = client::build(&settings.client, Reach::Anywhere)
            .map_err(|source| BuildError::Client { channel, source })?;
        let mut accounts = HashMap::new();
        for (name, account) in &settings.accounts {
            let made = ready(account).map_err(|message| BuildError::Account {
                channel,
                account: name.clone(),
                message,
            })?;
            accounts.insert(name.clone(), made);
        }
        Ok(Self {
            accounts,
            client,
            egress: settings.egress.clone(),
            worker: HeaderValue::from_str(worker).map_err(|_| BuildError::WorkerId)?,
            clock,
        })
    }

    /// The same with an account of that name that needs no settings, unless it has some.
    #[must_use]
    pub fn with_default(mut self, name: &str, account: P) -> Self {
        self.accounts.entry(name.to_owned()).or_insert(account);
        self
    }

    async fn attempt_one(&self, attempt: Attempt<'_>, deadline: Instant) -> AttemptResult {
        // Checked by `only_known` before any attempt of the batch was made.
        let Some(account) = self.accounts.get(&attempt.delivery.address.account) else {
            return AttemptResult::Unavailable;
        };
        match self.exchange(account, attempt, deadline).await {
            Reaction::Done(result) => result,
            Reaction::Again(_) => match self.exchange(account, attempt, deadline).await {
                Reaction::Done(result) | Reaction::Again(result) => result,
            },
        }
    }

    async fn exchange(&self, account: &P, attempt: Attempt<'_>, deadline: Instant) -> Reaction {
        let outgoing = match account.request(attempt) {
            Ok(outgoing) => outgoing,
            Err(result) => return Reaction::Done(result),
        };
        let mut request = Request::new(Method::POST, outgoing.url);
        let headers = request.headers_mut();
        *headers = outgoing.headers;
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(HEADER_WORKER, self.worker.clone());
        headers.insert(HEADER_ATTEMPT, HeaderValue::from(attempt.number));
        match client::exchange(&self.client, request, outgoing.body, deadline).await {
            Err(no_answer) => Reaction::Done(no_answer.result()),
            Ok(answer) => {
                let wait = answer.headers.get(RETRY_AFTER).and_then(|value| {
                    retry_after::parse(value.to_str().ok()?, self.clock.now_millis())
                });
                account.react(attempt, &answer, wait)
            }
        }
    }
}

impl<P: Protocol> Provider for SingleProvider<P> {
    fn dedupes(&self, delivery: &Delivery) -> bool {
        let lifetime = delivery.expires_at.millis_since(delivery.accepted_at);
        P::REMEMBERS.is_some_and(|remembered| {
            lifetime <= i64::try_from(remembered.as_millis()).unwrap_or(i64::MAX)
        })
    }

    fn limits(&self, account: &str) -> Limits {
        let known = self.accounts.get(account);
        known
            .map(|ready| ready.limits().clone())
            .unwrap_or_default()
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
            only_known(P::CHANNEL, batch, |name| self.accounts.contains_key(name))?;
            Ok(match batch {
                [one] => vec![self.attempt_one(*one, deadline).await],
                many => join_all(many.iter().map(|one| self.attempt_one(*one, deadline))).await,
            })
        }
        .boxed()
    }
}
