//! Discord: webhook executions.

pub mod classify;
pub mod config;
pub mod payload;
mod provider;

pub use provider::DiscordProvider;
