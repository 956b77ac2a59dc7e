//! Refusals for policy's sake (5.7.x: spam, a blocked sender), counted: one is about one mail, many
//! in a row are about us. Pure but for the lock.

use std::sync::{Mutex, PoisonError};

/// How many answers are remembered. Decided here: enough to tell a bad mail from a bad name.
const REMEMBERED: u32 = 32;
/// Below so many refusals nothing follows.
const LEAST: u32 = 8;

/// The last answers of one account.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    /// One bit per answer, the newest lowest; set for a refusal by policy.
    bits: u32,
    seen: u32,
}

impl Refusals {
    /// Notes an answer; whether policy now refuses more than half of everything.
    pub(super) fn note(&self, by_policy: bool) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.bits = (window.bits << 1) | u32::from(by_policy);
        window.seen = (window.seen + 1).min(REMEMBERED);
        let refused = window.bits.count_ones();
        let many = by_policy && refused >= LEAST && refused * 2 > window.seen;
        if many {
            // After the pause that follows, the count begins anew.
            *window = Window::default();
        }
        many
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_is_about_a_mail_and_many_are_about_us() {
        let refusals = Refusals::default();
        assert!((0..7).all(|_| !refusals.note(true)));
        assert!(refusals.note(true));
        assert!((0..7).all(|_| !refusals.note(true)), "it begins anew");
        let refusals = Refusals::default();
        for _ in 0..100 {
            assert!(!refusals.note(false));
            assert!(!refusals.note(true));
        }
    }
}
