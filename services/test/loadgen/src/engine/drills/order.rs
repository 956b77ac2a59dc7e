//! Keys that fail or wait, beside keys that do not.

use std::time::Duration;

use bongsu_schemas::Topics;
use bongsu_simulators::Faults;
use serde_json::json;
use tokio::time::Instant;

use crate::engine::drill::{Drill, Finished, RTT_MS, WORKERS, deliveries};
use crate::engine::load::Keys;
use crate::engine::profile::Profile;
use crate::engine::row::Row;
use crate::engine::verdict::{latency, seconds};
use bongsu_domain::Channel;

/// How long after the last write everything must be settled.
const PATIENCE: Duration = Duration::from_secs(240);

/// One in a hundred keys fails for the whole load; the others must hardly notice.
pub(crate) async fn failing_keys(drill: &mut Drill) -> anyhow::Result<Row> {
    let rate = drill.capacity().await? / 2.0;
    let length = drill.size(20.0, 600.0);
    drill
        .world
        .start_fleet(&Profile::default(), WORKERS)
        .await?;
    let load = drill.load(deliveries(rate, length), Some(rate));
    let run = drill.begin(load, &json!({"latency_ms": RTT_MS})).await?;
    let calm = drill.settle(run, PATIENCE, &[]).await?;

    let load = drill.load(deliveries(rate, length), Some(rate));
    let plan = json!({"latency_ms": RTT_MS, "failing_addresses": 0.01, "seed": drill.seed});
    let faults: Faults = serde_json::from_value(plan.clone())?;
    let run = drill.begin(load, &plan).await?;
    tokio::time::sleep(Duration::from_secs_f64(length)).await;
    drill.world.plan(&json!({"latency_ms": RTT_MS})).await?;
    // Ten minutes of failures may use up a delivery's attempts.
    let faulted = drill.settle(run, PATIENCE, &["dead"]).await?;
    drill.world.stop_fleet().await?;

    let healthy = latency(&faulted.load, &faulted.written, &faulted.log, |key| {
        !faults.fails(&faulted.load.path(key))
    });
    let ratio = healthy.p99_ms / calm.verdict.latency.p99_ms.max(0.001);
    let mut row = drill.row("failing_keys");
    row.judge(&calm.verdict, calm.cpu_us, 0, &[]);
    row.judge(&faulted.verdict, faulted.cpu_us, 0, &["dead"]);
    row.add("rate", &rate);
    row.add("calm", &calm.verdict.latency);
    row.add("healthy", &healthy);
    row.add("p99_ratio", &ratio);
    row.speed(
        "p99 of the healthy at most 1.2 times that without faults",
        ratio <= 1.2,
    );
    Ok(row)
}

/// One key must wait for long (an hour, compressed): everybody else and the commit go on, and it
/// resumes on time.
pub(crate) async fn long_wait(drill: &mut Drill) -> anyhow::Result<Row> {
    let wait = drill.size(15.0, 120.0);
    // The hour is compressed, and so is the patience of the engine.
    let profile = Profile {
        dispatch: Profile::divert_after(3),
        ..Profile::default()
    };
    let rate = (drill.capacity().await? / 2.0).min(1_000.0);
    drill.world.start_fleet(&profile, WORKERS).await?;
    let mut load = drill.load(deliveries(rate, wait + 10.0), Some(rate));
    // A thousand keys: each gets one delivery after the other while it waits.
    load.keys = Keys::Even {
        senders: 40,
        addresses: 25,
    };
    let path = load.path(0);
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a drill")]
    let wait_ms = (wait * 1_000.0) as i64;
    let waiting = json!({"latency_ms": RTT_MS, "throttle_ratio": 1.0, "retry_after_ms": wait_ms});
    let plan = json!({"latency_ms": RTT_MS, "paths": {path: waiting}});
    let run = drill.begin(load, &plan).await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while drill.world.count("errors").await? == 0 {
        anyhow::ensure!(Instant::now() < deadline, "the key was never called");
        drill.world.check_alive()?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drill.world.plan(&json!({"latency_ms": RTT_MS})).await?;
    let partition = run.load.key_partitions().first().copied().unwrap_or(0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = committed(drill, partition).await?;
    tokio::time::sleep(Duration::from_secs_f64(wait - 6.0)).await;
    let after = committed(drill, partition).await?;
    let finished = drill.settle(run, PATIENCE, &[]).await?;
    drill.world.stop_fleet().await?;

    let resumed = resumed_after(&finished);
    let others = latency(&finished.load, &finished.written, &finished.log, |key| {
        key != 0
    });
    let mut row = drill.row("long_wait");
    row.judge(&finished.verdict, finished.cpu_us, 0, &[]);
    row.add("retry_after_seconds", &wait);
    row.add("resumed_after_seconds", &resumed);
    row.add("committed_while_it_waited", &(after - before));
    row.add("others", &others);
    let on_time = resumed.is_some_and(|took| took >= wait && took <= wait + 2.0);
    row.promise("the key resumes on time", on_time);
    row.promise("the commit goes on while it waits", after > before);
    row.speed("p99 of the others below a second", others.p99_ms < 1_000.0);
    Ok(row)
}

/// Seconds from the first answer to key 0 to its second request.
fn resumed_after(finished: &Finished) -> Option<f64> {
    let mut of_key = finished
        .log
        .seen
        .iter()
        .filter(|seen| finished.load.key(seen.i) == 0);
    let (first, second) = (of_key.next()?, of_key.next()?);
    Some(seconds(second.read_us.saturating_sub(first.answered_us)))
}

/// The committed offset of one partition of transactional deliveries; 0 when there is none.
async fn committed(drill: &Drill, partition: i32) -> anyhow::Result<i64> {
    let topics = Topics::new("bongsu.");
    let topic = topics.deliveries(Channel::Webhook, bongsu_domain::Class::Transactional);
    let group = topics.dispatch_group(Channel::Webhook);
    let lags = drill
        .world
        .cluster
        .lag(&group, vec![topic.to_string()])
        .await?;
    let of_partition = lags.iter().find(|lag| lag.partition.partition == partition);
    Ok(of_partition.and_then(|lag| lag.committed).unwrap_or(0))
}
