//! LINE: messages of an official account (Messaging API, push).

pub mod classify;
pub mod config;
pub mod payload;
mod provider;

pub use provider::OfficialAccount;
