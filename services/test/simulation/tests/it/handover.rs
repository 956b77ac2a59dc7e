//! Hand-overs that something else meets: a stop, or a restore that outlives its assignment.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bongsu_channels::provider::{Attempt, AttemptResult, Provider, TryError};
use bongsu_domain::{Channel, Class};
use bongsu_simulation::world::{PARTITIONS, World};
use bongsu_stream::local::FaultPlan;
use bongsu_stream::port::{Cluster as _, Headers, Outgoing};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::night::{delivery, outcomes};

/// Notes every call; one to an address that ends in `slow` takes five seconds, any other a tenth.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Vec<String>>>);

impl Slow {
    fn calls(&self) -> Vec<String> {
        let mut calls = self.0.lock().unwrap().clone();
        calls.sort_unstable();
        calls
    }
}

impl Provider for Slow {
    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        Box::pin(async move {
            let mut slow = false;
            for attempt in batch {
                slow |= attempt.delivery.address.address.ends_with("slow");
                let event = attempt.delivery.event_id.clone();
                self.0.lock().unwrap().push(event);
            }
            sleep(Duration::from_millis(if slow { 5_000 } else { 100 })).await;
            Ok(vec![AttemptResult::Accepted; batch.len()])
        })
    }
}

/// One delivery in every partition, named after it and the round.
pub(crate) async fn write(world: &World, round: &str, slow: impl Fn(i32) -> bool) {
    let producer = world.log.producer(Duration::ZERO).unwrap();
    for partition in 0..PARTITIONS {
        let address = if slow(partition) { "slow" } else { "quick" };
        let event = format!("{round}-{partition}");
        let address = format!("{round}-{address}");
        let delivery = delivery(&event, &address, "transactional", "Asia/Seoul", 86_400_000);
        let out = Outgoing {
            topic: world
                .topics
                .deliveries(Channel::Webhook, Class::Transactional),
            partition,
            key: Some("shop".into()),
            value: Some(world.codec.encode(&delivery).unwrap()),
            headers: Headers::default(),
        };
        producer.send(out).await.unwrap();
    }
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let there = async {
        while !is().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(120), there).await.expect(what);
}

/// Whichever partition is given up: once it is the slow one.
#[tokio::test(start_paused = true)]
async fn a_stop_in_a_hand_over_cuts_no_attempt_off() {
    let all: Vec<String> = (0..PARTITIONS).map(|p| format!("e-{p}")).collect();
    for slow in 0..PARTITIONS {
        let world = World::new().await.unwrap();
        let provider = Slow::default();
        let start = |name: &str| {
            let settings = World::settings();
            world.dispatch_with(settings, name, 7, Arc::new(provider.clone()))
        };
        let first = start("first").unwrap();
        write(&world, "e", |p| p == slow).await;
        until("every call", async || provider.calls().len() == all.len()).await;
        // It takes a partition over; the slow call is under way.
        let second = start("second").unwrap();
        sleep(Duration::from_millis(500)).await;
        first.stop().await.unwrap();
        until("every outcome", async || {
            outcomes(&world).await.len() >= all.len()
        })
        .await;
        second.stop().await.unwrap();
        assert_eq!(provider.calls(), all, "a call was cut off and made again");
        assert_eq!(outcomes(&world).await.len(), all.len());
    }
}

/// A worker dies while it calls everybody; its successor comes to one call before it drains.
#[tokio::test(start_paused = true)]
async fn a_clean_hand_over_keeps_the_doubt_of_a_crash_before_it() {
    let each = usize::try_from(PARTITIONS).unwrap();
    let world = World::new().await.unwrap();
    let provider = Slow::default();
    let start = |name: &str, max_in_flight| {
        let settings = bongsu_dispatch::Settings {
            max_in_flight,
            ..World::settings()
        };
        world.dispatch_with(settings, name, 7, Arc::new(provider.clone()))
    };
    let first = start("first", each).unwrap();
    write(&world, "e", |_| true).await;
    until("every call", async || provider.calls().len() == each).await;
    first.kill().await;
    let second = start("second", 1).unwrap();
    until("another call", async || provider.calls().len() > each).await;
    second.stop().await.unwrap();
    assert_eq!(provider.calls().len(), each + 1);

    let third = start("third", each).unwrap();
    until("every outcome", async || {
        outcomes(&world).await.len() >= each
    })
    .await;
    third.stop().await.unwrap();
    assert_eq!(provider.calls().len(), 2 * each);
    let receipts = bongsu_simulation::verdict::outcomes(&world).await.unwrap();
    assert_eq!(receipts.len(), each);
    assert!(
        receipts.values().all(|found| found.possible_duplicate),
        "{receipts:?}"
    );
}

/// Both classes' members are thrown out, and join again.
fn lose_all(world: &World) {
    let group = world.topics.dispatch_group(Channel::Webhook);
    for member in 0..Class::ALL.len() {
        assert!(world.log.lose_assignment(&group, member));
    }
}

/// A restore ends long after its partitions were lost and taken again. Its word would make the owner
/// forget what it has under way, and the commit go past it.
#[tokio::test(start_paused = true)]
async fn a_restore_of_an_earlier_assignment_says_nothing() {
    let restore = Duration::from_secs(30);
    let each = usize::try_from(PARTITIONS).unwrap();
    let world = World::new().await.unwrap();
    let provider = Slow::default();
    let settings = World::settings();
    let worker = world.dispatch_with(settings, "worker", 7, Arc::new(provider.clone()));
    let worker = worker.unwrap();
    let have_ended = async |deliveries: usize| {
        until("every outcome", async || {
            outcomes(&world).await.len() >= deliveries
        })
        .await;
    };
    write(&world, "d", |_| false).await;
    have_ended(each).await;

    world.log.set_faults(FaultPlan {
        tail_takes: restore,
        ..FaultPlan::default()
    });
    let begun = Instant::now();
    lose_all(&world);
    sleep(Duration::from_secs(1)).await;
    world.log.set_faults(FaultPlan::default());
    lose_all(&world);
    write(&world, "e", |_| false).await;
    have_ended(2 * each).await;
    assert!(
        begun.elapsed() < restore,
        "the second restore was waited for"
    );

    // Under way when the first restore comes to its end.
    sleep_until(begun + restore - Duration::from_secs(2)).await;
    write(&world, "f", |_| true).await;
    have_ended(3 * each).await;
    assert!(begun.elapsed() > restore);
    worker.stop().await.unwrap();
    assert_eq!(provider.calls().len(), 3 * each);
}
