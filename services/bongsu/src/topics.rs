//! `bongsu topics plan|apply`: the topics of an installation, and the schemas in them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_domain::{Channel, Class};
use bongsu_schemas::Topics;
use bongsu_schemas::codec::current_schemas;
use bongsu_stream::port::{Cluster, Headers, Outgoing, TopicSpec};
use bongsu_stream::schema_source::fingerprint_key;
use bongsu_stream::topics::{apply, plan};

use crate::config::{Config, TopicSettings};
use crate::error::Usage;
use crate::output::{say, say_json};
use crate::registry;

/// Largest record of the topics that hold events and deliveries (design: 1 MiB).
const RECORD_BYTES: usize = 1024 * 1024;
/// Largest dead letter: any record above, with its reason headers.
const DEAD_LETTER_BYTES: usize = 2 * 1024 * 1024;

/// The topics an installation should have.
pub(crate) fn wishes(settings: &TopicSettings, channels: &[Channel]) -> Vec<TopicSpec> {
    let topics = Topics::new(settings.prefix.clone());
    let millis = |d: bongsu_runtime::Duration| d.0.as_millis().to_string();
    let kept = |bytes: usize, retention: bongsu_runtime::Duration| {
        BTreeMap::from([
            ("cleanup.policy".to_owned(), "delete".to_owned()),
            ("retention.ms".to_owned(), millis(retention)),
            ("max.message.bytes".to_owned(), bytes.to_string()),
        ])
    };
    let data = kept(RECORD_BYTES, settings.retention);
    let mut events = data.clone();
    // Repeats are judged by broker time, which no publisher's clock can move.
    events.insert(
        "message.timestamp.type".to_owned(),
        "LogAppendTime".to_owned(),
    );
    // No note is needed once its events are out of the longest window (24 h) there can be.
    let mut seen = kept(RECORD_BYTES, bongsu_runtime::Duration::secs(25 * 3_600));
    seen.insert(
        "message.timestamp.type".to_owned(),
        "LogAppendTime".to_owned(),
    );
    // A checkpoint of a pinned partition may be large; parked deliveries carry headers of their own.
    let journal = kept(DEAD_LETTER_BYTES, settings.retention);
    let compacted = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
    let n = settings.partitions;
    let mut out: Vec<(Arc<str>, i32, BTreeMap<String, String>)> = Vec::new();
    for class in Class::ALL {
        out.push((topics.events(*class), n, events.clone()));
        out.push((topics.seen(*class), n, seen.clone()));
        for channel in channels {
            out.push((topics.deliveries(*channel, *class), n, data.clone()));
            out.push((topics.journal(*channel, *class), n, journal.clone()));
            out.push((topics.lanes(*channel, *class), n, journal.clone()));
        }
    }
    out.push((topics.results(), n, data));
    let letters = kept(DEAD_LETTER_BYTES, settings.dead_letter_retention);
    out.push((topics.dead_letters(), n, letters.clone()));
    out.push((topics.audit(), 1, letters));
    let reports = kept(RECORD_BYTES, bongsu_runtime::Duration::secs(72 * 3_600));
    out.push((topics.reports(), n, reports));
    for small in [topics.schemas(), topics.control(), topics.suppressions()] {
        out.push((small, 1, compacted.clone()));
    }
    out.push((topics.limits(), 1, limits()));
    out.into_iter()
        .map(|(name, partitions, mut owned)| {
            owned.insert(
                "min.insync.replicas".to_owned(),
                settings.min_insync_replicas.to_string(),
            );
            TopicSpec {
                name: name.to_string(),
                partitions,
                replication: settings.replication,
                settings: owned,
            }
        })
        .collect()
}

/// Shares of limits live for seconds, and expire by broker time, which no worker's clock can move.
fn limits() -> BTreeMap<String, String> {
    [
        ("cleanup.policy", "compact,delete"),
        ("message.timestamp.type", "LogAppendTime"),
        ("retention.ms", "3600000"),
        ("segment.ms", "600000"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Shows what would change, and changes it when asked to.
pub(crate) async fn topics(
    cluster: &dyn Cluster,
    config: &Config,
    change: bool,
    json: bool,
) -> anyhow::Result<()> {
    let settings = &config.topics;
    let wishes = wishes(settings, &config.active_channels());
    let planned = plan(cluster, &wishes).await?;
    if json {
        say_json(&planned);
    } else {
        say(planned.to_string().trim_end());
    }
    if planned.is_refused() {
        return Err(Usage("a topic is in the way; nothing was changed".to_owned()).into());
    }
    if change {
        apply(cluster, &planned).await?;
        publish_schemas(cluster, settings).await?;
        let subjects = registry::register(config).await?;
        if !json {
            say("applied; the current schemas are published");
            if subjects > 0 {
                say(&format!("{subjects} subjects are in the schema registry"));
            }
        }
    }
    Ok(())
}

/// Makes the topics of a fresh log without a word.
pub(crate) async fn ensure(cluster: &dyn Cluster, config: &Config) -> anyhow::Result<()> {
    let settings = &config.topics;
    let planned = plan(cluster, &wishes(settings, &config.active_channels())).await?;
    if planned.is_refused() {
        return Err(Usage(planned.to_string()).into());
    }
    apply(cluster, &planned).await?;
    publish_schemas(cluster, settings).await?;
    registry::register(config).await?;
    Ok(())
}

async fn publish_schemas(cluster: &dyn Cluster, settings: &TopicSettings) -> anyhow::Result<()> {
    let topics = Topics::new(settings.prefix.clone());
    let producer = cluster.producer(Duration::ZERO)?;
    for current in current_schemas() {
        producer
            .send(Outgoing {
                topic: topics.schemas(),
                partition: 0,
                key: Some(fingerprint_key(current.fingerprint).into()),
                value: Some(current.text.into()),
                headers: Headers::default(),
            })
            .await
            .context("publishing the schemas")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_channels_in_use_have_topics() {
        let settings = TopicSettings::default();
        let of = |channels: &[Channel]| {
            let names = wishes(&settings, channels).into_iter().map(|w| w.name);
            names.collect::<Vec<_>>()
        };
        let both = of(&settings.channels);
        assert!(both.iter().any(|name| name.contains("deliveries.webhook")));
        assert!(!both.iter().any(|name| name.contains("apns")));
        let apns = of(&[Channel::Apns]);
        let own = |kind: &str| format!("bongsu.{kind}.apns");
        for kind in ["deliveries", "journal", "lanes"] {
            assert!(apns.contains(&own(kind)), "{kind} {apns:?}");
            assert!(apns.contains(&format!("{}.bulk", own(kind))), "{kind}");
        }
        assert!(!apns.iter().any(|name| name.contains("webhook")));
    }
}
