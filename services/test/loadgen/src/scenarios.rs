//! The drills of the walking pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_stream::port::TailEnds;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::audit::{Audit, Outcomes, Request, audit, requests, results_ends, wait_for_outcomes};
use crate::damage;
use crate::events_order;
use crate::kills::{Kill, allowance};
use crate::load::{Load, Published, Stamps, publish, wall_us};
use crate::world::World;
use crate::{Arguments, Drill};

/// Round trip to the provider in every drill.
const RTT_MS: u64 = 60;
/// Longest wait for the last outcome after the load has ended.
const PATIENCE: Duration = Duration::from_secs(240);

/// One scenario's result.
#[derive(Debug, Serialize)]
pub(crate) struct Result_ {
    scenario: &'static str,
    sent: usize,
    lost: usize,
    duplicates: usize,
    duplicate_bound: usize,
    order_violations: usize,
    /// The same by offset in `events`.
    offset_violations: usize,
    seconds: f64,
    cpu_us_per_notification: f64,
    /// Whether every promise of the scenario held.
    pub(crate) kept: bool,
    per_second: f64,
    outcomes: usize,
    not_accepted: usize,
    physical_doubles: usize,
    errors_answered: usize,
    cpu_us_per_service: BTreeMap<String, f64>,
    more: Value,
}

/// Runs the drills asked for.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Vec<Result_>> {
    let mut world = World::start(arguments.bongsu.clone(), arguments.scripts.clone()).await?;
    world.start_services().await?;
    let mut drills = Drills {
        world,
        quick: arguments.quick,
        only: arguments.only.clone(),
        results: Vec::new(),
        capacity: 0.0,
    };
    let done = match arguments.drill {
        Drill::Bench => drills.bench().await,
        Drill::Chaos => drills.chaos().await,
    };
    let Drills { world, results, .. } = drills;
    if done.is_err() || results.iter().any(|row| !row.kept) {
        println!("logs: {}", world.keep_logs("walk")?.display());
    }
    let stopped = world.stop().await;
    done?;
    stopped?;
    Ok(results)
}

struct Drills {
    world: World,
    quick: bool,
    only: Vec<String>,
    results: Vec<Result_>,
    /// The highest closed-loop rate of this run, events per second.
    capacity: f64,
}

/// A load under way.
struct Running {
    load: Arc<Load>,
    since: TailEnds,
    cpu: BTreeMap<String, u64>,
    publishing: JoinHandle<anyhow::Result<Published>>,
}

/// A finished run, before it is judged.
struct Finished {
    audit: Audit,
    requests: Vec<Request>,
    outcomes: Outcomes,
    cpu_us_per_service: BTreeMap<String, f64>,
    published: Published,
    offset_violations: usize,
    hops: Value,
}

impl Drills {
    fn wanted(&self, name: &str) -> bool {
        crate::names(&self.only, name)
    }

    async fn bench(&mut self) -> anyhow::Result<()> {
        let events = if self.quick { 20_000 } else { 200_000 };
        self.closed_loop("throughput", events).await?;
        if self.wanted("open_loop") {
            self.open_loop().await?;
        }
        Ok(())
    }

    async fn chaos(&mut self) -> anyhow::Result<()> {
        self.closed_loop("capacity", if self.quick { 10_000 } else { 40_000 })
            .await?;
        if self.wanted("restart_every_service") {
            self.restart_every_service().await?;
        }
        if self.wanted("kill_dispatch") {
            self.kill_dispatch().await?;
        }
        if self.wanted("kill_fanout") {
            self.kill_fanout().await?;
        }
        if self.wanted("scale") {
            self.scale().await?;
        }
        if self.wanted("damaged") {
            self.damaged().await?;
        }
        Ok(())
    }

