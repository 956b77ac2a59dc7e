//! Suppressions by hand: written with an audit entry, and read whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_domain::{AddressKey, Suppression, partition_of};
use bongsu_schemas::suppression::{SuppressionChange, read_suppression, write_suppression};
use bongsu_schemas::{AuditEntry, Codec, EncodeError, Topics};
use bongsu_stream::error::{AdminError, ConsumeError, ProduceError};
use bongsu_stream::port::{
    Cluster, From, Headers, Isolation, Outgoing, Producer, Record, TailRange, TopicPartition,
};
use futures_util::future::try_join_all;
use thiserror::Error;

/// A suppression could not be written or read.
#[derive(Debug, Error)]
pub enum AdminFault {
    /// A topic is missing.
    #[error("topic {0} does not exist; run `bongsu topics apply`")]
    Missing(String),
    /// The cluster does not answer.
    #[error("the cluster does not answer")]
    Cluster(#[from] AdminError),
    /// The topic cannot be read.
    #[error("the topic cannot be read")]
    Read(#[from] ConsumeError),
    /// A record cannot be written.
    #[error("a record cannot be written")]
    Write(#[from] ProduceError),
    /// A value does not fit its schema.
    #[error("a value does not fit its schema")]
    Encode(#[from] EncodeError),
}

async fn partitions(cluster: &dyn Cluster, name: &str) -> Result<i32, AdminFault> {
    let described = cluster.topics(vec![name.to_owned()]).await?;
    let found = described.get(name).map(|topic| topic.partitions);
    found.ok_or_else(|| AdminFault::Missing(name.to_owned()))
}

/// Writes changes through one producer, for who writes more than once.
pub struct Writer {
    producer: Arc<dyn Producer>,
    topic: Arc<str>,
    books: Arc<str>,
    audit_partitions: i32,
}

impl Writer {
    /// Looks at the topics once; they keep their partitions.
    ///
    /// # Errors
    /// [`AdminFault::Missing`], or the cluster does not answer.
    pub async fn new(
        cluster: &dyn Cluster,
        topics: &Topics,
        producer: Arc<dyn Producer>,
    ) -> Result<Self, AdminFault> {
        let (topic, books) = (topics.suppressions(), topics.audit());
        partitions(cluster, &topic).await?;
        let audit_partitions = partitions(cluster, &books).await?;
        Ok(Self {
            producer,
            topic,
            books,
            audit_partitions,
        })
    }

    /// Writes changes, then their audit entry: what a person wants held must not wait for the
    /// books. Acknowledged by Kafka when it returns.
    ///
    /// # Errors
    /// [`AdminFault`]; some of the changes may have been written, and all may be written again.
    pub async fn write(
        &self,
        codec: &Codec,
        changes: &[SuppressionChange],
        audit: &AuditEntry,
    ) -> Result<(), AdminFault> {
        let mut sent = Vec::with_capacity(changes.len());
        for change in changes {
            let (key, value) = write_suppression(codec, change)?;
            sent.push(self.producer.send(Outgoing {
                topic: Arc::clone(&self.topic),
                partition: 0,
                key: Some(key.into()),
                value,
                headers: Headers::default(),
            }));
        }
        try_join_all(sent).await?;
        let partition = partition_of(audit.actor.as_bytes(), self.audit_partitions);
        let entry = Outgoing {
            topic: Arc::clone(&self.books),
            partition,
            key: Some(audit.actor.clone().into()),
            value: Some(codec.encode(audit)?),
            headers: Headers::default(),
        };
        self.producer.send(entry).await?;
        Ok(())
    }
}

/// Writes changes as a [`Writer`] with a producer of its own does.
///
/// # Errors
/// [`AdminFault`]; some of the changes may have been written, and all may be written again.
pub async fn write(
    cluster: &dyn Cluster,
    topics: &Topics,
    codec: &Codec,
    changes: &[SuppressionChange],
    audit: &AuditEntry,
) -> Result<(), AdminFault> {
    let producer = cluster.producer(Duration::from_millis(5))?;
    let writer = Writer::new(cluster, topics, producer).await?;
    writer.write(codec, changes, audit).await
}

/// Everything that is held, in the order of keys, and how many records mean nothing here.
///
/// # Errors
/// [`AdminFault`].
pub async fn read(
    cluster: &dyn Cluster,
    topics: &Topics,
    codec: Arc<Codec>,
) -> Result<(Vec<Suppression>, usize), AdminFault> {
    let topic = topics.suppressions();
    let ranges = (0..partitions(cluster, &topic).await?)
        .map(|p| TailRange {
            partition: TopicPartition::new(Arc::clone(&topic), p),
            from: From::Beginning,
            until: None,
        })
        .collect();
    let found: Arc<Mutex<(BTreeMap<AddressKey, Suppression>, usize)>> = Arc::default();
    let sink = Arc::clone(&found);
    let each = Box::new(move |record: Record| {
        let mut found = sink.lock().unwrap_or_else(PoisonError::into_inner);
        match read_suppression(&codec, record.key.as_deref(), record.value.as_deref()) {
            Ok(SuppressionChange::Keep(kept)) => {
                found.0.insert(kept.key(), *kept);
            }
            Ok(SuppressionChange::Forget(key)) => {
                found.0.remove(&key);
            }
            Err(_) => found.1 += 1,
        }
    });
    cluster
        .read_tails(ranges, Isolation::Committed, each)
        .await?;
    let (kept, unreadable) =
        std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((kept.into_values().collect(), unreadable))
}
