//! A broker that encrypts and asks who is there, reached with the settings a user would write.

use std::time::Duration;

use bongsu_stream::error::AdminError;
use bongsu_stream::kafka::Settings;
use bongsu_stream::port::*;
use serde_json::{Value, json};

use crate::world::{Broker, Driven, World, commit_of, text, within};

/// How long a refusal may take to be told.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn secure_broker() -> (Broker, Value) {
    let broker = Broker::start_with(&["start", "--secure"]);
    let status = broker.call(&["status", "--json"]);
    let mut status: Value = serde_json::from_str(&status).unwrap();
    (broker, status["secure"].take())
}

pub(crate) fn settings(secure: &Value, mechanism: &str, changes: &[(&str, Value)]) -> Settings {
    let mut settings = json!({
        "bootstrap_servers": secure["bootstrap"],
        "tls": {"ca_file": secure["ca"]},
        "sasl": {"mechanism": mechanism, "username": secure["username"], "password": secure["password"]},
    });
    for (pointer, value) in changes {
        *settings.pointer_mut(pointer).unwrap() = value.clone();
    }
    serde_json::from_value(settings).unwrap()
}

/// Writes, reads, commits and runs a transaction: every kind of client there is.
pub(crate) async fn use_every_client(world: &World) {
    world.cluster.ping(PATIENCE).await.unwrap();
    let topic = world.topic("source", 1).await;
    let target = world.topic("target", 1).await;
    world.write(&topic, 0, 0..10).await;
    let mut member = Driven::new(world.join(&[&topic]));
    member.until(|d| d.records.len() == 10).await;
    member
        .consumer
        .commit(vec![commit_of(&topic, 0, 5, "")])
        .await
        .unwrap();
    let mut producer = world
        .cluster
        .transactional(&world.name("slot"))
        .await
        .unwrap();
    let group = member.consumer.group_metadata().await.unwrap();
    let offsets = vec![commit_of(&topic, 0, 10, "")];
    producer
        .run(vec![text(&target, 0, "x")], offsets, group)
        .await
        .unwrap();
    let range = TailRange {
        partition: TopicPartition::new(target, 0),
        from: From::Beginning,
        until: None,
    };
    let (records, _) = world.tails(vec![range], Isolation::Committed).await;
    assert_eq!(records.len(), 1);
    member.consumer.close().await;
}

pub(crate) async fn refusal(settings: Settings) -> (&'static str, String) {
    let world = World::kafka_with(settings);
    match world.cluster.ping(PATIENCE).await {
        Err(AdminError::NoEntry {
            setting,
            fix,
            reason,
        }) => (setting, format!("{fix}: {reason}")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secure_broker_is_used_and_its_refusals_name_the_setting() {
    let (_broker, secure) = secure_broker();
    within(async {
        for mechanism in ["SCRAM-SHA-256", "PLAIN"] {
            let world = World::kafka_with(settings(&secure, mechanism, &[]));
            use_every_client(&world).await;
            let wrong = [("/sasl/password", json!("torch"))];
            let (setting, told) = refusal(settings(&secure, mechanism, &wrong)).await;
            assert_eq!(setting, "kafka.sasl", "{mechanism}: {told}");
            assert!(!told.contains("torch"), "a password is told: {told}");
        }
        let (setting, told) = refusal(settings(&secure, "SCRAM-SHA-512", &[])).await;
        assert_eq!(setting, "kafka.sasl.mechanism", "{told}");
        // The system's authorities did not sign this broker's certificate.
        let (setting, told) = refusal(settings(&secure, "PLAIN", &[("/tls", json!({}))])).await;
        assert_eq!(setting, "kafka.tls.ca_file", "{told}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_an_open_listener_is_told() {
    let broker = Broker::start();
    within(async {
        let settings = json!({"bootstrap_servers": broker.bootstrap, "tls": {}});
        let (setting, told) = refusal(serde_json::from_value(settings).unwrap()).await;
        assert_eq!(setting, "kafka.tls", "{told}");
    })
    .await;
}
