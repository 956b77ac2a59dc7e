//! Faults on purpose, the same ones for the same seed.

use std::time::Duration;

/// What the local log does wrong.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    /// Seed of the choice.
    pub seed: u64,
    /// Of 1,000 records sent, so many are not acknowledged (half of these are in the log).
    pub unacknowledged_per_mille: u16,
    /// Of 1,000 records sent, so many are answered with a full queue.
    pub queue_full_per_mille: u16,
    /// Of 1,000 transactions, so many are aborted.
    pub aborted_per_mille: u16,
    /// Of 1,000 transactions, so many end without a word (half of these are committed).
    pub lost_per_mille: u16,
    /// After one of those, so many transactional producers are not taken.
    pub refused_after_a_loss: u8,
    /// An acknowledgement takes up to this long.
    pub acknowledge_within: Duration,
    /// Reading a tail takes this long.
    pub tail_takes: Duration,
}

/// What is to happen to one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Good,
    QueueFull,
    /// Not acknowledged; `written` or not.
    Unacknowledged {
        written: bool,
    },
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    plan: FaultPlan,
    state: u64,
    refusals: u8,
}

impl Faults {
    pub(super) fn new(plan: FaultPlan) -> Self {
        Self {
            state: plan.seed,
            plan,
            refusals: 0,
        }
    }

    /// `SplitMix64`.
    fn draw(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below.max(1)
    }

    fn hits(&mut self, per_mille: u16) -> bool {
        per_mille > 0 && self.draw(1_000) < u64::from(per_mille)
    }

    pub(super) fn record(&mut self) -> Fate {
        if self.hits(self.plan.queue_full_per_mille) {
            return Fate::QueueFull;
        }
        if self.hits(self.plan.unacknowledged_per_mille) {
            return Fate::Unacknowledged {
                written: self.draw(2) == 0,
            };
        }
        Fate::Good
    }

    pub(super) const fn tail_takes(&self) -> Duration {
        self.plan.tail_takes
    }

    pub(super) fn aborts(&mut self) -> bool {
        self.hits(self.plan.aborted_per_mille)
    }

    /// Whether a transaction ends without a word, and whether it is committed all the same.
    pub(super) fn loses(&mut self) -> Option<bool> {
        if !self.hits(self.plan.lost_per_mille) {
            return None;
        }
        self.refusals = self.plan.refused_after_a_loss;
        Some(self.draw(2) == 0)
    }

    /// Whether a transactional producer is not taken.
    pub(super) const fn refuses(&mut self) -> bool {
        let refuses = self.refusals > 0;
        self.refusals = self.refusals.saturating_sub(1);
        refuses
    }

    pub(super) fn delay(&mut self) -> Duration {
        let micros = u64::try_from(self.plan.acknowledge_within.as_micros()).unwrap_or(u64::MAX);
        if micros == 0 {
            return Duration::ZERO;
        }
        Duration::from_micros(self.draw(micros + 1))
    }
}
