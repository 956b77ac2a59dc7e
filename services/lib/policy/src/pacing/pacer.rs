//! The one thing owners ask before an attempt: every limit at once.
//!
//! Either every level grants, or none is charged. Levels without a limit cost nothing. See
//! [`pacing`](super) for how it is used.

mod account;
#[cfg(test)]
mod tests;

use bongsu_domain::Class;

use self::account::Account;
use super::breaker::Sign;
use super::concurrency::Load;
use super::rate::{Rate, Sent, Word};
use super::window::{Want, Window};

/// For how long one ask of the transactional class keeps its reserve free of bulk, in milliseconds.
pub const DEMAND_MS: i64 = 2_000;

/// A small number for an account's name, given by [`Pacer::account`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey(u16);

impl AccountKey {
    /// The number itself, for who keeps things by account.
    #[must_use]
    pub fn number(self) -> u32 {
        u32::from(self.0)
    }
}

/// The limits of one account, none by default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccountLimits {
    /// Units per second of the whole account.
    pub per_second: Option<u32>,
    /// Units per second of one address.
    pub per_address: Option<u32>,
    /// Units per second of one sender.
    pub per_sender: Option<u32>,
    /// Units per second of one campaign.
    pub per_campaign: Option<u32>,
    /// Attempts open at once in this process; the channel's ceiling when absent.
    pub concurrency: Option<u32>,
    /// The part of rate and concurrency that bulk leaves alone while transactional deliveries come.
    pub reserve: f64,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            per_second: None,
            per_address: None,
            per_sender: None,
            per_campaign: None,
            concurrency: None,
            reserve: 0.2,
        }
    }
}

/// What an owner wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The account that sends.
    pub account: AccountKey,
    /// Its class.
    pub class: Class,
    /// Hash of the sender.
    pub sender: u64,
    /// Hash of the address.
    pub address: u64,
    /// Hash of the campaign, when it belongs to one.
    pub campaign: Option<u64>,
    /// What it costs of rate limits, at least 1.
    pub cost: u32,
    /// Whether it was attempted before.
    pub retry: bool,
}

/// The answer to an [`Ask`]. Times are milliseconds; ask again then, not before.
#[derive(Debug)]
#[must_use]
pub enum Permit {
    /// Start now, and give the ticket back with [`Pacer::answered`] or [`Pacer::cancelled`].
    Go(Ticket),
    /// This delivery (its address, sender, campaign, or it being a retry) waits; others may go.
    KeyWaits {
        /// When to ask again for this delivery.
        until: i64,
    },
    /// Everything of the account and class waits.
    AccountWaits {
        /// When to ask again for the account.
        until: i64,
    },
}

/// The right to make one attempt. A ticket that is not given back holds its units for ever.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    ask: Ask,
    at: i64,
    era: u32,
    sent: Sent,
    egress_sent: Sent,
    /// Units charged in the account's and the egress's window; 0 when there was none.
    units: u32,
    egress_units: u32,
}

impl Ticket {
    /// When it was given.
    #[must_use]
    pub const fn at(&self) -> i64 {
        self.at
    }

    /// The account it is for.
    #[must_use]
    pub const fn account(&self) -> AccountKey {
        self.ask.account
    }
}

/// Who must wait after a throttled attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This address only.
    Address,
    /// The whole account.
    Account,
    /// Everything from this worker's address.
    Worker,
}

/// What an attempt came to, as far as pacing needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Taken.
    Accepted,
    /// Refused for good: the provider works.
    Refused,
    /// Not now.
    Throttled {
        /// The provider's `Retry-After`, in milliseconds.
        retry_after_ms: Option<i64>,
        /// Who must wait.
        scope: Scope,
    },
    /// Not taken; may be later.
    Unavailable,
    /// The answer was never seen.
    Unknown,
    /// Credential or account refused.
    AccountFault,
    /// Surely not processed; may be sent again at once.
    NotProcessed,
}

/// What an account spent since the last look, for sharing its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Units granted.
    pub granted: u32,
    /// Units held in the window now.
    pub held: u32,
    /// Whether somebody waited for the account's rate.
    pub wanted_more: bool,
}

