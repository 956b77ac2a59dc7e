//! The executable as a user meets it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod alimtalk;
mod channels;
mod clients;
mod commands;
mod dev;
mod fcm;
mod hygiene_on_kafka;
mod pipeline_on_kafka;
mod registry;
mod reload_on_kafka;
mod stops_on_kafka;
mod stories;
mod topics_on_kafka;
