//! SQLite: embedded, for one machine.
//!
//! Write-ahead log, one writer connection and a pool of readers. A database in memory has one
//! connection for both, because its tables live in that connection.

use std::collections::BTreeMap;
use std::time::Duration;

use bongsu_domain::{DeliveryId, Suppression, Timestamp};
use futures_util::future::BoxFuture;
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, SqlitePool};

use crate::error::{OpenError, StoreError};
use crate::fold::{Changes, Offsets, Plan, fold};
use crate::hygiene::{
    self, SUPPRESSIONS, SuppressionChanges, SuppressionQuery, WINDOWS, WindowRow, suppression_cells,
};
use crate::query::{CountsQuery, EventQuery, RecipientQuery, SenderScope};
use crate::reads::{self, Backend, Row, stored_offsets};
use crate::receipt::ReceiptBatch;
use crate::reports::{self, DueReport, ReportChanges, STILL_WAITING, WAITING, WaitingReport};
use crate::rows::{
    COUNTS, DELIVERIES, DeliveryRow, EVENT_RECEIPTS, EventRow, OFFSET_LOCKS, OFFSETS, OffsetRow,
    TIMELINE, TimelineRow, offset_cells,
};
use crate::store::{
    ApplyReport, HygieneStore, LedgerReader, LedgerStore, ReportStore, StoredOffset,
};
use crate::table::{Cell, Statement, Table};
use crate::view::{CountRow, DeliveryView, EventAnswer, RecipientPage};

/// SQLite's limit of values per statement (32,766), with room to spare.
const MAX_VALUES: usize = 32_000;
/// How long a writer of another process (a backup, a person's shell) may hold the file.
const BUSY: Duration = Duration::from_secs(10);
/// Page cache of the writer, in KiB (negative is SQLite's way to say so). Ids are random, so every
/// batch touches pages all over the indexes.
const WRITER_CACHE: &str = "-32768";
/// Pages of the log before they are moved to the file; the stock 1,000 moves them at every batch.
const CHECKPOINT_PAGES: &str = "8000";

/// The SQLite backend. Clones share the connections.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens (and creates, where missing) the file and brings the tables to this version.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_file(
        options: SqliteConnectOptions,
        readers: u32,
        acquire: Duration,
    ) -> Result<Self, OpenError> {
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode a power cut may lose the last batches, never the file. The offsets are
            // lost with their batches, so those are read again.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let writes = options
            .clone()
            .pragma("cache_size", WRITER_CACHE)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        let writer = connected(1, acquire, writes).await?;
        migrate(&writer).await?;
        let reads = options.read_only(true);
        let readers = connected(readers.max(1), acquire, reads).await?;
        Ok(Self { writer, readers })
    }

    /// A database in memory, gone with its last clone.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_memory(acquire: Duration) -> Result<Self, OpenError> {
        let writer = pool(1, acquire)
            .connect_with(
                SqliteConnectOptions::new()
                    .in_memory(true)
                    .disable_statement_logging(),
            )
            .await
            .map_err(connect)?;
        migrate(&writer).await?;
        let readers = writer.clone();
        Ok(Self { writer, readers })
    }

    /// Closes the connections after running statements have ended.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn keep(&self, changes: &SuppressionChanges) -> Result<(), StoreError> {
        let failed = StoreError::database("keep suppressions");
        let begun = self.writer.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.map_err(failed)?;
        if changes.replace {
            sqlx::query("DELETE FROM suppressions")
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::database("forget suppressions"))?;
        }
        let rows = changes.kept.iter().map(suppression_cells).collect();
        insert(&mut transaction, &SUPPRESSIONS, rows).await?;
        let gone = changes.gone.iter().map(|key| key.to_string());
        let gone = serde_json::Value::from_iter(gone).to_string();
        sqlx::query(
            "DELETE FROM suppressions WHERE address_key IN (SELECT value FROM json_each($1))",
        )
        .bind(gone)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database("forget suppressions"))?;
        let done = transaction.commit().await;
        done.map_err(StoreError::database("keep suppressions"))
    }

    async fn change_reports(&self, changes: &ReportChanges) -> Result<(), StoreError> {
        let failed = || StoreError::database("keep reports");
        let begun = self.writer.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.map_err(failed())?;
        for (table, reports) in [(&WAITING, &changes.came), (&STILL_WAITING, &changes.later)] {
            let rows = reports.iter().map(WaitingReport::cells).collect();
            insert(&mut transaction, table, rows).await?;
        }
        let over = serde_json::Value::from_iter(changes.over.iter().cloned()).to_string();
        sqlx::query(
            "DELETE FROM waiting_reports WHERE report_id IN (SELECT value FROM json_each($1))",
        )
        .bind(over)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        transaction.commit().await.map_err(failed())
    }

    async fn apply_batch(&self, batch: &ReceiptBatch) -> Result<ApplyReport, StoreError> {
        let mut transaction = self
            .writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(StoreError::database("begin a batch"))?;
        let stored = lock_offsets(&mut transaction, batch).await?;
        let plan = Plan::new(batch, &stored);
        let rows = load(&mut transaction, &plan).await?;
        let changes = fold(&plan, rows)?;
        let report = changes.report;
        write(&mut transaction, changes, plan.offsets).await?;
        transaction
            .commit()
            .await
            .map_err(StoreError::database("commit a batch"))?;
        Ok(report)
    }
}

