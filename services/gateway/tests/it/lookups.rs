//! Look-ups: for the key's senders only, and clear when there is nothing, too much or no store.

use std::collections::BTreeMap;
use std::sync::Arc;

use bongsu_domain::{DeliveryId, Outcome, Timestamp};
use bongsu_store::{
    Facts, Finding, LedgerReceipt, LedgerStore as _, MemoryStore, PartitionBatch, ReceiptBatch,
};
use bongsu_stream::local::LocalCluster;

use crate::world::{EVERYTHING, PUBLISHER, READER, World, settings};

const FIRST: &str = "00000000-0000-0000-0000-000000000001";
const OTHER: &str = "00000000-0000-0000-0000-000000000002";

fn receipt(id: &str, sender: &str, event_id: &str) -> LedgerReceipt {
    LedgerReceipt {
        receipt_id: format!("r-{id}"),
        finding: Finding::Outcome {
            delivery: DeliveryId::parse(id).unwrap(),
            outcome: Outcome::Accepted,
        },
        facts: Facts {
            sender: sender.into(),
            event_id: event_id.into(),
            class: "transactional".into(),
            purpose: "transactional".into(),
            channel: Some("webhook".into()),
            recipient: Some("u/1".into()),
            origin: "event".into(),
            accepted_at: Some(Timestamp(1_760_000_000_000)),
            ..Facts::default()
        },
        reason: "none".into(),
        detail: None,
        attempts: 1,
        at: Timestamp(1_760_000_000_500),
        possible_duplicate: false,
        provider_reference: None,
        worker_id: None,
    }
}

async fn world() -> (World, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    let receipts = [
        receipt(FIRST, "shop-1", "e-1"),
        receipt(OTHER, "bank", "e-1"),
    ];
    let batch = ReceiptBatch {
        partitions: vec![PartitionBatch {
            topic: "t.results".into(),
            partition: 0,
            next_offset: 2,
            receipts: (0..).zip(receipts).collect(),
        }],
        ..ReceiptBatch::default()
    };
    assert_eq!(store.apply(&batch).await.unwrap().applied, 2);
    let reader: Arc<dyn bongsu_store::LedgerReader> = Arc::<MemoryStore>::clone(&store);
    let cluster = Arc::new(LocalCluster::default());
    (
        World::new(cluster, "t.", settings(), Some(reader)).await,
        store,
    )
}

#[tokio::test]
async fn a_delivery_is_shown_with_its_timeline_to_its_senders_key_only() {
    let (world, _) = world().await;
    let path = format!("/v1/deliveries/{FIRST}");
    let found = world.get(&path, READER).await;
    assert_eq!(found.status, 200, "{}", found.text);
    assert_eq!(found.json()["outcome"], "accepted");
    assert_eq!(found.json()["timeline"].as_array().unwrap().len(), 1);
    let foreign = world.get(&format!("/v1/deliveries/{OTHER}"), READER).await;
    assert_eq!(
        (foreign.status.as_u16(), foreign.code().as_str()),
        (404, "not_found")
    );
    let none = world.get(&path.replace("0001", "0009"), EVERYTHING).await;
    assert_eq!(none.status, 404);
    assert_eq!(
        world.get("/v1/deliveries/nonsense", READER).await.status,
        400
    );
    let publisher = world.get(&path, PUBLISHER).await;
    assert_eq!(publisher.code(), "missing_scope");
    assert_eq!(world.get(&path, "wrong").await.status, 401);
}

#[tokio::test]
async fn an_event_id_of_several_senders_asks_for_the_sender() {
    let (world, _) = world().await;
    let ambiguous = world.get("/v1/events/e-1", EVERYTHING).await;
    assert_eq!(
        (ambiguous.status.as_u16(), ambiguous.code().as_str()),
        (409, "ambiguous")
    );
    assert!(
        ambiguous.text.contains("bank, shop-1"),
        "{}",
        ambiguous.text
    );
    let found = world.get("/v1/events/e-1?sender=bank", EVERYTHING).await;
    assert_eq!(found.json()["deliveries"][0]["delivery_id"], OTHER);
    let scoped = world.get("/v1/events/e-1", READER).await;
    assert_eq!(scoped.json()["sender"], "shop-1");
    let foreign = world.get("/v1/events/e-1?sender=bank", READER).await;
    assert_eq!(foreign.status, 404);
    assert_eq!(
        world.get("/v1/events/e-1?limit=0", READER).await.status,
        400
    );
    assert_eq!(
        world.get("/v1/events/e-1?sendr=x", READER).await.status,
        400
    );
}

#[tokio::test]
async fn a_recipients_deliveries_are_listed_by_pages() {
    let (world, _) = world().await;
    let first = world
        .get("/v1/recipients/u%2F1/deliveries?limit=1", EVERYTHING)
        .await
        .json();
    assert_eq!(first["deliveries"].as_array().unwrap().len(), 1);
    let next = first["next"].as_str().unwrap();
    let path = format!("/v1/recipients/u%2F1/deliveries?limit=1&before={next}");
    let second = world.get(&path, EVERYTHING).await.json();
    assert_ne!(first["deliveries"], second["deliveries"]);
    let scoped = world
        .get("/v1/recipients/u%2F1/deliveries", READER)
        .await
        .json();
    assert_eq!(scoped["deliveries"].as_array().unwrap().len(), 1);
    let bad = world
        .get("/v1/recipients/u/deliveries?before=x", READER)
        .await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn statistics_need_a_key_for_everybody() {
    let (world, _) = world().await;
    let span = "from=2025-10-09T08:00:00Z&to=2025-10-09T10:00:00Z&bucket_minutes=60";
    let found = world
        .get(&format!("/v1/statistics?{span}"), EVERYTHING)
        .await;
    assert_eq!(found.status, 200, "{}", found.text);
    let json = found.json();
    let rows = json["counts"].as_array().unwrap();
    let mut outcomes = BTreeMap::new();
    for row in rows {
        let count = row["deliveries"].as_i64().unwrap();
        *outcomes
            .entry(row["outcome"].as_str().unwrap())
            .or_insert(0) += count;
    }
    assert_eq!(outcomes, BTreeMap::from([("accepted", 2)]));
    let scoped = world.get("/v1/statistics", READER).await;
    assert_eq!(scoped.code(), "missing_scope");
    for bad in ["from=2&to=1", "from=x", "from=0&to=9999999999999"] {
        let answer = world
            .get(&format!("/v1/statistics?{bad}"), EVERYTHING)
            .await;
        assert_eq!(answer.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn without_a_store_or_with_a_dead_one_look_ups_are_not_available() {
    let without = World::local().await;
    let path = format!("/v1/deliveries/{FIRST}");
    let answer = without.get(&path, READER).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "store_unavailable")
    );
    let (world, store) = world().await;
    store.set_available(false);
    let answer = world.get(&path, READER).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "store_unavailable")
    );
    // Publishing does not need it.
    let published = world.publish(crate::world::event("e").to_string()).await;
    assert_eq!(published.status, 202);
}
