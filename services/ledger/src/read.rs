//! From a record of `results` to a receipt the store takes: pure.

use bongsu_domain::{DeliveryId, Outcome, limits};
use bongsu_schemas::{Codec, DecodeError, Receipt, SchemaRef};
use bongsu_store::{Facts, Finding, LedgerReceipt, Position};

/// Longest reference, detail or other text kept, in characters; PostgreSQL's indexes and a
/// person's patience end not far beyond.
const TEXT_CHARS: usize = 1_000;

/// What a record turned out to be.
#[derive(Debug, PartialEq)]
pub enum Reading {
    /// A receipt.
    Receipt(Box<LedgerReceipt>),
    /// Its schema must be fetched first.
    NeedsSchema(SchemaRef),
    /// No receipt that this version understands: a dead letter.
    Unreadable {
        /// Reason code.
        reason: &'static str,
        /// For people.
        detail: String,
    },
}

fn unreadable(reason: &'static str, detail: impl Into<String>) -> Reading {
    Reading::Unreadable {
        reason,
        detail: detail.into(),
    }
}

/// Reads a value of `results`.
#[must_use]
pub fn read(codec: &Codec, value: Option<&[u8]>) -> Reading {
    let Some(value) = value else {
        return unreadable("unreadable", "the record has no value");
    };
    match codec.decode::<Receipt>(value) {
        Ok(receipt) => check(receipt),
        Err(DecodeError::UnknownSchema(reference)) => Reading::NeedsSchema(reference),
        Err(
            error @ (DecodeError::Frame(_)
            | DecodeError::WrongRecord { .. }
            | DecodeError::Incompatible { .. }
            | DecodeError::Body(_)),
        ) => unreadable("unreadable", error.to_string()),
    }
}

fn check(receipt: Receipt) -> Reading {
    let finding = match finding(&receipt) {
        Ok(finding) => finding,
        Err(detail) => return unreadable("invalid_receipt", detail),
    };
    for (field, text) in [
        ("receipt_id", Some(&receipt.receipt_id)),
        ("sender", Some(&receipt.sender)),
        ("event_id", Some(&receipt.event_id)),
        ("recipient", receipt.recipient.as_ref()),
        ("platform", receipt.platform.as_ref()),
        ("app", receipt.app.as_ref()),
    ] {
        if text.is_some_and(|t| t.len() > limits::ID_BYTES) {
            let detail = format!("{field} is longer than {} bytes", limits::ID_BYTES);
            return unreadable("invalid_receipt", detail);
        }
    }
    Reading::Receipt(Box::new(checked(receipt, finding)))
}

fn finding(receipt: &Receipt) -> Result<Finding, String> {
    if receipt.receipt_id.is_empty() {
        return Err("it has no receipt_id".to_owned());
    }
    let outcome = || Outcome::parse(&receipt.outcome).map_err(|e| e.to_string());
    let delivery = || {
        let id = receipt.delivery_id.as_deref();
        id.and_then(DeliveryId::parse)
            .ok_or_else(|| format!("a receipt of kind {} needs a delivery_id", receipt.kind))
    };
    Ok(match receipt.kind.as_str() {
        "event" => Finding::Event(outcome()?),
        "attempt" => Finding::Attempt {
            delivery: delivery()?,
            result: short(receipt.outcome.clone()),
        },
        "outcome" => Finding::Outcome {
            delivery: delivery()?,
            outcome: outcome()?,
        },
        "report" => Finding::Report {
            delivery: delivery()?,
            outcome: outcome()?,
        },
        other => {
            let other: String = other.chars().take(64).collect();
            return Err(format!("`{other}` is no kind of receipt"));
        }
    })
}

fn short(text: String) -> String {
    if text.len() <= TEXT_CHARS {
        return text;
    }
    text.chars().take(TEXT_CHARS).collect()
}

