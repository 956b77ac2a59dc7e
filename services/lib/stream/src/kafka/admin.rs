//! Topics, lag and reachability. Blocking look-ups run on tokio's blocking threads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Kept, Recipe};
use super::context::Plain;
use super::entrance::Entrance;
use crate::error::AdminError;
use crate::port::{PartitionLag, TopicDescription, TopicPartition, TopicSpec};

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(15);

/// How long a new topic may take to be visible everywhere.
const VISIBLE: Duration = Duration::from_secs(10);

/// How long a ping waits before it listens why there is no answer.
const ASK: Duration = Duration::from_millis(500);

type Client = Kept<AdminClient<Plain>>;

fn client(recipe: &Recipe) -> Result<Client, AdminError> {
    recipe.make(Plain).map_err(|e| unavailable(&e))
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST))
        .operation_timeout(Some(REQUEST))
}

fn unavailable(error: &KafkaError) -> AdminError {
    AdminError::Unavailable(error.to_string())
}

fn refused(what: &str, error: RDKafkaErrorCode) -> AdminError {
    AdminError::Refused {
        what: what.to_owned(),
        reason: error.to_string(),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AdminError> + Send + 'static,
) -> Result<T, AdminError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(AdminError::Unavailable(e.to_string())))
}

/// A shape without its settings.
fn shape(topic: &MetadataTopic) -> TopicDescription {
    let copies = topic
        .partitions()
        .iter()
        .map(|p| p.replicas().len())
        .min()
        .unwrap_or(0);
    TopicDescription {
        partitions: i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX),
        replication: i32::try_from(copies).unwrap_or(i32::MAX),
        settings: BTreeMap::new(),
    }
}

