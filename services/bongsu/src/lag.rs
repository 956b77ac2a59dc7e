//! `bongsu lag`: what waits, per group and topic.

use bongsu_domain::{Channel, Class};
use bongsu_schemas::Topics;
use bongsu_stream::port::Cluster;
use serde::Serialize;

use crate::output::{say, say_json};

#[derive(Serialize)]
struct Row {
    group: String,
    topic: String,
    partitions: usize,
    /// Records not committed by the group; a group that never committed counts from the beginning.
    lag: i64,
    /// The partition that waits most.
    worst_partition: i32,
    worst_lag: i64,
}

/// Prints the lag of every group of the pipeline.
pub(crate) async fn lag(
    cluster: &dyn Cluster,
    topics: &Topics,
    channels: &[Channel],
    json: bool,
) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (group, topic) in pairs(topics, channels) {
        let lags = cluster.lag(&group, vec![topic.clone()]).await?;
        let of = |p: &bongsu_stream::port::PartitionLag| p.end - p.committed.unwrap_or(0);
        let worst = lags.iter().max_by_key(|p| of(p));
        rows.push(Row {
            group,
            topic,
            partitions: lags.len(),
            lag: lags.iter().map(of).sum(),
            worst_partition: worst.map_or(-1, |p| p.partition.partition),
            worst_lag: worst.map_or(0, of),
        });
    }
    if json {
        say_json(&rows);
        return Ok(());
    }
    say(&format!(
        "{:<32} {:<32} {:>10} {:>18}",
        "GROUP", "TOPIC", "LAG", "WORST PARTITION"
    ));
    for row in rows {
        let worst = format!("{} ({})", row.worst_partition, row.worst_lag);
        say(&format!(
            "{:<32} {:<32} {:>10} {:>18}",
            row.group, row.topic, row.lag, worst
        ));
    }
    Ok(())
}

fn pairs(topics: &Topics, channels: &[Channel]) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for class in Class::ALL {
        out.push((topics.fanout_group(), topics.events(*class).to_string()));
    }
    for channel in channels {
        for class in Class::ALL {
            let topic = topics.deliveries(*channel, *class).to_string();
            out.push((topics.dispatch_group(*channel), topic));
        }
    }
    out.push((topics.ledger_group(), topics.results().to_string()));
    out.push((topics.mapping_group(), topics.reports().to_string()));
    out
}
