//! Walking through a provider's list of changes by their time, page by page, for providers whose
//! reports are asked for and not acknowledged.
//!
//! A mark moves only when what was fetched is kept ([`Walk::confirm`]), so nothing is passed over;
//! what is fetched twice is one receipt. The mark lives in memory: whoever begins, or takes over,
//! begins the look-back before now.

use std::sync::{Mutex, PoisonError};

/// What to ask for: changes from `from` to `until` (epoch milliseconds), from a page on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The first moment.
    pub from: i64,
    /// The last moment.
    pub until: i64,
    /// The provider's word for the next page; `None` for the first.
    pub page: Option<String>,
}

/// A walk. All calls are short.
#[derive(Debug)]
pub struct Walk {
    /// A change becomes visible some time after its own time.
    settle_ms: i64,
    look_back_ms: i64,
    /// Windows begin and end at multiples of it: how finely the provider reads times.
    step_ms: i64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Everything before is kept.
    from: Option<i64>,
    /// The window that is being read, and its next page.
    window: Option<(i64, String)>,
    /// Fetched and not yet kept: its id and what follows it.
    pending: Option<(String, Step)>,
    fetched: u64,
}

/// What follows a page.
#[derive(Debug, Clone)]
enum Step {
    /// Another page of the same window.
    Page { from: i64, until: i64, page: String },
    /// The window is read.
    Done { until: i64 },
}

/// The longest window: a provider that was not asked for long is asked in parts.
const LONGEST_MS: i64 = 3_600_000;

impl Walk {
    /// A walk that begins `look_back_ms` ago and leaves the last `settle_ms` alone.
    #[must_use]
    pub fn new(settle_ms: i64, look_back_ms: i64) -> Self {
        Self::in_steps(settle_ms, look_back_ms, 1)
    }

    /// The same for a provider whose times have a step, in milliseconds.
    #[must_use]
    pub fn in_steps(settle_ms: i64, look_back_ms: i64, step_ms: i64) -> Self {
        Self {
            settle_ms,
            look_back_ms,
            step_ms: step_ms.max(1),
            state: Mutex::default(),
        }
    }

    /// What to ask for at `now`; `None` while there can be nothing new.
    #[must_use]
    pub fn ask(&self, now: i64) -> Option<Ask> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = |at: i64| at - at.rem_euclid(self.step_ms);
        let oldest = floor(now - self.look_back_ms);
        let from = state.from.unwrap_or(oldest);
        if let Some((until, page)) = &state.window {
            return Some(Ask {
                from,
                until: *until,
                page: Some(page.clone()),
            });
        }
        let from = from.max(oldest);
        let until = floor((now - self.settle_ms).min(from + LONGEST_MS));
        (until > from).then_some(Ask {
            from,
            until,
            page: None,
        })
    }

    /// Notes a page that was fetched and gives the id by which it is confirmed.
    pub fn fetched(&self, ask: &Ask, next_page: Option<String>) -> String {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.fetched += 1;
        let id = state.fetched.to_string();
        let step = match next_page {
            Some(page) => Step::Page {
                from: ask.from,
                until: ask.until,
                page,
            },
            None => Step::Done { until: ask.until },
        };
        state.pending = Some((id.clone(), step));
        id
    }

    /// The page is kept: the walk goes on behind it. An id that is not the last one does nothing.
    pub fn confirm(&self, id: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.pending.take() {
            Some((pending, step)) if pending == id => match step {
                Step::Page { from, until, page } => {
                    state.from = Some(from);
                    state.window = Some((until, page));
                }
                Step::Done { until } => {
                    state.from = Some(until);
                    state.window = None;
                }
            },
            other => state.pending = other,
        }
    }

    /// The provider does not know the page any more: the window is read again from its start.
    pub fn restart(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.window = None;
        state.pending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(from: i64, until: i64, page: Option<&str>) -> Option<Ask> {
        Some(Ask {
            from,
            until,
            page: page.map(str::to_owned),
        })
    }

    #[test]
    fn a_window_is_read_page_by_page_and_only_what_is_kept_is_passed() {
        let walk = Walk::new(10, 1_000);
        let first = walk.ask(5_000).unwrap();
        assert_eq!(Some(&first), ask(4_000, 4_990, None).as_ref());
        let id = walk.fetched(&first, Some("p2".into()));
        assert_eq!(walk.ask(5_100).unwrap().page, None, "not confirmed");
        walk.confirm("another");
        walk.confirm(&id);
        let second = walk.ask(5_200);
        assert_eq!(second, ask(4_000, 4_990, Some("p2")));
        let id = walk.fetched(&second.unwrap(), None);
        walk.confirm(&id);
        assert_eq!(walk.ask(5_000), None);
        assert_eq!(walk.ask(5_300), ask(4_990, 5_290, None));
    }

    #[test]
    fn a_long_gap_is_cut_and_never_reaches_behind_the_look_back() {
        let walk = Walk::new(0, 10 * LONGEST_MS);
        let day = 24 * LONGEST_MS;
        let first = walk.ask(day).unwrap();
        assert_eq!(first.from, day - 10 * LONGEST_MS);
        assert_eq!(first.until, first.from + LONGEST_MS);
        let id = walk.fetched(&first, None);
        walk.confirm(&id);
        assert_eq!(walk.ask(9 * day).unwrap().from, 9 * day - 10 * LONGEST_MS);
    }

    #[test]
    fn windows_of_a_coarse_clock_touch_and_leave_nothing_out() {
        let minute = 60_000;
        let walk = Walk::in_steps(1_000, 10 * minute, minute);
        let now = 100 * minute + 30_000;
        let first = walk.ask(now);
        assert_eq!(first, ask(90 * minute, 100 * minute, None));
        let id = walk.fetched(&first.unwrap(), None);
        walk.confirm(&id);
        assert_eq!(walk.ask(now + 20_000), None);
        assert_eq!(
            walk.ask(now + minute),
            ask(100 * minute, 101 * minute, None)
        );
    }

    #[test]
    fn a_forgotten_page_begins_its_window_again() {
        let walk = Walk::new(0, 1_000);
        let id = walk.fetched(&walk.ask(1_000).unwrap(), Some("p2".into()));
        walk.confirm(&id);
        walk.restart();
        assert_eq!(walk.ask(1_000), ask(0, 1_000, None));
    }
}
