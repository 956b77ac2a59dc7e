//! Kafka, a simulator and dispatch processes, with a proxy on every line between them.
//!
//! Only dispatch is under test, so nothing else runs: deliveries are written straight to their
//! topics.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_stream::kafka::{KafkaCluster, Settings};
use bongsu_stream::port::Cluster;
use bongsu_testkit::{FaultProxy, TlsFront};
use serde_json::Value;
use tempfile::TempDir;

use super::disk::SmallDisk;
use super::log::Log;
use super::profile::Profile;
use crate::processes::Process;
use crate::world::{free_port, last_lines};

/// How long a process may take to answer after its start.
const START: Duration = Duration::from_secs(60);
/// Requests per page of the simulator's log.
const PAGE: usize = 50_000;

/// What the world is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) brokers: usize,
    pub(crate) partitions: i32,
    /// Whether Kafka's data lie on a disk of their own that can be filled (needs root).
    pub(crate) small_disk: bool,
}

/// One running dispatch.
struct Dispatcher {
    process: Process,
    ready: String,
}

/// Everything that runs.
pub(crate) struct World {
    bongsu: PathBuf,
    scripts: PathBuf,
    /// Kafka's disk, when it is one of its own. Dropped before the directory it is mounted in.
    pub(crate) disk: Option<SmallDisk>,
    dir: TempDir,
    pub(crate) shape: Shape,
    bootstrap: String,
    /// One per broker; dispatch reaches Kafka through them when its profile says so.
    pub(crate) kafka_lines: Vec<FaultProxy>,
    pub(crate) cluster: Arc<dyn Cluster>,
    simulator: Process,
    pub(crate) simulator_url: String,
    /// Leads to the simulator.
    pub(crate) provider_line: FaultProxy,
    /// Leads to the simulator over TLS, for HTTP/2.
    pub(crate) provider_tls: TlsFront,
    pub(crate) client: reqwest::Client,
    dispatchers: BTreeMap<String, Dispatcher>,
    /// Other services of a drill, by name.
    others: BTreeMap<String, Process>,
    next: usize,
    /// Processor time of dispatch processes that have ended, microseconds.
    ended_cpu_us: u64,
}

