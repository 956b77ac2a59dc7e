//! The wire: `.avsc` files (the source of truth), the record types, the Avro codec with both
//! framings, and the conversion to and from `domain`.
//!
//! Schemas evolve only backward and forward compatibly; `tests/it` reads old bytes with new code and
//! the reverse, and pins the bytes of every record.

pub mod check;
pub mod codec;
pub mod control;
pub mod convert;
pub mod frame;
pub mod headers;
mod hot;
pub mod lookup;
pub mod millis;
pub mod outcome;
pub mod records;
pub mod suppression;
pub mod topics;

pub use check::{check_event, parse_json_event};
pub use codec::{AvroRecord, Codec, DecodeError, DeliveryError, EncodeError, Framing};
pub use frame::SchemaRef;
pub use lookup::{NoLookup, SchemaLookup, learn_missing};
pub use millis::Millis;
pub use outcome::OutcomeReceipt;
pub use records::{
    AuditEntry, Control, Delivery, JournalEntry, NotificationEvent, RateShare, Receipt, Suppression,
};
pub use topics::Topics;
