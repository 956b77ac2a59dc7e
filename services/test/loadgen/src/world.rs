//! Kafka, simulator and services as separate processes, and where they are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_stream::kafka::{KafkaCluster, Settings};
use bongsu_stream::port::Cluster;
use tempfile::TempDir;

use crate::processes::Process;

/// Partitions of every topic.
pub(crate) const PARTITIONS: i32 = 8;

/// Everything that runs.
pub(crate) struct World {
    bongsu: PathBuf,
    scripts: PathBuf,
    dir: TempDir,
    pub(crate) bootstrap: String,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) gateway_port: u16,
    pub(crate) simulator: String,
    pub(crate) services: BTreeMap<String, Process>,
    pub(crate) client: reqwest::Client,
    next_dispatch: usize,
}

impl World {
    /// Starts Kafka, makes the topics, starts the simulator. No service runs yet.
    pub(crate) async fn start(bongsu: PathBuf, scripts: PathBuf) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("bongsu-drill").tempdir()?;
        let bootstrap = start_kafka(&scripts, &dir.path().join("kafka"))?;
        let cluster = KafkaCluster::connect(Settings {
            bootstrap_servers: bootstrap.clone(),
            ..Settings::default()
        })?;
        let ports = [free_port()?, free_port()?];
        let mut world = Self {
            bongsu,
            scripts,
            dir,
            bootstrap,
            cluster,
            gateway_port: ports[0],
            simulator: format!("http://127.0.0.1:{}", ports[1]),
            services: BTreeMap::new(),
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(60))
                .build()?,
            next_dispatch: 0,
        };
        world.write_settings()?;
        world.bongsu(&["topics", "apply"])?;
        let port = ports[1].to_string();
        let arguments = ["simulate", "webhook", "--port", &port].map(str::to_owned);
        let logs = world.dir.path().to_owned();
        let simulator = Process::start("simulator", &world.bongsu, &arguments, &logs)?;
        world.services.insert("simulator".to_owned(), simulator);
        let healthz = format!("{}/healthz", world.simulator);
        world.wait_for(&healthz).await?;
        Ok(world)
    }

    fn write_settings(&self) -> anyhow::Result<()> {
        let text = format!(
            "[kafka]\nbootstrap_servers = \"{}\"\n\
             [topics]\npartitions = {PARTITIONS}\nreplication = 1\nmin_insync_replicas = 1\n\
             [gateway]\nlisten = \"127.0.0.1:{}\"\nallow_anonymous = true\nallow_private = true\n\
             [store]\nurl = \"sqlite:{}?mode=rwc\"\n\
             [channels.webhook.accounts.default]\nallow_private = true\n\
             [process]\nlog = \"info\"\n",
            self.bootstrap,
            self.gateway_port,
            self.dir.path().join("ledger.db").display(),
        );
        Ok(std::fs::write(self.dir.path().join("bongsu.toml"), text)?)
    }

    /// Runs a short command of `bongsu` and gives what it printed.
    pub(crate) fn bongsu(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(&self.bongsu)
            .arg("--config")
            .arg(self.dir.path().join("bongsu.toml"))
            .args(arguments)
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "bongsu {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts gateway, fanout, ledger and one dispatch, and waits until all are ready.
    pub(crate) async fn start_services(&mut self) -> anyhow::Result<()> {
        for service in ["gateway", "fanout", "ledger"] {
            self.start_service(service)?;
        }
        let first = self.start_dispatch()?;
        println!("started gateway, fanout, ledger and {first}");
        let ready = format!("http://127.0.0.1:{}/readyz", self.gateway_port);
        self.wait_for(&ready).await
    }

    /// Starts one service by its name.
    pub(crate) fn start_service(&mut self, service: &str) -> anyhow::Result<()> {
        let arguments = self.run_arguments(service, service);
        let process = Process::start(service, &self.bongsu, &arguments, self.dir.path())?;
        self.services.insert(service.to_owned(), process);
        Ok(())
    }

    /// Starts one more dispatch process; gives its name, which is its worker id too.
    pub(crate) fn start_dispatch(&mut self) -> anyhow::Result<String> {
        let name = format!("dispatch-{}", self.next_dispatch);
        self.next_dispatch += 1;
        let mut arguments = self.run_arguments("dispatch", &name);
        arguments.extend(["--channel".to_owned(), "webhook".to_owned()]);
        let process = Process::start(&name, &self.bongsu, &arguments, self.dir.path())?;
        self.services.insert(name.clone(), process);
        Ok(name)
    }

    fn run_arguments(&self, service: &str, worker: &str) -> Vec<String> {
        // The worker id is the process's name, so that the audit can tell workers apart.
        let config = self.dir.path().join(format!("{worker}.toml"));
        let base = std::fs::read_to_string(self.dir.path().join("bongsu.toml")).unwrap_or_default();
        let text = format!("{base}worker_id = \"{worker}\"\n");
        if let Err(error) = std::fs::write(&config, text) {
            eprintln!("{}: {error}", config.display());
        }
        ["--config", &config.display().to_string(), "run", service]
            .map(str::to_owned)
            .to_vec()
    }

    /// Names of the running dispatch processes.
    pub(crate) fn dispatchers(&self) -> Vec<String> {
        self.services
            .keys()
            .filter(|n| n.starts_with("dispatch-"))
            .cloned()
            .collect()
    }

    /// Takes a process out, to end or kill it.
    pub(crate) fn take(&mut self, name: &str) -> anyhow::Result<Process> {
        self.services
            .remove(name)
            .with_context(|| format!("{name} does not run"))
    }

    /// Copies what the processes logged to where it outlives this world.
    pub(crate) fn keep_logs(&self, scenario: &str) -> anyhow::Result<PathBuf> {
        crate::processes::keep_logs(self.dir.path(), scenario)
    }

    /// Fails when a service died by itself.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        for (name, process) in &mut self.services {
            anyhow::ensure!(
                process.is_alive(),
                "{name} died; its last words: {}",
                last_lines(&self.dir.path().join(format!("{name}.log")))
            );
        }
        Ok(())
    }

    /// CPU time of every process so far, microseconds.
    pub(crate) fn cpu(&self) -> BTreeMap<String, u64> {
        self.services
            .iter()
            .map(|(name, p)| (name.clone(), p.cpu_us()))
            .collect()
    }

    async fn wait_for(&mut self, url: &str) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
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

    /// Sets the simulator's fault plan and forgets what it has seen.
    pub(crate) async fn simulator_plan(&self, plan: &serde_json::Value) -> anyhow::Result<()> {
        let reset = self
            .client
            .post(format!("{}/_sim/reset", self.simulator))
            .send()
            .await?;
        anyhow::ensure!(reset.status().is_success(), "reset: {}", reset.status());
        let faults = self
            .client
            .put(format!("{}/_sim/faults", self.simulator))
            .json(plan)
            .send()
            .await?;
        anyhow::ensure!(
            faults.status().is_success(),
            "faults: {}",
            faults.text().await?
        );
        Ok(())
    }

    /// Ends everything, services first.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for (name, process) in std::mem::take(&mut self.services) {
            if let Err(error) = process.terminate().await {
                eprintln!("{name}: {error:#}");
            }
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let dir = self.dir.path().join("kafka");
        let stopped = Command::new(self.scripts.join("kafka"))
            .arg("stop")
            .arg("--dir")
            .arg(&dir)
            .output();
        if let Err(error) = stopped {
            eprintln!("Kafka in {} was not stopped: {error}", dir.display());
        }
    }
}

/// The last lines of a log.
pub(crate) fn last_lines(path: &std::path::Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(5))
        .copied()
        .collect::<Vec<_>>()
        .join("\n")
}

pub(crate) fn start_kafka(
    scripts: &std::path::Path,
    dir: &std::path::Path,
) -> anyhow::Result<String> {
    let output = Command::new(scripts.join("kafka"))
        .args(["start", "--json", "--dir"])
        .arg(dir)
        .output()
        .context("scripts/kafka")?;
    anyhow::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let bootstrap = answer.get("bootstrap").and_then(serde_json::Value::as_str);
    Ok(bootstrap
        .context("scripts/kafka names no bootstrap")?
        .to_owned())
}

/// A port that is free at this moment.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}
