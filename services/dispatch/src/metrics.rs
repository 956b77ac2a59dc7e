//! Metrics of dispatch. Labels come from closed vocabularies; the app of an address comes from
//! events and is bounded by `MAX_APPS`.
//!
//! Conservation, per channel and class of one process: what was admitted has ended (`outcomes`), was
//! found settled (`restored`), was given back at a revocation (`returned`), or is held in a window or
//! a lane.

mod apps;
mod bound;
mod share;

use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::provider::AttemptResult;
use bongsu_domain::{Channel, Class, Platform, Settled};
use bongsu_runtime::{Metrics, instruments};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, UpDownCounter};

use self::apps::Apps;
use self::bound::Bound;
pub use self::share::Share;

const SECONDS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];
/// Lateness is told apart up to an hour.
const LATENESS: [f64; 12] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0,
];

instruments! {
    /// The instruments of dispatch.
    pub struct Instruments in "bongsu_dispatch" {
        /// Provider calls, by result.
        attempts: Counter<u64> = "bongsu_attempts" of "attempts" by [channel, class, result], alert "on a rising share of unknown";
        /// Time of one provider call.
        attempt_seconds: Histogram<f64> = "bongsu_attempt_duration_seconds" of "seconds" in SECONDS by [channel, class], alert "on p99";
        /// Deliveries ended, by outcome and reason.
        outcomes: Counter<u64> = "bongsu_outcomes" of "deliveries" by [channel, class, outcome, reason], alert "on `dead`, on a rising share of `expired`, and on any with the reason `repeat`: a publisher loops";
        /// From the event's broker time to the outcome.
        age_seconds: Histogram<f64> = "bongsu_delivery_age_seconds" of "seconds" in SECONDS by [channel, class], alert "on p99";
        /// Attempts under way; returns to zero.
        in_flight: UpDownCounter<i64> = "bongsu_attempts_in_flight" of "attempts" by [channel, class], alert "when it stays at `dispatch.max_in_flight`";
        /// Deliveries not sent again because results held their receipt.
        restored: Counter<u64> = "bongsu_restored_deliveries" of "deliveries" by [channel, class], alert "";
        /// Receipts of another delivery at an offset.
        mismatches: Counter<u64> = "bongsu_restore_mismatches" of "receipts" by [channel, class], alert "on any: was a topic made anew?";
        /// Records put aside.
        dead_letters: Counter<u64> = "bongsu_dead_letters" of "records" by [channel, class, reason], alert "on any";
        /// Deliveries read into a partition's window.
        admitted: Counter<u64> = "bongsu_deliveries_admitted" of "deliveries" by [channel, class], alert "when it differs from outcomes, restored, returned, held and parked for long";
        /// Deliveries given back unsettled at a revocation or shutdown; another worker reads them.
        returned: Counter<u64> = "bongsu_deliveries_returned" of "deliveries" by [channel, class], alert "";
        /// Deliveries read and not settled; returns to zero.
        held: UpDownCounter<i64> = "bongsu_deliveries_held" of "deliveries" by [channel, class], alert "when it stays at the windows' size";
        /// Deliveries that went to the side lane.
        parked: Counter<u64> = "bongsu_parked_deliveries" of "deliveries" by [channel, class], alert "";
        /// Times a sender was found to fill a partition's window while others wait, and went through the side lane.
        floods: Counter<u64> = "bongsu_floods" of "senders" by [channel, class], alert "on a steady rate: put such floods into the bulk class, or spread their sender";
        /// Deliveries that wait in the side lane; returns to zero.
        in_lane: UpDownCounter<i64> = "bongsu_deliveries_parked" of "deliveries" by [channel, class], alert "when rising for an hour";
        /// Deliveries that wait because a person stopped their scope; returns to zero.
        stopped: UpDownCounter<i64> = "bongsu_deliveries_stopped" of "deliveries" by [channel, class], alert "when a stop was forgotten";
        /// Times a delivery was told to wait because it is advertising and night where its recipient is.
        held_by_night: Counter<u64> = "bongsu_deliveries_held_by_night" of "starts" by [channel, class], alert "";
        /// Age of the oldest unsettled delivery of a partition; zero when there is none.
        watermark_age: Gauge<f64> = "bongsu_watermark_age_seconds" of "seconds" by [channel, class, partition], alert "above the time a delivery may wait";
        /// From the event's broker time to the outcome, by the address's platform and app.
        lateness: Histogram<f64> = "bongsu_delivery_lateness_seconds" of "seconds" in LATENESS by [channel, class, platform, app], alert "on p99 of any platform or app";
        /// What a delivery waited for: `kafka`, `order`, `limiter`, `retry`, or the `provider`.
        lateness_part: Histogram<f64> = "bongsu_delivery_lateness_part_seconds" of "seconds" in LATENESS by [channel, class, platform, part], alert "";
        /// The same parts as a sum by app: who was late for what.
        lateness_sum: Counter<f64> = "bongsu_delivery_lateness_part_sum_seconds" of "seconds" by [channel, class, app, part], alert "";
        /// What one attempt waited for the limiter.
        limiter_wait: Histogram<f64> = "bongsu_limiter_wait_seconds" of "seconds" in SECONDS by [channel, class], alert "when p50 rises: the limit is below the load";
        /// Time to read what newly assigned partitions need.
        restore_seconds: Histogram<f64> = "bongsu_restore_duration_seconds" of "seconds" in SECONDS by [channel, class], alert "above 10 seconds";
        /// Bytes read for it.
        restore_bytes: Counter<u64> = "bongsu_restore_bytes" of "bytes" by [channel, class], alert "";
        /// Partitions given up because they could not go on.
        stalls: Counter<u64> = "bongsu_stalls" of "partitions" by [channel, class], alert "on any";
        /// Times a worker sent nothing for ten seconds and more because Kafka took no commit of it.
        lapses: Counter<u64> = "bongsu_lease_lapses" of "lapses" by [channel, class], alert "on any";
        /// Times a partition stood still, by what it stood for: `provider`, `limiter`, `retry`, `stop`, `receipts`, `lease`, `schema` or `window`.
        standstills: Counter<u64> = "bongsu_partition_standstills" of "standstills" by [channel, class, partition, culprit], alert "on a steady rate in one partition";
        /// Attempts that the repeat guard forgot before their time because its memory was full.
        guard_forgot: Counter<u64> = "bongsu_repeat_guard_forgotten" of "attempts" by [channel, class], alert "on any: raise `dispatch.repeat_guard.memory`";
    }
}