/// The exit to the provider that all accounts of the process share.
#[derive(Debug)]
struct Egress {
    window: Option<Window>,
    limit: Option<u32>,
    rate: Rate,
    not_before: i64,
    granted: u32,
    wanted_more: bool,
}

/// All limits of one channel in one process.
#[derive(Debug)]
pub struct Pacer {
    names: Vec<Box<str>>,
    accounts: Vec<Account>,
    egress: Egress,
    ceiling: u32,
    in_flight: u32,
    bulk: u32,
    last_transactional: i64,
    starved: bool,
    seed: u64,
}

impl Pacer {
    /// A pacer without accounts: at most `ceiling` attempts open at once in this process, and at
    /// most `egress` units a second from its public IP address, when the provider counts by that.
    /// `seed` is for jitter.
    #[must_use]
    pub fn new(ceiling: u32, egress: Option<u32>, seed: u64) -> Self {
        Self {
            names: Vec::new(),
            accounts: Vec::new(),
            egress: Egress {
                window: egress.map(Window::new),
                limit: egress,
                rate: Rate::new(),
                not_before: i64::MIN,
                granted: 0,
                wanted_more: false,
            },
            ceiling: ceiling.max(1),
            in_flight: 0,
            bulk: 0,
            last_transactional: i64::MIN / 2,
            starved: false,
            seed,
        }
    }

    /// The key of an account; made with `limits` when the name is new. Names come from settings, so
    /// there are few; beyond 65,535 the last key is shared.
    pub fn account(&mut self, name: &str, limits: impl FnOnce() -> AccountLimits) -> AccountKey {
        let known = self.names.iter().position(|n| n.as_ref() == name);
        let index = known.unwrap_or_else(|| {
            let full = self.names.len() > usize::from(u16::MAX);
            if !full {
                let seed = self.seed.wrapping_add(self.names.len() as u64);
                self.names.push(name.into());
                self.accounts
                    .push(Account::new(limits(), self.ceiling, seed));
            }
            self.names.len() - 1
        });
        AccountKey(u16::try_from(index).unwrap_or(u16::MAX))
    }

    /// The accounts known so far with their keys and limits.
    pub fn accounts(&self) -> impl Iterator<Item = (AccountKey, &str, AccountLimits)> {
        let keys = (0..=u16::MAX).map(AccountKey);
        let known = self.names.iter().zip(&self.accounts);
        keys.zip(known)
            .map(|(key, (name, account))| (key, name.as_ref(), account.limits))
    }

    /// Asks for one attempt.
    pub fn ask(&mut self, now: i64, ask: &Ask) -> Permit {
        let bulk = ask.class == Class::Bulk;
        let Some(account) = self.accounts.get_mut(usize::from(ask.account.0)) else {
            return Permit::AccountWaits { until: now + 1_000 };
        };
        if !bulk {
            account.last_transactional = now;
            self.last_transactional = now;
        }
        let reserve = account.reserve(now, bulk);
        if let Some(until) = account.wait(now, ask, reserve) {
            return Permit::AccountWaits {
                until: account.blocked(until),
            };
        }
        let full = self.in_flight >= self.ceiling
            || (bulk
                && now - self.last_transactional < DEMAND_MS
                && f64::from(self.bulk) >= f64::from(self.ceiling) * (1.0 - reserve));
        if full || !account.concurrency.allows(bulk, reserve) {
            self.starved = true;
            return Permit::AccountWaits {
                until: now + account.answer_in(),
            };
        }
        if let Some(until) = self.egress.wait(now, ask.cost, bulk, reserve) {
            return Permit::AccountWaits {
                until: account.blocked(until),
            };
        }
        if let Some(until) = account.key_wait(now, ask) {
            return Permit::KeyWaits { until };
        }
        self.in_flight += 1;
        self.bulk += u32::from(bulk);
        let (egress_units, egress_sent) = self.egress.take(now, ask.cost, bulk);
        let (units, sent, era) = account.take(now, ask);
        Permit::Go(Ticket {
            ask: *ask,
            at: now,
            era,
            sent,
            egress_sent,
            units,
            egress_units,
        })
    }

