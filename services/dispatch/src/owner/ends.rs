//! Ends: receipts and dead letters on their way to Kafka, and what their acknowledgement frees.

use std::sync::Arc;
use std::time::Duration;

use bongsu_domain::{Settled, Timestamp};
use bongsu_stream::dead_letters::dead_letter;
use bongsu_stream::error::{ErrorClass, ProduceError};
use bongsu_stream::port::Record;
use futures_util::FutureExt;

use super::Owner;
use super::admission::{Taken, TakenIn};
use crate::error::DispatchError;
use crate::journal::Source;
use crate::lane::Progress;
use crate::receipts::{Ended, SEND_AGAIN, outcome_record, send_until_acknowledged};

/// Kafka's answer to a receipt or a dead letter.
pub(super) struct Acknowledged {
    source: Source,
    offset: i64,
    /// Whether it is a dead letter.
    letter: bool,
    /// Offset in its topic.
    result: Result<i64, ProduceError>,
}

/// A receipt's ticket: its offset, and in the lowest bit its source.
const fn ticket_of(source: Source, offset: i64) -> u64 {
    (offset.cast_unsigned() << 1) | source.index() as u64
}

const fn of_ticket(ticket: u64) -> (Source, i64) {
    let source = if ticket & 1 == 0 {
        Source::Main
    } else {
        Source::Lane
    };
    (source, (ticket >> 1).cast_signed())
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
            origin: offset,
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
            Acknowledged {
                source,
                offset,
                letter: true,
                result: send_until_acknowledged(producer, letter).await,
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

    /// Ends what waits for an address that nothing may be sent to any more, out of turn.
    pub(super) fn end_suppressed(&mut self) {
        let suppressed = self.suppressed.clone();
        for source in Source::ALL {
            let mut ends = Vec::new();
            let Some(sequencer) = self.sequencer(source) else {
                return;
            };
            let over = sequencer.end_where(|pending| {
                let delivery = pending.delivery.as_ref();
                let settled = delivery.and_then(|d| suppressed.decide(&d.address));
                ends.extend(settled);
                settled.is_some()
            });
            for (offset, settled) in over.into_iter().zip(ends) {
                self.write_receipt(source, offset, settled);
            }
        }
    }

    pub(super) fn write_receipt(&mut self, source: Source, offset: i64, settled: Settled) {
        let now = self.now;
        let shared = Arc::clone(&self.shared);
        let Some(sequencer) = self.sequencer(source) else {
            return;
        };
        let attempts = sequencer.attempts(offset);
        let Some(pending) = sequencer.payload_mut(offset) else {
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
        pending.ended = Some(ended);
        self.sent += 1;
        self.send_receipt(source, offset, Duration::ZERO);
    }

    /// Sends a receipt after a pause. Without one it is queued before this returns, so that receipts
    /// keep the order in which deliveries ended.
    fn send_receipt(&mut self, source: Source, offset: i64, pause: Duration) {
        let shared = &self.shared;
        let pending = self
            .sequencers
            .as_ref()
            .and_then(|s| s[source.index()].payload(offset));
        let Some((pending, delivery, ended)) =
            pending.and_then(|p| Some((p, p.delivery.as_ref()?, p.ended?)))
        else {
            // Somebody else's receipt has ended it meanwhile.
            self.notes.receipted(ticket_of(source, offset));
            return;
        };
        self.notes.receipting(ticket_of(source, offset));
        let record = outcome_record(
            &shared.codec,
            &shared.sources.results,
            &pending.record,
            delivery,
            ended,
            pending.provider_reference.as_deref(),
            &shared.worker_id,
        );
        let sent = match record {
            Ok(record) if pause.is_zero() => {
                let ticket = ticket_of(source, offset);
                let sent = shared.producer.send_for(record, ticket, &self.answers);
                self.unanswered += usize::from(sent.is_none());
                sent
            }
            Ok(record) => {
                let producer = Arc::clone(&shared.producer);
                Some(
                    async move {
                        tokio::time::sleep(pause).await;
                        producer.send(record).await
                    }
                    .boxed(),
                )
            }
            Err(error) => Some(
                std::future::ready(Err(ProduceError::Refused {
                    topic: shared.sources.results.to_string(),
                    reason: error.to_string(),
                }))
                .boxed(),
            ),
        };
        if let Some(sent) = sent {
            self.receipts.push(Box::pin(async move {
                Acknowledged {
                    source,
                    offset,
                    letter: false,
                    result: sent.await,
                }
            }));
        }
    }

    /// Takes what Kafka has answered.
    pub(super) fn take_answers(&mut self) -> Result<(), DispatchError> {
        let mut answers = std::mem::take(&mut self.taken);
        self.unanswered -= answers.len();
        for (ticket, result) in answers.drain(..) {
            let (source, offset) = of_ticket(ticket);
            self.acknowledge(Acknowledged {
                source,
                offset,
                letter: false,
                result,
            })?;
        }
        self.taken = answers;
        Ok(())
    }

    /// What Kafka did not acknowledge is sent again: a second copy has the same receipt id, and
    /// readers upsert. What it never will ends the owner, for the promise is broken otherwise.
    pub(super) fn acknowledge(&mut self, ack: Acknowledged) -> Result<(), DispatchError> {
        let Acknowledged {
            source,
            offset,
            letter,
            result,
        } = ack;
        match result {
            Ok(at) if !letter => {
                self.notes.receipted(ticket_of(source, offset));
                self.notes.known_results = self.notes.known_results.max(at + 1);
            }
            Ok(_) => {}
            Err(error) if error.class() == ErrorClass::Transient => {
                tracing::warn!(%error, "a receipt was not acknowledged and is sent again");
                self.send_receipt(source, offset, SEND_AGAIN);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        let Some(sequencer) = self.sequencer(source) else {
            return Ok(());
        };
        let key = sequencer.key_of(offset);
        if let Some(pending) = sequencer.acknowledge(offset) {
            self.left(source, offset, key, pending.bytes);
        }
        Ok(())
    }

    /// A delivery is terminal: what it held is free.
    pub(super) fn left(&mut self, source: Source, offset: i64, key: Option<u64>, bytes: usize) {
        self.notes.ended(source, offset);
        match source {
            Source::Main => {
                self.unload(bytes);
                if let Some(key) = key {
                    self.divert_marked(key);
                }
            }
            Source::Lane => {
                self.unload_lane(bytes);
                self.end_copies(offset);
                if let Some(key) = key
                    && self.lane.keys.end(key)
                {
                    self.lane_share.set_keys(self.lane.keys.len());
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
        if self.load.is_free() {
            self.shared.room.notify_one();
        }
    }
}
