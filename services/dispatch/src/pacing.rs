//! Pacing of one channel: the pacer that all owners of the process ask, and passes that always come
//! back.
//!
//! An owner computes a delivery's [`Subject`] once, when it is admitted. For each delivery that
//! could start it calls [`Pacing::ask`]; with [`Asked::Go`] it keeps the [`Pass`] beside the attempt
//! and gives it back with what the attempt came to. A pass that is dropped counts as unknown, one
//! whose attempt was never made is [cancelled](Pass::cancelled).
//!
//! The lock is held for the pure call only, some hundred nanoseconds.

pub mod exchange;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bongsu_channels::provider::{AttemptResult, Provider, ThrottleScope};
use bongsu_domain::identity::hash64;
use bongsu_domain::{Class, Delivery};
use bongsu_policy::pacing::{AccountKey, AccountLimits, Answer, Ask, Pacer, Permit, Scope, Ticket};
use bongsu_runtime::Clock;
use tokio::sync::Notify;

/// What pacing needs of a delivery, computed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Its account.
    pub account: AccountKey,
    class: Class,
    /// Hash of its sender.
    pub sender: u64,
    address: u64,
    campaign: Option<u64>,
    /// What it costs of limits, at least 1.
    pub cost: u32,
    /// Whether its address has nothing to do with the others of its account.
    pub strangers: bool,
}

/// The answer to an owner. Times are the clock's milliseconds; ask again then, not before.
#[derive(Debug)]
#[must_use]
pub enum Asked {
    /// Start it.
    Go(Pass),
    /// Its key waits; others may go.
    KeyWaits(i64),
    /// Everything of its account and class waits.
    AccountWaits(i64),
}

/// The right to make one attempt.
#[derive(Debug)]
#[must_use]
pub struct Pass {
    ticket: Option<Ticket>,
    pacing: Arc<Pacing>,
}

/// The pacer of a channel, shared by the owners of both classes.
pub struct Pacing {
    pacer: Mutex<Pacer>,
    provider: Arc<dyn Provider>,
    clock: Clock,
    /// Whether limits are shared with other workers: nothing of them is spent before a share was
    /// granted.
    shared: bool,
    freed: Notify,
}

impl std::fmt::Debug for Pacing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pacing")
    }
}

impl Pacing {
    /// The pacing of a channel with at most `ceiling` attempts open in this process. With `shared`,
    /// an [`Exchange`](exchange::Exchange) must run: configured limits are closed until it has
    /// brought a share; without, this process has the whole of each.
    #[must_use]
    pub fn new(
        provider: Arc<dyn Provider>,
        ceiling: usize,
        clock: Clock,
        shared: bool,
        seed: u64,
    ) -> Arc<Self> {
        let ceiling = u32::try_from(ceiling).unwrap_or(u32::MAX);
        let mut pacer = Pacer::new(ceiling, provider.egress().per_second, seed);
        if shared {
            pacer.share_egress(0, 0);
        }
        Arc::new(Self {
            pacer: Mutex::new(pacer),
            provider,
            clock,
            shared,
            freed: Notify::new(),
        })
    }

    /// What pacing needs of a delivery.
    pub fn subject(&self, delivery: &Delivery) -> Subject {
        let name = delivery.address.account.as_str();
        let account = {
            let mut pacer = self.lock();
            let mut limited = false;
            let account = pacer.account(name, || {
                let limits = limits_of(self.provider.as_ref(), name);
                limited = limits.per_second.is_some();
                limits
            });
            if limited && self.shared {
                pacer.share(account, 0, 0);
            }
            account
        };
        let hash = |text: &str| hash64(&[text.as_bytes()]);
        Subject {
            account,
            class: delivery.class,
            sender: hash(&delivery.sender),
            address: hash(&delivery.address.id.0),
            campaign: delivery.campaign_id.as_deref().map(hash),
            cost: self.provider.cost(delivery).max(1),
            strangers: self.provider.serves_strangers(name),
        }
    }

