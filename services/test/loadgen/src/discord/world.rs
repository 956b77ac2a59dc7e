//! Kafka, and the dispatch processes behind one public IP address.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::load::PARTITIONS;
use super::twin::Twin;
use crate::Arguments;
use crate::apns::pipeline::Kafka;
use crate::processes::{Process, memory};

/// What is around the twin.
pub(super) struct World {
    kafka: Kafka,
    bongsu: PathBuf,
    dir: PathBuf,
    settings: String,
    dispatchers: Vec<(Process, u16)>,
}

/// What the dispatch processes used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    pub(super) cpu_us: u64,
    /// Of the largest, KiB.
    pub(super) peak_kib: u64,
}

impl World {
    pub(super) fn start(
        arguments: &Arguments,
        dir: &Path,
        twin: &Twin,
        per_second: u32,
    ) -> anyhow::Result<Self> {
        let kafka = Kafka::start(&arguments.scripts, dir)?;
        let settings = settings(&kafka.bootstrap, &twin.base(), per_second);
        let config = dir.join("bongsu.toml");
        std::fs::write(&config, &settings)?;
        let config = config.display().to_string();
        let applied = Command::new(&arguments.bongsu)
            .args(["--config", &config, "topics", "apply"])
            .output()?;
        anyhow::ensure!(
            applied.status.success(),
            "topics apply: {}",
            String::from_utf8_lossy(&applied.stderr)
        );
        Ok(Self {
            kafka,
            bongsu: arguments.bongsu.clone(),
            dir: dir.to_owned(),
            settings,
            dispatchers: Vec::new(),
        })
    }

    pub(super) fn bootstrap(&self) -> &str {
        &self.kafka.bootstrap
    }

    /// One more worker of the same address.
    pub(super) fn start_dispatch(&mut self) -> anyhow::Result<()> {
        let port = crate::world::free_port()?;
        let name = format!("dispatch-{}", self.dispatchers.len());
        let config = self.dir.join(format!("{name}.toml"));
        let text = format!(
            "{}[process]\nworker_id = \"{name}\"\nops_listen = \"127.0.0.1:{port}\"\n",
            self.settings
        );
        std::fs::write(&config, text)?;
        let config = config.display().to_string();
        let run = [
            "--config",
            &config,
            "run",
            "dispatch",
            "--channel",
            "discord",
        ];
        let process = Process::start(&name, &self.bongsu, &run.map(str::to_owned), &self.dir)?;
        self.dispatchers.push((process, port));
        Ok(())
    }

    /// Waits until every worker has its partitions.
    pub(super) async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let client = reqwest::Client::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        for (_, port) in &self.dispatchers {
            let url = format!("http://127.0.0.1:{port}/readyz");
            loop {
                let answer = client.get(&url).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                anyhow::ensure!(Instant::now() < deadline, "dispatch is not ready");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        for (process, _) in &mut self.dispatchers {
            let log = self.dir.join(format!("{}.log", process.name));
            anyhow::ensure!(
                process.is_alive(),
                "{} died: {}",
                process.name,
                crate::world::last_lines(&log)
            );
        }
        Ok(())
    }

    pub(super) fn used(&self) -> Used {
        let peaks = self.dispatchers.iter().filter_map(|(p, _)| memory(p.pid()));
        Used {
            cpu_us: self.dispatchers.iter().map(|(p, _)| p.cpu_us()).sum(),
            peak_kib: peaks.map(|m| m.peak_kib).max().unwrap_or(0),
        }
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        for (process, _) in self.dispatchers {
            process.terminate().await.context("dispatch")?;
        }
        Ok(())
    }
}

fn settings(bootstrap: &str, base: &str, per_second: u32) -> String {
    format!(
        "[kafka]\nbootstrap_servers = \"{bootstrap}\"\n\
         [topics]\nchannels = [\"discord\"]\npartitions = {PARTITIONS}\nreplication = 1\n\
         min_insync_replicas = 1\n\
         [channels.discord.egress]\nper_second = {per_second}\n\
         [channels.discord.accounts.default]\napi_base = \"{base}\"\n"
    )
}
