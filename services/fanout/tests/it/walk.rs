use std::sync::Arc;
use std::time::Duration;

use bongsu_domain::{
    AddressId, Channel, Event, Hold, OnUncertain, Reason, Recipient, Suppression, Timestamp,
    partition_of,
};
use bongsu_fanout::lookup::RecipientLookup;
use bongsu_schemas::suppression::SuppressionChange;
use bongsu_schemas::{Delivery, Receipt};
use bongsu_stream::local::FaultPlan;
use bongsu_stream::port::Record;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::world::{N, World, event, sender_in};

fn ids(world: &World, records: &[Record], sender: &str) -> Vec<String> {
    records
        .iter()
        .map(|r| {
            world
                .codec
                .decode::<Delivery>(r.value.as_deref().unwrap())
                .unwrap()
        })
        .filter(|d| d.sender == sender)
        .map(|d| d.event_id)
        .collect()
}

fn reason(record: &Record) -> &str {
    record.headers.text("bongsu-reason").unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_event_becomes_its_deliveries_in_order_at_home() {
    let world = World::new().await;
    let fanout = world.start();
    for n in 0..20 {
        world
            .publish(
                "shop",
                event("shop", &format!("e{n}")).to_string().into(),
                None,
            )
            .await;
    }
    let records = world.wait_for(&world.deliveries(), 20).await;
    let wanted: Vec<_> = (0..20).map(|n| format!("e{n}")).collect();
    assert_eq!(ids(&world, &records, "shop"), wanted);
    for record in &records {
        assert_eq!(record.partition, partition_of(b"shop", N));
        assert_eq!(record.key.as_deref(), Some(b"shop".as_slice()));
        assert!(record.headers.text("bongsu-delivery-id").is_some());
    }
    fanout.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_to_do_with_the_uncertain_is_passed_on_to_the_delivery() {
    let world = World::new().await;
    let fanout = world.start();
    for policy in OnUncertain::ALL {
        let mut event = event("shop", policy.as_str());
        event["on_uncertain"] = policy.as_str().into();
        world.publish("shop", event.to_string().into(), None).await;
    }
    let records = world.wait_for(&world.deliveries(), 3).await;
    let asked: Vec<String> = records
        .iter()
        .map(|r| {
            let value = r.value.as_deref().unwrap();
            world.codec.decode::<Delivery>(value).unwrap().on_uncertain
        })
        .collect();
    assert_eq!(asked, ["resend", "resend_if_idempotent", "never_resend"]);
    fanout.stop().await;
}

#[tokio::test(start_paused = true)]
async fn repeats_are_dropped_also_after_a_crash_and_conflicts_are_told() {
    let world = World::new().await;
    let fanout = world.start();
    world
        .publish("shop", event("shop", "e1").to_string().into(), None)
        .await;
    world.wait_for(&world.deliveries(), 1).await;
    fanout.crash().await;
    let fanout = world.start();
    world
        .publish("shop", event("shop", "e1").to_string().into(), None)
        .await;
    let mut other = event("shop", "e1");
    other["content"]["body"] = "something else".into();
    world.publish("shop", other.to_string().into(), None).await;
    world
        .publish("shop", event("shop", "e2").to_string().into(), None)
        .await;
    let records = world.wait_for(&world.deliveries(), 2).await;
    assert_eq!(ids(&world, &records, "shop"), ["e1", "e2"]);
    let letters = world.wait_for(&world.topics.dead_letters(), 1).await;
    assert_eq!(reason(&letters[0]), "idempotency_conflict");
    assert_eq!(
        letters[0].value.as_deref(),
        Some(other.to_string().as_bytes())
    );
    fanout.stop().await;
}

#[tokio::test(start_paused = true)]
async fn misplaced_events_go_home_in_order_and_their_client_is_named() {
    let world = World::new().await;
    let fanout = world.start();
    let sender = sender_in(1);
    for n in 0..10 {
        let value = event(&sender, &format!("e{n}")).to_string().into();
        world.publish(&sender, value, Some(3)).await;
    }
    let records = world.wait_for(&world.deliveries(), 10).await;
    let wanted: Vec<_> = (0..10).map(|n| format!("e{n}")).collect();
    assert_eq!(ids(&world, &records, &sender), wanted);
    assert!(records.iter().all(|r| r.partition == 1));
    let metrics = world.metrics.render().unwrap();
    let counted = metrics
        .lines()
        .find(|l| l.starts_with("bongsu_events_rehomed_total"))
        .unwrap();
    assert!(
        counted.contains("client=\"careless\"") && counted.ends_with(" 10"),
        "{counted}"
    );
    fanout.stop().await;
}

/// Each event of the broadcaster fills a transaction; what another says in a later partition goes in
/// between, long before the last of them.
#[tokio::test(start_paused = true)]
async fn a_broadcaster_in_the_first_partition_holds_nobody_else() {
    const EVENTS: usize = 12;
    const RECIPIENTS: usize = 1_000;
    let world = World::new().await;
    let (broadcaster, other) = (sender_in(0), sender_in(1));
    let recipients: Vec<_> = (0..RECIPIENTS)
        .map(|r| {
            let address = format!("https://example.com/{r}");
            let addresses = serde_json::json!([{"channel": "webhook", "address": address}]);
            serde_json::json!({"id": format!("r-{r}"), "addresses": addresses})
        })
        .collect();
    for n in 0..EVENTS {
        let mut large = event(&broadcaster, &n.to_string());
        large["target"]["recipients"] = recipients.clone().into();
        world
            .publish(&broadcaster, large.to_string().into(), None)
            .await;
    }
    let small = event(&other, "small").to_string();
    world.publish(&other, small.into(), None).await;
    // A transaction takes its time, so that records tell in which they were.
    world.log.set_faults(FaultPlan {
        acknowledge_within: Duration::from_millis(500),
        ..FaultPlan::default()
    });
    let fanout = world.start();
    let records = world
        .wait_for(&world.deliveries(), EVENTS * RECIPIENTS + 1)
        .await;
    let of = |partition: i32| records.iter().filter(move |r| r.partition == partition);
    let small = of(1).next().unwrap().timestamp;
    let before = of(0).filter(|r| r.timestamp < small).count();
    assert!(before <= EVENTS / 2 * RECIPIENTS, "{before} went before it");
    fanout.stop().await;
}

/// Each of them for the patience of its own would hold the partition for ten minutes, far longer than
/// [`World::wait_for`] waits.
#[tokio::test(start_paused = true)]
async fn many_records_of_one_unknown_schema_are_waited_for_once() {
    const MANY: usize = 20;
    let world = World::new().await;
    let fanout = world.start();
    let unknown = [&[0xC3, 0x01, 9, 9, 9, 9, 9, 9, 9, 9], b"body".as_slice()].concat();
    for _ in 0..MANY {
        world.publish("shop", unknown.clone(), None).await;
    }
    let good = event("shop", "good").to_string();
    world.publish("shop", good.into(), None).await;
    let records = world.wait_for(&world.deliveries(), 1).await;
    assert_eq!(ids(&world, &records, "shop"), ["good"]);
    let letters = world.wait_for(&world.topics.dead_letters(), MANY).await;
    assert!(letters.iter().all(|l| reason(l) == "unknown_schema"));
    fanout.stop().await;
}

#[tokio::test(start_paused = true)]
async fn damaged_records_are_put_aside_with_bytes_and_reason_and_the_rest_goes_on() {
    let world = World::new().await;
    let fanout = world.start();
    let mut noise = vec![0xff_u8; 500 * 1024];
    noise
        .iter_mut()
        .enumerate()
        .for_each(|(i, b)| *b ^= i.to_le_bytes()[0]);
    noise[0] = 0xff;
    let unknown = [&[0xC3, 0x01, 9, 9, 9, 9, 9, 9, 9, 9], b"body".as_slice()].concat();
    let mut pigeon = event("shop", "p");
    pigeon["plan"]["channels"] = serde_json::json!(["pigeon"]);
    let mut large = event("shop", "l");
    large["content"]["body"] = "x".repeat(600 * 1024).into();
    let mut later = event("shop", "d");
    later["deliver_at"] = 1_790_000_000_000_i64.into();
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("unreadable", noise),
        ("unknown_schema", unknown),
        (
            "key_mismatch",
            event("somebody else", "k").to_string().into(),
        ),
        ("unknown_channel", pigeon.to_string().into()),
        ("event_too_large", large.to_string().into()),
        ("not_built", later.to_string().into()),
    ];
    for (_, value) in &table {
        world.publish("shop", value.clone(), None).await;
    }
    world
        .publish("", event("shop", "k2").to_string().into(), None)
        .await;
    world
        .publish("shop", event("shop", "good").to_string().into(), None)
        .await;
    let records = world.wait_for(&world.deliveries(), 1).await;
    assert_eq!(ids(&world, &records, "shop"), ["good"]);
    let letters = world
        .wait_for(&world.topics.dead_letters(), table.len() + 1)
        .await;
    for (wanted, value) in &table {
        let found = letters
            .iter()
            .any(|l| reason(l) == *wanted && l.value.as_deref() == Some(value.as_slice()));
        assert!(found, "no dead letter {wanted} with its bytes");
    }
    assert_eq!(
        letters
            .iter()
            .filter(|l| reason(l) == "key_mismatch")
            .count(),
        2
    );
    fanout.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_recipient_without_an_address_and_a_late_event_get_receipts() {
    let world = World::new().await;
    let fanout = world.start();
    let mut nowhere = event("shop", "n");
    nowhere["target"]["recipients"][0]["addresses"] = serde_json::json!([]);
    world
        .publish("shop", nowhere.to_string().into(), None)
        .await;
    let mut late = event("shop", "late");
    late["expires_at"] = 1_000.into();
    world.publish("shop", late.to_string().into(), None).await;
    let records = world.wait_for(&world.topics.results(), 2).await;
    let told: Vec<_> = records
        .iter()
        .map(|r| {
            world
                .codec
                .decode::<Receipt>(r.value.as_deref().unwrap())
                .unwrap()
        })
        .map(|r| (r.kind, r.event_id, r.outcome, r.reason))
        .collect();
    let row = |id: &str, outcome: &str, reason: &str| {
        (
            "event".to_owned(),
            id.to_owned(),
            outcome.to_owned(),
            reason.to_owned(),
        )
    };
    assert_eq!(
        told,
        [
            row("n", "refused", "not_available"),
            row("late", "expired", "deadline_passed")
        ]
    );
    assert!(world.records(&world.topics.dead_letters()).await.is_empty());
    fanout.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_without_topics_is_told_and_holds_nobody_else() {
    let world = World::new().await;
    let fanout = world.start();
    let mut both = event("shop", "both");
    both["plan"]["channels"] = serde_json::json!(["webhook", "apns"]);
    let token = serde_json::json!({"channel": "apns", "address": "0a".repeat(32)});
    let addresses = &mut both["target"]["recipients"][0]["addresses"];
    addresses.as_array_mut().unwrap().push(token);
    world.publish("shop", both.to_string().into(), None).await;
    let receipts = world.wait_for(&world.topics.results(), 1).await;
    let value = receipts[0].value.as_deref().unwrap();
    let receipt = world.codec.decode::<Receipt>(value).unwrap();
    assert_eq!(
        (receipt.outcome.as_str(), receipt.reason.as_str()),
        ("refused", "unknown_channel")
    );
    let sent = world.wait_for(&world.deliveries(), 1).await;
    assert_eq!(ids(&world, &sent, "shop"), ["both"]);
    fanout.stop().await;
}

/// Takes five seconds for the recipients of one sender.
struct SlowFor(String);

impl RecipientLookup for SlowFor {
    fn resolve(&self, event: Arc<Event>) -> BoxFuture<'static, Vec<Recipient>> {
        let slow = event.sender == self.0;
        Box::pin(async move {
            if slow {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            event.recipients.clone()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn slow_look_ups_run_side_by_side_and_hold_nobody_elses() {
    let world = World::new().await;
    let (slow, quick) = (sender_in(0), sender_in(2));
    let fanout = world.start_with(Arc::new(SlowFor(slow.clone())));
    let begun = Instant::now();
    for n in 0..20 {
        let id = format!("e{n}");
        world
            .publish(&slow, event(&slow, &id).to_string().into(), None)
            .await;
        world
            .publish(&quick, event(&quick, &id).to_string().into(), None)
            .await;
    }
    let records = world.wait_for(&world.deliveries(), 20).await;
    assert_eq!(
        ids(&world, &records, &quick).len(),
        20,
        "the quick sender waited"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let records = world.wait_for(&world.deliveries(), 40).await;
    let wanted: Vec<_> = (0..20).map(|n| format!("e{n}")).collect();
    assert_eq!(ids(&world, &records, &slow), wanted);
    // Twenty look-ups of five seconds, side by side: one after the other would take 100.
    assert!(
        begun.elapsed() < Duration::from_secs(7),
        "{:?}",
        begun.elapsed()
    );
    fanout.stop().await;
}

/// An advertising event to one webhook of a recipient who agreed.
fn advertising(id: &str) -> serde_json::Value {
    let mut event = event("shop", id);
    event["purpose"] = "advertising".into();
    event["content"]["title"] = "Spring".into();
    event["target"]["recipients"][0]["consents"] = serde_json::json!(["advertising"]);
    event
}

fn decode<T: bongsu_schemas::AvroRecord>(world: &World, record: &Record) -> T {
    let value = record.value.as_deref().unwrap();
    world.codec.decode(value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn advertising_goes_out_marked_or_not_at_all() {
    let mut world = World::new().await;
    let mut rules = bongsu_policy::Rules::default();
    rules
        .closings
        .insert("shop".into(), "Shop 02-123 080-456".into());
    world.rules = Arc::new(rules);
    let fanout = world.start();
    let mut abroad = advertising("abroad");
    abroad["target"]["recipients"][0]["country"] = "JP".into();
    let mut woken = advertising("woken");
    woken["target"]["recipients"][0]["consents"] =
        serde_json::json!(["advertising", "advertising_night"]);
    let mut nobody_asked = advertising("no-consent");
    nobody_asked["target"]["recipients"][0]["consents"] = serde_json::json!([]);
    let mut raw = advertising("raw");
    raw["content"]["overrides"] = serde_json::json!({"webhook": "{\"text\":\"buy\"}"});
    let mut stranger = advertising("no-closing");
    stranger["sender"] = "other".into();
    for (key, event) in [
        ("shop", advertising("home")),
        ("shop", abroad),
        ("shop", woken),
        ("shop", nobody_asked),
        ("shop", raw),
        ("other", stranger),
    ] {
        world.publish(key, event.to_string().into(), None).await;
    }
    let deliveries: Vec<Delivery> = world
        .wait_for(&world.deliveries(), 3)
        .await
        .iter()
        .map(|r| decode(&world, r))
        .collect();
    let shown: Vec<_> = deliveries
        .iter()
        .map(|d| {
            let content = &d.content;
            let (title, body) = (content.title.as_deref(), content.body.as_deref());
            (
                d.event_id.as_str(),
                title.unwrap(),
                body.unwrap(),
                d.night_consent,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (
                "home",
                "(\u{ad11}\u{ace0}) Spring",
                "home\nShop 02-123 080-456",
                false
            ),
            ("abroad", "Spring", "abroad", false),
            (
                "woken",
                "(\u{ad11}\u{ace0}) Spring",
                "woken\nShop 02-123 080-456",
                true
            ),
        ]
    );
    assert_ne!(deliveries[0].content_hash, deliveries[1].content_hash);
    let receipts = world.wait_for(&world.topics.results(), 3).await;
    let mut refused: Vec<(String, String)> = receipts
        .iter()
        .map(|r| decode::<Receipt>(&world, r))
        .map(|r| (r.event_id, r.reason))
        .collect();
    refused.sort();
    let with = |event: &str, reason: &str| (event.to_owned(), reason.to_owned());
    assert_eq!(
        refused,
        [
            with("no-closing", "marking_missing"),
            with("no-consent", "consent_missing"),
            with("raw", "marking_missing"),
        ]
    );
    fanout.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_content_that_no_channel_takes_is_refused_at_once() {
    let world = World::new().await;
    let fanout = world.start();
    let mut event = event("shop", "large");
    event["content"]["body"] = "a".repeat(crate::world::LONGEST + 1).into();
    world.publish("shop", event.to_string().into(), None).await;
    let receipts = world.wait_for(&world.topics.results(), 1).await;
    let receipt: Receipt = decode(&world, &receipts[0]);
    assert_eq!(
        (receipt.outcome.as_str(), receipt.reason.as_str()),
        ("refused", "content_too_large")
    );
    assert_eq!(receipt.recipient.as_deref(), Some("r"));
    assert_eq!(
        receipt.detail.as_deref(),
        Some("webhook: at most 1000 bytes")
    );
    assert!(world.records(&world.deliveries()).await.is_empty());
    fanout.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_suppressed_gets_no_delivery_from_the_first_event_on() {
    let world = World::new().await;
    let hook = "https://example.com/shop";
    let id = AddressId::derive("webhook", "default", hook);
    let suppression = Suppression {
        channel: Channel::Webhook,
        account: "default".into(),
        address_id: id.0,
        app: None,
        hold: Hold::Suppressed,
        reason: Reason::InvalidAddress,
        at: Timestamp(0),
        registered_at: None,
        verdicts: 1,
        first_at: Timestamp(0),
        by: "hygiene".into(),
        why: None,
    };
    let keep = SuppressionChange::Keep(Box::new(suppression.clone()));
    world.suppress(&keep).await;
    let fanout = world.start();
    world
        .publish("shop", event("shop", "held").to_string().into(), None)
        .await;
    let receipts = world.wait_for(&world.topics.results(), 1).await;
    let receipt: Receipt = decode(&world, &receipts[0]);
    assert_eq!(
        (receipt.outcome.as_str(), receipt.reason.as_str()),
        ("suppressed", "invalid_address")
    );
    assert!(world.records(&world.deliveries()).await.is_empty());
    // A later registration of the address is another address; and what is over is over at once.
    let mut later = event("shop", "later");
    later["target"]["recipients"][0]["addresses"][0]["registered_at"] = 1.into();
    world.publish("shop", later.to_string().into(), None).await;
    world.wait_for(&world.deliveries(), 1).await;
    world
        .suppress(&SuppressionChange::Forget(suppression.key()))
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    world
        .publish("shop", event("shop", "over").to_string().into(), None)
        .await;
    let records = world.wait_for(&world.deliveries(), 2).await;
    assert_eq!(ids(&world, &records, "shop"), ["later", "over"]);
    fanout.stop().await;
}
