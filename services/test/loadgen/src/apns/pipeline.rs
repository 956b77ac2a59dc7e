//! The whole of dispatch: deliveries lie in Kafka, one process pushes them and writes their receipts.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bongsu_domain::{Channel, Class, Delivery, partition_of};
use bongsu_schemas::{Codec, Topics, headers};
use bongsu_stream::kafka::{KafkaCluster, Settings};
use bongsu_stream::port::{Headers, Outgoing};

use super::twin::{KEY_ID, TEAM_ID};
use super::{Job, Run, TOPIC, bare};
use crate::Arguments;
use crate::load::wall_us;
use crate::processes::Process;
use crate::world::start_kafka;

pub(super) const PARTITIONS: i32 = 8;
/// Records without an acknowledgement at most.
const OUTSTANDING: usize = 10_000;
/// Longest wait for the last push.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) async fn run(job: &Job<'_>, arguments: &Arguments) -> anyhow::Result<Run> {
    let dir = tempfile::Builder::new().prefix("bongsu-apns").tempdir()?;
    let kafka = Kafka::start(&arguments.scripts, dir.path())?;
    let config = dir.path().join("bongsu.toml");
    let port = crate::world::free_port()?;
    let text = settings(job, &kafka.bootstrap);
    std::fs::write(
        &config,
        format!("{text}[process]\nops_listen = \"127.0.0.1:{port}\"\n"),
    )?;
    apply_topics(arguments, &config)?;
    write(job, &kafka.bootstrap).await?;
    let config = config.display().to_string();
    let run = ["--config", &config, "run", "dispatch", "--channel", "apns"].map(str::to_owned);
    let mut dispatch = Process::start("dispatch", &arguments.bongsu, &run, dir.path())?;
    // From the first push: joining the group is not what is measured.
    let first = wait(job, &mut dispatch, 1).await?;
    let cpu = dispatch.cpu_us();
    let last = wait(job, &mut dispatch, u64::from(job.pushes)).await?;
    let cpu_us = dispatch.cpu_us() - cpu;
    let accepted = job.twin.accepted().await?;
    let metrics = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await?;
    let calls = metrics.error_for_status()?.text().await?;
    dispatch.terminate().await?;
    // What the twin cannot know, so it is dispatch's word: one call, as its histogram has it.
    let within = |part| {
        let within = quantile(&calls, "bongsu_attempt_duration_seconds", part);
        within.context("dispatch does not say how long its calls took")
    };
    Ok(Run {
        accepted,
        seconds: last.duration_since(first).as_secs_f64(),
        cpu_us,
        p50: within(0.5)?,
        p99: within(0.99)?,
    })
}

