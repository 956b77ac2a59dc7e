//! A local log that counts the clients made of it, and refuses group members when told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bongsu_stream::error::{AdminError, ConsumeError, ProduceError, TransactionError};
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::{
    Cluster, Follower, GroupConsumer, GroupOptions, Isolation, PartitionLag, Producer, Record,
    TailEnds, TailRange, TopicDescription, TopicPartition, TopicSpec, TransactionalProducer,
};
use futures_util::future::BoxFuture;

#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) log: LocalCluster,
    pub(crate) producers: AtomicUsize,
    pub(crate) descriptions: AtomicUsize,
    pub(crate) joins: AtomicUsize,
    /// So many members are refused, the first ones.
    pub(crate) refused_joins: usize,
}

impl Cluster for Counted {
    fn describe(&self) -> String {
        self.log.describe()
    }

    fn is_local(&self) -> bool {
        self.log.is_local()
    }

    fn producer(&self, linger: Duration) -> Result<Arc<dyn Producer>, ProduceError> {
        self.producers.fetch_add(1, Ordering::SeqCst);
        self.log.producer(linger)
    }

    fn transactional(
        &self,
        transactional_id: &str,
    ) -> BoxFuture<'_, Result<Box<dyn TransactionalProducer>, TransactionError>> {
        self.log.transactional(transactional_id)
    }

    fn join(&self, options: GroupOptions) -> Result<Box<dyn GroupConsumer>, ConsumeError> {
        if self.joins.fetch_add(1, Ordering::SeqCst) < self.refused_joins {
            return Err(ConsumeError::Client("no member today".to_owned()));
        }
        self.log.join(options)
    }

    fn read_tails(
        &self,
        ranges: Vec<TailRange>,
        isolation: Isolation,
        each: Box<dyn FnMut(Record) + Send>,
    ) -> BoxFuture<'_, Result<TailEnds, ConsumeError>> {
        self.log.read_tails(ranges, isolation, each)
    }

    fn follow(
        &self,
        ranges: Vec<TailRange>,
        isolation: Isolation,
    ) -> Result<Box<dyn Follower>, ConsumeError> {
        self.log.follow(ranges, isolation)
    }

    fn topics(
        &self,
        names: Vec<String>,
    ) -> BoxFuture<'_, Result<BTreeMap<String, TopicDescription>, AdminError>> {
        self.descriptions.fetch_add(1, Ordering::SeqCst);
        self.log.topics(names)
    }

    fn create_topic(&self, spec: TopicSpec) -> BoxFuture<'_, Result<(), AdminError>> {
        self.log.create_topic(spec)
    }

    fn alter_topic(
        &self,
        name: &str,
        settings: BTreeMap<String, String>,
    ) -> BoxFuture<'_, Result<(), AdminError>> {
        self.log.alter_topic(name, settings)
    }

    fn lag(
        &self,
        group: &str,
        topics: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<PartitionLag>, AdminError>> {
        self.log.lag(group, topics)
    }

    fn ends(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'_, Result<TailEnds, ConsumeError>> {
        self.log.ends(partitions)
    }

    fn ping(&self, deadline: Duration) -> BoxFuture<'_, Result<(), AdminError>> {
        self.log.ping(deadline)
    }
}
