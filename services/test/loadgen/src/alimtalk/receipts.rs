//! What `results` says of a run, read once at its end.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bongsu_domain::DeliveryId;
use bongsu_schemas::{Codec, Receipt, Topics, headers};
use bongsu_stream::port::{Cluster, From, Isolation, Record, TailRange, TopicPartition};
use hdrhistogram::Histogram;

use super::PARTITIONS;

/// Receipts of one run.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// Deliveries with exactly one outcome, `accepted`.
    pub(super) accepted: usize,
    /// Deliveries whose reports all say `delivered`.
    pub(super) reported: usize,
    /// Deliveries with reports of more than one id.
    pub(super) doubled: usize,
    /// Records in `reports`: no delivery was found.
    pub(super) unmapped: u64,
    /// From a report's time to its record, 99 of 100.
    pub(super) p99_ms: f64,
}

/// What is said of one delivery.
#[derive(Debug, Default)]
struct Said {
    outcomes: u32,
    accepted: u32,
    delivered: u32,
    reports: u32,
    ids: HashSet<u64>,
}

struct Reading {
    codec: Codec,
    said: HashMap<DeliveryId, Said>,
    late: Histogram<u64>,
    fault: Option<String>,
}

impl Receipts {
    pub(super) async fn read(
        cluster: &dyn Cluster,
        deliveries: impl Iterator<Item = DeliveryId>,
    ) -> anyhow::Result<Self> {
        let topics = Topics::default();
        let reading = Arc::new(Mutex::new(Reading {
            codec: Codec::default(),
            said: deliveries.map(|id| (id, Said::default())).collect(),
            late: Histogram::new(3)?,
            fault: None,
        }));
        let sink = Arc::clone(&reading);
        visit(cluster, &topics.results(), move |record| {
            let mut reading = sink.lock().unwrap_or_else(PoisonError::into_inner);
            reading.see(&record);
        })
        .await?;
        let unmapped = Arc::new(Mutex::new(0));
        let sink = Arc::clone(&unmapped);
        visit(cluster, &topics.reports(), move |_| {
            *sink.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        })
        .await?;
        let unmapped = *unmapped.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
        anyhow::ensure!(reading.fault.is_none(), "results: {:?}", reading.fault);
        Ok(reading.sum(unmapped))
    }
}

async fn visit(
    cluster: &dyn Cluster,
    topic: &Arc<str>,
    each: impl FnMut(Record) + Send + 'static,
) -> anyhow::Result<()> {
    let ranges = (0..PARTITIONS).map(|p| TailRange {
        partition: TopicPartition::new(Arc::clone(topic), p),
        from: From::Beginning,
        until: None,
    });
    let read = cluster.read_tails(ranges.collect(), Isolation::Committed, Box::new(each));
    read.await.with_context(|| topic.to_string()).map(drop)
}

impl Reading {
    fn see(&mut self, record: &Record) {
        let value = record.value.as_deref().unwrap_or_default();
        if !matches!(
            record.headers.get(headers::KIND),
            Some(b"outcome" | b"report")
        ) {
            return;
        }
        let receipt = match self.codec.decode::<Receipt>(value) {
            Ok(receipt) => receipt,
            Err(error) => {
                self.fault = Some(error.to_string());
                return;
            }
        };
        let id = receipt.delivery_id.as_deref().and_then(DeliveryId::parse);
        let Some(said) = id.and_then(|id| self.said.get_mut(&id)) else {
            self.fault = Some(format!(
                "a receipt of a stranger: {:?}",
                receipt.delivery_id
            ));
            return;
        };
        if receipt.kind == "report" {
            said.reports += 1;
            said.delivered += u32::from(receipt.outcome == "delivered");
            said.ids.insert(hash(&receipt.receipt_id));
            let late = record.timestamp.saturating_sub(receipt.at.0);
            self.late.saturating_record(late.unsigned_abs());
        } else {
            said.outcomes += 1;
            said.accepted += u32::from(receipt.outcome == "accepted");
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a benchmark")]
    fn sum(&self, unmapped: u64) -> Receipts {
        let count = |holds: fn(&Said) -> bool| self.said.values().filter(|s| holds(s)).count();
        Receipts {
            accepted: count(|s| s.outcomes == 1 && s.accepted == 1),
            reported: count(|s| s.reports > 0 && s.delivered == s.reports),
            doubled: count(|s| s.ids.len() > 1),
            unmapped,
            p99_ms: self.late.value_at_quantile(0.99) as f64,
        }
    }
}

fn hash(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
