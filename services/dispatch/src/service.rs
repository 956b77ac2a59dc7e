//! Dispatch of one channel as a service.

use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::provider::Provider;
use bongsu_domain::{Channel, Class};
use bongsu_policy::{Nights, Rules};
use bongsu_runtime::{Clock, Health, Metrics, Shutdown, Tasks};
use bongsu_schemas::{Codec, SchemaLookup, Topics};
use bongsu_stream::port::{Cluster, GroupOptions, Producer, Reset};
use bongsu_suppressions::Suppressed;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, Semaphore};

use crate::class_loop::{ClassLoop, Ended, Limits};
use crate::config::Settings;
use crate::control::{self, ControlSource, StopSwitch};
use crate::error::DispatchError;
use crate::lease::Lease;
use crate::metrics::{ChannelMetrics, DispatchMetrics};
use crate::owner::{Budget, LaneBudget, Permits, Places, ReadAhead, Shared};
use crate::pacing::Pacing;
use crate::pacing::exchange::Exchange;
use crate::restore::Sources;
use crate::yielding::{BulkPlaces, Starts};

/// The key of the session timeout, in complaints.
const SESSION: &str = "dispatch.session_timeout";

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
    /// What law and providers ask of advertising.
    pub rules: Arc<Rules>,
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
    let topics = check_topics(&resources).await?;
    let settings = with_real_session(settings, &resources).await?;
    let (switch, follower) = tokio::select! {
        biased;
        () = shutdown.requested() => return Ok(()),
        started = control::start(ControlSource::of(&resources, &settings)) => started?,
    };
    let list = tokio::select! {
        biased;
        () = shutdown.requested() => return Ok(()),
        started = bongsu_suppressions::start(source_of(&resources, &settings), "dispatch") => started,
    };
    let Some((suppressed, suppressions)) = list else {
        let topic = resources.topics.suppressions();
        return Err(DispatchError::Topics(format!(
            "topic {topic} does not exist"
        )));
    };
    let bulk_places = settings.bulk_share.of(settings.max_in_flight).max(1);
    let common = Common {
        all: Arc::new(Places::new(settings.max_in_flight)),
        bulk: Arc::new(Semaphore::new(bulk_places)),
        starts: Arc::new(Starts::new(settings.bulk_yields_at.0)),
        pacing: Pacing::new(
            Arc::clone(&resources.provider),
            settings.max_in_flight,
            resources.clock,
            true,
            resources.seed,
        ),
        switch,
        suppressed,
        topics,
        producer: resources.cluster.producer(settings.receipt_linger.0)?,
        notes: resources.cluster.producer(Duration::from_millis(1))?,
        read_ahead: Arc::new(ReadAhead::new(settings.memory.0 / 4)),
    };
    let bulk = BulkPlaces {
        places: Arc::clone(&common.bulk),
        most: bulk_places,
        starts: Arc::clone(&common.starts),
        clock: resources.clock,
        metrics: ChannelMetrics::new(&resources.metrics, resources.channel),
    };
    let mut loops = Tasks::new();
    loops.spawn("bulk places", bulk.follow(shutdown.child()));
    loops.spawn("control", follower.run(shutdown.child()));
    let stopping = shutdown.child();
    loops.spawn("suppressions", async move {
        tokio::select! {
            biased;
            () = stopping.requested() => {}
            () = suppressions.follow() => {}
        }
        Ok::<(), DispatchError>(())
    });
    // Shares are given back once the owners have ended: until then they are being spent.
    let owners_ended = Shutdown::new();
    let exchange = Exchange {
        cluster: Arc::clone(&resources.cluster),
        topic: resources.topics.limits(),
        codec: Arc::clone(&resources.codec),
        schemas: Arc::clone(&resources.schemas),
        channel: resources.channel,
        worker_id: Arc::clone(&resources.worker_id),
        egress: egress_name(&settings),
        clock: resources.clock,
        pacing: Arc::clone(&common.pacing),
    };
    let mut shares = Tasks::new();
    shares.spawn("limits", exchange.run(owners_ended.clone()));
    for class in Class::ALL {
        let shared = shared(&settings, &resources, *class, &common)?;
        let run = run_class(settings.clone(), resources.clone(), *class, shared);
        loops.spawn(class.as_str(), run(shutdown.child()));
    }
    resources.health.set(&component, Ok(()));
    loop {
        tokio::select! {
            ended = loops.next() => match ended {
                Some(ended) => drop(ended?),
                None => break,
            },
            Some(ended) = shares.next() => drop(ended?),
        }
    }
    owners_ended.request();
    shares.join().await?;
    Ok(())
}

