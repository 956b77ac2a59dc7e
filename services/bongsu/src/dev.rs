//! `bongsu dev`: the whole pipeline in one process, with simulators and a status page.

mod backend;
mod demo;
mod status;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_channels::apns::config::Account;
use bongsu_runtime::{Secret, Shutdown, Tasks, telemetry};
use bongsu_simulators::simulators::Instance;
use bongsu_simulators::{Kind, Settings as SimulatorSettings, Simulators};

use crate::compose::World;
use crate::config::{Config, Service};
use crate::dev::backend::Backend;
use crate::error::Broken;
use crate::output::{complain, say, say_json};
use crate::{run, topics};

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
    /// First of six ports: gateway, webhook simulator, Discord simulator, status page, APNs
    /// simulator, AlimTalk simulator. 0 takes free ones.
    #[arg(long, default_value_t = 7400, value_parser = clap::value_parser!(u16).range(..=65_530))]
    port: u16,
    /// Play a story of chat messages.
    #[arg(long)]
    demo: bool,
    /// End after the story, with a summary; non-zero when a promise broke.
    #[arg(long, requires = "demo")]
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
    for kind in Kind::ALL {
        let mut instance = Instance::new(*kind);
        instance.bind = port(match kind {
            Kind::Webhook => 1,
            Kind::Discord => 2,
            Kind::Apns => 4,
            Kind::AlimTalk => 5,
        });
        instances.push(instance);
    }
    let simulators = Simulators::start(SimulatorSettings { instances }).await?;
    adapt(&mut config, args, &simulators, port(0)).await?;
    let authority = apns(&mut config, &simulators)?;
    config.check(Service::ALL)?;
    let cluster = backend.cluster(&config)?;
    topics::ensure(&*cluster, &config).await?;
    let gateway = format!("http://{}", config.gateway.listen);
    let world = World::new(config, cluster)?;
    let services = shutdown.child();
    let channels = world.config.active_channels();
    let mut tasks = world.start(Service::ALL, &channels, &services).await?;
    // Read when the provider was made.
    drop(authority);
    let places = Places {
        status: status::serve(&mut tasks, &world, &simulators, port(3), &services).await?,
        webhook: url(&simulators, Kind::Webhook)?,
        discord: url(&simulators, Kind::Discord)?,
        apns: url(&simulators, Kind::Apns)?,
        alimtalk: url(&simulators, Kind::AlimTalk)?,
        gateway,
    };
    ready(&world, &mut tasks, shutdown).await?;
    if !json {
        places.print();
    }
    let told = play(args, &world, &places, &simulators, shutdown, json).await;
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

async fn play(
    args: &DevArgs,
    world: &World,
    places: &Places,
    simulators: &Simulators,
    shutdown: &Shutdown,
    json: bool,
) -> anyhow::Result<()> {
    if !args.demo {
        return Ok(());
    }
    let summary = demo::play(world, places, simulators, shutdown, json).await?;
    if json {
        say_json(&summary);
    } else {
        say(&summary.to_string());
    }
    if summary.is_clean() {
        Ok(())
    } else {
        Err(Broken("a promise broke".to_owned()).into())
    }
}

/// What a developer's installation differs in: few partitions, one copy, no keys, simulators as
/// providers, a database in memory.
async fn adapt(
    config: &mut Config,
    args: &DevArgs,
    simulators: &Simulators,
    gateway: SocketAddr,
) -> anyhow::Result<()> {
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
    let webhook = config
        .channels
        .webhook
        .accounts
        .entry("default".to_owned())
        .or_default();
    webhook.allow_private = true;
    let discord = config
        .channels
        .discord
        .accounts
        .entry("default".to_owned())
        .or_default();
    discord.api_base = url(simulators, Kind::Discord)?;
    adapt_alimtalk(config, simulators)
}