fn shapes(
    client: &Client,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, TopicDescription>, AdminError> {
    // All topics, because asking for one by name may create it.
    let metadata = client
        .inner()
        .fetch_metadata(None, REQUEST)
        .map_err(|e| unavailable(&e))?;
    Ok(metadata
        .topics()
        .iter()
        .filter(|t| t.error().is_none() && !t.partitions().is_empty() && names.contains(t.name()))
        .map(|t| (t.name().to_owned(), shape(t)))
        .collect())
}

/// The settings of topics that differ from the broker's.
async fn settings_of(
    client: &Client,
    names: &[&str],
) -> Result<Vec<BTreeMap<String, String>>, AdminError> {
    let asked: Vec<_> = names.iter().map(|n| ResourceSpecifier::Topic(n)).collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let answers = client
        .describe_configs(asked.iter(), &options())
        .await
        .map_err(|e| unavailable(&e))?;
    answers
        .into_iter()
        .map(|answer| {
            let resource = answer.map_err(|e| refused("describe a topic", e))?;
            Ok(resource
                .entries
                .into_iter()
                .filter(|e| e.source == ConfigSource::DynamicTopic)
                .filter_map(|e| Some((e.name, e.value?)))
                .collect())
        })
        .collect()
}

pub(super) async fn describe(
    recipe: Recipe,
    names: Vec<String>,
) -> Result<BTreeMap<String, TopicDescription>, AdminError> {
    recipe.ready(REQUEST).await?;
    let names: BTreeSet<String> = names.into_iter().collect();
    let (client, mut topics) = blocking(move || {
        let client = client(&recipe)?;
        let topics = shapes(&client, &names)?;
        Ok((client, topics))
    })
    .await?;
    let known: Vec<String> = topics.keys().cloned().collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let settings = settings_of(&client, &known).await?;
    for (topic, settings) in topics.values_mut().zip(settings) {
        topic.settings = settings;
    }
    drop_off_worker(client);
    Ok(topics)
}

/// Dropping an admin client joins its poll thread, which may take 100 ms.
fn drop_off_worker(client: Client) {
    drop(tokio::task::spawn_blocking(move || drop(client)));
}

pub(super) async fn create(recipe: Recipe, spec: TopicSpec) -> Result<(), AdminError> {
    recipe.ready(REQUEST).await?;
    let client = client(&recipe)?;
    let mut topic = NewTopic::new(
        &spec.name,
        spec.partitions,
        TopicReplication::Fixed(spec.replication),
    );
    for (key, value) in &spec.settings {
        topic = topic.set(key, value);
    }
    let what = format!("create {}", spec.name);
    let answers = client
        .create_topics([&topic], &options())
        .await
        .map_err(|e| unavailable(&e))?;
    for answer in answers {
        answer.map_err(|(_, code)| refused(&what, code))?;
    }
    // The controller answers before every broker knows: who writes at once would be refused.
    let wanted = BTreeSet::from([spec.name.clone()]);
    blocking(move || {
        let until = std::time::Instant::now() + VISIBLE;
        while shapes(&client, &wanted)?.is_empty() {
            if std::time::Instant::now() > until {
                return Err(AdminError::Unavailable(format!(
                    "{what}: it does not appear"
                )));
            }
        }
        drop(client);
        Ok(())
    })
    .await
}

/// Kafka's old request, the only one rust-rdkafka has, replaces *all* settings of a topic; so what
/// is there is read first and sent again. Two changes at the same moment can undo one another.
pub(super) async fn alter(
    recipe: Recipe,
    name: String,
    settings: BTreeMap<String, String>,
) -> Result<(), AdminError> {
    recipe.ready(REQUEST).await?;
    let client = client(&recipe)?;
    let mut union = settings_of(&client, &[&name])
        .await?
        .pop()
        .unwrap_or_default();
    union.extend(settings);
    let alter = union.iter().fold(
        AlterConfig::new(ResourceSpecifier::Topic(&name)),
        |a, (k, v)| a.set(k, v),
    );
    let answers = client
        .alter_configs([&alter], &options())
        .await
        .map_err(|e| unavailable(&e))?;
    drop_off_worker(client);
    for answer in answers {
        answer.map_err(|(_, code)| refused(&format!("alter {name}"), code))?;
    }
    Ok(())
}

pub(super) async fn lag(
    mut recipe: Recipe,
    group: String,
    topics: Vec<String>,
) -> Result<Vec<PartitionLag>, AdminError> {
    recipe.ready(REQUEST).await?;
    recipe
        .config
        .set("group.id", &group)
        .set("isolation.level", "read_committed");
    blocking(move || {
        let client: Kept<BaseConsumer<Plain>> = recipe.make(Plain).map_err(|e| unavailable(&e))?;
        let mut lags = Vec::new();
        for topic in topics {
            let metadata = client
                .fetch_metadata(Some(&topic), REQUEST)
                .map_err(|e| unavailable(&e))?;
            let mut list = TopicPartitionList::new();
            for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
                list.add_partition(&topic, partition.id());
            }
            if list.count() == 0 {
                return Err(refused(
                    &format!("describe {topic}"),
                    RDKafkaErrorCode::UnknownTopicOrPartition,
                ));
            }
            lags.extend(patient_lag(&client, &list).map_err(|e| unavailable(&e))?);
        }
        Ok(lags)
    })
    .await
}

/// [`topic_lag`], asked again while the group's coordinator moves: brokers that just started or lost a
/// member answer so for a moment.
fn patient_lag(
    client: &BaseConsumer<Plain>,
    list: &TopicPartitionList,
) -> Result<Vec<PartitionLag>, KafkaError> {
    const AGAIN: Duration = Duration::from_millis(200);
    let deadline = std::time::Instant::now() + REQUEST;
    loop {
        let error = match topic_lag(client, list.clone()) {
            Ok(lags) => return Ok(lags),
            Err(error) => error,
        };
        let moving = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::NotCoordinator
                    | RDKafkaErrorCode::CoordinatorNotAvailable
                    | RDKafkaErrorCode::CoordinatorLoadInProgress
            )
        );
        if !moving || std::time::Instant::now() + AGAIN > deadline {
            return Err(error);
        }
        // Not assigned to anything, it only hears of the brokers meanwhile.
        drop(client.poll(AGAIN));
    }
}

