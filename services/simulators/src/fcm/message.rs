//! A message as Google reads it: its form, its size, and what identifies it for the report. Pure.

use std::hash::{Hash as _, Hasher as _};

use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::discord::marker;

/// Bytes of a message, and of one to a topic or condition. [R: Firebase]
const BYTES: usize = 4_096;
const TOPIC_BYTES: usize = 2_048;
/// Seconds of the longest time to live. [R: the same]
const LONGEST_TTL_S: f64 = 2_419_200.0;
/// Topics of one condition. [R: the same]
const CONDITION_TOPICS: usize = 5;

const TARGETS: [&str; 4] = ["token", "fid", "topic", "condition"];
const MEMBERS: [&str; 8] = [
    "name",
    "data",
    "notification",
    "android",
    "androidV2",
    "webpush",
    "apns",
    "fcm_options",
];
const ANDROID: [&str; 9] = [
    "collapse_key",
    "priority",
    "ttl",
    "restricted_package_name",
    "data",
    "notification",
    "fcm_options",
    "direct_boot_ok",
    "bandwidth_constrained_ok",
];

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Device(String),
    Topic(String),
}

impl Target {
    pub(super) fn value(&self) -> &str {
        match self {
            Self::Device(value) | Self::Topic(value) => value,
        }
    }
}

/// The path by which the report knows a target: `/device/<hash>` of a token or installation,
/// `/topic/<name>` of a topic or condition.
#[must_use]
pub fn target_path(member: &str, value: &str) -> String {
    match member {
        "token" | "fid" => {
            let mut hasher = std::collections::hash_map::DefaultHasher::new();
            value.hash(&mut hasher);
            format!("/device/{:016x}", hasher.finish())
        }
        _ => format!("/topic/{value}"),
    }
}

/// A message that Google would take.
pub(super) struct Checked {
    pub(super) target: Target,
    pub(super) validate_only: bool,
    pub(super) collapse_key: Option<String>,
    pub(super) event_id: String,
}

impl Checked {
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let read: Value =
            serde_json::from_slice(body).map_err(|_| Refusal::new("INVALID_ARGUMENT"))?;
        let members = read.as_object().ok_or(Refusal::new("INVALID_ARGUMENT"))?;
        let validate_only = match members.get("validate_only") {
            None => false,
            Some(Value::Bool(yes)) => *yes,
            Some(_) => return Err(Refusal::field("validate_only")),
        };
        let known = |name: &String| matches!(name.as_str(), "message" | "validate_only");
        if let Some(name) = members.keys().find(|name| !known(name)) {
            return Err(Refusal::field(name));
        }
        let message = members.get("message").and_then(Value::as_object);
        let message = message.ok_or(Refusal::field("message"))?;
        let target = target(message)?;
        check(message, &target)?;
        let collapse_key = message
            .get("android")
            .and_then(|android| android.get("collapse_key"))
            .and_then(Value::as_str);
        Ok(Self {
            target,
            validate_only,
            collapse_key: collapse_key.map(str::to_owned),
            event_id: Identity::read(body).event_id,
        })
    }
}

/// Exactly one of the four.
fn target(message: &Map<String, Value>) -> Result<Target, Refusal> {
    let mut present = TARGETS.iter().filter(|name| message.contains_key(**name));
    let (Some(name), None) = (present.next(), present.next()) else {
        return Err(Refusal::field("message"));
    };
    let field = format!("message.{name}");
    let value = message.get(*name).and_then(Value::as_str).unwrap_or("");
    let among = |more: &[u8]| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || more.contains(&b);
        !value.is_empty() && value.bytes().all(fits)
    };
    let fits = match *name {
        "token" => among(b"-_:.") && value.len() >= 8,
        "fid" => among(b"-_") && value.len() >= 16,
        "topic" => among(b"-_.~%"),
        _ => {
            let topics = value.matches("in topics").count();
            (1..=CONDITION_TOPICS).contains(&topics)
        }
    };
    match (*name, fits) {
        (_, false) => Err(Refusal::field(&field)),
        ("token" | "fid", true) => Ok(Target::Device(value.to_owned())),
        (_, true) => Ok(Target::Topic(value.to_owned())),
    }
}

fn check(message: &Map<String, Value>, target: &Target) -> Result<(), Refusal> {
    for name in message.keys() {
        let name = name.as_str();
        if !TARGETS.contains(&name) && !MEMBERS.contains(&name) {
            return Err(Refusal::field("message"));
        }
    }
    check_strings(message.get("data"), "message.data", is_reserved)?;
    for (block, path) in [
        ("apns", "message.apns.headers"),
        ("webpush", "message.webpush.headers"),
    ] {
        let headers = message.get(block).and_then(|block| block.get("headers"));
        check_strings(headers, path, |_| false)?;
    }
    if let Some(android) = message.get("android") {
        check_android(android)?;
    }
    let link = message
        .get("webpush")
        .and_then(|block| block.get("fcm_options"))
        .and_then(|options| options.get("link"));
    if link.is_some_and(|link| !link.as_str().is_some_and(|l| l.starts_with("https://"))) {
        return Err(Refusal::field("message.webpush.fcm_options.link"));
    }
    let mut rest = message.clone();
    rest.retain(|name, _| !TARGETS.contains(&name.as_str()));
    let bytes = Value::Object(rest).to_string().len();
    let limit = match target {
        Target::Device(_) => BYTES,
        Target::Topic(_) => TOPIC_BYTES,
    };
    if bytes > limit {
        // Google says that the message is too big, and names no field. [M]
        return Err(Refusal::new("INVALID_ARGUMENT"));
    }
    Ok(())
}