instruments! {
    /// The instruments of who follows the control topic, one per channel and process.
    pub struct ControlInstruments in "bongsu_control" {
        /// Scopes that are stopped; stops that end by themselves count until the next act.
        stops: Gauge<u64> = "bongsu_stops" of "scopes" by [channel], alert "when a stop was forgotten";
        /// Control records that mean nothing to this version.
        unreadable: Counter<u64> = "bongsu_control_unreadable" of "records" by [channel], alert "on any: what they stop is not stopped here";
    }
}

instruments! {
    /// The instruments of a channel, over both classes.
    pub struct ChannelInstruments in "bongsu_dispatch_channel" {
        /// Attempts of bulk that may be open at once; below `dispatch.bulk_share` while it yields to transactional deliveries that start late.
        bulk_places: Gauge<u64> = "bongsu_bulk_attempts_allowed" of "attempts" by [channel], alert "below a quarter of its highest for most of an hour: campaigns wait, more workers are needed";
    }
}

/// Handles for one channel and class, built once.
#[derive(Debug, Clone)]
pub struct DispatchMetrics {
    on: Instruments,
    bound: Arc<Bound>,
    apps: Apps,
    labels: [KeyValue; 2],
}

/// What a delivery's time went into, from its event's broker time to its outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lateness {
    /// In Kafka, until it was read.
    pub kafka: Duration,
    /// For the deliveries ahead of it.
    pub order: Duration,
    /// For the limiter.
    pub limiter: Duration,
    /// Between its attempts.
    pub retry: Duration,
    /// At the provider.
    pub provider: Duration,
}

