//! Discord's limits as far as we know them: what each answer announced, what it announces nowhere,
//! and who was told to wait.
//!
//! Every 429 is a strike towards a ban of our IP, so an attempt that would surely get one is not
//! made. A webhook's limit is its own: Discord's bucket is the announced name and the webhook's id
//! and token [R: discord-api-docs, 2026-08], and one route alone is called here, so the id is enough.
//! A webhook of which nothing is known has the limit that was observed of all.
//!
//! Invariant: of one webhook no more starts are given than are left in the window that the last
//! answer announced, nor more than `per_minute` in any 60 seconds. Pure but for the lock; bounded: at
//! most [`REMEMBERED`] webhooks, some 13 MB; at 50 requests a second there are never more than a few
//! thousand.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use tokio::time::Instant;

use crate::provider::AttemptResult;
use crate::retry_after;

/// The most webhooks remembered.
pub const REMEMBERED: usize = 131_072;
/// The window of a webhook that has announced none yet. (M, observed)
pub const ASSUMED_WINDOW: Duration = Duration::from_secs(2);
/// The minute is counted in slots of so many milliseconds.
const SLOT_MS: u64 = 10_000;
/// Slots looked at: the one under way and seven whole ones, so at least the last 60 seconds and
/// what a request takes to arrive.
const SLOTS: usize = 8;

/// What is known of the webhooks of one account.
#[derive(Debug)]
pub struct Buckets {
    start: Instant,
    per_minute: u8,
    /// What a webhook takes within [`ASSUMED_WINDOW`] that has announced nothing yet.
    burst: u8,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    everything: u64,
    webhooks: HashMap<u64, Webhook>,
    sweep_at: usize,
}

/// Times are milliseconds since the start.
#[derive(Debug, Default)]
struct Webhook {
    /// Told to wait until then.
    not_before: u64,
    /// When the window that is counted began, and when it starts anew: as it was announced, or until
    /// then as it is assumed.
    began: u64,
    resets_at: u64,
    /// Starts of the last slots, the newest first.
    slots: [u8; SLOTS],
    /// Number of the newest slot.
    slot: u32,
    /// Starts left in the window.
    left: u8,
    /// The limit it announced.
    limit: u8,
    /// Whether the window is only assumed.
    assumed: bool,
}

/// Whom an answer pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The webhook that was executed.
    Webhook,
    /// Everything from this IP: a global limit, or a block by Cloudflare.
    Everything,
}

impl Buckets {
    /// Nothing is known. A `burst` of 0 assumes nothing of an unknown webhook, a `per_minute` of 0
    /// sets no limit to the minute.
    #[must_use]
    pub fn new(burst: u8, per_minute: u8, start: Instant) -> Self {
        Self {
            start,
            per_minute,
            burst,
            inner: Mutex::default(),
        }
    }

    /// How long a start at webhook `id` must still wait; takes nothing.
    #[must_use]
    pub fn wait(&self, id: u64, now: Instant) -> Option<Duration> {
        let now = self.millis(now);
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let own = inner.webhooks.get(&id);
        let own = own.map_or(0, |webhook| webhook.free_at(now, self.per_minute));
        let until = own.max(inner.everything);
        (until > now).then(|| Duration::from_millis(until - now))
    }

    /// Takes a start at webhook `id`.
    ///
    /// # Errors
    /// How long to wait instead, and for whose sake.
    pub fn take(&self, id: u64, now: Instant) -> Result<(), (Scope, Duration)> {
        let now = self.millis(now);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.everything > now {
            let wait = Duration::from_millis(inner.everything - now);
            return Err((Scope::Everything, wait));
        }
        let (burst, per_minute) = (self.burst, self.per_minute);
        let Some(webhook) = inner.webhook(id, now) else {
            // Forgetting one costs a 429, not correctness.
            return Ok(());
        };
        let until = webhook.free_at(now, per_minute);
        if until > now {
            return Err((Scope::Webhook, Duration::from_millis(until - now)));
        }
        webhook.start(now, burst);
        Ok(())
    }

    /// Remembers what the answer to a start that was taken at `taken` said; gives whom it pauses, when
    /// it asks for that.
    pub fn answered(
        &self,
        id: u64,
        result: AttemptResult,
        headers: &HeaderMap,
        taken: Instant,
        now: Instant,
    ) -> Option<Scope> {
        let (taken, now) = (self.millis(taken), self.millis(now));
        let pause = pause_of(result, headers);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((Scope::Everything, wait)) = pause {
            inner.everything = inner.everything.max(now + millis(wait));
        }
        if let Some(webhook) = inner.webhook(id, now) {
            if let Some((Scope::Webhook, wait)) = pause {
                webhook.not_before = webhook.not_before.max(now + millis(wait));
            }
            if let Some(announced) = Announced::of(headers) {
                webhook.announce(announced, taken, now);
            }
        }
        pause.map(|(scope, _)| scope)
    }

    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.start))
    }
}

