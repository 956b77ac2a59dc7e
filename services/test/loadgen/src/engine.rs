//! The drills of dispatch alone: deliveries are written straight to their topic, and everything is
//! counted at the provider's simulator and in `results`.
//!
//! Every scenario has a deadline, begins with no dispatch running and leaves none. One that fails is
//! a broken row, and the next one gets a world of its own.

mod bound;
mod dice;
mod disk;
mod drill;
mod drills;
pub(crate) mod load;
mod log;
pub(crate) mod profile;
mod progress;
mod rates;
mod receipts;
pub(crate) mod row;
mod verdict;
mod world;
mod writer;

use std::time::Duration;

use drill::{Drill, EVEN, RTT_MS};
use drills::bench::Comparison;
use drills::kills::Where;
use drills::provider::{Misbehaviour, misbehaviours};
use drills::{
    bench, classes, database, garbage, kills, network, order, pacing, provider, restore, stops,
};
use load::Keys;
use row::Row;
use world::{Shape, World};

use crate::Arguments;

/// Partitions of every topic.
const PARTITIONS: i32 = 32;

/// One scenario.
enum Scenario {
    Kills(Where),
    RollingRestart,
    Rebalances,
    FailingKeys,
    LongWait,
    /// Workers, and the wait a 429 asks for.
    UnknownLimit(&'static str, usize, u64),
    /// Workers.
    Doubled(&'static str, usize),
    Configured,
    Frozen,
    CutFromKafka,
    CutFromProvider,
    HalfOpenKafka,
    IdleHalfOpen,
    HalfOpenProvider,
    BrokersKilled,
    QueueFull,
    DiskFull,
    CorruptCheckpoint,
    DatabaseRollsBack,
    HalfOpenDatabase,
    Provider(Misbehaviour),
    /// Open offsets.
    Restore(&'static str, u32),
    Campaign,
    StopSender,
    LoopingPublisher,
    Compare(Comparison),
    OpenLoop,
    /// Whether over HTTP/2.
    Memory(&'static str, bool),
    /// Whether one provider stands behind all addresses.
    MemoryOutage(&'static str, bool),
}

impl Scenario {
    /// The chaos drills, the most important first.
    fn chaos() -> Vec<Self> {
        let mut all = vec![
            Self::Kills(Where::AtWork),
            Self::RollingRestart,
            Self::Rebalances,
            Self::FailingKeys,
            Self::LongWait,
            Self::UnknownLimit("pacing_alone", 1, 0),
            Self::UnknownLimit("pacing_four", 4, 0),
            Self::UnknownLimit("pacing_retry_after", 1, 1_000),
            Self::Doubled("pacing_doubled_alone", 1),
            Self::Doubled("pacing_doubled_four", 4),
            Self::Configured,
            Self::Kills(Where::AmongRetries),
            Self::Kills(Where::AtStart),
            Self::Frozen,
            Self::CutFromKafka,
            Self::CutFromProvider,
            Self::HalfOpenKafka,
            Self::IdleHalfOpen,
            Self::HalfOpenDatabase,
            Self::HalfOpenProvider,
            Self::BrokersKilled,
            Self::QueueFull,
            Self::DiskFull,
            Self::CorruptCheckpoint,
            Self::DatabaseRollsBack,
        ];
        all.extend(misbehaviours().into_iter().map(Self::Provider));
        all.extend([
            Self::Campaign,
            Self::Restore("restore_0", 0),
            Self::Restore("restore_10000", 10_000),
            Self::Restore("restore_100000", 100_000),
            Self::StopSender,
            Self::LoopingPublisher,
        ]);
        all
    }

    /// The benchmarks.
    fn bench(quick: bool) -> Vec<Self> {
        let plain = Comparison::plain;
        let several = |name, processes| Comparison {
            processes,
            ..plain(name, RTT_MS, 500)
        };
        let mixed = |name, keys, failing| Comparison {
            keys,
            failing,
            ..plain(name, RTT_MS, 500)
        };
        let recipients = if quick { 40_000 } else { 400_000 };
        let broadcast = Keys::Broadcast {
            recipients,
            senders: 1_000,
        };
        let http2 = |name, rtt_ms, in_flight| Comparison {
            http2: true,
            ..plain(name, rtt_ms, in_flight)
        };
        let comparisons = [
            plain("rtt_60_in_flight_500", RTT_MS, 500),
            plain("rtt_60_in_flight_1000", RTT_MS, 1_000),
            http2("h2_rtt_60_in_flight_500", RTT_MS, 500),
            http2("h2_rtt_60_in_flight_1000", RTT_MS, 1_000),
            http2("h2_rtt_0", 0, 500),
            http2("h2_rtt_300", 300, 1_000),
            plain("rtt_0", 0, 500),
            plain("rtt_300", 300, 1_000),
            several("processes_2", 2),
            several("processes_4", 4),
            mixed("failing_1_percent", EVEN, 0.01),
            mixed("failing_10_percent", EVEN, 0.1),
            mixed("zipf_keys", Keys::zipf(10_000, 1.0), 0.0),
            mixed("broadcast_beside_ordinary", broadcast, 0.0),
        ];
        let mut all: Vec<Self> = comparisons.into_iter().map(Self::Compare).collect();
        all.extend([
            Self::OpenLoop,
            Self::Memory("memory_5000", false),
            Self::Memory("h2_memory_5000", true),
            Self::MemoryOutage("memory_outage", true),
            Self::MemoryOutage("memory_outage_of_strangers", false),
        ]);
        all
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Kills(place) => place.name(),
            Self::RollingRestart => "rolling_restart",
            Self::Rebalances => "rebalances",
            Self::FailingKeys => "failing_keys",
            Self::LongWait => "long_wait",
            Self::UnknownLimit(name, ..) | Self::Doubled(name, _) => name,
            Self::Configured => "pacing_configured",
            Self::Frozen => "frozen_and_continued",
            Self::CutFromKafka => "cut_from_kafka",
            Self::CutFromProvider => "cut_from_provider",
            Self::HalfOpenKafka => "half_open_kafka",
            Self::IdleHalfOpen => "idle_half_open",
            Self::HalfOpenProvider => "half_open_provider",
            Self::BrokersKilled => "brokers_killed",
            Self::QueueFull => "queue_full",
            Self::DiskFull => "disk_full",
            Self::CorruptCheckpoint => "corrupt_checkpoint",
            Self::DatabaseRollsBack => "database_rolls_back",
            Self::HalfOpenDatabase => "half_open_database",
            Self::Restore(name, _) | Self::Memory(name, _) | Self::MemoryOutage(name, _) => name,
            Self::Provider(what) => what.name,
            Self::Campaign => "campaign_beside",
            Self::StopSender => "stop_sender",
            Self::LoopingPublisher => "looping_publisher",
            Self::Compare(what) => what.name,
            Self::OpenLoop => "open_loop",
        }
    }

    /// Whether it needs a disk of its own.
    const fn fills_the_disk(&self) -> bool {
        matches!(self, Self::DiskFull)
    }

    async fn run(&self, drill: &mut Drill) -> anyhow::Result<Row> {
        match self {
            Self::Kills(place) => kills::kills(drill, *place).await,
            Self::RollingRestart => kills::rolling_restart(drill).await,
            Self::Rebalances => kills::rebalances(drill).await,
            Self::FailingKeys => order::failing_keys(drill).await,
            Self::LongWait => order::long_wait(drill).await,
            Self::UnknownLimit(name, workers, wait) => {
                pacing::unknown_limit(drill, name, *workers, *wait).await
            }
            Self::Doubled(name, workers) => pacing::doubled(drill, name, *workers).await,
            Self::Configured => pacing::configured(drill).await,
            Self::Frozen => network::frozen(drill).await,
            Self::CutFromKafka => network::cut_from_kafka(drill).await,
            Self::CutFromProvider => network::cut_from_provider(drill).await,
            Self::HalfOpenKafka => network::half_open_kafka(drill).await,
            Self::IdleHalfOpen => network::idle_half_open(drill).await,
            Self::HalfOpenProvider => network::half_open_provider(drill).await,
            Self::BrokersKilled => network::brokers_killed(drill).await,
            Self::QueueFull => network::queue_full(drill).await,
            Self::DiskFull => network::disk_full(drill).await,
            Self::CorruptCheckpoint => garbage::corrupt_checkpoint(drill).await,
            Self::DatabaseRollsBack => database::rolls_back(drill).await,
            Self::HalfOpenDatabase => database::half_open(drill).await,
            Self::Restore(name, open) => restore::restore(drill, name, *open).await,
            Self::Provider(what) => provider::misbehave(drill, what).await,
            Self::Campaign => classes::campaign(drill).await,
            Self::StopSender => stops::stop_sender(drill).await,
            Self::LoopingPublisher => stops::looping_publisher(drill).await,
            Self::Compare(what) => bench::compare(drill, what).await,
            Self::OpenLoop => bench::open_loop(drill).await,
            Self::Memory(name, http2) => bench::memory(drill, name, *http2).await,
            Self::MemoryOutage(name, one) => bench::memory_outage(drill, name, *one).await,
        }
    }
}

/// Runs the scenarios asked for and gives each one's row to `each`.
pub(crate) async fn run(
    arguments: &Arguments,
    each: &mut dyn FnMut(Row) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (all, brokers) = match arguments.drill {
        crate::Drill::Bench => (Scenario::bench(arguments.quick), 1),
        crate::Drill::Chaos => (Scenario::chaos(), 3),
    };
    let limit = Duration::from_secs(if arguments.quick { 600 } else { 5_400 });
    let mut drill: Option<Drill> = None;
    for scenario in all.iter().filter(|s| arguments.wants(s.name())) {
        let shape = Shape {
            brokers: arguments.brokers.unwrap_or(brokers),
            partitions: PARTITIONS,
            small_disk: scenario.fills_the_disk(),
        };
        println!("{} ...", scenario.name());
        let ready = match drill.take() {
            Some(drill) if drill.world.shape == shape => Ok(drill),
            Some(other) => {
                other.world.stop().await?;
                world_of(arguments, shape).await
            }
            None => world_of(arguments, shape).await,
        };
        let mut row = Row::new(scenario.name(), arguments.quick);
        let mut ready = match ready {
            Ok(ready) => ready,
            Err(error) => {
                row.promise(&format!("no world for it: {error:#}"), false);
                println!("{}", row.line());
                each(row)?;
                continue;
            }
        };
        let ran = tokio::time::timeout(limit, scenario.run(&mut ready)).await;
        let usable = matches!(ran, Ok(Ok(_)));
        match ran {
            Ok(Ok(judged)) => row = judged,
            Ok(Err(error)) => row.promise(&format!("failed: {error:#}"), false),
            Err(_) => row.promise(&format!("did not end within {} s", limit.as_secs()), false),
        }
        println!("{}", row.line());
        if !row.kept {
            println!(
                "logs: {}",
                ready.world.keep_logs(scenario.name())?.display()
            );
        }
        // Whatever a failed one leaves behind goes with its world.
        if usable {
            drill = Some(ready);
        } else {
            ready.world.kill_fleet();
        }
        each(row)?;
    }
    if let Some(ready) = drill {
        ready.world.stop().await?;
    }
    Ok(())
}

async fn world_of(arguments: &Arguments, shape: Shape) -> anyhow::Result<Drill> {
    let world = World::start(&arguments.bongsu, &arguments.scripts, shape).await?;
    Ok(Drill::new(world, arguments.quick, arguments.seed))
}
