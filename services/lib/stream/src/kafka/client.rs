//! How clients are made: from a configuration and, with `OAUTHBEARER`, from the keeper's tokens.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{
    BaseProducer, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::types::RDKafka;
use rdkafka::{ClientConfig, ClientContext};

use super::oauth::{Keeper, NoToken, Place};

/// What clients are made of.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub(super) config: ClientConfig,
    keeper: Option<Arc<Keeper>>,
}

impl Recipe {
    pub(super) const fn new(config: ClientConfig, keeper: Option<Arc<Keeper>>) -> Self {
        Self { config, keeper }
    }

    /// The same with another configuration.
    pub(super) fn with(&self, config: ClientConfig) -> Self {
        Self::new(config, self.keeper.clone())
    }

    /// Waits until there is a token to authenticate with, at once where none is needed. Without this a
    /// client is made all the same, but only waits, and nobody learns for what. Cancel safe.
    ///
    /// # Errors
    /// The reason, at once when the client is refused, else after `patience`.
    pub(super) async fn ready(&self, patience: Duration) -> Result<(), NoToken> {
        match &self.keeper {
            Some(keeper) => keeper.ready(patience).await,
            None => Ok(()),
        }
    }

    /// Makes a client. It never waits for a token: the client itself does, until the keeper has one.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or the token endpoint the client.
    pub(super) fn make<C, T>(&self, context: C) -> KafkaResult<Kept<T>>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C> + Native,
    {
        if let Some(refusal) = self.keeper.as_ref().and_then(|k| k.refusal()) {
            return Err(KafkaError::ClientCreation(refusal.to_string()));
        }
        let client = T::from_config_and_context(&self.config, context)?;
        let place = self.keeper.as_ref().map(|keeper| {
            #[expect(unsafe_code, reason = "the keeper gives tokens to librdkafka itself")]
            // SAFETY: `Kept` owns both for as long as either lives, and drops the place first.
            unsafe {
                keeper.enter(client.native())
            }
        });
        Ok(Kept {
            _place: place,
            client,
        })
    }
}

/// A client, and its place at the keeper.
///
/// Invariant: the place is given up before the client is, whence the order of the fields, and nobody
/// gets the client out of here.
pub(super) struct Kept<T> {
    _place: Option<Place>,
    client: T,
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.client
    }
}

/// A client of rust-rdkafka's, which owns one of librdkafka's.
pub(super) trait Native {
    /// librdkafka's client, which lives as long as this one.
    fn native(&self) -> *mut RDKafka;
}

impl<C: ConsumerContext> Native for BaseConsumer<C> {
    fn native(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext<NoCustomPartitioner>> Native for BaseProducer<C> {
    fn native(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext<NoCustomPartitioner> + 'static> Native for ThreadedProducer<C> {
    fn native(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ClientContext> Native for AdminClient<C> {
    fn native(&self) -> *mut RDKafka {
        self.inner().native_ptr()
    }
}
