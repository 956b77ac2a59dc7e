//! How fast the whole ledger is: reads, decodes and writes receipts that wait in the local log into
//! a PostgreSQL that writes through. `cargo run --release -p bongsu-ledger --example
//! ledger_throughput -- [receipts]`
#![expect(clippy::print_stdout, reason = "it prints its measurement")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{AddressId, DeliveryId, OutcomeId, Timestamp};
use bongsu_ledger::{LedgerError, Resources, Settings, run};
use bongsu_runtime::{Clock, Health, Metrics, Secret, Shutdown, Tasks};
use bongsu_schemas::lookup::NoLookup;
use bongsu_schemas::{Codec, Millis, Receipt, Topics};
use bongsu_store::{CountsQuery, LedgerStore};
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::{Cluster, Headers, Outgoing, TopicSpec};
use bongsu_testkit::Postgres;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PARTITIONS: i32 = 8;
const AT: i64 = 1_760_000_040_000;

fn receipt(number: usize) -> Receipt {
    let event_id = format!("order-{number}");
    let recipient = format!("customer-{}", number % 100_000);
    let address_id = AddressId(format!("device-{}", number % 100_000));
    let delivery = DeliveryId::derive(DeliveryParts {
        sender: "shop",
        event_id: &event_id,
        channel: "webhook",
        recipient: &recipient,
        address_id: &address_id,
        step: 0,
    });
    Receipt {
        kind: "outcome".to_owned(),
        receipt_id: OutcomeId::of(delivery).to_string(),
        delivery_id: Some(delivery.to_string()),
        event_id,
        sender: "shop".to_owned(),
        class: "transactional".to_owned(),
        channel: Some("webhook".to_owned()),
        recipient: Some(recipient),
        address_id: Some(address_id.0),
        platform: Some("server".to_owned()),
        outcome: "accepted".to_owned(),
        at: Millis(AT),
        accepted_at: Some(Millis(AT)),
        content_hash: "0123456789abcdef".to_owned(),
        ..Receipt::default()
    }
}

async fn filled(cluster: &dyn Cluster, topics: &Topics, receipts: usize) -> Result<(), Failure> {
    for name in [topics.results(), topics.dead_letters()] {
        let spec = TopicSpec {
            name: name.to_string(),
            partitions: PARTITIONS,
            replication: 1,
            settings: std::collections::BTreeMap::new(),
        };
        cluster.create_topic(spec).await?;
    }
    let codec = Codec::default();
    let producer = cluster.producer(Duration::ZERO)?;
    for number in 0..receipts {
        let record = Outgoing {
            topic: topics.results(),
            partition: i32::try_from(number)?.rem_euclid(PARTITIONS),
            key: None,
            value: Some(codec.encode(&receipt(number))?),
            headers: Headers::default(),
        };
        producer.send(record).await?;
    }
    Ok(())
}

async fn until_counted(store: &Arc<dyn LedgerStore>, wanted: i64) -> Result<(), Failure> {
    let all = CountsQuery::between(Timestamp(0), Timestamp(AT * 2));
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        let rows = store.counts(&all).await?;
        if rows.iter().map(|r| r.deliveries).sum::<i64>() >= wanted {
            return Ok(());
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let wanted = std::env::args().nth(1).map_or(Ok(300_000), |a| a.parse())?;
    let server = Postgres::start_durable()?;
    let url = Secret::new(server.url());
    let store = bongsu_store::open(&bongsu_store::Settings {
        url,
        ..bongsu_store::Settings::default()
    })
    .await?;
    let topics = Topics::default();
    let cluster = Arc::new(LocalCluster::default());
    filled(&*cluster, &topics, wanted).await?;
    let resources = Resources {
        cluster,
        topics,
        codec: Arc::default(),
        schemas: Arc::new(NoLookup),
        store: store.clone(),
        clock: Clock::system(),
        metrics: Metrics::new()?,
        health: Health::new(),
    };
    let shutdown = Shutdown::new();
    let mut tasks = Tasks::new();
    let begin = Instant::now();
    let ledger = run(Settings::default(), resources, shutdown.clone());
    tasks.spawn::<_, LedgerError>("ledger", ledger);
    until_counted(&store, i64::try_from(wanted)?).await?;
    let seconds = begin.elapsed().as_secs_f64();
    shutdown.request();
    tasks.join().await?;
    let rate = f64::from(u32::try_from(wanted)?) / seconds;
    println!("{wanted} receipts through the ledger: {rate:.0} receipts/s");
    Ok(())
}
