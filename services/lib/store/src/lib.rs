//! The database, behind narrow traits.
//!
//! [`LedgerStore`] takes receipts in batches and [`LedgerReader`] answers look-ups. Three backends
//! keep the same promises, checked by one suite (`tests/it`): SQLite for one machine, PostgreSQL
//! beyond, and memory for simulations. What a receipt *means* is decided by one pure function
//! (`fold`), the backends only lock, load and write.

pub mod error;
mod fold;
pub mod hygiene;
pub mod memory;
pub mod postgres;
pub mod query;
mod reads;
pub mod receipt;
pub mod reports;
mod rows;
pub mod settings;
pub mod sqlite;
mod state;
pub mod store;
mod table;
pub mod view;

pub use error::{ErrorClass, OpenError, StoreError};
pub use hygiene::{SuppressionChanges, SuppressionQuery, WindowRow};
pub use memory::MemoryStore;
pub use postgres::PostgresStore;
pub use query::{CountsQuery, Cursor, EventQuery, RecipientQuery, SenderScope};
pub use receipt::{Facts, Finding, LedgerReceipt, PartitionBatch, Position, ReceiptBatch};
pub use reports::{DueReport, NamedDelivery, ReportChanges, WaitingReport};
pub use settings::{Settings, open};
pub use sqlite::SqliteStore;
pub use store::{ApplyReport, HygieneStore, LedgerReader, LedgerStore, ReportStore, StoredOffset};
pub use view::{
    CountRow, DeliveryView, EventAnswer, EventReceipt, EventView, RecipientPage, TimelineEntry,
    Verdict,
};
