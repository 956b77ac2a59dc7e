//! What every drill does: write a load, wait until everything is settled, judge.

use std::sync::Arc;
use std::time::Duration;

use bongsu_domain::Class;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::dice::Dice;
use super::load::{Keys, Load};
use super::log::Log;
use super::profile::Profile;
use super::receipts::Receipts;
use super::row::Row;
use super::verdict::{Verdict, judge};
use super::world::World;
use super::writer::{Writing, Written};
use crate::load::wall_us;

/// Round trip to the provider in every drill that names none.
pub(crate) const RTT_MS: u64 = 60;
/// Workers of drills that end one of them.
pub(crate) const WORKERS: usize = 2;

/// The keys of every drill that names none: 20,000.
pub(crate) const EVEN: Keys = Keys::Even {
    senders: 400,
    addresses: 50,
};

/// A world, and what the drills share.
pub(crate) struct Drill {
    pub(crate) world: World,
    pub(crate) quick: bool,
    pub(crate) seed: u64,
    pub(crate) dice: Dice,
    /// The highest closed-loop rate of two workers in this run, deliveries per second.
    capacity: Option<f64>,
    /// For how long the brokers have worked.
    warmed_up: Duration,
    runs: u32,
}

/// A load under way.
pub(crate) struct Run {
    pub(crate) load: Arc<Load>,
    pub(crate) writing: Writing,
    receipts: Receipts,
    cpu_us: u64,
}

/// A settled run.
pub(crate) struct Finished {
    pub(crate) load: Arc<Load>,
    pub(crate) written: Written,
    pub(crate) log: Log,
    pub(crate) receipts: Receipts,
    pub(crate) verdict: Verdict,
    pub(crate) cpu_us: u64,
    /// The partition of every key.
    partitions: Vec<i32>,
}

impl Finished {
    /// The partition of delivery `i`.
    pub(crate) fn partition(&self, i: u32) -> i32 {
        let key = self.load.key(i) as usize;
        self.partitions.get(key).copied().unwrap_or(-1)
    }
}

impl Drill {
    pub(crate) const fn new(world: World, quick: bool, seed: u64) -> Self {
        Self {
            world,
            quick,
            seed,
            dice: Dice::new(seed),
            capacity: None,
            warmed_up: Duration::ZERO,
            runs: 0,
        }
    }

    /// The quick or the full size.
    pub(crate) const fn size<T: Copy>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// A row for a scenario.
    pub(crate) fn row(&self, scenario: &str) -> Row {
        Row::new(scenario, self.quick)
    }

    /// A load of its own: even keys, transactional, a tenth `never_resend`.
    pub(crate) fn load(&mut self, deliveries: u32, rate: Option<f64>) -> Load {
        self.runs += 1;
        Load {
            run: format!("d{}x{}", self.runs, wall_us() % 1_000_000),
            class: Class::Transactional,
            keys: EVEN,
            deliveries,
            rate,
            never_resend: 0.1,
            same_content: false,
            seed: self.seed,
            partitions: self.world.shape.partitions,
            target: self.world.simulator_url.clone(),
        }
    }

    /// Begins to write; the simulator has forgotten everything before and follows `plan`.
    pub(crate) async fn begin(&mut self, load: Load, plan: &Value) -> anyhow::Result<Run> {
        self.world.forget().await?;
        self.world.plan(plan).await?;
        self.write(load).await
    }

    /// Begins to write beside what runs already.
    pub(crate) async fn write(&mut self, load: Load) -> anyhow::Result<Run> {
        let load = Arc::new(load);
        let receipts = Receipts::from_now(&load.run, &*self.world.cluster).await?;
        let writing = Writing::start(Arc::clone(&load), &*self.world.cluster)?;
        Ok(Run {
            load,
            writing,
            receipts,
            cpu_us: self.world.cpu_us(),
        })
    }