/// An account of the dealer's twin, whose reports come back to the gateway.
fn adapt_alimtalk(config: &mut Config, simulators: &Simulators) -> anyhow::Result<()> {
    use bongsu_channels::alimtalk::config::{Account, ReportMode};
    use bongsu_channels::alimtalk::template::Template;
    use bongsu_simulators::alimtalk;

    let twin = simulators
        .get(Kind::AlimTalk)
        .context("the simulator does not run")?;
    let mut account = Account {
        api_base: twin.url(),
        api_key: Secret::new("development"),
        sender_key: "0".repeat(40),
        reference_secret: Secret::new("development-only"),
        ..Account::default()
    };
    account.reports.mode = ReportMode::Webhook;
    account.reports.secret = Secret::new("development-only");
    let free = Template {
        text: "#{text}".to_owned(),
        ..Template::default()
    };
    account.templates.insert("free".to_owned(), free);
    let mut plan = alimtalk::Plan::default();
    plan.reports.mode = alimtalk::ReportMode::Webhook;
    plan.reports.secret = "development-only".to_owned();
    plan.reports.url = format!("http://{}/v1/reports/bizgo/default", config.gateway.listen);
    twin.set_dealer(plan)?;
    let accounts = &mut config.channels.alimtalk.accounts;
    accounts.entry("default".to_owned()).or_insert(account);
    Ok(())
}

/// An account of the APNs simulator; the file of its authority is to be kept until the provider is
/// made.
fn apns(config: &mut Config, simulators: &Simulators) -> anyhow::Result<tempfile::NamedTempFile> {
    let twin = simulators
        .get(Kind::Apns)
        .context("the simulator does not run")?;
    let credentials = twin.credentials().context("it has no credentials")?;
    let authority = tempfile::NamedTempFile::new().context("a file for the authority")?;
    std::fs::write(authority.path(), &credentials.ca).context("writing the authority")?;
    let apns = &mut config.channels.apns;
    apns.connection.ca_file = Some(authority.path().to_owned());
    let account = Account {
        endpoint: twin.push_url(),
        topic: "com.example.app".to_owned(),
        key: Secret::new(credentials.key.clone()),
        key_id: credentials.key_id.clone(),
        team_id: credentials.team_id.clone(),
        ..Account::default()
    };
    apns.accounts.insert("default".to_owned(), account);
    Ok(authority)
}

/// An address that is free at this moment; only `--port 0` (tests) asks for one.
async fn free_address() -> anyhow::Result<SocketAddr> {
    let probe = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok(probe.local_addr()?)
}

fn url(simulators: &Simulators, kind: Kind) -> anyhow::Result<String> {
    let running = simulators.get(kind).context("the simulator does not run")?;
    Ok(running.url().trim_end_matches('/').to_owned())
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
    webhook: String,
    discord: String,
    apns: String,
    alimtalk: String,
    status: String,
}

impl Places {
    fn print(&self) {
        say(&format!(
            "\nBongsu runs. Look at\n  \
             status page         {status}\n  \
             API and its docs    {gateway}/docs\n  \
             webhook simulator   {webhook}/_sim/report\n  \
             Discord simulator   {discord}/_sim/report\n  \
             APNs simulator      {apns}/_sim/report\n  \
             AlimTalk simulator  {alimtalk}/_sim/report\n\
             Try\n  \
             curl -s {gateway}/v1/events -H 'content-type: application/json' -d '{event}'\n",
            status = self.status,
            gateway = self.gateway,
            webhook = self.webhook,
            discord = self.discord,
            apns = self.apns,
            alimtalk = self.alimtalk,
            event = serde_json::json!({
                "sender": "room-1",
                "plan": {"channels": ["webhook"]},
                "target": {"recipients": [{"id": "ann", "addresses": [
                    {"channel": "webhook", "address": format!("{}/hook/ann", self.webhook)}]}]},
                "content": {"title": "Hello", "body": "from curl"},
            }),
        ));
    }
}
