//! A log, a store, and ledgers between them.

use std::sync::Arc;
use std::time::Duration;

use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{AddressId, DeliveryId, Outcome, OutcomeId, Timestamp};
use bongsu_ledger::{LedgerError, Resources, Settings, run};
use bongsu_runtime::{Clock, Health, Metrics, Shutdown, Tasks};
use bongsu_schemas::lookup::NoLookup;
use bongsu_schemas::{Codec, Millis, Receipt, SchemaLookup, Topics};
use bongsu_store::{CountsQuery, LedgerStore, MemoryStore};
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::{
    Cluster, From, Headers, Isolation, Outgoing, Producer, Record, TailRange, TopicPartition,
    TopicSpec,
};
use bongsu_testkit::wait_until;
use bytes::Bytes;

pub(crate) const PARTITIONS: i32 = 4;
pub(crate) const SOON: Duration = Duration::from_secs(60);
pub(crate) const AT: i64 = 1_760_000_040_000;

/// Everything a ledger meets.
pub(crate) struct World {
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) topics: Topics,
    pub(crate) codec: Arc<Codec>,
    pub(crate) store: Arc<dyn LedgerStore>,
    producer: Arc<dyn Producer>,
}

/// A running ledger.
pub(crate) struct Ledger {
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    shutdown: Shutdown,
    tasks: Tasks,
}

impl World {
    pub(crate) async fn local(memory: &MemoryStore) -> (Self, LocalCluster) {
        let log = LocalCluster::new(Clock::starting_at(AT));
        let store = Arc::new(memory.clone());
        let topics = Topics::default();
        let world = Self::new(Arc::new(log.clone()), topics, store).await;
        (world, log)
    }

    pub(crate) async fn new(
        cluster: Arc<dyn Cluster>,
        topics: Topics,
        store: Arc<dyn LedgerStore>,
    ) -> Self {
        for name in [topics.results(), topics.dead_letters()] {
            let spec = TopicSpec {
                name: name.to_string(),
                partitions: PARTITIONS,
                replication: 1,
                settings: Default::default(),
            };
            cluster.create_topic(spec).await.unwrap();
        }
        let spec = TopicSpec {
            name: topics.suppressions().to_string(),
            partitions: 1,
            replication: 1,
            settings: [("cleanup.policy".to_owned(), "compact".to_owned())].into(),
        };
        cluster.create_topic(spec).await.unwrap();
        Self {
            producer: cluster.producer(Duration::ZERO).unwrap(),
            cluster,
            topics,
            codec: Arc::default(),
            store,
        }
    }

    pub(crate) fn resources(&self) -> Resources {
        Resources {
            cluster: self.cluster.clone(),
            topics: self.topics.clone(),
            codec: self.codec.clone(),
            schemas: Arc::new(NoLookup),
            store: self.store.clone(),
            clock: Clock::system(),
            metrics: Metrics::new().unwrap(),
            health: Health::new(),
        }
    }

    pub(crate) fn start(&self) -> Ledger {
        Ledger::start(self.resources())
    }

    pub(crate) fn start_with(
        &self,
        store: Arc<dyn LedgerStore>,
        schemas: Arc<dyn SchemaLookup>,
    ) -> Ledger {
        Ledger::start(Resources {
            store,
            schemas,
            ..self.resources()
        })
    }

    pub(crate) async fn publish(&self, receipts: &[Receipt]) {
        for receipt in receipts {
            let value = self.codec.encode(receipt).unwrap();
            self.publish_raw(partition_of(&receipt.event_id), value)
                .await;
        }
    }

    pub(crate) async fn publish_raw(&self, partition: i32, value: Bytes) {
        let record = Outgoing {
            topic: self.topics.results(),
            partition,
            key: Some(Bytes::from_static(b"shop")),
            value: Some(value),
            headers: Headers::default(),
        };
        self.producer.send(record).await.unwrap();
    }

    /// Waits until everything is counted, no more and no less.
    pub(crate) async fn until_counted(&self, expected: i64) {
        wait_until(
            SOON,
            &format!("{expected} deliveries are counted"),
            || async { counted(&self.store).await == expected },
        )
        .await;
    }

    /// Waits until the group has nothing left to read.
    pub(crate) async fn until_committed(&self) {
        let group = self.topics.ledger_group();
        let results = self.topics.results().to_string();
        wait_until(SOON, "the group has committed everything", || async {
            let lag = self.cluster.lag(&group, vec![results.clone()]).await;
            lag.is_ok_and(|l| l.iter().all(|p| p.committed.unwrap_or(0) == p.end))
        })
        .await;
    }

