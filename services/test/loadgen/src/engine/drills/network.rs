//! Workers frozen or cut off, connections gone silent, brokers killed.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::engine::bound::{Cut, allowance, zombies};
use crate::engine::drill::{Drill, Finished, RTT_MS, WORKERS, deliveries};
use crate::engine::load::Load;
use crate::engine::profile::Profile;
use crate::engine::row::{Bounds, Row};
use crate::engine::verdict::seconds;
use crate::load::wall_us;
use bongsu_testkit::{Passage, Rules};

/// How long after the last write everything must be settled.
const PATIENCE: Duration = Duration::from_secs(240);

/// What may lie in buffers on either side of a moment.
const BUFFERED_US: u64 = 50_000;

const fn rules(passage: Passage) -> Rules {
    Rules {
        passage,
        delay: Duration::ZERO,
        bytes_per_second: None,
        reset_after: None,
    }
}

fn calm() -> serde_json::Value {
    json!({"latency_ms": RTT_MS})
}

/// SIGSTOP to one worker for longer than its session, then SIGCONT.
pub(crate) async fn frozen(drill: &mut Drill) -> anyhow::Result<Row> {
    let rate = drill.capacity().await? / 4.0;
    let pause = drill.size(15.0, 60.0);
    drill.world.start_fleet(&Profile::short(), WORKERS).await?;
    let load = drill.load(deliveries(rate, pause + 30.0), Some(rate));
    let run = drill.begin(load, &calm()).await?;
    drill.until_all_work().await?;
    let worker = drill.any_dispatch()?;
    let at_us = wall_us();
    drill.world.process(&worker)?.freeze()?;
    tokio::time::sleep(Duration::from_secs_f64(pause)).await;
    drill.world.process(&worker)?.go_on()?;
    // What it had begun to write goes out at once; soon after it may own partitions again.
    let again_us = wall_us() + 500_000;
    let finished = drill.settle(run, PATIENCE, &["unknown"]).await?;
    drill.world.stop_fleet().await?;
    let cut = Cut { worker, at_us };
    let allowed = allowance(&cut, &finished.log, &finished.receipts, |i| {
        finished.partition(i)
    });
    let zombies = zombies(&cut, again_us, &finished.log, |i| finished.partition(i));
    let mut row = drill.row("frozen_and_continued");
    // Frozen between its last look at the clock and the write: no fence reaches that, but it is
    // bounded by what was in flight.
    let in_flight = Profile::short().max_in_flight;
    let bounds = Bounds {
        duplicates: allowed.bound + in_flight,
        order: in_flight,
    };
    row.judge_within(&finished.verdict, finished.cpu_us, bounds, &["unknown"]);
    row.add("frozen_seconds", &pause);
    row.add("allowance", &allowed);
    row.add("attempts_after_the_successor", &zombies);
    Ok(row)
}

/// Nothing is sent for long, and meanwhile every connection of dispatch goes silent without a reset,
/// as behind a load balancer that forgets: what comes next must go out soon.
pub(crate) async fn idle_half_open(drill: &mut Drill) -> anyhow::Result<Row> {
    /// Until the first request after the silence, seconds: one time-out of a dead connection to
    /// Kafka and a rebalance.
    const SOON: f64 = 60.0;
    let idle = Duration::from_secs(drill.size(10, 600));
    let proxied = Profile {
        kafka_through_proxy: true,
        ..Profile::short()
    };
    drill.world.start_fleet(&proxied, WORKERS).await?;
    let through = format!("http://{}", drill.world.provider_line.address());
    let load = |drill: &mut Drill| Load {
        target: through.clone(),
        ..drill.load(10_000, Some(1_000.0))
    };
    let first = load(drill);
    let run = drill.begin(first, &calm()).await?;
    let before = drill.settle(run, PATIENCE, &["unknown"]).await?;
    tokio::time::sleep(idle).await;
    for line in &drill.world.kafka_lines {
        line.freeze();
    }
    drill.world.provider_line.freeze();
    let second = load(drill);
    let run = drill.begin(second, &calm()).await?;
    let after = drill.settle(run, PATIENCE, &["unknown"]).await?;
    drill.world.kill_fleet();
    let first = after.log.seen.first().map_or(u64::MAX, |seen| seen.read_us);
    let resumed = seconds(first.saturating_sub(after.written.begin_us));
    // Whoever lost its membership may leave requests without a receipt.
    let unwritten = after.log.seen.iter().filter(|s| s.arrived());
    let in_flight = unwritten.count().min(2 * proxied.max_in_flight);
    let mut row = drill.row("idle_half_open");
    row.judge(&before.verdict, before.cpu_us, 0, &["unknown"]);
    row.judge(&after.verdict, after.cpu_us, in_flight, &["unknown"]);
    row.add("idle_seconds", &idle.as_secs());
    row.add("first_request_after_seconds", &resumed);
    row.promise("the first request within a minute", resumed <= SOON);
    Ok(row)
}

