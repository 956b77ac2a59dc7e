//! Answer to result, as a table. Pure.
//!
//! The error code in the JSON body decides before the status. [R: discord-api-docs, 2026-08, unless
//! tagged; M = from memory, D = decided here]
//!
//! | answer | result |
//! |---|---|
//! | 2xx | accepted |
//! | code 50035 (form), 50006 (empty), 40005 (too large) | refused, `invalid_content` |
//! | code 200000, 200001 (automod), 240000 (harmful link) | refused, `invalid_content` |
//! | code 220001 to 220003 (a forum needs a thread) | refused, `invalid_address`: the address lacks its `thread_id` |
//! | code 10015 (unknown webhook), 50027 (invalid token), 10003 (unknown thread; M) | refused, `invalid_address` |
//! | code 20028, 20029, 130000 (write limits, overloaded) | throttled |
//! | code 40333 (blocked by Cloudflare; M) | throttled for 60 s |
//! | 429 with JSON | throttled for its `retry_after`, to the millisecond |
//! | 429 with JSON and `X-RateLimit-Global` or scope `global` | the same, for everything from our IP ([`super::buckets`]) |
//! | 429 or 403 without JSON: a block or ban of our IP | throttled for `Retry-After`, else 60 s (D) |
//! | other 400, 413 | refused, `invalid_content` |
//! | other 401, 403, 404 with a code | refused, `invalid_address`: using it again is punished |
//! | 401, 404 without a code | unavailable (D): not Discord's word about a webhook but a wrong `api_base` |
//! | 504 | unknown |
//! | 3xx, other 4xx, other 5xx | unavailable; throttled when 502 or 503 names a `Retry-After` |

use std::time::Duration;

use bongsu_domain::Reason;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use crate::provider::{AttemptResult, ThrottleScope};
use crate::retry_after;

/// How long to stay away from Discord after an answer that is not Discord's but Cloudflare's in
/// front of it. Decided here: the block's real length is not said; every further request prolongs it.
pub const BLOCKED: Duration = Duration::from_mins(1);

/// What of an error body is read.
#[derive(Debug, Default, Deserialize)]
struct ErrorBody {
    code: Option<i64>,
    retry_after: Option<f64>,
}

/// What an answer means. `header` is `Retry-After` when there was one.
pub fn classify(status: StatusCode, body: &[u8], header: Option<Duration>) -> AttemptResult {
    if status.is_success() {
        return AttemptResult::Accepted;
    }
    let error: Option<ErrorBody> = serde_json::from_slice(body).ok();
    let wait = error
        .as_ref()
        .and_then(|e| e.retry_after)
        .and_then(retry_after::from_float)
        .or(header);
    let code = error.as_ref().and_then(|e| e.code).unwrap_or(0);
    by_code(code, wait).unwrap_or_else(|| by_status(status, error.is_some(), code, wait))
}

/// Whether an answer counts towards the ban of our IP: 401, 403 and 429 (of which scope `shared` does
/// not count: the limit is not ours). [R: discord-api-docs, 2026-08] 404 is counted to be safe. (D)
#[must_use]
pub fn is_strike(status: StatusCode, headers: &HeaderMap) -> bool {
    match status.as_u16() {
        401 | 403 | 404 => true,
        429 => headers
            .get("x-ratelimit-scope")
            .is_none_or(|scope| scope != "shared"),
        _ => false,
    }
}

/// The embeds that a form error names (`errors.embeds.<n>`), in rising order.
#[must_use]
pub fn named_embeds(body: &[u8]) -> Vec<usize> {
    #[derive(Deserialize)]
    struct Named {
        errors: Option<Errors>,
    }
    #[derive(Deserialize)]
    struct Errors {
        embeds: Option<serde_json::Map<String, Value>>,
    }
    let named: Option<Named> = serde_json::from_slice(body).ok();
    let embeds = named.and_then(|n| n.errors).and_then(|e| e.embeds);
    let mut places: Vec<usize> = embeds
        .iter()
        .flat_map(|embeds| embeds.keys())
        .filter_map(|n| n.parse().ok())
        .collect();
    places.sort_unstable();
    places
}

fn by_code(code: i64, wait: Option<Duration>) -> Option<AttemptResult> {
    Some(match code {
        50_035 | 50_006 | 40_005 | 200_000 | 200_001 | 240_000 => {
            AttemptResult::Refused(Reason::InvalidContent)
        }
        220_001..=220_003 | 10_015 | 10_003 | 50_027 => {
            AttemptResult::Refused(Reason::InvalidAddress)
        }
        20_028 | 20_029 | 130_000 => AttemptResult::Throttled {
            retry_after: wait,
            scope: ThrottleScope::Address,
        },
        40_333 => blocked(wait),
        _ => return None,
    })
}