    /// Asks for one attempt; `attempts` were made before.
    pub fn ask(self: &Arc<Self>, subject: &Subject, attempts: u32) -> Asked {
        let ask = Ask {
            account: subject.account,
            class: subject.class,
            sender: subject.sender,
            address: subject.address,
            campaign: subject.campaign,
            cost: subject.cost,
            retry: attempts > 0,
        };
        let now = self.clock.now_millis();
        let permit = self.lock().ask(now, &ask);
        match permit {
            Permit::Go(ticket) => Asked::Go(Pass {
                ticket: Some(ticket),
                pacing: Arc::clone(self),
            }),
            Permit::KeyWaits { until } => Asked::KeyWaits(until),
            Permit::AccountWaits { until } => Asked::AccountWaits(until),
        }
    }

    /// How long a delivery must wait for what its provider said of its address, which no limit is
    /// charged for.
    pub fn hold(&self, delivery: &Delivery) -> Option<std::time::Duration> {
        self.provider.hold(delivery)
    }

    /// Whether a delivery may share a call with the ones before it.
    #[must_use]
    pub fn packs(&self, delivery: &Delivery) -> bool {
        self.provider.packs(delivery)
    }

    /// Waits until an answer has freed a place somebody was refused. Wakes one; whoever has nothing
    /// to start leaves the place to the next answer. Cancel safe.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// When something that was told to wait may go, at the earliest.
    #[must_use]
    pub fn next_release(&self) -> Option<i64> {
        let now = self.clock.now_millis();
        self.lock().next_release(now)
    }

    /// Attempts open now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.lock().in_flight()
    }

    fn lock(&self) -> MutexGuard<'_, Pacer> {
        self.pacer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, ticket: Ticket, answer: Option<Answer>) {
        let now = self.clock.now_millis();
        let starved = {
            let mut pacer = self.lock();
            match answer {
                Some(answer) => pacer.answered(now, ticket, answer),
                None => pacer.cancelled(now, ticket),
            }
            pacer.take_starved()
        };
        if starved {
            self.freed.notify_one();
        }
    }
}

impl Pass {
    /// The attempt has ended.
    pub fn answered(mut self, result: AttemptResult) {
        if let Some(ticket) = self.ticket.take() {
            self.pacing.give_back(ticket, Some(answer_of(result)));
        }
    }

    /// The attempt was never made: nobody was contacted.
    pub fn cancelled(mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.pacing.give_back(ticket, None);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.pacing.give_back(ticket, Some(Answer::Unknown));
        }
    }
}

/// What an attempt's result says to the pacer.
#[must_use]
pub fn answer_of(result: AttemptResult) -> Answer {
    match result {
        AttemptResult::Accepted => Answer::Accepted,
        AttemptResult::Refused(_) => Answer::Refused,
        AttemptResult::Throttled { retry_after, scope } => Answer::Throttled {
            retry_after_ms: retry_after
                .map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX / 4)),
            scope: match scope {
                ThrottleScope::Address => Scope::Address,
                ThrottleScope::Account => Scope::Account,
                ThrottleScope::Worker => Scope::Worker,
            },
        },
        AttemptResult::Unavailable | AttemptResult::Doubted => Answer::Unavailable,
        AttemptResult::NotProcessed => Answer::NotProcessed,
        AttemptResult::AccountFault => Answer::AccountFault,
        AttemptResult::Unknown => Answer::Unknown,
    }
}

fn limits_of(provider: &dyn Provider, account: &str) -> AccountLimits {
    let limits = provider.limits(account);
    let percent = u32::try_from(limits.reserve.of(100)).unwrap_or(0);
    AccountLimits {
        per_second: limits.per_second,
        per_address: limits.per_address_per_second,
        per_sender: limits.per_sender_per_second,
        per_campaign: limits.per_campaign_per_second,
        concurrency: limits.concurrency,
        reserve: f64::from(percent) / 100.0,
    }
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "tests print the figures they judge")]
mod tests;
