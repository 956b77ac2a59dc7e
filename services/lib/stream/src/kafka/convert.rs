//! Between librdkafka's types and the port's.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message, OwnedHeaders, ToBytes};
use rdkafka::producer::BaseRecord;
use rdkafka::util::IntoOpaque;
use rdkafka::{Offset, TopicPartitionList};

use crate::error::{ConsumeError, ProduceError};
use crate::port::{Commit, HeaderName, Headers, Outgoing, Record, TopicPartition};

/// Names of topics and headers met so far, so that records share them. Few, hence lists.
#[derive(Default)]
pub(super) struct Names {
    topics: Vec<Arc<str>>,
    headers: Vec<Arc<str>>,
}

/// Header names that are kept; whoever makes up more pays for each.
const MOST_HEADERS: usize = 64;

fn shared(known: &mut Vec<Arc<str>>, name: &str, most: usize) -> Arc<str> {
    if let Some(known) = known.iter().find(|n| &***n == name) {
        return known.clone();
    }
    let name: Arc<str> = name.into();
    if known.len() < most {
        known.push(name.clone());
    }
    name
}

/// Copies a record out of librdkafka's memory: key, value and headers' values into one piece of it.
pub(super) fn record(message: &BorrowedMessage<'_>, names: &mut Names) -> Record {
    let headers = message.headers();
    let values = headers.iter().flat_map(|headers| headers.iter());
    let size = message.key_len()
        + message.payload_len()
        + values
            .map(|h| h.value.map_or(0, <[u8]>::len))
            .sum::<usize>();
    let mut bytes = BytesMut::with_capacity(size);
    let key = message.key().map(|key| piece(&mut bytes, key));
    let value = message.payload().map(|value| piece(&mut bytes, value));
    let headers = headers.map(|headers| {
        let mut read = Vec::with_capacity(headers.count());
        for header in headers.iter() {
            let name = shared(&mut names.headers, header.key, MOST_HEADERS);
            let value = header.value.map(|value| piece(&mut bytes, value));
            read.push((HeaderName::Shared(name), value));
        }
        Headers(read)
    });
    Record {
        topic: shared(&mut names.topics, message.topic(), usize::MAX),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key,
        value,
        headers: headers.unwrap_or_default(),
    }
}

/// Copies bytes to the end of what was reserved, and splits them off.
fn piece(of: &mut BytesMut, bytes: &[u8]) -> Bytes {
    of.extend_from_slice(bytes);
    of.split().freeze()
}

fn owned_headers(headers: &Headers) -> Option<OwnedHeaders> {
    if headers.0.is_empty() {
        return None;
    }
    let owned = OwnedHeaders::new_with_capacity(headers.0.len());
    Some(headers.0.iter().fold(owned, |all, (key, value)| {
        all.insert(Header {
            key: key.as_str(),
            value: value.as_deref(),
        })
    }))
}

/// Bytes as librdkafka wants them.
pub(super) struct Raw<'a>(&'a [u8]);

impl ToBytes for Raw<'_> {
    fn to_bytes(&self) -> &[u8] {
        self.0
    }
}

/// The key and value of a record, borrowed for the time of a `send`.
pub(super) struct Parts<'a> {
    key: Option<Raw<'a>>,
    value: Option<Raw<'a>>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(outgoing: &'a Outgoing) -> Self {
        Self {
            key: outgoing.key.as_deref().map(Raw),
            value: outgoing.value.as_deref().map(Raw),
        }
    }

    /// The record to queue, with what the delivery callback is to get.
    pub(super) fn record<D: IntoOpaque>(
        &'a self,
        outgoing: &'a Outgoing,
        opaque: D,
    ) -> BaseRecord<'a, Raw<'a>, Raw<'a>, D> {
        let mut record =
            BaseRecord::with_opaque_to(&outgoing.topic, opaque).partition(outgoing.partition);
        if let Some(key) = &self.key {
            record = record.key(key);
        }
        if let Some(value) = &self.value {
            record = record.payload(value);
        }
        if let Some(headers) = owned_headers(&outgoing.headers) {
            record = record.headers(headers);
        }
        record
    }
}

/// Size of a record for error texts: key and value.
pub(super) fn size(outgoing: &Outgoing) -> usize {
    outgoing.key.as_ref().map_or(0, Bytes::len) + outgoing.value.as_ref().map_or(0, Bytes::len)
}

/// What a record costs in memory on its way to the owner.
pub(super) fn weight(record: &Record) -> usize {
    let headers: usize = record
        .headers
        .0
        .iter()
        .map(|(_, v)| v.as_ref().map_or(0, Bytes::len) + 64)
        .sum();
    let key = record.key.as_ref().map_or(0, Bytes::len);
    let value = record.value.as_ref().map_or(0, Bytes::len);
    key + value + headers + 160
}

/// A list of partitions without offsets.
pub(super) fn partition_list<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for p in partitions {
        list.add_partition(&p.topic, p.partition);
    }
    list
}

/// A list of offsets to commit, with their texts.
pub(super) fn commit_list<'a>(
    commits: impl IntoIterator<Item = &'a Commit>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for commit in commits {
        let mut elem = list.add_partition(&commit.partition.topic, commit.partition.partition);
        elem.set_offset(Offset::Offset(commit.committed.offset))?;
        if !commit.committed.metadata.is_empty() {
            elem.set_metadata(&commit.committed.metadata);
        }
    }
    Ok(list)
}

/// The partitions of a list.
pub(super) fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .map(|e| TopicPartition::new(e.topic(), e.partition()))
        .collect()
}

/// A failed production in the port's words.
pub(super) fn produce_error(error: &KafkaError, topic: &str, bytes: usize) -> ProduceError {
    use RDKafkaErrorCode as Code;
    let topic = topic.to_owned();
    let reason = error.to_string();
    match error.rdkafka_error_code() {
        Some(Code::QueueFull) => ProduceError::QueueFull,
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => {
            ProduceError::TooLarge { topic, bytes }
        }
        Some(
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::InvalidTopic
            | Code::InvalidRecord
            | Code::PolicyViolation,
        ) => ProduceError::Refused { topic, reason },
        // An idempotent producer that lost its place in the sequence takes nothing ever again.
        Some(Code::Fatal) => ProduceError::Fatal(reason),
        _ => ProduceError::NotAcknowledged { topic, reason },
    }
}

/// A failed read in the port's words.
pub(super) fn consume_error(error: &KafkaError) -> ConsumeError {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::InvalidTopic
            | Code::Fatal,
        ) => ConsumeError::Client(error.to_string()),
        Some(_) => ConsumeError::Unavailable(error.to_string()),
        None => ConsumeError::Client(error.to_string()),
    }
}
