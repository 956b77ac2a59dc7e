//! The side lane: where a key that waits long goes with its followers, so that nobody waits for it.
//!
//! A parked delivery is the original record in the lane topic (same partition number), with headers
//! that say where it came from and how far it had got. The lane record itself is the evidence of the
//! diversion: a successor that finds it counts the original offset as ended. A key comes back when
//! none of its parked deliveries is open any more.

use std::collections::HashMap;
use std::sync::Arc;

use bongsu_domain::DeliveryId;
use bongsu_policy::hashing::ByHash;
use bongsu_schemas::headers;
use bongsu_stream::port::{Headers, Outgoing, Record};

/// How far a delivery had got when it was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Attempts made.
    pub attempts: u32,
    /// The next attempt is due then; 0 for at once.
    pub not_before: i64,
    /// Whether an earlier attempt may have arrived.
    pub uncertain: bool,
}

/// What the headers of a lane record say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parked {
    /// Its offset in the deliveries topic.
    pub origin: i64,
    /// Its order key.
    pub key: u64,
    /// Eight bytes of its delivery id.
    pub tag: u64,
    /// How far it had got.
    pub progress: Progress,
    /// The epoch of the owner that parked it; none where a version without epochs did.
    pub epoch: Option<i64>,
}

/// Reads the headers of a lane record; none when it is not one of ours.
#[must_use]
pub fn parked_of(record: &Record) -> Option<Parked> {
    let h = &record.headers;
    Some(Parked {
        origin: h.text(headers::ORIGIN_OFFSET)?.parse().ok()?,
        key: u64::from_str_radix(h.text(headers::ORDER_KEY)?, 16).ok()?,
        tag: DeliveryId::parse(h.text(headers::DELIVERY_ID)?)?.tag(),
        progress: Progress {
            attempts: h.text(headers::ATTEMPTS)?.parse().ok()?,
            not_before: h.text(headers::NOT_BEFORE)?.parse().ok()?,
            uncertain: h.get(headers::UNCERTAIN) == Some(b"1"),
        },
        epoch: h.text(headers::EPOCH).and_then(|text| text.parse().ok()),
    })
}

/// The lane record of a delivery, parked by the owner of an epoch.
#[must_use]
pub fn lane_record(
    lanes: &Arc<str>,
    original: &Record,
    id: DeliveryId,
    (key, progress): (u64, Progress),
    epoch: i64,
) -> Outgoing {
    let mut kept = Headers(
        original
            .headers
            .0
            .iter()
            .filter(|(name, _)| name.as_str() != headers::DELIVERY_ID)
            .cloned()
            .collect(),
    );
    kept = kept
        .with(headers::DELIVERY_ID, id.to_string())
        .with(headers::ORIGIN_OFFSET, original.offset.to_string())
        .with(headers::ORDER_KEY, format!("{key:016x}"))
        .with(headers::ATTEMPTS, progress.attempts.to_string())
        .with(headers::NOT_BEFORE, progress.not_before.to_string())
        .with(headers::EPOCH, epoch.to_string());
    if progress.uncertain {
        kept = kept.with(headers::UNCERTAIN, "1");
    }
    Outgoing {
        topic: Arc::clone(lanes),
        partition: original.partition,
        key: original.key.clone(),
        value: original.value.clone(),
        headers: kept,
    }
}

/// Which keys are in the lane, and how many open deliveries each has there.
#[derive(Debug, Default)]
pub struct Keys(HashMap<u64, u32, ByHash>);

impl Keys {
    /// As restored.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (u64, u32)>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// Whether deliveries of the key go to the lane.
    #[must_use]
    pub fn contains(&self, key: u64) -> bool {
        !self.0.is_empty() && self.0.contains_key(&key)
    }

    /// One more is on its way to the lane.
    pub fn park(&mut self, key: u64) {
        *self.0.entry(key).or_default() += 1;
    }

    /// One has ended there; true when it was the last and the key is back.
    pub fn end(&mut self, key: u64) -> bool {
        let Some(open) = self.0.get_mut(&key) else {
            return false;
        };
        *open = open.saturating_sub(1);
        let back = *open == 0;
        if back {
            self.0.remove(&key);
        }
        back
    }

    /// Keys in the lane.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the lane is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Deliveries parked and not ended.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.0.values().map(|n| u64::from(*n)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_delivery_says_where_it_came_from_and_how_far_it_got() {
        let id = DeliveryId::parse("543ca93d-b1f3-326a-271e-8b06ef78cd5d").unwrap();
        let original = Record {
            topic: "deliveries".into(),
            partition: 3,
            offset: 77,
            timestamp: 5,
            key: Some("shop".into()),
            value: Some("bytes".into()),
            headers: Headers::default().with(headers::TRACEPARENT, "00-1-2-01"),
        };
        let progress = Progress {
            attempts: 4,
            not_before: 1_000,
            uncertain: true,
        };
        let out = lane_record(&"lanes".into(), &original, id, (0xabc, progress), 12);
        assert_eq!((out.partition, &out.value), (3, &original.value));
        assert_eq!(out.headers.text(headers::TRACEPARENT), Some("00-1-2-01"));
        let record = Record {
            topic: out.topic,
            headers: out.headers,
            ..original
        };
        let expected = Parked {
            origin: 77,
            key: 0xabc,
            tag: id.tag(),
            progress,
            epoch: Some(12),
        };
        assert_eq!(parked_of(&record), Some(expected));
    }

    #[test]
    fn a_key_is_back_when_none_of_its_parked_deliveries_is_open() {
        let mut keys = Keys::new([(1, 1)]);
        keys.park(1);
        assert!(!keys.end(1));
        assert!(keys.contains(1));
        assert!(keys.end(1));
        assert!(!keys.contains(1) && keys.open() == 0);
    }
}
