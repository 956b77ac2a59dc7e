//! Notes: intents before calls that must not be made twice, checkpoints, and what may be committed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bongsu_policy::SettledTags;
use bongsu_schemas::JournalEntry;
use bongsu_schemas::millis::Millis;
use bongsu_schemas::records::{JournalMark, JournalWait};
use bongsu_stream::error::ProduceError;
use bongsu_stream::port::{Committed, Headers, Outgoing};
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use super::{Owner, Pending};
use crate::error::DispatchError;
use crate::journal::{CHECKPOINT, INLINE_BYTES, INTENTS, Pointer, Source, mark, pack};
use crate::receipts::send_until_acknowledged;
use crate::restore::Restored;

/// A checkpoint is written at the latest this long after the one before, so that no successor has to
/// go far back and none outlives its topic's retention.
const CHECKPOINT_MS: i64 = 30_000;
/// The same while deliveries wait between attempts: a restart must not forget their backoff.
const CHECKPOINT_WAITING_MS: i64 = 5_000;
/// Entries of intents after which a checkpoint is worth its bytes.
const INTENT_ENTRIES: u32 = 500;

type Written = (u64, Result<i64, ProduceError>);

/// What is noted of one partition.
pub(super) struct Notes {
    /// Receipts at lower offsets of `results` are known.
    pub(super) known_results: i64,
    /// Receipts on their way, by ticket: none can lie below what was known when it was first sent.
    outstanding: HashMap<u64, i64>,
    /// How many of them were sent at each of these.
    floors: BTreeMap<i64, usize>,
    /// Up to where receipts of other writers were looked at, while there may be some.
    pub(super) following: Option<i64>,
    /// Calls under way that must not be made twice.
    open: [SettledTags; 2],
    intents: Vec<JournalMark>,
    withdrawn: Vec<JournalMark>,
    /// The group that is being filled; the ones before are written.
    group: u64,
    acknowledged: watch::Sender<u64>,
    writing: Option<BoxFuture<'static, Written>>,
    entries: u32,
    checkpoint: Option<Checkpointed>,
    /// The offset of the first one, which claims the partition.
    claimed: Option<i64>,
    checkpointing: Option<(BoxFuture<'static, Result<i64, ProduceError>>, Checkpointed)>,
    answers: Vec<oneshot::Sender<Option<Committed>>>,
}

/// A checkpoint in the journal.
#[derive(Debug, Clone, Copy, Default)]
struct Checkpointed {
    at: i64,
    journal_offset: i64,
    results_floor: i64,
    lane_floor: i64,
    waiting: usize,
}

/// What a write of the journal came to.
pub(super) enum NotesWake {
    Intents(Written),
    Checkpoint(Result<i64, ProduceError>),
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            known_results: 0,
            outstanding: HashMap::new(),
            floors: BTreeMap::new(),
            following: None,
            open: Default::default(),
            intents: Vec::new(),
            withdrawn: Vec::new(),
            group: 1,
            acknowledged: watch::Sender::new(0),
            writing: None,
            entries: 0,
            checkpoint: None,
            claimed: None,
            checkpointing: None,
            answers: Vec::new(),
        }
    }
}

impl Notes {
    pub(super) fn restored(restored: &Restored) -> Self {
        Self {
            known_results: restored.results_end,
            following: (!restored.clean).then_some(restored.results_end),
            open: restored.intents.clone(),
            ..Self::default()
        }
    }

    /// Notes calls that are about to be made; what to wait for before making them.
    pub(super) fn intend(
        &mut self,
        marks: &[(Source, i64, u64)],
    ) -> Option<(u64, watch::Receiver<u64>)> {
        if marks.is_empty() {
            return None;
        }
        for (source, offset, tag) in marks {
            self.open[source.index()].insert(*offset, *tag);
            self.intents.push(mark(*source, *offset, *tag));
        }
        Some((self.group, self.acknowledged.subscribe()))
    }

