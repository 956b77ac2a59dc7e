//! Slack's twin: `POST /services/T…/B…/…` (incoming webhooks, plain text answers) and
//! `POST /api/chat.postMessage` (errors in answers with status 200).
//!
//! The word of a webhook (`PUT /_sim/answers`, by its path) is a status and Slack's word, `404
//! no_service`; that of a conversation (by its id) is Slack's word, `is_archived`; `429 <seconds>` for
//! both. Addresses are `/hook/<hash>` and `/conversation/{id}`.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::control::json as json_of;
use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::{Answer, Question, Twin, header, with};
use crate::webhook::whole_seconds;
use crate::words::{Marked, Words, hidden, status_and_rest};

const POST_MESSAGE: &str = "/api/chat.postMessage";
/// Blocks of a message. [R: Slack, Block Kit]
const BLOCKS: usize = 50;
/// Characters of a text before Slack refuses it. (M: from memory)
const TEXT: usize = 40_000;

/// The twin.
#[derive(Default)]
pub(crate) struct Slack {
    words: Words,
}

fn is_webhook(path: &str) -> bool {
    let mut segments = path.strip_prefix("/services/").unwrap_or("").split('/');
    let mut part = || segments.next().is_some_and(|s| !s.is_empty());
    part() && part() && part() && segments.next().is_none()
}

fn word(status: u16, word: &str) -> Answer {
    let form = HeaderValue::from_static("text/plain");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, form)]);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    with(status, headers, word.to_owned())
}

fn limited(seconds: u64) -> Answer {
    let mut answer = json_of(
        StatusCode::TOO_MANY_REQUESTS,
        &json!({"ok": false, "error": "ratelimited"}),
    );
    if seconds > 0 {
        let headers = answer.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// Slack's word for a message that it would refuse.
fn fault(message: &Value) -> Option<&'static str> {
    let members = message.as_object()?;
    let text = members.get("text").and_then(Value::as_str).unwrap_or("");
    let blocks = members.get("blocks").map(|blocks| blocks.as_array());
    match blocks {
        Some(None) => return Some("invalid_blocks"),
        Some(Some(blocks)) if blocks.len() > BLOCKS => return Some("invalid_blocks"),
        Some(Some(_)) => {}
        None if text.is_empty() && !members.contains_key("attachments") => return Some("no_text"),
        None => {}
    }
    (text.chars().count() > TEXT).then_some("msg_too_long")
}

impl Slack {
    fn webhook(&self, path: &str, message: Option<&Value>) -> Answer {
        if let Some(said) = self.words.of(path) {
            return match status_and_rest(&said) {
                Some((429, seconds)) => limited(seconds.parse().unwrap_or(1)),
                Some((status, rest)) => word(status, rest),
                None => word(400, &said),
            };
        }
        match message.filter(|message| message.is_object()) {
            None => word(400, "invalid_payload"),
            Some(message) => match fault(message) {
                Some(fault) => word(400, fault),
                None => word(200, "ok"),
            },
        }
    }

    fn post_message(&self, question: &Question<'_>, message: Option<&Value>) -> Answer {
        let refused = |error: &str| json_of(StatusCode::OK, &json!({"ok": false, "error": error}));
        let authorization = header(question.parts, "authorization");
        if authorization.is_empty() {
            return refused("not_authed");
        }
        if !authorization.starts_with("Bearer xox") {
            return refused("invalid_auth");
        }
        let Some(message) = message.filter(|message| message.is_object()) else {
            return refused("invalid_json");
        };
        let channel = message["channel"].as_str().unwrap_or_default();
        if let Some(said) = self.words.of(channel) {
            return match status_and_rest(&said) {
                Some((_, seconds)) => limited(seconds.parse().unwrap_or(1)),
                None => refused(&said),
            };
        }
        if channel.is_empty() {
            return refused("channel_not_found");
        }
        match fault(message) {
            Some(fault) => refused(fault),
            None => json_of(
                StatusCode::OK,
                &json!({"ok": true, "channel": channel, "ts": question.now_us.to_string()}),
            ),
        }
    }
}

impl Twin for Slack {
    fn serves(&self, parts: &Parts) -> bool {
        let path = parts.uri.path();
        parts.method == Method::POST && (path == POST_MESSAGE || is_webhook(path))
    }

    fn words(&self) -> Option<&Words> {
        Some(&self.words)
    }

    fn identify(&self, parts: &Parts, body: &[u8], record: &mut dyn FnMut(&Arrived<'_>)) {
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        let marked = Marked::of(&[message["text"].as_str().unwrap_or_default()]);
        let path = match parts.uri.path() {
            POST_MESSAGE => {
                let channel = message["channel"].as_str().unwrap_or_default();
                format!("/conversation/{channel}")
            }
            hook => hidden("hook", hook),
        };
        marked.record(parts, "", &path, record);
    }

    fn answer(&self, question: &Question<'_>, act: Act) -> Answer {
        let path = question.parts.uri.path();
        match act {
            Act::Fail(500) => word(500, "rollup_error"),
            Act::Fail(status) => word(status, ""),
            Act::Throttle(wait) => limited(whole_seconds(wait)),
            // A reset or a silence never comes here.
            Act::Answer | Act::Reset | Act::Hang => {
                let message: Option<Value> = serde_json::from_slice(question.body).ok();
                if path == POST_MESSAGE {
                    self.post_message(question, message.as_ref())
                } else {
                    self.webhook(path, message.as_ref())
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_refused_as_slack_does() {
        assert_eq!(fault(&json!({"text": "x"})), None);
        assert_eq!(fault(&json!({})), Some("no_text"));
        assert_eq!(fault(&json!({"blocks": 1})), Some("invalid_blocks"));
        let blocks = vec![1; 51];
        assert_eq!(fault(&json!({"blocks": blocks})), Some("invalid_blocks"));
        let long = "x".repeat(40_001);
        assert_eq!(fault(&json!({"text": long})), Some("msg_too_long"));
        assert!(is_webhook("/services/T0/B0/x"));
        assert!(!is_webhook("/services/T0/B0") && !is_webhook("/services/T0/B0/x/y"));
    }
}
