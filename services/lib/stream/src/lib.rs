//! Kafka machinery behind a port: assignment, produce, transactions, commits, tails, dead letters.
//!
//! Generic over the payload: nothing here names a type of `domain` or of the schemas. Two adapters
//! implement the port, Kafka (`rdkafka`) and an in-memory local log; one contract suite runs over
//! both (`tests/it/contract.rs`).

pub mod compacted;
pub mod dead_letters;
pub mod error;
pub mod kafka;
pub mod local;
pub mod port;
pub mod schema_source;
pub mod topics;
