//! Telegram's twin: `POST /bot{token}/sendMessage`.
//!
//! A chat's word (`PUT /_sim/answers`, by `chat_id`) is a status and a description, `403 Forbidden: bot
//! was blocked by the user`; `429 <seconds>`; or `migrate <chat_id>`, after which only the new chat is
//! there. Addresses are `/chat/{chat_id}`; bots' tokens are secrets and are not recorded.

use std::time::Duration;

use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::control::json as json_of;
use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::{Answer, Question, Twin};
use crate::webhook::whole_seconds;
use crate::words::{Marked, Words, status_and_rest};

/// Characters of a text. [R: Telegram, Bot API]
const TEXT: usize = 4_096;

/// The twin.
#[derive(Default)]
pub(crate) struct Telegram {
    words: Words,
}

/// Whether a path is `/bot{token}/sendMessage` with a token of the right form.
fn token(path: &str) -> Option<&str> {
    let token = path.strip_prefix("/bot")?.strip_suffix("/sendMessage")?;
    let (id, secret) = token.split_once(':')?;
    let digits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
    (digits && secret.len() >= 20).then_some(token)
}

fn chat(message: &Value) -> String {
    let chat = &message["chat_id"];
    let number = || chat.as_i64().map(|id| id.to_string());
    let name = chat.as_str().map(str::to_owned);
    name.or_else(number).unwrap_or_default()
}

fn error(status: u16, description: &str, parameters: Option<Value>) -> Answer {
    let mut body = json!({"ok": false, "error_code": status, "description": description});
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    json_of(status, &body)
}

fn limited(wait: Duration) -> Answer {
    let seconds = whole_seconds(wait);
    let description = format!("Too Many Requests: retry after {seconds}");
    error(429, &description, Some(json!({"retry_after": seconds})))
}

impl Telegram {
    fn of_word(word: &str) -> Answer {
        if let Some(id) = word.strip_prefix("migrate ") {
            let parameters = json!({"migrate_to_chat_id": id.parse::<i64>().unwrap_or_default()});
            let description = "Bad Request: group chat was upgraded to a supergroup chat";
            return error(400, description, Some(parameters));
        }
        match status_and_rest(word) {
            Some((429, seconds)) => limited(Duration::from_secs(seconds.parse().unwrap_or(1))),
            Some((status, description)) => error(status, description, None),
            None => error(400, word, None),
        }
    }

    fn served(&self, question: &Question<'_>) -> Answer {
        let message: Value = serde_json::from_slice(question.body).unwrap_or_default();
        let chat = chat(&message);
        let text = message["text"].as_str().unwrap_or_default();
        let bad = |why: &str| error(400, &format!("Bad Request: {why}"), None);
        if chat.is_empty() {
            return bad("chat_id is empty");
        }
        if let Some(word) = self.words.of(&chat) {
            return Self::of_word(&word);
        }
        if text.trim().is_empty() {
            return bad("message text is empty");
        }
        if text.encode_utf16().count() > TEXT {
            return bad("message is too long");
        }
        let mode = &message["parse_mode"];
        if !mode.is_null() && !matches!(mode.as_str(), Some("HTML" | "MarkdownV2" | "Markdown")) {
            return bad("unsupported parse_mode");
        }
        // The one thing of HTML that is looked at. [M]
        let open = text.matches('<').count() != text.matches('>').count();
        if mode.as_str() == Some("HTML") && open {
            return bad("can't parse entities: Unclosed start tag");
        }
        let result = json!({
            "message_id": question.now_us % 1_000_000_000,
            "chat": {"id": message["chat_id"]},
            "date": question.now_us / 1_000_000,
            "text": text,
        });
        json_of(StatusCode::OK, &json!({"ok": true, "result": result}))
    }
}

impl Twin for Telegram {
    fn serves(&self, parts: &Parts) -> bool {
        parts.method == Method::POST && token(parts.uri.path()).is_some()
    }

    fn words(&self) -> Option<&Words> {
        Some(&self.words)
    }

    fn identify(&self, parts: &Parts, body: &[u8], record: &mut dyn FnMut(&Arrived<'_>)) {
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        let marked = Marked::of(&[message["text"].as_str().unwrap_or_default()]);
        let path = format!("/chat/{}", chat(&message));
        marked.record(parts, "", &path, record);
    }

    fn answer(&self, question: &Question<'_>, act: Act) -> Answer {
        match act {
            Act::Fail(status) => error(status, "Internal Server Error", None),
            Act::Throttle(wait) => limited(wait),
            // A reset or a silence never comes here.
            Act::Answer | Act::Reset | Act::Hang => self.served(question),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bots_messages_are_served() {
        assert!(token("/bot123:ABCDEFGHIJKLMNOPQRSTU/sendMessage").is_some());
        for path in [
            "/bot123:short/sendMessage",
            "/botx:ABCDEFGHIJKLMNOPQRSTU/sendMessage",
            "/bot123:ABCDEFGHIJKLMNOPQRSTU/getMe",
            "/",
        ] {
            assert!(token(path).is_none(), "{path}");
        }
    }
}
