//! APNs' twin: `POST /3/device/{token}` over real TLS and HTTP/2, as strict as Apple.
//!
//! Frames are read and written here and not by a library, because the twin must do what servers of
//! libraries cannot: change the limit of streams on a living connection, refuse a stream, choose the
//! last stream of a GOAWAY and its debug data, fall silent. One task per connection does everything in
//! the order of reading, without a lock but the recorder's and one short one.
//!
//! TLS and plain HTTP share the port: `/_sim/…` is asked without TLS. Device tokens are secrets; the
//! report knows a device by [`device_path`]. An event is known by a marker in the alert's text as on
//! [Discord](super::discord), or by the custom members `event_id`, `sender` and `seq`.

mod connection;
mod control;
mod credentials;
mod frames;
mod plan;
mod request;
mod state;
mod token;

pub use credentials::Credentials;
pub use plan::{Device, Plan};
pub use state::Stats;

use connection::serve;
pub(crate) use state::{Apns, Command};

use std::hash::{Hash as _, Hasher as _};

/// The path by which the report knows a device.
#[must_use]
pub fn device_path(token: &str) -> String {
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    token.to_ascii_lowercase().hash(&mut hasher);
    format!("/device/{:016x}", hasher.finish())
}
