//! The load: numbered events of many senders, half of the senders over HTTP and half straight to
//! Kafka through `kcat`, a client that is not ours.
//!
//! Open loop: event `i` is due at `begin + i / rate`, whatever the pipeline does; latency is counted
//! from that moment, so a stall is not hidden by a publisher that waits.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// HTTP publishers, each with its own senders and one request at a time.
const HTTP_PUBLISHERS: usize = 4;
/// Events per HTTP request at most.
const HTTP_BATCH: usize = 200;
/// Time for publishers to connect before the first event of an open loop is due.
const WARM_UP: Duration = Duration::from_secs(5);
/// Pause before a failed request is sent again with the same ids.
const SEND_AGAIN: Duration = Duration::from_millis(100);

/// What is published.
#[derive(Debug)]
pub(crate) struct Load {
    /// Before every sender's name; different in every scenario.
    pub(crate) run: String,
    pub(crate) senders: usize,
    pub(crate) events: usize,
    /// Events per second; as fast as it goes without.
    pub(crate) rate: Option<f64>,
    pub(crate) gateway: String,
    pub(crate) bootstrap: String,
    pub(crate) simulator: String,
    /// What the publishers note of every event.
    pub(crate) stamps: Stamps,
}

/// When each event was handed to a client and, by HTTP, acknowledged: by the wall clock in
/// microseconds, so that a publisher's own lateness is told from the pipeline's.
#[derive(Debug)]
pub(crate) struct Stamps(Vec<[AtomicU64; 2]>);

impl Stamps {
    /// For this many events.
    pub(crate) fn new(events: usize) -> Self {
        Self((0..events).map(|_| Default::default()).collect())
    }

    fn sent(&self, i: usize) {
        if let Some([sent, _]) = self.0.get(i) {
            sent.store(wall_us(), Relaxed);
        }
    }

    fn acknowledged(&self, i: usize) {
        if let Some([_, acknowledged]) = self.0.get(i) {
            acknowledged.store(wall_us(), Relaxed);
        }
    }

    /// Of event `i`; 0 where nothing is known.
    pub(crate) fn of(&self, i: usize) -> (u64, u64) {
        self.0.get(i).map_or((0, 0), |[sent, ack]| {
            (sent.load(Relaxed), ack.load(Relaxed))
        })
    }
}

impl Load {
    /// Name of sender `s`.
    pub(crate) fn sender(&self, s: usize) -> String {
        format!("{}-{s}", self.run)
    }

    /// Sender and running number of event `i`.
    pub(crate) const fn place(&self, i: usize) -> (usize, usize) {
        (i % self.senders, i / self.senders)
    }

    /// The address of a sender's event number `n`: one of four.
    pub(crate) fn path(&self, s: usize, n: usize) -> String {
        format!("/hook/{}/{s}/{}", self.run, (n * 7 + s) % 4)
    }

    fn event(&self, i: usize) -> Value {
        let (s, n) = self.place(i);
        json!({
            "id": n.to_string(),
            "sender": self.sender(s),
            "plan": {"channels": ["webhook"]},
            "target": {"recipients": [{"id": format!("r-{s}"), "addresses": [
                {"channel": "webhook", "address": format!("{}{}", self.simulator, self.path(s, n))}]}]},
            "content": {"title": "drill", "body": "a line of chat, as long as such lines are",
                        "data": {"seq": n.to_string()}},
        })
    }

    /// Events of the senders that `mine` selects, in order.
    fn numbers(&self, mine: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.events)
            .filter(|i| mine(self.place(*i).0))
            .collect()
    }

    /// When event `i` was due, by the wall clock; none in a closed loop.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "microseconds of a drill"
    )]
    pub(crate) fn due_us(&self, published: Published, i: usize) -> Option<u64> {
        self.rate
            .map(|rate| published.begin_us + (i as f64 / rate * 1e6) as u64)
    }

    fn due(&self, begin: Instant, i: usize) -> Option<Instant> {
        #[expect(clippy::cast_precision_loss, reason = "event numbers are small")]
        self.rate
            .map(|rate| begin + Duration::from_secs_f64(i as f64 / rate))
    }
}

/// When the load began, by the wall clock in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) begin_us: u64,
    pub(crate) seconds: f64,
}

