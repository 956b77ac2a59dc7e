//! The retry budget: retries in vain are at most a fifth of the requests, plus ten a second.
//!
//! When a provider fails everything, retries alone would multiply its load. Beyond the budget a
//! retry is postponed, never dropped; one that the provider took is given back, so that what a single
//! hang left behind is gone in seconds. Counted over the last ten seconds.

/// How long a request allows retries, in seconds.
const SLOTS: i64 = 10;
const SLOT_COUNT: usize = 10;
/// Retries allowed per second whatever the load, so that a quiet account can retry at all.
const FLOOR_PER_SECOND: u64 = 10;
/// One retry per this many requests.
const REQUESTS_PER_RETRY: u64 = 5;

/// Requests and retries of one second.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    second: i64,
    requests: u64,
    retries: u64,
}

/// The retry budget of one account.
#[derive(Debug, Clone, Default)]
pub struct RetryBudget {
    slots: [Slot; SLOT_COUNT],
}

impl RetryBudget {
    /// Whether a retry must wait: `None` when it may go, else the moment to ask again.
    #[must_use]
    pub fn wait(&self, now: i64) -> Option<i64> {
        let second = now.div_euclid(1_000);
        let (mut requests, mut retries) = (0, 0);
        for slot in self.slots.iter().filter(|s| s.second > second - SLOTS) {
            requests += slot.requests;
            retries += slot.retries;
        }
        let allowed = requests / REQUESTS_PER_RETRY + FLOOR_PER_SECOND * SLOTS.unsigned_abs();
        (retries >= allowed).then_some((second + 1) * 1_000)
    }

    /// Counts what starts now.
    pub fn count(&mut self, now: i64, retry: bool) {
        let slot = self.slot(now);
        if retry {
            slot.retries += 1;
        } else {
            slot.requests += 1;
        }
    }

    /// Takes back what was counted at `then`: it was never sent, or it was no retry in vain.
    pub fn uncount(&mut self, then: i64, retry: bool) {
        let second = then.div_euclid(1_000);
        let slot = self.slot(then);
        if slot.second != second {
            return;
        }
        let count = if retry {
            &mut slot.retries
        } else {
            &mut slot.requests
        };
        *count = count.saturating_sub(1);
    }

    fn slot(&mut self, now: i64) -> &mut Slot {
        let second = now.div_euclid(1_000);
        let index = usize::try_from(second.rem_euclid(SLOTS)).unwrap_or(0);
        let slot = &mut self.slots[index];
        if slot.second < second {
            *slot = Slot {
                second,
                ..Slot::default()
            };
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn retries_stay_within_a_fifth_and_ten_a_second(
            steps in prop::collection::vec((0_i64..40, any::<bool>()), 1..3_000),
        ) {
            let (mut budget, mut now, mut sent) = (RetryBudget::default(), 50_000, Vec::new());
            for (step, retry) in steps {
                now += step;
                if retry {
                    if budget.wait(now).is_some() {
                        continue;
                    }
                    let recent = |retry: bool| sent.iter()
                        .filter(|(at, r)| *r == retry && *at / 1_000 > now / 1_000 - 10).count();
                    prop_assert!(recent(true) < recent(false) / 5 + 100);
                }
                budget.count(now, retry);
                sent.push((now, retry));
            }
        }
    }

    #[test]
    fn a_postponed_retry_may_go_once_the_oldest_second_is_forgotten() {
        let mut budget = RetryBudget::default();
        for _ in 0..100 {
            assert_eq!(budget.wait(20_000), None);
            budget.count(20_000, true);
        }
        assert_eq!(budget.wait(20_500), Some(21_000));
        assert_eq!(budget.wait(29_999), Some(30_000));
        assert_eq!(budget.wait(30_000), None);
    }

    #[test]
    fn five_requests_allow_one_retry_more() {
        let mut budget = RetryBudget::default();
        for _ in 0..100 {
            budget.count(0, true);
        }
        assert!(budget.wait(0).is_some());
        for _ in 0..5 {
            budget.count(0, false);
        }
        assert_eq!(budget.wait(0), None);
        budget.count(0, true);
        assert!(budget.wait(0).is_some());
        budget.uncount(0, true);
        assert_eq!(budget.wait(0), None);
    }
}
