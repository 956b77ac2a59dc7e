//! What follows an attempt: an end, or another attempt at a moment.

use bongsu_domain::{Outcome, Reason, Settled, Timestamp};

/// What an attempt came to, as far as the decision needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptClass {
    /// Taken.
    Accepted,
    /// Refused for good.
    Refused(Reason),
    /// Not now; the provider may have said for how long (milliseconds).
    Throttled(Option<i64>),
    /// Not taken; may be later.
    Unavailable,
    /// The same, with a word that speaks of the address.
    Doubted,
    /// The answer was never seen.
    Unknown,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// The delivery has ended.
    Settle(Settled),
    /// Try again at this moment, not before.
    RetryAt(Timestamp),
}

/// How attempts are spaced: exponential with full jitter, bounded by attempts and by the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The upper bound of the first wait, in milliseconds.
    pub base_ms: i64,
    /// The upper bound of every wait, in milliseconds.
    pub cap_ms: i64,
    /// Attempts after which a delivery is dead.
    pub max_attempts: u32,
}

impl RetryPolicy {
    /// The upper bound of the wait after attempt number `attempt` (from 1), before jitter.
    #[must_use]
    pub fn ceiling_ms(&self, attempt: u32) -> i64 {
        let doublings = attempt.saturating_sub(1).min(30);
        self.base_ms
            .saturating_mul(1_i64 << doublings)
            .min(self.cap_ms)
    }

    /// Decides what follows attempt number `attempt` (from 1) that ended at `now`.
    ///
    /// `jitter` is uniform in 0..1 and injected. `Retry-After` is obeyed exactly: jitter only adds
    /// to it (at most a tenth of the first wait), so that many keys do not come back in one instant.
    pub fn decide(
        &self,
        class: AttemptClass,
        attempt: u32,
        now: Timestamp,
        expires_at: Timestamp,
        jitter: f64,
    ) -> Next {
        let wait = match class {
            AttemptClass::Accepted => return Next::Settle(Settled::ACCEPTED),
            AttemptClass::Refused(reason) => return Next::Settle(Settled::refused(reason)),
            AttemptClass::Throttled(Some(after)) => after
                .max(0)
                .saturating_add(fraction(self.base_ms, jitter / 10.0)),
            AttemptClass::Throttled(None)
            | AttemptClass::Unavailable
            | AttemptClass::Doubted
            | AttemptClass::Unknown => fraction(self.ceiling_ms(attempt), jitter),
        };
        let at = now.plus_millis(wait);
        if attempt >= self.max_attempts || at >= expires_at {
            return Next::Settle(given_up(class));
        }
        Next::RetryAt(at)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "milliseconds of a wait are far below 2^52"
)]
fn fraction(ms: i64, part: f64) -> i64 {
    (ms as f64 * part.clamp(0.0, 1.0)) as i64
}

const fn given_up(class: AttemptClass) -> Settled {
    match class {
        AttemptClass::Accepted => Settled::ACCEPTED,
        AttemptClass::Refused(reason) => Settled::refused(reason),
        AttemptClass::Throttled(_) => Settled {
            outcome: Outcome::Dead,
            reason: Reason::Throttled,
        },
        AttemptClass::Unavailable => Settled {
            outcome: Outcome::Dead,
            reason: Reason::ProviderUnavailable,
        },
        AttemptClass::Doubted => Settled {
            outcome: Outcome::Dead,
            reason: Reason::AddressDoubtful,
        },
        AttemptClass::Unknown => Settled {
            outcome: Outcome::Unknown,
            reason: Reason::NoAnswer,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        base_ms: 200,
        cap_ms: 30_000,
        max_attempts: 8,
    };
    const FAR: Timestamp = Timestamp(i64::MAX);

    proptest! {
        #[test]
        fn waits_stay_below_their_ceiling(attempt in 1_u32..7, jitter in 0.0..1.0_f64, now in 0_i64..1_000_000) {
            let next = POLICY.decide(AttemptClass::Unavailable, attempt, Timestamp(now), FAR, jitter);
            let Next::RetryAt(at) = next else { panic!("{next:?}") };
            prop_assert!(at.0 >= now && at.0 - now <= POLICY.ceiling_ms(attempt));
        }

        #[test]
        fn retry_after_is_never_undercut(after in 0_i64..600_000, jitter in 0.0..1.0_f64) {
            let next = POLICY.decide(AttemptClass::Throttled(Some(after)), 1, Timestamp(5), FAR, jitter);
            let Next::RetryAt(at) = next else { panic!("{next:?}") };
            prop_assert!(at.0 >= 5 + after);
        }

        #[test]
        fn no_retry_is_planned_at_or_after_the_deadline(after in 0_i64..10_000, deadline in 0_i64..10_000) {
            match POLICY.decide(AttemptClass::Throttled(Some(after)), 1, Timestamp(0), Timestamp(deadline), 0.5) {
                Next::RetryAt(at) => prop_assert!(at.0 < deadline),
                Next::Settle(s) => prop_assert_eq!(s.outcome, Outcome::Dead),
            }
        }
    }

    #[test]
    fn ceilings_never_fall_and_stop_at_the_cap() {
        let ceilings: Vec<_> = (1..40).map(|a| POLICY.ceiling_ms(a)).collect();
        assert!(ceilings.is_sorted());
        assert_eq!(ceilings[0], 200);
        assert_eq!(ceilings[38], 30_000);
    }

    #[test]
    fn a_doubted_address_is_tried_again_and_named_at_the_end() {
        let next = |attempt| POLICY.decide(AttemptClass::Doubted, attempt, Timestamp(0), FAR, 0.5);
        assert_eq!(next(1), Next::RetryAt(Timestamp(100)));
        assert_eq!(
            next(8),
            Next::Settle(Settled {
                outcome: Outcome::Dead,
                reason: Reason::AddressDoubtful
            })
        );
    }

    #[test]
    fn an_unseen_answer_never_becomes_dead() {
        let next = POLICY.decide(AttemptClass::Unknown, 8, Timestamp(0), FAR, 0.0);
        assert_eq!(
            next,
            Next::Settle(Settled {
                outcome: Outcome::Unknown,
                reason: Reason::NoAnswer
            })
        );
    }
}
