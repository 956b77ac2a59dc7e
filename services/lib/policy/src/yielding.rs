//! How much of its places bulk may use while transactional deliveries start late.
//!
//! A reserve of places keeps a campaign from taking the last one, but not from taking the processor, the
//! network and Kafka, which all classes share. So bulk yields to what it makes late, whatever the reason.
//! Every [`PERIOD_MS`]:
//!
//! * more than one transactional delivery in [`LATE_ONE_IN`] started late: bulk falls to its [`FLOOR`] at
//!   once, and stays there until none has been late for [`CALM_MS`];
//! * else it grows: quickly to a quarter of what was too much, from there so that it is back there after a
//!   minute, and beyond by a hundredth each time: whatever the right share is, it is exceeded by little, and
//!   rarely. Of all of its places nothing is known but that they are too many: it grows by hundredths at once;
//! * where nothing transactional starts, there is nobody to yield to.
//!
//! Where they are late at the floor too, for [`PATIENCE_MS`], and do not become less late, bulk is not why: a
//! provider's limit is, or a Kafka that is not well. Then bulk has everything again, for [`PAUSE_MS`] at first,
//! twice as long each time, up to [`LONGEST_PAUSE_MS`].

/// The time between two looks, milliseconds.
pub const PERIOD_MS: i64 = 50;
/// Bulk yields where more than one start in so many is late.
pub const LATE_ONE_IN: f64 = 40.0;
/// The part of its places that bulk always has.
pub const FLOOR: f64 = 1.0 / 32.0;
/// How long nothing may be late before bulk grows again, milliseconds.
pub const CALM_MS: i64 = 500;
/// Where nothing transactional starts for so long, milliseconds, nobody is yielded to.
pub const IDLE_MS: i64 = 1_000;
/// How long starts may be late at the floor before that is given up, milliseconds.
pub const PATIENCE_MS: i64 = 20_000;
/// How long bulk does not yield then, the first time, milliseconds.
pub const PAUSE_MS: i64 = 20_000;
/// The longest of these pauses, milliseconds.
pub const LONGEST_PAUSE_MS: i64 = 640_000;

/// What is left of the starts of former looks at each look that has some: a few of them speak together where
/// there are few starts.
const MEMORY: f64 = 0.8;
/// Fewer late starts than this say nothing.
const LEAST_LATE: f64 = 1.5;
/// Late starts that are further apart than this, milliseconds, are not one time at the floor.
const SEPARATE_MS: i64 = 15_000;
/// A share up to this many times the floor is as good as the floor.
const NEAR: f64 = 1.5;
/// Growth of a look up to what is taken to be safe.
const FAST: f64 = 1.15;
/// Looks from there to what was too much: a minute of them.
const SLOW_LOOKS: f64 = 1_200.0;
/// Where it is too much before it is back there, other things may be why: so little of it is forgotten, and
/// nothing where the time before was [`SEPARATE_MS`] ago.
const NEXT_TIME: f64 = 0.8;
/// Growth of a look where nobody knows what is too much.
const PROBING: f64 = 1.01;
/// Growth of a look where there is nobody to yield to.
const IDLE: f64 = 1.5;
/// The part of what was too much that is taken to be safe.
const SAFE_PART: f64 = 0.25;
/// Waits become less that shrink from one half of the patience to the other by this part, or by so many
/// milliseconds.
const LESS_PART: f64 = 0.1;
const LESS_MS: f64 = 1_000.0;

/// What happened since the last look: first attempts of transactional deliveries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// How many started.
    pub started: u32,
    /// How many of them started late.
    pub late: u32,
    /// How late all of them were together, milliseconds.
    pub waited_ms: u64,
}

/// The share of bulk of one channel in one process.
#[derive(Debug, Clone)]
pub struct Yielding {
    share: f64,
    /// Known to be too much the last time; the floor where nothing is known.
    too_much: f64,
    started: f64,
    late: f64,
    /// When anything transactional started last, and late.
    spoken_at: i64,
    late_at: i64,
    /// Since it fell it grew because nothing transactional started: that says nothing of why they are late.
    idle: bool,
    /// Bulk does not grow before.
    calm_at: i64,
    floored: Option<Floored>,
    /// Bulk does not yield before.
    given_up_until: i64,
    /// How long it will not yield the next time.
    pause: i64,
}

