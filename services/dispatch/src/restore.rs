//! What a new owner knows of its partition: read from the commit's text, the journal, the side lane
//! and the tail of `results`, and folded into one picture.
//!
//! Evidence, in the order of trust: a receipt in `results` or a record in the lane proves an end; a
//! checkpoint repeats what was proven before; the commit's text says where to read on. When the text
//! or the checkpoint cannot be read, the receipts are read again from the time of the first delivery
//! that is not committed: slower, never wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_domain::{DeliveryId, Timestamp};
use bongsu_policy::{Copied, SettledTags};
use bongsu_schemas::records::JournalWait;
use bongsu_schemas::{Codec, DecodeError, JournalEntry, SchemaLookup, headers, learn_missing};
use bongsu_stream::error::ConsumeError;
use bongsu_stream::port::{Cluster, Committed, From, Isolation, Record, TailRange, TopicPartition};

use crate::guard::{StartedSource, read_started};
use crate::journal::{Owners, Pointer, Source, Told};
use crate::lane::parked_of;

/// Pause before everything is read again after a failure.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// Receipts are searched from this long before the first delivery that is not committed, because
/// brokers' clocks differ.
const CLOCKS_DIFFER_MS: i64 = 60_000;

/// Where to read, and with what.
#[derive(Clone)]
pub struct Sources {
    /// The log.
    pub cluster: Arc<dyn Cluster>,
    /// The deliveries topic.
    pub deliveries: Arc<str>,
    /// The results topic.
    pub results: Arc<str>,
    /// The journal of this channel and class.
    pub journal: Arc<str>,
    /// The lanes of this channel and class.
    pub lanes: Arc<str>,
    /// Reads entries.
    pub codec: Arc<Codec>,
    /// Finds schemas that are missing.
    pub schemas: Arc<dyn SchemaLookup>,
    /// How long a schema may stay unknown.
    pub schema_patience: Duration,
    /// Bytes of parked deliveries that one partition takes into memory at once.
    pub lane_bytes: usize,
}

/// What one partition starts with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Where reading of the deliveries starts.
    pub committed: i64,
    /// Offsets at or above it that have ended, with their tags.
    pub settled: SettledTags,
    /// The side lane.
    pub lane: RestoredLane,
    /// Calls that may have been made and must not be made again, per source, with their tags.
    pub intents: [SettledTags; 2],
    /// Deliveries that wait between two attempts.
    pub waiting: Vec<JournalWait>,
    /// Deliveries below these offsets, per source, may have been started by owners before, though no
    /// attempt of them is counted.
    pub doubted: [i64; 2],
    /// Whether the owner before drained: nothing was under way at its end.
    pub clean: bool,
    /// Whether intents may be missing, so that every delivery below `reach` counts as intended.
    pub intents_unsure: bool,
    /// What the repeat guard must know: what was sent lately.
    pub started: Vec<Copied>,
    /// The end of what was read of `results`.
    pub results_end: i64,
    /// How much was read.
    pub read: Read,
}

/// What was read for a restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Read {
    /// Records.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

/// What a side lane starts with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoredLane {
    /// Everything below has ended.
    pub floor: i64,
    /// Offsets above it that have ended.
    pub settled: SettledTags,
    /// The first parked deliveries, as far as memory allows.
    pub records: Vec<Record>,
    /// The first offset that is not in `records`.
    pub next: i64,
    /// The end of the lane.
    pub end: i64,
    /// How many parked deliveries each order key has.
    pub keys: BTreeMap<u64, u32>,
    /// Original offsets of open ones that lie in it more than once.
    pub doubled: BTreeSet<i64>,
    /// The owners before this one: what they parked too late is none of the lane.
    pub owners: Owners,
}

