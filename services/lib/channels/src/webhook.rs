//! Webhooks: a signed HTTP POST to a URL of the recipient, after Standard Webhooks.

pub mod classify;
pub mod config;
pub mod payload;
mod provider;

pub use provider::WebhookProvider;
