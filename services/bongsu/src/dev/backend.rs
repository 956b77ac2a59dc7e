//! Which log `bongsu dev` runs on: the given brokers, real Kafka started here, or the local log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bongsu_runtime::Clock;
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::Cluster;
use tokio::process::Command;

use crate::compose::connect;
use crate::config::Config;
use crate::dev::DevArgs;
use crate::output::complain;

/// The chosen log.
pub(crate) enum Backend {
    /// Brokers that were given.
    Given(String),
    /// Kafka that was started here and is stopped at the end.
    Started {
        script: PathBuf,
        dir: PathBuf,
        keep: bool,
        bootstrap: String,
    },
    /// Memory, and why.
    Local(String),
}

impl Backend {
    /// Chooses, and starts Kafka where it can be had.
    pub(crate) async fn choose(
        bootstrap: Option<String>,
        args: &DevArgs,
        config: &Config,
    ) -> anyhow::Result<Self> {
        if args.local {
            return Ok(Self::Local("as asked".to_owned()));
        }
        if let Some(bootstrap) = bootstrap {
            return Ok(Self::Given(bootstrap));
        }
        if config.kafka.bootstrap_servers != Config::default().kafka.bootstrap_servers {
            return Ok(Self::Given(config.kafka.bootstrap_servers.clone()));
        }
        match start(args.data.as_deref()).await {
            Ok(started) => Ok(started),
            Err(error) if args.kafka => Err(error),
            Err(error) => Ok(Self::Local(format!(
                "because Kafka cannot be started here: {error:#}"
            ))),
        }
    }

    /// One line that says which log this is.
    pub(crate) fn announcement(&self) -> String {
        match self {
            Self::Given(bootstrap) => format!("log: Kafka at {bootstrap}, as given"),
            Self::Started {
                bootstrap, keep, ..
            } => format!(
                "log: real Kafka, started here at {bootstrap}{}",
                if *keep {
                    ", data kept"
                } else {
                    ", gone at the end"
                }
            ),
            Self::Local(why) => {
                format!("log: LOCAL, in memory and in this process only ({why})")
            }
        }
    }

    /// Connects.
    pub(crate) fn cluster(&self, config: &Config) -> anyhow::Result<Arc<dyn Cluster>> {
        match self {
            Self::Given(bootstrap) | Self::Started { bootstrap, .. } => {
                let mut config = config.clone();
                config.kafka.bootstrap_servers.clone_from(bootstrap);
                connect(&config)
            }
            Self::Local(_) => Ok(Arc::new(LocalCluster::new(Clock::system()))),
        }
    }

    /// Stops what was started.
    pub(crate) async fn stop(self) {
        let Self::Started {
            script, dir, keep, ..
        } = self
        else {
            return;
        };
        let mut command = Command::new(&script);
        command.arg("stop").arg("--dir").arg(&dir);
        if keep {
            command.arg("--keep");
        }
        match command.output().await {
            Ok(output) if output.status.success() => {}
            Ok(output) => complain(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => complain(&format!(
                "Kafka in {} was not stopped: {error}",
                dir.display()
            )),
        }
    }
}

async fn start(data: Option<&Path>) -> anyhow::Result<Backend> {
    let script = find_script()?;
    let keep = data.is_some();
    let dir = match data {
        Some(dir) => dir.join("kafka"),
        None => std::env::temp_dir().join(format!("bongsu-dev-{}", std::process::id())),
    };
    complain("starting Kafka (the first time its artifacts are fetched) ...");
    let output = Command::new(&script)
        .args(["start", "--json", "--dir"])
        .arg(&dir)
        .output()
        .await
        .with_context(|| script.display().to_string())?;
    if !output.status.success() {
        anyhow::bail!(
            "{}",
            String::from_utf8_lossy(&output.stderr).trim().to_owned()
        );
    }
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{} start --json", script.display()))?;
    let bootstrap = answer
        .get("bootstrap")
        .and_then(serde_json::Value::as_str)
        .context("scripts/kafka names no bootstrap")?
        .to_owned();
    Ok(Backend::Started {
        script,
        dir,
        keep,
        bootstrap,
    })
}

/// `scripts/kafka` of the checkout: where `scripts/dev` says, under the current directory, or beside
/// the build directory.
fn find_script() -> anyhow::Result<PathBuf> {
    let mut places = Vec::new();
    if let Some(dir) = std::env::var_os("BONGSU_SCRIPTS") {
        places.push(PathBuf::from(dir).join("kafka"));
    }
    places.push(PathBuf::from("scripts/kafka"));
    if let Ok(exe) = std::env::current_exe() {
        places.extend(
            exe.ancestors()
                .skip(2)
                .take(2)
                .map(|dir| dir.join("scripts/kafka")),
        );
    }
    places.into_iter().find(|path| path.exists()).context(
        "scripts/kafka is not there; run it from the checkout, or name brokers with --bootstrap",
    )
}
