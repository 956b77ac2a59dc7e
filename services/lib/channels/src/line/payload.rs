//! Content to request. Pure.

use bongsu_domain::{Channel, Class, Delivery};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::config::Account;
use crate::text::Parts;

/// Characters of a text, in UTF-16 units. (M: from memory)
pub const TEXT_CHARS: usize = 5_000;
/// Messages of one push. (M: from memory)
pub const MESSAGES: usize = 5;

/// A content that is no message. Never holds the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ContentFault {
    /// Nothing to show.
    #[error("has no title, body, link or image")]
    Empty,
    /// The override cannot be used.
    #[error(
        "has an override for line that is no JSON object with 1 to {MESSAGES} messages, or names whom it is for"
    )]
    Override,
}

/// The body of a push to `to`. A raw override for `line` is sent as it is, with `to` added.
///
/// # Errors
/// [`ContentFault`].
pub fn body(delivery: &Delivery, to: &str, account: &Account) -> Result<Vec<u8>, ContentFault> {
    let raw = delivery.content.overrides.get(Channel::Line.as_str());
    let mut push: Map<String, Value> = match raw {
        Some(text) => serde_json::from_str(text).map_err(|_| ContentFault::Override)?,
        None => made(delivery, account)?,
    };
    let messages = push.get("messages").and_then(Value::as_array);
    let some = messages.is_some_and(|m| (1..=MESSAGES).contains(&m.len()));
    if !some || push.insert("to".to_owned(), to.into()).is_some() {
        return Err(ContentFault::Override);
    }
    serde_json::to_vec(&push).map_err(|_| ContentFault::Override)
}

fn made(delivery: &Delivery, account: &Account) -> Result<Map<String, Value>, ContentFault> {
    let content = &delivery.content;
    let mut messages = Vec::new();
    if let Some(text) = Parts::of(content).joined(TEXT_CHARS) {
        messages.push(json!({"type": "text", "text": text}));
    }
    // LINE takes images over TLS only. [M]
    let image = content.image.as_deref();
    if let Some(url) = image.filter(|url| url.starts_with("https://")) {
        messages.push(json!({"type": "image", "originalContentUrl": url, "previewImageUrl": url}));
    }
    if messages.is_empty() {
        return Err(ContentFault::Empty);
    }
    let mut push = Map::from_iter([("messages".to_owned(), Value::Array(messages))]);
    if account.silent_bulk && delivery.class == Class::Bulk {
        push.insert("notificationDisabled".to_owned(), true.into());
    }
    Ok(push)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::tests::delivery;

    const TO: &str = "U0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";

    fn sent(delivery: &Delivery) -> Result<String, ContentFault> {
        let body = body(delivery, TO, &Account::default())?;
        Ok(String::from_utf8(body).unwrap())
    }

    #[test]
    fn a_content_is_a_text_and_an_image() {
        let mut delivery = delivery(TO);
        delivery.content.image = Some("https://x.example/i.png".into());
        delivery.class = Class::Bulk;
        assert_eq!(
            sent(&delivery).unwrap(),
            format!(
                r#"{{"messages":[{{"text":"Paid\nYour order is paid.","type":"text"}},{{"originalContentUrl":"https://x.example/i.png","previewImageUrl":"https://x.example/i.png","type":"image"}}],"notificationDisabled":true,"to":"{TO}"}}"#
            )
        );
        delivery.content = bongsu_domain::Content::default();
        assert_eq!(sent(&delivery), Err(ContentFault::Empty));
    }

    #[test]
    fn an_override_brings_its_messages_and_nobody_else() {
        let mut delivery = delivery(TO);
        let mut with = |text: &str| {
            let overrides = &mut delivery.content.overrides;
            overrides.insert("line".into(), text.into());
            sent(&delivery)
        };
        assert!(with(r#"{"messages":[{"type":"sticker"}]}"#).is_ok());
        for bad in [
            "[]",
            "{}",
            r#"{"messages":[]}"#,
            r#"{"messages":[1,2,3,4,5,6]}"#,
            r#"{"messages":[1],"to":"U1"}"#,
        ] {
            assert_eq!(with(bad), Err(ContentFault::Override), "{bad}");
        }
    }
}
