//! A parked delivery that cannot be read any more goes to the dead letters with its bytes, and its key
//! goes on without it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bongsu_domain::{Channel, Class};
use bongsu_schemas::Delivery;
use bongsu_simulation::world::World;
use bongsu_stream::dead_letters;
use bongsu_stream::port::{
    Cluster as _, From, Isolation, Outgoing, Record, TailRange, TopicPartition,
};
use tokio::time::{sleep, timeout};

use crate::night::{Noting, calls_of, delivery, outcomes, start, until, write};

const DAY_MS: i64 = 86_400_000;

fn noting(world: &World) -> Noting {
    Noting {
        world: world.clone(),
        calls: Arc::default(),
    }
}

fn lane(world: &World) -> Arc<str> {
    world.topics.lanes(Channel::Webhook, Class::Transactional)
}

/// What lies in partition 0 of a topic.
async fn records(world: &World, topic: &Arc<str>) -> Vec<Record> {
    let range = TailRange {
        partition: TopicPartition::new(Arc::clone(topic), 0),
        from: From::Beginning,
        until: None,
    };
    let found: Arc<Mutex<Vec<Record>>> = Arc::default();
    let sink = Arc::clone(&found);
    let each = Box::new(move |record| sink.lock().unwrap().push(record));
    let read = world
        .log
        .read_tails(vec![range], Isolation::Committed, each)
        .await;
    read.unwrap();
    std::mem::take(&mut *found.lock().unwrap())
}

async fn until_there(world: &World, topic: &Arc<str>, count: usize) -> Vec<Record> {
    let there = async {
        loop {
            let found = records(world, topic).await;
            if found.len() >= count {
                return found;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(600), there).await.unwrap()
}

fn deliveries() -> [Delivery; 2] {
    let zone = "Asia/Seoul";
    let to = |event: &str| delivery(event, "away-later", "transactional", zone, DAY_MS);
    [to("e-1"), to("e-2")]
}

/// The lane as dispatch writes it of a key whose head must wait long, and its first record damaged.
async fn damaged_lane(value: &'static [u8]) -> Vec<Record> {
    let world = World::new().await.unwrap();
    write(&world, &deliveries()).await;
    let (task, shutdown) = start(&world, &noting(&world));
    let mut parked = until_there(&world, &lane(&world), 2).await;
    shutdown.request();
    task.await.unwrap();
    assert_eq!(parked.len(), 2);
    parked[0].value = Some(value.into());
    parked
}

async fn is_put_aside(value: &'static [u8], reason: &str) {
    let world = World::new().await.unwrap();
    write(&world, &deliveries()).await;
    let producer = world.log.producer(Duration::ZERO).unwrap();
    for record in damaged_lane(value).await {
        let out = Outgoing {
            topic: lane(&world),
            partition: 0,
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        producer.send(out).await.unwrap();
    }
    let noting = noting(&world);
    let (task, shutdown) = start(&world, &noting);
    until(&world, 1).await;
    let letters = until_there(&world, &world.topics.dead_letters(), 1).await;
    let letter = &letters[0];
    assert_eq!(letter.value.as_deref(), Some(value), "its bytes");
    assert_eq!(letter.key.as_deref(), Some(&b"shop"[..]));
    let header = |name| letter.headers.text(name);
    assert_eq!(header(dead_letters::REASON), Some(reason));
    assert_eq!(header(dead_letters::SERVICE), Some("dispatch"));
    assert_eq!(header(dead_letters::SOURCE_TOPIC), Some(&*lane(&world)));
    assert_eq!(header(dead_letters::SOURCE_OFFSET), Some("0"));
    let event = deliveries()[0].delivery_id.clone();
    assert_eq!(
        header("bongsu-delivery-id"),
        Some(event.as_str()),
        "its own headers"
    );

    // The one behind it goes on from the lane, and the key comes back for the next.
    let [_, mut next] = deliveries();
    next = delivery(
        "e-3",
        &next.address_id,
        "transactional",
        "Asia/Seoul",
        DAY_MS,
    );
    write(&world, &[next]).await;
    until(&world, 2).await;
    let accepted = |event: &str| (event.to_owned(), "accepted".to_owned());
    assert_eq!(outcomes(&world).await, [accepted("e-2"), accepted("e-3")]);
    assert!(
        calls_of(&noting, "e-1").is_empty(),
        "nobody knows what it says"
    );
    shutdown.request();
    task.await.unwrap();

    // Once is enough: after a restart it has ended.
    let (task, shutdown) = start(&world, &noting);
    write(
        &world,
        &[delivery("e-4", "b", "transactional", "Asia/Seoul", DAY_MS)],
    )
    .await;
    until(&world, 3).await;
    assert_eq!(records(&world, &world.topics.dead_letters()).await.len(), 1);
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_damaged_parked_delivery_goes_to_the_dead_letters_with_its_bytes() {
    is_put_aside(b"\xff damaged", "unreadable").await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_delivery_of_an_unknown_schema_goes_there_too() {
    is_put_aside(
        b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08rest",
        "unknown_schema",
    )
    .await;
}
