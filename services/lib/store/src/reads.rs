//! The look-ups of both databases: one SQL text, `$n` placeholders, rows by name.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;

use bongsu_domain::{DeliveryId, Timestamp};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::error::StoreError;
use crate::query::{
    CountsQuery, Cursor, EventQuery, MAX_LIMIT, RecipientQuery, SenderScope, capped, minute_of,
};
use crate::rows::{DeliveryRow, EventRow, OffsetRow, TimelineRow};
use crate::state::delivery_id;
use crate::store::StoredOffset;
use crate::table::Statement;
use crate::view::{CountRow, DeliveryView, EventAnswer, EventView, RecipientPage};

/// A row that both databases can give.
pub(crate) trait Row:
    for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin
{
}
impl<T> Row for T where T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin
{}

/// A database that can run a read.
pub(crate) trait Backend: Send + Sync {
    fn fetch<T: Row>(
        &self,
        statement: Statement,
    ) -> impl Future<Output = Result<Vec<T>, StoreError>> + Send;
}

#[derive(FromRow)]
struct SenderRow {
    sender: String,
}

#[derive(FromRow)]
struct CountsRow {
    begins: i64,
    channel: String,
    class: String,
    platform: String,
    app: String,
    outcome: String,
    deliveries: i64,
}

#[derive(FromRow)]
struct OneRow {
    one: i64,
}

/// Appends ` AND (…)` for what the scope permits.
fn within(statement: &mut Statement, scope: &SenderScope) {
    let SenderScope::Only { exact, prefixes } = scope else {
        return;
    };
    statement.push(" AND (1 = 0");
    for name in exact {
        statement.push(" OR sender = ").bind(name.clone());
    }
    for prefix in prefixes {
        // Not LIKE: a prefix may hold its wildcards. Both databases count characters here.
        let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
        statement
            .push(" OR substr(sender, 1, CAST(")
            .bind(length)
            .push(" AS INTEGER)) = ")
            .bind(prefix.clone());
    }
    statement.push(")");
}

async fn timelines<B: Backend>(
    backend: &B,
    rows: &[DeliveryRow],
) -> Result<HashMap<String, Vec<TimelineRow>>, StoreError> {
    let mut found: HashMap<String, Vec<TimelineRow>> = HashMap::new();
    if rows.is_empty() {
        return Ok(found);
    }
    let mut statement = Statement::new("SELECT * FROM timeline WHERE delivery_id IN (");
    for (n, row) in rows.iter().enumerate() {
        if n > 0 {
            statement.push(", ");
        }
        statement.bind(row.delivery_id.clone());
    }
    statement.push(") ORDER BY at, receipt_id");
    for entry in backend.fetch::<TimelineRow>(statement).await? {
        found
            .entry(entry.delivery_id.clone())
            .or_default()
            .push(entry);
    }
    Ok(found)
}

async fn views<B: Backend>(
    backend: &B,
    rows: Vec<DeliveryRow>,
) -> Result<Vec<DeliveryView>, StoreError> {
    let mut entries = timelines(backend, &rows).await?;
    rows.into_iter()
        .map(|row| {
            let own = entries.remove(&row.delivery_id).unwrap_or_default();
            row.view(Some(own))
        })
        .collect()
}

pub(crate) async fn delivery<B: Backend>(
    backend: &B,
    id: DeliveryId,
    scope: &SenderScope,
) -> Result<Option<DeliveryView>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM deliveries WHERE delivery_id = ");
    statement.bind(id.to_string());
    within(&mut statement, scope);
    let rows = backend.fetch::<DeliveryRow>(statement).await?;
    Ok(views(backend, rows).await?.pop())
}

/// The senders that have an event of this id, as far as the scope permits.
async fn senders<B: Backend>(backend: &B, query: &EventQuery) -> Result<Vec<String>, StoreError> {
    let mut statement = Statement::new("SELECT sender FROM (");
    for (n, table) in ["deliveries", "event_receipts"].into_iter().enumerate() {
        if n > 0 {
            statement.push(" UNION ");
        }
        statement
            .push("SELECT sender FROM ")
            .push(table)
            .push(" WHERE event_id = ")
            .bind(query.event_id.clone());
        if let Some(sender) = &query.sender {
            statement.push(" AND sender = ").bind(sender.clone());
        }
        within(&mut statement, &query.scope);
    }
    statement.push(") AS found ORDER BY sender LIMIT 100");
    let rows = backend.fetch::<SenderRow>(statement).await?;
    Ok(rows.into_iter().map(|r| r.sender).collect())
}

pub(crate) async fn event<B: Backend>(
    backend: &B,
    query: &EventQuery,
) -> Result<EventAnswer, StoreError> {
    let mut senders = senders(backend, query).await?;
    let Some(sender) = senders.pop() else {
        return Ok(EventAnswer::Unknown);
    };
    if !senders.is_empty() {
        senders.push(sender);
        return Ok(EventAnswer::Ambiguous(senders));
    }
    let mut statement = Statement::new("SELECT * FROM deliveries WHERE event_id = ");
    statement
        .bind(query.event_id.clone())
        .push(" AND sender = ")
        .bind(sender.clone());
    if let Some(after) = query.after {
        statement
            .push(" AND delivery_id > ")
            .bind(after.to_string());
    }
    statement
        .push(" ORDER BY delivery_id LIMIT ")
        .bind(capped(query.limit) + 1);
    let mut rows = backend.fetch::<DeliveryRow>(statement).await?;
    let next_after = cut(&mut rows, query.limit)?;
    let mut statement = Statement::new("SELECT * FROM event_receipts WHERE event_id = ");
    statement
        .bind(query.event_id.clone())
        .push(" AND sender = ")
        .bind(sender.clone())
        .push(" ORDER BY receipt_id LIMIT ")
        .bind(i64::from(MAX_LIMIT));
    let receipts = backend.fetch::<EventRow>(statement).await?;
    Ok(EventAnswer::Found(Box::new(EventView {
        sender,
        event_id: query.event_id.clone(),
        deliveries: views(backend, rows).await?,
        receipts: receipts
            .into_iter()
            .map(EventRow::view)
            .collect::<Result<_, _>>()?,
        next_after,
    })))
}

