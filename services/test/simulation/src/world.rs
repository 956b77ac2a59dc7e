//! What survives a crash (log, store, provider), and the processes that do not.

use std::collections::BTreeMap;
use std::sync::Arc;

use bongsu_channels::provider::Provider;
use bongsu_domain::{Channel, Class};
use bongsu_runtime::{Clock, Duration, Health, Metrics, Ratio, Shutdown};
use bongsu_schemas::{Codec, NoLookup, Topics};
use bongsu_store::MemoryStore;
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::{Cluster, TopicSpec};
use tokio::task::JoinHandle;

use crate::provider::{Memory, SimulatedProvider};
use crate::random::Random;

/// Partitions of every topic.
pub const PARTITIONS: i32 = 3;
/// Where the virtual clock starts.
pub const EPOCH_MS: i64 = 1_760_000_000_000;

/// What survives.
#[derive(Clone)]
pub struct World {
    /// The log.
    pub log: LocalCluster,
    /// The database.
    pub store: Arc<MemoryStore>,
    /// The provider's memory.
    pub memory: Memory,
    /// Topic names.
    pub topics: Topics,
    /// Virtual time.
    pub clock: Clock,
    /// Reads records for the verdict.
    pub codec: Arc<Codec>,
    /// Whether the provider takes consecutive deliveries of one key in one call.
    pub pack: bool,
    /// Records of a partition's window in dispatch.
    pub window: usize,
}

/// A running service: dropping it is a crash.
pub struct Process {
    task: JoinHandle<Result<(), String>>,
    shutdown: Shutdown,
}

