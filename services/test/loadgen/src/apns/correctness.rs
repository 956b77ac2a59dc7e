//! A million pushes through the whole pipeline while connections come and go and answers stay away.
//!
//! Events lie in Kafka; fanout, dispatch and ledger work; the twin says GOAWAY every five seconds and
//! never answers one push of a thousand. Judged by the twin's log and the receipts: nothing lost,
//! twice only what was read whole and not answered, each of those marked, every device's pushes in
//! the order of its sender's events, and no task or connection left behind.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bongsu_domain::partition_of;
use bongsu_schemas::{Codec, Receipt, headers};
use bongsu_stream::kafka::{KafkaCluster, Settings};
use bongsu_stream::port::{Cluster, From, Headers, Isolation, Outgoing, TailRange};
use serde::Deserialize;
use serde_json::{Value, json};

use super::pipeline::{Kafka, PARTITIONS, apply_topics, settings};
use super::row::Row;
use super::twin::Twin;
use super::{Job, TOPIC};
use crate::Arguments;
use crate::processes::Process;

const SENDERS: usize = 2_000;
/// Devices of one event, each of a recipient of its own.
const DEVICES: usize = 5;
/// Share of pushes that are never answered.
const HANGS: f64 = 0.001;
const GOAWAY_MS: u64 = 5_000;
const RTT_MS: u64 = 60;
const CONNECTIONS: usize = 2;
/// Records without an acknowledgement at most.
const OUTSTANDING: usize = 10_000;
/// How long nothing may move before the run is judged as it is.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long tasks must stay the same before they are what an idle process has.
const REST: Duration = Duration::from_secs(5);
/// How long tasks and connections may take to go once everything has ended.
const SETTLES: Duration = Duration::from_secs(60);

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<Row> {
    let dir = tempfile::Builder::new().prefix("bongsu-apns").tempdir()?;
    let twin = Twin::start(&arguments.bongsu, dir.path()).await?;
    let events = if arguments.quick { 4_000 } else { 200_000 };
    twin.plan(&json!({"goaway_every_ms": GOAWAY_MS})).await?;
    twin.faults(&json!({"latency_ms": RTT_MS, "timeout_ratio": HANGS}))
        .await?;
    let kafka = Kafka::start(&arguments.scripts, dir.path())?;
    let mut world = World::start(arguments, dir.path(), &twin, &kafka).await?;
    let before = world.at_rest(&twin).await?;
    let begun = Instant::now();
    publish(&kafka.bootstrap, events).await?;
    let wanted = events * DEVICES;
    world.wait_for_outcomes(&twin, wanted).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = world.settle(&twin, &before).await?;
    let cpu_us = world.cpu_us();
    let fates = receipts(&kafka.bootstrap).await?;
    let seen = Deliveries::read(&twin).await?;
    let stats = twin.stats().await?;
    world.stop().await?;
    twin.stop().await?;
    Ok(judge(&Case {
        wanted,
        seconds,
        cpu_us,
        fates: &fates,
        seen: &seen,
        before,
        after,
        stats,
    }))
}