impl Inner {
    /// The webhook's state, made when there is room for it.
    fn webhook(&mut self, id: u64, now: u64) -> Option<&mut Webhook> {
        if self.webhooks.len() >= self.sweep_at.clamp(1_024, REMEMBERED)
            && !self.webhooks.contains_key(&id)
        {
            self.webhooks.retain(|_, webhook| !webhook.is_idle(now));
            // Twice what is needed: each look at all of them is paid for by as many new ones.
            self.sweep_at = self.webhooks.len() * 2;
            if self.webhooks.len() >= REMEMBERED {
                return None;
            }
        }
        Some(self.webhooks.entry(id).or_default())
    }
}

impl Webhook {
    /// From when on another start may be made.
    fn free_at(&self, now: u64, per_minute: u8) -> u64 {
        let window = if self.left == 0 { self.resets_at } else { 0 };
        self.not_before
            .max(window)
            .max(self.minute_free_at(now, per_minute))
    }

    /// When fewer than `per_minute` starts lie in the slots that are looked at.
    fn minute_free_at(&self, now: u64, per_minute: u8) -> u64 {
        let age = slot_of(now).saturating_sub(self.slot) as usize;
        let mut sum: u32 = 0;
        for (i, starts) in self.slots.iter().enumerate() {
            if i + age >= SLOTS {
                break;
            }
            sum += u32::from(*starts);
            if per_minute > 0 && sum >= u32::from(per_minute) {
                // It fits once this slot is the first that is not looked at.
                return u64::from(self.slot) * SLOT_MS + (SLOTS - i) as u64 * SLOT_MS;
            }
        }
        0
    }

    fn start(&mut self, now: u64, burst: u8) {
        if now >= self.resets_at {
            self.left = if self.limit == 0 { burst } else { self.limit };
            self.began = now;
            self.resets_at = now + millis(ASSUMED_WINDOW);
            self.assumed = true;
            if self.left == 0 {
                // Nothing is assumed.
                self.resets_at = now;
            }
        }
        self.left = self.left.saturating_sub(1);
        let slot = slot_of(now);
        let age = (slot.saturating_sub(self.slot) as usize).min(SLOTS);
        self.slots.rotate_right(age % SLOTS);
        self.slots
            .iter_mut()
            .take(age)
            .for_each(|starts| *starts = 0);
        self.slot = slot;
        self.slots[0] = self.slots[0].saturating_add(1);
    }

    /// What is left never grows by an answer, for others may be on their way; and an answer of an
    /// earlier window says nothing of this one.
    fn announce(&mut self, announced: Announced, taken: u64, now: u64) {
        let byte = |n: u32| u8::try_from(n).unwrap_or(u8::MAX);
        if let Some(limit) = announced.limit {
            self.limit = byte(limit).max(1);
        }
        let resets_at = now + millis(announced.reset_after);
        let open = now < self.resets_at;
        if open && taken < self.began {
            return;
        }
        self.left = if open {
            self.left.min(byte(announced.remaining))
        } else {
            byte(announced.remaining)
        };
        self.resets_at = if self.assumed {
            resets_at
        } else {
            self.resets_at.max(resets_at)
        };
        self.assumed = false;
    }

    /// Nothing is known that a new one would not know.
    fn is_idle(&self, now: u64) -> bool {
        now >= self.not_before
            && now >= self.resets_at
            && slot_of(now).saturating_sub(self.slot) as usize >= SLOTS
    }
}

/// What an answer announces of its webhook's limit.
#[derive(Debug, Clone, Copy)]
struct Announced {
    limit: Option<u32>,
    remaining: u32,
    reset_after: Duration,
}

impl Announced {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let number = |name| text(headers, name).and_then(|text| text.parse().ok());
        Some(Self {
            remaining: number("x-ratelimit-remaining")?,
            reset_after: retry_after::from_seconds(text(headers, "x-ratelimit-reset-after")?)?,
            limit: number("x-ratelimit-limit"),
        })
    }
}

/// The pause an answer asks for. [R: discord-api-docs, 2026-08]
fn pause_of(result: AttemptResult, headers: &HeaderMap) -> Option<(Scope, Duration)> {
    match result {
        AttemptResult::Throttled { retry_after, .. } => {
            // Only Discord itself names a scope; what stands in front of it limits the IP.
            let own = text(headers, "x-ratelimit-scope");
            let global = text(headers, "x-ratelimit-global").is_some()
                || own.is_none_or(|scope| scope == "global");
            let scope = if global {
                Scope::Everything
            } else {
                Scope::Webhook
            };
            retry_after.map(|wait| (scope, wait))
        }
        AttemptResult::Accepted
        | AttemptResult::Refused(_)
        | AttemptResult::Unavailable
        | AttemptResult::Doubted
        | AttemptResult::Unknown
        | AttemptResult::NotProcessed
        | AttemptResult::AccountFault => None,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX / 4)
}

fn slot_of(now: u64) -> u32 {
    u32::try_from(now / SLOT_MS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
