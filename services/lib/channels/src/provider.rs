//! What a channel promises to dispatch.
//!
//! A provider takes a batch and a deadline and gives one [`AttemptResult`] per delivery, in the
//! same order. It never retries, never waits for a rate limit and never decides an outcome: that is
//! dispatch's work. A provider's "no" is a result, not an `Err`; [`TryError`] is for "could not even
//! try".

use std::time::Duration;

use bongsu_domain::{Channel, Delivery, Reason};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, TryFutureExt as _};
use reqwest::header::HeaderName;
use thiserror::Error;
use tokio::time::Instant;

use crate::limits::{Egress, Limits};

/// Header with the worker's id, on every request of every channel.
pub const HEADER_WORKER: HeaderName = HeaderName::from_static("bongsu-worker");
/// Header with the attempt's number, from 1, on every request of every channel.
pub const HEADER_ATTEMPT: HeaderName = HeaderName::from_static("bongsu-attempt");

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
        /// Who must wait.
        scope: ThrottleScope,
    },
    /// The provider did not take it and may later (connection refused, 5xx).
    Unavailable,
    /// As [`AttemptResult::Unavailable`], but the answer speaks of the address (a webhook's 404): said
    /// to the last attempt, it is a doubt about the address.
    Doubted,
    /// The provider surely did not process it (a refused HTTP/2 stream, one above GOAWAY's last): it
    /// may be sent again at once, and that costs the delivery no attempt.
    NotProcessed,
    /// The account is at fault, not the delivery (credential refused, account blocked): nothing of
    /// this account is tried until its circuit closes, and it costs the delivery no attempt.
    AccountFault,
    /// It may or may not have arrived: the answer was never seen (time-out after the request was
    /// written, connection lost, 504).
    Unknown,
}

/// What a batch came to, with the provider's own ids of what it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Answers {
    /// One result per delivery, in the order of the batch.
    pub results: Vec<AttemptResult>,
    /// The provider's ids in the same order; empty where it gives none.
    pub references: Vec<Option<Box<str>>>,
}

impl From<Vec<AttemptResult>> for Answers {
    fn from(results: Vec<AttemptResult>) -> Self {
        Self {
            results,
            references: Vec::new(),
        }
    }
}

impl Answers {
    /// All the same, without an id.
    pub(crate) fn all(result: AttemptResult, deliveries: usize) -> Self {
        vec![result; deliveries].into()
    }

    /// Puts answers to their places in a whole batch.
    pub(crate) fn place(&mut self, places: impl Iterator<Item = usize>, mut part: Self) {
        if !part.references.is_empty() {
            self.references.resize(self.results.len(), None);
        }
        for (i, (place, result)) in places.zip(part.results).enumerate() {
            if let Some(slot) = self.results.get_mut(place) {
                *slot = result;
            }
            let reference = part.references.get_mut(i).and_then(Option::take);
            // What was not taken has no report to come.
            let reference = reference.filter(|_| result == AttemptResult::Accepted);
            if let (Some(slot), Some(reference)) = (self.references.get_mut(place), reference) {
                *slot = Some(reference);
            }
        }
    }
}

/// A provider's id as it is kept: what is absurdly long is none.
pub(crate) fn own_id(text: &str) -> Option<Box<str>> {
    const LONGEST: usize = 200;
    (!text.is_empty() && text.len() <= LONGEST).then(|| text.into())
}

/// Whom a provider's "not now" concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottleScope {
    /// This address (device, webhook, chat) and nobody else.
    Address,
    /// Everything of the account.
    Account,
    /// Everything that leaves from this worker's public IP address.
    Worker,
}

/// One delivery as it goes out.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// What to send.
    pub delivery: &'a Delivery,
    /// Number of this attempt, from 1.
    pub number: u32,
    /// The delivery's partition, which is also that of its receipts: part of the reference by which
    /// a provider's report finds its way back.
    pub partition: i32,
}

/// A credential that ends on its own, for the metric and the alarm before it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiring {
    /// Whose.
    pub account: String,
    /// When, in epoch milliseconds.
    pub not_after_millis: i64,
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

