use bongsu_stream::error::TransactionError;
use bongsu_stream::port::*;

use crate::world::{Driven, World, commit_of, noise, range, text};

/// A member that owns the topic's partitions.
async fn member(world: &World, topic: &std::sync::Arc<str>, partitions: usize) -> Driven {
    let mut member = Driven::new(world.join(&[topic]));
    member.until(|d| d.owned.len() == partitions).await;
    member
}

pub(crate) async fn a_transaction_is_whole(world: World) {
    let source = world.topic("source", 1).await;
    let target = world.topic("target", 2).await;
    let member = member(&world, &source, 1).await;
    let mut producer = world
        .cluster
        .transactional(&world.name("slot"))
        .await
        .unwrap();
    for round in 0..3 {
        let records = (0..100)
            .map(|n| text(&target, n % 2, &format!("{round}-{n}")))
            .collect();
        let group = member.consumer.group_metadata().await.unwrap();
        producer.run(records, vec![], group).await.unwrap();
    }
    for partition in 0..2 {
        let range = range(&target, partition, From::Beginning, None);
        let (read, ends) = world.tails(vec![range], Isolation::Committed).await;
        assert_eq!(read.len(), 150);
        // 150 records and a marker for each of three transactions.
        assert_eq!(ends.values().copied().collect::<Vec<_>>(), [153]);
        assert!(read.is_sorted_by_key(|r| r.offset));
    }
    member.consumer.close().await;
}

/// Several times what the producer's queue may hold: it waits for room and stays one transaction.
pub(crate) async fn a_transaction_larger_than_the_queue_is_whole(world: World) {
    let source = world.topic("source", 1).await;
    let target = world.topic("target", 1).await;
    let member = member(&world, &source, 1).await;
    let mut producer = world
        .cluster
        .transactional(&world.name("slot"))
        .await
        .unwrap();
    let records = (0..60)
        .map(|_| Outgoing {
            value: Some(noise(800_000).into()),
            ..text(&target, 0, "large")
        })
        .collect();
    let group = member.consumer.group_metadata().await.unwrap();
    producer.run(records, vec![], group).await.unwrap();
    let range = range(&target, 0, From::Beginning, None);
    let (read, ends) = world.tails(vec![range], Isolation::Committed).await;
    assert_eq!(read.len(), 60);
    assert_eq!(ends.values().copied().collect::<Vec<_>>(), [61]);
    member.consumer.close().await;
}

pub(crate) async fn a_transaction_carries_the_offsets(world: World) {
    let source = world.topic("source", 1).await;
    let target = world.topic("target", 1).await;
    world.write(&source, 0, 0..10).await;
    let mut first = member(&world, &source, 1).await;
    first.until(|d| d.records.len() >= 10).await;
    let mut producer = world
        .cluster
        .transactional(&world.name("slot"))
        .await
        .unwrap();
    let group = first.consumer.group_metadata().await.unwrap();
    let offsets = vec![commit_of(&source, 0, 7, "in a transaction")];
    producer
        .run(vec![text(&target, 0, "x")], offsets, group.clone())
        .await
        .unwrap();
    // Offsets alone are a transaction as well.
    let offsets = vec![commit_of(&source, 0, 8, "in a transaction")];
    producer.run(vec![], offsets, group).await.unwrap();
    first.consumer.close().await;
    let second = member(&world, &source, 1).await;
    let committed = second.owned.values().next().unwrap().clone().unwrap();
    assert_eq!(
        (committed.offset, committed.metadata.as_str()),
        (8, "in a transaction")
    );
    second.consumer.close().await;
}

pub(crate) async fn an_aborted_transaction_is_invisible(world: World) {
    let source = world.topic("source", 1).await;
    let target = world.topic("target", 1).await;
    let small = world
        .topic_with("small", 1, &[("max.message.bytes", "200")])
        .await;
    let member = member(&world, &source, 1).await;
    let mut producer = world
        .cluster
        .transactional(&world.name("slot"))
        .await
        .unwrap();
    let group = member.consumer.group_metadata().await.unwrap();
    let records = vec![text(&target, 0, "never"), text(&small, 0, &noise(4_000))];
    let offsets = vec![commit_of(&source, 0, 5, "")];
    let error = producer
        .run(records, offsets, group.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, TransactionError::Aborted(_)), "{error}");
    // The same producer goes on.
    producer
        .run(vec![text(&target, 0, "seen")], vec![], group)
        .await
        .unwrap();
    assert_eq!(world.tail(&target, 0, Isolation::Committed).await, ["seen"]);
    let lag = world
        .cluster
        .lag(&world.name("group"), vec![source.to_string()])
        .await
        .unwrap();
    assert_eq!(lag[0].committed, None);
    member.consumer.close().await;
}

pub(crate) async fn a_newer_producer_fences_the_older(world: World) {
    let source = world.topic("source", 1).await;
    let target = world.topic("target", 1).await;
    let member = member(&world, &source, 1).await;
    let slot = world.name("slot");
    let group = member.consumer.group_metadata().await.unwrap();
    let mut older = world.cluster.transactional(&slot).await.unwrap();
    older
        .run(vec![text(&target, 0, "older")], vec![], group.clone())
        .await
        .unwrap();
    let mut newer = world.cluster.transactional(&slot).await.unwrap();
    let fenced = older
        .run(vec![text(&target, 0, "zombie")], vec![], group.clone())
        .await;
    assert!(
        matches!(fenced, Err(TransactionError::Fenced { .. })),
        "{fenced:?}"
    );
    newer
        .run(vec![text(&target, 0, "newer")], vec![], group)
        .await
        .unwrap();
    assert_eq!(
        world.tail(&target, 0, Isolation::Committed).await,
        ["older", "newer"]
    );
    member.consumer.close().await;
}

pub(crate) async fn offsets_of_a_foreign_member_abort(world: World) {
    let source = world.topic("source", 1).await;
    let target = world.topic("target", 1).await;
    let gone = member(&world, &source, 1).await;
    let stale = gone.consumer.group_metadata().await.unwrap();
    gone.consumer.close().await;
    let stays = member(&world, &source, 1).await;
    let mut producer = world
        .cluster
        .transactional(&world.name("slot"))
        .await
        .unwrap();
    let offsets = vec![commit_of(&source, 0, 3, "")];
    let refused = producer
        .run(vec![text(&target, 0, "zombie")], offsets, stale)
        .await;
    assert!(
        matches!(refused, Err(TransactionError::Aborted(_))),
        "{refused:?}"
    );
    assert!(
        world
            .tail(&target, 0, Isolation::Committed)
            .await
            .is_empty()
    );
    stays.consumer.close().await;
}
