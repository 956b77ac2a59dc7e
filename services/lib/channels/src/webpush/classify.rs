//! Answer to reaction, as a table. Pure.
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
//! | 400, 401, 403 of a known service that names another key (FCM's words R: web-push issue 941; Apple's M) | refused, `credential`: the subscription was made for another account |
//! | 400, 401, 403 of a known service that took this key before | refused, `credential` (D), likewise |
//! | more than 20 of these in a row; 400, 401, 403 of a known service that took nothing yet | the account's fault: key, token or encryption (D) |
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

/// What the provider has to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Reaction {
    /// Tell this result.
    Result(AttemptResult),
    /// A known service refused key, token or encryption: find out whose fault it is.
    KeyRefused {
        /// Whether it says that the subscription belongs to another key.
        named: bool,
    },
}

/// Words by which a service says that a subscription belongs to another key: FCM's `the VAPID
/// credentials in the authorization header do not correspond to the credentials used to create the
/// subscriptions` and `the key in the authorization header does not correspond to the sender ID used
/// to subscribe this user`, and Apple's reason (M). Mozilla's errno 109 says it of any refused token.
const OTHERS_KEY: &[&str] = &["not correspond to the", "vapidpkhashmismatch"];
/// Bytes of a body that are searched for them.
const SEARCHED: usize = 512;

fn names_others_key(body: &[u8]) -> bool {
    let said = String::from_utf8_lossy(body.get(..SEARCHED).unwrap_or(body)).to_lowercase();
    OTHERS_KEY.iter().any(|words| said.contains(words))
}

/// What an answer means. `wait` is `Retry-After` when there was one; `known` is whether the host is
/// one of the account's known push services.
pub fn classify(status: StatusCode, body: &[u8], wait: Option<Duration>, known: bool) -> Reaction {
    if known && matches!(status.as_u16(), 400 | 401 | 403) && by_errno(body, wait).is_none() {
        return Reaction::KeyRefused {
            named: names_others_key(body),
        };
    }
    Reaction::Result(result(status, body, wait))
}

/// What Mozilla's number says, where it decides.
fn by_errno(body: &[u8], wait: Option<Duration>) -> Option<AttemptResult> {
    let read = serde_json::from_slice::<ErrorBody>(body).ok()?;
    match read.errno {
        102 | 103 | 105 | 106 => Some(AttemptResult::Refused(Reason::InvalidAddress)),
        104 | 112 | 113 => Some(AttemptResult::Refused(Reason::InvalidContent)),
        201 => Some(throttled(wait)),
        202 => Some(AttemptResult::Unavailable),
        _ => None,
    }
}

const fn throttled(retry_after: Option<Duration>) -> AttemptResult {
    AttemptResult::Throttled {
        retry_after,
        scope: ThrottleScope::Address,
    }
}

fn result(status: StatusCode, body: &[u8], wait: Option<Duration>) -> AttemptResult {
    if status.is_success() {
        return AttemptResult::Accepted;
    }
    if let Some(told) = by_errno(body, wait) {
        return told;
    }
    match status.as_u16() {
        404 | 410 => AttemptResult::Refused(Reason::InvalidAddress),
        413 => AttemptResult::Refused(Reason::InvalidContent),
        429 => throttled(wait),
        502 | 503 if wait.is_some() => throttled(wait),
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
            let expected = Reaction::Result(expected);
            assert_eq!(of(status, "", wait, true), expected, "{status}");
        }
        for status in [400, 401, 403] {
            let refused = Reaction::Result(AttemptResult::Refused(Reason::Credential));
            assert_eq!(of(status, "", None, false), refused, "{status}");
            let unnamed = Reaction::KeyRefused { named: false };
            for body in [
                "",
                r#"{"code":401,"errno":109,"error":"Unauthorized"}"#,
                r#"{"code":400,"errno":110}"#,
                r#"{"reason":"BadJwtToken"}"#,
            ] {
                assert_eq!(of(status, body, None, true), unnamed, "{status} {body}");
            }
            for body in [
                "the VAPID credentials in the authorization header do not correspond to the \
                 credentials used to create the subscriptions.\n",
                "the key in the authorization header does not correspond to the sender ID used to \
                 subscribe this user",
                r#"{"reason":"VapidPkHashMismatch"}"#,
            ] {
                let named = Reaction::KeyRefused { named: true };
                assert_eq!(of(status, body, None, true), named, "{status} {body}");
                assert_eq!(of(status, body, None, false), refused, "{status} {body}");
            }
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
            (500, 999, AttemptResult::Unavailable),
        ] {
            let body = format!(r#"{{"code":{status},"errno":{errno},"error":"x","message":"y"}}"#);
            let expected = Reaction::Result(expected);
            assert_eq!(of(status, &body, None, true), expected, "{errno}");
        }
    }
}
