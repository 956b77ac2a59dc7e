//! A push as Apple reads it: its rules, and what identifies it for the report. Pure.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::plan::{Device, Plan};
use crate::discord::marker;

/// Bytes of a body. [R: Apple, "Generating a remote notification", 2026-08]
const BODY: usize = 4_096;
/// Bytes of a call's body. [R: the same]
const VOIP_BODY: usize = 5_120;
/// Bytes of `apns-collapse-id`. [R: Apple, "Sending notification requests to APNs", 2026-08]
const COLLAPSE_ID: usize = 64;

/// Push types with what they add to a topic. [R: the same; some suffixes M]
const PUSH_TYPES: &[(&str, &str)] = &[
    ("alert", ""),
    ("background", ""),
    ("voip", ".voip"),
    ("complication", ".complication"),
    ("fileprovider", ".pushkit.fileprovider"),
    ("mdm", ""),
    ("location", ".location-query"),
    ("liveactivity", ".push-type.liveactivity"),
    ("pushtotalk", ".voip-ptt"),
    ("widgets", ".push-type.widgets"),
    ("controls", ".push-type.controls"),
];

/// The headers that matter.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) authorization: String,
    pub(super) topic: String,
    pub(super) push_type: String,
    pub(super) id: String,
    pub(super) expiration: String,
    pub(super) priority: String,
    pub(super) collapse_id: String,
    pub(super) worker: String,
    pub(super) attempt: u32,
    repeated: bool,
}

impl Request {
    /// Takes one header.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) {
        let place = match name {
            b":method" => &mut self.method,
            b":path" => &mut self.path,
            b"authorization" => &mut self.authorization,
            b"apns-topic" => &mut self.topic,
            b"apns-push-type" => &mut self.push_type,
            b"apns-id" => &mut self.id,
            b"apns-expiration" => &mut self.expiration,
            b"apns-priority" => &mut self.priority,
            b"apns-collapse-id" => &mut self.collapse_id,
            b"bongsu-worker" => &mut self.worker,
            b"bongsu-attempt" => {
                let text = String::from_utf8_lossy(value);
                self.attempt = text.parse().unwrap_or(0);
                return;
            }
            _ => return,
        };
        self.repeated |= !place.is_empty();
        *place = match std::str::from_utf8(value) {
            Ok(text) => text.to_owned(),
            Err(_) => String::from_utf8_lossy(value).into_owned(),
        };
    }

    /// The device token of the path; empty when there is none.
    pub(super) fn device(&self) -> &str {
        self.path.strip_prefix("/3/device/").unwrap_or_default()
    }

    /// The first thing Apple would refuse in path, headers and body.
    pub(super) fn fault(&self, body: &[u8], plan: &Plan) -> Option<Refusal> {
        if self.method != "POST" {
            return Some(Refusal::new(405, "MethodNotAllowed"));
        }
        if !self.path.starts_with("/3/device/") {
            let missing = self.path == "/3/device";
            let (status, reason) = if missing {
                (400, "MissingDeviceToken")
            } else {
                (404, "BadPath")
            };
            return Some(Refusal::new(status, reason));
        }
        self.header_fault(plan)
            .map(|reason| Refusal::new(400, reason))
            .or_else(|| self.body_fault(body))
            .or_else(|| self.device_fault(plan))
    }

    fn header_fault(&self, plan: &Plan) -> Option<&'static str> {
        let kind = PUSH_TYPES.iter().find(|(name, _)| *name == self.push_type);
        let suffix = kind.map_or("", |(_, suffix)| suffix);
        let bundle = self.topic.strip_suffix(suffix);
        let known = |bundle: &str| {
            !bundle.is_empty()
                && (plan.topics.is_empty() || plan.topics.iter().any(|topic| topic == bundle))
        };
        let number = |text: &str| text.is_empty() || text.parse::<u32>().is_ok();
        let checks = [
            (!self.repeated, "DuplicateHeaders"),
            (
                self.id.is_empty() || is_canonical_uuid(&self.id),
                "BadMessageId",
            ),
            (
                self.push_type.is_empty() || kind.is_some(),
                "InvalidPushType",
            ),
            (!self.topic.is_empty(), "MissingTopic"),
            (bundle.is_some_and(known), "BadTopic"),
            (number(&self.expiration), "BadExpirationDate"),
            (
                matches!(self.priority.as_str(), "" | "10" | "5" | "1"),
                "BadPriority",
            ),
            (
                self.push_type != "background" || self.priority == "5",
                "BadPriority",
            ),
            (self.collapse_id.len() <= COLLAPSE_ID, "BadCollapseId"),
        ];
        checks.iter().find(|(fine, _)| !fine).map(|(_, why)| *why)
    }

    fn body_fault(&self, body: &[u8]) -> Option<Refusal> {
        let limit = if self.push_type == "voip" {
            VOIP_BODY
        } else {
            BODY
        };
        if body.len() > limit {
            return Some(Refusal::new(413, "PayloadTooLarge"));
        }
        let object = serde_json::from_slice::<Members>(body).is_ok();
        (!object).then_some(Refusal::new(400, "PayloadEmpty"))
    }

    fn device_fault(&self, plan: &Plan) -> Option<Refusal> {
        let token = self.device();
        if token.is_empty() {
            return Some(Refusal::new(400, "MissingDeviceToken"));
        }
        let form = token.len() >= 64
            && token.len().is_multiple_of(2)
            && token.bytes().all(|b| b.is_ascii_hexdigit());
        if !form {
            return Some(Refusal::new(400, "BadDeviceToken"));
        }
        if plan.devices.is_empty() {
            return None;
        }
        let state = plan.devices.get(&token.to_ascii_lowercase())?;
        Some(match state {
            Device::Unregistered(at) => Refusal {
                status: 410,
                reason: "Unregistered",
                timestamp: Some(*at),
            },
            Device::Expired => Refusal::new(410, "ExpiredToken"),
            Device::WrongEnvironment => Refusal::new(400, "BadDeviceToken"),
            Device::WrongTopic => Refusal::new(400, "DeviceTokenNotForTopic"),
        })
    }
}

