use bongsu_stream::port::*;

use crate::world::{World, range, text, value};

pub(crate) async fn empty_partitions_end_at_once(world: World) {
    let topic = world.topic("empty", 4).await;
    world.write(&topic, 2, 0..3).await;
    let ranges = (0..4)
        .map(|p| range(&topic, p, From::Beginning, None))
        .collect();
    let (records, ends) = world.tails(ranges, Isolation::Committed).await;
    assert_eq!(records.len(), 3);
    assert_eq!(ends.values().copied().collect::<Vec<_>>(), [0, 0, 3, 0]);
    assert!(world.tails(vec![], Isolation::Committed).await.1.is_empty());
}

pub(crate) async fn a_tail_stops_before_until(world: World) {
    let topic = world.topic("until", 1).await;
    world.write(&topic, 0, 0..100).await;
    for (from, until, wanted, stopped) in [
        (10, 20, 10, 20),
        (50, 1_000, 50, 100),
        (20, 20, 0, 20),
        (200, 300, 0, 200),
    ] {
        let one = range(&topic, 0, From::Offset(from), Some(until));
        let (records, ends) = world.tails(vec![one], Isolation::Committed).await;
        assert_eq!(records.len(), wanted, "{from}..{until}");
        assert!(records.iter().all(|r| (from..until).contains(&r.offset)));
        assert_eq!(
            ends.values().copied().collect::<Vec<_>>(),
            [stopped],
            "{from}..{until}"
        );
    }
}

pub(crate) async fn a_tail_starts_at_a_time(world: World) {
    let topic = world.topic("time", 1).await;
    world.write(&topic, 0, 0..10).await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    world.write(&topic, 0, 10..20).await;
    let (all, _) = world
        .tails(
            vec![range(&topic, 0, From::Beginning, None)],
            Isolation::Committed,
        )
        .await;
    let time = all[10].timestamp;
    assert!(time > all[9].timestamp);
    let (since, _) = world
        .tails(
            vec![range(&topic, 0, From::Time(time), None)],
            Isolation::Committed,
        )
        .await;
    assert_eq!(
        since.iter().map(|r| r.offset).collect::<Vec<_>>(),
        (10..20).collect::<Vec<_>>()
    );
    let later = range(&topic, 0, From::Time(time + 3_600_000), None);
    let (none, ends) = world.tails(vec![later], Isolation::Committed).await;
    assert!(none.is_empty());
    assert_eq!(ends.values().copied().collect::<Vec<_>>(), [20]);
}

pub(crate) async fn a_tail_behind_the_oldest_record_starts_there(world: World) {
    let topic = world.topic("low", 1).await;
    world.write(&topic, 0, 0..10).await;
    // On Kafka nothing is trimmed here: the start is then simply the offset asked for.
    let start = if let Some(local) = &world.local {
        local.trim(&TopicPartition::new(topic.clone(), 0), 5);
        5
    } else {
        2
    };
    let one = range(&topic, 0, From::Offset(2), None);
    let (records, _) = world.tails(vec![one], Isolation::Committed).await;
    assert_eq!(records[0].offset, start);
}

pub(crate) async fn several_topics_end_where_they_end(world: World) {
    let first = world.topic("first", 2).await;
    let second = world.topic("second", 2).await;
    world.write(&first, 0, 0..1_200).await;
    world.write(&second, 1, 0..700).await;
    let ranges = [&first, &second]
        .into_iter()
        .flat_map(|t| (0..2).map(|p| range(t, p, From::Beginning, None)))
        .collect();
    let (records, ends) = world.tails(ranges, Isolation::Uncommitted).await;
    assert_eq!(records.len(), 1_900);
    assert_eq!(ends.len(), 4);
    assert_eq!(ends[&TopicPartition::new(first, 0)], 1_200);
    assert_eq!(ends[&TopicPartition::new(second, 1)], 700);
}

pub(crate) async fn a_follower_sees_what_comes(world: World) {
    let topic = world.topic("follow", 2).await;
    world.write(&topic, 0, 0..5).await;
    let ranges = vec![
        range(&topic, 0, From::Offset(3), None),
        range(&topic, 1, From::Beginning, None),
    ];
    let mut follower = world.cluster.follow(ranges, Isolation::Committed).unwrap();
    let mut seen = follower.next().await.unwrap();
    let producer = world.producer();
    producer.send(text(&topic, 1, "later")).await.unwrap();
    while seen.len() < 3 {
        seen.extend(follower.next().await.unwrap());
    }
    assert_eq!(
        seen.iter().map(value).collect::<Vec<_>>(),
        ["3", "4", "later"]
    );
}
