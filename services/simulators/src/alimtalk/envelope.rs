//! Requests as the dealer reads them, and the layers of its answers. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::marks::{delivery_of, marker};
use crate::recorder::Arrived;

/// A sending.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Sending {
    pub(super) destinations: Vec<Destination>,
    pub(super) message_flow: Vec<BTreeMap<String, Step>>,
    pub(super) idempotency_key: Option<String>,
    pub(super) idempotency_ttl: Option<u64>,
}

/// A recipient.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Destination {
    pub(super) to: String,
    pub(super) replace_words: BTreeMap<String, String>,
    #[serde(rename = "ref")]
    pub(super) reference: String,
}

/// One way to reach a recipient.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Step {
    pub(super) sender_key: String,
    pub(super) template_code: String,
    pub(super) send_type: String,
    pub(super) text: String,
}

impl Sending {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// The AlimTalk of the flow.
    pub(super) fn alimtalk(&self) -> Option<&Step> {
        self.message_flow.first()?.get("alimtalk")
    }

    /// The word of the second step.
    pub(super) fn failover(&self) -> Option<&str> {
        self.message_flow.get(1)?.keys().next().map(String::as_str)
    }
}

/// Tells the recorder of every recipient; of one without a name when there is none.
pub(super) fn identify(
    sending: &Sending,
    worker: &str,
    attempt: u32,
    record: &mut dyn FnMut(&Arrived<'_>),
) {
    let nobody = Destination::default();
    let none = sending.destinations.is_empty().then_some(&nobody);
    for destination in sending.destinations.iter().chain(none) {
        let delivery_id = delivery_of(&destination.reference).unwrap_or_default();
        let marker = destination
            .replace_words
            .values()
            .find_map(|v| marker(v))
            .or_else(|| marker(&sending.alimtalk()?.text));
        let (event_id, sender, seq) = marker.unwrap_or((&delivery_id, "", None));
        record(&Arrived {
            delivery_id: &delivery_id,
            event_id,
            sender,
            path: &format!("/to/{}", destination.to),
            seq,
            worker,
            attempt,
        });
    }
}

/// An answer the gateway gives itself.
pub(super) fn gateway(code: &str) -> Value {
    json!({"common": {"authCode": code, "authResult": word(code), "infobankTrId": "twin"}})
}

/// An answer of the service without recipients.
pub(super) fn service(code: &str) -> Value {
    answer(code, &Value::Null)
}

/// An answer of the service.
pub(super) fn answer(code: &str, data: &Value) -> Value {
    json!({
        "common": {"authCode": "A000", "authResult": "Success", "infobankTrId": "twin"},
        "data": {"code": code, "result": word(code), "ref": null, "data": data},
    })
}

/// A code's text.
pub(super) fn word(code: &str) -> &'static str {
    match code {
        "A000" => "Success",
        "A020" => "Too many requests",
        "A301" => "Duplicated request",
        "A306" => "Invalid recipient",
        _ => "Failed",
    }
}

/// Whether every `#{variable}` of a text has a value, or the text given is the template's.
pub(super) fn fits(template: &str, step: &Step, words: &BTreeMap<String, String>) -> bool {
    if step.send_type == "template" || step.text.is_empty() {
        return template.split("#{").skip(1).all(|rest| {
            rest.split_once('}')
                .is_some_and(|(name, _)| words.contains_key(name))
        });
    }
    matches(template, &step.text)
}

/// Whether a text is a template's, character by character outside of its variables.
fn matches(template: &str, text: &str) -> bool {
    let Some((fixed, rest)) = template.split_once("#{") else {
        return template == text;
    };
    let Some(text) = text.strip_prefix(fixed) else {
        return false;
    };
    let Some((_, rest)) = rest.split_once('}') else {
        return false;
    };
    let mut ends = text.char_indices().map(|(i, _)| i).chain([text.len()]);
    ends.any(|end| text.get(end..).is_some_and(|after| matches(rest, after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_templates_to_the_letter() {
        assert!(matches("a #{x} b #{y}", "a 1 b 2 b 3"));
        assert!(!matches("a #{x} b", "a 1 b "));
        assert!(!matches("a", "a "));
        let words = BTreeMap::from([("x".to_owned(), "1".to_owned())]);
        let template = |text: &str| fits(text, &Step::default(), &words);
        assert!(template("#{x}"));
        assert!(!template("#{x} #{y}"));
    }
}
