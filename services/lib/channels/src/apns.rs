//! APNs: pushes to Apple's devices over HTTP/2, on a transport of our own (docs/adr/0001).

pub mod certificate;
pub mod classify;
pub mod config;
pub mod options;
pub mod payload;
mod provider;
pub mod token;
pub mod transport;

pub use provider::ApnsProvider;
