//! AlimTalk at the dealer's rate: deliveries lie in Kafka, dispatch sends them through Bizgo's twin,
//! the twin calls the gateway back at the same rate, some calls late, doubled or overtaking.
//!
//! Judged at the twin (rate, every sliding second, copies) and on `results` (every report with its
//! delivery).

mod receipts;
mod twin;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bongsu_channels::alimtalk::payload::TEMPLATE;
use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{AddressId, Channel, Class, Content, DeliveryId, partition_of};
use bongsu_schemas::{Codec, Topics, headers};
use bongsu_stream::kafka::{KafkaCluster, Settings};
use bongsu_stream::port::{Cluster, Headers, Outgoing};
use serde::Serialize;

use crate::Arguments;
use crate::apns::pipeline::Kafka;
use crate::load::wall_us;
use crate::processes::{Process, memory};
use crate::world::free_port;
use receipts::Receipts;
use twin::{Counted, Twin};

const PARTITIONS: i32 = 8;
/// Senders the deliveries are spread over: one broadcaster with `spread = 32`.
const SENDERS: u32 = 32;
/// Records without an acknowledgement at most.
const OUTSTANDING: usize = 10_000;
/// The share of the dealer's rate that must be reached.
const SHARE: f64 = 0.95;
/// Nothing new for so long is the end.
const STILL: Duration = Duration::from_secs(60);
/// The share of reports that are late, that are doubled, and that are overtaken.
const TROUBLE: f64 = 0.05;
/// Signs references, and what the dealer signs.
const SECRET: &str = "a secret of the bench";

/// One scenario.
struct Scenario {
    name: &'static str,
    /// Recipients in a second.
    tps: u32,
    deliveries: u32,
}

/// Its result.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    scenario: &'static str,
    system: &'static str,
    tps: u32,
    sent: u32,
    /// By the twin, from the first request read to the last.
    per_second: f64,
    /// The busiest sliding second at the twin, in recipients.
    most_in_a_second: u64,
    lost: u64,
    duplicates: u64,
    duplicate_bound: u64,
    /// Recipients the twin refused because its second was full.
    over_limit: u64,
    /// Reports the twin posted and had acknowledged, doubles included.
    reports: u64,
    /// Posts beside, because an acknowledgement did not come in time.
    posted_again: u64,
    /// Deliveries with a report.
    mapped: usize,
    /// Reports that found no delivery.
    unmapped: u64,
    /// From the report's time at the dealer to Kafka's, 99 of 100.
    p99_ms: f64,
    seconds: f64,
    /// Dispatch and gateway.
    cpu_us_per_notification: f64,
    dispatch_cpu_us: f64,
    gateway_cpu_us: f64,
    twin_cpu_us: f64,
    dispatch_peak_kib: u64,
    gateway_peak_kib: u64,
    /// Whether every promise held.
    pub(crate) kept: bool,
    broken: Vec<String>,
    /// What the quick form shows and does not judge.
    slow: Vec<String>,
}

/// Runs what was asked for.
pub(crate) async fn run(
    arguments: &Arguments,
    each: &mut dyn FnMut(Row) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // 420,000 people, ten times compressed; then the dealer's true rate.
    let (compressed, true_rate) = if arguments.quick {
        (40_000, 3_000)
    } else {
        (420_000, 60_000)
    };
    for scenario in [
        Scenario {
            name: "alimtalk-2000",
            tps: 2_000,
            deliveries: compressed,
        },
        Scenario {
            name: "alimtalk-200",
            tps: 200,
            deliveries: true_rate,
        },
    ] {
        if arguments.wants(scenario.name) {
            each(play(arguments, &scenario).await?)?;
        }
    }
    Ok(())
}

/// What runs for one scenario.
struct World {
    dispatch: Process,
    gateway: Process,
    twin: Twin,
    cluster: std::sync::Arc<dyn Cluster>,
    _kafka: Kafka,
    _dir: tempfile::TempDir,
}

