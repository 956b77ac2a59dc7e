//! What comes in batches is larger than the window it comes for: the rest waits as it came, which takes a
//! quarter of the memory, and nothing of it is lost or overtaken.

use std::sync::Arc;
use std::time::Duration;

use bongsu_runtime::{ByteSize, Metrics};
use bongsu_simulation::verdict::outcomes;
use bongsu_simulation::world::World;
use tokio::time::{Instant, sleep};

use crate::flood::{Steady, delivery, write};

const DELIVERIES: usize = 2_000;
/// A class has a quarter of this for its windows, some 140 deliveries; a partition that is alone has all of it.
const MEMORY_MIB: usize = 1;

fn held(metrics: &Metrics) -> usize {
    let text = metrics.render().unwrap();
    let of = |line: &&str| line.starts_with("bongsu_deliveries_held{");
    let values = text.lines().filter(of).map(|line| {
        let value = line.rsplit(' ').next().unwrap();
        value.parse::<f64>().unwrap()
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of deliveries"
    )]
    let sum = values.sum::<f64>() as usize;
    sum
}

#[tokio::test(start_paused = true)]
async fn a_batch_does_not_fill_more_than_the_window() {
    let world = World::new().await.unwrap();
    let steady = Steady {
        world: world.clone(),
        read: Arc::default(),
    };
    let now = world.clock.now_millis();
    let all: Vec<_> = (0..DELIVERIES)
        .map(|n| delivery("shop", n, &format!("s-{}", n % 500), now))
        .collect();
    write(&world, &all).await;
    let metrics = Metrics::new().unwrap();
    let settings = bongsu_dispatch::Settings {
        memory: ByteSize::mib(MEMORY_MIB),
        window_records: DELIVERIES,
        ..World::settings()
    };
    let worker = world
        .dispatch_measured(
            settings,
            "worker",
            7,
            Arc::new(steady.clone()),
            metrics.clone(),
        )
        .unwrap();
    let (begun, mut most) = (Instant::now(), 0);
    while outcomes(&world).await.unwrap().len() < DELIVERIES {
        sleep(Duration::from_millis(100)).await;
        most = most.max(held(&metrics));
        assert!(begun.elapsed() < Duration::from_secs(120), "stalled");
    }
    worker.stop().await.unwrap();
    assert_eq!(steady.read.lock().unwrap().len(), DELIVERIES);
    assert!((100..180).contains(&most), "{most}");
}

/// Somebody who waits undecoded behind a flood is heard all the same: the flood goes through the side lane.
#[tokio::test(start_paused = true)]
async fn whoever_waits_beyond_the_window_is_heard() {
    let world = World::new().await.unwrap();
    let steady = Steady {
        world: world.clone(),
        read: Arc::default(),
    };
    let now = world.clock.now_millis();
    let mut all: Vec<_> = (0..450)
        .map(|n| delivery("flood", n, &format!("f-{n}"), now))
        .collect();
    all.push(delivery("ordinary", 1, "o", now));
    write(&world, &all).await;
    let settings = bongsu_dispatch::Settings {
        memory: ByteSize::mib(MEMORY_MIB),
        window_records: DELIVERIES,
        ..World::settings()
    };
    let worker = world
        .dispatch_with(settings, "worker", 7, Arc::new(steady.clone()))
        .unwrap();
    let begun = Instant::now();
    while outcomes(&world).await.unwrap().len() < all.len() {
        sleep(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < Duration::from_secs(120), "stalled");
    }
    worker.stop().await.unwrap();
    let read = steady.read.lock().unwrap();
    let before = read.iter().take_while(|(sender, ..)| sender != "ordinary");
    let before = before.count();
    assert!(before < 200, "it waited for {before} of the flood");
}
