//! Address and content to request. Pure.

use bongsu_domain::{Channel, Content};
use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;
use url::Url;

use crate::text::{cut, width};

/// Characters of `content`. [R: discord-api-docs, 2026-08]. Counted in UTF-16 units, which are never
/// fewer than the code points: whichever Discord counts, it fits.
pub const CONTENT_CHARS: usize = 2_000;
/// Characters of an embed's title. [R: same]
pub const TITLE_CHARS: usize = 256;
/// Characters of an embed's description. [R: same]
pub const DESCRIPTION_CHARS: usize = 4_096;
/// Version of the API in the path. [R: same]
pub const API_PATH: &str = "/api/v10/webhooks/";

/// The address names no webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is no Discord webhook; write its URL, or id/token")]
pub struct NotAWebhook;

/// There is nothing Discord could show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("has no title, body, link or image, or its override is no JSON object")]
pub struct NothingToShow;

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

    /// The URL to post to. `wait` stays at its default, false: the answer is an empty 204.
    ///
    /// # Errors
    /// [`NotAWebhook`] when no URL can be made, which checked parts do not allow.
    pub fn url(&self, api_base: &Url) -> Result<Url, NotAWebhook> {
        let path = format!("{API_PATH}{}/{}", self.id, self.token);
        let mut url = api_base.join(&path).map_err(|_| NotAWebhook)?;
        if let Some(thread) = &self.thread_id {
            url.query_pairs_mut().append_pair("thread_id", thread);
        }
        Ok(url)
    }
}

fn is_discord(host: &str) -> bool {
    ["discord.com", "discordapp.com"]
        .iter()
        .any(|own| host == *own || host.strip_suffix(own).is_some_and(|h| h.ends_with('.')))
}

#[derive(Serialize)]
struct Execution<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embeds: Option<[Embed<'a>; 1]>,
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    allowed_mentions: AllowedMentions,
}

#[derive(Serialize)]
struct Embed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Image<'a>>,
}

#[derive(Serialize)]
struct Image<'a> {
    url: &'a str,
}

