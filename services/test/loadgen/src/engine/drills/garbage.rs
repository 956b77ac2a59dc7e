//! Checkpoints overwritten with garbage while dispatch is down.

use std::time::Duration;

use anyhow::Context as _;
use bongsu_domain::{Channel, Class};
use bongsu_schemas::Topics;
use bongsu_stream::port::{Commit, Committed, GroupEvent, GroupOptions, Headers, Outgoing, Reset};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::kills::judge_cuts;
use crate::engine::bound::Cut;
use crate::engine::drill::{Drill, RTT_MS, WORKERS, deliveries};
use crate::engine::profile::Profile;
use crate::engine::row::Row;

/// How long after the last write everything must be settled.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long a foreign member may take to be given every partition.
const JOIN: Duration = Duration::from_secs(60);
/// No checkpoint of anybody.
const GARBAGE: &str = "\u{7f}garbage {\"offset\": -1}";

/// All workers are killed, the journal gets garbage at every end and every commit garbage beside
/// it; then dispatch starts again.
pub(crate) async fn corrupt_checkpoint(drill: &mut Drill) -> anyhow::Result<Row> {
    let rate = drill.capacity().await? / 4.0;
    drill.world.start_fleet(&Profile::short(), WORKERS).await?;
    let load = drill.load(deliveries(rate, 600.0), Some(rate));
    let run = drill.begin(load, &json!({"latency_ms": RTT_MS})).await?;
    drill.until_it_flows(rate / 2.0).await?;
    tokio::time::sleep(Duration::from_secs_f64(drill.size(3.0, 20.0))).await;
    let mut cuts = Vec::new();
    for worker in drill.world.fleet() {
        let process = drill.world.take(&worker)?;
        let at_us = process.kill().await?;
        cuts.push(Cut { worker, at_us });
    }
    spoil_journal(drill).await?;
    let spoilt = spoil_commits(drill).await?;
    drill.world.start_fleet(&Profile::short(), WORKERS).await?;
    drill.until_it_flows(rate / 2.0).await?;
    run.writing.stop();
    let finished = drill.settle(run, PATIENCE, &["unknown"]).await?;
    drill.world.stop_fleet().await?;
    let mut row = drill.row("corrupt_checkpoint");
    judge_cuts(&mut row, &finished, &cuts, &["unknown"]);
    row.add("commits_spoilt", &spoilt);
    row.promise("there were commits to spoil", spoilt > 0);
    Ok(row)
}

async fn spoil_journal(drill: &Drill) -> anyhow::Result<()> {
    let topic = Topics::new("bongsu.").journal(Channel::Webhook, Class::Transactional);
    let producer = drill.world.cluster.producer(Duration::ZERO)?;
    for partition in 0..drill.world.shape.partitions {
        let garbage = Outgoing {
            topic: topic.clone(),
            partition,
            key: None,
            value: Some(GARBAGE.into()),
            headers: Headers::default(),
        };
        producer.send(garbage).await.context("journal")?;
    }
    Ok(())
}

/// Joins dispatch's group once its dead members are gone and commits the same offsets with garbage
/// beside them; gives how many.
async fn spoil_commits(drill: &Drill) -> anyhow::Result<usize> {
    let topics = Topics::new("bongsu.");
    let mut member = drill.world.cluster.join(GroupOptions {
        group: topics.dispatch_group(Channel::Webhook),
        topics: vec![topics.deliveries(Channel::Webhook, Class::Transactional)],
        reset: Reset::Earliest,
        session_timeout: Duration::from_secs(7),
        buffer_bytes: 1024 * 1024,
    })?;
    let deadline = Instant::now() + JOIN;
    let all = usize::try_from(drill.world.shape.partitions)?;
    let (mut given, mut spoilt) = (0, 0);
    while given < all {
        let event = timeout_at(deadline, member.next()).await;
        match event.context("the dead members still hold partitions")? {
            GroupEvent::Assigned(partitions) => {
                given += partitions.len();
                let commits: Vec<Commit> = partitions
                    .into_iter()
                    .filter_map(|(partition, committed)| {
                        let offset = committed?.offset;
                        let metadata = GARBAGE.to_owned();
                        let committed = Committed { offset, metadata };
                        Some(Commit {
                            partition,
                            committed,
                        })
                    })
                    .collect();
                spoilt += commits.len();
                if !commits.is_empty() {
                    member.commit(commits).await?;
                }
            }
            GroupEvent::Revoked {
                rebalance,
                partitions,
            } => {
                given = given.saturating_sub(partitions.len());
                member.release(rebalance);
            }
            GroupEvent::Lost(partitions) => given = given.saturating_sub(partitions.len()),
            GroupEvent::Failed(error) => return Err(error.into()),
            GroupEvent::Records(_) => {}
        }
    }
    member.close().await;
    Ok(spoilt)
}
