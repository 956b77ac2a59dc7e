//! What must not go out: what an operator stopped, and what a publisher in a loop repeats.

use std::time::Duration;

use serde_json::json;

use crate::engine::drill::{Drill, RTT_MS, WORKERS, deliveries};
use crate::engine::load::{Keys, Load};
use crate::engine::profile::Profile;
use crate::engine::row::Row;
use crate::engine::verdict::seconds;
use crate::load::wall_us;

/// How long after the stop was lifted everything must be settled.
const PATIENCE: Duration = Duration::from_secs(240);
/// How soon a stop must bite, seconds.
const BITES_WITHIN: f64 = 2.0;

/// `bongsu stop sender` while it speaks: no request of it two seconds later, everybody else goes on,
/// and after `bongsu start sender` it ends in order.
pub(crate) async fn stop_sender(drill: &mut Drill) -> anyhow::Result<Row> {
    let rate = (drill.capacity().await? / 2.0).min(2_000.0);
    let profile = Profile::default();
    drill.world.start_fleet(&profile, WORKERS).await?;
    let load = drill.load(deliveries(rate, 25.0), Some(rate));
    let run = drill.begin(load, &json!({"latency_ms": RTT_MS})).await?;
    drill.until_it_flows(rate / 2.0).await?;
    let sender = run.load.sender(0);
    let stopped_us = wall_us();
    drill.world.command(
        &profile,
        &[
            "stop", "sender", &sender, "--who", "drill", "--why", "drill",
        ],
    )?;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let started_us = wall_us();
    drill.world.command(
        &profile,
        &[
            "start", "sender", &sender, "--who", "drill", "--why", "drill",
        ],
    )?;
    let finished = drill.settle(run, PATIENCE, &[]).await?;
    drill.world.stop_fleet().await?;
    let (mut last, mut others) = (stopped_us, 0);
    for seen in &finished.log.seen {
        if seen.read_us < stopped_us || seen.read_us >= started_us {
            continue;
        }
        if finished.load.sender(finished.load.key(seen.i)) == sender {
            last = last.max(seen.read_us);
        } else {
            others += 1;
        }
    }
    let bit = seconds(last - stopped_us);
    let mut row = drill.row("stop_sender");
    row.judge(&finished.verdict, finished.cpu_us, 0, &[]);
    row.add("last_request_after_seconds", &bit);
    row.add("requests_of_others_meanwhile", &others);
    row.promise("the stop bites within two seconds", bit <= BITES_WITHIN);
    row.promise("others go on", others > 0);
    Ok(row)
}

/// A publisher in a loop: the same content to the same addresses under ever new ids.
pub(crate) async fn looping_publisher(drill: &mut Drill) -> anyhow::Result<Row> {
    /// What the guard is told to let through.
    const COPIES: usize = 3;
    let profile = Profile {
        dispatch: format!(
            "repeat_guard = {{ copies = {COPIES}, window = \"10m\", channels = [\"webhook\"] }}\n"
        ),
        ..Profile::default()
    };
    drill.world.start_fleet(&profile, WORKERS).await?;
    let load = Load {
        keys: Keys::Even {
            senders: 50,
            addresses: 10,
        },
        never_resend: 0.0,
        same_content: true,
        ..drill.load(drill.size(10_000, 100_000), Some(2_000.0))
    };
    let run = drill.begin(load, &json!({"latency_ms": RTT_MS})).await?;
    let finished = drill.settle(run, PATIENCE, &["suppressed"]).await?;
    drill.world.stop_fleet().await?;
    let mut copies = vec![0_usize; finished.load.keys.count()];
    for seen in finished.log.seen.iter().filter(|seen| seen.arrived()) {
        if let Some(n) = copies.get_mut(finished.load.key(seen.i) as usize) {
            *n += 1;
        }
    }
    let most = copies.iter().max().copied().unwrap_or(0);
    let least = copies.iter().min().copied().unwrap_or(0);
    let mut row = drill.row("looping_publisher");
    row.judge(&finished.verdict, finished.cpu_us, 0, &["suppressed"]);
    row.add("most_copies_per_address", &most);
    row.promise("at most three copies per address", most <= COPIES);
    row.promise("every address is reached", least >= 1);
    Ok(row)
}
