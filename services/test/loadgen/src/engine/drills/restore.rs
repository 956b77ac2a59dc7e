//! How long a new worker needs to know what its dead predecessor knew.

use std::collections::BTreeMap;
use std::time::Duration;

use bongsu_schemas::{Codec, Receipt, headers};
use bongsu_stream::port::{Headers, Outgoing};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::engine::drill::{Drill, Finished, RTT_MS, deliveries};
use crate::engine::load::{Keys, Load};
use crate::engine::profile::Profile;
use crate::engine::row::Row;
use crate::engine::verdict::seconds;
use crate::load::wall_us;

/// How long after the last write everything must be settled.
const PATIENCE: Duration = Duration::from_secs(300);
/// Receipts of another channel per second, beside.
const FOREIGN_PER_SECOND: u32 = 10_000;
/// The session of the profile used: nobody is assigned the dead worker's partitions before.
const SESSION: Duration = Duration::from_secs(7);

/// Kills the only worker while `open` deliveries wait for a `Retry-After`, starts another one and
/// counts the time and the bytes until every partition has been called for again.
pub(crate) async fn restore(drill: &mut Drill, name: &str, open: u32) -> anyhow::Result<Row> {
    let wait = Duration::from_secs(drill.size(60, 180));
    let profile = Profile {
        kafka_through_proxy: true,
        dispatch: Profile::divert_after(3),
        ..Profile::short()
    };
    let worker = drill.world.start_dispatch(&profile)?;
    let waiting = Load {
        keys: Keys::Even {
            senders: 400,
            addresses: open.div_ceil(400).max(1),
        },
        never_resend: 0.0,
        ..drill.load(open, None)
    };
    let path = format!("/hook/{}/", waiting.run);
    let throttled = json!({"throttle_ratio": 1.0,
                           "retry_after_ms": u64::try_from(wait.as_millis())?});
    let plan = json!({"latency_ms": RTT_MS, "paths": {path: throttled}});
    let waiting = drill.begin(waiting, &plan).await?;
    // Whatever the engine does with them: those it calls for are told to wait, the rest waits unread.
    until_calls_cease(drill).await?;
    let foreign = tokio::spawn(foreign_receipts(drill.world.cluster.clone()));
    let live = drill.load(deliveries(500.0, 120.0), Some(500.0));
    let live = drill.write(live).await?;
    drill.until_it_flows(400.0).await?;
    drill.world.take(&worker)?.kill().await?;
    // Nobody is given its partitions before its session is over.
    tokio::time::sleep(SESSION + Duration::from_secs(1)).await;
    let (begun_us, bytes) = (wall_us(), drill.world.bytes_from_kafka());
    let successor = drill.world.start_dispatch(&profile)?;
    drill.world.fleet_ready().await?;
    let ready_us = wall_us();
    drill.until_it_flows(400.0).await?;
    let bytes = drill.world.bytes_from_kafka() - bytes;
    stop_foreign(foreign).await?;
    drill.world.plan(&json!({"latency_ms": RTT_MS})).await?;
    live.writing.stop();
    let live = drill.settle(live, PATIENCE, &["unknown"]).await?;
    let waiting = drill.settle(waiting, PATIENCE + wait, &[]).await?;
    drill.world.stop_fleet().await?;
    let first = first_calls(&live, &successor);
    let last = first.values().max().copied().unwrap_or(u64::MAX);
    let mut row = drill.row(name);
    let copies = waiting.verdict.duplicates + live.verdict.duplicates;
    // How many a kill allows is the business of the kills.
    row.judge(&waiting.verdict, waiting.cpu_us, copies, &[]);
    row.judge(&live.verdict, live.cpu_us, copies, &["unknown"]);
    row.add("open_offsets", &open);
    row.add("partitions", &first.len());
    row.add("seconds_to_ready", &seconds(ready_us - begun_us));
    row.add(
        "seconds_to_the_last_partition",
        &seconds(last.saturating_sub(begun_us)),
    );
    row.add("bytes_from_kafka", &bytes);
    Ok(row)
}

/// When a worker first called for each partition.
fn first_calls(finished: &Finished, worker: &str) -> BTreeMap<i32, u64> {
    let number = finished.log.workers.find(worker);
    let mut first = BTreeMap::new();
    let own = finished.log.seen.iter();
    for seen in own.filter(|seen| Some(seen.worker) == number) {
        let partition = finished.partition(seen.i);
        first.entry(partition).or_insert(seen.read_us);
    }
    first
}

/// Waits until the simulator has had no request for three seconds.
async fn until_calls_cease(drill: &mut Drill) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut before = drill.world.count("requests").await?;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drill.world.check_alive()?;
        let now = drill.world.count("requests").await?;
        if now == before || Instant::now() > deadline {
            return Ok(());
        }
        before = now;
    }
}

/// Receipts that are none of dispatch's business, in its partitions all the same.
async fn foreign_receipts(
    cluster: std::sync::Arc<dyn bongsu_stream::port::Cluster>,
) -> anyhow::Result<()> {
    let producer = cluster.producer(Duration::from_millis(5))?;
    let receipt = Receipt {
        kind: "outcome".to_owned(),
        event_id: "0".to_owned(),
        sender: "foreign".to_owned(),
        channel: Some("discord".to_owned()),
        outcome: "accepted".to_owned(),
        ..Receipt::default()
    };
    let value = Codec::default().encode(&receipt)?;
    let head = Headers::default()
        .with(headers::KIND, "outcome")
        .with(headers::SOURCE_TOPIC, "bongsu.deliveries.discord")
        .with(headers::SOURCE_OFFSET, "0");
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let partitions = crate::engine::PARTITIONS;
    for tick in 0.. {
        ticks.tick().await;
        let mut last = None;
        for n in 0..FOREIGN_PER_SECOND / 100 {
            let partition = (i32::try_from(n)? + tick) % partitions;
            last = Some(producer.send(Outgoing {
                topic: "bongsu.results".into(),
                partition,
                key: None,
                value: Some(value.clone()),
                headers: head.clone(),
            }));
        }
        if let Some(last) = last {
            last.await?;
        }
    }
    Ok(())
}

/// Ends them; an error they met before is one of the drill.
async fn stop_foreign(foreign: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    if foreign.is_finished() {
        return foreign.await?;
    }
    foreign.abort();
    Ok(())
}
