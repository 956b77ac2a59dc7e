//! The adaptive rate: for providers whose limit nobody told us.
//!
//! It restricts nothing until the first 429. From then on it paces, and finds the limit by what is
//! accepted. It thinks of the provider as a token bucket: a 429 means that the bucket is **empty**,
//! so between two of them exactly what flowed in was accepted, and accepted units over time are the
//! limit itself. After a 429 it
//!
//! 1. keeps back a few units at once, so that the bucket is not empty and jitter alone brings no
//!    further 429, and goes on just below the limit (`CUT`) for a plateau;
//! 2. climbs gently (`SLOPE`), until the next 429 stops it;
//! 3. when more was accepted since the last 429 than the known limit can have let flow in
//!    (`EVIDENCE`), the limit must have risen: the rate doubles every `DOUBLING` until a 429.
//!
//! A 429 that comes **below** the known limit is nobody's own doing: other workers share the bucket.
//! Then what was accepted says little about the limit, and the machine changes to a second way of
//! working: deeper cuts the sooner the next 429 came, cycles whose length depends on the rate so
//! that larger workers give way to smaller ones, and a climb that needs a long silence. Workers that
//! hear of each other ([`Rate::hear`]) work in this way from the start, draw near to their mean, and
//! judge by the silence of all of them.
//!
//! Only the first 429 of those that were sent before a cut counts. `Retry-After` stretches the
//! cycle, because each 429 then costs that much silence. Nothing is allocated; some 1.3 KiB.
//!
//! How the constants were chosen: by simulation (`rate/sim.rs`), against a bucket of 100/s with a
//! burst of 10 and a round trip of 60 ms. The tests print what it gives.

mod measure;
#[cfg(test)]
mod sim;
#[cfg(test)]
#[expect(clippy::print_stdout, reason = "tests print the figures they judge")]
mod tests;

use self::measure::{Measure, seconds};

/// How far below the known limit the plateau lies.
const CUT: f64 = 0.015;
/// The plateau, and the unit of growth: this many units of cost, or [`PLATEAU_S`] seconds, whichever
/// takes longer.
const PLATEAU: f64 = 100.0;
const PLATEAU_S: f64 = 1.0;
/// Growth per unit of growth after the plateau.
const SLOPE: f64 = 0.08;
/// Units accepted beyond what the known limit allows that prove a higher one.
const EVIDENCE: f64 = 2.0;
/// Units of growth in which a proven rise doubles.
const DOUBLING: f64 = 0.4;
/// Units kept back at a 429.
const KEPT_BACK: f64 = 3.0;
/// Deviations of the latency whose units are kept back, and needed as evidence, on top.
const NOISE: f64 = 3.0;
/// The bucket's depth as far as it is assumed: units, or a part of a second's.
const DEPTH: f64 = 10.0;
const DEPTH_PART: f64 = 0.02;
/// A 429 before this part of the plateau says nothing about who shares the bucket.
const EARLY: f64 = 0.5;
/// What an early 429 costs.
const EARLY_CUT: f64 = 0.02;
/// The limit is taken to be no lower than this part of the rate at which the 429 came.
const LEAST_OF_SENT: f64 = 0.95;
/// Below this part of the known limit, a 429 is nobody's own doing.
const BELOW: f64 = 0.995;
/// Cycles for which one such 429 makes a second one count, and for which the second one holds.
const SUSPECTED: f64 = 10.0;
const SHARED: f64 = 14.0;

/// The second way of working: units of one cycle at 100/s, and how they follow the rate. An exponent
/// below 1 makes a small worker's cycle shorter in requests, so that shares become equal.
const SHARED_CYCLE: f64 = 950.0;
const SHARED_EXPONENT: f64 = 0.8;
/// One cycle takes at least this, in seconds.
const SHARED_CYCLE_S: f64 = 2.0;
const SHARED_PLATEAU: f64 = 0.3;
const SHARED_SLOPE: f64 = 0.12;
/// A silence of this part of a cycle is taken for a risen limit; then this part of one doubles.
const SHARED_SILENCE: f64 = 0.85;
const SHARED_DOUBLING: f64 = 0.15;
/// The cut after a whole cycle, and the deepest, after a small part of one.
const SHARED_CUT: f64 = 0.04;
const SHARED_DEEPEST: f64 = 0.10;

