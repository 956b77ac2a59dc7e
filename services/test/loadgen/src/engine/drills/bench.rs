//! Dispatch against the bare loop, in one run, one after the other.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::Instant;

use crate::engine::drill::{Drill, EVEN, Finished, RTT_MS, deliveries};
use crate::engine::load::{Keys, Load};
use crate::engine::profile::Profile;
use crate::engine::progress::{Pace, Watch};
use crate::engine::row::Row;

/// How long after its start a run may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often each pair is repeated.
const REPEATS: usize = 3;
/// More than two cores do in a second, whatever the setting.
const MOST_PER_SECOND: f64 = 12_000.0;

/// One comparison.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    pub(crate) name: &'static str,
    pub(crate) rtt_ms: u64,
    pub(crate) in_flight: usize,
    pub(crate) processes: usize,
    pub(crate) keys: Keys,
    /// HTTP/2 over TLS instead of HTTP/1.1 in the clear.
    pub(crate) http2: bool,
    /// Share of addresses that fail for the first five seconds.
    pub(crate) failing: f64,
}

impl Comparison {
    /// Even keys, no faults, one process.
    pub(crate) const fn plain(name: &'static str, rtt_ms: u64, in_flight: usize) -> Self {
        Self {
            name,
            rtt_ms,
            in_flight,
            processes: 1,
            keys: EVEN,
            http2: false,
            failing: 0.0,
        }
    }

    /// Whether the promised ratio is about it.
    fn is_promised(&self) -> bool {
        self.rtt_ms == RTT_MS && self.processes == 1 && !self.is_faulted()
    }

    fn is_faulted(&self) -> bool {
        self.failing > 0.0 || self.keys != EVEN
    }

    /// Deliveries that last for about `seconds`.
    fn deliveries(&self, seconds: f64) -> u32 {
        #[expect(clippy::cast_precision_loss, reason = "counts of a drill")]
        let fastest =
            (self.in_flight * self.processes) as f64 * 1_000.0 / self.rtt_ms.max(1) as f64;
        deliveries(fastest.min(MOST_PER_SECOND), seconds)
    }
}

/// Runs one comparison.
pub(crate) async fn compare(drill: &mut Drill, what: &Comparison) -> anyhow::Result<Row> {
    let count = what.deliveries(drill.size(6.0, 20.0));
    drill.warm_up().await?;
    let mut row = drill.row(what.name);
    let (mut bares, mut engines, mut ratios, mut peaks) = (vec![], vec![], vec![], vec![]);
    for _ in 0..REPEATS {
        let bare = bare(drill, what, count).await?;
        let (finished, engine, peak_kib) = engine(drill, what, count).await?;
        row.judge(&finished.verdict, finished.cpu_us, 0, &[]);
        ratios.push(engine.per_second / bare.per_second.max(1.0));
        peaks.push(peak_kib);
        bares.push(bare);
        engines.push(engine);
    }
    let ratio = median(ratios.iter().copied());
    let beyond = median(engines.iter().map(|p| p.cpu_us)) - median(bares.iter().map(|p| p.cpu_us));
    row.add("rtt_ms", &what.rtt_ms);
    row.add("protocol", &if what.http2 { "h2" } else { "http/1.1" });
    row.add("in_flight", &what.in_flight);
    row.add("processes", &what.processes);
    row.add(
        if what.is_faulted() {
            "ratio_faulted"
        } else {
            "ratio_to_bare"
        },
        &ratio,
    );
    row.add("cpu_us_beyond_bare", &beyond);
    row.add("per_second", &median(engines.iter().map(|p| p.per_second)));
    row.add(
        "bare_per_second",
        &median(bares.iter().map(|p| p.per_second)),
    );
    row.add(
        "repeats",
        &json!({"ratios": ratios, "engine": engines, "bare": bares}),
    );
    row.add("peak_kib", &peaks.iter().max());
    if what.is_promised() {
        row.speed("at least 0.85 of the bare loop", ratio >= 0.85);
        row.speed("at most 8 us beyond the bare loop", beyond <= 8.0);
    }
    Ok(row)
}