impl World {
    /// Starts Kafka, makes the topics, starts the simulator. No dispatch runs yet.
    pub(crate) async fn start(bongsu: &Path, scripts: &Path, shape: Shape) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("bongsu-drill").tempdir()?;
        let home = dir.path().join("kafka");
        let disk = shape
            .small_disk
            .then(|| SmallDisk::mount(&home))
            .transpose()?;
        let kafka = StartedKafka::start(scripts, &home, shape.brokers)?;
        let cluster = KafkaCluster::connect(Settings {
            bootstrap_servers: kafka.bootstrap.clone(),
            ..Settings::default()
        })?;
        let port = free_port()?;
        let arguments = ["simulate", "webhook", "--port", &port.to_string()].map(str::to_owned);
        let simulator = Process::start("simulator", bongsu, &arguments, dir.path())?;
        let mut world = Self {
            bongsu: bongsu.to_owned(),
            scripts: scripts.to_owned(),
            shape,
            bootstrap: kafka.bootstrap.clone(),
            kafka_lines: kafka.lines()?,
            cluster,
            simulator,
            simulator_url: format!("http://127.0.0.1:{port}"),
            provider_line: FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], port)))?,
            provider_tls: TlsFront::start(SocketAddr::from(([127, 0, 0, 1], port)))?,
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(60))
                .build()?,
            dispatchers: BTreeMap::new(),
            others: BTreeMap::new(),
            next: 0,
            ended_cpu_us: 0,
            disk,
            dir,
        };
        std::fs::write(world.certificate(), world.provider_tls.certificate())?;
        let config = world.write_settings("topics", &Profile::default(), None)?;
        world.run_bongsu(&config, &["topics", "apply"])?;
        let healthz = format!("{}/healthz", world.simulator_url);
        world.wait_for(&healthz).await?;
        Ok(world)
    }

    fn write_settings(
        &self,
        worker: &str,
        profile: &Profile,
        ops: Option<u16>,
    ) -> anyhow::Result<PathBuf> {
        let lines = self.kafka_lines.iter().map(|l| l.address().to_string());
        let bootstrap = if profile.kafka_through_proxy {
            lines.collect::<Vec<_>>().join(",")
        } else {
            self.bootstrap.clone()
        };
        let (copies, in_sync) = if self.shape.brokers > 1 {
            (3, 2)
        } else {
            (1, 1)
        };
        let ops = ops.map_or(String::new(), |port| {
            format!("ops_listen = \"127.0.0.1:{port}\"\n")
        });
        let text = format!(
            "[kafka]\nbootstrap_servers = \"{bootstrap}\"\n{}\
             [topics]\npartitions = {}\nreplication = {copies}\nmin_insync_replicas = {in_sync}\n\
             {}{}[process]\nlog = \"info\"\nworker_id = \"{worker}\"\n{ops}",
            profile.kafka,
            self.shape.partitions,
            profile.toml(),
            profile.store,
        );
        let path = self.dir.path().join(format!("{worker}.toml"));
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn run_bongsu(&self, config: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(&self.bongsu)
            .arg("--config")
            .arg(config)
            .args(arguments)
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "bongsu {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a short command of `bongsu` with the settings of `profile`; gives what it printed.
    pub(crate) fn command(&self, profile: &Profile, arguments: &[&str]) -> anyhow::Result<String> {
        let config = self.write_settings("command", profile, None)?;
        self.run_bongsu(&config, arguments)
    }

    /// What a client of [`World::provider_tls`] must trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("provider.pem")
    }

    /// Starts the ledger on a database.
    pub(crate) fn start_ledger(&mut self, url: &str) -> anyhow::Result<()> {
        let profile = Profile {
            store: format!("[store]\nurl = \"{url}\"\n"),
            ..Profile::default()
        };
        let config = self.write_settings("ledger", &profile, None)?;
        let config = config.display().to_string();
        let arguments = ["--config", &config, "run", "ledger"].map(str::to_owned);
        let process = Process::start("ledger", &self.bongsu, &arguments, self.dir.path())?;
        self.others.insert("ledger".to_owned(), process);
        Ok(())
    }

    /// Ends the ledger.
    pub(crate) async fn stop_ledger(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.others.remove("ledger") {
            process.terminate().await?;
        }
        Ok(())
    }

    /// Starts one more dispatch; gives its name, which is its worker id too.
    pub(crate) fn start_dispatch(&mut self, profile: &Profile) -> anyhow::Result<String> {
        let name = format!("dispatch-{}", self.next);
        self.next += 1;
        let port = free_port()?;
        let config = self.write_settings(&name, profile, Some(port))?;
        let config = config.display().to_string();
        let arguments = [
            "--config",
            &config,
            "run",
            "dispatch",
            "--channel",
            "webhook",
        ];
        let arguments = arguments.map(str::to_owned);
        let process = Process::start(&name, &self.bongsu, &arguments, self.dir.path())?;
        let ready = format!("http://127.0.0.1:{port}/readyz");
        self.dispatchers
            .insert(name.clone(), Dispatcher { process, ready });
        Ok(name)
    }

    /// Starts `count` and waits until all say that they are ready.
    pub(crate) async fn start_fleet(
        &mut self,
        profile: &Profile,
        count: usize,
    ) -> anyhow::Result<()> {
        for _ in 0..count {
            self.start_dispatch(profile)?;
        }
        self.fleet_ready().await
    }

    /// Waits until every dispatch says that it is ready.
    pub(crate) async fn fleet_ready(&mut self) -> anyhow::Result<()> {
        let urls: Vec<String> = self.dispatchers.values().map(|d| d.ready.clone()).collect();
        for url in urls {
            self.wait_for(&url).await?;
        }
        Ok(())
    }

    /// Names of the running dispatch processes.
    pub(crate) fn fleet(&self) -> Vec<String> {
        self.dispatchers.keys().cloned().collect()
    }

    /// Process ids of the running dispatch processes.
    pub(crate) fn fleet_pids(&self) -> Vec<u32> {
        self.dispatchers.values().map(|d| d.process.pid()).collect()
    }

    /// Takes a dispatch out, to end, kill or stop it.
    pub(crate) fn take(&mut self, name: &str) -> anyhow::Result<Process> {
        let dispatcher = self
            .dispatchers
            .remove(name)
            .with_context(|| format!("{name} does not run"))?;
        self.ended_cpu_us += dispatcher.process.cpu_us();
        Ok(dispatcher.process)
    }

    /// The running dispatch of that name.
    pub(crate) fn process(&self, name: &str) -> anyhow::Result<&Process> {
        let dispatcher = self.dispatchers.get(name);
        Ok(&dispatcher
            .with_context(|| format!("{name} does not run"))?
            .process)
    }

    /// Ends every dispatch in order; gives the longest time one took.
    pub(crate) async fn stop_fleet(&mut self) -> anyhow::Result<Duration> {
        let mut longest = Duration::ZERO;
        for name in self.fleet() {
            longest = longest.max(self.take(&name)?.terminate().await?);
        }
        Ok(longest)
    }

    /// Copies what the processes logged to where it outlives this world.
    pub(crate) fn keep_logs(&self, scenario: &str) -> anyhow::Result<PathBuf> {
        crate::processes::keep_logs(self.dir.path(), scenario)
    }

    /// Kills every process under test, also those that have died already.
    pub(crate) fn kill_fleet(&mut self) {
        self.ended_cpu_us = self.cpu_us();
        // A process that is dropped is killed.
        self.others.clear();
        self.dispatchers.clear();
    }

    /// Fails when a process died by itself.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.simulator.is_alive(), "the simulator died");
        let fleet = self.dispatchers.iter_mut();
        let fleet = fleet.map(|(name, dispatcher)| (name, &mut dispatcher.process));
        for (name, process) in fleet.chain(&mut self.others) {
            anyhow::ensure!(
                process.is_alive(),
                "{name} died; its last words: {}",
                last_lines(&self.dir.path().join(format!("{name}.log")))
            );
        }
        Ok(())
    }

    /// Processor time of all dispatch processes so far, ended ones included, microseconds.
    pub(crate) fn cpu_us(&self) -> u64 {
        let running: u64 = self.dispatchers.values().map(|d| d.process.cpu_us()).sum();
        self.ended_cpu_us + running
    }

    async fn wait_for(&mut self, url: &str) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + START;
        let mut look = tokio::time::interval(Duration::from_millis(50));
        loop {
            look.tick().await;
            self.check_alive()?;
            if let Ok(answer) = self.client.get(url).send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            anyhow::ensure!(
                tokio::time::Instant::now() < deadline,
                "{url} does not answer"
            );
        }
    }

    /// Makes the simulator forget what it has seen.
    pub(crate) async fn forget(&self) -> anyhow::Result<()> {
        let url = format!("{}/_sim/reset", self.simulator_url);
        self.client.post(url).send().await?.error_for_status()?;
        Ok(())
    }

    /// Sets the simulator's fault plan from the next request on.
    pub(crate) async fn plan(&self, plan: &Value) -> anyhow::Result<()> {
        let url = format!("{}/_sim/faults", self.simulator_url);
        let answer = self.client.put(url).json(plan).send().await?;
        let status = answer.status();
        anyhow::ensure!(status.is_success(), "faults: {}", answer.text().await?);
        Ok(())
    }

    /// One of the simulator's running totals: `requests`, `accepted`, `errors` or `unanswered`.
    pub(crate) async fn count(&self, what: &str) -> anyhow::Result<u64> {
        let url = format!("{}/_sim/counts", self.simulator_url);
        let counts: Value = self.client.get(url).send().await?.json().await?;
        counts.get(what).and_then(Value::as_u64).context("no count")
    }

    /// How many of the last `last` requests came from which worker.
    pub(crate) async fn recent(&self, last: u64) -> anyhow::Result<BTreeMap<String, usize>> {
        let from = self.count("requests").await?.saturating_sub(last);
        let url = format!(
            "{}/_sim/requests?from={from}&limit={last}",
            self.simulator_url
        );
        let answer = self.client.get(url).send().await?.error_for_status()?;
        let mut workers = BTreeMap::new();
        for line in answer.text().await?.lines() {
            let request: Value = serde_json::from_str(line)?;
            let worker = request.get("worker").and_then(Value::as_str);
            *workers
                .entry(worker.unwrap_or_default().to_owned())
                .or_default() += 1;
        }
        Ok(workers)
    }

    /// Everything the simulator read of a run.
    pub(crate) async fn log(&self, run: &str) -> anyhow::Result<Log> {
        let mut log = Log::default();
        let mut from = 0;
        loop {
            let url = format!(
                "{}/_sim/requests?from={from}&limit={PAGE}",
                self.simulator_url
            );
            let answer = self.client.get(url).send().await?.error_for_status()?;
            let lines = log.add(run, &answer.text().await?)?;
            from += lines;
            if lines < PAGE {
                return Ok(log);
            }
        }
    }

    /// Kills or restarts one broker, numbered from 1: `kill-broker`, `restart-broker`; `start` brings
    /// all back.
    pub(crate) fn broker(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(self.scripts.join("kafka"))
            .args(arguments)
            .arg("--dir")
            .arg(self.dir.path().join("kafka"))
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "scripts/kafka {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Bytes that dispatch was given by Kafka through the proxies.
    pub(crate) fn bytes_from_kafka(&self) -> u64 {
        self.kafka_lines
            .iter()
            .map(FaultProxy::bytes_to_clients)
            .sum()
    }

    /// Ends everything.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop_fleet().await.map(drop)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = self.broker(&["stop"]) {
            eprintln!("Kafka was not stopped: {error:#}");
        }
    }
}

