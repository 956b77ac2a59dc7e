//! How many attempts of one account may be open at once: a limit that follows the provider.
//!
//! It starts at [`FIRST`] and grows by one with every answer, so it doubles every round trip, up to its
//! ceiling (`dispatch.max_in_flight`): a worker that knows nothing of its provider yet must not fill
//! a whole window with requests before the first answer. From the ceiling on, or from the first
//! failure, it follows the provider; it stays at the ceiling while the provider is healthy: a round
//! trip that is long but constant is no reason to slow down. Every
//! [`PERIOD_MS`] (or round trip, whichever is longer) it looks at what came back:
//!
//! * failures (unavailable, unknown, not processed) above a tenth: a third less, down to [`FLOOR`];
//! * latency above [`TOLERANCE`] times its long-term mean: less by the gradient of the two, down to
//!   an eighth of the ceiling, for latency alone is no proof of overload;
//! * else, and only when at least half of the limit was used: a tenth more. After an outage it so
//!   climbs from the floor to 512 within five seconds instead of at once.

/// The limit never falls below this.
pub const FLOOR: u32 = 4;
/// Where it starts.
pub const FIRST: u32 = 32;
/// Latency may grow to this multiple of its long-term mean.
pub const TOLERANCE: f64 = 2.0;
/// The shortest time between two looks, in milliseconds.
pub const PERIOD_MS: i64 = 100;
/// A look needs this many answers, else it waits for more.
const ANSWERS: u32 = 8;
/// Looks over which the long-term latency is taken.
const LONG: f64 = 200.0;

/// What an answer says about the provider's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// It answered; its latency counts.
    Answered,
    /// It failed, or did not answer.
    Failed,
}

/// The limit of one account.
#[derive(Debug, Clone)]
pub struct Concurrency {
    ceiling: u32,
    limit: f64,
    /// Nothing has failed yet, and the ceiling was not reached yet.
    starting: bool,
    in_flight: u32,
    bulk: u32,
    /// The most in flight since the last look.
    used: u32,
    since: i64,
    answered: u32,
    failed: u32,
    latency_sum: i64,
    /// Mean latencies in milliseconds: of the last look, and in the long term. Zero is unknown.
    short: f64,
    long: f64,
}