/// A rise by the first part is not trusted and undone at its 429; one by the second part is.
const RISE_DOUBTED: f64 = 0.15;
const RISE_TRUSTED: f64 = 0.5;
/// The plateau after a trusted rise, as part of the usual one.
const AFTER_RISE: f64 = 0.23;
/// A cycle with `Retry-After` is longer by this many times the pause.
const PAUSE_COST: f64 = 15.0;
/// A cycle takes at least this many round trips.
const ROUND_TRIPS: f64 = 10.0;
/// Fewer units than this between two 429s say nothing of the limit.
const FEW: f64 = 8.0;
/// How fast the first estimate doubles: seconds, or round trips if that is longer.
const FIRST_DOUBLING_S: f64 = 0.3;
const FIRST_ROUND_TRIPS: f64 = 4.0;
/// Never below this part of what came through over the last seconds.
const LEAST_OF_GOODPUT: f64 = 0.8;
/// A silence of all workers that is so many times what usually lies between two 429s of theirs, and
/// seconds at least, is taken for a risen limit too.
const ALL_SILENCE: f64 = 1.5;
const ALL_SILENCE_S: f64 = 2.0;
/// Workers whose rates differ by less are equal enough; else this part of the difference goes.
const NEAR: f64 = 0.1;
const NEARER: f64 = 0.4;
/// Who leaves more than this part of the units untaken lacks none.
const SPILLED: f64 = 0.1;
/// So much of a cycle, at most, is what drawing near makes of it.
const PROVEN: f64 = 0.7;
/// The farthest that a mean is believed to be away, as part of the rate.
const FARTHEST: f64 = 10.0;
/// Growth needs at least this part of the cycle's base to be used.
const USED: f64 = 0.5;
/// Never above so many times what came through over the last seconds: where nobody asks for more, the
/// absence of 429s says nothing of higher rates.
const MOST_OF_GOODPUT: f64 = 8.0;
/// The lowest rate, in units per second.
const LOWEST: f64 = 0.1;

/// What a started attempt must bring back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sent {
    sequence: u64,
    at: i64,
    epoch: u32,
    /// The rate when it was sent, in units per second.
    rate: f64,
}

/// What workers that share a limit nobody told them tell each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Word {
    /// Units per second now.
    pub rate: f64,
    /// For how long it has seen no 429, milliseconds.
    pub quiet_ms: i64,
}

/// The rate towards one provider account, or one exit.
#[derive(Debug, Clone)]
pub struct Rate {
    sequence: u64,
    began: Option<i64>,
    accepted: f64,
    measure: Measure,
    limited: Option<Limited>,
}

/// Units that may be spent now; below zero after a cut or a grant of many units.
#[derive(Debug, Clone, Copy)]
struct Credit {
    all: f64,
    bulk: f64,
    at: i64,
}

/// The state since the first 429.
#[derive(Debug, Clone)]
struct Limited {
    /// Units per second: now, and at the beginning of this cycle.
    rate: f64,
    base: f64,
    credit: Credit,
    /// Cycles are numbered: what was sent in an earlier one is judged no more.
    epoch: u32,
    /// The request whose 429 began the cycle; what was sent after it counts.
    mark: u64,
    marked_at: i64,
    cut_at: i64,
    /// The limit as far as it is known, and whether it was measured over a whole cycle.
    known: f64,
    sure: bool,
    /// Whether a first 429 has followed the very first one: before, the estimate only doubles.
    found: bool,
    /// Since the mark: units accepted, requests denied, units beyond what `known` lets flow in.
    accepted: f64,
    denied: f64,
    surplus: f64,
    last_sent: i64,
    /// 429s in a row with hardly anything accepted between.
    denials: usize,
    /// Cycles left of the second way of working, and of its suspicion.
    shared: f64,
    suspected: f64,
    /// Units of one cycle, its plateau, how far it has come, and where its rise began.
    cycle: f64,
    plateau: f64,
    grown: f64,
    rise_at: Option<f64>,
    /// Units that time has brought, and those of them that nobody took before more came.
    earned: f64,
    spilled: f64,
    /// No worker of this limit has seen a 429 for long.
    all_quiet: bool,
    /// The last `Retry-After` in seconds, 0 for none.
    pause: f64,
    /// Seconds of jitter, whose units may come together.
    jitter: f64,
    latency: f64,
}

