//! Content to request. Pure.

use bongsu_domain::{Channel, Delivery};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::config::Account;
use crate::text::Parts;

/// Characters of a message: Sendbird's default, which an application may change. (M: from memory)
pub const MESSAGE_CHARS: usize = 5_000;
/// Bytes of `data`. (M: from memory)
pub const DATA_BYTES: usize = 20_000;

const USER_ID: &str = "user_id";
/// Where an override names other users. [R: Sendbird, "Send a message"]
const MENTIONS: &str = "mentioned_user_ids";

/// A content that is no message. Never holds the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ContentFault {
    /// Nothing to show.
    #[error("has no title, body or link")]
    Empty,
    /// Too much data.
    #[error("has more than {DATA_BYTES} bytes of data")]
    TooMuchData,
    /// The override cannot be used.
    #[error("has an override for sendbird that is no JSON object, or names who sends")]
    Override,
}

/// The body of a request. Its `dedup_id` is the delivery's id on every attempt, also over a raw
/// override's own; who sends is the account's to say. Data, link and image are in `data`, as JSON.
///
/// # Errors
/// [`ContentFault`].
pub fn body(delivery: &Delivery, account: &Account) -> Result<Vec<u8>, ContentFault> {
    let raw = delivery.content.overrides.get(Channel::Sendbird.as_str());
    let mut message = match raw {
        Some(text) => serde_json::from_str(text).map_err(|_| ContentFault::Override)?,
        None => made(delivery, account)?,
    };
    if account.user_id.is_empty() {
        message
            .entry("message_type")
            .or_insert_with(|| "ADMM".into());
    } else {
        message
            .entry("message_type")
            .or_insert_with(|| "MESG".into());
    }
    let user = (!account.user_id.is_empty()).then(|| Value::from(account.user_id.as_str()));
    if let Some(named) = message.get(USER_ID)
        && Some(named) != user.as_ref()
    {
        return Err(ContentFault::Override);
    }
    if let Some(user) = user {
        message.insert(USER_ID.to_owned(), user);
    }
    message.insert("dedup_id".to_owned(), delivery.id.to_string().into());
    serde_json::to_vec(&message).map_err(|_| ContentFault::Override)
}

/// Whether the account's own user sends a delivery and no other user is named in it: what Sendbird
/// says of a user is then said of him.
#[must_use]
pub fn names_own_user_alone(delivery: &Delivery, account: &Account) -> bool {
    let raw = delivery.content.overrides.get(Channel::Sendbird.as_str());
    !account.user_id.is_empty() && raw.is_none_or(|text| !text.contains(MENTIONS))
}

fn made(delivery: &Delivery, account: &Account) -> Result<Map<String, Value>, ContentFault> {
    let content = &delivery.content;
    let text = Parts::of(content)
        .joined(MESSAGE_CHARS)
        .ok_or(ContentFault::Empty)?;
    let mut message = Map::from_iter([
        ("message".to_owned(), Value::String(text)),
        ("send_push".to_owned(), account.send_push.into()),
    ]);
    if !account.custom_type.is_empty() {
        message.insert("custom_type".to_owned(), account.custom_type.clone().into());
    }
    let mut data = json!(content.data);
    if let Some(image) = &content.image {
        data["image"] = image.as_str().into();
    }
    if data.as_object().is_some_and(|data| !data.is_empty()) {
        let data = data.to_string();
        if data.len() > DATA_BYTES {
            return Err(ContentFault::TooMuchData);
        }
        message.insert("data".to_owned(), data.into());
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::tests::delivery;

    fn written(delivery: &Delivery, account: &Account) -> Value {
        serde_json::from_slice(&body(delivery, account).unwrap()).unwrap()
    }

    #[test]
    fn every_attempt_carries_the_deliverys_id() {
        let delivery = delivery("room-1");
        assert_eq!(
            written(&delivery, &Account::default()),
            json!({
                "message_type": "ADMM",
                "message": "Paid\nYour order is paid.",
                "data": r#"{"seq":"1"}"#,
                "send_push": true,
                "dedup_id": delivery.id.to_string(),
            })
        );
        let account = Account {
            user_id: "shop".into(),
            custom_type: "order".into(),
            ..Account::default()
        };
        let sent = written(&delivery, &account);
        assert_eq!(sent["message_type"], "MESG");
        assert_eq!(sent["user_id"], "shop");
        assert_eq!(sent["custom_type"], "order");
    }

    #[test]
    fn an_override_is_deduplicated_too() {
        let mut delivery = delivery("room-1");
        let overrides = &mut delivery.content.overrides;
        overrides.insert(
            "sendbird".into(),
            r#"{"message":"x","dedup_id":"y"}"#.into(),
        );
        let sent = written(&delivery, &Account::default());
        assert_eq!(sent["message"], "x");
        assert_eq!(sent["dedup_id"], delivery.id.to_string());
        let account = Account {
            user_id: "shop".into(),
            ..Account::default()
        };
        let overrides = &mut delivery.content.overrides;
        let own = r#"{"message":"x","user_id":"shop","mentioned_user_ids":["u"]}"#;
        overrides.insert("sendbird".into(), own.into());
        assert_eq!(written(&delivery, &account)["user_id"], "shop");
        assert!(!names_own_user_alone(&delivery, &account));
        // Who sends is nobody's choice but the account's, the administrator included.
        let administrator = body(&delivery, &Account::default());
        assert_eq!(administrator, Err(ContentFault::Override));
        for bad in [
            r#"{"message":"x","user_id":"no-such-user"}"#,
            r#"{"user_id":7}"#,
        ] {
            let overrides = &mut delivery.content.overrides;
            overrides.insert("sendbird".into(), bad.into());
            assert_eq!(body(&delivery, &account), Err(ContentFault::Override));
            assert!(names_own_user_alone(&delivery, &account));
            assert!(!names_own_user_alone(&delivery, &Account::default()));
        }
        delivery
            .content
            .overrides
            .insert("sendbird".into(), "[]".into());
        let refused = body(&delivery, &Account::default());
        assert_eq!(refused, Err(ContentFault::Override));
        delivery.content = bongsu_domain::Content::default();
        let refused = body(&delivery, &Account::default());
        assert_eq!(refused, Err(ContentFault::Empty));
    }
}