    async fn begin(
        &mut self,
        run: &str,
        events: usize,
        rate: Option<f64>,
    ) -> anyhow::Result<Running> {
        let plan = json!({"latency_ms": RTT_MS, "fail_ratio": 0.01, "throttle_ratio": 0.01,
                          "retry_after_ms": 200, "seed": 7});
        self.world.simulator_plan(&plan).await?;
        let senders = if self.quick { 400 } else { 2_000 };
        let load = Arc::new(Load {
            run: format!("{run}{}", wall_us() % 1_000_000),
            senders,
            events: events / senders * senders,
            rate,
            gateway: format!("http://127.0.0.1:{}", self.world.gateway_port),
            bootstrap: self.world.bootstrap.clone(),
            simulator: self.world.simulator.clone(),
            stamps: Stamps::new(events),
        });
        println!(
            "{run}: {} events of {senders} senders, {}",
            load.events,
            rate.map_or("as fast as it goes".to_owned(), |r| format!(
                "{r:.0} per second"
            ))
        );
        let since = results_ends(&self.world).await?;
        let cpu = self.world.cpu();
        let publishing = tokio::spawn(publish(Arc::clone(&load)));
        Ok(Running {
            load,
            since,
            cpu,
            publishing,
        })
    }

    async fn finish(&mut self, running: Running) -> anyhow::Result<Finished> {
        let Running {
            load,
            since,
            cpu,
            publishing,
        } = running;
        let published = publishing.await??;
        let outcomes = wait_for_outcomes(&mut self.world, &load, &since, PATIENCE).await?;
        let requests = requests(&self.world).await?;
        let audit = audit(&load, published, &requests, &outcomes)?;
        let places = |topic| events_order::places(&self.world, &load, published, topic);
        let events = places("bongsu.events").await?;
        let deliveries = places("bongsu.deliveries.webhook").await?;
        let hops = events_order::hops(&load, published, &requests, (&events, &deliveries))?;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a drill")]
        let cpu_us_per_service = self
            .world
            .cpu()
            .into_iter()
            .map(|(name, after)| {
                let spent = after.saturating_sub(cpu.get(&name).copied().unwrap_or(0));
                (name, spent as f64 / load.events.max(1) as f64)
            })
            .collect();
        Ok(Finished {
            audit,
            offset_violations: events_order::violations(&requests, &events),
            hops,
            requests,
            outcomes,
            cpu_us_per_service,
            published,
        })
    }

    /// Adds a result; `bound` is how many duplicates the scenario allows.
    fn conclude(
        &mut self,
        scenario: &'static str,
        finished: &Finished,
        bound: usize,
        also: bool,
        more: Value,
    ) {
        let a = &finished.audit;
        let kept = a.lost == 0
            && a.order_violations == 0
            && finished.offset_violations == 0
            && a.duplicates <= bound
            && a.outcomes == a.sent
            && a.not_accepted == 0
            && also;
        #[expect(clippy::cast_precision_loss, reason = "event counts")]
        let per_second = a.sent as f64 / a.seconds;
        let services = finished.cpu_us_per_service.iter();
        let result = Result_ {
            scenario,
            sent: a.sent,
            lost: a.lost,
            duplicates: a.duplicates,
            duplicate_bound: bound,
            order_violations: a.order_violations,
            offset_violations: finished.offset_violations,
            seconds: a.seconds,
            cpu_us_per_notification: services
                .filter(|(name, _)| name.as_str() != "simulator")
                .map(|(_, us)| us)
                .sum(),
            kept,
            per_second,
            outcomes: a.outcomes,
            not_accepted: a.not_accepted,
            physical_doubles: a.physical_doubles,
            errors_answered: a.errors_answered,
            cpu_us_per_service: finished.cpu_us_per_service.clone(),
            more,
        };
        println!(
            "{scenario}: {} sent, {} lost, {} duplicates (bound {bound}), {} order violations, {:.1} s, {:.0}/s: {}",
            a.sent,
            a.lost,
            a.duplicates,
            a.order_violations,
            a.seconds,
            per_second,
            if kept { "kept" } else { "BROKEN" }
        );
        self.results.push(result);
    }

    async fn closed_loop(&mut self, name: &'static str, events: usize) -> anyhow::Result<()> {
        let running = self.begin(name, events, None).await?;
        let finished = self.finish(running).await?;
        let more = json!({"published_in_seconds": finished.published.seconds});
        self.conclude(name, &finished, 0, true, more);
        #[expect(clippy::cast_precision_loss, reason = "event counts")]
        let capacity = finished.audit.sent as f64 / finished.audit.seconds;
        self.capacity = self.capacity.max(capacity);
        Ok(())
    }

