//! The rules of an execution's form, checked before anything is sent: a form that Discord would
//! refuse costs a request of a limit that all webhooks share. Pure. [R: discord-api-docs, 2026-08,
//! unless tagged]

use serde_json::{Map, Value};
use thiserror::Error;

/// Characters of `content`. Counted in UTF-16 units, which are never fewer than the code points:
/// whichever Discord counts, it fits.
pub const CONTENT_CHARS: usize = 2_000;
/// Embeds of one execution.
pub const EMBEDS: usize = 10;
/// Characters of an embed's title.
pub const TITLE_CHARS: usize = 256;
/// Characters of an embed's description.
pub const DESCRIPTION_CHARS: usize = 4_096;
/// Fields of an embed.
pub const FIELDS: usize = 25;
/// Characters of a field's name.
pub const FIELD_NAME_CHARS: usize = 256;
/// Characters of a field's value.
pub const FIELD_VALUE_CHARS: usize = 1_024;
/// Characters of a footer's text.
pub const FOOTER_CHARS: usize = 2_048;
/// Characters of an author's name.
pub const AUTHOR_CHARS: usize = 256;
/// Characters of all texts of all embeds together.
pub const EMBEDS_CHARS: usize = 6_000;
/// Characters of `username`.
pub const USERNAME_CHARS: usize = 80;
/// The greatest `color`. (M: from memory)
pub const COLOR: u64 = 0xff_ff_ff;
/// Roles, and users, that `allowed_mentions` may name.
pub const MENTIONED: usize = 100;

/// Which rule is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Broken(&'static str);

/// Length of a text as Discord counts it, white space at its ends left out.
#[must_use]
pub fn width(text: &str) -> usize {
    text.trim().encode_utf16().count()
}

/// Checks an execution.
///
/// # Errors
/// The first rule that is broken.
pub fn check(execution: &Map<String, Value>) -> Result<(), Broken> {
    let content = text(
        execution,
        "content",
        CONTENT_CHARS,
        "content is longer than 2000",
    )?;
    let embeds = list(execution, "embeds", EMBEDS, "more than 10 embeds")?;
    text(
        execution,
        "username",
        USERNAME_CHARS,
        "username is longer than 80",
    )?;
    let mut all = 0;
    for embed in embeds {
        all += check_embed(embed.as_object().ok_or(Broken("an embed is no object"))?)?;
    }
    if all > EMBEDS_CHARS {
        return Err(Broken("the embeds are longer than 6000 together"));
    }
    if let Some(mentions) = execution.get("allowed_mentions") {
        check_mentions(mentions.as_object().ok_or(Broken("allowed_mentions"))?)?;
    }
    let other = ["poll", "components", "attachments"];
    if content == 0 && embeds.is_empty() && !other.iter().any(|name| execution.contains_key(*name))
    {
        return Err(Broken("there is nothing to show"));
    }
    Ok(())
}

/// Its length.
fn check_embed(embed: &Map<String, Value>) -> Result<usize, Broken> {
    let mut all = text(embed, "title", TITLE_CHARS, "a title is longer than 256")?
        + text(
            embed,
            "description",
            DESCRIPTION_CHARS,
            "a description is longer than 4096",
        )?
        + part(
            embed,
            "footer",
            "text",
            FOOTER_CHARS,
            "a footer is longer than 2048",
        )?
        + part(
            embed,
            "author",
            "name",
            AUTHOR_CHARS,
            "an author is longer than 256",
        )?;
    for field in list(embed, "fields", FIELDS, "more than 25 fields")? {
        let field = field.as_object().ok_or(Broken("a field is no object"))?;
        let long = "a field's name is longer than 256";
        let name = text(field, "name", FIELD_NAME_CHARS, long)?;
        let long = "a field's value is longer than 1024";
        let value = text(field, "value", FIELD_VALUE_CHARS, long)?;
        if name == 0 || value == 0 {
            return Err(Broken("a field lacks its name or value"));
        }
        all += name + value;
    }
    if embed
        .get("color")
        .is_some_and(|c| c.as_u64().is_none_or(|c| c > COLOR))
    {
        return Err(Broken("a color is no number up to 0xffffff"));
    }
    let image = |name: &str| embed.get(name).and_then(|image| image.get("url"));
    for url in [embed.get("url"), image("image"), image("thumbnail")] {
        if url.is_some_and(|url| !url.as_str().is_some_and(is_web)) {
            return Err(Broken("a URL is neither http nor https"));
        }
    }
    Ok(all)
}

fn is_web(url: &str) -> bool {
    ["http://", "https://", "attachment://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
}

fn check_mentions(mentions: &Map<String, Value>) -> Result<(), Broken> {
    let parse = list(mentions, "parse", 3, "allowed_mentions.parse")?;
    let known = |word: &Value| matches!(word.as_str(), Some("roles" | "users" | "everyone"));
    if !parse.iter().all(known) {
        return Err(Broken("allowed_mentions.parse holds an unknown word"));
    }
    for name in ["roles", "users"] {
        let ids = list(
            mentions,
            name,
            MENTIONED,
            "allowed_mentions names more than 100",
        )?;
        if !ids.is_empty() && parse.iter().any(|word| word.as_str() == Some(name)) {
            return Err(Broken(
                "allowed_mentions names some of a kind and parses all of it",
            ));
        }
    }
    Ok(())
}

/// Length of a text that may be absent.
fn text(
    object: &Map<String, Value>,
    name: &str,
    most: usize,
    long: &'static str,
) -> Result<usize, Broken> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(0),
        Some(Value::String(text)) => match width(text) {
            length if length <= most => Ok(length),
            _ => Err(Broken(long)),
        },
        Some(_) => Err(Broken("a text is none")),
    }
}

