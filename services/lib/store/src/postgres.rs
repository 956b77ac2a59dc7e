//! PostgreSQL: for more than one machine.
//!
//! A batch is seven round trips: lock the offsets, read the deliveries, write four tables with one
//! `UNNEST` each, commit. Writers of different partitions meet on the count rows only, which are
//! written last. Rows are written in key order, so that two writers cannot lock each other out for
//! long; where PostgreSQL does find a deadlock, the transaction is run again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_domain::{DeliveryId, Suppression, Timestamp};
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions, Postgres};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgPool};

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
use crate::table::{Cell, Kind, Statement, Table};
use crate::view::{CountRow, DeliveryView, EventAnswer, RecipientPage};

/// How often a transaction that met another one is run again before the caller hears of it.
const CONTENDED_TRIES: usize = 5;

/// The PostgreSQL backend. Clones share the pool.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pool: PgPool,
}

impl PostgresStore {
    /// Connects and brings the tables to this version. A transaction in which nobody says anything is
    /// `abandoned` after so long: PostgreSQL does not notice that a connection is dead for two hours, and
    /// its locks would hold every other writer up until then.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        options: PgConnectOptions,
        pool: PgPoolOptions,
        abandoned: Duration,
    ) -> Result<Self, OpenError> {
        // Not among the options of the connection: poolers between us and PostgreSQL refuse those.
        let set: Arc<str> = format!(
            "SET idle_in_transaction_session_timeout = {}",
            abandoned.as_millis()
        )
        .into();
        let pool = pool
            .after_connect(move |connection, _| {
                let set = Arc::clone(&set);
                Box::pin(async move {
                    let set = sqlx::raw_sql(AssertSqlSafe(set.to_string()));
                    set.execute(connection).await.map(|_| ())
                })
            })
            // A slow statement of thousands of values is no line for a log; the caller measures.
            .connect_with(options.disable_statement_logging())
            .await
            .map_err(|source| OpenError::Connect {
                backend: "PostgreSQL",
                source,
            })?;
        crate::settings::MIGRATIONS
            .run(&pool)
            .await
            .map_err(|source| OpenError::Migrate {
                backend: "PostgreSQL",
                source,
            })?;
        Ok(Self { pool })
    }

    /// Closes the pool after running statements have ended.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn keep(&self, changes: &SuppressionChanges) -> Result<(), StoreError> {
        /// Rows of one statement.
        const ROWS: usize = 2_000;
        let begun = self.pool.begin().await;
        let mut transaction = begun.map_err(StoreError::database("keep suppressions"))?;
        if changes.replace {
            sqlx::query("DELETE FROM suppressions")
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::database("forget suppressions"))?;
        }
        for chunk in changes.kept.chunks(ROWS) {
            let rows = chunk.iter().map(suppression_cells).collect();
            insert(&mut transaction, &SUPPRESSIONS, rows).await?;
        }
        let gone: Vec<String> = changes.gone.iter().map(|key| key.to_string()).collect();
        sqlx::query("DELETE FROM suppressions WHERE address_key = ANY($1)")
            .bind(gone)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database("forget suppressions"))?;
        let done = transaction.commit().await;
        done.map_err(StoreError::database("keep suppressions"))
    }

    async fn change_reports(&self, changes: &ReportChanges) -> Result<(), StoreError> {
        let failed = || StoreError::database("keep reports");
        let mut transaction = self.pool.begin().await.map_err(failed())?;
        for (table, reports) in [(&WAITING, &changes.came), (&STILL_WAITING, &changes.later)] {
            // In the order of the key, so that two writers lock in the same order; once each, for
            // one statement may not change a row twice.
            let mut rows: Vec<_> = reports.iter().map(WaitingReport::cells).collect();
            rows.sort_by(|a, b| a.first().cmp(&b.first()));
            rows.dedup_by(|a, b| a.first() == b.first());
            insert(&mut transaction, table, rows).await?;
        }
        sqlx::query("DELETE FROM waiting_reports WHERE report_id = ANY($1)")
            .bind(&changes.over)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        transaction.commit().await.map_err(failed())
    }

    async fn apply_once(&self, batch: &ReceiptBatch) -> Result<ApplyReport, StoreError> {
        let mut transaction = self
            .pool
            .begin()
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

    async fn apply_batch(&self, batch: &ReceiptBatch) -> Result<ApplyReport, StoreError> {
        let mut tries = 0;
        loop {
            let result = self.apply_once(batch).await;
            let Err(error) = &result else { return result };
            tries += 1;
            let met = error.is_serialization() || matches!(error, StoreError::Contended);
            if !met || tries == CONTENDED_TRIES {
                return result;
            }
        }
    }
}

