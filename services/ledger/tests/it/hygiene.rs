//! Dead addresses: retired, guarded, restored; through the real ledger on the log.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bongsu_domain::suppression::BY_HYGIENE;
use bongsu_domain::{Hold, Outcome, Reason, Suppression};
use bongsu_schemas::lookup::NoLookup;
use bongsu_schemas::suppression::{SuppressionChange, read_suppression, write_suppression};
use bongsu_schemas::{Millis, Receipt};
use bongsu_store::{LedgerStore, MemoryStore, SuppressionQuery};
use bongsu_stream::port::{From, Headers, Isolation, Outgoing, TailRange, TopicPartition};
use bongsu_testkit::wait_until;

use crate::world::{SOON, World, counted};

/// An outcome of an event about one address of one app.
fn told(event: &str, address: usize, outcome: Outcome, reason: &str, at: i64) -> Receipt {
    Receipt {
        reason: reason.into(),
        channel: Some("apns".into()),
        account: Some("default".into()),
        app: Some("app".into()),
        address_id: Some(format!("a-{address}")),
        at: Millis(at),
        ..crate::world::outcome(event, outcome)
    }
}

fn dead(n: usize, at: i64) -> Receipt {
    told(
        &format!("d-{n}"),
        n,
        Outcome::Refused,
        "invalid_address",
        at,
    )
}

fn reached(n: usize, at: i64) -> Receipt {
    told(&format!("r-{n}"), n, Outcome::Accepted, "none", at)
}

const AT: i64 = 1_760_000_100_000;
const DAY: i64 = 86_400_000;

/// What the topic holds now.
async fn held(world: &World) -> Vec<Suppression> {
    let range = TailRange {
        partition: TopicPartition::new(world.topics.suppressions(), 0),
        from: From::Beginning,
        until: None,
    };
    let found: Arc<Mutex<std::collections::BTreeMap<_, Suppression>>> = Arc::default();
    let (sink, codec) = (Arc::clone(&found), Arc::clone(&world.codec));
    let each = Box::new(move |record: bongsu_stream::port::Record| {
        let read = read_suppression(&codec, record.key.as_deref(), record.value.as_deref());
        let mut held = sink.lock().unwrap();
        match read.unwrap() {
            SuppressionChange::Keep(kept) => {
                held.insert(kept.key(), *kept);
            }
            SuppressionChange::Forget(key) => {
                held.remove(&key);
            }
        }
    });
    let read = world
        .cluster
        .read_tails(vec![range], Isolation::Committed, each);
    read.await.unwrap();
    std::mem::take(&mut *found.lock().unwrap())
        .into_values()
        .collect()
}

fn ids(held: &[Suppression]) -> BTreeSet<&str> {
    held.iter().map(|s| s.address_id.as_str()).collect()
}

#[tokio::test]
async fn a_dead_address_is_suppressed_kept_in_the_store_and_restored_when_it_answers() {
    let (world, _) = World::local(&MemoryStore::new()).await;
    let ledger = world.start();
    world.publish(&[dead(1, AT), reached(2, AT)]).await;
    wait_until(SOON, "the suppression", || async {
        held(&world).await.len() == 1
    })
    .await;
    let suppression = held(&world).await.remove(0);
    assert_eq!(
        (
            suppression.address_id.as_str(),
            suppression.by.as_str(),
            suppression.hold
        ),
        ("a-1", BY_HYGIENE, Hold::Suppressed)
    );
    let query = SuppressionQuery {
        limit: 10,
        ..SuppressionQuery::default()
    };
    wait_until(SOON, "the store's table", || async {
        world.store.suppressions(&query).await.unwrap() == [suppression.clone()]
    })
    .await;
    ledger.stop().await;
    // A ledger that starts anew knows it, and a later word restores it.
    let ledger = world.start();
    world.publish(&[reached(1, AT + 1_000)]).await;
    wait_until(SOON, "the restoration", || async {
        held(&world).await.is_empty() && world.store.suppressions(&query).await.unwrap().is_empty()
    })
    .await;
    ledger.stop().await;
}

#[tokio::test]
async fn a_complaint_holds_the_address_of_its_delivery_and_no_success_ends_it() {
    let (world, _) = World::local(&MemoryStore::new()).await;
    let ledger = world.start();
    world.publish(&[reached(1, AT)]).await;
    world.until_counted(1).await;
    // As the gateway writes it: it knows the delivery and no address.
    let complaint = Receipt {
        reason: "complained".into(),
        at: Millis(AT + 10),
        ..crate::world::report("r-1", Outcome::Delivered)
    };
    world.publish(&[complaint.clone(), complaint]).await;
    wait_until(SOON, "the suppression", || async {
        held(&world).await.len() == 1
    })
    .await;
    world
        .publish(&[told("n-1", 1, Outcome::Accepted, "none", AT + 20)])
        .await;
    world.until_counted(2).await;
    let held = held(&world).await;
    assert_eq!(held.len(), 1);
    assert_eq!(
        (held[0].address_id.as_str(), held[0].by.as_str()),
        ("a-1", "complaint")
    );
    assert_eq!(
        (held[0].hold, held[0].reason),
        (Hold::Suppressed, Reason::Complained)
    );
    ledger.stop().await;
}