/// One of two workers loses Kafka, and only Kafka: it must stop before its successor starts.
pub(crate) async fn cut_from_kafka(drill: &mut Drill) -> anyhow::Result<Row> {
    lose_kafka(drill, "cut_from_kafka", |drill| {
        for line in &drill.world.kafka_lines {
            line.set(rules(Passage::Silent));
        }
    })
    .await
}

/// The worker's connections to Kafka go silent for ever, without a reset; new ones pass.
pub(crate) async fn half_open_kafka(drill: &mut Drill) -> anyhow::Result<Row> {
    lose_kafka(drill, "half_open_kafka", |drill| {
        for line in &drill.world.kafka_lines {
            line.freeze();
        }
    })
    .await
}

async fn lose_kafka(drill: &mut Drill, name: &str, lose: impl Fn(&Drill)) -> anyhow::Result<Row> {
    let rate = drill.capacity().await? / 4.0;
    let pause = drill.size(15.0, 60.0);
    let proxied = Profile {
        kafka_through_proxy: true,
        ..Profile::short()
    };
    let worker = drill.world.start_dispatch(&proxied)?;
    drill.world.start_fleet(&Profile::short(), 1).await?;
    let load = drill.load(deliveries(rate, pause + 30.0), Some(rate));
    let run = drill.begin(load, &calm()).await?;
    drill.until_all_work().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let at_us = wall_us();
    lose(drill);
    tokio::time::sleep(Duration::from_secs_f64(pause)).await;
    let healed_us = wall_us();
    for line in &drill.world.kafka_lines {
        line.set(rules(Passage::Open));
    }
    let finished = drill.settle(run, PATIENCE, &["unknown"]).await?;
    // It need not end in order: half of its connections may be dead.
    drill.world.kill_fleet();
    let cut = Cut { worker, at_us };
    let allowed = allowance(&cut, &finished.log, &finished.receipts, |i| {
        finished.partition(i)
    });
    let zombies = zombies(&cut, healed_us, &finished.log, |i| finished.partition(i));
    let mut row = drill.row(name);
    row.judge(
        &finished.verdict,
        finished.cpu_us,
        allowed.bound,
        &["unknown"],
    );
    row.add("cut_seconds", &pause);
    row.add("allowance", &allowed);
    row.add("attempts_after_the_successor", &zombies);
    row.promise(
        "no attempt of the cut-off worker after its successor's first",
        zombies == 0,
    );
    Ok(row)
}

/// The provider cannot be reached: every connection is reset.
pub(crate) async fn cut_from_provider(drill: &mut Drill) -> anyhow::Result<Row> {
    lose_provider(drill, "cut_from_provider", |drill| {
        drill.world.provider_line.set(rules(Passage::Cut));
    })
    .await
}

/// Connections to the provider go silent for ever, without a reset; new ones pass.
pub(crate) async fn half_open_provider(drill: &mut Drill) -> anyhow::Result<Row> {
    lose_provider(drill, "half_open_provider", |drill| {
        drill.world.provider_line.freeze()
    })
    .await
}

async fn lose_provider(
    drill: &mut Drill,
    name: &str,
    lose: impl Fn(&Drill),
) -> anyhow::Result<Row> {
    let rate = drill.capacity().await? / 4.0;
    let pause = drill.size(8.0, 30.0);
    drill.world.start_fleet(&Profile::short(), WORKERS).await?;
    let through = format!("http://{}", drill.world.provider_line.address());
    let load = Load {
        target: through,
        ..drill.load(deliveries(rate, pause + 20.0), Some(rate))
    };
    let run = drill.begin(load, &calm()).await?;
    drill.until_it_flows(rate / 2.0).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let at_us = wall_us();
    lose(drill);
    let done_us = wall_us();
    tokio::time::sleep(Duration::from_secs_f64(pause)).await;
    drill.world.provider_line.set(rules(Passage::Open));
    let finished = drill.settle(run, PATIENCE, &["unknown"]).await?;
    drill.world.stop_fleet().await?;
    let on_the_way = on_the_way(&finished, at_us, done_us);
    let mut row = drill.row(name);
    row.judge(&finished.verdict, finished.cpu_us, on_the_way, &["unknown"]);
    row.add("cut_seconds", &pause);
    row.add("answers_never_seen", &on_the_way);
    Ok(row)
}

