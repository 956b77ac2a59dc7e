//! Discord: webhook executions.

pub mod classify;
pub mod config;
pub mod pauses;
pub mod payload;
mod provider;

pub use provider::DiscordProvider;