    async fn open_loop(&mut self) -> anyhow::Result<()> {
        let rate = self.capacity / 2.0;
        let seconds = if self.quick { 15.0 } else { 60.0 };
        let running = self
            .begin("open_loop", events_of(rate, seconds), Some(rate))
            .await?;
        let finished = self.finish(running).await?;
        let a = &finished.audit;
        let more = json!({"rate": rate, "p50_ms": a.p50_ms, "p99_ms": a.p99_ms, "max_ms": a.max_ms,
                          "from": "due time of publish to request read by the simulator",
                          "hops": finished.hops});
        self.conclude("open_loop", &finished, 0, true, more);
        Ok(())
    }

    async fn restart_every_service(&mut self) -> anyhow::Result<()> {
        let rate = self.capacity / 2.0;
        let seconds = if self.quick { 25.0 } else { 60.0 };
        let events = events_of(rate, seconds);
        let running = self.begin("restart", events, Some(rate)).await?;
        tokio::time::sleep(Duration::from_secs_f64(seconds / 5.0)).await;
        let mut drains = BTreeMap::new();
        for service in ["gateway", "fanout", "ledger"] {
            let took = self.world.take(service)?.terminate().await?;
            drains.insert(service.to_owned(), took.as_secs_f64());
            self.world.start_service(service)?;
            tokio::time::sleep(Duration::from_secs_f64(seconds / 10.0)).await;
        }
        for name in self.world.dispatchers() {
            let took = self.world.take(&name)?.terminate().await?;
            drains.insert(name, took.as_secs_f64());
            self.world.start_dispatch()?;
        }
        let finished = self.finish(running).await?;
        let more = json!({"rate": rate, "drain_seconds": drains,
                          "longest_stall_seconds": finished.audit.longest_stall});
        self.conclude("restart_every_service", &finished, 0, true, more);
        Ok(())
    }

    async fn kill_dispatch(&mut self) -> anyhow::Result<()> {
        let rate = self.capacity / 2.0;
        // After a kill nobody serves for some 20 s. The load must outlast the last kill.
        let (kills, jitter, round) = if self.quick {
            (2, 6.0, 12.0)
        } else {
            (10, 12.5, 29.0)
        };
        let total = f64::from(kills) * round + 10.0;
        let running = self
            .begin("kill", events_of(rate, total), Some(rate))
            .await?;
        let mut killed = Vec::new();
        for _ in 0..kills {
            // Kills fall anywhere in commits and batches, while a successor catches up and when it has.
            let within = u64::try_from(Duration::from_secs_f64(jitter).as_millis())?;
            let jitter = f64::from(u32::try_from(wall_us() % within)?) / 1_000.0;
            self.wait_until_it_flows(Duration::from_secs(120)).await?;
            tokio::time::sleep(Duration::from_secs_f64(2.0 + jitter)).await;
            let name = self.world.dispatchers().pop().context("no dispatch runs")?;
            let process = self.world.take(&name)?;
            let at_us = process.kill().await?;
            killed.push(Kill {
                worker: name,
                at_us,
            });
            self.world.start_dispatch()?;
        }
        let finished = self.finish(running).await?;
        let allowances: Vec<_> = killed
            .iter()
            .map(|k| allowance(k, &finished.requests, &finished.outcomes))
            .collect();
        let bound = allowances.iter().map(|a| a.bound).sum();
        let ceiling_kept = allowances.iter().all(|a| a.bound <= a.ceiling());
        let idle = allowances.iter().filter(|a| a.per_second == 0).count();
        let mut open: Vec<usize> = allowances.iter().map(|a| a.open).collect();
        open.sort_unstable();
        let median_open = open.get(open.len() / 2).copied().unwrap_or(0);
        let more = json!({
            "kills": kills, "kills_of_an_idle_worker": idle, "rate": rate, "median_in_flight_at_kill": median_open,
            "longest_stall_seconds": finished.audit.longest_stall,
            "per_kill": allowances.iter().map(|a| json!({
                "bound": a.bound, "open_at_kill": a.open, "of_these_on_the_wire": a.on_the_wire,
                "per_second_before": a.per_second, "busiest_40_ms": a.busiest_40_ms, "ceiling": a.ceiling()})).collect::<Vec<_>>(),
            "bound_below_open_plus_50ms": ceiling_kept,
        });
        // The ceiling is a statement about speed: it is judged at full size, on a quiet machine, and
        // only shown in the quick form that runs in CI.
        self.conclude(
            "kill_dispatch",
            &finished,
            bound,
            (ceiling_kept && idle == 0) || self.quick,
            more,
        );
        Ok(())
    }

