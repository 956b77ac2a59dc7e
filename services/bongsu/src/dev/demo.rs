//! The story of `--demo`: chat rooms whose members get every line, in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_runtime::Shutdown;
use bongsu_schemas::Receipt;
use bongsu_simulators::{Faults, Kind, Simulators, compare::Expected};
use bongsu_stream::port::{From, Isolation, TailRange, TopicPartition};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::compose::World;
use crate::dev::Places;
use crate::output::say;
use crate::watch;

const ROOMS: usize = 5;
const MEMBERS: usize = 4;
const LINES: usize = 40;
/// Every this many lines a room also posts to its Discord channel.
const DISCORD_EVERY: usize = 20;
/// Receipts shown while the story runs.
const SHOWN: usize = 5;
/// Longest wait for the last receipt.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the story ended, counted at the simulators.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    scenario: &'static str,
    events: usize,
    sent: usize,
    outcomes: usize,
    accepted: usize,
    lost: u64,
    duplicates: u64,
    order_violations: u64,
    errors_answered: u64,
    seconds: f64,
    first_receipt_ms: u128,
}

impl Summary {
    /// Whether every promise held.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0
            && self.duplicates == 0
            && self.order_violations == 0
            && self.outcomes == self.sent
            && self.accepted == self.sent
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "\nThe story: {ROOMS} rooms, {MEMBERS} members each, {} lines; the webhook simulator \
             answered {} requests with an error on purpose.",
            self.events, self.errors_answered
        )?;
        writeln!(
            f,
            "  {} deliveries, {} outcomes ({} accepted) in {:.1} s; first receipt after {} ms",
            self.sent, self.outcomes, self.accepted, self.seconds, self.first_receipt_ms
        )?;
        write!(
            f,
            "  counted at the simulators: {} lost, {} duplicates, {} order violations: {}",
            self.lost,
            self.duplicates,
            self.order_violations,
            if self.is_clean() {
                "every promise held"
            } else {
                "A PROMISE BROKE"
            }
        )
    }
}

/// Plays the story and waits for its last receipt.
pub(crate) async fn play(
    world: &World,
    places: &Places,
    simulators: &Simulators,
    shutdown: &Shutdown,
    json: bool,
) -> anyhow::Result<Summary> {
    let webhook = simulators
        .get(Kind::Webhook)
        .context("no webhook simulator")?;
    webhook.set_faults(Faults {
        latency_ms: 20,
        fail_ratio: 0.02,
        throttle_ratio: 0.01,
        retry_after_ms: 200,
        seed: 7,
        ..Faults::default()
    })?;
    let mut follower = world
        .cluster
        .follow(ranges(world).await?, Isolation::Committed)?;
    let begun = Instant::now();
    let (sent, expected) = publish(places).await?;
    let mut outcomes = BTreeSet::new();
    let (mut accepted, mut first_receipt_ms) = (0, 0);
    let deadline = begun + PATIENCE;
    while outcomes.len() < sent && !shutdown.is_requested() {
        let records = tokio::select! {
            biased;
            () = shutdown.requested() => break,
            records = tokio::time::timeout_at(deadline, follower.next()) => match records {
                Ok(records) => records?,
                Err(_) => break,
            },
        };
        for record in records {
            let receipt: Receipt = world
                .codec
                .decode(record.value.as_deref().unwrap_or_default())?;
            if outcomes.is_empty() {
                first_receipt_ms = begun.elapsed().as_millis();
            }
            if !json && outcomes.len() < SHOWN {
                say(&watch::line(&receipt));
            }
            if outcomes.insert(receipt.receipt_id.clone()) && receipt.outcome == "accepted" {
                accepted += 1;
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let report = webhook.report();
    let compared = webhook.compare(Expected::parse(expected.to_string().as_bytes())?);
    Ok(Summary {
        scenario: "demo",
        events: ROOMS * LINES,
        sent,
        outcomes: outcomes.len(),
        accepted,
        lost: compared.lost_count,
        duplicates: report.duplicates,
        order_violations: report.order_violations,
        errors_answered: report.errors,
        seconds,
        first_receipt_ms,
    })
}

async fn ranges(world: &World) -> anyhow::Result<Vec<TailRange>> {
    let results = world.topics.results();
    let ends = world
        .cluster
        .lag("bongsu-demo", vec![results.to_string()])
        .await?;
    Ok(ends
        .into_iter()
        .map(|l| TailRange {
            partition: TopicPartition::new(Arc::clone(&results), l.partition.partition),
            from: From::Offset(l.end),
            until: None,
        })
        .collect())
}

/// Publishes the lines over HTTP, all rooms in turn, and gives the number of deliveries and what the
/// webhook simulator must get.
async fn publish(places: &Places) -> anyhow::Result<(usize, Value)> {
    let client = reqwest::Client::builder().build()?;
    let run = uuid::Uuid::now_v7().simple().to_string();
    let mut sent = 0;
    let mut expected = Vec::new();
    for line in 0..LINES {
        let mut batch = Vec::new();
        for room in 0..ROOMS {
            let id = format!("{run}-{room}-{line}");
            let (event, deliveries) = event(places, &run, room, line, &id);
            sent += deliveries;
            for member in 0..MEMBERS {
                let path = hook(places, &run, room, member);
                expected.push(json!({"event_id": id, "path": path}));
            }
            batch.push(event);
        }
        let response = client
            .post(format!("{}/v1/events", places.gateway))
            .json(&batch)
            .send()
            .await
            .context("publishing")?;
        if response.status() != reqwest::StatusCode::ACCEPTED {
            anyhow::bail!(
                "the gateway answered {}: {}",
                response.status(),
                response.text().await?
            );
        }
    }
    Ok((sent, Value::Array(expected)))
}

fn hook(places: &Places, run: &str, room: usize, member: usize) -> String {
    format!(
        "{}/hook/{run}/room-{room}/member-{member}",
        places.simulator(Kind::Webhook)
    )
}

fn event(places: &Places, run: &str, room: usize, line: usize, id: &str) -> (Value, usize) {
    let mut recipients: Vec<Value> = (0..MEMBERS)
        .map(|member| {
            json!({"id": format!("room-{room}-member-{member}"), "addresses": [
                {"channel": "webhook", "address": hook(places, run, room, member)}]})
        })
        .collect();
    let mut channels = vec!["webhook"];
    if line.is_multiple_of(DISCORD_EVERY) {
        channels.push("discord");
        recipients.push(json!({"id": format!("room-{room}-channel"), "addresses": [
            {"channel": "discord", "address":
                format!("{}/api/webhooks/{}/demo-{run}", places.simulator(Kind::Discord), 1_000 + room)}]}));
    }
    let deliveries = recipients.len();
    let event = json!({
        "id": id,
        "sender": format!("{run}-room-{room}"),
        "category": "chat",
        "plan": {"channels": channels},
        "target": {"recipients": recipients},
        "content": {
            "title": format!("room {room}"),
            "body": format!("line {line} [#{id}]"),
            "data": {"seq": line.to_string()},
        },
    });
    (event, deliveries)
}
