//! The Kafka adapter: the port over `rdkafka`.
//!
//! All threads live in here: one polls each group consumer, one commits for it, one serves each
//! producer, one runs each transactional producer, one reads each topic of a tail and one fetches tokens
//! when the brokers want them. Callers see futures that never block an async worker.

mod admin;
mod client;
mod consumer;
mod context;
mod convert;
mod ends;
mod entrance;
mod flush;
mod oauth;
mod producer;
pub mod settings;
mod tail;
mod transactional;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use self::client::Recipe;
pub use settings::{
    Compression, GroupProtocol, OauthBearer, Sasl, SaslMechanism, Settings, SettingsError, Tls,
};

use crate::error::{AdminError, ConsumeError, ProduceError, TransactionError};
use crate::port::{
    Cluster, Follower, GroupConsumer, GroupOptions, Isolation, PartitionLag, Producer, Record,
    TailEnds, TailRange, TopicDescription, TopicPartition, TopicSpec, TransactionalProducer,
};

/// A Kafka cluster. Making one connects nothing: every client connects when it is made.
#[derive(Debug, Clone)]
pub struct KafkaCluster {
    settings: Arc<Settings>,
    /// What all clients have in common.
    base: Recipe,
    ends: Arc<ends::Ends>,
}

impl KafkaCluster {
    /// Checks the settings and makes the cluster; no connection is opened yet, see
    /// [`Cluster::ping`].
    ///
    /// # Errors
    /// When a setting is missing, cannot be used or contradicts another.
    pub fn connect(settings: Settings) -> Result<Arc<dyn Cluster>, SettingsError> {
        let config = settings.client_config()?;
        let keeper = settings.oauth().map(oauth::Keeper::new).transpose()?;
        let base = Recipe::new(config, keeper);
        let consumer = base.with(settings.consumer_config(&base.config));
        Ok(Arc::new(Self {
            settings: Arc::new(settings),
            base,
            ends: Arc::new(ends::Ends::new(consumer)),
        }))
    }

    /// A consumer's recipe without group settings.
    fn consumer(&self) -> Recipe {
        let config = self.settings.consumer_config(&self.base.config);
        self.base.with(config)
    }
}

impl Cluster for KafkaCluster {
    fn describe(&self) -> String {
        format!("Kafka at {}", self.settings.bootstrap_servers)
    }

    fn is_local(&self) -> bool {
        false
    }

    fn producer(&self, linger: Duration) -> Result<Arc<dyn Producer>, ProduceError> {
        Ok(Arc::new(producer::KafkaProducer::start(
            &self.settings,
            &self.base,
            linger,
        )?))
    }

    fn transactional(
        &self,
        transactional_id: &str,
    ) -> BoxFuture<'_, Result<Box<dyn TransactionalProducer>, TransactionError>> {
        let id = transactional_id.to_owned();
        Box::pin(async move {
            let producer =
                transactional::KafkaTransactional::start(&self.settings, &self.base, id).await?;
            Ok(Box::new(producer) as Box<dyn TransactionalProducer>)
        })
    }

    fn join(&self, options: GroupOptions) -> Result<Box<dyn GroupConsumer>, ConsumeError> {
        Ok(Box::new(consumer::KafkaGroupConsumer::join(
            &self.settings,
            &self.base,
            &options,
        )?))
    }

    fn read_tails(
        &self,
        ranges: Vec<TailRange>,
        isolation: Isolation,
        each: Box<dyn FnMut(Record) + Send>,
    ) -> BoxFuture<'_, Result<TailEnds, ConsumeError>> {
        Box::pin(tail::read(self.consumer(), ranges, isolation, each))
    }

    fn follow(
        &self,
        ranges: Vec<TailRange>,
        isolation: Isolation,
    ) -> Result<Box<dyn Follower>, ConsumeError> {
        Ok(Box::new(tail::KafkaFollower::start(
            self.consumer(),
            ranges,
            isolation,
        )?))
    }

    fn topics(
        &self,
        names: Vec<String>,
    ) -> BoxFuture<'_, Result<BTreeMap<String, TopicDescription>, AdminError>> {
        Box::pin(admin::describe(self.base.clone(), names))
    }

    fn create_topic(&self, spec: TopicSpec) -> BoxFuture<'_, Result<(), AdminError>> {
        Box::pin(admin::create(self.base.clone(), spec))
    }

    fn alter_topic(
        &self,
        name: &str,
        settings: BTreeMap<String, String>,
    ) -> BoxFuture<'_, Result<(), AdminError>> {
        Box::pin(admin::alter(self.base.clone(), name.to_owned(), settings))
    }

    fn lag(
        &self,
        group: &str,
        topics: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<PartitionLag>, AdminError>> {
        Box::pin(admin::lag(self.consumer(), group.to_owned(), topics))
    }

    fn ends(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'_, Result<TailEnds, ConsumeError>> {
        Box::pin(Arc::clone(&self.ends).ask(partitions))
    }

    fn session_timeout(&self, asked: Duration) -> BoxFuture<'_, Result<Duration, AdminError>> {
        match self.settings.group_protocol {
            GroupProtocol::Classic => Box::pin(std::future::ready(Ok(asked))),
            GroupProtocol::Consumer => Box::pin(admin::group_session_timeout(self.base.clone())),
        }
    }

    fn ping(&self, deadline: Duration) -> BoxFuture<'_, Result<(), AdminError>> {
        Box::pin(admin::ping(self.base.clone(), deadline))
    }
}
