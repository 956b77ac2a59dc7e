//! One seeded run: publishers publish, services crash and come back, and at the end everything is
//! accounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_domain::{
    AddressId, Class, DeliveryId, Timestamp, identity::DeliveryParts, partition_of,
};
use bongsu_gateway::{Caller, Gateway};
use bongsu_store::{CountsQuery, LedgerReader as _};
use bongsu_stream::local::FaultPlan;
use bongsu_stream::port::{Cluster as _, Headers, Outgoing};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::random::Random;
use crate::verdict::{
    Found, Verdict, check_copies, check_marks, check_never_twice, check_order, lost, outcomes,
};
use crate::world::{EPOCH_MS, PARTITIONS, Process, World};

const SENDERS: u64 = 6;
const EVENTS_PER_SENDER: u64 = 12;
const ADDRESSES: u64 = 3;
/// Virtual time after which a run that is not finished has stalled.
const STALLED: Duration = Duration::from_secs(1_800);

/// Runs one seed in its own virtual time.
///
/// # Errors
/// The promise that broke, or the service that ended.
pub fn simulate(seed: u64) -> Result<Verdict, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|e| e.to_string())?;
    runtime.block_on(run(seed))
}

async fn run(seed: u64) -> Result<Verdict, String> {
    let mut random = Random::new(seed);
    // Every third world packs; a sender then publishes without pause, so that there is something to.
    let pack = seed.is_multiple_of(3);
    let mut world = World::with_packing(pack).await?;
    // Every fourth is so narrow that one sender fills it.
    if seed % 4 == 1 {
        world.window = 6;
    }
    world.log.set_faults(FaultPlan {
        seed: random.bits(),
        unacknowledged_per_mille: 5,
        queue_full_per_mille: 5,
        aborted_per_mille: 20,
        // Every fourth world has a coordinator that forgets to answer.
        lost_per_mille: if seed % 4 == 2 { 10 } else { 0 },
        refused_after_a_loss: u8::try_from(seed % 3).unwrap_or(0),
        acknowledge_within: Duration::from_millis(random.below(30)),
        tail_takes: Duration::ZERO,
    });
    let mut expected = Expected::default();
    let plans: Vec<Vec<Planned>> = (0..SENDERS)
        .map(|s| plan(s, &mut random, &mut expected))
        .collect();
    let entrance = Entrance::new(&world).await?;
    let mut publishers = tokio::task::JoinSet::new();
    for (sender, events) in plans.into_iter().enumerate() {
        let publisher = publish(
            world.clone(),
            entrance.current.clone(),
            sender as u64,
            events,
            random.fork(),
        );
        publishers.spawn(publisher);
    }
    let mut cast = Cast::start(&world, &mut random)?;
    let kills = cast.chaos(&world, &entrance, &mut random).await?;
    while let Some(published) = publishers.join_next().await {
        published.map_err(|e| e.to_string())??;
    }
    settle(&world, &expected, &cast).await?;
    let verdict = judge(&world, &expected, &cast, kills).await;
    cast.stop().await?;
    verdict
}

/// One event to publish.
struct Planned {
    id: String,
    body: Value,
}

#[derive(Default)]
struct Expected {
    deliveries: BTreeSet<String>,
    gone: BTreeSet<String>,
    /// Never to be sent twice: `unknown` is a fair end of them.
    strict: BTreeSet<String>,
}

fn plan(sender: u64, random: &mut Random, expected: &mut Expected) -> Vec<Planned> {
    let name = format!("sender-{sender}");
    (0..EVENTS_PER_SENDER)
        .map(|n| {
            let id = format!("e-{n}");
            let address = random.below(ADDRESSES);
            let gone = sender == 1 && address == 0;
            let url = format!(
                "https://example.com/{sender}/{address}{}",
                if gone { "/gone" } else { "" }
            );
            let recipient = format!("r-{address}");
            let address_id = AddressId::derive("webhook", "default", &url);
            let delivery = DeliveryId::derive(DeliveryParts {
                sender: &name,
                event_id: &id,
                channel: "webhook",
                recipient: &recipient,
                address_id: &address_id,
                step: 0,
            })
            .to_string();
            if sender == 4 || sender == 5 {
                expected.strict.insert(delivery.clone());
            }
            if gone {
                expected.gone.insert(delivery.clone());
            }
            expected.deliveries.insert(delivery);
            let body = json!({
                "id": id,
                "sender": name,
                // Sender 4 would rather have nothing than anything twice.
                "on_uncertain": match sender {
                    4 => "never_resend",
                    5 => "resend_if_idempotent",
                    _ => "resend",
                },
                "class": if sender == 2 { "bulk" } else { "transactional" },
                "plan": {"channels": ["webhook"]},
                "target": {"recipients": [{"id": recipient, "addresses": [
                    {"channel": "webhook", "address": url}]}]},
                "content": {"body": "hello", "data": {"seq": n.to_string()}},
            });
            Planned { id, body }
        })
        .collect()
}

