//! The events seen before, for partitions just assigned: from the digests of `seen`, and from
//! `events` itself for what they do not cover.
//!
//! Invariant: what comes out is what reading the whole window of `events` up to the committed offset
//! would give; the digests only make it quicker. A partition's result is there when that partition
//! is read, whatever the others need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_policy::{Repeat, Repeats};
use bongsu_runtime::Clock;
use bongsu_schemas::{Codec, SchemaLookup, SchemaRef, learn_missing};
use bongsu_stream::error::ConsumeError;
use bongsu_stream::port::{Cluster, Committed, From, Isolation, Record, TailRange, TopicPartition};

use crate::digest::{Seen, Stretch};
use crate::read::{Reading, read};
use crate::trail::{Chain, Trail};

/// Pause before the topics are read again after a failure.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// How far clocks of brokers and ours may be apart: that much more is read.
const SKEW_MS: i64 = 5 * 60_000;
/// How far behind the committed offset the time of the backlog is looked for.
const PROBE: i64 = 64;

/// What a rebuild works with.
#[derive(Clone)]
pub struct Rebuild {
    /// The log.
    pub cluster: Arc<dyn Cluster>,
    /// Reads events.
    pub codec: Arc<Codec>,
    /// Finds schemas that are missing.
    pub schemas: Arc<dyn SchemaLookup>,
    /// How long a schema may stay unknown.
    pub schema_patience: Duration,
    /// The topic of digests.
    pub seen: Arc<str>,
    /// N.
    pub partitions: i32,
    /// Width of the window, milliseconds.
    pub window_ms: i64,
    /// Time.
    pub clock: Clock,
}

/// What one partition starts with.
#[derive(Debug)]
pub struct Past {
    /// The events seen.
    pub repeats: Repeats,
    /// What of them is still to be written down.
    pub trail: Trail,
}

/// A partition with something behind it.
struct Task {
    partition: TopicPartition,
    committed: i64,
    /// Broker time from which events count.
    since: i64,
}

type Seens = BTreeMap<i32, Vec<Seen>>;

impl Rebuild {
    /// Reads from the beginning of the window to the committed offsets, until it works.
    pub async fn run(
        &self,
        assigned: &[(TopicPartition, Option<Committed>)],
    ) -> BTreeMap<TopicPartition, Past> {
        loop {
            match self.try_once(assigned).await {
                Ok(pasts) => return pasts,
                Err(error) => {
                    tracing::error!(%error, "seen events cannot be read; nothing is sent until they can");
                    tokio::time::sleep(READ_AGAIN).await;
                }
            }
        }
    }

    async fn try_once(
        &self,
        assigned: &[(TopicPartition, Option<Committed>)],
    ) -> Result<BTreeMap<TopicPartition, Past>, ConsumeError> {
        let begun = tokio::time::Instant::now();
        let mut pasts = BTreeMap::new();
        let mut committed = Vec::new();
        for (partition, at) in assigned {
            match at {
                Some(at) => committed.push((partition.clone(), at.offset)),
                // Without a committed offset everything is still to come and nothing was seen.
                None => {
                    let nothing = self.past(&[], Vec::new(), |none| Trail::anew(None, none));
                    pasts.insert(partition.clone(), nothing);
                }
            }
        }
        let tasks = self.tasks(committed).await?;
        let mut chains = self.chains(&tasks).await?;
        let mut heads = self.heads(&tasks, &chains).await?;
        let mut tails = self.tails(&tasks, &chains).await?;
        let (mut digested, mut decoded) = (0, 0);
        for task in tasks {
            let number = task.partition.partition;
            let head = heads.remove(&number).unwrap_or_default();
            let tail = tails.remove(&number).unwrap_or_default();
            decoded += head.len() + tail.len();
            let past = match chains.remove(&number) {
                Some((chain, true)) if head.is_empty() => {
                    digested += chain.seen.len();
                    self.past(&chain.seen, tail, |tail| Trail::after(chain.to, tail))
                }
                // Everything is noted once more, so that the next owner finds one chain.
                Some((chain, _)) => {
                    digested += chain.seen.len();
                    let from = head.first().map_or(chain.from, |s| s.offset);
                    let all = [head, chain.seen, tail].concat();
                    self.past(&[], all, |all| Trail::anew(Some(from), all))
                }
                None => {
                    let from = tail.first().map_or(task.committed, |s| s.offset);
                    self.past(&[], tail, |tail| Trail::anew(Some(from), tail))
                }
            };
            pasts.insert(task.partition, past);
        }
        tracing::info!(
            partitions = pasts.len(),
            digested,
            decoded,
            millis = begun.elapsed().as_millis(),
            "seen events are rebuilt"
        );
        Ok(pasts)
    }

