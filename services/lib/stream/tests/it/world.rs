//! What the tests share: clusters, topics of their own, and waiting with a deadline.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bongsu_stream::kafka::{GroupProtocol, KafkaCluster, Settings};
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::*;
use bytes::Bytes;

/// How long a test may take; virtual time on the local log.
const TEST: Duration = Duration::from_secs(90);

/// A cluster under test.
pub(crate) struct World {
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) local: Option<LocalCluster>,
    /// Makes names unique per test.
    unique: String,
}

/// A broker of this run; it stops when this process ends.
pub(crate) struct Broker {
    pub(crate) bootstrap: String,
    dir: PathBuf,
    /// The end of its input, when this process ends, stops the broker.
    _keeper: Option<Child>,
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../scripts/kafka")
}

fn broker() -> &'static str {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    let start = || match std::env::var("BONGSU_TEST_KAFKA") {
        Ok(bootstrap) => Broker {
            bootstrap,
            dir: PathBuf::new(),
            _keeper: None,
        },
        Err(_) => Broker::start(),
    };
    &BROKER.get_or_init(start).bootstrap
}

impl Broker {
    /// A broker of a test's own, to be treated badly.
    pub(crate) fn start() -> Self {
        Self::start_with(&["start"])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("bongsu-kafka-{}", uuid::Uuid::new_v4()));
        let keeper = Command::new("sh")
            .args(["-c", "cat >/dev/null; exec \"$0\" stop --dir \"$1\""])
            .arg(script())
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut broker = Self {
            bootstrap: String::new(),
            dir,
            _keeper: Some(keeper),
        };
        let out = broker.call(arguments);
        broker.bootstrap = out.trim().strip_prefix("bootstrap=").unwrap().to_owned();
        broker
    }

    /// Runs `scripts/kafka` on this broker and gives what it printed.
    pub(crate) fn call(&self, arguments: &[&str]) -> String {
        let done = Command::new(script())
            .args(arguments)
            .arg("--dir")
            .arg(&self.dir)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Sends the broker's process a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let status = self.call(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let pid = status["pids"][0].to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl World {
    pub(crate) fn local() -> Self {
        let local = LocalCluster::default();
        Self {
            cluster: Arc::new(local.clone()),
            local: Some(local),
            unique: unique(),
        }
    }

    pub(crate) fn kafka() -> Self {
        Self::kafka_at(broker())
    }

    pub(crate) fn kafka_at(bootstrap: &str) -> Self {
        Self::kafka_with(Settings {
            bootstrap_servers: bootstrap.to_owned(),
            ..Settings::default()
        })
    }

    /// Groups are kept by the broker.
    pub(crate) fn kafka_with_broker_groups() -> Self {
        Self::kafka_with(Settings {
            bootstrap_servers: broker().to_owned(),
            group_protocol: GroupProtocol::Consumer,
            ..Settings::default()
        })
    }

    pub(crate) fn kafka_with(settings: Settings) -> Self {
        Self {
            cluster: KafkaCluster::connect(settings).unwrap(),
            local: None,
            unique: unique(),
        }
    }

    pub(crate) fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.unique)
    }

    /// Makes a topic of this test's own.
    pub(crate) async fn topic(&self, name: &str, partitions: i32) -> Arc<str> {
        self.topic_with(name, partitions, &[]).await
    }

    pub(crate) async fn topic_with(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Arc<str> {
        let name = self.name(name);
        let settings = settings
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let spec = TopicSpec {
            name: name.clone(),
            partitions,
            replication: 1,
            settings,
        };
        self.cluster.create_topic(spec).await.unwrap();
        name.into()
    }

    pub(crate) fn join(&self, topics: &[&Arc<str>]) -> Box<dyn GroupConsumer> {
        self.join_with(topics, Duration::from_secs(6))
    }

    pub(crate) fn join_with(
        &self,
        topics: &[&Arc<str>],
        session: Duration,
    ) -> Box<dyn GroupConsumer> {
        self.cluster
            .join(GroupOptions {
                group: self.name("group"),
                topics: topics.iter().map(|t| (*t).clone()).collect(),
                reset: Reset::Earliest,
                session_timeout: session,
                buffer_bytes: 1 << 20,
            })
            .unwrap()
    }

    pub(crate) fn producer(&self) -> Arc<dyn Producer> {
        self.cluster.producer(Duration::from_millis(1)).unwrap()
    }

    /// Writes numbered records and waits for all of them.
    pub(crate) async fn write(
        &self,
        topic: &Arc<str>,
        partition: i32,
        numbers: std::ops::Range<usize>,
    ) {
        let producer = self.producer();
        let sent: Vec<_> = numbers
            .map(|n| producer.send(text(topic, partition, &n.to_string())))
            .collect();
        for one in sent {
            one.await.unwrap();
        }
    }

    /// Reads a partition to its end.
    pub(crate) async fn tail(
        &self,
        topic: &Arc<str>,
        partition: i32,
        isolation: Isolation,
    ) -> Vec<String> {
        let range = range(topic, partition, From::Beginning, None);
        self.tails(vec![range], isolation)
            .await
            .0
            .iter()
            .map(value)
            .collect()
    }

    pub(crate) async fn tails(
        &self,
        ranges: Vec<TailRange>,
        isolation: Isolation,
    ) -> (Vec<Record>, TailEnds) {
        let (sender, mut received) = tokio::sync::mpsc::channel(100_000);
        let each = Box::new(move |record| sender.try_send(record).unwrap());
        let ends = self
            .cluster
            .read_tails(ranges, isolation, each)
            .await
            .unwrap();
        let mut records = Vec::new();
        while let Ok(record) = received.try_recv() {
            records.push(record);
        }
        (records, ends)
    }
}