    /// Waits until every delivery has an outcome or `patience` (from the last write on) is over, and
    /// judges.
    pub(crate) async fn settle(
        &mut self,
        run: Run,
        patience: Duration,
        allowed: &[&str],
    ) -> anyhow::Result<Finished> {
        let Run {
            load,
            writing,
            mut receipts,
            cpu_us,
        } = run;
        let written = writing.finish().await?;
        let deadline = Instant::now() + patience;
        let mut look = tokio::time::interval(Duration::from_millis(500));
        loop {
            look.tick().await;
            self.world.check_alive()?;
            receipts = receipts.read_on(&*self.world.cluster).await?;
            if receipts.settled >= written.count as usize || Instant::now() > deadline {
                break;
            }
        }
        let cpu_us = self.world.cpu_us().saturating_sub(cpu_us);
        let log = self.world.log(&load.run).await?;
        let verdict = judge(&load, &written, &log, &receipts, allowed);
        Ok(Finished {
            partitions: load.key_partitions(),
            load,
            written,
            log,
            receipts,
            verdict,
            cpu_us,
        })
    }

    /// The capacity of two workers, measured once: everything is written first, then worked off.
    pub(crate) async fn capacity(&mut self) -> anyhow::Result<f64> {
        if let Some(capacity) = self.capacity {
            return Ok(capacity);
        }
        let capacity = self.work_off().await?;
        self.capacity = Some(capacity);
        Ok(capacity)
    }

    /// Lets the brokers work before anything is measured. One that has just started is slow, and compiling
    /// takes it up to half a processor meanwhile: the same engine had 0.47, 0.62 and 0.75 of the bare loop,
    /// one after the other.
    pub(crate) async fn warm_up(&mut self) -> anyhow::Result<()> {
        let enough = Duration::from_secs(self.size(15, 60));
        while self.warmed_up < enough {
            let begun = Instant::now();
            self.work_off().await?;
            self.warmed_up += begun.elapsed();
        }
        Ok(())
    }

    /// Writes deliveries and lets two workers send them; gives the rate, deliveries per second.
    async fn work_off(&mut self) -> anyhow::Result<f64> {
        let load = self.load(self.size(40_000, 150_000), None);
        let run = self.begin(load, &json!({"latency_ms": RTT_MS})).await?;
        while run.writing.so_far() < run.load.deliveries {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.world.start_fleet(&Profile::short(), WORKERS).await?;
        let finished = self.settle(run, Duration::from_secs(240), &[]).await?;
        self.world.stop_fleet().await?;
        let reads: Vec<u64> = finished.log.seen.iter().map(|s| s.read_us).collect();
        let at = |tenths: usize| reads.get(reads.len() * tenths / 10).copied().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "counts of a drill")]
        let middle = (reads.len() * 8 / 10) as f64;
        let capacity = middle / super::verdict::seconds(at(9).saturating_sub(at(1)).max(1));
        println!(
            "capacity of {WORKERS} workers: {capacity:.0} per second (written at {:.0})",
            f64::from(finished.written.count) / finished.written.seconds.max(0.001)
        );
        anyhow::ensure!(capacity > 1.0, "nothing was delivered");
        Ok(capacity)
    }

    /// Waits until the simulator gets requests at `rate`: a fault while nothing flows shows nothing.
    pub(crate) async fn until_it_flows(&mut self, rate: f64) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut before = self.world.count("requests").await?;
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.world.check_alive()?;
            let now = self.world.count("requests").await?;
            #[expect(clippy::cast_precision_loss, reason = "request counts")]
            if now.saturating_sub(before) as f64 * 2.0 >= rate {
                return Ok(());
            }
            before = now;
            anyhow::ensure!(Instant::now() < deadline, "nothing flows");
        }
    }

    /// Waits until every running dispatch makes a fair part of the requests.
    pub(crate) async fn until_all_work(&mut self) -> anyhow::Result<()> {
        const LAST: u64 = 1_000;
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            self.world.check_alive()?;
            let recent = self.world.recent(LAST).await?;
            let fleet = self.world.fleet();
            let fair = usize::try_from(LAST)? / fleet.len().max(1) / 4;
            if fleet
                .iter()
                .all(|name| recent.get(name).is_some_and(|n| *n >= fair))
            {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "not every worker works: {recent:?}"
            );
        }
    }

    /// Draws a running dispatch.
    pub(crate) fn any_dispatch(&mut self) -> anyhow::Result<String> {
        let fleet = self.world.fleet();
        let drawn = self.dice.one_of(&fleet).cloned();
        drawn.ok_or_else(|| anyhow::anyhow!("no dispatch runs"))
    }
}

/// Deliveries of `seconds` at `rate`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a drill"
)]
pub(crate) fn deliveries(rate: f64, seconds: f64) -> u32 {
    (rate * seconds).max(1.0) as u32
}