    /// An attempt has ended.
    pub fn answered(&mut self, now: i64, ticket: Ticket, answer: Answer) {
        self.leave(ticket.ask.class == Class::Bulk);
        self.egress.answered(now, &ticket, answer);
        if let Some(account) = self.accounts.get_mut(usize::from(ticket.ask.account.0)) {
            account.answered(now, &ticket, answer);
        }
    }

    /// An attempt was never made: nothing was contacted. Its units are free at once.
    pub fn cancelled(&mut self, _now: i64, ticket: Ticket) {
        let bulk = ticket.ask.class == Class::Bulk;
        self.leave(bulk);
        self.egress.granted = self.egress.granted.saturating_sub(ticket.ask.cost);
        if let Some(window) = &mut self.egress.window {
            window.cancelled(ticket.egress_units, bulk);
        }
        if let Some(account) = self.accounts.get_mut(usize::from(ticket.ask.account.0)) {
            account.cancelled(&ticket);
        }
    }

    /// Whether somebody was refused for want of concurrency since the last call: after an answer,
    /// somebody who waits may ask again at once.
    pub const fn take_starved(&mut self) -> bool {
        std::mem::replace(&mut self.starved, false)
    }

    /// When something that was told to wait for an account may go, at the earliest.
    #[must_use]
    pub fn next_release(&self, now: i64) -> Option<i64> {
        let blocked = self.accounts.iter().map(|a| a.blocked_until);
        blocked.filter(|until| *until > now).min()
    }

    /// Attempts open now.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Attempts the account may have open at once now, and has.
    #[must_use]
    pub fn concurrency(&self, account: AccountKey) -> Option<(u32, u32)> {
        let concurrency = &self.accounts.get(usize::from(account.0))?.concurrency;
        Some((concurrency.limit(), concurrency.in_flight()))
    }

    /// What this worker tells the others of the account's learned rate; see [`Rate::word`].
    pub fn word(&mut self, now: i64, account: AccountKey) -> Option<Word> {
        self.accounts
            .get_mut(usize::from(account.0))?
            .rate
            .word(now)
    }

    /// Takes in what the others said of it; see [`Rate::hear`].
    pub fn hear(&mut self, now: i64, account: AccountKey, others: &[Word]) {
        if let Some(account) = self.accounts.get_mut(usize::from(account.0)) {
            account.rate.hear(now, others);
        }
    }

    /// Units per second the account keeps to because its provider throttled it; `None` while it
    /// never did.
    #[must_use]
    pub fn learned_rate(&self, account: AccountKey) -> Option<f64> {
        self.accounts.get(usize::from(account.0))?.rate.rate()
    }

    /// This process's share of the account's limit, in units per second. It closes by itself at
    /// `until`, should nobody renew it. An account without a limit has no shares.
    pub fn share(&mut self, account: AccountKey, units: u32, until: i64) {
        if let Some(account) = self.accounts.get_mut(usize::from(account.0))
            && let Some(window) = &mut account.window
        {
            window.set_limit(units);
            window.close_at(until);
        }
    }

    /// This process's share of the egress limit, until then.
    pub const fn share_egress(&mut self, units: u32, until: i64) {
        if let Some(window) = &mut self.egress.window {
            window.set_limit(units);
            window.close_at(until);
        }
    }

    /// Nothing of the account starts before `until`: another worker was told so.
    pub fn pause(&mut self, account: AccountKey, until: i64) {
        if let Some(account) = self.accounts.get_mut(usize::from(account.0)) {
            account.not_before = account.not_before.max(until);
        }
    }

    /// Nothing at all starts before `until`.
    pub const fn pause_egress(&mut self, until: i64) {
        if until > self.egress.not_before {
            self.egress.not_before = until;
        }
    }

    /// Until when the provider told the account to wait; in the past when it may go.
    #[must_use]
    pub fn paused_until(&self, account: AccountKey) -> i64 {
        let account = self.accounts.get(usize::from(account.0));
        account.map_or(i64::MIN, |a| a.not_before)
    }

