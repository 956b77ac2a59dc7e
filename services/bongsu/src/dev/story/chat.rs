//! `--demo` or `--story chat`: chat rooms whose members get every line, in order.

use std::time::Duration;

use bongsu_simulators::{Faults, Kind, compare::Expected};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Stage;
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
pub(super) struct Summary {
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
    pub(super) fn is_clean(&self) -> bool {
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
pub(super) async fn play(stage: &Stage<'_>) -> anyhow::Result<Summary> {
    let webhook = stage.twin(Kind::Webhook)?;
    webhook.set_faults(Faults {
        latency_ms: 20,
        fail_ratio: 0.02,
        throttle_ratio: 0.01,
        retry_after_ms: 200,
        seed: 7,
        ..Faults::default()
    })?;
    let mut receipts = stage.receipts().await?;
    let begun = Instant::now();
    let (sent, expected) = publish(stage).await?;
    let mut first_receipt_ms = 0;
    let outcomes = receipts
        .outcomes(sent, begun + PATIENCE, |receipt, n| {
            if n == 0 {
                first_receipt_ms = begun.elapsed().as_millis();
            }
            if !stage.json && n < SHOWN {
                say(&watch::line(receipt));
            }
        })
        .await?;
    let seconds = begun.elapsed().as_secs_f64();
    let accepted = outcomes.values().filter(|r| r.outcome == "accepted");
    let report = webhook.report();
    let compared = webhook.compare(Expected::parse(expected.to_string().as_bytes())?);
    Ok(Summary {
        scenario: "demo",
        events: ROOMS * LINES,
        sent,
        outcomes: outcomes.len(),
        accepted: accepted.count(),
        lost: compared.lost_count,
        duplicates: report.duplicates,
        order_violations: report.order_violations,
        errors_answered: report.errors,
        seconds,
        first_receipt_ms,
    })
}

/// Publishes the lines over HTTP, all rooms in turn, and gives the number of deliveries and what the
/// webhook simulator must get.
async fn publish(stage: &Stage<'_>) -> anyhow::Result<(usize, Value)> {
    let places = stage.places;
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
        stage.publish(&batch).await?;
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
