//! Benchmarks and drills on real processes and real Kafka, counted at the simulators.
//!
//! `scripts/bench` and `scripts/chaos` build the executables and call this.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool that talks to people"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a tool outside the services' task tree"
)]

mod alimtalk;
mod apns;
mod audit;
mod bare;
mod damage;
mod discord;
mod engine;
mod events_order;
mod kills;
mod load;
mod processes;
mod scenarios;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde_json::Value;

/// Which drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Drill {
    /// Throughput, cost and latency.
    Bench,
    /// Restarts, kills, rebalances, damaged records.
    Chaos,
}

/// Which pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Story {
    /// Events to webhooks.
    Walk,
    /// Pushes: our provider, other clients, and dispatch.
    Apns,
    /// Deliveries of AlimTalk at the dealer's rate, with its reports.
    Alimtalk,
    /// Webhooks of Discord under the limit of one address.
    Discord,
    /// Dispatch alone: deliveries to webhooks.
    Engine,
    /// Walk and engine.
    All,
}

#[derive(Debug, Parser)]
#[command(name = "loadgen")]
struct Arguments {
    drill: Drill,
    story: Story,
    /// A few minutes instead of the full size.
    #[arg(long)]
    quick: bool,
    /// Write the results there, as a JSON array with one object per scenario.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only scenarios whose name contains one of these; repeat it or separate by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Seed of every draw.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Kafka brokers of the engine's drills; three for chaos and one for benchmarks without it.
    #[arg(long)]
    brokers: Option<usize>,
    /// The `bongsu` executable.
    #[arg(long, env = "BONGSU_BIN")]
    bongsu: PathBuf,
    /// The directory of scripts.
    #[arg(long, env = "BONGSU_SCRIPTS")]
    scripts: PathBuf,
}

fn main() -> ExitCode {
    // As the executable does, so that the bare loop pays what dispatch pays.
    bongsu_runtime::allocator::bound_arenas();
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("another TLS provider was chosen already");
    }
    // The bare loop that dispatch is measured against: a process of its own, so that its processor
    // time is its own.
    if std::env::args().nth(1).as_deref() == Some("bare") {
        return bare::main();
    }
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("a promise broke");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

impl Arguments {
    /// Whether a scenario was asked for.
    fn wants(&self, name: &str) -> bool {
        names(&self.only, name)
    }
}

/// Whether a list names a scenario, by a part of its name or as `=name`; an empty one names all.
fn names(only: &[String], name: &str) -> bool {
    let is_named = |only: &String| match only.strip_prefix('=') {
        Some(whole) => name == whole,
        None => name.contains(only.as_str()),
    };
    only.is_empty() || only.iter().any(is_named)
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::select! {
            // Neither is needed afterwards: dropping a story ends its processes and its Kafka.
            done = tell(arguments) => done,
            signal = ended() => Err(signal),
        }
    })
}

/// Resolves with the signal that asks for the end.
async fn ended() -> anyhow::Error {
    use tokio::signal::unix::{SignalKind, signal};
    let streams = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = streams else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => anyhow::anyhow!("ended by SIGTERM"),
        _ = interrupt.recv() => anyhow::anyhow!("ended by SIGINT"),
    }
}

async fn tell(arguments: &Arguments) -> anyhow::Result<bool> {
    let mut rows = Vec::new();
    let mut all_kept = true;
    if matches!(arguments.story, Story::Walk | Story::All) {
        for result in scenarios::run(arguments).await? {
            all_kept &= result.kept;
            note(arguments, &mut rows, serde_json::to_value(result)?)?;
        }
    }
    if matches!(arguments.story, Story::Engine | Story::All) {
        let mut each = |row: engine::row::Row| {
            all_kept &= row.kept;
            note(arguments, &mut rows, serde_json::to_value(row)?)
        };
        engine::run(arguments, &mut each).await?;
    }
    if arguments.story == Story::Alimtalk {
        let mut each = |row: alimtalk::Row| {
            all_kept &= row.kept;
            note(arguments, &mut rows, serde_json::to_value(row)?)
        };
        alimtalk::run(arguments, &mut each).await?;
    }
    if arguments.story == Story::Discord {
        let mut each = |row: discord::Row| {
            all_kept &= row.kept;
            note(arguments, &mut rows, serde_json::to_value(row)?)
        };
        discord::run(arguments, &mut each).await?;
    }
    if arguments.story == Story::Apns {
        let mut each = |row: apns::Row| {
            all_kept &= row.kept;
            note(arguments, &mut rows, serde_json::to_value(row)?)
        };
        apns::run(arguments, &mut each).await?;
    }
    Ok(all_kept)
}

/// Prints a result and writes all so far, so that an interrupted run leaves what it has.
fn note(arguments: &Arguments, rows: &mut Vec<Value>, row: Value) -> anyhow::Result<()> {
    println!("{row}");
    rows.push(row);
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(rows)?)
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}