/// What is judged.
struct Case<'a> {
    wanted: usize,
    seconds: f64,
    cpu_us: u64,
    fates: &'a HashMap<String, Fate>,
    seen: &'a Deliveries,
    before: Holds,
    after: Holds,
    stats: Value,
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn judge(case: &Case<'_>) -> Row {
    let copies = |d: &&Delivered| u64::from(d.arrived.saturating_sub(1));
    let all = || case.seen.by_id.values();
    let id_of = |id: &str| case.fates.get(id);
    let accepted_ids = all().filter(|d| d.accepted > 0).count();
    let repeated: Vec<_> = case.seen.by_id.iter().collect();
    let repeated: Vec<_> = repeated.iter().filter(|(_, d)| d.arrived > 1).collect();
    let unmarked = repeated
        .iter()
        .filter(|(id, _)| !id_of(id).is_some_and(|fate| fate.marked));
    // A copy is allowed for each request that was read whole and stayed without an answer.
    let unexcused = all().filter(|d| d.arrived - d.unanswered > 1).count();
    let (duplicates, withheld) = (
        all().map(|d| copies(&d)).sum::<u64>(),
        all().map(|d| u64::from(d.unanswered)).sum::<u64>(),
    );
    let outcomes = case.fates.len();
    let accepted = case.fates.values().filter(|f| f.accepted).count();
    let lost = case.wanted.saturating_sub(accepted_ids.min(accepted)) as u64;
    let unmarked = unmarked.count();
    let order = case.seen.order_violations;
    let left = case.after.more_than(&case.before);
    Row {
        story: "apns",
        scenario: "correctness",
        system: "bongsu",
        sent: case.wanted as u64,
        in_flight: IN_FLIGHT,
        repeats: 1,
        cpu_us_per_notification: case.cpu_us as f64 / case.wanted as f64,
        per_second: case.wanted as f64 / case.seconds,
        seconds: case.seconds,
        lost,
        duplicates,
        duplicate_bound: withheld,
        connections: case.stats["connections_total"].as_u64().unwrap_or(0),
        more: Some(json!({
            "outcomes": outcomes,
            "accepted": accepted,
            "physical_doubles": case.fates.values().map(|f| f.records - 1).sum::<usize>(),
            "duplicates_of_answered": unexcused,
            "duplicates_unmarked": unmarked,
            "order_violations": order,
            "goaways": case.stats["goaways"],
            "ignored_after_goaway": case.stats["ignored"],
            "stream_violations": case.stats["violations"],
            "most_streams": case.stats["most_streams"],
            "before": case.before.told(),
            "after": case.after.told(),
        })),
        kept: lost == 0
            && outcomes == case.wanted
            && duplicates <= withheld
            && unexcused == 0
            && unmarked == 0
            && order == 0
            && !left
            && case.stats["violations"].as_u64() == Some(0),
        ..Row::default()
    }
}

/// Pushes under way at most.
const IN_FLIGHT: usize = 1_000;

/// What is held by dispatch and, of it, by the twin.
#[derive(Debug, Clone, Copy)]
struct Holds {
    tasks: u64,
    open_files: u64,
    connections: u64,
}

impl Holds {
    /// Sockets to Kafka come and go by themselves; those to the twin are counted there.
    const fn more_than(&self, before: &Self) -> bool {
        self.tasks > before.tasks || self.connections > before.connections
    }

    fn told(&self) -> Value {
        json!({"tasks": self.tasks, "open_files": self.open_files,
               "connections": self.connections})
    }
}

/// The services.
struct World {
    services: Vec<Process>,
    dispatch: usize,
    ports: Vec<u16>,
    client: reqwest::Client,
    cpu_before: u64,
}

