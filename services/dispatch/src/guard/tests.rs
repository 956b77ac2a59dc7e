//! Settings, the guard of a partition, and its restore on the local log.

use bongsu_domain::Class;
use bongsu_runtime::Metrics;
use bongsu_schemas::convert::delivery_from_record;
use bongsu_schemas::{NoLookup, records};
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::{Headers, TopicSpec};

use super::*;
use crate::receipts::{Ended, outcome_record};

const NOW: Timestamp = Timestamp(1_760_000_000_000);

fn delivery(event: &str, content: u64) -> Delivery {
    delivery_from_record(records::Delivery {
        delivery_id: uuid_of(event),
        event_id: event.into(),
        sender: "shop-1".into(),
        class: "transactional".into(),
        purpose: "transactional".into(),
        channel: "webhook".into(),
        recipient: "u-1".into(),
        address_id: "a-1".into(),
        account: "default".into(),
        platform: "server".into(),
        on_uncertain: "resend".into(),
        content_hash: ContentHash(content).to_hex(),
        ..records::Delivery::default()
    })
    .unwrap()
}

fn uuid_of(event: &str) -> String {
    let hash = bongsu_domain::identity::hash64(&[event.as_bytes()]);
    format!(
        "543ca93d-b1f3-326a-{:04x}-{:012x}",
        hash >> 48,
        hash & 0xffff_ffff_ffff
    )
}

fn metrics() -> (Metrics, DispatchMetrics) {
    let metrics = Metrics::new().unwrap();
    let handles = DispatchMetrics::new(&metrics, Channel::Webhook, Class::Transactional);
    (metrics, handles)
}

fn limit() -> RepeatLimit {
    let settings = GuardSettings {
        channels: Some(vec![Channel::Webhook]),
        ..GuardSettings::default()
    };
    settings.limit(Channel::Webhook).unwrap()
}

#[test]
fn a_channel_is_guarded_when_it_costs_money_or_the_settings_say_so() {
    let mut settings = GuardSettings::default();
    for channel in Channel::ALL {
        let guarded = settings.limit(*channel).is_some();
        assert_eq!(guarded, channel.is_paid(), "{channel}");
    }
    settings.channels = Some(Vec::new());
    assert!(Channel::ALL.iter().all(|c| settings.limit(*c).is_none()));
    settings.channels = Some(vec![Channel::Discord]);
    assert!(settings.limit(Channel::Webhook).is_none());
    let limit = settings.limit(Channel::Discord).unwrap();
    assert_eq!((limit.copies, limit.window_ms), (3, 600_000));
    assert_eq!(limit.max_copies, 65_536);
}

#[test]
fn settings_that_guard_nothing_are_refused_all_at_once() {
    let settings = GuardSettings {
        copies: 0,
        window: Duration::millis(10),
        ..GuardSettings::default()
    };
    let told = settings.complaints("dispatch.repeat_guard");
    let keys: Vec<_> = told.iter().map(|c| c.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "dispatch.repeat_guard.copies",
            "dispatch.repeat_guard.window"
        ]
    );
    assert!(GuardSettings::default().complaints("x").is_empty());
    let small = GuardSettings {
        memory: ByteSize(95),
        ..GuardSettings::default()
    };
    assert_eq!(small.complaints("x").len(), 1);
}

#[test]
fn the_fourth_copy_ends_as_suppressed_and_other_content_goes_on() {
    let (_, handles) = metrics();
    let mut guard = Guard::new(limit(), Vec::new(), NOW, handles);
    for n in 0..3 {
        let copy = delivery(&format!("e-{n}"), 7);
        assert_eq!(guard.check(&copy, NOW), None);
    }
    let held = guard.check(&delivery("e-3", 7), NOW).unwrap();
    assert_eq!(
        (held.outcome, held.reason),
        (Outcome::Suppressed, Reason::Repeat)
    );
    assert_eq!(guard.check(&delivery("e-4", 8), NOW), None);
    let later = NOW.plus_millis(600_000);
    assert_eq!(guard.check(&delivery("e-5", 7), later), None);
}

#[test]
fn what_is_forgotten_early_is_counted() {
    let (metrics, handles) = metrics();
    let limit = RepeatLimit {
        max_copies: 2,
        ..limit()
    };
    let mut guard = Guard::new(limit, Vec::new(), NOW, handles);
    for content in 1..=5 {
        assert_eq!(guard.check(&delivery("e", content), NOW), None);
    }
    let text = metrics.render().unwrap();
    let line = text
        .lines()
        .find(|l| l.starts_with("bongsu_repeat_guard_forgotten_total"));
    assert!(line.is_some_and(|l| l.ends_with(" 3")), "{text}");
}

struct Results {
    log: LocalCluster,
    codec: Codec,
}

impl Results {
    async fn new() -> Self {
        let log = LocalCluster::default();
        let spec = TopicSpec {
            name: "results".to_owned(),
            partitions: 2,
            replication: 1,
            settings: BTreeMap::new(),
        };
        log.create_topic(spec).await.unwrap();
        let codec = Codec::default();
        Self { log, codec }
    }

    async fn ended(&self, topic: &str, partition: i32, delivery: &Delivery, attempts: u32) {
        let source = Record {
            topic: topic.into(),
            partition,
            offset: 0,
            timestamp: 0,
            key: None,
            value: None,
            headers: Headers::default(),
        };
        let ended = Ended {
            settled: Settled::ACCEPTED,
            attempts,
            at: NOW,
            possible_duplicate: false,
        };
        let record = outcome_record(
            &self.codec,
            &"results".into(),
            &source,
            delivery,
            ended,
            None,
            "worker",
        )
        .unwrap();
        let producer = self.log.producer(Span::ZERO).unwrap();
        producer.send(record).await.unwrap();
    }

    async fn started(&self) -> BTreeMap<i32, Vec<Copied>> {
        let source = StartedSource {
            cluster: &self.log,
            results: "results".into(),
            deliveries: "deliveries".into(),
            lanes: "lanes".into(),
            codec: &self.codec,
            schemas: &NoLookup,
            schema_patience: Span::from_secs(1),
        };
        read_started(&source, &[0, 1], Timestamp(0)).await.unwrap()
    }
}

#[tokio::test]
async fn a_successor_counts_what_was_sent_before_it() {
    let results = Results::new().await;
    results.ended("deliveries", 1, &delivery("e-1", 7), 1).await;
    results.ended("deliveries", 1, &delivery("e-2", 7), 4).await;
    // The same outcome twice, another class, and one that never started: none of them counts more.
    results.ended("deliveries", 1, &delivery("e-2", 7), 4).await;
    results
        .ended("deliveries.bulk", 1, &delivery("e-3", 7), 1)
        .await;
    results.ended("deliveries", 1, &delivery("e-4", 7), 0).await;
    let mut started = results.started().await;
    assert_eq!(started.get(&0), None);
    let (_, handles) = metrics();
    let known = started.remove(&1).unwrap_or_default();
    assert_eq!(known.len(), 2);
    let mut guard = Guard::new(limit(), known, NOW, handles);
    assert_eq!(guard.check(&delivery("e-5", 7), NOW), None);
    assert!(guard.check(&delivery("e-6", 7), NOW).is_some());
}
