//! Ends of partitions, asked often: one client is kept for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::context::Plain;
use crate::error::ConsumeError;
use crate::port::{TailEnds, TopicPartition};

/// How long the brokers may take to answer.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Asks for ends; the client is made at the first question.
pub(super) struct Ends {
    config: ClientConfig,
    client: Mutex<Option<Arc<BaseConsumer<Plain>>>>,
}

impl std::fmt::Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ends")
    }
}

impl Ends {
    pub(super) fn new(mut config: ClientConfig) -> Self {
        // librdkafka wants a group name even of a client that joins none.
        config
            .set("group.id", "bongsu-ends-without-group")
            .set("isolation.level", "read_uncommitted");
        Self {
            config,
            client: Mutex::new(None),
        }
    }

    fn client(&self) -> Result<Arc<BaseConsumer<Plain>>, ConsumeError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = client.as_ref() {
            return Ok(Arc::clone(client));
        }
        let made = BaseConsumer::from_config_and_context(&self.config, Plain)
            .map_err(|e| ConsumeError::Client(e.to_string()))?;
        Ok(Arc::clone(client.insert(Arc::new(made))))
    }

    /// One request per broker that leads some of the partitions.
    pub(super) async fn ask(
        self: Arc<Self>,
        partitions: Vec<TopicPartition>,
    ) -> Result<TailEnds, ConsumeError> {
        let asked = tokio::task::spawn_blocking(move || {
            let unavailable =
                |e: rdkafka::error::KafkaError| ConsumeError::Unavailable(e.to_string());
            let mut list = TopicPartitionList::new();
            for partition in &partitions {
                list.add_partition_offset(&partition.topic, partition.partition, Offset::End)
                    .map_err(unavailable)?;
            }
            let found = self
                .client()?
                .offsets_for_times(list, LOOK_UP)
                .map_err(unavailable)?;
            let mut ends = TailEnds::new();
            for elem in found.elements() {
                elem.error().map_err(unavailable)?;
                if let Offset::Offset(end) = elem.offset() {
                    ends.insert(TopicPartition::new(elem.topic(), elem.partition()), end);
                }
            }
            Ok(ends)
        });
        asked
            .await
            .unwrap_or_else(|e| Err(ConsumeError::Unavailable(e.to_string())))
    }
}
