//! The repeat guard in dispatch: its settings, the guard of one partition, and how it is restored
//! from `results`.
//!
//! The owner asks [`Guard::check`] right before the **first** attempt of a delivery. A successor
//! restores the guard with [`read_started`], before its first attempt.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration as Span;

use bongsu_domain::{
    AddressId, Channel, ContentHash, Delivery, Outcome, Reason, Settled, Timestamp,
};
use bongsu_policy::repeat_guard::COPY_BYTES;
use bongsu_policy::{Copied, RepeatGuard, RepeatKey, RepeatLimit, Verdict};
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{ByteSize, Duration, settings};
use bongsu_schemas::{Codec, DecodeError, Receipt, SchemaLookup, headers, learn_missing};
use bongsu_stream::error::ConsumeError;
use bongsu_stream::port::{Cluster, From, Isolation, Record, TailRange, TopicPartition};

use crate::metrics::DispatchMetrics;

/// What a delivery that is held back ends with.
const HELD_BACK: Settled = Settled {
    outcome: Outcome::Suppressed,
    reason: Reason::Repeat,
};

settings! {
    /// Holding back the same content to one address from one sender, above a number of copies within
    /// a window: a publisher loops.
    pub struct GuardSettings {
        /// Copies that may be sent within the window.
        pub copies: u32 = 3,
        /// Width of the sliding window.
        pub window: Duration = Duration::secs(600),
        /// Channels that are guarded; without it, those that cost money per delivery. `[]` guards
        /// none.
        pub channels: Option<Vec<Channel>> = None,
        /// Memory of one partition's guard, at about 96 bytes per delivery sent within the window.
        /// When it is full the oldest are forgotten early, and counted.
        pub memory: ByteSize = ByteSize::mib(6),
    }
}

impl GuardSettings {
    /// Checks across fields; `section` prefixes the keys.
    #[must_use]
    pub fn complaints(&self, section: &str) -> Vec<Complaint> {
        let least = ByteSize(COPY_BYTES.saturating_mul(self.copies as usize));
        [
            ("copies", self.copies == 0, "must be at least 1".to_owned()),
            (
                "window",
                self.window < Duration::secs(1),
                "must be at least 1s".to_owned(),
            ),
            (
                "memory",
                self.memory < least,
                format!("must hold the copies at least ({least})"),
            ),
        ]
        .into_iter()
        .filter(|(_, wrong, _)| *wrong)
        .map(|(key, _, message)| Complaint::new(format!("{section}.{key}"), message))
        .collect()
    }

    /// The limit for a channel; none when it is not guarded.
    #[must_use]
    pub fn limit(&self, channel: Channel) -> Option<RepeatLimit> {
        let guarded = match &self.channels {
            Some(channels) => channels.contains(&channel),
            None => channel.is_paid(),
        };
        guarded.then(|| RepeatLimit {
            copies: self.copies,
            window_ms: i64::try_from(self.window.0.as_millis()).unwrap_or(i64::MAX),
            max_copies: self.memory.0 / COPY_BYTES,
        })
    }
}

/// The guard of one partition.
#[derive(Debug)]
pub struct Guard {
    guard: RepeatGuard,
    metrics: DispatchMetrics,
    forgotten: u64,
}

impl Guard {
    /// A guard that knows what started before it ([`read_started`]; nothing at the very first
    /// start).
    #[must_use]
    pub fn new(
        limit: RepeatLimit,
        started: Vec<Copied>,
        now: Timestamp,
        metrics: DispatchMetrics,
    ) -> Self {
        let guard = RepeatGuard::restore(limit, started, now.0);
        let mut guard = Self {
            guard,
            metrics,
            forgotten: 0,
        };
        guard.count();
        guard
    }

    /// Asks for a delivery whose first attempt is about to start: `None` lets it go and counts it as
    /// started; else it ends with what is given, without an attempt. Not to be asked for retries,
    /// nor for an attempt that is made again because the provider did not process it.
    pub fn check(&mut self, delivery: &Delivery, now: Timestamp) -> Option<Settled> {
        let key = RepeatKey::of_delivery(delivery);
        let verdict = self.guard.decide(key, delivery.content_hash, now.0);
        self.count();
        match verdict {
            Verdict::Allow => None,
            Verdict::Repeat { copies, first } => {
                if first {
                    tracing::error!(
                        sender = delivery.sender, event.id = delivery.event_id,
                        address.id = %delivery.address.id, channel = %delivery.address.channel,
                        copies, "the same was said too often to one address and is held back: does \
                        its publisher loop?"
                    );
                }
                Some(HELD_BACK)
            }
        }
    }

