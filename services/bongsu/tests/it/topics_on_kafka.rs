//! `bongsu topics` against real Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;

use bongsu_stream::kafka::{KafkaCluster, Settings};
use bongsu_stream::port::{Cluster, TopicSpec};
use bongsu_testkit::{Names, TestKafka};
use serde_json::Value;

use crate::dev::{prefixed, refusal, text};

fn connect(bootstrap: &str) -> Arc<dyn Cluster> {
    KafkaCluster::connect(Settings {
        bootstrap_servers: bootstrap.to_owned(),
        ..Settings::default()
    })
    .unwrap()
}

async fn create(cluster: &dyn Cluster, name: String, partitions: i32) {
    let settings = BTreeMap::new();
    cluster
        .create_topic(TopicSpec {
            name,
            partitions,
            replication: 1,
            settings,
        })
        .await
        .unwrap();
}

fn actions(plan: &str) -> Vec<String> {
    let plan: Value = serde_json::from_str(plan).unwrap();
    let changes = plan["changes"].as_array().unwrap();
    changes
        .iter()
        .map(|change| change["action"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_planned_applied_and_then_left_alone() {
    let bootstrap = TestKafka::shared().bootstrap();
    let names = Names::new("topics");
    let ask = |arguments: &[&str]| {
        let mut command = prefixed(names.topic_prefix(), bootstrap, arguments);
        command
            .env("BONGSU__TOPICS__REPLICATION", "1")
            .env("BONGSU__TOPICS__MIN_INSYNC_REPLICAS", "1")
            .env("BONGSU__TOPICS__PARTITIONS", "3");
        command
    };
    let planned = actions(&text(&mut ask(&["topics", "plan", "--json"])));
    assert!(planned.len() > 6 && planned.iter().all(|a| a == "create"));
    text(&mut ask(&["topics", "apply"]));

    // What Bongsu does not own is an administrator's, and stays.
    let cluster = connect(bootstrap);
    let events = names.topic("events");
    let foreign = BTreeMap::from([("segment.ms".to_owned(), "654321".to_owned())]);
    cluster.alter_topic(&events, foreign).await.unwrap();
    let again = actions(&text(&mut ask(&["topics", "plan", "--json"])));
    assert!(again.iter().all(|a| a == "unchanged"), "{again:?}");

    // What it owns is set right, and the foreign setting survives that.
    let mut longer = ask(&["topics", "apply"]);
    let changed = text(longer.env("BONGSU__TOPICS__RETENTION", "2h"));
    assert!(changed.contains("retention.ms"), "{changed}");
    let found = cluster.topics(vec![events.clone()]).await.unwrap();
    let settings = &found.get(&events).unwrap().settings;
    assert_eq!(settings["segment.ms"], "654321");
    assert_eq!(settings["retention.ms"], "7200000");

    let mut other = ask(&["topics", "apply"]);
    let (code, told) = refusal(other.env("BONGSU__TOPICS__PARTITIONS", "5"));
    assert_eq!(code, Some(64), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_another_number_of_partitions_is_named_and_nothing_is_made() {
    let bootstrap = TestKafka::shared().bootstrap();
    let names = Names::new("refused");
    let cluster = connect(bootstrap);
    let results = names.topic("results");
    create(&*cluster, results.clone(), 7).await;
    let mut apply = prefixed(names.topic_prefix(), bootstrap, &["topics", "apply"]);
    let done = apply.output().unwrap();
    assert_eq!(done.status.code(), Some(64));
    let told = String::from_utf8_lossy(&done.stdout);
    let line = told.lines().find(|l| l.contains("has 7 partitions"));
    assert!(line.is_some_and(|l| l.contains(&results)), "{told}");
    let events = names.topic("events");
    assert!(cluster.topics(vec![events]).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_refuses_to_start_without_topics_or_on_topics_that_do_not_fit() {
    let bootstrap = TestKafka::shared().bootstrap();
    let names = Names::new("unfit");
    let run = |service: &str| {
        refusal(&mut prefixed(
            names.topic_prefix(),
            bootstrap,
            &["run", service],
        ))
    };
    let (_, told) = run("fanout");
    assert!(told.contains("bongsu topics apply"), "{told}");

    let cluster = connect(bootstrap);
    create(&*cluster, names.topic("schemas"), 1).await;
    create(&*cluster, names.topic("results"), 7).await;
    for topic in [
        "events",
        "seen",
        "deliveries.webhook",
        "journal.webhook",
        "lanes.webhook",
        "deliveries.discord",
        "journal.discord",
        "lanes.discord",
    ] {
        create(&*cluster, names.topic(topic), 4).await;
        create(&*cluster, names.topic(&format!("{topic}.bulk")), 4).await;
    }
    create(&*cluster, names.topic("dead-letters"), 4).await;
    for service in ["fanout", "dispatch"] {
        let (_, told) = run(service);
        assert!(told.contains("results has 7"), "{service}: {told}");
    }
}
