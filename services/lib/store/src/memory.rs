//! A store in memory: the same promises without a database, for simulations.
//!
//! Deterministic: every map is ordered and there is no clock. It holds everything it was ever
//! given, so it is for runs that end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bongsu_domain::{AddressKey, DeliveryId, Suppression, Timestamp};
use futures_util::future::BoxFuture;

use crate::error::StoreError;
use crate::fold::{Offsets, Plan, fold};
use crate::hygiene::{SuppressionChanges, SuppressionQuery, WindowRow};
use crate::query::{CountsQuery, EventQuery, MAX_LIMIT, RecipientQuery, SenderScope, minute_of};
use crate::reads::{cut, recipient_page};
use crate::receipt::ReceiptBatch;
use crate::reports::{DueReport, NamedDelivery, ReportChanges, WaitingReport, join};
use crate::rows::{CountKey, DeliveryRow, EventRow, TimelineRow};
use crate::store::{
    ApplyReport, HygieneStore, LedgerReader, LedgerStore, ReportStore, StoredOffset,
};
use crate::view::{CountRow, DeliveryView, EventAnswer, EventView, RecipientPage};

#[derive(Debug, Default)]
struct Tables {
    available: bool,
    offsets: Offsets,
    deliveries: BTreeMap<String, DeliveryRow>,
    timeline: BTreeMap<String, TimelineRow>,
    events: BTreeMap<String, EventRow>,
    counts: BTreeMap<CountKey, i64>,
    windows: BTreeMap<(String, String, String, i64), (i64, i64)>,
    suppressions: BTreeMap<AddressKey, Suppression>,
    reports: BTreeMap<String, WaitingReport>,
}

