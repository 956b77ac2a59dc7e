//! Ends: receipts and dead letters on their way to Kafka, and what their acknowledgement frees.

use std::sync::Arc;

use bongsu_domain::{Settled, Timestamp};
use bongsu_stream::dead_letters::dead_letter;
use bongsu_stream::error::ProduceError;
use bongsu_stream::port::Record;

use super::Owner;
use super::admission::{Taken, TakenIn};
use crate::error::DispatchError;
use crate::journal::Source;
use crate::lane::Progress;
use crate::receipts::{Ended, Where, outcome_record, send_until_acknowledged};

/// Kafka's answer to a receipt or a dead letter.
pub(super) struct Acknowledged {
    source: Source,
    offset: i64,
    /// Offset in `results`; none for a dead letter.
    result: Result<Option<i64>, ProduceError>,
}

impl Owner {
    /// Puts an unreadable record into the dead letters; its offset is terminal once that is
    /// acknowledged.
    pub(super) fn put_aside(&mut self, record: Record, reason: &'static str, detail: &str) {
        // A key of its own: what cannot be read has no order to keep.
        let offset = record.offset.to_be_bytes();
        let key = bongsu_domain::identity::hash64(&[b"unreadable", &offset]);
        self.put_aside_from(Source::Main, record, key, reason, detail);
    }

    /// The same for a record of either source, under the key it has there.
    pub(super) fn put_aside_from(
        &mut self,
        source: Source,
        record: Record,
        key: u64,
        reason: &'static str,
        detail: &str,
    ) {
        let offset = record.offset;
        let (topic, partitions) = &self.shared.dead_letters;
        let partition = record.partition % (*partitions).max(1);
        let letter = dead_letter(&record, topic, partition, reason, detail, "dispatch");
        let fresh = Progress {
            attempts: 0,
            not_before: 0,
            uncertain: false,
        };
        let taken = Taken {
            source,
            delivery: None,
            key,
            tag: 0,
            progress: fresh,
            diverted: false,
        };
        if self.take_in(record, taken) == TakenIn::Ended {
            return;
        }
        if let Some(sequencer) = self.sequencer(source) {
            sequencer.settle(offset);
        }
        self.shared.metrics.dead_lettered(reason);
        let producer = Arc::clone(&self.shared.producer);
        self.receipts.push(Box::pin(async move {
            let result = send_until_acknowledged(producer, letter)
                .await
                .map(|_| None);
            Acknowledged {
                source,
                offset,
                result,
            }
        }));
    }

    /// Ends a delivery that waits, without an attempt.
    pub(super) fn end_now(&mut self, source: Source, offset: i64, settled: Settled) {
        if let Some(sequencer) = self.sequencer(source) {
            sequencer.settle(offset);
        }
        self.write_receipt(source, offset, settled);
    }

    pub(super) fn write_receipt(&mut self, source: Source, offset: i64, settled: Settled) {
        let now = self.now;
        let shared = Arc::clone(&self.shared);
        let Some(sequencer) = self.sequencer(source) else {
            return;
        };
        let attempts = sequencer.attempts(offset);
        let Some(pending) = sequencer.payload(offset) else {
            return;
        };
        let Some(delivery) = pending.delivery.as_ref() else {
            return;
        };
        let ended = Ended {
            settled,
            attempts,
            at: Timestamp(now),
            possible_duplicate: (pending.inherited && attempts > 0)
                || (pending.uncertain && attempts > 1),
        };
        shared
            .metrics
            .settled(settled, Timestamp(now).millis_since(delivery.accepted_at));
        shared.metrics.lateness(
            delivery.address.platform,
            delivery.address.app.as_deref(),
            pending.times.parts(pending.record.timestamp, now),
        );
        let record = outcome_record(
            &shared.codec,
            &shared.sources.results,
            &Where::of(&pending.record),
            delivery,
            ended,
            &shared.worker_id,
        );
        let producer = Arc::clone(&shared.producer);
        self.sent += 1;
        self.receipts.push(match record {
            Ok(record) => {
                // Queued now, so that receipts keep the order in which deliveries ended.
                let first = producer.send(record.clone());
                Box::pin(async move {
                    let result = match first.await {
                        Ok(at) => Ok(at),
                        Err(_) => send_until_acknowledged(producer, record).await,
                    };
                    Acknowledged {
                        source,
                        offset,
                        result: result.map(Some),
                    }
                })
            }
            Err(error) => Box::pin(std::future::ready(Acknowledged {
                source,
                offset,
                result: Err(ProduceError::Refused {
                    topic: shared.sources.results.to_string(),
                    reason: error.to_string(),
                }),
            })),
        });
    }

    pub(super) fn acknowledge(&mut self, ack: Acknowledged) -> Result<(), DispatchError> {
        let results_offset = ack.result?;
        if let Some(at) = results_offset {
            self.notes.known_results = self.notes.known_results.max(at + 1);
        }
        let Some(sequencer) = self.sequencer(ack.source) else {
            return Ok(());
        };
        let key = sequencer.key_of(ack.offset);
        if let Some(pending) = sequencer.acknowledge(ack.offset) {
            self.left(ack.source, ack.offset, key, pending.bytes);
        }
        Ok(())
    }

    /// A delivery is terminal: what it held is free.
    pub(super) fn left(&mut self, source: Source, offset: i64, key: Option<u64>, bytes: usize) {
        self.notes.ended(source, offset);
        match source {
            Source::Main => self.unload(bytes),
            Source::Lane => {
                self.unload_lane(bytes);
                if let Some(key) = key
                    && self.lane.keys.end(key)
                {
                    tracing::debug!(
                        partition = self.partition,
                        "a key is back from the side lane"
                    );
                }
            }
        }
    }

    pub(super) fn unload(&self, bytes: usize) {
        self.load.remove(bytes);
        self.shared.room.notify_one();
    }
}
