//! Our own HTTP/2 for providers that take many requests at a time: pooled connections that are
//! counted, watched and replaced.
//!
//! Invariants: a stream is opened only when the server's present limit has room for it; the first
//! request of a connection is alone until a credential was accepted; a connection that stays silent
//! is found by PING and replaced; what the server surely did not process (refused streams, streams
//! above the last one of a GOAWAY, requests never written whole) is told from what it may have
//! processed. [`slots`] decides, purely; `connect`, `drive` and `exchange` do the I/O.

mod connect;
mod drive;
mod exchange;
pub mod pool;
pub mod slots;

pub use connect::{Target, TlsError, client_config, names};
pub use exchange::{Answer, NoAnswer};
pub use pool::{Lease, Limits, Pool};
