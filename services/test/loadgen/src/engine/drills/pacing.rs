//! A provider that takes so much per second and not more.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::engine::drill::{Drill, Finished, RTT_MS, Run, deliveries};
use crate::engine::profile::Profile;
use crate::engine::rates::{
    goodput, goodput_per_worker, last_after, most_in_a_second, reached_after, share_throttled,
};
use crate::engine::row::Row;
use crate::load::wall_us;

/// What the provider takes per second.
const RATE: f64 = 100.0;
/// And at once.
const BURST: f64 = 10.0;
/// How long after the limit is gone the rest must be settled.
const PATIENCE: Duration = Duration::from_secs(240);

/// How long the engine may take to find the rate, and how long it is measured.
struct Times {
    warm_up: f64,
    measured: f64,
}

fn times(drill: &Drill) -> Times {
    Times {
        warm_up: drill.size(20.0, 30.0),
        measured: drill.size(30.0, 300.0),
    }
}

fn bucket(rate: f64, retry_after_ms: u64) -> Value {
    json!({"latency_ms": RTT_MS, "bucket":
        {"rate": rate, "burst": BURST, "retry_after_ms": retry_after_ms}})
}

/// Writes more than the provider can take for `seconds` and lets `workers` at it; gives the moment
/// of the first request too.
async fn crowd(
    drill: &mut Drill,
    plan: &Value,
    profile: &Profile,
    workers: usize,
    most: u32,
) -> anyhow::Result<(Run, u64)> {
    let load = drill.load(most, None);
    let run = drill.begin(load, plan).await?;
    while run.writing.so_far() < run.load.deliveries {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drill.world.start_fleet(profile, workers).await?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while drill.world.count("requests").await? == 0 {
        anyhow::ensure!(Instant::now() < deadline, "nothing flows");
        drill.world.check_alive()?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok((run, wall_us()))
}

/// Takes the limit away, waits for the rest and ends the workers.
async fn release(drill: &mut Drill, run: Run) -> anyhow::Result<Finished> {
    drill.world.plan(&json!({"latency_ms": RTT_MS})).await?;
    let finished = drill.settle(run, PATIENCE, &[]).await?;
    drill.world.stop_fleet().await?;
    Ok(finished)
}

fn micros(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds).as_micros()).unwrap_or(u64::MAX)
}

/// 429 beyond a limit nobody told us: it must be found, and hardly be touched afterwards.
pub(crate) async fn unknown_limit(
    drill: &mut Drill,
    name: &str,
    workers: usize,
    retry_after_ms: u64,
) -> anyhow::Result<Row> {
    let times = times(drill);
    let seconds = times.warm_up + times.measured;
    // Workers never share quite equally, and one that runs dry says nothing about pacing.
    let most = deliveries(RATE, seconds * 2.0) + deliveries(BURST, 1.0);
    let plan = bucket(RATE, retry_after_ms);
    let (run, begun_us) = crowd(drill, &plan, &Profile::one_receiver(), workers, most).await?;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let released_us = wall_us();
    let finished = release(drill, run).await?;
    let mut row = drill.row(name);
    row.judge(&finished.verdict, finished.cpu_us, 0, &[]);
    row.add(
        "seconds_from_the_release_to_the_last",
        &last_after(&finished.log.seen, released_us),
    );
    let from = begun_us + micros(times.warm_up);
    let to = from + micros(times.measured);
    let taken = goodput(&finished.log.seen, from, to);
    let throttled = share_throttled(&finished.log.seen, from, to);
    row.add("workers", &workers);
    row.add("goodput_per_second", &taken);
    row.add("share_429", &throttled);
    row.add(
        "goodput_per_worker",
        &goodput_per_worker(&finished.log.seen, from, to),
    );
    row.add(
        "goodput_in_the_warm_up",
        &goodput(&finished.log.seen, begun_us, from),
    );
    if retry_after_ms == 0 {
        row.promise("goodput at least 95/s", taken >= 95.0);
        row.promise("at most 1 % answered 429", throttled <= 0.01);
    } else {
        row.promise("goodput at least 90/s", taken >= 90.0);
    }
    Ok(row)
}