fn topic_lag(
    client: &BaseConsumer<Plain>,
    list: TopicPartitionList,
) -> Result<Vec<PartitionLag>, KafkaError> {
    let mut ends = list.clone();
    ends.set_all_offsets(Offset::End)?;
    let ends = client.offsets_for_times(ends, REQUEST)?;
    let committed = client.committed_offsets(list, REQUEST)?;
    committed
        .elements()
        .iter()
        .map(|elem| {
            elem.error()?;
            let end = ends.find_partition(elem.topic(), elem.partition());
            Ok(PartitionLag {
                partition: TopicPartition::new(elem.topic(), elem.partition()),
                committed: absolute(elem.offset()),
                end: end.and_then(|e| absolute(e.offset())).unwrap_or(0),
            })
        })
        .collect()
}

fn absolute(offset: Offset) -> Option<i64> {
    match offset {
        Offset::Offset(n) => Some(n),
        Offset::Beginning
        | Offset::End
        | Offset::Stored
        | Offset::Invalid
        | Offset::OffsetTail(_) => None,
    }
}

pub(super) async fn ping(mut recipe: Recipe, deadline: Duration) -> Result<(), AdminError> {
    let until = std::time::Instant::now() + deadline;
    recipe.ready(deadline).await?;
    // Of all clients, a consumer tells what happens while it connects; it joins no group here.
    recipe.config.set("group.id", "bongsu-ping-without-group");
    blocking(move || {
        let context = Entrance::default();
        let client: Kept<BaseConsumer<Entrance>> =
            recipe.make(context.clone()).map_err(|e| unavailable(&e))?;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            match client.fetch_metadata(None, left.min(ASK)) {
                Ok(_) => return Ok(()),
                Err(error) => {
                    // What was heard goes to the context.
                    while client.poll(Duration::ZERO).is_some() {}
                    if left <= ASK || context.is_certain() {
                        return Err(context.refusal().unwrap_or_else(|| unavailable(&error)));
                    }
                }
            }
        }
    })
    .await
}

/// The session timeout of groups that the broker keeps (KIP-848), as the broker has it. A setting of
/// one group alone cannot be read with this client; such a one must not be shorter.
pub(super) async fn group_session_timeout(recipe: Recipe) -> Result<Duration, AdminError> {
    /// The broker's setting. [R: Apache Kafka 4.1, broker configs]
    const KEY: &str = "group.consumer.session.timeout.ms";
    recipe.ready(REQUEST).await?;
    let asking = recipe.clone();
    let broker = blocking(move || {
        let client = client(&asking)?;
        let metadata = client
            .inner()
            .fetch_metadata(None, REQUEST)
            .map_err(|e| unavailable(&e))?;
        let first = metadata.brokers().iter().map(|b| b.id()).min();
        first.ok_or_else(|| AdminError::Unavailable("no broker is known".to_owned()))
    })
    .await?;
    let client = client(&recipe)?;
    let asked = [ResourceSpecifier::Broker(broker)];
    let answers = client
        .describe_configs(asked.iter(), &options())
        .await
        .map_err(|e| unavailable(&e))?;
    let mut entries = Vec::new();
    for answer in answers {
        let resource = answer.map_err(|e| refused("describe a broker", e))?;
        entries.extend(resource.entries);
    }
    let value = entries.into_iter().find(|e| e.name == KEY);
    let millis = value.and_then(|e| e.value?.parse().ok());
    millis.map(Duration::from_millis).ok_or_else(|| {
        AdminError::Unavailable(format!(
            "the broker has no {KEY}: it is too old for group_protocol = \"consumer\""
        ))
    })
}