impl Default for Rate {
    fn default() -> Self {
        Self::new()
    }
}

impl Rate {
    /// No limit known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sequence: 0,
            began: None,
            accepted: 0.0,
            measure: Measure::new(),
            limited: None,
        }
    }

    /// Units per second now; `None` while nothing is restricted.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.limited.as_ref().map(|limited| limited.rate)
    }

    /// What this worker tells the others that share the limit, to be asked about once a second; `None`
    /// while nothing is restricted, the first estimate is being made, or the rate is not used up.
    pub fn word(&mut self, now: i64) -> Option<Word> {
        let limited = self.limited.as_mut().filter(|limited| limited.found)?;
        if !limited.wants_more(now) {
            limited.all_quiet = false;
            return None;
        }
        Some(Word {
            rate: limited.rate,
            quiet_ms: (now - limited.cut_at).max(0),
        })
    }

    /// Takes in what the others said, when [`Rate::word`] had one too: all of them want more than they
    /// get.
    ///
    /// All draw near to their mean rate, so that what they send together stays nearly the same. Left alone
    /// they would become equal too, but only over minutes: whoever began with the largest part of the
    /// bucket keeps it for long. And when all of them have seen no 429 for long, the limit has risen,
    /// which one of them alone cannot know as soon.
    pub fn hear(&mut self, now: i64, others: &[Word]) {
        let newest = self.sequence;
        if let Some(limited) = self.limited.as_mut().filter(|limited| limited.found) {
            limited.hear(now, others, newest);
        }
    }

    /// Asks without taking: `None` when it may go now, else when to ask again. `reserve` is the part
    /// of the rate that bulk must leave alone now.
    pub fn wait(&mut self, now: i64, bulk: bool, reserve: f64) -> Option<i64> {
        let limited = self.limited.as_mut()?;
        limited.refill(now, reserve);
        limited.credit.wait(now, bulk, limited.rate, reserve)
    }

    /// Takes what [`Rate::wait`] has just allowed.
    pub fn take(&mut self, now: i64, units: u32, bulk: bool) -> Sent {
        self.sequence += 1;
        let mut sent = Sent {
            sequence: self.sequence,
            at: now,
            epoch: 0,
            rate: f64::INFINITY,
        };
        match &mut self.limited {
            Some(limited) => {
                limited.credit.spend(f64::from(units), bulk);
                sent.epoch = limited.epoch;
                sent.rate = limited.rate;
            }
            None => {
                self.began.get_or_insert(now);
            }
        }
        sent
    }

    /// The provider took it, or refused it for reasons of its own.
    pub fn accepted(&mut self, now: i64, sent: Sent, units: u32) {
        self.accepted += f64::from(units);
        self.measure.accepted(now, sent.at, units);
        if let Some(limited) = &mut self.limited {
            limited.accepted(now, sent, f64::from(units), &self.measure);
        }
    }

    /// The provider said "too many", perhaps for how long (milliseconds).
    pub fn throttled(&mut self, now: i64, sent: Sent, retry_after: Option<i64>) {
        let pause = retry_after.map(|ms| ms.max(0));
        match &mut self.limited {
            None => {
                let span = seconds(now - self.began.unwrap_or(now)).max(0.001);
                let recent = self.measure.recent(sent.at);
                let rate = if recent > 0.0 {
                    recent
                } else {
                    self.accepted.max(1.0) / span
                };
                let mut limited = Limited::new(now, rate.max(1.0));
                limited.begin(now, sent, self.sequence, pause);
                self.limited = Some(limited);
            }
            Some(limited) => {
                limited.denied += 1.0;
                if sent.epoch == limited.epoch {
                    limited.cut(now, sent, &self.measure);
                    limited.begin(now, sent, self.sequence, pause);
                } else if let Some(pause) = pause {
                    limited.wait_until(now + pause, self.sequence);
                }
            }
        }
    }
}

