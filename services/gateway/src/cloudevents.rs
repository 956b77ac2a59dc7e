//! CloudEvents 1.0: structured, batched and binary.
//!
//! The event's fields are the `CloudEvent`'s `data`, a JSON object. Attributes fill what `data` leaves
//! out: `id` → `id`; the extension `sender`, else `source` → `sender`; `time` → `occurred_at`; the
//! extension `traceparent` → the record header. So CloudEvents' uniqueness of (source, id) is the
//! pipeline's uniqueness of (sender, id). Other attributes are allowed and not carried on.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_domain::Timestamp;
use bongsu_schemas::Millis;
use http::HeaderMap;
use serde_json::value::RawValue;

use crate::intake::{Attribute, Envelope, RawEvent, join};
use crate::problem::FieldError;

/// Names of the attributes in one of the two modes.
struct Names {
    specversion: &'static str,
    id: &'static str,
    source: &'static str,
    r#type: &'static str,
    time: &'static str,
    sender: &'static str,
}

const STRUCTURED: Names = Names {
    specversion: "specversion",
    id: "id",
    source: "source",
    r#type: "type",
    time: "time",
    sender: "sender",
};

const BINARY: Names = Names {
    specversion: "ce-specversion",
    id: "ce-id",
    source: "ce-source",
    r#type: "ce-type",
    time: "ce-time",
    sender: "ce-sender",
};

/// Reads one `CloudEvent` in structured mode, `index` and `path` being its place in the request.
#[must_use]
pub fn structured<'a>(index: usize, raw: &'a RawValue, path: &str) -> RawEvent<'a> {
    let mut faults = Vec::new();
    let mut members: BTreeMap<String, &'a RawValue> = serde_json::from_str(raw.get())
        .unwrap_or_else(|e| {
            let field = if path.is_empty() { "(event)" } else { path };
            faults.push(FieldError::new(
                field,
                "invalid",
                format!("must be a CloudEvent, a JSON object: {e}"),
            ));
            BTreeMap::new()
        });
    let json = structured_data(&mut members, path, &mut faults);
    let mut attribute = |name: &str| {
        let raw = members.remove(name)?;
        if raw.get() == "null" {
            return None;
        }
        match serde_json::from_str::<String>(raw.get()) {
            Ok(text) => Some(text),
            Err(_) => {
                faults.push(FieldError::new(
                    join(path, name),
                    "invalid",
                    "must be a text",
                ));
                // Not also reported as missing.
                Some(String::new())
            }
        }
    };
    let attributes = Attributes::read(&STRUCTURED, &mut attribute);
    let content_type = attribute("datacontenttype");
    if let Some(text) = content_type
        && !is_json(&text)
    {
        faults.push(FieldError::new(
            join(path, "datacontenttype"),
            "invalid",
            "must be application/json; an event's fields are JSON",
        ));
    }
    let envelope = attributes.check(&STRUCTURED, path, &mut faults);
    RawEvent {
        index,
        json,
        path: join(path, "data"),
        envelope_path: path.to_owned(),
        envelope,
        faults,
    }
}

fn structured_data<'a>(
    members: &mut BTreeMap<String, &'a RawValue>,
    path: &str,
    faults: &mut Vec<FieldError>,
) -> Cow<'a, str> {
    match (members.remove("data"), members.remove("data_base64")) {
        (Some(data), None) => Cow::Borrowed(data.get()),
        (None, Some(encoded)) => {
            let text = serde_json::from_str::<String>(encoded.get())
                .ok()
                .and_then(|t| STANDARD.decode(t).ok())
                .and_then(|b| String::from_utf8(b).ok());
            text.map_or_else(
                || {
                    faults.push(FieldError::new(
                        join(path, "data_base64"),
                        "invalid",
                        "must be base64 of JSON in UTF-8",
                    ));
                    Cow::Borrowed("")
                },
                Cow::Owned,
            )
        }
        (None, None) => {
            faults.push(FieldError::new(
                join(path, "data"),
                "missing",
                "is required; it holds the event's fields",
            ));
            Cow::Borrowed("")
        }
        (Some(_), Some(_)) => {
            faults.push(FieldError::new(
                join(path, "data_base64"),
                "contradiction",
                "stands beside data; send one of them",
            ));
            Cow::Borrowed("")
        }
    }
}

/// Reads one `CloudEvent` in binary mode: attributes in `ce-*` headers, `data` is the body.
#[must_use]
pub fn binary<'a>(headers: &HeaderMap, body: &'a RawValue) -> RawEvent<'a> {
    let mut faults = Vec::new();
    let mut attribute = |name: &str| {
        let header = if name == "traceparent" {
            "ce-traceparent"
        } else {
            name
        };
        let value = headers.get(header)?;
        percent_decoded(value.as_bytes()).or_else(|| {
            faults.push(FieldError::new(
                header,
                "invalid",
                "must be percent-encoded UTF-8",
            ));
            Some(String::new())
        })
    };
    let attributes = Attributes::read(&BINARY, &mut attribute);
    let envelope = attributes.check(&BINARY, "", &mut faults);
    RawEvent {
        index: 0,
        json: Cow::Borrowed(body.get()),
        path: String::new(),
        envelope_path: String::new(),
        envelope,
        faults,
    }
}

