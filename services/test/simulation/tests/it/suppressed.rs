//! A suppression that comes while deliveries wait ends them at once, out of turn.

use std::sync::Arc;
use std::time::Duration;

use bongsu_domain::{Channel, Hold, Reason, Suppression, Timestamp};
use bongsu_schemas::suppression::{SuppressionChange, write_suppression};
use bongsu_simulation::world::{EPOCH_MS, World};
use bongsu_stream::port::{Cluster as _, Headers, Outgoing};
use tokio::time::Instant;

use crate::night::{Noting, calls_of, delivery, outcomes, start, until, write};

async fn suppress(world: &World, change: &SuppressionChange) {
    let (key, value) = write_suppression(&world.codec, change).unwrap();
    let record = Outgoing {
        topic: world.topics.suppressions(),
        partition: 0,
        key: Some(key.into()),
        value,
        headers: Headers::default(),
    };
    let producer = world.log.producer(Duration::ZERO).unwrap();
    producer.send(record).await.unwrap();
}

fn suppression(address: &str) -> Suppression {
    Suppression {
        channel: Channel::Webhook,
        account: "default".into(),
        address_id: address.into(),
        app: None,
        hold: Hold::Suppressed,
        reason: Reason::InvalidAddress,
        at: Timestamp(EPOCH_MS),
        registered_at: None,
        verdicts: 1,
        first_at: Timestamp(EPOCH_MS),
        by: "hygiene".into(),
        why: None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_suppressed_address_ends_at_once_and_the_rest_goes_on() {
    let world = World::new().await.unwrap();
    let noting = Noting {
        world: world.clone(),
        calls: Arc::default(),
    };
    let zone = "Asia/Seoul";
    let day = 86_400_000;
    let plain = |event: &str, address: &str| delivery(event, address, "transactional", zone, day);
    // The first answer to `gone-later` is \"in 500 seconds\": one waits, two wait behind it.
    write(
        &world,
        &[
            plain("e-1", "gone-later"),
            plain("e-2", "gone-later"),
            plain("e-3", "gone-later"),
            plain("other", "b"),
        ],
    )
    .await;
    let begun = Instant::now();
    let (task, shutdown) = start(&world, &noting);
    until(&world, 1).await;
    let keep = SuppressionChange::Keep(Box::new(suppression("gone-later")));
    suppress(&world, &keep).await;
    until(&world, 4).await;
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "nobody waited for the retry"
    );
    let mut found = outcomes(&world).await;
    found.sort();
    let with = |event: &str, outcome: &str| (event.to_owned(), outcome.to_owned());
    assert_eq!(
        found,
        [
            with("e-1", "suppressed"),
            with("e-2", "suppressed"),
            with("e-3", "suppressed"),
            with("other", "accepted"),
        ]
    );
    assert_eq!(calls_of(&noting, "e-1").len(), 1);
    assert!(calls_of(&noting, "e-2").is_empty());
    // Known from the first delivery on after a restart, and over when it is over.
    shutdown.request();
    task.await.unwrap();
    write(&world, &[plain("e-4", "gone-later")]).await;
    let (task, shutdown) = start(&world, &noting);
    until(&world, 5).await;
    suppress(
        &world,
        &SuppressionChange::Forget(suppression("gone-later").key()),
    )
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    write(&world, &[plain("e-5", "gone-later")]).await;
    until(&world, 6).await;
    let found = outcomes(&world).await;
    assert!(found.contains(&with("e-4", "suppressed")), "{found:?}");
    assert!(found.contains(&with("e-5", "accepted")), "{found:?}");
    shutdown.request();
    task.await.unwrap();
}
