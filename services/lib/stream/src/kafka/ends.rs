//! Ends of partitions, asked often: one client is kept for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Kept, Recipe};
use super::context::Plain;
use crate::error::ConsumeError;
use crate::port::{TailEnds, TopicPartition};

/// How long the brokers may take to answer.
const LOOK_UP: Duration = Duration::from_secs(5);

type Client = Kept<BaseConsumer<Plain>>;

/// Asks for ends; the client is made at the first question.
pub(super) struct Ends {
    recipe: Recipe,
    client: Mutex<Option<Arc<Client>>>,
}

impl std::fmt::Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ends")
    }
}

impl Ends {
    pub(super) fn new(mut recipe: Recipe) -> Self {
        // librdkafka wants a group name even of a client that joins none.
        recipe
            .config
            .set("group.id", "bongsu-ends-without-group")
            .set("isolation.level", "read_uncommitted");
        Self {
            recipe,
            client: Mutex::new(None),
        }
    }

    fn client(&self) -> Result<Arc<Client>, ConsumeError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = client.as_ref() {
            return Ok(Arc::clone(client));
        }
        let made = self
            .recipe
            .make(Plain)
            .map_err(|e| ConsumeError::Client(e.to_string()))?;
        Ok(Arc::clone(client.insert(Arc::new(made))))
    }

    /// One request per broker that leads some of the partitions.
    pub(super) async fn ask(
        self: Arc<Self>,
        partitions: Vec<TopicPartition>,
    ) -> Result<TailEnds, ConsumeError> {
        self.recipe.ready(LOOK_UP).await?;
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
