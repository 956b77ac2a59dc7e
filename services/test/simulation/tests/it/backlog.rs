//! What an operator chose for a backlog before the gate opened: nothing of what is dropped is sent,
//! everything is answered for, through kills on the way and windows far smaller than the backlog.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{
    Act, AddressId, Backlog, Channel, Class, Content, Control, DeliveryId, Timestamp,
};
use bongsu_schemas::{Delivery, Millis, records};
use bongsu_simulation::random::Random;
use bongsu_simulation::verdict::{Found, check_copies, check_order, lost, outcomes};
use bongsu_simulation::world::{EPOCH_MS, PARTITIONS, World};
use bongsu_stream::local::FaultPlan;
use bongsu_stream::port::{Cluster as _, Headers, Outgoing};
use tokio::time::{Instant, sleep};

/// Beyond the window of the simulated workers (40), and far beyond what one may hold in flight.
const DELIVERIES: u64 = 240;
const CHANNEL: &str = "channel/webhook";
const HOUR_MS: i64 = 3_600_000;
/// Seeds of one run; `BONGSU_SEEDS` asks for another number.
const SEEDS: u64 = 60;

/// One delivery, and what it is one of.
#[derive(Clone)]
struct Planned {
    delivery: Delivery,
    partition: i32,
    unit: Option<(String, String, String)>,
}

fn planned(n: u64, random: &mut Random, accepted_at: i64) -> Planned {
    let sender = format!("sender-{}", random.below(4));
    let address = format!("a-{}", random.below(3));
    let collapse_key = random
        .chance(70)
        .then(|| format!("order-{}", random.below(3)));
    let address_id = AddressId(address.clone());
    let event_id = format!("e-{n}");
    let id = DeliveryId::derive(DeliveryParts {
        sender: &sender,
        event_id: &event_id,
        channel: "webhook",
        recipient: &address,
        address_id: &address_id,
        step: 0,
    });
    let content = Content {
        body: Some("hello".into()),
        data: [("seq".to_owned(), n.to_string())].into(),
        ..Content::default()
    };
    let delivery = Delivery {
        delivery_id: id.to_string(),
        event_id,
        class: "transactional".into(),
        purpose: "transactional".into(),
        channel: "webhook".into(),
        recipient: address.clone(),
        address: format!("https://example.com/{sender}/{address}"),
        address_id: address.clone(),
        account: "default".into(),
        platform: "server".into(),
        content: records::Content::from(&content),
        collapse_key: collapse_key.clone(),
        origin: "event".into(),
        accepted_at: Millis(accepted_at),
        expires_at: Millis(EPOCH_MS + 48 * HOUR_MS),
        on_uncertain: "resend".into(),
        sender: sender.clone(),
        ..Delivery::default()
    };
    let partition = bongsu_domain::partition_of(sender.as_bytes(), PARTITIONS);
    Planned {
        delivery,
        partition,
        unit: collapse_key.map(|key| (sender, address, key)),
    }
}

/// What may go wrong between dispatch and the log.
pub(crate) fn faults(random: &mut Random) -> FaultPlan {
    FaultPlan {
        seed: random.bits(),
        unacknowledged_per_mille: 5,
        queue_full_per_mille: 5,
        acknowledge_within: Duration::from_millis(random.below(20)),
        ..FaultPlan::default()
    }
}

async fn write(world: &World, planned: &[Planned]) {
    let producer = world.log.producer(Duration::ZERO).unwrap();
    for one in planned {
        let topics = &world.topics;
        let out = Outgoing {
            topic: topics.deliveries(Channel::Webhook, Class::Transactional),
            partition: one.partition,
            key: Some(one.delivery.sender.clone().into()),
            value: Some(world.codec.encode(&one.delivery).unwrap()),
            headers: Headers::default(),
        };
        producer.send(out).await.unwrap();
    }
}

pub(crate) async fn act(world: &World, scope: &str, act: Act, backlog: Backlog) {
    let control = Control {
        scope: scope.parse().unwrap(),
        act,
        who: "ann".into(),
        why: "a test".into(),
        from: Timestamp(world.clock.now_millis()),
        until: None,
        backlog,
    };
    let record = Outgoing {
        topic: world.topics.control(),
        partition: 0,
        key: Some(control.scope.to_string().into()),
        value: Some(
            world
                .codec
                .encode(&records::Control::from(&control))
                .unwrap(),
        ),
        headers: Headers::default(),
    };
    let producer = world.log.producer(Duration::ZERO).unwrap();
    producer.send(record).await.unwrap();
}

/// Outcomes by delivery; every delivery has at most one.
async fn found(world: &World) -> BTreeMap<String, Found> {
    let found = outcomes(world).await.unwrap();
    found
        .into_values()
        .map(|found| (found.delivery.clone(), found))
        .collect()
}