async fn play(arguments: &Arguments, scenario: &Scenario) -> anyhow::Result<Row> {
    let (mut world, before) = World::start(arguments, scenario).await?;
    let begun = Instant::now();
    let counted = world.settle(scenario).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = |process: &Process, before: u64| process.cpu_us().saturating_sub(before);
    let used = Used {
        dispatch: cpu(&world.dispatch, before.dispatch),
        gateway: cpu(&world.gateway, before.gateway),
        twin: world.twin.cpu_us().saturating_sub(before.twin),
        dispatch_kib: memory(world.dispatch.pid()).map_or(0, |m| m.peak_kib),
        gateway_kib: memory(world.gateway.pid()).map_or(0, |m| m.peak_kib),
    };
    world.dispatch.terminate().await?;
    world.gateway.terminate().await?;
    let report = world.twin.report().await?;
    let receipts = Receipts::read(world.cluster.as_ref(), ids(scenario)).await?;
    world.twin.stop().await?;
    let mut row = judge(scenario, seconds, &used, &counted, &report, &receipts);
    if arguments.quick {
        let speed = |broken: &String| broken.starts_with("at least");
        row.slow = row.broken.extract_if(.., |b| speed(b)).collect();
        row.kept = row.broken.is_empty();
    }
    Ok(row)
}

/// Processor time before a run.
struct Before {
    dispatch: u64,
    gateway: u64,
    twin: u64,
}

/// What was used.
struct Used {
    dispatch: u64,
    gateway: u64,
    twin: u64,
    dispatch_kib: u64,
    gateway_kib: u64,
}

impl World {
    /// Writes the deliveries, then starts what sends them.
    async fn start(arguments: &Arguments, scenario: &Scenario) -> anyhow::Result<(Self, Before)> {
        let dir = tempfile::Builder::new()
            .prefix("bongsu-alimtalk")
            .tempdir()?;
        let kafka = Kafka::start(&arguments.scripts, dir.path())?;
        let gateway_port = free_port()?;
        let reports = format!("http://127.0.0.1:{gateway_port}/v1/reports/bizgo/default");
        let twin = Twin::start(&arguments.bongsu, dir.path(), scenario.tps, &reports).await?;
        let config = dir.path().join("bongsu.toml");
        let text = settings(scenario, &kafka.bootstrap, gateway_port, twin.url());
        // Not where the benchmark is called from.
        let store = dir.path().join("gateway.db");
        let text = format!(
            "{text}[store]\nurl = \"sqlite:{}?mode=rwc\"\n",
            store.display()
        );
        std::fs::write(&config, text)?;
        let config = config.display().to_string();
        let applied = Command::new(&arguments.bongsu)
            .args(["--config", &config, "topics", "apply"])
            .output()?;
        anyhow::ensure!(
            applied.status.success(),
            "topics apply: {}",
            String::from_utf8_lossy(&applied.stderr)
        );
        let cluster = KafkaCluster::connect(Settings {
            bootstrap_servers: kafka.bootstrap.clone(),
            ..Settings::default()
        })?;
        write(cluster.as_ref(), scenario).await?;
        let start = |name: &str, more: &[&str]| {
            let mut words = vec!["--config", &config, "run", name];
            words.extend(more);
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            Process::start(name, &arguments.bongsu, &words, dir.path())
        };
        let gateway = start("gateway", &[])?;
        twin.wait_for(&format!("http://127.0.0.1:{gateway_port}/readyz"))
            .await?;
        let dispatch = start("dispatch", &["--channel", "alimtalk"])?;
        let before = Before {
            dispatch: dispatch.cpu_us(),
            gateway: gateway.cpu_us(),
            twin: twin.cpu_us(),
        };
        Ok((
            Self {
                dispatch,
                gateway,
                twin,
                cluster,
                _kafka: kafka,
                _dir: dir,
            },
            before,
        ))
    }

    /// Waits until every delivery was taken and every report acknowledged.
    async fn settle(&mut self, scenario: &Scenario) -> anyhow::Result<Counted> {
        let mut moved = Instant::now();
        let mut last = Counted::default();
        let mut look = tokio::time::interval(Duration::from_millis(200));
        loop {
            look.tick().await;
            anyhow::ensure!(self.dispatch.is_alive(), "dispatch died");
            anyhow::ensure!(self.gateway.is_alive(), "the gateway died");
            let now = self.twin.counted().await?;
            let all = u64::from(scenario.deliveries);
            if now.taken >= all && now.waiting == 0 && now.acknowledged >= now.reports {
                return Ok(now);
            }
            if now != last {
                (moved, last) = (Instant::now(), now);
            }
            if moved.elapsed() > STILL {
                eprintln!("{}: nothing moves any more: {last:?}", scenario.name);
                return Ok(last);
            }
        }
    }
}

