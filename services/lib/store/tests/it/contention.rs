//! Several writers at once.

use std::sync::Arc;

use bongsu_domain::Outcome;
use bongsu_store::{ErrorClass, Finding, LedgerReceipt, LedgerStore, StoreError};
use futures_util::future::join_all;

use crate::sample::{BEGIN, batch, counted, id, receipt_of};

type Store = Arc<dyn LedgerStore>;

fn receipts(outcome: Outcome) -> Vec<LedgerReceipt> {
    (0..200)
        .map(|n| {
            let recipient = format!("r-{n}");
            let delivery = id("shop", "e-1", &recipient);
            let finding = match outcome {
                Outcome::Delivered => Finding::Report { delivery, outcome },
                Outcome::Accepted
                | Outcome::Undelivered
                | Outcome::Refused
                | Outcome::Suppressed
                | Outcome::Expired
                | Outcome::Cancelled
                | Outcome::Unknown
                | Outcome::Dead => Finding::Outcome { delivery, outcome },
            };
            receipt_of("shop", "e-1", &recipient, finding, BEGIN)
        })
        .collect()
}

pub(crate) async fn two_ledgers_with_the_same_batch_count_it_once(store: &Store) {
    let same = batch(0, 0, receipts(Outcome::Accepted));
    let reports = join_all((0..4).map(|_| store.apply(&same))).await;
    let applied: usize = reports.iter().map(|r| r.as_ref().unwrap().applied).sum();
    let skipped: usize = reports.iter().map(|r| r.as_ref().unwrap().skipped).sum();
    assert_eq!((applied, skipped), (200, 600));
    assert_eq!(counted(store).await, ["accepted=200"]);
}

/// Partitions do not share deliveries, except after a change of their number; even then every
/// transition is counted once.
pub(crate) async fn writers_of_the_same_deliveries_never_lose_a_transition(store: &Store) {
    let words = [
        Outcome::Unknown,
        Outcome::Accepted,
        Outcome::Dead,
        Outcome::Delivered,
    ];
    let writers = words.iter().zip(0..).map(|(word, partition)| async move {
        let batch = batch(partition, 0, receipts(*word));
        loop {
            match store.apply(&batch).await {
                Ok(report) => break report,
                Err(error @ (StoreError::Contended | StoreError::Database { .. })) => {
                    assert_eq!(error.class(), ErrorClass::Transient, "{error:?}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    let reports = join_all(writers).await;
    let new: usize = reports.iter().map(|r| r.new_deliveries).sum();
    assert_eq!(new, 200);
    assert_eq!(counted(store).await, ["delivered=200"]);
}
