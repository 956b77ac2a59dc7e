//! Our schemas in a schema registry: registered by `topics apply`, looked up at every start.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use bongsu_domain::{Channel, Class};
use bongsu_schemas::codec::{AvroRecord, Framing};
use bongsu_schemas::{
    AuditEntry, Control, Delivery, JournalEntry, NotificationEvent, RateShare, Receipt,
    Suppression, Topics,
};
use bongsu_stream::schema_source::Registry;

use crate::config::Config;
use crate::error::Usage;

/// A record type and a topic that holds it. Its subject is `<topic>-value`, the strategy that clients
/// of a registry use unless told otherwise.
struct Subject {
    topic: Arc<str>,
    record: &'static str,
    schema: &'static str,
}

impl Subject {
    fn of<T: AvroRecord>(topic: Arc<str>) -> Self {
        Self {
            topic,
            record: T::NAME,
            schema: T::current().text,
        }
    }

    fn name(&self) -> String {
        format!("{}-value", self.topic)
    }
}

fn subjects(topics: &Topics, channels: &[Channel]) -> Vec<Subject> {
    let mut all = Vec::new();
    for class in Class::ALL {
        all.push(Subject::of::<NotificationEvent>(topics.events(*class)));
        for channel in channels {
            all.push(Subject::of::<Delivery>(topics.deliveries(*channel, *class)));
            all.push(Subject::of::<Delivery>(topics.lanes(*channel, *class)));
            all.push(Subject::of::<JournalEntry>(
                topics.journal(*channel, *class),
            ));
        }
    }
    all.push(Subject::of::<Receipt>(topics.results()));
    all.push(Subject::of::<Control>(topics.control()));
    all.push(Subject::of::<AuditEntry>(topics.audit()));
    all.push(Subject::of::<RateShare>(topics.limits()));
    all.push(Subject::of::<Suppression>(topics.suppressions()));
    all
}

fn client(config: &Config) -> anyhow::Result<Option<Registry>> {
    let writing = config.registry.clone().filter(|settings| settings.write);
    Ok(writing.map(Registry::new).transpose()?)
}

fn all(config: &Config) -> Vec<Subject> {
    let topics = Topics::new(config.topics.prefix.clone());
    subjects(&topics, &config.active_channels())
}

/// Registers every schema under the subject of every topic; how many subjects there are, 0 without a
/// registry to write to.
pub(crate) async fn register(config: &Config) -> anyhow::Result<usize> {
    let Some(registry) = client(config)? else {
        return Ok(0);
    };
    let all = all(config);
    for subject in &all {
        registry.register(&subject.name(), subject.schema).await?;
    }
    Ok(all.len())
}

/// How this installation writes: with the registry's ids when there is one to write to.
pub(crate) async fn framing(config: &Config) -> anyhow::Result<Framing> {
    let Some(registry) = client(config)? else {
        return Ok(Framing::SingleObject);
    };
    let mut ids = HashMap::new();
    for subject in all(config) {
        if ids.contains_key(subject.record) {
            continue;
        }
        let found = registry.look_up(&subject.name(), subject.schema).await;
        let id = found.context("registry.url")?.ok_or_else(|| {
            Usage(format!(
                "the schema registry does not know the present schema of {}; run `bongsu topics \
                 apply`, or set registry.write = false",
                subject.name()
            ))
        })?;
        ids.insert(subject.record, id);
    }
    Ok(Framing::Confluent(ids))
}