/// Length of a text within a part that may be absent.
fn part(
    object: &Map<String, Value>,
    part: &str,
    name: &str,
    most: usize,
    long: &'static str,
) -> Result<usize, Broken> {
    match object.get(part) {
        None | Some(Value::Null) => Ok(0),
        Some(Value::Object(part)) => text(part, name, most, long),
        Some(_) => Err(Broken("a footer or an author is no object")),
    }
}

fn list<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    most: usize,
    many: &'static str,
) -> Result<&'a [Value], Broken> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) if list.len() <= most => Ok(list),
        Some(_) => Err(Broken(many)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(execution: &Value) -> Result<(), Broken> {
        check(execution.as_object().unwrap())
    }

    /// An embed that uses a limit to the last character, or is one beyond it.
    fn at_the_limit(name: &str, limit: usize) -> [Value; 2] {
        [limit, limit + 1].map(|n| {
            let text = "x".repeat(n);
            let embed = match name {
                "footer" => json!({"footer": {"text": text}}),
                "author" => json!({"author": {"name": text}}),
                "field name" => json!({"fields": [{"name": text, "value": "v"}]}),
                "field value" => json!({"fields": [{"name": "n", "value": text}]}),
                "fields" => json!({"fields": vec![json!({"name": "n", "value": "v"}); n]}),
                other => json!({other: text}),
            };
            json!({"embeds": [embed]})
        })
    }

    #[test]
    fn every_limit_holds_to_the_last_character() {
        for (name, limit) in [
            ("title", TITLE_CHARS),
            ("description", DESCRIPTION_CHARS),
            ("footer", FOOTER_CHARS),
            ("author", AUTHOR_CHARS),
            ("field name", FIELD_NAME_CHARS),
            ("field value", FIELD_VALUE_CHARS),
            ("fields", FIELDS),
        ] {
            let [within, beyond] = at_the_limit(name, limit);
            assert_eq!(checked(&within), Ok(()), "{name}");
            assert!(checked(&beyond).is_err(), "{name}");
        }
        for (within, beyond) in [
            (
                json!({"content": "x".repeat(2_000)}),
                json!({"content": "x".repeat(2_001)}),
            ),
            (
                json!({"embeds": vec![json!({"title": "t"}); 10]}),
                json!({"embeds": vec![json!({"title": "t"}); 11]}),
            ),
            (
                json!({"embeds": vec![json!({"description": "x".repeat(3_000)}); 2]}),
                json!({"embeds": [{"description": "x".repeat(3_000)}, {"description": "x".repeat(3_001)}]}),
            ),
            (
                json!({"content": "x", "username": "x".repeat(80)}),
                json!({"content": "x", "username": "x".repeat(81)}),
            ),
            (
                json!({"embeds": [{"title": "t", "color": 0xff_ff_ff}]}),
                json!({"embeds": [{"title": "t", "color": 0x0100_0000}]}),
            ),
            (
                json!({"content": "x", "allowed_mentions": {"users": vec!["1"; 100]}}),
                json!({"content": "x", "allowed_mentions": {"users": vec!["1"; 101]}}),
            ),
        ] {
            assert_eq!(checked(&within), Ok(()));
            assert!(checked(&beyond).is_err(), "{beyond}");
        }
    }

    #[test]
    fn white_space_at_the_ends_does_not_count_and_does_not_show() {
        assert_eq!(
            checked(&json!({"content": format!(" {} ", "x".repeat(2_000))})),
            Ok(())
        );
        for nothing in [json!({}), json!({"content": "  "}), json!({"embeds": []})] {
            assert!(checked(&nothing).is_err(), "{nothing}");
        }
        assert_eq!(checked(&json!({"poll": {}})), Ok(()));
    }

    #[test]
    fn wrong_kinds_and_contradictions_are_refused() {
        for broken in [
            json!({"content": 1}),
            json!({"content": "x", "embeds": {}}),
            json!({"embeds": ["x"]}),
            json!({"embeds": [{"footer": "x"}]}),
            json!({"embeds": [{"fields": [{"name": "n"}]}]}),
            json!({"embeds": [{"title": "t", "color": "red"}]}),
            json!({"embeds": [{"title": "t", "url": "javascript:x"}]}),
            json!({"embeds": [{"image": {"url": "nowhere"}}]}),
            json!({"content": "x", "allowed_mentions": {"parse": ["all"]}}),
            json!({"content": "x", "allowed_mentions": {"parse": ["users"], "users": ["1"]}}),
        ] {
            assert!(checked(&broken).is_err(), "{broken}");
        }
    }
}
