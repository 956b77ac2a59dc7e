//! What becomes of a record that was read: an event whose recipients are looked up, one that lies in the
//! wrong partition, a refusal, a dead letter, or a wait for its schema.

use std::sync::Arc;

use bongsu_domain::{Reason, Settled};
use bongsu_policy::Repeat;
use bongsu_schemas::{SchemaRef, learn_missing};
use bongsu_stream::dead_letters::dead_letter;
use bongsu_stream::error::TransactionError;
use bongsu_stream::port::{Outgoing, Record, TopicPartition};
use tokio::time::Instant;

use super::{ClassLoop, Fate, Found, SchemaAnswer, Slot, size_of, size_of_outgoing};
use crate::digest::Seen;
use crate::error::FanoutError;
use crate::read::{Accepted, Reading, RefusedEvent, read};

/// References of schemas that are remembered as missing.
const MAX_MISSING: usize = 1_000;

impl ClassLoop {
    /// Reads what has come, lane by lane, and starts look-ups up to the limit.
    pub(super) fn take_in(&mut self) {
        let mut tps: Vec<_> = self.lanes.keys().cloned().collect();
        // Another partition is first each time: a backlog in one must not take every look-up.
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn.checked_rem(tps.len()).unwrap_or(0);
        tps.rotate_left(first);
        for tp in tps {
            while self.lookups.len() < self.parts.limits.lookups_in_flight {
                let Some(lane) = self.lanes.get_mut(&tp) else {
                    break;
                };
                let full = lane.made >= self.parts.limits.window_bytes;
                if full || lane.fetching_schema || lane.repeats.is_none() {
                    break;
                }
                let Some(record) = lane.backlog.pop_front() else {
                    break;
                };
                self.take_record(&tp, record);
            }
        }
    }

    fn take_record(&mut self, tp: &TopicPartition, record: Record) {
        match read(&self.parts.codec, &record, self.parts.expander.partitions) {
            Reading::Event(accepted) => self.take_event(tp, record, *accepted),
            Reading::Misplaced(home) => {
                let client = client_of(&record);
                self.parts.metrics.rehomed(&client);
                let moved = self.parts.expander.rehome(&record, home);
                self.push(tp, &record, None, Fate::Ready(vec![moved]));
            }
            Reading::Refused(refused) => {
                let records = self.refuse(&record, &refused);
                self.push(tp, &record, None, Fate::Ready(records));
            }
            Reading::Unreadable { reason, detail } => {
                let letter = self.letter(&record, reason, &detail);
                self.push(tp, &record, None, Fate::Ready(vec![letter]));
            }
            Reading::NeedsSchema(reference) if self.is_missing(reference) => {
                let why = format!("the schema with {reference} is not known");
                let letter = self.letter(&record, "unknown_schema", &why);
                self.push(tp, &record, None, Fate::Ready(vec![letter]));
            }
            Reading::NeedsSchema(reference) => self.fetch_schema(tp, record, reference),
        }
    }

    fn take_event(&mut self, tp: &TopicPartition, record: Record, accepted: Accepted) {
        let Some(lane) = self.lanes.get_mut(tp) else {
            return;
        };
        let Some(repeats) = lane.repeats.as_mut() else {
            return;
        };
        let epoch = lane.epoch;
        let seen = Seen {
            offset: record.offset,
            at: record.timestamp,
            key: accepted.key,
            content: accepted.content,
        };
        match repeats.observe(seen.key, seen.content, seen.at) {
            Repeat::Same => {
                self.parts.metrics.repeated();
                self.push(tp, &record, Some(seen), Fate::Ready(Vec::new()));
            }
            Repeat::Conflict => {
                let refused = RefusedEvent {
                    raw: accepted.raw,
                    settled: Settled::refused(Reason::IdempotencyConflict),
                    dead_letter: Some("idempotency_conflict"),
                    detail: "this id came earlier from this sender with other content; give every event its own id".to_owned(),
                };
                let records = self.refuse(&record, &refused);
                self.push(tp, &record, None, Fate::Ready(records));
            }
            Repeat::First => {
                self.push(tp, &record, Some(seen), Fate::LookingUp);
                let expander = Arc::clone(&self.parts.expander);
                let metrics = self.parts.metrics.clone();
                let resolve = self.parts.lookup.resolve(Arc::clone(&accepted.event));
                let partition = tp.clone();
                self.lookups.push(Box::pin(async move {
                    let recipients = resolve.await;
                    let expanded =
                        expander.expand(&record, &accepted.raw, &accepted.event, &recipients);
                    if let Ok(expanded) = &expanded {
                        metrics.expanded(expanded.deliveries);
                        for reason in &expanded.refused {
                            metrics.refused(reason.as_str());
                        }
                    }
                    let offset = record.offset;
                    Found {
                        partition,
                        epoch,
                        offset,
                        records: expanded.map(|e| e.records),
                    }
                }));
            }
        }
    }