/// What `scripts/kafka` said of the cluster it started.
struct StartedKafka {
    bootstrap: String,
    proxied: Vec<(u16, u16)>,
}

impl StartedKafka {
    fn start(scripts: &Path, dir: &Path, brokers: usize) -> anyhow::Result<Self> {
        let output = Command::new(scripts.join("kafka"))
            .args(["start", "--json", "--proxied", "--brokers"])
            .arg(brokers.to_string())
            .arg("--dir")
            .arg(dir)
            .output()
            .context("scripts/kafka")?;
        anyhow::ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        let bootstrap = answer.get("bootstrap").and_then(Value::as_str);
        let pairs = answer.get("proxied").and_then(Value::as_array);
        let port = |pair: &Value, side: &str| {
            let port = pair.get(side).and_then(Value::as_u64);
            port.and_then(|port| u16::try_from(port).ok())
        };
        let proxied = pairs
            .into_iter()
            .flatten()
            .filter_map(|pair| Some((port(pair, "listen")?, port(pair, "target")?)))
            .collect();
        Ok(Self {
            bootstrap: bootstrap
                .context("scripts/kafka names no bootstrap")?
                .to_owned(),
            proxied,
        })
    }

    fn lines(&self) -> anyhow::Result<Vec<FaultProxy>> {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        self.proxied
            .iter()
            .map(|(listen, target)| Ok(FaultProxy::bind(local(*listen), local(*target))?))
            .collect()
    }
}