/// Reads what is known of newly assigned partitions, until it works.
pub async fn restore(
    sources: Sources,
    assigned: Vec<(TopicPartition, Option<Committed>)>,
) -> BTreeMap<TopicPartition, Restored> {
    loop {
        match read_all(&sources, &assigned).await {
            Ok(restored) => return restored,
            Err(error) => {
                tracing::error!(%error, "what a partition needs to start cannot be read; nothing is sent until it can");
                tokio::time::sleep(READ_AGAIN).await;
            }
        }
    }
}

/// Adds what was sent since `since`, for the repeat guard; until it works.
pub async fn add_started(
    sources: &Sources,
    restored: &mut BTreeMap<TopicPartition, Restored>,
    since: Timestamp,
) {
    let partitions: Vec<i32> = restored.keys().map(|tp| tp.partition).collect();
    let source = StartedSource {
        cluster: sources.cluster.as_ref(),
        results: Arc::clone(&sources.results),
        deliveries: Arc::clone(&sources.deliveries),
        lanes: Arc::clone(&sources.lanes),
        codec: &sources.codec,
        schemas: sources.schemas.as_ref(),
        schema_patience: sources.schema_patience,
    };
    loop {
        match read_started(&source, &partitions, since).await {
            Ok(mut started) => {
                for (tp, restored) in restored {
                    restored.started = started.remove(&tp.partition).unwrap_or_default();
                }
                return;
            }
            Err(error) => {
                tracing::error!(%error, "what was sent lately cannot be read; nothing is sent until it can");
                tokio::time::sleep(READ_AGAIN).await;
            }
        }
    }
}

/// From where one partition's evidence is read.
#[derive(Debug, Clone)]
struct Starts {
    results: From,
    lanes: From,
    journal: From,
}

/// What the tails of one partition told.
#[derive(Debug, Default)]
struct Found {
    told: Told,
    journal_damaged: bool,
    outcomes: [SettledTags; 2],
    parked: Vec<Parked>,
    kept: Vec<Record>,
    kept_bytes: usize,
    read: Read,
}

