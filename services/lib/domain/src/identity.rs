//! Deterministic identities: the same cause gives the same id, after any crash, in any process.
//!
//! All are SHA-256 over length-prefixed parts (each part preceded by its length as 8 bytes, big
//! endian), so that no two different lists of parts share an input.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::channel::Channel;

/// SHA-256 over length-prefixed parts.
#[must_use]
pub fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn first16(parts: &[&[u8]]) -> [u8; 16] {
    let full = digest(parts);
    let mut out = [0; 16];
    out.copy_from_slice(full.split_at(16).0);
    out
}

/// The first 8 bytes of [`digest`], as a big-endian number.
#[must_use]
pub fn hash64(parts: &[&[u8]]) -> u64 {
    u64::from_be_bytes(first8(&digest(parts)))
}

fn first8(bytes: &[u8]) -> [u8; 8] {
    let mut out = [0; 8];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

/// The id of a delivery: unit of deduplication, and the `apns-id` or `webhook-id` a provider sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(pub Uuid);

/// What makes a delivery the delivery it is.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryParts<'a> {
    /// Who speaks.
    pub sender: &'a str,
    /// The publisher's event id.
    pub event_id: &'a str,
    /// The channel's word.
    pub channel: &'a str,
    /// The recipient's id.
    pub recipient: &'a str,
    /// The address's stable id.
    pub address_id: &'a AddressId,
    /// Position in the channel plan.
    pub step: i32,
}

impl DeliveryId {
    /// First 16 bytes of the hash over sender, event, channel, recipient, address and step.
    #[must_use]
    pub fn derive(parts: DeliveryParts<'_>) -> Self {
        Self(Uuid::from_bytes(first16(&[
            parts.sender.as_bytes(),
            parts.event_id.as_bytes(),
            parts.channel.as_bytes(),
            parts.recipient.as_bytes(),
            parts.address_id.0.as_bytes(),
            parts.step.to_string().as_bytes(),
        ])))
    }

    /// Eight bytes that verify a (topic, partition, offset) really is this delivery.
    #[must_use]
    pub fn tag(self) -> u64 {
        u64::from_be_bytes(first8(self.0.as_bytes()))
    }

    /// Reads the hyphenated form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl std::fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of the outcome of a delivery: two physical receipts with the same id are one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutcomeId(pub Uuid);

impl OutcomeId {
    /// `hash(delivery_id, "outcome")`.
    #[must_use]
    pub fn of(delivery: DeliveryId) -> Self {
        Self(Uuid::from_bytes(first16(&[
            delivery.0.as_bytes(),
            b"outcome",
        ])))
    }

    /// The id of attempt number `attempt` (from 1) of a delivery, for attempt receipts.
    #[must_use]
    pub fn of_attempt(delivery: DeliveryId, attempt: u32) -> Self {
        let number = attempt.to_string();
        Self(Uuid::from_bytes(first16(&[
            delivery.0.as_bytes(),
            b"attempt",
            number.as_bytes(),
        ])))
    }

    /// The id of a provider's report on a delivery: the same report told again has the same id.
    /// `key` is the provider's own id of the notification, `said` what tells two reports of one
    /// notification apart (the channel tried and the code).
    #[must_use]
    pub fn of_report(delivery: DeliveryId, key: &str, said: &str) -> Self {
        Self(Uuid::from_bytes(first16(&[
            delivery.0.as_bytes(),
            b"report",
            key.as_bytes(),
            said.as_bytes(),
        ])))
    }

    /// The id of an event-level receipt; `about` tells several of one event apart (a recipient).
    #[must_use]
    pub fn of_event(sender: &str, event_id: &str, about: &str) -> Self {
        Self(Uuid::from_bytes(first16(&[
            b"event",
            sender.as_bytes(),
            event_id.as_bytes(),
            about.as_bytes(),
        ])))
    }
}

impl std::fmt::Display for OutcomeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Stable id of an address: the publisher's, else derived from what it points at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AddressId(pub String);

impl AddressId {
    /// Hash of (channel, account, normalised address). Normalising trims white space only, for
    /// tokens and URL paths are case sensitive; of a phone number it is the international form, so
    /// that every way to write it is one address, of a browser's subscription its endpoint,
    /// and of an e-mail address the domain's case does not count.
    #[must_use]
    pub fn derive(channel: &str, account: &str, address: &str) -> Self {
        let form = Channel::parse(channel).map(|channel| channel.facts().address);
        let read = form.ok().and_then(|form| form.read(address).ok());
        let normal = read.as_deref().unwrap_or(address.trim());
        let bytes = first16(&[channel.as_bytes(), account.as_bytes(), normal.as_bytes()]);
        Self(Uuid::from_bytes(bytes).simple().to_string())
    }
}

impl std::fmt::Display for AddressId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hash of what is said, without expiry and trace fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentHash(pub u64);

impl ContentHash {
    /// Sixteen lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }

    /// Reads [`ContentHash::to_hex`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sender: &str, event: &str) -> DeliveryId {
        DeliveryId::derive(DeliveryParts {
            sender,
            event_id: event,
            channel: "webhook",
            recipient: "r",
            address_id: &AddressId("a".into()),
            step: 0,
        })
    }

    #[test]
    fn the_same_parts_give_the_same_id_and_prefixes_do_not_collide() {
        assert_eq!(id("ab", "c"), id("ab", "c"));
        assert_ne!(id("ab", "c"), id("a", "bc"));
    }

    #[test]
    fn a_phone_number_is_one_address_however_it_is_written() {
        let of = |text| AddressId::derive("alimtalk", "default", text);
        assert_eq!(of("010-1234-5678"), of("+82 10 1234 5678"));
        assert_ne!(of("010-1234-5678"), of("010-1234-5679"));
        let sms = |text| AddressId::derive("sms", "default", text);
        assert_eq!(sms("010-1234-5678"), sms("+82 10 1234 5678"));
        let webhook = |text| AddressId::derive("webhook", "default", text);
        assert_ne!(webhook("010-1234-5678"), webhook("+82 10 1234 5678"));
    }

    #[test]
    fn a_subscription_is_its_endpoint_and_a_mailbox_ignores_the_case_of_its_domain() {
        let auth = "A".repeat(22);
        let push = |endpoint: &str, space: &str| {
            let p256dh = format!("B{}", "A".repeat(86));
            let text = format!(
                r#"{{"endpoint":{space}"{endpoint}","keys":{{"p256dh":"{p256dh}","auth":"{auth}"}}}}"#
            );
            AddressId::derive("webpush", "default", &text)
        };
        assert_eq!(
            push("https://p.example/1", ""),
            push("https://p.example/1", " ")
        );
        assert_ne!(
            push("https://p.example/1", ""),
            push("https://p.example/2", "")
        );
        let mail = |text| AddressId::derive("email", "default", text);
        assert_eq!(mail("Ann@Example.com"), mail(" Ann@example.com"));
        assert_ne!(mail("Ann@example.com"), mail("ann@example.com"));
    }

    #[test]
    fn the_delivery_id_is_pinned() {
        // A change here re-sends everything in flight at the upgrade.
        assert_eq!(
            id("shop-1", "e-1").to_string(),
            "543ca93d-b1f3-326a-271e-8b06ef78cd5d"
        );
    }
}
