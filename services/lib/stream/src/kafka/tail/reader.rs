//! The thread that reads one topic's ranges.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::Read;
use super::bounds::{Bounds, resolve};
use crate::error::ConsumeError;
use crate::kafka::client::{Kept, Recipe};
use crate::kafka::context::Plain;
use crate::kafka::convert::{Names, consume_error, record};
use crate::port::{Record, TailRange, TopicPartition};

/// Most records of one batch.
const BATCH: usize = 500;

/// How long a poll waits; a stop is seen within this time.
const IDLE: Duration = Duration::from_millis(20);

pub(super) struct Reader {
    recipe: Recipe,
    topic: Arc<str>,
    ranges: Vec<TailRange>,
    reads: mpsc::Sender<Read>,
    stop: Arc<AtomicBool>,
}

/// The caller went away.
struct Stopped;

impl Reader {
    pub(super) fn new(
        recipe: Recipe,
        topic: Arc<str>,
        ranges: Vec<TailRange>,
        reads: mpsc::Sender<Read>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            recipe,
            topic,
            ranges,
            reads,
            stop,
        }
    }

    pub(super) fn run(self, follow: bool) {
        let client: Kept<BaseConsumer<Plain>> = match self.recipe.make(Plain) {
            Ok(client) => client,
            Err(error) => {
                return drop(self.tell(Read::Failed(ConsumeError::Client(error.to_string()))));
            }
        };
        let read = if follow {
            self.follow(&client)
        } else {
            self.read(&client)
        };
        // `Stopped` needs no answer: nobody is there to read it.
        if let Ok(Err(error)) = read {
            drop(self.tell(Read::Failed(consume_error(&error))));
        }
    }

    fn tell(&self, read: Read) -> Result<(), Stopped> {
        self.reads.blocking_send(read).map_err(|_| Stopped)
    }

    fn assign(
        &self,
        client: &BaseConsumer<Plain>,
        starts: impl Iterator<Item = (i32, i64)>,
    ) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, start) in starts {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(start))?;
        }
        client.assign(&list)
    }

    fn read(&self, client: &BaseConsumer<Plain>) -> Result<Result<(), KafkaError>, Stopped> {
        let bounds = match resolve(client, &self.topic, &self.ranges) {
            Ok(bounds) => bounds,
            Err(error) => return Ok(Err(error)),
        };
        let mut open = bounds.clone();
        open.retain(|_, b| b.start < b.stop);
        if !open.is_empty()
            && let Err(error) = self.assign(client, open.iter().map(|(p, b)| (*p, b.start)))
        {
            return Ok(Err(error));
        }
        let mut batch = Batch::new();
        while !open.is_empty() {
            if let Err(error) = batch.fill(client, &mut open, &self.stop)? {
                return Ok(Err(error));
            }
            self.flush(&mut batch)?;
        }
        let ends = bounds.into_iter().map(|(p, b)| {
            (
                TopicPartition::new(self.topic.clone(), p),
                b.start.max(b.stop),
            )
        });
        self.tell(Read::Done(ends.collect()))?;
        Ok(Ok(()))
    }

    fn follow(&self, client: &BaseConsumer<Plain>) -> Result<Result<(), KafkaError>, Stopped> {
        let starts = resolve(client, &self.topic, &self.ranges)
            .and_then(|bounds| self.assign(client, bounds.iter().map(|(p, b)| (*p, b.start))));
        if let Err(error) = starts {
            return Ok(Err(error));
        }
        let mut batch = Batch::new();
        let mut endless: BTreeMap<i32, Bounds> = self
            .ranges
            .iter()
            .map(|r| {
                (
                    r.partition.partition,
                    Bounds {
                        start: 0,
                        stop: i64::MAX,
                    },
                )
            })
            .collect();
        loop {
            if let Err(error) = batch.fill(client, &mut endless, &self.stop)? {
                return Ok(Err(error));
            }
            self.flush(&mut batch)?;
        }
    }

    fn flush(&self, batch: &mut Batch) -> Result<(), Stopped> {
        if batch.records.is_empty() {
            return Ok(());
        }
        self.tell(Read::Records(std::mem::take(&mut batch.records)))
    }
}

struct Batch {
    records: Vec<Record>,
    names: Names,
}

impl Batch {
    fn new() -> Self {
        Self {
            records: Vec::new(),
            names: Names::default(),
        }
    }

    /// Reads what is there, and takes finished partitions out of `open`.
    fn fill(
        &mut self,
        client: &BaseConsumer<Plain>,
        open: &mut BTreeMap<i32, Bounds>,
        stop: &AtomicBool,
    ) -> Result<Result<(), KafkaError>, Stopped> {
        let mut wait = IDLE;
        while self.records.len() < BATCH && !open.is_empty() {
            if stop.load(Ordering::Acquire) {
                return Err(Stopped);
            }
            match client.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some(bounds) = open.get(&partition) else {
                        continue;
                    };
                    let stop = bounds.stop;
                    if offset < stop {
                        self.records.push(record(&message, &mut self.names));
                    }
                    if offset + 1 >= stop {
                        open.remove(&partition);
                    }
                }
                // The end as of the fetch is not before the end as of the call, so whatever lay
                // between the last record and it was a marker, aborted or compacted away.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if open.get(&partition).is_some_and(|b| b.stop != i64::MAX) {
                        open.remove(&partition);
                    }
                }
                Some(Err(error)) => match consume_error(&error) {
                    ConsumeError::Unavailable(_) => tracing::warn!(%error, "reading a tail"),
                    ConsumeError::Client(_) | ConsumeError::Closed => return Ok(Err(error)),
                },
            }
            wait = Duration::ZERO;
        }
        Ok(Ok(()))
    }
}
