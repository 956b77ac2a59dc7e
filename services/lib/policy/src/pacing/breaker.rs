//! The circuit breaker of one account: nobody of a broken account starts, and no attempt is burnt.
//!
//! Closed, it counts answers. It opens at once on an account fault, or when more than half of at
//! least [`CALLS`] answers within ten seconds were failures. Open, it waits; each opening without a
//! closing between waits twice as long, up to a cap, with up to a fifth of jitter on top, so that
//! workers do not come back together. Then it lets single calls through, one, then two at a time up
//! to [`PROBES`], and closes after [`PROVEN`] successes; whoever asks ramps up from there
//! ([`Concurrency::restart`](super::concurrency::Concurrency::restart)).

/// Answers needed before a share of failures means anything.
pub const CALLS: u32 = 20;
/// The most calls open at once while half-open.
pub const PROBES: u32 = 5;
/// Successes that close it.
pub const PROVEN: u32 = 5;
/// Half of the time over which answers are counted, in milliseconds.
const HALF_MS: i64 = 5_000;
/// The first open time after failures, and after an account fault (somebody must mend a credential).
const FIRST_MS: i64 = 1_000;
const FIRST_FAULT_MS: i64 = 5_000;
/// The longest open times.
const CAP_MS: i64 = 30_000;
const CAP_FAULT_MS: i64 = 300_000;

/// What an answer says about the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It answered, with a yes or a no: it works.
    Works,
    /// Unavailable or unknown.
    Fails,
    /// Credential or account refused.
    Faulty,
    /// Says nothing (throttled, not processed).
    Silent,
}

/// What an answer did to the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// Nothing.
    Unchanged,
    /// It opened (again).
    Opened {
        /// Until then nobody starts.
        until: i64,
    },
    /// It closed: start gently.
    Closed,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open { until: i64 },
    HalfOpen { out: u32, worked: u32 },
}

/// One account's circuit.
#[derive(Debug, Clone)]
pub struct Breaker {
    state: State,
    /// Failures and answers of this half and of the one before.
    halves: [(u32, u32); 2],
    half_began: i64,
    /// Openings since the last closing.
    openings: u32,
    /// Changes whenever the state does, so that late answers of another state are told apart.
    era: u32,
    seed: u64,
}

