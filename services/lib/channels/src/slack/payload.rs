//! Content to request. Pure.

use bongsu_domain::{Channel, Content};
use serde_json::{Map, Value, json};
use thiserror::Error;
use url::Url;

use crate::text::{Parts, cut, width};

/// Characters of `text`. Slack cuts at 40,000 and asks for at most this. (M: from memory)
pub const TEXT_CHARS: usize = 4_000;
/// Characters of a section's text. (M: from memory)
pub const SECTION_CHARS: usize = 3_000;
/// Blocks of a message. [R: Slack, Block Kit, 2026-08]
pub const BLOCKS: usize = 50;

/// Members that need `chat:write.customize`. [R: public notes on Slack's scopes]
const CUSTOM: &[&str] = &["username", "icon_emoji", "icon_url"];
/// Schemes of links.
const SCHEMES: &[&str] = &["http", "https", "mailto", "tel"];

/// A content that is no message. Never holds the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ContentFault {
    /// Nothing to show.
    #[error("has no title, body, link or image")]
    Empty,
    /// The override cannot be used.
    #[error(
        "has an override for slack that is no JSON object, names a channel, or has too many blocks"
    )]
    Override,
}

/// The body of a request; `conversation` is where an app's message goes, none for a webhook, which
/// knows. A raw override for `slack` is sent as it is.
///
/// # Errors
/// [`ContentFault`].
pub fn body(content: &Content, conversation: Option<&str>) -> Result<Vec<u8>, ContentFault> {
    let mut message = match content.overrides.get(Channel::Slack.as_str()) {
        Some(text) => read_override(text)?,
        None => made(content)?,
    };
    if let Some(conversation) = conversation {
        message.insert("channel".to_owned(), conversation.into());
    }
    serde_json::to_vec(&message).map_err(|_| ContentFault::Override)
}

/// Whether an override asks for a name or an icon of its own, for which an app needs a scope of its own.
#[must_use]
pub fn is_customised(content: &Content) -> bool {
    let raw = content.overrides.get(Channel::Slack.as_str());
    let message = raw.and_then(|text| read_override(text).ok());
    message.is_some_and(|message| CUSTOM.iter().any(|name| message.contains_key(*name)))
}

fn read_override(text: &str) -> Result<Map<String, Value>, ContentFault> {
    let message: Map<String, Value> =
        serde_json::from_str(text).map_err(|_| ContentFault::Override)?;
    let blocks = message.get("blocks").and_then(Value::as_array);
    let too_many = blocks.is_some_and(|blocks| blocks.len() > BLOCKS);
    if message.contains_key("channel") || too_many {
        return Err(ContentFault::Override);
    }
    Ok(message)
}

/// Title in bold, body, link; an image makes blocks of them.
fn made(content: &Content) -> Result<Map<String, Value>, ContentFault> {
    let parts = Parts::of(content);
    let image = content.image.as_deref().filter(|i| !i.trim().is_empty());
    if parts.is_empty() && image.is_none() {
        return Err(ContentFault::Empty);
    }
    let text = written(parts, TEXT_CHARS);
    let mut message = Map::new();
    if let Some(url) = image {
        let alt = parts.title.or(parts.body).unwrap_or("image");
        let mut blocks = Vec::new();
        if !parts.is_empty() {
            let text = written(parts, SECTION_CHARS);
            blocks.push(json!({"type": "section", "text": {"type": "mrkdwn", "text": text}}));
        }
        blocks.push(json!({"type": "image", "image_url": url, "alt_text": cut(alt, 200)}));
        message.insert("blocks".to_owned(), blocks.into());
    }
    // Beside blocks it is what notifications show.
    let shown = if text.is_empty() { "image" } else { &text };
    message.insert("text".to_owned(), shown.into());
    Ok(message)
}

/// In Slack's mrkdwn, at most `limit` characters; nothing of the text mentions anybody.
fn written(parts: Parts<'_>, limit: usize) -> String {
    let title = parts.title.map(|t| format!("*{}*", escape(&cut(t, 500))));
    let link = parts.link.map(linked);
    let fixed = [&title, &link].into_iter().flatten();
    let fixed: usize = fixed.map(|part| width(part) + 1).sum();
    let room = limit.saturating_sub(fixed);
    let body = parts.body.map(|body| escaped(body, room));
    let lines = [title, body, link].into_iter().flatten();
    lines.collect::<Vec<_>>().join("\n")
}

/// A link in brackets where it is one. In brackets `!channel` rings for everybody and `@U…` for a
/// member, so anything else is text; and what follows `|` would be shown instead of the link.
/// [R: Slack, "Formatting text for app surfaces"]
fn linked(link: &str) -> String {
    let whole = !link.contains(|c: char| c.is_whitespace() || c.is_control());
    let known = Url::parse(link).is_ok_and(|url| SCHEMES.contains(&url.scheme()));
    if !whole || !known {
        return escape(link);
    }
    let link = link.replace('|', "%7C").replace('<', "%3C");
    format!("<{}>", escape(&link.replace('>', "%3E")))
}