/// A delivery to one webhook, turned away (or not) on this day.
async fn deliver(world: &World, day: i64, outcome: Outcome) {
    let reason = if outcome == Outcome::Dead {
        "address_doubtful"
    } else {
        "none"
    };
    let receipt = Receipt {
        channel: Some("webhook".into()),
        app: None,
        ..told(&format!("w-{day}"), 7, outcome, reason, AT + day * DAY)
    };
    let value = world.codec.encode(&receipt).unwrap();
    world.publish_raw(0, value).await;
}

/// Verdicts against the one address, and whether it is retired.
async fn streak(world: &World) -> Option<(u32, Hold)> {
    let held = held(world).await;
    held.first().map(|s| (s.verdicts, s.hold))
}

#[tokio::test]
async fn a_webhook_is_retired_by_a_long_streak_that_outlives_restarts_and_counts_once() {
    let (world, _) = World::local(&MemoryStore::new()).await;
    let ledger = world.start();
    for day in 0..4 {
        deliver(&world, day, Outcome::Dead).await;
    }
    deliver(&world, 4, Outcome::Accepted).await;
    for day in 5..14 {
        deliver(&world, day, Outcome::Dead).await;
    }
    world.until_counted(14).await;
    // Nine of the ten that are needed, over eight days: the success began the count anew.
    assert_eq!(streak(&world).await, Some((9, Hold::Suspected)));
    ledger.stop().await;

    // Another ledger with an empty store reads all of it again, and counts none of it again.
    let fresh = MemoryStore::new();
    let ledger = world.start_with(Arc::new(fresh.clone()), Arc::new(NoLookup));
    let store: Arc<dyn LedgerStore> = Arc::new(fresh);
    wait_until(SOON, "everything is read again", || async {
        counted(&store).await == 14
    })
    .await;
    assert_eq!(streak(&world).await, Some((9, Hold::Suspected)));
    deliver(&world, 14, Outcome::Dead).await;
    wait_until(SOON, "the tenth", || async { counted(&store).await == 15 }).await;
    assert_eq!(streak(&world).await, Some((10, Hold::Suppressed)));
    ledger.stop().await;
}

/// Every address of an app is said to be dead, over a restart of the ledger.
pub(crate) async fn the_guard_stops(world: &World) {
    let all: Vec<Receipt> = (0..500).map(|n| dead(n, AT)).collect();
    let (first, second) = all.split_at(250);
    let ledger = world.start();
    world.publish(first).await;
    world.until_counted(250).await;
    ledger.stop().await;
    let ledger = world.start();
    world.publish(second).await;
    world.until_counted(500).await;
    let text = ledger.metrics.render().unwrap();
    let held = held(world).await;
    assert_eq!(held.len(), 20, "as many as are believed, and no more");
    assert!(text.contains("bongsu_hygiene_guarded_scopes 1"), "{text}");
    let query = SuppressionQuery {
        limit: 100,
        ..SuppressionQuery::default()
    };
    wait_until(SOON, "the store's table", || async {
        world.store.suppressions(&query).await.unwrap() == held
    })
    .await;
    ledger.stop().await;
}

#[tokio::test]
async fn a_wrong_environment_stops_at_the_guard_also_over_a_restart() {
    let (world, _) = World::local(&MemoryStore::new()).await;
    the_guard_stops(&world).await;
}

#[tokio::test]
async fn what_a_person_holds_is_left_alone_and_known() {
    let (world, _) = World::local(&MemoryStore::new()).await;
    let ledger = world.start();
    world.publish(&[dead(1, AT)]).await;
    wait_until(SOON, "the suppression", || async {
        held(&world).await.len() == 1
    })
    .await;
    let mut by_hand = held(&world).await.remove(0);
    by_hand.by = "ann".into();
    by_hand.address_id = "a-2".into();
    let change = SuppressionChange::Keep(Box::new(by_hand));
    let (key, value) = write_suppression(&world.codec, &change).unwrap();
    let record = Outgoing {
        topic: world.topics.suppressions(),
        partition: 0,
        key: Some(key.into()),
        value,
        headers: Headers::default(),
    };
    let producer = world.cluster.producer(std::time::Duration::ZERO).unwrap();
    producer.send(record).await.unwrap();
    let query = SuppressionQuery {
        limit: 10,
        ..SuppressionQuery::default()
    };
    wait_until(SOON, "the store's table", || async {
        world.store.suppressions(&query).await.unwrap().len() == 2
    })
    .await;
    world
        .publish(&[reached(1, AT + 1_000), reached(2, AT + 1_000)])
        .await;
    world.until_counted(3).await;
    let held = held(&world).await;
    assert_eq!(ids(&held), BTreeSet::from(["a-2"]));
    ledger.stop().await;
}