impl Lateness {
    const fn parts(self) -> [(&'static str, Duration); 5] {
        [
            ("kafka", self.kafka),
            ("order", self.order),
            ("limiter", self.limiter),
            ("retry", self.retry),
            ("provider", self.provider),
        ]
    }
}

/// What a partition stands still for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Culprit {
    /// The provider does not answer.
    Provider,
    /// The limiter gives no permit.
    Limiter,
    /// Everything waits for its next attempt.
    Retry,
    /// Everything is stopped.
    Stop,
    /// Kafka does not acknowledge receipts.
    Receipts,
    /// Kafka takes no commits.
    Lease,
    /// A schema is missing.
    Schema,
    /// The window is full and its oldest delivery does not end.
    Window,
}

impl Culprit {
    /// The word of the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Limiter => "limiter",
            Self::Retry => "retry",
            Self::Stop => "stop",
            Self::Receipts => "receipts",
            Self::Lease => "lease",
            Self::Schema => "schema",
            Self::Window => "window",
        }
    }
}

impl DispatchMetrics {
    /// Registers the instruments.
    #[must_use]
    pub fn new(metrics: &Metrics, channel: Channel, class: Class) -> Self {
        let on = Instruments::new(metrics);
        let labels = [
            KeyValue::new("channel", channel.as_str()),
            KeyValue::new("class", class.as_str()),
        ];
        Self {
            bound: Arc::new(Bound::new(&on, labels.clone())),
            on,
            apps: Apps::default(),
            labels,
        }
    }

    fn with(&self, more: &[KeyValue]) -> Vec<KeyValue> {
        self.labels.iter().chain(more).cloned().collect()
    }

