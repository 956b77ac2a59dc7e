//! Topics and partitions in memory, with transaction markers and the last stable offset.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::port::{From, Isolation, Outgoing, Record};

/// A stock broker's `max.message.bytes`.
const MAX_MESSAGE_BYTES: usize = 1_048_588;

/// Names one transaction, for ever.
pub(super) type TransactionNumber = u64;

/// What lies at an offset.
struct Entry {
    /// `None` is a transaction marker, which no reader sees.
    record: Option<Record>,
    transaction: Option<TransactionNumber>,
}

#[derive(Default)]
pub(super) struct Partition {
    /// Offset of the first entry.
    base: i64,
    entries: VecDeque<Entry>,
    /// Open transactions with their first offset here.
    open: BTreeMap<TransactionNumber, i64>,
    /// Aborted transactions that left records here.
    aborted: BTreeSet<TransactionNumber>,
}

fn index(offset: i64) -> usize {
    usize::try_from(offset).unwrap_or(0)
}

fn length(entries: &VecDeque<Entry>) -> i64 {
    i64::try_from(entries.len()).unwrap_or(i64::MAX)
}

impl Partition {
    /// The oldest offset there is.
    pub(super) const fn low(&self) -> i64 {
        self.base
    }

    /// The offset the next record gets.
    pub(super) fn high(&self) -> i64 {
        self.base + length(&self.entries)
    }

    /// The end as a reader of this isolation sees it.
    pub(super) fn end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::Uncommitted => self.high(),
            Isolation::Committed => self.open.values().copied().min().unwrap_or(self.high()),
        }
    }

    pub(super) fn append(
        &mut self,
        outgoing: Outgoing,
        timestamp: i64,
        transaction: Option<TransactionNumber>,
    ) -> i64 {
        let offset = self.high();
        if let Some(number) = transaction {
            self.open.entry(number).or_insert(offset);
        }
        let record = Record {
            topic: outgoing.topic,
            partition: outgoing.partition,
            offset,
            timestamp,
            key: outgoing.key,
            value: outgoing.value,
            headers: outgoing.headers,
        };
        self.entries.push_back(Entry {
            record: Some(record),
            transaction,
        });
        offset
    }

    /// Ends a transaction with its marker, which takes an offset.
    pub(super) fn end_transaction(&mut self, number: TransactionNumber, committed: bool) {
        if self.open.remove(&number).is_none() {
            return;
        }
        if !committed {
            self.aborted.insert(number);
        }
        self.entries.push_back(Entry {
            record: None,
            transaction: Some(number),
        });
    }

    /// Drops everything before `offset`, as retention does.
    pub(super) fn trim(&mut self, offset: i64) {
        while self.base < offset && self.entries.pop_front().is_some() {
            self.base += 1;
        }
    }

    /// Where a read starts; never before the oldest record.
    pub(super) fn start(&self, from: From, isolation: Isolation) -> i64 {
        match from {
            From::Beginning => self.base,
            From::Offset(offset) => offset.max(self.base),
            From::Time(millis) => self
                .entries
                .iter()
                .filter_map(|e| e.record.as_ref())
                .find(|r| r.timestamp >= millis)
                .map_or_else(|| self.end(isolation), |r| r.offset),
        }
    }

    /// Visible records from `start` on, before `stop`, at most `most`; and where to go on.
    pub(super) fn read(
        &self,
        start: i64,
        stop: i64,
        most: usize,
        isolation: Isolation,
    ) -> (Vec<Record>, i64) {
        let stop = stop.min(self.end(isolation));
        let mut position = start.max(self.base);
        let mut records = Vec::new();
        while position < stop && records.len() < most {
            let Some(entry) = self.entries.get(index(position - self.base)) else {
                break;
            };
            position += 1;
            let aborted = entry.transaction.is_some_and(|t| self.aborted.contains(&t));
            if aborted && isolation == Isolation::Committed {
                continue;
            }
            records.extend(entry.record.clone());
        }
        (records, position.max(start))
    }
}

pub(super) struct Topic {
    pub(super) partitions: Vec<Partition>,
    pub(super) replication: i32,
    pub(super) settings: BTreeMap<String, String>,
}

impl Topic {
    pub(super) fn partition(&self, number: i32) -> Option<&Partition> {
        usize::try_from(number)
            .ok()
            .and_then(|n| self.partitions.get(n))
    }

    pub(super) fn partition_mut(&mut self, number: i32) -> Option<&mut Partition> {
        usize::try_from(number)
            .ok()
            .and_then(|n| self.partitions.get_mut(n))
    }

    pub(super) fn count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// The largest record this topic takes.
    pub(super) fn max_bytes(&self) -> usize {
        self.settings
            .get("max.message.bytes")
            .and_then(|v| v.parse().ok())
            .unwrap_or(MAX_MESSAGE_BYTES)
    }
}

pub(super) type Topics = BTreeMap<Arc<str>, Topic>;
