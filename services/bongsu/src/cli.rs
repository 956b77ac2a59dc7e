//! The command line.

use std::path::PathBuf;
use std::sync::Arc;

use bongsu_domain::Channel;
use bongsu_runtime::settings::SettingsError;
use bongsu_schemas::{Codec, Topics};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::{self, Config, Service};
use crate::dev::DevArgs;
use crate::error::Usage;
use crate::fcm::FcmCommand;
use crate::output::say;
use crate::publish::PublishArgs;
use crate::simulate::SimulateArgs;
use crate::stops::{StartArgs, StopArgs, StopsArgs};
use crate::suppressions::SuppressionsCommand;
use crate::watch::WatchArgs;
use crate::{
    compose, dev, fcm, lag, metrics_reference, publish, registry, run, simulate, stops,
    suppressions, topics, watch,
};

/// Kafka-native notification delivery: order per sender, no loss, a stated bound on duplicates.
#[derive(Debug, Parser)]
#[command(name = "bongsu", version, about)]
pub(crate) struct CommandLine {
    /// Settings file (TOML); the environment (`BONGSU__SECTION__KEY`) comes on top.
    #[arg(long, short, global = true, env = "BONGSU_CONFIG")]
    config: Option<PathBuf>,
    /// Kafka's `host:port`; overrides `kafka.bootstrap_servers`.
    #[arg(long, short, global = true, env = "BONGSU_BOOTSTRAP")]
    bootstrap: Option<String>,
    /// Results as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole pipeline on this machine, with simulators.
    Dev(DevArgs),
    /// Run services against Kafka.
    Run {
        /// Which services.
        #[arg(required = true)]
        services: Vec<Service>,
        /// Channels of `dispatch`; every one without it.
        #[arg(long, value_delimiter = ',')]
        channel: Vec<String>,
    },
    /// Topics of the installation.
    Topics {
        #[command(subcommand)]
        action: TopicsAction,
    },
    /// Publish events.
    Publish(PublishArgs),
    /// Watch receipts.
    Watch(WatchArgs),
    /// Hold the deliveries of a channel, account, sender or campaign back.
    ///
    /// They wait and are not dropped; their deadlines go on. Takes effect within two seconds.
    Stop(StopArgs),
    /// Let stopped deliveries go on.
    Start(StartArgs),
    /// List what is stopped.
    Stops(StopsArgs),
    /// What is not sent to: list, add, remove, and take back what was retired by mistake.
    #[command(subcommand)]
    Suppressions(SuppressionsCommand),
    /// What FCM keeps beside deliveries: subscriptions to topics.
    #[command(subcommand)]
    Fcm(FcmCommand),
    /// What waits, per consumer group.
    ///
    /// For `dispatch`, one per partition may be the marker of a transaction, which waits for nothing.
    Lag,
    /// Settings.
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Run the providers' simulators.
    Simulate(SimulateArgs),
    /// Print a completion script.
    Completion {
        /// For this shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum TopicsAction {
    /// Show what `apply` would change.
    Plan,
    /// Create topics and set the settings Bongsu owns; leaves all others alone.
    Apply,
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Check the settings for these services (all without any) and report every fault.
    Check {
        /// Which services.
        services: Vec<Service>,
    },
    /// Print the settings in force, secrets starred.
    Print,
    /// Print the reference of all settings (docs/configuration.md).
    Docs,
    /// Print the reference of all metrics (docs/metrics.md).
    Metrics,
}

impl CommandLine {
    /// Does what was asked.
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let done = runtime.block_on(self.dispatch());
        // Blocking readers of a watch must not hold the exit.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        done
    }

    /// The settings, checked for what the command is about to do.
    fn settings(&self) -> Result<Config, SettingsError> {
        let services = match &self.command {
            Command::Run { services, .. } => services,
            Command::Config {
                action: ConfigAction::Check { services },
            } if services.is_empty() => Service::ALL,
            Command::Config {
                action: ConfigAction::Check { services },
            } => services,
            // `dev` checks what it has made of them.
            Command::Dev(_)
            | Command::Topics { .. }
            | Command::Publish(_)
            | Command::Watch(_)
            | Command::Stop(_)
            | Command::Start(_)
            | Command::Stops(_)
            | Command::Suppressions(_)
            | Command::Fcm(_)
            | Command::Lag
            | Command::Config { .. }
            | Command::Simulate(_)
            | Command::Completion { .. } => &[],
        };
        let mut config = Config::read(self.config.as_deref(), services)?;
        if let Some(bootstrap) = &self.bootstrap {
            config.kafka.bootstrap_servers.clone_from(bootstrap);
        }
        Ok(config)
    }

