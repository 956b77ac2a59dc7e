//! The one table of channels: a new channel adds one line here.

use std::sync::Arc;

use bongsu_domain::{Channel, Content};
use bongsu_runtime::Clock;
use bongsu_runtime::settings::Complaint;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::client::ClientError;
use crate::provider::Provider;
use crate::settings::{ChannelSettings, HttpSettings, NamedSource, Section};
use crate::{
    alimtalk, apns, discord, email, fcm, line, sendbird, slack, sms, telegram, webhook, webpush,
};

/// A channel's provider cannot be made. Misconfigured: no retry helps.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The HTTP client cannot be made.
    #[error("channel {channel}: the HTTP client cannot be built")]
    Client {
        /// The channel's word.
        channel: &'static str,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The worker's id cannot stand in an HTTP header.
    #[error("the worker id may hold visible ASCII characters only")]
    WorkerId,
    /// An account's settings are wrong; [`Settings::validate`] would have said so.
    #[error("channel {channel}: the settings of account `{account}` are wrong: {message}")]
    Account {
        /// The channel's word.
        channel: &'static str,
        /// The account.
        account: String,
        /// What is wrong.
        message: String,
    },
}

macro_rules! channels {
    ($($(#[$meta:meta])* $section:ident: $channel:ident => $settings:ty),+ $(,)?) => {
        /// Every channel's settings. A composer that adds settings of its own to
        /// `channels.<channel>` reads its own section and fills this from it.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Settings { $($(#[$meta])* pub $section: $settings),+ }

        impl Settings {
            /// Whether a channel is in use by these settings alone: it needs an account, and has one.
            #[must_use]
            pub fn brings(&self, channel: Channel) -> bool {
                match channel { $(Channel::$channel => self.$section.in_use()),+ }
            }

            /// Everything that is wrong, with the full path of each key.
            #[must_use]
            pub fn validate(&self) -> Vec<Complaint> {
                [$(self.$section.validate()),+].concat()
            }

            /// The reports of every account that has any.
            ///
            /// # Errors
            /// [`BuildError`].
            pub fn report_sources(&self) -> Result<Vec<NamedSource>, BuildError> {
                Ok([$(self.$section.report_sources()?),+].into_iter().flatten().collect())
            }

            /// The sections of every channel, for the generated reference.
            #[must_use]
            pub fn describe() -> Vec<(Channel, Section)> {
                let sections = [$((Channel::$channel, <$settings>::describe())),+];
                sections
                    .into_iter()
                    .flat_map(|(channel, sections)| sections.into_iter().map(move |s| (channel, s)))
                    .collect()
            }
        }

        /// What of a content is larger than a channel ever takes, whatever the account and the
        /// address, in words for the publisher; none when it may be sent. `whole` forbids cutting
        /// what is too long: an advertisement must keep its closing.
        #[must_use]
        pub fn too_large(channel: Channel, content: &Content, whole: bool) -> Option<String> {
            match channel { $(Channel::$channel => <$settings>::too_large(content, whole)),+ }
        }

        /// Makes the provider of a channel, with all of its accounts.
        ///
        /// `worker` is sent with every request as `bongsu-worker`, so that a receiver (and a
        /// simulator's report) can tell the workers apart. Needs a tokio runtime, opens no connection.
        ///
        /// # Errors
        /// [`BuildError`].
        pub fn build(
            channel: Channel,
            settings: &Settings,
            worker: &str,
            clock: Clock,
        ) -> Result<Arc<dyn Provider>, BuildError> {
            match channel { $(Channel::$channel => settings.$section.provider(worker, clock)),+ }
        }
    };
}

channels! {
    /// Webhooks.
    webhook: Webhook => HttpSettings<webhook::config::Account>,
    /// Discord. Its `egress` is the limit of webhook calls, which carry no bot's credential and are
    /// counted by public IP address, 50 a second. [R: discord-api-docs, 2026-08]
    discord: Discord => HttpSettings<discord::config::Account>,
    /// APNs.
    apns: Apns => apns::config::ApnsSettings,
    /// AlimTalk.
    alimtalk: AlimTalk => HttpSettings<alimtalk::config::Account>,
    /// Web Push.
    webpush: WebPush => HttpSettings<webpush::config::Account>,
    /// SMS.
    sms: Sms => HttpSettings<sms::config::Account>,
    /// FCM. Of its `client`, `connect_timeout` and `ca_file` hold for messages, all of it for the
    /// token endpoint.
    fcm: Fcm => HttpSettings<fcm::config::Account>,
    /// Telegram.
    telegram: Telegram => HttpSettings<telegram::config::Account>,
    /// Slack.
    slack: Slack => HttpSettings<slack::config::Account>,
    /// Sendbird.
    sendbird: Sendbird => HttpSettings<sendbird::config::Account>,
    /// LINE.
    line: Line => HttpSettings<line::config::Account>,
    /// E-mail.
    email: Email => email::config::EmailSettings,
}
