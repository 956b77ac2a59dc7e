//! A provider that misbehaves.

use std::time::Duration;

use bongsu_simulators::Faults;
use serde_json::{Value, json};

use crate::engine::drill::{Drill, Finished, RTT_MS, WORKERS, deliveries};
use crate::engine::profile::Profile;
use crate::engine::row::Row;

/// How long after the last write everything must be settled.
const PATIENCE: Duration = Duration::from_secs(240);

/// One way to misbehave.
pub(crate) struct Misbehaviour {
    pub(crate) name: &'static str,
    /// The fault plan, without the round trip.
    plan: Value,
}

/// All of them.
pub(crate) fn misbehaviours() -> Vec<Misbehaviour> {
    let of = |name, plan| Misbehaviour { name, plan };
    vec![
        of("provider_slow", json!({"latency_ms": 1_200})),
        of("provider_hangs", json!({"timeout_ratio": 0.02})),
        of("provider_resets", json!({"reset_ratio": 0.02})),
        of("provider_loses_answers", json!({"lost_ratio": 0.02})),
        of(
            "provider_429",
            json!({"throttle_ratio": 0.5, "retry_after_ms": 0}),
        ),
        of(
            "provider_429_retry_after",
            json!({"throttle_ratio": 0.2, "retry_after_ms": 1_000}),
        ),
        of(
            "provider_500_storm",
            json!({"fail_ratio": 1.0, "fail_status": 500}),
        ),
        of("provider_goaway", json!({"goaway_after": 100})),
    ]
}

/// A load at a quarter of capacity, in the middle of which the provider misbehaves.
pub(crate) async fn misbehave(drill: &mut Drill, what: &Misbehaviour) -> anyhow::Result<Row> {
    let rate = drill.capacity().await? / 4.0;
    let third = drill.size(5.0, 20.0);
    drill.world.start_fleet(&Profile::short(), WORKERS).await?;
    let load = drill.load(deliveries(rate, 3.0 * third), Some(rate));
    let calm = json!({"latency_ms": RTT_MS});
    let mut plan = json!({"latency_ms": RTT_MS, "seed": drill.seed});
    if let (Some(plan), Some(more)) = (plan.as_object_mut(), what.plan.as_object()) {
        plan.extend(more.clone());
    }
    let faults: Faults = serde_json::from_value(plan.clone())?;
    let run = drill.begin(load, &calm).await?;
    tokio::time::sleep(Duration::from_secs_f64(third)).await;
    let from_n = drill.world.count("requests").await?;
    drill.world.plan(&plan).await?;
    tokio::time::sleep(Duration::from_secs_f64(third)).await;
    drill.world.plan(&calm).await?;
    let to_n = drill.world.count("requests").await?;
    let finished = drill.settle(run, PATIENCE, &["unknown"]).await?;
    drill.world.stop_fleet().await?;
    let unseen = unseen_answers(&finished, &faults, from_n..=to_n);
    let mut row = drill.row(what.name);
    row.judge(&finished.verdict, finished.cpu_us, unseen, &["unknown"]);
    row.add("rate", &rate);
    row.add("answers_never_seen", &unseen);
    Ok(row)
}

/// Requests that were read whole and whose answer the client never saw: each may be sent once more.
fn unseen_answers(
    finished: &Finished,
    faults: &Faults,
    numbers: std::ops::RangeInclusive<u64>,
) -> usize {
    let mut unseen = 0;
    for seen in &finished.log.seen {
        let lost = numbers.contains(&seen.n) && {
            let path = finished.load.path(finished.load.key(seen.i));
            faults.decide(seen.n, &path, seen.attempt).lost
        };
        unseen += usize::from(seen.status == 0 || lost);
    }
    unseen
}