/// The in-memory backend. Clones share the tables.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tables: Arc::new(Mutex::new(Tables {
                available: true,
                ..Tables::default()
            })),
        }
    }

    /// Takes the store down (every call answers [`StoreError::Unavailable`]) or up again.
    pub fn set_available(&self, available: bool) {
        self.lock().available = available;
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Tables>, StoreError> {
        let tables = self.lock();
        if tables.available {
            Ok(tables)
        } else {
            Err(StoreError::Unavailable)
        }
    }

    fn apply_batch(&self, batch: &ReceiptBatch) -> Result<ApplyReport, StoreError> {
        let mut tables = self.open()?;
        let plan = Plan::new(batch, &tables.offsets);
        let stored = plan
            .deliveries()
            .into_iter()
            .filter_map(|id| Some((id.clone(), tables.deliveries.get(&id)?.clone())))
            .collect();
        let changes = fold(&plan, stored)?;
        tables.offsets.extend(plan.offsets);
        for row in changes.deliveries {
            tables.deliveries.insert(row.delivery_id.clone(), row);
        }
        for (id, row) in changes.timeline {
            tables.timeline.entry(id).or_insert(row);
        }
        for (id, row) in changes.events {
            tables.events.entry(id).or_insert(row);
        }
        for (key, change) in changes.counts {
            *tables.counts.entry(key).or_insert(0) += change;
        }
        for row in changes.windows {
            let key = (row.channel, row.account, row.app, row.minute);
            let sum = tables.windows.entry(key).or_default();
            sum.0 += row.told;
            sum.1 += row.dead;
        }
        Ok(changes.report)
    }

    fn find_event(&self, query: &EventQuery) -> Result<EventAnswer, StoreError> {
        let tables = self.open()?;
        let wanted = |event_id: &str, sender: &str| {
            event_id == query.event_id
                && query.sender.as_deref().is_none_or(|s| s == sender)
                && query.scope.permits(sender)
        };
        let rows = tables.deliveries.values();
        let mut deliveries: Vec<_> = rows.filter(|r| wanted(&r.event_id, &r.sender)).collect();
        let rows = tables.events.values();
        let events: Vec<_> = rows.filter(|r| wanted(&r.event_id, &r.sender)).collect();
        let senders = deliveries.iter().map(|r| &r.sender);
        let mut senders: Vec<String> = senders
            .chain(events.iter().map(|r| &r.sender))
            .cloned()
            .collect();
        senders.sort();
        senders.dedup();
        if senders.len() > 1 {
            senders.truncate(100);
            return Ok(EventAnswer::Ambiguous(senders));
        }
        let Some(sender) = senders.pop() else {
            return Ok(EventAnswer::Unknown);
        };
        if let Some(after) = query.after {
            let after = after.to_string();
            deliveries.retain(|r| r.delivery_id > after);
        }
        let mut rows: Vec<_> = deliveries.into_iter().cloned().collect();
        let next_after = cut(&mut rows, query.limit)?;
        let views = rows.into_iter().map(|row| tables.view(row));
        let receipts = events
            .into_iter()
            .take(usize::try_from(MAX_LIMIT).unwrap_or(0));
        Ok(EventAnswer::Found(Box::new(EventView {
            sender,
            event_id: query.event_id.clone(),
            deliveries: views.collect::<Result<_, _>>()?,
            receipts: receipts
                .cloned()
                .map(EventRow::view)
                .collect::<Result<_, _>>()?,
            next_after,
        })))
    }

    fn find_recipient(&self, query: &RecipientQuery) -> Result<RecipientPage, StoreError> {
        let tables = self.open()?;
        let before = query
            .before
            .map(|c| (c.listed_at.0, c.delivery.to_string()));
        let mut rows: Vec<_> = tables
            .deliveries
            .values()
            .filter(|r| r.recipient.as_ref() == Some(&query.recipient))
            .filter(|r| query.scope.permits(&r.sender))
            .filter(|r| {
                before
                    .as_ref()
                    .is_none_or(|(at, id)| (r.listed_at, &r.delivery_id) < (*at, id))
            })
            .cloned()
            .collect();
        rows.sort_by(|a, b| (b.listed_at, &b.delivery_id).cmp(&(a.listed_at, &a.delivery_id)));
        recipient_page(rows, query.limit)
    }

    fn find_counts(&self, query: &CountsQuery) -> Result<Vec<CountRow>, StoreError> {
        let tables = self.open()?;
        let is = |wanted: Option<&str>, found: &str| wanted.is_none_or(|w| w == found);
        let mut sums: BTreeMap<CountKey, i64> = BTreeMap::new();
        for (key, count) in &tables.counts {
            let matches = (minute_of(query.from.0)..query.to.0).contains(&key.minute)
                && is(query.channel.map(|c| c.as_str()), &key.channel)
                && is(query.class.map(|c| c.as_str()), &key.class)
                && is(query.platform.as_deref(), &key.platform)
                && is(query.app.as_deref(), &key.app)
                && is(query.outcome.map(|o| o.as_str()), &key.outcome);
            if matches {
                let begins = key.minute - key.minute % query.bucket_millis();
                let key = CountKey {
                    minute: begins,
                    ..key.clone()
                };
                *sums.entry(key).or_insert(0) += count;
            }
        }
        Ok(sums
            .into_iter()
            .filter(|(_, count)| *count != 0)
            .map(|(key, deliveries)| CountRow {
                from: Timestamp(key.minute),
                channel: key.channel,
                class: key.class,
                platform: key.platform,
                app: key.app,
                outcome: key.outcome,
                deliveries,
            })
            .collect())
    }
}

impl Tables {
    fn view(&self, row: DeliveryRow) -> Result<DeliveryView, StoreError> {
        let entries = self
            .timeline
            .values()
            .filter(|e| e.delivery_id == row.delivery_id)
            .cloned()
            .collect();
        row.view(Some(entries))
    }
}

impl LedgerStore for MemoryStore {
    fn apply<'a>(
        &'a self,
        batch: &'a ReceiptBatch,
    ) -> BoxFuture<'a, Result<ApplyReport, StoreError>> {
        Box::pin(async move { self.apply_batch(batch) })
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a str,
    ) -> BoxFuture<'a, Result<Vec<StoredOffset>, StoreError>> {
        Box::pin(async move {
            let tables = self.open()?;
            Ok(tables
                .offsets
                .iter()
                .filter(|((t, _), _)| t == topic)
                .map(|((t, partition), next_offset)| StoredOffset {
                    topic: t.as_str().into(),
                    partition: *partition,
                    next_offset: *next_offset,
                })
                .collect())
        })
    }

    fn forget_offsets<'a>(
        &'a self,
        topic: &'a str,
        partitions: &'a [i32],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut tables = self.open()?;
            tables
                .offsets
                .retain(|(t, p), _| t != topic || !partitions.contains(p));
            Ok(())
        })
    }
}

