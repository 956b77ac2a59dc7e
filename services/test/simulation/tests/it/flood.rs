//! One sender says more than its partition can send: the others are served as if it were not there,
//! the commit goes on, its own order holds, and it comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bongsu_channels::provider::{Attempt, AttemptResult, Provider, TryError};
use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{Act, AddressId, Backlog, Channel, Class, Content, DeliveryId};
use bongsu_runtime::{ByteSize, Ratio};
use bongsu_schemas::{Delivery, Millis, records};
use bongsu_simulation::provider::SimulatedProvider;
use bongsu_simulation::random::Random;
use bongsu_simulation::verdict::{check_marks, check_order, lost, outcomes};
use bongsu_simulation::world::{EPOCH_MS, World};
use bongsu_stream::local::FaultPlan;
use bongsu_stream::port::{Cluster as _, Headers, Outgoing, TopicPartition};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::backlog::{act, faults};

const HOUR_MS: i64 = 3_600_000;
/// Time of one call of the steady provider.
const CALL: Duration = Duration::from_millis(50);
/// What one worker of the simulation sends in a second: its 16 places, 50 ms each.
const PER_SECOND: usize = 320;
const FLOOD: usize = 3_000;
const SEEDS: u64 = 60;
/// Seeds that once found a bug.
const KEPT: &[u64] = &[
    // A parked delivery lay in the lane twice; the successor passed over the second copy, and the one
    // after it took that for the end of both.
    103,
];

/// Takes everything, in the same time each, and notes what it read when.
#[derive(Clone)]
pub(crate) struct Steady {
    pub(crate) world: World,
    /// Sender, when accepted, when read.
    pub(crate) read: Arc<Mutex<Vec<(String, i64, i64)>>>,
}

impl Provider for Steady {
    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        let now = self.world.clock.now_millis();
        let mut read = self.read.lock().unwrap();
        for attempt in batch {
            let delivery = attempt.delivery;
            read.push((delivery.sender.clone(), delivery.accepted_at.0, now));
        }
        let results = vec![AttemptResult::Accepted; batch.len()];
        Box::pin(async move {
            sleep(CALL).await;
            Ok(results)
        })
    }
}

pub(crate) fn delivery(sender: &str, n: usize, address: &str, accepted_at: i64) -> Delivery {
    let address_id = AddressId(address.into());
    let event_id = format!("e-{n}");
    let id = DeliveryId::derive(DeliveryParts {
        sender,
        event_id: &event_id,
        channel: "webhook",
        recipient: address,
        address_id: &address_id,
        step: 0,
    });
    let content = Content {
        body: Some("hello".into()),
        data: [("seq".to_owned(), n.to_string())].into(),
        ..Content::default()
    };
    Delivery {
        delivery_id: id.to_string(),
        event_id,
        sender: sender.into(),
        class: "transactional".into(),
        purpose: "transactional".into(),
        channel: "webhook".into(),
        recipient: address.into(),
        address: format!("https://example.com/{sender}/{address}"),
        address_id: address.into(),
        account: "default".into(),
        platform: "server".into(),
        content: records::Content::from(&content),
        origin: "event".into(),
        accepted_at: Millis(accepted_at),
        expires_at: Millis(EPOCH_MS + 48 * HOUR_MS),
        on_uncertain: "resend".into(),
        ..Delivery::default()
    }
}

/// All senders of these worlds share a partition.
pub(crate) async fn write(world: &World, deliveries: &[Delivery]) {
    write_to(world, 0, deliveries).await;
}

pub(crate) async fn write_to(world: &World, partition: i32, deliveries: &[Delivery]) {
    let producer = world.log.producer(Duration::ZERO).unwrap();
    for delivery in deliveries {
        let topics = &world.topics;
        let out = Outgoing {
            topic: topics.deliveries(Channel::Webhook, Class::Transactional),
            partition,
            key: Some(delivery.sender.clone().into()),
            value: Some(world.codec.encode(delivery).unwrap()),
            headers: Headers::default(),
        };
        producer.send(out).await.unwrap();
    }
}

fn flood(now: i64, addresses: usize) -> Vec<Delivery> {
    (0..FLOOD)
        .map(|n| delivery("flood", n, &format!("f-{}", n % addresses), now))
        .collect()
}

/// Where the lane of the partition ends: how much was ever parked in it.
async fn parked(world: &World) -> i64 {
    let lanes = world.topics.lanes(Channel::Webhook, Class::Transactional);
    let tp = TopicPartition::new(lanes, 0);
    let ends = world.log.ends(vec![tp.clone()]).await.unwrap();
    ends.get(&tp).copied().unwrap_or(0)
}

