//! What was read and is not written: one queue per partition, and the next batch out of them.

use std::collections::{BTreeMap, VecDeque};

use bongsu_schemas::{Codec, SchemaRef};
use bongsu_store::{PartitionBatch, ReceiptBatch};
use bongsu_stream::port::{Record, TopicPartition};

use crate::read::{Reading, read};

/// A record to be put aside.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) record: Record,
    pub(crate) reason: &'static str,
    pub(crate) detail: String,
}

/// The next transaction.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) batch: ReceiptBatch,
    /// Dead letters that must be acknowledged before the offsets move.
    pub(crate) letters: Vec<Letter>,
    /// Records per partition that it covers.
    taken: BTreeMap<TopicPartition, usize>,
    /// Broker time of its oldest record.
    pub(crate) oldest: Option<i64>,
    /// A schema that stops a partition.
    pub(crate) needs: Option<SchemaRef>,
}

impl Prepared {
    /// The positions it moves.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (TopicPartition, i64)> + '_ {
        self.batch.partitions.iter().map(|p| {
            (
                TopicPartition::new(p.topic.clone(), p.partition),
                p.next_offset,
            )
        })
    }

    /// Number of records it covers.
    pub(crate) fn records(&self) -> usize {
        self.taken.values().sum()
    }
}

/// Why a record is put aside although nothing is wrong with its bytes.
pub(crate) trait Verdicts {
    /// A schema that was looked for in vain.
    fn schema_is_missing(&self, reference: SchemaRef) -> Option<String>;
    /// A receipt that the store refuses for good.
    fn store_refuses(&self, record: &Record) -> Option<String>;
}

/// Records read and not yet written.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    queues: BTreeMap<TopicPartition, VecDeque<Record>>,
    records: usize,
}

impl Backlog {
    pub(crate) fn push(&mut self, record: Record) {
        let partition = TopicPartition::new(record.topic.clone(), record.partition);
        self.queues.entry(partition).or_default().push_back(record);
        self.records += 1;
    }

    pub(crate) const fn len(&self) -> usize {
        self.records
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn holds(&self, partition: &TopicPartition) -> bool {
        self.queues.contains_key(partition)
    }

    /// Forgets a partition that belongs to somebody else; its records are read there.
    pub(crate) fn drop_partition(&mut self, partition: &TopicPartition) {
        if let Some(queue) = self.queues.remove(partition) {
            self.records -= queue.len();
        }
    }

    /// Reads the next records of all partitions that are `open`, at most `limit`.
    pub(crate) fn prepare(
        &self,
        codec: &Codec,
        verdicts: &dyn Verdicts,
        limit: usize,
        open: impl Fn(&TopicPartition) -> bool,
    ) -> Prepared {
        let mut prepared = Prepared::default();
        let queues = self.queues.iter().filter(|(partition, _)| open(partition));
        for (partition, queue) in queues {
            let room = limit.saturating_sub(prepared.records());
            prepared.add(partition, queue.iter().take(room), codec, verdicts);
        }
        prepared
    }

    /// Takes off what was written.
    pub(crate) fn written(&mut self, prepared: &Prepared) {
        for (partition, taken) in &prepared.taken {
            if let Some(queue) = self.queues.get_mut(partition) {
                let taken = (*taken).min(queue.len());
                queue.drain(..taken);
                self.records -= taken;
            }
        }
        self.queues.retain(|_, queue| !queue.is_empty());
    }
}

impl Prepared {
    fn add<'a>(
        &mut self,
        partition: &TopicPartition,
        records: impl Iterator<Item = &'a Record>,
        codec: &Codec,
        verdicts: &dyn Verdicts,
    ) {
        let mut part = PartitionBatch {
            topic: partition.topic.clone(),
            partition: partition.partition,
            next_offset: 0,
            receipts: Vec::new(),
        };
        let mut taken = 0;
        for record in records {
            match judge(codec, verdicts, record) {
                Reading::Receipt(receipt) => part.receipts.push((record.offset, *receipt)),
                Reading::Unreadable { reason, detail } => self.letters.push(Letter {
                    record: record.clone(),
                    reason,
                    detail,
                }),
                Reading::NeedsSchema(reference) => {
                    self.needs.get_or_insert(reference);
                    break;
                }
            }
            taken += 1;
            part.next_offset = record.offset + 1;
            let oldest = self.oldest.unwrap_or(record.timestamp);
            self.oldest = Some(oldest.min(record.timestamp));
        }
        if taken > 0 {
            self.batch.partitions.push(part);
            self.taken.insert(partition.clone(), taken);
        }
    }
}

fn judge(codec: &Codec, verdicts: &dyn Verdicts, record: &Record) -> Reading {
    if let Some(detail) = verdicts.store_refuses(record) {
        let reason = "unstorable";
        return Reading::Unreadable { reason, detail };
    }
    let reading = read(codec, record.value.as_deref());
    if let Reading::NeedsSchema(reference) = &reading
        && let Some(detail) = verdicts.schema_is_missing(*reference)
    {
        let reason = "unknown_schema";
        return Reading::Unreadable { reason, detail };
    }
    reading
}