/// Requests that were read or being answered when the line broke: their answers never arrived.
fn on_the_way(finished: &Finished, from_us: u64, to_us: u64) -> usize {
    let seen = finished.log.seen.iter();
    seen.filter(|s| s.read_us <= to_us + BUFFERED_US)
        .filter(|s| s.answered_us == 0 || s.answered_us + BUFFERED_US >= from_us)
        .count()
}

/// Every broker is killed and comes back, one after the other: leaders and coordinators move.
pub(crate) async fn brokers_killed(drill: &mut Drill) -> anyhow::Result<Row> {
    anyhow::ensure!(
        drill.world.shape.brokers > 1,
        "brokers_killed needs three brokers; leave --brokers out"
    );
    let rate = drill.capacity().await? / 4.0;
    let pause = drill.size(5.0, 20.0);
    drill
        .world
        .start_fleet(&Profile::default(), WORKERS)
        .await?;
    let load = drill.load(deliveries(rate, 600.0), Some(rate));
    let run = drill.begin(load, &calm()).await?;
    for broker in 1..=drill.world.shape.brokers {
        drill.until_it_flows(rate / 4.0).await?;
        drill.world.broker(&["kill-broker", &broker.to_string()])?;
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        drill.world.broker(&["start"])?;
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
    }
    run.writing.stop();
    let finished = drill.settle(run, PATIENCE, &[]).await?;
    drill.world.stop_fleet().await?;
    let mut row = drill.row("brokers_killed");
    row.judge(&finished.verdict, finished.cpu_us, 0, &[]);
    row.add("rate", &rate);
    Ok(row)
}

/// The brokers' disk fills up, so they end; room is made and they start again.
pub(crate) async fn disk_full(drill: &mut Drill) -> anyhow::Result<Row> {
    let rate = drill.capacity().await? / 4.0;
    let pause = drill.size(10.0, 60.0);
    drill.world.start_fleet(&Profile::short(), WORKERS).await?;
    let load = drill.load(deliveries(rate, 2.0 * pause + 10.0), Some(rate));
    let run = drill.begin(load, &calm()).await?;
    drill.until_it_flows(rate / 2.0).await?;
    let full_us = wall_us();
    drill
        .world
        .disk
        .as_ref()
        .context("no disk to fill")?
        .fill()?;
    tokio::time::sleep(Duration::from_secs_f64(pause)).await;
    drill
        .world
        .disk
        .as_ref()
        .context("no disk to empty")?
        .make_room()?;
    // Those that noticed have ended; those that did not go on.
    drill.world.broker(&["start"])?;
    let back_us = wall_us();
    let finished = drill.settle(run, PATIENCE, &["unknown"]).await?;
    drill.world.stop_fleet().await?;
    // No receipt could be written in that time: whatever was called for may come again.
    let seen = finished.log.seen.iter();
    let unwritten = seen
        .filter(|s| s.read_us + BUFFERED_US >= full_us && s.read_us < back_us && s.arrived())
        .count();
    let mut row = drill.row("disk_full");
    row.judge(&finished.verdict, finished.cpu_us, unwritten, &["unknown"]);
    row.add("full_seconds", &pause);
    row.add("requests_while_it_was_full", &unwritten);
    Ok(row)
}

/// The producer's queue is far too small for what is in flight.
pub(crate) async fn queue_full(drill: &mut Drill) -> anyhow::Result<Row> {
    let profile = Profile {
        kafka: "[kafka.extra]\n\"queue.buffering.max.messages\" = \"20\"\n".to_owned(),
        ..Profile::short()
    };
    let load = drill.load(drill.size(10_000, 100_000), None);
    let run = drill.begin(load, &calm()).await?;
    drill.world.start_fleet(&profile, 1).await?;
    let finished = drill.settle(run, PATIENCE, &[]).await?;
    drill.world.stop_fleet().await?;
    let mut row = drill.row("queue_full");
    row.judge(&finished.verdict, finished.cpu_us, 0, &[]);
    Ok(row)
}
