//! Content to request: the body and the Standard Webhooks headers. Pure.

use bongsu_domain::{Channel, Delivery, Pairs};
use serde::Serialize;

use super::keys::SigningKey;

/// Header with the delivery's id: the same on every attempt, so that the receiver deduplicates.
pub const HEADER_ID: &str = "webhook-id";
/// Header with the Unix seconds of this attempt.
pub const HEADER_TIMESTAMP: &str = "webhook-timestamp";
/// Header with the signatures, separated by spaces.
pub const HEADER_SIGNATURE: &str = "webhook-signature";

/// The `type` of every body Bongsu builds, unless the account says another.
pub const TYPE: &str = "notification";

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: &'a str,
    timestamp: String,
    data: Data<'a>,
}

/// What a receiver gets of a delivery, in every form.
#[derive(Serialize)]
pub(super) struct Data<'a> {
    delivery_id: bongsu_domain::DeliveryId,
    event_id: &'a str,
    sender: &'a str,
    recipient: &'a str,
    address_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    data: &'a Pairs,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collapse_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    campaign_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    labels: &'a Pairs,
}

impl<'a> Data<'a> {
    pub(super) fn of(delivery: &'a Delivery) -> Self {
        let content = &delivery.content;
        Self {
            delivery_id: delivery.id,
            event_id: &delivery.event_id,
            sender: &delivery.sender,
            recipient: &delivery.recipient,
            address_id: &delivery.address.id.0,
            title: content.title.as_deref(),
            body: content.body.as_deref(),
            data: &content.data,
            link: content.link.as_deref(),
            image: content.image.as_deref(),
            collapse_key: delivery.collapse_key.as_deref(),
            campaign_id: delivery.campaign_id.as_deref(),
            labels: &delivery.labels,
        }
    }
}

/// The request body: the publisher's raw override for `webhook` when there is one, else
/// `{"type":"notification","timestamp":…,"data":{…}}` with the time the event was accepted, so that
/// every attempt carries the same bytes. Absent fields are left out.
///
/// # Errors
/// When JSON cannot be written, which these types do not allow.
pub fn body(delivery: &Delivery, r#type: &str) -> Result<Vec<u8>, serde_json::Error> {
    let content = &delivery.content;
    if let Some(raw) = content.overrides.get(Channel::Webhook.as_str()) {
        return Ok(raw.clone().into_bytes());
    }
    let envelope = Envelope {
        r#type,
        timestamp: delivery.accepted_at.to_rfc3339(),
        data: Data::of(delivery),
    };
    // One growth at most for usual contents instead of six.
    let mut bytes = Vec::with_capacity(512 + content.body.as_ref().map_or(0, String::len));
    serde_json::to_writer(&mut bytes, &envelope)?;
    Ok(bytes)
}

/// The value of `webhook-signature`, once per key in the order of the keys, separated by spaces:
/// `v1,<base64 HMAC-SHA256>` or `v1a,<base64 ed25519>` of `{id}.{timestamp}.{body}`. Empty when there
/// is no key.
#[must_use]
pub fn signature(keys: &[SigningKey], id: &str, timestamp: &str, body: &[u8]) -> String {
    // "v1a," + 88 characters of base64 + a space at most.
    let mut value = String::with_capacity(keys.len() * 93);
    for key in keys {
        if !value.is_empty() {
            value.push(' ');
        }
        let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        key.sign_into(&parts, &mut value);
    }
    value
}

#[cfg(test)]
mod tests {
    use bongsu_runtime::Secret;

    use super::*;
    use crate::provider::tests::delivery;

    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn key(secret: &str) -> SigningKey {
        SigningKey::new(&Secret::new(secret)).unwrap()
    }

    #[test]
    fn the_signature_agrees_with_the_vector() {
        let body =
            br#"{"type":"notification.sent","timestamp":"2025-10-09T08:53:20Z","data":{"id":1}}"#;
        assert_eq!(
            signature(&[key(SECRET)], "msg_01TEST", "1760000000", body),
            "v1,LDvgR8TYxZPYo1Yum4gRXDIeSzLNDpvp4edcu6CVAAM="
        );
    }

    #[test]
    fn a_rotation_signs_with_both_secrets() {
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let both = signature(&[key(other), key(SECRET)], "i", "1", b"{}");
        let alone = signature(&[key(SECRET)], "i", "1", b"{}");
        let (first, second) = both.split_once(' ').unwrap();
        assert!(first.starts_with("v1,") && first != alone);
        assert_eq!(second, alone);
        assert_eq!(signature(&[], "i", "1", b"{}"), "");
    }

    #[test]
    fn the_body_names_the_delivery_and_leaves_out_what_is_absent() {
        let delivery = delivery("https://example.com/hook");
        let json: serde_json::Value =
            serde_json::from_slice(&body(&delivery, TYPE).unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "notification",
                "timestamp": "2025-10-09T08:53:20Z",
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
    fn a_raw_override_is_sent_as_it_is() {
        let mut delivery = delivery("https://example.com/hook");
        let raw = r#"{ "anything": [1, 2] }"#;
        delivery
            .content
            .overrides
            .insert("webhook".into(), raw.into());
        assert_eq!(body(&delivery, TYPE).unwrap(), raw.as_bytes());
    }
}
