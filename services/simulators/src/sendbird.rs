//! Sendbird's twin: `POST /v3/group_channels/{channel_url}/messages`, with its memory of `dedup_id`.
//!
//! A channel's word (`PUT /_sim/answers`, by `channel_url`) is a code and a message, `400201 "channel"
//! not found.`; `429 <seconds>` for its limit. A second message with a known `dedup_id` sends nothing
//! and is answered 400202; what Sendbird answers is not documented. (M: from memory)

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::control::json as json_of;
use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::{Answer, Question, Twin, header};
use crate::webhook::whole_seconds;
use crate::words::{Marked, Words};

const RETRY_AFTER: HeaderName = HeaderName::from_static("x-ratelimit-retryafter");

/// The twin.
#[derive(Default)]
pub(crate) struct Sendbird {
    words: Words,
    /// Channel and `dedup_id` of every message taken.
    taken: Mutex<HashSet<(String, String)>>,
}

fn channel(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/v3/group_channels/")?;
    let channel = rest.strip_suffix("/messages")?;
    (!channel.is_empty() && !channel.contains('/')).then_some(channel)
}

fn error(status: u16, code: u32, message: &str) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    json_of(
        status,
        &json!({"error": true, "code": code, "message": message}),
    )
}

fn limited(seconds: u64) -> Answer {
    let mut answer = error(429, 500_910, "Too many requests.");
    if seconds > 0 {
        let headers = answer.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

impl Sendbird {
    fn served(&self, question: &Question<'_>) -> Answer {
        let path = question.parts.uri.path();
        let channel = channel(path).unwrap_or_default();
        if header(question.parts, "api-token").is_empty() {
            return error(400, 400_401, "Invalid API token.");
        }
        if let Some(word) = self.words.of(channel) {
            let (code, message) = word.split_once(' ').unwrap_or((&word, ""));
            return match code.parse() {
                Ok(429) => limited(message.parse().unwrap_or(1)),
                // Most errors come with HTTP 400.
                Ok(code @ 500_000..) => error(500, code, message),
                Ok(code) => error(400, code, message),
                Err(_) => error(400, 400_700, &word),
            };
        }
        let Ok(message) = serde_json::from_slice::<Value>(question.body) else {
            return error(400, 400_403, "Invalid JSON body.");
        };
        let text = |name: &str| message[name].as_str().unwrap_or_default();
        match (text("message_type"), text("user_id")) {
            ("MESG", "") => return error(400, 400_105, "\"user_id\" is missing."),
            ("MESG" | "ADMM", _) => {}
            _ => return error(400, 400_111, "\"message_type\" is invalid."),
        }
        if text("message").is_empty() {
            return error(400, 400_105, "\"message\" is missing.");
        }
        let key = (channel.to_owned(), text("dedup_id").to_owned());
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if !key.1.is_empty() && !taken.insert(key) {
            return error(400, 400_202, "\"dedup_id\" already exists.");
        }
        json_of(
            StatusCode::OK,
            &json!({
                "message_id": question.now_us,
                "channel_url": channel,
                "message": text("message"),
                "type": text("message_type"),
            }),
        )
    }
}

impl Twin for Sendbird {
    fn serves(&self, parts: &Parts) -> bool {
        parts.method == Method::POST && channel(parts.uri.path()).is_some()
    }

    fn words(&self) -> Option<&Words> {
        Some(&self.words)
    }

    fn identify(&self, parts: &Parts, body: &[u8], record: &mut dyn FnMut(&Arrived<'_>)) {
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        let marked = Marked::of(&[message["message"].as_str().unwrap_or_default()]);
        let id = message["dedup_id"].as_str().unwrap_or_default();
        let channel = channel(parts.uri.path()).unwrap_or_default();
        marked.record(parts, id, &format!("/group_channels/{channel}"), record);
    }

    fn answer(&self, question: &Question<'_>, act: Act) -> Answer {
        match act {
            Act::Fail(504) => error(504, 500_901, "Gateway time-out."),
            Act::Fail(status) => error(status, 500_901, "Internal server error."),
            Act::Throttle(wait) => limited(whole_seconds(wait)),
            // A reset or a silence never comes here.
            Act::Answer | Act::Reset | Act::Hang => self.served(question),
        }
    }
}