    fn count(&mut self) {
        let forgotten = self.guard.forgotten_early();
        self.metrics.guard_forgot(forgotten - self.forgotten);
        self.forgotten = forgotten;
    }
}

/// Where the receipts are from which guards are restored.
pub struct StartedSource<'a> {
    /// The log.
    pub cluster: &'a dyn Cluster,
    /// The results topic.
    pub results: Arc<str>,
    /// The deliveries topic whose receipts count.
    pub deliveries: Arc<str>,
    /// The side lanes, whose receipts count as well.
    pub lanes: Arc<str>,
    /// Reads receipts.
    pub codec: &'a Codec,
    /// Finds schemas that are missing.
    pub schemas: &'a dyn SchemaLookup,
    /// How long a schema may stay unknown.
    pub schema_patience: Span,
}

/// What was sent since `since` from these partitions, as the receipts tell it: the first attempts
/// that their guards must know. One read for all partitions that are newly assigned; memory: the
/// receipts of the deliveries topic since then.
///
/// A delivery in flight at a crash has no receipt: it is asked for again when it is sent again, and
/// counts from then. Cancel safe.
///
/// # Errors
/// When `results` cannot be read; nothing of the partitions may start before it could.
pub async fn read_started(
    source: &StartedSource<'_>,
    partitions: &[i32],
    since: Timestamp,
) -> Result<BTreeMap<i32, Vec<Copied>>, ConsumeError> {
    let ranges = partitions
        .iter()
        .map(|p| TailRange {
            partition: TopicPartition::new(Arc::clone(&source.results), *p),
            from: From::Time(since.0),
            until: None,
        })
        .collect();
    let found: Arc<Mutex<Vec<Record>>> = Arc::default();
    let sink = Arc::clone(&found);
    let (deliveries, lanes) = (Arc::clone(&source.deliveries), Arc::clone(&source.lanes));
    let each = Box::new(move |record: Record| {
        let h = &record.headers;
        let ours = h.get(headers::KIND) == Some(b"outcome")
            && [&deliveries, &lanes]
                .iter()
                .any(|topic| h.get(headers::SOURCE_TOPIC) == Some(topic.as_bytes()));
        if ours {
            sink.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(record);
        }
    });
    // Receipts are written outside of transactions: an open one must not hide them.
    source
        .cluster
        .read_tails(ranges, Isolation::Uncommitted, each)
        .await?;
    let records = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    let mut started: BTreeMap<i32, Vec<Copied>> = BTreeMap::new();
    let mut last_receipt = BTreeMap::new();
    for record in &records {
        match decode(source, record).await {
            Ok(receipt) => {
                // After a crash one outcome may have been written twice.
                if let Some(copy) = copy_of(&receipt) {
                    last_receipt.insert((record.partition, receipt.receipt_id), copy);
                }
            }
            Err(reason) => tracing::error!(
                topic = %record.topic, partition = record.partition, offset = record.offset, reason,
                "a receipt cannot be read: the repeat guard does not know its delivery"
            ),
        }
    }
    for ((partition, _), copy) in last_receipt {
        started.entry(partition).or_default().push(copy);
    }
    Ok(started)
}

async fn decode(source: &StartedSource<'_>, record: &Record) -> Result<Receipt, String> {
    let value = record.value.as_deref().unwrap_or_default();
    let mut decoded = source.codec.decode(value);
    if let Err(DecodeError::UnknownSchema(reference)) = decoded {
        let patience = source.schema_patience;
        learn_missing(source.codec, source.schemas, reference, patience).await?;
        decoded = source.codec.decode(value);
    }
    decoded.map_err(|e| e.to_string())
}

/// The first attempt that a receipt tells of; none when there was no attempt.
#[must_use]
pub fn copy_of(receipt: &Receipt) -> Option<Copied> {
    if receipt.attempts < 1 {
        return None;
    }
    let address = AddressId(receipt.address_id.clone()?);
    Some(Copied {
        key: RepeatKey::of(&receipt.sender, &address),
        content: ContentHash::parse(&receipt.content_hash)?,
        at: Timestamp::from(receipt.at).0,
    })
}

#[cfg(test)]
mod tests;
