//! The gate before each attempt: suppressions, the choices of starts, stops, the night, the repeat guard and
//! pacing, asked in this order.
//!
//! Whatever says no costs nothing: a stopped, nightly or paced delivery waits with its key or its
//! account, what is suppressed, dropped from a backlog or a repeat ends without an attempt. A key that waits for the day goes to the side lane.

use std::collections::HashMap;
use std::sync::Arc;

use bongsu_channels::provider::AttemptResult;
use bongsu_domain::{Reason, Settled, Timestamp};
use bongsu_policy::Nights;
use bongsu_policy::hashing::ByHash;
use bongsu_policy::sequencer::{Permit, Starter};
use bongsu_suppressions::Suppressed;

use super::Pending;
use super::backlog::{Backlog, Fate, dropped};
use crate::control::StopSwitch;
use crate::guard::Guard;
use crate::metrics::Lateness;
use crate::pacing::{Asked, Pacing, Pass};
use crate::yielding::Starts;

/// Everything that is asked for one start.
pub(super) struct Gate<'a> {
    pub(super) suppressed: &'a Suppressed,
    pub(super) switch: &'a mut StopSwitch,
    pub(super) backlog: &'a mut Backlog,
    pub(super) nights: &'a mut Nights,
    pub(super) guard: Option<&'a mut Guard>,
    pub(super) pacing: &'a Arc<Pacing>,
    /// Where a start is counted that nothing but the load has delayed.
    pub(super) starts: &'a Starts,
    pub(super) limited: &'a mut Limited,
    pub(super) now: i64,
    /// The right to attempt each delivery of the batch, in its order.
    pub(super) passes: Vec<Pass>,
    /// How those end that end here, in order.
    pub(super) ends: Vec<Settled>,
    /// How many a person holds back.
    pub(super) stopped: usize,
    /// Keys that wait for the day, and until when.
    pub(super) nightly: Vec<(u64, i64)>,
}

impl Starter<Pending> for Gate<'_> {
    fn ask(&mut self, pending: &mut Pending, attempts: u32) -> Permit {
        let (Some(delivery), Some(subject)) = (&pending.delivery, &pending.subject) else {
            return Permit::Go;
        };
        let now = Timestamp(self.now);
        if let Some(settled) = self.suppressed.decide(&delivery.address) {
            self.ends.push(settled);
            return Permit::End;
        }
        let (stops, origin) = (self.switch.stops(), pending.origin);
        match self.backlog.decide(stops, delivery, origin, self.now) {
            Fate::Goes => {}
            Fate::Ends(settled) => {
                self.ends.push(dropped(settled, pending.uncertain));
                return Permit::End;
            }
            Fate::Waits(until) => {
                pending.times.waits_for_load = false;
                return Permit::KeyWaits(until);
            }
        }
        if let Some(stop) = self.switch.decide(delivery, now) {
            self.stopped += 1;
            pending.times.waits_for_load = false;
            return Permit::KeyWaits(stop.ask_again(now).0);
        }
        if let Some(day) = self.nights.decide(delivery, now) {
            self.nightly.push((delivery.order_key().0, day.0));
            pending.times.waits_for_load = false;
            return Permit::KeyWaits(day.0);
        }
        if attempts == 0
            && !pending.guarded
            && let Some(guard) = self.guard.as_mut()
        {
            if let Some(settled) = guard.check(delivery, now) {
                self.ends.push(settled);
                return Permit::End;
            }
            pending.guarded = true;
        }
        if let Some(wait) = self.pacing.hold(delivery) {
            pending.times.limit(self.now);
            pending.times.waits_for_load = false;
            let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 4);
            return Permit::KeyWaits(self.now.saturating_add(wait.max(1)));
        }
        // Retries to one receiver are no load on its strangers: they need no common budget.
        let retries = if subject.strangers {
            0
        } else {
            pending.failures
        };
        match self.pacing.ask(subject, retries) {
            Asked::Go(pass) => {
                self.passes.push(pass);
                let account = u64::from(subject.account.number());
                if std::mem::take(&mut pending.times.waits_for_load)
                    && attempts == 0
                    && !self.limited.since(account, pending.times.taken_in)
                {
                    self.starts.started(self.now - pending.record.timestamp);
                }
                pending.times.start(self.now);
                Permit::Go
            }
            Asked::KeyWaits(until) => {
                pending.times.limit(self.now);
                pending.times.waits_for_load = false;
                Permit::KeyWaits(until)
            }
            Asked::AccountWaits(until) => {
                pending.times.limit(self.now);
                let account = u64::from(subject.account.number());
                self.limited.told(account, self.now);
                Permit::GroupWaits(until)
            }
        }
    }

    /// What shares a call is no start of its own to pacing, but suppressions, choices, stops, nights and the guard
    /// hold it all the same.
    fn follows(&mut self, pending: &mut Pending) -> bool {
        let Some(delivery) = &pending.delivery else {
            return false;
        };
        let now = Timestamp(self.now);
        let stops = self.switch.stops();
        let fate = self
            .backlog
            .decide(stops, delivery, pending.origin, self.now);
        let held = self.suppressed.decide(&delivery.address).is_some()
            || fate != Fate::Goes
            || self.switch.decide(delivery, now).is_some()
            || self.nights.decide(delivery, now).is_some();
        if held || !self.pacing.packs(delivery) {
            return false;
        }
        if !pending.guarded
            && let Some(guard) = self.guard.as_mut()
        {
            // A repeat ends when it is the first.
            if guard.check(delivery, now).is_some() {
                return false;
            }
            pending.guarded = true;
        }
        pending.times.start(self.now);
        true
    }
}

