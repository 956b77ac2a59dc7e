//! Telegram: messages of a bot.

pub mod classify;
pub mod config;
pub mod payload;
mod provider;

pub use provider::Bot;
