//! Names of record headers, so that readers can skip without decoding.

/// W3C trace context, passed through untouched.
pub const TRACEPARENT: &str = "traceparent";
/// What a receipt is: `event`, `attempt`, `outcome`, `report`.
pub const KIND: &str = "bongsu-kind";
/// The delivery's UUID in text.
pub const DELIVERY_ID: &str = "bongsu-delivery-id";
/// The publisher's event id.
pub const EVENT_ID: &str = "bongsu-event-id";
/// Topic of the record this one answers or derives from.
pub const SOURCE_TOPIC: &str = "bongsu-source-topic";
/// Partition of the record this one answers or derives from, decimal.
pub const SOURCE_PARTITION: &str = "bongsu-source-partition";
/// Offset of the record this one answers or derives from, decimal.
pub const SOURCE_OFFSET: &str = "bongsu-source-offset";
/// A publisher's own name, for the count of misplaced events.
pub const CLIENT_ID: &str = "bongsu-client-id";
/// Set by fanout on an event it moved to its right partition: the partition it came from.
pub const REHOMED_FROM: &str = "bongsu-rehomed-from";
