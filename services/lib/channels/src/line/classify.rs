//! Answer to result, as a table. Pure.
//!
//! All of it is from memory (M; LINE Developers, "Messaging API reference"); D = decided here.
//!
//! | answer | result |
//! |---|---|
//! | 2xx with `sentMessages`, or the empty object of earlier years | accepted |
//! | any other 2xx | unknown |
//! | 409 | accepted: an earlier attempt with the same `X-Line-Retry-Key` arrived |
//! | 400 about the property `to`, or `Failed to send messages` | refused, `invalid_address` |
//! | other 400, 413, 415 | refused, `invalid_content` |
//! | 401, 403 | account fault |
//! | 429 `You have reached your monthly limit.` | account fault: nothing goes before the next month or plan |
//! | other 429 | throttled for `Retry-After` when there is one, the account |
//! | 500 | unavailable |
//! | 504 | unknown |

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::verdict::{Reactions, Verdict, by_beginning};

/// Status, beginning of the message, what it means; the first that fits.
const TABLE: &[(u16, &str, Verdict)] = &[
    (409, "", Verdict::Accepted),
    (
        400,
        "The property, 'to', in the request body is invalid",
        Verdict::InvalidAddress,
    ),
    (400, "Failed to send messages", Verdict::InvalidAddress),
    (400, "", Verdict::InvalidContent),
    (413, "", Verdict::InvalidContent),
    (415, "", Verdict::InvalidContent),
    (401, "", Verdict::AccountFault),
    (403, "", Verdict::AccountFault),
    (
        429,
        "You have reached your monthly limit",
        Verdict::AccountFault,
    ),
    (429, "", Verdict::ThrottledAccount),
];

/// What of an answer is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    message: Option<String>,
}

/// What an answer means; `wait` is `Retry-After` when there was one.
pub fn classify(status: u16, body: &[u8], wait: Option<Duration>, own: &Reactions) -> Verdict {
    let read: Body = serde_json::from_slice(body).unwrap_or_default();
    let Some(message) = read.message else {
        if matches!(status, 200..=299) && is_taken(body) {
            return Verdict::Accepted;
        }
        return Verdict::of_status(status, wait);
    };
    let said = format!("{status} {message}");
    if let Some(verdict) = by_beginning(&said, own) {
        return verdict;
    }
    let line = TABLE
        .iter()
        .find(|(of, start, _)| *of == status && message.starts_with(start));
    line.map_or(Verdict::of_status(status, wait), |(.., verdict)| *verdict)
}

/// Whether a body is what LINE answers when it has taken a push.
fn is_taken(body: &[u8]) -> bool {
    let read = serde_json::from_slice::<Map<String, Value>>(body);
    read.is_ok_and(|read| read.is_empty() || read.contains_key("sentMessages"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(status: u16, message: &str) -> Verdict {
        let body = json!({"message": message}).to_string();
        classify(status, body.as_bytes(), None, &Reactions::new())
    }

    #[test]
    fn the_table_holds() {
        for (status, message, verdict) in [
            (409, "The retry key is already accepted", Verdict::Accepted),
            (
                400,
                "The property, 'to', in the request body is invalid (line: -, column: -)",
                Verdict::InvalidAddress,
            ),
            (400, "Failed to send messages", Verdict::InvalidAddress),
            (
                400,
                "The request body has 1 error(s)",
                Verdict::InvalidContent,
            ),
            (413, "Payload Too Large", Verdict::InvalidContent),
            (
                401,
                "Authentication failed due to the following reason: invalid token.",
                Verdict::AccountFault,
            ),
            (
                403,
                "Access to this API is not available for your account",
                Verdict::AccountFault,
            ),
            (
                429,
                "You have reached your monthly limit.",
                Verdict::AccountFault,
            ),
            (
                429,
                "The API rate limit has been exceeded. Try again later.",
                Verdict::ThrottledAccount,
            ),
            (500, "Internal Server Error", Verdict::Unavailable),
        ] {
            assert_eq!(of(status, message), verdict, "{status} {message}");
        }
        let own = Reactions::from([
            ("400".to_owned(), Verdict::Unknown),
            ("400 Failed".to_owned(), Verdict::NotReachable),
        ]);
        let body = br#"{"message":"Failed to send messages"}"#;
        assert_eq!(classify(400, body, None, &own), Verdict::NotReachable);
    }

    #[test]
    fn what_is_not_lines_word_condemns_nobody() {
        for body in ["", "<html>", "{}", "[]"] {
            let of = |status| classify(status, body.as_bytes(), None, &Reactions::new());
            assert_eq!(of(400), Verdict::Unavailable);
            assert_eq!(of(401), Verdict::Unavailable);
            assert_eq!(of(409), Verdict::Unavailable);
            assert_eq!(of(504), Verdict::Unknown);
        }
        let of = |body: &str| classify(200, body.as_bytes(), None, &Reactions::new());
        for body in ["{}", r#"{"sentMessages":[{"id":"1"}]}"#] {
            assert_eq!(of(body), Verdict::Accepted, "{body}");
        }
        for body in ["", "<html>", "[]", r#"{"page":1}"#, r#"{"message":"x"}"#] {
            assert_eq!(of(body), Verdict::Unknown, "{body}");
        }
    }
}
