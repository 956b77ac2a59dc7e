//! The ledger as a whole: on the local log with a store in memory, and on real Kafka with a real
//! PostgreSQL.
#![expect(clippy::unwrap_used, reason = "tests")]

mod hygiene;
mod kafka;
mod local;
mod rebalance;
mod reports;
mod trouble;
mod world;
