//! When to start nothing new because Kafka is behind with its answers.
//!
//! What a provider has accepted and Kafka has not acknowledged is sent again after a crash. So a
//! partition's owner holds new attempts back while its oldest receipt waits for longer than usual:
//! load that Kafka cannot follow becomes lag, which is harmless, and not possible duplicates.
//!
//! "Usual" is the quickest answer of the last ten to twenty seconds, the time receipts are gathered, and
//! [`PATIENCE_MS`]: a broker that is far away is not taken for a slow one.

use std::collections::VecDeque;

/// So much longer than usual a receipt may wait, milliseconds.
pub const PATIENCE_MS: i64 = 10;
/// How long the quickest answer is remembered at least, milliseconds.
const REMEMBERED_MS: i64 = 10_000;

/// Receipts of one partition that Kafka has not acknowledged. Answers are taken to come in the order
/// of their receipts; where one does not, the oldest looks younger than it is.
///
/// Memory: one entry per millisecond in which a receipt was sent that is not answered.
#[derive(Debug, Default)]
pub struct Backpressure {
    patience_ms: i64,
    /// When receipts were sent, milliseconds, and how many then.
    waiting: VecDeque<(i64, usize)>,
    quickest: Quickest,
}

impl Backpressure {
    /// Nothing is sent yet; receipts are gathered for at most `linger_ms` milliseconds.
    #[must_use]
    pub fn new(linger_ms: i64) -> Self {
        Self {
            patience_ms: linger_ms + PATIENCE_MS,
            ..Self::default()
        }
    }

    /// A receipt is sent.
    pub fn sent(&mut self, now: i64) {
        match self.waiting.back_mut() {
            Some((at, count)) if *at >= now => *count += 1,
            Some(_) | None => self.waiting.push_back((now, 1)),
        }
    }

    /// Kafka has acknowledged one, or it needs no acknowledgement any more.
    pub fn answered(&mut self, now: i64) {
        let Some((at, count)) = self.waiting.front_mut() else {
            return;
        };
        self.quickest.saw(now, now - *at);
        *count -= 1;
        if *count == 0 {
            self.waiting.pop_front();
        }
    }

    /// Whether nothing new should be started; only an answer ends it.
    #[must_use]
    pub fn holds(&self, now: i64) -> bool {
        self.waiting
            .front()
            .is_some_and(|(at, _)| now - at > self.patience())
    }

    fn patience(&self) -> i64 {
        self.quickest.get() + self.patience_ms
    }
}

/// The least of the last ten to twenty seconds.
#[derive(Debug, Default)]
struct Quickest {
    since: i64,
    now: Option<i64>,
    before: Option<i64>,
}

impl Quickest {
    fn saw(&mut self, now: i64, took: i64) {
        if now - self.since >= REMEMBERED_MS {
            self.before = self.now.take();
            self.since = now;
        }
        self.now = Some(self.now.map_or(took, |known| known.min(took)));
    }

    /// 0 when nothing is known.
    fn get(&self) -> i64 {
        let least = match (self.now, self.before) {
            (Some(now), Some(before)) => Some(now.min(before)),
            (now, before) => now.or(before),
        };
        least.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_while_the_oldest_waits_and_no_longer() {
        let mut pressure = Backpressure::new(10);
        assert!(!pressure.holds(1_000));
        pressure.sent(995);
        pressure.answered(1_000);
        pressure.sent(1_000);
        pressure.sent(1_000);
        pressure.sent(1_020);
        assert!(!pressure.holds(1_025));
        assert!(pressure.holds(1_026));
        pressure.answered(1_030);
        assert!(pressure.holds(1_030), "its neighbour is as old");
        pressure.answered(1_030);
        assert!(!pressure.holds(1_045));
        assert!(pressure.holds(1_046), "now the third is late");
        pressure.answered(1_060);
        assert!(!pressure.holds(2_000));
    }

    #[test]
    fn a_far_broker_is_not_a_slow_one() {
        let mut pressure = Backpressure::new(10);
        for at in 0..300 {
            pressure.sent(at * 100);
            pressure.answered(at * 100 + 80);
        }
        pressure.sent(30_000);
        assert!(!pressure.holds(30_100));
        assert!(pressure.holds(30_101));
        // A single quick answer makes it strict for as long as it is remembered.
        pressure.answered(30_005);
        pressure.sent(31_000);
        assert!(pressure.holds(31_026));
        pressure.answered(31_080);
        for at in 311..=520 {
            pressure.sent(at * 100);
            pressure.answered(at * 100 + 80);
        }
        pressure.sent(53_000);
        assert!(!pressure.holds(53_100));
    }

    #[test]
    fn more_answers_than_receipts_do_no_harm() {
        let mut pressure = Backpressure::new(10);
        pressure.answered(5);
        pressure.sent(6);
        pressure.answered(7);
        pressure.answered(8);
        assert!(!pressure.holds(1_000_000));
    }

    #[test]
    fn a_clock_that_goes_back_keeps_the_order() {
        let mut pressure = Backpressure::new(10);
        pressure.sent(1_000);
        pressure.sent(900);
        pressure.answered(950);
        pressure.answered(950);
        assert!(!pressure.holds(2_000));
    }
}