/// What an attempt tells pacing of its account. Where every address is a receiver of its own, one
/// that is down says nothing of the others: it counts as any answer.
pub(super) const fn told_to_pacing(result: AttemptResult, strangers: bool) -> AttemptResult {
    match result {
        AttemptResult::Unavailable | AttemptResult::Doubted | AttemptResult::Unknown
            if strangers =>
        {
            AttemptResult::Refused(Reason::ProviderUnavailable)
        }
        AttemptResult::Accepted
        | AttemptResult::Refused(_)
        | AttemptResult::Throttled { .. }
        | AttemptResult::Unavailable
        | AttemptResult::Doubted
        | AttemptResult::Unknown
        | AttemptResult::NotProcessed
        | AttemptResult::AccountFault => result,
    }
}

/// When accounts were told to wait, milliseconds by their number: all of an account waits then, and not only the
/// one that asked.
#[derive(Debug, Default)]
pub(super) struct Limited(HashMap<u64, i64, ByHash>);

impl Limited {
    fn told(&mut self, account: u64, now: i64) {
        self.0.insert(account, now);
    }

    /// Whether the account was told to wait since then.
    fn since(&self, account: u64, then: i64) -> bool {
        !self.0.is_empty() && self.0.get(&account).is_some_and(|at| *at >= then)
    }
}

/// What a delivery's time went into so far; moments and spans are milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    /// When it was taken in.
    taken_in: i64,
    /// Nothing but the load delays its first attempt, as far as is known.
    pub(super) waits_for_load: bool,
    /// When the attempt under way, or the last one, started; 0 before the first.
    started: i64,
    first_started: i64,
    provider: i64,
    limiter: i64,
    limited_since: i64,
}

impl Times {
    pub(super) fn taken_in(taken_in: i64) -> Self {
        Self {
            taken_in,
            ..Self::default()
        }
    }

    /// When the attempt under way, or the last one, started.
    pub(super) const fn started(&self) -> i64 {
        self.started
    }

    fn limit(&mut self, now: i64) {
        if self.limited_since == 0 {
            self.limited_since = now;
        }
    }

    fn start(&mut self, now: i64) {
        if self.limited_since > 0 {
            self.limiter += now - std::mem::take(&mut self.limited_since);
        }
        if self.first_started == 0 {
            self.first_started = now;
        }
        self.started = now;
    }

    pub(super) fn attempted(&mut self, now: i64) {
        self.provider += now - self.started;
    }

    /// The parts of the time of a delivery that ends now and was written to Kafka at `written`.
    pub(super) fn parts(&self, written: i64, now: i64) -> Lateness {
        let span = |ms: i64| std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let first = if self.first_started == 0 {
            now
        } else {
            self.first_started
        };
        let waited = first - self.taken_in;
        let since_first = now - first;
        // Limits before the first attempt are no order, those afterwards no pause between attempts.
        let before = self.limiter.min(waited);
        let after = self.limiter - before;
        Lateness {
            kafka: span(self.taken_in - written),
            order: span(waited - before),
            limiter: span(self.limiter),
            retry: span(since_first - self.provider - after),
            provider: span(self.provider),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_parts_of_the_time_add_up() {
        let mut times = Times::taken_in(1_000);
        times.limit(1_200);
        times.start(1_500);
        times.attempted(1_560);
        times.start(2_560);
        times.attempted(2_600);
        let parts = times.parts(900, 2_600);
        let millis = Duration::from_millis;
        assert_eq!(
            parts,
            Lateness {
                kafka: millis(100),
                order: millis(200),
                limiter: millis(300),
                retry: millis(1_000),
                provider: millis(100),
            }
        );
    }

    #[test]
    fn a_receiver_that_is_down_says_nothing_of_strangers() {
        for (strangers, counts) in [(true, false), (false, true)] {
            for result in [AttemptResult::Unavailable, AttemptResult::Doubted] {
                let told = told_to_pacing(result, strangers);
                assert_eq!(told == result, counts);
            }
        }
    }
}
