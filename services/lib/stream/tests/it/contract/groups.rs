use std::sync::Arc;
use std::time::Duration;

use bongsu_stream::error::CommitError;
use bongsu_stream::port::*;

use crate::world::{Driven, World, commit_of, until_both};

pub(crate) async fn a_member_reads_in_order_and_resumes_with_its_metadata(world: World) {
    let topic = world.topic("resume", 1).await;
    world.write(&topic, 0, 0..100).await;
    let mut first = Driven::new(world.join(&[&topic]));
    first.until(|d| d.records.len() >= 100).await;
    assert_eq!(
        first.owned.get(&TopicPartition::new(topic.clone(), 0)),
        Some(&None)
    );
    let wanted: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(first.values(), wanted);
    first
        .consumer
        .commit(vec![commit_of(&topic, 0, 40, "bits:봉수")])
        .await
        .unwrap();
    first.consumer.close().await;

    let mut second = Driven::new(world.join(&[&topic]));
    second.until(|d| d.records.len() >= 60).await;
    let committed = Committed {
        offset: 40,
        metadata: "bits:봉수".to_owned(),
    };
    assert_eq!(
        second.owned.get(&TopicPartition::new(topic, 0)),
        Some(&Some(committed))
    );
    assert_eq!(second.values(), wanted.get(40..).unwrap());
    second.consumer.close().await;
}

/// Two members, the second of which waits for what the first has to give up.
async fn two(world: &World, topic: &Arc<str>) -> (Driven, Driven) {
    let mut first = Driven::new(world.join(&[topic]));
    first.until(|d| d.owned.len() == 4).await;
    let second = Driven::new(world.join(&[topic]));
    (first, second)
}

pub(crate) async fn a_revocation_waits_for_its_release_and_commits_still_work(world: World) {
    let topic = world.topic("revoke", 4).await;
    let (mut first, mut second) = two(&world, &topic).await;
    until_both(&mut first, &mut second, |a, _| !a.revoked.is_empty()).await;
    let leaving = first.revoked[0].1.clone();
    assert_eq!(leaving.len(), 2);
    // Still ours until released.
    for partition in &leaving {
        let commit = commit_of(&topic, partition.partition, 1, "from the first");
        first.consumer.commit(vec![commit]).await.unwrap();
    }
    assert!(second.owned.is_empty());
    first.release();
    until_both(&mut first, &mut second, |_, b| b.owned.len() == 2).await;
    for partition in &leaving {
        let committed = second.owned.get(partition).unwrap().as_ref().unwrap();
        assert_eq!(committed.metadata, "from the first");
        let commit = commit_of(&topic, partition.partition, 2, "");
        let refused = first
            .consumer
            .commit(vec![commit.clone()])
            .await
            .unwrap_err();
        assert!(matches!(refused, CommitError::NotOwner(_)), "{refused}");
        second.consumer.commit(vec![commit]).await.unwrap();
    }
    first.consumer.close().await;
    second.consumer.close().await;
}

pub(crate) async fn nothing_of_a_released_partition_is_given_out(world: World) {
    let topic = world.topic("released", 4).await;
    let (mut first, mut second) = two(&world, &topic).await;
    until_both(&mut first, &mut second, |a, _| !a.revoked.is_empty()).await;
    let leaving = first.revoked[0].1.clone();
    first.release();
    let before = first.records.len();
    for partition in 0..4 {
        world.write(&topic, partition, 0..50).await;
    }
    until_both(&mut first, &mut second, |a, b| {
        a.records.len() + b.records.len() >= 200
    })
    .await;
    let after = first.records.get(before..).unwrap();
    assert!(
        after
            .iter()
            .all(|r| leaving.iter().all(|p| p.partition != r.partition))
    );
    assert_eq!(second.records.len(), 100);
    first.consumer.close().await;
    second.consumer.close().await;
}