fn is_reserved(key: &str) -> bool {
    matches!(key, "from" | "message_type") || key.starts_with("google") || key.starts_with("gcm")
}

/// A map of strings without keys that may not be.
fn check_strings(
    value: Option<&Value>,
    path: &str,
    forbidden: fn(&str) -> bool,
) -> Result<(), Refusal> {
    let Some(value) = value else { return Ok(()) };
    let fine = value.as_object().is_some_and(|map| {
        map.iter()
            .all(|(key, value)| value.is_string() && !forbidden(key))
    });
    if fine {
        Ok(())
    } else {
        Err(Refusal::field(path))
    }
}

fn check_android(android: &Value) -> Result<(), Refusal> {
    let members = android
        .as_object()
        .ok_or(Refusal::field("message.android"))?;
    for (name, value) in members {
        let fine = match name.as_str() {
            "priority" => matches!(value.as_str(), Some("HIGH" | "NORMAL")),
            "ttl" => value.as_str().is_some_and(is_ttl),
            other => ANDROID.contains(&other),
        };
        if !fine {
            return Err(Refusal::field(&format!("message.android.{name}")));
        }
    }
    Ok(())
}

fn is_ttl(text: &str) -> bool {
    let seconds = text.strip_suffix('s').and_then(|n| n.parse::<f64>().ok());
    seconds.is_some_and(|s| (0.0..=LONGEST_TTL_S).contains(&s))
}

/// What the report knows a message by.
pub(super) struct Identity {
    pub(super) event_id: String,
    pub(super) sender: String,
    pub(super) seq: Option<i64>,
    pub(super) path: String,
}

impl Identity {
    /// By the marker in the notification's text (see [Discord](crate::discord)), or by the members
    /// `event_id`, `sender` and `seq` of `data`.
    pub(super) fn read(body: &[u8]) -> Self {
        let read: Value = serde_json::from_slice(body).unwrap_or_default();
        let message = &read["message"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let targets = TARGETS.iter().map(|name| (*name, text(&message[*name])));
        let mut targets = targets.filter(|(_, value)| !value.is_empty());
        let (member, value) = targets.next().unwrap_or(("topic", String::new()));
        let path = target_path(member, &value);
        let shown = [
            text(&message["notification"]["title"]),
            text(&message["notification"]["body"]),
        ];
        if let Some(marker) = shown.iter().find_map(|text| marker(text)) {
            return Self {
                event_id: marker.event_id.to_owned(),
                sender: marker.sender.to_owned(),
                seq: marker.seq,
                path,
            };
        }
        let data = &message["data"];
        Self {
            event_id: text(&data["event_id"]),
            sender: text(&data["sender"]),
            seq: text(&data["seq"]).parse().ok(),
            path,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(message: Value) -> bool {
        let body = json!({"message": message}).to_string();
        Checked::read(body.as_bytes()).is_err()
    }

    #[test]
    fn forms_are_refused_as_google_does() {
        let token = "bk3RNwTe3H0:CI2k_";
        assert!(!refused(json!({"token": token, "data": {"a": "b"}})));
        assert!(!refused(
            json!({"topic": "news", "android": {"ttl": "3600s", "priority": "HIGH"}})
        ));
        for message in [
            json!({}),
            json!({"token": token, "topic": "news"}),
            json!({"token": "not a token"}),
            json!({"token": token, "data": {"a": 1}}),
            json!({"token": token, "data": {"from": "x"}}),
            json!({"token": token, "data": {"google.a": "x"}}),
            json!({"token": token, "android": {"ttl": "3600"}}),
            json!({"token": token, "android": {"ttl": "9999999s"}}),
            json!({"token": token, "android": {"priority": "high"}}),
            json!({"token": token, "android": {"x": 1}}),
            json!({"token": token, "apns": {"headers": {"apns-priority": 10}}}),
            json!({"token": token, "webpush": {"fcm_options": {"link": "http://x"}}}),
            json!({"token": token, "unknown": 1}),
            json!({"token": token, "data": {"a": "x".repeat(4_096)}}),
            json!({"topic": "news", "data": {"a": "x".repeat(2_048)}}),
            json!({"condition": "x"}),
        ] {
            assert!(refused(message.clone()), "{message}");
        }
    }

    #[test]
    fn a_message_is_known_by_its_marker_or_its_data() {
        let marked = json!({"message": {"topic": "news", "notification": {"body": "x [#e1 s 7]"}}});
        let identity = Identity::read(marked.to_string().as_bytes());
        assert_eq!(
            (
                identity.event_id.as_str(),
                identity.seq,
                identity.path.as_str()
            ),
            ("e1", Some(7), "/topic/news")
        );
        let data =
            json!({"message": {"token": "secret-token", "data": {"event_id": "e2", "seq": "3"}}});
        let identity = Identity::read(data.to_string().as_bytes());
        assert_eq!((identity.event_id.as_str(), identity.seq), ("e2", Some(3)));
        assert!(!identity.path.contains("secret"), "{}", identity.path);
    }
}
