//! Access tokens: one per account, fetched once for all who wait, renewed before it ends.
//!
//! Invariants: at most one exchange with the token endpoint is under way per account, in a task of its
//! own, whatever becomes of those who wait for it; a token that still lives is used while the next one
//! is fetched; after a failure, a time-out included, nobody asks again until a wait that doubles has
//! passed; a token that FCM refuses is replaced, at most once in [`RENEWAL_INTERVAL`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bongsu_runtime::Clock;
use bongsu_runtime::tasks::detach;
use http::HeaderValue;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Method, Request};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::service_account::{GRANT_TYPE, ServiceAccount};
use crate::client::{self, Answer};
use crate::provider::{AttemptResult, ThrottleScope};
use crate::retry_after;

/// How long before its end a token is replaced.
pub const EARLY_MS: i64 = 5 * 60 * 1_000;
/// The life of a token whose answer does not say. [M: it always says 3,599]
const DEFAULT_LIFE_S: i64 = 3_599;
/// The first wait after a failed exchange; each further failure doubles it.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest such wait.
const BACKOFF_MAX: Duration = Duration::from_mins(1);
/// How long one exchange may take, whoever waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time between two tokens that are fetched because FCM refused the one before: refusals that
/// alternate with acceptances must not have one minted for each.
pub const RENEWAL_INTERVAL: Duration = Duration::from_mins(1);

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// A token as it goes out. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Token {
    /// Tells the tokens of one account apart.
    pub number: u64,
    /// The value of `authorization`; marked as sensitive, so it is never printed.
    pub header: HeaderValue,
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoToken {
    /// The token endpoint refuses the account: key, project or clock are wrong.
    Refused,
    /// It cannot be reached, or fails, or took too long.
    Unavailable,
    /// It asks to wait.
    Throttled(Option<Duration>),
}

impl NoToken {
    /// What it means for an attempt, of which nothing was sent.
    pub const fn result(self) -> AttemptResult {
        match self {
            Self::Refused => AttemptResult::AccountFault,
            Self::Unavailable => AttemptResult::Unavailable,
            Self::Throttled(retry_after) => AttemptResult::Throttled {
                retry_after,
                scope: ThrottleScope::Account,
            },
        }
    }
}

/// What follows from FCM's refusal of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The next request carries another token.
    Renewed,
    /// The last renewal was a moment ago: it is not replaced yet.
    TooSoon,
    /// The one before was refused as well: another one would not help.
    Stuck,
}

struct Held {
    token: Token,
    renew_at: i64,
    ends_at: i64,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    made: u64,
    /// Tokens refused in a row, and the last of them.
    refused: u32,
    last_refused: u64,
    /// When a token was last given up because FCM refused it.
    renewed: Option<Instant>,
    fetching: bool,
    failures: u32,
    failed: Option<(NoToken, Instant)>,
}

/// The tokens of one account.
pub struct TokenSource(Arc<Inner>);

struct Inner {
    account: ServiceAccount,
    client: Client,
    url: Url,
    clock: Clock,
    patience: Duration,
    state: Mutex<State>,
    /// Counts exchanges that have ended.
    ended: watch::Sender<u64>,
}

/// An exchange under way: when it is dropped it has ended, however.
struct Exchange(Arc<Inner>);

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.state().fetching = false;
        self.0.ended.send_modify(|ended| *ended += 1);
    }
}

/// What of the endpoint's answer is read.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Denied {
    error: String,
}

impl TokenSource {
    /// None fetched yet; `url` is where they are fetched.
    #[must_use]
    pub fn new(account: ServiceAccount, client: Client, url: Url, clock: Clock) -> Self {
        Self::with_patience(account, client, url, clock, PATIENCE)
    }

    fn with_patience(
        account: ServiceAccount,
        client: Client,
        url: Url,
        clock: Clock,
        patience: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            account,
            client,
            url,
            clock,
            patience,
            state: Mutex::default(),
            ended: watch::Sender::default(),
        }))
    }

    /// The token of this moment, fetched when there is none or its end is near.
    ///
    /// Cancel safe: an exchange goes on without those who wait for it.
    ///
    /// # Errors
    /// [`NoToken`].
    pub async fn current(&self, deadline: Instant) -> Result<Token, NoToken> {
        let mut ended = self.0.ended.subscribe();
        loop {
            if let Some(told) = self.ask() {
                return told;
            }
            let waited = timeout_at(deadline, ended.changed()).await;
            if !matches!(waited, Ok(Ok(()))) {
                // That says nothing of the endpoint: the exchange goes on, and its end is noted.
                return Err(NoToken::Unavailable);
            }
        }
    }

    /// What is known at once; otherwise an exchange is under way. Begins one where it is time.
    fn ask(&self) -> Option<Result<Token, NoToken>> {
        let mut state = self.0.state();
        let held = state.held(self.0.clock.now_millis());
        if let Some((token, true)) = held {
            return Some(Ok(token));
        }
        let resting = state.resting(Instant::now());
        if resting.is_none() && !state.fetching {
            state.fetching = true;
            detach("FCM token", renew(Exchange(Arc::clone(&self.0))));
        }
        match (held, resting) {
            (Some((token, _)), _) => Some(Ok(token)),
            (None, Some(failed)) => Some(Err(failed)),
            (None, None) => None,
        }
    }

    /// FCM took a request with the token.
    pub fn accepted(&self, number: u64) {
        let mut state = self.0.state();
        if state.made == number {
            state.refused = 0;
        }
    }

    /// FCM refused the token `number` as such.
    pub fn refused(&self, number: u64) -> Renewal {
        self.0.state().refused(number, Instant::now())
    }
}

