//! An exact limit: at most `limit` units in any sliding second **as the provider sees it**.
//!
//! A request arrives somewhere between its send and its answer. So a grant holds its units from the
//! moment it is given until one window after its answer came: whatever the provider counts in one
//! window was then held at one moment, and no more than the limit ever is. At a round trip of 60 ms
//! this costs 6 % of the rate (`1000 / 1061`), and nothing less is safe.
//!
//! Memory: one entry per millisecond in which answers came, at most `min(limit, 1 s)` of them.

use std::collections::VecDeque;

/// Width of the window in milliseconds.
pub const WINDOW_MS: i64 = 1_000;
/// What a grant stays beyond its answer. The clock cuts milliseconds off, so one more is held.
const HELD_MS: i64 = WINDOW_MS + 1;
/// A window of no units is closed for now (a share that was not granted yet): asked again soon.
const CLOSED_MS: i64 = 25;
/// Bulk may run ahead of an even pace by this part of a second, so that one burst does not use up
/// the whole window and leave whatever comes next a second behind.
const AHEAD_US: i64 = 50_000;

/// Units that come free together.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    at: i64,
    units: u32,
    bulk: u32,
}

/// What a window is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Units, at least 1. More than the limit counts as the whole limit: such a grant needs an empty
    /// window, and it is the one case in which the provider sees more than the limit. Build no
    /// batches above [`Window::limit`].
    pub units: u32,
    /// Whether it is of the bulk class.
    pub bulk: bool,
    /// Units of the window that bulk must leave alone now.
    pub reserved: u32,
}

/// One limit of units per sliding second.
#[derive(Debug, Clone)]
pub struct Window {
    limit: u32,
    held: u32,
    held_bulk: u32,
    leaving: VecDeque<Leaving>,
    /// The even pace of bulk: when its next unit would be due (microseconds).
    even_us: i64,
    /// From then on nothing is granted.
    closes_at: i64,
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            held: 0,
            held_bulk: 0,
            leaving: VecDeque::new(),
            even_us: i64::MIN,
            closes_at: i64::MAX,
        }
    }

    /// The limit in units per second.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Changes the limit. What is held above a smaller one stays held until it leaves.
    pub const fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Nothing is granted from `until` on: the limit was lent.
    pub const fn close_at(&mut self, until: i64) {
        self.closes_at = until;
    }

    /// Units held at `now`.
    pub fn held(&mut self, now: i64) -> u32 {
        self.release(now);
        self.held
    }

    /// Whether nothing is held at `now`: forgetting it loses nothing.
    #[must_use]
    pub fn is_idle(&self, now: i64) -> bool {
        let leaving: u32 = self
            .leaving
            .iter()
            .filter(|l| l.at <= now)
            .map(|l| l.units)
            .sum();
        leaving == self.held
    }

    /// Asks without taking: `None` when the units may be taken now, else the moment to ask again at
    /// the earliest.
    pub fn wait(&mut self, now: i64, want: Want) -> Option<i64> {
        if self.limit == 0 || now >= self.closes_at {
            return Some(now + CLOSED_MS);
        }
        self.release(now);
        let units = self.charge(want.units);
        let over = (self.held + units).saturating_sub(self.limit);
        if over > 0 {
            return Some(self.freed(now, over, |l| l.units));
        }
        if !want.bulk {
            return None;
        }
        let bulk_limit = self.limit.saturating_sub(want.reserved).max(1);
        let over = (self.held_bulk + units.min(bulk_limit)).saturating_sub(bulk_limit);
        if over > 0 {
            return Some(self.freed(now, over, |l| l.bulk));
        }
        let early = self.even_us.saturating_sub(now * 1_000 + self.ahead_us());
        (early > 0).then(|| now + (early + 999) / 1_000)
    }

    /// Takes what [`Window::wait`] has just allowed.
    pub fn take(&mut self, now: i64, want: Want) {
        let units = self.charge(want.units);
        self.held += units;
        if want.bulk {
            self.held_bulk += units;
            // A quarter faster than even, so that the pace never costs rate.
            let step = i64::from(units) * 800_000 / i64::from(self.limit.max(1));
            self.even_us = self.even_us.max(now * 1_000) + step;
        }
    }

    /// The answer came (or the attempt's deadline passed without one): the units leave a window
    /// later. `units` and `bulk` as taken.
    pub fn answered(&mut self, now: i64, units: u32, bulk: bool) {
        let at = now + HELD_MS;
        match self.leaving.back_mut() {
            // A clock that stands still, or went back, must not free anything early.
            Some(last) if last.at >= at => {
                last.units += units;
                last.bulk += if bulk { units } else { 0 };
            }
            Some(_) | None => self.leaving.push_back(Leaving {
                at,
                units,
                bulk: if bulk { units } else { 0 },
            }),
        }
    }

    /// It was never sent: the units are free at once.
    pub fn cancelled(&mut self, units: u32, bulk: bool) {
        self.held = self.held.saturating_sub(units);
        if bulk {
            self.held_bulk = self.held_bulk.saturating_sub(units);
        }
    }

    /// What a grant of `units` is charged.
    #[must_use]
    pub fn charge(&self, units: u32) -> u32 {
        units.clamp(1, self.limit.max(1))
    }

    fn ahead_us(&self) -> i64 {
        AHEAD_US.max(1_000_000 / i64::from(self.limit.max(1)))
    }

    fn release(&mut self, now: i64) {
        while let Some(first) = self.leaving.front().copied() {
            if first.at > now {
                return;
            }
            self.leaving.pop_front();
            self.held = self.held.saturating_sub(first.units);
            self.held_bulk = self.held_bulk.saturating_sub(first.bulk);
        }
    }

    /// When `over` units will have left; without enough answers yet, a window from now at the
    /// earliest.
    fn freed(&self, now: i64, over: u32, of: impl Fn(&Leaving) -> u32) -> i64 {
        let mut sum = 0;
        for leaving in &self.leaving {
            sum += of(leaving);
            if sum >= over {
                return leaving.at;
            }
        }
        now + HELD_MS
    }
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "tests print the figures they judge")]
mod tests;
