//! Content to message. Pure.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bongsu_domain::{Channel, Class, Content, Delivery, Platform, PushTarget, identity};
use serde_json::{Map, Value, json};
use thiserror::Error;

/// Bytes of a message. [R: Firebase, "About FCM messages", 2026-08]. Counted here over the whole
/// message but for its target, which is never less than what Google counts.
pub const MESSAGE_BYTES: usize = 4_096;
/// Bytes of a message to a topic or condition. [R: the same]
pub const TOPIC_MESSAGE_BYTES: usize = 2_048;
/// Seconds a message may be kept: four weeks. [R: the same]
pub const LONGEST_TTL_S: i64 = 28 * 24 * 3_600;
/// Bytes of `apns-collapse-id`. [R: Apple]
const APNS_COLLAPSE_BYTES: usize = 64;
/// Characters of a web push `Topic`. [R: RFC 8030]
const WEB_TOPIC_CHARS: usize = 32;
/// Characters of an analytics label. (M: from memory)
const LABEL_CHARS: usize = 50;

/// Members a message may have beside its target. [R: discovery document, 2026-08]
const MEMBERS: &[&str] = &[
    "name",
    "data",
    "notification",
    "android",
    "androidV2",
    "webpush",
    "apns",
    "fcm_options",
];
const TARGETS: &[&str] = &["token", "fid", "topic", "condition"];
const MESSAGE: &str = "message";
const VALIDATE_ONLY: &str = "validate_only";

/// A content that is no message. Never holds the content.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContentFault {
    /// Neither text nor data.
    #[error("has nothing to show and no data")]
    Empty,
    /// The message is too long.
    #[error("makes a message of {bytes} bytes; FCM takes {limit}")]
    TooLarge {
        /// What it would have.
        bytes: usize,
        /// What FCM takes.
        limit: usize,
    },
    /// The override cannot be used.
    #[error("has an override for fcm that {0}")]
    Override(Cow<'static, str>),
    /// `data` holds a key that FCM keeps for itself.
    #[error(
        "has data that FCM refuses: `from`, `message_type`, and what begins with google or gcm"
    )]
    ReservedData,
}

/// Whether FCM refuses a key of `data`. [R/M: `gcm` with or without a dot is refused alike here]
#[must_use]
pub fn is_reserved(key: &str) -> bool {
    matches!(key, "from" | "message_type") || key.starts_with("google") || key.starts_with("gcm")
}

/// The body of a request.
///
/// A raw override for `fcm` with a member `message` replaces what would be made of the content, but for
/// the deadline, which it has where it names none; one without is laid over it, member by member. Both
/// may have `validate_only`. The target is always the delivery's address.
///
/// # Errors
/// [`ContentFault`].
pub fn body(
    delivery: &Delivery,
    target: PushTarget<'_>,
    validate_only: bool,
    now_millis: i64,
) -> Result<Vec<u8>, ContentFault> {
    let raw = delivery.content.overrides.get(Channel::Fcm.as_str());
    let (mut raw, own_validate) = match raw {
        None => (Map::new(), None),
        Some(text) => read_override(text)?,
    };
    let ttl_s = (delivery.expires_at.0 - now_millis).div_euclid(1_000);
    let ttl_s = ttl_s.clamp(0, LONGEST_TTL_S);
    let (mut message, whole) = match raw.remove(MESSAGE) {
        Some(Value::Object(whole)) => {
            check_members(&whole)?;
            (whole, true)
        }
        Some(_) => {
            return Err(ContentFault::Override(
                "has a message that is no object".into(),
            ));
        }
        None => {
            check_members(&raw)?;
            let mut made = made(delivery, target, ttl_s, raw.is_empty())?;
            overlay(&mut made, raw);
            (made, false)
        }
    };
    if let Some(Value::Object(data)) = message.get("data")
        && data.keys().any(|key| is_reserved(key))
    {
        return Err(ContentFault::ReservedData);
    }
    let written = |message: &Map<String, Value>| {
        serde_json::to_vec(message).map_err(|_| ContentFault::Override("cannot be written".into()))
    };
    let bytes = written(&message)?.len();
    let limit = if target.is_many() {
        TOPIC_MESSAGE_BYTES
    } else {
        MESSAGE_BYTES
    };
    if bytes > limit {
        return Err(ContentFault::TooLarge { bytes, limit });
    }
    if whole {
        // After it was measured: Google does not count it.
        keep_deadline(&mut message, blocks(delivery, target), ttl_s, delivery);
    }
    message.insert(target.member().to_owned(), target.value().into());
    let mut body = Map::from_iter([(MESSAGE.to_owned(), Value::Object(message))]);
    if own_validate.unwrap_or(validate_only) {
        body.insert(VALIDATE_ONLY.to_owned(), Value::Bool(true));
    }
    written(&body)
}

