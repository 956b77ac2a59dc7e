//! Records on the wire: round trips, golden bytes, old and new readers crossed.
#![expect(clippy::unwrap_used, reason = "tests")]

mod check;
mod codec;
mod crossed;
mod golden;
mod sample;
