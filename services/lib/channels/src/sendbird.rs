//! Sendbird: messages into group channels.

pub mod classify;
pub mod config;
pub mod payload;
mod provider;

pub use provider::Application;
