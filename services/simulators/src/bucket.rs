//! A provider's own rate limit: a token bucket whose settings may change while it runs. Pure; the
//! caller brings the time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a provider takes: `rate` per second, and up to `burst` at once after a silence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Requests per second in the long run.
    pub rate: f64,
    /// Requests at once after a silence; at least 1.
    pub burst: f64,
    /// Milliseconds asked for in `Retry-After` of its 429; 0 sends none.
    #[serde(default)]
    pub retry_after_ms: u64,
}

impl Bucket {
    /// What is wrong with it.
    ///
    /// # Errors
    /// The first fault, naming its field.
    pub fn validate(&self) -> Result<(), String> {
        if !(self.rate.is_finite() && self.rate > 0.0) {
            return Err("bucket.rate must be above 0".to_owned());
        }
        if !(self.burst.is_finite() && self.burst >= 1.0) {
            return Err("bucket.burst must be at least 1".to_owned());
        }
        Ok(())
    }

    /// The wait a refusal asks for.
    #[must_use]
    pub const fn retry_after(&self) -> Duration {
        Duration::from_millis(self.retry_after_ms)
    }
}

/// How full a bucket is. It outlives a change of the bucket's settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Level {
    /// Tokens and the microsecond they were counted; full before the first request.
    counted: Option<(f64, u64)>,
}

impl Level {
    /// Whether the bucket has a token for a request at `now_us`; takes it.
    pub fn take(&mut self, bucket: &Bucket, now_us: u64) -> bool {
        let tokens = match self.counted {
            None => bucket.burst,
            Some((tokens, at)) => {
                let waited = Duration::from_micros(now_us.saturating_sub(at));
                (tokens + waited.as_secs_f64() * bucket.rate).min(bucket.burst)
            }
        };
        let taken = tokens >= 1.0;
        let left = if taken { tokens - 1.0 } else { tokens };
        let at = self.counted.map_or(now_us, |(_, at)| at.max(now_us));
        self.counted = Some((left, at));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: Bucket = Bucket {
        rate: 100.0,
        burst: 10.0,
        retry_after_ms: 0,
    };

    /// Requests taken when one comes every `every_us` from `from_us` for a second.
    fn taken(level: &mut Level, bucket: &Bucket, from_us: u64, every_us: u64) -> usize {
        (0..1_000_000 / every_us)
            .filter(|i| level.take(bucket, from_us + i * every_us))
            .count()
    }

    #[test]
    fn the_first_second_takes_burst_and_rate_and_every_later_one_the_rate() {
        let mut level = Level::default();
        assert_eq!(taken(&mut level, &BUCKET, 0, 1_000), 109);
        for second in 1..5 {
            let n = taken(&mut level, &BUCKET, second * 1_000_000, 1_000);
            assert!((99..=101).contains(&n), "{n}");
        }
    }

    #[test]
    fn what_stays_below_the_rate_is_always_taken() {
        let mut level = Level::default();
        for second in 0..5 {
            assert_eq!(taken(&mut level, &BUCKET, second * 1_000_000, 10_000), 100);
        }
    }

    #[test]
    fn a_change_of_the_rate_holds_at_once_and_brings_no_burst() {
        let mut level = Level::default();
        taken(&mut level, &BUCKET, 0, 1_000);
        let doubled = Bucket {
            rate: 200.0,
            ..BUCKET
        };
        let n = taken(&mut level, &doubled, 1_000_000, 1_000);
        assert!((199..=201).contains(&n), "{n}");
    }
}