    pub(crate) async fn dead_letters(&self) -> Vec<Record> {
        let found: Arc<std::sync::Mutex<Vec<Record>>> = Arc::default();
        let into = found.clone();
        let ranges = (0..PARTITIONS)
            .map(|p| TailRange {
                partition: TopicPartition::new(self.topics.dead_letters(), p),
                from: From::Beginning,
                until: None,
            })
            .collect();
        let each = Box::new(move |r| into.lock().unwrap().push(r));
        let read = self
            .cluster
            .read_tails(ranges, Isolation::Committed, each)
            .await;
        read.unwrap();
        std::mem::take(&mut *found.lock().unwrap())
    }
}

impl Ledger {
    pub(crate) fn start(resources: Resources) -> Self {
        let settings = Settings {
            batch_records: 50,
            backlog_records: 100,
            reports_kept: bongsu_runtime::Duration::secs(60),
            ..Settings::default()
        };
        let (health, metrics) = (resources.health.clone(), resources.metrics.clone());
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new();
        let asked = shutdown.clone();
        tasks.spawn::<_, LedgerError>("ledger", run(settings, resources, asked));
        Self {
            health,
            metrics,
            shutdown,
            tasks,
        }
    }

    /// Drains and ends it.
    pub(crate) async fn stop(self) {
        self.shutdown.request();
        self.tasks.join().await.unwrap();
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(self) {
        drop(self.tasks);
    }

    pub(crate) async fn until_ready(&self) {
        wait_until(SOON, "the ledger is ready", || async {
            self.health.unready().is_empty()
        })
        .await;
    }

    pub(crate) async fn until_unready(&self, reason: &str) {
        wait_until(SOON, &format!("the ledger says {reason}"), || async {
            self.health
                .unready()
                .get("ledger")
                .is_some_and(|why| why.contains(reason))
        })
        .await;
    }

    /// The sum of a counter over its labels.
    pub(crate) fn counter(&self, name: &str) -> f64 {
        let text = self.metrics.render().unwrap();
        text.lines()
            .filter(|l| l.starts_with(name))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// All deliveries that have an outcome.
pub(crate) async fn counted(store: &Arc<dyn LedgerStore>) -> i64 {
    let all = CountsQuery::between(Timestamp(0), Timestamp(AT * 2));
    match store.counts(&all).await {
        Ok(rows) => rows.iter().map(|r| r.deliveries).sum(),
        // A store that is down has counted nothing that we may rely on.
        Err(_) => -1,
    }
}

pub(crate) fn id(event: &str) -> DeliveryId {
    DeliveryId::derive(DeliveryParts {
        sender: "shop",
        event_id: event,
        channel: "webhook",
        recipient: "ann",
        address_id: &AddressId("a".to_owned()),
        step: 0,
    })
}

fn partition_of(event: &str) -> i32 {
    let sum: i32 = event.bytes().map(i32::from).sum();
    sum % PARTITIONS
}

pub(crate) fn outcome(event: &str, outcome: Outcome) -> Receipt {
    receipt("outcome", event, outcome, OutcomeId::of(id(event)))
}

pub(crate) fn report(event: &str, outcome: Outcome) -> Receipt {
    let receipt_id = OutcomeId::of_event("shop", event, "report");
    receipt("report", event, outcome, receipt_id)
}

fn receipt(kind: &str, event: &str, outcome: Outcome, receipt_id: OutcomeId) -> Receipt {
    Receipt {
        kind: kind.to_owned(),
        receipt_id: receipt_id.to_string(),
        delivery_id: Some(id(event).to_string()),
        event_id: event.to_owned(),
        sender: "shop".to_owned(),
        class: "transactional".to_owned(),
        channel: Some("webhook".to_owned()),
        recipient: Some("ann".to_owned()),
        outcome: outcome.as_str().to_owned(),
        at: Millis(AT),
        accepted_at: Some(Millis(AT)),
        ..Receipt::default()
    }
}

pub(crate) fn outcomes(numbers: std::ops::Range<u32>) -> Vec<Receipt> {
    numbers
        .map(|n| outcome(&format!("e-{n}"), Outcome::Accepted))
        .collect()
}
