//! From a body to single events, still text: JSON, arrays, NDJSON and CloudEvents.
//!
//! Owns the shape of requests and the paths by which faults are named. Nothing is checked here but
//! what must be right for the events to be told apart.

use std::borrow::Cow;

use bongsu_schemas::Millis;
use http::{HeaderMap, header};
use serde_json::value::RawValue;

use crate::cloudevents;
use crate::problem::{FieldError, Problem, ProblemCode};

/// What of an event came from outside of its own fields (CloudEvents attributes).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// CloudEvents `id`, with the name it goes by in faults.
    pub id: Option<Attribute<String>>,
    /// Extension `sender`, else CloudEvents `source`.
    pub sender: Option<Attribute<String>>,
    /// CloudEvents `time`.
    pub occurred_at: Option<Attribute<Millis>>,
    /// The distributed-tracing extension.
    pub traceparent: Option<String>,
}

/// A value and the attribute or header it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute<T> {
    /// `source`, `ce-source`, ...
    pub name: &'static str,
    /// The value.
    pub value: T,
}

/// One event as it came.
#[derive(Debug)]
pub struct RawEvent<'a> {
    /// Its place in the request, from 0.
    pub index: usize,
    /// The event's fields as JSON text; empty when `faults` has something.
    pub json: Cow<'a, str>,
    /// Path before the fields: empty, `events[17]`, `data`, `events[17].data`.
    pub path: String,
    /// Path before the attributes of the envelope.
    pub envelope_path: String,
    /// What the envelope says.
    pub envelope: Envelope,
    /// What is wrong with the envelope already.
    pub faults: Vec<FieldError>,
}

impl<'a> RawEvent<'a> {
    /// An event without an envelope.
    #[must_use]
    pub fn plain(index: usize, json: &'a str, path: String) -> Self {
        Self {
            index,
            json: Cow::Borrowed(json),
            envelope_path: path.clone(),
            path,
            envelope: Envelope::default(),
            faults: Vec::new(),
        }
    }
}

/// Joins a path and a field of it.
#[must_use]
pub fn join(path: &str, field: &str) -> String {
    match (path, field) {
        ("", field) => field.to_owned(),
        (path, "" | "(event)") => path.to_owned(),
        (path, field) => format!("{path}.{field}"),
    }
}

/// The path of event number `index`.
#[must_use]
pub fn item_path(index: usize) -> String {
    format!("events[{index}]")
}

/// What the body is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`: one object or an array.
    Json,
    /// `application/x-ndjson`: one object per line.
    NdJson,
    /// `application/cloudevents+json`.
    CloudEvent,
    /// `application/cloudevents-batch+json`.
    CloudEventBatch,
    /// `application/json` beside `ce-*` headers.
    CloudEventBinary,
}

impl Format {
    /// Every content type that is taken, for messages and for the API description.
    pub const CONTENT_TYPES: [&'static str; 4] = [
        "application/json",
        "application/x-ndjson",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
    ];

    /// Reads the content type.
    ///
    /// # Errors
    /// [`ProblemCode::UnsupportedMediaType`].
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = headers
            .get(header::CONTENT_TYPE)
            .map_or(Ok(""), |v| v.to_str())
            .unwrap_or("(not readable)");
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or("").to_ascii_lowercase();
        let foreign_charset = parts.any(|p| {
            p.split_once('=').is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("charset")
                    && !value.trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
        });
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Err(unsupported(
                "compressed bodies are not taken; send it plain",
            ));
        }
        if foreign_charset {
            return Err(unsupported("only the charset utf-8 is taken"));
        }
        match essence.as_str() {
            "application/json" if headers.contains_key("ce-specversion") => {
                Ok(Self::CloudEventBinary)
            }
            "application/json" => Ok(Self::Json),
            "application/x-ndjson" | "application/ndjson" => Ok(Self::NdJson),
            "application/cloudevents+json" => Ok(Self::CloudEvent),
            "application/cloudevents-batch+json" => Ok(Self::CloudEventBatch),
            "" => Err(unsupported("the header Content-Type is missing")),
            other => {
                let other: String = other.chars().take(64).collect();
                Err(unsupported(&format!("`{other}` is not taken")))
            }
        }
    }
}

fn unsupported(what: &str) -> Problem {
    Problem::new(
        ProblemCode::UnsupportedMediaType,
        format!(
            "{what}; Content-Type must be one of {}",
            Format::CONTENT_TYPES.join(", ")
        ),
    )
}

/// A body that is no JSON: where, and what the parser says.
#[must_use]
pub fn malformed(path: &str, error: &serde_json::Error) -> Problem {
    let field = if path.is_empty() { "(body)" } else { path };
    Problem::of_field(
        ProblemCode::Malformed,
        FieldError::new(field, "malformed", format!("is no valid JSON: {error}")),
    )
}

