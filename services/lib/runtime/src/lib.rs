//! What the executable needs once: settings, secrets, tasks, the clock, metrics, lifecycle.
//!
//! Knows nothing of deliveries.

pub mod allocator;
pub mod clock;
pub mod lifecycle;
pub mod metrics;
pub mod secret;
pub mod settings;
pub mod tasks;
pub mod telemetry;
pub mod units;

pub use clock::Clock;
pub use lifecycle::{Health, Shutdown};
pub use metrics::Metrics;
pub use secret::Secret;
pub use tasks::{TaskDied, Tasks};
pub use units::{ByteSize, Duration, Ratio};
