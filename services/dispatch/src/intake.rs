//! From a record to a delivery that can be put in order, or to the reason why not.

use std::sync::Arc;

use bongsu_domain::{Delivery, Timestamp};
use bongsu_schemas::convert::delivery_from_record;
use bongsu_schemas::{Codec, DecodeError, SchemaRef};
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
    match codec.decode::<bongsu_schemas::Delivery>(value) {
        Err(DecodeError::UnknownSchema(reference)) => Intake::NeedsSchema(reference),
        Err(error) => Intake::Unreadable("unreadable", error.to_string()),
        Ok(raw) => match delivery_from_record(raw) {
            Err(fault) => Intake::Unreadable("invalid_delivery", fault.to_string()),
            Ok(delivery) => Intake::Delivery(Arc::new(delivery)),
        },
    }
}

/// The last moment at which an attempt of the delivery is useful.
#[must_use]
pub fn expiry(delivery: &Delivery) -> Timestamp {
    delivery.expires_at
}