/// Late at the floor: since when, and what was waited for in the first half of the patience and in the second.
#[derive(Debug, Clone, Copy)]
struct Floored {
    since: i64,
    halves: [Waits; 2],
}

#[derive(Debug, Clone, Copy, Default)]
struct Waits {
    started: u64,
    waited_ms: u64,
}

impl Floored {
    fn add(&mut self, now: i64, seen: Seen) {
        let half = usize::from(now - self.since >= PATIENCE_MS / 2);
        self.halves[half].started += u64::from(seen.started);
        self.halves[half].waited_ms += seen.waited_ms;
    }

    /// Whether less is waited for than at first.
    fn helps(&self) -> bool {
        let [before, after] = self.halves.map(Waits::mean_ms);
        before - after >= (before * LESS_PART).min(LESS_MS)
    }
}

impl Waits {
    #[expect(
        clippy::cast_precision_loss,
        reason = "sums of milliseconds are below 2^52"
    )]
    fn mean_ms(self) -> f64 {
        self.waited_ms as f64 / self.started.max(1) as f64
    }
}

impl Yielding {
    /// Nothing was late yet; it is `now`.
    #[must_use]
    pub const fn new(now: i64) -> Self {
        Self {
            share: 1.0,
            too_much: FLOOR,
            started: 0.0,
            late: 0.0,
            spoken_at: now,
            late_at: now,
            idle: false,
            calm_at: now,
            floored: None,
            given_up_until: now,
            pause: PAUSE_MS,
        }
    }

    /// The part of its places that bulk may use, from [`FLOOR`] to 1.
    #[must_use]
    pub const fn share(&self) -> f64 {
        self.share
    }

    /// Whether bulk does not yield now, because it did not help.
    #[must_use]
    pub const fn has_given_up(&self, now: i64) -> bool {
        now < self.given_up_until
    }

    /// Looks at what happened; the share from now on.
    pub fn look(&mut self, now: i64, seen: Seen) -> f64 {
        if seen.started > 0 {
            self.spoken_at = now;
            self.started = self.started * MEMORY + f64::from(seen.started);
            self.late = self.late * MEMORY + f64::from(seen.late);
        }
        if let Some(floored) = &mut self.floored {
            floored.add(now, seen);
        }
        let is_late =
            seen.started > 0 && self.late >= LEAST_LATE && self.late * LATE_ONE_IN > self.started;
        let late_lately = now - self.late_at < SEPARATE_MS;
        if is_late {
            self.late_at = now;
        }
        if self.has_given_up(now) {
            return self.share;
        }
        if is_late {
            self.fall(now, late_lately);
        } else if now - self.spoken_at >= IDLE_MS {
            if !late_lately {
                self.floored = None;
            }
            self.too_much = FLOOR;
            self.idle = true;
            self.share = (self.share * IDLE).min(1.0);
        } else if now >= self.calm_at {
            let calm = now - self.late_at >= PATIENCE_MS;
            if calm {
                self.pause = PAUSE_MS;
            }
            if !late_lately || (self.share > FLOOR * NEAR && !self.idle) {
                self.floored = None;
            }
            self.grow();
        }
        self.share
    }

    fn grow(&mut self) {
        let safe = self.too_much * SAFE_PART;
        let grown = if self.share < safe {
            (self.share * FAST).min(safe)
        } else if self.share < self.too_much {
            self.share + (self.too_much - safe) / SLOW_LOOKS
        } else {
            self.share * PROBING
        };
        self.share = grown.min(1.0);
    }