    /// What is printed whatever the settings are.
    fn fixed_text(&self) -> Option<String> {
        match &self.command {
            Command::Config {
                action: ConfigAction::Docs,
            } => Some(config::reference()),
            Command::Config {
                action: ConfigAction::Metrics,
            } => Some(metrics_reference::reference()),
            Command::Completion { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut Self::command(), "bongsu", &mut script);
                Some(String::from_utf8_lossy(&script).into_owned())
            }
            Command::Dev(_)
            | Command::Run { .. }
            | Command::Topics { .. }
            | Command::Publish(_)
            | Command::Watch(_)
            | Command::Stop(_)
            | Command::Start(_)
            | Command::Stops(_)
            | Command::Suppressions(_)
            | Command::Fcm(_)
            | Command::Lag
            | Command::Config { .. }
            | Command::Simulate(_) => None,
        }
    }

    async fn dispatch(self) -> anyhow::Result<()> {
        if let Some(text) = self.fixed_text() {
            say(text.trim_end());
            return Ok(());
        }
        let json = self.json;
        let config = self.settings()?;
        let names = Topics::new(config.topics.prefix.clone());
        match self.command {
            Command::Dev(args) => dev::dev(config, self.bootstrap, args, json).await,
            Command::Run { services, channel } => {
                let channels = channels(&channel, &config)?;
                run::run(config, self.config, &services, &channels).await
            }
            Command::Topics { action } => {
                let apply = matches!(action, TopicsAction::Apply);
                let cluster = compose::connect(&config)?;
                topics::topics(&*cluster, &config, apply, json).await
            }
            Command::Publish(args) => {
                publish::publish(compose::connect(&config)?, &names, args, json).await
            }
            Command::Watch(args) => {
                watch::watch(compose::connect(&config)?, &names, args, json).await
            }
            Command::Stop(args) => {
                stops::stop(|| compose::connect(&config), &names, args, json).await
            }
            Command::Start(args) => {
                stops::start(|| compose::connect(&config), &names, args, json).await
            }
            Command::Suppressions(command) => {
                let place = suppressions::Place {
                    cluster: compose::connect(&config)?,
                    codec: Arc::new(Codec::new(registry::framing(&config).await?)),
                    topics: names,
                };
                suppressions::run(&place, command, json).await
            }
            Command::Fcm(command) => Box::pin(fcm::run(&config, command, json)).await,
            Command::Stops(args) => {
                stops::stops(&*compose::connect(&config)?, &names, args, json).await
            }
            Command::Lag => {
                let channels = config.active_channels();
                lag::lag(&*compose::connect(&config)?, &names, &channels, json).await
            }
            Command::Config {
                action: ConfigAction::Print,
            } => {
                say(config.print()?.trim_end());
                Ok(())
            }
            // Checked on the way here; the others have been answered without settings.
            Command::Config { .. } | Command::Completion { .. } => {
                say("the settings are fine");
                Ok(())
            }
            Command::Simulate(args) => simulate::simulate(args).await,
        }
    }
}

/// The channels to run: those asked for, each of which must have topics, or all that have.
fn channels(words: &[String], config: &Config) -> anyhow::Result<Vec<Channel>> {
    let active = config.active_channels();
    if words.is_empty() {
        return Ok(active);
    }
    let checked = words.iter().map(|word| {
        let channel = Channel::parse(word).map_err(|e| Usage(e.to_string()))?;
        if active.contains(&channel) {
            return Ok(channel);
        }
        Err(Usage(format!(
            "channel {channel} has no topics here; add it to topics.channels, then run \
             `bongsu topics apply`"
        ))
        .into())
    });
    checked.collect()
}
