//! From a record of `events` to what is to be done with it: pure, so that every replica and every
//! restart decides alike. Time is the record's broker time.

use std::sync::Arc;

use bongsu_domain::{Event, FaultCode, Faults, Reason, Settled, Timestamp, limits, partition_of};
use bongsu_schemas::convert::{event_hash, event_key, reason_of};
use bongsu_schemas::{
    Codec, DecodeError, NotificationEvent, SchemaRef, check_event, parse_json_event,
};
use bongsu_stream::port::Record;

/// What a record turned out to be.
#[derive(Debug)]
pub enum Reading {
    /// A checked event in its right partition.
    Event(Box<Accepted>),
    /// A well-formed event in the wrong partition: it belongs to this one.
    Misplaced(i32),
    /// A readable event that cannot be done: an event-level receipt, and a dead letter when it is
    /// the publisher's mistake.
    Refused(Box<RefusedEvent>),
    /// Nothing can be said to its publisher: a dead letter alone.
    Unreadable {
        /// Reason code.
        reason: &'static str,
        /// For people.
        detail: String,
    },
    /// Its schema must be fetched first.
    NeedsSchema(SchemaRef),
}

/// A checked event with what identifies it.
#[derive(Debug)]
pub struct Accepted {
    /// As published.
    pub raw: NotificationEvent,
    /// As checked.
    pub event: Arc<Event>,
    /// Hash of (sender, id).
    pub key: u128,
    /// Hash of what it says.
    pub content: u64,
}

/// An event that is refused as a whole.
#[derive(Debug)]
pub struct RefusedEvent {
    /// As published.
    pub raw: NotificationEvent,
    /// What the receipt says.
    pub settled: Settled,
    /// Reason code of the dead letter; none for an event that merely came too late.
    pub dead_letter: Option<&'static str>,
    /// Every fault, for people.
    pub detail: String,
}

/// Reads one record; `partitions` is N.
#[must_use]
pub fn read(codec: &Codec, record: &Record, partitions: i32) -> Reading {
    let value = record.value.as_deref().unwrap_or_default();
    if value.len() > limits::EVENT_BYTES {
        return Reading::Unreadable {
            reason: "event_too_large",
            detail: format!(
                "the event has {} bytes; at most {} are taken",
                value.len(),
                limits::EVENT_BYTES
            ),
        };
    }
    let raw = match decode(codec, value) {
        Ok(raw) => raw,
        Err(Undecoded::NeedsSchema(reference)) => return Reading::NeedsSchema(reference),
        Err(Undecoded::Unreadable(detail)) => {
            return Reading::Unreadable {
                reason: "unreadable",
                detail,
            };
        }
    };
    let key = record.key.as_deref().unwrap_or_default();
    if key.is_empty() || key != raw.sender.as_bytes() {
        let what = if key.is_empty() {
            "the key is empty"
        } else {
            "the key is not the sender"
        };
        return Reading::Unreadable {
            reason: "key_mismatch",
            detail: format!("{what}; publish with the sender's UTF-8 bytes as the key"),
        };
    }
    let home = partition_of(key, partitions);
    if home != record.partition {
        return Reading::Misplaced(home);
    }
    match check_event(&raw, Timestamp(record.timestamp)) {
        Ok(event) => Reading::Event(Box::new(Accepted {
            key: event_key(&raw),
            content: event_hash(&raw),
            event: Arc::new(event),
            raw,
        })),
        Err(faults) => Reading::Refused(Box::new(refuse(raw, &faults))),
    }
}

enum Undecoded {
    NeedsSchema(SchemaRef),
    Unreadable(String),
}

fn decode(codec: &Codec, value: &[u8]) -> Result<NotificationEvent, Undecoded> {
    if value.first() == Some(&b'{') {
        return parse_json_event(value).map_err(|f| Undecoded::Unreadable(f.to_string()));
    }
    match codec.decode::<NotificationEvent>(value) {
        Ok(raw) => Ok(raw),
        Err(DecodeError::UnknownSchema(reference)) => Err(Undecoded::NeedsSchema(reference)),
        Err(error) => Err(Undecoded::Unreadable(error.to_string())),
    }
}

fn refuse(raw: NotificationEvent, faults: &Faults) -> RefusedEvent {
    let code = faults.leading_code().unwrap_or(FaultCode::Invalid);
    let late = faults.0.iter().all(|f| f.code == FaultCode::Expired);
    let settled = if late {
        Settled {
            outcome: bongsu_domain::Outcome::Expired,
            reason: Reason::DeadlinePassed,
        }
    } else {
        Settled::refused(reason_of(code))
    };
    RefusedEvent {
        raw,
        settled,
        dead_letter: (!late).then(|| settled.reason.as_str()),
        detail: faults.to_string(),
    }
}