/// Takes the one row too many off; the last one left is where to go on.
pub(crate) fn cut(
    rows: &mut Vec<DeliveryRow>,
    limit: u32,
) -> Result<Option<DeliveryId>, StoreError> {
    let limit = usize::try_from(capped(limit)).unwrap_or(usize::MAX);
    if rows.len() <= limit {
        return Ok(None);
    }
    rows.truncate(limit);
    rows.last().map(|r| delivery_id(&r.delivery_id)).transpose()
}

pub(crate) async fn recipient_deliveries<B: Backend>(
    backend: &B,
    query: &RecipientQuery,
) -> Result<RecipientPage, StoreError> {
    let mut statement = Statement::new("SELECT * FROM deliveries WHERE recipient = ");
    statement.bind(query.recipient.clone());
    within(&mut statement, &query.scope);
    if let Some(before) = query.before {
        statement
            .push(" AND (listed_at, delivery_id) < (")
            .bind(before.listed_at.0)
            .push(", ")
            .bind(before.delivery.to_string())
            .push(")");
    }
    statement
        .push(" ORDER BY listed_at DESC, delivery_id DESC LIMIT ")
        .bind(capped(query.limit) + 1);
    let rows = backend.fetch::<DeliveryRow>(statement).await?;
    recipient_page(rows, query.limit)
}

pub(crate) fn recipient_page(
    mut rows: Vec<DeliveryRow>,
    limit: u32,
) -> Result<RecipientPage, StoreError> {
    let more = cut(&mut rows, limit)?;
    let next = match (more, rows.last()) {
        (Some(delivery), Some(last)) => Some(Cursor {
            listed_at: Timestamp(last.listed_at),
            delivery,
        }),
        (None, _) | (_, None) => None,
    };
    Ok(RecipientPage {
        deliveries: rows
            .into_iter()
            .map(|row| row.view(None))
            .collect::<Result<_, _>>()?,
        next,
    })
}

pub(crate) async fn counts<B: Backend>(
    backend: &B,
    query: &CountsQuery,
) -> Result<Vec<CountRow>, StoreError> {
    let bucket = query.bucket_millis();
    let mut statement = Statement::new("SELECT begins, channel, class, platform, app, outcome, ");
    statement
        .push("CAST(SUM(deliveries) AS BIGINT) AS deliveries FROM (SELECT minute - minute % ")
        .bind(bucket)
        .push(" AS begins, channel, class, platform, app, outcome, deliveries")
        .push(" FROM delivery_counts WHERE minute >= ")
        .bind(minute_of(query.from.0))
        .push(" AND minute < ")
        .bind(query.to.0);
    let filters = [
        ("channel", query.channel.map(|c| c.as_str().to_owned())),
        ("class", query.class.map(|c| c.as_str().to_owned())),
        ("platform", query.platform.clone()),
        ("app", query.app.clone()),
        ("outcome", query.outcome.map(|o| o.as_str().to_owned())),
    ];
    for (column, wanted) in filters {
        if let Some(wanted) = wanted {
            statement
                .push(" AND ")
                .push(column)
                .push(" = ")
                .bind(wanted);
        }
    }
    statement
        .push(") AS rows_in_range GROUP BY begins, channel, class, platform, app, outcome")
        .push(" HAVING SUM(deliveries) <> 0")
        .push(" ORDER BY begins, channel, class, platform, app, outcome");
    let rows = backend.fetch::<CountsRow>(statement).await?;
    Ok(rows
        .into_iter()
        .map(|r| CountRow {
            from: Timestamp(r.begins),
            channel: r.channel,
            class: r.class,
            platform: r.platform,
            app: r.app,
            outcome: r.outcome,
            deliveries: r.deliveries,
        })
        .collect())
}

pub(crate) async fn offsets<B: Backend>(
    backend: &B,
    topic: &str,
) -> Result<Vec<StoredOffset>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM ledger_offsets WHERE topic = ");
    statement
        .bind(topic.to_owned())
        .push(" ORDER BY partition_number");
    let rows = backend.fetch::<OffsetRow>(statement).await?;
    Ok(stored_offsets(rows).into_iter().map(stored).collect())
}

fn stored(((topic, partition), next_offset): ((String, i32), i64)) -> StoredOffset {
    StoredOffset {
        topic: topic.into(),
        partition,
        next_offset,
    }
}

/// Rows of `ledger_offsets` by partition.
pub(crate) fn stored_offsets(rows: Vec<OffsetRow>) -> BTreeMap<(String, i32), i64> {
    rows.into_iter()
        .filter_map(|r| {
            let partition = i32::try_from(r.partition_number).ok()?;
            Some(((r.topic, partition), r.next_offset))
        })
        .collect()
}

pub(crate) async fn ping<B: Backend>(backend: &B) -> Result<(), StoreError> {
    let rows = backend
        .fetch::<OneRow>(Statement::new("SELECT CAST(1 AS BIGINT) AS one"))
        .await?;
    match rows.as_slice() {
        [OneRow { one: 1 }] => Ok(()),
        [] | [_] | [_, _, ..] => Err(StoreError::Unavailable),
    }
}
