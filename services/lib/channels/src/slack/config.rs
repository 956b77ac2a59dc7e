//! `channels.slack.accounts.<name>`.

use std::sync::Arc;

use bongsu_domain::target::check_url;
use bongsu_domain::{Channel, Content};
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Clock, Secret};
use url::Url;

use super::payload;
use super::provider::Workspace;
use crate::limits::Limits;
use crate::provider::Provider;
use crate::registry::BuildError;
use crate::settings::{DEFAULT_ACCOUNT, HttpAccount, HttpSettings, Section};
use crate::single::SingleProvider;
use crate::text;
use crate::verdict::{self, Reactions};

/// Where incoming webhooks live. [R: Slack, "Sending messages using incoming webhooks", 2026-08]
pub const WEBHOOK_BASE: &str = "https://hooks.slack.com";
/// Where the Web API lives. [R: Slack, "Web API", 2026-08]
pub const API_BASE: &str = "https://slack.com";
/// The method that posts a message. [R: the same]
const POST_MESSAGE: &str = "/api/chat.postMessage";

bongsu_runtime::settings! {
    /// One account of the Slack channel: a workspace. An incoming webhook carries its own credential
    /// in its URL; an address that is a conversation or member needs the app's token.
    pub struct Account {
        /// The app's bot token (`xoxb-…`) with the scope `chat:write`, best written as `file:/path`;
        /// not needed for incoming webhooks.
        pub token: Secret = Secret::default(),
        /// Scheme, host and port of incoming webhooks; another one for simulators and proxies.
        pub webhook_base: String = WEBHOOK_BASE.to_owned(),
        /// Scheme, host and port of the Web API; another one for simulators and proxies.
        pub api_base: String = API_BASE.to_owned(),
        /// Reactions of one's own by Slack's word: `{ channel_is_archived = "not_reachable" }`. They
        /// go before the channel's table.
        pub reactions: Reactions = Reactions::new(),
        /// Limits of the account. Slack takes about one message a second per webhook or conversation.
        pub limits: Limits = Limits::default(),
    }
}

/// Scheme, host and port without anything more.
fn base(key: &'static str, text: &str) -> Result<Url, (&'static str, String)> {
    // The operator writes it, so private hosts are fine.
    match check_url(text, true) {
        Ok(url) if url.path() == "/" && url.query().is_none() => Ok(url),
        Ok(_) => Err((
            key,
            "has a path; write scheme, host and port only".to_owned(),
        )),
        Err(error) => Err((key, error.to_string())),
    }
}

impl Account {
    /// Where incoming webhooks are.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    pub fn webhooks(&self) -> Result<Url, (&'static str, String)> {
        base("webhook_base", &self.webhook_base)
    }

    /// Where an app's messages are posted.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    pub fn post_message(&self) -> Result<Url, (&'static str, String)> {
        let base = base("api_base", &self.api_base)?;
        base.join(POST_MESSAGE)
            .map_err(|_| ("api_base", "makes no URL".to_owned()))
    }

    /// Whether the token has a form that can stand in a header; an empty one has.
    fn token_fits(&self) -> bool {
        let token = self.token.expose();
        token.bytes().all(|b| b.is_ascii_graphic()) && (token.is_empty() || token.contains('-'))
    }
}

impl HttpAccount for Account {
    const CHANNEL: Channel = Channel::Slack;

    fn complaints(&self, prefix: &str) -> Vec<Complaint> {
        let faults = [self.webhooks().err(), self.post_message().err()];
        let mut complaints: Vec<_> = faults
            .into_iter()
            .flatten()
            .map(|(key, why)| Complaint::new(format!("{prefix}.{key}"), why))
            .collect();
        if !self.token_fits() {
            let why = "is no bot token; the app's page shows it, xoxb-…";
            complaints.push(Complaint::new(format!("{prefix}.token"), why));
        }
        complaints.extend(verdict::validate(&self.reactions, prefix));
        complaints.extend(self.limits.validate(&format!("{prefix}.limits")));
        complaints
    }

    fn provider(
        settings: &HttpSettings<Self>,
        worker: &str,
        clock: Clock,
    ) -> Result<Arc<dyn Provider>, BuildError> {
        let made = SingleProvider::new(settings, worker, clock, Workspace::new)?;
        let default = Workspace::new(&Self::default());
        let default = default.map_err(|message| BuildError::Account {
            channel: Self::CHANNEL.as_str(),
            account: DEFAULT_ACCOUNT.to_owned(),
            message,
        })?;
        Ok(Arc::new(made.with_default(DEFAULT_ACCOUNT, default)))
    }

    fn too_large(content: &Content, whole: bool) -> Option<String> {
        text::too_large(content, Channel::Slack, payload::TEXT_CHARS, whole)
    }

    fn describe() -> Vec<Section> {
        let about = "A Slack workspace.";
        vec![Section::new("accounts.<name>", about, Self::describe())]
    }
}
