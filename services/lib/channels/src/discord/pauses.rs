//! What Discord said about its limits, remembered until it has passed.
//!
//! Every 429 counts towards a ban of our IP (10,000 invalid requests in 10 minutes), so an attempt
//! that would surely get one is answered here, as throttled, without asking Discord. Pure but for
//! the lock; bounded: at most [`REMEMBERED`] webhooks, some 4 MB.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use tokio::time::Instant;

use crate::provider::AttemptResult;
use crate::retry_after;

/// The most webhooks remembered; the pauses of one last seconds, so this many are limited at once
/// only when thousands of attempts a second are made in vain.
pub const REMEMBERED: usize = 65_536;

/// Pauses of single webhooks and of our whole IP.
#[derive(Debug, Default)]
pub struct Pauses {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    everything: Option<Instant>,
    webhooks: HashMap<u64, Instant>,
}

/// Whom an answer pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The webhook that was executed.
    Webhook,
    /// Everything from this IP: a global limit, or a block by Cloudflare.
    Everything,
}

impl Pauses {
    /// How long an attempt at webhook `id` must still wait.
    #[must_use]
    pub fn wait(&self, id: u64, now: Instant) -> Option<Duration> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let webhook = inner.webhooks.get(&id).copied();
        let until = inner.everything.max(webhook)?;
        until
            .checked_duration_since(now)
            .filter(|wait| !wait.is_zero())
    }

    /// Remembers a pause.
    pub fn pause(&self, id: u64, scope: Scope, wait: Duration, now: Instant) {
        let until = now + wait.min(retry_after::LONGEST);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match scope {
            Scope::Everything => inner.everything = inner.everything.max(Some(until)),
            Scope::Webhook => {
                if inner.webhooks.len() >= REMEMBERED {
                    inner.webhooks.retain(|_, until| *until > now);
                }
                // Forgetting one costs a 429, not correctness.
                if inner.webhooks.len() < REMEMBERED {
                    let known = inner.webhooks.entry(id).or_insert(until);
                    *known = until.max(*known);
                }
            }
        }
    }
}

/// The pause an answer asks for: of a 429, or of an answer that used up the last of its limit
/// (`X-RateLimit-Remaining: 0`). [R: discord-api-docs, 2026-08]
pub fn of_answer(result: AttemptResult, headers: &HeaderMap) -> Option<(Scope, Duration)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match result {
        AttemptResult::Throttled { retry_after, .. } => {
            // Only Discord itself names a scope; what stands in front of it limits the IP.
            let own = text("x-ratelimit-scope");
            let global = text("x-ratelimit-global").is_some() || own.is_none_or(|s| s == "global");
            let scope = if global {
                Scope::Everything
            } else {
                Scope::Webhook
            };
            retry_after.map(|wait| (scope, wait))
        }
        AttemptResult::Accepted | AttemptResult::Refused(_) | AttemptResult::Unavailable => {
            let used_up = text("x-ratelimit-remaining") == Some("0");
            let wait = text("x-ratelimit-reset-after").and_then(retry_after::from_seconds);
            wait.filter(|_| used_up).map(|wait| (Scope::Webhook, wait))
        }
        AttemptResult::Unknown | AttemptResult::NotProcessed | AttemptResult::AccountFault => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_last_of_a_limit_pauses_its_webhook() {
        let last = headers(&[
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset-after", "1.5"),
        ]);
        assert_eq!(
            of_answer(AttemptResult::Accepted, &last),
            Some((Scope::Webhook, Duration::from_millis(1_500)))
        );
        let more = headers(&[
            ("x-ratelimit-remaining", "1"),
            ("x-ratelimit-reset-after", "1.5"),
        ]);
        assert_eq!(of_answer(AttemptResult::Accepted, &more), None);
    }

    #[test]
    fn a_429_pauses_its_webhook_or_everything() {
        let limited = AttemptResult::Throttled {
            scope: crate::provider::ThrottleScope::Address,
            retry_after: Some(SECOND),
        };
        let scope = |pairs| of_answer(limited, &headers(pairs)).map(|(scope, _)| scope);
        assert_eq!(
            scope(&[("x-ratelimit-scope", "user")]),
            Some(Scope::Webhook)
        );
        assert_eq!(
            scope(&[("x-ratelimit-scope", "shared")]),
            Some(Scope::Webhook)
        );
        assert_eq!(
            scope(&[("x-ratelimit-scope", "global")]),
            Some(Scope::Everything)
        );
        assert_eq!(
            scope(&[
                ("x-ratelimit-scope", "user"),
                ("x-ratelimit-global", "true")
            ]),
            Some(Scope::Everything)
        );
        assert_eq!(scope(&[]), Some(Scope::Everything), "a block by Cloudflare");
    }

    #[test]
    fn a_pause_ends_and_the_longest_stands() {
        let (pauses, now) = (Pauses::default(), Instant::now());
        pauses.pause(1, Scope::Webhook, 3 * SECOND, now);
        pauses.pause(1, Scope::Webhook, SECOND, now);
        assert_eq!(pauses.wait(1, now + SECOND), Some(2 * SECOND));
        assert_eq!(pauses.wait(1, now + 3 * SECOND), None);
        assert_eq!(pauses.wait(2, now), None);
        pauses.pause(1, Scope::Everything, 5 * SECOND, now);
        assert_eq!(pauses.wait(2, now), Some(5 * SECOND));
        assert_eq!(pauses.wait(1, now), Some(5 * SECOND));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (pauses, now) = (Pauses::default(), Instant::now());
        for id in 0..(REMEMBERED as u64 + 10) {
            pauses.pause(id, Scope::Webhook, SECOND, now);
        }
        assert_eq!(pauses.inner.lock().unwrap().webhooks.len(), REMEMBERED);
        pauses.pause(u64::MAX, Scope::Webhook, SECOND, now + 2 * SECOND);
        assert_eq!(pauses.inner.lock().unwrap().webhooks.len(), 1);
    }
}