/// At most `room` characters of the escaped text, its escapes whole; what is cut is marked by `…`.
fn escaped(text: &str, room: usize) -> String {
    let whole = escape(text);
    if whole.len() <= room || width(&whole) <= room {
        return whole;
    }
    let mut used = 1;
    let mut short = String::new();
    let mut one = [0; 4];
    for c in text.chars() {
        let part = escape(c.encode_utf8(&mut one));
        used += width(&part);
        if used > room {
            break;
        }
        short.push_str(&part);
    }
    short.push('…');
    short
}

/// `&`, `<` and `>` have a meaning of their own: `<!channel>` would ring for everybody.
/// [R: Slack, "Formatting text for app surfaces"]
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(body: &str) -> Content {
        Content {
            title: Some("Live & now".into()),
            body: Some(body.into()),
            link: Some("https://x.example/?a=1&b=2".into()),
            ..Content::default()
        }
    }

    fn of(content: &Content) -> Value {
        serde_json::from_slice(&body(content, None).unwrap()).unwrap()
    }

    #[test]
    fn nothing_of_a_text_mentions_anybody() {
        assert_eq!(
            of(&content("<!channel> hi")),
            json!({"text": "*Live &amp; now*\n&lt;!channel&gt; hi\n<https://x.example/?a=1&amp;b=2>"})
        );
        let mut content = content("hi");
        content.image = Some("https://x.example/i.png".into());
        let made = of(&content);
        assert_eq!(made["blocks"][0]["type"], "section");
        assert_eq!(made["blocks"][1]["image_url"], "https://x.example/i.png");
        assert_eq!(made["text"], made["blocks"][0]["text"]["text"]);
    }

    #[test]
    fn a_link_is_a_link_and_mentions_nobody() {
        for (link, written) in [
            (
                "https://x.example/?a=1&b=2",
                "<https://x.example/?a=1&amp;b=2>",
            ),
            ("mailto:shop@x.example", "<mailto:shop@x.example>"),
            ("tel:+8212345678", "<tel:+8212345678>"),
            (
                "https://x.example/a|b>c<d",
                "<https://x.example/a%7Cb%3Ec%3Cd>",
            ),
            ("!channel", "!channel"),
            ("@U0123ABCD", "@U0123ABCD"),
            ("#C0123ABCD", "#C0123ABCD"),
            ("<!here>", "&lt;!here&gt;"),
            ("slack://open?team=T1", "slack://open?team=T1"),
            ("javascript:alert(1)", "javascript:alert(1)"),
            (
                "https://x.example/\n<!channel>",
                "https://x.example/\n&lt;!channel&gt;",
            ),
        ] {
            assert_eq!(linked(link), written, "{link}");
        }
        let mut content = content("hi");
        content.link = Some("!channel".into());
        assert_eq!(of(&content)["text"], "*Live &amp; now*\nhi\n!channel");
    }

    #[test]
    fn an_override_with_a_name_or_an_icon_is_customised() {
        let mut content = content("hi");
        assert!(!is_customised(&content));
        for (text, customised) in [
            (r#"{"text":"x"}"#, false),
            (r#"{"text":"username"}"#, false),
            (r#"{"text":"x","username":"Shop"}"#, true),
            (r#"{"text":"x","icon_emoji":":tada:"}"#, true),
            (r#"{"text":"x","icon_url":"https://x.example/i.png"}"#, true),
        ] {
            content.overrides.insert("slack".into(), text.into());
            assert_eq!(is_customised(&content), customised, "{text}");
        }
    }

    #[test]
    fn a_long_text_is_cut_with_its_escapes_whole() {
        let made = of(&content(&"<봉>".repeat(3_000)));
        let text = made["text"].as_str().unwrap();
        assert!(width(text) <= TEXT_CHARS, "{}", width(text));
        assert!(
            text.ends_with("…\n<https://x.example/?a=1&amp;b=2>"),
            "{text}"
        );
    }

    #[test]
    fn an_app_posts_to_a_conversation_and_an_override_names_none() {
        let sent = body(&content("hi"), Some("C0123ABCD")).unwrap();
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        assert_eq!(sent["channel"], "C0123ABCD");
        let mut raw = Content::default();
        assert_eq!(body(&raw, None), Err(ContentFault::Empty));
        for bad in [
            "[]".to_owned(),
            r#"{"channel":"C1"}"#.to_owned(),
            json!({"blocks": vec![1; 51]}).to_string(),
        ] {
            raw.overrides.insert("slack".into(), bad);
            assert_eq!(body(&raw, None), Err(ContentFault::Override));
        }
        raw.overrides
            .insert("slack".into(), r#"{"blocks":[]}"#.into());
        assert_eq!(body(&raw, None).unwrap(), br#"{"blocks":[]}"#);
    }
}