/// Connections that stay: a connection in memory that is closed takes its tables with it.
fn pool(connections: u32, acquire: Duration) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(acquire)
        .idle_timeout(None)
        .max_lifetime(None)
}

async fn connected(
    connections: u32,
    acquire: Duration,
    options: SqliteConnectOptions,
) -> Result<SqlitePool, OpenError> {
    let connected = again(|| {
        let options = options.clone();
        Box::pin(async move { pool(connections, acquire).connect_with(options).await })
    });
    connected.await.map_err(connect)
}

fn connect(source: sqlx::Error) -> OpenError {
    OpenError::Connect {
        backend: "SQLite",
        source,
    }
}

async fn migrate(pool: &SqlitePool) -> Result<(), OpenError> {
    let migrated = again(|| {
        let pool = pool.clone();
        Box::pin(async move { crate::settings::MIGRATIONS.run(&pool).await })
    });
    migrated.await.map_err(|source| OpenError::Migrate {
        backend: "SQLite",
        source,
    })
}

/// Gateway and ledger may open a new file at the same moment, and SQLite has no lock that they could
/// wait for while it turns to its write-ahead log and the tables are made: the one that comes second
/// fails, looks again and finds it done.
async fn again<T, E: std::fmt::Display>(
    mut attempt: impl FnMut() -> BoxFuture<'static, Result<T, E>>,
) -> Result<T, E> {
    const TRIES: u32 = 10;
    const PAUSE: Duration = Duration::from_millis(100);
    let mut tried = 0;
    loop {
        tried += 1;
        match attempt().await {
            Err(error) if tried < TRIES => {
                tracing::debug!(%error, tried, "the file is looked at again");
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

async fn lock_offsets(
    connection: &mut SqliteConnection,
    batch: &ReceiptBatch,
) -> Result<Offsets, StoreError> {
    let mut stored = Offsets::new();
    for part in &batch.partitions {
        let mut query =
            sqlx::query_as::<Sqlite, OffsetRow>(AssertSqlSafe(OFFSET_LOCKS.values_sql(1)));
        for cell in offset_cells(&part.topic, part.partition, 0) {
            query = match cell {
                Cell::Text(text) => query.bind(text),
                Cell::Int(number) => query.bind(number),
            };
        }
        let rows = query
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::database("lock the offsets"))?;
        stored.extend(stored_offsets(rows));
    }
    Ok(stored)
}

async fn load(
    connection: &mut SqliteConnection,
    plan: &Plan<'_>,
) -> Result<BTreeMap<String, DeliveryRow>, StoreError> {
    let ids = plan.deliveries();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    // One value whatever the number of ids, so the statement is prepared once.
    let ids = serde_json::Value::from_iter(ids).to_string();
    let rows = sqlx::query_as::<Sqlite, DeliveryRow>(
        "SELECT * FROM deliveries WHERE delivery_id IN (SELECT value FROM json_each($1))",
    )
    .bind(ids)
    .fetch_all(connection)
    .await
    .map_err(StoreError::database("read the deliveries of a batch"))?;
    Ok(rows
        .into_iter()
        .map(|row| (row.delivery_id.clone(), row))
        .collect())
}

async fn write(
    connection: &mut SqliteConnection,
    changes: Changes,
    offsets: Offsets,
) -> Result<(), StoreError> {
    let wanted = changes.deliveries.len();
    let rows = changes.deliveries.into_iter().map(DeliveryRow::cells);
    let written = insert(connection, &DELIVERIES, rows.collect()).await?;
    if usize::try_from(written) != Ok(wanted) {
        // The write lock makes this impossible; if it happens, nothing is written.
        return Err(StoreError::Contended);
    }
    let rows = changes.timeline.into_values().map(TimelineRow::cells);
    insert(connection, &TIMELINE, rows.collect()).await?;
    let rows = changes.events.into_values().map(EventRow::cells);
    insert(connection, &EVENT_RECEIPTS, rows.collect()).await?;
    let rows = offsets
        .into_iter()
        .map(|((topic, partition), next)| offset_cells(&topic, partition, next));
    insert(connection, &OFFSETS, rows.collect()).await?;
    let rows = changes.counts.into_iter().map(|(key, n)| key.cells(n));
    insert(connection, &COUNTS, rows.collect()).await?;
    let rows = changes.windows.into_iter().map(WindowRow::cells);
    insert(connection, &WINDOWS, rows.collect()).await?;
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    table: &Table,
    rows: Vec<Vec<Cell>>,
) -> Result<u64, StoreError> {
    let most = MAX_VALUES / table.columns.len().max(1);
    let mut written = 0;
    let mut rows = rows.into_iter();
    while !rows.as_slice().is_empty() {
        let chunk: Vec<_> = rows.by_ref().take(most).collect();
        let mut query = sqlx::query::<Sqlite>(AssertSqlSafe(table.values_sql(chunk.len())));
        for cell in chunk.into_iter().flatten() {
            query = match cell {
                Cell::Text(text) => query.bind(text),
                Cell::Int(number) => query.bind(number),
            };
        }
        let done = query
            .execute(&mut *connection)
            .await
            .map_err(StoreError::database("write a batch"))?;
        written += done.rows_affected();
    }
    Ok(written)
}

impl Backend for SqliteStore {
    async fn fetch<T: Row>(&self, statement: Statement) -> Result<Vec<T>, StoreError> {
        let mut query = sqlx::query_as::<Sqlite, T>(AssertSqlSafe(statement.sql));
        for bind in statement.binds {
            query = match bind {
                Cell::Text(text) => query.bind(text),
                Cell::Int(number) => query.bind(number),
            };
        }
        query
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::database("look up"))
    }
}

impl LedgerStore for SqliteStore {
    fn apply<'a>(
        &'a self,
        batch: &'a ReceiptBatch,
    ) -> BoxFuture<'a, Result<ApplyReport, StoreError>> {
        Box::pin(self.apply_batch(batch))
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a str,
    ) -> BoxFuture<'a, Result<Vec<StoredOffset>, StoreError>> {
        Box::pin(reads::offsets(self, topic))
    }

    fn forget_offsets<'a>(
        &'a self,
        topic: &'a str,
        partitions: &'a [i32],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let partitions = serde_json::Value::from_iter(partitions.iter().copied()).to_string();
            sqlx::query(
                "DELETE FROM ledger_offsets WHERE topic = $1 \
                 AND partition_number IN (SELECT value FROM json_each($2))",
            )
            .bind(topic)
            .bind(partitions)
            .execute(&self.writer)
            .await
            .map_err(StoreError::database("forget offsets"))?;
            Ok(())
        })
    }
}