fn checked(r: Receipt, finding: Finding) -> LedgerReceipt {
    let source = match (r.source_topic, r.source_partition, r.source_offset) {
        (Some(topic), Some(partition), Some(offset)) => Some(Position {
            topic,
            partition: i64::from(partition),
            offset,
        }),
        (_, _, _) => None,
    };
    LedgerReceipt {
        receipt_id: r.receipt_id,
        finding,
        facts: Facts {
            sender: r.sender,
            event_id: r.event_id,
            class: short(r.class),
            purpose: short(r.purpose),
            category: r.category.map(short),
            channel: r.channel.map(short),
            account: r.account.map(short),
            recipient: r.recipient,
            address_id: r.address_id.map(short),
            platform: r.platform,
            app: r.app,
            registered_at: r.registered_at.map(Into::into),
            step: r.step,
            origin: short(r.origin),
            campaign_id: r.campaign_id.map(short),
            schedule_id: r.schedule_id.map(short),
            replay_id: r.replay_id.map(short),
            content_hash: short(r.content_hash),
            accepted_at: r.accepted_at.map(Into::into),
            expires_at: r.expires_at.map(Into::into),
            source,
        },
        reason: short(r.reason),
        detail: r.detail.map(short),
        attempts: r.attempts,
        at: r.at.into(),
        possible_duplicate: r.possible_duplicate,
        provider_reference: r.provider_reference.map(short),
        worker_id: r.worker_id.map(short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        Receipt {
            kind: "outcome".to_owned(),
            receipt_id: "r-1".to_owned(),
            delivery_id: Some("543ca93d-b1f3-326a-271e-8b06ef78cd5d".to_owned()),
            event_id: "e-1".to_owned(),
            sender: "shop".to_owned(),
            outcome: "accepted".to_owned(),
            ..Receipt::default()
        }
    }

    fn read_back(receipt: &Receipt) -> Reading {
        let codec = Codec::default();
        read(&codec, Some(&codec.encode(receipt).unwrap()))
    }

    #[test]
    fn an_outcome_is_read() {
        let Reading::Receipt(found) = read_back(&receipt()) else {
            panic!("it is a receipt");
        };
        assert!(matches!(
            found.finding,
            Finding::Outcome {
                outcome: Outcome::Accepted,
                ..
            }
        ));
        assert_eq!(found.facts.sender, "shop");
    }

    #[test]
    fn what_is_no_receipt_is_told_from_what_is_a_wrong_one() {
        let codec = Codec::default();
        for (value, reason) in [(None, "unreadable"), (Some(b"{}".to_vec()), "unreadable")] {
            let Reading::Unreadable { reason: found, .. } = read(&codec, value.as_deref()) else {
                panic!("{value:?} is no receipt");
            };
            assert_eq!(found, reason);
        }
        for wrong in [
            Receipt {
                kind: "rumour".to_owned(),
                ..receipt()
            },
            Receipt {
                outcome: "lost".to_owned(),
                ..receipt()
            },
            Receipt {
                delivery_id: None,
                ..receipt()
            },
            Receipt {
                delivery_id: Some("7".to_owned()),
                ..receipt()
            },
            Receipt {
                receipt_id: String::new(),
                ..receipt()
            },
            Receipt {
                recipient: Some("r".repeat(257)),
                ..receipt()
            },
        ] {
            let read = read_back(&wrong);
            assert!(
                matches!(
                    read,
                    Reading::Unreadable {
                        reason: "invalid_receipt",
                        ..
                    }
                ),
                "{wrong:?}: {read:?}"
            );
        }
    }

    #[test]
    fn a_schema_that_is_not_known_is_asked_for() {
        let codec = Codec::default();
        let mut value = vec![0xC3, 0x01];
        value.extend_from_slice(&7_u64.to_le_bytes());
        value.push(0);
        assert_eq!(
            read(&codec, Some(&value)),
            Reading::NeedsSchema(SchemaRef::Fingerprint(7))
        );
    }
}
