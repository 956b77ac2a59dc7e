//! `bongsu dev`: the whole pipeline in one process, with simulators and a status page.

mod accounts;
mod backend;
mod status;
mod story;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_runtime::{Secret, Shutdown, Tasks, telemetry};
use bongsu_simulators::simulators::Instance;
use bongsu_simulators::{Kind, Settings as SimulatorSettings, Simulators};

use crate::compose::World;
use crate::config::{Config, Service};
use crate::dev::backend::Backend;
use crate::dev::story::{Stage, Story};
use crate::output::{complain, say};
use crate::{run, topics};

/// The status page's port, counted from the gateway's.
const STATUS_PORT: u16 = 3;

/// Longest wait for the services to become ready.
const READY: Duration = Duration::from_secs(60);

/// How the pipeline is run for development.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct DevArgs {
    /// Start real Kafka (or fail), instead of falling back to the local log.
    #[arg(long, conflicts_with = "local")]
    kafka: bool,
    /// Use the local log in memory.
    #[arg(long)]
    local: bool,
    /// Keep Kafka's data and the status in this directory; nothing is kept without it.
    #[arg(long, requires = "kafka")]
    data: Option<PathBuf>,
    /// The first port: the gateway's. The simulators and the status page have the next ones; they are
    /// printed at the start. 0 takes free ones.
    #[arg(long, default_value_t = 7400, value_parser = clap::value_parser!(u16).range(..=65_500))]
    port: u16,
    /// Play the story `chat`.
    #[arg(long, group = "played")]
    demo: bool,
    /// Play a story: what goes wrong elsewhere, and here.
    #[arg(long, value_enum, group = "played")]
    story: Option<Story>,
    /// End after the story, with a summary; non-zero when a promise broke.
    #[arg(long, requires = "played")]
    once: bool,
}

/// Runs until Ctrl-C, or until the story has ended.
pub(crate) async fn dev(
    config: Config,
    bootstrap: Option<String>,
    args: DevArgs,
    json: bool,
) -> anyhow::Result<()> {
    let log = std::env::var("BONGSU__PROCESS__LOG").unwrap_or_else(|_| "warn".to_owned());
    telemetry::init_logging(&log, config.process.log_format);
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("listening to signals")?;
    let backend = Backend::choose(bootstrap, &args, &config).await?;
    complain(&backend.announcement());
    let done = with_backend(config, &args, &backend, &shutdown, json).await;
    backend.stop().await;
    done
}

async fn with_backend(
    mut config: Config,
    args: &DevArgs,
    backend: &Backend,
    shutdown: &Shutdown,
    json: bool,
) -> anyhow::Result<()> {
    let port = |n: u16| {
        SocketAddr::from((
            Ipv4Addr::LOCALHOST,
            if args.port == 0 { 0 } else { args.port + n },
        ))
    };
    let mut instances = Vec::new();
    // The simulators have the ports that are left, in their order.
    let ports = (1..).filter(|n| *n != STATUS_PORT);
    for (kind, n) in Kind::ALL.iter().zip(ports) {
        let mut instance = Instance::new(*kind);
        instance.bind = port(n);
        instances.push(instance);
    }
    let simulators = Simulators::start(SimulatorSettings { instances }).await?;
    adapt(&mut config, args, port(0)).await?;
    let authority = accounts::add(&mut config, &simulators)?;
    config.check(Service::ALL)?;
    let cluster = backend.cluster(&config)?;
    topics::ensure(&*cluster, &config).await?;
    let gateway = format!("http://{}", config.gateway.listen);
    let world = World::new(config, cluster).await?;
    let services = shutdown.child();
    let channels = world.config.active_channels();
    let mut tasks = world.start(Service::ALL, &channels, &services).await?;
    // Read when the providers were made.
    drop(authority);
    let places = Places {
        status: status::serve(
            &mut tasks,
            &world,
            &simulators,
            port(STATUS_PORT),
            &services,
        )
        .await?,
        simulators: simulators
            .running()
            .iter()
            .map(|running| (running.kind(), running.url()))
            .collect(),
        gateway,
    };
    ready(&world, &mut tasks, shutdown).await?;
    if !json {
        places.print();
    }
    let told = match args.story {
        None if args.demo => Some(Story::Chat),
        story => story,
    };
    let told = match told {
        None => Ok(()),
        Some(told) => {
            let stage = Stage {
                world: &world,
                places: &places,
                simulators: &simulators,
                shutdown,
                json,
            };
            story::play(told, &stage).await
        }
    };
    if !args.once && told.is_ok() && !shutdown.is_requested() {
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            ended = tasks.next() => {
                if let Some(Err(died)) = ended {
                    services.request();
                    return Err(died.into());
                }
            }
        }
        complain("draining");
    }
    services.request();
    let drained = run::wait(tasks, &services).await;
    told.and(drained)
}

