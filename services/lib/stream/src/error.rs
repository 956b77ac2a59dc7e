//! Errors per family of operations; [`ErrorClass`] is the only input to retry decisions.

use thiserror::Error;

/// What kind of fault it is, and so who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// It may work again by itself.
    Transient,
    /// It will not work, however often it is tried.
    Permanent,
    /// A person must mend the settings.
    Misconfigured,
    /// Another process has taken this one's place.
    Fenced,
}

/// Producing failed.
#[derive(Debug, Clone, Error)]
pub enum ProduceError {
    /// The local queue is full; the record was not queued.
    #[error("the producer's queue is full")]
    QueueFull,
    /// The record is larger than the topic takes.
    #[error("a record of {bytes} bytes is larger than {topic} takes")]
    TooLarge {
        /// Where it was to go.
        topic: String,
        /// Its size.
        bytes: usize,
    },
    /// Kafka did not acknowledge it in time; it may or may not be in the log.
    #[error("{topic} did not acknowledge: {reason}")]
    NotAcknowledged {
        /// Where it was to go.
        topic: String,
        /// Kafka's word.
        reason: String,
    },
    /// The topic or partition does not exist, or we may not write to it.
    #[error("{topic} refuses the record: {reason}")]
    Refused {
        /// Where it was to go.
        topic: String,
        /// Kafka's word.
        reason: String,
    },
    /// The client could not be made.
    #[error("the Kafka producer cannot start: {0}")]
    Client(String),
    /// The client has failed in a way it cannot recover from; only a new one can write.
    #[error("the Kafka producer failed for good, restart the process: {0}")]
    Fatal(String),
    /// The producer was closed.
    #[error("the producer is closed")]
    Closed,
}

impl ProduceError {
    /// The kind of fault.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::QueueFull | Self::NotAcknowledged { .. } | Self::Closed => ErrorClass::Transient,
            Self::TooLarge { .. } | Self::Fatal(_) => ErrorClass::Permanent,
            Self::Refused { .. } | Self::Client(_) => ErrorClass::Misconfigured,
        }
    }
}

/// Reading failed.
#[derive(Debug, Clone, Error)]
pub enum ConsumeError {
    /// The client could not be made or may not read.
    #[error("the Kafka consumer cannot work: {0}")]
    Client(String),
    /// The broker does not answer.
    #[error("Kafka does not answer: {0}")]
    Unavailable(String),
    /// The consumer was closed.
    #[error("the consumer is closed")]
    Closed,
}

/// A commit was not taken.
#[derive(Debug, Clone, Error)]
pub enum CommitError {
    /// The partition belongs to another member by now.
    #[error("the commit is refused, the partition has another owner: {0}")]
    NotOwner(String),
    /// It may work again by itself (a rebalance is running, the coordinator moves).
    #[error("the commit failed: {0}")]
    Transient(String),
    /// The consumer was closed.
    #[error("the consumer is closed")]
    Closed,
}

/// A transaction failed.
#[derive(Debug, Clone, Error)]
pub enum TransactionError {
    /// Nothing was written; the same transaction may be tried again.
    #[error("the transaction was aborted: {0}")]
    Aborted(String),
    /// Another process uses the same transactional id.
    #[error(
        "another process uses transactional id `{id}`; give each replica its own slot: {reason}"
    )]
    Fenced {
        /// The id.
        id: String,
        /// Kafka's word.
        reason: String,
    },
    /// Kafka answered neither the commit nor the abort in time: how it ended is told by the group's
    /// offsets, once another producer has taken the transactional id over.
    #[error("Kafka did not say how a transaction ended: {0}")]
    Lost(String),
    /// The producer can do nothing more.
    #[error("the transactional producer failed for good: {0}")]
    Fatal(String),
}

/// Describing or changing topics failed.
#[derive(Debug, Clone, Error)]
pub enum AdminError {
    /// The broker does not answer.
    #[error("Kafka does not answer: {0}")]
    Unavailable(String),
    /// The broker is there, and it or this client breaks off before anything can be asked.
    #[error("{setting} is refused: {fix}; the client says: {reason}")]
    NoEntry {
        /// The setting to look at.
        setting: &'static str,
        /// What to do.
        fix: &'static str,
        /// What was said while connecting.
        reason: String,
    },
    /// The broker said no.
    #[error("Kafka refuses to {what}: {reason}")]
    Refused {
        /// The operation.
        what: String,
        /// Kafka's word.
        reason: String,
    },
}
