//! The gateway on the local log and on real Kafka: what it takes, what it refuses, and how it ends.
#![expect(clippy::unwrap_used, reason = "tests")]

mod acknowledge;
mod counted;
mod description;
mod email_reports;
mod latency;
mod lookups;
mod pollers;
mod publish;
mod refusals;
mod reports;
mod service;
mod sms_reports;
mod suppressions;
mod world;