impl Process {
    #[expect(
        clippy::disallowed_methods,
        reason = "a process of the simulation is a bare task"
    )]
    fn start<E: std::fmt::Display>(
        shutdown: Shutdown,
        service: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Self {
        let task = tokio::spawn(async move { service.await.map_err(|e| e.to_string()) });
        Self { task, shutdown }
    }

    /// Drops the service at the await point where it stands.
    pub async fn kill(self) {
        self.task.abort();
        // The join returns once the future and everything it owned is dropped.
        if let Ok(Err(error)) = self.task.await {
            tracing_free(&error);
        }
    }

    /// Asks for the drain and waits for it.
    ///
    /// # Errors
    /// What the service ended with.
    pub async fn stop(self) -> Result<(), String> {
        self.shutdown.request();
        self.task.await.map_err(|e| e.to_string())?
    }

    /// Whether it ended by itself, which no service may.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

/// A killed service's last word does not matter.
const fn tracing_free(_: &str) {}

impl World {
    /// An empty world with its topics.
    ///
    /// # Errors
    /// When a topic cannot be made.
    pub async fn new() -> Result<Self, String> {
        Self::with_packing(false).await
    }

    /// The same; `pack` is whether the provider takes consecutive deliveries of one key in one call.
    ///
    /// # Errors
    /// When a topic cannot be made.
    pub async fn with_packing(pack: bool) -> Result<Self, String> {
        let clock = Clock::starting_at(EPOCH_MS);
        let world = Self {
            log: LocalCluster::new(clock),
            store: Arc::new(MemoryStore::new()),
            memory: Memory::default(),
            topics: Topics::default(),
            clock,
            codec: Arc::new(Codec::default()),
            pack,
            window: 40,
        };
        let t = &world.topics;
        let mut names = vec![
            t.results(),
            t.dead_letters(),
            t.schemas(),
            t.control(),
            t.suppressions(),
            t.limits(),
        ];
        for class in Class::ALL {
            names.push(t.events(*class));
            names.push(t.seen(*class));
            for channel in Channel::ALL {
                names.push(t.deliveries(*channel, *class));
                names.push(t.journal(*channel, *class));
                names.push(t.lanes(*channel, *class));
            }
        }
        for name in names {
            let spec = TopicSpec {
                name: name.to_string(),
                partitions: PARTITIONS,
                replication: 1,
                settings: BTreeMap::new(),
            };
            world
                .log
                .create_topic(spec)
                .await
                .map_err(|e| e.to_string())?;
        }
        Ok(world)
    }

    fn cluster(&self) -> Arc<dyn Cluster> {
        Arc::new(self.log.clone())
    }

    /// The gateway's handler, as a process would build it.
    ///
    /// # Errors
    /// When it refuses to start.
    pub async fn gateway(&self) -> Result<bongsu_gateway::Gateway, String> {
        let settings = bongsu_gateway::Settings {
            allow_anonymous: true,
            ..bongsu_gateway::Settings::default()
        };
        let resources = bongsu_gateway::Resources {
            cluster: self.cluster(),
            topics: self.topics.clone(),
            codec: Arc::clone(&self.codec),
            store: None,
            reports: bongsu_gateway::ReportSources::default(),
            metrics: metrics()?,
            clock: self.clock,
            health: Health::new(),
            id_seed: Some([7; 16]),
        };
        bongsu_gateway::Gateway::build(settings, resources)
            .await
            .map_err(|e| e.to_string())
    }

    /// A fanout process in slot 0.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn fanout(&self) -> Result<Process, String> {
        let resources = bongsu_fanout::Resources {
            cluster: self.cluster(),
            topics: self.topics.clone(),
            codec: Arc::clone(&self.codec),
            schemas: Arc::new(NoLookup),
            lookup: Arc::new(bongsu_fanout::lookup::Inline),
            clock: self.clock,
            metrics: metrics()?,
            health: Health::new(),
            worker_id: "fanout".into(),
            channels: Channel::ALL.to_vec(),
            rules: Arc::default(),
            fits: |_, _, _| None,
        };
        let shutdown = Shutdown::new();
        let settings = bongsu_fanout::Settings::default();
        Ok(Process::start(
            shutdown.clone(),
            bongsu_fanout::run(settings, resources, shutdown),
        ))
    }

    /// A dispatch process for webhooks.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn dispatch(&self, worker: u64, mut random: Random) -> Result<Process, String> {
        let seed = random.bits();
        let provider = SimulatedProvider::new(self.memory.clone(), worker, random, self.pack);
        let settings = bongsu_dispatch::Settings {
            window_records: self.window,
            ..Self::settings()
        };
        let name = format!("dispatch-{worker}");
        self.dispatch_with(settings, &name, seed, Arc::new(provider))
    }

    /// What dispatch is set to here: little of everything.
    #[must_use]
    pub fn settings() -> bongsu_dispatch::Settings {
        bongsu_dispatch::Settings {
            max_in_flight: 16,
            window_records: 40,
            max_attempts: 1_000,
            retry_cap: Duration::secs(2),
            // Soon, so that keys go to the side lane and come back in most runs.
            divert_after: Duration::secs(1),
            // Two senders share a window here, so that the default is seldom reached.
            flood_share: Ratio::percent(50),
            ..bongsu_dispatch::Settings::default()
        }
    }

    /// A dispatch process for webhooks with settings and a provider of its own.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn dispatch_with(
        &self,
        settings: bongsu_dispatch::Settings,
        name: &str,
        seed: u64,
        provider: Arc<dyn Provider>,
    ) -> Result<Process, String> {
        self.dispatch_measured(settings, name, seed, provider, metrics()?)
    }

    /// The same, with instruments that can be looked at.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn dispatch_measured(
        &self,
        settings: bongsu_dispatch::Settings,
        name: &str,
        seed: u64,
        provider: Arc<dyn Provider>,
        metrics: Metrics,
    ) -> Result<Process, String> {
        let resources = bongsu_dispatch::Resources {
            cluster: self.cluster(),
            topics: self.topics.clone(),
            codec: Arc::clone(&self.codec),
            schemas: Arc::new(NoLookup),
            channel: Channel::Webhook,
            provider,
            rules: Arc::default(),
            clock: self.clock,
            metrics,
            health: Health::new(),
            worker_id: name.into(),
            seed,
        };
        let shutdown = Shutdown::new();
        Ok(Process::start(
            shutdown.clone(),
            bongsu_dispatch::run(settings, resources, shutdown),
        ))
    }

    /// A ledger process.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn ledger(&self) -> Result<Process, String> {
        let resources = bongsu_ledger::Resources {
            cluster: self.cluster(),
            topics: self.topics.clone(),
            codec: Arc::clone(&self.codec),
            schemas: Arc::new(NoLookup),
            store: self.store.clone(),
            clock: self.clock,
            metrics: metrics()?,
            health: Health::new(),
        };
        let shutdown = Shutdown::new();
        let settings = bongsu_ledger::Settings {
            // A gone address refuses every delivery of a story; suppressions have tests of their own.
            hygiene: bongsu_ledger::hygiene::HygieneSettings {
                enabled: false,
                ..bongsu_ledger::hygiene::HygieneSettings::default()
            },
            ..bongsu_ledger::Settings::default()
        };
        Ok(Process::start(
            shutdown.clone(),
            bongsu_ledger::run(settings, resources, shutdown),
        ))
    }
}

fn metrics() -> Result<Metrics, String> {
    Metrics::new().map_err(|e| e.to_string())
}
