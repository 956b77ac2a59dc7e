//! Fanout on the local log, under a virtual clock.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod measure;
mod takeover;
mod walk;
mod world;
