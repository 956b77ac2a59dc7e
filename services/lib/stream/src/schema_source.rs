//! Writers' schemas as text: from the compacted `schemas` topic by fingerprint, from a Confluent
//! registry by id. What the text means is the reader's business.

mod registry;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;

pub use self::registry::{Registry, RegistryError, RegistrySettings};
use crate::port::{
    Cluster, Follower, From, Isolation, Record, TailEnds, TailRange, TopicPartition,
};

/// Wait before the topic is asked again after an error.
const RETRY: Duration = Duration::from_secs(1);

/// Schemas cannot be had at the moment: pause and try again, for the schema may well exist.
#[derive(Debug, Clone, Error)]
pub enum Unavailable {
    /// The `schemas` topic cannot be read.
    #[error("the topic {topic} cannot be read: {reason}")]
    Topic {
        /// The topic.
        topic: String,
        /// Why.
        reason: String,
    },
    /// The registry does not answer as it should.
    #[error("the schema registry does not answer: {0}")]
    Registry(String),
}

#[derive(Default)]
struct Known {
    schemas: BTreeMap<u64, String>,
    /// Why the topic cannot be followed at the moment.
    broken: Option<String>,
}

/// Finds writers' schemas. Memory: every schema ever used, a few KiB each.
pub struct SchemaSource {
    topic: String,
    known: Arc<RwLock<Known>>,
    registry: Option<Registry>,
    /// Ends the background reader with this.
    _running: oneshot::Sender<()>,
}

/// The record key of a fingerprint: 16 lower-case hexadecimal digits.
#[must_use]
pub fn fingerprint_key(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
}

impl SchemaSource {
    /// Reads the whole topic, then goes on following it in the background.
    ///
    /// # Errors
    /// When the topic is not there or cannot be read, or the registry's settings are no good.
    pub async fn start(
        cluster: Arc<dyn Cluster>,
        topic: &str,
        registry: Option<RegistrySettings>,
    ) -> Result<Self, Unavailable> {
        let registry = registry.map(Registry::new).transpose()?;
        let known = Arc::new(RwLock::new(Known::default()));
        let ends = read_whole(&*cluster, topic, &known).await?;
        let follower = follow(&*cluster, topic, &ends)?;
        let (running, stopped) = oneshot::channel();
        let background = Background {
            cluster,
            topic: topic.to_owned(),
            known: known.clone(),
            ends,
        };
        bongsu_runtime::tasks::detach("schema-source", async move {
            tokio::select! {
                () = background.run(follower) => {}
                // The source was dropped.
                _ = stopped => {}
            }
        });
        Ok(Self {
            topic: topic.to_owned(),
            known,
            registry,
            _running: running,
        })
    }

    /// The schema with this fingerprint, `None` when the topic has none. Cancel safe.
    ///
    /// # Errors
    /// When it is not known and the topic cannot be followed at the moment.
    #[expect(
        clippy::unused_async,
        reason = "the sources may differ, callers must not"
    )]
    pub async fn fingerprint(&self, fingerprint: u64) -> Result<Option<String>, Unavailable> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match (known.schemas.get(&fingerprint), &known.broken) {
            (Some(schema), _) => Ok(Some(schema.clone())),
            (None, None) => Ok(None),
            (None, Some(reason)) => Err(Unavailable::Topic {
                topic: self.topic.clone(),
                reason: reason.clone(),
            }),
        }
    }

    /// The schema with this id in the registry; `None` when the registry has none, or when there
    /// is no registry. Cancel safe.
    ///
    /// # Errors
    /// When the registry does not answer.
    pub async fn id(&self, id: i32) -> Result<Option<String>, Unavailable> {
        match &self.registry {
            Some(registry) => registry.schema(id).await,
            None => Ok(None),
        }
    }
}

fn learn(known: &RwLock<Known>, record: &Record) {
    let key = record
        .key
        .as_deref()
        .and_then(|k| std::str::from_utf8(k).ok());
    let Some(fingerprint) = key
        .filter(|k| k.len() == 16)
        .and_then(|k| u64::from_str_radix(k, 16).ok())
    else {
        tracing::warn!(
            offset = record.offset,
            "a record of the schemas topic has a strange key"
        );
        return;
    };
    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
    match record.value.as_deref().map(std::str::from_utf8) {
        Some(Ok(schema)) => {
            known.schemas.insert(fingerprint, schema.to_owned());
        }
        Some(Err(_)) => tracing::warn!(offset = record.offset, "a schema is not UTF-8"),
        None => {
            known.schemas.remove(&fingerprint);
        }
    }
}

fn unreadable(topic: &str, reason: impl ToString) -> Unavailable {
    Unavailable::Topic {
        topic: topic.to_owned(),
        reason: reason.to_string(),
    }
}

async fn read_whole(
    cluster: &dyn Cluster,
    topic: &str,
    known: &Arc<RwLock<Known>>,
) -> Result<TailEnds, Unavailable> {
    let described = cluster.topics(vec![topic.to_owned()]).await;
    let described = described.map_err(|e| unreadable(topic, e))?;
    let partitions = described
        .get(topic)
        .ok_or_else(|| unreadable(topic, "it does not exist"))?
        .partitions;
    let ranges = (0..partitions)
        .map(|p| TailRange {
            partition: TopicPartition::new(topic, p),
            from: From::Beginning,
            until: None,
        })
        .collect();
    let learning = known.clone();
    let each = Box::new(move |record: Record| learn(&learning, &record));
    cluster
        .read_tails(ranges, Isolation::Committed, each)
        .await
        .map_err(|e| unreadable(topic, e))
}

fn follow(
    cluster: &dyn Cluster,
    topic: &str,
    ends: &TailEnds,
) -> Result<Box<dyn Follower>, Unavailable> {
    let ranges = ends
        .iter()
        .map(|(partition, end)| TailRange {
            partition: partition.clone(),
            from: From::Offset(*end),
            until: None,
        })
        .collect();
    cluster
        .follow(ranges, Isolation::Committed)
        .map_err(|e| unreadable(topic, e))
}

/// The reader behind a source.
struct Background {
    cluster: Arc<dyn Cluster>,
    topic: String,
    known: Arc<RwLock<Known>>,
    ends: TailEnds,
}

impl Background {
    async fn run(mut self, first: Box<dyn Follower>) {
        let mut follower = Some(first);
        loop {
            let Some(reading) = &mut follower else {
                tokio::time::sleep(RETRY).await;
                follower = self.again();
                continue;
            };
            match reading.next().await {
                Ok(records) => self.take(&records),
                Err(error) => {
                    tracing::warn!(topic = self.topic, %error, "schemas cannot be followed");
                    self.set_broken(Some(error.to_string()));
                    follower = None;
                }
            }
        }
    }

    fn again(&self) -> Option<Box<dyn Follower>> {
        let follower = follow(&*self.cluster, &self.topic, &self.ends);
        self.set_broken(follower.as_ref().err().map(ToString::to_string));
        follower.ok()
    }

    fn take(&mut self, records: &[Record]) {
        for record in records {
            learn(&self.known, record);
            let partition = TopicPartition::new(record.topic.clone(), record.partition);
            self.ends.insert(partition, record.offset + 1);
        }
    }

    fn set_broken(&self, reason: Option<String>) {
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .broken = reason;
    }
}
