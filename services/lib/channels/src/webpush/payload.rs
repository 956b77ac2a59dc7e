//! Content to push: what the browser's service worker reads, and the headers beside it. Pure.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bongsu_domain::{Channel, Content, Delivery, Pairs, Purpose, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::encryption::OVERHEAD_BYTES;

/// Bytes of an encrypted body that every push service takes. [R: RFC 8030, 7.2]
pub const BODY_BYTES: usize = 4_096;
/// Characters of `Topic`, from base64url's alphabet. [R: RFC 8030, 5.4]
pub const TOPIC_CHARACTERS: usize = 32;
/// The longest `TTL`, in seconds: four weeks. Services shorten more, and one refuses it. (M)
pub const LONGEST_TTL: i64 = 28 * 24 * 3_600;

/// The member of a raw override that holds [`Options`].
const OPTIONS: &str = "webpush";

/// How soon the browser's device should be woken. [R: RFC 8030, 5.3]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// On power and Wi-Fi.
    VeryLow,
    /// On either.
    Low,
    /// On neither.
    Normal,
    /// Even when the battery is low.
    High,
}

impl Urgency {
    /// The header's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VeryLow => "very-low",
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// What a purpose asks for when the publisher did not say.
    #[must_use]
    pub const fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Transactional => Self::High,
            Purpose::Informational => Self::Normal,
            Purpose::Advertising => Self::Low,
        }
    }
}

/// What a publisher may say about a push beside its content. Unknown members are faults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// By default as the purpose asks.
    pub urgency: Option<Urgency>,
    /// Replaces a message of the same topic that is still waiting; by default the collapse key.
    pub topic: Option<String>,
    /// Seconds a push service keeps it for a browser that is away; by default until the expiry,
    /// which is never passed.
    pub ttl: Option<u32>,
}

/// A content that is no push. Never holds the content.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContentFault {
    /// Neither text nor data.
    #[error("has nothing to show and no data")]
    Empty,
    /// The text is too long.
    #[error("makes a text of {bytes} bytes; {limit} fit")]
    TooLarge {
        /// What it would have.
        bytes: usize,
        /// What fits, encryption counted.
        limit: usize,
    },
    /// The override cannot be used.
    #[error("has an override for webpush that {0}")]
    Override(&'static str),
}

/// A push, but for its subscription and its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push<'a> {
    /// `TTL` in seconds.
    pub ttl: i64,
    /// `Urgency`.
    pub urgency: Urgency,
    /// `Topic`.
    pub topic: Option<Cow<'a, str>>,
    /// What is encrypted.
    pub text: Vec<u8>,
}

/// The members of the Notifications API that a service worker hands on, and ours.
#[derive(Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    data: &'a Pairs,
    delivery_id: bongsu_domain::DeliveryId,
    event_id: &'a str,
    sender: &'a str,
}

/// The push of a delivery; `body_bytes` is the longest encrypted body.
///
/// A raw override for `webpush` is a JSON object: its member `webpush` holds [`Options`], and where
/// it has others these are the text as it is; else the text is made of the content.
///
/// # Errors
/// [`ContentFault`].
pub fn push(
    delivery: &Delivery,
    body_bytes: usize,
    now: Timestamp,
) -> Result<Push<'_>, ContentFault> {
    let raw = delivery.content.overrides.get(Channel::WebPush.as_str());
    let (options, text) = match raw {
        None => (Options::default(), None),
        Some(raw) => read_override(raw)?,
    };
    let text = match text {
        Some(text) => text,
        None => build(delivery)?,
    };
    let limit = body_bytes.saturating_sub(OVERHEAD_BYTES);
    if text.len() > limit {
        return Err(ContentFault::TooLarge {
            bytes: text.len(),
            limit,
        });
    }
    let topic = match (options.topic, &delivery.collapse_key) {
        (Some(topic), _) if is_topic(&topic) => Some(Cow::Owned(topic)),
        (Some(_), _) => {
            return Err(ContentFault::Override(
                "has a topic of more than 32 characters, or others than A-Z a-z 0-9 - _",
            ));
        }
        (None, Some(key)) => Some(topic_of(key)),
        (None, None) => None,
    };
    let left = (delivery.expires_at.0 - now.0).max(0) / 1_000;
    let asked = options.ttl.map_or(LONGEST_TTL, i64::from);
    Ok(Push {
        ttl: left.min(asked).min(LONGEST_TTL),
        urgency: options.urgency.unwrap_or(Urgency::of(delivery.purpose)),
        topic,
        text,
    })
}

/// What of a content is larger than any push service must take; none when nothing is. What names the
/// delivery comes on top, so a content that just fits here may still be refused at the attempt.
#[must_use]
pub fn too_large(content: &Content) -> Option<String> {
    let delivery = crate::fits::to_nobody(Channel::WebPush, content);
    match push(&delivery, BODY_BYTES, delivery.accepted_at) {
        Err(fault @ ContentFault::TooLarge { .. }) => Some(fault.to_string()),
        // Other faults are no matter of size; the attempt tells them.
        Err(ContentFault::Empty | ContentFault::Override(_)) | Ok(_) => None,
    }
}

