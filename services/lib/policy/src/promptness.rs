//! How many attempts may be open while Kafka takes their receipts promptly.
//!
//! After a crash, what was answered and not receipted yet is sent again: the rate times the time a receipt
//! takes. Where Kafka becomes slow because the load is more than it carries, more attempts in flight bring
//! nothing but a longer wait for every receipt. So the limit follows that wait. Every [`PERIOD_MS`]:
//!
//! * receipts waited longer than the target, on the mean: less than was open, by up to a quarter, down to an
//!   eighth of the ceiling. The target is as configured, but never below twice what receipts took at best in
//!   the last two minutes: where Kafka is far away, fewer attempts do not bring it nearer;
//! * else, and only when at least half of the limit was used: a tenth more.
//!
//! It starts at an eighth of the ceiling, for whoever starts has something to catch up on: there, the first
//! receipts tell what Kafka takes at best, and the way up takes two seconds.

/// The time between two looks, in milliseconds.
pub const PERIOD_MS: i64 = 100;
/// How long the best wait is remembered, at least; twice that at most.
const MEMORY_MS: i64 = 60_000;
/// What receipts may take, as a multiple of their best.
const TOLERANCE: f64 = 2.0;
/// Receipts that a mean needs before it is remembered as the best.
const TELLING: u32 = 8;

/// What happened since the last look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Receipts sent.
    pub sent: u32,
    /// Receipts that Kafka took.
    pub taken: u32,
    /// How long those had waited, in all, milliseconds.
    pub waited_ms: u64,
    /// Attempts open.
    pub open: u32,
}

/// The limit of one channel in one process.
#[derive(Debug, Clone)]
pub struct Promptness {
    target_ms: f64,
    ceiling: u32,
    limit: f64,
    /// The best mean of this minute and of the one before.
    best: [f64; 2],
    turns_at: i64,
    /// When Kafka took a receipt last, or owed none.
    taken_at: i64,
}

impl Promptness {
    /// At its start, which is `now`.
    #[must_use]
    pub fn new(target_ms: f64, ceiling: u32, now: i64) -> Self {
        let ceiling = ceiling.max(1);
        Self {
            target_ms,
            ceiling,
            limit: floor(ceiling),
            best: [f64::INFINITY; 2],
            turns_at: now + MEMORY_MS,
            taken_at: now,
        }
    }

    /// The limit now.
    #[must_use]
    pub fn limit(&self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the ceiling"
        )]
        let limit = self.limit as u32;
        limit.clamp(1, self.ceiling)
    }

    /// Looks at what happened; the limit from now on.
    pub fn look(&mut self, now: i64, seen: Seen) -> u32 {
        if now >= self.turns_at {
            self.best = [f64::INFINITY, self.best[0]];
            self.turns_at = now + MEMORY_MS;
        }
        if seen.taken > 0 || seen.sent == 0 {
            self.taken_at = now;
        }
        let wait = self.wait(now, seen);
        let open = f64::from(seen.open);
        let target = self.target();
        if wait > target {
            // Half of the way: the next look sees what it brought.
            let part = f64::midpoint(1.0, (target / wait).max(0.5));
            let used = self.limit.min(open.max(self.limit / 2.0));
            self.limit = (used * part).max(floor(self.ceiling));
        } else if open * 2.0 >= self.limit {
            self.limit = (self.limit * 1.1 + 1.0).min(f64::from(self.ceiling));
        }
        self.limit()
    }

    /// What receipts waited for, on the mean; 0 when none did.
    fn wait(&mut self, now: i64, seen: Seen) -> f64 {
        if seen.taken == 0 {
            #[expect(clippy::cast_precision_loss, reason = "a span of milliseconds")]
            let silent = (now - self.taken_at) as f64;
            return silent;
        }
        #[expect(clippy::cast_precision_loss, reason = "a sum of waits is below 2^52")]
        let mean = seen.waited_ms as f64 / f64::from(seen.taken);
        if seen.taken >= TELLING {
            self.best[0] = self.best[0].min(mean);
        }
        mean
    }

    fn target(&self) -> f64 {
        let best = self.best[0].min(self.best[1]);
        if best.is_finite() {
            self.target_ms.max(best * TOLERANCE)
        } else {
            self.target_ms
        }
    }
}

