//! Workers that are killed, ended, replaced, added.

use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::bound::{Allowance, Cut, allowance};
use crate::engine::drill::{Drill, Finished, RTT_MS, WORKERS, deliveries};
use crate::engine::profile::Profile;
use crate::engine::row::Row;

/// How long after the last write everything must be settled.
const PATIENCE: Duration = Duration::from_secs(240);

/// Where kills fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    /// Anywhere in the work of a calm provider.
    AtWork,
    /// While deliveries wait for retries, are throttled or fail.
    AmongRetries,
    /// While a worker starts, restores and is given its partitions.
    AtStart,
}

impl Where {
    /// The scenario's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AtWork => "kill_9",
            Self::AmongRetries => "kill_9_among_retries",
            Self::AtStart => "kill_9_at_start",
        }
    }

    fn plan(self, seed: u64) -> Value {
        match self {
            Self::AtWork | Self::AtStart => json!({"latency_ms": RTT_MS}),
            Self::AmongRetries => json!({"latency_ms": RTT_MS, "seed": seed, "fail_ratio": 0.05,
                "throttle_ratio": 0.02, "retry_after_ms": 1_000, "failing_addresses": 0.005}),
        }
    }

    /// Kills and deliveries at least.
    fn size(self, drill: &Drill) -> (u32, u32) {
        match self {
            Self::AtWork => (drill.size(4, 100), drill.size(20_000, 1_000_000)),
            Self::AmongRetries | Self::AtStart => (drill.size(3, 20), drill.size(10_000, 100_000)),
        }
    }
}

/// `kill -9` again and again, at drawn moments, at half of capacity.
pub(crate) async fn kills(drill: &mut Drill, place: Where) -> anyhow::Result<Row> {
    let rate = drill.capacity().await? / 2.0;
    let (kills, least) = place.size(drill);
    drill.world.start_fleet(&Profile::short(), WORKERS).await?;
    // As many as it takes: the load goes on until the last kill.
    let load = drill.load(deliveries(rate, 90.0 * f64::from(kills)), Some(rate));
    let run = drill.begin(load, &place.plan(drill.seed)).await?;
    let mut cuts = Vec::new();
    for _ in 0..kills {
        drill.until_all_work().await?;
        let pause = 0.5 + 2.5 * drill.dice.share();
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        let worker = drill.any_dispatch()?;
        kill(drill, worker, &mut cuts).await?;
        let successor = drill.world.start_dispatch(&Profile::short())?;
        if place == Where::AtStart {
            // Joining takes as long as the dead member's session; restoring follows at once.
            let pause = 8.0 * drill.dice.share();
            tokio::time::sleep(Duration::from_secs_f64(pause)).await;
            kill(drill, successor, &mut cuts).await?;
            drill.world.start_dispatch(&Profile::short())?;
        }
    }
    while run.writing.so_far() < least {
        tokio::time::sleep(Duration::from_millis(200)).await;
        drill.world.check_alive()?;
    }
    run.writing.stop();
    drill.world.plan(&json!({"latency_ms": RTT_MS})).await?;
    let finished = drill.settle(run, PATIENCE, &["unknown", "dead"]).await?;
    drill.world.stop_fleet().await?;
    let mut row = drill.row(place.name());
    row.add("kills", &cuts.len());
    row.add("rate", &rate);
    row.add("order_keys", &finished.load.keys.count());
    let failing = place == Where::AmongRetries;
    let allowed: &[&str] = if failing {
        &["unknown", "dead"]
    } else {
        &["unknown"]
    };
    judge_cuts(&mut row, &finished, &cuts, allowed);
    if place == Where::AtWork {
        let median = row.number("median_in_flight");
        row.speed(
            "median in flight at least 50",
            median.is_some_and(|n| n >= 50.0),
        );
    }
    Ok(row)
}

async fn kill(drill: &mut Drill, worker: String, cuts: &mut Vec<Cut>) -> anyhow::Result<()> {
    let process = drill.world.take(&worker)?;
    let at_us = process.kill().await?;
    cuts.push(Cut { worker, at_us });
    Ok(())
}

