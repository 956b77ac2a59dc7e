//! `bongsu simulate`: the providers' twins on their own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use bongsu_runtime::{Shutdown, telemetry};
use bongsu_simulators::simulators::Instance;
use bongsu_simulators::{Faults, Kind, Settings, Simulators};

use crate::error::Usage;
use crate::output::say;

/// Which twins, and what goes wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct SimulateArgs {
    /// Whose: one or several.
    #[arg(required = true, value_parser = word())]
    providers: Vec<String>,
    /// Port of the first one; the next ones follow. 0 takes free ones.
    #[arg(long, default_value_t = 7401)]
    port: u16,
    /// Address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Fault plan as JSON: `{"latency_ms": 60, "fail_ratio": 0.01}`; change it later with
    /// `PUT /_sim/faults`.
    #[arg(long)]
    faults: Option<String>,
    /// Append every request as NDJSON.
    #[arg(long)]
    log: Option<PathBuf>,
    /// The simulators write their authority here, and the one of APNs a key and a client certificate.
    #[arg(long)]
    credentials: Option<PathBuf>,
    /// Switch the rate limits of Discord and AlimTalk off.
    #[arg(long)]
    no_limits: bool,
}

/// The words of the simulators, for the help and for completion.
fn word() -> clap::builder::PossibleValuesParser {
    Kind::ALL
        .iter()
        .map(|kind| kind.as_str())
        .collect::<Vec<_>>()
        .into()
}

/// Runs the twins until SIGTERM or SIGINT.
pub(crate) async fn simulate(args: SimulateArgs) -> anyhow::Result<()> {
    telemetry::init_logging("info", telemetry::LogFormat::Text);
    let faults: Faults = match &args.faults {
        None => Faults::default(),
        Some(text) => serde_json::from_str(text).map_err(|e| Usage(format!("--faults: {e}")))?,
    };
    let mut instances = Vec::new();
    for (port, word) in (args.port..).zip(&args.providers) {
        let kind = Kind::parse(word).ok_or_else(|| {
            let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            Usage(format!(
                "`{word}` has no simulator; there are {}",
                known.join(", ")
            ))
        })?;
        let mut instance = Instance::new(kind);
        instance.bind = SocketAddr::new(args.host, if args.port == 0 { 0 } else { port });
        instance.faults = faults.clone();
        instance.log.clone_from(&args.log);
        instance.credentials_dir.clone_from(&args.credentials);
        if args.no_limits {
            instance.limits = None;
            instance.alimtalk.recipients_per_second = 0;
        }
        instances.push(instance);
    }
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("listening to signals")?;
    let simulators = Simulators::start(Settings { instances }).await?;
    for running in simulators.running() {
        say(&format!(
            "{} simulator on {}; page at {}/_sim/, report at {}/_sim/report",
            running.kind().as_str(),
            running.url(),
            running.url(),
            running.url()
        ));
        if let Some(address) = running.smtp_address() {
            say(&format!("  SMTP on {address}"));
        }
    }
    Ok(simulators.run(shutdown).await?)
}
