//! From a batch and what is stored to what is to be written: pure, shared by every backend.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::StoreError;
use crate::hygiene::WindowRow;
use crate::receipt::{Finding, LedgerReceipt, ReceiptBatch};
use crate::rows::{CountKey, DeliveryRow, EventRow, TimelineRow};
use crate::store::ApplyReport;

/// Stored positions by topic and partition.
pub(crate) type Offsets = BTreeMap<(String, i32), i64>;

/// What is left of a batch once the stored offsets are known.
pub(crate) struct Plan<'a> {
    receipts: Vec<&'a LedgerReceipt>,
    skipped: usize,
    windows: &'a [WindowRow],
    /// Positions that move forward.
    pub(crate) offsets: Offsets,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(batch: &'a ReceiptBatch, stored: &Offsets) -> Self {
        let mut plan = Self {
            receipts: Vec::with_capacity(batch.len()),
            skipped: 0,
            windows: &batch.windows,
            offsets: Offsets::new(),
        };
        for part in &batch.partitions {
            let key = (part.topic.as_ref().to_owned(), part.partition);
            let next = stored.get(&key).copied().unwrap_or(0);
            for (offset, receipt) in &part.receipts {
                if *offset < next {
                    plan.skipped += 1;
                } else {
                    plan.receipts.push(receipt);
                }
            }
            if part.next_offset > next {
                plan.offsets.insert(key, part.next_offset);
            }
        }
        plan
    }

    /// The deliveries whose rows must be read first.
    pub(crate) fn deliveries(&self) -> BTreeSet<String> {
        self.receipts
            .iter()
            .filter_map(|r| r.finding.delivery())
            .map(|d| d.to_string())
            .collect()
    }
}

/// What is to be written, each table in the order of its key, so that two writers lock in the same
/// order.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Rows to insert or to replace, with their new revision.
    pub(crate) deliveries: Vec<DeliveryRow>,
    pub(crate) timeline: BTreeMap<String, TimelineRow>,
    pub(crate) events: BTreeMap<String, EventRow>,
    pub(crate) counts: BTreeMap<CountKey, i64>,
    pub(crate) windows: Vec<WindowRow>,
    pub(crate) report: ApplyReport,
}

/// Folds the receipts into the stored rows of their deliveries.
pub(crate) fn fold(
    plan: &Plan<'_>,
    stored: BTreeMap<String, DeliveryRow>,
) -> Result<Changes, StoreError> {
    let mut changes = Changes {
        report: ApplyReport {
            applied: plan.receipts.len(),
            skipped: plan.skipped,
            ..ApplyReport::default()
        },
        ..Changes::default()
    };
    let mut rows: BTreeMap<String, DeliveryRow> = BTreeMap::new();
    for receipt in &plan.receipts {
        changes.note(receipt);
        let Some(delivery) = receipt.finding.delivery() else {
            continue;
        };
        let id = delivery.to_string();
        let row = match rows.get_mut(&id) {
            Some(row) => row,
            None => {
                let row = stored
                    .get(&id)
                    .cloned()
                    .unwrap_or_else(|| DeliveryRow::first(receipt, &id));
                rows.entry(id).or_insert(row)
            }
        };
        row.absorb(receipt)?;
    }
    for (id, mut row) in rows {
        let old = stored.get(&id);
        if old == Some(&row) {
            continue;
        }
        changes.count(old, &row)?;
        row.revision += 1;
        changes.deliveries.push(row);
    }
    if plan.skipped == 0 {
        changes.windows = plan.windows.to_vec();
    }
    changes.counts.retain(|_, change| *change != 0);
    Ok(changes)
}

impl Changes {
    /// Keeps what has a row of its own.
    fn note(&mut self, receipt: &LedgerReceipt) {
        let id = || receipt.receipt_id.clone();
        match &receipt.finding {
            Finding::Event(outcome) => {
                self.events
                    .entry(id())
                    .or_insert_with(|| EventRow::new(receipt, outcome.as_str()));
            }
            Finding::Attempt { delivery, result } => {
                self.timeline
                    .entry(id())
                    .or_insert_with(|| TimelineRow::new(receipt, *delivery, "attempt", result));
            }
            Finding::Report { delivery, outcome } => {
                self.timeline.entry(id()).or_insert_with(|| {
                    TimelineRow::new(receipt, *delivery, "report", outcome.as_str())
                });
            }
            // Its entry is in the delivery's own row.
            Finding::Outcome { .. } => {}
        }
    }

    fn count(&mut self, old: Option<&DeliveryRow>, new: &DeliveryRow) -> Result<(), StoreError> {
        let before = match old {
            None => {
                self.report.new_deliveries += 1;
                None
            }
            Some(old) => old.count_key()?,
        };
        let after = new.count_key()?;
        if before.as_ref().map(|k| &k.outcome) != after.as_ref().map(|k| &k.outcome) {
            self.report.transitions += 1;
        }
        if before != after {
            for (key, change) in [(before, -1), (after, 1)] {
                if let Some(key) = key {
                    *self.counts.entry(key).or_insert(0) += change;
                }
            }
        }
        Ok(())
    }
}
