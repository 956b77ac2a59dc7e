//! Events over HTTP into Kafka, and look-ups out of the store.
//!
//! A request passes the same stages in the same order: caller ([`keys`]), content type and body
//! within its limits ([`body`]), events told apart ([`intake`], [`cloudevents`]), every event
//! checked ([`check`]), all produced in order ([`publish`]). Nothing is produced before everything
//! is checked, and 202 is answered only after Kafka has acknowledged all.
//!
//! [`run`] is the service; [`Gateway::publish`] and [`router`] need no socket, for simulations.

pub mod body;
pub mod check;
pub mod cloudevents;
pub mod config;
pub mod error;
mod events;
mod findings;
pub mod ids;
pub mod intake;
pub mod keys;
pub mod metrics;
pub mod openapi;
pub mod problem;
pub mod publish;
mod query;
mod reads;
pub mod reports;
mod routes;
mod server;
mod state;
mod suppressions;
mod targets;
mod wiring;

pub use bongsu_channels::reports::ReportSources;
pub use config::{ApiKey, Scope, Settings};
pub use error::GatewayError;
pub use events::{Plan, Published};
pub use keys::Caller;
pub use problem::{FieldError, ItemState, Problem, ProblemCode};
pub use routes::{RouteName, router, routes};
pub use state::{Gateway, Resources};
pub use wiring::run;
