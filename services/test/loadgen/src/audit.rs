//! The truth: what the simulator read and what `results` holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bongsu_domain::partition_of;
use bongsu_schemas::{Codec, Receipt};
use bongsu_stream::port::{From, Isolation, Record, TailEnds, TailRange, TopicPartition};
use hdrhistogram::Histogram;
use serde::Deserialize;

use crate::load::{Load, Published};
use crate::world::{PARTITIONS, World};

/// One request, as the simulator tells it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Request {
    pub(crate) read_us: u64,
    pub(crate) answered_us: Option<u64>,
    pub(crate) status: Option<u16>,
    pub(crate) delivery_id: String,
    pub(crate) event_id: String,
    pub(crate) sender: String,
    pub(crate) path: String,
    pub(crate) seq: Option<i64>,
    pub(crate) worker: String,
}

impl Request {
    /// Read whole and not answered with an error.
    pub(crate) fn arrived(&self) -> bool {
        self.status.is_none_or(|s| s < 400)
    }

    /// The partition its delivery lies in.
    pub(crate) fn partition(&self) -> i32 {
        partition_of(self.sender.as_bytes(), PARTITIONS)
    }
}

/// One outcome in `results`.
#[derive(Debug, Clone)]
pub(crate) struct OutcomeSeen {
    pub(crate) outcome: String,
    pub(crate) worker: String,
}

/// What `results` holds of one run.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// By delivery id: every physical record.
    pub(crate) by_delivery: HashMap<String, Vec<OutcomeSeen>>,
    receipts: HashSet<String>,
    pub(crate) records: usize,
}

/// Figures of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Audit {
    pub(crate) sent: usize,
    pub(crate) lost: usize,
    pub(crate) duplicates: usize,
    pub(crate) order_violations: usize,
    pub(crate) outcomes: usize,
    pub(crate) not_accepted: usize,
    pub(crate) physical_doubles: usize,
    pub(crate) errors_answered: usize,
    /// From the beginning of the load to the last request.
    pub(crate) seconds: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    /// Longest time in which some partition that had work saw no request.
    pub(crate) longest_stall: f64,
}