/// Publishes everything; returns when the last event was acknowledged.
pub(crate) async fn publish(load: Arc<Load>) -> anyhow::Result<Published> {
    // In an open loop nothing is due before every publisher is connected: a client's own start is
    // not the pipeline's latency.
    let lead = if load.rate.is_some() {
        WARM_UP
    } else {
        Duration::from_millis(50)
    };
    let begin = Instant::now() + lead;
    let begin_us = wall_us() + u64::try_from(lead.as_micros())?;
    let mut publishers = JoinSet::new();
    for k in 0..HTTP_PUBLISHERS {
        let load = Arc::clone(&load);
        publishers.spawn(async move { over_http(&load, k, begin).await });
    }
    let direct = Arc::clone(&load);
    publishers.spawn(async move { with_kcat(&direct, begin).await });
    while let Some(done) = publishers.join_next().await {
        done??;
    }
    Ok(Published {
        begin_us,
        seconds: begin.elapsed().as_secs_f64(),
    })
}

async fn over_http(load: &Load, k: usize, begin: Instant) -> anyhow::Result<()> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .build()?;
    let url = format!("{}/v1/events", load.gateway);
    let numbers = load.numbers(|s| s.is_multiple_of(2) && (s / 2) % HTTP_PUBLISHERS == k);
    let mut rest = numbers.as_slice();
    while let Some(first) = rest.first() {
        if let Some(due) = load.due(begin, *first) {
            tokio::time::sleep_until(due).await;
        }
        let now = Instant::now();
        let ready = rest
            .iter()
            .take(HTTP_BATCH)
            .take_while(|i| load.due(begin, **i).is_none_or(|due| due <= now))
            .count()
            .max(1);
        let (batch, later) = rest.split_at(ready);
        rest = later;
        batch.iter().for_each(|i| load.stamps.sent(*i));
        let body: Vec<Value> = batch.iter().map(|i| load.event(*i)).collect();
        let body = serde_json::to_vec(&body)?;
        loop {
            let answer = client
                .post(&url)
                .header("content-type", "application/json")
                .body(body.clone())
                .send()
                .await;
            match answer {
                Ok(answer) if answer.status().is_success() => {
                    batch.iter().for_each(|i| load.stamps.acknowledged(*i));
                    break;
                }
                Ok(answer) if answer.status().is_client_error() => {
                    anyhow::bail!("{}: {}", answer.status(), answer.text().await?);
                }
                // Not acknowledged: the same ids once more are safe.
                Ok(_) | Err(_) => tokio::time::sleep(SEND_AGAIN).await,
            }
        }
    }
    Ok(())
}

async fn with_kcat(load: &Load, begin: Instant) -> anyhow::Result<()> {
    let mut kcat = Command::new("kcat")
        .args([
            "-P",
            "-b",
            &load.bootstrap,
            "-t",
            "bongsu.events",
            "-K",
            "\t",
        ])
        .args([
            "-X",
            "partitioner=murmur2_random",
            "-X",
            "enable.idempotence=true",
        ])
        .args(["-X", "linger.ms=5", "-H", "bongsu-client-id=kcat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("kcat")?;
    let mut input = kcat.stdin.take().context("kcat takes no input")?;
    if load.rate.is_some() {
        let mut event = load.event(0);
        event["sender"] = "warm-up".into();
        event["id"] = load.run.clone().into();
        input
            .write_all(format!("warm-up\t{event}\n").as_bytes())
            .await?;
    }
    let mut lines = Vec::new();
    for i in load.numbers(|s| !s.is_multiple_of(2)) {
        if let Some(due) = load.due(begin, i)
            && due > Instant::now()
        {
            input.write_all(&lines).await?;
            lines.clear();
            tokio::time::sleep_until(due).await;
        }
        load.stamps.sent(i);
        let (s, _) = load.place(i);
        lines.extend_from_slice(load.sender(s).as_bytes());
        lines.push(b'\t');
        serde_json::to_writer(&mut lines, &load.event(i))?;
        lines.push(b'\n');
        if lines.len() > 64 * 1024 {
            input.write_all(&lines).await?;
            lines.clear();
        }
    }
    input.write_all(&lines).await?;
    drop(input);
    let output = kcat.wait_with_output().await?;
    anyhow::ensure!(
        output.status.success(),
        "kcat: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The wall clock, microseconds since the epoch.
pub(crate) fn wall_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
