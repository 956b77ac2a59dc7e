//! Admission: records become deliveries in a sequencer, or what they already are: ended, unreadable,
//! or at home in the side lane.

use std::sync::Arc;

use bongsu_domain::{Delivery, Outcome, Reason, Settled};
use bongsu_policy::Admission;
use bongsu_policy::sequencer::Admitted;
use bongsu_schemas::{SchemaRef, learn_missing};
use bongsu_stream::port::Record;

use super::gate::Times;
use super::{Owner, Pending, size_of_record};
use crate::intake::{self, Intake};
use crate::journal::Source;
use crate::lane::Progress;

/// What is known of a record that is taken in.
pub(super) struct Taken {
    pub(super) source: Source,
    /// Its offset in the deliveries topic.
    pub(super) origin: i64,
    /// None for what could not be read as a delivery.
    pub(super) delivery: Option<Arc<Delivery>>,
    pub(super) key: u64,
    pub(super) tag: u64,
    pub(super) progress: Progress,
    pub(super) diverted: bool,
}

/// What taking a record in came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakenIn {
    /// It ended before, or ends now without an attempt.
    Ended,
    /// It waits for its turn.
    Waits,
    /// It is to be written to the side lane.
    Parks,
}

impl Owner {
    /// Takes records into the sequencer, in order, until one needs a schema, lies beyond what the last
    /// commit announced, or finds the window full: a batch is larger than what is left of it, and a
    /// record takes a quarter of the memory that its delivery takes.
    pub(super) fn admit_backlog(&mut self) {
        self.count_window();
        if self.draining || !self.is_confirmed() || self.schema.is_some() {
            return;
        }
        while let Some(record) = self.backlog.front() {
            if record.offset >= self.reach || self.is_window_full() {
                return;
            }
            let Some(record) = self.backlog.pop_front() else {
                return;
            };
            match intake::read(&self.shared.codec, &record) {
                Intake::Delivery(delivery) => {
                    self.admit(record, delivery);
                    self.count_window();
                }
                Intake::Unreadable(reason, detail) => self.put_aside(record, reason, &detail),
                Intake::NeedsSchema(reference) => {
                    self.backlog.push_front(record);
                    self.fetch_schema(reference);
                    return;
                }
            }
        }
    }

    /// Whether the partition holds its share, and all of them together what they may; or as many records
    /// as it may.
    pub(super) fn is_window_full(&self) -> bool {
        self.sequencers.as_ref().is_some_and(|[main, _]| {
            main.open_count() >= self.shared.window_records
                || (main.bytes() >= self.load.share() && !self.window.is_free())
        })
    }

    /// What the window holds has changed.
    fn count_window(&mut self) {
        if let Some([main, _]) = &self.sequencers {
            self.window.set(main.bytes());
        }
    }

    fn fetch_schema(&mut self, reference: SchemaRef) {
        let shared = Arc::clone(&self.shared);
        self.schema = Some(Box::pin(async move {
            let learned = learn_missing(
                &shared.codec,
                shared.schemas.as_ref(),
                reference,
                shared.schema_patience,
            )
            .await;
            (reference, learned)
        }));
    }

    pub(super) fn schema_answered(&mut self, reference: SchemaRef, learned: Result<(), String>) {
        if let Err(why) = learned
            && let Some(record) = self.backlog.pop_front()
        {
            tracing::warn!(%reference, "a delivery's schema stays unknown");
            self.put_aside(record, "unknown_schema", &why);
        }
    }

