//! From settings to running services: the one place where concrete types are chosen.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use bongsu_domain::Channel;
use bongsu_policy::Rules;
use bongsu_runtime::settings::SettingsError;
use bongsu_runtime::{Clock, Health, Metrics, Shutdown, Tasks};
use bongsu_schemas::lookup::Found;
use bongsu_schemas::{Codec, SchemaLookup, SchemaRef, Topics};
use bongsu_store::{LedgerReader, LedgerStore};
use bongsu_stream::kafka::KafkaCluster;
use bongsu_stream::port::Cluster;
use bongsu_stream::schema_source::SchemaSource;

use crate::config::{Config, Service};
use crate::credentials;
use crate::registry;
use crate::reload::Providers;

/// What all services of a process share.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) config: Arc<Config>,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) topics: Topics,
    pub(crate) codec: Arc<Codec>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) worker_id: Arc<str>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) providers: Providers,
}

/// Connects to the Kafka of the settings.
pub(crate) fn connect(config: &Config) -> anyhow::Result<Arc<dyn Cluster>> {
    KafkaCluster::connect(config.kafka.clone()).context("kafka")
}

impl World {
    /// A world over a log.
    pub(crate) async fn new(config: Config, cluster: Arc<dyn Cluster>) -> anyhow::Result<Self> {
        let worker_id = match config.process.worker_id.as_str() {
            "" => format!("{}-{}", host(), std::process::id()),
            given => given.to_owned(),
        };
        let rules = config.rules.rules().map_err(SettingsError)?;
        let framing = registry::framing(&config).await?;
        Ok(Self {
            rules: Arc::new(rules),
            topics: Topics::new(config.topics.prefix.clone()),
            config: Arc::new(config),
            cluster,
            codec: Arc::new(Codec::new(framing)),
            clock: Clock::system(),
            metrics: Metrics::new()?,
            health: Health::new(),
            worker_id: worker_id.into(),
            providers: Providers::default(),
        })
    }

    /// Starts services; each ends with the shutdown or with an error.
    pub(crate) async fn start(
        &self,
        services: &[Service],
        channels: &[Channel],
        shutdown: &Shutdown,
    ) -> anyhow::Result<Tasks> {
        let schemas = self.schemas().await?;
        let store = self.store(services).await?;
        let mut tasks = Tasks::new();
        for service in services {
            match service {
                Service::Gateway => self.gateway(&mut tasks, store.clone(), shutdown)?,
                Service::Fanout => self.fanout(&mut tasks, &schemas, shutdown),
                Service::Dispatch => {
                    for channel in channels {
                        self.dispatch(&mut tasks, *channel, &schemas, shutdown)?;
                    }
                }
                Service::Ledger => self.ledger(&mut tasks, &schemas, store.clone(), shutdown)?,
            }
        }
        Ok(tasks)
    }

    async fn schemas(&self) -> anyhow::Result<Arc<dyn SchemaLookup>> {
        let source = SchemaSource::start(
            Arc::clone(&self.cluster),
            &self.topics.schemas(),
            self.config.registry.clone(),
        )
        .await
        .context("reading the schemas; run `bongsu topics apply` first")?;
        Ok(Arc::new(Source(source)))
    }

    async fn store(&self, services: &[Service]) -> anyhow::Result<Option<Arc<dyn LedgerStore>>> {
        let needed = services
            .iter()
            .any(|s| matches!(s, Service::Gateway | Service::Ledger));
        if !needed {
            return Ok(None);
        }
        Ok(Some(
            bongsu_store::open(&self.config.store)
                .await
                .context("store")?,
        ))
    }

