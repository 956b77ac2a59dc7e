use std::collections::BTreeMap;
use std::time::Duration;

use bongsu_stream::error::AdminError;
use bongsu_stream::port::*;
use bongsu_stream::schema_source::{SchemaSource, fingerprint_key};
use bongsu_stream::topics::{apply, plan};
use bytes::Bytes;

use crate::world::{Driven, World, commit_of, text};

fn settings(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

pub(crate) async fn a_plan_makes_topics_and_keeps_foreign_settings(world: World) {
    let cluster = &*world.cluster;
    let mut wish = TopicSpec {
        name: world.name("planned"),
        partitions: 2,
        replication: 1,
        settings: settings(&[("retention.ms", "60000"), ("cleanup.policy", "delete")]),
    };
    let first = plan(cluster, std::slice::from_ref(&wish)).await.unwrap();
    assert!(!first.is_settled() && !first.is_refused());
    apply(cluster, &first).await.unwrap();
    let settled = plan(cluster, std::slice::from_ref(&wish)).await.unwrap();
    assert!(settled.is_settled(), "{settled}");
    // Somebody else sets something of their own.
    cluster
        .alter_topic(&wish.name, settings(&[("segment.bytes", "2097152")]))
        .await
        .unwrap();
    wish.settings
        .insert("retention.ms".to_owned(), "120000".to_owned());
    let change = plan(cluster, std::slice::from_ref(&wish)).await.unwrap();
    assert!(change.to_string().contains("60000 -> 120000"), "{change}");
    apply(cluster, &change).await.unwrap();
    let found = cluster
        .topics(vec![wish.name.clone(), world.name("absent")])
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[&wish.name].settings,
        settings(&[
            ("retention.ms", "120000"),
            ("cleanup.policy", "delete"),
            ("segment.bytes", "2097152")
        ])
    );
    wish.partitions = 3;
    assert!(plan(cluster, &[wish]).await.unwrap().is_refused());
}

pub(crate) async fn a_topic_made_twice_is_refused(world: World) {
    let name = world.topic("twice", 1).await.to_string();
    let again = TopicSpec {
        name,
        partitions: 1,
        replication: 1,
        settings: BTreeMap::new(),
    };
    let refused = world.cluster.create_topic(again).await.unwrap_err();
    assert!(matches!(refused, AdminError::Refused { .. }), "{refused}");
}

pub(crate) async fn lag_tells_committed_and_end(world: World) {
    let topic = world.topic("lag", 2).await;
    world.write(&topic, 0, 0..10).await;
    let mut member = Driven::new(world.join(&[&topic]));
    member.until(|d| d.owned.len() == 2).await;
    member
        .consumer
        .commit(vec![commit_of(&topic, 0, 4, "")])
        .await
        .unwrap();
    let lag = world
        .cluster
        .lag(&world.name("group"), vec![topic.to_string()])
        .await
        .unwrap();
    assert_eq!(lag.len(), 2);
    assert_eq!((lag[0].committed, lag[0].end), (Some(4), 10));
    assert_eq!((lag[1].committed, lag[1].end), (None, 0));
    let unknown = world
        .cluster
        .lag("nobody", vec![world.name("absent")])
        .await;
    assert!(unknown.is_err());
    member.consumer.close().await;
}

pub(crate) async fn a_schema_written_later_is_found(world: World) {
    let topic = world
        .topic_with("schemas", 1, &[("cleanup.policy", "compact")])
        .await;
    let producer = world.producer();
    let schema = |fingerprint: u64, json: &'static str| {
        let mut record = text(&topic, 0, json);
        record.key = Some(Bytes::from(fingerprint_key(fingerprint)));
        record
    };
    producer.send(schema(7, "\"string\"")).await.unwrap();
    let source = SchemaSource::start(world.cluster.clone(), &topic, None)
        .await
        .unwrap();
    assert_eq!(
        source.fingerprint(7).await.unwrap().as_deref(),
        Some("\"string\"")
    );
    assert_eq!(source.fingerprint(8).await.unwrap(), None);
    producer.send(schema(8, "\"long\"")).await.unwrap();
    while source.fingerprint(8).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(source.id(1).await.unwrap(), None);
    let absent = SchemaSource::start(world.cluster.clone(), &world.name("absent"), None).await;
    assert!(absent.is_err());
}

pub(crate) async fn a_ping_is_answered(world: World) {
    world.cluster.ping(Duration::from_secs(10)).await.unwrap();
    assert_eq!(world.cluster.is_local(), world.local.is_some());
}
