//! What the pacer keeps of one account.

use bongsu_domain::Class;

use super::{AccountLimits, Answer, Ask, DEMAND_MS, Scope, Ticket, Usage, want};
use crate::pacing::breaker::{Breaker, Turn};
use crate::pacing::budget::RetryBudget;
use crate::pacing::concurrency::Concurrency;
use crate::pacing::keys::{CAPACITY, Keys};
use crate::pacing::rate::{Rate, Sent};
use crate::pacing::window::Window;

/// Waits for an answer that cannot be foreseen are estimated within these bounds (milliseconds).
const ANSWER_MS: (i64, i64) = (2, 500);

#[derive(Debug)]
pub(super) struct Account {
    pub(super) limits: AccountLimits,
    pub(super) not_before: i64,
    pub(super) last_transactional: i64,
    pub(super) blocked_until: i64,
    pub(super) window: Option<Window>,
    pub(super) rate: Rate,
    pub(super) concurrency: Concurrency,
    breaker: Breaker,
    budget: RetryBudget,
    addresses: Keys,
    senders: Keys,
    campaigns: Keys,
    granted: u32,
    wanted_more: bool,
}

impl Account {
    pub(super) fn new(limits: AccountLimits, ceiling: u32, seed: u64) -> Self {
        let keys = |limit: Option<u32>| Keys::new(limit.unwrap_or(0), CAPACITY);
        Self {
            limits,
            not_before: i64::MIN,
            last_transactional: i64::MIN / 2,
            blocked_until: i64::MIN,
            window: limits.per_second.map(Window::new),
            rate: Rate::new(),
            concurrency: Concurrency::new(limits.concurrency.unwrap_or(ceiling).min(ceiling)),
            breaker: Breaker::new(seed),
            budget: RetryBudget::default(),
            addresses: keys(limits.per_address),
            senders: keys(limits.per_sender),
            campaigns: keys(limits.per_campaign),
            granted: 0,
            wanted_more: false,
        }
    }

    /// The part that this class must leave alone now.
    pub(super) fn reserve(&self, now: i64, bulk: bool) -> f64 {
        if bulk && now - self.last_transactional < DEMAND_MS {
            self.limits.reserve
        } else {
            0.0
        }
    }

    /// Remembers until when the account was told to wait.
    pub(super) fn blocked(&mut self, until: i64) -> i64 {
        self.blocked_until = until;
        until
    }

    /// What stands against everything of the account.
    pub(super) fn wait(&mut self, now: i64, ask: &Ask, reserve: f64) -> Option<i64> {
        if self.not_before > now {
            return Some(self.not_before);
        }
        if let Some(until) = self.breaker.wait(now, self.answer_in()) {
            return Some(until);
        }
        let bulk = ask.class == Class::Bulk;
        if let Some(window) = &mut self.window
            && let Some(until) = window.wait(now, want(window.limit(), ask.cost, bulk, reserve))
        {
            self.wanted_more = true;
            return Some(until);
        }
        self.rate.wait(now, bulk, reserve)
    }

    /// What stands against this delivery.
    pub(super) fn key_wait(&mut self, now: i64, ask: &Ask) -> Option<i64> {
        let units = ask.cost;
        self.addresses
            .wait(now, ask.address, units)
            .or_else(|| self.senders.wait(now, ask.sender, units))
            .or_else(|| self.campaigns.wait(now, ask.campaign?, units))
            .or_else(|| self.budget.wait(now).filter(|_| ask.retry))
    }

    /// Charges every level.
    pub(super) fn take(&mut self, now: i64, ask: &Ask) -> (u32, Sent, u32) {
        let bulk = ask.class == Class::Bulk;
        let units = self.window.as_mut().map_or(0, |window| {
            window.take(now, want(window.limit(), ask.cost, bulk, 0.0));
            window.charge(ask.cost)
        });
        self.granted = self.granted.saturating_add(ask.cost);
        self.addresses.take(now, ask.address, ask.cost);
        self.senders.take(now, ask.sender, ask.cost);
        if let Some(campaign) = ask.campaign {
            self.campaigns.take(now, campaign, ask.cost);
        }
        self.concurrency.open(bulk);
        self.budget.count(now, ask.retry);
        let era = self.breaker.start();
        (units, self.rate.take(now, ask.cost, bulk), era)
    }

    pub(super) fn answered(&mut self, now: i64, ticket: &Ticket, answer: Answer) {
        let Ask { cost, address, .. } = ticket.ask;
        let bulk = ticket.ask.class == Class::Bulk;
        if let Some(window) = &mut self.window
            && ticket.units > 0
        {
            window.answered(now, ticket.units, bulk);
        }
        self.addresses.answered(now, address, cost);
        self.senders.answered(now, ticket.ask.sender, cost);
        if let Some(campaign) = ticket.ask.campaign {
            self.campaigns.answered(now, campaign, cost);
        }
        let latency = now - ticket.at;
        self.concurrency.close(now, bulk, latency, answer.load());
        match answer {
            Answer::Accepted | Answer::Refused => {
                // A retry that found the provider at work was no burden to spare it from: after one
                // hang of many the rest may follow at once.
                if ticket.ask.retry {
                    self.budget.uncount(ticket.at, true);
                }
                self.rate.accepted(now, ticket.sent, cost);
            }
            Answer::Throttled {
                retry_after_ms,
                scope: Scope::Account,
            } => {
                self.not_before = self.not_before.max(now + retry_after_ms.unwrap_or(0));
                self.rate.throttled(now, ticket.sent, retry_after_ms);
            }
            Answer::Throttled {
                retry_after_ms: Some(wait),
                scope: Scope::Address,
            } => self.addresses.pause(now, address, now + wait),
            Answer::Throttled { .. }
            | Answer::Unavailable
            | Answer::Unknown
            | Answer::AccountFault
            | Answer::NotProcessed => {}
        }
        match self.breaker.answer(now, ticket.era, answer.sign()) {
            Turn::Closed => self.concurrency.restart(),
            Turn::Opened { .. } | Turn::Unchanged => {}
        }
    }

    pub(super) fn cancelled(&mut self, ticket: &Ticket) {
        let Ask { cost, address, .. } = ticket.ask;
        let bulk = ticket.ask.class == Class::Bulk;
        if let Some(window) = &mut self.window {
            window.cancelled(ticket.units, bulk);
        }
        self.granted = self.granted.saturating_sub(cost);
        self.addresses.cancelled(address, cost);
        self.senders.cancelled(ticket.ask.sender, cost);
        if let Some(campaign) = ticket.ask.campaign {
            self.campaigns.cancelled(campaign, cost);
        }
        self.concurrency.cancel(bulk);
        self.budget.uncount(ticket.at, ticket.ask.retry);
        self.breaker.cancel(ticket.era);
    }

    /// When an answer may come that frees something, roughly.
    pub(super) fn answer_in(&self) -> i64 {
        #[expect(clippy::cast_possible_truncation, reason = "clamped")]
        let quarter = (self.concurrency.latency_ms() / 4.0) as i64;
        quarter.clamp(ANSWER_MS.0, ANSWER_MS.1)
    }

    pub(super) fn held(&mut self, now: i64) -> u32 {
        self.window.as_mut().map_or(0, |w| w.held(now))
    }

    pub(super) fn usage(&mut self, now: i64) -> Usage {
        let usage = Usage {
            granted: self.granted,
            held: self.held(now),
            wanted_more: self.wanted_more,
        };
        self.granted = 0;
        self.wanted_more = false;
        usage
    }
}
