//! What happens when the broker freezes, dies and comes back. Each test has a broker of its own.

use std::time::Duration;

use bongsu_stream::error::{AdminError, CommitError};
use bongsu_stream::port::*;

use crate::world::{Broker, Driven, World, commit_of, text, within};

/// Shorter than the freeze; the shortest our own brokers take is a second.
const SESSION: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_costs_the_assignment_and_gives_it_back() {
    let broker = Broker::start();
    within(async {
        let world = World::kafka_at(&broker.bootstrap);
        let topic = world.topic("frozen", 2).await;
        world.write(&topic, 0, 0..10).await;
        let mut member = Driven::new(world.join_with(&[&topic], SESSION));
        member
            .until(|d| d.owned.len() == 2 && d.records.len() == 10)
            .await;
        member
            .consumer
            .commit(vec![commit_of(&topic, 0, 10, "before")])
            .await
            .unwrap();
        broker.signal("-STOP");
        member.until(|d| d.lost.len() == 2).await;
        let refused = member
            .consumer
            .commit(vec![commit_of(&topic, 0, 10, "after")])
            .await;
        assert!(
            matches!(refused, Err(CommitError::NotOwner(_))),
            "{refused:?}"
        );
        let silent = world.cluster.ping(Duration::from_millis(300)).await;
        assert!(
            matches!(silent, Err(AdminError::Unavailable(_))),
            "{silent:?}"
        );
        broker.signal("-CONT");
        member.until(|d| d.owned.len() == 2).await;
        let committed = member.owned[&TopicPartition::new(topic.clone(), 0)]
            .clone()
            .unwrap();
        assert_eq!(committed.metadata, "before");
        world.write(&topic, 0, 10..20).await;
        member.until(|d| d.records.len() == 20).await;
        member.consumer.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_that_comes_back_loses_nothing() {
    let broker = Broker::start();
    within(async {
        let world = World::kafka_at(&broker.bootstrap);
        let topic = world.topic("killed", 1).await;
        let mut member = Driven::new(world.join(&[&topic]));
        member.until(|d| d.owned.len() == 1).await;
        let producer = world.producer();
        producer.send(text(&topic, 0, "before")).await.unwrap();
        member.until(|d| d.records.len() == 1).await;
        broker.call(&["kill-broker", "1"]);
        let sent = producer.send(text(&topic, 0, "while it is away"));
        assert_eq!(producer.drain(Duration::from_millis(200)).await, Err(1));
        broker.call(&["restart-broker", "1"]);
        sent.await.unwrap();
        // Nothing was committed, so a new session may begin with the first record again.
        let last = |d: &Driven| d.values().last().cloned();
        member
            .until(|d| last(d).as_deref() == Some("while it is away"))
            .await;
        while member
            .consumer
            .commit(vec![commit_of(&topic, 0, 2, "")])
            .await
            .is_err()
        {
            member.until(|d| !d.owned.is_empty()).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut transactions = world
            .cluster
            .transactional(&world.name("slot"))
            .await
            .unwrap();
        let group = member.consumer.group_metadata().await.unwrap();
        transactions
            .run(vec![text(&topic, 0, "after")], vec![], group)
            .await
            .unwrap();
        member.until(|d| last(d).as_deref() == Some("after")).await;
        member.consumer.close().await;
    })
    .await;
}
