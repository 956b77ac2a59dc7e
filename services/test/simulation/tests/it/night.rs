//! Advertising at night through a whole dispatch in virtual time, and what must go on beside it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bongsu_channels::provider::{Attempt, AttemptResult, Provider, ThrottleScope, TryError};
use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{AddressId, Channel, Class, Content, DeliveryId};
use bongsu_runtime::{Health, Metrics, Shutdown};
use bongsu_schemas::{Delivery, Millis, NoLookup, Receipt, records};
use bongsu_simulation::world::{EPOCH_MS, PARTITIONS, World};
use bongsu_stream::port::{
    Cluster as _, From, Headers, Isolation, Outgoing, TailRange, TopicPartition,
};
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// The virtual clock starts 6 minutes and 40 seconds before eight there.
const BEFORE_EIGHT: &str = "Atlantic/Cape_Verde";
/// And as long before nine in the evening there.
const BEFORE_NINE: &str = "Asia/Kamchatka";
/// The begin of the day in the one, and of the night in the other.
const BORDER_MS: i64 = EPOCH_MS + 400_000;
const HOUR_MS: i64 = 3_600_000;

/// Notes who was called and when; the first call to an address that ends in `later` is throttled.
#[derive(Clone)]
pub(crate) struct Noting {
    pub(crate) world: World,
    pub(crate) calls: Arc<Mutex<Vec<(String, u32, i64)>>>,
}

impl Provider for Noting {
    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        let now = self.world.clock.now_millis();
        let results = batch
            .iter()
            .map(|attempt| {
                let event = attempt.delivery.event_id.clone();
                self.calls
                    .lock()
                    .unwrap()
                    .push((event, attempt.number, now));
                if attempt.number == 1 && attempt.delivery.address.address.ends_with("later") {
                    return AttemptResult::Throttled {
                        retry_after: Some(Duration::from_secs(500)),
                        scope: ThrottleScope::Address,
                    };
                }
                AttemptResult::Accepted
            })
            .collect();
        Box::pin(std::future::ready(Ok(results)))
    }
}

/// When an event was sent, oldest call first.
pub(crate) fn calls_of(noting: &Noting, event: &str) -> Vec<i64> {
    let calls = noting.calls.lock().unwrap();
    calls
        .iter()
        .filter(|(id, ..)| id == event)
        .map(|(_, _, at)| *at)
        .collect()
}

pub(crate) fn delivery(
    event: &str,
    address: &str,
    purpose: &str,
    zone: &str,
    useful: i64,
) -> Delivery {
    let address_id = AddressId(address.into());
    let id = DeliveryId::derive(DeliveryParts {
        sender: "shop",
        event_id: event,
        channel: "webhook",
        recipient: address,
        address_id: &address_id,
        step: 0,
    });
    Delivery {
        delivery_id: id.to_string(),
        event_id: event.into(),
        sender: "shop".into(),
        class: "transactional".into(),
        purpose: purpose.into(),
        channel: "webhook".into(),
        recipient: address.into(),
        time_zone: Some(zone.into()),
        country: Some("KR".into()),
        address: format!("https://example.com/{address}"),
        address_id: address_id.0,
        account: "default".into(),
        platform: "server".into(),
        content: records::Content::from(&Content {
            body: Some(event.into()),
            ..Content::default()
        }),
        origin: "event".into(),
        accepted_at: Millis(EPOCH_MS),
        expires_at: Millis(EPOCH_MS + useful),
        on_uncertain: "resend".into(),
        ..Delivery::default()
    }
}

pub(crate) async fn write(world: &World, deliveries: &[Delivery]) {
    let producer = world.log.producer(Duration::ZERO).unwrap();
    for delivery in deliveries {
        let out = Outgoing {
            topic: world
                .topics
                .deliveries(Channel::Webhook, Class::Transactional),
            partition: 0,
            key: Some("shop".into()),
            value: Some(world.codec.encode(delivery).unwrap()),
            headers: Headers::default(),
        };
        producer.send(out).await.unwrap();
    }
}

/// Outcomes so far by event.
pub(crate) async fn outcomes(world: &World) -> Vec<(String, String)> {
    let ranges = (0..PARTITIONS)
        .map(|p| TailRange {
            partition: TopicPartition::new(world.topics.results(), p),
            from: From::Beginning,
            until: None,
        })
        .collect();
    let found: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let (sink, codec) = (Arc::clone(&found), Arc::clone(&world.codec));
    let each = Box::new(move |record: bongsu_stream::port::Record| {
        let receipt: Receipt = codec.decode(record.value.as_deref().unwrap()).unwrap();
        sink.lock()
            .unwrap()
            .push((receipt.event_id, receipt.outcome));
    });
    world
        .log
        .read_tails(ranges, Isolation::Committed, each)
        .await
        .unwrap();
    std::mem::take(&mut *found.lock().unwrap())
}

