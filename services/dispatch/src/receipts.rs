//! Receipts on their way to `results`: built, framed, sent until Kafka acknowledges.

use std::sync::Arc;
use std::time::Duration;

use bongsu_domain::{Delivery, Settled, Timestamp};
use bongsu_schemas::convert::{Ending, Source, outcome_receipt};
use bongsu_schemas::{Codec, EncodeError, headers};
use bongsu_stream::error::{ErrorClass, ProduceError};
use bongsu_stream::port::{Headers, Outgoing, Producer, Record};
use bytes::Bytes;

/// Pause before a record is sent again that Kafka did not acknowledge.
pub const SEND_AGAIN: Duration = Duration::from_millis(100);

/// How a delivery ended, before its receipt is written.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Outcome and reason.
    pub settled: Settled,
    /// Attempts made.
    pub attempts: u32,
    /// When.
    pub at: Timestamp,
    /// Whether the provider may have got it more than once.
    pub possible_duplicate: bool,
}

/// Builds the record of an outcome: same partition number as the delivery, headers that let a
/// successor restore without decoding.
///
/// # Errors
/// When a value does not fit the schema.
#[expect(clippy::too_many_arguments, reason = "a receipt is made of them")]
pub fn outcome_record(
    codec: &Codec,
    results: &Arc<str>,
    source: &Record,
    delivery: &Delivery,
    ended: Ended,
    provider_reference: Option<&str>,
    worker_id: &str,
) -> Result<Outgoing, EncodeError> {
    let mut receipt = outcome_receipt(
        delivery,
        Source {
            topic: &source.topic,
            partition: source.partition,
            offset: source.offset,
        },
        Ending {
            settled: ended.settled,
            attempts: ended.attempts,
            at: ended.at,
            possible_duplicate: ended.possible_duplicate,
            provider_reference,
            worker_id,
        },
    );
    let value = codec.encode_outcome(&receipt)?;
    let id = receipt.delivery_id.take().unwrap_or_default();
    let mut out = Headers(Vec::with_capacity(5))
        .with(headers::KIND, "outcome")
        .with(headers::DELIVERY_ID, id)
        .with(headers::SOURCE_TOPIC, source.topic.as_bytes().to_vec())
        .with(headers::SOURCE_OFFSET, source.offset.to_string());
    // Trace context is passed on untouched.
    if let Some(trace) = source.headers.value(headers::TRACEPARENT) {
        out = out.with(headers::TRACEPARENT, trace.clone());
    }
    Ok(Outgoing {
        topic: Arc::clone(results),
        partition: source.partition,
        key: Some(key_of(source, delivery)),
        value: Some(value),
        headers: out,
    })
}

/// The sender, which is the record's own key unless somebody spread it over partitions.
fn key_of(source: &Record, delivery: &Delivery) -> Bytes {
    match &source.key {
        Some(key) if **key == *delivery.sender.as_bytes() => key.clone(),
        _ => Bytes::copy_from_slice(delivery.sender.as_bytes()),
    }
}

/// Sends until Kafka acknowledges. A second copy after a lost acknowledgement has the same receipt
/// id, and readers upsert.
///
/// # Errors
/// When the record can never be written; dispatch must stop, for its promise is broken otherwise.
pub async fn send_until_acknowledged(
    producer: Arc<dyn Producer>,
    record: Outgoing,
) -> Result<i64, ProduceError> {
    loop {
        match producer.send(record.clone()).await {
            Ok(offset) => return Ok(offset),
            Err(error) => match error.class() {
                ErrorClass::Transient => {
                    tracing::warn!(%error, "a record was not acknowledged and is sent again");
                    tokio::time::sleep(SEND_AGAIN).await;
                }
                ErrorClass::Permanent | ErrorClass::Misconfigured | ErrorClass::Fenced => {
                    return Err(error);
                }
            },
        }
    }
}