impl Credit {
    fn wait(&self, now: i64, bulk: bool, rate: f64, reserve: f64) -> Option<i64> {
        let missing = 1.0 - self.all;
        let missing_bulk = if bulk && reserve > 0.0 {
            (1.0 - self.bulk) / (1.0 - reserve).max(0.01)
        } else {
            0.0
        };
        let missing = missing.max(missing_bulk);
        if missing <= 0.0 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "clamped to an hour")]
        let ms = (missing * 1_000.0 / rate).ceil().clamp(1.0, 3_600_000.0) as i64;
        Some(self.at.max(now) + ms)
    }

    fn spend(&mut self, units: f64, bulk: bool) {
        self.all -= units;
        if bulk {
            self.bulk -= units;
        }
    }
}

impl Limited {
    fn new(now: i64, rate: f64) -> Self {
        Self {
            rate,
            base: rate,
            credit: Credit {
                all: 0.0,
                bulk: 0.0,
                at: now,
            },
            epoch: 0,
            mark: 0,
            marked_at: now,
            cut_at: now,
            known: rate,
            sure: false,
            found: false,
            accepted: 0.0,
            denied: 0.0,
            surplus: 0.0,
            last_sent: now,
            denials: 0,
            shared: 0.0,
            suspected: 0.0,
            cycle: PLATEAU,
            plateau: 1.0,
            grown: 0.0,
            rise_at: None,
            earned: 0.0,
            spilled: 0.0,
            all_quiet: false,
            pause: 0.0,
            jitter: 0.0,
            latency: 0.0,
        }
    }

    fn is_shared(&self) -> bool {
        self.shared > 0.0
    }

    fn refill(&mut self, now: i64, reserve: f64) {
        let units = seconds((now - self.credit.at).max(0)) * self.rate;
        self.credit.at = self.credit.at.max(now);
        // Ten milliseconds may be caught up with: timers are not exact.
        let most = (self.rate * 0.01).max(1.0) + 0.5;
        self.earned += units;
        self.spilled += (self.credit.all + units - most).max(0.0);
        self.credit.all = (self.credit.all + units).min(most);
        self.credit.bulk = (self.credit.bulk + units * (1.0 - reserve)).min(most);
    }

    fn accepted(&mut self, now: i64, sent: Sent, units: f64, measure: &Measure) {
        if sent.sequence <= self.mark {
            return;
        }
        self.latency = measure.latency();
        self.jitter = NOISE * measure.deviation();
        self.accepted += units;
        let inflow = self.known * seconds((sent.at - self.last_sent).max(0));
        self.last_sent = self.last_sent.max(sent.at);
        self.surplus = (self.surplus + units - inflow).max(-DEPTH.max(DEPTH_PART * self.known));
        if sent.epoch == self.epoch {
            let before = self.rate;
            self.grow(now);
            let goodput = measure.goodput(now);
            if goodput > 0.0 {
                self.rate = self.rate.min((MOST_OF_GOODPUT * goodput).max(before));
            }
        }
    }

    /// Whether everything is taken as soon as it comes. Two deliveries that come together wait for each
    /// other at any rate; who lacks more leaves nothing over.
    fn wants_more(&mut self, now: i64) -> bool {
        self.refill(now, 0.0);
        let wants = self.spilled < SPILLED * self.earned;
        // The last second counts half, the one before a quarter.
        self.earned /= 2.0;
        self.spilled /= 2.0;
        wants
    }

    fn hear(&mut self, now: i64, others: &[Word], newest: u64) {
        self.all_quiet = false;
        if others.is_empty() {
            return;
        }
        if !self.is_shared() {
            self.begin_shared(now, newest);
        }
        self.shared = self.shared.max(SHARED);
        #[expect(clippy::cast_precision_loss, reason = "numbers of workers")]
        let workers = (others.len() + 1) as f64;
        let quiet_ms = others.iter().map(|word| word.quiet_ms).min();
        let quiet = seconds(quiet_ms.unwrap_or(0).min(now - self.cut_at));
        let usual = self.stretch() * shared_cycle(self.rate) / self.rate / workers;
        self.all_quiet = quiet > (ALL_SILENCE * usual).max(ALL_SILENCE_S);
        let mean = (others.iter().map(|word| word.rate).sum::<f64>() + self.rate) / workers;
        let distance = (mean / self.rate - 1.0).clamp(-FARTHEST, FARTHEST);
        if distance.abs() < NEAR {
            return;
        }
        self.refill(now, 0.0);
        let factor = 1.0 + distance * NEARER;
        for value in [
            &mut self.rate,
            &mut self.base,
            &mut self.known,
            &mut self.surplus,
        ] {
            *value *= factor;
        }
        // What the cycle has brought counts as sent at the new rate; it alone proves no rise.
        let most = self.accepted.max(PROVEN * self.cycle);
        self.accepted = (self.accepted * factor).min(most);
    }