#[expect(clippy::disallowed_methods, reason = "a test's own process")]
pub(crate) fn start(world: &World, noting: &Noting) -> (JoinHandle<()>, Shutdown) {
    let resources = bongsu_dispatch::Resources {
        cluster: Arc::new(world.log.clone()),
        topics: world.topics.clone(),
        codec: Arc::clone(&world.codec),
        schemas: Arc::new(NoLookup),
        channel: Channel::Webhook,
        provider: Arc::new(noting.clone()),
        rules: Arc::default(),
        clock: world.clock,
        metrics: Metrics::new().unwrap(),
        health: Health::new(),
        worker_id: "dispatch".into(),
        seed: 7,
    };
    let shutdown = Shutdown::new();
    let run = bongsu_dispatch::run(
        bongsu_dispatch::Settings::default(),
        resources,
        shutdown.clone(),
    );
    (tokio::spawn(async move { run.await.unwrap() }), shutdown)
}

pub(crate) async fn until(world: &World, wanted: usize) {
    let wait = async {
        while outcomes(world).await.len() < wanted {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(7_200), wait).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn advertising_waits_for_the_day_and_holds_nobody_up() {
    let world = World::new().await.unwrap();
    let noting = Noting {
        world: world.clone(),
        calls: Arc::default(),
    };
    let day = 24 * HOUR_MS;
    write(
        &world,
        &[
            delivery("ad-1", "a", "advertising", BEFORE_EIGHT, day),
            delivery("ad-2", "a", "advertising", BEFORE_EIGHT, day),
            delivery("late-ad", "b", "advertising", BEFORE_EIGHT, 300_000),
            delivery("behind", "a", "transactional", BEFORE_EIGHT, day),
            delivery("news", "c", "informational", BEFORE_EIGHT, day),
            delivery("day-ad", "d", "advertising", BEFORE_NINE, day),
        ],
    )
    .await;
    let (task, _shutdown) = start(&world, &noting);
    until(&world, 2).await;
    for event in ["news", "day-ad"] {
        let calls = calls_of(&noting, event);
        assert!(
            calls.len() == 1 && calls[0] < EPOCH_MS + 60_000,
            "{calls:?}"
        );
    }
    // The commit does not wait for the day: the keys are in the side lane.
    let commits_on = async {
        let group = world.topics.dispatch_group(Channel::Webhook);
        let topic = world
            .topics
            .deliveries(Channel::Webhook, Class::Transactional);
        loop {
            let lag = world
                .log
                .lag(&group, vec![topic.to_string()])
                .await
                .unwrap();
            if lag.iter().any(|p| p.committed == Some(6)) {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(60), commits_on).await.unwrap();
    // A crash in the night forgets nothing.
    task.abort();
    drop(task.await);
    let (task, shutdown) = start(&world, &noting);
    until(&world, 6).await;
    let mut found = outcomes(&world).await;
    found.sort();
    let accepted = |event: &str| (event.to_owned(), "accepted".to_owned());
    assert_eq!(
        found,
        [
            accepted("ad-1"),
            accepted("ad-2"),
            accepted("behind"),
            accepted("day-ad"),
            ("late-ad".to_owned(), "expired".to_owned()),
            accepted("news"),
        ]
    );
    assert!(calls_of(&noting, "late-ad").is_empty());
    let order: Vec<i64> = ["ad-1", "ad-2", "behind"]
        .iter()
        .flat_map(|event| calls_of(&noting, event))
        .collect();
    assert!(order.len() == 3 && order.is_sorted(), "{order:?}");
    assert!(
        order[0] >= BORDER_MS && order[0] < BORDER_MS + 2_000,
        "{order:?}"
    );
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_falls_into_the_night_waits_for_the_morning() {
    let world = World::new().await.unwrap();
    let noting = Noting {
        world: world.clone(),
        calls: Arc::default(),
    };
    let mut woken = delivery("woken", "agreed-later", "advertising", BEFORE_NINE, HOUR_MS);
    woken.night_consent = true;
    write(
        &world,
        &[
            delivery("ad", "later", "advertising", BEFORE_NINE, HOUR_MS),
            delivery("chat", "chat-later", "transactional", BEFORE_NINE, HOUR_MS),
            woken,
        ],
    )
    .await;
    let (task, shutdown) = start(&world, &noting);
    until(&world, 3).await;
    let mut found = outcomes(&world).await;
    found.sort();
    let with = |event: &str, outcome: &str| (event.to_owned(), outcome.to_owned());
    assert_eq!(
        found,
        [
            with("ad", "expired"),
            with("chat", "accepted"),
            with("woken", "accepted"),
        ]
    );
    assert_eq!(calls_of(&noting, "ad").len(), 1, "one call, before nine");
    for event in ["chat", "woken"] {
        let calls = calls_of(&noting, event);
        assert!(calls.len() == 2 && calls[1] > BORDER_MS, "{calls:?}");
    }
    shutdown.request();
    task.await.unwrap();
}
