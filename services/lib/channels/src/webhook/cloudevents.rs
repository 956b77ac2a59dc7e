//! A delivery as `CloudEvents` 1.0 over HTTP. Pure. [R: cloudevents/spec, 2026-08]
//!
//! `id` is the delivery's id, the same on every attempt, so that (source, id) tells copies apart as
//! the specification wants it.

use bongsu_domain::{Channel, Delivery};
use serde::Serialize;
use serde::de::IgnoredAny;

use super::payload::Data;

/// The version of the specification.
pub const SPEC_VERSION: &str = "1.0";
/// The content type of the structured form.
pub const STRUCTURED: &str = "application/cloudevents+json";
/// The content type of the data.
pub const DATA_TYPE: &str = "application/json";

/// The context attributes.
#[derive(Debug, Clone, Serialize)]
pub struct Attributes<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: &'a str,
    subject: &'a str,
    time: String,
    datacontenttype: &'static str,
    /// An extension: the publisher's id of the event.
    eventid: &'a str,
    /// An extension: who speaks.
    sender: &'a str,
}

impl<'a> Attributes<'a> {
    /// Of a delivery; `source` empty for `/senders/<sender>`.
    #[must_use]
    pub fn new(delivery: &'a Delivery, source: &str, r#type: &'a str) -> Self {
        Self {
            specversion: SPEC_VERSION,
            id: delivery.id.to_string(),
            source: if source.is_empty() {
                format!("/senders/{}", path_segment(&delivery.sender))
            } else {
                source.to_owned()
            },
            r#type,
            subject: &delivery.recipient,
            time: delivery.accepted_at.to_rfc3339(),
            datacontenttype: DATA_TYPE,
            eventid: &delivery.event_id,
            sender: &delivery.sender,
        }
    }

    /// The headers of the binary form, beside the content type: names with `ce-`, values encoded.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 8] {
        [
            ("ce-specversion", self.specversion.to_owned()),
            ("ce-id", header_value(&self.id)),
            ("ce-source", header_value(&self.source)),
            ("ce-type", header_value(self.r#type)),
            ("ce-subject", header_value(self.subject)),
            ("ce-time", header_value(&self.time)),
            ("ce-eventid", header_value(self.eventid)),
            ("ce-sender", header_value(self.sender)),
        ]
    }

    /// The body of the structured form. A raw override for `webhook` becomes the data, byte by byte
    /// when it is JSON, else as a text.
    ///
    /// # Errors
    /// When JSON cannot be written, which these types do not allow.
    pub fn structured(&self, delivery: &Delivery) -> Result<Vec<u8>, serde_json::Error> {
        let mut body = serde_json::to_vec(self)?;
        // `{"specversion":…}` without its brace, and the data behind it.
        body.pop();
        body.extend_from_slice(b",\"data\":");
        match delivery.content.overrides.get(Channel::Webhook.as_str()) {
            Some(raw) if serde_json::from_str::<IgnoredAny>(raw).is_ok() => {
                body.extend_from_slice(raw.as_bytes());
            }
            Some(raw) => serde_json::to_writer(&mut body, raw)?,
            None => serde_json::to_writer(&mut body, &Data::of(delivery))?,
        }
        body.push(b'}');
        Ok(body)
    }
}

/// The body of the binary form: the data alone.
///
/// # Errors
/// When JSON cannot be written, which these types do not allow.
pub fn binary(delivery: &Delivery) -> Result<Vec<u8>, serde_json::Error> {
    match delivery.content.overrides.get(Channel::Webhook.as_str()) {
        Some(raw) => Ok(raw.clone().into_bytes()),
        None => serde_json::to_vec(&Data::of(delivery)),
    }
}

/// An attribute as a header's value: space, `"`, `%` and everything outside of visible ASCII is
/// percent-encoded as UTF-8. [R: CloudEvents HTTP binding, 3.1.3.2]
#[must_use]
pub fn header_value(text: &str) -> String {
    encode(text, |b| {
        (0x21..=0x7e).contains(&b) && !matches!(b, b'"' | b'%')
    })
}

/// RFC 3986's unreserved characters stay.
fn path_segment(text: &str) -> String {
    encode(text, |b| {
        b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
    })
}

fn encode(text: &str, stays: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stays(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::provider::tests::delivery;

    #[test]
    fn the_structured_form_holds_attributes_and_data() {
        let delivery = delivery("https://example.com/hook");
        let attributes = Attributes::new(&delivery, "", "notification");
        let body: Value =
            serde_json::from_slice(&attributes.structured(&delivery).unwrap()).unwrap();
        assert_eq!(
            body,
            json!({
                "specversion": "1.0",
                "id": delivery.id.to_string(),
                "source": "/senders/shop-1",
                "type": "notification",
                "subject": "r-1",
                "time": "2025-10-09T08:53:20Z",
                "datacontenttype": "application/json",
                "eventid": "e-1",
                "sender": "shop-1",
                "data": {
                    "delivery_id": delivery.id.to_string(),
                    "event_id": "e-1",
                    "sender": "shop-1",
                    "recipient": "r-1",
                    "address_id": "a-1",
                    "title": "Paid",
                    "body": "Your order is paid.",
                    "data": {"seq": "1"},
                }
            })
        );
    }

    #[test]
    fn an_override_is_the_data_as_it_is_or_a_text() {
        let mut delivery = delivery("https://example.com/hook");
        for (raw, expected) in [
            (
                r#"{ "n": 12345678901234567890123 }"#,
                r#""data":{ "n": 12345678901234567890123 }}"#,
            ),
            ("no JSON", r#""data":"no JSON"}"#),
        ] {
            let overrides = &mut delivery.content.overrides;
            overrides.insert("webhook".into(), raw.into());
            let body = Attributes::new(&delivery, "x", "t").structured(&delivery);
            let body = String::from_utf8(body.unwrap()).unwrap();
            assert!(body.ends_with(expected), "{body}");
            assert_eq!(binary(&delivery).unwrap(), raw.as_bytes());
        }
    }

    #[test]
    fn headers_are_encoded_as_the_specification_says() {
        // The specification's own example.
        assert_eq!(header_value("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(header_value("a\"b%c~"), "a%22b%25c~");
        assert_eq!(path_segment("봉수/1"), "%EB%B4%89%EC%88%98%2F1");
    }
}
