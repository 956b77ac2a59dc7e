//! A compacted topic as a table: read whole before any work starts, followed from there.
//!
//! Generic over what a record means: a [`Table`] takes records in order. While the log cannot be
//! reached the last known state holds. Memory: what the table keeps; records are handed on one by
//! one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::error::ConsumeError;
use crate::port::{
    Cluster, Follower, From, Isolation, Record, TailEnds, TailRange, TopicPartition,
};

/// Wait before the topic is read again after an error.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// What keeps the state.
pub trait Table: Send + Sync {
    /// Takes a record; false when it cannot be read yet (its schema is unknown) and is to be given to
    /// [`Table::take_later`]. A key's records come in order.
    fn take(&self, record: &Record) -> bool;

    /// Takes records that could not be read at once, and says of those that never can.
    fn take_later(&self, records: Vec<Record>) -> BoxFuture<'_, ()>;

    /// A batch was taken: tell whoever waits for changes.
    fn taken(&self) {}
}

/// Follows one topic into its table.
pub struct TableFollower {
    cluster: Arc<dyn Cluster>,
    topic: Arc<str>,
    table: Arc<dyn Table>,
    ends: TailEnds,
}

impl TableFollower {
    /// Reads the topic to its end as of now, until that works; none when it does not exist. Cancel
    /// safe.
    pub async fn start(
        cluster: Arc<dyn Cluster>,
        topic: Arc<str>,
        table: Arc<dyn Table>,
    ) -> Option<Self> {
        let mut follower = Self {
            cluster,
            topic,
            table,
            ends: TailEnds::new(),
        };
        loop {
            match follower.read_whole().await {
                Ok(true) => return Some(follower),
                Ok(false) => return None,
                Err(reason) => {
                    tracing::error!(
                        topic = %follower.topic, reason,
                        "a table cannot be read; nothing starts until it can"
                    );
                    tokio::time::sleep(READ_AGAIN).await;
                }
            }
        }
    }

    async fn read_whole(&mut self) -> Result<bool, String> {
        let name = self.topic.to_string();
        let described = self.cluster.topics(vec![name.clone()]).await;
        let described = described.map_err(|e| e.to_string())?;
        let Some(topic) = described.get(&name) else {
            return Ok(false);
        };
        let ranges = (0..topic.partitions)
            .map(|p| TailRange {
                partition: TopicPartition::new(Arc::clone(&self.topic), p),
                from: From::Beginning,
                until: None,
            })
            .collect();
        let later: Arc<Mutex<Vec<Record>>> = Arc::default();
        let (sink, table) = (Arc::clone(&later), Arc::clone(&self.table));
        let each = Box::new(move |record: Record| {
            if !table.take(&record) {
                let mut later = sink.lock().unwrap_or_else(PoisonError::into_inner);
                later.push(record);
            }
        });
        let read = self
            .cluster
            .read_tails(ranges, Isolation::Committed, each)
            .await;
        self.ends = read.map_err(|e| e.to_string())?;
        let later = std::mem::take(&mut *later.lock().unwrap_or_else(PoisonError::into_inner));
        if !later.is_empty() {
            self.table.take_later(later).await;
        }
        self.table.taken();
        Ok(true)
    }

    /// Follows the topic for ever; errors of the log are waited for. Cancel safe.
    pub async fn follow(mut self) {
        let mut reading: Option<Box<dyn Follower>> = None;
        loop {
            let Some(follower) = &mut reading else {
                match self.go_on() {
                    Ok(follower) => reading = Some(follower),
                    Err(error) => self.broken(&error).await,
                }
                continue;
            };
            match follower.next().await {
                Ok(records) => self.take(records).await,
                Err(error) => {
                    reading = None;
                    self.broken(&error).await;
                }
            }
        }
    }

    async fn take(&mut self, records: Vec<Record>) {
        for record in records {
            let place = TopicPartition::new(Arc::clone(&record.topic), record.partition);
            let end = record.offset + 1;
            if !self.table.take(&record) {
                // In order: what follows of the same key must not be overtaken.
                self.table.take_later(vec![record]).await;
            }
            self.ends.insert(place, end);
        }
        self.table.taken();
    }

    fn go_on(&self) -> Result<Box<dyn Follower>, ConsumeError> {
        let ranges = self
            .ends
            .iter()
            .map(|(partition, end)| TailRange {
                partition: partition.clone(),
                from: From::Offset(*end),
                until: None,
            })
            .collect();
        self.cluster.follow(ranges, Isolation::Committed)
    }

    async fn broken(&self, error: &ConsumeError) {
        tracing::warn!(
            topic = %self.topic, %error,
            "a table cannot be followed; the last known state holds"
        );
        tokio::time::sleep(READ_AGAIN).await;
    }
}
