//! The twin as a process.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bongsu_channels::ApnsSettings;
use bongsu_channels::apns::config::Account;
use bongsu_runtime::Secret;
use serde_json::Value;

use super::TOPIC;
use crate::processes::Process;

/// Its ids, as it makes them.
pub(super) const KEY_ID: &str = "TWINKEY001";
pub(super) const TEAM_ID: &str = "TWINTEAM01";
/// Requests of one page of its log.
const PAGE: usize = 100_000;

pub(super) struct Twin {
    process: Process,
    port: u16,
    pub(super) dir: PathBuf,
    client: reqwest::Client,
    most_open: Cell<u64>,
}

/// What it has used: CPU time, and connections.
pub(super) struct Usage {
    pub(super) cpu_us: u64,
    pub(super) connections: u64,
}

impl Twin {
    pub(super) async fn start(bongsu: &Path, dir: &Path) -> anyhow::Result<Self> {
        let port = crate::world::free_port()?;
        let credentials = dir.join("credentials");
        let port_text = port.to_string();
        let place = credentials.display().to_string();
        let arguments = [
            "simulate",
            "apns",
            "--port",
            &port_text,
            "--credentials",
            &place,
        ];
        let arguments = arguments.map(str::to_owned);
        let mut twin = Self {
            process: Process::start("twin", bongsu, &arguments, dir)?,
            port,
            dir: credentials,
            client: reqwest::Client::new(),
            most_open: Cell::new(0),
        };
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while twin.get("healthz").await.is_err() {
            anyhow::ensure!(twin.process.is_alive(), "the twin died");
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "the twin is silent");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(twin)
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.process.terminate().await.map(drop)
    }

    pub(super) fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    pub(super) fn settings(&self, streams: usize) -> anyhow::Result<ApnsSettings> {
        let mut settings = ApnsSettings::default();
        settings.connection.ca_file = Some(self.dir.join("ca.pem"));
        let account = Account {
            endpoint: self.endpoint(),
            topic: TOPIC.to_owned(),
            key: Secret::new(std::fs::read_to_string(self.dir.join("AuthKey.p8"))?),
            key_id: KEY_ID.to_owned(),
            team_id: TEAM_ID.to_owned(),
            // More connections give streams, not speed.
            connections: 1,
            streams,
            ..Account::default()
        };
        settings.accounts.insert("default".to_owned(), account);
        Ok(settings)
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        let answer = self.client.get(url).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    async fn number(&self, path: &str, field: &str) -> anyhow::Result<u64> {
        let value: Value = serde_json::from_str(&self.get(path).await?)?;
        Ok(value.get(field).and_then(Value::as_u64).unwrap_or(0))
    }

    /// Pushes accepted since the last [`Twin::begin`].
    pub(super) async fn accepted(&self) -> anyhow::Result<u64> {
        let counts: Value = serde_json::from_str(&self.get("_sim/counts").await?)?;
        let count = |field: &str| counts.get(field).and_then(Value::as_u64).unwrap_or(0);
        let open = self.most_open.get().max(count("unanswered"));
        self.most_open.set(open);
        Ok(count("accepted"))
    }

    /// The most pushes that were read and not answered at a look at what is accepted.
    pub(super) fn most_open(&self) -> u64 {
        self.most_open.get()
    }

    /// Forgets what it has seen.
    pub(super) async fn begin(&self) -> anyhow::Result<Usage> {
        let url = format!("http://127.0.0.1:{}/_sim/reset", self.port);
        self.client.post(url).send().await?.error_for_status()?;
        Ok(Usage {
            cpu_us: self.process.cpu_us(),
            connections: self.number("_sim/apns", "connections_total").await?,
        })
    }

    /// What it has used since, and the connections made.
    pub(super) async fn after(&self, before: &Usage) -> anyhow::Result<Usage> {
        let connections = self.number("_sim/apns", "connections_total").await?;
        Ok(Usage {
            cpu_us: self.process.cpu_us() - before.cpu_us,
            connections: connections - before.connections,
        })
    }

    /// What it does beside the general faults.
    pub(super) async fn plan(&self, plan: &Value) -> anyhow::Result<()> {
        self.put("_sim/apns/plan", plan).await
    }

    /// The general faults.
    pub(super) async fn faults(&self, faults: &Value) -> anyhow::Result<()> {
        self.put("_sim/faults", faults).await
    }

    async fn put(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        let answer = self.client.put(url).body(body.to_string()).send().await?;
        let status = answer.status();
        anyhow::ensure!(status.is_success(), "{path}: {}", answer.text().await?);
        Ok(())
    }

    /// Counters of its connections.
    pub(super) async fn stats(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.get("_sim/apns").await?)?)
    }

    /// Everything it has read, a line of JSON each, in the order of reading.
    pub(super) async fn log(&self, mut each: impl FnMut(&str)) -> anyhow::Result<()> {
        let mut read = 0;
        loop {
            let page = format!("_sim/requests?from={read}&limit={PAGE}");
            let text = self.get(&page).await?;
            let lines = text.lines().inspect(|line| each(line)).count();
            read += lines;
            if lines < PAGE {
                return Ok(());
            }
        }
    }
}
