//! What a successor knows: the committed offset, and the receipts acknowledged above it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_domain::DeliveryId;
use bongsu_policy::Position;
use bongsu_schemas::headers;
use bongsu_stream::port::{Cluster, Committed, From, Isolation, Record, TailRange, TopicPartition};

/// Pause before the tail is read again after a failure.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// What one partition starts with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// The next offset to be sent.
    pub committed: i64,
    /// Per settled offset at or above it: tag of the delivery and results offset.
    pub settled: BTreeMap<i64, (u64, i64)>,
    /// The end of `results` when it was read.
    pub results_end: i64,
}

/// Writes the commit of a position.
#[must_use]
pub fn to_committed(position: Position) -> Committed {
    Committed {
        offset: position.watermark,
        metadata: format!("b1;r={}", position.results_floor),
    }
}

/// Reads the results offset from commit metadata; `None` when there is none or it is damaged, and
/// then the whole of `results` is read.
#[must_use]
pub fn results_floor(metadata: &str) -> Option<i64> {
    metadata
        .strip_prefix("b1;r=")?
        .split(';')
        .next()?
        .parse()
        .ok()
        .filter(|r| *r >= 0)
}

/// Reads the tails of `results` for newly assigned partitions, until it works.
pub async fn restore(
    cluster: Arc<dyn Cluster>,
    results: Arc<str>,
    assigned: Vec<(TopicPartition, Option<Committed>)>,
) -> BTreeMap<TopicPartition, Restored> {
    loop {
        match read(cluster.as_ref(), &results, &assigned).await {
            Ok(restored) => return restored,
            Err(error) => {
                tracing::error!(%error, "the tail of results cannot be read; nothing is sent until it can");
                tokio::time::sleep(READ_AGAIN).await;
            }
        }
    }
}

/// Per settled offset: tag of the delivery and results offset.
type Tail = BTreeMap<i64, (u64, i64)>;

async fn read(
    cluster: &dyn Cluster,
    results: &Arc<str>,
    assigned: &[(TopicPartition, Option<Committed>)],
) -> Result<BTreeMap<TopicPartition, Restored>, bongsu_stream::error::ConsumeError> {
    let ranges = assigned
        .iter()
        .map(|(tp, committed)| TailRange {
            partition: TopicPartition::new(Arc::clone(results), tp.partition),
            from: committed
                .as_ref()
                .and_then(|c| results_floor(&c.metadata))
                .map_or(From::Beginning, From::Offset),
            until: None,
        })
        .collect();
    let Some(topic) = assigned.first().map(|(tp, _)| Arc::clone(&tp.topic)) else {
        return Ok(BTreeMap::new());
    };
    let found: Arc<Mutex<BTreeMap<i32, Tail>>> = Arc::default();
    let sink = Arc::clone(&found);
    let each = Box::new(move |record: Record| {
        if let Some((offset, tag)) = outcome_of(&record, &topic) {
            let mut found = sink.lock().unwrap_or_else(PoisonError::into_inner);
            let partition = found.entry(record.partition).or_default();
            // The last one stands: an earlier one of another delivery is of a topic made anew since,
            // and believing it would send this one again at every restart.
            partition.insert(offset, (tag, record.offset));
        }
    });
    // Receipts are written outside of transactions: an open transaction of fanout must not hide them.
    let ends = cluster
        .read_tails(ranges, Isolation::Uncommitted, each)
        .await?;
    let mut found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(assigned
        .iter()
        .map(|(tp, committed)| {
            let end = ends.get(&TopicPartition::new(Arc::clone(results), tp.partition));
            let restored = Restored {
                committed: committed.as_ref().map_or(0, |c| c.offset),
                settled: found.remove(&tp.partition).unwrap_or_default(),
                results_end: end.copied().unwrap_or(0),
            };
            (tp.clone(), restored)
        })
        .collect())
}

/// The offset and tag of the delivery that a record of `results` ended, when it is an outcome of
/// `topic`.
fn outcome_of(record: &Record, topic: &str) -> Option<(i64, u64)> {
    let h = &record.headers;
    if h.get(headers::KIND)? != b"outcome" || h.get(headers::SOURCE_TOPIC)? != topic.as_bytes() {
        return None;
    }
    let offset = h.text(headers::SOURCE_OFFSET)?.parse().ok()?;
    let tag = DeliveryId::parse(h.text(headers::DELIVERY_ID)?)?.tag();
    Some((offset, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_metadata_reads_back_and_damage_means_everything_is_read() {
        let committed = to_committed(Position {
            watermark: 7,
            results_floor: 42,
        });
        assert_eq!(committed.offset, 7);
        assert_eq!(results_floor(&committed.metadata), Some(42));
        for damaged in ["", "b1;r=", "b1;r=-4", "b2;r=4", "x"] {
            assert_eq!(results_floor(damaged), None, "{damaged}");
        }
        assert_eq!(results_floor("b1;r=5;later=1"), Some(5));
    }

    #[tokio::test]
    async fn of_two_receipts_at_one_offset_the_later_is_believed() {
        use bongsu_stream::local::LocalCluster;
        use bongsu_stream::port::{Headers, Outgoing, TopicSpec};

        let log = LocalCluster::default();
        let spec = TopicSpec {
            name: "results".to_owned(),
            partitions: 1,
            replication: 1,
            settings: BTreeMap::new(),
        };
        log.create_topic(spec).await.unwrap();
        let producer = log.producer(Duration::ZERO).unwrap();
        // The first is of a delivery that lay there before the topic was made anew.
        let ids = [
            "543ca93d-b1f3-326a-271e-8b06ef78cd5d",
            "643ca93d-b1f3-326a-271e-8b06ef78cd5d",
        ]
        .map(|id| DeliveryId::parse(id).unwrap());
        for id in ids {
            let headers = Headers::default()
                .with(headers::KIND, "outcome")
                .with(headers::SOURCE_TOPIC, "deliveries")
                .with(headers::SOURCE_OFFSET, "5")
                .with(headers::DELIVERY_ID, id.to_string());
            let record = Outgoing {
                topic: "results".into(),
                partition: 0,
                key: None,
                value: None,
                headers,
            };
            producer.send(record).await.unwrap();
        }
        let tp = TopicPartition::new("deliveries", 0);
        let restored = restore(Arc::new(log), "results".into(), vec![(tp.clone(), None)]).await;
        assert_eq!(
            restored[&tp].settled,
            BTreeMap::from([(5, (ids[1].tag(), 1))])
        );
    }
}
