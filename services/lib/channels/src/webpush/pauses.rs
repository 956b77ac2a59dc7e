//! Push services that asked to be left alone, remembered until the time has passed.
//!
//! An address of this channel is one browser, but a service's 429 concerns all of its browsers: so a
//! delivery to a service that named a wait is held until then, without asking it again. Bounded: at
//! most [`REMEMBERED`] origins.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::retry_after;

/// The most origins remembered. There are four large services; forgetting one costs a 429.
pub const REMEMBERED: usize = 1_024;

/// Until when each origin is left alone.
#[derive(Debug, Default)]
pub struct Pauses(Mutex<HashMap<String, Instant>>);

impl Pauses {
    /// How long an attempt at `origin` must still wait.
    #[must_use]
    pub fn wait(&self, origin: &str, now: Instant) -> Option<Duration> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = kept.get(origin)?.checked_duration_since(now)?;
        (!wait.is_zero()).then_some(wait)
    }

    /// Whether anybody is waited for: tells cheaply that nobody is, which is the usual case.
    #[must_use]
    pub fn any(&self, now: Instant) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, until| *until > now);
        !kept.is_empty()
    }

    /// Remembers a wait.
    pub fn pause(&self, origin: &str, wait: Duration, now: Instant) {
        let until = now + wait.min(retry_after::LONGEST);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= REMEMBERED {
            kept.retain(|_, until| *until > now);
        }
        if let Some(known) = kept.get_mut(origin) {
            *known = until.max(*known);
        } else if kept.len() < REMEMBERED {
            kept.insert(origin.to_owned(), until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_concerns_its_origin_and_passes() {
        let pauses = Pauses::default();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        pauses.pause("https://a", 3 * second, now);
        pauses.pause("https://a", second, now);
        assert_eq!(pauses.wait("https://a", now + second), Some(2 * second));
        assert_eq!(pauses.wait("https://b", now), None);
        assert_eq!(pauses.wait("https://a", now + 3 * second), None);
        assert!(pauses.any(now + second));
        assert!(!pauses.any(now + 3 * second));
        for i in 0..2 * REMEMBERED {
            pauses.pause(&format!("https://{i}"), second, now);
        }
        assert!(pauses.0.lock().unwrap().len() <= REMEMBERED);
    }
}
