//! The `Retry-After` header (RFC 9110, 10.2.3): seconds or an HTTP date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest wait taken from an answer. A delivery expires after 30 days at most, so a longer wait
/// says nothing more, and a broken header cannot overflow a timer.
pub const LONGEST: Duration = Duration::from_hours(30 * 24);

/// Reads the header's value; `now_millis` is the Unix time against which a date is measured. A date
/// in the past is a wait of zero; what is neither form is `None`.
#[must_use]
pub fn parse(value: &str, now_millis: i64) -> Option<Duration> {
    let value = value.trim();
    if let Some(wait) = from_seconds(value) {
        return Some(wait);
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(now_millis).unwrap_or(0));
    Some(since(at, now).min(LONGEST))
}

/// Whole or broken seconds (Discord and some proxies send a fraction), rounded up to milliseconds so
/// that the wait is never shorter than what was asked.
#[must_use]
pub fn from_seconds(value: &str) -> Option<Duration> {
    if !value.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    value.parse::<f64>().ok().and_then(from_float)
}

/// A wait in seconds, rounded up to milliseconds; `None` for what is no wait (negative, not finite).
#[must_use]
pub fn from_float(seconds: f64) -> Option<Duration> {
    if !seconds.is_finite() || seconds < 0.0 {
        return None;
    }
    // Rounded to microseconds first: 1.1 is stored as 1.100000000000000088 and must not become
    // 1101 ms.
    let micros = (seconds.min(LONGEST.as_secs_f64()) * 1e6).round();
    let millis = (micros / 1e3).ceil();
    Duration::try_from_secs_f64(millis / 1e3)
        .ok()
        .map(|d| Duration::from_millis(u64::try_from(d.as_micros().div_ceil(1_000)).unwrap_or(0)))
}

fn since(later: SystemTime, earlier: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 784_111_777_000; // Sun, 06 Nov 1994 08:49:37 GMT

    #[test]
    fn seconds_and_dates_are_read() {
        assert_eq!(parse("120", NOW), Some(Duration::from_mins(2)));
        assert_eq!(parse(" 0 ", NOW), Some(Duration::ZERO));
        assert_eq!(
            parse("Sun, 06 Nov 1994 08:50:07 GMT", NOW),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            parse("Sun, 06 Nov 1994 08:49:07 GMT", NOW),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn nonsense_is_no_wait() {
        for text in ["", "soon", "-1", "1e9", "inf", "NaN", "..", "1.2.3"] {
            assert_eq!(parse(text, NOW), None, "{text}");
        }
    }

    #[test]
    fn a_broken_second_is_never_shortened_and_a_huge_one_is_bounded() {
        assert_eq!(from_float(1.1), Some(Duration::from_millis(1_100)));
        assert_eq!(from_float(0.3333), Some(Duration::from_millis(334)));
        assert_eq!(from_float(64.57), Some(Duration::from_millis(64_570)));
        assert_eq!(from_float(f64::NAN), None);
        assert_eq!(from_float(-0.1), None);
        assert_eq!(parse("99999999999999999999", NOW), Some(LONGEST));
    }
}
