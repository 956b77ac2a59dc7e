//! Discord: tens of thousands of webhooks under the limit of one public IP address, counted at the
//! twin.
//!
//! Deliveries lie in Kafka, one or two dispatch processes execute them, the twin is a process of its
//! own with every limit of Discord in force. The bound of a scenario is what the limit of the address
//! allows; the promises are at least 95 % of it, no request that the twin refuses for a limit, none
//! above the limit in any sliding second, nothing lost and nothing twice.

mod load;
mod row;
mod twin;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bongsu_domain::Class;

use crate::Arguments;
use load::{Burst, Load};
pub(crate) use row::Row;
use twin::Twin;
use world::World;

/// One scenario.
struct Scenario {
    name: &'static str,
    /// Requests a second from one address, at the twin and in dispatch's settings.
    per_second: u32,
    /// Addresses that are written at the beginning, one delivery each.
    addresses: usize,
    /// Dispatch processes behind the one address.
    workers: usize,
    /// One of so many webhooks is deleted.
    dead_each: Option<usize>,
    /// Deliveries that come while it runs.
    mix: Option<Mix>,
}

/// A steady stream, and bursts of bulk.
#[derive(Debug, Clone, Copy)]
struct Mix {
    /// Deliveries a second.
    steady: u32,
    /// Seconds it lasts.
    seconds: u32,
    /// Deliveries of one burst.
    burst: usize,
    /// Seconds from one burst to the next.
    every: u32,
}

fn scenarios(quick: bool) -> [Scenario; 3] {
    let size = |full: usize, quickly: usize| if quick { quickly } else { full };
    let mix = if quick {
        Mix {
            steady: 50,
            seconds: 20,
            burst: 10_000,
            every: 5,
        }
    } else {
        Mix {
            steady: 50,
            seconds: 120,
            burst: 20_000,
            every: 30,
        }
    };
    [
        Scenario {
            name: "everyone-2000",
            per_second: 2_000,
            addresses: size(143_900, 20_000),
            workers: 1,
            dead_each: Some(500),
            mix: None,
        },
        Scenario {
            name: "true-50",
            per_second: 50,
            addresses: size(180, 30) * 50,
            workers: 2,
            dead_each: None,
            mix: None,
        },
        Scenario {
            name: "mix-2000",
            per_second: 2_000,
            addresses: 0,
            workers: 1,
            dead_each: None,
            mix: Some(mix),
        },
    ]
}

/// Runs every scenario asked for, handing each row on as soon as it is there.
pub(crate) async fn run(
    arguments: &Arguments,
    each: &mut impl FnMut(Row) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for scenario in scenarios(arguments.quick) {
        if arguments.wants(scenario.name) {
            each(play(arguments, &scenario).await?)?;
        }
    }
    Ok(())
}

async fn play(arguments: &Arguments, scenario: &Scenario) -> anyhow::Result<Row> {
    let dir = tempfile::Builder::new()
        .prefix("bongsu-discord")
        .tempdir()?;
    let twin = Twin::start(&arguments.bongsu, dir.path(), scenario.per_second).await?;
    let bursts = scenario.mix.map_or(0, |mix| mix.seconds / mix.every) as usize;
    let steady = scenario
        .mix
        .map_or(0, |mix| (mix.steady * mix.seconds) as usize);
    let burst = scenario.mix.map_or(0, |mix| mix.burst);
    let wanted = scenario.addresses + steady + bursts * burst;
    let dead = match scenario.dead_each {
        Some(each) => load::dead(wanted, each),
        None => Vec::new(),
    };
    twin.delete(&dead).await?;
    let mut world = World::start(arguments, dir.path(), &twin, scenario.per_second)?;
    let load = Load::connect(world.bootstrap())?;
    let lying = 0..scenario.addresses;
    // What lies there before is taken by the first worker alone; several begin together.
    if scenario.workers == 1 {
        load.write(Class::Transactional, lying.clone()).await?;
    }
    for _ in 0..scenario.workers {
        world.start_dispatch()?;
    }
    world.wait_ready().await?;
    if scenario.workers > 1 {
        load.write(Class::Transactional, lying).await?;
    }
    let begun = Instant::now();
    if let Some(mix) = scenario.mix {
        let bursts = (0..bursts).map(|n| Burst {
            after: Duration::from_secs(u64::from(mix.every) * n as u64),
            numbers: steady + n * burst..steady + (n + 1) * burst,
        });
        load.play(mix.steady, 0..steady, bursts.collect()).await?;
    }
    let patience = Duration::from_secs_f64(wanted as f64 / f64::from(scenario.per_second) * 1.5)
        + Duration::from_secs(120);
    twin.wait(wanted as u64, begun + patience, &mut world)
        .await?;
    // Whatever still comes would be a copy.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = world.used();
    let seen = twin.seen().await?;
    let report = twin.report().await?;
    tell_seconds(scenario.name, &seen);
    let row = row::judge(&row::Case {
        scenario,
        quick: arguments.quick,
        wanted,
        dead: dead.len(),
        steady,
        seen: &seen,
        report: &report,
        used,
        stamps: load.stamps(),
    });
    world.stop().await?;
    twin.stop().await?;
    Ok(row)
}

/// Shows how many requests of each worker came in every second from the first on.
fn tell_seconds(name: &str, seen: &[twin::Seen]) {
    let first = seen.iter().map(|s| s.read_us).min().unwrap_or(0);
    let mut workers: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for request in seen {
        let second = usize::try_from((request.read_us - first) / 1_000_000).unwrap_or(0);
        let seconds = workers.entry(&request.worker).or_default();
        seconds.resize(seconds.len().max(second + 1), 0);
        seconds[second] += 1;
    }
    for (worker, seconds) in workers {
        eprintln!("{name}, {worker}, by second: {seconds:?}");
    }
}