impl HygieneStore for MemoryStore {
    fn windows(&self, since: Timestamp) -> BoxFuture<'_, Result<Vec<WindowRow>, StoreError>> {
        Box::pin(async move {
            let tables = self.open()?;
            let rows = tables.windows.iter().filter(|(key, _)| key.3 >= since.0);
            Ok(rows
                .map(
                    |((channel, account, app, minute), (told, dead))| WindowRow {
                        channel: channel.clone(),
                        account: account.clone(),
                        app: app.clone(),
                        minute: *minute,
                        told: *told,
                        dead: *dead,
                    },
                )
                .collect())
        })
    }

    fn forget_windows(&self, kept_ms: i64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut tables = self.open()?;
            let newest = tables.windows.keys().map(|key| key.3).max().unwrap_or(0);
            tables.windows.retain(|key, _| key.3 >= newest - kept_ms);
            Ok(())
        })
    }

    fn keep_suppressions<'a>(
        &'a self,
        changes: &'a SuppressionChanges,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut tables = self.open()?;
            if changes.replace {
                tables.suppressions.clear();
            }
            for kept in &changes.kept {
                tables.suppressions.insert(kept.key(), kept.clone());
            }
            for key in &changes.gone {
                tables.suppressions.remove(key);
            }
            Ok(())
        })
    }
}

impl ReportStore for MemoryStore {
    fn keep_reports<'a>(
        &'a self,
        changes: &'a ReportChanges,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut tables = self.open()?;
            for report in &changes.came {
                let kept = tables.reports.entry(report.id());
                kept.or_insert_with(|| report.clone());
            }
            for report in &changes.later {
                tables.reports.insert(report.id(), report.clone());
            }
            tables.reports.retain(|id, _| !changes.over.contains(id));
            Ok(())
        })
    }

    fn due_reports(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<DueReport>, StoreError>> {
        Box::pin(async move {
            let tables = self.open()?;
            let mut due: Vec<_> = tables.reports.iter().collect();
            due.retain(|(_, report)| report.look_at <= now.0);
            due.sort_by_key(|(id, report)| (report.look_at, *id));
            due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            let due: Vec<_> = due.into_iter().map(|(_, report)| report.clone()).collect();
            let named = tables.deliveries.values().filter_map(NamedDelivery::of);
            Ok(join(due, named.collect()))
        })
    }
}

impl LedgerReader for MemoryStore {
    fn delivery<'a>(
        &'a self,
        id: DeliveryId,
        scope: &'a SenderScope,
    ) -> BoxFuture<'a, Result<Option<DeliveryView>, StoreError>> {
        Box::pin(async move {
            let tables = self.open()?;
            tables
                .deliveries
                .get(&id.to_string())
                .filter(|row| scope.permits(&row.sender))
                .cloned()
                .map(|row| tables.view(row))
                .transpose()
        })
    }

    fn event<'a>(
        &'a self,
        query: &'a EventQuery,
    ) -> BoxFuture<'a, Result<EventAnswer, StoreError>> {
        Box::pin(async move { self.find_event(query) })
    }

    fn recipient_deliveries<'a>(
        &'a self,
        query: &'a RecipientQuery,
    ) -> BoxFuture<'a, Result<RecipientPage, StoreError>> {
        Box::pin(async move { self.find_recipient(query) })
    }

    fn counts<'a>(
        &'a self,
        query: &'a CountsQuery,
    ) -> BoxFuture<'a, Result<Vec<CountRow>, StoreError>> {
        Box::pin(async move { self.find_counts(query) })
    }

    fn suppressions<'a>(
        &'a self,
        query: &'a SuppressionQuery,
    ) -> BoxFuture<'a, Result<Vec<Suppression>, StoreError>> {
        Box::pin(async move {
            let tables = self.open()?;
            let wanted = tables.suppressions.values().filter(|s| query.wants(s));
            let most = usize::try_from(query.most()).unwrap_or(0);
            Ok(wanted.take(most).cloned().collect())
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.open().map(drop) })
    }
}
