//! Answer to result, as a table. Pure.
//!
//! Telegram says what is wrong in a `description` for people, and says itself that it is no contract:
//! the table knows the beginnings that were seen, and an account may add its own. [R: public error
//! lists, 2026-08, unless tagged; M = from memory, D = decided here]
//!
//! | answer | result |
//! |---|---|
//! | 2xx with `ok: true` | accepted |
//! | any other 2xx | unknown |
//! | 400 with `migrate_to_chat_id` | the chat's new id is remembered, sent there at once |
//! | 400 chat not found, user not found; 403 bot was blocked by the user, user is deactivated, bot was kicked, not a member | refused, `invalid_address` |
//! | 403 bot can't send messages to the user, can't initiate conversation | refused, `not_reachable`: passed by itself in the past, so one such verdict retires nobody |
//! | 400 not enough rights, have no rights, `CHAT_WRITE_FORBIDDEN` (M) | refused, `not_reachable` |
//! | 401, 404 | account fault: the token is wrong (404: M) |
//! | other 400, 413 | refused, `invalid_content` |
//! | other 403 | refused, `not_reachable` (D) |
//! | 429 | throttled for `parameters.retry_after`, the whole bot |
//! | 504 | unknown |
//! | other 5xx, 3xx | unavailable |

use std::time::Duration;

use serde::Deserialize;

use crate::verdict::{Reactions, Verdict, begins_ok, by_beginning};

/// What descriptions begin with, after their `Bad Request: ` or `Forbidden: `.
const TABLE: &[(&[&str], Verdict)] = &[
    (
        &[
            "chat not found",
            "user not found",
            "bot was blocked by the user",
            "user is deactivated",
            "bot was kicked",
            "bot is not a member",
            "the group chat was deleted", // [M]
        ],
        Verdict::InvalidAddress,
    ),
    (
        &[
            "bot can't send messages to the user",
            "bot can't initiate conversation with a user",
            "bot can't send messages to bots",
            "not enough rights",    // [M]
            "have no rights",       // [M]
            "chat_write_forbidden", // [M]
        ],
        Verdict::NotReachable,
    ),
];

/// What of an answer is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    ok: Option<bool>,
    description: String,
    parameters: Parameters,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    retry_after: Option<f64>,
    migrate_to_chat_id: Option<i64>,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// What it means.
    pub verdict: Verdict,
    /// How long to wait.
    pub wait: Option<Duration>,
    /// The chat's new id: the group became a supergroup.
    pub moved_to: Option<i64>,
}

/// Reads an answer. `header` is `Retry-After` when there was one; `own` the account's reactions.
#[must_use]
pub fn classify(status: u16, body: &[u8], header: Option<Duration>, own: &Reactions) -> Said {
    let read: Body = serde_json::from_slice(body).unwrap_or_default();
    let asked = read.parameters.retry_after;
    let wait = asked.and_then(crate::retry_after::from_float).or(header);
    let moved_to = read.parameters.migrate_to_chat_id.filter(|_| status == 400);
    let verdict = match read.ok {
        _ if matches!(status, 200..=299) && (read.ok == Some(true) || begins_ok(body)) => {
            Verdict::Accepted
        }
        None => Verdict::of_status(status, wait),
        Some(_) => {
            by_description(&read.description, own).unwrap_or_else(|| by_status(status, wait))
        }
    };
    Said {
        verdict,
        wait,
        moved_to,
    }
}

fn by_description(description: &str, own: &Reactions) -> Option<Verdict> {
    if description.is_empty() {
        return None;
    }
    if let Some(verdict) = by_beginning(description, own) {
        return Some(verdict);
    }
    let lower = description.to_lowercase();
    let said = lower
        .split_once(": ")
        .map_or(lower.as_str(), |(_, said)| said);
    let mut lines = TABLE.iter();
    let line = lines.find(|(starts, _)| starts.iter().any(|start| said.starts_with(start)));
    line.map(|(_, verdict)| *verdict)
}

const fn by_status(status: u16, wait: Option<Duration>) -> Verdict {
    match status {
        400 | 413 => Verdict::InvalidContent,
        401 | 404 => Verdict::AccountFault,
        403 => Verdict::NotReachable,
        _ => Verdict::of_status(status, wait),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(status: u16, description: &str) -> Verdict {
        let body = json!({"ok": false, "error_code": status, "description": description});
        let body = body.to_string();
        classify(status, body.as_bytes(), None, &Reactions::new()).verdict
    }

    #[test]
    fn the_table_holds() {
        use Verdict::{
            AccountFault, InvalidAddress, InvalidContent, NotReachable, ThrottledAccount,
            Unavailable, Unknown,
        };
        for (status, description, verdict) in [
            (400, "Bad Request: chat not found", InvalidAddress),
            (400, "Bad Request: user not found", InvalidAddress),
            (
                403,
                "Forbidden: bot was blocked by the user",
                InvalidAddress,
            ),
            (403, "Forbidden: user is deactivated", InvalidAddress),
            (
                403,
                "Forbidden: bot was kicked from the supergroup chat",
                InvalidAddress,
            ),
            (
                403,
                "Forbidden: bot can't send messages to the user",
                NotReachable,
            ),
            (403, "Forbidden: something new", NotReachable),
            (400, "Bad Request: CHAT_WRITE_FORBIDDEN", NotReachable),
            (400, "Bad Request: message text is empty", InvalidContent),
            (
                400,
                "Bad Request: can't parse entities: x: y",
                InvalidContent,
            ),
            (401, "Unauthorized", AccountFault),
            (404, "Not Found", AccountFault),
            (429, "Too Many Requests: retry after 5", ThrottledAccount),
            (500, "Internal Server Error", Unavailable),
            (504, "Gateway Timeout", Unknown),
        ] {
            assert_eq!(of(status, description), verdict, "{description}");
        }
    }

    #[test]
    fn the_body_tells_the_wait_and_where_a_chat_moved() {
        let body = br#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35","parameters":{"retry_after":35}}"#;
        let said = classify(429, body, Some(Duration::from_secs(1)), &Reactions::new());
        assert_eq!(said.wait, Some(Duration::from_secs(35)));
        let body = br#"{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-1001}}"#;
        let said = classify(400, body, None, &Reactions::new());
        assert_eq!(said.moved_to, Some(-1001));
    }

    #[test]
    fn what_is_not_telegrams_word_condemns_nobody() {
        for body in ["", "<html>", "{}", "[]"] {
            let said = |status| classify(status, body.as_bytes(), None, &Reactions::new()).verdict;
            assert_eq!(said(403), Verdict::Unavailable);
            assert_eq!(said(404), Verdict::Unavailable);
            assert_eq!(said(200), Verdict::Unknown);
            assert_eq!(said(504), Verdict::Unknown);
        }
        let said = |body: &str| classify(200, body.as_bytes(), None, &Reactions::new()).verdict;
        assert_eq!(said(r#"{"ok":true,"result":{}}"#), Verdict::Accepted);
        assert_eq!(said(r#"{"ok":true,"result":{"te"#), Verdict::Accepted);
        assert_eq!(said(r#"{"ok":false}"#), Verdict::Unknown);
        let own = Reactions::from([
            ("Forbidden".to_owned(), Verdict::Unavailable),
            ("Forbidden: bot was k".to_owned(), Verdict::NotReachable),
        ]);
        let body = br#"{"ok":false,"description":"Forbidden: bot was kicked"}"#;
        let said = classify(403, body, None, &own);
        assert_eq!(said.verdict, Verdict::NotReachable);
    }
}