/// What of a content is larger than FCM takes for one device, on the platform whose block is the
/// shortest; none when nothing is. Topics take less, and are measured when they are sent.
#[must_use]
pub fn too_large(content: &Content) -> Option<String> {
    let delivery = crate::fits::to_nobody(Channel::Fcm, content);
    match body(
        &delivery,
        PushTarget::Token(""),
        false,
        delivery.expires_at.0,
    ) {
        Err(fault @ ContentFault::TooLarge { .. }) => Some(fault.to_string()),
        // Other faults are no matter of size; the attempt tells them.
        Err(ContentFault::Empty | ContentFault::Override(_) | ContentFault::ReservedData)
        | Ok(_) => None,
    }
}

/// Its members, and whether it asks to be checked only.
fn read_override(text: &str) -> Result<(Map<String, Value>, Option<bool>), ContentFault> {
    let mut members: Map<String, Value> = serde_json::from_str(text)
        .map_err(|_| ContentFault::Override("is no JSON object".into()))?;
    let validate = match members.remove(VALIDATE_ONLY) {
        None => None,
        Some(Value::Bool(yes)) => Some(yes),
        Some(_) => {
            let why = "has a validate_only that is neither true nor false";
            return Err(ContentFault::Override(why.into()));
        }
    };
    if members.contains_key(MESSAGE) && members.len() > 1 {
        let why = "has members beside message and validate_only";
        return Err(ContentFault::Override(why.into()));
    }
    Ok((members, validate))
}

fn check_members(members: &Map<String, Value>) -> Result<(), ContentFault> {
    for (name, value) in members {
        let name = name.as_str();
        if TARGETS.contains(&name) {
            let why = format!("has a target (`{name}`); the delivery's address is the target");
            return Err(ContentFault::Override(why.into()));
        }
        if !MEMBERS.contains(&name) {
            let name: String = name.chars().take(64).collect();
            let why = format!("has a member `{name}` that a message does not have");
            return Err(ContentFault::Override(why.into()));
        }
        if name != "name" && !value.is_object() {
            let why = format!("has a member `{name}` that is no object");
            return Err(ContentFault::Override(why.into()));
        }
    }
    Ok(())
}

/// Lays objects over objects; every other value replaces.
fn overlay(under: &mut Map<String, Value>, over: Map<String, Value>) {
    for (name, value) in over {
        match (under.get_mut(&name), value) {
            (Some(Value::Object(under)), Value::Object(over)) => overlay(under, over),
            (_, value) => {
                under.insert(name, value);
            }
        }
    }
}

/// Gives a whole message the delivery's deadline where it names none; without it Google keeps it for
/// four weeks.
fn keep_deadline(
    message: &mut Map<String, Value>,
    [android, apns, web]: [bool; 3],
    ttl_s: i64,
    delivery: &Delivery,
) {
    if android
        && !message.contains_key("androidV2")
        && let Some(block) = object(message, "android")
    {
        let ttl = format!("{ttl_s}s");
        block.entry("ttl").or_insert_with(|| ttl.into());
    }
    for (wanted, name, header, value) in [
        (apns, "apns", "apns-expiration", expiration(delivery)),
        (web, "webpush", "TTL", ttl_s.to_string()),
    ] {
        if wanted
            && let Some(headers) = object(message, name).and_then(|block| object(block, "headers"))
            && !headers.keys().any(|key| key.eq_ignore_ascii_case(header))
        {
            headers.insert(header.to_owned(), value.into());
        }
    }
}

/// A member that is an object, made where there is none; none where it is anything else.
fn object<'a>(of: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    let member = of.entry(name).or_insert_with(|| json!({}));
    member.as_object_mut()
}

/// `apns-expiration`.
fn expiration(delivery: &Delivery) -> String {
    let seconds = delivery.expires_at.0.div_euclid(1_000).max(0);
    seconds.to_string()
}

/// Whose blocks a message has: `android`, `apns`, `webpush`. A topic's devices are of every kind; so
/// is an address whose platform is none of them.
const fn blocks(delivery: &Delivery, target: PushTarget<'_>) -> [bool; 3] {
    match (target.is_many(), delivery.address.platform) {
        (false, Platform::Android) => [true, false, false],
        (false, Platform::Ios) => [false, true, false],
        (false, Platform::Web) => [false, false, true],
        (true, _)
        | (
            false,
            Platform::Desktop
            | Platform::Server
            | Platform::Phone
            | Platform::Mail
            | Platform::Other,
        ) => [true, true, true],
    }
}

