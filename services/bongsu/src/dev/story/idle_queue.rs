//! `--story idle-queue`: nothing is sent for a while, and whatever stands between forgets the
//! connections without a word. Then one event comes.

use std::time::Duration;

use bongsu_simulators::Kind;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Stage, Told};

/// How long the old way is watched.
const OLD: Duration = Duration::from_secs(12);
/// The longest a live pipeline may take, on a machine that does other things too.
const LIMIT: Duration = Duration::from_secs(60);
/// How long the first event, on sound connections, may take.
const WARM: Duration = Duration::from_secs(30);

/// The media of the story.
const MEDIA: [Kind; 2] = [Kind::Webhook, Kind::Apns];

pub(super) async fn play(stage: &Stage<'_>) -> anyhow::Result<Told> {
    let run = uuid::Uuid::now_v7().simple().to_string();
    let mut rows = vec![old_way(stage, &run).await?];
    let mut broken = Vec::new();

    stage.progress("in Bongsu: one event on sound connections");
    let (warm, late) = (format!("{run}-warm"), format!("{run}-late"));
    stage.publish(&[event(stage, &run, &warm)]).await?;
    for kind in MEDIA {
        let sound = stage.arrival(kind, &warm, Instant::now() + WARM).await?;
        anyhow::ensure!(sound.is_some(), "the first event did not arrive");
    }
    let mut receipts = stage.receipts().await?;
    for kind in MEDIA {
        stage.twin(kind)?.freeze();
    }
    stage.progress("in Bongsu: every connection to the providers is silent now; one event comes");
    let begun = Instant::now();
    let begun_us = stage.twin(Kind::Webhook)?.recorder().now_us();
    stage.publish(&[event(stage, &run, &late)]).await?;
    for kind in MEDIA {
        let read_us = stage.arrival(kind, &late, begun + LIMIT).await?;
        let name = format!("Bongsu, {}", kind.as_str());
        let Some(read_us) = read_us else {
            broken.push(format!("nothing arrived at {} in {LIMIT:?}", kind.as_str()));
            rows.push((name, vec!["never".to_owned(), "-".to_owned()]));
            continue;
        };
        let seconds = Duration::from_micros(read_us.saturating_sub(begun_us)).as_secs_f64();
        let copies = copies(stage, kind, &late)?;
        if copies > 1 {
            broken.push(format!("{copies} copies at {}", kind.as_str()));
        }
        rows.push((name, vec![format!("{seconds:.1} s"), copies.to_string()]));
    }
    let outcomes = receipts
        .outcomes(MEDIA.len(), begun + LIMIT, |_, _| ())
        .await?;
    let accepted = outcomes
        .values()
        .filter(|r| r.outcome == "accepted")
        .count();
    if accepted < MEDIA.len() {
        broken.push(format!(
            "{accepted} of {} receipts say accepted",
            MEDIA.len()
        ));
    }
    Ok(Told {
        scenario: "idle_queue",
        what: "Idle connections died without a word, then one event came.".to_owned(),
        columns: vec!["delivered after", "copies"],
        rows,
        said: outcomes
            .values()
            .map(|r| {
                format!(
                    "{} {} at attempt {}, possible duplicate: {}",
                    r.channel.as_deref().unwrap_or_default(),
                    r.outcome,
                    r.attempts,
                    r.possible_duplicate
                )
            })
            .collect(),
        broken,
    })
}

/// A client as most are written: a pool that keeps connections for ever, and no time-out.
async fn old_way(stage: &Stage<'_>, run: &str) -> anyhow::Result<(String, Vec<String>)> {
    let url = format!(
        "{}/hook/{run}/old-way",
        stage.places.simulator(Kind::Webhook)
    );
    let client = reqwest::Client::builder().pool_idle_timeout(None).build()?;
    client.post(&url).body("{}").send().await?;
    stage.twin(Kind::Webhook)?.freeze();
    stage.progress("the old way: the pooled connection is silent now; one event comes");
    let begun = Instant::now();
    let sent = tokio::time::timeout(OLD, client.post(&url).body("{}").send()).await;
    let told = match sent {
        Ok(answer) => {
            answer?;
            vec![
                format!("{:.1} s", begun.elapsed().as_secs_f64()),
                "1".to_owned(),
            ]
        }
        Err(_) => vec![format!("not within {} s", OLD.as_secs()), "0".to_owned()],
    };
    Ok(("the old way".to_owned(), told))
}

fn copies(stage: &Stage<'_>, kind: Kind, event: &str) -> anyhow::Result<usize> {
    let mut copies = 0;
    stage.twin(kind)?.recorder().visit(0, |seen| {
        copies += usize::from(seen.event_id == event);
        true
    });
    Ok(copies)
}

fn event(stage: &Stage<'_>, run: &str, id: &str) -> Value {
    let hook = format!("{}/hook/{run}/ann", stage.places.simulator(Kind::Webhook));
    json!({
        "id": id,
        "sender": run,
        "plan": {"channels": ["webhook", "apns"]},
        "target": {"recipients": [{"id": "ann", "addresses": [
            {"channel": "webhook", "address": hook},
            {"channel": "apns", "address": "0a".repeat(32)},
        ]}]},
        "content": {"title": "idle queue", "body": format!("after the silence [#{id}]")},
    })
}
