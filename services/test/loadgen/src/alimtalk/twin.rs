//! The dealer's twin as a process.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{SECRET, TROUBLE};
use crate::processes::Process;

pub(super) struct Twin {
    process: Process,
    url: String,
    client: reqwest::Client,
}

/// What the dealer counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) taken: u64,
    pub(super) over_limit: u64,
    pub(super) reports: u64,
    pub(super) posted: u64,
    pub(super) acknowledged: u64,
    pub(super) waiting: u64,
}

/// What the twin has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) most_in_a_second: u64,
    pub(super) first_read_us: u64,
    pub(super) last_read_us: u64,
}

impl Twin {
    /// Starts it with a limit of `tps` recipients in every sliding second, posting its reports to
    /// `reports`.
    pub(super) async fn start(
        bongsu: &Path,
        dir: &Path,
        tps: u32,
        reports: &str,
    ) -> anyhow::Result<Self> {
        let port = crate::world::free_port()?;
        let words = ["simulate", "alimtalk", "--port", &port.to_string()].map(str::to_owned);
        let twin = Self {
            process: Process::start("twin", bongsu, &words, dir)?,
            url: format!("http://127.0.0.1:{port}"),
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(60))
                .build()?,
        };
        twin.wait_for(&format!("{}/healthz", twin.url)).await?;
        let plan = json!({
            "recipients_per_second": tps,
            "templates": {"free": "#{text}"},
            "reports": {
                "mode": "webhook", "url": reports, "secret": SECRET, "delay_ms": 100,
                "late_ratio": TROUBLE, "late_ms": 5_000, "double_ratio": TROUBLE,
                "reorder_ratio": TROUBLE, "reorder_ms": 1_000, "retry_ms": 1_000, "seed": 7,
            },
        });
        let url = format!("{}/_sim/plan", twin.url);
        let answer = twin.client.put(url).json(&plan).send().await?;
        anyhow::ensure!(
            answer.status().is_success(),
            "the twin's plan: {}",
            answer.text().await?
        );
        Ok(twin)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn cpu_us(&self) -> u64 {
        self.process.cpu_us()
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.process.terminate().await.map(drop)
    }

    /// Waits until something answers with success.
    pub(super) async fn wait_for(&self, url: &str) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let mut look = tokio::time::interval(Duration::from_millis(50));
        loop {
            look.tick().await;
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

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}/_sim/{path}", self.url);
        let answer = self.client.get(url).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    pub(super) async fn counted(&self) -> anyhow::Result<Counted> {
        let counts = self.get("dealer").await?;
        let number = |name: &str| counts.get(name).and_then(Value::as_u64).unwrap_or(0);
        Ok(Counted {
            taken: number("taken"),
            over_limit: number("over_limit"),
            reports: number("reports"),
            posted: number("posted"),
            acknowledged: number("acknowledged"),
            waiting: number("waiting"),
        })
    }

    pub(super) async fn report(&self) -> anyhow::Result<Seen> {
        let report = self.get("report").await?;
        let number = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or(0);
        Ok(Seen {
            accepted: number("accepted"),
            duplicates: number("duplicates"),
            most_in_a_second: report
                .pointer("/max_in_window/1000")
                .and_then(Value::as_u64)
                .unwrap_or(u64::MAX),
            first_read_us: number("first_read_us"),
            last_read_us: number("last_read_us"),
        })
    }
}