    /// Others share the bucket after all: a cycle of the second way of working begins, without a 429.
    fn begin_shared(&mut self, now: i64, newest: u64) {
        self.refill(now, 0.0);
        self.base = self.rate;
        self.cycle = shared_cycle(self.base);
        self.plateau = SHARED_PLATEAU;
        self.epoch = self.epoch.wrapping_add(1).max(1);
        (self.mark, self.marked_at, self.last_sent) = (newest, now, now);
        (self.accepted, self.denied, self.surplus, self.grown) = (0.0, 0.0, 0.0, 0.0);
        self.rise_at = None;
        self.cut_at = now;
    }

    /// By how much a cycle is longer than its units: for long round trips, and for `Retry-After`.
    fn stretch(&self) -> f64 {
        (self.latency * ROUND_TRIPS).max(1.0) + self.pause * PAUSE_COST
    }

    /// How far the cycle has come since the cut.
    fn grow(&mut self, now: i64) {
        let elapsed = seconds((now - self.cut_at).max(0));
        let used = self.accepted >= USED * self.base * (elapsed - self.latency);
        let at = if self.found {
            let least = if self.is_shared() {
                SHARED_CYCLE_S
            } else {
                PLATEAU_S
            };
            (self.accepted / self.cycle).min(elapsed / least) / self.stretch()
        } else {
            elapsed / (FIRST_ROUND_TRIPS * self.latency).max(FIRST_DOUBLING_S)
        };
        if at <= self.grown {
            return;
        }
        let from = std::mem::replace(&mut self.grown, at);
        if !used {
            return;
        }
        self.refill(now, 0.0);
        if !self.found {
            self.rate *= 2_f64.powf(at - from);
            return;
        }
        let risen = if self.is_shared() {
            at > SHARED_SILENCE || self.all_quiet
        } else {
            self.surplus >= EVIDENCE + self.jitter * self.rate && self.rate > self.known
        };
        if risen {
            self.rise_at.get_or_insert(at);
        }
        self.rate *= self.shape(at) / self.shape(from);
    }

    /// The rate at a point of the cycle, as a multiple of its base.
    fn shape(&self, at: f64) -> f64 {
        let (slope, doubling) = if self.is_shared() {
            (SHARED_SLOPE, SHARED_DOUBLING)
        } else {
            (SLOPE, DOUBLING)
        };
        let rise = self.rise_at.map_or(0.0, |rise| (at - rise).max(0.0));
        (1.0 + slope * (at - self.plateau).max(0.0)) * 2_f64.powf(rise / doubling)
    }

