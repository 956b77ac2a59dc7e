//! Addresses of chat services: one form for all ways to write one.

use std::borrow::Cow;

use thiserror::Error;
use url::Url;

/// Why a text is no address of a chat service. Never holds the text: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChatError {
    /// No Telegram chat.
    #[error("is no Telegram chat; write its number, -1001234567890, or a channel's @name")]
    Telegram,
    /// Nothing in Slack.
    #[error(
        "is no Slack address; write https://hooks.slack.com/services/T…/B…/…, or the id of a \
         channel or member, C… or U…"
    )]
    Slack,
    /// No Sendbird channel.
    #[error("is no Sendbird channel; write its channel_url")]
    Sendbird,
    /// Nobody on LINE.
    #[error("is no LINE id; write U, C or R and 32 hexadecimal digits")]
    Line,
}

/// A Telegram chat: a number, or the public name of a channel. [R: Telegram, Bot API, 2026-08]
#[derive(Clone, PartialEq, Eq)]
pub struct TelegramChat<'a>(Cow<'a, str>);

impl<'a> TelegramChat<'a> {
    /// Reads `-1001234567890` or `@name`; names are the same in any case.
    ///
    /// # Errors
    /// [`ChatError::Telegram`].
    pub fn parse(text: &'a str) -> Result<Self, ChatError> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix('@') {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            let known = (4..=32).contains(&name.len()) && name.bytes().all(fits);
            let lower = || Self(text.to_ascii_lowercase().into());
            return known.then(lower).ok_or(ChatError::Telegram);
        }
        match text.parse::<i64>() {
            // Group ids need 52 bits. [R: the same]
            Ok(id) if id != 0 && id.unsigned_abs() < 1 << 52 => Ok(Self(id.to_string().into())),
            Ok(_) | Err(_) => Err(ChatError::Telegram),
        }
    }

    /// Its one form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where in Slack.
#[derive(Clone, PartialEq, Eq)]
pub enum SlackTarget<'a> {
    /// The path of an incoming webhook, `/services/T…/B…/…`: a secret.
    Webhook(String),
    /// A conversation or member, by id.
    Conversation(&'a str),
}

impl<'a> SlackTarget<'a> {
    /// Reads the URL of an incoming webhook (its host is checked by the channel), or the id of a
    /// conversation or member. [R: Slack, "Incoming webhooks" and "chat.postMessage"; the form of
    /// the ids M]
    ///
    /// # Errors
    /// [`ChatError::Slack`].
    pub fn parse(text: &'a str) -> Result<Self, ChatError> {
        let text = text.trim();
        if text.contains("://") {
            let url = Url::parse(text).map_err(|_| ChatError::Slack)?;
            let segments: Vec<&str> = url.path().split('/').skip(1).collect();
            let part = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric());
            let known = match segments.as_slice() {
                ["services", team, hook, token] => [team, hook, token].iter().all(|s| part(s)),
                _ => false,
            };
            let whole = known && url.username().is_empty() && url.query().is_none();
            let webhook = || Self::Webhook(url.path().to_owned());
            return whole.then(webhook).ok_or(ChatError::Slack);
        }
        let known = (9..=21).contains(&text.len())
            && text.starts_with(['C', 'G', 'D', 'U', 'W'])
            && text
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        known
            .then_some(Self::Conversation(text))
            .ok_or(ChatError::Slack)
    }
}

/// Whether a text has the form of a Sendbird `channel_url`: a name, despite its name. (M: from memory)
///
/// # Errors
/// [`ChatError::Sendbird`].
pub fn sendbird_channel(text: &str) -> Result<&str, ChatError> {
    let text = text.trim();
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'@');
    // It stands in a path, where names of dots have a meaning.
    let known = (1..=100).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('.');
    known.then_some(text).ok_or(ChatError::Sendbird)
}

/// Whether a text is the id of a LINE user, group or room. (M: from memory)
///
/// # Errors
/// [`ChatError::Line`].
pub fn line_id(text: &str) -> Result<&str, ChatError> {
    let text = text.trim();
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let known = text
        .strip_prefix(['U', 'C', 'R'])
        .is_some_and(|digits| digits.len() == 32 && digits.bytes().all(hex));
    known.then_some(text).ok_or(ChatError::Line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telegram_chat_is_a_number_or_a_name() {
        let of = |text: &str| TelegramChat::parse(text).map(|chat| chat.as_str().to_owned());
        assert_eq!(of(" -1001234567890 ").as_deref(), Ok("-1001234567890"));
        assert_eq!(of("+17").as_deref(), Ok("17"));
        assert_eq!(of("@My_Shop").as_deref(), Ok("@my_shop"));
        for bad in [
            "",
            "0",
            "@a",
            "@a b c",
            "shop",
            "1.5",
            "99999999999999999999",
        ] {
            assert_eq!(of(bad), Err(ChatError::Telegram), "{bad}");
        }
    }

    #[test]
    fn slack_is_reached_by_webhook_or_id() {
        let hook = "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXX";
        assert!(matches!(
            SlackTarget::parse(hook),
            Ok(SlackTarget::Webhook(path)) if path == "/services/T00000000/B00000000/XXXXXXXXXXXX"
        ));
        assert!(matches!(
            SlackTarget::parse(" C0123ABCD "),
            Ok(SlackTarget::Conversation("C0123ABCD"))
        ));
        for bad in [
            "",
            "not an address",
            "#general",
            "c0123abcd",
            "C1",
            "https://hooks.slack.com/services/T/B",
            "https://hooks.slack.com/services/T/B/../x",
            "https://u@hooks.slack.com/services/T/B/x",
            "https://hooks.slack.com/services/T/B/x?y=1",
        ] {
            assert!(SlackTarget::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sendbird_channel_is_a_name_and_a_line_id_hexadecimal() {
        assert_eq!(
            sendbird_channel(" sendbird_group_channel_1_a "),
            Ok("sendbird_group_channel_1_a")
        );
        for bad in ["", "..", "not an address", "a/b", "a?b"] {
            assert_eq!(sendbird_channel(bad), Err(ChatError::Sendbird), "{bad}");
        }
        let id = format!("U{}", "0a".repeat(16));
        assert_eq!(line_id(&id), Ok(id.as_str()));
        for bad in [
            "",
            "U12",
            &id.to_lowercase(),
            &format!("X{}", "0a".repeat(16)),
        ] {
            assert_eq!(line_id(bad), Err(ChatError::Line), "{bad}");
        }
    }
}