fn shown(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

/// The message of a content. `alone`: whether nothing is laid over it.
fn made(
    delivery: &Delivery,
    target: PushTarget<'_>,
    ttl_s: i64,
    alone: bool,
) -> Result<Map<String, Value>, ContentFault> {
    let content = &delivery.content;
    let mut notification = Map::new();
    for (name, text) in [
        ("title", shown(content.title.as_deref())),
        ("body", shown(content.body.as_deref())),
        ("image", content.image.as_deref()),
    ] {
        if let Some(text) = text {
            notification.insert(name.to_owned(), text.into());
        }
    }
    let mut data: Map<String, Value> = content
        .data
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().into()))
        .collect();
    if let Some(link) = content.link.as_deref() {
        // The publisher's own member of that name wins.
        data.entry("link").or_insert_with(|| link.into());
    }
    if notification.is_empty() && data.is_empty() && alone {
        return Err(ContentFault::Empty);
    }
    let sending = Sending {
        delivery,
        shows: !notification.is_empty(),
        ttl_s,
    };
    let mut message = Map::new();
    if !data.is_empty() {
        message.insert("data".to_owned(), Value::Object(data));
    }
    if !notification.is_empty() {
        message.insert("notification".to_owned(), Value::Object(notification));
    }
    let [android, apns, web] = blocks(delivery, target);
    for (wanted, name, block) in [
        (android, "android", sending.android()),
        (apns, "apns", sending.apns()),
        (web, "webpush", sending.webpush()),
    ] {
        if wanted {
            message.insert(name.to_owned(), block);
        }
    }
    if let Some(label) = delivery.campaign_id.as_deref().filter(|id| is_label(id)) {
        let options = json!({"analytics_label": label});
        message.insert("fcm_options".to_owned(), options);
    }
    Ok(message)
}

/// What the platforms' blocks are made of.
struct Sending<'a> {
    delivery: &'a Delivery,
    shows: bool,
    ttl_s: i64,
}

impl Sending<'_> {
    fn urgent(&self) -> bool {
        self.delivery.class == Class::Transactional
    }

    fn android(&self) -> Value {
        let mut android = json!({
            "priority": if self.urgent() { "HIGH" } else { "NORMAL" },
            "ttl": format!("{}s", self.ttl_s),
        });
        if let Some(key) = self.delivery.collapse_key.as_deref() {
            android["collapse_key"] = key.into();
            if self.shows {
                // The key replaces what waits; the tag replaces what is shown.
                android["notification"] = json!({"tag": key});
            }
        }
        android
    }

    fn apns(&self) -> Value {
        let mut headers = json!({
            "apns-expiration": expiration(self.delivery),
            // Apple takes a background push with this priority only.
            "apns-priority": if self.shows && self.urgent() { "10" } else { "5" },
        });
        if let Some(key) = self.delivery.collapse_key.as_deref() {
            headers["apns-collapse-id"] = collapse_id(key, APNS_COLLAPSE_BYTES).into();
        }
        let aps = if !self.shows {
            headers["apns-push-type"] = "background".into();
            json!({"content-available": 1})
        } else if self.delivery.content.image.is_some() {
            json!({"mutable-content": 1})
        } else {
            json!({})
        };
        json!({"headers": headers, "payload": {"aps": aps}})
    }

    fn webpush(&self) -> Value {
        let mut headers = json!({
            "TTL": self.ttl_s.to_string(),
            "Urgency": if self.urgent() { "high" } else { "normal" },
        });
        if let Some(key) = self.delivery.collapse_key.as_deref() {
            headers["Topic"] = web_topic(key).into();
        }
        let mut webpush = json!({"headers": headers});
        // Google refuses any other scheme here. [M]
        let link = self.delivery.content.link.as_deref();
        if let Some(link) = link.filter(|link| link.starts_with("https://")) {
            webpush["fcm_options"] = json!({"link": link});
        }
        webpush
    }
}

/// A collapse key as Apple takes it. One that is too long, or no visible ASCII, is replaced by its
/// hash: equal keys still collapse, different ones do not.
fn collapse_id(key: &str, limit: usize) -> Cow<'_, str> {
    if key.len() <= limit && key.bytes().all(|b| b.is_ascii_graphic()) {
        Cow::Borrowed(key)
    } else {
        Cow::Owned(URL_SAFE_NO_PAD.encode(identity::digest(&[key.as_bytes()])))
    }
}

fn web_topic(key: &str) -> String {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if (1..=WEB_TOPIC_CHARS).contains(&key.len()) && key.bytes().all(fits) {
        return key.to_owned();
    }
    let hash = identity::hash64(&[key.as_bytes()]);
    URL_SAFE_NO_PAD.encode(hash.to_be_bytes())
}

fn is_label(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'%');
    (1..=LABEL_CHARS).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests;
