//! The Discord channel's I/O.

use std::collections::HashMap;

use bongsu_domain::target::check_url;
use bongsu_domain::{Channel, Reason};
use bongsu_runtime::Clock;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request};
use tokio::time::Instant;
use url::Url;

use super::config::Account;
use super::pauses::Pauses;
use super::payload::Webhook;
use super::{classify, pauses, payload};
use crate::client::{self, Reach};
use crate::limits::{Egress, Limits};
use crate::provider::{
    Attempt, AttemptResult, HEADER_ATTEMPT, HEADER_WORKER, Provider, ThrottleScope, TryError,
    only_known,
};
use crate::registry::BuildError;
use crate::retry_after;
use crate::settings::{DEFAULT_ACCOUNT, HttpSettings};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Executes Discord webhooks, one delivery per call.
pub struct DiscordProvider {
    accounts: HashMap<String, Ready>,
    egress: Egress,
    client: Client,
    worker: HeaderValue,
    clock: Clock,
}

/// An account, ready to send.
struct Ready {
    base: Url,
    username: String,
    pauses: Pauses,
    limits: Limits,
}

impl DiscordProvider {
    /// Makes the client and reads the accounts.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(
        settings: &HttpSettings<Account>,
        worker: &str,
        clock: Clock,
    ) -> Result<Self, BuildError> {
        let channel = Channel::Discord.as_str();
        // The host is the operator's choice, never the address's: no guard is needed.
        let client = client::build(&settings.client, Reach::Anywhere)
            .map_err(|source| BuildError::Client { channel, source })?;
        let mut accounts = HashMap::new();
        accounts.insert(
            DEFAULT_ACCOUNT.to_owned(),
            ready(DEFAULT_ACCOUNT, &Account::default())?,
        );
        for (name, account) in &settings.accounts {
            accounts.insert(name.clone(), ready(name, account)?);
        }
        Ok(Self {
            accounts,
            egress: settings.egress.clone(),
            client,
            worker: HeaderValue::from_str(worker).map_err(|_| BuildError::WorkerId)?,
            clock,
        })
    }

    async fn attempt_one(&self, attempt: Attempt<'_>, deadline: Instant) -> AttemptResult {
        let delivery = attempt.delivery;
        // Checked by `only_known` before any attempt of the batch was made.
        let Some(account) = self.accounts.get(&delivery.address.account) else {
            return AttemptResult::Unavailable;
        };
        let Ok(webhook) = Webhook::parse(&delivery.address.address, &account.base) else {
            return AttemptResult::Refused(Reason::InvalidAddress);
        };
        let Ok(url) = webhook.url(&account.base) else {
            return AttemptResult::Refused(Reason::InvalidAddress);
        };
        if let Some(wait) = account.pauses.wait(webhook.number(), Instant::now()) {
            return AttemptResult::Throttled {
                retry_after: Some(wait),
                scope: ThrottleScope::Address,
            };
        }
        let Ok(body) = payload::body(&delivery.content, &account.username) else {
            return AttemptResult::Refused(Reason::InvalidContent);
        };
        let mut request = Request::new(Method::POST, url);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(HEADER_WORKER, self.worker.clone());
        headers.insert(HEADER_ATTEMPT, HeaderValue::from(attempt.number));
        match client::exchange(&self.client, request, body, deadline).await {
            Ok(answer) => {
                let wait = answer.headers.get(RETRY_AFTER).and_then(|value| {
                    retry_after::parse(value.to_str().ok()?, self.clock.now_millis())
                });
                let result = classify::classify(answer.status, &answer.body, wait);
                if let Some((scope, wait)) = pauses::of_answer(result, &answer.headers) {
                    let now = Instant::now();
                    account.pauses.pause(webhook.number(), scope, wait, now);
                    if let (
                        AttemptResult::Throttled { retry_after, .. },
                        pauses::Scope::Everything,
                    ) = (result, scope)
                    {
                        return AttemptResult::Throttled {
                            retry_after,
                            scope: ThrottleScope::Worker,
                        };
                    }
                }
                result
            }
            Err(no_answer) => no_answer.result(),
        }
    }
}

fn ready(name: &str, account: &Account) -> Result<Ready, BuildError> {
    let base = check_url(&account.api_base, true).map_err(|error| BuildError::Account {
        channel: Channel::Discord.as_str(),
        account: name.to_owned(),
        message: error.to_string(),
    })?;
    Ok(Ready {
        base,
        username: account.username.clone(),
        pauses: Pauses::default(),
        limits: account.limits.clone(),
    })
}

impl Provider for DiscordProvider {
    fn limits(&self, account: &str) -> Limits {
        let known = self.accounts.get(account);
        known.map(|ready| ready.limits.clone()).unwrap_or_default()
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
            only_known(Channel::Discord, batch, |name| {
                self.accounts.contains_key(name)
            })?;
            Ok(match batch {
                [one] => vec![self.attempt_one(*one, deadline).await],
                many => join_all(many.iter().map(|one| self.attempt_one(*one, deadline))).await,
            })
        }
        .boxed()
    }
}