/// The limit doubles: it must be noticed soon.
pub(crate) async fn doubled(drill: &mut Drill, name: &str, workers: usize) -> anyhow::Result<Row> {
    const AFTER: f64 = 20.0;
    let times = times(drill);
    let most = deliveries(RATE, times.warm_up * 1.2) + deliveries(2.0 * RATE, AFTER * 1.2);
    let plan = bucket(RATE, 0);
    let (run, begun_us) = crowd(drill, &plan, &Profile::one_receiver(), workers, most).await?;
    tokio::time::sleep(Duration::from_secs_f64(times.warm_up)).await;
    let change_us = wall_us();
    drill.world.plan(&bucket(2.0 * RATE, 0)).await?;
    tokio::time::sleep(Duration::from_secs_f64(AFTER)).await;
    let released_us = wall_us();
    let finished = release(drill, run).await?;
    let mut row = drill.row(name);
    row.judge(&finished.verdict, finished.cpu_us, 0, &[]);
    row.add(
        "goodput_per_worker_before",
        &goodput_per_worker(&finished.log.seen, begun_us, change_us),
    );
    row.add(
        "goodput_per_worker_after",
        &goodput_per_worker(&finished.log.seen, change_us, released_us),
    );
    row.add(
        "seconds_from_the_release_to_the_last",
        &last_after(&finished.log.seen, released_us),
    );
    let limit = if workers == 1 { 3.0 } else { 8.0 };
    let took = reached_after(&finished.log.seen, change_us, 0.9 * 2.0 * RATE);
    row.add("workers", &workers);
    row.add(
        "goodput_before",
        &goodput(&finished.log.seen, begun_us, change_us),
    );
    row.add("seconds_to_90_percent", &took);
    row.promise(
        "90 % of the doubled rate in time",
        took.is_some_and(|took| took <= limit),
    );
    Ok(row)
}

/// A limit we were told: never exceeded in any sliding second, while workers join and die.
pub(crate) async fn configured(drill: &mut Drill) -> anyhow::Result<Row> {
    const LIMIT: u32 = 200;
    let measured = drill.size(45.0, 300.0);
    let profile = Profile {
        account: Profile::limit(LIMIT),
        ..Profile::short()
    };
    let plan = json!({"latency_ms": RTT_MS});
    let most = deliveries(f64::from(LIMIT), measured * 1.1);
    let (run, begun_us) = crowd(drill, &plan, &profile, 2, most).await?;
    tokio::time::sleep(Duration::from_secs_f64(measured / 3.0)).await;
    drill.world.start_dispatch(&profile)?;
    tokio::time::sleep(Duration::from_secs_f64(measured / 3.0)).await;
    let worker = drill.any_dispatch()?;
    let process = drill.world.take(&worker)?;
    let at_us = wall_us();
    process.kill().await?;
    tokio::time::sleep(Duration::from_secs_f64(measured / 3.0)).await;
    let end_us = wall_us();
    let finished = drill.settle(run, PATIENCE, &["unknown"]).await?;
    drill.world.stop_fleet().await?;
    let mut row = drill.row("pacing_configured");
    let cut = crate::engine::bound::Cut { worker, at_us };
    let allowed = crate::engine::bound::allowance(&cut, &finished.log, &finished.receipts, |i| {
        finished.partition(i)
    });
    row.judge(
        &finished.verdict,
        finished.cpu_us,
        allowed.bound,
        &["unknown"],
    );
    let most = most_in_a_second(&finished.log.seen);
    let mean = goodput(&finished.log.seen, begun_us, end_us);
    row.add("most_in_a_sliding_second", &most);
    row.add("mean_per_second", &mean);
    row.promise("no sliding second above 200", most <= 200);
    row.speed("a mean of at least 185/s", mean >= 185.0);
    Ok(row)
}
