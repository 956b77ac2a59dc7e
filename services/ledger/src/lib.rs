//! The ledger: status and statistics from receipts.
//!
//! ```text
//! results ─► backlog (per partition) ─► read (decode, check) ─► one transaction: receipts, offsets
//!                                           └─► dead-letters        └─► commit to the group
//! reports ─► those without our reference ─► by the provider's id ─► results (`reports`)
//! ```
//!
//! One writer per process. The offsets that count are those in the database, moved in the
//! transaction that writes the receipts; the group's offsets follow. So a crash at any point, and a
//! ledger that lost its partitions without knowing, write nothing twice and leave nothing out.

mod backlog;
mod catch_up;
pub mod config;
pub mod error;
pub mod hygiene;
pub mod metrics;
pub mod read;
mod reports;
mod schemas;
pub mod service;
mod writer;

pub use config::Settings;
pub use error::LedgerError;
pub use service::{Resources, run};
