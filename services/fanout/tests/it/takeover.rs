//! What a successor knows of the events its predecessor has seen, however it comes to know it.

use std::time::Duration;

use bongsu_domain::{Class, partition_of};
use bongsu_fanout::digest::Stretch;
use bongsu_schemas::headers;
use bongsu_stream::port::{Cluster, Headers, Outgoing, Record, TopicPartition};

use crate::world::{N, World, event};

const SENDER: &str = "shop";

fn home() -> i32 {
    partition_of(SENDER.as_bytes(), N)
}

async fn publish(world: &World, ids: impl IntoIterator<Item = usize>) {
    for n in ids {
        let event = event(SENDER, &format!("e{n}")).to_string();
        world.publish(SENDER, event.into(), None).await;
    }
}

/// Publishes one more event and waits until it is delivered; gives how many are delivered by then.
async fn delivered_with(world: &World, last: &str) -> usize {
    let event = event(SENDER, last).to_string();
    world.publish(SENDER, event.into(), None).await;
    let wait = async {
        loop {
            let records = world.records(&world.deliveries()).await;
            let of = |r: &Record| r.headers.text(headers::EVENT_ID) == Some(last);
            if records.iter().any(of) {
                return records.len();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait)
        .await
        .unwrap()
}

async fn stretches(world: &World) -> Vec<Stretch> {
    let events = TopicPartition::new(world.topics.events(Class::Transactional), home());
    world
        .records(&world.topics.seen(Class::Transactional))
        .await
        .iter()
        .filter_map(|r| {
            assert_eq!(r.partition, home());
            Stretch::decode(&events, r.value.as_deref().unwrap()).ok()
        })
        .collect()
}

/// Drops the events that are noted, as retention might: what is known of them is in the notes.
async fn forget_events(world: &World) -> i64 {
    let noted = stretches(world).await.last().unwrap().to;
    let events = TopicPartition::new(world.topics.events(Class::Transactional), home());
    world.log.trim(&events, noted);
    noted
}

#[tokio::test(start_paused = true)]
async fn notes_tell_what_the_events_no_longer_do_and_every_successor_writes_on() {
    let world = World::new().await;
    let fanout = world.start();
    publish(&world, 0..2_500).await;
    assert_eq!(delivered_with(&world, "first").await, 2_501);
    fanout.crash().await;
    let noted: usize = stretches(&world).await.iter().map(|s| s.seen.len()).sum();
    assert!((2_000..=2_501).contains(&noted), "{noted}");
    assert!(forget_events(&world).await >= 2_000);
    let fanout = world.start();
    publish(&world, 0..2_500).await;
    assert_eq!(delivered_with(&world, "second").await, 2_502);
    fanout.crash().await;
    assert!(forget_events(&world).await >= 4_000);
    let fanout = world.start();
    publish(&world, 0..2_500).await;
    assert_eq!(delivered_with(&world, "third").await, 2_503);
    let stretches = stretches(&world).await;
    assert!(stretches[0].begins);
    for pair in stretches.windows(2) {
        assert!(!pair[1].begins && pair[0].to == pair[1].from, "{pair:?}");
    }
    fanout.stop().await;
}

#[tokio::test(start_paused = true)]
async fn damaged_notes_are_passed_over_and_mended() {
    let world = World::new().await;
    let fanout = world.start();
    publish(&world, 0..2_500).await;
    assert_eq!(delivered_with(&world, "first").await, 2_501);
    fanout.crash().await;
    let garbage = Outgoing {
        topic: world.topics.seen(Class::Transactional),
        partition: home(),
        key: None,
        value: Some(vec![1, 2, 3].into()),
        headers: Headers::default(),
    };
    world
        .log
        .producer(Duration::ZERO)
        .unwrap()
        .send(garbage)
        .await
        .unwrap();
    let fanout = world.start();
    publish(&world, 0..2_500).await;
    assert_eq!(delivered_with(&world, "last").await, 2_502);
    fanout.crash().await;
    // The notes are whole again: the next one needs no event for them.
    assert!(forget_events(&world).await >= 4_000);
    let fanout = world.start();
    publish(&world, 0..2_500).await;
    assert_eq!(delivered_with(&world, "very last").await, 2_503);
    fanout.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_waited_is_judged_by_its_own_time() {
    let minutes = |n: u64| tokio::time::sleep(Duration::from_secs(n * 60));
    let world = World::new().await;
    let fanout = world.start();
    publish(&world, 0..1).await;
    world.wait_for(&world.deliveries(), 1).await;
    fanout.crash().await;
    // Repeated within the window, read when it has long passed.
    minutes(50).await;
    publish(&world, 0..1).await;
    minutes(180).await;
    let fanout = world.start();
    assert_eq!(delivered_with(&world, "last").await, 2);
    // And a sight after the window is a new event.
    publish(&world, 0..1).await;
    assert_eq!(delivered_with(&world, "very last").await, 4);
    fanout.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_repeated_for_hours_is_one_event_across_owners() {
    let world = World::new().await;
    for round in 0..5 {
        let fanout = world.start();
        publish(&world, 0..1).await;
        let delivered = delivered_with(&world, &format!("round {round}")).await;
        assert_eq!(delivered, round + 2, "in round {round}");
        fanout.crash().await;
        tokio::time::sleep(Duration::from_secs(50 * 60)).await;
    }
}
