//! Access tokens: one per account, fetched once for all who wait, renewed before it ends.
//!
//! Invariants: at most one exchange with the token endpoint is under way per account; a token that
//! still lives is used while the next one is fetched; after a failure nobody asks again until a wait
//! that doubles has passed; a token that FCM refuses is never shown twice.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bongsu_runtime::Clock;
use http::HeaderValue;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Method, Request};
use serde::Deserialize;
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
    /// Tokens refused in a row.
    refused: u32,
    failures: u32,
    failed: Option<(NoToken, Instant)>,
}

/// The tokens of one account.
pub struct TokenSource {
    account: ServiceAccount,
    client: Client,
    url: Url,
    clock: Clock,
    state: Mutex<State>,
    fetching: tokio::sync::Mutex<()>,
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
        Self {
            account,
            client,
            url,
            clock,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token of this moment, fetched when there is none or its end is near.
    ///
    /// Cancel safe: a dropped exchange is begun anew by the next who asks.
    ///
    /// # Errors
    /// [`NoToken`].
    pub async fn current(&self, deadline: Instant) -> Result<Token, NoToken> {
        if let Some((token, fresh)) = self.held() {
            if fresh || self.resting().is_some() {
                return Ok(token);
            }
            // It still lives: one renews it, the others go on with it.
            let Ok(_turn) = self.fetching.try_lock() else {
                return Ok(token);
            };
            return Ok(self.renew(deadline).await.unwrap_or(token));
        }
        let turn = timeout_at(deadline, self.fetching.lock()).await;
        let _turn = turn.map_err(|_elapsed| NoToken::Unavailable)?;
        // Whoever had the turn before has fetched it, or has learnt that there is none.
        if let Some((token, _)) = self.held() {
            return Ok(token);
        }
        if let Some(failed) = self.resting() {
            return Err(failed);
        }
        self.renew(deadline).await
    }

    /// The living token, and whether it need not be renewed yet.
    fn held(&self) -> Option<(Token, bool)> {
        let now = self.clock.now_millis();
        let state = self.state();
        let held = state.held.as_ref().filter(|held| now < held.ends_at)?;
        Some((held.token.clone(), now < held.renew_at))
    }

    /// The last failure, as long as nobody may ask again.
    fn resting(&self) -> Option<NoToken> {
        let now = Instant::now();
        let (failed, until) = self.state().failed.filter(|(_, until)| now < *until)?;
        Some(match failed {
            NoToken::Throttled(Some(_)) => NoToken::Throttled(Some(until - now)),
            NoToken::Throttled(None) | NoToken::Refused | NoToken::Unavailable => failed,
        })
    }

    /// Fetches the next one. Called by one at a time.
    async fn renew(&self, deadline: Instant) -> Result<Token, NoToken> {
        let asked = self.clock.now_millis();
        let fetched = self.fetch(deadline.min(Instant::now() + PATIENCE)).await;
        let mut state = self.state();
        match fetched {
            Ok((header, life_s)) => {
                state.made += 1;
                (state.failures, state.failed) = (0, None);
                let token = Token {
                    number: state.made,
                    header,
                };
                let life_ms = life_s.saturating_mul(1_000);
                state.held = Some(Held {
                    token: token.clone(),
                    // A token that lives for less than ten minutes is used for half of its life.
                    renew_at: asked.saturating_add((life_ms - EARLY_MS).max(life_ms / 2)),
                    ends_at: asked.saturating_add(life_ms),
                });
                Ok(token)
            }
            // The asker had no time left: that says nothing of the endpoint.
            Err(NoToken::Unavailable) if Instant::now() >= deadline => Err(NoToken::Unavailable),
            Err(none) => {
                let doubled = 2_u32.saturating_pow(state.failures.min(16));
                state.failures = state.failures.saturating_add(1);
                let own = BACKOFF.saturating_mul(doubled).min(BACKOFF_MAX);
                let wait = match none {
                    NoToken::Throttled(Some(asked)) => asked,
                    NoToken::Throttled(None) | NoToken::Refused | NoToken::Unavailable => own,
                };
                state.failed = Some((none, Instant::now() + wait));
                Err(none)
            }
        }
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

    /// FCM took a request with the token.
    pub fn accepted(&self, number: u64) {
        let mut state = self.state();
        if state.made == number {
            state.refused = 0;
        }
    }

    /// FCM refused the token `number` as such. It is not used again.
    pub fn refused(&self, number: u64) -> Renewal {
        let mut state = self.state();
        if state.held.as_ref().is_none_or(|h| h.token.number > number) {
            // Another request's answer has said so before.
            return if state.refused > 1 {
                Renewal::Stuck
            } else {
                Renewal::Renewed
            };
        }
        state.held = None;
        state.refused = state.refused.saturating_add(1);
        if state.refused > 1 {
            Renewal::Stuck
        } else {
            Renewal::Renewed
        }
    }
}