    /// Attempts were started.
    pub fn started(&self, count: usize) {
        self.bound
            .in_flight
            .add(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Attempts that were started came to no call.
    pub fn not_attempted(&self, count: usize) {
        self.bound
            .in_flight
            .add(-i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// An attempt ended.
    pub fn attempted(&self, result: AttemptResult, took: Duration) {
        self.bound.in_flight.add(-1);
        self.bound.attempted(&self.on, result);
        self.bound.attempt_seconds.record(took.as_secs_f64());
    }

    /// A delivery ended `age_ms` after its event.
    pub fn settled(&self, settled: Settled, age_ms: i64) {
        self.bound.settled(&self.on, settled);
        #[expect(
            clippy::cast_precision_loss,
            reason = "an age in milliseconds is below 2^52"
        )]
        self.bound.age_seconds.record(age_ms as f64 / 1_000.0);
    }

    /// A delivery was found settled in `results`.
    pub fn restored(&self) {
        self.on.restored.add(1, &self.labels);
    }

    /// `results` spoke of another delivery.
    pub fn mismatched(&self) {
        self.on.mismatches.add(1, &self.labels);
    }

    /// A record was put aside.
    pub fn dead_lettered(&self, reason: &'static str) {
        self.on
            .dead_letters
            .add(1, &self.with(&[KeyValue::new("reason", reason)]));
    }

    /// Deliveries were read into a window.
    pub fn admitted(&self, count: u64) {
        self.bound.admitted.add(count);
    }

    /// Deliveries were given back unsettled.
    pub fn returned(&self, count: u64) {
        self.on.returned.add(count, &self.labels);
    }

    /// A partition's part of the deliveries held; say its number with [`Share::set`].
    #[must_use]
    pub fn held(&self) -> Share {
        Share::new(self.on.held.clone(), self.labels.to_vec())
    }

    /// Deliveries went to the side lane.
    pub fn parked(&self, count: u64) {
        self.on.parked.add(count, &self.labels);
    }

    /// A sender was found to flood a partition.
    pub fn flooded(&self) {
        self.on.floods.add(1, &self.labels);
    }

    /// A partition's part of the deliveries in its side lane.
    #[must_use]
    pub fn in_lane(&self) -> Share {
        Share::new(self.on.in_lane.clone(), self.labels.to_vec())
    }

    /// Deliveries may not start before the day.
    pub fn held_by_night(&self, starts: u64) {
        self.on.held_by_night.add(starts, &self.labels);
    }

    /// A partition's part of the deliveries that a stop holds.
    #[must_use]
    pub fn stopped(&self) -> Share {
        Share::new(self.on.stopped.clone(), self.labels.to_vec())
    }

    /// Age of the oldest unsettled delivery of a partition. Say zero when there is none, and when
    /// the partition is given up.
    pub fn watermark_age(&self, partition: i32, age: Duration) {
        let labels = self.with(&[KeyValue::new("partition", i64::from(partition))]);
        self.on.watermark_age.record(age.as_secs_f64(), &labels);
    }

    /// What the time of a delivery that ended went into. Parts of zero length are left out.
    pub fn lateness(&self, platform: Platform, app: Option<&str>, lateness: Lateness) {
        self.bound
            .lateness(&self.on, &self.apps, platform, app, lateness);
    }

    /// An attempt waited for the limiter.
    pub fn limiter_wait(&self, took: Duration) {
        self.on
            .limiter_wait
            .record(took.as_secs_f64(), &self.labels);
    }

    /// What newly assigned partitions need was read.
    pub fn restore(&self, took: Duration, bytes: u64) {
        self.on
            .restore_seconds
            .record(took.as_secs_f64(), &self.labels);
        self.on.restore_bytes.add(bytes, &self.labels);
    }

    /// A partition could not go on and was given up.
    pub fn stalled(&self) {
        self.on.stalls.add(1, &self.labels);
    }

    /// The lease has not held for long.
    pub fn lapsed(&self) {
        self.on.lapses.add(1, &self.labels);
    }

    /// A partition has begun to stand still. Say it once per standstill.
    pub fn stands_still(&self, partition: i32, culprit: Culprit) {
        let labels = self.with(&[
            KeyValue::new("partition", i64::from(partition)),
            KeyValue::new("culprit", culprit.as_str()),
        ]);
        self.on.standstills.add(1, &labels);
    }

    /// The repeat guard forgot attempts before their time.
    pub fn guard_forgot(&self, attempts: u64) {
        if attempts > 0 {
            self.on.guard_forgot.add(attempts, &self.labels);
        }
    }
}

/// Handles of a control follower, built once.
#[derive(Debug, Clone)]
pub struct ControlMetrics {
    on: ControlInstruments,
    label: [KeyValue; 1],
}

impl ControlMetrics {
    /// Registers the instruments.
    #[must_use]
    pub fn new(metrics: &Metrics, channel: Channel) -> Self {
        Self {
            on: ControlInstruments::new(metrics),
            label: [KeyValue::new("channel", channel.as_str())],
        }
    }

    /// So many scopes are stopped.
    pub fn stops(&self, scopes: usize) {
        self.on.stops.record(scopes as u64, &self.label);
    }

    /// A control record means nothing here.
    pub fn unreadable(&self) {
        self.on.unreadable.add(1, &self.label);
    }
}

/// Handles of a channel, built once.
#[derive(Debug, Clone)]
pub struct ChannelMetrics {
    on: ChannelInstruments,
    label: [KeyValue; 1],
}

impl ChannelMetrics {
    /// Registers the instruments.
    #[must_use]
    pub fn new(metrics: &Metrics, channel: Channel) -> Self {
        Self {
            on: ChannelInstruments::new(metrics),
            label: [KeyValue::new("channel", channel.as_str())],
        }
    }

    /// So many attempts of bulk may be open.
    pub fn bulk_places(&self, attempts: usize) {
        self.on.bulk_places.record(attempts as u64, &self.label);
    }
}

#[cfg(test)]
mod tests;
