//! The Discord channel's I/O.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bongsu_domain::target::check_url;
use bongsu_domain::{Channel, Delivery, Reason};
use bongsu_runtime::Clock;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request};
use tokio::time::Instant;
use url::Url;

use super::address::Webhook;
use super::buckets::{Buckets, Scope};
use super::config::{Account, EGRESS_PER_SECOND, Mention, STRIKES};
use super::payload::{Embed, Style};
use super::{classify, payload};
use crate::client::{self, Reach};
use crate::limits::{Egress, Limits};
use crate::provider::{
    Attempt, AttemptResult, Batching, HEADER_ATTEMPT, HEADER_WORKER, Provider, StrikeLimit,
    ThrottleScope, TryError, only_known,
};
use crate::registry::BuildError;
use crate::retry_after;
use crate::settings::{DEFAULT_ACCOUNT, HttpSettings};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Executes Discord webhooks: one delivery per call, or several embeds to one webhook where the
/// account packs.
pub struct DiscordProvider {
    accounts: HashMap<String, Ready>,
    egress: Egress,
    client: Client,
    worker: HeaderValue,
    clock: Clock,
    strikes: AtomicU64,
}

/// An account, ready to send.
struct Ready {
    base: Url,
    username: String,
    mentions: Vec<Mention>,
    wait: bool,
    pack: bool,
    buckets: Buckets,
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
            egress: Egress {
                per_second: settings.egress.per_second.or(Some(EGRESS_PER_SECOND)),
            },
            client,
            worker: HeaderValue::from_str(worker).map_err(|_| BuildError::WorkerId)?,
            clock,
            strikes: AtomicU64::new(0),
        })
    }

    /// Attempts consecutive deliveries to one webhook in one request, as many as fit. What was not
    /// sent because those before it were, or because they must wait, is not processed.
    async fn attempt_run(&self, run: &[Attempt<'_>], deadline: Instant) -> Vec<AttemptResult> {
        let mut results = vec![AttemptResult::NotProcessed; run.len()];
        let Some((account, webhook)) = run.first().and_then(|first| self.target(first.delivery))
        else {
            return vec![AttemptResult::Refused(Reason::InvalidAddress); run.len()];
        };
        let Some(sent) = choose(account, run, &mut results) else {
            return results;
        };
        let taken = Instant::now();
        if let Err((scope, wait)) = account.buckets.take(webhook.number(), taken) {
            results[sent.places[0]] = AttemptResult::Throttled {
                retry_after: Some(wait),
                scope: throttle_scope(scope),
            };
            return results;
        }
        let request = Execution {
            account,
            webhook,
            body: sent.body,
            number: run[sent.places[0]].number,
            taken,
        };
        let judged = self.execute(request, deadline).await;
        spread(judged, &sent.places, &mut results);
        results
    }

    fn target(&self, delivery: &Delivery) -> Option<(&Ready, Webhook)> {
        // Known: checked by `only_known` before any attempt of the batch was made.
        let account = self.accounts.get(&delivery.address.account)?;
        let webhook = Webhook::parse(&delivery.address.address, &account.base).ok()?;
        Some((account, webhook))
    }

    async fn execute(&self, execution: Execution<'_>, deadline: Instant) -> Judged {
        let Execution {
            account,
            webhook,
            body,
            number,
            taken,
        } = execution;
        let Ok(url) = webhook.url(&account.base, account.wait) else {
            return AttemptResult::Refused(Reason::InvalidAddress).into();
        };
        let mut request = Request::new(Method::POST, url);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(HEADER_WORKER, self.worker.clone());
        headers.insert(HEADER_ATTEMPT, HeaderValue::from(number));
        let answer = match client::exchange(&self.client, request, body, deadline).await {
            Ok(answer) => answer,
            Err(no_answer) => return no_answer.result().into(),
        };
        let wait = answer
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| retry_after::parse(value.to_str().ok()?, self.clock.now_millis()));
        if classify::is_strike(answer.status, &answer.headers) {
            self.strikes.fetch_add(1, Ordering::Relaxed);
        }
        let mut result = classify::classify(answer.status, &answer.body, wait);
        let (id, headers) = (webhook.number(), &answer.headers);
        let paused = account
            .buckets
            .answered(id, result, headers, taken, Instant::now());
        if let (AttemptResult::Throttled { scope, .. }, Some(Scope::Everything)) =
            (&mut result, paused)
        {
            *scope = ThrottleScope::Worker;
        }
        Judged {
            result,
            named: classify::named_embeds(&answer.body),
        }
    }
}

/// One request.
struct Execution<'a> {
    account: &'a Ready,
    webhook: Webhook,
    body: Vec<u8>,
    /// Number of the attempt of its first delivery.
    number: u32,
    /// When its start was taken of the webhook's limits.
    taken: Instant,
}

/// What an answer means, and the embeds that it names as broken.
struct Judged {
    result: AttemptResult,
    named: Vec<usize>,
}

impl From<AttemptResult> for Judged {
    fn from(result: AttemptResult) -> Self {
        Self {
            result,
            named: Vec::new(),
        }
    }
}

/// One request's body and the places of its deliveries in the run.
struct Sent {
    body: Vec<u8>,
    places: Vec<usize>,
}

