//! Which webhook an address names, and the URL to post to. Pure.

use thiserror::Error;
use url::Url;

/// Version of the API in the path. [R: discord-api-docs, 2026-08]
pub const API_PATH: &str = "/api/v10/webhooks/";

/// The address names no webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is no Discord webhook; write its URL, or id/token")]
pub struct NotAWebhook;

/// The webhook an address names. The token is a secret, so there is no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    id: String,
    token: String,
    thread_id: Option<String>,
}

impl Webhook {
    /// Reads `https://discord.com/api[/v10]/webhooks/{id}/{token}[?thread_id=…]` or `id/token`.
    ///
    /// A URL must be Discord's own or lead to `api_base`: anything else was stored for another
    /// channel by mistake. The host is not used for the request; `api_base` is.
    ///
    /// # Errors
    /// [`NotAWebhook`].
    pub fn parse(address: &str, api_base: &Url) -> Result<Self, NotAWebhook> {
        let address = address.trim();
        if !address.contains("://") {
            let (id, token) = address.split_once('/').ok_or(NotAWebhook)?;
            return Self::checked(id, token, None);
        }
        let url = Url::parse(address).map_err(|_| NotAWebhook)?;
        let host = url.host_str().ok_or(NotAWebhook)?;
        if !is_discord(host) && url.host_str() != api_base.host_str() {
            return Err(NotAWebhook);
        }
        let segments: Vec<&str> = url.path().split('/').skip(1).collect();
        let (id, token) = match segments.as_slice() {
            ["api", "webhooks", id, token] => (id, token),
            ["api", version, "webhooks", id, token] if version.starts_with('v') => (id, token),
            _ => return Err(NotAWebhook),
        };
        let thread = url.query_pairs().find(|(name, _)| name == "thread_id");
        Self::checked(id, token, thread.map(|(_, value)| value.into_owned()))
    }

    fn checked(id: &str, token: &str, thread_id: Option<String>) -> Result<Self, NotAWebhook> {
        let is_id = |s: &str| (1..=20).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
        let is_token = (1..=128).contains(&token.len())
            && token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if is_id(id) && is_token && thread_id.as_deref().is_none_or(is_id) {
            Ok(Self {
                id: id.to_owned(),
                token: token.to_owned(),
                thread_id,
            })
        } else {
            Err(NotAWebhook)
        }
    }

    /// The webhook's id as a number, by which its limits are remembered.
    #[must_use]
    pub fn number(&self) -> u64 {
        // Discord's ids are 64 bits; one that is longer shares the number of all such.
        self.id.parse().unwrap_or(u64::MAX)
    }

    /// The URL to post to. Without `wait` the answer is an empty 204 before the text was stored;
    /// with it Discord stores first, and answers with what it stored or why it did not.
    ///
    /// # Errors
    /// [`NotAWebhook`] when no URL can be made, which checked parts do not allow.
    pub fn url(&self, api_base: &Url, wait: bool) -> Result<Url, NotAWebhook> {
        let path = format!("{API_PATH}{}/{}", self.id, self.token);
        let mut url = api_base.join(&path).map_err(|_| NotAWebhook)?;
        if let Some(thread) = &self.thread_id {
            url.query_pairs_mut().append_pair("thread_id", thread);
        }
        if wait {
            url.query_pairs_mut().append_pair("wait", "true");
        }
        Ok(url)
    }
}

fn is_discord(host: &str) -> bool {
    ["discord.com", "discordapp.com"]
        .iter()
        .any(|own| host == *own || host.strip_suffix(own).is_some_and(|h| h.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("https://discord.com").unwrap()
    }

    fn url_of(address: &str) -> Result<String, NotAWebhook> {
        Webhook::parse(address, &base())?
            .url(&base(), false)
            .map(String::from)
    }

    #[test]
    fn every_form_of_an_address_leads_to_the_same_url() {
        let expected = "https://discord.com/api/v10/webhooks/123/a-B_9";
        for address in [
            "123/a-B_9",
            "https://discord.com/api/webhooks/123/a-B_9",
            "https://canary.discord.com/api/v9/webhooks/123/a-B_9",
            " https://discordapp.com/api/webhooks/123/a-B_9 ",
        ] {
            assert_eq!(url_of(address).as_deref(), Ok(expected), "{address}");
        }
        assert_eq!(
            url_of("https://discord.com/api/webhooks/123/t?thread_id=77").as_deref(),
            Ok("https://discord.com/api/v10/webhooks/123/t?thread_id=77")
        );
    }

    #[test]
    fn what_is_no_webhook_is_refused() {
        for address in [
            "",
            "123",
            "abc/token",
            "123/to/ken",
            "123/../x",
            "123/tok?en",
            "https://evil.example/api/webhooks/123/token",
            "https://notdiscord.com/api/webhooks/123/token",
            "https://discord.com/api/webhooks/123",
            "https://discord.com/channels/1/2/3/4",
            "https://discord.com/api/webhooks/123/token?thread_id=x",
        ] {
            assert_eq!(url_of(address), Err(NotAWebhook), "{address}");
        }
    }

    #[test]
    fn a_thread_and_waiting_are_asked_for_in_the_query() {
        let webhook = Webhook::parse("https://discord.com/api/webhooks/1/t?thread_id=7", &base());
        assert_eq!(
            webhook.unwrap().url(&base(), true).unwrap().query(),
            Some("thread_id=7&wait=true")
        );
    }
}