impl Found {
    fn from(starts: &Starts) -> Self {
        let told = match starts.journal {
            From::Offset(offset) => Told::led_to(offset),
            From::Beginning | From::Time(_) => Told::default(),
        };
        Self {
            told,
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Parked {
    offset: i64,
    origin: i64,
    tag: u64,
    key: u64,
    epoch: Option<i64>,
}

async fn read_all(
    sources: &Sources,
    assigned: &[(TopicPartition, Option<Committed>)],
) -> Result<BTreeMap<TopicPartition, Restored>, ConsumeError> {
    let pointers: BTreeMap<i32, Option<Pointer>> = assigned
        .iter()
        .map(|(tp, c)| {
            let text = c.as_ref().map(|c| c.metadata.as_str());
            (tp.partition, text.and_then(Pointer::parse))
        })
        .collect();
    let starts = pointers
        .iter()
        .filter_map(|(p, pointer)| {
            let pointer = pointer.as_ref()?;
            let starts = Starts {
                results: From::Offset(pointer.results_floor),
                lanes: From::Offset(pointer.lane_floor),
                journal: From::Offset(pointer.journal_floor),
            };
            Some((*p, starts))
        })
        .collect();
    let (mut found, mut ends) = read_tails(sources, &starts).await?;
    let mut again = BTreeMap::new();
    for (tp, committed) in assigned {
        let sound = found
            .get(&tp.partition)
            .is_some_and(|f| f.told.checkpoint.is_some() && !f.journal_damaged);
        if !sound {
            let starts = starts_without_pointer(sources, tp, committed.as_ref()).await?;
            again.insert(tp.partition, starts);
        }
    }
    let unsure: BTreeSet<i32> = again.keys().copied().collect();
    if !again.is_empty() {
        let (more, more_ends) = read_tails(sources, &again).await?;
        found.extend(more);
        ends.extend(more_ends);
    }
    Ok(assigned
        .iter()
        .map(|(tp, committed)| {
            let p = tp.partition;
            let found = found.remove(&p).unwrap_or_default();
            let end = |topic: &Arc<str>| {
                ends.get(&TopicPartition::new(Arc::clone(topic), p))
                    .copied()
                    .unwrap_or(0)
            };
            let pointer = pointers.get(&p).cloned().flatten();
            let ends = (end(&sources.results), end(&sources.lanes));
            let restored = fold(
                committed.as_ref(),
                pointer,
                unsure.contains(&p),
                found,
                ends,
            );
            (tp.clone(), restored)
        })
        .collect())
}

/// Where to read when the commit's text or the checkpoint it leads to cannot be used.
async fn starts_without_pointer(
    sources: &Sources,
    tp: &TopicPartition,
    committed: Option<&Committed>,
) -> Result<Starts, ConsumeError> {
    let results = match committed {
        Some(committed) => {
            tracing::error!(%tp, "the checkpoint cannot be read: its receipts are searched by time");
            match first_timestamp(sources, tp, committed.offset).await? {
                Some(at) => From::Time(at.saturating_sub(CLOCKS_DIFFER_MS)),
                // Nothing is there that could be sent.
                None => From::Time(i64::MAX),
            }
        }
        // Before the first attempt an owner writes a checkpoint and commits: without a commit
        // nothing was ever sent, or all of it is older than the brokers remember offsets.
        None => match first_timestamp(sources, tp, 0).await? {
            Some(at) => From::Time(at.saturating_sub(CLOCKS_DIFFER_MS)),
            None => From::Time(i64::MAX),
        },
    };
    Ok(Starts {
        results,
        lanes: From::Beginning,
        journal: From::Beginning,
    })
}

/// The time of the first delivery at or after `offset`.
async fn first_timestamp(
    sources: &Sources,
    tp: &TopicPartition,
    offset: i64,
) -> Result<Option<i64>, ConsumeError> {
    let at: Arc<Mutex<Option<i64>>> = Arc::default();
    let sink = Arc::clone(&at);
    // Markers of transactions take offsets too: a few are read to find one record.
    for until in [offset.saturating_add(16), i64::MAX] {
        let sink = Arc::clone(&sink);
        let range = TailRange {
            partition: tp.clone(),
            from: From::Offset(offset),
            until: (until < i64::MAX).then_some(until),
        };
        let each = Box::new(move |record: Record| {
            let mut at = sink.lock().unwrap_or_else(PoisonError::into_inner);
            let earlier = at.is_none_or(|known| record.timestamp < known);
            if earlier {
                *at = Some(record.timestamp);
            }
        });
        let _ends = sources
            .cluster
            .read_tails(vec![range], Isolation::Committed, each)
            .await?;
        let known = *at.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some() {
            return Ok(known);
        }
    }
    Ok(None)
}

type Tails = (BTreeMap<i32, Found>, BTreeMap<TopicPartition, i64>);

async fn read_tails(
    sources: &Sources,
    starts: &BTreeMap<i32, Starts>,
) -> Result<Tails, ConsumeError> {
    if starts.is_empty() {
        return Ok(Tails::default());
    }
    loop {
        let ranges = starts
            .iter()
            .flat_map(|(p, starts)| {
                [
                    (&sources.results, starts.results),
                    (&sources.lanes, starts.lanes),
                    (&sources.journal, starts.journal),
                ]
                .map(|(topic, from)| TailRange {
                    partition: TopicPartition::new(Arc::clone(topic), *p),
                    from,
                    until: None,
                })
            })
            .collect();
        let reader = Arc::new(Mutex::new(Reader {
            sources: sources.clone(),
            found: starts
                .iter()
                .map(|(p, starts)| (*p, Found::from(starts)))
                .collect(),
            missing: None,
        }));
        let sink = Arc::clone(&reader);
        let each = Box::new(move |record: Record| {
            sink.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(record);
        });
        // Receipts are written outside of transactions: an open one of fanout must not hide them.
        let ends = sources
            .cluster
            .read_tails(ranges, Isolation::Uncommitted, each)
            .await?;
        let (missing, found) = {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            (reader.missing.take(), std::mem::take(&mut reader.found))
        };
        let Some(reference) = missing else {
            return Ok((found, ends));
        };
        // A newer version wrote the journal: its schema must be learned before anything is believed.
        if let Err(why) = learn_missing(
            &sources.codec,
            sources.schemas.as_ref(),
            reference,
            sources.schema_patience,
        )
        .await
        {
            return Err(ConsumeError::Unavailable(format!(
                "the schema {reference} of a journal entry stays unknown: {why}"
            )));
        }
    }
}

/// Sorts the records of all tails.
struct Reader {
    sources: Sources,
    found: BTreeMap<i32, Found>,
    missing: Option<bongsu_schemas::SchemaRef>,
}

impl Reader {
    fn take(&mut self, record: Record) {
        let Some(found) = self.found.get_mut(&record.partition) else {
            return;
        };
        found.read.records += 1;
        found.read.bytes += record.value.as_ref().map_or(0, |v| v.len() as u64);
        if record.topic == self.sources.results {
            if let Some((source, offset, tag)) = outcome_of(&record, &self.sources) {
                // The last one stands: an earlier one of another delivery is of a topic made anew
                // since, and believing it would send this one again at every restart.
                found.outcomes[source.index()].insert(offset, tag);
            }
        } else if record.topic == self.sources.journal {
            let Some(value) = record.value.as_deref() else {
                return;
            };
            match self.sources.codec.decode::<JournalEntry>(value) {
                Ok(entry) => found.journal_damaged |= !found.told.take(&entry, record.offset),
                Err(DecodeError::UnknownSchema(reference)) => self.missing = Some(reference),
                Err(error) => {
                    tracing::error!(partition = record.partition, offset = record.offset, %error, "a journal entry cannot be read");
                    found.journal_damaged = true;
                }
            }
        } else if let Some(parked) = parked_of(&record) {
            found.parked.push(Parked {
                offset: record.offset,
                origin: parked.origin,
                tag: parked.tag,
                key: parked.key,
                epoch: parked.epoch,
            });
            let bytes = record.value.as_ref().map_or(0, bytes::Bytes::len);
            // In order, and without a hole: what comes after one that did not fit does not fit.
            if found.kept.len() + 1 == found.parked.len()
                && found.kept_bytes + bytes <= self.sources.lane_bytes
            {
                found.kept_bytes += bytes;
                found.kept.push(record);
            }
        }
    }
}

/// Puts the evidence of one partition together. Pure.
fn fold(
    committed: Option<&Committed>,
    pointer: Option<Pointer>,
    unsure: bool,
    found: Found,
    (results_end, lane_end): (i64, i64),
) -> Restored {
    let checkpoint = found.told.checkpoint.unwrap_or_default();
    let usable = pointer.filter(|_| !unsure);
    let start = committed.map_or(0, |c| c.offset).max(checkpoint.watermark);
    let [mut settled, mut lane_settled] = checkpoint.settled;
    if let Some(pointer) = &usable
        && let Some(inline) =
            crate::journal::unpack(committed.map_or(0, |c| c.offset), &pointer.settled)
    {
        settled.extend(inline);
    }
    let [main, lane] = found.outcomes;
    settled.extend(main);
    lane_settled.extend(&lane);
    let floor = usable
        .as_ref()
        .map_or(checkpoint.lane_floor, |p| p.lane_floor);
    let mut intents = found.told.intents;
    // What a former owner parked when it was none any more is open where it came from, unless that
    // owner sent it all the same, or was about to.
    let owners = found.told.owners;
    let of_lane = found.parked.len();
    let (late, parked): (Vec<Parked>, Vec<Parked>) = found
        .parked
        .into_iter()
        .partition(|p| owners.is_late(p.epoch, p.offset));
    for parked in &late {
        if lane.get(&parked.offset) == Some(&parked.tag) {
            settled.insert(parked.origin, parked.tag);
        }
        let [main, noted] = &mut intents;
        if noted.get(&parked.offset) == Some(&parked.tag) {
            noted.remove(&parked.offset);
            main.insert(parked.origin, parked.tag);
        }
    }
    // One whose first write was not acknowledged may lie in the lane twice: it has ended when a copy
    // of it has, and else its first copy is sent, whichever an owner before took. That one copy is
    // passed over says nothing: believed to be an end, it would end both.
    let ended: BTreeSet<(i64, u64)> = parked
        .iter()
        .filter(|p| lane_settled.get(&p.offset) == Some(&p.tag))
        .map(|p| (p.origin, p.tag))
        .collect();
    let mut firsts: BTreeMap<(i64, u64), i64> = BTreeMap::new();
    let mut doubled = BTreeSet::new();
    let mut keys: BTreeMap<u64, u32> = BTreeMap::new();
    for parked in &parked {
        settled.insert(parked.origin, parked.tag);
        if parked.offset < floor {
            continue;
        }
        let which = (parked.origin, parked.tag);
        if ended.contains(&which) {
            lane_settled.insert(parked.offset, parked.tag);
            continue;
        }
        let Some(first) = firsts.get(&which) else {
            firsts.insert(which, parked.offset);
            *keys.entry(parked.key).or_default() += 1;
            continue;
        };
        doubled.insert(parked.origin);
        // A call that was noted for one copy was made for both.
        let noted = &mut intents[Source::Lane.index()];
        if noted.get(&parked.offset) == Some(&parked.tag) {
            noted.remove(&parked.offset);
            noted.insert(*first, parked.tag);
        }
    }
    for (known, ended) in intents.iter_mut().zip([&settled, &lane_settled]) {
        known.retain(|offset, tag| ended.get(offset) != Some(tag));
    }
    let clean = usable.as_ref().is_some_and(|p| p.clean) || committed.is_none();
    let reach = usable.as_ref().map_or(
        if unsure && committed.is_some() {
            i64::MAX
        } else {
            start
        },
        |p| p.reach,
    );
    let mut doubted = usable.as_ref().map_or([0, 0], |p| p.doubted);
    if !clean {
        let started = [reach, lane_end.max(floor)];
        doubted = [0, 1].map(|i| started[i].max(doubted[i]));
    }
    let lane = RestoredLane {
        floor,
        settled: lane_settled.split_off(&floor),
        next: if found.kept.len() == of_lane {
            lane_end.max(floor)
        } else {
            found.kept.last().map_or(floor, |r| r.offset + 1)
        },
        records: found.kept,
        end: lane_end.max(floor),
        keys,
        doubled,
        owners,
    };
    Restored {
        committed: start,
        settled: settled.split_off(&start),
        lane,
        intents,
        waiting: checkpoint.waiting,
        doubted,
        clean,
        intents_unsure: unsure && committed.is_some(),
        started: Vec::new(),
        results_end,
        read: found.read,
    }
}

/// The source, offset and tag of the delivery that a record of `results` ended, when it is an
/// outcome of this channel and class.
pub(crate) fn outcome_of(record: &Record, sources: &Sources) -> Option<(Source, i64, u64)> {
    let h = &record.headers;
    if h.get(headers::KIND)? != b"outcome" {
        return None;
    }
    let topic = h.get(headers::SOURCE_TOPIC)?;
    let source = if topic == sources.deliveries.as_bytes() {
        Source::Main
    } else if topic == sources.lanes.as_bytes() {
        Source::Lane
    } else {
        return None;
    };
    let offset = h.text(headers::SOURCE_OFFSET)?.parse().ok()?;
    let tag = DeliveryId::parse(h.text(headers::DELIVERY_ID)?)?.tag();
    Some((source, offset, tag))
}

#[cfg(test)]
mod tests;
