//! Strikes: bad answers for which a provider bans a whole public IP address (Discord: 10,000 of 401,
//! 403 and 429 in ten minutes), counted over all workers behind it.
//!
//! Each worker counts its own in slots of a second and tells the others the sum of its window; what
//! another told last stays counted for a whole window, so that one that died is not forgotten too
//! early. From four fifths of the limit on everything from here rests until enough of it has passed:
//! what workers add between two words must fit into the rest. Pure; memory: one slot per second of
//! the window and one entry per worker.

use std::collections::{HashMap, VecDeque};

/// Width of a slot in milliseconds.
const SLOT_MS: i64 = 1_000;
/// How long everything rests at least, so that a pause is told once and not ten times a second.
const REST_MS: i64 = 10_000;

/// The strikes of one public IP address, as one worker knows them.
#[derive(Debug)]
pub struct Strikes {
    limit: u32,
    window_ms: i64,
    seen: u64,
    slots: VecDeque<(i64, u32)>,
    own: u32,
    others: HashMap<Box<str>, Told>,
}

/// What another worker told last.
#[derive(Debug, Clone, Copy)]
struct Told {
    strikes: u32,
    until: i64,
}

impl Strikes {
    /// None yet. `limit` within `window_ms` bring the ban.
    #[must_use]
    pub fn new(limit: u32, window_ms: i64) -> Self {
        Self {
            limit,
            window_ms,
            seen: 0,
            slots: VecDeque::new(),
            own: 0,
            others: HashMap::new(),
        }
    }

    /// Takes the running total of this worker's strikes; gives those of its window.
    pub fn observe(&mut self, now: i64, total: u64) -> u32 {
        let new = u32::try_from(total.saturating_sub(self.seen)).unwrap_or(u32::MAX);
        self.seen = total;
        if new > 0 {
            self.own = self.own.saturating_add(new);
            let slot = now - now.rem_euclid(SLOT_MS);
            match self.slots.back_mut() {
                Some((at, strikes)) if *at == slot => *strikes = strikes.saturating_add(new),
                Some(_) | None => self.slots.push_back((slot, new)),
            }
        }
        // A slot counts until its last moment has left the window.
        while let Some((at, strikes)) = self.slots.front().copied()
            && at + SLOT_MS + self.window_ms <= now
        {
            self.slots.pop_front();
            self.own -= strikes;
        }
        self.own
    }

    /// What another worker told at `at`: the strikes of its window.
    pub fn told(&mut self, worker: &str, strikes: u32, at: i64) {
        let told = Told {
            strikes,
            until: at + self.window_ms,
        };
        self.others.insert(worker.into(), told);
    }

    /// The strikes of all workers.
    pub fn all(&mut self, now: i64) -> u32 {
        self.others.retain(|_, told| told.until > now);
        let others = self.others.values().map(|told| told.strikes);
        others.fold(self.own, u32::saturating_add)
    }

    /// Until when everything must rest, when it must.
    pub fn rest(&mut self, now: i64) -> Option<i64> {
        let most = self.limit - self.limit / 5;
        (self.all(now) >= most.max(1)).then_some(now + REST_MS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW_MS: i64 = 600_000;

    #[test]
    fn everything_rests_from_four_fifths_on_until_they_have_passed() {
        let mut strikes = Strikes::new(100, WINDOW_MS);
        assert_eq!(strikes.observe(0, 79), 79);
        assert_eq!(strikes.rest(0), None);
        assert_eq!(strikes.observe(5_000, 80), 80);
        assert_eq!(strikes.rest(5_000), Some(15_000));
        // The first slot leaves a window after its end.
        assert_eq!(strikes.observe(WINDOW_MS + 999, 80), 80);
        assert_eq!(strikes.observe(WINDOW_MS + 1_000, 80), 1);
        assert_eq!(strikes.rest(WINDOW_MS + 1_000), None);
    }

    #[test]
    fn what_others_told_counts_for_a_window_and_their_last_word_stands() {
        let mut strikes = Strikes::new(100, WINDOW_MS);
        strikes.told("w-1", 50, 0);
        strikes.told("w-2", 29, 1_000);
        assert_eq!((strikes.all(1_000), strikes.rest(1_000)), (79, None));
        strikes.told("w-1", 51, 2_000);
        assert_eq!(strikes.rest(2_000), Some(12_000));
        strikes.told("w-1", 3, 3_000);
        assert_eq!(strikes.all(3_000), 32);
        assert_eq!(strikes.all(WINDOW_MS + 1_000), 3, "w-2 is silent");
        assert_eq!(strikes.all(WINDOW_MS + 3_000), 0);
    }

    proptest! {
        /// Workers whose every request is a strike, at a rate they share, and who hear of one another
        /// some seconds late: no window of the provider ever holds the limit.
        #[test]
        fn the_limit_is_never_reached(
            workers in 1_usize..5, per_second in 1_u32..20, late_s in 0_i64..4, limit in 400_u32..2_000,
        ) {
            let names: Vec<String> = (0..workers).map(|w| format!("w-{w}")).collect();
            let mut all: Vec<Strikes> = names.iter().map(|_| Strikes::new(limit, 60_000)).collect();
            let mut totals = vec![0_u64; workers];
            let mut resting = vec![0_i64; workers];
            let mut made: VecDeque<(i64, u32)> = VecDeque::new();
            let mut words: VecDeque<(i64, usize, u32, i64)> = VecDeque::new();
            let mut sum = 0;
            for second in 0..400 {
                let now = second * 1_000;
                for w in 0..workers {
                    if now >= resting[w] {
                        totals[w] += u64::from(per_second);
                        sum += per_second;
                        made.push_back((now, per_second));
                    }
                    let own = all[w].observe(now, totals[w]);
                    words.push_back((now + late_s * 1_000, w, own, now));
                }
                while let Some((_, w, own, at)) = words.front().copied().filter(|word| word.0 <= now) {
                    words.pop_front();
                    for other in (0..workers).filter(|other| *other != w) {
                        all[other].told(&names[w], own, at);
                    }
                }
                for w in 0..workers {
                    if let Some(until) = all[w].rest(now) {
                        resting[w] = resting[w].max(until);
                    }
                }
                while let Some((at, n)) = made.front().copied().filter(|(at, _)| *at + 60_000 <= now) {
                    made.pop_front();
                    sum -= n;
                    prop_assert!(at <= now);
                }
                // What comes in between two words fits into the last fifth here.
                let between = per_second * workers as u32 * (late_s as u32 + 1);
                if between <= limit / 5 {
                    prop_assert!(sum < limit, "{sum} of {limit}");
                }
            }
        }
    }
}