/// The upper end of the histogram's bucket in which a part of all observations lies, over all labels.
fn quantile(metrics: &str, name: &str, part: f64) -> Option<Duration> {
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for line in metrics.lines() {
        let Some(labels) = line
            .strip_prefix(name)
            .and_then(|l| l.strip_prefix("_bucket{"))
        else {
            continue;
        };
        let (labels, count) = labels.rsplit_once(' ')?;
        let (_, end) = labels.rsplit_once("le=\"")?;
        let (end, _) = end.split_once('"')?;
        let (end, count): (f64, f64) = (end.parse().ok()?, count.parse().ok()?);
        match buckets.iter_mut().find(|(known, _)| *known == end) {
            Some((_, sum)) => *sum += count,
            None => buckets.push((end, count)),
        }
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (_, all) = *buckets.last()?;
    let (end, _) = buckets.iter().find(|(_, count)| *count >= part * all)?;
    (all > 0.0 && end.is_finite()).then(|| Duration::from_secs_f64(*end))
}

/// Makes the topics of these settings.
pub(super) fn apply_topics(arguments: &Arguments, config: &Path) -> anyhow::Result<()> {
    let applied = Command::new(&arguments.bongsu)
        .arg("--config")
        .arg(config)
        .args(["topics", "apply"])
        .output()?;
    anyhow::ensure!(
        applied.status.success(),
        "topics apply: {}",
        String::from_utf8_lossy(&applied.stderr)
    );
    Ok(())
}

/// Settings that end within `[channels.apns.connection]`.
pub(super) fn settings(job: &Job<'_>, bootstrap: &str) -> String {
    format!(
        "[kafka]\nbootstrap_servers = \"{bootstrap}\"\n\
         [topics]\nchannels = [\"apns\"]\npartitions = {PARTITIONS}\nreplication = 1\n\
         min_insync_replicas = 1\n\
         [dispatch]\nmax_in_flight = {in_flight}\n\
         [channels.apns.accounts.default]\nendpoint = \"{endpoint}\"\ntopic = \"{TOPIC}\"\n\
         key = \"file:{key}\"\nkey_id = \"{KEY_ID}\"\nteam_id = \"{TEAM_ID}\"\nconnections = {connections}\n\
         [channels.apns.connection]\nca_file = \"{ca}\"\n",
        in_flight = job.in_flight,
        connections = job.connections,
        endpoint = job.twin.endpoint(),
        key = job.twin.file("AuthKey.p8"),
        ca = job.twin.file("ca.pem"),
    )
}

/// Waits until the twin has accepted so many.
async fn wait(job: &Job<'_>, dispatch: &mut Process, wanted: u64) -> anyhow::Result<Instant> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if job.twin.accepted().await? >= wanted {
            return Ok(Instant::now());
        }
        anyhow::ensure!(dispatch.is_alive(), "dispatch died");
        anyhow::ensure!(
            Instant::now() < deadline,
            "dispatch does not come to its end"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn write(job: &Job<'_>, bootstrap: &str) -> anyhow::Result<()> {
    let cluster = KafkaCluster::connect(Settings {
        bootstrap_servers: bootstrap.to_owned(),
        ..Settings::default()
    })?;
    let producer = cluster.producer(Duration::from_millis(5))?;
    let (codec, topics) = (Codec::default(), Topics::default());
    let topic = topics.deliveries(Channel::Apns, Class::Transactional);
    let mut waiting = VecDeque::with_capacity(OUTSTANDING);
    let now_ms = i64::try_from(wall_us() / 1_000)?;
    for i in 0..job.pushes {
        let delivery = bare::delivery(i, now_ms);
        waiting.push_back(producer.send(Outgoing {
            topic: topic.clone(),
            partition: partition_of(delivery.sender.as_bytes(), PARTITIONS),
            key: Some(delivery.sender.clone().into()),
            value: Some(codec.encode(&record(&delivery))?),
            headers: Headers::default().with(headers::DELIVERY_ID, delivery.id.to_string()),
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

/// A delivery as fanout writes it.
pub(crate) fn record(delivery: &Delivery) -> bongsu_schemas::Delivery {
    let address = &delivery.address;
    bongsu_schemas::Delivery {
        delivery_id: delivery.id.to_string(),
        event_id: delivery.event_id.clone(),
        sender: delivery.sender.clone(),
        class: delivery.class.as_str().to_owned(),
        purpose: delivery.purpose.as_str().to_owned(),
        channel: address.channel.as_str().to_owned(),
        recipient: delivery.recipient.clone(),
        address: address.address.clone(),
        address_id: address.id.0.clone(),
        account: address.account.clone(),
        platform: address.platform.as_str().to_owned(),
        content: (&delivery.content).into(),
        content_hash: delivery.content_hash.to_hex(),
        origin: "event".to_owned(),
        accepted_at: delivery.accepted_at.into(),
        expires_at: delivery.expires_at.into(),
        on_uncertain: delivery.on_uncertain.as_str().to_owned(),
        ..bongsu_schemas::Delivery::default()
    }
}

/// One broker that ends with its value.
pub(crate) struct Kafka {
    scripts: std::path::PathBuf,
    dir: std::path::PathBuf,
    pub(crate) bootstrap: String,
}

impl Kafka {
    pub(crate) fn start(scripts: &Path, dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.join("kafka");
        let bootstrap = start_kafka(scripts, &dir).context("Kafka")?;
        Ok(Self {
            scripts: scripts.to_owned(),
            dir,
            bootstrap,
        })
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let stop = Command::new(self.scripts.join("kafka"))
            .args(["stop", "--dir"])
            .arg(&self.dir)
            .output();
        if let Err(error) = stop {
            eprintln!("Kafka in {} was not stopped: {error}", self.dir.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_end_of_its_bucket_over_all_labels() {
        let text = "# TYPE t histogram\n\
                    t_bucket{class=\"bulk\",le=\"0.01\"} 0\nt_bucket{class=\"bulk\",le=\"0.1\"} 10\n\
                    t_bucket{class=\"bulk\",le=\"+Inf\"} 10\nt_bucket{class=\"t\",le=\"0.01\"} 89\n\
                    t_bucket{class=\"t\",le=\"0.1\"} 89\nt_bucket{class=\"t\",le=\"+Inf\"} 90\nt_sum 1\n";
        let millis = |part| quantile(text, "t", part).map(|d| d.as_millis());
        assert_eq!(millis(0.5), Some(10));
        assert_eq!(millis(0.9), Some(100));
        assert_eq!(millis(1.0), None, "one took longer than any bucket");
        assert_eq!(quantile("", "t", 0.5), None);
    }
}