/// What a developer's installation differs in: few partitions, one copy, no keys, a database in
/// memory.
async fn adapt(config: &mut Config, args: &DevArgs, gateway: SocketAddr) -> anyhow::Result<()> {
    config.topics.partitions = 4;
    config.topics.replication = 1;
    config.topics.min_insync_replicas = 1;
    config.gateway.listen = if gateway.port() == 0 {
        free_address().await?
    } else {
        gateway
    };
    config.gateway.allow_anonymous = config.gateway.keys.is_empty();
    config.gateway.allow_private = true;
    config.store.url = Secret::new(match &args.data {
        None => "sqlite::memory:".to_owned(),
        Some(dir) => format!("sqlite:{}", dir.join("bongsu.db").display()),
    });
    Ok(())
}

/// An address that is free at this moment; only `--port 0` (tests) asks for one.
async fn free_address() -> anyhow::Result<SocketAddr> {
    let probe = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok(probe.local_addr()?)
}

async fn ready(world: &World, tasks: &mut Tasks, shutdown: &Shutdown) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + READY;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            biased;
            ended = tasks.next() => match ended {
                Some(Err(died)) => return Err(died.into()),
                Some(Ok(name)) => anyhow::bail!("{name} ended before it was ready"),
                None => anyhow::bail!("nothing runs"),
            },
            _ = look.tick() => {}
        }
        let unready = world.health.unready();
        if unready.is_empty() || shutdown.is_requested() {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            anyhow::bail!("not ready after {} s: {unready:?}", READY.as_secs());
        }
    }
}

/// Where everything is.
pub(crate) struct Places {
    gateway: String,
    status: String,
    simulators: Vec<(Kind, String)>,
}

impl Places {
    /// A simulator's base URL; empty when it does not run.
    fn simulator(&self, kind: Kind) -> &str {
        let mut all = self.simulators.iter();
        all.find(|(k, _)| *k == kind).map_or("", |(_, url)| url)
    }

    fn print(&self) {
        let (gateway, status) = (&self.gateway, &self.status);
        let mut text = format!(
            "\nBongsu runs. Look at\n  {:<20}{status}\n  {:<20}{gateway}/docs\n",
            "status page", "API and its docs"
        );
        for (kind, url) in &self.simulators {
            let name = format!("{} simulator", kind.as_str());
            text.push_str(&format!("  {name:<20}{url}/_sim/report\n"));
        }
        let event = serde_json::json!({
            "sender": "room-1",
            "plan": {"channels": ["webhook"]},
            "target": {"recipients": [{"id": "ann", "addresses": [{
                "channel": "webhook",
                "address": format!("{}/hook/ann", self.simulator(Kind::Webhook)),
            }]}]},
            "content": {"title": "Hello", "body": "from curl"},
        });
        say(&format!(
            "{text}Try\n  \
             curl -s {gateway}/v1/events -H 'content-type: application/json' -d '{event}'\n"
        ));
    }
}
