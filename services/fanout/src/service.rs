//! Fanout as a service.

use std::sync::Arc;

use bongsu_domain::{Channel, Class};
use bongsu_policy::Rules;
use bongsu_runtime::{Clock, Health, Metrics, Shutdown, Tasks};
use bongsu_schemas::{Codec, SchemaLookup, Topics};
use bongsu_stream::error::TransactionError;
use bongsu_stream::port::{Cluster, GroupOptions, Reset};
use bongsu_suppressions::Suppressed;
use tokio::sync::mpsc;

use crate::class_loop::{ClassLoop, Limits, Parts};
use crate::config::Settings;
use crate::error::FanoutError;
use crate::expand::{ContentCheck, Expander};
use crate::lookup::RecipientLookup;
use crate::metrics::FanoutMetrics;
use crate::rebuild::Rebuild;
use crate::transactions::run_jobs;

/// How long Kafka is left alone that takes no new producer.
const ANEW: std::time::Duration = std::time::Duration::from_secs(1);

/// What fanout works with.
#[derive(Clone)]
pub struct Resources {
    /// The log.
    pub cluster: Arc<dyn Cluster>,
    /// Topic names.
    pub topics: Topics,
    /// Reads events, writes deliveries.
    pub codec: Arc<Codec>,
    /// Finds schemas that are missing.
    pub schemas: Arc<dyn SchemaLookup>,
    /// Finds addresses.
    pub lookup: Arc<dyn RecipientLookup>,
    /// Time.
    pub clock: Clock,
    /// Instruments.
    pub metrics: Metrics,
    /// Readiness.
    pub health: Health,
    /// Names this process on deliveries; unique per process.
    pub worker_id: Arc<str>,
    /// The channels that have topics.
    pub channels: Vec<Channel>,
    /// What law and providers ask of advertising.
    pub rules: Arc<Rules>,
    /// Which contents a channel takes.
    pub fits: ContentCheck,
}

/// Runs fanout of both classes until the shutdown's drain is done.
///
/// # Errors
/// [`FanoutError`]; the process should be restarted, except when it was fenced: then another
/// process has its slot.
pub async fn run(
    settings: Settings,
    resources: Resources,
    shutdown: Shutdown,
) -> Result<(), FanoutError> {
    resources
        .health
        .set("fanout", Err("joining the group".to_owned()));
    let (partitions, dead_letter_partitions) = check_topics(&resources).await?;
    let source = bongsu_suppressions::Source {
        cluster: Arc::clone(&resources.cluster),
        topic: resources.topics.suppressions(),
        codec: Arc::clone(&resources.codec),
        schemas: Arc::clone(&resources.schemas),
        schema_patience: settings.schema_patience.0,
        channel: None,
        metrics: resources.metrics.clone(),
    };
    let list = tokio::select! {
        biased;
        () = shutdown.requested() => return Ok(()),
        started = bongsu_suppressions::start(source, "fanout") => started,
    };
    let Some((suppressed, suppressions)) = list else {
        let topic = resources.topics.suppressions();
        return Err(FanoutError::Topics(format!("topic {topic} does not exist")));
    };
    let mut loops = Tasks::new();
    let stopping = shutdown.child();
    loops.spawn("suppressions", async move {
        tokio::select! {
            biased;
            () = stopping.requested() => {}
            () = suppressions.follow() => {}
        }
        Ok::<(), FanoutError>(())
    });
    let classes = Classes {
        settings,
        resources: resources.clone(),
        partitions,
        dead_letter_partitions,
        suppressed,
    };
    for class in Class::ALL {
        // The first producer and member of each class before fanout is called ready.
        let Some(begun) = classes.begin_when_taken(*class, &shutdown).await? else {
            return Ok(());
        };
        let (classes, shutdown) = (classes.clone(), shutdown.child());
        loops.spawn(class.as_str(), async move {
            classes.run(*class, begun, shutdown).await
        });
    }
    resources.health.set("fanout", Ok(()));
    while let Some(ended) = loops.next().await {
        ended?;
    }
    Ok(())
}

/// What the classes have in common.
#[derive(Clone)]
struct Classes {
    settings: Settings,
    resources: Resources,
    partitions: i32,
    dead_letter_partitions: i32,
    suppressed: Suppressed,
}

/// A class that has joined, and the task that runs its transactions.
struct Begun {
    class_loop: ClassLoop,
    transactions: Tasks,
}

impl Classes {
    /// Runs a class, and begins anew when the end of a transaction is not known: what it had read is
    /// forgotten, and the group's offsets tell where to go on.
    async fn run(
        self,
        class: Class,
        mut begun: Begun,
        shutdown: Shutdown,
    ) -> Result<(), FanoutError> {
        loop {
            let Begun {
                class_loop,
                transactions,
            } = begun;
            let ended = class_loop.run(shutdown.child()).await;
            drop(transactions);
            let Err(FanoutError::Transaction(TransactionError::Lost(reason))) = ended else {
                return ended;
            };
            let stopping = shutdown.is_requested();
            tracing::warn!(%class, reason, stopping, "the end of a transaction is not known");
            if stopping {
                // Whoever comes next reads on where the group's offsets are.
                return Ok(());
            }
            begun = match self.begin_when_taken(class, &shutdown).await? {
                Some(begun) => begun,
                None => return Ok(()),
            };
        }
    }

