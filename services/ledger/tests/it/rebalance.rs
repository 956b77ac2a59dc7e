//! Several ledgers: partitions move, and a ledger that does not know it counts nothing twice.

use std::sync::Arc;

use bongsu_domain::{DeliveryId, Suppression, Timestamp};
use bongsu_schemas::lookup::NoLookup;
use bongsu_store::{
    ApplyReport, CountRow, CountsQuery, DeliveryView, DueReport, EventAnswer, EventQuery,
    HygieneStore, LedgerReader, LedgerStore, MemoryStore, ReceiptBatch, RecipientPage,
    RecipientQuery, ReportChanges, ReportStore, SenderScope, StoreError, StoredOffset,
    SuppressionChanges, SuppressionQuery, WindowRow,
};
use bongsu_testkit::wait_until;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::world::{SOON, World, counted, outcomes};

#[tokio::test(start_paused = true)]
async fn partitions_move_between_ledgers_and_everything_is_counted_once() {
    let memory = MemoryStore::new();
    let (world, _) = World::local(&memory).await;
    let first = world.start();
    world.publish(&outcomes(0..100)).await;
    let second = world.start();
    world.publish(&outcomes(100..200)).await;
    first.stop().await;
    world.publish(&outcomes(200..300)).await;
    let third = world.start();
    second.kill();
    world.publish(&outcomes(300..400)).await;
    world.until_counted(400).await;
    world.until_committed().await;
    third.stop().await;
}

/// A way to the store that can be held shut.
struct Gate {
    store: MemoryStore,
    is_open: watch::Receiver<bool>,
    waiting: watch::Sender<bool>,
}

impl LedgerStore for Gate {
    fn apply<'a>(
        &'a self,
        batch: &'a ReceiptBatch,
    ) -> BoxFuture<'a, Result<ApplyReport, StoreError>> {
        Box::pin(async move {
            let mut is_open = self.is_open.clone();
            if !*is_open.borrow() {
                self.waiting.send_replace(true);
            }
            is_open
                .wait_for(|open| *open)
                .await
                .map_err(|_| StoreError::Unavailable)?;
            self.store.apply(batch).await
        })
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a str,
    ) -> BoxFuture<'a, Result<Vec<StoredOffset>, StoreError>> {
        self.store.offsets(topic)
    }

    fn forget_offsets<'a>(
        &'a self,
        topic: &'a str,
        partitions: &'a [i32],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.forget_offsets(topic, partitions)
    }
}

impl HygieneStore for Gate {
    fn windows(&self, since: Timestamp) -> BoxFuture<'_, Result<Vec<WindowRow>, StoreError>> {
        self.store.windows(since)
    }

    fn forget_windows(&self, kept_ms: i64) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.forget_windows(kept_ms)
    }

    fn keep_suppressions<'a>(
        &'a self,
        changes: &'a SuppressionChanges,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.keep_suppressions(changes)
    }
}

impl ReportStore for Gate {
    fn keep_reports<'a>(
        &'a self,
        changes: &'a ReportChanges,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.keep_reports(changes)
    }

    fn due_reports(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<DueReport>, StoreError>> {
        self.store.due_reports(now, limit)
    }
}

impl LedgerReader for Gate {
    fn delivery<'a>(
        &'a self,
        id: DeliveryId,
        scope: &'a SenderScope,
    ) -> BoxFuture<'a, Result<Option<DeliveryView>, StoreError>> {
        self.store.delivery(id, scope)
    }

    fn event<'a>(
        &'a self,
        query: &'a EventQuery,
    ) -> BoxFuture<'a, Result<EventAnswer, StoreError>> {
        self.store.event(query)
    }

    fn recipient_deliveries<'a>(
        &'a self,
        query: &'a RecipientQuery,
    ) -> BoxFuture<'a, Result<RecipientPage, StoreError>> {
        self.store.recipient_deliveries(query)
    }

    fn counts<'a>(
        &'a self,
        query: &'a CountsQuery,
    ) -> BoxFuture<'a, Result<Vec<CountRow>, StoreError>> {
        self.store.counts(query)
    }

    fn suppressions<'a>(
        &'a self,
        query: &'a SuppressionQuery,
    ) -> BoxFuture<'a, Result<Vec<Suppression>, StoreError>> {
        self.store.suppressions(query)
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.ping()
    }
}

#[tokio::test]
async fn a_ledger_that_lost_its_partitions_counts_nothing_twice() {
    let memory = MemoryStore::new();
    let (world, log) = World::local(&memory).await;
    let (open, is_open) = watch::channel(false);
    let (waiting, mut is_waiting) = watch::channel(false);
    let gate = Gate {
        store: memory.clone(),
        is_open,
        waiting,
    };
    // Published first, so that the batch it hangs with holds records of every partition.
    world.publish(&outcomes(0..60)).await;
    let zombie = world.start_with(Arc::new(gate), Arc::new(NoLookup));
    is_waiting.wait_for(|waiting| *waiting).await.unwrap();
    let owner = world.start();
    owner.until_ready().await;
    // It hangs in the store while the group gives its partitions away; some come back to it later.
    assert!(log.lose_assignment(&world.topics.ledger_group(), 0));
    wait_until(SOON, "the new owner writes", || async {
        counted(&world.store).await > 0
    })
    .await;
    open.send_replace(true);
    world.until_counted(60).await;
    world.until_committed().await;
    wait_until(SOON, "the zombie's receipts are skipped", || async {
        zombie.counter("bongsu_ledger_skipped_receipts_total") > 0.0
    })
    .await;
    assert_eq!(counted(&world.store).await, 60);
    zombie.stop().await;
    owner.stop().await;
}
