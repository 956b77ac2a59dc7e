//! What an operator sets of the channels: `channels.<channel>.accounts.<name>` and the client.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bongsu_domain::Channel;
use bongsu_runtime::Duration;
use bongsu_runtime::settings::Complaint;
use serde::{Deserialize, Serialize};

use crate::limits::Egress;
use crate::{alimtalk, apns, discord, webhook};

/// The account of a delivery that names none. It exists even when it is not configured, with every
/// setting at its default.
pub const DEFAULT_ACCOUNT: &str = "default";

bongsu_runtime::settings! {
    /// `channels.<channel>.client`: the HTTP client of one channel.
    pub struct ClientSettings {
        /// How long to wait for a connection, name resolution and TLS included. Ten seconds: a
        /// healthy endpoint needs three round trips.
        pub connect_timeout: Duration = Duration::secs(10),
        /// How long an idle connection is kept. Below five seconds by default, because common
        /// servers (Node.js, uvicorn) close idle connections after five: a request written just then
        /// is lost with an unknown result.
        pub idle_timeout: Duration = Duration::secs(4),
        /// The most idle connections kept per host. Connections in use are bounded by the number of
        /// attempts in flight.
        pub idle_per_host: usize = 1_024,
        /// A PEM file of certificate authorities to trust beside the system's, for receivers with
        /// certificates of one's own.
        pub ca_file: Option<PathBuf> = None,
    }
}

/// `channels.webhook`, as far as the channel itself reads it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookSettings {
    /// Accounts by name.
    pub accounts: BTreeMap<String, webhook::config::Account>,
    /// The HTTP client.
    pub client: ClientSettings,
    /// The limit of one public IP address.
    pub egress: Egress,
}

/// `channels.discord`, as far as the channel itself reads it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DiscordSettings {
    /// Accounts by name.
    pub accounts: BTreeMap<String, discord::config::Account>,
    /// The HTTP client.
    pub client: ClientSettings,
    /// The limit of one public IP address: Discord counts webhook calls, which carry no bot's
    /// credential, by it, 50 a second. [R: discord-api-docs, 2026-08]
    pub egress: Egress,
}

/// `channels.apns`, as far as the channel itself reads it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApnsSettings {
    /// Accounts by name. None by default: each has a credential.
    pub accounts: BTreeMap<String, apns::config::Account>,
    /// How connections are kept.
    pub connection: apns::config::Connections,
    /// The limit of one public IP address. Apple names none.
    pub egress: Egress,
}

/// `channels.alimtalk`, as far as the channel itself reads it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AlimTalkSettings {
    /// Accounts by name. None by default: each has a credential.
    pub accounts: BTreeMap<String, alimtalk::config::Account>,
    /// The HTTP client.
    pub client: ClientSettings,
    /// The limit of one public IP address.
    pub egress: Egress,
}

/// Every channel's settings. A composer that adds settings of its own to `channels.<channel>` reads
/// its own section and fills this from it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Webhooks.
    pub webhook: WebhookSettings,
    /// Discord.
    pub discord: DiscordSettings,
    /// APNs.
    pub apns: ApnsSettings,
    /// AlimTalk.
    pub alimtalk: AlimTalkSettings,
}

impl Settings {
    /// Whether a channel is in use by these settings alone: it needs an account, and has one.
    #[must_use]
    pub fn brings(&self, channel: Channel) -> bool {
        match channel {
            // Their default account needs no setting, so they say nothing of their use.
            Channel::Webhook | Channel::Discord => false,
            Channel::Apns => !self.apns.accounts.is_empty(),
            Channel::AlimTalk => !self.alimtalk.accounts.is_empty(),
        }
    }

    /// Everything that is wrong, with the full path of each key.
    #[must_use]
    pub fn validate(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        for (name, account) in &self.webhook.accounts {
            let prefix = format!("channels.webhook.accounts.{name}");
            complaints.extend(account.validate(&prefix));
        }
        for (name, account) in &self.discord.accounts {
            let prefix = format!("channels.discord.accounts.{name}");
            complaints.extend(account.validate(&prefix));
        }
        for (name, account) in &self.alimtalk.accounts {
            let prefix = format!("channels.alimtalk.accounts.{name}");
            complaints.extend(account.validate(&prefix));
        }
        for (channel, egress) in [
            ("webhook", &self.webhook.egress),
            ("discord", &self.discord.egress),
            ("apns", &self.apns.egress),
            ("alimtalk", &self.alimtalk.egress),
        ] {
            complaints.extend(egress.validate(&format!("channels.{channel}.egress")));
        }
        for (name, account) in &self.apns.accounts {
            let prefix = format!("channels.apns.accounts.{name}");
            complaints.extend(account.validate(&prefix));
        }
        complaints.extend(self.apns.connection.validate("channels.apns.connection"));
        for (channel, client) in [
            ("webhook", &self.webhook.client),
            ("discord", &self.discord.client),
            ("alimtalk", &self.alimtalk.client),
        ] {
            if client.connect_timeout.0.is_zero() {
                complaints.push(Complaint::new(
                    format!("channels.{channel}.client.connect_timeout"),
                    "is zero, so no connection could ever be made; write 10s",
                ));
            }
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_reported_with_its_path() {
        let text = r#"
            [webhook.accounts.shop]
            secrets = ["whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "hunter2"]
            [discord.accounts.fans]
            api_base = "ftp://x"
            [webhook.accounts.shop.limits]
            per_second = 0
            [discord.client]
            connect_timeout = "0ms"
            [discord.egress]
            per_second = 0
            [apns.accounts.app]
            key = "hunter2"
            key_id = "ABCDE12345"
            team_id = "TEAM123456"
            [apns.connection]
            silence = "0ms"
        "#;
        let settings: Settings = bongsu_runtime::settings::load(text, []).unwrap();
        let keys: Vec<_> = settings.validate().into_iter().map(|c| c.key).collect();
        assert_eq!(
            keys,
            [
                "channels.webhook.accounts.shop.secrets[1]",
                "channels.webhook.accounts.shop.limits.per_second",
                "channels.discord.accounts.fans.api_base",
                "channels.discord.egress.per_second",
                "channels.apns.accounts.app.key",
                "channels.apns.accounts.app.topic",
                "channels.apns.connection.silence",
                "channels.discord.client.connect_timeout",
            ]
        );
    }

    #[test]
    fn nothing_configured_is_fine() {
        assert_eq!(Settings::default().validate(), []);
    }
}