fn build(delivery: &Delivery) -> Result<Vec<u8>, ContentFault> {
    let content = &delivery.content;
    let shows = [&content.title, &content.body, &content.link, &content.image];
    if shows.iter().all(|part| part.is_none()) && content.data.is_empty() {
        return Err(ContentFault::Empty);
    }
    let text = Text {
        title: content.title.as_deref(),
        body: content.body.as_deref(),
        link: content.link.as_deref(),
        image: content.image.as_deref(),
        tag: delivery.collapse_key.as_deref(),
        data: &content.data,
        delivery_id: delivery.id,
        event_id: &delivery.event_id,
        sender: &delivery.sender,
    };
    // These types always can be written.
    serde_json::to_vec(&text).map_err(|_| ContentFault::Empty)
}

fn read_override(raw: &str) -> Result<(Options, Option<Vec<u8>>), ContentFault> {
    let Ok(mut object) = serde_json::from_str::<Map<String, Value>>(raw) else {
        return Err(ContentFault::Override("is no JSON object"));
    };
    let options = match object.remove(OPTIONS) {
        None => Options::default(),
        Some(options) => serde_json::from_value(options).map_err(|_| {
            ContentFault::Override("has a member webpush with unknown or wrong members")
        })?,
    };
    let text = (!object.is_empty()).then(|| Value::Object(object).to_string().into_bytes());
    Ok((options, text))
}

fn is_topic(text: &str) -> bool {
    (1..=TOPIC_CHARACTERS).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A collapse key as a topic: itself where it is one, else a hash of it, so that equal keys stay
/// equal and nothing is refused for its form.
fn topic_of(key: &str) -> Cow<'_, str> {
    if is_topic(key) {
        return Cow::Borrowed(key);
    }
    let hash = Sha256::digest(key.as_bytes());
    // 24 bytes are 32 characters.
    let bytes = hash.get(..24).unwrap_or_default();
    Cow::Owned(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::tests::delivery;

    const NOW: Timestamp = Timestamp(1_760_000_000_000);

    fn with_override(raw: &str) -> Delivery {
        let mut delivery = delivery("-");
        let overrides = &mut delivery.content.overrides;
        overrides.insert("webpush".into(), raw.into());
        delivery
    }

    #[test]
    fn the_text_is_pinned_and_the_headers_follow_the_delivery() {
        let mut delivery = delivery("-");
        delivery.collapse_key = Some("order-7".into());
        let push = push(&delivery, BODY_BYTES, NOW).unwrap();
        assert_eq!(
            String::from_utf8(push.text).unwrap(),
            format!(
                r#"{{"title":"Paid","body":"Your order is paid.","tag":"order-7","data":{{"seq":"1"}},"delivery_id":"{}","event_id":"e-1","sender":"shop-1"}}"#,
                delivery.id
            )
        );
        assert_eq!(push.topic.as_deref(), Some("order-7"));
        assert_eq!((push.ttl, push.urgency), (86_400, Urgency::High));
    }

    #[test]
    fn a_collapse_key_of_another_form_becomes_a_topic() {
        let topic = topic_of("주문 7");
        assert!(is_topic(&topic) && topic.len() == TOPIC_CHARACTERS);
        assert_eq!(topic, topic_of("주문 7"));
        assert_ne!(topic, topic_of("주문 8"));
        assert!(is_topic(&topic_of("")));
    }

    #[test]
    fn urgency_follows_the_purpose_and_the_publisher_has_the_last_word() {
        let mut advertising = delivery("-");
        advertising.purpose = Purpose::Advertising;
        assert_eq!(
            push(&advertising, BODY_BYTES, NOW).unwrap().urgency,
            Urgency::Low
        );
        let raw = r#"{"webpush":{"urgency":"very-low","topic":"t","ttl":60},"own":[1]}"#;
        let delivery = with_override(raw);
        let push = push(&delivery, BODY_BYTES, NOW).unwrap();
        assert_eq!(push.text, br#"{"own":[1]}"#);
        assert_eq!((push.ttl, push.urgency), (60, Urgency::VeryLow));
        assert_eq!(push.topic.as_deref(), Some("t"));
    }

    #[test]
    fn time_to_live_ends_with_the_delivery_and_at_four_weeks() {
        let mut delivery = delivery("-");
        delivery.expires_at = Timestamp(NOW.0 + 90 * 86_400_000);
        assert_eq!(push(&delivery, BODY_BYTES, NOW).unwrap().ttl, LONGEST_TTL);
        delivery.expires_at = Timestamp(NOW.0 - 1);
        assert_eq!(push(&delivery, BODY_BYTES, NOW).unwrap().ttl, 0);
    }

    #[test]
    fn what_is_no_push_is_told() {
        let mut empty = delivery("-");
        empty.content = bongsu_domain::Content::default();
        assert_eq!(push(&empty, BODY_BYTES, NOW), Err(ContentFault::Empty));
        let mut long = delivery("-");
        long.content.body = Some("x".repeat(4_000));
        assert!(matches!(
            push(&long, BODY_BYTES, NOW),
            Err(ContentFault::TooLarge { limit: 3_993, .. })
        ));
        assert!(too_large(&long.content).is_some());
        assert_eq!(too_large(&delivery("-").content), None);
        for raw in [
            "[]",
            "no JSON",
            r#"{"webpush":{"urgent":"high"}}"#,
            r#"{"webpush":{"urgency":"highest"}}"#,
            r#"{"webpush":{"topic":"no spaces"}}"#,
            r#"{"webpush":{"topic":""}}"#,
        ] {
            let delivery = with_override(raw);
            let fault = push(&delivery, BODY_BYTES, NOW);
            assert!(matches!(fault, Err(ContentFault::Override(_))), "{raw}");
        }
    }
}
