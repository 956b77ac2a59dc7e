//! The store down, behind, or ahead; schemas missing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bongsu_schemas::lookup::Found;
use bongsu_schemas::{Codec, SchemaLookup, SchemaRef};
use bongsu_store::{MemoryStore, PartitionBatch, ReceiptBatch};
use bongsu_testkit::wait_until;
use bytes::Bytes;

use crate::world::{PARTITIONS, SOON, World, counted, outcomes};

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_loses_nothing() {
    let memory = MemoryStore::new();
    let (world, _) = World::local(&memory).await;
    let ledger = world.start();
    world.publish(&outcomes(0..40)).await;
    world.until_counted(40).await;
    memory.set_available(false);
    // Far more than the backlog takes, so that reading pauses too.
    world.publish(&outcomes(40..600)).await;
    ledger.until_unready("store").await;
    memory.set_available(true);
    world.until_counted(600).await;
    world.until_committed().await;
    ledger.until_ready().await;
    assert!(ledger.counter("bongsu_ledger_failures_total") >= 1.0);
    ledger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_at_the_start_is_waited_for() {
    let memory = MemoryStore::new();
    memory.set_available(false);
    let (world, _) = World::local(&memory).await;
    world.publish(&outcomes(0..40)).await;
    let ledger = world.start();
    ledger.until_unready("unavailable").await;
    memory.set_available(true);
    world.until_counted(40).await;
    ledger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_during_an_outage_ends_and_leaves_the_rest_to_the_next() {
    let memory = MemoryStore::new();
    let (world, _) = World::local(&memory).await;
    let ledger = world.start();
    ledger.until_ready().await;
    memory.set_available(false);
    world.publish(&outcomes(0..40)).await;
    ledger.until_unready("store").await;
    ledger.stop().await;
    memory.set_available(true);
    let next = world.start();
    world.until_counted(40).await;
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_store_is_rebuilt_from_the_log() {
    let memory = MemoryStore::new();
    let (mut world, log) = World::local(&memory).await;
    let ledger = world.start();
    world.publish(&outcomes(0..400)).await;
    world.publish_raw(2, Bytes::from_static(b"garbage")).await;
    world.until_committed().await;
    ledger.stop().await;
    // Retention took the oldest records of one partition meanwhile.
    let partition = bongsu_stream::port::TopicPartition::new(world.topics.results(), 0);
    log.trim(&partition, 10);
    world.store = Arc::new(MemoryStore::new());
    let ledger = world.start();
    world.until_counted(390).await;
    // Newer receipts come after the old ones, in the same partitions.
    world.publish(&outcomes(400..450)).await;
    world.until_counted(440).await;
    assert_eq!(world.dead_letters().await.len(), 1, "put aside once only");
    ledger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_made_anew_is_read_from_its_beginning() {
    let memory = MemoryStore::new();
    let (world, _) = World::local(&memory).await;
    let partitions = (0..PARTITIONS).map(|partition| PartitionBatch {
        topic: world.topics.results(),
        partition,
        next_offset: 1_000,
        receipts: Vec::new(),
    });
    let ahead = ReceiptBatch {
        partitions: partitions.collect(),
        ..ReceiptBatch::default()
    };
    world.store.apply(&ahead).await.unwrap();
    world.publish(&outcomes(0..40)).await;
    let ledger = world.start();
    world.until_counted(40).await;
    ledger.stop().await;
}

/// Knows no schema, or the receipt's own.
struct Lookup {
    text: Option<&'static str>,
}

impl SchemaLookup for Lookup {
    fn find(&self, _: SchemaRef) -> Pin<Box<dyn Future<Output = Found> + Send + '_>> {
        Box::pin(std::future::ready(Ok(self.text.map(str::to_owned))))
    }
}

/// A receipt in Confluent framing, under an id that has to be looked up.
fn foreign(event: u32) -> Bytes {
    let ids = [("Receipt", 7)].into();
    let codec = Codec::new(bongsu_schemas::Framing::Confluent(ids));
    codec.encode(&outcomes(event..event + 1)[0]).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_schema_is_looked_up_while_other_partitions_go_on() {
    let memory = MemoryStore::new();
    let (world, _) = World::local(&memory).await;
    let text = <bongsu_schemas::Receipt as bongsu_schemas::AvroRecord>::current().text;
    let lookup = Lookup { text: Some(text) };
    let ledger = world.start_with(world.store.clone(), Arc::new(lookup));
    world.publish_raw(3, foreign(0)).await;
    world.publish(&outcomes(1..40)).await;
    world.until_counted(40).await;
    assert_eq!(world.dead_letters().await, []);
    ledger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_schema_nobody_has_leads_to_the_dead_letters() {
    let memory = MemoryStore::new();
    let (world, _) = World::local(&memory).await;
    let ledger = world.start();
    world.publish_raw(3, foreign(0)).await;
    world.publish_raw(3, foreign(1)).await;
    world.publish(&outcomes(2..40)).await;
    wait_until(SOON * 10, "two dead letters", || async {
        world.dead_letters().await.len() == 2
    })
    .await;
    world.until_committed().await;
    assert_eq!(counted(&world.store).await, 38);
    for letter in world.dead_letters().await {
        assert_eq!(letter.headers.text("bongsu-reason"), Some("unknown_schema"));
    }
    ledger.stop().await;
}
