//! A campaign beside transactional deliveries that need more places than it leaves: it yields, and it ends.

use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::limits::Limits;
use bongsu_channels::provider::{Attempt, AttemptResult, Provider, TryError};
use bongsu_domain::{Act, Backlog, Channel, Class};
use bongsu_schemas::Delivery;
use bongsu_simulation::verdict::outcomes;
use bongsu_simulation::world::World;
use bongsu_stream::port::{Cluster as _, Headers, Outgoing};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::backlog::act;
use crate::flood::{Steady, delivery};

const CAMPAIGN: usize = 3_000;
/// Between two transactional deliveries: twelve of sixteen places, which is more than their equal part.
const TWELVE_PLACES: Duration = Duration::from_millis(4);
/// The same: ten of sixteen.
const TEN_PLACES: Duration = Duration::from_millis(5);
const SHOP: usize = 2_500;
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
async fn beside_a_campaign(yields_at: Duration, pause: Duration) -> i64 {
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
        sleep(pause).await;
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

/// Why deliveries of the shop are late, whatever the campaign does.
#[derive(Clone, Copy, PartialEq)]
enum Reason {
    /// Others of the same key are before them.
    Key,
    /// Somebody stopped the sender, and starts it again later.
    Stop,
    /// Their account may send so many a second.
    Limit,
}

/// As [`Steady`], with one account that has a limit.
#[derive(Clone)]
struct Limited(Steady);

impl Provider for Limited {
    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        self.0.attempt(batch, deadline)
    }

    fn limits(&self, account: &str) -> Limits {
        Limits {
            per_second: (account == "limited").then_some(40),
            ..Limits::default()
        }
    }
}

/// How late the shop's last delivery was, and how long a campaign beside it took, milliseconds.
async fn beside_a_shop_that_is_late(reason: Reason) -> (i64, i64) {
    let world = World::new().await.unwrap();
    let steady = Steady {
        world: world.clone(),
        read: Arc::default(),
    };
    let settings = bongsu_dispatch::Settings {
        window_records: 400,
        ..World::settings()
    };
    if reason == Reason::Stop {
        act(&world, "sender/shop", Act::Stop, Backlog::All).await;
    }
    let provider = Arc::new(Limited(steady.clone()));
    let worker = world
        .dispatch_with(settings, "worker", 7, provider)
        .unwrap();
    let begun = world.clock.now_millis();
    let (many, keys) = match reason {
        // Four addresses, and eighty deliveries a second of them at the most.
        Reason::Key => (400, 4),
        Reason::Stop | Reason::Limit => (200, 200),
    };
    let shop = (0..many).map(|n| Delivery {
        account: if reason == Reason::Limit {
            "limited"
        } else {
            "default"
        }
        .into(),
        ..delivery("shop", n, &format!("s-{}", n % keys), begun)
    });
    write(&world, Class::Transactional, shop).await;
    let of_campaign = |n| Delivery {
        class: "bulk".into(),
        ..delivery("campaign", n, &format!("c-{n}"), begun)
    };
    let campaign = 1_000;
    write(&world, Class::Bulk, (0..campaign).map(of_campaign)).await;
    if reason == Reason::Stop {
        sleep(Duration::from_secs(2)).await;
        act(&world, "sender/shop", Act::Start, Backlog::All).await;
    }
    let waited = Instant::now();
    while outcomes(&world).await.unwrap().len() < many + campaign {
        sleep(Duration::from_millis(500)).await;
        assert!(waited.elapsed() < Duration::from_secs(120), "stalled");
    }
    worker.stop().await.unwrap();
    let read = steady.read.lock().unwrap();
    let last = |of: &str| {
        let all = read.iter().filter(|(sender, ..)| sender == of);
        all.map(|(.., at)| at - begun).max().unwrap()
    };
    (last("shop"), last("campaign"))
}

#[tokio::test(start_paused = true)]
async fn a_campaign_does_not_yield_to_a_key_that_waits_for_itself() {
    let (shop, campaign) = beside_a_shop_that_is_late(Reason::Key).await;
    assert!(shop > 4_000, "{shop}");
    assert!(campaign < 5_000, "{campaign}");
}

#[tokio::test(start_paused = true)]
async fn a_campaign_does_not_yield_to_a_sender_that_was_stopped() {
    let (shop, campaign) = beside_a_shop_that_is_late(Reason::Stop).await;
    assert!(shop > 2_000, "{shop}");
    assert!(campaign < 5_000, "{campaign}");
}

#[tokio::test(start_paused = true)]
async fn a_campaign_does_not_yield_to_an_account_that_is_at_its_limit() {
    let (shop, campaign) = beside_a_shop_that_is_late(Reason::Limit).await;
    assert!(shop > 4_000, "{shop}");
    assert!(campaign < 5_000, "{campaign}");
}

#[tokio::test(start_paused = true)]
async fn a_campaign_yields_its_places_to_what_it_makes_late() {
    let late = beside_a_campaign(Duration::from_millis(40), TWELVE_PLACES).await;
    let switched_off = beside_a_campaign(Duration::ZERO, TWELVE_PLACES).await;
    assert!(late < 400, "{late}");
    assert!(switched_off > 800, "{switched_off}");
}

/// Handed on at every attempt, the places of a shop go to the campaign, and it is late by seconds.
#[tokio::test(start_paused = true)]
async fn what_is_transactional_keeps_its_places_beside_a_campaign_that_does_not_yield() {
    let late = beside_a_campaign(Duration::ZERO, TEN_PLACES).await;
    assert!(late < 400, "{late}");
}