impl Concurrency {
    /// A limit at its start; a ceiling below [`FLOOR`] is its own floor.
    #[must_use]
    pub fn new(ceiling: u32) -> Self {
        let ceiling = ceiling.max(1);
        Self {
            ceiling,
            limit: f64::from(ceiling.min(FIRST)),
            starting: ceiling > FIRST,
            in_flight: 0,
            bulk: 0,
            used: 0,
            since: 0,
            answered: 0,
            failed: 0,
            latency_sum: 0,
            short: 0.0,
            long: 0.0,
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

    /// Attempts open now.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Mean latency of late in milliseconds; 0 when no answer was seen yet.
    #[must_use]
    pub const fn latency_ms(&self) -> f64 {
        self.short
    }

    /// Whether one more may be opened. `reserve` is the part of the limit that bulk must leave alone
    /// now, 0 for the transactional class.
    #[must_use]
    pub fn allows(&self, bulk: bool, reserve: f64) -> bool {
        let limit = self.limit();
        if self.in_flight >= limit {
            return false;
        }
        if !bulk || reserve <= 0.0 {
            return true;
        }
        f64::from(self.bulk) < (f64::from(limit) * (1.0 - reserve)).max(1.0)
    }

    /// One more is open.
    pub fn open(&mut self, bulk: bool) {
        self.in_flight += 1;
        self.bulk += u32::from(bulk);
        self.used = self.used.max(self.in_flight);
    }

    /// One was never made.
    pub const fn cancel(&mut self, bulk: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if bulk {
            self.bulk = self.bulk.saturating_sub(1);
        }
    }

    /// One has ended after `latency` milliseconds.
    pub fn close(&mut self, now: i64, bulk: bool, latency: i64, load: Load) {
        self.cancel(bulk);
        match load {
            Load::Answered => {
                self.answered += 1;
                self.latency_sum += latency.max(0);
                if self.starting {
                    self.limit += 1.0;
                    self.starting = self.limit < f64::from(self.ceiling);
                }
            }
            Load::Failed => {
                self.failed += 1;
                self.starting = false;
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a latency in milliseconds")]
        let period = PERIOD_MS.max(self.short as i64);
        if now - self.since >= period && self.answered + self.failed >= ANSWERS.min(self.limit()) {
            self.look(now);
        }
    }

    /// Begins at the floor and climbs: after the circuit was open.
    pub fn restart(&mut self) {
        self.starting = false;
        self.limit = self.floor();
    }

    fn floor(&self) -> f64 {
        f64::from(FLOOR.min(self.ceiling))
    }

    fn look(&mut self, now: i64) {
        let total = self.answered + self.failed;
        let gradient = self.learn_latency();
        let well_used = f64::from(self.used) * 2.0 >= self.limit;
        if self.failed * 10 > total {
            self.limit = (self.limit * 0.67).max(self.floor());
        } else if gradient < 1.0 {
            self.starting = false;
            let least = (f64::from(self.ceiling) / 8.0).max(self.floor());
            let wanted = (self.limit * gradient).max(least);
            // A fifth of the way, and never up on bad news.
            self.limit = self.limit.min(self.limit * 0.8 + wanted * 0.2);
        } else if well_used && !self.starting {
            self.limit = (self.limit * 1.1 + 0.5).min(f64::from(self.ceiling));
        }
        (self.answered, self.failed, self.latency_sum) = (0, 0, 0);
        self.used = self.in_flight;
        self.since = now;
    }

    /// Takes the latencies since the last look in; 1 is healthy, at least 0.5.
    fn learn_latency(&mut self) -> f64 {
        if self.answered == 0 {
            return 1.0;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a sum of latencies is below 2^52"
        )]
        let mean = (self.latency_sum as f64 / f64::from(self.answered)).max(1.0);
        self.short = mean;
        if self.long == 0.0 {
            self.long = mean;
        }
        // Down fast, up slowly: the best of late is what healthy means.
        let pace = if mean < self.long { 10.0 } else { LONG };
        self.long += (mean - self.long) / pace;
        (TOLERANCE * self.long / mean).clamp(0.5, 1.0)
    }
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "tests print the figures they judge")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Saturating demand for a while; the provider answers after `latency(now, in flight)`.
    fn saturate(
        limit: &mut Concurrency,
        span: std::ops::Range<i64>,
        mut latency: impl FnMut(i64, u32) -> (i64, Load),
        mut each: impl FnMut(i64, &Concurrency),
    ) {
        let mut open: std::collections::BinaryHeap<std::cmp::Reverse<(i64, i64, bool)>> =
            std::collections::BinaryHeap::new();
        for now in span {
            while let Some(std::cmp::Reverse((at, sent, ok))) = open.peek().copied() {
                if at > now {
                    break;
                }
                open.pop();
                let load = if ok { Load::Answered } else { Load::Failed };
                limit.close(now, true, now - sent, load);
            }
            while limit.allows(true, 0.0) {
                limit.open(true);
                let (after, load) = latency(now, limit.in_flight());
                open.push(std::cmp::Reverse((
                    now + after,
                    now,
                    load == Load::Answered,
                )));
            }
            each(now, limit);
        }
        for _ in 0..open.len() {
            limit.cancel(true);
        }
        assert_eq!(limit.in_flight(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn a_healthy_provider_is_never_throttled(
            ceiling in 4_u32..200, rtt in prop::sample::select(vec![1_i64, 60, 300]), jitter in 0_i64..40,
        ) {
            let mut limit = Concurrency::new(ceiling);
            let (mut n, mut last) = (0, 0);
            saturate(&mut limit, 0..10_000, |_, _| {
                n += 1;
                (rtt + (n * 7919) % (1 + jitter * rtt / 100), Load::Answered)
            }, |now, limit| {
                assert!(limit.limit() >= last, "it fell to {}", limit.limit());
                last = limit.limit();
                // 32, 64, 128, 200: three round trips, each with its jitter.
                assert!(now <= 3 * (rtt + rtt * jitter / 100) + 3 || last == ceiling, "{last} after {now} ms");
            });
        }

        #[test]
        fn the_limit_stays_between_floor_and_ceiling(
            ceiling in 1_u32..600,
            answers in prop::collection::vec((0_i64..200, 1_i64..20_000, any::<bool>()), 1..800),
        ) {
            let mut limit = Concurrency::new(ceiling);
            let mut now = 0;
            for (step, latency, ok) in answers {
                now += step;
                if limit.allows(false, 0.0) {
                    limit.open(false);
                    limit.close(now, false, latency, if ok { Load::Answered } else { Load::Failed });
                }
                prop_assert!(limit.limit() >= FLOOR.min(ceiling) && limit.limit() <= ceiling);
            }
            prop_assert_eq!(limit.in_flight(), 0);
        }
    }

    #[test]
    fn the_first_requests_are_few_and_double_every_round_trip() {
        let mut limit = Concurrency::new(512);
        let mut limits = Vec::new();
        saturate(
            &mut limit,
            0..400,
            |_, _| (60, Load::Answered),
            |now, limit| {
                if now % 60 == 0 {
                    limits.push(limit.limit());
                }
            },
        );
        assert_eq!(limits[..5], [32, 64, 128, 256, 512]);
        let mut refused = Concurrency::new(512);
        refused.open(false);
        refused.close(60, false, 60, Load::Failed);
        refused.open(false);
        refused.close(120, false, 60, Load::Answered);
        assert_eq!(refused.limit(), FIRST, "a failure ends the start");
    }

    #[test]
    fn an_outage_leaves_the_floor_and_the_way_back_is_a_ramp() {
        let mut limit = Concurrency::new(512);
        saturate(&mut limit, 0..5_000, |_, _| (60, Load::Answered), |_, _| {});
        saturate(
            &mut limit,
            5_000..8_000,
            |_, _| (60, Load::Failed),
            |_, _| {},
        );
        assert_eq!(limit.limit(), FLOOR);
        let (mut back, mut after_one) = (None, 0);
        saturate(
            &mut limit,
            8_000..20_000,
            |_, _| (60, Load::Answered),
            |now, limit| {
                if now == 9_000 {
                    after_one = limit.limit();
                }
                if back.is_none() && limit.limit() == 512 {
                    back = Some(now - 8_000);
                }
            },
        );
        println!("after an outage: {after_one} after 1 s, the ceiling after {back:?} ms");
        assert!(after_one < 40, "{after_one}");
        assert!(
            back.is_some_and(|ms| (3_000..8_000).contains(&ms)),
            "{back:?}"
        );
    }

    #[test]
    fn a_provider_that_queues_is_asked_for_less() {
        let mut limit = Concurrency::new(400);
        // 1,000/s at most: beyond 60 in flight, more only means longer.
        saturate(&mut limit, 0..2_000, |_, _| (60, Load::Answered), |_, _| {});
        saturate(
            &mut limit,
            2_000..10_000,
            |_, open| (60.max(i64::from(open)), Load::Answered),
            |_, _| {},
        );
        println!("queueing provider, knee at 60: limit {}", limit.limit());
        assert!((40..=250).contains(&limit.limit()), "{}", limit.limit());
    }

    #[test]
    fn an_unused_limit_does_not_grow() {
        let mut limit = Concurrency::new(100);
        limit.restart();
        let was = limit.limit();
        for i in 0..1_000 {
            limit.open(false);
            limit.close(i * 100, false, 60, Load::Answered);
        }
        assert_eq!(
            limit.limit(),
            was,
            "one at a time is less than half of {was}"
        );
    }

    #[test]
    fn bulk_leaves_a_part_to_the_other_class() {
        let mut limit = Concurrency::new(10);
        while limit.allows(true, 0.2) {
            limit.open(true);
        }
        assert_eq!(limit.in_flight(), 8);
        assert!(limit.allows(false, 0.0) && limit.allows(true, 0.0));
    }
}
