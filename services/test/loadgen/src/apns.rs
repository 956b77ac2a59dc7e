//! What a push costs, and that none is lost: our provider alone, other clients, dispatch, and the
//! whole pipeline, all against the same twin in a process of its own.

mod bare;
mod correctness;
mod others;
pub(crate) mod pipeline;
mod row;
mod twin;

use std::time::Duration;

use serde_json::json;

use crate::Arguments;
pub(crate) use row::Row;
use row::Runs;
use twin::Twin;

/// The app every push is for.
const TOPIC: &str = "com.example.app";
/// Devices that are pushed to in turn.
const DEVICES: u32 = 10_000;
/// Pushes a second that a campaign of 1.5 million in a minute needs, and Apple's usual round trip.
const WANTED_PER_SECOND: f64 = 25_000.0;
const WANTED_RTT_MS: u64 = 300;

/// What a system measured of itself.
#[derive(Debug, Clone, Copy)]
struct Run {
    accepted: u64,
    seconds: f64,
    cpu_us: u64,
    /// Of single pushes. Bongsu's are ends of its histogram's buckets.
    p50: Duration,
    p99: Duration,
}

/// What every system is to do.
struct Job<'a> {
    twin: &'a Twin,
    pushes: u32,
    in_flight: usize,
    connections: usize,
}

/// Runs every scenario asked for, handing each row on as soon as it is there.
pub(crate) async fn run(
    arguments: &Arguments,
    each: &mut impl FnMut(Row) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut cost = None;
    for (scenario, in_flight) in [("clean_100", 100), ("clean_1000", 1_000)] {
        if arguments.wants(scenario) {
            for row in compare(arguments, scenario, in_flight).await? {
                if row.system == "bongsu" {
                    cost = Some(row.cpu_us_per_notification);
                }
                each(row)?;
            }
        }
    }
    for (scenario, rtt_ms) in [("streams_300ms", WANTED_RTT_MS), ("streams_7500", 1_500)] {
        if arguments.wants(scenario) {
            each(streams(arguments, scenario, rtt_ms, cost).await?)?;
        }
    }
    if arguments.wants("correctness") {
        each(correctness::run(arguments).await?)?;
    }
    Ok(())
}

/// Every client in turn, as often as it is repeated: what one run suffers, all suffer.
async fn compare(
    arguments: &Arguments,
    scenario: &'static str,
    in_flight: usize,
) -> anyhow::Result<Vec<Row>> {
    let dir = tempfile::Builder::new().prefix("bongsu-apns").tempdir()?;
    let twin = Twin::start(&arguments.bongsu, dir.path()).await?;
    // Each client signs its own token, and Apple would refuse so many.
    twin.plan(&json!({"token_changes": 0})).await?;
    let (repeats, pushes) = if arguments.quick {
        (1, 40_000)
    } else {
        (3, 150_000)
    };
    let job = Job {
        twin: &twin,
        pushes,
        in_flight,
        connections: 1,
    };
    let mut all = ["bare", "h2load", "apns2", "bongsu"].map(|system| Runs::new(system, scenario));
    for _ in 0..repeats {
        for runs in &mut all {
            let before = twin.begin().await?;
            let run = match runs.system {
                "bare" => Some(bare::run(&job).await?),
                "h2load" => others::h2load(&job).await?,
                "apns2" => others::apns2(&job).await?,
                _ => Some(pipeline::run(&job, arguments).await?),
            };
            match run {
                Some(run) => runs.add(&job, before, run).await?,
                None => eprintln!("{} is not installed and is left out", runs.system),
            }
        }
    }
    twin.stop().await?;
    Ok(all.iter().filter_map(Runs::row).collect())
}

/// Dispatch with as many connections and streams as the wanted rate needs at the usual round trip.
/// Where two cores do not reach the rate, a longer round trip opens as many streams at a time.
async fn streams(
    arguments: &Arguments,
    scenario: &'static str,
    rtt_ms: u64,
    cost: Option<f64>,
) -> anyhow::Result<Row> {
    let dir = tempfile::Builder::new().prefix("bongsu-apns").tempdir()?;
    let twin = Twin::start(&arguments.bongsu, dir.path()).await?;
    twin.faults(&json!({"latency_ms": rtt_ms})).await?;
    let job = Job {
        twin: &twin,
        pushes: if arguments.quick { 40_000 } else { 200_000 },
        in_flight: 8_000,
        connections: 8,
    };
    let mut runs = Runs::new("bongsu", scenario);
    let before = twin.begin().await?;
    let run = pipeline::run(&job, arguments).await?;
    runs.add(&job, before, run).await?;
    let mut row = runs.row().ok_or_else(|| anyhow::anyhow!("no run"))?;
    row.open_at_once = twin.most_open();
    row.cores_for_25000_per_second =
        Some(WANTED_PER_SECOND * cost.unwrap_or(row.cpu_us_per_notification) / 1e6);
    twin.stop().await?;
    Ok(row)
}