    /// A call was surely not taken.
    pub(super) fn withdraw(&mut self, source: Source, offset: i64, tag: u64) {
        if self.open[source.index()].remove(&offset).is_none() {
            return;
        }
        let mark = mark(source, offset, tag);
        // One that was not written yet is simply not written: read after the withdrawal, it would stand.
        match self.intents.iter().position(|intent| *intent == mark) {
            Some(unwritten) => drop(self.intents.swap_remove(unwritten)),
            None => self.withdrawn.push(mark),
        }
    }

    /// A delivery is terminal: its receipt says so, its intent says nothing any more.
    pub(super) fn ended(&mut self, source: Source, offset: i64) {
        self.open[source.index()].remove(&offset);
    }

    /// Whether the partition was claimed at or below an offset of the journal.
    pub(super) fn has_claimed_by(&self, offset: i64) -> bool {
        self.claimed.is_some_and(|claim| claim <= offset)
    }

    /// This owner's epoch, once it has claimed the partition.
    pub(super) fn epoch(&self) -> i64 {
        self.claimed.unwrap_or(JournalEntry::NO_EPOCH)
    }

    pub(super) const fn is_quiet(&self) -> bool {
        self.writing.is_none() && self.checkpointing.is_none()
    }

    /// Cancel safe: the futures keep their state.
    pub(super) async fn next(&mut self) -> NotesWake {
        let checkpointing = self.checkpointing.as_mut().map(|(future, _)| future);
        tokio::select! {
            written = super::maybe(self.writing.as_mut()) => {
                self.writing = None;
                NotesWake::Intents(written)
            }
            written = super::maybe(checkpointing) => NotesWake::Checkpoint(written),
        }
    }

    /// A receipt is sent, for the first time or again.
    pub(super) fn receipting(&mut self, ticket: u64) {
        let known = self.known_results;
        self.outstanding.entry(ticket).or_insert_with(|| {
            *self.floors.entry(known).or_default() += 1;
            known
        });
    }

    /// A receipt is acknowledged, or needs no acknowledgement any more.
    pub(super) fn receipted(&mut self, ticket: u64) {
        let Some(floor) = self.outstanding.remove(&ticket) else {
            return;
        };
        if let Entry::Occupied(mut sent) = self.floors.entry(floor) {
            *sent.get_mut() -= 1;
            if *sent.get() == 0 {
                sent.remove();
            }
        }
    }

    /// From where receipts must be read by a successor that knows everything this owner knows. A
    /// receipt whose acknowledgement was lost may lie below ones that were acknowledged: until it is
    /// acknowledged itself, nothing from there on counts as known.
    fn results_floor(&self) -> i64 {
        let unsure = self.floors.first_key_value().map(|(floor, _)| *floor);
        let known = unsure.map_or(self.known_results, |f| f.min(self.known_results));
        self.following.map_or(known, |seen| known.min(seen))
    }
}

impl Owner {
    /// Writes the intents of all calls that wait for it, one group at a time.
    pub(super) fn write_intents(&mut self) {
        let notes = &mut self.notes;
        if notes.writing.is_some() || (notes.intents.is_empty() && notes.withdrawn.is_empty()) {
            return;
        }
        let entry = JournalEntry {
            kind: INTENTS.to_owned(),
            worker_id: self.shared.worker_id.to_string(),
            at: Millis(self.now),
            intents: std::mem::take(&mut notes.intents),
            withdrawn: std::mem::take(&mut notes.withdrawn),
            epoch: notes.epoch(),
            ..JournalEntry::default()
        };
        let group = notes.group;
        notes.group += 1;
        notes.entries += 1;
        let sent = self.journal(&entry);
        self.notes.writing = Some(Box::pin(async move { (group, sent.await) }));
    }

