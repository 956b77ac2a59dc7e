//! Positions move with what was read there.

use std::sync::Arc;

use bongsu_domain::Outcome;
use bongsu_store::{LedgerStore, ReceiptBatch};

use crate::sample::{BEGIN, TOPIC, ann, apply, batch, counted, outcome, report, seen};

type Store = Arc<dyn LedgerStore>;

async fn stored(store: &Store) -> Vec<(i32, i64)> {
    let offsets = store.offsets(TOPIC).await.unwrap();
    offsets
        .iter()
        .map(|o| (o.partition, o.next_offset))
        .collect()
}

pub(crate) async fn receipts_below_the_stored_offset_are_skipped(store: &Store) {
    apply(store, 0, vec![outcome(Outcome::Accepted, BEGIN)]).await;
    let late = vec![
        outcome(Outcome::Accepted, BEGIN),
        report(Outcome::Delivered, BEGIN + 1),
    ];
    let report = apply(store, 0, late).await;
    assert_eq!((report.skipped, report.applied), (1, 1));
    assert_eq!(stored(store).await, [(0, 2)]);
    assert_eq!(seen(store, ann()).await.outcome, Some(Outcome::Delivered));
}

pub(crate) async fn gaps_are_fine_and_offsets_never_go_back(store: &Store) {
    let mut both = batch(0, 10, vec![outcome(Outcome::Accepted, BEGIN)]);
    both.partitions.extend(batch(3, 5, Vec::new()).partitions);
    let report = store.apply(&both).await.unwrap();
    assert_eq!(report.applied, 1);
    assert_eq!(stored(store).await, [(0, 11), (3, 5)]);
    let older = store.apply(&batch(3, 2, Vec::new())).await.unwrap();
    assert_eq!(older.applied, 0);
    assert_eq!(stored(store).await, [(0, 11), (3, 5)]);
    assert_eq!(store.offsets("another.results").await.unwrap(), []);
    assert!(ReceiptBatch::default().is_empty());
}

pub(crate) async fn forgotten_offsets_are_read_again_and_change_nothing(store: &Store) {
    let life = || {
        vec![
            outcome(Outcome::Accepted, BEGIN),
            report(Outcome::Delivered, BEGIN + 1),
        ]
    };
    apply(store, 0, life()).await;
    store.forget_offsets(TOPIC, &[0, 1]).await.unwrap();
    assert_eq!(stored(store).await, []);
    let report = apply(store, 0, life()).await;
    assert_eq!((report.applied, report.transitions), (2, 0));
    assert_eq!(counted(store).await, ["delivered=1"]);
    assert_eq!(seen(store, ann()).await.timeline.len(), 2);
}
