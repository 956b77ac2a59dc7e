//! What the handlers share.

use std::sync::Arc;

use bongsu_channels::reports::ReportSources;
use bongsu_domain::Class;
use bongsu_runtime::settings::SettingsError;
use bongsu_runtime::{Clock, Health, Metrics};
use bongsu_schemas::{Codec, Topics};
use bongsu_store::LedgerReader;
use bongsu_stream::port::{Cluster, Producer};
use bongsu_suppressions::admin::Writer;
use tokio::sync::OnceCell;

use crate::body::Bodies;
use crate::check::{Checker, EventTopics};
use crate::config::Settings;
use crate::error::GatewayError;
use crate::ids::Ids;
use crate::keys::Keys;
use crate::metrics::Instruments;
use crate::openapi::Pages;
use crate::publish::Publisher;

/// What the gateway is given.
#[derive(Clone)]
pub struct Resources {
    /// The log it writes to.
    pub cluster: Arc<dyn Cluster>,
    /// Names of its topics.
    pub topics: Topics,
    /// How records are written.
    pub codec: Arc<Codec>,
    /// Where look-ups are answered from; without it they are 503.
    pub store: Option<Arc<dyn LedgerReader>>,
    /// The providers' reports it takes.
    pub reports: ReportSources,
    /// The process's metrics.
    pub metrics: Metrics,
    /// The process's clock.
    pub clock: Clock,
    /// The process's readiness; the gateway registers `gateway` and `gateway.kafka`.
    pub health: Health,
    /// Seed of the event ids given to events without one; random when `None`. A simulation gives
    /// its own.
    pub id_seed: Option<[u8; 16]>,
}

/// What every handler can reach; a clone is a reference.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) keys: Keys,
    pub(crate) bodies: Bodies,
    pub(crate) report_bodies: Bodies,
    pub(crate) checker: Checker,
    pub(crate) publisher: Publisher,
    pub(crate) reports: ReportSources,
    pub(crate) topics: Topics,
    pub(crate) codec: Arc<Codec>,
    pub(crate) partitions: i32,
    pub(crate) producer: Arc<dyn Producer>,
    pub(crate) cluster: Arc<dyn Cluster>,
    /// Made by the first change.
    pub(crate) suppressions: OnceCell<Writer>,
    pub(crate) store: Option<Arc<dyn LedgerReader>>,
    pub(crate) metrics: Metrics,
    pub(crate) instruments: Instruments,
    pub(crate) health: Health,
    /// What fails without taking the intake of events with it.
    pub(crate) degraded: Health,
    pub(crate) clock: Clock,
    pub(crate) pages: Pages,
}

impl Gateway {
    /// Checks the settings, looks at the topics and makes the producer; binds nothing.
    ///
    /// # Errors
    /// [`GatewayError`], with every fault of the settings.
    pub async fn build(settings: Settings, resources: Resources) -> Result<Self, GatewayError> {
        let complaints = settings.validate();
        if !complaints.is_empty() {
            return Err(SettingsError(complaints).into());
        }
        let partitions = partitions(resources.cluster.as_ref(), &resources.topics).await?;
        resources.health.set("gateway.kafka", Ok(()));
        let producer = resources.cluster.producer(settings.linger.0)?;
        let degraded = Health::new();
        degraded.set("gateway", Ok(()));
        Ok(Self {
            inner: Arc::new(Inner {
                keys: Keys::new(&settings),
                bodies: Bodies::new(
                    settings.max_body.0,
                    settings.max_bytes_in_flight.0,
                    settings.body_timeout.0,
                ),
                // Most callbacks show who they are from only in their body: what strangers send must
                // not take the room of events.
                report_bodies: Bodies::new(
                    settings.max_report_body.0,
                    settings.max_report_bytes_in_flight.0,
                    settings.body_timeout.0,
                )
                .as_they_arrive(),
                checker: Checker::new(
                    Arc::clone(&resources.codec),
                    resources.clock,
                    resources.id_seed.map_or_else(Ids::random, Ids::seeded),
                    EventTopics {
                        transactional: resources.topics.events(Class::Transactional),
                        bulk: resources.topics.events(Class::Bulk),
                        partitions,
                    },
                    settings.allow_private,
                ),
                publisher: Publisher::new(
                    Arc::clone(&producer),
                    settings.request_timeout.0,
                    resources.health.clone(),
                ),
                reports: resources.reports,
                topics: resources.topics,
                codec: resources.codec,
                partitions,
                producer,
                cluster: resources.cluster,
                suppressions: OnceCell::new(),
                store: resources.store,
                instruments: Instruments::new(&resources.metrics),
                metrics: resources.metrics,
                health: resources.health,
                degraded,
                clock: resources.clock,
                pages: Pages::new(),
                settings,
            }),
        })
    }

    /// Records how many bytes of bodies are held.
    pub(crate) fn record_held(&self) {
        let inner = &self.inner;
        let held = inner.bodies.in_flight() + inner.report_bodies.in_flight();
        inner.instruments.holds(held);
    }
}

/// The number of partitions both event topics have.
async fn partitions(cluster: &dyn Cluster, topics: &Topics) -> Result<i32, GatewayError> {
    let names: Vec<String> = Class::ALL
        .iter()
        .map(|class| topics.events(*class).to_string())
        .collect();
    let described = cluster.topics(names.clone()).await?;
    let missing: Vec<String> = names
        .iter()
        .filter(|n| !described.contains_key(*n))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(GatewayError::TopicsMissing(missing));
    }
    let mut found = names
        .into_iter()
        .filter_map(|n| described.get(&n).map(|d| (n, d.partitions)));
    let Some((first, first_partitions)) = found.next() else {
        return Err(GatewayError::TopicsMissing(Vec::new()));
    };
    match found.find(|(_, n)| *n != first_partitions) {
        None => Ok(first_partitions),
        Some((second, second_partitions)) => Err(GatewayError::PartitionsDiffer {
            first,
            first_partitions,
            second,
            second_partitions,
        }),
    }
}
