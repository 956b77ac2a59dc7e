//! Channels and the other closed vocabularies of the pipeline.
//!
//! On the wire all of these are strings (an Avro enum would break old readers with every new
//! word); they become types here, at the edge, and a word nobody knows is an [`UnknownWord`].

use thiserror::Error;

use crate::time::Timestamp;

/// A word that is not in the vocabulary it was read for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{word}` is not a known {vocabulary}; known are {known}")]
pub struct UnknownWord {
    /// The vocabulary: `channel`, `class`, ...
    pub vocabulary: &'static str,
    /// The word as it came.
    pub word: String,
    /// Every word that would have been accepted, comma separated.
    pub known: String,
}

macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident, $vocabulary:literal, { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every member, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used on the wire, in settings and in labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the word.
            ///
            /// # Errors
            /// [`UnknownWord`](crate::channel::UnknownWord) naming every accepted word.
            pub fn parse(word: &str) -> Result<Self, $crate::channel::UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::channel::UnknownWord {
                        vocabulary: $vocabulary,
                        word: word.chars().take(64).collect(),
                        known: [$($word),+].join(", "),
                    }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use vocabulary;

vocabulary!(
    /// A kind of medium. Closed, so that a new channel is met by the compiler everywhere.
    Channel, "channel", {
        /// A signed HTTP POST to a URL of the recipient (Standard Webhooks).
        Webhook = "webhook",
        /// A Discord webhook execution.
        Discord = "discord",
        /// A push notification to an Apple device.
        Apns = "apns",
        /// A Kakao AlimTalk to a phone number.
        AlimTalk = "alimtalk",
        /// A push notification to a browser.
        WebPush = "webpush",
        /// A text message to a phone number.
        Sms = "sms",
        /// A push through Firebase Cloud Messaging.
        Fcm = "fcm",
        /// A message of a Telegram bot.
        Telegram = "telegram",
        /// A message in Slack.
        Slack = "slack",
        /// A message in a Sendbird group channel.
        Sendbird = "sendbird",
        /// A message of a LINE official account.
        Line = "line",
        /// An e-mail through a relay.
        Email = "email",
    }
);

vocabulary!(
    /// Which lane a notification takes; bulk never delays transactional.
    Class, "class", {
        /// Somebody waits for it.
        Transactional = "transactional",
        /// Campaigns and announcements.
        Bulk = "bulk",
    }
);

vocabulary!(
    /// Why it is sent; law and providers treat them differently.
    Purpose, "purpose", {
        /// Part of something the recipient does (a chat line, a payment).
        Transactional = "transactional",
        /// Asked for, but part of no transaction.
        Informational = "informational",
        /// Advertising.
        Advertising = "advertising",
    }
);

vocabulary!(
    /// Where an address lives.
    Platform, "platform", {
        /// Apple devices.
        Ios = "ios",
        /// Android devices.
        Android = "android",
        /// Browsers.
        Web = "web",
        /// Desktop programs.
        Desktop = "desktop",
        /// Another server (webhooks, chat platforms).
        Server = "server",
        /// A phone number.
        Phone = "phone",
        /// A mailbox.
        Mail = "mail",
        /// Not said.
        Other = "other",
    }
);

vocabulary!(
    /// What dispatch does after a crash with an attempt whose answer it never saw.
    OnUncertain, "on_uncertain policy", {
        /// Send again: at least once.
        Resend = "resend",
        /// Send again only where the provider deduplicates.
        ResendIfIdempotent = "resend_if_idempotent",
        /// Never send again: the outcome becomes `unknown`.
        NeverResend = "never_resend",
    }
);

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How an address of a channel is written; decides how it is checked when it is published and which
/// writings of it are one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressForm {
    /// An `http` or `https` URL of the recipient's.
    Url,
    /// A Discord webhook: its URL, or `id/token`.
    DiscordWebhook,
    /// An APNs device token in hexadecimal digits.
    DeviceToken,
    /// A phone number, in any usual way to write it.
    Phone,
    /// A browser's push subscription, as its JSON.
    Subscription,
    /// `token:…` (also without the tag), `fid:…`, `topic:…` or `condition:…`.
    PushTarget,
    /// A Telegram chat's number or public name.
    TelegramChat,
    /// An incoming webhook's URL, or a conversation's or member's id in Slack.
    Slack,
    /// A Sendbird group channel's `channel_url`.
    SendbirdChannel,
    /// A LINE user's, group's or room's id.
    Line,
    /// An e-mail address.
    Mailbox,
}

