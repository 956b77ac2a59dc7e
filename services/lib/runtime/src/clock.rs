//! Wall-clock time on tokio's clock, so that paused tests and simulations own it.

use tokio::time::Instant;

/// Milliseconds since the epoch, moving with tokio's (perhaps virtual) clock.
///
/// Copies share the same base; a system clock that jumps does not move it backwards.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base: Instant,
    base_millis: i64,
    /// Whether suspended time counts in [`Clock::unsleeping_millis`].
    counts_sleep: bool,
}

impl Clock {
    /// Reads the system clock once. Needs a tokio runtime only when its clock is paused.
    #[must_use]
    pub fn system() -> Self {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        Self {
            counts_sleep: true,
            ..Self::starting_at(since)
        }
    }

    /// A clock that shows `millis` now.
    #[must_use]
    pub fn starting_at(millis: i64) -> Self {
        Self {
            base: Instant::now(),
            base_millis: millis,
            counts_sleep: false,
        }
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn now_millis(&self) -> i64 {
        let elapsed = Instant::now()
            .saturating_duration_since(self.base)
            .as_millis();
        self.base_millis
            .saturating_add(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }

    /// Milliseconds from some moment on, in which a suspended machine's sleep is counted: what a
    /// lease is measured with. Tokio's own (perhaps virtual) clock where [`Clock::starting_at`] was
    /// asked for.
    #[must_use]
    pub fn unsleeping_millis(&self) -> i64 {
        if !self.counts_sleep {
            return self.now_millis();
        }
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        since_boot
            .tv_sec
            .saturating_mul(1_000)
            .saturating_add(since_boot.tv_nsec / 1_000_000)
    }

    /// The tokio instant at which this clock will show `millis`; now, when that has passed.
    #[must_use]
    pub fn instant_of(&self, millis: i64) -> Instant {
        let ahead = millis.saturating_sub(self.now_millis());
        Instant::now() + std::time::Duration::from_millis(u64::try_from(ahead).unwrap_or(0))
    }
}
