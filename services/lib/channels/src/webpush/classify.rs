//! Answer to result, as a table. Pure.
//!
//! [R: RFC 8030, RFC 8292 and the documentation of the push services, 2026-08, unless tagged; M =
//! from memory, D = decided here]
//!
//! | answer | result |
//! |---|---|
//! | 2xx (201 everywhere) | accepted |
//! | 404, 410 | refused, `invalid_address`: the subscription is gone |
//! | 413 | refused, `invalid_content` |
//! | 429 | throttled, with `Retry-After` when given |
//! | 400, 401, 403 of a known service | the account's fault: key, token or encryption |
//! | 400, 401, 403 of any other host | refused, `credential` (D): a stranger must not stop the account |
//! | 502, 503 with `Retry-After` | throttled |
//! | 504 | unknown |
//! | other 4xx | refused, `provider_refused` |
//! | other 5xx, 3xx | unavailable |
//!
//! Mozilla says more in the `errno` of its JSON, which then decides before the status (M):
//!
//! | errno | result |
//! |---|---|
//! | 102, 103, 105, 106 (bad, expired, gone endpoint or subscription) | refused, `invalid_address` |
//! | 104 (too large), 112 (TTL), 113 (topic) | refused, `invalid_content` |
//! | 201 (slow down) | throttled |
//! | 202 (try again) | unavailable |
//! | any other | by the status |

use std::time::Duration;

use bongsu_domain::Reason;
use reqwest::StatusCode;
use serde::Deserialize;

use crate::provider::{AttemptResult, ThrottleScope};

/// What of Mozilla's error body is read.
#[derive(Deserialize)]
struct ErrorBody {
    errno: i64,
}

/// What an answer means. `wait` is `Retry-After` when there was one; `known` is whether the host is
/// one of the account's known push services.
pub fn classify(
    status: StatusCode,
    body: &[u8],
    wait: Option<Duration>,
    known: bool,
) -> AttemptResult {
    let throttled = AttemptResult::Throttled {
        retry_after: wait,
        scope: ThrottleScope::Address,
    };
    if status.is_success() {
        return AttemptResult::Accepted;
    }
    let errno = serde_json::from_slice::<ErrorBody>(body).map(|e| e.errno);
    match errno {
        Ok(102 | 103 | 105 | 106) => return AttemptResult::Refused(Reason::InvalidAddress),
        Ok(104 | 112 | 113) => return AttemptResult::Refused(Reason::InvalidContent),
        Ok(201) => return throttled,
        Ok(202) => return AttemptResult::Unavailable,
        Ok(_) | Err(_) => {}
    }
    match status.as_u16() {
        404 | 410 => AttemptResult::Refused(Reason::InvalidAddress),
        413 => AttemptResult::Refused(Reason::InvalidContent),
        429 => throttled,
        502 | 503 if wait.is_some() => throttled,
        400 | 401 | 403 if known => AttemptResult::AccountFault,
        400 | 401 | 403 => AttemptResult::Refused(Reason::Credential),
        504 => AttemptResult::Unknown,
        402..=499 => AttemptResult::Refused(Reason::ProviderRefused),
        _ => AttemptResult::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        let seven = Some(Duration::from_secs(7));
        let throttled = |retry_after| AttemptResult::Throttled {
            retry_after,
            scope: ThrottleScope::Address,
        };
        let (address, content) = (
            AttemptResult::Refused(Reason::InvalidAddress),
            AttemptResult::Refused(Reason::InvalidContent),
        );
        let of = |status: u16, body: &str, wait, known| {
            let status = StatusCode::from_u16(status).unwrap();
            classify(status, body.as_bytes(), wait, known)
        };
        for (status, wait, expected) in [
            (200, None, AttemptResult::Accepted),
            (201, None, AttemptResult::Accepted),
            (202, seven, AttemptResult::Accepted),
            (307, None, AttemptResult::Unavailable),
            (400, None, AttemptResult::AccountFault),
            (401, None, AttemptResult::AccountFault),
            (403, None, AttemptResult::AccountFault),
            (404, None, address),
            (406, None, AttemptResult::Refused(Reason::ProviderRefused)),
            (410, None, address),
            (413, None, content),
            (429, None, throttled(None)),
            (429, seven, throttled(seven)),
            (500, seven, AttemptResult::Unavailable),
            (502, None, AttemptResult::Unavailable),
            (502, seven, throttled(seven)),
            (503, None, AttemptResult::Unavailable),
            (503, seven, throttled(seven)),
            (504, seven, AttemptResult::Unknown),
        ] {
            assert_eq!(of(status, "", wait, true), expected, "{status}");
        }
        for status in [400, 401, 403] {
            let refused = AttemptResult::Refused(Reason::Credential);
            assert_eq!(of(status, "", None, false), refused, "{status}");
        }
        for (status, errno, expected) in [
            (404, 102, address),
            (410, 103, address),
            (400, 105, address),
            (400, 106, address),
            (413, 104, content),
            (400, 112, content),
            (400, 113, content),
            (503, 201, throttled(None)),
            (503, 202, AttemptResult::Unavailable),
            (401, 109, AttemptResult::AccountFault),
            (400, 110, AttemptResult::AccountFault),
            (500, 999, AttemptResult::Unavailable),
        ] {
            let body = format!(r#"{{"code":{status},"errno":{errno},"error":"x","message":"y"}}"#);
            assert_eq!(of(status, &body, None, true), expected, "{errno}");
        }
    }
}
