//! Suppressions as fanout and dispatch hold them: the compacted `suppressions` topic, read whole
//! before any work starts and followed from there.
//!
//! One [`Suppressed`] per service; clones share it. While Kafka cannot be reached the last known
//! state holds.

pub mod admin;
pub mod metrics;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bongsu_domain::{Address, Channel, Outcome, Settled};
use bongsu_policy::Suppressions;
use bongsu_runtime::Metrics;
use bongsu_schemas::suppression::{
    SuppressionChange, SuppressionFault, learn_suppression, read_suppression,
};
use bongsu_schemas::{Codec, SchemaLookup};
use bongsu_stream::compacted::{Table, TableFollower};
use bongsu_stream::port::{Cluster, Record};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::metrics::ListMetrics;

/// What a list is read from.
#[derive(Clone)]
pub struct Source {
    /// The log.
    pub cluster: Arc<dyn Cluster>,
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Reads the records.
    pub codec: Arc<Codec>,
    /// Finds schemas that are missing.
    pub schemas: Arc<dyn SchemaLookup>,
    /// How long a schema may stay unknown.
    pub schema_patience: Duration,
    /// Keep only these of this channel; all without one.
    pub channel: Option<Channel>,
    /// Instruments.
    pub metrics: Metrics,
}

struct List {
    source: Source,
    metrics: ListMetrics,
    held: RwLock<Suppressions>,
    count: AtomicUsize,
    version: watch::Sender<u64>,
}

/// What must not be sent to. Asking while nothing is suppressed costs an atomic load.
#[derive(Clone)]
pub struct Suppressed {
    list: Option<Arc<List>>,
    changed: watch::Receiver<u64>,
}

impl std::fmt::Debug for Suppressed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suppressed").finish_non_exhaustive()
    }
}

impl Suppressed {
    /// A list that nothing is in, for what runs without the topic.
    #[must_use]
    pub fn nothing() -> Self {
        let (_, changed) = watch::channel(0);
        Self {
            list: None,
            changed,
        }
    }

    /// How a delivery to an address ends that must not be sent; none when it may. Ask right before
    /// each attempt and each retry.
    #[must_use]
    pub fn decide(&self, address: &Address) -> Option<Settled> {
        let list = self.list.as_ref()?;
        if list.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let held = list.held.read().unwrap_or_else(PoisonError::into_inner);
        held.decide(address).map(|reason| Settled {
            outcome: Outcome::Suppressed,
            reason,
        })
    }

    /// Waits until something has changed; for ever when nobody follows any more. Cancel safe.
    pub async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads the topic to its end, until it works, and gives the list and who keeps it; none when the
/// topic does not exist. Cancel safe.
pub async fn start(source: Source, service: &'static str) -> Option<(Suppressed, TableFollower)> {
    let (version, changed) = watch::channel(0);
    let list = Arc::new(List {
        metrics: ListMetrics::new(&source.metrics, service, source.channel),
        held: RwLock::default(),
        count: AtomicUsize::new(0),
        version,
        source: source.clone(),
    });
    let table = Arc::clone(&list);
    let follower = TableFollower::start(source.cluster, source.topic, table).await?;
    let suppressed = Suppressed {
        list: Some(list),
        changed,
    };
    Some((suppressed, follower))
}

impl List {
    fn apply(&self, change: SuppressionChange) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            SuppressionChange::Keep(suppression) => {
                if self.source.channel.is_none_or(|c| c == suppression.channel) {
                    held.apply(&suppression);
                }
            }
            SuppressionChange::Forget(key) => held.forget(key),
        }
        self.count.store(held.len(), Ordering::Relaxed);
    }

    fn unreadable(&self, record: &Record, reason: &str) {
        self.metrics.unreadable();
        tracing::error!(
            topic = %record.topic, partition = record.partition, offset = record.offset, reason,
            "a suppression means nothing here and is passed over: what was held of its address \
             before still is; is this version older than its writer?"
        );
    }
}

impl Table for List {
    fn take(&self, record: &Record) -> bool {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        match read_suppression(&self.source.codec, key, value) {
            Ok(change) => self.apply(change),
            Err(SuppressionFault::UnknownSchema(_)) => return false,
            Err(SuppressionFault::Unreadable(why)) => self.unreadable(record, &why),
        }
        true
    }

    fn take_later(&self, records: Vec<Record>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Source {
                codec,
                schemas,
                schema_patience,
                ..
            } = &self.source;
            for record in &records {
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                let lookup = schemas.as_ref();
                match learn_suppression(codec, lookup, *schema_patience, key, value).await {
                    Ok(change) => self.apply(change),
                    Err(why) => self.unreadable(record, &why),
                }
            }
        })
    }

    fn taken(&self) {
        self.metrics.held(self.count.load(Ordering::Relaxed));
        self.version.send_modify(|version| *version += 1);
    }
}
