//! Whole services under a virtual clock and a seed: gateway's handler to ledger on the local log, an
//! in-memory store and an in-process provider. A crash drops a service at whatever await point it
//! stands and keeps log and store. It finds the bugs; real Kafka proves the promises.

pub mod provider;
pub mod random;
pub mod story;
pub mod verdict;
pub mod world;

pub use story::simulate;
pub use verdict::Verdict;