fn settings(scenario: &Scenario, bootstrap: &str, port: u16, twin: &str) -> String {
    format!(
        "[kafka]\nbootstrap_servers = \"{bootstrap}\"\n\
         [topics]\nchannels = [\"alimtalk\"]\npartitions = {PARTITIONS}\nreplication = 1\n\
         min_insync_replicas = 1\n\
         [gateway]\nlisten = \"127.0.0.1:{port}\"\nallow_anonymous = true\nallow_private = true\n\
         [channels.alimtalk.accounts.default]\napi_base = \"{twin}\"\napi_key = \"bench\"\n\
         sender_key = \"{sender_key}\"\nreference_secret = \"{SECRET}\"\n\
         limits.per_second = {tps}\n\
         reports = {{ mode = \"webhook\", secret = \"{SECRET}\", allow_from = [\"127.0.0.0/8\"] }}\n\
         templates.free = {{ text = \"#{{text}}\" }}\n",
        sender_key = "0".repeat(40),
        tps = scenario.tps,
    )
}

fn sender(i: u32) -> String {
    format!("campaign-{}", i % SENDERS)
}

fn address_id(i: u32) -> AddressId {
    AddressId(format!("a-{i}"))
}

/// The id of delivery `i`.
fn id(i: u32) -> DeliveryId {
    DeliveryId::derive(DeliveryParts {
        sender: &sender(i),
        event_id: &i.to_string(),
        channel: Channel::AlimTalk.as_str(),
        recipient: &i.to_string(),
        address_id: &address_id(i),
        step: 0,
    })
}

fn ids(scenario: &Scenario) -> impl Iterator<Item = DeliveryId> {
    (0..scenario.deliveries).map(id)
}

/// Delivery `i` as fanout writes it.
fn record(i: u32, now_ms: i64) -> bongsu_schemas::Delivery {
    let text = format!("Your contract {i} begins today. [#{i} {} {i}]", sender(i));
    let data = [(TEMPLATE, "free"), ("text", text.as_str())];
    let content = Content {
        data: data
            .into_iter()
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect(),
        ..Content::default()
    };
    bongsu_schemas::Delivery {
        delivery_id: id(i).to_string(),
        event_id: i.to_string(),
        sender: sender(i),
        class: Class::Bulk.as_str().to_owned(),
        purpose: "informational".to_owned(),
        channel: Channel::AlimTalk.as_str().to_owned(),
        recipient: i.to_string(),
        address: format!("010{i:08}"),
        address_id: address_id(i).0,
        account: "default".to_owned(),
        platform: Channel::AlimTalk.default_platform().as_str().to_owned(),
        content_hash: bongsu_schemas::convert::content_hash(&content).to_hex(),
        content: (&content).into(),
        origin: "event".to_owned(),
        accepted_at: bongsu_schemas::millis::Millis(now_ms),
        expires_at: bongsu_schemas::millis::Millis(now_ms + 24 * 3_600_000),
        on_uncertain: "resend".to_owned(),
        campaign_id: Some("campaign".to_owned()),
        ..bongsu_schemas::Delivery::default()
    }
}

