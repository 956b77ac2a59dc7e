//! The traits.

use std::sync::Arc;

use bongsu_domain::{DeliveryId, Suppression, Timestamp};
use futures_util::future::BoxFuture;

use crate::error::StoreError;
use crate::hygiene::{SuppressionChanges, SuppressionQuery, WindowRow};
use crate::query::{CountsQuery, EventQuery, RecipientQuery, SenderScope};
use crate::receipt::ReceiptBatch;
use crate::reports::{DueReport, ReportChanges};
use crate::view::{CountRow, DeliveryView, EventAnswer, RecipientPage};

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplyReport {
    /// Receipts that were new to their partition's stored offset.
    pub applied: usize,
    /// Receipts below the stored offset: another ledger has written them already.
    pub skipped: usize,
    /// Deliveries seen for the first time.
    pub new_deliveries: usize,
    /// Deliveries whose outcome appeared or moved.
    pub transitions: usize,
}

/// How far a partition is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOffset {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// The next offset to write.
    pub next_offset: i64,
}

/// Writes receipts. Every method writes all or nothing; a dropped future may have written, and the
/// same call may then be made again.
pub trait LedgerStore: LedgerReader + HygieneStore + ReportStore {
    /// Writes a batch and its offsets in one transaction. Receipts below the stored offset of
    /// their partition are skipped, so that a ledger that lost its partition cannot count twice;
    /// a batch that starts beyond it is fine (markers and compaction leave gaps). Counts move by
    /// the transition of each delivery's outcome, so a second copy of a receipt counts nothing.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was written.
    fn apply<'a>(
        &'a self,
        batch: &'a ReceiptBatch,
    ) -> BoxFuture<'a, Result<ApplyReport, StoreError>>;

    /// How far every partition of `topic` is written, in partition order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn offsets<'a>(
        &'a self,
        topic: &'a str,
    ) -> BoxFuture<'a, Result<Vec<StoredOffset>, StoreError>>;

    /// Forgets the offsets of these partitions of `topic`: the log was re-created and counts anew.
    /// What is stored stays; reading the same receipts again changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    fn forget_offsets<'a>(
        &'a self,
        topic: &'a str,
        partitions: &'a [i32],
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Keeps what hygiene needs. All or nothing, as [`LedgerStore`].
pub trait HygieneStore: Send + Sync {
    /// What was told of addresses since a minute.
    ///
    /// # Errors
    /// [`StoreError`].
    fn windows(&self, since: Timestamp) -> BoxFuture<'_, Result<Vec<WindowRow>, StoreError>>;

    /// Forgets the windows of minutes that lie so many milliseconds before the newest: receipts bring
    /// their own time, also when an old log is read again.
    ///
    /// # Errors
    /// [`StoreError`].
    fn forget_windows(&self, kept_ms: i64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Changes the table of suppressions.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was written.
    fn keep_suppressions<'a>(
        &'a self,
        changes: &'a SuppressionChanges,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Keeps reports that carry a provider's own id only. All or nothing, as [`LedgerStore`].
pub trait ReportStore: Send + Sync {
    /// Changes what waits.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was written.
    fn keep_reports<'a>(
        &'a self,
        changes: &'a ReportChanges,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Reports that are due at `now`, the longest due first, with the deliveries that have their id.
    ///
    /// # Errors
    /// [`StoreError`].
    fn due_reports(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<DueReport>, StoreError>>;
}

/// Answers look-ups, for the senders of a [`SenderScope`] only. All futures are cancel safe.
pub trait LedgerReader: Send + Sync {
    /// A delivery with its timeline.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delivery<'a>(
        &'a self,
        id: DeliveryId,
        scope: &'a SenderScope,
    ) -> BoxFuture<'a, Result<Option<DeliveryView>, StoreError>>;

    /// What became of an event: its deliveries with their timelines, and its refusals.
    ///
    /// # Errors
    /// [`StoreError`].
    fn event<'a>(&'a self, query: &'a EventQuery)
    -> BoxFuture<'a, Result<EventAnswer, StoreError>>;

    /// A recipient's deliveries, newest first, without timelines.
    ///
    /// # Errors
    /// [`StoreError`].
    fn recipient_deliveries<'a>(
        &'a self,
        query: &'a RecipientQuery,
    ) -> BoxFuture<'a, Result<RecipientPage, StoreError>>;

    /// Deliveries by outcome over time; rows that came to zero are absent.
    ///
    /// # Errors
    /// [`StoreError`].
    fn counts<'a>(
        &'a self,
        query: &'a CountsQuery,
    ) -> BoxFuture<'a, Result<Vec<CountRow>, StoreError>>;

    /// Suppressions in the order of their keys, of every sender: an address belongs to none.
    ///
    /// # Errors
    /// [`StoreError`].
    fn suppressions<'a>(
        &'a self,
        query: &'a SuppressionQuery,
    ) -> BoxFuture<'a, Result<Vec<Suppression>, StoreError>>;

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`StoreError`].
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}
