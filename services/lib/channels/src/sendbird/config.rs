//! `channels.sendbird.accounts.<name>`.

use std::sync::Arc;

use bongsu_domain::target::check_url;
use bongsu_domain::{Channel, Content};
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Clock, Secret};
use url::Url;

use super::payload;
use super::provider::Application;
use crate::limits::Limits;
use crate::provider::Provider;
use crate::registry::BuildError;
use crate::settings::{HttpAccount, HttpSettings, Section};
use crate::single::SingleProvider;
use crate::text;
use crate::verdict::{self, Reactions};

bongsu_runtime::settings! {
    /// One account of the Sendbird channel: an application, and who speaks in it.
    pub struct Account {
        /// The application's id; its API lives at `https://api-<id>.sendbird.com`.
        pub app_id: String = String::new(),
        /// Scheme, host and port of the API instead; for simulators and proxies.
        pub api_base: String = String::new(),
        /// The master API token or a secondary one, best written as `file:/path`.
        pub api_token: Secret = Secret::default(),
        /// The user who sends; empty to send as the administrator (`ADMM`).
        pub user_id: String = String::new(),
        /// Whether Sendbird pushes the message to members' devices.
        pub send_push: bool = true,
        /// `custom_type` of every message; none when empty.
        pub custom_type: String = String::new(),
        /// Reactions of one's own by Sendbird's code: `{ "400201" = "not_reachable" }`. They go before
        /// the channel's table, whose codes are partly from memory.
        pub reactions: Reactions = Reactions::new(),
        /// Limits of the account. Sendbird's plans take 5 to 200 messages a second of an application,
        /// and 5 of one user.
        pub limits: Limits = Limits::default(),
    }
}

impl Account {
    /// Where the API lives.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    pub fn url(&self) -> Result<Url, (&'static str, String)> {
        let id = &self.app_id;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let (key, text) = if self.api_base.is_empty() {
            if id.is_empty() || !id.bytes().all(fits) {
                let why = "is no application id; Sendbird's dashboard shows it";
                return Err(("app_id", why.to_owned()));
            }
            ("app_id", format!("https://api-{id}.sendbird.com"))
        } else {
            ("api_base", self.api_base.clone())
        };
        // The operator writes it, so private hosts are fine.
        match check_url(&text, true) {
            Ok(url) if url.path() == "/" && url.query().is_none() => Ok(url),
            Ok(_) => {
                let why = "has a path; write scheme, host and port only";
                Err((key, why.to_owned()))
            }
            Err(error) => Err((key, error.to_string())),
        }
    }
}

impl HttpAccount for Account {
    const CHANNEL: Channel = Channel::Sendbird;

    fn complaints(&self, prefix: &str) -> Vec<Complaint> {
        let mut complaints: Vec<_> = self
            .url()
            .err()
            .map(|(key, why)| Complaint::new(format!("{prefix}.{key}"), why))
            .into_iter()
            .collect();
        let token = self.api_token.expose();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            let why = "is empty or no token; Sendbird's dashboard shows it";
            complaints.push(Complaint::new(format!("{prefix}.api_token"), why));
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
        let made = SingleProvider::new(settings, worker, clock, Application::new)?;
        Ok(Arc::new(made))
    }

    fn too_large(content: &Content, whole: bool) -> Option<String> {
        text::too_large(content, Channel::Sendbird, payload::MESSAGE_CHARS, whole)
    }

    fn describe() -> Vec<Section> {
        let about = "A Sendbird application and who speaks in it.";
        vec![Section::new("accounts.<name>", about, Self::describe())]
    }
}
