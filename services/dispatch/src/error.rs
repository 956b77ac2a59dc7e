//! What stops dispatch.

use bongsu_runtime::TaskDied;
use bongsu_stream::error::{AdminError, ConsumeError, ProduceError};
use thiserror::Error;

/// Dispatch cannot go on; the process should end and be restarted.
#[derive(Debug, Error)]
pub enum DispatchError {
    /// Reading deliveries failed.
    #[error("reading deliveries: {0}")]
    Consume(#[from] ConsumeError),
    /// Receipts cannot be written.
    #[error("writing receipts: {0}")]
    Produce(#[from] ProduceError),
    /// The topics could not be looked at.
    #[error("looking at the topics: {0}")]
    Admin(#[from] AdminError),
    /// A topic is missing or has the wrong number of partitions.
    #[error("{0}; run `bongsu topics apply`")]
    Topics(String),
    /// The group's real session timeout is too short for the lease.
    #[error("the group's session timeout is {real:?} on the broker: {complaint}")]
    Session {
        /// What the broker says.
        real: std::time::Duration,
        /// What is wrong with it.
        complaint: String,
    },
    /// Another worker's word about a shared limit cannot be read: what it claims is not known.
    #[error("reading shares of limits: {0}; is another worker newer? update this one")]
    Shares(String),
    /// Kafka answers, but never answered a commit.
    #[error("a commit was not answered for {0:?} although Kafka answers other requests")]
    CommitLost(std::time::Duration),
    /// A task died.
    #[error(transparent)]
    Task(#[from] TaskDied),
}
