//! A partition uses its places again without queueing for them, and no more of them than its part.

use std::sync::Arc;
use std::time::Duration;

use bongsu_simulation::verdict::outcomes;
use bongsu_simulation::world::World;
use tokio::time::{Instant, sleep};

use crate::flood::{Steady, delivery, write_to};

/// More than the places of the process, which is 16.
const FIRST: usize = 320;
const LATER: usize = 80;

/// What comes to a second partition while the first one has every place gets as many as that one.
#[tokio::test(start_paused = true)]
async fn a_partition_that_comes_later_has_its_part_of_the_places() {
    let world = World::new().await.unwrap();
    let steady = Steady {
        world: world.clone(),
        read: Arc::default(),
    };
    let now = world.clock.now_millis();
    let of = |sender: &str, count: usize| -> Vec<_> {
        (0..count)
            .map(|n| delivery(sender, n, &format!("{sender}-{n}"), now))
            .collect()
    };
    let settings = bongsu_dispatch::Settings {
        window_records: FIRST,
        ..World::settings()
    };
    write_to(&world, 0, &of("first", FIRST)).await;
    let worker = world
        .dispatch_with(settings, "worker", 7, Arc::new(steady.clone()))
        .unwrap();
    let begun = Instant::now();
    let so_far = || steady.read.lock().unwrap().len();
    while so_far() < 64 {
        sleep(Duration::from_millis(5)).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "stalled");
    }
    write_to(&world, 1, &of("later", LATER)).await;
    while outcomes(&world).await.unwrap().len() < FIRST + LATER {
        sleep(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < Duration::from_secs(120), "stalled");
    }
    worker.stop().await.unwrap();
    let read = steady.read.lock().unwrap();
    let places: Vec<_> = (0..read.len()).filter(|i| read[*i].0 == "later").collect();
    // It has its part after some rounds, and then as many are sent of the one as of the other.
    let (from, to) = (places[LATER / 2], places[LATER - 1]);
    let others = to - from + 1 - LATER / 2;
    assert!((LATER * 3 / 8..LATER * 5 / 8).contains(&others), "{others}");
    // Meanwhile it gains on the other from the start.
    assert!(from - places[0] < 2 * LATER, "{}", from - places[0]);
}