async fn lock_offsets(
    connection: &mut PgConnection,
    batch: &ReceiptBatch,
) -> Result<Offsets, StoreError> {
    let mut keys: Vec<_> = batch
        .partitions
        .iter()
        .map(|p| (p.topic.clone(), p.partition))
        .collect();
    keys.sort();
    keys.dedup();
    let cells = keys
        .iter()
        .map(|(topic, partition)| offset_cells(topic, *partition, 0))
        .collect();
    let mut query = sqlx::query_as::<Postgres, OffsetRow>(AssertSqlSafe(OFFSET_LOCKS.unnest_sql()));
    for column in columns(&OFFSET_LOCKS, cells) {
        query = match column {
            Column::Text(values) => query.bind(values),
            Column::Int(values) => query.bind(values),
        };
    }
    let rows = query
        .fetch_all(connection)
        .await
        .map_err(StoreError::database("lock the offsets"))?;
    Ok(stored_offsets(rows))
}

async fn load(
    connection: &mut PgConnection,
    plan: &Plan<'_>,
) -> Result<BTreeMap<String, DeliveryRow>, StoreError> {
    let ids: Vec<String> = plan.deliveries().into_iter().collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query_as::<Postgres, DeliveryRow>(
        "SELECT * FROM deliveries WHERE delivery_id = ANY($1)",
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
    connection: &mut PgConnection,
    changes: Changes,
    offsets: Offsets,
) -> Result<(), StoreError> {
    let wanted = changes.deliveries.len();
    let rows = changes.deliveries.into_iter().map(DeliveryRow::cells);
    let written = insert(connection, &DELIVERIES, rows.collect()).await?;
    if usize::try_from(written) != Ok(wanted) {
        // Somebody else wrote one of them since we read it; dropping the transaction rolls back.
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

enum Column {
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
}

fn columns(table: &Table, rows: Vec<Vec<Cell>>) -> Vec<Column> {
    let mut columns: Vec<Column> = table
        .columns
        .iter()
        .map(|(_, kind)| match kind {
            Kind::Text => Column::Text(Vec::with_capacity(rows.len())),
            Kind::Int => Column::Int(Vec::with_capacity(rows.len())),
        })
        .collect();
    for row in rows {
        for (column, cell) in columns.iter_mut().zip(row) {
            match (column, cell) {
                (Column::Text(values), Cell::Text(text)) => values.push(text),
                (Column::Int(values), Cell::Int(number)) => values.push(number),
                // Tables and rows are declared side by side; the conformance suite writes all.
                (Column::Text(values), Cell::Int(number)) => {
                    values.push(number.map(|n| n.to_string()));
                }
                (Column::Int(values), Cell::Text(_)) => values.push(None),
            }
        }
    }
    columns
}

async fn insert(
    connection: &mut PgConnection,
    table: &Table,
    rows: Vec<Vec<Cell>>,
) -> Result<u64, StoreError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let mut query = sqlx::query::<Postgres>(AssertSqlSafe(table.unnest_sql()));
    for column in columns(table, rows) {
        query = match column {
            Column::Text(values) => query.bind(values),
            Column::Int(values) => query.bind(values),
        };
    }
    let done = query
        .execute(connection)
        .await
        .map_err(StoreError::database("write a batch"))?;
    Ok(done.rows_affected())
}

impl Backend for PostgresStore {
    async fn fetch<T: Row>(&self, statement: Statement) -> Result<Vec<T>, StoreError> {
        let mut query = sqlx::query_as::<Postgres, T>(AssertSqlSafe(statement.sql));
        for bind in statement.binds {
            query = match bind {
                Cell::Text(text) => query.bind(text),
                Cell::Int(number) => query.bind(number),
            };
        }
        query
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::database("look up"))
    }
}

impl LedgerStore for PostgresStore {
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
            let partitions: Vec<i64> = partitions.iter().copied().map(i64::from).collect();
            sqlx::query(
                "DELETE FROM ledger_offsets WHERE topic = $1 AND partition_number = ANY($2)",
            )
            .bind(topic)
            .bind(partitions)
            .execute(&self.pool)
            .await
            .map_err(StoreError::database("forget offsets"))?;
            Ok(())
        })
    }
}

impl HygieneStore for PostgresStore {
    fn windows(&self, since: Timestamp) -> BoxFuture<'_, Result<Vec<WindowRow>, StoreError>> {
        Box::pin(hygiene::windows(self, since.0))
    }

    fn forget_windows(&self, kept_ms: i64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            sqlx::query(hygiene::FORGET_WINDOWS)
                .bind(kept_ms)
                .execute(&self.pool)
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

impl ReportStore for PostgresStore {
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

impl LedgerReader for PostgresStore {
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