/// Nobody is mentioned, whatever the text contains: a publisher's user must not ping a guild.
#[derive(Serialize, Default)]
struct AllowedMentions {
    parse: [&'static str; 0],
}

/// The request body.
///
/// With a title or an image it is one embed (title, body as description, link as its URL, image);
/// else plain content of body and link. Text that is too long ends in `…`; a link is kept whole.
/// A raw override for `discord` is sent as it is, with `allowed_mentions` added when it has none.
///
/// # Errors
/// [`NothingToShow`].
pub fn body(content: &Content, username: &str) -> Result<Vec<u8>, NothingToShow> {
    if let Some(raw) = content.overrides.get(Channel::Discord.as_str()) {
        let mut raw: Map<String, Value> = serde_json::from_str(raw).map_err(|_| NothingToShow)?;
        raw.entry("allowed_mentions")
            .or_insert_with(|| json!({"parse": []}));
        return serde_json::to_vec(&raw).map_err(|_| NothingToShow);
    }
    let text = content.body.as_deref().filter(|b| !b.trim().is_empty());
    let title = content.title.as_deref().filter(|t| !t.trim().is_empty());
    let link = content.link.as_deref();
    let (plain, embed) = if title.is_some() || content.image.is_some() {
        let embed = Embed {
            title: title.map(|t| cut(t, TITLE_CHARS)),
            description: text.map(|t| cut(t, DESCRIPTION_CHARS)),
            url: link,
            image: content.image.as_deref().map(|url| Image { url }),
        };
        (None, Some([embed]))
    } else {
        (Some(with_link(text, link)?), None)
    };
    serde_json::to_vec(&Execution {
        content: plain,
        embeds: embed,
        username,
        allowed_mentions: AllowedMentions::default(),
    })
    .map_err(|_| NothingToShow)
}

/// Embeds of one execution. [R: discord-api-docs, 2026-08]
pub const EMBEDS: usize = 10;
/// Characters of all embeds of one execution together. [R: the same]
pub const EMBEDS_CHARS: usize = 6_000;

/// What of a content is larger than Discord takes; none when nothing is. What we shape ourselves is
/// cut to fit unless it must stay `whole`; an override goes out as it is and so must fit.
#[must_use]
pub fn too_large(content: &Content, whole: bool) -> Option<String> {
    if let Some(raw) = content.overrides.get(Channel::Discord.as_str()) {
        let raw: Value = serde_json::from_str(raw).ok()?;
        return override_too_large(&raw);
    }
    if !whole {
        return None;
    }
    let length = |text: Option<&str>| text.map_or(0, width);
    let title = length(content.title.as_deref());
    let body = length(content.body.as_deref());
    let over = |what: &str, has: usize, limit: usize| {
        (has > limit).then(|| {
            format!("has {what} of {has} characters that must not be cut; Discord takes {limit}")
        })
    };
    if title > 0 || content.image.is_some() {
        return over("a title", title, TITLE_CHARS)
            .or_else(|| over("a text", body, DESCRIPTION_CHARS));
    }
    let link = content.link.as_deref().map_or(0, |link| width(link) + 1);
    over("a text and link", body + link, CONTENT_CHARS)
}

fn override_too_large(raw: &Value) -> Option<String> {
    let over = |what: &str, has: usize, limit: usize| {
        (has > limit).then(|| format!("has an override with {has} {what}; Discord takes {limit}"))
    };
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map_or(0, width);
    let embeds = raw.get("embeds").and_then(Value::as_array);
    let embeds = embeds.map_or(&[][..], Vec::as_slice);
    let mut all = 0;
    for embed in embeds {
        let (title, description) = (text(embed, "title"), text(embed, "description"));
        let large = over("characters in a title", title, TITLE_CHARS).or_else(|| {
            over(
                "characters in a description",
                description,
                DESCRIPTION_CHARS,
            )
        });
        if large.is_some() {
            return large;
        }
        all += title + description;
    }
    over("characters of content", text(raw, "content"), CONTENT_CHARS)
        .or_else(|| over("embeds", embeds.len(), EMBEDS))
        .or_else(|| over("characters in its embeds", all, EMBEDS_CHARS))
}

fn with_link(text: Option<&str>, link: Option<&str>) -> Result<String, NothingToShow> {
    match (text, link) {
        (Some(text), None) => Ok(cut(text, CONTENT_CHARS)),
        (None, Some(link)) => Ok(cut(link, CONTENT_CHARS)),
        (Some(text), Some(link)) => {
            let room = CONTENT_CHARS.saturating_sub(width(link) + 1);
            Ok(cut(&format!("{}\n{link}", cut(text, room)), CONTENT_CHARS))
        }
        (None, None) => Err(NothingToShow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("https://discord.com").unwrap()
    }

    fn url_of(address: &str) -> Result<String, NotAWebhook> {
        Webhook::parse(address, &base())?
            .url(&base())
            .map(String::from)
    }

    fn built(content: &Content) -> Value {
        serde_json::from_slice(&body(content, "").unwrap()).unwrap()
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
    fn plain_text_is_content_and_mentions_nobody() {
        let content = Content {
            body: Some("hello @everyone".into()),
            link: Some("https://x.example/1".into()),
            ..Content::default()
        };
        assert_eq!(
            built(&content),
            json!({"content": "hello @everyone\nhttps://x.example/1", "allowed_mentions": {"parse": []}})
        );
    }

    #[test]
    fn a_title_or_an_image_makes_an_embed() {
        let content = Content {
            title: Some("Live".into()),
            body: Some("now".into()),
            link: Some("https://x.example".into()),
            image: Some("https://x.example/i.png".into()),
            ..Content::default()
        };
        assert_eq!(
            built(&content),
            json!({
                "embeds": [{"title": "Live", "description": "now", "url": "https://x.example",
                            "image": {"url": "https://x.example/i.png"}}],
                "allowed_mentions": {"parse": []}
            })
        );
    }

    #[test]
    fn long_text_is_cut_between_characters_and_keeps_its_link() {
        let content = Content {
            body: Some("봉🔥".repeat(2_000)),
            link: Some("https://x.example/1".into()),
            ..Content::default()
        };
        let built = built(&content);
        let text = built["content"].as_str().unwrap();
        assert!((CONTENT_CHARS - 1..=CONTENT_CHARS).contains(&width(text)));
        assert!(text.ends_with("…\nhttps://x.example/1"));
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("🔥🔥", 3), "🔥…");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn an_override_keeps_its_own_mentions_and_gets_none_otherwise() {
        let mut content = Content::default();
        content
            .overrides
            .insert("discord".into(), r#"{"content":"x"}"#.into());
        assert_eq!(built(&content)["allowed_mentions"], json!({"parse": []}));
        let own = r#"{"content":"x","allowed_mentions":{"users":["1"]}}"#;
        content.overrides.insert("discord".into(), own.into());
        assert_eq!(built(&content)["allowed_mentions"], json!({"users": ["1"]}));
        content.overrides.insert("discord".into(), "[]".into());
        assert_eq!(body(&content, ""), Err(NothingToShow));
    }

    #[test]
    fn nothing_to_show_is_refused() {
        assert_eq!(body(&Content::default(), ""), Err(NothingToShow));
    }
}
