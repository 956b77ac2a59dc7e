//! The providers' twins: real servers that answer as a provider does, fail on request, and count.
//!
//! A rehearsal, a test or a chaos run points its channels here instead of at the real provider and
//! asks afterwards what arrived: how often, in which order, how fast, from which worker. The
//! definitions of *duplicate* and *order violation* are those of the design and live in [`report`],
//! which is pure; [`recorder`] keeps what was read; [`faults`] decides what goes wrong; `server`
//! does the I/O; `control` answers `/_sim/…`.

pub mod alimtalk;
pub mod apns;
pub mod assertion;
pub mod authority;
pub mod bucket;
pub mod compare;
mod control;
pub mod discord;
pub mod email;
pub mod faults;
pub mod fcm;
mod later;
mod line;
mod line_api;
mod marks;
pub mod recorder;
pub mod report;
pub mod seconds;
mod sendbird;
mod server;
pub mod simulators;
mod slack;
mod sliding;
pub mod sms;
mod streams;
mod telegram;
mod webhook;
pub mod webpush;
mod words;

pub use assertion::{Assertion, Difference};
pub use compare::{Comparison, Expected};
pub use faults::Faults;
pub use recorder::{Recorder, Seen};
pub use report::Report;
pub use simulators::{Kind, Settings, SimulatorError, Simulators};