async fn write(cluster: &dyn Cluster, scenario: &Scenario) -> anyhow::Result<()> {
    let producer = cluster.producer(Duration::from_millis(5))?;
    let (codec, topics) = (Codec::default(), Topics::default());
    let topic = topics.deliveries(Channel::AlimTalk, Class::Bulk);
    let mut waiting = std::collections::VecDeque::with_capacity(OUTSTANDING);
    let now_ms = i64::try_from(wall_us() / 1_000)?;
    for i in 0..scenario.deliveries {
        let delivery = record(i, now_ms);
        waiting.push_back(producer.send(Outgoing {
            topic: topic.clone(),
            partition: partition_of(delivery.sender.as_bytes(), PARTITIONS),
            key: Some(delivery.sender.clone().into()),
            value: Some(codec.encode(&delivery)?),
            headers: Headers::default().with(headers::DELIVERY_ID, delivery.delivery_id.clone()),
        }));
        if waiting.len() >= OUTSTANDING
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.await.context("a delivery")?;
        }
    }
    for rest in waiting {
        rest.await.context("a delivery")?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn judge(
    scenario: &Scenario,
    seconds: f64,
    used: &Used,
    counted: &Counted,
    report: &twin::Seen,
    receipts: &Receipts,
) -> Row {
    let all = u64::from(scenario.deliveries);
    let took = report.last_read_us.saturating_sub(report.first_read_us) as f64 / 1e6;
    let each = |us: u64| us as f64 / all.max(1) as f64;
    let mut row = Row {
        scenario: scenario.name,
        system: "bongsu",
        tps: scenario.tps,
        sent: scenario.deliveries,
        per_second: report.accepted as f64 / took.max(1e-9),
        most_in_a_second: report.most_in_a_second,
        lost: all.saturating_sub(report.accepted),
        duplicates: report.duplicates,
        duplicate_bound: 0,
        over_limit: counted.over_limit,
        reports: counted.acknowledged,
        posted_again: counted.posted.saturating_sub(counted.acknowledged),
        mapped: receipts.reported,
        unmapped: receipts.unmapped,
        p99_ms: receipts.p99_ms,
        seconds,
        cpu_us_per_notification: each(used.dispatch + used.gateway),
        dispatch_cpu_us: each(used.dispatch),
        gateway_cpu_us: each(used.gateway),
        twin_cpu_us: each(used.twin),
        dispatch_peak_kib: used.dispatch_kib,
        gateway_peak_kib: used.gateway_kib,
        kept: true,
        broken: Vec::new(),
        slow: Vec::new(),
    };
    let least = SHARE * f64::from(scenario.tps);
    let n = scenario.deliveries as usize;
    for (promise, held) in [
        ("at least 95 % of the rate", row.per_second >= least),
        (
            "no sliding second above the rate",
            row.most_in_a_second <= u64::from(scenario.tps) && row.over_limit == 0,
        ),
        ("lost 0", row.lost == 0),
        ("duplicates 0", row.duplicates == 0),
        ("every delivery is accepted once", receipts.accepted == n),
        ("every delivery has its report", row.mapped == n),
        ("every report is mapped", row.unmapped == 0),
        ("a report told twice is one receipt", receipts.doubled == 0),
        (
            "reports were doubled",
            counted.reports > all && counted.acknowledged >= counted.reports,
        ),
    ] {
        if !held {
            row.kept = false;
            row.broken.push(promise.to_owned());
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_told_apart_and_carry_what_the_channel_needs() {
        let delivery = record(7, 1_000);
        assert_eq!(delivery.delivery_id, id(7).to_string());
        assert_ne!(id(7), id(7 + SENDERS));
        assert_eq!(delivery.address, "01000000007");
        assert!(delivery.content.data["text"].contains("[#7 campaign-7 7]"));
    }

    #[test]
    fn a_broken_promise_is_named() {
        let scenario = Scenario {
            name: "x",
            tps: 10,
            deliveries: 100,
        };
        let used = Used {
            dispatch: 100,
            gateway: 100,
            twin: 0,
            dispatch_kib: 0,
            gateway_kib: 0,
        };
        let counted = Counted {
            taken: 100,
            reports: 105,
            posted: 106,
            acknowledged: 105,
            ..Counted::default()
        };
        let seen = twin::Seen {
            accepted: 100,
            first_read_us: 0,
            last_read_us: 10_000_000,
            most_in_a_second: 10,
            ..twin::Seen::default()
        };
        let receipts = Receipts {
            accepted: 100,
            reported: 100,
            ..Receipts::default()
        };
        let row = judge(&scenario, 11.0, &used, &counted, &seen, &receipts);
        assert!(row.kept, "{:?}", row.broken);
        assert!((row.cpu_us_per_notification - 2.0).abs() < 1e-9);
        let seen = twin::Seen {
            most_in_a_second: 11,
            duplicates: 1,
            ..seen
        };
        let row = judge(&scenario, 11.0, &used, &counted, &seen, &receipts);
        assert_eq!(
            row.broken,
            ["no sliding second above the rate", "duplicates 0"]
        );
    }
}
