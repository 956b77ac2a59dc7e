//! FCM HTTP v1: pushes through Firebase, on [our own HTTP/2](crate::http2).

pub mod classify;
pub mod config;
pub mod payload;
mod provider;
pub mod service_account;
pub mod token;
pub mod topics;

pub use provider::FcmProvider;