/// Judges a run in which workers ended without a word.
pub(crate) fn judge_cuts(row: &mut Row, finished: &Finished, cuts: &[Cut], allowed: &[&str]) {
    let allowances: Vec<Allowance> = cuts
        .iter()
        .map(|cut| {
            allowance(cut, &finished.log, &finished.receipts, |i| {
                finished.partition(i)
            })
        })
        .collect();
    let bound = allowances.iter().map(|a| a.bound).sum();
    row.judge(&finished.verdict, finished.cpu_us, bound, allowed);
    let mut open: Vec<usize> = allowances.iter().map(|a| a.open).collect();
    open.sort_unstable();
    row.add("median_in_flight", &open.get(open.len() / 2));
    row.add(
        "per_kill",
        &allowances
            .iter()
            .map(|a| {
                json!({"bound": a.bound, "open": a.open, "of_these_on_the_wire": a.on_the_wire,
                       "per_second_before": a.per_second, "ceiling": a.ceiling()})
            })
            .collect::<Vec<_>>(),
    );
    let below = allowances.iter().filter(|a| a.bound <= a.ceiling()).count();
    row.add("ceilings_kept", &below);
    row.speed(
        "every bound below open requests and 50 ms of traffic",
        below == allowances.len(),
    );
}

/// SIGTERM to one worker after the other, each replaced: a deployment.
pub(crate) async fn rolling_restart(drill: &mut Drill) -> anyhow::Result<Row> {
    let rate = drill.capacity().await? / 2.0;
    let rounds = drill.size(2, 10);
    drill.world.start_fleet(&Profile::short(), WORKERS).await?;
    let load = drill.load(deliveries(rate, 600.0), Some(rate));
    let run = drill.begin(load, &json!({"latency_ms": RTT_MS})).await?;
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        for name in drill.world.fleet() {
            drill.until_all_work().await?;
            let pause = 1.0 + drill.dice.share();
            tokio::time::sleep(Duration::from_secs_f64(pause)).await;
            longest = longest.max(drill.world.take(&name)?.terminate().await?);
            drill.world.start_dispatch(&Profile::short())?;
        }
    }
    run.writing.stop();
    let finished = drill.settle(run, PATIENCE, &[]).await?;
    drill.world.stop_fleet().await?;
    let mut row = drill.row("rolling_restart");
    row.judge(&finished.verdict, finished.cpu_us, 0, &[]);
    row.add("restarts", &(rounds * WORKERS));
    row.add("longest_drain_seconds", &longest.as_secs_f64());
    Ok(row)
}

/// Workers come and go, up to eight at once.
pub(crate) async fn rebalances(drill: &mut Drill) -> anyhow::Result<Row> {
    const MEMBERS: usize = 8;
    let rate = drill.capacity().await? / 2.0;
    let changes = drill.size(8, 50);
    drill.world.start_fleet(&Profile::short(), WORKERS).await?;
    let load = drill.load(deliveries(rate, 15.0 * f64::from(changes)), Some(rate));
    let run = drill.begin(load, &json!({"latency_ms": RTT_MS})).await?;
    for _ in 0..changes {
        let members = drill.world.fleet().len();
        let add = members <= 1 || members < MEMBERS && drill.dice.share() < 0.5;
        if add {
            drill.world.start_dispatch(&Profile::short())?;
        } else {
            let name = drill.any_dispatch()?;
            drill.world.take(&name)?.terminate().await?;
        }
        // Some changes come while the one before is under way, some after it.
        let pause = 0.2 + 2.8 * drill.dice.share();
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
    }
    run.writing.stop();
    let finished = drill.settle(run, PATIENCE, &[]).await?;
    drill.world.stop_fleet().await?;
    let mut row = drill.row("rebalances");
    row.judge(&finished.verdict, finished.cpu_us, 0, &[]);
    row.add("rebalances", &changes);
    Ok(row)
}
