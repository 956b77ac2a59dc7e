//! The world tests run in: a real broker, a real database, names that never collide, waiting
//! without sleeping, and the layer rule.
//!
//! A dev-dependency only. Everything here panics with a sentence that says what to do: a test that
//! cannot have its world must fail, never pass by skipping.
#![expect(
    clippy::panic,
    reason = "test support: a broken test world ends the test with a sentence"
)]

pub mod kafka;
pub mod layers;
pub mod names;
pub mod postgres;
pub mod proxy;
pub mod report;
pub mod tls;
pub mod wait;

pub use kafka::TestKafka;
pub use names::Names;
pub use postgres::Postgres;
pub use proxy::{FaultProxy, Passage, Rules};
pub use tls::TlsFront;
pub use wait::{wait_for, wait_until};

use std::path::PathBuf;

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(3).map_or(here.clone(), PathBuf::from)
}
