//! Pacing: what may be asked of a provider now.

pub mod breaker;
pub mod budget;
pub mod concurrency;
pub mod share;
pub mod window;
