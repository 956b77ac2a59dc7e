//! One contract, two adapters: every test of `contract` runs over the local log in virtual time and
//! over a real Kafka broker (`BONGSU_TEST_KAFKA=host:port`, else one started for this run).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod contract;
mod local_log;
mod measure;
mod oauth;
mod outage;
mod secure;
mod world;
