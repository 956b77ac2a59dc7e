//! Kakao AlimTalk: notifications by approved templates to phone numbers, through a dealer.
//!
//! Beside the four files of every channel: `template` (the text to the letter), one file per dealer
//! (`bizgo`, `nhn`; pure: letters to a request, an answer to results), and `reports` (a dealer's
//! callbacks and polls).
//!
//! **Idempotency.** A dealer's key belongs to a request, not to a recipient. With one recipient per
//! request (the default) the key is the delivery's id, the same on every attempt of this and any
//! later process, so that no resend makes a second copy. With larger batches the key is a hash of
//! the batch's delivery ids: the same batch sent again is recognised, one that was made up anew
//! after an unseen answer is not, and [`Provider::dedupes`](crate::provider::Provider::dedupes)
//! says so. Rates are counted in recipients, so batches save requests, not quota.

pub mod bizgo;
pub mod classify;
pub mod config;
pub mod nhn;
pub mod payload;
mod provider;
pub mod reports;
pub mod template;

pub use provider::AlimTalkProvider;
