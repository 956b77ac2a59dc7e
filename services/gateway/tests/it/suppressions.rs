//! Suppressions over HTTP: reading and writing are scopes of their own, for keys of every sender alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use bongsu_domain::{Channel, Hold, Reason, Suppression, Timestamp};
use bongsu_gateway::{ApiKey, Scope, Settings};
use bongsu_runtime::Secret;
use bongsu_schemas::suppression::{SuppressionChange, read_suppression};
use bongsu_store::{HygieneStore as _, MemoryStore, SuppressionChanges};
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::{Cluster, From, Isolation, Record, TailRange, TopicPartition, TopicSpec};
use http::{Method, Request};

use crate::counted::Counted;
use crate::world::{World, settings};

const HELD: &str = "/v1/suppressions/webhook/default/a-17";

/// Keys by what they may do.
fn keys() -> Settings {
    let key = |id: &str, senders: &str, scopes: &[Scope]| ApiKey {
        id: id.into(),
        secret: Secret::new(format!("secret-of-the-key-{id}")),
        senders: vec![senders.into()],
        scopes: scopes.to_vec(),
    };
    Settings {
        keys: vec![
            key("reads", "*", &[Scope::Read]),
            key("suppresses", "*", &[Scope::Suppress]),
            key("both", "*", &[Scope::Read, Scope::Suppress]),
            key("publishes", "*", &[Scope::Publish]),
            key("some", "shop-1", &[Scope::Read, Scope::Suppress]),
        ],
        ..settings()
    }
}

async fn world() -> World {
    world_on(Arc::new(LocalCluster::default())).await
}

async fn world_on(cluster: Arc<dyn Cluster>) -> World {
    let store = MemoryStore::new();
    let suppression = Suppression {
        channel: Channel::Webhook,
        account: "default".into(),
        address_id: "a-1".into(),
        app: None,
        hold: Hold::Suppressed,
        reason: Reason::InvalidAddress,
        at: Timestamp(1),
        registered_at: None,
        verdicts: 1,
        first_at: Timestamp(1),
        by: "hygiene".into(),
        why: None,
    };
    let changes = SuppressionChanges {
        kept: vec![suppression],
        ..SuppressionChanges::default()
    };
    store.keep_suppressions(&changes).await.unwrap();
    let world = World::new(cluster, "t.", keys(), Some(Arc::new(store))).await;
    for topic in [world.topics.suppressions(), world.topics.audit()] {
        let spec = TopicSpec {
            name: topic.to_string(),
            partitions: 1,
            replication: 1,
            settings: Default::default(),
        };
        world.cluster.create_topic(spec).await.unwrap();
    }
    world
}

async fn records(world: &World, topic: Arc<str>) -> Vec<Record> {
    let found = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = Arc::clone(&found);
    let range = TailRange {
        partition: TopicPartition::new(topic, 0),
        from: From::Beginning,
        until: None,
    };
    let each = Box::new(move |record| sink.lock().unwrap().push(record));
    let read = world
        .cluster
        .read_tails(vec![range], Isolation::Committed, each)
        .await;
    read.unwrap();
    std::mem::take(&mut *found.lock().unwrap())
}

/// Status and code of a request by a key; without one when `key` is empty.
async fn ask(world: &World, method: &Method, path: &str, key: &str) -> (u16, String) {
    let mut request = Request::builder().method(method).uri(path);
    if !key.is_empty() {
        request = request.header("x-api-key", format!("secret-of-the-key-{key}"));
    }
    let body = match *method {
        Method::PUT => Body::from(r#"{"why": "asked to be left alone"}"#),
        _ => Body::empty(),
    };
    let answer = world.ask(request.body(body).unwrap()).await;
    let code = if answer.status.is_success() {
        String::new()
    } else {
        answer.code()
    };
    (answer.status.as_u16(), code)
}

#[tokio::test]
async fn who_may_read_may_not_write_and_the_reverse_and_only_for_every_sender() {
    let world = world().await;
    let good = || (200, String::new());
    let no = || (403, "missing_scope".to_owned());
    let list = "/v1/suppressions?channel=webhook";
    for (key, reads, writes) in [
        ("reads", good(), no()),
        ("suppresses", no(), good()),
        ("both", good(), good()),
        ("publishes", no(), no()),
        ("some", no(), no()),
        (
            "unknown",
            (401, "unauthorized".to_owned()),
            (401, "unauthorized".to_owned()),
        ),
        (
            "",
            (401, "unauthorized".to_owned()),
            (401, "unauthorized".to_owned()),
        ),
    ] {
        assert_eq!(
            ask(&world, &Method::GET, list, key).await,
            reads,
            "{key} lists"
        );
        assert_eq!(
            ask(&world, &Method::PUT, HELD, key).await,
            writes,
            "{key} holds"
        );
        assert_eq!(
            ask(&world, &Method::DELETE, HELD, key).await,
            writes,
            "{key} lets go"
        );
    }
    // What was refused was not written, and what was written says by whom.
    let written = records(&world, world.topics.suppressions()).await;
    let by: Vec<Option<String>> = written
        .iter()
        .map(|r| read_suppression(&world.codec, r.key.as_deref(), r.value.as_deref()).unwrap())
        .map(|change| match change {
            SuppressionChange::Keep(kept) => Some(kept.by),
            SuppressionChange::Forget(_) => None,
        })
        .collect();
    let key = |id: &str| Some(format!("key/{id}"));
    assert_eq!(by, [key("suppresses"), None, key("both"), None]);
    assert_eq!(records(&world, world.topics.audit()).await.len(), 4);
}

#[tokio::test]
async fn changes_share_the_gateways_producer_and_ask_for_the_topics_once() {
    let cluster = Arc::new(Counted::default());
    let world = world_on(Arc::<Counted>::clone(&cluster)).await;
    let made = || {
        let made = [&cluster.producers, &cluster.descriptions];
        made.map(|count| count.load(Ordering::SeqCst))
    };
    let good = (200, String::new());
    assert_eq!(ask(&world, &Method::PUT, HELD, "both").await, good);
    let first = made();
    assert_eq!(first[0], 1, "the gateway's own");
    for method in [Method::PUT, Method::DELETE] {
        assert_eq!(ask(&world, &method, HELD, "both").await, good);
    }
    assert_eq!(made(), first);
    assert_eq!(records(&world, world.topics.audit()).await.len(), 3);
}

#[tokio::test]
async fn a_reader_sees_what_is_held() {
    let world = world().await;
    let answer = world
        .get("/v1/suppressions", "secret-of-the-key-reads")
        .await;
    let json = answer.json();
    let held = json["suppressions"].as_array().unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(
        (&held[0]["address_id"], &held[0]["reason"]),
        (&"a-1".into(), &"invalid_address".into())
    );
}