    pub(super) fn found(&mut self, found: Found) -> Result<(), FanoutError> {
        let records = found
            .records
            .map_err(|e| FanoutError::Transaction(TransactionError::Fatal(e.to_string())))?;
        if let Some(lane) = self.lanes.get_mut(&found.partition)
            && lane.epoch == found.epoch
            && let Ok(index) = lane.slots.binary_search_by_key(&found.offset, |s| s.offset)
            && let Some(slot) = lane.slots.get_mut(index)
        {
            // What was made of an event may be a thousand times its size: it counts too.
            slot.made = records.iter().map(size_of_outgoing).sum();
            slot.bytes += slot.made;
            lane.bytes += slot.made;
            lane.made += slot.made;
            slot.fate = Fate::Ready(records);
        }
        Ok(())
    }

    fn push(&mut self, tp: &TopicPartition, record: &Record, seen: Option<Seen>, fate: Fate) {
        if let Some(lane) = self.lanes.get_mut(tp) {
            lane.slots.push_back(Slot {
                offset: record.offset,
                bytes: size_of(record),
                made: 0,
                seen,
                fate,
            });
        }
    }

    fn refuse(&self, record: &Record, refused: &RefusedEvent) -> Vec<Outgoing> {
        self.parts.metrics.refused(refused.settled.reason.as_str());
        let mut out = Vec::new();
        if let Some(reason) = refused.dead_letter {
            out.push(self.letter(record, reason, &refused.detail));
        }
        let receipt = self.parts.expander.refusal(
            record,
            &refused.raw,
            None,
            refused.settled,
            &refused.detail,
        );
        match receipt {
            Ok(receipt) => out.push(receipt),
            Err(error) => tracing::error!(%error, "a refusal has no receipt"),
        }
        out
    }

    fn letter(&self, record: &Record, reason: &'static str, detail: &str) -> Outgoing {
        self.parts.metrics.dead_lettered(reason);
        let (topic, partitions) = &self.parts.dead_letters;
        let partition = record.partition % (*partitions).max(1);
        dead_letter(record, topic, partition, reason, detail, "fanout")
    }

    /// Whether a schema was looked for in vain lately. The verdict holds for as long as it took: a
    /// thousand records of one writer must not each stop their partition that long.
    fn is_missing(&self, reference: SchemaRef) -> bool {
        let patience = self.parts.limits.schema_patience;
        let since = self.missing.get(&reference);
        since.is_some_and(|since| since.elapsed() < patience)
    }

    fn fetch_schema(&mut self, tp: &TopicPartition, record: Record, reference: SchemaRef) {
        let Some(lane) = self.lanes.get_mut(tp) else {
            return;
        };
        lane.backlog.push_front(record);
        lane.fetching_schema = true;
        let (partition, epoch) = (tp.clone(), lane.epoch);
        let (codec, schemas) = (
            Arc::clone(&self.parts.codec),
            Arc::clone(&self.parts.schemas),
        );
        let patience = self.parts.limits.schema_patience;
        self.schemas.push(Box::pin(async move {
            let learned = learn_missing(&codec, schemas.as_ref(), reference, patience).await;
            SchemaAnswer {
                partition,
                epoch,
                reference,
                learned,
            }
        }));
    }

    pub(super) fn schema_answered(&mut self, answer: SchemaAnswer) {
        let Some(lane) = self.lanes.get_mut(&answer.partition) else {
            return;
        };
        if lane.epoch != answer.epoch {
            return;
        }
        lane.fetching_schema = false;
        if answer.learned.is_err() {
            if self.missing.len() >= MAX_MISSING {
                self.missing.clear();
            }
            self.missing.insert(answer.reference, Instant::now());
        }
        if let Err(why) = answer.learned
            && let Some(record) = lane.backlog.pop_front()
        {
            tracing::warn!(reference = %answer.reference, "an event's schema stays unknown");
            let letter = self.letter(&record, "unknown_schema", &why);
            self.push(&answer.partition, &record, None, Fate::Ready(vec![letter]));
        }
    }
}

fn client_of(record: &Record) -> String {
    record
        .headers
        .text(bongsu_schemas::headers::CLIENT_ID)
        .unwrap_or("unnamed")
        .chars()
        .take(64)
        .collect()
}