/// How many bad answers bring a ban of a whole public IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrikeLimit {
    /// So many within [`StrikeLimit::window`] bring it.
    pub strikes: u32,
    /// The time they are counted over.
    pub window: Duration,
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

    /// Whether the provider removes a second copy of the delivery: it gets the same key on every
    /// attempt, so that sending again after an unseen answer does no harm.
    fn dedupes(&self, _delivery: &Delivery) -> bool {
        false
    }

    /// What an operator knows of the account's limits; none by default, and for an unknown account.
    fn limits(&self, _account: &str) -> Limits {
        Limits::default()
    }

    /// Whether the addresses of an account are receivers that have nothing to do with one another, so
    /// that one that is down or slow says nothing of the rest; by default one provider serves all.
    fn serves_strangers(&self, _account: &str) -> bool {
        false
    }

    /// The limit of everything that leaves from one public IP address; none by default.
    fn egress(&self) -> Egress {
        Egress::default()
    }

    /// The credentials that end on their own.
    fn expiring(&self) -> Vec<Expiring> {
        Vec::new()
    }

    /// What one delivery costs of a rate limit, in recipients.
    fn cost(&self, _delivery: &Delivery) -> u32 {
        1
    }

    /// How long a delivery must still wait for what its provider said of its address before. Asked
    /// before limits are charged, so that waiting costs none; cheap, and never blocks.
    fn hold(&self, _delivery: &Delivery) -> Option<Duration> {
        None
    }

    /// Whether a delivery may share a call with the ones before and behind it, where
    /// [`Batching::packs_one_key`] allows it at all.
    fn packs(&self, _delivery: &Delivery) -> bool {
        false
    }

    /// How many answers of a kind the provider bans a public IP address for; none by default.
    fn strike_limit(&self) -> Option<StrikeLimit> {
        None
    }

    /// Answers that count towards [`Provider::strike_limit`], since the start of the process.
    fn strikes(&self) -> u64 {
        0
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

    /// As [`Provider::attempt`], with the provider's own ids: the only way back for a report that
    /// carries no reference of ours.
    fn attempt_named<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Answers, TryError>> {
        self.attempt(batch, deadline).map_ok(Answers::from).boxed()
    }
}

/// Refuses a batch that names an account nobody configured, before any attempt of it is made.
///
/// # Errors
/// [`TryError::UnknownAccount`] of the first such delivery.
pub(crate) fn only_known(
    channel: Channel,
    batch: &[Attempt<'_>],
    known: impl Fn(&str) -> bool,
) -> Result<(), TryError> {
    for attempt in batch {
        let account = &attempt.delivery.address.account;
        if !known(account) {
            return Err(TryError::UnknownAccount {
                channel: channel.as_str(),
                account: account.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use bongsu_domain::identity::DeliveryParts;
    use bongsu_domain::{
        Address, AddressId, Class, Content, ContentHash, DeliveryId, OnUncertain, Ordering, Pairs,
        Platform, Purpose, RecipientTerms, Timestamp,
    };

    use super::*;

    /// A plain delivery to `address` on the webhook channel, for the tests of every channel.
    pub(crate) fn delivery(address: &str) -> Delivery {
        let id = AddressId("a-1".into());
        Delivery {
            id: DeliveryId::derive(DeliveryParts {
                sender: "shop-1",
                event_id: "e-1",
                channel: "webhook",
                recipient: "r-1",
                address_id: &id,
                step: 0,
            }),
            event_id: "e-1".into(),
            sender: "shop-1".into(),
            class: Class::Transactional,
            purpose: Purpose::Transactional,
            category: None,
            recipient: "r-1".into(),
            terms: RecipientTerms::default(),
            address: Address {
                channel: Channel::Webhook,
                address: address.into(),
                id,
                account: "default".into(),
                platform: Platform::Server,
                app: None,
                registered_at: None,
            },
            content: Content {
                title: Some("Paid".into()),
                body: Some("Your order is paid.".into()),
                data: Pairs::from([("seq".into(), "1".into())]),
                ..Content::default()
            },
            content_hash: ContentHash(0),
            step: 0,
            accepted_at: Timestamp(1_760_000_000_000),
            expires_at: Timestamp(1_760_086_400_000),
            ordering: Ordering::Sender,
            collapse_key: None,
            on_uncertain: OnUncertain::Resend,
            campaign_id: None,
            replay_id: None,
            labels: Pairs::new(),
        }
    }

    #[test]
    fn an_unknown_account_stops_the_batch_and_is_named() {
        let delivery = delivery("https://example.com/secret-path");
        let batch = [Attempt {
            delivery: &delivery,
            number: 1,
            partition: 0,
        }];
        let error = only_known(Channel::Webhook, &batch, |_| false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "account `default` of channel webhook is not configured"
        );
        assert!(!format!("{batch:?}").contains("secret-path"));
    }
}
