//! From a record to a delivery that can be put in order, or to the reason why not.

use std::sync::Arc;

use bongsu_domain::{Delivery, Timestamp};
use bongsu_schemas::{Codec, DecodeError, DeliveryError, SchemaRef};
use bongsu_stream::port::Record;

/// What became of a record.
#[derive(Debug)]
pub enum Intake {
    /// A delivery.
    Delivery(Arc<Delivery>),
    /// Its schema must be fetched first.
    NeedsSchema(SchemaRef),
    /// It can never be read: reason code and detail for the dead letter.
    Unreadable(&'static str, String),
}

/// Reads one record of a deliveries topic.
#[must_use]
pub fn read(codec: &Codec, record: &Record) -> Intake {
    let Some(value) = record.value.as_deref() else {
        return Intake::Unreadable("unreadable", "the record has no value".to_owned());
    };
    match codec.decode_delivery(value) {
        Ok(delivery) => Intake::Delivery(Arc::new(delivery)),
        Err(DeliveryError::Decode(DecodeError::UnknownSchema(reference))) => {
            Intake::NeedsSchema(reference)
        }
        Err(DeliveryError::Decode(error)) => Intake::Unreadable("unreadable", error.to_string()),
        Err(DeliveryError::Fault(fault)) => {
            Intake::Unreadable("invalid_delivery", fault.to_string())
        }
    }
}

/// The last moment at which an attempt of the delivery is useful.
#[must_use]
pub fn expiry(delivery: &Delivery) -> Timestamp {
    delivery.expires_at
}