/// What is fixed of a channel before any setting: one entry per channel, here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelFacts {
    /// How its addresses are written.
    pub address: AddressForm,
    /// The platform an address has when nobody said.
    pub platform: Platform,
    /// How long a transactional notification stays useful when its publisher did not say, in
    /// milliseconds. Bulk gets a day everywhere.
    pub lifetime_ms: i64,
    /// Whether it may carry advertising at all.
    pub advertising: bool,
    /// Whether each delivery costs money: such a channel is guarded against repeats unless the
    /// settings say otherwise.
    pub paid: bool,
}

impl ChannelFacts {
    /// A free channel for every purpose, whose notifications keep for a day.
    const fn new(address: AddressForm, platform: Platform) -> Self {
        Self {
            address,
            platform,
            lifetime_ms: DAY_MS,
            advertising: true,
            paid: false,
        }
    }
}

impl Channel {
    /// What is fixed of the channel.
    #[must_use]
    pub const fn facts(self) -> ChannelFacts {
        match self {
            // Retried for a day, as receivers expect of Standard Webhooks.
            Self::Webhook => ChannelFacts::new(AddressForm::Url, Platform::Server),
            // A chat line is stale after an hour.
            Self::Discord => ChannelFacts {
                lifetime_ms: HOUR_MS,
                ..ChannelFacts::new(AddressForm::DiscordWebhook, Platform::Server)
            },
            // A push finds a device that was off over night.
            Self::Apns => ChannelFacts::new(AddressForm::DeviceToken, Platform::Ios),
            // Keeps for the day its provider remembers idempotency keys. It carries information only:
            // a provider that sees advertising there closes the sender's profile.
            Self::AlimTalk => ChannelFacts {
                advertising: false,
                paid: true,
                ..ChannelFacts::new(AddressForm::Phone, Platform::Phone)
            },
            Self::WebPush => ChannelFacts::new(AddressForm::Subscription, Platform::Web),
            Self::Sms => ChannelFacts {
                paid: true,
                ..ChannelFacts::new(AddressForm::Phone, Platform::Phone)
            },
            Self::Fcm => ChannelFacts::new(AddressForm::PushTarget, Platform::Android),
            Self::Telegram => ChannelFacts::new(AddressForm::TelegramChat, Platform::Other),
            Self::Slack => ChannelFacts {
                lifetime_ms: HOUR_MS,
                ..ChannelFacts::new(AddressForm::Slack, Platform::Server)
            },
            Self::Sendbird => ChannelFacts::new(AddressForm::SendbirdChannel, Platform::Other),
            // Beyond a free number per month each message is paid for.
            Self::Line => ChannelFacts {
                paid: true,
                ..ChannelFacts::new(AddressForm::Line, Platform::Other)
            },
            Self::Email => ChannelFacts::new(AddressForm::Mailbox, Platform::Mail),
        }
    }

    /// The expiry of a notification accepted at `now` whose publisher did not say.
    #[must_use]
    pub const fn default_expiry(self, class: Class, now: Timestamp) -> Timestamp {
        let lifetime = match class {
            Class::Transactional => self.facts().lifetime_ms,
            Class::Bulk => DAY_MS,
        };
        Timestamp(now.0 + lifetime)
    }

    /// Whether law and the channel's provider allow a purpose on it.
    #[must_use]
    pub const fn takes(self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Advertising => self.facts().advertising,
            Purpose::Transactional | Purpose::Informational => true,
        }
    }

    /// The platform an address of this channel has when nobody said.
    #[must_use]
    pub const fn default_platform(self) -> Platform {
        self.facts().platform
    }

    /// Whether each delivery costs money.
    #[must_use]
    pub const fn is_paid(self) -> bool {
        self.facts().paid
    }
}

impl Class {
    /// What the class adds to a topic name: nothing, or `.bulk`.
    #[must_use]
    pub const fn topic_suffix(self) -> &'static str {
        match self {
            Self::Transactional => "",
            Self::Bulk => ".bulk",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_channel_names_the_known_ones() {
        let error = Channel::parse("pigeon").unwrap_err().to_string();
        let known = "`pigeon` is not a known channel; known are webhook, discord, ";
        assert!(error.starts_with(known), "{error}");
        assert!(Channel::ALL.iter().all(|c| error.contains(c.as_str())));
    }

    #[test]
    fn every_word_reads_back() {
        for channel in Channel::ALL {
            assert_eq!(Channel::parse(channel.as_str()), Ok(*channel));
        }
        for platform in Platform::ALL {
            assert_eq!(Platform::parse(platform.as_str()), Ok(*platform));
        }
    }
}