struct Attributes {
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    r#type: Option<String>,
    time: Option<String>,
    sender: Option<String>,
    traceparent: Option<String>,
}

impl Attributes {
    fn read(names: &Names, get: &mut dyn FnMut(&str) -> Option<String>) -> Self {
        Self {
            specversion: get(names.specversion),
            id: get(names.id),
            source: get(names.source),
            r#type: get(names.r#type),
            time: get(names.time),
            sender: get(names.sender),
            traceparent: get("traceparent"),
        }
    }

    fn check(self, names: &Names, path: &str, faults: &mut Vec<FieldError>) -> Envelope {
        let broken: Vec<String> = faults.iter().map(|f| f.field.clone()).collect();
        let mut required = |name: &'static str, value: &Option<String>| {
            let field = join(path, name);
            if !broken.contains(&field) && value.as_ref().is_none_or(String::is_empty) {
                faults.push(FieldError::new(
                    field,
                    "missing",
                    "is required by CloudEvents 1.0",
                ));
            }
        };
        required(names.id, &self.id);
        required(names.source, &self.source);
        required(names.r#type, &self.r#type);
        required(names.specversion, &self.specversion);
        if self
            .specversion
            .as_ref()
            .is_some_and(|v| !v.is_empty() && v != "1.0")
        {
            faults.push(FieldError::new(
                join(path, names.specversion),
                "unknown_word",
                "only CloudEvents 1.0 is taken",
            ));
        }
        let time = self.time.filter(|t| !t.is_empty());
        let occurred_at = time.as_deref().and_then(Timestamp::parse_rfc3339);
        if time.is_some() && occurred_at.is_none() {
            faults.push(FieldError::new(
                join(path, names.time),
                "invalid",
                "must be an RFC 3339 time such as 2026-11-24T09:00:00Z",
            ));
        }
        let named = |name, value: Option<String>| {
            value
                .filter(|v| !v.is_empty())
                .map(|value| Attribute { name, value })
        };
        Envelope {
            id: named(names.id, self.id),
            sender: named(names.sender, self.sender).or_else(|| named(names.source, self.source)),
            occurred_at: occurred_at.map(|t| Attribute {
                name: names.time,
                value: Millis::from(t),
            }),
            traceparent: self.traceparent,
        }
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence.to_ascii_lowercase().ends_with("+json")
}

/// Header values carry everything outside of visible ASCII percent-encoded; raw UTF-8 is taken too.
fn percent_decoded(bytes: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        out.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(text: &str) -> (Envelope, String, Vec<(String, &'static str)>) {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let event = structured(2, raw, "events[2]");
        let faults = event
            .faults
            .into_iter()
            .map(|f| (f.field, f.code))
            .collect();
        (event.envelope, event.json.into_owned(), faults)
    }

    #[test]
    fn attributes_fill_the_envelope() {
        let (envelope, json, faults) = read(
            r#"{"specversion":"1.0","id":"e-1","source":"/shop","type":"order.paid",
                "time":"1970-01-01T00:00:01Z","data":{"x":1},"other":5}"#,
        );
        assert_eq!(faults, []);
        assert_eq!(json, r#"{"x":1}"#);
        assert_eq!(envelope.id.unwrap().value, "e-1");
        assert_eq!(envelope.sender.unwrap().name, "source");
        assert_eq!(envelope.occurred_at.unwrap().value, Millis(1_000));
    }

    #[test]
    fn the_extension_sender_comes_before_the_source_and_base64_is_read() {
        let (envelope, json, faults) = read(
            r#"{"specversion":"1.0","id":"e","source":"/s","type":"t","sender":"me",
                "data_base64":"e30="}"#,
        );
        assert_eq!(faults, []);
        assert_eq!(json, "{}");
        assert_eq!(envelope.sender.unwrap().value, "me");
    }

    #[test]
    fn every_fault_of_an_envelope_is_named_once() {
        let (_, _, faults) = read(
            r#"{"specversion":"0.3","id":7,"type":"","time":"noon","datacontenttype":"text/xml"}"#,
        );
        let fields: Vec<_> = faults.iter().map(|(f, c)| (f.as_str(), *c)).collect();
        assert_eq!(
            fields,
            [
                ("events[2].data", "missing"),
                ("events[2].id", "invalid"),
                ("events[2].datacontenttype", "invalid"),
                ("events[2].source", "missing"),
                ("events[2].type", "missing"),
                ("events[2].specversion", "unknown_word"),
                ("events[2].time", "invalid"),
            ]
        );
        assert_eq!(read("[]").2.first().unwrap().0, "events[2]");
    }

    #[test]
    fn header_values_are_percent_decoded() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "e%201"),
            ("ce-source", "%EA%B0%80"),
            ("ce-type", "t"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let raw: &RawValue = serde_json::from_str("{}").unwrap();
        let event = binary(&headers, raw);
        assert_eq!(event.faults, []);
        assert_eq!(event.envelope.id.unwrap().value, "e 1");
        assert_eq!(event.envelope.sender.unwrap().value, "가");
        headers.insert("ce-id", HeaderValue::from_static("%+1"));
        assert_eq!(binary(&headers, raw).faults.first().unwrap().field, "ce-id");
    }
}
