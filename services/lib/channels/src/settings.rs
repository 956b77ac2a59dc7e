//! What an operator sets of the channels: `channels.<channel>.accounts.<name>` and the client.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bongsu_domain::{Channel, Content};
use bongsu_runtime::settings::{Complaint, KeyDoc};
use bongsu_runtime::{Clock, Duration};
use serde::{Deserialize, Serialize};

use crate::limits::Egress;
use crate::provider::Provider;
use crate::registry::BuildError;
use crate::reports::ReportSource;

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

/// One section of the generated reference, below `channels.<channel>`.
#[derive(Debug, Clone)]
pub struct Section {
    /// Its name: `accounts.<name>`.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Its keys.
    pub keys: Vec<KeyDoc>,
}

impl Section {
    /// A section.
    #[must_use]
    pub const fn new(name: &'static str, about: &'static str, keys: Vec<KeyDoc>) -> Self {
        Self { name, about, keys }
    }
}

/// An account's reports: the provider's word in the callback's path, the account, its source.
pub type NamedSource = (&'static str, String, Arc<dyn ReportSource>);

/// One account's reports, with the provider's word in the callback's path.
pub type ProviderSource = (&'static str, Arc<dyn ReportSource>);

/// What the [table of channels](crate::registry) asks of a channel's settings. A channel that speaks
/// HTTP has it from [`HttpSettings`] by implementing [`HttpAccount`].
pub trait ChannelSettings {
    /// Whose settings they are.
    const CHANNEL: Channel;

    /// Whether these settings alone say that the channel is used: it needs an account, and has one.
    fn in_use(&self) -> bool;

    /// Everything that is wrong, with the full path of each key.
    fn validate(&self) -> Vec<Complaint>;

    /// Makes the provider with all accounts; see [`crate::build`].
    ///
    /// # Errors
    /// [`BuildError`].
    fn provider(&self, worker: &str, clock: Clock) -> Result<Arc<dyn Provider>, BuildError>;

    /// The accounts that have reports; none by default.
    ///
    /// # Errors
    /// [`BuildError`].
    fn report_sources(&self) -> Result<Vec<NamedSource>, BuildError> {
        Ok(Vec::new())
    }

    /// What of a content is larger than the channel ever takes; see [`crate::too_large`]. Nothing by
    /// default.
    #[must_use]
    fn too_large(_content: &Content, _whole: bool) -> Option<String> {
        None
    }

    /// The sections for the generated reference.
    fn describe() -> Vec<Section>;
}

/// An account of a channel that speaks HTTP.
pub trait HttpAccount: Sized {
    /// Whose account it is.
    const CHANNEL: Channel;

    /// Whether the channel works without any configured account: its addresses carry what is needed.
    const OPTIONAL: bool = false;

    /// What is wrong; `prefix` is the account's path in the settings.
    fn complaints(&self, prefix: &str) -> Vec<Complaint>;

    /// Makes the channel's provider.
    ///
    /// # Errors
    /// [`BuildError`].
    fn provider(
        settings: &HttpSettings<Self>,
        worker: &str,
        clock: Clock,
    ) -> Result<Arc<dyn Provider>, BuildError>;

    /// The account's reports, with the provider's word; none by default.
    ///
    /// # Errors
    /// What is wrong with the account.
    fn report_source(&self, _client: &ClientSettings) -> Result<Option<ProviderSource>, String> {
        Ok(None)
    }

    /// What of a content is larger than the channel ever takes; see [`crate::too_large`]. Nothing by
    /// default.
    #[must_use]
    fn too_large(_content: &Content, _whole: bool) -> Option<String> {
        None
    }

    /// The sections for the generated reference.
    fn describe() -> Vec<Section>;
}

/// `channels.<channel>` of a channel that speaks HTTP, as far as the channel itself reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, bound(deserialize = "A: Deserialize<'de>"))]
pub struct HttpSettings<A> {
    /// Accounts by name.
    pub accounts: BTreeMap<String, A>,
    /// The HTTP client.
    pub client: ClientSettings,
    /// The limit of one public IP address.
    pub egress: Egress,
}

impl<A> Default for HttpSettings<A> {
    fn default() -> Self {
        Self {
            accounts: BTreeMap::new(),
            client: ClientSettings::default(),
            egress: Egress::default(),
        }
    }
}

impl<A: HttpAccount> ChannelSettings for HttpSettings<A> {
    const CHANNEL: Channel = A::CHANNEL;

    fn in_use(&self) -> bool {
        !A::OPTIONAL && !self.accounts.is_empty()
    }

    fn validate(&self) -> Vec<Complaint> {
        let path = format!("channels.{}", A::CHANNEL);
        let mut complaints = Vec::new();
        for (name, account) in &self.accounts {
            complaints.extend(account.complaints(&format!("{path}.accounts.{name}")));
        }
        if self.client.connect_timeout.0.is_zero() {
            complaints.push(Complaint::new(
                format!("{path}.client.connect_timeout"),
                "is zero, so no connection could ever be made; write 10s",
            ));
        }
        complaints.extend(self.egress.validate(&format!("{path}.egress")));
        complaints
    }

    fn provider(&self, worker: &str, clock: Clock) -> Result<Arc<dyn Provider>, BuildError> {
        A::provider(self, worker, clock)
    }

    fn report_sources(&self) -> Result<Vec<NamedSource>, BuildError> {
        let mut sources = Vec::new();
        for (name, account) in &self.accounts {
            let made = account.report_source(&self.client);
            let source = made.map_err(|message| BuildError::Account {
                channel: A::CHANNEL.as_str(),
                account: name.clone(),
                message,
            })?;
            sources.extend(source.map(|(provider, source)| (provider, name.clone(), source)));
        }
        Ok(sources)
    }

    fn too_large(content: &Content, whole: bool) -> Option<String> {
        A::too_large(content, whole)
    }

    fn describe() -> Vec<Section> {
        A::describe()
    }
}

#[cfg(test)]
mod tests {
    use crate::Settings;

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
                "channels.discord.client.connect_timeout",
                "channels.discord.egress.per_second",
                "channels.apns.accounts.app.key",
                "channels.apns.accounts.app.topic",
                "channels.apns.connection.silence",
            ]
        );
    }

    #[test]
    fn nothing_configured_is_fine() {
        assert_eq!(Settings::default().validate(), []);
    }
}