/// The limit never falls below this.
fn floor(ceiling: u32) -> f64 {
    (f64::from(ceiling) / 8.0).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: u32 = 60;

    /// Saturating demand for so many looks: receipts take `wait(open)` milliseconds. The limits.
    fn saturate(
        pace: &mut Promptness,
        from: i64,
        looks: i64,
        wait: impl Fn(u32) -> f64,
    ) -> Vec<u32> {
        let mut limits = Vec::new();
        for n in 1..=looks {
            let open = pace.limit();
            let taken = open * u32::try_from(PERIOD_MS).unwrap() / RTT;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a test"
            )]
            let waited_ms = (f64::from(taken) * wait(open)) as u64;
            let seen = Seen {
                sent: taken,
                taken,
                waited_ms,
                open,
            };
            limits.push(pace.look(from + n * PERIOD_MS, seen));
        }
        limits
    }

    #[test]
    fn prompt_receipts_never_lower_the_limit() {
        let mut pace = Promptness::new(20.0, 512, 0);
        assert_eq!(pace.limit(), 64);
        let limits = saturate(&mut pace, 0, 100, |_| 15.0);
        assert!(limits.is_sorted(), "{limits:?}");
        assert_eq!(limits[25], 512, "{limits:?}");
    }

    #[test]
    fn a_kafka_that_is_far_away_is_no_reason() {
        let mut pace = Promptness::new(20.0, 512, 0);
        let limits = saturate(&mut pace, 0, 100, |_| 80.0);
        assert_eq!(limits[25], 512, "{limits:?}");
        assert!(limits.is_sorted(), "{limits:?}");
    }

    #[test]
    fn load_that_makes_receipts_late_is_lowered_to_where_they_are_not() {
        let mut pace = Promptness::new(20.0, 512, 0);
        // From 300 on every further attempt in flight makes receipts 0.2 ms later.
        let knee = |open: u32| 10.0 + f64::from(open.saturating_sub(300)) * 0.2;
        let limits = saturate(&mut pace, 0, 100, knee);
        let settled = &limits[30..];
        assert!(
            settled.iter().all(|limit| (280..=400).contains(limit)),
            "{settled:?}"
        );
    }

    #[test]
    fn after_a_slow_time_the_way_back_is_a_ramp() {
        let mut pace = Promptness::new(20.0, 512, 0);
        saturate(&mut pace, 0, 30, |_| 10.0);
        let slow = saturate(&mut pace, 3_000, 30, |_| 200.0);
        assert_eq!(slow.last(), Some(&64), "{slow:?}");
        let back = saturate(&mut pace, 6_000, 40, |_| 10.0);
        assert!(back[5] < 200, "{back:?}");
        assert_eq!(back.last(), Some(&512), "{back:?}");
    }

    #[test]
    fn what_has_become_slow_for_good_is_taken_for_what_it_is() {
        let mut pace = Promptness::new(20.0, 512, 0);
        saturate(&mut pace, 0, 10, |_| 10.0);
        let looks = 2 * MEMORY_MS / PERIOD_MS;
        let slow = saturate(&mut pace, 1_000, looks + 60, |_| 80.0);
        assert_eq!(slow[50], 64);
        assert_eq!(slow.last(), Some(&512));
    }

    #[test]
    fn silence_while_receipts_are_sent_is_a_long_wait() {
        let mut pace = Promptness::new(20.0, 512, 0);
        saturate(&mut pace, 0, 30, |_| 10.0);
        let seen = Seen {
            sent: 100,
            open: 500,
            ..Seen::default()
        };
        let limits: Vec<u32> = (31..=50).map(|n| pace.look(n * PERIOD_MS, seen)).collect();
        assert_eq!(limits.last(), Some(&64), "{limits:?}");
        let idle = Seen::default();
        let mut unused = Promptness::new(20.0, 512, 0);
        saturate(&mut unused, 0, 30, |_| 10.0);
        assert_eq!(unused.look(60_000, idle), 512, "nobody waits");
    }

    #[test]
    fn a_ceiling_of_one_stays_open() {
        let mut pace = Promptness::new(20.0, 1, 0);
        let limits = saturate(&mut pace, 0, 20, |open| 10.0 + f64::from(open) * 100.0);
        assert!(limits.iter().all(|limit| *limit == 1), "{limits:?}");
    }
}
