//! What stops the ledger. A store that fails does not: it is waited for.

use bongsu_runtime::TaskDied;
use bongsu_stream::error::{AdminError, ConsumeError, ProduceError};
use thiserror::Error;

/// The ledger cannot go on; the process should end and be restarted.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// Reading receipts failed.
    #[error("reading receipts: {0}")]
    Consume(#[from] ConsumeError),
    /// The producer of dead letters cannot be made.
    #[error("writing dead letters: {0}")]
    Produce(#[from] ProduceError),
    /// The topics could not be looked at.
    #[error("looking at the topics: {0}")]
    Admin(#[from] AdminError),
    /// A topic is missing.
    #[error("the topic {0} is missing; run `bongsu topics apply`")]
    MissingTopic(String),
    /// A task died.
    #[error(transparent)]
    Task(#[from] TaskDied),
}