/// Fetches the next one.
async fn renew(exchange: Exchange) {
    let inner = &exchange.0;
    let asked = inner.clock.now_millis();
    let fetched = inner.fetch(Instant::now() + inner.patience).await;
    inner.state().fetched(fetched, asked, Instant::now());
}

impl State {
    /// The living token, and whether it need not be renewed yet.
    fn held(&self, now_millis: i64) -> Option<(Token, bool)> {
        let held = self
            .held
            .as_ref()
            .filter(|held| now_millis < held.ends_at)?;
        Some((held.token.clone(), now_millis < held.renew_at))
    }

    /// The last failure, as long as nobody may ask again.
    fn resting(&self, now: Instant) -> Option<NoToken> {
        let (failed, until) = self.failed.filter(|(_, until)| now < *until)?;
        Some(match failed {
            NoToken::Throttled(Some(_)) => NoToken::Throttled(Some(until - now)),
            NoToken::Throttled(None) | NoToken::Refused | NoToken::Unavailable => failed,
        })
    }

    /// Notes how an exchange ended that was begun at `asked`.
    fn fetched(&mut self, fetched: Result<(HeaderValue, i64), NoToken>, asked: i64, now: Instant) {
        match fetched {
            Ok((header, life_s)) => {
                self.made += 1;
                (self.failures, self.failed) = (0, None);
                let life_ms = life_s.saturating_mul(1_000);
                self.held = Some(Held {
                    token: Token {
                        number: self.made,
                        header,
                    },
                    // A token that lives for less than ten minutes is used for half of its life.
                    renew_at: asked.saturating_add((life_ms - EARLY_MS).max(life_ms / 2)),
                    ends_at: asked.saturating_add(life_ms),
                });
            }
            Err(none) => {
                let doubled = 2_u32.saturating_pow(self.failures.min(16));
                self.failures = self.failures.saturating_add(1);
                let own = BACKOFF.saturating_mul(doubled).min(BACKOFF_MAX);
                let wait = match none {
                    NoToken::Throttled(Some(asked)) => asked.max(BACKOFF),
                    NoToken::Throttled(None) | NoToken::Refused | NoToken::Unavailable => own,
                };
                self.failed = Some((none, now + wait));
            }
        }
    }

    fn refused(&mut self, number: u64, now: Instant) -> Renewal {
        let replaced = self.held.as_ref().is_none_or(|h| h.token.number > number);
        // Otherwise another request's answer has given it up before.
        let mut renewed = replaced;
        if !replaced {
            if self.last_refused != number {
                self.last_refused = number;
                self.refused = self.refused.saturating_add(1);
            }
            let last = self.renewed;
            if last.is_none_or(|at| now.duration_since(at) >= RENEWAL_INTERVAL) {
                (self.held, self.renewed, renewed) = (None, Some(now), true);
            }
        }
        match (self.refused > 1, renewed) {
            (true, _) => Renewal::Stuck,
            (false, true) => Renewal::Renewed,
            (false, false) => Renewal::TooSoon,
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, deadline: Instant) -> Result<(HeaderValue, i64), NoToken> {
        let now_s = self.clock.now_millis().div_euclid(1_000);
        let assertion = self.account.assertion(now_s).ok_or(NoToken::Refused)?;
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", GRANT_TYPE)
            .append_pair("assertion", &assertion)
            .finish();
        let mut request = Request::new(Method::POST, self.url.clone());
        request.headers_mut().insert(CONTENT_TYPE, FORM);
        let answer = client::exchange(&self.client, request, body.into_bytes(), deadline).await;
        let answer = answer.map_err(|_| NoToken::Unavailable)?;
        self.read(&answer)
    }

    fn read(&self, answer: &Answer) -> Result<(HeaderValue, i64), NoToken> {
        let status = answer.status.as_u16();
        if answer.status.is_success() {
            let granted: Granted =
                serde_json::from_slice(&answer.body).map_err(|_| NoToken::Unavailable)?;
            let value = format!("Bearer {}", granted.access_token);
            let mut header = HeaderValue::try_from(value).map_err(|_| NoToken::Unavailable)?;
            header.set_sensitive(true);
            let life = granted.expires_in.unwrap_or(DEFAULT_LIFE_S).max(1);
            return Ok((header, life));
        }
        let wait = answer
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| retry_after::parse(value.to_str().ok()?, self.clock.now_millis()));
        let denied: Denied = serde_json::from_slice(&answer.body).unwrap_or_default();
        // Google's own words hold no secret; at most so much of what may be anybody's.
        let word: String = denied.error.chars().take(64).collect();
        let none = match status {
            400 | 401 | 403 if !word.is_empty() => NoToken::Refused,
            429 => NoToken::Throttled(wait),
            502 | 503 if wait.is_some() => NoToken::Throttled(wait),
            _ => NoToken::Unavailable,
        };
        tracing::error!(
            project = self.account.project,
            status,
            error = word,
            "no access token; check the service account's key and this machine's clock"
        );
        Err(none)
    }
}

#[cfg(test)]
mod tests;