impl HygieneStore for SqliteStore {
    fn windows(&self, since: Timestamp) -> BoxFuture<'_, Result<Vec<WindowRow>, StoreError>> {
        Box::pin(hygiene::windows(self, since.0))
    }

    fn forget_windows(&self, kept_ms: i64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            sqlx::query(hygiene::FORGET_WINDOWS)
                .bind(kept_ms)
                .execute(&self.writer)
                .await
                .map_err(StoreError::database("forget windows"))?;
            Ok(())
        })
    }

    fn keep_suppressions<'a>(
        &'a self,
        changes: &'a SuppressionChanges,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.keep(changes))
    }
}

impl ReportStore for SqliteStore {
    fn keep_reports<'a>(
        &'a self,
        changes: &'a ReportChanges,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.change_reports(changes))
    }

    fn due_reports(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<DueReport>, StoreError>> {
        Box::pin(reports::due(self, now.0, limit))
    }
}

impl LedgerReader for SqliteStore {
    fn delivery<'a>(
        &'a self,
        id: DeliveryId,
        scope: &'a SenderScope,
    ) -> BoxFuture<'a, Result<Option<DeliveryView>, StoreError>> {
        Box::pin(reads::delivery(self, id, scope))
    }

    fn event<'a>(
        &'a self,
        query: &'a EventQuery,
    ) -> BoxFuture<'a, Result<EventAnswer, StoreError>> {
        Box::pin(reads::event(self, query))
    }

    fn recipient_deliveries<'a>(
        &'a self,
        query: &'a RecipientQuery,
    ) -> BoxFuture<'a, Result<RecipientPage, StoreError>> {
        Box::pin(reads::recipient_deliveries(self, query))
    }

    fn counts<'a>(
        &'a self,
        query: &'a CountsQuery,
    ) -> BoxFuture<'a, Result<Vec<CountRow>, StoreError>> {
        Box::pin(reads::counts(self, query))
    }

    fn suppressions<'a>(
        &'a self,
        query: &'a SuppressionQuery,
    ) -> BoxFuture<'a, Result<Vec<Suppression>, StoreError>> {
        Box::pin(hygiene::suppressions(self, query))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(reads::ping(self))
    }
}
