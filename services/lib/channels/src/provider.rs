//! What a channel promises to dispatch.
//!
//! A provider takes a batch and a deadline and gives one [`AttemptResult`] per delivery, in the
//! same order. It never retries, never waits for a rate limit and never decides an outcome: that is
//! dispatch's work. A provider's "no" is a result, not an `Err`; [`TryError`] is for "could not even
//! try".

use std::time::Duration;

use bongsu_domain::{Delivery, Reason};
use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::time::Instant;

/// What one attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum AttemptResult {
    /// The provider took it.
    Accepted,
    /// The provider will never take it.
    Refused(Reason),
    /// Not now: wait at least this long (the provider's own word), or back off when it said nothing.
    Throttled {
        /// The provider's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The provider did not take it and may later (connection refused, 5xx).
    Unavailable,
    /// It may or may not have arrived: the answer was never seen (time-out after the request was
    /// written, connection lost, 504).
    Unknown,
}

/// One delivery as it goes out.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// What to send.
    pub delivery: &'a Delivery,
    /// Number of this attempt, from 1.
    pub number: u32,
}

/// How a provider wants its batches built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// The most deliveries of one call; 1 is no batching.
    pub max: usize,
    /// Whether consecutive deliveries of **one** order key may share a call (Discord's ten embeds);
    /// otherwise a batch holds distinct order keys only.
    pub packs_one_key: bool,
}

impl Batching {
    /// One delivery per call.
    pub const SINGLE: Self = Self {
        max: 1,
        packs_one_key: false,
    };
}

/// It could not even be tried: no attempt was made and nobody was contacted.
#[derive(Debug, Clone, Error)]
pub enum TryError {
    /// The delivery names an account that is not configured.
    #[error("account `{account}` of channel {channel} is not configured")]
    UnknownAccount {
        /// The channel's word.
        channel: &'static str,
        /// The account named.
        account: String,
    },
    /// The client could not be made.
    #[error("the client cannot work: {0}")]
    Client(String),
}

/// A channel's way to its provider.
pub trait Provider: Send + Sync {
    /// How batches are to be built.
    fn batching(&self) -> Batching {
        Batching::SINGLE
    }

    /// What one delivery costs of a rate limit, in recipients.
    fn cost(&self, _delivery: &Delivery) -> u32 {
        1
    }

    /// Makes one attempt for every delivery of the batch and answers before `deadline`, with as
    /// many results, in the same order. What is unanswered at the deadline is
    /// [`AttemptResult::Unknown`] when it may have been written, else `Unavailable`.
    ///
    /// Cancel safety: dropping the future leaves attempts whose request may have been read; the
    /// caller must treat them as unknown.
    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>>;
}