fn by_status(
    status: StatusCode,
    is_json: bool,
    code: i64,
    wait: Option<Duration>,
) -> AttemptResult {
    match (status.as_u16(), is_json) {
        (429, true) | (502 | 503, _) if wait.is_some() || status.as_u16() == 429 => {
            AttemptResult::Throttled {
                retry_after: wait,
                scope: ThrottleScope::Address,
            }
        }
        (429 | 403, false) => blocked(wait),
        (400 | 413, _) => AttemptResult::Refused(Reason::InvalidContent),
        (403, true) => AttemptResult::Refused(Reason::InvalidAddress),
        (401 | 404, true) if code != 0 => AttemptResult::Refused(Reason::InvalidAddress),
        (504, _) => AttemptResult::Unknown,
        _ => AttemptResult::Unavailable,
    }
}

/// What stands in front of Discord refuses the IP address, not the webhook.
fn blocked(wait: Option<Duration>) -> AttemptResult {
    AttemptResult::Throttled {
        retry_after: wait.or(Some(BLOCKED)),
        scope: ThrottleScope::Worker,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str, header: Option<u64>) -> AttemptResult {
        let status = StatusCode::from_u16(status).unwrap();
        classify(status, body.as_bytes(), header.map(Duration::from_secs))
    }

    fn throttled(millis: u64) -> AttemptResult {
        AttemptResult::Throttled {
            retry_after: Some(Duration::from_millis(millis)),
            scope: ThrottleScope::Address,
        }
    }

    /// A block concerns everything that leaves from our IP.
    fn blocked(millis: u64) -> AttemptResult {
        AttemptResult::Throttled {
            retry_after: Some(Duration::from_millis(millis)),
            scope: ThrottleScope::Worker,
        }
    }

    #[test]
    fn the_table_holds() {
        let content = AttemptResult::Refused(Reason::InvalidContent);
        let address = AttemptResult::Refused(Reason::InvalidAddress);
        for (status, body, result) in [
            (204, "", AttemptResult::Accepted),
            (200, "{}", AttemptResult::Accepted),
            (302, "", AttemptResult::Unavailable),
            (400, r#"{"code":50035}"#, content),
            (400, r#"{"code":50006}"#, content),
            (400, r#"{"code":220001}"#, address),
            (400, "", content),
            (403, r#"{"code":200000}"#, content),
            (400, r#"{"code":240000}"#, content),
            (413, r#"{"code":40005}"#, content),
            (401, r#"{"code":50027}"#, address),
            (403, r#"{"code":50013}"#, address),
            (404, r#"{"code":10015}"#, address),
            (404, r#"{"code":0}"#, AttemptResult::Unavailable),
            (404, "<html>", AttemptResult::Unavailable),
            (403, "<html>", blocked(60_000)),
            (500, "", AttemptResult::Unavailable),
            (502, "", AttemptResult::Unavailable),
            (504, "", AttemptResult::Unknown),
        ] {
            assert_eq!(of(status, body, None), result, "{status} {body}");
        }
    }

    #[test]
    fn a_rate_limit_is_read_to_the_millisecond_and_from_the_body_first() {
        let body =
            r#"{"message":"You are being rate limited.","retry_after":1.336,"global":false}"#;
        assert_eq!(of(429, body, Some(2)), throttled(1_336));
        assert_eq!(of(429, "{}", Some(2)), throttled(2_000));
        assert_eq!(
            of(429, "{}", None),
            AttemptResult::Throttled {
                retry_after: None,
                scope: ThrottleScope::Address,
            }
        );
        assert_eq!(
            of(503, r#"{"code":130000}"#, None),
            AttemptResult::Throttled {
                retry_after: None,
                scope: ThrottleScope::Address,
            }
        );
        assert_eq!(of(503, "", Some(3)), throttled(3_000));
    }

    #[test]
    fn a_block_by_cloudflare_keeps_us_away_for_long() {
        assert_eq!(of(429, "<html>banned</html>", None), blocked(60_000));
        assert_eq!(of(429, "<html>banned</html>", Some(600)), blocked(600_000));
    }

    #[test]
    fn what_counts_towards_a_ban_is_told_from_what_does_not() {
        let scope = |scope: &'static str| {
            HeaderMap::from_iter([("x-ratelimit-scope".parse().unwrap(), scope.parse().unwrap())])
        };
        for (status, headers, strike) in [
            (204, HeaderMap::new(), false),
            (400, HeaderMap::new(), false),
            (401, HeaderMap::new(), true),
            (403, HeaderMap::new(), true),
            (404, HeaderMap::new(), true),
            (429, HeaderMap::new(), true),
            (429, scope("user"), true),
            (429, scope("global"), true),
            (429, scope("shared"), false),
            (500, HeaderMap::new(), false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_strike(status, &headers), strike, "{status} {headers:?}");
        }
    }

    #[test]
    fn a_form_error_names_its_embeds() {
        let body = br#"{"code":50035,"errors":{"embeds":{"10":{},"3":{"title":{"_errors":[]}}}}}"#;
        assert_eq!(named_embeds(body), [3, 10]);
        for other in [
            r#"{"errors":{"embeds":{"_errors":[]}}}"#,
            r#"{"errors":{"content":{}}}"#,
            "{}",
            "<html>",
        ] {
            assert_eq!(named_embeds(other.as_bytes()), [0_usize; 0], "{other}");
        }
    }
}