    /// Until when the provider told everything from here to wait.
    #[must_use]
    pub const fn egress_paused_until(&self) -> i64 {
        self.egress.not_before
    }

    /// What the account spent since the last call.
    pub fn usage(&mut self, now: i64, account: AccountKey) -> Usage {
        let account = self.accounts.get_mut(usize::from(account.0));
        account.map(|a| a.usage(now)).unwrap_or_default()
    }

    /// Units of the account's limit that the last second holds.
    pub fn held(&mut self, now: i64, account: AccountKey) -> u32 {
        let account = self.accounts.get_mut(usize::from(account.0));
        account.map_or(0, |a| a.held(now))
    }

    /// The same of the egress limit.
    pub fn egress_held(&mut self, now: i64) -> u32 {
        self.egress.window.as_mut().map_or(0, |w| w.held(now))
    }

    /// The egress limit as it was configured.
    #[must_use]
    pub const fn egress_limit(&self) -> Option<u32> {
        self.egress.limit
    }

    /// What was spent of the egress limit since the last call.
    pub fn egress_usage(&mut self, now: i64) -> Usage {
        let held = self.egress_held(now);
        let egress = &mut self.egress;
        Usage {
            granted: std::mem::take(&mut egress.granted),
            held,
            wanted_more: std::mem::take(&mut egress.wanted_more),
        }
    }

    fn leave(&mut self, bulk: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if bulk {
            self.bulk = self.bulk.saturating_sub(1);
        }
    }
}

impl Egress {
    fn wait(&mut self, now: i64, units: u32, bulk: bool, reserve: f64) -> Option<i64> {
        if self.not_before > now {
            return Some(self.not_before);
        }
        if let Some(window) = &mut self.window
            && let Some(until) = window.wait(now, want(window.limit(), units, bulk, reserve))
        {
            self.wanted_more = true;
            return Some(until);
        }
        self.rate.wait(now, bulk, reserve)
    }

    fn take(&mut self, now: i64, units: u32, bulk: bool) -> (u32, Sent) {
        self.granted = self.granted.saturating_add(units);
        let charged = self.window.as_mut().map_or(0, |window| {
            window.take(now, want(window.limit(), units, bulk, 0.0));
            window.charge(units)
        });
        (charged, self.rate.take(now, units, bulk))
    }

    fn answered(&mut self, now: i64, ticket: &Ticket, answer: Answer) {
        if let Some(window) = &mut self.window
            && ticket.egress_units > 0
        {
            window.answered(now, ticket.egress_units, ticket.ask.class == Class::Bulk);
        }
        let sent = ticket.egress_sent;
        match answer {
            Answer::Throttled {
                retry_after_ms,
                scope: Scope::Worker,
            } => {
                self.not_before = self.not_before.max(now + retry_after_ms.unwrap_or(0));
                self.rate.throttled(now, sent, retry_after_ms);
            }
            Answer::Accepted | Answer::Refused => self.rate.accepted(now, sent, ticket.ask.cost),
            Answer::Throttled { .. }
            | Answer::Unavailable
            | Answer::Unknown
            | Answer::AccountFault
            | Answer::NotProcessed => {}
        }
    }
}

/// What a window is asked for, with the reserve in whole units.
fn want(limit: u32, units: u32, bulk: bool, reserve: f64) -> Want {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a u32"
    )]
    let reserved = (f64::from(limit) * reserve).ceil() as u32;
    Want {
        units,
        bulk,
        reserved,
    }
}

impl Answer {
    /// What it says about the account's circuit.
    const fn sign(self) -> Sign {
        match self {
            Self::Accepted | Self::Refused => Sign::Works,
            Self::Unavailable | Self::Unknown => Sign::Fails,
            Self::AccountFault => Sign::Faulty,
            Self::Throttled { .. } | Self::NotProcessed => Sign::Silent,
        }
    }

    /// What it says about the provider's load.
    const fn load(self) -> Load {
        match self {
            Self::Accepted | Self::Refused | Self::AccountFault | Self::Throttled { .. } => {
                Load::Answered
            }
            Self::Unavailable | Self::Unknown | Self::NotProcessed => Load::Failed,
        }
    }
}
