//! Serves one twin until interrupted, and says what it cost: `serve <webhook|discord|apns> [address]
//! [credentials]`; the last is a directory for what the twin of APNs gives its clients.
//!
//! For measuring a client against it from another process.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use bongsu_runtime::Shutdown;
use bongsu_simulators::simulators::{Instance, Settings};
use bongsu_simulators::{Kind, Simulators};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().and_then(|word| Kind::parse(&word));
    let mut instance =
        Instance::new(kind.ok_or("usage: serve <webhook|discord|apns> [address] [credentials]")?);
    // What is measured is the machinery.
    instance.limits = None;
    if let Some(address) = arguments.next() {
        instance.bind = address.parse()?;
    }
    instance.credentials_dir = arguments.next().map(Into::into);
    let simulators = Simulators::start(Settings {
        instances: vec![instance],
    })
    .await?;
    let running = simulators.running().first().cloned().ok_or("none runs")?;
    println!("{}", running.url());
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    simulators.run(shutdown).await?;
    let counts = running.recorder().counts();
    let cpu = cpu_seconds()?;
    println!(
        "{} requests, {cpu:.2} s of CPU, {:.1} us per request, {} MiB",
        counts.requests,
        cpu * 1e6 / f64::from(u32::try_from(counts.requests.max(1))?),
        resident_kib()? / 1_024,
    );
    Ok(())
}

/// CPU time of this process so far, user and system.
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|f| f.parse::<u32>().ok());
    let (user, system) = (ticks().ok_or("no user")?, ticks().ok_or("no system")?);
    // Linux counts in hundredths of a second.
    Ok(f64::from(user + system) / 100.0)
}

fn resident_kib() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let number = line.and_then(|l| l.split_whitespace().next());
    Ok(number.ok_or("no size")?.parse()?)
}
