//! Content to request. Pure.

use bongsu_domain::{Channel, Content};
use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::config::Mention;
use super::form::{self, CONTENT_CHARS, DESCRIPTION_CHARS, EMBEDS, EMBEDS_CHARS, TITLE_CHARS};
use crate::text::{cut, width};

/// There is nothing Discord could show, or it would not take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoForm {
    /// No title, body, link or image.
    #[error("has no title, body, link or image")]
    Nothing,
    /// The raw override is no JSON object.
    #[error("its override is no JSON object")]
    NoObject,
    /// The raw override breaks a rule of the form.
    #[error("its override breaks a rule of Discord: {0}")]
    Broken(#[from] form::Broken),
}

/// What an account adds to every execution.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style<'a> {
    /// The name shown; empty for the webhook's own.
    pub username: &'a str,
    /// Who may be mentioned.
    pub mentions: &'a [Mention],
}

#[derive(Serialize)]
struct Execution<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    embeds: &'a [Embed<'a>],
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    allowed_mentions: AllowedMentions<'a>,
}

/// One embed of an execution.
#[derive(Debug, Serialize)]
pub struct Embed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Image<'a>>,
}

#[derive(Debug, Serialize)]
struct Image<'a> {
    url: &'a str,
}

/// Nobody is mentioned unless the account says so, whatever the text contains: a publisher's user
/// must not ping a guild.
#[derive(Serialize)]
struct AllowedMentions<'a> {
    parse: &'a [Mention],
}

impl<'a> Embed<'a> {
    /// The embed of a content, `None` when it is shown as plain text or by an override: title, body
    /// as description, link as its URL, image. Text that is too long ends in `…`.
    #[must_use]
    pub fn of(content: &'a Content) -> Option<Self> {
        if !is_embed(content) {
            return None;
        }
        Some(Self {
            title: shown(content.title.as_ref()).map(|t| cut(t, TITLE_CHARS)),
            description: shown(content.body.as_ref()).map(|t| cut(t, DESCRIPTION_CHARS)),
            url: content.link.as_deref(),
            image: content.image.as_deref().map(|url| Image { url }),
        })
    }

    /// What it takes of the characters that all embeds of a request have together.
    #[must_use]
    pub fn width(&self) -> usize {
        let of = |text: &Option<String>| text.as_deref().map_or(0, width);
        of(&self.title) + of(&self.description)
    }
}

/// Whether a content is shown as one embed.
#[must_use]
pub fn is_embed(content: &Content) -> bool {
    !content.overrides.contains_key(Channel::Discord.as_str())
        && (shown(content.title.as_ref()).is_some() || content.image.is_some())
}

fn shown(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|t| !t.trim().is_empty())
}

/// The request body of one content.
///
/// With a title or an image it is one embed; else plain content of body and link, the link kept
/// whole. A raw override for `discord` is sent as it is once it keeps to Discord's rules, with
/// `allowed_mentions` added when it has none.
///
/// # Errors
/// [`NoForm`].
pub fn body(content: &Content, style: Style<'_>) -> Result<Vec<u8>, NoForm> {
    if let Some(raw) = content.overrides.get(Channel::Discord.as_str()) {
        let mut raw: Map<String, Value> =
            serde_json::from_str(raw).map_err(|_| NoForm::NoObject)?;
        form::check(&raw)?;
        raw.entry("allowed_mentions")
            .or_insert_with(|| json!({"parse": style.mentions}));
        return serde_json::to_vec(&raw).map_err(|_| NoForm::NoObject);
    }
    if let Some(embed) = Embed::of(content) {
        return packed(&[embed], style);
    }
    let text = with_link(shown(content.body.as_ref()), content.link.as_deref())?;
    execution(Some(text), &[], style)
}

