//! The port: what a service may ask of a log.
//!
//! A [`Cluster`] gives producers, group consumers, transactional producers and group-less tails.
//! Time is tokio's clock, so that simulations run in virtual time. Every adapter keeps the same
//! promises, checked by one contract suite:
//!
//! * records of one producer for one partition are appended in the order of `send` calls;
//! * a [`GroupConsumer`] delivers each assigned partition's records in offset order, never a record
//!   of an open or aborted transaction, and nothing of a partition after its revocation was
//!   answered;
//! * every [`GroupEvent::Revoked`] waits for [`GroupConsumer::release`]; until then the partitions
//!   still belong to this member and commits for them succeed;
//! * after [`GroupEvent::Lost`] a commit for these partitions is refused by the broker.

mod answers;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use self::answers::{Answer, Answers};
use crate::error::{AdminError, CommitError, ConsumeError, ProduceError, TransactionError};

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Topic name, prefix included.
    pub topic: Arc<str>,
    /// Partition number from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// Name of a header. Names are few: a constant of the code, or shared by all records that were read
/// with it.
#[derive(Debug, Clone)]
pub enum HeaderName {
    /// A constant.
    Static(&'static str),
    /// Read, or made up.
    Shared(Arc<str>),
}

impl HeaderName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Static(name) => name,
            Self::Shared(name) => name,
        }
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for HeaderName {}

/// Record headers: ordered, repeatable; values are bytes, `None` where Kafka has a null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(HeaderName, Option<Bytes>)>);

impl Headers {
    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Bytes>) -> Self {
        self.0.push((HeaderName::Static(name), Some(value.into())));
        self
    }

    /// The last value under `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.value(name).map(|value| &**value)
    }

    /// The same, to be shared.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Bytes> {
        self.0
            .iter()
            .rev()
            .find(|(n, _)| n.as_str() == name)
            .and_then(|(_, v)| v.as_ref())
    }

    /// The last value under `name`, when it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|v| std::str::from_utf8(v).ok())
    }
}

/// A record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lies.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
    /// Position in the partition.
    pub offset: i64,
    /// Broker or producer time, milliseconds since the epoch, as the topic is configured.
    pub timestamp: i64,
    /// Key bytes.
    pub key: Option<Bytes>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Headers,
}

/// A record to be written, always to an explicit partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Topic name, prefix included.
    pub topic: Arc<str>,
    /// Explicit partition.
    pub partition: i32,
    /// Key bytes.
    pub key: Option<Bytes>,
    /// Value bytes; `None` writes a tombstone.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Headers,
}

/// A committed position with the text stored beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to be read.
    pub offset: i64,
    /// Commit metadata; empty when none was written. At most 4,096 bytes on a stock broker.
    pub metadata: String,
}

/// A position to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Which partition.
    pub partition: TopicPartition,
    /// The next offset to be read, and the text to keep beside it.
    pub committed: Committed,
}

/// What a group consumer tells its owner, in the order in which it happened.
#[derive(Debug)]
pub enum GroupEvent {
    /// Records, in offset order per partition; never empty.
    Records(Vec<Record>),
    /// These partitions are ours now. Reading starts at the committed offset, else at the
    /// consumer's reset policy.
    Assigned(Vec<(TopicPartition, Option<Committed>)>),
    /// These partitions are to be given up: finish, commit, then
    /// [`release`](GroupConsumer::release) the number. Until then they are still ours.
    Revoked {
        /// The number to hand to `release`.
        rebalance: u64,
        /// The partitions to give up.
        partitions: Vec<TopicPartition>,
    },
    /// These partitions belong to somebody else already: stop, commit nothing.
    Lost(Vec<TopicPartition>),
    /// The consumer cannot go on.
    Failed(ConsumeError),
}

/// Where a consumer without a committed offset starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// At the oldest record.
    Earliest,
    /// After the newest record.
    Latest,
}