    /// Waits until the simulator gets requests at some speed: a kill of an idle worker shows nothing.
    async fn wait_until_it_flows(&mut self, patience: Duration) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut before = self.requests_so_far().await?;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.world.check_alive()?;
            let now = self.requests_so_far().await?;
            #[expect(clippy::cast_precision_loss, reason = "request counts")]
            if (now - before) as f64 > self.capacity / 4.0 {
                return Ok(());
            }
            before = now;
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "nothing flows");
        }
    }

    async fn requests_so_far(&self) -> anyhow::Result<u64> {
        let url = format!("{}/_sim/counts", self.world.simulator);
        let counts: Value = self.world.client.get(url).send().await?.json().await?;
        counts
            .get("requests")
            .and_then(Value::as_u64)
            .context("no count of requests")
    }

    async fn kill_fanout(&mut self) -> anyhow::Result<()> {
        let rate = self.capacity / 2.0;
        let kills = if self.quick { 1 } else { 3 };
        let events = events_of(rate, f64::from(kills) * 12.0 + 10.0);
        let running = self.begin("fanoutkill", events, Some(rate)).await?;
        for _ in 0..kills {
            self.wait_until_it_flows(Duration::from_secs(60)).await?;
            // At this rate transactions follow one another: a kill lands in one.
            let jitter = wall_us() % 2_000;
            tokio::time::sleep(Duration::from_millis(1_000 + jitter)).await;
            self.world.take("fanout")?.kill().await?;
            self.world.start_service("fanout")?;
        }
        let finished = self.finish(running).await?;
        let stall = finished.audit.longest_stall;
        let more = json!({"kills": kills, "rate": rate, "longest_stall_seconds": stall,
                          "stall_limit_seconds": 15});
        // As with a kill of dispatch: how long it takes is judged at full size only.
        self.conclude(
            "kill_fanout",
            &finished,
            0,
            stall <= 15.0 || self.quick,
            more,
        );
        Ok(())
    }

    async fn scale(&mut self) -> anyhow::Result<()> {
        let rate = self.capacity / 2.0;
        let pause = if self.quick { 6.0 } else { 12.0 };
        let running = self
            .begin("scale", events_of(rate, pause * 6.0), Some(rate))
            .await?;
        let wait = || tokio::time::sleep(Duration::from_secs_f64(pause));
        let mut steps = Vec::new();
        // One becomes two, two become four, one more, one less.
        for add in [1, 2, 1] {
            wait().await;
            for _ in 0..add {
                steps.push(format!("added {}", self.world.start_dispatch()?));
            }
        }
        wait().await;
        while self.world.dispatchers().len() > 1 {
            let name = self.world.dispatchers().remove(0);
            self.world.take(&name)?.terminate().await?;
            steps.push(format!("removed {name}"));
            if self.world.dispatchers().len() == 4 {
                wait().await;
            }
        }
        let finished = self.finish(running).await?;
        let more = json!({"rate": rate, "steps": steps,
                          "longest_stall_seconds": finished.audit.longest_stall});
        self.conclude("scale", &finished, 0, true, more);
        Ok(())
    }

    async fn damaged(&mut self) -> anyhow::Result<()> {
        let rate = (self.capacity / 4.0).min(500.0);
        let running = self
            .begin("damaged", events_of(rate, 12.0), Some(rate))
            .await?;
        let damaged = damage::publish(&self.world, &running.load).await?;
        let status = damage::too_large_by_http(&self.world, &running.load).await?;
        let finished = self.finish(running).await?;
        let missing = damage::missing(&self.world, &damaged, Duration::from_secs(60)).await?;
        let more = json!({
            "damaged": damaged.iter().map(|d| d.reason).collect::<Vec<_>>(),
            "missing_in_dead_letters": missing, "http_status_of_600_kib": status,
        });
        let also = missing.is_empty() && status == 413;
        self.conclude("damaged", &finished, 0, also, more);
        Ok(())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "event counts of a drill"
)]
fn events_of(rate: f64, seconds: f64) -> usize {
    (rate * seconds) as usize
}
