//! LINE's twin: `POST /v2/bot/message/push`, with its memory of `X-Line-Retry-Key`. (M: from memory)
//!
//! The word of an id (`PUT /_sim/answers`) is a status and LINE's message, `403 Access to this API is
//! not available for your account`.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::control::json as json_of;
use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::{Answer, Question, Twin, header, plain};
use crate::webhook::whole_seconds;
use crate::words::{Marked, Words, status_and_rest};

const MESSAGES: usize = 5;
const TEXT: usize = 5_000;

/// The twin.
#[derive(Default)]
pub(crate) struct LineApi {
    words: Words,
    keys: Mutex<HashSet<String>>,
}

fn error(status: u16, message: &str) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    json_of(status, &json!({"message": message}))
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let digits = |b: u8| b.is_ascii_hexdigit() || b == b'-';
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(digits)
}

fn fault(push: &Value) -> Option<String> {
    let to = push["to"].as_str().unwrap_or_default();
    if to.len() != 33 || !to.starts_with(['U', 'C', 'R']) {
        let why = "The property, 'to', in the request body is invalid (line: -, column: -)";
        return Some(why.to_owned());
    }
    let messages = push["messages"].as_array().map_or(&[][..], Vec::as_slice);
    if !(1..=MESSAGES).contains(&messages.len()) {
        let why = "The property, 'messages', in the request body is invalid";
        return Some(why.to_owned());
    }
    let bad = |message: &Value| match message["type"].as_str() {
        Some("text") => {
            let text = message["text"].as_str().unwrap_or_default();
            text.is_empty() || text.encode_utf16().count() > TEXT
        }
        Some("image") => !message["originalContentUrl"]
            .as_str()
            .is_some_and(|url| url.starts_with("https://")),
        Some(_) => false,
        None => true,
    };
    let bad = messages.iter().filter(|message| bad(message)).count();
    (bad > 0).then(|| format!("The request body has {bad} error(s)"))
}

impl LineApi {
    fn served(&self, question: &Question<'_>) -> Answer {
        if !header(question.parts, "authorization").starts_with("Bearer ") {
            let why = "Authentication failed due to the following reason: invalid token. Confirm \
                       that the access token in the authorization header is valid.";
            return error(401, why);
        }
        let Ok(push) = serde_json::from_slice::<Value>(question.body) else {
            return error(400, "The request body could not be parsed as JSON");
        };
        let to = push["to"].as_str().unwrap_or_default();
        if let Some(word) = self.words.of(to) {
            return match status_and_rest(&word) {
                Some((status, message)) => error(status, message),
                None => error(400, &word),
            };
        }
        if let Some(why) = fault(&push) {
            return error(400, &why);
        }
        let key = header(question.parts, "x-line-retry-key");
        if !key.is_empty() && !is_uuid(key) {
            return error(400, "Invalid retry key");
        }
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if !key.is_empty() && !keys.insert(key.to_owned()) {
            return error(409, "The retry key is already accepted");
        }
        let id = question.now_us.to_string();
        let sent = json!([{"id": id, "quoteToken": "q"}]);
        json_of(StatusCode::OK, &json!({"sentMessages": sent}))
    }
}

impl Twin for LineApi {
    fn serves(&self, parts: &Parts) -> bool {
        parts.method == Method::POST && parts.uri.path() == "/v2/bot/message/push"
    }

    fn words(&self) -> Option<&Words> {
        Some(&self.words)
    }

    fn identify(&self, parts: &Parts, body: &[u8], record: &mut dyn FnMut(&Arrived<'_>)) {
        let push: Value = serde_json::from_slice(body).unwrap_or_default();
        let marked = Marked::of(&[push["messages"][0]["text"].as_str().unwrap_or_default()]);
        let path = format!("/to/{}", push["to"].as_str().unwrap_or_default());
        let key = header(parts, "x-line-retry-key");
        marked.record(parts, key, &path, record);
    }

    fn answer(&self, question: &Question<'_>, act: Act) -> Answer {
        match act {
            Act::Fail(500) => error(500, "Internal Server Error"),
            Act::Fail(status) => plain(StatusCode::from_u16(status).unwrap_or_default()),
            Act::Throttle(wait) => {
                let why = "The API rate limit has been exceeded. Try again later.";
                let mut answer = error(429, why);
                let seconds = HeaderValue::from(whole_seconds(wait));
                answer.headers_mut().insert(RETRY_AFTER, seconds);
                answer
            }
            // A reset or a silence never comes here.
            Act::Answer | Act::Reset | Act::Hang => self.served(question),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_refused_as_line_does() {
        let to = format!("U{}", "0a".repeat(16));
        let push = |messages: Value| fault(&json!({"to": to, "messages": messages}));
        assert_eq!(push(json!([{"type": "text", "text": "x"}])), None);
        assert!(push(json!([])).is_some());
        assert!(push(json!([{"type": "text", "text": ""}])).is_some());
        assert!(push(json!([{"type": "text", "text": "x".repeat(5_001)}])).is_some());
        assert!(push(json!([{"type": "image", "originalContentUrl": "http://x"}])).is_some());
        assert!(fault(&json!({"to": "U1", "messages": []})).is_some());
        assert!(is_uuid("123e4567-e89b-12d3-a456-426614174000") && !is_uuid("x"));
    }
}