/// Chooses what goes into the request: the first that has a form, and behind it those that fit.
/// What has no form is refused on the way.
fn choose(account: &Ready, run: &[Attempt<'_>], results: &mut [AttemptResult]) -> Option<Sent> {
    let style = Style {
        username: &account.username,
        mentions: &account.mentions,
    };
    let (mut embeds, mut places) = (Vec::new(), Vec::new());
    for (place, attempt) in run.iter().enumerate() {
        let content = &attempt.delivery.content;
        match Embed::of(content) {
            Some(embed) => {
                embeds.push(embed);
                places.push(place);
            }
            // Text and overrides go alone.
            None if places.is_empty() => match payload::body(content, style) {
                Ok(body) => {
                    let places = vec![place];
                    return Some(Sent { body, places });
                }
                Err(error) => {
                    tracing::debug!(%error, "nothing is sent");
                    results[place] = AttemptResult::Refused(Reason::InvalidContent);
                }
            },
            None => break,
        }
    }
    let most = payload::fitting(&embeds).max(1).min(embeds.len());
    embeds.truncate(most);
    places.truncate(most);
    if embeds.is_empty() {
        return None;
    }
    let body = payload::packed(&embeds, style).ok()?;
    Some(Sent { body, places })
}

/// Gives each delivery of a request its own result, so that no later one is ever ahead of an
/// earlier one that is tried again.
fn spread(judged: Judged, places: &[usize], results: &mut [AttemptResult]) {
    let Judged { result, named } = judged;
    let several = places.len() > 1;
    match result {
        AttemptResult::Accepted
        | AttemptResult::Unknown
        | AttemptResult::AccountFault
        | AttemptResult::Refused(Reason::InvalidAddress) => {
            places.iter().for_each(|place| results[*place] = result);
        }
        // The broken ones are named: the others go again without them.
        AttemptResult::Refused(_) if several && named.iter().any(|n| *n < places.len()) => {
            for place in named.iter().filter_map(|n| places.get(*n)) {
                results[*place] = result;
            }
        }
        // One of them is to blame, nobody says which: the first is tried by itself.
        AttemptResult::Refused(_) if several => results[places[0]] = AttemptResult::Unavailable,
        // The first waits, and the others behind it.
        AttemptResult::Refused(_)
        | AttemptResult::Throttled { .. }
        | AttemptResult::Unavailable
        | AttemptResult::Doubted
        | AttemptResult::NotProcessed => results[places[0]] = result,
    }
}

const fn throttle_scope(scope: Scope) -> ThrottleScope {
    match scope {
        Scope::Webhook => ThrottleScope::Address,
        Scope::Everything => ThrottleScope::Worker,
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
        mentions: account.mentions.clone(),
        wait: account.wait,
        pack: account.pack,
        buckets: Buckets::new(account.burst, account.per_minute, Instant::now()),
        limits: account.limits.clone(),
    })
}

impl Provider for DiscordProvider {
    fn batching(&self) -> Batching {
        if self.accounts.values().any(|account| account.pack) {
            Batching {
                max: super::form::EMBEDS,
                packs_one_key: true,
            }
        } else {
            Batching::SINGLE
        }
    }

    fn limits(&self, account: &str) -> Limits {
        let known = self.accounts.get(account);
        known.map(|ready| ready.limits.clone()).unwrap_or_default()
    }

    fn egress(&self) -> Egress {
        self.egress.clone()
    }

    fn hold(&self, delivery: &Delivery) -> Option<Duration> {
        let (account, webhook) = self.target(delivery)?;
        account.buckets.wait(webhook.number(), Instant::now())
    }

    fn packs(&self, delivery: &Delivery) -> bool {
        let account = self.accounts.get(&delivery.address.account);
        account.is_some_and(|account| account.pack) && payload::is_embed(&delivery.content)
    }

    fn strike_limit(&self) -> Option<StrikeLimit> {
        Some(STRIKES)
    }

    fn strikes(&self) -> u64 {
        self.strikes.load(Ordering::Relaxed)
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
            // Deliveries of several webhooks are calls of their own, and so are all where an account
            // does not pack.
            let runs = batch.chunk_by(|a, b| {
                a.delivery.address.account == b.delivery.address.account
                    && a.delivery.address.address == b.delivery.address.address
                    && self.packs(a.delivery)
                    && self.packs(b.delivery)
            });
            let results = runs.map(|run| self.attempt_run(run, deadline));
            Ok(join_all(results).await.concat())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_later_delivery_is_ever_ahead_of_one_that_is_tried_again() {
        let accepted = AttemptResult::Accepted;
        let broken = AttemptResult::Refused(Reason::InvalidContent);
        let dead = AttemptResult::Refused(Reason::InvalidAddress);
        let later = AttemptResult::NotProcessed;
        let down = AttemptResult::Unavailable;
        for (result, named, expected) in [
            (accepted, vec![], [accepted, accepted, accepted]),
            (AttemptResult::Unknown, vec![], [AttemptResult::Unknown; 3]),
            (dead, vec![], [dead; 3]),
            (broken, vec![1], [later, broken, later]),
            (broken, vec![0, 2], [broken, later, broken]),
            (broken, vec![], [down, later, later]),
            (broken, vec![7], [down, later, later]),
            (down, vec![], [down, later, later]),
        ] {
            let mut results = [later; 3];
            spread(Judged { result, named }, &[0, 1, 2], &mut results);
            assert_eq!(results, expected, "{result:?}");
        }
        let mut alone = [later];
        spread(broken.into(), &[0], &mut alone);
        assert_eq!(alone, [broken]);
    }
}
