//! A schema registry in front of the schemas: records carry its ids, and foreign ones are read.
//!
//! The registry is a small one of the test's own, or a real one at `BONGSU_TEST_REGISTRY`
//! (`http://host:port/path`), whose subjects get the test's own prefix.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use bongsu_domain::partition::partition_of;
use bongsu_runtime::tasks::detach;
use bongsu_schemas::codec::{AvroRecord, Framing};
use bongsu_schemas::{Codec, NotificationEvent};
use bongsu_stream::kafka::{KafkaCluster, Settings};
use bongsu_stream::port::{From, Headers, Isolation, Outgoing, TailRange, TopicPartition};
use bongsu_stream::schema_source::{Registry, RegistrySettings};
use bongsu_testkit::{Names, TestKafka, wait_until};
use serde_json::{Value, json};

use crate::dev::{Dev, http, prefixed, refusal};

const SOON: Duration = Duration::from_secs(30);

/// Ids by subject and schema.
type Held = Arc<Mutex<(HashMap<(String, String), i32>, Vec<String>)>>;
type Answer = (StatusCode, Json<Value>);

fn error(status: StatusCode, code: i32) -> Answer {
    let body = json!({"error_code": code, "message": "not found"});
    (status, Json(body))
}

fn text_of(body: &Value) -> String {
    body["schema"].as_str().unwrap_or_default().to_owned()
}

async fn registered(
    State(held): State<Held>,
    Path(subject): Path<String>,
    Json(body): Json<Value>,
) -> Answer {
    let (subjects, schemas) = &mut *held.lock().unwrap();
    let schema = text_of(&body);
    let at = schemas.iter().position(|known| *known == schema);
    let at = at.unwrap_or_else(|| {
        schemas.push(schema.clone());
        schemas.len() - 1
    });
    let id = i32::try_from(at).unwrap() + 1;
    subjects.insert((subject, schema), id);
    (StatusCode::OK, Json(json!({ "id": id })))
}

async fn looked_up(
    State(held): State<Held>,
    Path(subject): Path<String>,
    Json(body): Json<Value>,
) -> Answer {
    let held = held.lock().unwrap();
    match held.0.get(&(subject, text_of(&body))) {
        Some(id) => (StatusCode::OK, Json(json!({ "id": id }))),
        None => error(StatusCode::NOT_FOUND, 40_403),
    }
}

async fn by_id(State(held): State<Held>, Path(id): Path<usize>) -> Answer {
    let held = held.lock().unwrap();
    match id.checked_sub(1).and_then(|at| held.1.get(at)) {
        Some(schema) => (StatusCode::OK, Json(json!({ "schema": schema }))),
        None => error(StatusCode::NOT_FOUND, 40_403),
    }
}

/// The base of a registry.
async fn registry() -> String {
    if let Ok(real) = std::env::var("BONGSU_TEST_REGISTRY") {
        return real;
    }
    let router = axum::Router::new()
        .route("/base/subjects/{subject}/versions", post(registered))
        .route("/base/subjects/{subject}", post(looked_up))
        .route("/base/schemas/ids/{id}", get(by_id))
        .with_state(Held::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/base", listener.local_addr().unwrap());
    detach("registry", async move {
        axum::serve(listener, router).await.unwrap();
    });
    base
}

fn event(id: &str, url: &str) -> Value {
    json!({
        "id": id, "sender": "shop", "plan": {"channels": ["webhook"]},
        "target": {"recipients": [{"id": "ann", "addresses": [
            {"channel": "webhook", "address": url}]}]},
        "content": {"body": format!("text of {id}")},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn records_carry_the_registrys_ids_and_foreign_ones_are_read() {
    let (bootstrap, names) = (TestKafka::shared().bootstrap(), Names::new("registry"));
    let base = registry().await;
    let dev = Dev::start_with(bootstrap, names.topic_prefix(), |command| {
        command.env("BONGSU__REGISTRY__URL", &base);
    });
    let settings: RegistrySettings = serde_json::from_value(json!({ "url": base })).unwrap();
    let registry = Registry::new(settings).unwrap();
    let cluster = KafkaCluster::connect(Settings {
        bootstrap_servers: bootstrap.to_owned(),
        ..Settings::default()
    })
    .unwrap();
    let topic = |name: &str| format!("{}{name}", names.topic_prefix());

    // One over HTTP, one as a serializer of a registry's client writes it.
    let url = format!("{}/v1/events", dev.gateway);
    let hook = format!("{}/hook/a", dev.webhook);
    let request = http().post(url).json(&event("e-1", &hook));
    assert_eq!(request.send().await.unwrap().status().as_u16(), 202);
    let subject = topic("events-value");
    let text = NotificationEvent::current().text;
    let id = registry.look_up(&subject, text).await.unwrap().unwrap();
    let framing = Framing::Confluent(HashMap::from([(NotificationEvent::NAME, id)]));
    let second: NotificationEvent = serde_json::from_value(event("e-2", &hook)).unwrap();
    let record = Outgoing {
        topic: topic("events").into(),
        partition: partition_of(b"shop", 4),
        key: Some("shop".into()),
        value: Some(Codec::new(framing).encode(&second).unwrap()),
        headers: Headers::default(),
    };
    let producer = cluster.producer(Duration::ZERO).unwrap();
    producer.send(record).await.unwrap();
    wait_until(SOON, "both have arrived", || async {
        dev.report().await["accepted"] == 2
    })
    .await;

    // Every value of the results begins with the magic byte and an id that the registry resolves.
    let found: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let ranges = (0..4).map(|partition| TailRange {
        partition: TopicPartition::new(topic("results"), partition),
        from: From::Beginning,
        until: None,
    });
    let ranges: Vec<_> = ranges.collect();
    wait_until(SOON, "the receipts", || {
        let (sink, cluster, ranges) = (Arc::clone(&found), Arc::clone(&cluster), ranges.clone());
        async move {
            sink.lock().unwrap().clear();
            let into = Arc::clone(&sink);
            let each = Box::new(move |record: bongsu_stream::port::Record| {
                let value = record.value.unwrap_or_default().to_vec();
                into.lock().unwrap().push(value);
            });
            let read = cluster.read_tails(ranges, Isolation::Committed, each);
            read.await.unwrap();
            sink.lock().unwrap().len() >= 2
        }
    })
    .await;
    let values = std::mem::take(&mut *found.lock().unwrap());
    for value in values {
        assert_eq!(value[0], 0, "{value:?}");
        let id = u32::from_be_bytes(value[1..5].try_into().unwrap());
        let schema = format!("{base}/schemas/ids/{id}");
        let told: Value = http()
            .get(schema)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert!(
            told["schema"].as_str().unwrap().contains("Receipt"),
            "{told}"
        );
    }
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_not_registered_is_told_at_the_start() {
    let (bootstrap, names) = (TestKafka::shared().bootstrap(), Names::new("registry"));
    let base = registry().await;
    let mut run = prefixed(names.topic_prefix(), bootstrap, &["run", "fanout"]);
    run.env("BONGSU__REGISTRY__URL", base);
    let (_, told) = refusal(&mut run);
    assert!(told.contains("run `bongsu topics apply`"), "{told}");
    assert!(told.contains("events-value"), "{told}");
}
