//! Attempts: what may start, with what the provider is called, and what its answer leads to.

use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::provider::{Answers, Attempt, AttemptResult, Provider, TryError};
use bongsu_domain::{Delivery, Outcome, Reason, Settled, Timestamp};
use bongsu_policy::{AttemptClass, Next};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Owner;
use super::gate::{Gate, told_to_pacing};
use super::shared::Permit;
use crate::journal::Source;
use crate::lease::Lease;
use crate::pacing::Pass;

/// Grace beyond an attempt's deadline before the owner stops waiting for the provider's own answer.
pub const ATTEMPT_GRACE: Duration = Duration::from_millis(500);
/// When an account whose credential was refused is tried again, milliseconds.
const ACCOUNT_AGAIN_MS: i64 = 5_000;

/// An attempt that has ended.
pub(super) struct Attempted {
    source: Source,
    offsets: Vec<i64>,
    /// None when no call was made.
    answers: Option<Result<Answers, TryError>>,
    took: Duration,
    passes: Vec<Pass>,
    permit: Permit,
}

/// A delivery that is tried again.
struct Waiting {
    offset: i64,
    /// Since when it has failed.
    since: i64,
    /// When its next attempt is.
    at: i64,
}

/// A batch on its way out.
struct Batch {
    deliveries: Vec<(Arc<Delivery>, u32)>,
    /// Where they and their receipts lie.
    partition: i32,
    deadline: Instant,
    /// The group of intents that must be acknowledged before the call.
    intent: Option<(u64, watch::Receiver<u64>)>,
}

impl Owner {
    /// Starts what may start: expiries settle, retries that are due and ready keys go out.
    pub(super) fn pump(&mut self) {
        self.start_ready();
        // What was not needed goes to whoever waits.
        self.spare.clear();
        self.busy
            .set(!self.attempts.is_empty() || self.permit.is_some());
    }

    fn start_ready(&mut self) {
        if self.draining {
            return;
        }
        let now = self.now;
        for source in Source::ALL {
            let expired = self.sequencer(source).map(|s| s.advance(now));
            for offset in expired.unwrap_or_default() {
                self.write_receipt(
                    source,
                    offset,
                    Settled {
                        outcome: Outcome::Expired,
                        reason: Reason::DeadlinePassed,
                    },
                );
            }
        }
        while self.is_owned() && self.has_ready(now) {
            let permit = match self.spare.pop() {
                Some(permit) => Some(permit),
                None if self.permit.is_some() => return,
                None => self.shared.permits.try_acquire(),
            };
            match permit {
                Some(permit) => {
                    if !self.start_with(permit) {
                        return;
                    }
                }
                None => {
                    let permits = self.shared.permits.clone();
                    self.permit = Some(Box::pin(permits.acquire()));
                }
            }
        }
    }

    /// Whether the group has confirmed this member a short time ago, and has taken a commit that leads
    /// to this owner's claim.
    pub(super) fn is_owned(&self) -> bool {
        self.leased && self.is_confirmed()
    }

    fn has_ready(&self, now: i64) -> bool {
        self.sequencers
            .as_ref()
            .is_some_and(|s| s.iter().any(|s| s.has_ready(now)))
    }

    /// Uses a place for the next batch; false when nothing may start.
    pub(super) fn start_with(&mut self, permit: Permit) -> bool {
        if self.draining || !self.is_owned() {
            return false;
        }
        let now = self.now;
        let packing = self.packing;
        // The deliveries and the lane take turns at being asked first, as many as senders are ready.
        let first = self.next_turn();
        for source in [first, first.other()] {
            let Some(sequencers) = self.sequencers.as_mut() else {
                return false;
            };
            let mut gate = Gate {
                suppressed: &self.suppressed,
                switch: &mut self.switch,
                backlog: &mut self.backlog_choice,
                nights: &mut self.nights,
                guard: self.guard.as_mut(),
                pacing: &self.shared.pacing,
                starts: &self.shared.starts,
                limited: &mut self.limited,
                now,
                passes: Vec::new(),
                ends: Vec::new(),
                stopped: 0,
                nightly: Vec::new(),
            };
            let started = sequencers[source.index()].start_by(packing, now, &mut gate);
            let Gate {
                passes,
                ends,
                stopped,
                nightly,
                ..
            } = gate;
            self.stopped_now += stopped;
            self.wait_for_day(source, &nightly);
            for (offset, settled) in started.ended.into_iter().zip(ends) {
                self.write_receipt(source, offset, settled);
            }
            if !started.batch.is_empty() {
                self.call(source, started.batch, passes, permit);
                return true;
            }
        }
        false
    }

    fn next_turn(&mut self) -> Source {
        let [main, lane] = Source::ALL.map(|source| {
            let sequencers = self.sequencers.as_ref();
            sequencers.map_or(0, |s| s[source.index()].ready_senders(self.now))
        });
        if self.turns.is_lanes(main, lane) {
            Source::Lane
        } else {
            Source::Main
        }
    }