async fn until_all(world: &World, wanted: usize) -> Result<BTreeMap<String, Found>, String> {
    let deadline = Instant::now() + Duration::from_secs(900);
    loop {
        let found = found(world).await;
        if found.len() >= wanted {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("stalled: {} of {wanted} have ended", found.len()));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The newest of each unit, and everything that is no unit's.
fn kept(backlog: &[Planned]) -> BTreeSet<String> {
    let mut newest = BTreeMap::new();
    for (n, one) in backlog.iter().enumerate() {
        let unit = one.unit.clone().ok_or(n);
        newest.insert(unit, one.delivery.delivery_id.clone());
    }
    newest.into_values().collect()
}

/// A backlog that waits behind a stop, a start with a choice, and kills while it is worked off.
async fn worked_off(seed: u64) -> Result<usize, String> {
    let mut random = Random::new(seed);
    let world = World::with_packing(seed.is_multiple_of(3)).await?;
    let newest = seed.is_multiple_of(2);
    act(&world, CHANNEL, Act::Stop, Backlog::All).await;
    let backlog: Vec<Planned> = (0..DELIVERIES)
        .map(|n| {
            let age = random.below(2 * HOUR_MS.unsigned_abs()).cast_signed();
            planned(n, &mut random, EPOCH_MS - 1 - age)
        })
        .collect();
    write(&world, &backlog).await;
    // Every third choice is made before anybody works.
    let early = random.chance(67);
    let hired = early
        .then(|| world.dispatch(0, random.fork()))
        .transpose()?;
    // Long enough that stopped keys fill the window and go to the side lane in some runs.
    sleep(Duration::from_millis(random.below(8_000))).await;
    let stale = Timestamp(EPOCH_MS - HOUR_MS);
    let choice = if newest {
        Backlog::Newest
    } else {
        Backlog::DropStale(stale)
    };
    act(&world, CHANNEL, Act::Start, choice).await;
    let mut worker = match hired {
        Some(worker) => worker,
        None => world.dispatch(0, random.fork())?,
    };
    let now = world.clock.now_millis();
    let later: Vec<Planned> = (DELIVERIES..DELIVERIES + 30)
        .map(|n| planned(n, &mut random, now + 1))
        .collect();
    write(&world, &later).await;
    world.log.set_faults(faults(&mut random));
    let kills = random.below(4);
    for n in 0..kills {
        sleep(Duration::from_millis(random.below(1_500))).await;
        worker.kill().await;
        worker = world.dispatch(n + 1, random.fork())?;
    }
    let found = until_all(&world, backlog.len() + later.len()).await?;
    worker.stop().await?;

    let goes: BTreeSet<String> = if newest {
        kept(&backlog)
    } else {
        let fresh = backlog
            .iter()
            .filter(|p| p.delivery.accepted_at.0 >= stale.0);
        fresh.map(|p| p.delivery.delivery_id.clone()).collect()
    };
    let goes: BTreeSet<String> = goes
        .into_iter()
        .chain(later.iter().map(|p| p.delivery.delivery_id.clone()))
        .collect();
    let reads = world.memory.reads();
    if let Some(read) = reads.iter().find(|read| !goes.contains(&read.delivery)) {
        return Err(format!("{} was dropped, and was sent", read.delivery));
    }
    for (delivery, found) in &found {
        let right = if goes.contains(delivery) {
            "accepted"
        } else {
            "cancelled"
        };
        if found.outcome != right {
            return Err(format!("{delivery} is {}, not {right}", found.outcome));
        }
    }
    check_order(&reads)?;
    let by_receipt = found.clone();
    if let Some(delivery) = lost(&reads, &by_receipt).first() {
        return Err(format!("{delivery} is lost"));
    }
    if kills == 0 {
        check_copies(&reads, &BTreeMap::new())?;
    }
    Ok(found.len() - goes.len())
}

#[test]
fn what_is_dropped_from_a_backlog_is_never_sent_and_the_rest_is() {
    let (mut dropped, mut failed) = (0, Vec::new());
    let seeds = crate::number("BONGSU_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        match crate::paused(worked_off(seed)) {
            Ok(count) => dropped += count,
            Err(why) => failed.push(format!("seed {seed}: {why}")),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(dropped > 50 * usize::try_from(seeds).unwrap(), "{dropped}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_choice_of_the_start_before_it() {
    let world = World::new().await.unwrap();
    let mut random = Random::new(7);
    act(&world, CHANNEL, Act::Stop, Backlog::All).await;
    act(&world, CHANNEL, Act::Start, Backlog::Newest).await;
    act(&world, CHANNEL, Act::Stop, Backlog::All).await;
    act(&world, CHANNEL, Act::Start, Backlog::All).await;
    let backlog: Vec<Planned> = (0..60)
        .map(|n| planned(n, &mut random, EPOCH_MS - HOUR_MS))
        .collect();
    write(&world, &backlog).await;
    let worker = world.dispatch(0, random.fork()).unwrap();
    let found = until_all(&world, backlog.len()).await.unwrap();
    assert!(found.values().all(|f| f.outcome == "accepted"), "{found:?}");
    worker.stop().await.unwrap();
}