/// The gateway that is up at the moment; publishers see it change at a kill.
struct Entrance {
    change: watch::Sender<Option<Gateway>>,
    current: watch::Receiver<Option<Gateway>>,
}

impl Entrance {
    async fn new(world: &World) -> Result<Self, String> {
        let (change, current) = watch::channel(Some(world.gateway().await?));
        Ok(Self { change, current })
    }
}

/// Publishes one sender's events in order; what was not acknowledged is sent again with its id.
/// Sender 3 is a foreign client that writes to the wrong partition.
async fn publish(
    world: World,
    mut entrance: watch::Receiver<Option<Gateway>>,
    sender: u64,
    events: Vec<Planned>,
    mut random: Random,
) -> Result<(), String> {
    let foreign = world
        .log
        .producer(Duration::ZERO)
        .map_err(|e| e.to_string())?;
    for event in events {
        let pause = random.below(if world.pack { 80 } else { 800 });
        sleep(Duration::from_millis(pause)).await;
        if sender == 3 {
            let record = misplaced(&world, &event);
            while foreign.send(record.clone()).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
            continue;
        }
        let again = random.chance(15);
        over_http(&mut entrance, &event).await?;
        if again {
            // A publisher that never saw its answer: the same id once more.
            over_http(&mut entrance, &event).await?;
        }
    }
    Ok(())
}

fn misplaced(world: &World, event: &Planned) -> Outgoing {
    let key = event.body["sender"].as_str().unwrap_or_default().to_owned();
    Outgoing {
        topic: world.topics.events(Class::Transactional),
        partition: (partition_of(key.as_bytes(), PARTITIONS) + 1) % PARTITIONS,
        key: Some(key.into()),
        value: Some(event.body.to_string().into()),
        headers: Headers::default().with("bongsu-client-id", "foreign"),
    }
}

async fn over_http(
    entrance: &mut watch::Receiver<Option<Gateway>>,
    event: &Planned,
) -> Result<(), String> {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let body = event.body.to_string();
    loop {
        let gateway = entrance.borrow_and_update().clone();
        let Some(gateway) = gateway else {
            entrance.changed().await.map_err(|e| e.to_string())?;
            continue;
        };
        let caller = Caller::anonymous();
        tokio::select! {
            biased;
            // The process died with the request in it.
            changed = entrance.changed() => changed.map_err(|e| e.to_string())?,
            answer = gateway.publish(&caller, &headers, body.as_bytes(), false) => match answer {
                Ok(_) => return Ok(()),
                Err(problem) if problem.code.status().as_u16() >= 500 => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(problem) => return Err(format!("{}: {problem:?}", event.id)),
            },
        }
    }
}

