//! Dispatch: attempts through channels, receipts, retries.
//!
//! ```text
//! GroupConsumer ─► class loop ─► one owner per partition ─► Provider
//!      ▲              │  ▲              │        ▲             │
//!      └── commit ────┘  └─ position ───┘        └── results ──┘ (receipt, acknowledged)
//! ```
//!
//! Each class of a channel has its own [`class_loop`]; each partition has one [`owner`] that alone
//! touches the partition's sequencer. An offset is committed only when every receipt below it is
//! acknowledged; the commit's metadata holds the results offset from which the successor reads what
//! is settled above it ([`restore`]).

pub mod class_loop;
pub mod config;
pub mod error;
pub mod intake;
pub mod metrics;
pub mod owner;
pub mod receipts;
pub mod restore;
pub mod service;

pub use config::Settings;
pub use error::DispatchError;
pub use service::{Resources, run};
