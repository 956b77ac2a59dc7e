//! `channels.telegram.accounts.<name>`.

use std::sync::Arc;

use bongsu_domain::target::check_url;
use bongsu_domain::{Channel, Content};
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Clock, Secret};
use serde::{Deserialize, Serialize};
use url::Url;

use super::payload;
use super::provider::Bot;
use crate::limits::Limits;
use crate::provider::Provider;
use crate::registry::BuildError;
use crate::settings::{HttpAccount, HttpSettings, Section};
use crate::single::SingleProvider;
use crate::text;
use crate::verdict::{self, Reactions};

/// Where the Bot API lives. [R: Telegram, Bot API, 2026-08]
pub const API_BASE: &str = "https://api.telegram.org";

/// How the text is written. [R: the same]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParseMode {
    /// As it is.
    #[serde(rename = "")]
    Plain,
    /// Telegram's HTML.
    #[serde(rename = "HTML")]
    Html,
    /// Telegram's Markdown.
    #[serde(rename = "MarkdownV2")]
    MarkdownV2,
}

impl ParseMode {
    /// The value of `parse_mode`; none for plain text.
    #[must_use]
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Html => Some("HTML"),
            Self::MarkdownV2 => Some("MarkdownV2"),
        }
    }
}

bongsu_runtime::settings! {
    /// One account of the Telegram channel: a bot.
    pub struct Account {
        /// The bot's token, best written as `file:/path`.
        pub token: Secret = Secret::default(),
        /// Scheme, host and port of the Bot API; another one for simulators and a server of one's own.
        pub api_base: String = API_BASE.to_owned(),
        /// How publishers write their texts: empty for plain text, `HTML` or `MarkdownV2`. Texts are
        /// sent as they are written; one that is too long is cut only when it is plain.
        pub parse_mode: ParseMode = ParseMode::Plain,
        /// Whether bulk notifications arrive without a sound.
        pub silent_bulk: bool = true,
        /// Whether messages beyond the free rate are paid for with the bot's stars.
        pub allow_paid_broadcast: bool = false,
        /// Reactions of one's own by description, the beginning is enough: `{ "Forbidden: bot was
        /// kicked" = "not_reachable" }`. They go before the channel's table.
        pub reactions: Reactions = Reactions::new(),
        /// Limits of the account. Telegram says of itself: about 30 messages a second of one bot, one
        /// a second to one chat, 20 a minute to one group.
        pub limits: Limits = Limits::default(),
    }
}

/// Whether a text has the form of a bot's token: its id, a colon, 20 characters or more. (M: from memory)
#[must_use]
pub fn is_token(text: &str) -> bool {
    text.split_once(':').is_some_and(|(id, secret)| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=20).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_digit())
            && (20..=128).contains(&secret.len())
            && secret.bytes().all(fits)
    })
}

impl Account {
    /// Where messages are posted. Holds the token.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    pub fn url(&self) -> Result<Url, (&'static str, String)> {
        if !is_token(self.token.expose()) {
            let why = "is no bot's token; BotFather gives it, 123456:ABC-DEF…";
            return Err(("token", why.to_owned()));
        }
        // The operator writes it, so private hosts are fine.
        let base = check_url(&self.api_base, true).map_err(|e| ("api_base", e.to_string()))?;
        if base.path() != "/" || base.query().is_some() {
            let why = "has a path; write scheme, host and port only";
            return Err(("api_base", why.to_owned()));
        }
        base.join(&format!("/bot{}/sendMessage", self.token.expose()))
            .map_err(|_| ("api_base", "makes no URL".to_owned()))
    }
}

impl HttpAccount for Account {
    const CHANNEL: Channel = Channel::Telegram;

    fn complaints(&self, prefix: &str) -> Vec<Complaint> {
        let url = self.url().err();
        let mut complaints: Vec<_> = url
            .map(|(key, why)| Complaint::new(format!("{prefix}.{key}"), why))
            .into_iter()
            .collect();
        complaints.extend(verdict::validate(&self.reactions, prefix));
        complaints.extend(self.limits.validate(&format!("{prefix}.limits")));
        complaints
    }

    fn provider(
        settings: &HttpSettings<Self>,
        worker: &str,
        clock: Clock,
    ) -> Result<Arc<dyn Provider>, BuildError> {
        let made = SingleProvider::new(settings, worker, clock, Bot::new)?;
        Ok(Arc::new(made))
    }

    fn too_large(content: &Content, whole: bool) -> Option<String> {
        text::too_large(content, Channel::Telegram, payload::TEXT_CHARS, whole)
    }

    fn describe() -> Vec<Section> {
        let about = "A Telegram bot.";
        vec![Section::new("accounts.<name>", about, Self::describe())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_in_the_url_and_nowhere_else() {
        let account = Account {
            token: Secret::new("123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11"),
            ..Account::default()
        };
        assert_eq!(account.complaints("a"), []);
        assert_eq!(
            account.url().unwrap().as_str(),
            "https://api.telegram.org/bot123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11/sendMessage"
        );
        assert!(!format!("{account:?}").contains("ABC"), "{account:?}");
        let wrong = Account {
            token: Secret::new("hunter2"),
            ..Account::default()
        };
        let told = format!("{:?}", wrong.complaints("a"));
        assert!(
            told.contains("a.token") && !told.contains("hunter2"),
            "{told}"
        );
    }
}