/// An answer that is none of 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) timestamp: Option<i64>,
}

impl Refusal {
    pub(super) const fn new(status: u16, reason: &'static str) -> Self {
        Self {
            status,
            reason,
            timestamp: None,
        }
    }

    /// The JSON body; empty without a reason.
    pub(super) fn body(&self) -> String {
        match (self.reason, self.timestamp) {
            ("", _) => String::new(),
            (reason, None) => format!(r#"{{"reason":"{reason}"}}"#),
            (reason, Some(at)) => format!(r#"{{"reason":"{reason}","timestamp":{at}}}"#),
        }
    }
}

fn is_canonical_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Any JSON object, walked without keeping anything.
struct Members;

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Members)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// What of a body tells the event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    aps: Aps<'a>,
    #[serde(borrow)]
    event_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sender: Option<Cow<'a, str>>,
    #[serde(borrow)]
    seq: Option<Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Aps<'a> {
    #[serde(borrow)]
    alert: Alert<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Alert<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Parts {
        #[serde(borrow, default)]
        title: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        body: Option<Cow<'a, str>>,
    },
}

impl Default for Alert<'_> {
    fn default() -> Self {
        Self::Parts {
            title: None,
            body: None,
        }
    }
}

/// Who and what a push says it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Identity<'a> {
    pub(super) event_id: &'a str,
    pub(super) sender: &'a str,
    pub(super) seq: Option<i64>,
}

impl Content<'_> {
    pub(super) fn identity(&self) -> Identity<'_> {
        let texts = match &self.aps.alert {
            Alert::Text(text) => [Some(&**text), None],
            Alert::Parts { title, body } => [body.as_deref(), title.as_deref()],
        };
        let marker = texts.into_iter().flatten().find_map(marker);
        let own = marker.unwrap_or_default();
        let seq = self.seq.as_deref().and_then(|seq| seq.parse().ok());
        Identity {
            event_id: first(own.event_id, self.event_id.as_deref()),
            sender: first(own.sender, self.sender.as_deref()),
            seq: own.seq.or(seq),
        }
    }
}

