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
const FIELDS: usize = 25;
const FIELD_NAME: usize = 256;
const FIELD_VALUE: usize = 1_024;
const FOOTER: usize = 2_048;
const AUTHOR: usize = 256;
const USERNAME: usize = 80;
/// Roles, and users, that may be named.
const MENTIONED: usize = 100;

/// The parts of an execution that are looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Execution {
    pub(super) content: Option<String>,
    embeds: Vec<Embed>,
    poll: Option<Value>,
    components: Option<Value>,
    username: Option<String>,
    thread_name: Option<String>,
    allowed_mentions: Mentions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Mentions {
    parse: Vec<String>,
    roles: Vec<String>,
    users: Vec<String>,
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
    color: Option<u32>,
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

    /// The first marker of the content and of each embed: as many deliveries were packed.
    pub(super) fn markers(&self) -> Vec<Marker<'_>> {
        let content = self.content.as_deref().and_then(marker);
        let embeds = self.embeds.iter().filter_map(|embed| {
            let texts = [embed.title.as_deref(), embed.description.as_deref()];
            texts.into_iter().flatten().find_map(marker)
        });
        content.into_iter().chain(embeds).collect()
    }

    /// Whether it opens a thread of its own.
    pub(super) const fn names_thread(&self) -> bool {
        self.thread_name.is_some()
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
        let errors = self.faults()?;
        Some(json!({
            "message": "Invalid Form Body",
            "code": 50035,
            "errors": errors,
        }))
    }

    /// The parts that break a rule, as Discord names them.
    fn faults(&self) -> Option<Value> {
        let too_long = || json!({"_errors": [{"code": "BASE_TYPE_MAX_LENGTH"}]});
        let beyond =
            |text: &Option<String>, most| text.as_deref().is_some_and(|t| length(t) > most);
        if beyond(&self.content, CONTENT) {
            return Some(json!({"content": too_long()}));
        }
        if beyond(&self.username, USERNAME) {
            return Some(json!({"username": too_long()}));
        }
        if !self.allowed_mentions.fit() {
            let code = json!({"_errors": [{"code": "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE"}]});
            return Some(json!({"allowed_mentions": code}));
        }
        let all: usize = self.embeds.iter().map(Embed::length).sum();
        if self.embeds.len() > EMBEDS || all > ALL_EMBEDS {
            let code = json!({"_errors": [{"code": "MAX_EMBED_SIZE_EXCEEDED"}]});
            return Some(json!({"embeds": code}));
        }
        let bad: serde_json::Map<String, Value> = self
            .embeds
            .iter()
            .enumerate()
            .filter(|(_, embed)| !embed.fits())
            .map(|(i, _)| (i.to_string(), too_long()))
            .collect();
        (!bad.is_empty()).then(|| json!({"embeds": bad}))
    }
}

impl Mentions {
    fn fit(&self) -> bool {
        // All of a kind and some of it contradict each other.
        let twice = |kind: &str, some: &[String]| {
            !some.is_empty() && self.parse.iter().any(|word| word == kind)
        };
        self.parse
            .iter()
            .all(|word| matches!(word.as_str(), "roles" | "users" | "everyone"))
            && self.roles.len() <= MENTIONED
            && self.users.len() <= MENTIONED
            && !twice("roles", &self.roles)
            && !twice("users", &self.users)
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
            && self.fields.len() <= FIELDS
            && self.fields.iter().all(Field::fits)
            && self
                .footer
                .as_ref()
                .is_none_or(|f| length(&f.text) <= FOOTER)
            && self
                .author
                .as_ref()
                .is_none_or(|a| length(&a.name) <= AUTHOR)
            && self.color.is_none_or(|color| color <= 0xff_ff_ff)
            && self.url.as_deref().is_none_or(web)
            && image.is_none_or(|url| url.as_str().is_some_and(web))
    }
}

impl Field {
    fn fits(&self) -> bool {
        (1..=FIELD_NAME).contains(&length(&self.name))
            && (1..=FIELD_VALUE).contains(&length(&self.value))
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
        for bad in [
            json!({"footer": {"text": "x".repeat(2_049)}}),
            json!({"author": {"name": "x".repeat(257)}}),
            json!({"fields": [{"name": "n", "value": "x".repeat(1_025)}]}),
            json!({"fields": [{"name": "n"}]}),
            json!({"fields": vec![json!({"name": "n", "value": "v"}); 26]}),
            json!({"color": 0x0100_0000}),
        ] {
            assert_eq!(code(json!({"embeds": [bad]})), Some(50035), "{bad}");
        }
        let mentions = json!({"parse": ["users"], "users": ["1"]});
        assert_eq!(
            code(json!({"content": "x", "allowed_mentions": mentions})),
            Some(50035)
        );
    }

    #[test]
    fn a_broken_embed_is_named() {
        let long = json!({"title": "x".repeat(257)});
        let body = json!({"embeds": [{"title": "t"}, long, {"title": "t"}, long]});
        let refusal = Execution::parse(body.to_string().as_bytes())
            .unwrap()
            .refusal();
        let errors = &refusal.unwrap()["errors"]["embeds"];
        let named: Vec<_> = errors.as_object().unwrap().keys().cloned().collect();
        assert_eq!(named, ["1", "3"]);
    }

    #[test]
    fn a_marker_names_the_event_and_the_text_does_otherwise() {
        let parse = |body: Value| Execution::parse(body.to_string().as_bytes()).unwrap();
        let marked = parse(json!({"content": "live now [#e-17 shop-1 17]"}));
        assert_eq!(
            marked.markers(),
            [Marker {
                event_id: "e-17",
                sender: "shop-1",
                seq: Some(17)
            }]
        );
        let embedded = parse(json!({"embeds": [{"description": "[#e]"}, {"title": "[#f]"}]}));
        let ids: Vec<_> = embedded.markers().iter().map(|m| m.event_id).collect();
        assert_eq!(ids, ["e", "f"]);
        let (a, b) = (
            parse(json!({"content": "a"})),
            parse(json!({"content": "b"})),
        );
        assert_eq!(a.markers(), []);
        assert_ne!(a.content_id(), b.content_id());
    }
}
