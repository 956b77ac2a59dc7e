//! A gateway over a log of its own, asked without a socket.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bongsu_domain::Class;
use bongsu_gateway::{ApiKey, Gateway, Resources, Scope, Settings, router};
use bongsu_runtime::{Clock, Health, Metrics, Secret};
use bongsu_schemas::{Codec, NotificationEvent, Topics};
use bongsu_store::LedgerReader;
use bongsu_stream::kafka::{KafkaCluster, settings::Settings as KafkaSettings};
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::{Cluster, From, Isolation, Record, TailRange, TopicPartition, TopicSpec};
use bongsu_testkit::{Names, TestKafka};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(crate) const PARTITIONS: i32 = 4;
pub(crate) const PUBLISHER: &str = "publisher-secret-1";
pub(crate) const READER: &str = "reader-secret-0001";
pub(crate) const EVERYTHING: &str = "everything-secret-1";

pub(crate) struct World {
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) topics: Topics,
    pub(crate) resources: Resources,
    pub(crate) router: Router,
    pub(crate) codec: Arc<Codec>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| unreadable(&self.text, &e))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or("").to_owned()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        let events = self.json()["events"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let id = |e: &Value| e["id"].as_str().unwrap().to_owned();
        events.iter().map(id).collect()
    }
}

fn unreadable(text: &str, error: &serde_json::Error) -> Value {
    json!({ "unreadable": text, "error": error.to_string() })
}

pub(crate) fn settings() -> Settings {
    let key = |id: &str, secret: &str, senders: &[&str], scopes: &[Scope]| ApiKey {
        id: id.into(),
        secret: Secret::new(secret),
        senders: senders.iter().map(|s| (*s).to_owned()).collect(),
        scopes: scopes.to_vec(),
    };
    Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        keys: vec![
            key("shop", PUBLISHER, &["shop-*", "exact"], &[Scope::Publish]),
            key("desk", READER, &["shop-1"], &[Scope::Read]),
            key("all", EVERYTHING, &["*"], &[Scope::Publish, Scope::Read]),
        ],
        ..Settings::default()
    }
}

impl World {
    pub(crate) async fn local() -> Self {
        Self::new(Arc::new(LocalCluster::default()), "t.", settings(), None).await
    }

    pub(crate) async fn local_with(settings: Settings) -> Self {
        Self::new(Arc::new(LocalCluster::default()), "t.", settings, None).await
    }

    pub(crate) async fn kafka(test: &str) -> Self {
        let cluster = kafka_cluster();
        Self::new(cluster, Names::new(test).topic_prefix(), settings(), None).await
    }

    pub(crate) async fn new(
        cluster: Arc<dyn Cluster>,
        prefix: &str,
        settings: Settings,
        store: Option<Arc<dyn LedgerReader>>,
    ) -> Self {
        let topics = Topics::new(prefix);
        create_topics(cluster.as_ref(), &topics).await;
        let codec = Arc::new(Codec::default());
        let resources = Resources {
            cluster: Arc::clone(&cluster),
            topics: topics.clone(),
            codec: Arc::clone(&codec),
            store,
            reports: bongsu_gateway::ReportSources::default(),
            metrics: Metrics::new().unwrap(),
            clock: Clock::system(),
            health: Health::new(),
            id_seed: None,
        };
        let gateway = Gateway::build(settings, resources.clone()).await.unwrap();
        Self {
            cluster,
            topics,
            resources,
            router: router(gateway),
            codec,
        }
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// `POST /v1/events` as the publisher of `shop-*`.
    pub(crate) async fn publish(&self, body: impl Into<Body>) -> Answer {
        self.ask(post(body)).await
    }

    pub(crate) async fn get(&self, path: &str, secret: &str) -> Answer {
        let request = Request::get(path).header("x-api-key", secret);
        self.ask(request.body(Body::empty()).unwrap()).await
    }

    /// Every record of both event topics, in offset order per partition.
    pub(crate) async fn records(&self) -> Vec<Record> {
        let found = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&found);
        let ranges = Class::ALL.iter().flat_map(|class| {
            let topic = self.topics.events(*class);
            (0..PARTITIONS).map(move |p| TailRange {
                partition: TopicPartition::new(Arc::clone(&topic), p),
                from: From::Beginning,
                until: None,
            })
        });
        let read = self.cluster.read_tails(
            ranges.collect(),
            Isolation::Committed,
            Box::new(move |record| sink.lock().unwrap().push(record)),
        );
        read.await.unwrap();
        found.lock().unwrap().clone()
    }

    pub(crate) fn decode(&self, record: &Record) -> NotificationEvent {
        self.codec.decode(record.value.as_ref().unwrap()).unwrap()
    }
}

pub(crate) fn kafka_cluster() -> Arc<dyn Cluster> {
    KafkaCluster::connect(KafkaSettings {
        bootstrap_servers: TestKafka::shared().bootstrap().to_owned(),
        ..KafkaSettings::default()
    })
    .unwrap()
}

pub(crate) async fn create_topics(cluster: &dyn Cluster, topics: &Topics) {
    for class in Class::ALL {
        let spec = TopicSpec {
            name: topics.events(*class).to_string(),
            partitions: PARTITIONS,
            replication: 1,
            settings: std::collections::BTreeMap::new(),
        };
        cluster.create_topic(spec).await.unwrap();
    }
    let names: Vec<String> = Class::ALL
        .iter()
        .map(|class| topics.events(*class).to_string())
        .collect();
    // A broker answers the creation before every broker knows the topic.
    bongsu_testkit::wait_until(Duration::from_secs(20), "the topics", || async {
        cluster.topics(names.clone()).await.unwrap().len() == names.len()
    })
    .await;
}

pub(crate) fn post(body: impl Into<Body>) -> Request<Body> {
    Request::post("/v1/events")
        .header("authorization", format!("Bearer {PUBLISHER}"))
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}

/// A good event of `shop-1`.
pub(crate) fn event(id: &str) -> Value {
    json!({
        "id": id,
        "sender": "shop-1",
        "target": { "recipients": [{
            "id": "u-1",
            "addresses": [{ "channel": "webhook", "address": "https://example.com/hook" }],
        }]},
        "plan": { "channels": ["webhook"] },
        "content": { "title": "hello" },
    })
}

/// The good event with `path` (JSON pointer) set to `value`.
pub(crate) fn with(path: &str, value: Value) -> Value {
    let mut event = event("e-1");
    let (parent, key) = path.rsplit_once('/').unwrap();
    event
        .pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .insert(key.to_owned(), value);
    event
}
