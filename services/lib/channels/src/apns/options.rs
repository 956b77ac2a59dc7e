//! What a publisher may say about a push beside its content: the member `apns` of the raw override
//! for this channel. Unknown members are faults, so that a typing error is told and not ignored.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What kind of push it is. a2's type lacks three of them. [R: Apple, "Sending notification requests
/// to APNs", 2026-08]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PushType {
    /// Shows, sounds or badges something.
    Alert,
    /// Wakes the app and shows nothing.
    Background,
    /// A call.
    Voip,
    /// An update of a watch face.
    Complication,
    /// A change of a file provider.
    FileProvider,
    /// A device manager's.
    Mdm,
    /// A question for the location.
    Location,
    /// Starts, updates or ends a live activity.
    LiveActivity,
    /// Push to talk.
    PushToTalk,
    /// Reloads widgets.
    Widgets,
    /// Reloads controls.
    Controls,
}

impl PushType {
    /// The value of `apns-push-type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Background => "background",
            Self::Voip => "voip",
            Self::Complication => "complication",
            Self::FileProvider => "fileprovider",
            Self::Mdm => "mdm",
            Self::Location => "location",
            Self::LiveActivity => "liveactivity",
            Self::PushToTalk => "pushtotalk",
            Self::Widgets => "widgets",
            Self::Controls => "controls",
        }
    }

    /// What it adds to the bundle id to make the topic. [R: Apple, 2026-08; `.voip-ptt`,
    /// `.push-type.widgets` and `.push-type.controls` M]
    #[must_use]
    pub const fn topic_suffix(self) -> &'static str {
        match self {
            Self::Alert | Self::Background | Self::Mdm => "",
            Self::Voip => ".voip",
            Self::Complication => ".complication",
            Self::FileProvider => ".pushkit.fileprovider",
            Self::Location => ".location-query",
            Self::LiveActivity => ".push-type.liveactivity",
            Self::PushToTalk => ".voip-ptt",
            Self::Widgets => ".push-type.widgets",
            Self::Controls => ".push-type.controls",
        }
    }
}

/// How strongly a notification asks for attention. [R: Apple, "Generating a remote notification"]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterruptionLevel {
    /// Into the list only.
    Passive,
    /// As usual.
    Active,
    /// Through most of a focus.
    TimeSensitive,
    /// Through everything; needs an entitlement.
    Critical,
}

/// A sound: its file's name, or a critical alert's.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Sound {
    /// A file of the app, or `default`.
    Name(String),
    /// A critical alert's; needs an entitlement.
    Critical {
        /// A file of the app, or `default`.
        name: String,
        /// From 0 to 1; the system's when absent.
        #[serde(default)]
        volume: Option<f64>,
    },
}

/// A live activity's own members of `aps`. [R: Apple, "Starting and updating Live Activities"]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveActivity {
    /// `start`, `update` or `end`.
    pub event: String,
    /// Epoch seconds; a device ignores an update older than the one it has. The moment the event was
    /// accepted by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    /// The activity's new state.
    #[serde(
        default,
        rename(serialize = "content-state"),
        skip_serializing_if = "Option::is_none"
    )]
    pub content_state: Option<Value>,
    /// Epoch seconds from which the state counts as out of date.
    #[serde(
        default,
        rename(serialize = "stale-date"),
        skip_serializing_if = "Option::is_none"
    )]
    pub stale_date: Option<i64>,
    /// Epoch seconds at which an ended activity disappears.
    #[serde(
        default,
        rename(serialize = "dismissal-date"),
        skip_serializing_if = "Option::is_none"
    )]
    pub dismissal_date: Option<i64>,
    /// What is started.
    #[serde(
        default,
        rename(serialize = "attributes-type"),
        skip_serializing_if = "Option::is_none"
    )]
    pub attributes_type: Option<String>,
    /// With what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Value>,
}

/// Everything a publisher may say.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// By default `alert` where there is something to show, else `background`.
    pub push_type: Option<PushType>,
    /// 10 (at once), 5 (when it suits the battery) or 1. By default 10; `background` is always 5.
    pub priority: Option<u8>,
    /// Epoch seconds; 0 tries once and stores nothing. By default the delivery's expiry.
    pub expiration: Option<u32>,
    /// Replaces the shown notification of the same id; by default the collapse key.
    pub collapse_id: Option<String>,
    /// Below the title.
    pub subtitle: Option<String>,
    /// Groups notifications.
    pub thread_id: Option<String>,
    /// The number on the app's icon; 0 removes it.
    pub badge: Option<u32>,
    /// A sound.
    pub sound: Option<Sound>,
    /// Which buttons to show.
    pub category: Option<String>,
    /// Lets the app's service extension change the notification first. On where there is an image.
    pub mutable_content: bool,
    /// Wakes the app beside showing the notification.
    pub content_available: bool,
    /// How strongly it asks for attention.
    pub interruption_level: Option<InterruptionLevel>,
    /// From 0 to 1: which of the app's notifications a summary puts first.
    pub relevance_score: Option<f64>,
    /// Which window the notification brings forward.
    pub target_content_id: Option<String>,
    /// A live activity's members; makes the push type `liveactivity`.
    pub live_activity: Option<LiveActivity>,
}

impl Options {
    /// The first member that Apple would refuse.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let background = self.push_type == Some(PushType::Background);
        let ratio = |value: Option<f64>| value.is_none_or(|v| (0.0..=1.0).contains(&v));
        let volume = match &self.sound {
            Some(Sound::Critical { volume, .. }) => *volume,
            Some(Sound::Name(_)) | None => None,
        };
        let checks = [
            (
                self.priority.is_none_or(|p| matches!(p, 1 | 5 | 10)),
                "apns.priority must be 10, 5 or 1",
            ),
            (
                !background || self.priority.is_none_or(|p| p == 5),
                "apns.priority must be 5 for a background push",
            ),
            (
                self.collapse_id.as_ref().is_none_or(|id| id.len() <= 64),
                "apns.collapse_id is longer than 64 bytes",
            ),
            (
                ratio(self.relevance_score),
                "apns.relevance_score must lie between 0 and 1",
            ),
            (ratio(volume), "apns.sound.volume must lie between 0 and 1"),
        ];
        checks.iter().find(|(fine, _)| !fine).map(|(_, why)| *why)
    }
}