    /// Begins as soon as Kafka takes a producer: at a start it may be cold, and after a lost transaction
    /// it was not well just now. None at shutdown.
    async fn begin_when_taken(
        &self,
        class: Class,
        shutdown: &Shutdown,
    ) -> Result<Option<Begun>, FanoutError> {
        let health = match class {
            Class::Transactional => "fanout of transactional",
            Class::Bulk => "fanout of bulk",
        };
        loop {
            let begun = tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(None),
                begun = self.begin(class) => begun,
            };
            let reason = match begun {
                Err(FanoutError::Transaction(
                    TransactionError::Aborted(reason) | TransactionError::Lost(reason),
                )) => reason,
                begun => {
                    self.resources.health.set(health, Ok(()));
                    return begun.map(Some);
                }
            };
            tracing::warn!(%class, reason, "Kafka takes no new producer yet");
            self.resources.health.set(health, Err(reason));
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(None),
                () = tokio::time::sleep(ANEW) => {}
            }
        }
    }

    async fn begin(&self, class: Class) -> Result<Begun, FanoutError> {
        let (settings, resources) = (&self.settings, &self.resources);
        let id = format!(
            "{}fanout.{class}.{}",
            resources.topics.prefix(),
            settings.slot
        );
        // Fences a predecessor in this slot before anything is read.
        let producer = resources.cluster.transactional(&id).await?;
        let (jobs, receiver) = mpsc::channel(1);
        let mut transactions = Tasks::new();
        transactions.spawn("transactions", run_jobs(producer, receiver));
        let consumer = resources.cluster.join(GroupOptions {
            group: resources.topics.fanout_group(),
            topics: vec![resources.topics.events(class)],
            reset: Reset::Earliest,
            session_timeout: settings.session_timeout.0,
            buffer_bytes: settings.fetch_buffer.0,
        })?;
        let millis = |d: bongsu_runtime::Duration| i64::try_from(d.0.as_millis());
        let repeat_window_ms = millis(settings.repeat_window).unwrap_or(i64::MAX);
        let class_loop = ClassLoop::new(Parts {
            consumer,
            jobs,
            codec: Arc::clone(&resources.codec),
            schemas: Arc::clone(&resources.schemas),
            expander: Arc::new(Expander {
                codec: Arc::clone(&resources.codec),
                topics: resources.topics.clone(),
                partitions: self.partitions,
                worker_id: Arc::clone(&resources.worker_id),
                channels: resources.channels.clone(),
                suppressed: self.suppressed.clone(),
                rules: Arc::clone(&resources.rules),
                fits: resources.fits,
            }),
            lookup: Arc::clone(&resources.lookup),
            rebuild: Rebuild {
                cluster: Arc::clone(&resources.cluster),
                codec: Arc::clone(&resources.codec),
                schemas: Arc::clone(&resources.schemas),
                schema_patience: settings.schema_patience.0,
                seen: resources.topics.seen(class),
                partitions: self.partitions,
                window_ms: repeat_window_ms,
                clock: resources.clock,
            },
            rebuilders: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            dead_letters: (resources.topics.dead_letters(), self.dead_letter_partitions),
            metrics: FanoutMetrics::new(&resources.metrics, class),
            limits: limits(settings),
        });
        Ok(Begun {
            class_loop,
            transactions,
        })
    }
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        commit_interval: settings.commit_interval.0,
        commit_records: settings.commit_records,
        lookups_in_flight: settings.lookups_in_flight,
        window_records: settings.window_records,
        window_bytes: settings.window_size.0,
        schema_patience: settings.schema_patience.0,
    }
}

/// Refuses to start on missing topics or on partition numbers that differ. Gives N and the number
/// of dead letter partitions.
async fn check_topics(resources: &Resources) -> Result<(i32, i32), FanoutError> {
    let topics = &resources.topics;
    let mut equal: Vec<String> = Vec::new();
    for class in Class::ALL {
        equal.push(topics.events(*class).to_string());
        equal.push(topics.seen(*class).to_string());
        equal.extend(
            resources
                .channels
                .iter()
                .map(|c| topics.deliveries(*c, *class).to_string()),
        );
    }
    equal.push(topics.results().to_string());
    let dead_letters = topics.dead_letters().to_string();
    let mut asked = equal.clone();
    asked.push(dead_letters.clone());
    let described = resources.cluster.topics(asked).await?;
    let missing = |name: &str| FanoutError::Topics(format!("topic {name} does not exist"));
    let mut n = None;
    for name in &equal {
        let found = described.get(name).ok_or_else(|| missing(name))?.partitions;
        match n {
            None => n = Some((name, found)),
            Some((_, first)) if first == found => {}
            Some((other, first)) => {
                return Err(FanoutError::Topics(format!(
                    "{other} has {first} partitions and {name} has {found}; they must be equal"
                )));
            }
        }
    }
    let letters = described
        .get(&dead_letters)
        .ok_or_else(|| missing(&dead_letters))?;
    Ok((n.map_or(1, |(_, n)| n), letters.partitions))
}