    fn call(&mut self, source: Source, offsets: Vec<i64>, passes: Vec<Pass>, permit: Permit) {
        let now = Instant::now();
        let timeout = self.shared.attempt_timeout;
        let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let mut deadline = now + timeout;
        let mut deliveries = Vec::with_capacity(offsets.len());
        let mut marks = Vec::new();
        for offset in &offsets {
            let shared = Arc::clone(&self.shared);
            let Some(sequencers) = self.sequencers.as_ref() else {
                return;
            };
            let sequencer = &sequencers[source.index()];
            let number = sequencer.attempts(*offset);
            let Some(delivery) = sequencer.payload(*offset).and_then(|p| p.delivery.clone()) else {
                continue;
            };
            let left = delivery.expires_at.0.saturating_sub(self.now);
            if left < timeout_ms {
                deadline = deadline.min(shared.clock.instant_of(delivery.expires_at.0));
            }
            if shared.never_twice(&delivery) {
                marks.push((source, *offset, delivery.id.tag()));
            }
            deliveries.push((delivery, number));
        }
        self.shared.metrics.started(offsets.len());
        let batch = Batch {
            deliveries,
            partition: self.partition,
            deadline,
            intent: self.notes.intend(&marks),
        };
        let provider = Arc::clone(&self.shared.provider);
        let lease = Arc::clone(&self.shared.lease);
        self.attempts.push(Box::pin(async move {
            let answers = attempt(provider.as_ref(), &lease, batch).await;
            Attempted {
                source,
                offsets,
                answers,
                took: now.elapsed(),
                passes,
                permit,
            }
        }));
    }

    pub(super) fn judge(&mut self, done: Attempted) {
        let Attempted {
            source,
            offsets,
            answers,
            took,
            passes,
            permit,
        } = done;
        if self
            .shared
            .permits
            .may_keep(self.attempts.len() + self.spare.len())
        {
            self.spare.push(permit);
        }
        let Some(answers) = answers else {
            return self.take_back(source, &offsets, passes);
        };
        let packed = passes.len() < offsets.len();
        let mut passes = passes.into_iter();
        let Answers {
            results,
            mut references,
        } = match answers {
            Ok(answers) => answers,
            Err(error) => {
                let result = match &error {
                    TryError::UnknownAccount { .. } => {
                        AttemptResult::Refused(Reason::UnknownAccount)
                    }
                    TryError::Client(_) => AttemptResult::Unavailable,
                };
                tracing::warn!(%error, "an attempt could not be made");
                vec![result; offsets.len()].into()
            }
        };
        let mut waiting = Vec::new();
        for (i, offset) in offsets.into_iter().enumerate() {
            let result = results.get(i).copied().unwrap_or(AttemptResult::Unknown);
            self.shared.metrics.attempted(result, took);
            if let Some(reference) = references.get_mut(i).and_then(Option::take) {
                self.name(source, offset, reference);
            }
            if result == AttemptResult::Accepted {
                self.diversion.floods.served(self.now);
            }
            if let Some(pass) = passes.next() {
                let strangers = self.serves_strangers(source, offset);
                let result = if packed { of_call(&results) } else { result };
                pass.answered(told_to_pacing(result, strangers));
            }
            waiting.extend(self.decide(source, offset, result));
        }
        // Not before all of a pack are decided: its key is parked as a whole.
        for Waiting { offset, since, at } in waiting {
            self.consider_parking(source, offset, since, at);
        }
    }

    /// No call was made: nobody learns anything from it, and another may follow at once.
    fn take_back(&mut self, source: Source, offsets: &[i64], passes: Vec<Pass>) {
        self.shared.metrics.not_attempted(offsets.len());
        passes.into_iter().for_each(Pass::cancelled);
        let now = self.now;
        for offset in offsets {
            let Some(sequencer) = self.sequencer(source) else {
                return;
            };
            sequencer.requeue(*offset, now);
            let delivery = sequencer.payload(*offset).and_then(|p| p.delivery.clone());
            if let Some(delivery) = delivery {
                let never_twice = self.shared.never_twice(&delivery);
                self.withdraw(source, *offset, &delivery, never_twice);
            }
        }
    }

