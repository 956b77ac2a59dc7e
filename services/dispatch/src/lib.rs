//! Dispatch: attempts through channels, receipts, retries.
//!
//! ```text
//! GroupConsumer ─► class loop ─► one owner per partition ─► Provider
//!      ▲              │  ▲              │        ▲             │
//!      └── commit ────┘  └── report ────┘        └── results ──┘ (receipt, acknowledged)
//!                                      └─► journal, lanes
//! ```
//!
//! Each class of a channel has its own [`class_loop`]; each partition has one [`owner`] that alone
//! touches the partition's sequencers. An offset is committed only when every delivery below it has
//! ended, acknowledged by Kafka: a receipt, a dead letter or a place in the side [`lane`]. What has
//! ended above it is in the commit's text or in a checkpoint of the [`journal`]; the successor reads
//! that and the tail of `results` ([`restore`]), and [`follow`]s late receipts of a former owner that
//! did not drain. Attempts start only while the [`lease`] holds, and those of bulk fewer at a time while
//! transactional ones are late ([`yielding`]).

pub mod class_loop;
pub mod config;
pub mod control;
pub mod error;
pub mod follow;
pub mod guard;
pub mod intake;
pub mod journal;
pub mod lane;
pub mod lease;
pub mod metrics;
pub mod owner;
pub mod pacing;
pub mod receipts;
pub mod restore;
pub mod service;
pub mod yielding;

pub use config::Settings;
pub use error::DispatchError;
pub use service::{Resources, run};
