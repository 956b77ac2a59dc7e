//! A log with its topics, and fanout over it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bongsu_domain::{Channel, Class, partition_of};
use bongsu_fanout::lookup::{Inline, RecipientLookup};
use bongsu_fanout::{FanoutError, Resources, Settings, run};
use bongsu_policy::Rules;
use bongsu_runtime::{Clock, Health, Metrics, Shutdown};
use bongsu_schemas::suppression::{SuppressionChange, write_suppression};
use bongsu_schemas::{Codec, NoLookup, Topics};
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::{
    Cluster, From, Headers, Isolation, Outgoing, Record, TailRange, TopicPartition, TopicSpec,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub(crate) const N: i32 = 4;
/// The channels that have topics; APNs has none.
pub(crate) const CHANNELS: &[Channel] = &[Channel::Webhook, Channel::Discord];
/// Bytes of a body that the channels of these tests take.
pub(crate) const LONGEST: usize = 1_000;
pub(crate) const EPOCH_MS: i64 = 1_760_000_000_000;

pub(crate) struct World {
    pub(crate) log: LocalCluster,
    pub(crate) topics: Topics,
    pub(crate) codec: Arc<Codec>,
    pub(crate) metrics: Metrics,
    pub(crate) rules: Arc<Rules>,
    clock: Clock,
}

pub(crate) struct Running {
    task: JoinHandle<Result<(), FanoutError>>,
    shutdown: Shutdown,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.shutdown.request();
        self.task.await.unwrap().unwrap();
    }

    pub(crate) async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = Clock::starting_at(EPOCH_MS);
        let world = Self {
            log: LocalCluster::new(clock),
            topics: Topics::default(),
            codec: Arc::default(),
            metrics: Metrics::new().unwrap(),
            rules: Arc::default(),
            clock,
        };
        let t = &world.topics;
        let mut names = vec![t.results(), t.dead_letters(), t.suppressions()];
        for class in Class::ALL {
            names.push(t.events(*class));
            names.push(t.seen(*class));
            names.extend(CHANNELS.iter().map(|c| t.deliveries(*c, *class)));
        }
        for name in names {
            let spec = TopicSpec {
                name: name.to_string(),
                partitions: N,
                replication: 1,
                settings: BTreeMap::new(),
            };
            world.log.create_topic(spec).await.unwrap();
        }
        world
    }

    pub(crate) fn start(&self) -> Running {
        self.start_with(Arc::new(Inline))
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own service")]
    pub(crate) fn start_with(&self, lookup: Arc<dyn RecipientLookup>) -> Running {
        let resources = Resources {
            cluster: Arc::new(self.log.clone()),
            topics: self.topics.clone(),
            codec: Arc::clone(&self.codec),
            schemas: Arc::new(NoLookup),
            lookup,
            clock: self.clock,
            metrics: self.metrics.clone(),
            health: Health::new(),
            worker_id: "fanout-test".into(),
            channels: CHANNELS.to_vec(),
            rules: Arc::clone(&self.rules),
            fits: |_, content, _| {
                let long = content.body.as_ref().is_some_and(|b| b.len() > LONGEST);
                long.then(|| format!("at most {LONGEST} bytes"))
            },
        };
        let shutdown = Shutdown::new();
        let task = tokio::spawn(run(Settings::default(), resources, shutdown.clone()));
        Running { task, shutdown }
    }

    /// Publishes bytes under a key, to its right partition unless another is named.
    pub(crate) async fn publish(&self, key: &str, value: Vec<u8>, partition: Option<i32>) {
        let home = partition_of(key.as_bytes(), N);
        self.log
            .producer(Duration::ZERO)
            .unwrap()
            .send(Outgoing {
                topic: self.topics.events(Class::Transactional),
                partition: partition.unwrap_or(home),
                key: Some(key.to_owned().into()),
                value: Some(value.into()),
                headers: Headers::default().with("bongsu-client-id", "careless"),
            })
            .await
            .unwrap();
    }

    /// Writes a suppression, or its end.
    pub(crate) async fn suppress(&self, change: &SuppressionChange) {
        let (key, value) = write_suppression(&self.codec, change).unwrap();
        let record = Outgoing {
            topic: self.topics.suppressions(),
            partition: 0,
            key: Some(key.into()),
            value,
            headers: Headers::default(),
        };
        let producer = self.log.producer(Duration::ZERO).unwrap();
        producer.send(record).await.unwrap();
    }

    /// Everything committed in a topic, partition by partition.
    pub(crate) async fn records(&self, topic: &str) -> Vec<Record> {
        let ranges = (0..N)
            .map(|p| TailRange {
                partition: TopicPartition::new(topic, p),
                from: From::Beginning,
                until: None,
            })
            .collect();
        let found: Arc<Mutex<Vec<Record>>> = Arc::default();
        let sink = Arc::clone(&found);
        let each = Box::new(move |record| sink.lock().unwrap().push(record));
        self.log
            .read_tails(ranges, Isolation::Committed, each)
            .await
            .unwrap();
        std::mem::take(&mut *found.lock().unwrap())
    }

    /// Waits, in virtual time, until a topic holds `count` records.
    pub(crate) async fn wait_for(&self, topic: &str, count: usize) -> Vec<Record> {
        let wait = async {
            loop {
                let records = self.records(topic).await;
                if records.len() >= count {
                    return records;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let wait = tokio::time::timeout(Duration::from_secs(120), wait);
        wait.await
            .unwrap_or_else(|_| panic!("{topic} does not get {count} records"))
    }

    pub(crate) fn deliveries(&self) -> String {
        self.topics
            .deliveries(Channel::Webhook, Class::Transactional)
            .to_string()
    }
}

/// An event to one webhook.
pub(crate) fn event(sender: &str, id: &str) -> Value {
    json!({
        "id": id, "sender": sender, "plan": {"channels": ["webhook"]},
        "target": {"recipients": [{"id": "r", "addresses": [
            {"channel": "webhook", "address": format!("https://example.com/{sender}")}]}]},
        "content": {"body": id},
    })
}

/// A sender whose partition is `partition`.
pub(crate) fn sender_in(partition: i32) -> String {
    (0..)
        .map(|i| format!("s{i}"))
        .find(|s| partition_of(s.as_bytes(), N) == partition)
        .unwrap()
}
