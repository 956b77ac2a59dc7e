//! The rules of the repository that no compiler checks.
#![expect(
    clippy::unwrap_used,
    reason = "a rule that cannot be read fails the test"
)]

mod channels;
mod docs;
mod kafka;
mod layers;
mod proxy;
mod tls;