/// Waits until every event has its outcome, or nothing moves any more.
pub(crate) async fn wait_for_outcomes(
    world: &mut World,
    load: &Load,
    since: &TailEnds,
    patience: Duration,
) -> anyhow::Result<Outcomes> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        world.check_alive()?;
        let seen = outcomes(world, load, since).await?;
        if seen.by_delivery.len() >= load.events || tokio::time::Instant::now() > deadline {
            return Ok(seen);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The ends of `results` now.
pub(crate) async fn results_ends(world: &World) -> anyhow::Result<TailEnds> {
    let lags = world
        .cluster
        .lag("bongsu-audit", vec!["bongsu.results".to_owned()])
        .await?;
    Ok(lags.into_iter().map(|l| (l.partition, l.end)).collect())
}

/// Every outcome of the run's senders after `since`.
pub(crate) async fn outcomes(
    world: &World,
    load: &Load,
    since: &TailEnds,
) -> anyhow::Result<Outcomes> {
    let ranges = since
        .iter()
        .map(|(tp, from)| TailRange {
            partition: tp.clone(),
            from: From::Offset(*from),
            until: None,
        })
        .collect();
    let found: Arc<Mutex<(Outcomes, Option<String>)>> = Arc::default();
    let sink = Arc::clone(&found);
    let codec = Codec::default();
    let prefix = format!("{}-", load.run);
    let each = Box::new(move |record: Record| {
        let mut found = sink.lock().unwrap_or_else(PoisonError::into_inner);
        match codec.decode::<Receipt>(record.value.as_deref().unwrap_or_default()) {
            Err(error) => found.1 = Some(error.to_string()),
            Ok(receipt) if receipt.kind == "outcome" && receipt.sender.starts_with(&prefix) => {
                found.0.records += 1;
                found.0.receipts.insert(receipt.receipt_id);
                let seen = OutcomeSeen {
                    outcome: receipt.outcome,
                    worker: receipt.worker_id.unwrap_or_default(),
                };
                let id = receipt.delivery_id.unwrap_or_default();
                found.0.by_delivery.entry(id).or_default().push(seen);
            }
            Ok(_) => {}
        }
    });
    world
        .cluster
        .read_tails(ranges, Isolation::Uncommitted, each)
        .await?;
    let (outcomes, error) =
        std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    anyhow::ensure!(error.is_none(), "results cannot be read: {error:?}");
    Ok(outcomes)
}

/// The simulator's whole log, in the order in which requests were read.
pub(crate) async fn requests(world: &World) -> anyhow::Result<Vec<Request>> {
    const PAGE: usize = 50_000;
    let mut out: Vec<Request> = Vec::new();
    loop {
        let url = format!(
            "{}/_sim/requests?from={}&limit={PAGE}",
            world.simulator,
            out.len()
        );
        let text = world
            .client
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .text()
            .await?;
        let before = out.len();
        for line in text.lines() {
            out.push(serde_json::from_str(line).with_context(|| line.to_owned())?);
        }
        if out.len() - before < PAGE {
            return Ok(out);
        }
    }
}

/// Adds it all up.
pub(crate) fn audit(
    load: &Load,
    published: Published,
    requests: &[Request],
    outcomes: &Outcomes,
) -> anyhow::Result<Audit> {
    let mut copies: HashMap<&str, usize> = HashMap::new();
    let mut arrived: HashSet<(&str, &str)> = HashSet::new();
    let mut highest: HashMap<(&str, &str), i64> = HashMap::new();
    let mut out = Audit {
        sent: load.events,
        ..Audit::default()
    };
    let mut latency: Histogram<u64> = Histogram::new(3)?;
    let ours = format!("{}-", load.run);
    for r in requests.iter().filter(|r| r.sender.starts_with(&ours)) {
        let seq = r.seq.context("a request without a number")?;
        let top = highest.entry((&r.sender, &r.path)).or_insert(seq);
        out.order_violations += usize::from(seq < *top);
        *top = seq.max(*top);
        if !r.arrived() {
            out.errors_answered += 1;
            continue;
        }
        *copies.entry(&r.delivery_id).or_default() += 1;
        if arrived.insert((&r.sender, &r.event_id)) {
            latency.record(latency_us(load, published, r).max(1))?;
        }
    }
    out.duplicates = copies.values().map(|n| n - 1).sum();
    out.lost = (0..load.events)
        .filter(|i| {
            let (s, n) = load.place(*i);
            !arrived.contains(&(load.sender(s).as_str(), n.to_string().as_str()))
        })
        .count();
    out.outcomes = outcomes.receipts.len();
    out.physical_doubles = outcomes.records - outcomes.receipts.len();
    out.not_accepted = outcomes
        .by_delivery
        .values()
        .filter(|seen| !seen.iter().any(|o| o.outcome == "accepted"))
        .count();
    let last = requests
        .iter()
        .map(|r| r.read_us)
        .max()
        .unwrap_or(published.begin_us);
    out.seconds = seconds(last.saturating_sub(published.begin_us));
    out.p50_ms = millis(latency.value_at_quantile(0.5));
    out.p99_ms = millis(latency.value_at_quantile(0.99));
    out.max_ms = millis(latency.max());
    out.longest_stall = longest_stall(requests);
    Ok(out)
}

/// From the moment an event was due to the moment the simulator had read its request.
fn latency_us(load: &Load, published: Published, r: &Request) -> u64 {
    let Some(rate) = load.rate else {
        return r.read_us.saturating_sub(published.begin_us);
    };
    let s: usize = r
        .sender
        .rsplit_once('-')
        .and_then(|(_, s)| s.parse().ok())
        .unwrap_or(0);
    let n: usize = r.event_id.parse().unwrap_or(0);
    let i = n * load.senders + s;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "microseconds of a drill"
    )]
    let due = published.begin_us + (i as f64 / rate * 1e6) as u64;
    r.read_us.saturating_sub(due)
}

/// The longest gap between two requests of one partition.
fn longest_stall(requests: &[Request]) -> f64 {
    let mut last: BTreeMap<i32, u64> = BTreeMap::new();
    let mut longest = 0;
    for r in requests {
        let before = last.insert(r.partition(), r.read_us);
        longest = longest.max(before.map_or(0, |b| r.read_us.saturating_sub(b)));
    }
    seconds(longest)
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a drill")]
pub(crate) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a drill")]
fn millis(us: u64) -> f64 {
    us as f64 / 1e3
}

/// Where the partitions of a topic end.
pub(crate) fn range(topic: &str, partition: i32, from: i64) -> TailRange {
    TailRange {
        partition: TopicPartition::new(topic, partition),
        from: From::Offset(from),
        until: None,
    }
}
