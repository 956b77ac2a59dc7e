//! Pacing: what may be asked of a provider now. Pure: time is milliseconds handed in, seeds too.
//!
//! Owners of partitions ask one [`Pacer`] per channel and process before each attempt, and tell it
//! how the attempt ended:
//!
//! ```text
//! match pacer.ask(now, &ask) {
//!     Permit::Go(ticket)             => attempt, then pacer.answered(now, ticket, answer)
//!     Permit::KeyWaits { until }     => this delivery not before `until`; others may go
//!     Permit::AccountWaits { until } => nothing of the account and class before `until`
//! }
//! ```
//!
//! Every ticket must come back, by [`Pacer::answered`] (unknown when nobody knows) or, when nothing
//! was sent, by [`Pacer::cancelled`]; dispatch holds it in a guard that sees to that. One ticket is
//! one provider call: ask for a batch with the batch's cost, and build none above the account's
//! limit. After an answer, [`Pacer::take_starved`] tells whether somebody waits for concurrency.
//! A refusal costs nobody anything, so asking early is only a waste of time.
//!
//! What is asked, in this order; either all grant, or none is charged:
//!
//! | level | machine |
//! |---|---|
//! | pause of the account or exit (`Retry-After`) | a moment, obeyed exactly, shared by all keys |
//! | circuit of the account | [`breaker`] |
//! | configured limit of account and exit | [`window`]: exact in any sliding second |
//! | learned limit of account and exit | [`rate`]: nothing until the first 429 |
//! | attempts open, per account and in all | [`concurrency`] |
//! | address, sender, campaign | [`keys`] |
//! | retries | [`budget`] |
//!
//! [`share`] divides a configured limit among workers; by their [`words`] they find a limit that nobody
//! told them together; [`strikes`] counts what brings a ban of their
//! common address.

pub mod breaker;
pub mod budget;
pub mod concurrency;
pub mod keys;
pub mod pacer;
pub mod rate;
pub mod share;
pub mod strikes;
pub mod window;
pub mod words;

pub use pacer::{AccountKey, AccountLimits, Answer, Ask, Pacer, Permit, Scope, Ticket, Usage};
