//! The provider contract and one folder per channel.
//!
//! Every channel has the same four files: `config` (its account settings), `payload` (pure: content
//! to request), `classify` (pure: answer to [`AttemptResult`](provider::AttemptResult)) and
//! `provider` (the only I/O). [`registry`] is the one place that knows them all; dispatch calls
//! [`registry::build`] and sees only [`provider::Provider`].

pub mod alimtalk;
pub mod apns;
pub mod client;
pub mod discord;
pub mod email;
pub mod euc_kr;
pub mod fcm;
mod fits;
pub mod http2;
pub mod limits;
pub mod line;
pub mod network;
pub mod provider;
pub mod registry;
pub mod replaceable;
pub mod reports;
pub mod retry_after;
pub mod sendbird;
pub mod settings;
pub mod single;
pub mod slack;
pub mod sms;
pub mod ssrf;
pub mod telegram;
pub mod text;
pub mod verdict;
pub mod walk;
pub mod webhook;
pub mod webpush;

pub use apns::config::ApnsSettings;
pub use email::config::EmailSettings;
pub use limits::{Egress, Limits};
pub use registry::{BuildError, Settings, build, too_large};
pub use settings::{ClientSettings, HttpSettings};
