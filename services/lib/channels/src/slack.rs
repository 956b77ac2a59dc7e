//! Slack: incoming webhooks, and messages of an app (`chat.postMessage`).

pub mod classify;
pub mod config;
pub mod payload;
mod provider;

pub use provider::Workspace;