/// The settings with the session timeout the group really has; refused when the lease does not fit
/// in it, for a worker that is cut off could then still send beside its successor.
async fn with_real_session(
    mut settings: Settings,
    resources: &Resources,
) -> Result<Settings, DispatchError> {
    let asked = settings.session_timeout.0;
    let real = resources.cluster.session_timeout(asked).await?;
    if real != asked {
        settings.session_timeout = bongsu_runtime::Duration(real);
        let complaints = settings.complaints("dispatch").into_iter();
        if let Some(complaint) = complaints.into_iter().find(|c| c.key == SESSION) {
            let complaint = complaint.message;
            return Err(DispatchError::Session { real, complaint });
        }
        tracing::info!(?real, "the group has its session timeout from the broker");
    }
    Ok(settings)
}

fn source_of(resources: &Resources, settings: &Settings) -> bongsu_suppressions::Source {
    bongsu_suppressions::Source {
        cluster: Arc::clone(&resources.cluster),
        topic: resources.topics.suppressions(),
        codec: Arc::clone(&resources.codec),
        schemas: Arc::clone(&resources.schemas),
        schema_patience: settings.schema_patience.0,
        channel: Some(resources.channel),
        metrics: resources.metrics.clone(),
    }
}

/// Name of the public IP address: workers of one name share its limit.
fn egress_name(settings: &Settings) -> String {
    if !settings.egress.is_empty() {
        return settings.egress.clone();
    }
    std::fs::read_to_string("/etc/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

/// What both classes of a channel share.
struct Common {
    all: Arc<Places>,
    bulk: Arc<Semaphore>,
    starts: Arc<Starts>,
    pacing: Arc<Pacing>,
    switch: StopSwitch,
    suppressed: Suppressed,
    topics: Found,
    producer: Arc<dyn Producer>,
    notes: Arc<dyn Producer>,
    read_ahead: Arc<ReadAhead>,
}

/// Joins the group for one class, and joins it anew when a stalled partition was given up.
fn run_class(
    settings: Settings,
    resources: Resources,
    class: Class,
    shared: Arc<Shared>,
) -> impl FnOnce(Shutdown) -> BoxFuture<'static, Result<(), DispatchError>> {
    move |shutdown| {
        Box::pin(async move {
            loop {
                let consumer = resources.cluster.join(GroupOptions {
                    group: resources.topics.dispatch_group(resources.channel),
                    topics: vec![resources.topics.deliveries(resources.channel, class)],
                    reset: Reset::Earliest,
                    session_timeout: settings.session_timeout.0,
                    buffer_bytes: settings.memory.0 / 8,
                })?;
                let limits = Limits {
                    window_records: settings.window_records,
                    window_bytes: window_bytes(&settings),
                    commit_interval: settings.commit_interval.0,
                    drain_timeout: settings.drain_timeout.0,
                    foreign_receipts: settings.session_timeout.0 * 2,
                };
                let cluster = Arc::clone(&resources.cluster);
                let class_loop = ClassLoop::new(cluster, consumer, Arc::clone(&shared), limits);
                match class_loop.run(shutdown.clone()).await? {
                    Ended::Stopped => return Ok(()),
                    Ended::Rejoin => tracing::warn!(%class, "joining the group anew"),
                }
            }
        })
    }
}

/// What the windows of a class may hold together.
fn window_bytes(settings: &Settings) -> usize {
    settings.memory.0 / 4
}

fn shared(
    settings: &Settings,
    resources: &Resources,
    class: Class,
    common: &Common,
) -> Result<Arc<Shared>, DispatchError> {
    let (channel, topics) = (resources.channel, &resources.topics);
    let millis = |d: bongsu_runtime::Duration| i64::try_from(d.0.as_millis()).unwrap_or(i64::MAX);
    let lane_bytes = settings.memory.0 / 8;
    let partitions = usize::try_from(common.topics.partitions).unwrap_or(1);
    let bulk = match class {
        Class::Transactional => None,
        Class::Bulk => Some(Arc::clone(&common.bulk)),
    };
    Ok(Arc::new(Shared {
        sources: Sources {
            cluster: Arc::clone(&resources.cluster),
            deliveries: topics.deliveries(channel, class),
            results: topics.results(),
            journal: topics.journal(channel, class),
            lanes: topics.lanes(channel, class),
            codec: Arc::clone(&resources.codec),
            schemas: Arc::clone(&resources.schemas),
            schema_patience: settings.schema_patience.0,
            lane_bytes: (lane_bytes / partitions.max(1)).max(64 * 1024),
        },
        codec: Arc::clone(&resources.codec),
        schemas: Arc::clone(&resources.schemas),
        provider: Arc::clone(&resources.provider),
        producer: Arc::clone(&common.producer),
        notes: Arc::clone(&common.notes),
        dead_letters: (topics.dead_letters(), common.topics.dead_letter_partitions),
        permits: Permits::new(Arc::clone(&common.all), bulk),
        class,
        starts: Arc::clone(&common.starts),
        pacing: Arc::clone(&common.pacing),
        guard: settings.repeat_guard.limit(channel),
        switch: common.switch.clone(),
        suppressed: common.suppressed.clone(),
        nights: Nights::new(Arc::clone(&resources.rules), channel),
        lease: Arc::new(Lease::new(resources.clock, settings.lease.0)),
        windows: Arc::new(Budget::new(window_bytes(settings))),
        lane_budget: Arc::new(LaneBudget::new(lane_bytes)),
        read_ahead: Arc::clone(&common.read_ahead),
        room: Arc::new(Notify::new()),
        clock: resources.clock,
        retry: settings.retry_policy(),
        attempt_timeout: settings.attempt_timeout.0,
        divert_after_ms: millis(settings.divert_after),
        flood_share: settings.flood_share.of(100),
        headroom: i64::from(settings.headroom),
        window_records: settings.window_records,
        stall_after_ms: millis(settings.stall_after),
        schema_patience: settings.schema_patience.0,
        worker_id: Arc::clone(&resources.worker_id),
        metrics: DispatchMetrics::new(&resources.metrics, channel, class),
        seed: resources.seed,
    }))
}

/// Numbers of partitions.
struct Found {
    partitions: i32,
    dead_letter_partitions: i32,
}

/// Refuses to start on missing topics or on partition numbers that differ: a receipt lies in the
/// partition of its delivery, and so do a checkpoint and a parked delivery.
async fn check_topics(resources: &Resources) -> Result<Found, DispatchError> {
    let topics = &resources.topics;
    let mut names: Vec<String> = Class::ALL
        .iter()
        .flat_map(|class| {
            [
                topics.deliveries(resources.channel, *class),
                topics.journal(resources.channel, *class),
                topics.lanes(resources.channel, *class),
            ]
        })
        .map(|name| name.to_string())
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
        Some(topic) => Ok(Found {
            partitions: found.first().map_or(1, |(_, n)| *n),
            dead_letter_partitions: topic.partitions,
        }),
    }
}