    /// Fills the set; `trail` is made of what of `pending` counts as seen.
    fn past(
        &self,
        noted: &[Seen],
        mut pending: Vec<Seen>,
        trail: impl FnOnce(Vec<Seen>) -> Trail,
    ) -> Past {
        let mut repeats = Repeats::new(self.window_ms);
        repeats.reserve(noted.len() + pending.len());
        let mut counts = |s: &Seen| repeats.observe(s.key, s.content, s.at) != Repeat::Conflict;
        let noted = noted.iter().filter(|s| counts(s)).count();
        pending.retain(counts);
        tracing::debug!(noted, pending = pending.len(), "seen events of a partition");
        Past {
            repeats,
            trail: trail(pending),
        }
    }

    /// Finds out from which broker time on events count: the window before the backlog, which may
    /// be old.
    async fn tasks(
        &self,
        committed: Vec<(TopicPartition, i64)>,
    ) -> Result<Vec<Task>, ConsumeError> {
        let ranges = committed
            .iter()
            .map(|(partition, offset)| TailRange {
                partition: partition.clone(),
                from: From::Offset((offset - 1).max(0)),
                until: Some(offset.saturating_add(PROBE)),
            })
            .collect();
        let times: Arc<Mutex<BTreeMap<i32, i64>>> = Arc::default();
        let sink = Arc::clone(&times);
        let each = move |record: Record| {
            let mut times = sink.lock().unwrap_or_else(PoisonError::into_inner);
            let earliest = times.entry(record.partition).or_insert(i64::MAX);
            *earliest = record.timestamp.min(*earliest);
        };
        self.read(ranges, Box::new(each)).await?;
        let times = std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner));
        let now = self.clock.now_millis();
        Ok(committed
            .into_iter()
            .map(|(partition, committed)| {
                let next = times.get(&partition.partition).copied().unwrap_or(now);
                Task {
                    since: next.min(now).saturating_sub(self.window_ms),
                    partition,
                    committed,
                }
            })
            .collect())
    }

    /// Joins the digests of each partition; the flag says whether its chain goes on.
    async fn chains(&self, tasks: &[Task]) -> Result<BTreeMap<i32, (Chain, bool)>, ConsumeError> {
        let Some(events) = tasks.first().map(|t| Arc::clone(&t.partition.topic)) else {
            return Ok(BTreeMap::new());
        };
        let ranges = tasks
            .iter()
            .map(|task| TailRange {
                partition: TopicPartition::new(Arc::clone(&self.seen), task.partition.partition),
                // A digest is never older than what it tells, but its broker may be another one.
                from: From::Time(task.since.saturating_sub(SKEW_MS).max(0)),
                until: None,
            })
            .collect();
        let chains: Arc<Mutex<BTreeMap<i32, Option<Chain>>>> = Arc::default();
        let sink = Arc::clone(&chains);
        let each = move |record: Record| {
            let of = TopicPartition::new(Arc::clone(&events), record.partition);
            let stretch = Stretch::decode(&of, record.value.as_deref().unwrap_or_default());
            if stretch.is_err() {
                tracing::warn!(
                    partition = record.partition,
                    offset = record.offset,
                    "a digest of seen events is damaged; the events themselves are read"
                );
            }
            let mut chains = sink.lock().unwrap_or_else(PoisonError::into_inner);
            Chain::join(chains.entry(record.partition).or_default(), stretch);
        };
        self.read(ranges, Box::new(each)).await?;
        let mut chains =
            std::mem::take(&mut *chains.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(tasks
            .iter()
            .filter_map(|task| {
                let number = task.partition.partition;
                Some((number, chains.remove(&number)??.until(task.committed)?))
            })
            .collect())
    }

    /// What lies in the window before the chains.
    async fn heads(
        &self,
        tasks: &[Task],
        chains: &BTreeMap<i32, (Chain, bool)>,
    ) -> Result<Seens, ConsumeError> {
        let ranges = tasks
            .iter()
            .filter_map(|task| {
                let (chain, _) = chains.get(&task.partition.partition)?;
                // Offsets follow broker time: a chain that begins before the window covers it.
                let covers =
                    chain.from == 0 || chain.seen.first().is_some_and(|s| s.at < task.since);
                (!covers).then(|| TailRange {
                    partition: task.partition.clone(),
                    from: From::Time(task.since.max(0)),
                    until: Some(chain.from),
                })
            })
            .collect();
        self.decode(ranges).await
    }

    /// What lies behind the chains; the whole window where there is none.
    async fn tails(
        &self,
        tasks: &[Task],
        chains: &BTreeMap<i32, (Chain, bool)>,
    ) -> Result<Seens, ConsumeError> {
        let ranges = tasks
            .iter()
            .filter_map(|task| {
                let from = match chains.get(&task.partition.partition) {
                    Some((chain, _)) => From::Offset(chain.to),
                    None => From::Time(task.since.max(0)),
                };
                let empty = matches!(from, From::Offset(from) if from >= task.committed);
                (!empty).then(|| TailRange {
                    partition: task.partition.clone(),
                    from,
                    until: Some(task.committed),
                })
            })
            .collect();
        self.decode(ranges).await
    }

    /// Decodes events. A schema that is not known here is looked up, as it was when the events were
    /// new: an event whose schema stays unknown became a dead letter and does not count as seen.
    async fn decode(&self, ranges: Vec<TailRange>) -> Result<Seens, ConsumeError> {
        let mut given_up = BTreeSet::new();
        loop {
            let (seens, missing) = self.decode_once(ranges.clone()).await?;
            let missing: Vec<_> = missing.difference(&given_up).copied().collect();
            if missing.is_empty() {
                return Ok(seens);
            }
            for reference in missing {
                let (codec, schemas) = (self.codec.as_ref(), self.schemas.as_ref());
                let learned = learn_missing(codec, schemas, reference, self.schema_patience).await;
                if let Err(why) = learned {
                    tracing::warn!(%reference, why, "events with this schema do not count as seen");
                    given_up.insert(reference);
                }
            }
        }
    }

    async fn decode_once(
        &self,
        ranges: Vec<TailRange>,
    ) -> Result<(Seens, BTreeSet<SchemaRef>), ConsumeError> {
        let found: Arc<Mutex<(Seens, BTreeSet<SchemaRef>)>> = Arc::default();
        let sink = Arc::clone(&found);
        let (codec, partitions) = (Arc::clone(&self.codec), self.partitions);
        let each = move |record: Record| {
            let reading = read(&codec, &record, partitions);
            let mut found = sink.lock().unwrap_or_else(PoisonError::into_inner);
            match reading {
                Reading::Event(accepted) => {
                    found.0.entry(record.partition).or_default().push(Seen {
                        offset: record.offset,
                        at: record.timestamp,
                        key: accepted.key,
                        content: accepted.content,
                    })
                }
                Reading::NeedsSchema(reference) => {
                    found.1.insert(reference);
                }
                Reading::Misplaced(_) | Reading::Refused(_) | Reading::Unreadable { .. } => {}
            }
        };
        self.read(ranges, Box::new(each)).await?;
        let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(found)
    }

    async fn read(
        &self,
        ranges: Vec<TailRange>,
        each: Box<dyn FnMut(Record) + Send>,
    ) -> Result<(), ConsumeError> {
        if ranges.is_empty() {
            return Ok(());
        }
        let ends = self.cluster.read_tails(ranges, Isolation::Committed, each);
        ends.await.map(drop)
    }
}