/// Tells the events of a body apart, at most `most` of them.
///
/// # Errors
/// [`ProblemCode::Malformed`] when the body is not what it is said to be,
/// [`ProblemCode::TooManyEvents`], and [`ProblemCode::InvalidEvent`] for an empty list.
pub fn split<'a>(
    format: Format,
    headers: &HeaderMap,
    body: &'a [u8],
    most: usize,
) -> Result<Vec<RawEvent<'a>>, Problem> {
    let events = match format {
        Format::Json => match array(body)? {
            Some(items) => bounded(items, most)?
                .into_iter()
                .enumerate()
                .map(|(i, raw)| RawEvent::plain(i, raw.get(), item_path(i)))
                .collect(),
            None => vec![RawEvent::plain(0, single(body, "")?.get(), String::new())],
        },
        Format::NdJson => lines(body, most)?,
        Format::CloudEvent => vec![cloudevents::structured(0, single(body, "")?, "")],
        Format::CloudEventBatch => {
            let items = array(body)?.ok_or_else(|| {
                Problem::new(ProblemCode::Malformed, "a batch must be a JSON array")
            })?;
            bounded(items, most)?
                .into_iter()
                .enumerate()
                .map(|(i, raw)| cloudevents::structured(i, raw, &item_path(i)))
                .collect()
        }
        Format::CloudEventBinary => {
            vec![cloudevents::binary(headers, single(body, "")?)]
        }
    };
    if events.is_empty() {
        return Err(Problem::of_field(
            ProblemCode::InvalidEvent,
            FieldError::new("(body)", "missing", "holds no event; send at least one"),
        ));
    }
    Ok(events)
}

fn single<'a>(text: &'a [u8], path: &str) -> Result<&'a RawValue, Problem> {
    serde_json::from_slice(text).map_err(|e| malformed(path, &e))
}

fn array(body: &[u8]) -> Result<Option<Vec<&RawValue>>, Problem> {
    if body.trim_ascii_start().first() != Some(&b'[') {
        return Ok(None);
    }
    serde_json::from_slice(body)
        .map(Some)
        .map_err(|e| malformed("", &e))
}

fn bounded<T>(items: Vec<T>, most: usize) -> Result<Vec<T>, Problem> {
    if items.len() <= most {
        return Ok(items);
    }
    Err(too_many(items.len(), most))
}

fn too_many(count: usize, most: usize) -> Problem {
    Problem::new(
        ProblemCode::TooManyEvents,
        format!("{count} events in one request; at most {most} are taken, send several requests"),
    )
}

fn lines(body: &[u8], most: usize) -> Result<Vec<RawEvent<'_>>, Problem> {
    let mut events = Vec::new();
    let mut broken = Vec::new();
    for line in body.split(|b| *b == b'\n').map(<[u8]>::trim_ascii) {
        if line.is_empty() {
            continue;
        }
        let index = events.len() + broken.len();
        if index == most {
            return Err(too_many(most + 1, most));
        }
        let path = item_path(index);
        match single(line, &path) {
            Ok(raw) => events.push(RawEvent::plain(index, raw.get(), path)),
            Err(problem) => broken.extend(problem.errors),
        }
    }
    if broken.is_empty() {
        return Ok(events);
    }
    Err(Problem {
        errors: broken,
        ..Problem::new(
            ProblemCode::Malformed,
            "lines are no valid JSON; nothing was published",
        )
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    #[test]
    fn content_types_are_told_apart() {
        for (text, format) in [
            ("application/json", Format::Json),
            ("Application/JSON; charset=\"UTF-8\"", Format::Json),
            ("application/x-ndjson", Format::NdJson),
            ("application/cloudevents+json", Format::CloudEvent),
            (
                "application/cloudevents-batch+json; charset=utf-8",
                Format::CloudEventBatch,
            ),
        ] {
            assert_eq!(Format::of(&headers(text)), Ok(format), "{text}");
        }
        let mut binary = headers("application/json");
        binary.insert("ce-specversion", HeaderValue::from_static("1.0"));
        assert_eq!(Format::of(&binary), Ok(Format::CloudEventBinary));
        for text in ["text/plain", "application/json; charset=euc-kr", ""] {
            let problem = Format::of(&headers(text)).unwrap_err();
            assert_eq!(problem.code, ProblemCode::UnsupportedMediaType, "{text}");
        }
    }

    #[test]
    fn the_events_of_a_body_carry_their_paths() {
        let none = HeaderMap::new();
        let paths = |format, body: &'static str| -> Vec<String> {
            split(format, &none, body.as_bytes(), 3)
                .unwrap()
                .into_iter()
                .map(|e| e.path)
                .collect()
        };
        assert_eq!(paths(Format::Json, " {} "), [""]);
        assert_eq!(paths(Format::Json, "[{},{}]"), ["events[0]", "events[1]"]);
        assert_eq!(
            paths(Format::NdJson, "{}\r\n\n{}"),
            ["events[0]", "events[1]"]
        );
        assert_eq!(paths(Format::CloudEvent, "{}"), ["data"]);
        assert_eq!(paths(Format::CloudEventBatch, "[{}]"), ["events[0].data"]);
    }

    #[test]
    fn too_many_none_and_broken_ones_are_problems() {
        let none = HeaderMap::new();
        let code =
            |format, body: &'static str| split(format, &none, body.as_bytes(), 2).unwrap_err().code;
        assert_eq!(code(Format::Json, "[{},{},{}]"), ProblemCode::TooManyEvents);
        assert_eq!(
            code(Format::NdJson, "{}\n{}\n{}"),
            ProblemCode::TooManyEvents
        );
        assert_eq!(code(Format::Json, "[]"), ProblemCode::InvalidEvent);
        assert_eq!(code(Format::NdJson, "\n"), ProblemCode::InvalidEvent);
        assert_eq!(code(Format::Json, "{"), ProblemCode::Malformed);
        assert_eq!(code(Format::Json, "{} {}"), ProblemCode::Malformed);
        assert_eq!(code(Format::Json, "[{}"), ProblemCode::Malformed);
        assert_eq!(code(Format::CloudEventBatch, "{}"), ProblemCode::Malformed);
        let lines = split(Format::NdJson, &none, b"{}\n{", 9).unwrap_err();
        assert_eq!(lines.errors.first().unwrap().field, "events[1]");
    }
}