fn first<'a>(marked: &'a str, own: Option<&'a str>) -> &'a str {
    if marked.is_empty() {
        own.unwrap_or_default()
    } else {
        marked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "543ca93d-b1f3-326a-271e-8b06ef78cd5d";

    fn request(change: impl FnOnce(&mut Request)) -> Request {
        let mut request = Request::default();
        let path = format!("/3/device/{}", "0a".repeat(32));
        for (name, value) in [
            (":method", "POST"),
            (":path", path.as_str()),
            ("apns-topic", "com.example.app"),
            ("apns-push-type", "alert"),
            ("apns-id", ID),
            ("apns-expiration", "1760000000"),
            ("apns-priority", "10"),
            ("accept", "anything"),
        ] {
            request.take(name.as_bytes(), value.as_bytes());
        }
        change(&mut request);
        request
    }

    fn reason(change: impl FnOnce(&mut Request)) -> &'static str {
        let plan = Plan {
            topics: vec!["com.example.app".into()],
            ..Plan::default()
        };
        let refusal = request(change).fault(b"{}", &plan);
        refusal.map_or("", |refusal| refusal.reason)
    }

    #[test]
    fn every_rule_of_path_and_headers_has_its_reason() {
        assert_eq!(reason(|_| {}), "");
        assert_eq!(reason(|r| r.method = "GET".into()), "MethodNotAllowed");
        assert_eq!(reason(|r| r.path = "/2/device/x".into()), "BadPath");
        assert_eq!(
            reason(|r| r.path = "/3/device/".into()),
            "MissingDeviceToken"
        );
        assert_eq!(
            reason(|r| r.path = "/3/device/xyz".into()),
            "BadDeviceToken"
        );
        assert_eq!(
            reason(|r| r.take(b"apns-priority", b"5")),
            "DuplicateHeaders"
        );
        assert_eq!(reason(|r| r.id = ID.to_uppercase()), "BadMessageId");
        assert_eq!(reason(|r| r.id = "1".into()), "BadMessageId");
        assert_eq!(reason(|r| r.push_type = "loud".into()), "InvalidPushType");
        assert_eq!(reason(|r| r.topic.clear()), "MissingTopic");
        assert_eq!(reason(|r| r.topic = "com.evil".into()), "BadTopic");
        assert_eq!(reason(|r| r.push_type = "voip".into()), "BadTopic");
        assert_eq!(
            reason(|r| r.expiration = "soon".into()),
            "BadExpirationDate"
        );
        assert_eq!(
            reason(|r| r.expiration = "1760000000000".into()),
            "BadExpirationDate"
        );
        assert_eq!(reason(|r| r.priority = "7".into()), "BadPriority");
        assert_eq!(reason(|r| r.push_type = "background".into()), "BadPriority");
        assert_eq!(reason(|r| r.collapse_id = "x".repeat(65)), "BadCollapseId");
    }

    #[test]
    fn bodies_are_objects_and_have_their_limits() {
        let of = |push_type: &str, body: &str| {
            let mut request = request(|_| {});
            request.push_type = push_type.to_owned();
            request.body_fault(body.as_bytes()).map(|r| r.reason)
        };
        let long = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        assert_eq!(of("alert", &long(4_096)), None);
        assert_eq!(of("alert", &long(4_097)), Some("PayloadTooLarge"));
        assert_eq!(of("voip", &long(5_120)), None);
        assert_eq!(of("voip", &long(5_121)), Some("PayloadTooLarge"));
        for body in ["", "[]", "null", "{\"a\":"] {
            assert_eq!(of("alert", body), Some("PayloadEmpty"), "{body}");
        }
    }

    #[test]
    fn a_push_is_known_by_its_marker_or_its_members() {
        let of = |body: &'static str| -> Content<'static> { serde_json::from_str(body).unwrap() };
        let identity = |event_id, sender, seq| Identity {
            event_id,
            sender,
            seq,
        };
        let text = of(r##"{"aps": {"alert": "hi [#e1 s 7]"}}"##);
        assert_eq!(text.identity(), identity("e1", "s", Some(7)));
        let parts = of(r##"{"aps": {"alert": {"title": "t", "body": "b [#e2]"}}, "seq": "3"}"##);
        assert_eq!(parts.identity(), identity("e2", "", Some(3)));
        let members = of(r#"{"aps": {}, "event_id": "e3", "sender": "s", "seq": "4"}"#);
        assert_eq!(members.identity(), identity("e3", "s", Some(4)));
        assert_eq!(of("{}").identity(), Identity::default());
    }
}