async fn committed(world: &World) -> i64 {
    let group = world.topics.dispatch_group(Channel::Webhook);
    let topic = world
        .topics
        .deliveries(Channel::Webhook, Class::Transactional);
    let lag = world
        .log
        .lag(&group, vec![topic.to_string()])
        .await
        .unwrap();
    lag.iter()
        .find(|p| p.partition.partition == 0)
        .and_then(|p| p.committed)
        .unwrap_or(0)
}

/// What an ordinary sender meets beside a flood: how late its deliveries are at the most,
/// milliseconds, and how many deliveries were parked.
async fn beside_a_flood(share: u8, addresses: usize) -> (i64, i64) {
    let world = World::new().await.unwrap();
    let steady = Steady {
        world: world.clone(),
        read: Arc::default(),
    };
    let settings = bongsu_dispatch::Settings {
        flood_share: Ratio::percent(share),
        ..World::settings()
    };
    let worker = world
        .dispatch_with(settings, "worker", 7, Arc::new(steady.clone()))
        .unwrap();
    let now = || world.clock.now_millis();
    let mut n = 0;
    let mut ordinary = || {
        n += 1;
        [delivery("ordinary", n, &format!("o-{}", n % 3), now())]
    };
    write(&world, &ordinary()).await;
    sleep(Duration::from_secs(5)).await;
    write(&world, &flood(now(), addresses)).await;
    let begun = Instant::now();
    for _ in 0..50 {
        write(&world, &ordinary()).await;
        sleep(Duration::from_millis(100)).await;
    }
    if share < 100 {
        // The commit does not wait for the flood, which has much left to send.
        let read = steady.read.lock().unwrap().len();
        assert!(read < FLOOD, "{read} in {:?}", begun.elapsed());
        assert!(committed(&world).await > i64::try_from(FLOOD).unwrap());
    }
    let all = FLOOD + 51;
    while outcomes(&world).await.unwrap().len() < all {
        sleep(Duration::from_millis(500)).await;
        assert!(begun.elapsed() < Duration::from_secs(600), "stalled");
    }
    let in_lane = parked(&world).await;
    // It is back: what it says now goes the short way.
    write(&world, &[delivery("flood", FLOOD, "f-0", now())]).await;
    while outcomes(&world).await.unwrap().len() < all + 1 {
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(parked(&world).await, in_lane);
    worker.stop().await.unwrap();
    let read = steady.read.lock().unwrap();
    assert_eq!(read.len(), all + 1, "nobody had anything twice");
    let late = read
        .iter()
        .filter(|(sender, ..)| sender == "ordinary")
        .map(|(_, accepted, at)| at - accepted);
    (late.max().unwrap(), in_lane)
}

#[tokio::test(start_paused = true)]
async fn an_ordinary_sender_is_not_late_because_another_floods() {
    let flood = i64::try_from(FLOOD).unwrap();
    let drained_ms = i64::try_from(FLOOD * 1_000 / PER_SECOND).unwrap();
    // Many addresses, and one alone: its key cannot go while an attempt of it is under way.
    for addresses in [FLOOD, 1] {
        let (late, in_lane) = beside_a_flood(60, addresses).await;
        assert!(late < 1_000, "{late} ms beside {addresses} addresses");
        assert!(in_lane > flood / 2, "{in_lane}");
    }
    // Switched off, it waits for all that was said before.
    let (late, in_lane) = beside_a_flood(100, FLOOD).await;
    assert!(late > drained_ms / 2, "{late} of {drained_ms}");
    assert_eq!(in_lane, 0);
}

/// How late one is, milliseconds, that stands behind 2,000 deliveries of a sender that is stopped.
async fn behind_a_stop(settings: bongsu_dispatch::Settings) -> i64 {
    let world = World::new().await.unwrap();
    let steady = Steady {
        world: world.clone(),
        read: Arc::default(),
    };
    act(&world, "sender/flood", Act::Stop, Backlog::All).await;
    let now = world.clock.now_millis();
    write(&world, &flood(now, FLOOD)[..2_000]).await;
    write(&world, &[delivery("ordinary", 1, "o", now)]).await;
    let provider = Arc::new(steady.clone());
    let worker = world
        .dispatch_with(settings, "worker", 7, provider)
        .unwrap();
    while outcomes(&world).await.unwrap().is_empty() {
        sleep(Duration::from_millis(100)).await;
        let waited = world.clock.now_millis() - now;
        assert!(waited < 120_000, "it waits for the start");
    }
    worker.stop().await.unwrap();
    let read = steady.read.lock().unwrap();
    let [(sender, accepted, at)] = &read[..] else {
        panic!("{read:?}");
    };
    assert_eq!(sender, "ordinary");
    at - accepted
}

#[tokio::test(start_paused = true)]
async fn a_stopped_sender_holds_nobody_whatever_fills_the_window() {
    let unflooded = bongsu_dispatch::Settings {
        flood_share: Ratio::percent(100),
        ..World::settings()
    };
    // Many keys with one delivery each, and a window of records or one of bytes.
    let records = bongsu_dispatch::Settings {
        window_records: 200,
        ..unflooded.clone()
    };
    let bytes = bongsu_dispatch::Settings {
        window_records: 2_000,
        memory: ByteSize::mib(1),
        ..unflooded
    };
    for settings in [records, bytes] {
        let late = behind_a_stop(settings).await;
        assert!(late < 60_000, "{late}");
    }
}

/// A flood through crashes, with a provider that fails, throttles and forgets to answer.
async fn through_crashes(seed: u64) -> Result<i64, String> {
    let mut random = Random::new(seed);
    let world = World::with_packing(seed.is_multiple_of(3)).await?;
    let addresses = 1 + random.below(40);
    let deliveries: Vec<Delivery> = (0..600)
        .map(|n| {
            let floods = n % 100 > 10 && random.chance(90);
            let (sender, many) = if floods {
                ("flood".to_owned(), addresses)
            } else {
                (format!("ordinary-{}", random.below(3)), 3)
            };
            let address = format!("{sender}-{}", random.below(many));
            delivery(&sender, n, &address, EPOCH_MS)
        })
        .collect();
    let mut names = 0;
    let mut hire = |random: &mut Random| {
        names += 1;
        let seed = random.bits();
        let provider =
            SimulatedProvider::new(world.memory.clone(), names, random.fork(), world.pack);
        let name = format!("worker-{names}");
        world.dispatch_with(World::settings(), &name, seed, Arc::new(provider))
    };
    let mut worker = hire(&mut random)?;
    // In pieces, so that some are read while an attempt of their key is under way.
    for piece in deliveries.chunks(10) {
        // What dispatch writes may fail; what is published here is there once.
        world.log.set_faults(FaultPlan::default());
        write(&world, piece).await;
        world.log.set_faults(faults(&mut random));
        sleep(Duration::from_millis(random.below(60))).await;
        if random.chance(95) {
            continue;
        }
        if random.chance(30) {
            worker.stop().await?;
        } else {
            worker.kill().await;
        }
        worker = hire(&mut random)?;
        sleep(Duration::from_millis(random.below(2_000))).await;
    }
    let begun = Instant::now();
    let found = loop {
        let found = outcomes(&world).await?;
        if found.len() >= deliveries.len() {
            break found;
        }
        if begun.elapsed() > Duration::from_secs(900) {
            return Err(format!("stalled at {}", found.len()));
        }
        sleep(Duration::from_millis(500)).await;
    };
    worker.stop().await?;
    let reads = world.memory.reads();
    check_order(&reads)?;
    check_marks(&reads, &found)?;
    if let Some(delivery) = lost(&reads, &found).first() {
        return Err(format!("{delivery} is lost"));
    }
    let ended: BTreeSet<&str> = found.values().map(|f| f.delivery.as_str()).collect();
    if ended.len() != deliveries.len() {
        return Err(format!("{} of {} ended", ended.len(), deliveries.len()));
    }
    let by_outcome = found.values().fold(BTreeMap::new(), |mut counts, f| {
        *counts.entry(f.outcome.as_str()).or_insert(0) += 1;
        counts
    });
    if by_outcome.keys().any(|outcome| *outcome != "accepted") {
        return Err(format!("{by_outcome:?}"));
    }
    Ok(parked(&world).await)
}

#[test]
fn a_flood_keeps_its_order_through_crashes() {
    let (mut failed, mut in_lane) = (Vec::new(), 0);
    let seeds = crate::number("BONGSU_SEEDS").unwrap_or(SEEDS);
    for seed in KEPT.iter().copied().chain(0..seeds) {
        match crate::paused(through_crashes(seed)) {
            Ok(parked) => in_lane += parked,
            Err(why) => failed.push(format!("seed {seed}: {why}")),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(in_lane > 50 * i64::try_from(seeds).unwrap(), "{in_lane}");
}