impl Breaker {
    /// A closed circuit; `seed` is for the jitter.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            state: State::Closed,
            halves: [(0, 0); 2],
            half_began: 0,
            openings: 0,
            era: 0,
            seed,
        }
    }

    /// Whether it is closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Asks without starting: `None` when a call may start, else when to ask again. `answer_in` is
    /// how long a probe's answer may take.
    #[must_use]
    pub fn wait(&self, now: i64, answer_in: i64) -> Option<i64> {
        match self.state {
            State::Closed => None,
            State::Open { until } => (now < until).then_some(until),
            State::HalfOpen { out, worked } => {
                (out > worked.min(PROBES - 1)).then_some(now + answer_in.max(1))
            }
        }
    }

    /// A call starts that [`Breaker::wait`] has just allowed; the number goes back with its answer.
    pub fn start(&mut self) -> u32 {
        match &mut self.state {
            State::Closed => {}
            State::Open { .. } => {
                self.era += 1;
                self.state = State::HalfOpen { out: 1, worked: 0 };
            }
            State::HalfOpen { out, .. } => *out += 1,
        }
        self.era
    }

    /// The call of this era was never made.
    pub fn cancel(&mut self, era: u32) {
        if let State::HalfOpen { out, .. } = &mut self.state
            && era == self.era
        {
            *out = out.saturating_sub(1);
        }
    }

    /// An answer to a call of `era`.
    pub fn answer(&mut self, now: i64, era: u32, sign: Sign) -> Turn {
        if era != self.era {
            return Turn::Unchanged;
        }
        match &mut self.state {
            State::Open { .. } => Turn::Unchanged,
            State::Closed => self.count(now, sign),
            State::HalfOpen { out, worked } => {
                *out = out.saturating_sub(1);
                match sign {
                    Sign::Silent => Turn::Unchanged,
                    Sign::Fails => self.open(now, FIRST_MS, CAP_MS),
                    Sign::Faulty => self.open(now, FIRST_FAULT_MS, CAP_FAULT_MS),
                    Sign::Works if *worked + 1 < PROVEN => {
                        *worked += 1;
                        Turn::Unchanged
                    }
                    Sign::Works => {
                        self.state = State::Closed;
                        self.halves = [(0, 0); 2];
                        self.openings = 0;
                        self.era += 1;
                        Turn::Closed
                    }
                }
            }
        }
    }

    fn count(&mut self, now: i64, sign: Sign) -> Turn {
        let age = now - self.half_began;
        if age >= HALF_MS {
            let before = if age < 2 * HALF_MS {
                self.halves[0]
            } else {
                (0, 0)
            };
            self.halves = [(0, 0), before];
            self.half_began = now;
        }
        match sign {
            Sign::Silent => return Turn::Unchanged,
            Sign::Faulty => return self.open(now, FIRST_FAULT_MS, CAP_FAULT_MS),
            Sign::Works => self.halves[0].1 += 1,
            Sign::Fails => {
                self.halves[0].0 += 1;
                self.halves[0].1 += 1;
            }
        }
        let [(new_failures, new), (old_failures, old)] = self.halves;
        let (failures, answers) = (new_failures + old_failures, new + old);
        if answers >= CALLS && failures * 2 > answers {
            return self.open(now, FIRST_MS, CAP_MS);
        }
        Turn::Unchanged
    }

    fn open(&mut self, now: i64, first: i64, cap: i64) -> Turn {
        let base = first
            .saturating_mul(1_i64 << self.openings.min(20))
            .min(cap);
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let jitter = i64::try_from(self.seed >> 33).unwrap_or(0) % (base / 5 + 1);
        let until = now + base + jitter;
        self.openings += 1;
        self.era += 1;
        self.halves = [(0, 0); 2];
        self.state = State::Open { until };
        Turn::Opened { until }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lets one call through and answers it.
    fn call(breaker: &mut Breaker, now: i64, sign: Sign) -> Turn {
        assert_eq!(breaker.wait(now, 60), None);
        let era = breaker.start();
        breaker.answer(now, era, sign)
    }

    fn opened(turn: Turn) -> i64 {
        match turn {
            Turn::Opened { until } => until,
            Turn::Unchanged | Turn::Closed => panic!("{turn:?}"),
        }
    }

    #[test]
    fn an_account_fault_opens_at_once() {
        let mut breaker = Breaker::new(1);
        let until = opened(call(&mut breaker, 0, Sign::Faulty));
        assert!((5_000..=6_000).contains(&until));
        assert_eq!(breaker.wait(until - 1, 60), Some(until));
        assert_eq!(breaker.wait(until, 60), None);
    }

    #[test]
    fn half_of_the_calls_may_fail_and_a_few_calls_say_nothing() {
        let mut breaker = Breaker::new(1);
        for _ in 0..19 {
            assert_eq!(call(&mut breaker, 0, Sign::Fails), Turn::Unchanged);
        }
        opened(call(&mut breaker, 0, Sign::Fails));
        let mut breaker = Breaker::new(1);
        for i in 0..1_000 {
            let sign = if i % 2 == 0 { Sign::Works } else { Sign::Fails };
            assert_eq!(call(&mut breaker, i * 10, sign), Turn::Unchanged);
        }
    }

    #[test]
    fn failures_long_ago_are_forgotten() {
        let mut breaker = Breaker::new(1);
        for _ in 0..15 {
            assert_eq!(call(&mut breaker, 0, Sign::Fails), Turn::Unchanged);
        }
        for _ in 0..15 {
            assert_eq!(call(&mut breaker, 20_000, Sign::Fails), Turn::Unchanged);
        }
    }

    #[test]
    fn probes_are_few_and_successes_close_it() {
        let mut breaker = Breaker::new(1);
        let now = opened(call(&mut breaker, 0, Sign::Faulty));
        assert_eq!(breaker.wait(now, 60), None);
        let era = breaker.start();
        assert_eq!(breaker.wait(now, 60), Some(now + 60), "one probe at first");
        assert_eq!(breaker.answer(now, era, Sign::Works), Turn::Unchanged);
        let (mut out, mut most) = (0, 0);
        while breaker.wait(now, 60).is_none() {
            assert_eq!(breaker.start(), era);
            out += 1;
            most = most.max(out);
        }
        assert_eq!(most, 2);
        let mut turn = Turn::Unchanged;
        for _ in 0..4 {
            if out == 0 {
                breaker.start();
            }
            out = i32::max(out - 1, 0);
            turn = breaker.answer(now, era, Sign::Works);
        }
        assert_eq!(turn, Turn::Closed);
        assert!(breaker.is_closed());
        assert_eq!(
            breaker.answer(now, era, Sign::Faulty),
            Turn::Unchanged,
            "a late answer"
        );
    }

    proptest! {
        #[test]
        fn open_times_grow_to_the_cap_and_nobody_starts_meanwhile(seed: u64, faulty: bool) {
            let sign = if faulty { Sign::Faulty } else { Sign::Fails };
            let (first, cap) = if faulty { (5_000, 300_000) } else { (1_000, 30_000) };
            let mut breaker = Breaker::new(seed);
            let (mut now, mut waits) = (0, Vec::new());
            for _ in 0..CALLS {
                if breaker.is_closed()
                    && let Turn::Opened { until } = call(&mut breaker, now, sign)
                {
                        waits.push(until - now);
                        now = until;
                }
            }
            for _ in 0..12 {
                let until = opened(call(&mut breaker, now, sign));
                prop_assert_eq!(breaker.wait(until - 1, 60), Some(until));
                waits.push(until - now);
                now = until;
            }
            prop_assert!(waits[0] >= first && waits[0] <= first + first / 5);
            for pair in waits.windows(2) {
                prop_assert!(pair[1] >= (pair[0] * 5 / 6).min(cap) && pair[1] <= cap + cap / 5);
            }
            prop_assert!(waits.last().is_some_and(|w| *w >= cap));
        }

        #[test]
        fn never_more_probes_than_allowed(signs in prop::collection::vec(0_u8..6, 1..300)) {
            let mut breaker = Breaker::new(9);
            let mut now = opened(call(&mut breaker, 0, Sign::Faulty));
            let (mut out, mut era) = (0_u32, breaker.era);
            for sign in signs {
                let turn = match sign {
                    0 | 1 => match breaker.wait(now, 60) {
                        None => {
                            let began = breaker.start();
                            if began != era {
                                (out, era) = (0, began);
                            }
                            out += 1;
                            Turn::Unchanged
                        }
                        Some(until) => { now = now.max(until.min(now + 400_000)); Turn::Unchanged }
                    },
                    2 | 3 if out > 0 => { out -= 1; breaker.answer(now, era, Sign::Works) }
                    4 if out > 0 => { out -= 1; breaker.answer(now, era, Sign::Fails) }
                    5 if out > 0 => { out -= 1; breaker.cancel(era); Turn::Unchanged }
                    _ => Turn::Unchanged,
                };
                match turn {
                    Turn::Closed => return Ok(()),
                    Turn::Opened { .. } => out = 0,
                    Turn::Unchanged => prop_assert!(out <= PROBES),
                }
            }
        }
    }
}