    /// Sends an entry; queued before this returns, so entries keep their order.
    fn journal(&self, entry: &JournalEntry) -> BoxFuture<'static, Result<i64, ProduceError>> {
        let topic = Arc::clone(&self.shared.sources.journal);
        let value = match self.shared.codec.encode(entry) {
            Ok(value) => value,
            Err(error) => {
                return Box::pin(std::future::ready(Err(ProduceError::Refused {
                    topic: topic.to_string(),
                    reason: error.to_string(),
                })));
            }
        };
        let record = Outgoing {
            topic,
            partition: self.partition,
            key: None,
            value: Some(value),
            headers: Headers::default(),
        };
        let producer = Arc::clone(&self.shared.notes);
        let first = producer.send(record.clone());
        Box::pin(async move {
            match first.await {
                Ok(at) => Ok(at),
                Err(_) => send_until_acknowledged(producer, record).await,
            }
        })
    }

    pub(super) fn noted(&mut self, wake: NotesWake) -> Result<(), DispatchError> {
        match wake {
            NotesWake::Intents((group, written)) => {
                written?;
                self.notes.acknowledged.send_replace(group);
            }
            NotesWake::Checkpoint(written) => {
                let journal_offset = written?;
                self.notes.claimed.get_or_insert(journal_offset);
                if let Some((_, written)) = self.notes.checkpointing.take() {
                    self.notes.checkpoint = Some(Checkpointed {
                        journal_offset,
                        ..written
                    });
                }
                let answers = std::mem::take(&mut self.notes.answers);
                if !answers.is_empty() {
                    let committed = self.committed(false);
                    for answer in answers {
                        // A class loop that stopped waiting asks again.
                        drop(answer.send(committed.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Answers with what may be committed, after a checkpoint where one is due.
    pub(super) fn report(&mut self, answer: oneshot::Sender<Option<Committed>>) {
        self.watch_progress();
        self.pass_backlog();
        self.publish_status();
        self.set_gauges();
        if self.notes.checkpointing.is_none() && self.checkpoint_is_due() {
            self.write_checkpoint();
        }
        if self.notes.checkpointing.is_some() {
            self.notes.answers.retain(|answer| !answer.is_closed());
            self.notes.answers.push(answer);
            return;
        }
        let committed = self.committed(false);
        drop(answer.send(committed));
    }

    fn checkpoint_is_due(&self) -> bool {
        let (Some(sequencers), Some(last)) = (&self.sequencers, &self.notes.checkpoint) else {
            return self.sequencers.is_some();
        };
        let now = self.now;
        let [main, lane] = sequencers;
        let waiting = main.waiting_count() + lane.waiting_count();
        let settled = main.settled_count() + lane.settled_count();
        let since = usize::try_from(self.notes.results_floor() - last.results_floor);
        // Written when the receipts since then cost a successor more than the offsets would.
        let grown = !self.is_inline() && since.unwrap_or(usize::MAX) > settled / 4 + 200;
        grown
            || now - last.at >= CHECKPOINT_MS
            || ((waiting > 0 || last.waiting > 0) && now - last.at >= CHECKPOINT_WAITING_MS)
            || self.notes.entries >= INTENT_ENTRIES
    }

    /// Whether the commit's text can hold what has ended above the watermark.
    fn is_inline(&self) -> bool {
        let Some([main, lane]) = &self.sequencers else {
            return false;
        };
        lane.settled_count() == 0 && main.settled_count() * 9 <= INLINE_BYTES
    }

    /// Writes down everything a successor needs.
    pub(super) fn write_checkpoint(&mut self) {
        let Some(sequencers) = &self.sequencers else {
            return;
        };
        let [main, lane] = sequencers;
        let mut waiting = Vec::new();
        for (source, sequencer) in [(Source::Main, main), (Source::Lane, lane)] {
            for (offset, attempts, not_before) in sequencer.waiting() {
                let Some((_, tag, _)) = sequencer.state(offset) else {
                    continue;
                };
                waiting.push(JournalWait {
                    lane: source == Source::Lane,
                    offset,
                    tag: tag.cast_signed(),
                    attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
                    not_before,
                    uncertain: sequencer
                        .payload(offset)
                        .is_some_and(Pending::may_have_arrived),
                });
            }
        }
        // What was restored and has not been read yet must outlive this owner too.
        waiting.extend(
            self.restored
                .waiting
                .iter()
                .filter(|w| !w.lane && w.offset >= main.next_offset()),
        );
        let open: Vec<JournalMark> = Source::ALL
            .into_iter()
            .flat_map(|source| {
                let known = &self.notes.open[source.index()];
                known
                    .iter()
                    .map(move |(offset, tag)| mark(source, *offset, *tag))
            })
            .collect();
        let note = Checkpointed {
            at: self.now,
            journal_offset: 0,
            results_floor: self.notes.results_floor(),
            lane_floor: lane.watermark(),
            waiting: waiting.len(),
        };
        let entry = JournalEntry {
            kind: CHECKPOINT.to_owned(),
            worker_id: self.shared.worker_id.to_string(),
            at: Millis(note.at),
            watermark: main.watermark(),
            results_floor: note.results_floor,
            lane_floor: note.lane_floor,
            settled: pack(main.watermark(), main.settled()),
            lane_settled: pack(lane.watermark(), lane.settled()),
            waiting,
            intents: open,
            withdrawn: Vec::new(),
            claim: self.notes.claimed.is_none(),
            epoch: self.notes.epoch(),
            lane_end: self.lane.restored_end,
            owners: self.lane.owners.from(note.lane_floor),
        };
        self.notes.entries = 0;
        let sent = self.journal(&entry);
        self.notes.checkpointing = Some((sent, note));
    }

    /// What may be committed now; none before the first checkpoint.
    fn committed(&self, clean: bool) -> Option<Committed> {
        let [main, _] = self.sequencers.as_ref()?;
        let checkpoint = self.notes.checkpoint?;
        let lane_floor = self
            .sequencers
            .as_ref()
            .map_or(0, |[_, lane]| lane.watermark());
        let mut pointer = Pointer {
            results_floor: checkpoint.results_floor,
            lane_floor: checkpoint.lane_floor,
            journal_floor: checkpoint.journal_offset,
            reach: main.next_offset() + self.shared.headroom,
            clean,
            doubted: self.doubted(),
            settled: Vec::new(),
        };
        if self.is_inline() {
            pointer.results_floor = self.notes.results_floor();
            pointer.lane_floor = lane_floor;
            pointer.settled = pack(main.watermark(), main.settled());
        }
        Some(Committed {
            offset: main.watermark(),
            metadata: pointer.to_text(),
        })
    }

    /// Up to where open deliveries may have been started by an owner before: a successor must not take
    /// this owner's clean end for theirs.
    fn doubted(&self) -> [i64; 2] {
        let Some(sequencers) = &self.sequencers else {
            return self.restored.doubted;
        };
        Source::ALL.map(|source| {
            let sequencer = &sequencers[source.index()];
            let doubted = self.restored.doubted[source.index()];
            let doubted = match doubted {
                // An unsure restore doubts everything; that must end somewhere.
                i64::MAX => sequencer.next_offset() + self.shared.headroom,
                known => known,
            };
            if doubted > sequencer.watermark() {
                doubted
            } else {
                0
            }
        })
    }

    /// The final word of a drained owner. A checkpoint of everything was written before, unless the
    /// text alone says it all.
    pub(super) fn last_word(&self) -> Option<Committed> {
        self.committed(true)
    }

    /// Whether a drained owner still owes its successor a checkpoint.
    pub(super) fn owes_checkpoint(&self) -> bool {
        let Some([main, lane]) = &self.sequencers else {
            return false;
        };
        let Some(last) = self.notes.checkpoint else {
            return true;
        };
        let between_attempts = main.waiting().chain(lane.waiting()).next().is_some();
        between_attempts || last.waiting > 0 || !self.is_inline()
    }

    fn set_gauges(&mut self) {
        let Some([main, _]) = &self.sequencers else {
            return;
        };
        let now = self.now;
        let oldest = main.pin().and_then(|pin| main.payload(pin.offset));
        let age = oldest.map_or(0, |pending| now - pending.record.timestamp);
        self.gauges.held.set(main.open_count());
        let parked = usize::try_from(self.lane.keys.open()).unwrap_or(usize::MAX);
        self.gauges.in_lane.set(parked);
        self.gauges
            .stopped
            .set(std::mem::take(&mut self.stopped_now));
        let age = std::time::Duration::from_millis(u64::try_from(age).unwrap_or(0));
        self.shared.metrics.watermark_age(self.partition, age);
    }
}
