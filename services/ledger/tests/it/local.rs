//! Receipts become status, on the local log.

use std::sync::Arc;

use bongsu_domain::Outcome;
use bongsu_runtime::Secret;
use bongsu_store::{MemoryStore, SenderScope};
use bongsu_stream::local::LocalCluster;
use bongsu_testkit::wait_until;
use bytes::Bytes;

use crate::world::{SOON, World, counted, id, outcomes, report};

#[tokio::test(start_paused = true)]
async fn receipts_are_written_and_committed() {
    let memory = MemoryStore::new();
    let (world, _) = World::local(&memory).await;
    let ledger = world.start();
    world.publish(&outcomes(0..300)).await;
    world.publish(&[report("e-7", Outcome::Delivered)]).await;
    // Copies, as after a crash of dispatch.
    world.publish(&outcomes(100..200)).await;
    world.until_committed().await;
    assert_eq!(counted(&world.store).await, 300);
    let view = world.store.delivery(id("e-7"), &SenderScope::All).await;
    assert_eq!(view.unwrap().unwrap().outcome, Some(Outcome::Delivered));
    ledger.until_ready().await;
    wait_until(SOON, "the receipts are in the metrics", || async {
        ledger.counter("bongsu_ledger_receipts_total") >= 401.0
    })
    .await;
    ledger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_put_aside_and_holds_nothing_up() {
    let memory = MemoryStore::new();
    let (world, _) = World::local(&memory).await;
    let ledger = world.start();
    world.publish(&outcomes(0..10)).await;
    let garbage = Bytes::from_static(b"\xff no receipt");
    world.publish_raw(1, garbage.clone()).await;
    let mut wrong = outcomes(10..11);
    wrong[0].outcome = "lost".to_owned();
    world.publish(&wrong).await;
    world.publish(&outcomes(20..30)).await;
    world.until_committed().await;
    assert_eq!(counted(&world.store).await, 20);
    let mut letters = world.dead_letters().await;
    letters.sort_by_key(|l| l.headers.text("bongsu-reason").map(str::to_owned));
    let reasons: Vec<_> = letters
        .iter()
        .filter_map(|l| l.headers.text("bongsu-reason"))
        .collect();
    assert_eq!(reasons, ["invalid_receipt", "unreadable"]);
    assert_eq!(letters[1].value, Some(garbage));
    assert_eq!(
        letters[1].headers.text("bongsu-source-partition"),
        Some("1")
    );
    ledger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_writes_what_was_read() {
    let memory = MemoryStore::new();
    let (world, _) = World::local(&memory).await;
    for round in 0..5 {
        let ledger = world.start();
        ledger.until_ready().await;
        world.publish(&outcomes(round * 20..round * 20 + 20)).await;
        // Whatever it has read by now is written; the rest is the next one's.
        ledger.stop().await;
    }
    let ledger = world.start();
    world.until_committed().await;
    assert_eq!(counted(&world.store).await, 100);
    assert!(ledger.counter("bongsu_ledger_skipped_receipts_total") < 1.0);
    ledger.stop().await;
}

#[tokio::test]
async fn it_works_with_sqlite_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let settings = bongsu_store::Settings {
        url: Secret::new(format!("sqlite:{}/l.db", directory.path().display())),
        ..bongsu_store::Settings::default()
    };
    let store = bongsu_store::open(&settings).await.unwrap();
    let log = LocalCluster::default();
    let world = World::new(Arc::new(log), Default::default(), store).await;
    let ledger = world.start();
    world.publish(&outcomes(0..500)).await;
    world.until_committed().await;
    assert_eq!(counted(&world.store).await, 500);
    ledger.stop().await;
}
