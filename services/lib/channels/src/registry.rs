//! The one list of channels: a new channel adds one arm here.

use std::sync::Arc;

use bongsu_domain::Channel;
use bongsu_runtime::Clock;
use thiserror::Error;

use crate::client::ClientError;
use crate::provider::Provider;
use crate::settings::Settings;
use crate::{alimtalk, apns, discord, webhook};

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

/// Makes the provider of a channel, with all of its accounts.
///
/// `worker` is sent with every request as `bongsu-worker`, so that a receiver (and a simulator's
/// report) can tell the workers apart. Needs a tokio runtime, opens no connection.
///
/// # Errors
/// [`BuildError`].
pub fn build(
    channel: Channel,
    settings: &Settings,
    worker: &str,
    clock: Clock,
) -> Result<Arc<dyn Provider>, BuildError> {
    Ok(match channel {
        Channel::Webhook => Arc::new(webhook::WebhookProvider::new(
            &settings.webhook,
            worker,
            clock,
        )?),
        Channel::Discord => Arc::new(discord::DiscordProvider::new(
            &settings.discord,
            worker,
            clock,
        )?),
        Channel::Apns => Arc::new(apns::ApnsProvider::new(&settings.apns, worker, clock)?),
        Channel::AlimTalk => Arc::new(alimtalk::AlimTalkProvider::new(
            &settings.alimtalk,
            worker,
            clock,
        )?),
    })
}
