//! The ledger as a service.

use std::sync::Arc;
use std::time::Duration;

use bongsu_runtime::{Clock, Health, Metrics, Shutdown, Tasks};
use bongsu_schemas::{Codec, SchemaLookup, Topics};
use bongsu_store::LedgerStore;
use bongsu_stream::compacted::TableFollower;
use bongsu_stream::port::{Cluster, GroupOptions, Reset};

use crate::config::Settings;
use crate::error::LedgerError;
use crate::hygiene::{Hygiene, Known};
use crate::metrics::{HygieneMetrics, LedgerMetrics};
use crate::reports::Mapper;
use crate::schemas::Schemas;
use crate::writer::{Beneath, Writer};

/// The name under which the ledger speaks of its health and on dead letters.
pub(crate) const SERVICE: &str = "ledger";

/// Dead letters are few: no need to wait for company.
pub(crate) const LINGER: Duration = Duration::from_millis(5);

/// What the ledger works with.
#[derive(Clone)]
pub struct Resources {
    /// The log.
    pub cluster: Arc<dyn Cluster>,
    /// Topic names.
    pub topics: Topics,
    /// Reads receipts.
    pub codec: Arc<Codec>,
    /// Finds schemas that are missing.
    pub schemas: Arc<dyn SchemaLookup>,
    /// Where receipts are written.
    pub store: Arc<dyn LedgerStore>,
    /// Time.
    pub clock: Clock,
    /// Instruments.
    pub metrics: Metrics,
    /// Readiness.
    pub health: Health,
}

/// Runs the ledger until the shutdown's drain is done.
///
/// # Errors
/// [`LedgerError`]; the process should be restarted.
pub async fn run(
    settings: Settings,
    resources: Resources,
    shutdown: Shutdown,
) -> Result<(), LedgerError> {
    resources
        .health
        .set(SERVICE, Err("joining the group".to_owned()));
    let letters = check_topics(&resources).await?;
    let hygiene = if settings.hygiene.enabled {
        let begun = hygiene(&settings, &resources);
        let Some(begun) = (tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            begun = begun => begun?,
        }) else {
            let topic = resources.topics.suppressions().to_string();
            return Err(LedgerError::MissingTopic(topic));
        };
        Some(begun)
    } else {
        None
    };
    let consumer = resources.cluster.join(GroupOptions {
        group: resources.topics.ledger_group(),
        topics: vec![resources.topics.results()],
        reset: Reset::Earliest,
        session_timeout: settings.session_timeout.0,
        buffer_bytes: settings.fetch_buffer.0,
    })?;
    let metrics = LedgerMetrics::new(&resources.metrics);
    let schemas = Schemas::new(
        resources.codec.clone(),
        resources.schemas.clone(),
        settings.schema_patience.0,
    );
    let mut watch = Tasks::new();
    let hygiene = hygiene.map(|(hygiene, follower)| {
        keep_suppressions(&mut watch, &hygiene, follower, Arc::clone(&resources.store));
        hygiene
    });
    let beneath = Beneath {
        hygiene,
        producer: resources.cluster.producer(LINGER)?,
        dead_letter_partitions: letters,
        metrics: metrics.clone(),
        settings: settings.clone(),
        resources: resources.clone(),
    };
    let mut mapping = Tasks::new();
    if let Some(mapper) = Mapper::join(&settings, &resources).await? {
        mapping.spawn("reports", mapper.run(shutdown.clone()));
    }
    watch.spawn("ledger lag", async move {
        watch_lag(resources, metrics, settings.lag_interval.0).await;
        Ok::<(), std::convert::Infallible>(())
    });
    let writer = Writer::new(beneath, schemas, consumer);
    tokio::select! {
        // None is polled again after another has ended.
        biased;
        ended = writer.run(shutdown) => ended?,
        died = watch.next() => return match died {
            Some(Err(died)) => Err(died.into()),
            Some(Ok(_)) | None => Ok(()),
        },
        // One that has left its group at the end is waited for below.
        Some(Err(died)) = mapping.next() => return Err(died.into()),
    }
    Ok(mapping.join().await?)
}

/// Follows the topic of suppressions, and keeps its table in the store.
fn keep_suppressions(
    watch: &mut Tasks,
    hygiene: &Hygiene,
    follower: TableFollower,
    store: Arc<dyn LedgerStore>,
) {
    let known = Arc::clone(&hygiene.known);
    watch.spawn("suppressions", async move {
        tokio::select! {
            () = follower.follow() => {}
            () = known.keep(store) => {}
        }
        Ok::<(), std::convert::Infallible>(())
    });
}

/// Hygiene with the topic read whole, and who follows it; none when there is no such topic.
async fn hygiene(
    settings: &Settings,
    resources: &Resources,
) -> Result<Option<(Hygiene, TableFollower)>, LedgerError> {
    let metrics = HygieneMetrics::new(&resources.metrics);
    let topic = resources.topics.suppressions();
    let known = Arc::new(Known::new(
        Arc::clone(&resources.codec),
        Arc::clone(&resources.schemas),
        settings.schema_patience.0,
        metrics.clone(),
    ));
    let table = Arc::clone(&known);
    let cluster = Arc::clone(&resources.cluster);
    let Some(follower) = TableFollower::start(cluster, Arc::clone(&topic), table).await else {
        return Ok(None);
    };
    let producer = resources.cluster.producer(LINGER)?;
    let hygiene = Hygiene::new(&settings.hygiene, known, producer, topic, metrics);
    Ok(Some((hygiene, follower)))
}

/// The topics must be there; gives the number of partitions of the dead letters.
async fn check_topics(resources: &Resources) -> Result<i32, LedgerError> {
    let results = resources.topics.results().to_string();
    let letters = resources.topics.dead_letters().to_string();
    let wanted = vec![results.clone(), letters.clone()];
    let found = resources.cluster.topics(wanted).await?;
    if !found.contains_key(&results) {
        return Err(LedgerError::MissingTopic(results));
    }
    match found.get(&letters) {
        Some(description) => Ok(description.partitions.max(1)),
        None => Err(LedgerError::MissingTopic(letters)),
    }
}

async fn watch_lag(resources: Resources, metrics: LedgerMetrics, interval: Duration) {
    let group = resources.topics.ledger_group();
    let results = resources.topics.results().to_string();
    loop {
        tokio::time::sleep(interval).await;
        match resources.cluster.lag(&group, vec![results.clone()]).await {
            Ok(partitions) => {
                let behind = |p: &bongsu_stream::port::PartitionLag| {
                    u64::try_from(p.end - p.committed.unwrap_or(0)).unwrap_or(0)
                };
                metrics.lags(partitions.iter().map(behind).sum());
            }
            Err(error) => tracing::debug!(%error, "the lag cannot be measured"),
        }
    }
}
