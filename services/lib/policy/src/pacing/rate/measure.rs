//! What the adaptive rate measures: accepted units of late, goodput, latency.

/// Answers remembered one by one.
const REMEMBERED: usize = 32;
/// Width of a slot of the goodput in milliseconds.
const SLOT_MS: i64 = 1_000;
/// Goodput over less than this is not told.
const LEAST_MS: i64 = 300;
/// Answers over which latency and its deviation are taken.
const ANSWERS: f64 = 50.0;

/// What came through.
#[derive(Debug, Clone)]
pub(super) struct Measure {
    /// When the last accepted requests were sent, and their units; a ring.
    sent: [(i64, u32); REMEMBERED],
    count: usize,
    /// Accepted units of the slot before this one and of this one.
    slots: [f64; 2],
    slot_began: Option<i64>,
    latency: f64,
    deviation: f64,
}

impl Measure {
    pub(super) const fn new() -> Self {
        Self {
            sent: [(0, 0); REMEMBERED],
            count: 0,
            slots: [0.0; 2],
            slot_began: None,
            latency: 0.0,
            deviation: 0.0,
        }
    }

    /// `units` that were sent at `sent` were accepted.
    pub(super) fn accepted(&mut self, now: i64, sent: i64, units: u32) {
        self.sent[self.count % REMEMBERED] = (sent, units);
        self.count += 1;
        let began = *self.slot_began.get_or_insert(now);
        if now - began >= 2 * SLOT_MS {
            self.slots = [0.0; 2];
            self.slot_began = Some(now);
        } else if now - began >= SLOT_MS {
            self.slots = [self.slots[1], 0.0];
            self.slot_began = Some(began + SLOT_MS);
        }
        self.slots[1] += f64::from(units);
        let latency = seconds(now - sent);
        if self.latency <= 0.0 {
            self.latency = latency;
        }
        self.deviation += ((latency - self.latency).abs() - self.deviation) / ANSWERS;
        self.latency += (latency - self.latency) / ANSWERS;
    }

    /// Accepted units per second over the last one or two seconds; 0 while that says nothing.
    pub(super) fn goodput(&self, now: i64) -> f64 {
        let Some(began) = self.slot_began else {
            return 0.0;
        };
        let before = if self.slots[0] > 0.0 { SLOT_MS } else { 0 };
        let span = before + now - began;
        if span < LEAST_MS {
            return 0.0;
        }
        (self.slots[0] + self.slots[1]) / seconds(span)
    }

    /// Units per second of the last few accepted requests until one that was sent at `until`; 0
    /// when there are not two.
    pub(super) fn recent(&self, until: i64) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let kept = self.count.min(REMEMBERED);
        let oldest = if self.count > REMEMBERED {
            self.count % REMEMBERED
        } else {
            0
        };
        let units: u32 = self.sent.iter().take(kept).map(|(_, units)| units).sum();
        f64::from(units) / seconds((until - self.sent[oldest].0).max(1))
    }

    /// Mean latency in seconds.
    pub(super) const fn latency(&self) -> f64 {
        self.latency
    }

    /// Mean deviation of the latency in seconds.
    pub(super) const fn deviation(&self) -> f64 {
        self.deviation
    }
}

/// Milliseconds as seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "spans of milliseconds are far below 2^52"
)]
pub(super) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}