impl World {
    async fn start(
        arguments: &Arguments,
        dir: &Path,
        twin: &Twin,
        kafka: &Kafka,
    ) -> anyhow::Result<Self> {
        let job = Job {
            twin,
            pushes: 0,
            in_flight: IN_FLIGHT,
            connections: CONNECTIONS,
        };
        let text = format!(
            "{}idle_timeout = \"5s\"\n[store]\nurl = \"sqlite:{}?mode=rwc\"\n",
            settings(&job, &kafka.bootstrap),
            dir.join("ledger.db").display()
        );
        let config = dir.join("bongsu.toml");
        std::fs::write(&config, &text)?;
        apply_topics(arguments, &config)?;
        let (mut services, mut ports) = (Vec::new(), Vec::new());
        let names = ["fanout", "ledger", "dispatch"];
        for name in names {
            let port = crate::world::free_port()?;
            let config = dir.join(format!("{name}.toml"));
            std::fs::write(
                &config,
                format!(
                    "{text}[process]\nworker_id = \"{name}\"\nops_listen = \"127.0.0.1:{port}\"\n"
                ),
            )?;
            let config = config.display().to_string();
            let mut run = ["--config", &config, "run", name]
                .map(str::to_owned)
                .to_vec();
            if name == "dispatch" {
                run.extend(["--channel", "apns"].map(str::to_owned));
            }
            services.push(Process::start(name, &arguments.bongsu, &run, dir)?);
            ports.push(port);
        }
        let mut world = Self {
            dispatch: names.len() - 1,
            services,
            ports,
            client: reqwest::Client::new(),
            cpu_before: 0,
        };
        world.wait_ready().await?;
        world.cpu_before = world.cpu_us();
        Ok(world)
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        for port in self.ports.clone() {
            while self.get(port, "readyz").await.is_err() {
                self.check_alive()?;
                anyhow::ensure!(Instant::now() < deadline, "a service is not ready");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    async fn get(&self, port: u16, page: &str) -> anyhow::Result<String> {
        let url = format!("http://127.0.0.1:{port}/{page}");
        let answer = self.client.get(url).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    fn check_alive(&mut self) -> anyhow::Result<()> {
        for service in &mut self.services {
            anyhow::ensure!(service.is_alive(), "{} died", service.name);
        }
        Ok(())
    }

    fn cpu_us(&self) -> u64 {
        let all: u64 = self.services.iter().map(Process::cpu_us).sum();
        all - self.cpu_before
    }

    async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let port = self.ports.get(self.dispatch).context("dispatch")?;
        let text = self.get(*port, "metrics").await?;
        // The number of all its labels together, whole.
        let values = text.lines().filter(|line| line.starts_with(name));
        let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count"
        )]
        Ok(values.sum::<f64>().max(0.0) as u64)
    }

    async fn holds(&self, twin: &Twin) -> anyhow::Result<Holds> {
        let stats = twin.stats().await?;
        Ok(Holds {
            tasks: self.metric("bongsu_process_tasks").await?,
            open_files: self.metric("bongsu_process_open_files").await?,
            connections: stats["connections"].as_u64().unwrap_or(0),
        })
    }

    /// What is held once it has been the same for a while: some tasks begin after a service is ready.
    async fn at_rest(&self, twin: &Twin) -> anyhow::Result<Holds> {
        let deadline = Instant::now() + SETTLES;
        let (mut last, mut since) = (self.holds(twin).await?, Instant::now());
        while since.elapsed() < REST && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let now = self.holds(twin).await?;
            if now.tasks != last.tasks {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last)
    }

    /// Waits until so many deliveries have ended by dispatch's own count, or nothing moves.
    async fn wait_for_outcomes(&mut self, twin: &Twin, wanted: usize) -> anyhow::Result<()> {
        let (mut last, mut moved) = (0, Instant::now());
        let mut told = Instant::now();
        loop {
            self.check_alive()?;
            let ended = self.metric("bongsu_outcomes_total").await?;
            if ended >= wanted as u64 {
                return Ok(());
            }
            let moves = ended + twin.accepted().await?;
            if moves > last {
                (last, moved) = (moves, Instant::now());
            }
            if told.elapsed() > Duration::from_secs(15) {
                eprintln!("correctness: {ended} of {wanted} have ended");
                told = Instant::now();
            }
            // What is missing then is counted as lost.
            if moved.elapsed() > PATIENCE {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// What is held once it is no more than before, or after a while.
    async fn settle(&mut self, twin: &Twin, before: &Holds) -> anyhow::Result<Holds> {
        let deadline = Instant::now() + SETTLES;
        loop {
            let now = self.holds(twin).await?;
            if !now.more_than(before) || Instant::now() > deadline {
                return Ok(now);
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn stop(self) -> anyhow::Result<()> {
        for service in self.services {
            service.terminate().await?;
        }
        Ok(())
    }
}

/// Event number `n` of sender `s`, to its devices.
fn event(s: usize, n: usize) -> Value {
    let recipients: Vec<Value> = (0..DEVICES)
        .map(|d| {
            let device = format!("{:064x}", s * DEVICES + d);
            json!({"id": format!("r-{s}-{d}"),
                   "addresses": [{"channel": "apns", "address": device, "app": TOPIC}]})
        })
        .collect();
    json!({
        "id": n.to_string(),
        "sender": format!("s-{s}"),
        "plan": {"channels": ["apns"]},
        "target": {"recipients": recipients},
        "content": {"title": "Order paid", "body": format!("Your order {n} is paid."),
                    "data": {"seq": n.to_string(), "sender": format!("s-{s}"),
                             "event_id": n.to_string()}},
    })
}

async fn publish(bootstrap: &str, events: usize) -> anyhow::Result<()> {
    let cluster = cluster(bootstrap)?;
    let producer = cluster.producer(Duration::from_millis(5))?;
    let mut waiting = std::collections::VecDeque::with_capacity(OUTSTANDING);
    for i in 0..events {
        let (s, n) = (i % SENDERS, i / SENDERS);
        let key = format!("s-{s}");
        waiting.push_back(producer.send(Outgoing {
            topic: "bongsu.events".into(),
            partition: partition_of(key.as_bytes(), PARTITIONS),
            key: Some(key.into()),
            value: Some(serde_json::to_vec(&event(s, n))?.into()),
            headers: Headers::default().with("bongsu-client-id", "loadgen"),
        }));
        if waiting.len() >= OUTSTANDING
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.await?;
        }
    }
    for rest in waiting {
        rest.await?;
    }
    Ok(())
}

fn cluster(bootstrap: &str) -> anyhow::Result<Arc<dyn Cluster>> {
    Ok(KafkaCluster::connect(Settings {
        bootstrap_servers: bootstrap.to_owned(),
        ..Settings::default()
    })?)
}

/// What `results` says of one delivery.
#[derive(Debug, Default)]
struct Fate {
    records: usize,
    accepted: bool,
    marked: bool,
}

/// Fates by delivery id, and what could not be read.
type Found = (HashMap<String, Fate>, Option<String>);

/// Every outcome in `results`, by delivery id.
async fn receipts(bootstrap: &str) -> anyhow::Result<HashMap<String, Fate>> {
    let cluster = cluster(bootstrap)?;
    let lags = cluster
        .lag("bongsu-audit", vec!["bongsu.results".to_owned()])
        .await?;
    let ranges = lags
        .into_iter()
        .map(|lag| TailRange {
            partition: lag.partition,
            from: From::Offset(0),
            until: None,
        })
        .collect();
    let found: Arc<Mutex<Found>> = Arc::default();
    let sink = Arc::clone(&found);
    let codec = Codec::default();
    let each = Box::new(move |record: bongsu_stream::port::Record| {
        if record.headers.get(headers::KIND) != Some(b"outcome") {
            return;
        }
        let mut found = sink.lock().unwrap_or_else(PoisonError::into_inner);
        match codec.decode::<Receipt>(record.value.as_deref().unwrap_or_default()) {
            Err(error) => found.1 = Some(error.to_string()),
            Ok(receipt) => {
                let id = receipt.delivery_id.unwrap_or_default();
                let fate = found.0.entry(id).or_default();
                fate.records += 1;
                fate.accepted |= receipt.outcome == "accepted";
                fate.marked |= receipt.possible_duplicate;
            }
        }
    });
    cluster
        .read_tails(ranges, Isolation::Uncommitted, each)
        .await?;
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    anyhow::ensure!(found.1.is_none(), "results: {:?}", found.1);
    Ok(std::mem::take(&mut found.0))
}

/// One delivery, as the twin saw it.
#[derive(Debug, Default)]
struct Delivered {
    /// Requests read whole and not answered with an error.
    arrived: u32,
    accepted: u32,
    unanswered: u32,
}

/// What the twin saw.
#[derive(Debug, Default)]
struct Deliveries {
    by_id: HashMap<String, Delivered>,
    /// The newest event of a sender that a device was pushed.
    newest: HashMap<(String, String), i64>,
    order_violations: usize,
}

#[derive(Deserialize)]
struct Line {
    status: Option<u16>,
    delivery_id: String,
    sender: String,
    path: String,
    seq: Option<i64>,
}

impl Deliveries {
    async fn read(twin: &Twin) -> anyhow::Result<Self> {
        let mut all = Self::default();
        let mut fault = None;
        twin.log(|line| match serde_json::from_str(line) {
            Ok(line) => all.add(line),
            Err(error) => fault = Some(error),
        })
        .await?;
        fault.map_or(Ok(all), |error| Err(error.into()))
    }

    fn add(&mut self, line: Line) {
        if line.status.is_some_and(|status| status >= 400) {
            return;
        }
        let delivered = self.by_id.entry(line.delivery_id).or_default();
        let first = delivered.arrived == 0;
        delivered.arrived += 1;
        delivered.accepted += u32::from(line.status.is_some());
        delivered.unanswered += u32::from(line.status.is_none());
        let Some(seq) = line.seq.filter(|_| first) else {
            return;
        };
        let newest = self.newest.entry((line.sender, line.path)).or_insert(-1);
        self.order_violations += usize::from(seq <= *newest);
        *newest = (*newest).max(seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, seq: i64, status: Option<u16>) -> Line {
        Line {
            status,
            delivery_id: id.to_owned(),
            sender: "s".to_owned(),
            path: "/device/1".to_owned(),
            seq: Some(seq),
        }
    }

    #[test]
    fn copies_are_told_from_first_pushes_and_order_by_firsts() {
        let mut all = Deliveries::default();
        for line in [
            line("a", 0, None),
            line("b", 1, Some(429)),
            line("c", 2, Some(200)),
            line("a", 0, Some(200)),
            line("b", 1, Some(200)),
        ] {
            all.add(line);
        }
        let a = &all.by_id["a"];
        assert_eq!((a.arrived, a.accepted, a.unanswered), (2, 1, 1));
        assert_eq!(all.by_id["b"].arrived, 1);
        assert_eq!(all.order_violations, 1, "b came after c");
    }
}