/// What a group consumer is asked to be.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    /// Consumer group.
    pub group: String,
    /// Topics to subscribe to.
    pub topics: Vec<Arc<str>>,
    /// Start without a committed offset.
    pub reset: Reset,
    /// Broker-side session timeout.
    pub session_timeout: Duration,
    /// Bytes that may wait between the broker and the owner.
    pub buffer_bytes: usize,
}

/// Membership of a consumer group. Dropping it is a crash: the group notices after
/// the session timeout. Leave with [`GroupConsumer::close`].
pub trait GroupConsumer: Send + Sync {
    /// The next event. Cancel safe: a dropped call loses nothing.
    fn next(&mut self) -> BoxFuture<'_, GroupEvent>;

    /// Commits and waits for the broker's answer.
    fn commit(&self, commits: Vec<Commit>) -> BoxFuture<'static, Result<(), CommitError>>;

    /// Stops fetching these partitions until [`GroupConsumer::resume`].
    fn pause(&self, partitions: &[TopicPartition]);

    /// Fetches these partitions again from the first record not yet given out.
    fn resume(&self, partitions: &[TopicPartition]);

    /// Answers a revocation.
    fn release(&self, rebalance: u64);

    /// What a transaction needs to commit this group's offsets.
    fn group_metadata(&self) -> BoxFuture<'static, Result<GroupMetadata, ConsumeError>>;

    /// Leaves the group. Pending revocations are answered first.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// An adapter's proof of group membership, opaque to services.
#[derive(Clone)]
pub struct GroupMetadata(pub Arc<dyn Any + Send + Sync>);

impl fmt::Debug for GroupMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupMetadata")
    }
}

/// An idempotent producer.
pub trait Producer: Send + Sync {
    /// Queues the record in call order and resolves to its offset once Kafka has acknowledged it.
    ///
    /// The record is queued before this returns; the future only waits. Dropping the future does
    /// not take the record back. A full queue is answered with [`ProduceError::QueueFull`] at once:
    /// bound what is outstanding, it is not retried here.
    fn send(&self, record: Outgoing) -> BoxFuture<'static, Result<i64, ProduceError>>;

    /// As [`Producer::send`], for who has many records under way: the answer comes to `answers`
    /// under `ticket`, and one wake-up may bring many. An adapter that cannot do that gives the
    /// future of [`Producer::send`] instead, and `answers` hears nothing.
    fn send_for(
        &self,
        record: Outgoing,
        _ticket: u64,
        _answers: &Arc<Answers>,
    ) -> Option<BoxFuture<'static, Result<i64, ProduceError>>> {
        Some(self.send(record))
    }

    /// Waits until nothing is outstanding, or gives the number of records that still are.
    fn drain(&self, deadline: Duration) -> BoxFuture<'_, Result<(), usize>>;
}

/// A transactional producer of one stable transactional id; one transaction at a time.
pub trait TransactionalProducer: Send {
    /// Writes all records and the group's offsets, or nothing: one whole transaction. Delivery of
    /// every record is awaited before the commit.
    ///
    /// On [`TransactionError::Aborted`] nothing was written and the same call may be made again; on
    /// [`TransactionError::Lost`] the group must be joined anew, with a new producer of the same id; on
    /// [`TransactionError::Fenced`] or `Fatal` the process must give up its partitions.
    fn run(
        &mut self,
        records: Vec<Outgoing>,
        offsets: Vec<Commit>,
        group: GroupMetadata,
    ) -> BoxFuture<'_, Result<(), TransactionError>>;
}

/// From where a tail is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The oldest record there is.
    Beginning,
    /// This offset, or the oldest record when it is gone already.
    Offset(i64),
    /// The first record at or after this broker time (milliseconds since the epoch).
    Time(i64),
}

/// One partition to read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRange {
    /// Which partition.
    pub partition: TopicPartition,
    /// First record.
    pub from: From,
    /// Stop before this offset; `None` stops at the end as of the call.
    pub until: Option<i64>,
}

/// Which records of transactions a group-less read sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Committed records only, up to the last stable offset.
    Committed,
    /// Everything in the log.
    Uncommitted,
}