pub(crate) async fn closing_hands_the_partitions_over_at_once(world: World) {
    // What a member that says nothing would hold its partitions for; with broker groups it is 45 s, and
    // the other member learns of it with its next heartbeat, within five.
    let session = Duration::from_secs(30);
    let topic = world.topic("close", 4).await;
    let join = || Driven::new(world.join_with(&[&topic], session));
    let mut first = join();
    first.until(|d| d.owned.len() == 4).await;
    let mut second = join();
    until_both(&mut first, &mut second, |a, _| !a.revoked.is_empty()).await;
    // An unanswered revocation is answered by closing.
    let started = tokio::time::Instant::now();
    first.consumer.close().await;
    second.until(|d| d.owned.len() == 4).await;
    assert!(started.elapsed() < session, "{:?}", started.elapsed());
    second.consumer.close().await;
}

pub(crate) async fn a_commit_for_a_foreign_partition_is_refused(world: World) {
    let topic = world.topic("foreign", 1).await;
    let mut member = Driven::new(world.join(&[&topic]));
    let refused = member
        .consumer
        .commit(vec![commit_of(&topic, 5, 1, "")])
        .await
        .unwrap_err();
    assert!(matches!(refused, CommitError::NotOwner(_)), "{refused}");
    member.until(|d| d.owned.len() == 1).await;
    member.consumer.close().await;
}

pub(crate) async fn a_paused_partition_goes_on_where_it_stopped(world: World) {
    let topic = world.topic("pause", 2).await;
    let mut member = Driven::new(world.join(&[&topic]));
    member.until(|d| d.owned.len() == 2).await;
    world.write(&topic, 0, 0..100).await;
    member.until(|d| d.records.len() >= 100).await;
    let paused = [TopicPartition::new(topic.clone(), 0)];
    member.consumer.pause(&paused);
    // A record of the other partition that is read shows that the pause was seen: the thread obeys
    // before it polls. On Kafka the pause takes effect within a poll.
    world.write(&topic, 1, 0..1).await;
    member.until(|d| d.records.len() >= 101).await;
    world.write(&topic, 0, 100..200).await;
    world.write(&topic, 1, 1..2).await;
    member.until(|d| d.records.len() >= 102).await;
    assert_eq!(
        member.records.iter().filter(|r| r.partition == 0).count(),
        100
    );
    member.consumer.resume(&paused);
    member.until(|d| d.records.len() >= 202).await;
    let of_first: Vec<_> = member
        .records
        .iter()
        .filter(|r| r.partition == 0)
        .map(|r| r.offset)
        .collect();
    assert_eq!(of_first, (0..200).collect::<Vec<i64>>());
    member.consumer.close().await;
}

/// An owner that does not read for longer than the adapter's patience, with more waiting than its
/// buffers hold.
pub(crate) async fn a_slow_owner_loses_nothing(world: World) {
    let topic = world.topic("slow", 2).await;
    let mut member = Driven::new(world.join(&[&topic]));
    member.until(|d| d.owned.len() == 2).await;
    let producer = world.producer();
    let long = "x".repeat(1_000);
    let sent: Vec<_> = (0..6_000)
        .map(|n| producer.send(text_of(&topic, n % 2, &long)))
        .collect();
    for one in sent {
        one.await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    member.until(|d| d.records.len() >= 6_000).await;
    for partition in 0..2 {
        let offsets: Vec<_> = member
            .records
            .iter()
            .filter(|r| r.partition == partition)
            .map(|r| r.offset)
            .collect();
        assert_eq!(offsets, (0..3_000).collect::<Vec<i64>>());
    }
    member
        .consumer
        .commit(vec![commit_of(&topic, 0, 3_000, "")])
        .await
        .unwrap();
    member.consumer.close().await;
}

fn text_of(topic: &Arc<str>, partition: i32, value: &str) -> Outgoing {
    crate::world::text(topic, partition, value)
}
