//! The bare loop: the same provider, the same signing, deliveries in memory, no Kafka. What dispatch
//! costs beyond this is what the engine costs.
//!
//! `loadgen bare` prints one line of JSON when it is ready and waits for a line on its standard
//! input before it begins.

use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bongsu_channels::provider::{Attempt, AttemptResult};
use bongsu_channels::{Settings, build};
use bongsu_domain::{Channel, Class, Delivery};
use bongsu_runtime::Clock;
use bongsu_schemas::convert::delivery_from_record;
use clap::Parser;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::engine::load::{Keys, Load};
use crate::engine::profile::SECRET;
use crate::load::wall_us;

/// What to send.
#[derive(Debug, Parser)]
pub(crate) struct BareArguments {
    /// Always `bare`.
    #[arg(hide = true)]
    _bare: String,
    /// `http://host:port` of the provider.
    #[arg(long)]
    target: String,
    /// Before every sender's name.
    #[arg(long)]
    run: String,
    #[arg(long)]
    deliveries: u32,
    #[arg(long)]
    in_flight: usize,
    /// A certificate to trust.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    #[arg(long, default_value_t = 400)]
    senders: u32,
    #[arg(long, default_value_t = 50)]
    addresses: u32,
}

/// Runs it.
pub(crate) fn main() -> ExitCode {
    match run(&BareArguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &BareArguments) -> anyhow::Result<()> {
    let deliveries = deliveries(arguments)?;
    // As the executable's own runtime is made.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    println!("ready");
    let mut go = String::new();
    std::io::stdin().lock().read_line(&mut go)?;
    let accepted = runtime.block_on(send(Arc::new(deliveries), arguments))?;
    println!("{accepted}");
    Ok(())
}

fn deliveries(arguments: &BareArguments) -> anyhow::Result<Vec<Delivery>> {
    let load = Load {
        run: arguments.run.clone(),
        class: Class::Transactional,
        keys: Keys::Even {
            senders: arguments.senders,
            addresses: arguments.addresses,
        },
        deliveries: arguments.deliveries,
        rate: None,
        never_resend: 0.0,
        same_content: false,
        seed: 0,
        partitions: 1,
        target: arguments.target.clone(),
    };
    let now_ms = i64::try_from(wall_us() / 1_000)?;
    (0..load.deliveries)
        .map(|i| {
            delivery_from_record(load.delivery(i, now_ms))
                .map_err(|fault| anyhow::anyhow!("delivery {i}: {fault}"))
        })
        .collect()
}

/// The channel's settings, as dispatch is given them.
fn settings(arguments: &BareArguments) -> anyhow::Result<Settings> {
    let client = arguments.ca_file.as_ref().map_or(String::new(), |path| {
        format!("[webhook.client]\nca_file = \"{}\"\n", path.display())
    });
    let text = format!(
        "[webhook.accounts.default]\nallow_private = true\nsecrets = [\"{SECRET}\"]\n{client}"
    );
    Ok(bongsu_runtime::settings::load(&text, [])?)
}

async fn send(deliveries: Arc<Vec<Delivery>>, arguments: &BareArguments) -> anyhow::Result<usize> {
    let settings = settings(arguments)?;
    let provider = build(Channel::Webhook, &settings, "bare", Clock::system())?;
    let next = Arc::new(AtomicUsize::new(0));
    let mut loops = JoinSet::new();
    for _ in 0..arguments.in_flight {
        let (provider, next) = (Arc::clone(&provider), Arc::clone(&next));
        let deliveries = Arc::clone(&deliveries);
        loops.spawn(async move {
            let mut accepted = 0;
            while let Some(delivery) = deliveries.get(next.fetch_add(1, Ordering::Relaxed)) {
                let batch = [Attempt {
                    delivery,
                    number: 1,
                    partition: 0,
                }];
                let deadline = Instant::now() + Duration::from_secs(10);
                let results = provider.attempt(&batch, deadline).await?;
                accepted += usize::from(results.first() == Some(&AttemptResult::Accepted));
            }
            anyhow::Ok(accepted)
        });
    }
    let mut accepted = 0;
    while let Some(ended) = loops.join_next().await {
        accepted += ended.context("a loop died")??;
    }
    Ok(accepted)
}
