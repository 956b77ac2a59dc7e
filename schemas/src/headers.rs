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
/// On a parked delivery: its offset in the deliveries topic, decimal.
pub const ORIGIN_OFFSET: &str = "bongsu-origin-offset";
/// On a parked delivery: its order key, hexadecimal.
pub const ORDER_KEY: &str = "bongsu-order-key";
/// On a parked delivery: attempts made so far, decimal.
pub const ATTEMPTS: &str = "bongsu-attempts";
/// On a parked delivery: the next attempt is due then, milliseconds since the epoch.
pub const NOT_BEFORE: &str = "bongsu-not-before";
/// On a parked delivery: `1` when an earlier attempt may have arrived.
pub const UNCERTAIN: &str = "bongsu-uncertain";
/// On a parked delivery: the epoch of the owner that parked it, decimal.
pub const EPOCH: &str = "bongsu-epoch";
/// Who serves a channel, on a report without our reference.
pub const PROVIDER: &str = "bongsu-provider";
/// Which of our accounts there.
pub const ACCOUNT: &str = "bongsu-account";
/// On a report without our reference: its delivery's channel.
pub const CHANNEL: &str = "bongsu-channel";
/// On one that is final: the outcome it makes of its delivery.
pub const OUTCOME: &str = "bongsu-outcome";
/// The reason beside it.
pub const REASON: &str = "bongsu-reason";
/// What tells two reports of one notification apart.
pub const SAID: &str = "bongsu-said";
/// When the provider says that it happened, milliseconds since the epoch, decimal.
pub const AT: &str = "bongsu-at";
/// A publisher's own name, for the count of misplaced events.
pub const CLIENT_ID: &str = "bongsu-client-id";
/// Set by fanout on an event it moved to its right partition: the partition it came from.
pub const REHOMED_FROM: &str = "bongsu-rehomed-from";
