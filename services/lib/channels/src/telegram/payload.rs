//! Address and content to request. Pure.

use bongsu_domain::{Channel, Class, Delivery};
use serde_json::{Map, Value};
use thiserror::Error;

use super::config::Account;
use crate::text::{Parts, width};

/// Characters of a text, counted after its entities were read. [R: Telegram, Bot API, 2026-08].
/// Counted here in UTF-16 units of the text as it is written, which are never fewer.
pub const TEXT_CHARS: usize = 4_096;

/// A content that is no message. Never holds the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ContentFault {
    /// Nothing to show.
    #[error("has no title, body or link")]
    Empty,
    /// Too long, and cutting would break its entities.
    #[error("is longer than {TEXT_CHARS} characters, and may not be cut in this parse mode")]
    TooLong,
    /// The override cannot be used.
    #[error("has an override for telegram that is no JSON object, or names a chat")]
    Override,
}

/// The body of `sendMessage`. A raw override for `telegram` is sent as it is, with the chat added.
///
/// # Errors
/// [`ContentFault`].
pub fn body(delivery: &Delivery, chat: &str, account: &Account) -> Result<Vec<u8>, ContentFault> {
    let raw = delivery.content.overrides.get(Channel::Telegram.as_str());
    let mut message = match raw {
        Some(text) => serde_json::from_str(text).map_err(|_| ContentFault::Override)?,
        None => made(delivery, account)?,
    };
    let chat: Value = match chat.parse::<i64>() {
        Ok(number) => number.into(),
        Err(_) => chat.into(),
    };
    if message.insert("chat_id".to_owned(), chat).is_some() {
        return Err(ContentFault::Override);
    }
    serde_json::to_vec(&message).map_err(|_| ContentFault::Override)
}

fn made(delivery: &Delivery, account: &Account) -> Result<Map<String, Value>, ContentFault> {
    let parts = Parts::of(&delivery.content);
    let mode = account.parse_mode.word();
    let limit = if mode.is_some() {
        usize::MAX
    } else {
        TEXT_CHARS
    };
    let text = parts.joined(limit).ok_or(ContentFault::Empty)?;
    if width(&text) > TEXT_CHARS {
        return Err(ContentFault::TooLong);
    }
    let mut message = Map::from_iter([("text".to_owned(), Value::String(text))]);
    if let Some(mode) = mode {
        message.insert("parse_mode".to_owned(), mode.into());
    }
    if account.silent_bulk && delivery.class == Class::Bulk {
        message.insert("disable_notification".to_owned(), true.into());
    }
    if account.allow_paid_broadcast {
        message.insert("allow_paid_broadcast".to_owned(), true.into());
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::config::ParseMode;
    use super::*;
    use crate::provider::tests::delivery;

    fn written(delivery: &Delivery, chat: &str, account: &Account) -> Value {
        serde_json::from_slice(&body(delivery, chat, account).unwrap()).unwrap()
    }

    #[test]
    fn a_content_is_one_text_and_a_chat_is_a_number_or_a_name() {
        let mut delivery = delivery("-1001");
        delivery.content.link = Some("https://x.example".into());
        assert_eq!(
            written(&delivery, "-1001", &Account::default()),
            json!({"chat_id": -1001, "text": "Paid\nYour order is paid.\nhttps://x.example"})
        );
        delivery.class = Class::Bulk;
        let account = Account {
            parse_mode: ParseMode::Html,
            ..Account::default()
        };
        let bulk = written(&delivery, "@shop", &account);
        assert_eq!(bulk["chat_id"], "@shop");
        assert_eq!(bulk["parse_mode"], "HTML");
        assert_eq!(bulk["disable_notification"], true);
    }

    #[test]
    fn long_plain_text_is_cut_and_long_marked_text_is_refused() {
        let mut delivery = delivery("1");
        delivery.content.body = Some("봉".repeat(5_000));
        let cut = written(&delivery, "1", &Account::default());
        assert_eq!(width(cut["text"].as_str().unwrap()), TEXT_CHARS);
        let account = Account {
            parse_mode: ParseMode::MarkdownV2,
            ..Account::default()
        };
        assert_eq!(body(&delivery, "1", &account), Err(ContentFault::TooLong));
    }

    #[test]
    fn an_override_replaces_and_may_not_choose_the_chat() {
        let mut delivery = delivery("1");
        let mut with = |text: &str| {
            let overrides = &mut delivery.content.overrides;
            overrides.insert("telegram".into(), text.into());
            body(&delivery, "1", &Account::default())
        };
        let sent = with(r#"{"text":"x","protect_content":true}"#).unwrap();
        assert_eq!(
            String::from_utf8(sent).unwrap(),
            r#"{"chat_id":1,"protect_content":true,"text":"x"}"#
        );
        assert_eq!(with(r#"{"chat_id":2}"#), Err(ContentFault::Override));
        assert_eq!(with("[]"), Err(ContentFault::Override));
        delivery.content = bongsu_domain::Content::default();
        let empty = body(&delivery, "1", &Account::default());
        assert_eq!(empty, Err(ContentFault::Empty));
    }
}
