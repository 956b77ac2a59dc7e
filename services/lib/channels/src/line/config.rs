//! `channels.line.accounts.<name>`.

use std::sync::Arc;

use bongsu_domain::target::check_url;
use bongsu_domain::{Channel, Content};
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Clock, Secret};
use url::Url;

use super::payload;
use super::provider::OfficialAccount;
use crate::limits::Limits;
use crate::provider::Provider;
use crate::registry::BuildError;
use crate::settings::{HttpAccount, HttpSettings, Section};
use crate::single::SingleProvider;
use crate::text;
use crate::verdict::{self, Reactions};

/// Where the Messaging API lives. (M: from memory)
pub const API_BASE: &str = "https://api.line.me";
/// The method that pushes. (M: from memory)
const PUSH: &str = "/v2/bot/message/push";

bongsu_runtime::settings! {
    /// One account of the LINE channel: an official account.
    pub struct Account {
        /// The channel access token, best written as `file:/path`.
        pub token: Secret = Secret::default(),
        /// Scheme, host and port of the Messaging API; another one for simulators and proxies.
        pub api_base: String = API_BASE.to_owned(),
        /// Whether bulk notifications arrive without a sound.
        pub silent_bulk: bool = true,
        /// Reactions of one's own by status and the beginning of LINE's message, with a space between:
        /// `{ "400 Failed to send messages" = "invalid_address" }`. They go before the channel's table.
        pub reactions: Reactions = Reactions::new(),
        /// Limits of the account. LINE takes 2,000 pushes a second of one channel. (M: from memory)
        pub limits: Limits = Limits::default(),
    }
}

impl Account {
    /// Where messages are posted.
    ///
    /// # Errors
    /// What is wrong with `api_base`.
    pub fn url(&self) -> Result<Url, String> {
        // The operator writes it, so private hosts are fine.
        let base = check_url(&self.api_base, true).map_err(|e| e.to_string())?;
        if base.path() != "/" || base.query().is_some() {
            return Err("has a path; write scheme, host and port only".to_owned());
        }
        base.join(PUSH).map_err(|_| "makes no URL".to_owned())
    }
}

impl HttpAccount for Account {
    const CHANNEL: Channel = Channel::Line;

    fn complaints(&self, prefix: &str) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        if let Err(why) = self.url() {
            complaints.push(Complaint::new(format!("{prefix}.api_base"), why));
        }
        let token = self.token.expose();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            let why = "is empty or no channel access token; the LINE developers console shows it";
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
        let made = SingleProvider::new(settings, worker, clock, OfficialAccount::new)?;
        Ok(Arc::new(made))
    }

    fn too_large(content: &Content, whole: bool) -> Option<String> {
        text::too_large(content, Channel::Line, payload::TEXT_CHARS, whole)
    }

    fn describe() -> Vec<Section> {
        let about = "A LINE official account.";
        vec![Section::new("accounts.<name>", about, Self::describe())]
    }
}
