//! Content to push: headers and body. Pure.

use std::borrow::Cow;

use a2::request::payload::{APS, PayloadLike};
use a2::{DefaultNotificationBuilder, NotificationBuilder as _, NotificationOptions};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bongsu_domain::{Channel, Content, Delivery, Pairs, identity};
use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::options::{InterruptionLevel, LiveActivity, Options, PushType, Sound};

/// Bytes of a body. [R: Apple, "Generating a remote notification", 2026-08]
pub const BODY_BYTES: usize = 4_096;
/// Bytes of a call's body. [R: the same]
pub const VOIP_BODY_BYTES: usize = 5_120;
/// Bytes of `apns-collapse-id`. [R: Apple, "Sending notification requests to APNs", 2026-08]
pub const COLLAPSE_ID_BYTES: usize = 64;

/// The member of a raw override that holds [`Options`].
const OPTIONS: &str = "apns";
/// The member that makes an override the whole body.
const APS_MEMBER: &str = "aps";

/// A content that is no push. Never holds the content.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContentFault {
    /// Neither text nor data.
    #[error("has nothing to show and no data")]
    Empty,
    /// The body is too long.
    #[error("makes a body of {bytes} bytes; Apple takes {limit}")]
    TooLarge {
        /// What it would have.
        bytes: usize,
        /// What Apple takes.
        limit: usize,
    },
    /// The override cannot be used.
    #[error("has an override for apns that {0}")]
    Override(Cow<'static, str>),
    /// `data` holds Apple's own member.
    #[error("has `aps` in its data; use an override for apns")]
    ReservedData,
}

/// A push, but for its device and its credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push<'a> {
    /// `apns-topic`.
    pub topic: Cow<'a, str>,
    /// `apns-push-type`.
    pub push_type: PushType,
    /// `apns-priority`.
    pub priority: u8,
    /// `apns-expiration`, epoch seconds.
    pub expiration: i64,
    /// `apns-collapse-id`.
    pub collapse_id: Option<Cow<'a, str>>,
    /// JSON.
    pub body: Vec<u8>,
}

/// The members of `aps`: a2's, and those it lacks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Aps<'a> {
    #[serde(flatten)]
    common: APS<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interruption_level: Option<InterruptionLevel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relevance_score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_content_id: Option<&'a str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    live_activity: Option<LiveActivity>,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    aps: Aps<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    #[serde(flatten)]
    data: &'a Pairs,
    #[serde(skip)]
    device_token: &'a str,
    #[serde(skip)]
    options: NotificationOptions<'a>,
}

impl PayloadLike for Body<'_> {
    fn get_device_token(&self) -> &str {
        self.device_token
    }

    fn get_options(&self) -> &NotificationOptions<'_> {
        &self.options
    }
}

/// The push of a delivery; `topic` is the bundle id.
///
/// A raw override for `apns` may hold a member `apns` with [`Options`]. With a member `aps` the rest
/// of it is the body as it is; without one, the body is made of the content and the options.
///
/// # Errors
/// [`ContentFault`].
pub fn push<'a>(delivery: &'a Delivery, topic: &'a str) -> Result<Push<'a>, ContentFault> {
    let raw = delivery.content.overrides.get(Channel::Apns.as_str());
    let (options, body) = match raw {
        None => (Options::default(), None),
        Some(text) => read_override(text)?,
    };
    if let Some(why) = options.fault() {
        return Err(ContentFault::Override(why.into()));
    }
    let push_type = push_type(delivery, &options, body.is_some());
    let body = match body {
        Some(body) => body,
        None => build(delivery, &options, push_type)?,
    };
    let limit = match push_type {
        PushType::Voip => VOIP_BODY_BYTES,
        PushType::Alert
        | PushType::Background
        | PushType::Complication
        | PushType::FileProvider
        | PushType::Mdm
        | PushType::Location
        | PushType::LiveActivity
        | PushType::PushToTalk
        | PushType::Widgets
        | PushType::Controls => BODY_BYTES,
    };
    let bytes = body.len();
    if bytes > limit {
        return Err(ContentFault::TooLarge { bytes, limit });
    }
    Ok(Push {
        topic: match push_type.topic_suffix() {
            "" => Cow::Borrowed(topic),
            suffix => Cow::Owned(format!("{topic}{suffix}")),
        },
        push_type,
        priority: if push_type == PushType::Background {
            5
        } else {
            options.priority.unwrap_or(10)
        },
        expiration: options
            .expiration
            .map_or_else(|| delivery.expires_at.0.div_euclid(1_000).max(0), i64::from),
        collapse_id: match (options.collapse_id, delivery.collapse_key.as_deref()) {
            (Some(own), _) => Some(Cow::Owned(own)),
            (None, key) => key.map(collapse_id),
        },
        body,
    })
}

/// What of a content is larger than Apple takes; none when nothing is.
#[must_use]
pub fn too_large(content: &Content) -> Option<String> {
    let delivery = crate::fits::to_nobody(Channel::Apns, content);
    match push(&delivery, "") {
        Err(fault @ ContentFault::TooLarge { .. }) => Some(fault.to_string()),
        // Other faults are no matter of size; the attempt tells them.
        Err(ContentFault::Empty | ContentFault::Override(_) | ContentFault::ReservedData)
        | Ok(_) => None,
    }
}

