//! Dispatch of one channel as a service.

use std::sync::Arc;

use bongsu_channels::provider::Provider;
use bongsu_domain::{Channel, Class};
use bongsu_runtime::{Clock, Health, Metrics, Shutdown, Tasks};
use bongsu_schemas::{Codec, SchemaLookup, Topics};
use bongsu_stream::port::{Cluster, GroupOptions, Reset};
use tokio::sync::{Notify, Semaphore};

use crate::class_loop::{ClassLoop, Limits};
use crate::config::Settings;
use crate::error::DispatchError;
use crate::metrics::DispatchMetrics;
use crate::owner::Shared;

/// What dispatch works with.
#[derive(Clone)]
pub struct Resources {
    /// The log.
    pub cluster: Arc<dyn Cluster>,
    /// Topic names.
    pub topics: Topics,
    /// Reads deliveries, writes receipts.
    pub codec: Arc<Codec>,
    /// Finds schemas that are missing.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The channel to serve.
    pub channel: Channel,
    /// The way to its provider.
    pub provider: Arc<dyn Provider>,
    /// Time.
    pub clock: Clock,
    /// Instruments.
    pub metrics: Metrics,
    /// Readiness.
    pub health: Health,
    /// Names this process on receipts and requests; unique per process.
    pub worker_id: Arc<str>,
    /// Seed of the retry jitter.
    pub seed: u64,
}

/// Runs dispatch of one channel, both classes, until the shutdown's drain is done.
///
/// # Errors
/// [`DispatchError`]; the process should be restarted.
pub async fn run(
    settings: Settings,
    resources: Resources,
    shutdown: Shutdown,
) -> Result<(), DispatchError> {
    let component = format!("dispatch {}", resources.channel);
    resources
        .health
        .set(&component, Err("joining the group".to_owned()));
    let dead_letter_partitions = check_topics(&resources).await?;
    let permits = Arc::new(Semaphore::new(settings.max_in_flight));
    let mut loops = Tasks::new();
    for class in Class::ALL {
        let shared = shared(
            &settings,
            &resources,
            *class,
            &permits,
            dead_letter_partitions,
        )?;
        let consumer = resources.cluster.join(GroupOptions {
            group: resources.topics.dispatch_group(resources.channel),
            topics: vec![resources.topics.deliveries(resources.channel, *class)],
            reset: Reset::Earliest,
            session_timeout: settings.session_timeout.0,
            buffer_bytes: settings.fetch_buffer.0,
        })?;
        let limits = Limits {
            window_records: settings.window_records,
            window_bytes: settings.window_size.0,
            commit_interval: settings.commit_interval.0,
            drain_timeout: settings.drain_timeout.0,
        };
        let cluster = Arc::clone(&resources.cluster);
        let class_loop = ClassLoop::new(cluster, consumer, shared, limits);
        loops.spawn(class.as_str(), class_loop.run(shutdown.child()));
    }
    resources.health.set(&component, Ok(()));
    while let Some(ended) = loops.next().await {
        ended?;
    }
    Ok(())
}

fn shared(
    settings: &Settings,
    resources: &Resources,
    class: Class,
    permits: &Arc<Semaphore>,
    dead_letter_partitions: i32,
) -> Result<Arc<Shared>, DispatchError> {
    Ok(Arc::new(Shared {
        codec: Arc::clone(&resources.codec),
        schemas: Arc::clone(&resources.schemas),
        provider: Arc::clone(&resources.provider),
        producer: resources.cluster.producer(settings.receipt_linger.0)?,
        results: resources.topics.results(),
        dead_letters: (resources.topics.dead_letters(), dead_letter_partitions),
        permits: Arc::clone(permits),
        room: Arc::new(Notify::new()),
        clock: resources.clock,
        retry: settings.retry_policy(),
        attempt_timeout: settings.attempt_timeout.0,
        schema_patience: settings.schema_patience.0,
        worker_id: Arc::clone(&resources.worker_id),
        metrics: DispatchMetrics::new(&resources.metrics, resources.channel, class),
        seed: resources.seed,
    }))
}

/// Refuses to start on missing topics or on partition numbers that differ: a receipt lies in the
/// partition of its delivery. Gives the number of dead letter partitions.
async fn check_topics(resources: &Resources) -> Result<i32, DispatchError> {
    let topics = &resources.topics;
    let mut names: Vec<String> = Class::ALL
        .iter()
        .map(|class| topics.deliveries(resources.channel, *class).to_string())
        .collect();
    names.push(topics.results().to_string());
    let dead_letters = topics.dead_letters().to_string();
    let mut asked = names.clone();
    asked.push(dead_letters.clone());
    let described = resources.cluster.topics(asked).await?;
    let mut found = Vec::new();
    for name in &names {
        match described.get(name) {
            None => {
                return Err(DispatchError::Topics(format!(
                    "topic {name} does not exist"
                )));
            }
            Some(topic) => found.push((name, topic.partitions)),
        }
    }
    if let Some((first, n)) = found.first()
        && let Some((other, m)) = found.iter().find(|(_, m)| m != n)
    {
        return Err(DispatchError::Topics(format!(
            "{first} has {n} partitions and {other} has {m}; they must be equal"
        )));
    }
    match described.get(&dead_letters) {
        None => Err(DispatchError::Topics(format!(
            "topic {dead_letters} does not exist"
        ))),
        Some(topic) => Ok(topic.partitions),
    }
}