fn target(drill: &Drill, what: &Comparison) -> String {
    if what.http2 {
        drill.world.provider_tls.url()
    } else {
        drill.world.simulator_url.clone()
    }
}

fn plan(what: &Comparison, seed: u64, failing: f64) -> Value {
    json!({"latency_ms": what.rtt_ms, "failing_addresses": failing, "seed": seed})
}

async fn engine(
    drill: &mut Drill,
    what: &Comparison,
    count: u32,
) -> anyhow::Result<(Finished, Pace, u64)> {
    let load = Load {
        keys: what.keys.clone(),
        never_resend: 0.0,
        target: target(drill, what),
        ..drill.load(count, None)
    };
    let run = drill
        .begin(load, &plan(what, drill.seed, what.failing))
        .await?;
    while run.writing.so_far() < run.load.deliveries {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let profile = Profile {
        max_in_flight: what.in_flight,
        ca_file: what.http2.then(|| drill.world.certificate()),
        ..Profile::default()
    };
    for _ in 0..what.processes {
        drill.world.start_dispatch(&profile)?;
    }
    let pids = drill.world.fleet_pids();
    let watch = Watch::start(&drill.world.client, &drill.world.simulator_url, pids);
    if what.failing > 0.0 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        drill.world.plan(&plan(what, drill.seed, 0.0)).await?;
    }
    // The bare loop's receipts are read by nobody either, while it is measured.
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && drill.world.count("accepted").await? < u64::from(count) {
        drill.world.check_alive()?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let finished = drill.settle(run, PATIENCE, &[]).await?;
    let seen = watch.finish().await?;
    drill.world.stop_fleet().await?;
    Ok((finished, seen.pace(u64::from(count)), seen.peak_kib))
}

async fn bare(drill: &mut Drill, what: &Comparison, count: u32) -> anyhow::Result<Pace> {
    drill.world.forget().await?;
    // What fails would have to be tried again, which the bare loop does not.
    drill.world.plan(&plan(what, drill.seed, 0.0)).await?;
    let processes = u32::try_from(what.processes)?;
    let mut loops = Vec::new();
    for _ in 0..processes {
        loops.push(Bare::start(drill, what, count / processes).await?);
    }
    let pids = loops.iter().filter_map(|l| l.child.id()).collect();
    let watch = Watch::start(&drill.world.client, &drill.world.simulator_url, pids);
    for bare in &mut loops {
        bare.go().await?;
    }
    let mut accepted = 0;
    for bare in loops {
        accepted += bare.finish().await?;
    }
    let seen = watch.finish().await?;
    anyhow::ensure!(
        accepted == count / processes * processes,
        "{accepted} of {count}"
    );
    Ok(seen.pace(u64::from(accepted)))
}

/// One bare loop.
struct Bare {
    child: Child,
    output: tokio::io::Lines<BufReader<ChildStdout>>,
}

impl Bare {
    /// Starts it and waits until its deliveries are made.
    async fn start(drill: &mut Drill, what: &Comparison, count: u32) -> anyhow::Result<Self> {
        let load = drill.load(count, None);
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["bare", "--target", &target(drill, what), "--run", &load.run])
            .args(["--deliveries", &count.to_string()])
            .args(["--in-flight", &what.in_flight.to_string()]);
        if what.http2 {
            command.arg("--ca-file").arg(drill.world.certificate());
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the bare loop")?;
        let output = child.stdout.take().context("the bare loop has no output")?;
        let mut output = BufReader::new(output).lines();
        let ready = output.next_line().await?;
        anyhow::ensure!(
            ready.as_deref() == Some("ready"),
            "the bare loop says {ready:?}"
        );
        Ok(Self { child, output })
    }

    async fn go(&mut self) -> anyhow::Result<()> {
        let input = self
            .child
            .stdin
            .as_mut()
            .context("the bare loop takes no input")?;
        Ok(input.write_all(b"go\n").await?)
    }

    /// Waits for its end; gives how many were accepted.
    async fn finish(mut self) -> anyhow::Result<u32> {
        let line = self.output.next_line().await?;
        self.child.wait().await?;
        line.context("the bare loop says nothing")?
            .parse()
            .context("the bare loop's count")
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Latency from enqueueing to the attempt at half of capacity.
pub(crate) async fn open_loop(drill: &mut Drill) -> anyhow::Result<Row> {
    let rate = drill.capacity().await? / 2.0;
    drill.world.start_fleet(&Profile::default(), 1).await?;
    let load = drill.load(deliveries(rate, drill.size(15.0, 120.0)), Some(rate));
    let run = drill.begin(load, &json!({"latency_ms": RTT_MS})).await?;
    let finished = drill.settle(run, PATIENCE, &[]).await?;
    drill.world.stop_fleet().await?;
    let mut row = drill.row("open_loop");
    row.judge(&finished.verdict, finished.cpu_us, 0, &[]);
    row.add("rate", &rate);
    row.add("rtt_ms", &RTT_MS);
    Ok(row)
}

/// Memory of one process at 5,000 per second, over HTTP/1.1 in the clear or over HTTP/2.
pub(crate) async fn memory(
    drill: &mut Drill,
    name: &'static str,
    http2: bool,
) -> anyhow::Result<Row> {
    const RATE: f64 = 5_000.0;
    const MOST_KIB: u64 = 64 * 1024;
    // A broker that has just started does not carry that rate, and what waits for it is in the figure.
    drill.warm_up().await?;
    let mut load = drill.load(deliveries(RATE, drill.size(15.0, 120.0)), Some(RATE));
    let mut profile = Profile::default();
    if http2 {
        load.target = drill.world.provider_tls.url();
        profile.ca_file = Some(drill.world.certificate());
    }
    drill.world.start_fleet(&profile, 1).await?;
    let pids = drill.world.fleet_pids();
    let watch = Watch::start(&drill.world.client, &drill.world.simulator_url, pids);
    let run = drill.begin(load, &json!({"latency_ms": RTT_MS})).await?;
    let finished = drill.settle(run, PATIENCE, &[]).await?;
    let seen = watch.finish().await?;
    drill.world.stop_fleet().await?;
    let mut row = drill.row(name);
    row.add("protocol", &if http2 { "h2" } else { "http/1.1" });
    row.judge(&finished.verdict, finished.cpu_us, 0, &[]);
    row.add("rate", &RATE);
    row.add("rss_kib", &seen.largest_rss_kib());
    row.add("peak_kib", &seen.peak_kib);
    row.promise("at most 64 MiB", seen.peak_kib <= MOST_KIB);
    Ok(row)
}

/// Memory of one process while many deliveries wait: the provider behind all addresses is out, or every
/// address is a receiver of its own and all of them are, so that each is tried for itself.
pub(crate) async fn memory_outage(
    drill: &mut Drill,
    name: &'static str,
    one_provider: bool,
) -> anyhow::Result<Row> {
    const MOST_KIB: u64 = 77 * 1024;
    let waiting = drill.size(60_000, 400_000);
    let out = Duration::from_secs(drill.size(20, 600));
    let load = drill.load(waiting, None);
    let plan = json!({"latency_ms": RTT_MS, "fail_ratio": 1.0});
    let run = drill.begin(load, &plan).await?;
    while run.writing.so_far() < run.load.deliveries {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let profile = if one_provider {
        Profile::one_receiver()
    } else {
        Profile::default()
    };
    drill.world.start_fleet(&profile, 1).await?;
    let pids = drill.world.fleet_pids();
    let watch = Watch::start(&drill.world.client, &drill.world.simulator_url, pids);
    tokio::time::sleep(out).await;
    drill.world.plan(&json!({"latency_ms": RTT_MS})).await?;
    // Those that were tried all the time may have used up their attempts.
    let finished = drill.settle(run, PATIENCE, &["dead"]).await?;
    let seen = watch.finish().await?;
    drill.world.stop_fleet().await?;
    let mut row = drill.row(name);
    row.judge(&finished.verdict, finished.cpu_us, 0, &["dead"]);
    row.add("outage_seconds", &out.as_secs());
    row.add("rss_kib", &seen.largest_rss_kib());
    row.add("peak_kib", &seen.peak_kib);
    row.promise("at most 77 MiB", seen.peak_kib <= MOST_KIB);
    Ok(row)
}
