//! The twin as a process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bongsu_channels::ApnsSettings;
use bongsu_channels::apns::config::Account;
use bongsu_runtime::Secret;
use serde_json::Value;

use super::{Job, Row, Run, TOPIC};
use crate::processes::Process;

/// Its ids, as it makes them.
pub(super) const KEY_ID: &str = "TWINKEY001";
pub(super) const TEAM_ID: &str = "TWINTEAM01";

pub(super) struct Twin {
    process: Process,
    port: u16,
    pub(super) dir: PathBuf,
    client: reqwest::Client,
}

/// What it had used before a run.
pub(super) struct Before {
    cpu_us: u64,
    connections: u64,
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
        self.number("_sim/counts", "accepted").await
    }

    /// Forgets what it has seen.
    pub(super) async fn begin(&self) -> anyhow::Result<Before> {
        let url = format!("http://127.0.0.1:{}/_sim/reset", self.port);
        self.client.post(url).send().await?.error_for_status()?;
        Ok(Before {
            cpu_us: self.process.cpu_us(),
            connections: self.number("_sim/apns", "connections_total").await?,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    pub(super) async fn judge(
        &self,
        before: Before,
        system: &'static str,
        job: &Job<'_>,
        run: Run,
        note: &'static str,
    ) -> anyhow::Result<Row> {
        let twin_cpu_us = self.process.cpu_us() - before.cpu_us;
        let connections = self.number("_sim/apns", "connections_total").await?;
        let pushes = f64::from(job.pushes);
        let counted = self.accepted().await?;
        let millis = |d: Duration| d.as_secs_f64() * 1_000.0;
        Ok(Row {
            story: "apns",
            system,
            in_flight: job.in_flight,
            pushes: job.pushes,
            accepted: run.accepted,
            seconds: run.seconds,
            per_second: pushes / run.seconds,
            client_cpu_us_per_push: run.cpu_us as f64 / pushes,
            twin_cpu_us_per_push: twin_cpu_us as f64 / pushes,
            p50_ms: millis(run.p50),
            p99_ms: millis(run.p99),
            connections: connections - before.connections,
            // One more where a client tries the token first.
            kept: run.accepted >= u64::from(job.pushes)
                && (u64::from(job.pushes)..=u64::from(job.pushes) + 1).contains(&counted),
            note,
        })
    }
}