    fn fall(&mut self, now: i64, late_lately: bool) {
        self.calm_at = now + CALM_MS;
        if self.share > FLOOR * NEAR && !self.idle {
            // Perhaps because of that share: whether less of it helps is to be seen.
            self.floored = None;
        }
        if self.share > FLOOR {
            self.too_much = if self.share < 1.0 {
                let kept = if late_lately { NEXT_TIME } else { 1.0 };
                self.share.max(self.too_much * kept)
            } else {
                FLOOR
            };
            self.share = FLOOR;
            self.idle = false;
            // Each start speaks for one fall only.
            (self.started, self.late) = (0.0, 0.0);
        }
        let floored = *self.floored.get_or_insert(Floored {
            since: now,
            halves: [Waits::default(); 2],
        });
        if now - floored.since < PATIENCE_MS {
            return;
        }
        self.floored = None;
        if !floored.helps() {
            self.share = 1.0;
            self.given_up_until = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE_MS);
        }
    }
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "tests print the figures they judge")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ON_TIME: Seen = Seen {
        started: 100,
        late: 0,
        waited_ms: 1_000,
    };

    fn late(part: f64, wait_ms: u64) -> Seen {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a test"
        )]
        let late = (100.0 * part) as u32;
        Seen {
            started: 100,
            late,
            waited_ms: 100 * wait_ms,
        }
    }

    /// So many looks from `from` on, each with what `seen` says of the share then; the shares.
    fn watch(bulk: &mut Yielding, from: i64, looks: i64, seen: impl Fn(f64) -> Seen) -> Vec<f64> {
        (1..=looks)
            .map(|n| bulk.look(from + n * PERIOD_MS, seen(bulk.share())))
            .collect()
    }

    #[test]
    fn what_starts_on_time_is_not_yielded_to_and_few_late_ones_are_nothing() {
        let mut bulk = Yielding::new(0);
        let shares = watch(&mut bulk, 0, 1_000, |_| late(0.02, 30));
        assert!(shares.iter().all(|share| *share >= 1.0), "{shares:?}");
        // One of a failing address among very few.
        let one = Seen {
            started: 1,
            late: 1,
            waited_ms: 5_000,
        };
        assert!(bulk.look(51_000, one) >= 1.0);
    }

    #[test]
    fn bulk_falls_at_once_and_settles_below_what_makes_others_late() {
        let mut bulk = Yielding::new(0);
        let seen = |share: f64| if share > 0.3 { late(0.5, 90) } else { ON_TIME };
        let first = watch(&mut bulk, 0, 1, seen);
        assert!(first[0] <= FLOOR, "{first:?}");
        // A minute of it.
        let shares = watch(&mut bulk, PERIOD_MS, 1_200, seen);
        let too_much = shares.iter().filter(|share| **share > 0.3).count();
        #[expect(clippy::cast_precision_loss, reason = "a test")]
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        println!("too much at {too_much} of 1200 looks, {mean:.2} on the mean");
        assert!(too_much <= 2, "{too_much}");
        assert!(mean > 0.1, "{mean}");
    }

    #[test]
    fn nobody_is_yielded_to_who_is_not_there() {
        let mut bulk = Yielding::new(0);
        watch(&mut bulk, 0, 10, |_| late(1.0, 500));
        assert!(bulk.share() <= FLOOR);
        let shares = watch(&mut bulk, 500, 60, |_| Seen::default());
        assert!(shares[8] <= FLOOR, "not yet: {shares:?}");
        assert!(shares[40] >= 1.0, "{shares:?}");
    }

    #[test]
    fn yielding_that_does_not_help_is_given_up_ever_longer() {
        let mut bulk = Yielding::new(0);
        // An hour behind a provider's limit.
        let shares = watch(&mut bulk, 0, 72_000, |_| late(1.0, 3_000));
        let yielded = shares.iter().filter(|share| **share < 1.0).count();
        println!("yielded at {yielded} of 72000 looks");
        assert!(shares[..400].iter().all(|share| *share <= FLOOR));
        assert!(shares[402..800].iter().all(|share| *share >= 1.0));
        assert!(yielded < 72_000 / 15, "{yielded}");
        // Once it helps, the next time is the first again.
        let on_time = watch(&mut bulk, 72_000 * PERIOD_MS, 20_000, |_| ON_TIME);
        assert!(on_time.last().is_some_and(|share| *share >= 1.0));
        assert_eq!(bulk.pause, PAUSE_MS);
    }

    #[test]
    fn hiccups_that_bulk_does_not_cause_are_given_up_too() {
        let mut bulk = Yielding::new(0);
        // A tenth of a second every second and a half, whatever bulk does.
        let mut full = 0;
        for n in 1..=24_000 {
            let seen = if n % 30 < 2 { late(0.5, 80) } else { ON_TIME };
            full += i64::from(bulk.look(n * PERIOD_MS, seen) >= 1.0);
        }
        println!("all of its places at {full} of 24000 looks");
        assert!(full > 16_000, "{full}");
    }

    #[test]
    fn rare_hiccups_that_bulk_does_not_cause_are_given_up_for_a_while() {
        let mut bulk = Yielding::new(0);
        // A tenth of a second every ten seconds, for an hour.
        let mut shares = 0.0;
        for n in 1..=72_000 {
            let seen = if n % 200 < 2 { late(0.5, 80) } else { ON_TIME };
            shares += bulk.look(n * PERIOD_MS, seen);
        }
        println!("{:.3} of its places on the mean", shares / 72_000.0);
        assert!(shares / 72_000.0 > 0.5, "{}", shares / 72_000.0);
    }

    #[test]
    fn hiccups_that_are_rarer_still_leave_bulk_what_it_had() {
        for seconds in [16, 30, 55] {
            let mut bulk = Yielding::new(0);
            // It was too much once, at some three tenths.
            let seen = |share: f64| if share > 0.3 { late(0.5, 90) } else { ON_TIME };
            watch(&mut bulk, 0, 1_200, seen);
            let known = bulk.too_much;
            let (mut shares, from) = (0.0, 1_200 * PERIOD_MS);
            for n in 1..=72_000 {
                let hiccups = n % (seconds * 20) < 2;
                let seen = if hiccups { late(0.5, 80) } else { ON_TIME };
                shares += bulk.look(from + n * PERIOD_MS, seen);
            }
            let mean = shares / 72_000.0;
            println!("every {seconds} s: {mean:.3} of its places on the mean");
            assert!(bulk.too_much >= known * 0.99, "{} {known}", bulk.too_much);
            assert!(mean > known * 0.25, "{mean} {known}");
        }
    }

    #[test]
    fn sparse_starts_that_are_late_whatever_bulk_does_are_given_up() {
        let mut bulk = Yielding::new(0);
        let one = Seen {
            started: 1,
            late: 1,
            waited_ms: 500,
        };
        // One in 1.05 s, for an hour.
        let mut full = 0;
        for n in 1..=72_000 {
            let seen = if n % 21 == 0 { one } else { Seen::default() };
            full += i64::from(bulk.look(n * PERIOD_MS, seen) >= 1.0);
        }
        println!("all of its places at {full} of 72000 looks");
        assert!(full > 60_000, "{full}");
    }

    #[test]
    fn two_late_starts_a_second_are_enough() {
        let mut bulk = Yielding::new(0);
        let one = Seen {
            started: 1,
            late: 1,
            waited_ms: 500,
        };
        for n in 1..=40 {
            let seen = if n % 10 == 0 { one } else { Seen::default() };
            bulk.look(n * PERIOD_MS, seen);
        }
        assert!(bulk.share() <= FLOOR, "{}", bulk.share());
    }

    #[test]
    fn a_backlog_that_is_caught_up_with_has_the_way_free() {
        let mut bulk = Yielding::new(0);
        let mut wait_ms = 600_000_u64;
        for n in 1..=2_000 {
            wait_ms = wait_ms.saturating_sub(250);
            let share = bulk.look(n * PERIOD_MS, late(1.0, wait_ms));
            assert!(share <= FLOOR || wait_ms < 60, "{share} at {wait_ms}");
        }
    }

    proptest! {
        #[test]
        fn the_share_stays_between_the_floor_and_all(
            looks in prop::collection::vec((0_u32..200, 0_u32..200, 0_u64..100_000, 1_i64..5_000), 1..400),
        ) {
            let mut bulk = Yielding::new(0);
            let mut now = 0;
            for (started, late, waited_ms, passed) in looks {
                now += passed;
                let seen = Seen { started, late: late.min(started), waited_ms };
                let share = bulk.look(now, seen);
                prop_assert!((FLOOR..=1.0).contains(&share), "{share}");
            }
        }
    }
}
