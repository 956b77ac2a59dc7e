//! Fanout: events into deliveries, exactly once.
//!
//! ```text
//! events ─► read (decode, key, size) ─► repeats ─► look-up (concurrent) ─► expand
//!                                                                            │ in offset order
//!   deliveries.<channel>, results (refusals), dead-letters, events (re-homed) ◄── one transaction
//! ```
//!
//! One [`class_loop`] per class. Decisions are pure ([`read`], [`expand`]); the transaction holds the
//! records and the offsets, so a crash at any point leaves either both or none.
//!
//! Who takes a partition over must know what was seen in it: [`digest`] is what a transaction notes of
//! it in `seen`, [`trail`] how the notes join, [`rebuild`] how they are read.

pub mod class_loop;
pub mod config;
pub mod digest;
pub mod error;
pub mod expand;
pub mod lookup;
pub mod metrics;
pub mod read;
pub mod rebuild;
pub mod service;
pub mod trail;
pub mod transactions;

pub use config::Settings;
pub use error::FanoutError;
pub use service::{Resources, run};
