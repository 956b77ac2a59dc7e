//! Workers that are killed, ended, replaced, added.

use std::time::Duration;

use serde_json::json;

use crate::engine::bound::{Allowance, Cut, allowance};
use crate::engine::drill::{Drill, Finished, RTT_MS, WORKERS, deliveries};
use crate::engine::profile::Profile;
use crate::engine::row::Row;
use crate::load::wall_us;

/// How long after the last write everything must be settled.
const PATIENCE: Duration = Duration::from_secs(240);

/// `kill -9` again and again, at drawn moments, at half of capacity.
pub(crate) async fn kills(drill: &mut Drill) -> anyhow::Result<Row> {
    let rate = drill.capacity().await? / 2.0;
    let kills = drill.size(4, 100);
    let least = drill.size(20_000, 1_000_000);
    drill.world.start_fleet(&Profile::short(), WORKERS).await?;
    // As many as it takes: the load goes on until the last kill.
    let load = drill.load(deliveries(rate, 90.0 * f64::from(kills)), Some(rate));
    let run = drill.begin(load, &json!({"latency_ms": RTT_MS})).await?;
    let mut cuts = Vec::new();
    for _ in 0..kills {
        drill.until_all_work().await?;
        let pause = 0.5 + 2.5 * drill.dice.share();
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        let worker = drill.any_dispatch()?;
        let process = drill.world.take(&worker)?;
        let at_us = wall_us();
        process.kill().await?;
        cuts.push(Cut { worker, at_us });
        drill.world.start_dispatch(&Profile::short())?;
    }
    while run.writing.so_far() < least {
        tokio::time::sleep(Duration::from_millis(200)).await;
        drill.world.check_alive()?;
    }
    run.writing.stop();
    let finished = drill.settle(run, PATIENCE, &["unknown"]).await?;
    drill.world.stop_fleet().await?;
    let mut row = drill.row("kill_9");
    row.add("kills", &kills);
    row.add("rate", &rate);
    row.add("order_keys", &finished.load.keys.count());
    judge_cuts(&mut row, &finished, &cuts, rate);
    Ok(row)
}

/// Judges a run in which workers ended without a word.
pub(crate) fn judge_cuts(row: &mut Row, finished: &Finished, cuts: &[Cut], rate: f64) {
    let allowances: Vec<Allowance> = cuts
        .iter()
        .map(|cut| {
            allowance(cut, &finished.log, &finished.receipts, |i| {
                finished.partition(i)
            })
        })
        .collect();
    let bound = allowances.iter().map(|a| a.bound).sum();
    row.judge(&finished.verdict, finished.cpu_us, bound, &["unknown"]);
    // What may be read and not yet acknowledged beyond what is open: 50 ms of traffic.
    let unacknowledged = deliveries(rate, 0.05) as usize;
    let mut open: Vec<usize> = allowances.iter().map(|a| a.open).collect();
    open.sort_unstable();
    let median = open.get(open.len() / 2).copied().unwrap_or(0);
    row.add("median_in_flight", &median);
    row.add(
        "per_kill",
        &allowances
            .iter()
            .map(|a| json!({"bound": a.bound, "open": a.open, "ceiling": a.open + unacknowledged}))
            .collect::<Vec<_>>(),
    );
    let below = allowances
        .iter()
        .all(|a| a.bound <= a.open + unacknowledged);
    row.speed(
        "every bound below open requests and 50 ms of traffic",
        below,
    );
    row.speed("median in flight at least 50", median >= 50);
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
