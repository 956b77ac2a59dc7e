//! How many receipts a second a backend takes: `cargo run --release -p bongsu-store --example
//! receipts_per_second -- [receipts] [writers]`. PostgreSQL and SQLite write through to the disk
//! as installed; batches hold 2,000 receipts of new deliveries, one partition per writer.
#![expect(clippy::print_stdout, reason = "it prints its measurement")]

use std::sync::Arc;
use std::time::Instant;

use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{AddressId, DeliveryId, Outcome, OutcomeId, Timestamp};
use bongsu_runtime::{Secret, Tasks};
use bongsu_store::{
    Facts, Finding, LedgerReceipt, LedgerStore, PartitionBatch, Position, ReceiptBatch, Settings,
    open,
};
use bongsu_testkit::Postgres;

const BATCH: usize = 2_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn receipt(partition: i32, offset: i64) -> LedgerReceipt {
    let event_id = format!("order-{partition}-{offset}");
    let recipient = format!("customer-{}", offset % 100_000);
    let address_id = AddressId(format!("device-{}", offset % 100_000));
    let delivery = DeliveryId::derive(DeliveryParts {
        sender: "shop",
        event_id: &event_id,
        channel: "webhook",
        recipient: &recipient,
        address_id: &address_id,
        step: 0,
    });
    let at = 1_760_000_000_000 + offset;
    LedgerReceipt {
        receipt_id: OutcomeId::of(delivery).to_string(),
        finding: Finding::Outcome {
            delivery,
            outcome: Outcome::Accepted,
        },
        facts: Facts {
            sender: "shop".to_owned(),
            event_id,
            class: "transactional".to_owned(),
            purpose: "transactional".to_owned(),
            channel: Some("webhook".to_owned()),
            account: Some("default".to_owned()),
            recipient: Some(recipient),
            address_id: Some(address_id.0),
            platform: Some("server".to_owned()),
            origin: "event".to_owned(),
            content_hash: "0123456789abcdef".to_owned(),
            accepted_at: Some(Timestamp(at)),
            expires_at: Some(Timestamp(at + 3_600_000)),
            source: Some(Position {
                topic: "bongsu.deliveries.webhook".to_owned(),
                partition: i64::from(partition),
                offset,
            }),
            ..Facts::default()
        },
        reason: "none".to_owned(),
        detail: None,
        attempts: 1,
        at: Timestamp(at),
        possible_duplicate: false,
        provider_reference: None,
        worker_id: Some("dispatch-0".to_owned()),
    }
}

fn batches(partition: i32, receipts: usize) -> Vec<ReceiptBatch> {
    let offsets: Vec<i64> = (0..).take(receipts).collect();
    offsets
        .chunks(BATCH)
        .map(|chunk| ReceiptBatch {
            partitions: vec![PartitionBatch {
                topic: "bongsu.results".into(),
                partition,
                next_offset: chunk.last().map_or(0, |o| o + 1),
                receipts: chunk.iter().map(|o| (*o, receipt(partition, *o))).collect(),
            }],
            ..ReceiptBatch::default()
        })
        .collect()
}

async fn measure(
    name: &str,
    store: Arc<dyn LedgerStore>,
    receipts: usize,
    writers: usize,
) -> Result<(), Failure> {
    let share = receipts / writers;
    let work: Vec<_> = (0..).take(writers).map(|p| batches(p, share)).collect();
    let begin = Instant::now();
    let mut tasks = Tasks::new();
    for batches in work {
        let store = store.clone();
        tasks.spawn("writer", async move {
            for batch in batches {
                store.apply(&batch).await?;
            }
            Ok::<(), bongsu_store::StoreError>(())
        });
    }
    tasks.join().await?;
    let seconds = begin.elapsed().as_secs_f64();
    let written = u32::try_from(share * writers)?;
    println!(
        "{name}: {written} receipts, {writers} writer(s), {:.0} receipts/s",
        f64::from(written) / seconds
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let receipts = arguments.next().map_or(Ok(200_000), |a| a.parse())?;
    let writers = arguments.next().map_or(Ok(1), |a| a.parse())?;
    let server = Postgres::start_durable()?;
    let directory = tempfile::tempdir()?;
    let file = format!("sqlite:{}", directory.path().join("ledger.db").display());
    for (name, url) in [("PostgreSQL", server.url()), ("SQLite", file)] {
        let settings = Settings {
            url: Secret::new(url),
            ..Settings::default()
        };
        measure(name, open(&settings).await?, receipts, writers).await?;
    }
    Ok(())
}
