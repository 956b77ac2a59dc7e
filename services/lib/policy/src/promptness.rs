//! How many attempts may be open while Kafka takes their receipts promptly.
//!
//! After a crash, what was answered and not receipted yet is sent again: the rate times the time a receipt
//! takes. Where Kafka becomes slow because the load is more than it carries, more attempts in flight bring
//! nothing but a longer wait for every receipt. So the limit follows that wait. Every [`PERIOD_MS`]:
//!
//! * receipts waited longer than the target, on the mean: less than was open, by up to a quarter, down to
//!   the floor, an eighth of the ceiling;
//! * else, and only when at least half of the limit was used: a tenth more.
//!
//! Where receipts are late at the floor too, for [`PATIENCE_MS`], the load is not why: Kafka is far away, or
//! not well. Fewer attempts would cost rate for nothing, so nothing is held back for a while: [`PAUSE_MS`] at
//! first, twice as long each time, up to [`LONGEST_PAUSE_MS`].
//!
//! It starts at the floor, for whoever starts has something to catch up on; the way up takes two seconds.

/// The time between two looks, in milliseconds.
pub const PERIOD_MS: i64 = 100;
/// How long receipts may be late at the floor before that is given up.
pub const PATIENCE_MS: i64 = 2_000;
/// How long nothing is held back then, the first time.
pub const PAUSE_MS: i64 = 10_000;
/// The longest of these pauses.
pub const LONGEST_PAUSE_MS: i64 = 320_000;

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
    /// When Kafka took a receipt last, or owed none.
    taken_at: i64,
    /// Since when receipts are late at the floor.
    late_since: Option<i64>,
    /// Nothing is held back before.
    paused_until: i64,
    /// How long the next pause is.
    pause: i64,
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
            taken_at: now,
            late_since: None,
            paused_until: now,
            pause: PAUSE_MS,
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
        if seen.taken > 0 || seen.sent == 0 {
            self.taken_at = now;
        }
        if now < self.paused_until {
            return self.limit();
        }
        let wait = self.wait(now, seen);
        let open = f64::from(seen.open);
        if wait > self.target_ms {
            self.lower(now, wait, open);
        } else if seen.taken > 0 {
            self.late_since = None;
            if self.limit > floor(self.ceiling) {
                self.pause = PAUSE_MS;
            }
            if open * 2.0 >= self.limit {
                self.limit = (self.limit * 1.1 + 1.0).min(f64::from(self.ceiling));
            }
        }
        self.limit()
    }

    fn lower(&mut self, now: i64, wait: f64, open: f64) {
        // Half of the way: the next look sees what it brought.
        let part = f64::midpoint(1.0, (self.target_ms / wait).max(0.5));
        let used = self.limit.min(open.max(self.limit / 2.0));
        self.limit = (used * part).max(floor(self.ceiling));
        if self.limit > floor(self.ceiling) {
            self.late_since = None;
            return;
        }
        let since = *self.late_since.get_or_insert(now);
        if now - since >= PATIENCE_MS {
            self.late_since = None;
            self.limit = f64::from(self.ceiling);
            self.paused_until = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE_MS);
        }
    }

    /// What receipts waited for, on the mean, milliseconds; 0 when none did.
    fn wait(&self, now: i64, seen: Seen) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "sums and spans of milliseconds are below 2^52"
        )]
        let (waited, silent) = (seen.waited_ms as f64, (now - self.taken_at) as f64);
        if seen.taken == 0 {
            return silent;
        }
        waited / f64::from(seen.taken)
    }
}

/// The limit never falls below this.
fn floor(ceiling: u32) -> f64 {
    (f64::from(ceiling) / 8.0).max(1.0)
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "tests print the figures they judge")]
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
    fn a_kafka_that_is_far_away_is_soon_no_reason() {
        let mut pace = Promptness::new(20.0, 512, 0);
        let limits = saturate(&mut pace, 0, 6_000, |_| 80.0);
        assert!(limits[..20].iter().all(|limit| *limit == 64), "{limits:?}");
        assert!(limits[21..120].iter().all(|limit| *limit == 512));
        // Ten minutes: it was tried again now and then, ever less often.
        let held_back = limits.iter().filter(|limit| **limit < 512).count();
        println!("held back for {held_back} of 6000 looks");
        assert!(held_back < 6 * 40, "{held_back}");
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
    fn after_a_slow_moment_the_way_back_is_a_ramp() {
        let mut pace = Promptness::new(20.0, 512, 0);
        saturate(&mut pace, 0, 30, |_| 10.0);
        let slow = saturate(&mut pace, 3_000, 15, |_| 200.0);
        assert_eq!(slow.last(), Some(&64), "{slow:?}");
        let back = saturate(&mut pace, 4_500, 40, |_| 10.0);
        assert!(back[5] < 200, "{back:?}");
        assert_eq!(back.last(), Some(&512), "{back:?}");
    }

    #[test]
    fn once_it_helps_again_it_is_given_up_no_longer_than_at_first() {
        let mut pace = Promptness::new(20.0, 512, 0);
        saturate(&mut pace, 0, 1_000, |_| 80.0);
        assert!(pace.pause > PAUSE_MS);
        let at = pace.paused_until;
        let prompt = saturate(&mut pace, at, 30, |_| 10.0);
        assert_eq!(prompt.last(), Some(&512));
        assert_eq!(pace.pause, PAUSE_MS);
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
        let limits: Vec<u32> = (31..=45).map(|n| pace.look(n * PERIOD_MS, seen)).collect();
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