/// The request body of several embeds in a row.
///
/// # Errors
/// When JSON cannot be written, which these types do not allow.
pub fn packed(embeds: &[Embed<'_>], style: Style<'_>) -> Result<Vec<u8>, NoForm> {
    execution(None, embeds, style)
}

/// How many of these embeds fit into one request.
#[must_use]
pub fn fitting(embeds: &[Embed<'_>]) -> usize {
    let mut all = 0;
    embeds
        .iter()
        .take(EMBEDS)
        .take_while(|embed| {
            all += embed.width();
            all <= EMBEDS_CHARS
        })
        .count()
}

fn execution(
    content: Option<String>,
    embeds: &[Embed<'_>],
    style: Style<'_>,
) -> Result<Vec<u8>, NoForm> {
    serde_json::to_vec(&Execution {
        content,
        embeds,
        username: style.username,
        allowed_mentions: AllowedMentions {
            parse: style.mentions,
        },
    })
    .map_err(|_| NoForm::Nothing)
}

/// What of a content is larger than Discord takes; none when nothing is. What we shape ourselves is
/// cut to fit unless it must stay `whole`; an override goes out as it is and so must fit.
#[must_use]
pub fn too_large(content: &Content, whole: bool) -> Option<String> {
    if let Some(raw) = content.overrides.get(Channel::Discord.as_str()) {
        let raw: Map<String, Value> = serde_json::from_str(raw).ok()?;
        let broken = form::check(&raw).err()?;
        return Some(format!(
            "has an override that Discord would refuse: {broken}"
        ));
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

fn with_link(text: Option<&str>, link: Option<&str>) -> Result<String, NoForm> {
    match (text, link) {
        (Some(text), None) => Ok(cut(text, CONTENT_CHARS)),
        (None, Some(link)) => Ok(cut(link, CONTENT_CHARS)),
        (Some(text), Some(link)) => {
            let room = CONTENT_CHARS.saturating_sub(width(link) + 1);
            Ok(cut(&format!("{}\n{link}", cut(text, room)), CONTENT_CHARS))
        }
        (None, None) => Err(NoForm::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(content: &Content) -> Value {
        serde_json::from_slice(&body(content, Style::default()).unwrap()).unwrap()
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
        assert_eq!(body(&content, Style::default()), Err(NoForm::NoObject));
        let long = json!({"content": "x".repeat(2_001)}).to_string();
        content.overrides.insert("discord".into(), long);
        assert!(matches!(
            body(&content, Style::default()),
            Err(NoForm::Broken(_))
        ));
    }

    #[test]
    fn nothing_to_show_is_refused() {
        assert_eq!(
            body(&Content::default(), Style::default()),
            Err(NoForm::Nothing)
        );
    }

    #[test]
    fn mentions_are_off_unless_the_account_says_so() {
        let style = Style {
            mentions: &[Mention::Users],
            ..Style::default()
        };
        let content = Content {
            body: Some("hello".into()),
            ..Content::default()
        };
        let built: Value = serde_json::from_slice(&body(&content, style).unwrap()).unwrap();
        assert_eq!(built["allowed_mentions"], json!({"parse": ["users"]}));
    }

    #[test]
    fn embeds_share_a_request_as_far_as_they_fit() {
        let content = |length| Content {
            title: Some("t".into()),
            body: Some("x".repeat(length)),
            ..Content::default()
        };
        let count = |lengths: &[usize]| {
            let contents: Vec<Content> = lengths.iter().map(|l| content(*l)).collect();
            let embeds: Vec<_> = contents.iter().filter_map(Embed::of).collect();
            fitting(&embeds)
        };
        assert_eq!(count(&[10; 12]), 10);
        assert_eq!(count(&[1_999, 1_999, 1_999]), 3, "6,000 with their titles");
        assert_eq!(count(&[1_999, 1_999, 2_000]), 2);
        assert_eq!(count(&[9_000, 1_902]), 2, "cut to 4,096 and its title");
        assert_eq!(count(&[9_000, 1_903]), 1);
        let contents = [content(1), content(2)];
        let embeds: Vec<_> = contents.iter().filter_map(Embed::of).collect();
        let built: Value =
            serde_json::from_slice(&packed(&embeds, Style::default()).unwrap()).unwrap();
        assert_eq!(
            built,
            json!({
                "embeds": [{"title": "t", "description": "x"}, {"title": "t", "description": "xx"}],
                "allowed_mentions": {"parse": []}
            })
        );
    }
}
