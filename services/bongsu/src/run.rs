//! `bongsu run`: services against real Kafka.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bongsu_domain::Channel;
use bongsu_runtime::{Shutdown, Tasks, telemetry};

use crate::compose::{World, connect};
use crate::config::{Config, Service};
use crate::ops;
use crate::reload::Reload;

/// Runs services until SIGTERM or SIGINT, then drains them.
pub(crate) async fn run(
    config: Config,
    file: Option<PathBuf>,
    services: &[Service],
    channels: &[Channel],
) -> anyhow::Result<()> {
    telemetry::init_logging(&config.process.log, config.process.log_format);
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("listening to signals")?;
    let cluster = connect(&config)?;
    let world = World::new(config, cluster).await?;
    tracing::info!(
        log = world.cluster.describe(), worker = %world.worker_id, ?services, "starting"
    );
    let mut tasks = world.start(services, channels, &shutdown).await?;
    if let Some(listen) = world.config.process.ops_listen {
        let (health, metrics) = (world.health.clone(), world.metrics.clone());
        tasks.spawn("ops", ops::serve(listen, health, metrics, shutdown.clone()));
    }
    let reload = Reload {
        file,
        services: services.to_vec(),
        providers: world.providers.clone(),
        worker: Arc::clone(&world.worker_id),
        clock: world.clock,
    };
    tasks.spawn("reload", reload.watch(shutdown.clone()));
    wait(tasks, &shutdown).await
}

/// Waits for all tasks; the first that fails asks the others to drain.
pub(crate) async fn wait(mut tasks: Tasks, shutdown: &Shutdown) -> anyhow::Result<()> {
    let mut first = Ok(());
    while let Some(ended) = tasks.next().await {
        match ended {
            Ok(name) if shutdown.is_requested() => tracing::info!(name, "drained"),
            Ok(name) => tracing::warn!(name, "ended by itself"),
            Err(died) => {
                tracing::error!(%died, "stopping");
                if first.is_ok() {
                    first = Err(died.into());
                }
            }
        }
        shutdown.request();
    }
    first
}
