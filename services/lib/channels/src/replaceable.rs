//! A provider that can be replaced while it is in use: how accounts change without a restart.
//!
//! Calls under way end with the provider that they began with; it lives until the last has ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bongsu_domain::Delivery;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::limits::{Egress, Limits};
use crate::provider::{
    Answers, Attempt, AttemptResult, Batching, Expiring, Provider, StrikeLimit, TryError,
};

/// The provider in use.
pub struct Replaceable {
    current: RwLock<Arc<dyn Provider>>,
    /// Bad answers that former providers counted: the count never goes back.
    struck: AtomicU64,
}

impl Replaceable {
    /// Begins with `provider`.
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>) -> Self {
        Self {
            current: RwLock::new(provider),
            struck: AtomicU64::new(0),
        }
    }

    /// From here on calls go to `next`.
    pub fn replace(&self, next: Arc<dyn Provider>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        self.struck.fetch_add(current.strikes(), Ordering::Relaxed);
        *current = next;
    }

    fn current(&self) -> Arc<dyn Provider> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

impl Provider for Replaceable {
    fn batching(&self) -> Batching {
        self.current().batching()
    }

    fn dedupes(&self, delivery: &Delivery) -> bool {
        self.current().dedupes(delivery)
    }

    fn limits(&self, account: &str) -> Limits {
        self.current().limits(account)
    }

    fn serves_strangers(&self, account: &str) -> bool {
        self.current().serves_strangers(account)
    }

    fn egress(&self) -> Egress {
        self.current().egress()
    }

    fn expiring(&self) -> Vec<Expiring> {
        self.current().expiring()
    }

    fn cost(&self, delivery: &Delivery) -> u32 {
        self.current().cost(delivery)
    }

    fn hold(&self, delivery: &Delivery) -> Option<Duration> {
        self.current().hold(delivery)
    }

    fn packs(&self, delivery: &Delivery) -> bool {
        self.current().packs(delivery)
    }

    fn strike_limit(&self) -> Option<StrikeLimit> {
        self.current().strike_limit()
    }

    fn strikes(&self) -> u64 {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        self.struck.load(Ordering::Relaxed) + current.strikes()
    }

    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        let current = self.current();
        async move { current.attempt(batch, deadline).await }.boxed()
    }

    fn attempt_named<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Answers, TryError>> {
        let current = self.current();
        async move { current.attempt_named(batch, deadline).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with one result, and has counted so many bad answers.
    struct Fixed(AttemptResult, u64);

    impl Provider for Fixed {
        fn strikes(&self) -> u64 {
            self.1
        }

        fn attempt<'a>(
            &'a self,
            _batch: &'a [Attempt<'a>],
            _deadline: Instant,
        ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
            async move { Ok(vec![self.0]) }.boxed()
        }
    }

    #[tokio::test]
    async fn calls_under_way_end_with_the_provider_they_began_with() {
        let provider = Replaceable::new(Arc::new(Fixed(AttemptResult::AccountFault, 3)));
        let begun = provider.attempt(&[], Instant::now());
        provider.replace(Arc::new(Fixed(AttemptResult::Accepted, 2)));
        assert!(matches!(
            begun.await.as_deref(),
            Ok([AttemptResult::AccountFault])
        ));
        let next = provider.attempt_named(&[], Instant::now()).await;
        assert!(matches!(next, Ok(answers) if answers.results == [AttemptResult::Accepted]));
        assert_eq!(provider.strikes(), 5, "the count never goes back");
    }
}