    fn gateway(
        &self,
        tasks: &mut Tasks,
        store: Option<Arc<dyn LedgerStore>>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let resources = bongsu_gateway::Resources {
            cluster: Arc::clone(&self.cluster),
            topics: self.topics.clone(),
            codec: Arc::clone(&self.codec),
            store: store.map(|s| s as Arc<dyn LedgerReader>),
            reports: bongsu_gateway::ReportSources::build(&self.config.channels)?,
            metrics: self.metrics.clone(),
            clock: self.clock,
            health: self.health.clone(),
            id_seed: None,
        };
        let settings = self.config.gateway.clone();
        tasks.spawn(
            "gateway",
            bongsu_gateway::run(settings, resources, shutdown.child(), None),
        );
        Ok(())
    }

    fn fanout(&self, tasks: &mut Tasks, schemas: &Arc<dyn SchemaLookup>, shutdown: &Shutdown) {
        let resources = bongsu_fanout::Resources {
            cluster: Arc::clone(&self.cluster),
            topics: self.topics.clone(),
            codec: Arc::clone(&self.codec),
            schemas: Arc::clone(schemas),
            lookup: Arc::new(bongsu_fanout::lookup::Inline),
            clock: self.clock,
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            worker_id: Arc::clone(&self.worker_id),
            channels: self.config.active_channels(),
            rules: Arc::clone(&self.rules),
            fits: bongsu_channels::too_large,
        };
        let settings = self.config.fanout.clone();
        tasks.spawn(
            "fanout",
            bongsu_fanout::run(settings, resources, shutdown.child()),
        );
    }

    fn dispatch(
        &self,
        tasks: &mut Tasks,
        channel: Channel,
        schemas: &Arc<dyn SchemaLookup>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let provider = bongsu_channels::registry::build(
            channel,
            &self.config.channels,
            &self.worker_id,
            self.clock,
        )?;
        let provider = self.providers.add(channel, provider);
        // Whether or not one ends now: accounts change while this runs.
        let watch = credentials::watch(
            channel,
            Arc::clone(&provider),
            credentials::Instruments::new(&self.metrics),
            self.clock,
            shutdown.child(),
        );
        tasks.spawn("credentials", watch);
        let resources = bongsu_dispatch::Resources {
            cluster: Arc::clone(&self.cluster),
            topics: self.topics.clone(),
            codec: Arc::clone(&self.codec),
            schemas: Arc::clone(schemas),
            channel,
            provider,
            rules: Arc::clone(&self.rules),
            clock: self.clock,
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            worker_id: Arc::clone(&self.worker_id),
            seed: bongsu_domain::identity::hash64(&[
                self.worker_id.as_bytes(),
                &self.clock.now_millis().to_be_bytes(),
            ]),
        };
        let settings = self.config.dispatch.clone();
        tasks.spawn(
            "dispatch",
            bongsu_dispatch::run(settings, resources, shutdown.child()),
        );
        Ok(())
    }

    fn ledger(
        &self,
        tasks: &mut Tasks,
        schemas: &Arc<dyn SchemaLookup>,
        store: Option<Arc<dyn LedgerStore>>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let resources = bongsu_ledger::Resources {
            cluster: Arc::clone(&self.cluster),
            topics: self.topics.clone(),
            codec: Arc::clone(&self.codec),
            schemas: Arc::clone(schemas),
            store: store.context("the ledger needs a store")?,
            clock: self.clock,
            metrics: self.metrics.clone(),
            health: self.health.clone(),
        };
        let settings = self.config.ledger.clone();
        tasks.spawn(
            "ledger",
            bongsu_ledger::run(settings, resources, shutdown.child()),
        );
        Ok(())
    }
}

fn host() -> String {
    std::fs::read_to_string("/etc/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "worker".to_owned())
}

/// Joins the stream's source of schema texts to the codec's need.
struct Source(SchemaSource);

impl SchemaLookup for Source {
    fn find(&self, reference: SchemaRef) -> Pin<Box<dyn Future<Output = Found> + Send + '_>> {
        Box::pin(async move {
            let found = match reference {
                SchemaRef::Fingerprint(fingerprint) => self.0.fingerprint(fingerprint).await,
                SchemaRef::RegistryId(id) => self.0.id(id).await,
            };
            found.map_err(|e| e.to_string())
        })
    }
}
