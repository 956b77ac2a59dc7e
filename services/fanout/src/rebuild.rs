//! The set of seen event ids of newly assigned partitions, read back from the topic itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_policy::Repeats;
use bongsu_schemas::Codec;
use bongsu_stream::port::{Cluster, Committed, From, Isolation, Record, TailRange, TopicPartition};

use crate::read::{Reading, read};

/// Pause before the topic is read again after a failure.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// What a rebuild works with.
#[derive(Clone)]
pub struct Rebuild {
    /// The log.
    pub cluster: Arc<dyn Cluster>,
    /// Reads events.
    pub codec: Arc<Codec>,
    /// N.
    pub partitions: i32,
    /// Width of the window, milliseconds.
    pub window_ms: i64,
    /// Broker time from which ids count, milliseconds since the epoch.
    pub since: i64,
}

impl Rebuild {
    /// Reads from the beginning of the window to the committed offsets, until it works.
    pub async fn run(
        self,
        assigned: Vec<(TopicPartition, Option<Committed>)>,
    ) -> BTreeMap<TopicPartition, Repeats> {
        loop {
            match self.try_once(&assigned).await {
                Ok(sets) => return sets,
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
    ) -> Result<BTreeMap<TopicPartition, Repeats>, bongsu_stream::error::ConsumeError> {
        // Without a committed offset everything is still to come and nothing was seen.
        let ranges: Vec<_> = assigned
            .iter()
            .filter_map(|(tp, committed)| {
                Some(TailRange {
                    partition: tp.clone(),
                    from: From::Time(self.since),
                    until: Some(committed.as_ref()?.offset),
                })
            })
            .collect();
        let sets: BTreeMap<_, _> = assigned
            .iter()
            .map(|(tp, _)| (tp.clone(), Repeats::new(self.window_ms)))
            .collect();
        if ranges.is_empty() {
            return Ok(sets);
        }
        let sets = Arc::new(Mutex::new(sets));
        let sink = Arc::clone(&sets);
        let (codec, partitions) = (Arc::clone(&self.codec), self.partitions);
        let each = Box::new(move |record: Record| {
            if let Reading::Event(accepted) = read(&codec, &record, partitions) {
                let tp = TopicPartition::new(Arc::clone(&record.topic), record.partition);
                let mut sets = sink.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(set) = sets.get_mut(&tp) {
                    let seen = set.observe(accepted.key, accepted.content, record.timestamp);
                    tracing::trace!(?seen, "rebuilt");
                }
            }
        });
        let ends = self
            .cluster
            .read_tails(ranges, Isolation::Committed, each)
            .await?;
        tracing::debug!(partitions = ends.len(), "seen events are rebuilt");
        let sets = std::mem::take(&mut *sets.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(sets)
    }
}
