//! A campaign beside transactional deliveries that need more places than it leaves: it yields, and it ends.

use std::sync::Arc;
use std::time::Duration;

use bongsu_domain::{Channel, Class};
use bongsu_schemas::Delivery;
use bongsu_simulation::verdict::outcomes;
use bongsu_simulation::world::World;
use bongsu_stream::port::{Cluster as _, Headers, Outgoing};
use tokio::time::{Instant, sleep};

use crate::flood::{Steady, delivery};

const CAMPAIGN: usize = 3_000;
/// Transactional deliveries: one every 5 ms, which is ten of sixteen places.
const SHOP: usize = 2_000;
/// The first fall of bulk is seen after some of them.
const FIRST: usize = 200;

async fn write(world: &World, class: Class, deliveries: impl IntoIterator<Item = Delivery>) {
    let producer = world.log.producer(Duration::ZERO).unwrap();
    for delivery in deliveries {
        let out = Outgoing {
            topic: world.topics.deliveries(Channel::Webhook, class),
            partition: 0,
            key: Some(delivery.sender.clone().into()),
            value: Some(world.codec.encode(&delivery).unwrap()),
            headers: Headers::default(),
        };
        producer.send(out).await.unwrap();
    }
}

/// How late the shop's deliveries are beside a campaign, milliseconds: the worst one after the first second.
async fn beside_a_campaign(yields_at: Duration) -> i64 {
    let world = World::new().await.unwrap();
    let steady = Steady {
        world: world.clone(),
        read: Arc::default(),
    };
    let settings = bongsu_dispatch::Settings {
        bulk_yields_at: bongsu_runtime::Duration(yields_at),
        window_records: 400,
        ..World::settings()
    };
    let worker = world
        .dispatch_with(settings, "worker", 7, Arc::new(steady.clone()))
        .unwrap();
    let now = world.clock.now_millis();
    let of_campaign = |n| Delivery {
        class: "bulk".into(),
        ..delivery("campaign", n, &format!("c-{n}"), now)
    };
    write(&world, Class::Bulk, (0..CAMPAIGN).map(of_campaign)).await;
    let begun = Instant::now();
    for n in 0..SHOP {
        let now = world.clock.now_millis();
        let one = delivery("shop", n, &format!("s-{}", n % 500), now);
        write(&world, Class::Transactional, [one]).await;
        sleep(Duration::from_millis(5)).await;
    }
    while outcomes(&world).await.unwrap().len() < CAMPAIGN + SHOP {
        sleep(Duration::from_millis(500)).await;
        assert!(begun.elapsed() < Duration::from_secs(120), "stalled");
    }
    worker.stop().await.unwrap();
    let read = steady.read.lock().unwrap();
    assert_eq!(read.len(), CAMPAIGN + SHOP, "nobody had anything twice");
    let shop = read.iter().filter(|(sender, ..)| sender == "shop");
    let late = shop.skip(FIRST).map(|(_, accepted, at)| at - accepted);
    late.max().unwrap()
}

/// What waits for others of its own key is not late for the campaign's sake.
#[tokio::test(start_paused = true)]
async fn a_campaign_does_not_yield_to_a_key_that_waits_for_itself() {
    let world = World::new().await.unwrap();
    let steady = Steady {
        world: world.clone(),
        read: Arc::default(),
    };
    let settings = bongsu_dispatch::Settings {
        window_records: 400,
        ..World::settings()
    };
    let worker = world
        .dispatch_with(settings, "worker", 7, Arc::new(steady.clone()))
        .unwrap();
    let begun = world.clock.now_millis();
    // Four addresses, and eighty deliveries a second of them at the most: the last ones wait for seconds.
    let shop = (0..400).map(|n| delivery("shop", n, &format!("s-{}", n % 4), begun));
    write(&world, Class::Transactional, shop).await;
    let of_campaign = |n| Delivery {
        class: "bulk".into(),
        ..delivery("campaign", n, &format!("c-{n}"), begun)
    };
    write(&world, Class::Bulk, (0..500).map(of_campaign)).await;
    let waited = Instant::now();
    while outcomes(&world).await.unwrap().len() < 900 {
        sleep(Duration::from_millis(500)).await;
        assert!(waited.elapsed() < Duration::from_secs(120), "stalled");
    }
    worker.stop().await.unwrap();
    let read = steady.read.lock().unwrap();
    let last = |of: &str| {
        let all = read.iter().filter(|(sender, ..)| sender == of);
        all.map(|(.., at)| at - begun).max().unwrap()
    };
    let (shop, campaign) = (last("shop"), last("campaign"));
    assert!(shop > 4_000, "{shop}");
    assert!(campaign < 4_000, "{campaign}");
}

#[tokio::test(start_paused = true)]
async fn a_campaign_yields_its_places_to_what_it_makes_late() {
    let late = beside_a_campaign(Duration::from_millis(40)).await;
    let switched_off = beside_a_campaign(Duration::ZERO).await;
    assert!(late < 400, "{late}");
    assert!(switched_off > 800, "{switched_off}");
}
