//! What stops fanout.

use bongsu_runtime::TaskDied;
use bongsu_stream::error::{AdminError, ConsumeError, TransactionError};
use thiserror::Error;

/// Fanout cannot go on; the process should end and be restarted.
#[derive(Debug, Error)]
pub enum FanoutError {
    /// Reading events failed.
    #[error("reading events: {0}")]
    Consume(#[from] ConsumeError),
    /// The transaction cannot be finished.
    #[error("writing deliveries: {0}; the slot is set by fanout.slot")]
    Transaction(#[from] TransactionError),
    /// The topics could not be looked at.
    #[error("looking at the topics: {0}")]
    Admin(#[from] AdminError),
    /// A topic is missing or has the wrong number of partitions.
    #[error("{0}; run `bongsu topics apply`")]
    Topics(String),
    /// A task died.
    #[error(transparent)]
    Task(#[from] TaskDied),
}
