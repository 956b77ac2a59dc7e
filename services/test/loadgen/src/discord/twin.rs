//! The twin as a process.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::world::World;
use crate::processes::Process;

/// Requests of one page of the twin's log.
const PAGE: usize = 100_000;

/// The running twin.
pub(super) struct Twin {
    process: Process,
    port: u16,
    client: reqwest::Client,
}

/// A request as the twin noted it.
#[derive(Debug, Deserialize)]
pub(super) struct Seen {
    pub(super) read_us: u64,
    pub(super) status: Option<u16>,
    pub(super) seq: Option<i64>,
    pub(super) worker: String,
}

impl Twin {
    /// Starts it with all of Discord's limits, that of one address being `per_second`.
    pub(super) async fn start(bongsu: &Path, dir: &Path, per_second: u32) -> anyhow::Result<Self> {
        let port = crate::world::free_port()?;
        let arguments = ["simulate", "discord", "--port", &port.to_string()].map(str::to_owned);
        let mut twin = Self {
            process: Process::start("twin", bongsu, &arguments, dir)?,
            port,
            client: reqwest::Client::new(),
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while twin.get("healthz").await.is_err() {
            anyhow::ensure!(twin.process.is_alive(), "the twin died");
            anyhow::ensure!(Instant::now() < deadline, "the twin is silent");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        twin.put("_sim/plan", &json!({"limits": {"global": per_second}}))
            .await?;
        Ok(twin)
    }

    pub(super) fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Deletes webhooks.
    pub(super) async fn delete(&self, ids: &[String]) -> anyhow::Result<()> {
        self.put("_sim/faults", &json!({"deleted": ids})).await
    }

    /// Waits until so many requests were answered, whatever the answer.
    pub(super) async fn wait(
        &self,
        wanted: u64,
        deadline: Instant,
        world: &mut World,
    ) -> anyhow::Result<()> {
        loop {
            let counts: Value = serde_json::from_str(&self.get("_sim/counts").await?)?;
            let count = |name: &str| counts.get(name).and_then(Value::as_u64).unwrap_or(0);
            if count("accepted") + count("errors") >= wanted {
                return Ok(());
            }
            world.check_alive()?;
            // What is missing then is counted as lost.
            if Instant::now() > deadline {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(super) async fn seen(&self) -> anyhow::Result<Vec<Seen>> {
        let mut all = Vec::new();
        loop {
            let page = format!("_sim/requests?from={}&limit={PAGE}", all.len());
            let text = self.get(&page).await?;
            let before = all.len();
            for line in text.lines() {
                all.push(serde_json::from_str(line)?);
            }
            if all.len() - before < PAGE {
                return Ok(all);
            }
        }
    }

    pub(super) async fn report(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(
            &self.get("_sim/report?windows=1000").await?,
        )?)
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.process.terminate().await.map(drop)
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let url = format!("{}/{path}", self.base());
        let answer = self.client.get(url).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    async fn put(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let url = format!("{}/{path}", self.base());
        let request = self.client.put(url).body(body.to_string());
        request.send().await?.error_for_status()?;
        Ok(())
    }
}
