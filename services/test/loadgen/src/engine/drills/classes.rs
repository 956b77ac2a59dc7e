//! Two classes beside each other.

use std::time::Duration;

use bongsu_domain::Class;
use serde_json::json;

use crate::engine::drill::{Drill, Finished, RTT_MS, WORKERS, deliveries};
use crate::engine::load::{Keys, Load};
use crate::engine::profile::Profile;
use crate::engine::row::Row;
use crate::engine::verdict::late_by_second;

/// How long after the last write everything must be settled.
const PATIENCE: Duration = Duration::from_secs(300);

/// How many times its p99 alone.
const MOST_RATIO: f64 = 1.2;

/// Transactional deliveries alone, then beside a campaign: they must hardly notice.
pub(crate) async fn campaign(drill: &mut Drill) -> anyhow::Result<Row> {
    let rate = drill.capacity().await? / 2.0;
    let length = drill.size(15.0, 60.0);
    let recipients = drill.size(40_000, 400_000);
    drill
        .world
        .start_fleet(&Profile::default(), WORKERS)
        .await?;
    let plan = json!({"latency_ms": RTT_MS});
    // The start of workers and brokers is in nobody's time.
    let load = drill.load(deliveries(rate, length / 2.0), Some(rate));
    let run = drill.begin(load, &plan).await?;
    let start = drill.settle(run, PATIENCE, &[]).await?;
    let load = drill.load(deliveries(rate, length), Some(rate));
    let run = drill.begin(load, &plan).await?;
    let alone = drill.settle(run, PATIENCE, &[]).await?;

    let bulk = Load {
        class: Class::Bulk,
        keys: Keys::Broadcast {
            recipients,
            senders: 1_000,
        },
        never_resend: 0.0,
        ..drill.load(recipients / 10 * 11, None)
    };
    let bulk = drill.begin(bulk, &plan).await?;
    while bulk.writing.so_far() < bulk.load.deliveries {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let load = drill.load(deliveries(rate, length), Some(rate));
    let beside = drill.write(load).await?;
    let beside = drill.settle(beside, PATIENCE, &[]).await?;
    let campaign = drill.settle(bulk, PATIENCE, &[]).await?;
    drill.world.stop_fleet().await?;

    let ratio = beside.verdict.latency.p99_ms / alone.verdict.latency.p99_ms.max(0.001);
    let mut row = drill.row("campaign_beside");
    row.judge(&start.verdict, start.cpu_us, 0, &[]);
    row.judge(&alone.verdict, alone.cpu_us, 0, &[]);
    row.judge(&campaign.verdict, campaign.cpu_us, 0, &[]);
    row.judge(&beside.verdict, beside.cpu_us, 0, &[]);
    row.add("rate", &rate);
    row.add("recipients", &recipients);
    row.add(
        "requests_while_the_campaign_ran",
        &while_it_ran(&beside, &campaign),
    );
    row.add(
        "of_the_campaign_meanwhile",
        &while_it_ran(&campaign, &beside),
    );
    row.add("alone", &alone.verdict.latency);
    row.add("beside", &beside.verdict.latency);
    row.add("p99_ratio", &ratio);
    let allowed_ms = alone.verdict.latency.p99_ms * MOST_RATIO;
    for (name, run) in [("late_alone", &alone), ("late_beside", &beside)] {
        let late = late_by_second(&run.load, &run.written, &run.log, allowed_ms);
        row.add(name, &late);
    }
    row.speed(
        "p99 beside the campaign at most 1.2 times that alone",
        ratio <= MOST_RATIO,
    );
    Ok(row)
}

/// Requests of one run between the first and the last of another.
fn while_it_ran(of: &Finished, other: &Finished) -> usize {
    let (Some(from), Some(to)) = (other.log.seen.first(), other.log.seen.last()) else {
        return 0;
    };
    let ran = from.read_us..=to.read_us;
    let meanwhile = of
        .log
        .seen
        .iter()
        .filter(|seen| ran.contains(&seen.read_us));
    meanwhile.count()
}