    fn admit(&mut self, record: Record, delivery: Arc<Delivery>) {
        let key = delivery.order_key().0;
        let parks = self.lane.keys.contains(key);
        let tag = delivery.id.tag();
        let offset = record.offset;
        let waits = self
            .restored
            .waiting
            .iter()
            .find(|w| !w.lane && w.offset == offset && w.tag.cast_unsigned() == tag)
            .copied();
        let progress = Progress {
            attempts: waits.map_or(0, |w| w.attempts.unsigned_abs()),
            not_before: waits.map_or(0, |w| w.not_before),
            uncertain: waits.is_some_and(|w| w.uncertain),
        };
        let taken = Taken {
            source: Source::Main,
            origin: offset,
            delivery: Some(delivery),
            key,
            tag,
            progress,
            diverted: parks,
        };
        if self.take_in(record, taken) == TakenIn::Parks {
            self.park(key, offset);
        }
    }

    /// Puts a delivery, or what could not be read as one, into a sequencer.
    pub(super) fn take_in(&mut self, record: Record, taken: Taken) -> TakenIn {
        let Taken {
            source,
            origin,
            delivery,
            key,
            tag,
            progress,
            diverted,
        } = taken;
        let bytes = size_of_record(&record);
        let now = self.now;
        let offset = record.offset;
        let subject = delivery.as_ref().map(|d| self.shared.pacing.subject(d));
        let group = subject.map_or(0, |s| s.account.number());
        let may_have_started = offset < self.restored.doubted[source.index()];
        let never_twice = delivery
            .as_ref()
            .is_some_and(|d| self.shared.never_twice(d));
        let known_intent = self.restored.intents[source.index()].get(&offset) == Some(&tag);
        let intended =
            known_intent || (self.restored.intents_unsure && never_twice && may_have_started);
        let dropped = delivery
            .as_ref()
            .filter(|_| !intended)
            .and_then(|d| self.dropped_from_backlog(d, origin, progress.uncertain));
        let ends = if intended {
            Some(Settled {
                outcome: Outcome::Unknown,
                reason: Reason::NoAnswer,
            })
        } else {
            dropped
        };
        let floods = source == Source::Main
            && subject.is_some_and(|s| self.goes_with_flood(s.sender, key, diverted));
        // What ends at once need not wait behind others.
        let diverted = (diverted || floods) && ends.is_none();
        let mut admission = Admission {
            offset,
            key,
            sender: subject.map_or(0, |s| s.sender),
            group,
            cost: subject.map_or(1, |s| s.cost),
            tag,
            bytes,
            expires_at: delivery.as_ref().map_or(i64::MAX, |d| intake::expiry(d).0),
            attempts: progress.attempts,
            not_before: progress.not_before,
            diverted,
            payload: Pending {
                delivery,
                record,
                origin,
                bytes,
                uncertain: progress.uncertain,
                // One that must not go twice has not gone, or its intent would be known.
                inherited: (may_have_started && !never_twice) || progress.uncertain,
                guarded: false,
                subject,
                times: Times::taken_in(now),
                failures: 0,
                failing_since: 0,
                ended: None,
                provider_reference: None,
            },
        };
        let counted = source == Source::Main && self.shared.counts_starts();
        let Some(sequencer) = self.sequencer(source) else {
            return TakenIn::Ended;
        };
        // Behind others of its key it waits for their sake.
        admission.payload.times.waits_for_load =
            counted && progress.not_before == 0 && !sequencer.has_key(key);
        let admitted = sequencer.admit(admission);
        match admitted {
            Admitted::Queued => {
                if source == Source::Main {
                    self.shared.metrics.admitted(1);
                }
            }
            Admitted::AlreadySettled => {
                self.shared.metrics.restored();
                if source == Source::Main {
                    self.unload(bytes);
                }
                return TakenIn::Ended;
            }
            Admitted::TagMismatch => {
                self.shared.metrics.mismatched();
                tracing::error!(
                    partition = self.partition,
                    offset,
                    ?source,
                    "another delivery is known to have ended at this offset: was the topic re-created?"
                );
            }
        }
        if let Some(settled) = ends {
            self.end_now(source, offset, settled);
            return TakenIn::Ended;
        }
        if diverted {
            TakenIn::Parks
        } else {
            TakenIn::Waits
        }
    }
}
