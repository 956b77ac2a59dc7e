//! Answer to result, as a table. Pure.
//!
//! Sendbird answers most errors with HTTP 400, so its own `code` decides. (Sendbird *Calls* uses the
//! same numbers for other things.) [R: docs.sendbird.com and SDK issues 16 and 28, 2026-08, unless
//! tagged; M = from memory, D = decided here]
//!
//! | code | result |
//! |---|---|
//! | none, 2xx with a `message_id` | accepted |
//! | any other 2xx | unknown |
//! | 400202, and 400920 (M), about our `dedup_id` | accepted: an earlier attempt arrived |
//! | 400201 not found | refused, `invalid_address`; where it is a user: account fault when the account's own user was sent and no other, else refused, `provider_refused` |
//! | 400302 not a member (M), 400301 (M) | refused, `not_reachable` |
//! | 400100 to 400111 and other 4001xx: parameters (M) | refused, `invalid_content` |
//! | 400300 user deactivated (M) | account fault when the account's own user was sent and no other, else refused, `provider_refused` |
//! | 400401, 400403, 401xxx, 403100: token, plan, permission (M) | account fault |
//! | 429xxx, 500910, HTTP 429 | throttled for `X-RateLimit-RetryAfter`, the application |
//! | other 5009xx | unavailable |
//! | other 4xxxxx | refused, `provider_refused` (D) |
//! | 504 | unknown |

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::verdict::{Line, Reactions, Verdict, look_up};

/// The header of a wait, in seconds. [R: Sendbird, "Rate limits"]
pub const RETRY_AFTER: &str = "x-ratelimit-retryafter";

const TABLE: &[Line] = &[
    // [M]: what a copy is answered is not documented; these two say that it exists.
    (&["400202", "400920"], Verdict::Accepted),
    (&["400201"], Verdict::InvalidAddress),
    (&["400301", "400302"], Verdict::NotReachable), // [M]
    (
        &[
            "400100", "400101", "400102", "400103", "400104", "400105", "400106", "400107",
            "400108", "400110", "400111", "400112", "400113",
        ],
        Verdict::InvalidContent, // [M]
    ),
    (
        &["400300", "400401", "400403", "401100", "403100"],
        Verdict::AccountFault, // [M] but 403100
    ),
    (&["429100", "500910"], Verdict::ThrottledAccount), // [R partly]
];

/// What of an answer is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    error: bool,
    code: Option<u32>,
    message: String,
    message_id: Value,
}

/// What an answer means; `wait` is what its header asked for, `own_user` whether the account's own
/// user was sent and no other named.
pub fn classify(
    status: u16,
    body: &[u8],
    wait: Option<Duration>,
    own: &Reactions,
    own_user: bool,
) -> Verdict {
    let read: Body = serde_json::from_slice(body).unwrap_or_default();
    let code = match read.code {
        Some(code) if read.error => code,
        Some(_) | None if matches!(status, 200..=299) && !read.message_id.is_null() => {
            return Verdict::Accepted;
        }
        Some(_) | None => return Verdict::of_status(status, wait),
    };
    let told = look_up(&code.to_string(), own, TABLE);
    match (code, told) {
        // The same code for a user: no address is to blame, and the account only for its own.
        (400_201, Some(Verdict::InvalidAddress)) if names_user(&read.message) => {
            if own_user {
                Verdict::AccountFault
            } else {
                Verdict::ProviderRefused
            }
        }
        (400_300, Some(Verdict::AccountFault)) if !own_user => Verdict::ProviderRefused,
        (_, Some(verdict)) => verdict,
        (400_100..=400_199, None) => Verdict::InvalidContent,
        (401_000..=401_999 | 403_000..=403_999, None) => Verdict::AccountFault,
        (429_000..=429_999, None) => Verdict::ThrottledAccount,
        (400_000..=499_999, None) => match status {
            429 => Verdict::ThrottledAccount,
            _ => Verdict::ProviderRefused,
        },
        (_, None) => match status {
            400..=499 => Verdict::Unavailable,
            _ => Verdict::of_status(status, wait),
        },
    }
}

/// Whether a "not found" is about a user. [M: `"User" not found.`, `"channel" not found.`]
fn names_user(message: &str) -> bool {
    message.to_lowercase().contains("user")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, code: u32, message: &str) -> Verdict {
        let body = format!(r#"{{"error":true,"code":{code},"message":"{message}"}}"#);
        classify(status, body.as_bytes(), None, &Reactions::new(), true)
    }

    #[test]
    fn the_table_holds() {
        for (status, code, message, verdict) in [
            (400, 400_202, "duplicated", Verdict::Accepted),
            (400, 400_201, "channel not found.", Verdict::InvalidAddress),
            (400, 400_201, "User not found.", Verdict::AccountFault),
            (400, 400_302, "not a member", Verdict::NotReachable),
            (400, 400_100, "must be a string", Verdict::InvalidContent),
            (400, 400_111, "missing", Verdict::InvalidContent),
            (400, 400_151, "too long", Verdict::InvalidContent),
            (400, 400_401, "Invalid API token.", Verdict::AccountFault),
            (403, 403_100, "Application disabled.", Verdict::AccountFault),
            (
                429,
                500_910,
                "Too many requests.",
                Verdict::ThrottledAccount,
            ),
            (
                429,
                429_100,
                "Too many requests.",
                Verdict::ThrottledAccount,
            ),
            (500, 500_901, "Server error.", Verdict::Unavailable),
            (400, 500_901, "Server error.", Verdict::Unavailable),
            (400, 400_700, "something new", Verdict::ProviderRefused),
        ] {
            assert_eq!(of(status, code, message), verdict, "{code}");
        }
    }

    #[test]
    fn only_the_accounts_own_user_is_the_accounts_fault() {
        for (code, message) in [(400_201, "User not found."), (400_300, "User deactivated.")] {
            let body = format!(r#"{{"error":true,"code":{code},"message":"{message}"}}"#);
            let of = |own_user| classify(400, body.as_bytes(), None, &Reactions::new(), own_user);
            assert_eq!(of(true), Verdict::AccountFault, "{code}");
            assert_eq!(of(false), Verdict::ProviderRefused, "{code}");
        }
    }

    #[test]
    fn an_answer_without_a_code_is_judged_by_its_status() {
        let none = Reactions::new();
        let message = br#"{"message_id":1,"message":"x","type":"MESG"}"#;
        let accepted = classify(200, message, None, &none, true);
        assert_eq!(accepted, Verdict::Accepted);
        for body in ["", "<html>", "{}"] {
            let of = |status| classify(status, body.as_bytes(), None, &none, true);
            assert_eq!(of(200), Verdict::Unknown);
            assert_eq!(of(400), Verdict::Unavailable);
            assert_eq!(of(404), Verdict::Unavailable);
            assert_eq!(of(429), Verdict::ThrottledAccount);
            assert_eq!(of(504), Verdict::Unknown);
        }
        let own = Reactions::from([("400201".to_owned(), Verdict::NotReachable)]);
        let body = br#"{"error":true,"code":400201,"message":"channel not found"}"#;
        let told = classify(400, body, None, &own, true);
        assert_eq!(told, Verdict::NotReachable);
    }
}