    /// Judges the cycle that this 429 ends, and sets the base of the next.
    fn cut(&mut self, now: i64, sent: Sent, measure: &Measure) {
        let span = seconds((sent.at - self.marked_at).max(1));
        let few = self.accepted < FEW;
        let flooded = if self.found {
            few && span < 1.0 && self.denied > 0.3 * (self.accepted + 1.0)
        } else {
            self.accepted < 3.0 && self.grown < 0.5
        };
        let mean = if few || flooded {
            self.base
        } else {
            self.inflow(span).min(sent.rate).max(sent.rate * 0.5)
        };
        let early = self.accepted < EARLY * PLATEAU.min(self.base * PLATEAU_S);
        self.suspect(sent, early);
        let cut = self.depth_of_cut(early, flooded, few);
        let rise = sent.rate / self.base - 1.0;
        let trust = ((rise - RISE_DOUBTED) / (RISE_TRUSTED - RISE_DOUBTED)).clamp(0.0, 1.0);
        let top = measure.recent(sent.at).min(sent.rate).max(mean);
        let mut level = mean + trust * (top - mean);
        // After a pause the bucket was full: what came early was its contents, not its inflow.
        let contents = early && self.pause > 0.0;
        if !self.is_shared() && !contents {
            level = level.max(sent.rate * LEAST_OF_SENT);
        }
        if !early || level < self.known {
            self.known = level;
        }
        self.sure = trust <= 0.0
            && self.accepted >= PLATEAU.min(2.0 * self.base * PLATEAU_S)
            && span >= PLATEAU_S;
        let through = LEAST_OF_GOODPUT * measure.goodput(now).min(sent.rate);
        self.base = (level * (1.0 - cut)).max(through).max(LOWEST);
        self.rate = self.base;
        let plateau = if self.is_shared() {
            SHARED_PLATEAU
        } else {
            1.0
        };
        self.plateau = plateau * (1.0 - trust * (1.0 - AFTER_RISE));
    }

    /// What flowed into the bucket per second since the mark. After a pause it began full.
    fn inflow(&self, span: f64) -> f64 {
        let spare = if self.pause > 0.0 {
            DEPTH.min(self.accepted / 2.0)
        } else {
            0.0
        };
        (self.accepted - spare) / span
    }

    /// Whether others share the bucket: a 429 below a limit that was well measured.
    fn suspect(&mut self, sent: Sent, early: bool) {
        if early {
            return;
        }
        if sent.rate < self.known * BELOW && self.sure {
            if self.suspected > 0.0 || self.is_shared() {
                self.shared = SHARED;
            }
            self.suspected = SUSPECTED;
        } else {
            self.shared = (self.shared - 1.0).max(0.0);
            self.suspected -= 1.0;
        }
    }

    fn depth_of_cut(&mut self, early: bool, flooded: bool, few: bool) -> f64 {
        if flooded {
            const DEEPER: [f64; 3] = [0.05, 0.25, 0.5];
            self.denials += 1;
            return DEEPER[self.denials.min(DEEPER.len()) - 1];
        }
        self.denials = 0;
        self.found = true;
        if few && self.pause > 0.0 {
            // The pause had filled the bucket, and it did not last: far too fast.
            return 0.25;
        }
        if self.is_shared() {
            let part = (self.cycle / self.accepted.max(1.0)).max(1.0);
            return (SHARED_CUT * part).min(SHARED_DEEPEST);
        }
        if early { EARLY_CUT } else { CUT }
    }

    /// Begins a cycle after a 429.
    fn begin(&mut self, now: i64, sent: Sent, newest: u64, pause: Option<i64>) {
        self.cycle = if self.is_shared() {
            shared_cycle(self.base)
        } else {
            PLATEAU
        };
        self.epoch = self.epoch.wrapping_add(1).max(1);
        self.mark = sent.sequence;
        self.marked_at = sent.at;
        self.last_sent = sent.at;
        self.cut_at = now;
        (self.accepted, self.denied, self.surplus, self.grown) = (0.0, 0.0, 0.0, 0.0);
        self.rise_at = None;
        self.all_quiet = false;
        self.pause = 0.0;
        let kept_back = KEPT_BACK + self.jitter * self.rate;
        self.credit = Credit {
            all: -kept_back,
            bulk: -kept_back,
            at: now,
        };
        if let Some(pause) = pause {
            self.pause = seconds(pause);
            self.wait_until(now + pause, newest);
        }
    }

    /// Nothing before `until`: the bucket is full then, and the cycle begins there.
    fn wait_until(&mut self, until: i64, newest: u64) {
        if until < self.credit.at {
            return;
        }
        self.mark = newest;
        self.marked_at = until;
        self.last_sent = until;
        self.cut_at = until;
        self.surplus = -DEPTH.max(DEPTH_PART * self.known);
        self.credit = Credit {
            all: 0.0,
            bulk: 0.0,
            at: until,
        };
    }
}

/// Units of one cycle of a worker that shares the bucket and sends at `rate`.
fn shared_cycle(rate: f64) -> f64 {
    SHARED_CYCLE * (rate / 100.0).powf(SHARED_EXPONENT)
}