    /// Settles a delivery, or lets it wait for its next attempt.
    fn decide(&mut self, source: Source, offset: i64, result: AttemptResult) -> Option<Waiting> {
        let jitter = self.jitter.next();
        let now = Timestamp(self.now);
        let shared = Arc::clone(&self.shared);
        let sequencer = self.sequencer(source)?;
        let attempt = sequencer.attempts(offset);
        let pending = sequencer.payload_mut(offset)?;
        pending.times.attempted(now.0);
        let delivery = pending.delivery.clone()?;
        let never_twice = shared.never_twice(&delivery);
        match result {
            AttemptResult::NotProcessed => {
                sequencer.requeue(offset, now.0);
                self.withdraw(source, offset, &delivery, never_twice);
                return None;
            }
            AttemptResult::AccountFault => {
                sequencer.requeue(offset, now.0 + ACCOUNT_AGAIN_MS);
                self.withdraw(source, offset, &delivery, never_twice);
                return None;
            }
            AttemptResult::Unknown => {
                pending.uncertain = true;
                pending.failures += 1;
            }
            AttemptResult::Unavailable | AttemptResult::Doubted => pending.failures += 1,
            AttemptResult::Accepted
            | AttemptResult::Refused(_)
            | AttemptResult::Throttled { .. } => {}
        }
        let mut next =
            shared
                .retry
                .decide(class_of(result), attempt, now, delivery.expires_at, jitter);
        let unknown = Settled {
            outcome: Outcome::Unknown,
            reason: Reason::NoAnswer,
        };
        match &mut next {
            // It may have arrived, and must not arrive twice.
            Next::RetryAt(_) if never_twice && result == AttemptResult::Unknown => {
                next = Next::Settle(unknown);
            }
            // An earlier attempt may have arrived: nobody can say that it did not.
            Next::Settle(settled) if pending.uncertain && settled.outcome == Outcome::Dead => {
                *settled = unknown;
            }
            Next::RetryAt(_) | Next::Settle(_) => {}
        }
        match next {
            Next::RetryAt(at) => {
                if pending.failing_since == 0 {
                    pending.failing_since = now.0;
                }
                let since = pending.failing_since;
                sequencer.retry(offset, at.0);
                self.withdraw(source, offset, &delivery, never_twice);
                Some(Waiting {
                    offset,
                    since,
                    at: at.0,
                })
            }
            Next::Settle(settled) => {
                sequencer.settle(offset);
                self.write_receipt(source, offset, settled);
                None
            }
        }
    }

    /// The provider's own id of what it took, for the receipt.
    fn name(&mut self, source: Source, offset: i64, reference: Box<str>) {
        let sequencer = self.sequencer(source);
        if let Some(pending) = sequencer.and_then(|s| s.payload_mut(offset)) {
            pending.provider_reference = Some(reference);
        }
    }

    fn serves_strangers(&self, source: Source, offset: i64) -> bool {
        self.sequencers
            .as_ref()
            .and_then(|s| s[source.index()].payload(offset))
            .and_then(|pending| pending.subject.as_ref())
            .is_some_and(|subject| subject.strangers)
    }

    /// The call was surely not taken: another may follow.
    fn withdraw(&mut self, source: Source, offset: i64, delivery: &Delivery, never_twice: bool) {
        if never_twice {
            self.notes.withdraw(source, offset, delivery.id.tag());
        }
    }
}

/// Calls the provider; `None` when that may not be done any more.
async fn attempt(
    provider: &dyn Provider,
    lease: &Lease,
    batch: Batch,
) -> Option<Result<Answers, TryError>> {
    let Batch {
        deliveries,
        partition,
        deadline,
        intent,
    } = batch;
    if let Some((group, mut acknowledged)) = intent {
        let noted = acknowledged.wait_for(|done| *done >= group);
        // Not for ever: whoever waits holds a place at the provider that others could use.
        let noted = tokio::time::timeout_at(deadline, noted).await;
        // The lease may have ended meanwhile; and an owner that is gone acknowledges nothing.
        if !matches!(noted, Ok(Ok(_))) || !lease.holds() {
            return None;
        }
    }
    let attempts: Vec<Attempt<'_>> = deliveries
        .iter()
        .map(|(delivery, number)| Attempt {
            delivery,
            number: *number,
            partition,
        })
        .collect();
    let call = provider.attempt_named(&attempts, deadline);
    // The provider keeps the deadline itself; this bounds one that does not.
    let answers = tokio::time::timeout_at(deadline + ATTEMPT_GRACE, call).await;
    Some(answers.unwrap_or_else(|_| Ok(vec![AttemptResult::Unknown; deliveries.len()].into())))
}

/// What one call came to whose deliveries have results of their own: whatever speaks of the
/// provider, else the first.
fn of_call(results: &[AttemptResult]) -> AttemptResult {
    let speaks = |result: &&AttemptResult| match result {
        AttemptResult::Throttled { .. }
        | AttemptResult::Unavailable
        | AttemptResult::Doubted
        | AttemptResult::Unknown
        | AttemptResult::AccountFault => true,
        AttemptResult::Accepted | AttemptResult::Refused(_) | AttemptResult::NotProcessed => false,
    };
    let first = results.first().copied();
    let told = results.iter().find(speaks).copied().or(first);
    told.unwrap_or(AttemptResult::Unknown)
}

fn class_of(result: AttemptResult) -> AttemptClass {
    match result {
        AttemptResult::Accepted => AttemptClass::Accepted,
        AttemptResult::Refused(reason) => AttemptClass::Refused(reason),
        AttemptResult::Throttled { retry_after, .. } => AttemptClass::Throttled(
            retry_after.map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
        ),
        AttemptResult::Unavailable | AttemptResult::NotProcessed | AttemptResult::AccountFault => {
            AttemptClass::Unavailable
        }
        AttemptResult::Doubted => AttemptClass::Doubted,
        AttemptResult::Unknown => AttemptClass::Unknown,
    }
}

/// Uniform numbers in 0..1 from a seed (`SplitMix64`).
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        #[expect(
            clippy::cast_precision_loss,
            reason = "53 bits are what a double holds"
        )]
        let part = (z >> 11) as f64 / (1_u64 << 53) as f64;
        part
    }
}