fn unique() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    id.chars().take(12).collect()
}

pub(crate) async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST, test)
        .await
        .expect("the test takes too long")
}

pub(crate) fn text(topic: &Arc<str>, partition: i32, value: &str) -> Outgoing {
    Outgoing {
        topic: topic.clone(),
        partition,
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from(value.to_owned())),
        headers: Headers::default(),
    }
}

pub(crate) fn value(record: &Record) -> String {
    String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
}

pub(crate) fn range(topic: &Arc<str>, partition: i32, from: From, until: Option<i64>) -> TailRange {
    TailRange {
        partition: TopicPartition::new(topic.clone(), partition),
        from,
        until,
    }
}

pub(crate) fn commit_of(topic: &Arc<str>, partition: i32, offset: i64, metadata: &str) -> Commit {
    Commit {
        partition: TopicPartition::new(topic.clone(), partition),
        committed: Committed {
            offset,
            metadata: metadata.to_owned(),
        },
    }
}

/// A member that is driven until something holds, and keeps what it saw.
pub(crate) struct Driven {
    pub(crate) consumer: Box<dyn GroupConsumer>,
    pub(crate) owned: BTreeMap<TopicPartition, Option<Committed>>,
    pub(crate) records: Vec<Record>,
    pub(crate) revoked: Vec<(u64, Vec<TopicPartition>)>,
    pub(crate) lost: Vec<TopicPartition>,
}

impl Driven {
    pub(crate) fn new(consumer: Box<dyn GroupConsumer>) -> Self {
        Self {
            consumer,
            owned: BTreeMap::new(),
            records: Vec::new(),
            revoked: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// Takes one event. Releases nothing.
    pub(crate) async fn step(&mut self) {
        match self.consumer.next().await {
            GroupEvent::Records(records) => self.records.extend(records),
            GroupEvent::Assigned(assigned) => self.owned.extend(assigned),
            GroupEvent::Revoked {
                rebalance,
                partitions,
            } => {
                self.revoked.push((rebalance, partitions));
            }
            GroupEvent::Lost(partitions) => {
                self.owned.retain(|p, _| !partitions.contains(p));
                self.lost.extend(partitions);
            }
            GroupEvent::Failed(error) => panic!("the consumer failed: {error}"),
        }
    }

    pub(crate) async fn until(&mut self, mut holds: impl FnMut(&Self) -> bool) {
        while !holds(self) {
            self.step().await;
        }
    }

    /// Releases what was revoked.
    pub(crate) fn release(&mut self) {
        for (number, partitions) in std::mem::take(&mut self.revoked) {
            self.owned.retain(|p, _| !partitions.contains(p));
            self.consumer.release(number);
        }
    }

    pub(crate) fn values(&self) -> Vec<String> {
        self.records.iter().map(value).collect()
    }
}

/// Drives two members until something holds of both.
pub(crate) async fn until_both(
    a: &mut Driven,
    b: &mut Driven,
    mut holds: impl FnMut(&Driven, &Driven) -> bool,
) {
    while !holds(a, b) {
        // `step` loses nothing when dropped: it waits in `next` alone, which is cancel safe.
        tokio::select! {
            () = a.step() => {}
            () = b.step() => {}
        }
    }
}

/// Bytes that no compression makes smaller.
pub(crate) fn noise(bytes: usize) -> String {
    let mut x = 1_u64;
    let draw = move |_| {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + x.to_be_bytes()[0] % 95)
    };
    (0..bytes).map(draw).collect()
}
