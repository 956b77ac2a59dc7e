//! The follower on the local log.

use std::collections::BTreeMap;

use bongsu_domain::{Act, Backlog, Channel};
use bongsu_runtime::{Metrics, Tasks};
use bongsu_schemas::convert::delivery_from_record;
use bongsu_schemas::{NoLookup, records};
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::{Headers, Outgoing, TopicSpec};

use super::*;

const TOPIC: &str = "control";
const NOW: Timestamp = Timestamp(1_000_000);

fn delivery(sender: &str) -> Delivery {
    delivery_from_record(records::Delivery {
        delivery_id: "543ca93d-b1f3-326a-271e-8b06ef78cd5d".into(),
        event_id: "e-1".into(),
        sender: sender.into(),
        class: "transactional".into(),
        purpose: "transactional".into(),
        channel: "webhook".into(),
        recipient: "u-1".into(),
        account: "default".into(),
        platform: "server".into(),
        on_uncertain: "resend".into(),
        campaign_id: Some("spring".into()),
        ..records::Delivery::default()
    })
    .unwrap()
}

fn act(scope: &str, act: Act, until: Option<i64>) -> Control {
    Control {
        scope: scope.parse().unwrap(),
        act,
        who: "ann".into(),
        why: "a test".into(),
        from: NOW,
        until: until.map(Timestamp),
        backlog: Backlog::All,
    }
}

struct World {
    log: LocalCluster,
    codec: Arc<Codec>,
}

impl World {
    async fn new() -> Self {
        let log = LocalCluster::default();
        let spec = TopicSpec {
            name: TOPIC.to_owned(),
            partitions: 1,
            replication: 1,
            settings: BTreeMap::new(),
        };
        log.create_topic(spec).await.unwrap();
        let codec = Arc::new(Codec::default());
        Self { log, codec }
    }

    fn source(&self) -> ControlSource {
        ControlSource {
            cluster: Arc::new(self.log.clone()),
            topic: TOPIC.into(),
            codec: Arc::clone(&self.codec),
            schemas: Arc::new(NoLookup),
            schema_patience: Duration::from_secs(1),
            clock: Clock::starting_at(NOW.0),
            metrics: ControlMetrics::new(&Metrics::new().unwrap(), Channel::Webhook),
        }
    }

    async fn put(&self, key: &str, value: Option<bytes::Bytes>) {
        let record = Outgoing {
            topic: TOPIC.into(),
            partition: 0,
            key: Some(key.to_owned().into()),
            value,
            headers: Headers::default(),
        };
        let producer = self.log.producer(Duration::ZERO).unwrap();
        producer.send(record).await.unwrap();
    }

    async fn act(&self, control: &Control) {
        let value = self.codec.encode(&records::Control::from(control)).unwrap();
        self.put(&control.scope.to_string(), Some(value)).await;
    }
}

/// Waits, as an owner does, until the switch says what is wanted.
async fn until(switch: &mut StopSwitch, delivery: &Delivery, stopped: bool) {
    let wait = async {
        while switch.decide(delivery, NOW).is_some() != stopped {
            switch.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), wait)
        .await
        .expect("a stop or start takes less than two seconds");
}

#[tokio::test(start_paused = true)]
async fn what_was_stopped_before_the_start_holds_from_the_first_moment() {
    let world = World::new().await;
    world.act(&act("sender/shop-1", Act::Stop, None)).await;
    world.act(&act("campaign/spring", Act::Stop, None)).await;
    world.act(&act("campaign/spring", Act::Start, None)).await;
    world
        .act(&act("channel/webhook", Act::Stop, Some(1_000_000)))
        .await;
    let (mut switch, _follower) = start(world.source()).await.unwrap();
    let held = switch.decide(&delivery("shop-1"), NOW).unwrap();
    assert_eq!((held.by, held.until), ("sender", None));
    assert_eq!(switch.decide(&delivery("shop-2"), NOW), None);
}

#[tokio::test(start_paused = true)]
async fn a_stop_wakes_every_owner_and_a_start_or_a_tombstone_ends_it() {
    let world = World::new().await;
    let (mut switch, follower) = start(world.source()).await.unwrap();
    let mut other = switch.clone();
    let shutdown = Shutdown::new();
    let mut tasks = Tasks::new();
    tasks.spawn("control", follower.run(shutdown.clone()));
    let delivery = delivery("shop-1");
    assert_eq!(switch.decide(&delivery, NOW), None);
    for ended_by in ["start", "tombstone"] {
        world
            .act(&act("account/webhook/default", Act::Stop, None))
            .await;
        until(&mut switch, &delivery, true).await;
        until(&mut other, &delivery, true).await;
        match ended_by {
            "start" => {
                world
                    .act(&act("account/webhook/default", Act::Start, None))
                    .await
            }
            _ => world.put("account/webhook/default", None).await,
        }
        until(&mut switch, &delivery, false).await;
        until(&mut other, &delivery, false).await;
    }
    shutdown.request();
    tasks.join().await.unwrap();
    // The follower is gone: the last state holds, and nobody is woken for nothing.
    assert_eq!(switch.decide(&delivery, NOW), None);
    let woken = tokio::time::timeout(Duration::from_secs(60), switch.changed()).await;
    assert!(woken.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_means_nothing_is_passed_over_and_what_was_stopped_stays() {
    let world = World::new().await;
    let stop = act("sender/shop-1", Act::Stop, None);
    world.act(&stop).await;
    world.put("sender/shop-1", Some("rubbish".into())).await;
    let mut newer = records::Control::from(&act("sender/shop-1", Act::Start, None));
    newer.action = "slow_down".into();
    let value = world.codec.encode(&newer).unwrap();
    world.put("sender/shop-1", Some(value)).await;
    world.put("planet/earth", None).await;
    // A value under another's key would be compacted away with the wrong scope.
    let strange = world.codec.encode(&records::Control::from(&stop)).unwrap();
    world.put("sender/shop-2", Some(strange)).await;
    let (mut switch, _follower) = start(world.source()).await.unwrap();
    assert!(switch.decide(&delivery("shop-1"), NOW).is_some());
    assert_eq!(switch.decide(&delivery("shop-2"), NOW), None);
}

#[tokio::test]
async fn without_its_topic_nothing_starts() {
    let world = World::new().await;
    let mut source = world.source();
    source.topic = "elsewhere".into();
    let error = start(source).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("bongsu topics apply"), "{error}");
}

#[test]
fn an_open_switch_stops_nothing() {
    let mut switch = StopSwitch::open();
    assert_eq!(switch.decide(&delivery("shop-1"), NOW), None);
}