/// The processes, and what kills of dispatch excuse.
struct Cast {
    fanout: Option<Process>,
    ledger: Option<Process>,
    dispatch: BTreeMap<u64, Process>,
    next_worker: u64,
    excused: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Cast {
    fn start(world: &World, random: &mut Random) -> Result<Self, String> {
        let mut cast = Self {
            fanout: Some(world.fanout()?),
            ledger: Some(world.ledger()?),
            dispatch: BTreeMap::new(),
            next_worker: 0,
            excused: Arc::default(),
        };
        cast.hire(world, random)?;
        Ok(cast)
    }

    fn hire(&mut self, world: &World, random: &mut Random) -> Result<(), String> {
        let worker = self.next_worker;
        self.next_worker += 1;
        self.dispatch
            .insert(worker, world.dispatch(worker, random.fork())?);
        Ok(())
    }

    async fn chaos(
        &mut self,
        world: &World,
        entrance: &Entrance,
        random: &mut Random,
    ) -> Result<usize, String> {
        let rounds = 2 + random.below(6);
        let mut kills = 0;
        for _ in 0..rounds {
            sleep(Duration::from_millis(random.below(4_000))).await;
            for _ in 0..random.below(60) {
                yield_now().await;
            }
            self.check_alive()?;
            let graceful = random.chance(35);
            kills += usize::from(!graceful);
            match random.below(6) {
                0 => {
                    entrance.change.send_replace(None);
                    sleep(Duration::from_millis(random.below(500))).await;
                    entrance.change.send_replace(Some(world.gateway().await?));
                }
                1 | 2 => {
                    end(self.fanout.take(), graceful).await?;
                    sleep(Duration::from_millis(random.below(1_000))).await;
                    self.fanout = Some(world.fanout()?);
                }
                3 => {
                    end(self.ledger.take(), graceful).await?;
                    self.ledger = Some(world.ledger()?);
                }
                4 => {
                    // One more worker: a rebalance under load.
                    self.hire(world, random)?;
                }
                _ => {
                    self.end_dispatch(world, graceful, random).await?;
                    sleep(Duration::from_millis(random.below(1_000))).await;
                    if self.dispatch.is_empty() {
                        self.hire(world, random)?;
                    }
                }
            }
        }
        Ok(kills)
    }

    async fn end_dispatch(
        &mut self,
        world: &World,
        graceful: bool,
        random: &mut Random,
    ) -> Result<(), String> {
        let nth = random.below(self.dispatch.len() as u64);
        let Some(worker) = self
            .dispatch
            .keys()
            .nth(usize::try_from(nth).unwrap_or(0))
            .copied()
        else {
            return Ok(());
        };
        let process = self.dispatch.remove(&worker);
        end(process, graceful).await?;
        if graceful {
            return Ok(());
        }
        let receipted: BTreeSet<String> = outcomes(world)
            .await?
            .into_values()
            .map(|found| found.delivery)
            .collect();
        let mut excused = self.excused.lock().unwrap_or_else(PoisonError::into_inner);
        for (delivery, times) in world.memory.arrived_from(worker) {
            if !receipted.contains(&delivery) {
                *excused.entry(delivery).or_default() += times;
            }
        }
        Ok(())
    }

    fn check_alive(&self) -> Result<(), String> {
        let ended = |p: &Option<Process>| p.as_ref().is_some_and(Process::has_ended);
        if ended(&self.fanout) || ended(&self.ledger) {
            return Err("fanout or ledger ended by itself".to_owned());
        }
        if self.dispatch.values().any(Process::has_ended) {
            return Err("dispatch ended by itself".to_owned());
        }
        Ok(())
    }

    async fn stop(self) -> Result<(), String> {
        end(self.fanout, true).await?;
        end(self.ledger, true).await?;
        for process in self.dispatch.into_values() {
            end(Some(process), true).await?;
        }
        Ok(())
    }
}

async fn end(process: Option<Process>, graceful: bool) -> Result<(), String> {
    let Some(process) = process else {
        return Ok(());
    };
    if graceful {
        process.stop().await
    } else {
        process.kill().await;
        Ok(())
    }
}

async fn settle(world: &World, expected: &Expected, cast: &Cast) -> Result<(), String> {
    let deadline = Instant::now() + STALLED;
    loop {
        cast.check_alive()?;
        let found = outcomes(world).await?;
        if found.len() >= expected.deliveries.len() && counted(world).await? >= found.len() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "stalled: {} of {} deliveries have an outcome, the ledger has {}",
                found.len(),
                expected.deliveries.len(),
                counted(world).await?
            ));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

async fn counted(world: &World) -> Result<usize, String> {
    let query = CountsQuery::between(
        Timestamp(EPOCH_MS - 60_000),
        Timestamp(EPOCH_MS + 86_400_000),
    );
    let rows = world
        .store
        .counts(&query)
        .await
        .map_err(|e| e.to_string())?;
    usize::try_from(rows.iter().map(|r| r.deliveries).sum::<i64>()).map_err(|e| e.to_string())
}

async fn judge(
    world: &World,
    expected: &Expected,
    cast: &Cast,
    kills: usize,
) -> Result<Verdict, String> {
    let found = outcomes(world).await?;
    let reads = world.memory.reads();
    let delivered: BTreeSet<String> = found.values().map(|f| f.delivery.clone()).collect();
    if delivered != expected.deliveries || found.len() != delivered.len() {
        return Err(format!(
            "{} deliveries expected, {} have an outcome, {} outcomes",
            expected.deliveries.len(),
            delivered.len(),
            found.len()
        ));
    }
    for Found {
        delivery, outcome, ..
    } in found.values()
    {
        let right = if expected.gone.contains(delivery) {
            "refused"
        } else {
            "accepted"
        };
        let fair = outcome == "unknown" && expected.strict.contains(delivery);
        if outcome != right && !fair {
            return Err(format!("{delivery} is {outcome}, not {right}"));
        }
    }
    let missing = lost(&reads, &found);
    if let Some(delivery) = missing.first() {
        return Err(format!("{} lost, first {delivery}", missing.len()));
    }
    check_order(&reads)?;
    let excused = cast
        .excused
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let explained_duplicates = check_copies(&reads, &excused)?;
    check_marks(&reads, &found)?;
    check_never_twice(&reads, &["sender-4", "sender-5"])?;
    let counted = counted(world).await?;
    if counted != found.len() {
        return Err(format!(
            "the ledger counts {counted}, the log {}",
            found.len()
        ));
    }
    Ok(Verdict {
        expected: expected.deliveries.len(),
        outcomes: found.len(),
        explained_duplicates,
        kills,
        packed: reads.iter().filter(|read| read.together > 1).count(),
    })
}