/// Options of an override, and its body when it brings one.
fn read_override(text: &str) -> Result<(Options, Option<Vec<u8>>), ContentFault> {
    let mut members: Map<String, Value> = serde_json::from_str(text)
        .map_err(|_| ContentFault::Override("is no JSON object".into()))?;
    let options = match members.remove(OPTIONS) {
        None if members.contains_key(APS_MEMBER) => {
            return Ok((Options::default(), Some(text.as_bytes().to_vec())));
        }
        None => {
            return Err(ContentFault::Override(
                "has neither a member `aps` (the body) nor a member `apns` (options)".into(),
            ));
        }
        Some(options) => serde_json::from_value(options)
            .map_err(|e| ContentFault::Override(format!("has wrong options: {e}").into()))?,
    };
    if !members.contains_key(APS_MEMBER) {
        return match members.keys().next() {
            None => Ok((options, None)),
            Some(_) => Err(ContentFault::Override(
                "has members beside `apns`, but no `aps`; put them into the content's data".into(),
            )),
        };
    }
    let body = serde_json::to_vec(&members)
        .map_err(|_| ContentFault::Override("cannot be written".into()))?;
    Ok((options, Some(body)))
}

fn shown(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

fn push_type(delivery: &Delivery, options: &Options, raw: bool) -> PushType {
    let content = &delivery.content;
    match options.push_type {
        Some(push_type) => push_type,
        None if options.live_activity.is_some() => PushType::LiveActivity,
        None if raw
            || shown(content.title.as_deref()).is_some()
            || shown(content.body.as_deref()).is_some()
            || options.badge.is_some()
            || options.sound.is_some() =>
        {
            PushType::Alert
        }
        None => PushType::Background,
    }
}

fn build(
    delivery: &Delivery,
    options: &Options,
    push_type: PushType,
) -> Result<Vec<u8>, ContentFault> {
    let content = &delivery.content;
    if content.data.contains_key(APS_MEMBER) {
        return Err(ContentFault::ReservedData);
    }
    let (title, text) = (
        shown(content.title.as_deref()),
        shown(content.body.as_deref()),
    );
    let nothing = title.is_none()
        && text.is_none()
        && content.data.is_empty()
        && content.link.is_none()
        && content.image.is_none()
        && *options == Options::default();
    if nothing {
        return Err(ContentFault::Empty);
    }
    let background = push_type == PushType::Background;
    let mut common = if background {
        APS::default()
    } else {
        visible(title, text, options)
    };
    let mutable = options.mutable_content || (content.image.is_some() && !background);
    common.mutable_content = mutable.then_some(1);
    common.content_available = (background || options.content_available).then_some(1);
    // The publisher's own member of that name wins.
    let free = |name: &str| !content.data.contains_key(name);
    let live_activity = options.live_activity.clone().map(|mut activity| {
        let accepted = delivery.accepted_at.0.div_euclid(1_000);
        activity.timestamp.get_or_insert(accepted);
        activity
    });
    let body = Body {
        aps: Aps {
            common,
            thread_id: options.thread_id.as_deref(),
            interruption_level: options.interruption_level,
            relevance_score: options.relevance_score,
            target_content_id: options.target_content_id.as_deref(),
            live_activity,
        },
        link: content.link.as_deref().filter(|_| free("link")),
        image: content.image.as_deref().filter(|_| free("image")),
        data: &content.data,
        device_token: &delivery.address.address,
        options: NotificationOptions::default(),
    };
    body.to_json_string()
        .map(String::into_bytes)
        .map_err(|_| ContentFault::Override("cannot be written".into()))
}

/// What a2's builder makes of the visible parts.
fn visible<'a>(title: Option<&'a str>, text: Option<&'a str>, options: &'a Options) -> APS<'a> {
    let mut builder = DefaultNotificationBuilder::new();
    if let Some(title) = title {
        builder = builder.set_title(title);
    }
    if let Some(subtitle) = options.subtitle.as_deref() {
        builder = builder.set_subtitle(subtitle);
    }
    if let Some(text) = text {
        builder = builder.set_body(text);
    }
    if let Some(badge) = options.badge {
        builder = builder.set_badge(badge);
    }
    if let Some(category) = options.category.as_deref() {
        builder = builder.set_category(category);
    }
    match &options.sound {
        None => {}
        Some(Sound::Name(name)) => builder = builder.set_sound(name),
        Some(Sound::Critical { name, volume }) => {
            builder = builder.set_sound(name).set_critical(true, *volume);
        }
    }
    builder.build("", NotificationOptions::default()).aps
}

/// A collapse key as Apple takes it. One that is too long, or no visible ASCII, is replaced by its
/// hash: equal keys still collapse, different ones do not.
fn collapse_id(key: &str) -> Cow<'_, str> {
    let fits = key.len() <= COLLAPSE_ID_BYTES && key.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        Cow::Borrowed(key)
    } else {
        Cow::Owned(URL_SAFE_NO_PAD.encode(identity::digest(&[key.as_bytes()])))
    }
}

#[cfg(test)]
mod tests;
