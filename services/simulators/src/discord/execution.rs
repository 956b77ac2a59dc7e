//! A webhook execution as Discord reads it: its rules, and what identifies it for the report. Pure.

use std::hash::{Hash as _, Hasher as _};

use serde::Deserialize;
use serde_json::{Value, json};

/// Rules of the form. [R: discord-api-docs, 2026-08]
const CONTENT: usize = 2_000;
const EMBEDS: usize = 10;
const TITLE: usize = 256;
const DESCRIPTION: usize = 4_096;
/// All texts of all embeds together.
const ALL_EMBEDS: usize = 6_000;

/// The parts of an execution that are looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Execution {
    pub(super) content: Option<String>,
    embeds: Vec<Embed>,
    poll: Option<Value>,
    components: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Embed {
    title: Option<String>,
    description: Option<String>,
    fields: Vec<Field>,
    footer: Option<Footer>,
    author: Option<Author>,
    image: Option<Value>,
    url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Field {
    name: String,
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Footer {
    text: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Author {
    name: String,
}

/// Who and what a text says it is: `[#<event id>]`, `[#<event id> <sender>]` or
/// `[#<event id> <sender> <number>]` anywhere in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Marker<'a> {
    pub(crate) event_id: &'a str,
    pub(crate) sender: &'a str,
    pub(crate) seq: Option<i64>,
}

/// The first marker of a text.
pub(crate) fn marker(text: &str) -> Option<Marker<'_>> {
    let (_, rest) = text.split_once("[#")?;
    let (inside, _) = rest.split_once(']')?;
    let mut words = inside.split(' ');
    Some(Marker {
        event_id: words.next()?,
        sender: words.next().unwrap_or_default(),
        seq: words.next().and_then(|word| word.parse().ok()),
    })
}

impl Execution {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let embeds = self
            .embeds
            .iter()
            .flat_map(|e| [e.title.as_deref(), e.description.as_deref()]);
        std::iter::once(self.content.as_deref())
            .chain(embeds)
            .flatten()
    }

    /// The first marker of its texts.
    pub(super) fn marker(&self) -> Option<Marker<'_>> {
        self.texts().find_map(marker)
    }

    /// Stands for the event where there is no marker: a hash of the texts, `content-` and 16
    /// hexadecimal digits.
    pub(super) fn content_id(&self) -> String {
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        self.texts().for_each(|text| text.hash(&mut hasher));
        format!("content-{:016x}", hasher.finish())
    }

    /// The error body when Discord would refuse the form.
    pub(super) fn refusal(&self) -> Option<Value> {
        let nothing = self.content.as_deref().is_none_or(|c| c.trim().is_empty())
            && self.embeds.is_empty()
            && self.poll.is_none()
            && self.components.is_none();
        if nothing {
            return Some(json!({"message": "Cannot send an empty message", "code": 50006}));
        }
        let field = self.too_long()?;
        Some(json!({
            "message": "Invalid Form Body",
            "code": 50035,
            "errors": {field: {"_errors": [{"code": "BASE_TYPE_MAX_LENGTH"}]}}
        }))
    }

    fn too_long(&self) -> Option<&'static str> {
        if self.content.as_deref().is_some_and(|c| length(c) > CONTENT) {
            return Some("content");
        }
        let all: usize = self.embeds.iter().map(Embed::length).sum();
        let bad = self.embeds.len() > EMBEDS
            || all > ALL_EMBEDS
            || self.embeds.iter().any(|embed| !embed.fits());
        bad.then_some("embeds")
    }
}

impl Embed {
    fn length(&self) -> usize {
        let of = |text: &Option<String>| text.as_deref().map_or(0, length);
        of(&self.title)
            + of(&self.description)
            + self.footer.as_ref().map_or(0, |f| length(&f.text))
            + self.author.as_ref().map_or(0, |a| length(&a.name))
            + self
                .fields
                .iter()
                .map(|f| length(&f.name) + length(&f.value))
                .sum::<usize>()
    }

    fn fits(&self) -> bool {
        let within =
            |text: &Option<String>, limit| text.as_deref().is_none_or(|t| length(t) <= limit);
        let web = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        let image = self.image.as_ref().and_then(|i| i.get("url"));
        within(&self.title, TITLE)
            && within(&self.description, DESCRIPTION)
            && self.fields.len() <= 25
            && self.url.as_deref().is_none_or(web)
            && image.is_none_or(|url| url.as_str().is_some_and(web))
    }
}

fn length(text: &str) -> usize {
    text.trim().encode_utf16().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(body: Value) -> Option<i64> {
        let execution = Execution::parse(body.to_string().as_bytes()).unwrap();
        execution.refusal().and_then(|r| r["code"].as_i64())
    }

    #[test]
    fn forms_are_refused_as_discord_does() {
        assert_eq!(code(json!({"content": "x".repeat(2_000)})), None);
        assert_eq!(code(json!({"content": "x".repeat(2_001)})), Some(50035));
        assert_eq!(code(json!({})), Some(50006));
        assert_eq!(code(json!({"content": " "})), Some(50006));
        assert_eq!(
            code(json!({"embeds": [{"title": "x".repeat(257)}]})),
            Some(50035)
        );
        let long = json!({"description": "x".repeat(3_001)});
        assert_eq!(code(json!({"embeds": [long]})), None);
        assert_eq!(code(json!({"embeds": [long, long]})), Some(50035));
        assert_eq!(code(json!({"embeds": [{"url": "nowhere"}]})), Some(50035));
    }

    #[test]
    fn a_marker_names_the_event_and_the_text_does_otherwise() {
        let parse = |body: Value| Execution::parse(body.to_string().as_bytes()).unwrap();
        let marked = parse(json!({"content": "live now [#e-17 shop-1 17]"}));
        assert_eq!(
            marked.marker(),
            Some(Marker {
                event_id: "e-17",
                sender: "shop-1",
                seq: Some(17)
            })
        );
        let embedded = parse(json!({"embeds": [{"description": "[#e]"}]}));
        assert_eq!(embedded.marker().unwrap().event_id, "e");
        let (a, b) = (
            parse(json!({"content": "a"})),
            parse(json!({"content": "b"})),
        );
        assert_eq!(a.marker(), None);
        assert_ne!(a.content_id(), b.content_id());
    }
}
