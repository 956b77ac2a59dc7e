//! What a push costs: our provider alone, other clients, and the whole of dispatch, all against the
//! same twin in a process of its own.

mod bare;
mod others;
pub(crate) mod pipeline;
mod twin;

use std::time::Duration;

use serde::Serialize;

use crate::Arguments;
use twin::Twin;

/// The app every push is for.
const TOPIC: &str = "com.example.app";
/// Devices that are pushed to in turn.
const DEVICES: u32 = 10_000;

/// One system at one concurrency.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    story: &'static str,
    /// `bare` (our provider in a closed loop), `h2load`, `apns2`, or `bongsu` (dispatch, from Kafka
    /// to Kafka).
    system: &'static str,
    in_flight: usize,
    pushes: u32,
    accepted: u64,
    seconds: f64,
    per_second: f64,
    client_cpu_us_per_push: f64,
    twin_cpu_us_per_push: f64,
    p50_ms: f64,
    p99_ms: f64,
    connections: u64,
    /// Whether every push was accepted, and by the twin's count once.
    pub(crate) kept: bool,
    note: &'static str,
}

/// What a system measured of itself.
#[derive(Debug)]
struct Run {
    accepted: u64,
    seconds: f64,
    cpu_us: u64,
    p50: Duration,
    p99: Duration,
}

/// Runs every system asked for.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Vec<Row>> {
    let dir = tempfile::Builder::new().prefix("bongsu-apns").tempdir()?;
    let twin = Twin::start(&arguments.bongsu, dir.path()).await?;
    let mut rows = Vec::new();
    let pushes = if arguments.quick { 40_000 } else { 300_000 };
    for in_flight in [100, 1_000] {
        for system in ["bare", "h2load", "apns2", "bongsu"] {
            if !arguments.wants(system) {
                continue;
            }
            let before = twin.begin().await?;
            let job = Job {
                twin: &twin,
                pushes,
                in_flight,
            };
            let (run, note) = match system {
                "bare" => (Some(bare::run(&job).await?), ""),
                "h2load" => (
                    others::h2load(&job).await?,
                    "one fixed request, not repeated",
                ),
                "apns2" => (others::apns2(&job).await?, "the publisher's own numbers"),
                _ => (
                    Some(pipeline::run(&job, arguments).await?),
                    "p50 and p99 are the drain's, not single pushes'",
                ),
            };
            let Some(run) = run else {
                eprintln!("{system} is not installed and is left out");
                continue;
            };
            let row = twin.judge(before, system, &job, run, note).await?;
            println!("{}", serde_json::to_string(&row)?);
            rows.push(row);
        }
    }
    twin.stop().await?;
    Ok(rows)
}

/// What every system is to do.
struct Job<'a> {
    twin: &'a Twin,
    pushes: u32,
    in_flight: usize,
}