/// Where a finished tail stopped: the next offset to read.
pub type TailEnds = BTreeMap<TopicPartition, i64>;

/// A group-less reader that follows partitions for ever.
pub trait Follower: Send {
    /// The next records; never empty. Cancel safe.
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Record>, ConsumeError>>;
}

/// What a topic is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of each partition.
    pub replication: i32,
    /// Settings that differ from the broker's defaults, by Kafka's names.
    pub settings: BTreeMap<String, String>,
}

/// What a topic should be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name, prefix included.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of each partition.
    pub replication: i32,
    /// The settings Bongsu owns.
    pub settings: BTreeMap<String, String>,
}

/// Committed offset and end of one partition of a group: its lag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// Which partition.
    pub partition: TopicPartition,
    /// Next offset the group will read, when it ever committed.
    pub committed: Option<i64>,
    /// Next offset the partition will write (last stable offset).
    pub end: i64,
}

/// A log of topics: real Kafka, or the local one.
pub trait Cluster: Send + Sync {
    /// What to call it in a line for people: `Kafka at localhost:9092`, `local log (in memory)`.
    fn describe(&self) -> String;

    /// Whether this is the in-memory log, which `bongsu run` refuses.
    fn is_local(&self) -> bool;

    /// A producer of its own, with `linger` as the time a batch may wait to fill.
    ///
    /// # Errors
    /// When the settings are refused.
    fn producer(&self, linger: Duration) -> Result<Arc<dyn Producer>, ProduceError>;

    /// A transactional producer; fences every earlier one of the same id.
    fn transactional(
        &self,
        transactional_id: &str,
    ) -> BoxFuture<'_, Result<Box<dyn TransactionalProducer>, TransactionError>>;

    /// Joins a group.
    ///
    /// # Errors
    /// When the settings are refused.
    fn join(&self, options: GroupOptions) -> Result<Box<dyn GroupConsumer>, ConsumeError>;

    /// Reads ranges to their ends, giving every record to `each` (in offset order per partition),
    /// and tells where it stopped. A range that `until` or the end leaves empty reads nothing.
    fn read_tails(
        &self,
        ranges: Vec<TailRange>,
        isolation: Isolation,
        each: Box<dyn FnMut(Record) + Send>,
    ) -> BoxFuture<'_, Result<TailEnds, ConsumeError>>;

    /// Follows partitions from where `ranges` begin (`until` is ignored).
    ///
    /// # Errors
    /// When the settings are refused.
    fn follow(
        &self,
        ranges: Vec<TailRange>,
        isolation: Isolation,
    ) -> Result<Box<dyn Follower>, ConsumeError>;

    /// Describes topics; a topic that does not exist is absent from the answer.
    fn topics(
        &self,
        names: Vec<String>,
    ) -> BoxFuture<'_, Result<BTreeMap<String, TopicDescription>, AdminError>>;

    /// Creates a topic. One that exists already is an error.
    fn create_topic(&self, spec: TopicSpec) -> BoxFuture<'_, Result<(), AdminError>>;

    /// Sets these settings of a topic and leaves all others alone.
    fn alter_topic(
        &self,
        name: &str,
        settings: BTreeMap<String, String>,
    ) -> BoxFuture<'_, Result<(), AdminError>>;

    /// Lag of a group over topics, one entry per partition.
    fn lag(
        &self,
        group: &str,
        topics: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<PartitionLag>, AdminError>>;

    /// The end of each partition: the offset its next record gets.
    fn ends(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'_, Result<TailEnds, ConsumeError>>;

    /// After how long without a heartbeat a group gives a member's partitions to others, when the
    /// member asked for `asked`: the broker may have its own mind.
    fn session_timeout(&self, asked: Duration) -> BoxFuture<'_, Result<Duration, AdminError>> {
        Box::pin(std::future::ready(Ok(asked)))
    }

    /// Checks that a broker answers within `deadline`.
    fn ping(&self, deadline: Duration) -> BoxFuture<'_, Result<(), AdminError>>;
}
