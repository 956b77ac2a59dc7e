//! What is taken: where it goes, in which order, under which id.

use axum::body::Body;
use bongsu_domain::partition_of;
use http::Request;
use serde_json::{Value, json};

use crate::world::{PARTITIONS, World, event, post, with};

fn of_sender(sender: &str, id: &str) -> Value {
    let mut event = event(id);
    event["sender"] = json!(sender);
    event
}

fn typed(content_type: &str, body: String) -> Request<Body> {
    let mut request = post(body);
    let value = content_type.parse().unwrap();
    request.headers_mut().insert("content-type", value);
    request
}

async fn lands_where_it_says(world: &World) {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut bulk = with("/class", json!("bulk"));
    bulk["id"] = json!("e-2");
    let mut request = post(json!([event("e-1"), bulk]).to_string());
    request
        .headers_mut()
        .insert("traceparent", trace.parse().unwrap());
    let answer = world.ask(request).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let partition = partition_of(b"shop-1", PARTITIONS);
    let state = json!({
        "id": "e-1", "sender": "shop-1", "state": "acknowledged", "partition": partition, "offset": 0,
    });
    assert_eq!(answer.json()["events"][0], state);
    let mut records = world.records().await;
    assert_eq!(records.len(), 2);
    // Two topics are read side by side: nothing says which is told first.
    records.sort_by(|a, b| a.topic.cmp(&b.topic));
    for (record, class) in records.iter().zip(["transactional", "bulk"]) {
        let found = world.decode(record);
        assert_eq!(found.class, class);
        assert_eq!(record.partition, partition);
        assert_eq!(record.key.as_deref(), Some(&b"shop-1"[..]));
        assert_eq!(
            record.headers.text("bongsu-event-id"),
            Some(found.id.as_str())
        );
        assert_eq!(record.headers.text("bongsu-client-id"), Some("shop"));
        assert_eq!(record.headers.text("traceparent"), Some(trace));
    }
}

#[tokio::test]
async fn an_event_lands_in_its_topic_and_partition_with_its_headers() {
    lands_where_it_says(&World::local().await).await;
}

#[tokio::test]
async fn an_event_lands_in_its_topic_and_partition_with_its_headers_on_kafka() {
    lands_where_it_says(&World::kafka("gateway-lands").await).await;
}

async fn keeps_order(world: &World) {
    let events: Vec<Value> = (0..3_000)
        .map(|i| of_sender(&format!("shop-{}", i % 7), &format!("{i:06}")))
        .collect();
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    let answer = world
        .ask(typed("application/x-ndjson", lines.join("\n")))
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let records = world.records().await;
    assert_eq!(records.len(), 3_000);
    for sender in 0..7 {
        let sender = format!("shop-{sender}");
        let ids: Vec<String> = records
            .iter()
            .map(|r| world.decode(r))
            .filter(|e| e.sender == sender)
            .map(|e| e.id)
            .collect();
        assert!(ids.is_sorted(), "{sender}: {ids:?}");
    }
    // The answer tells each event's own place.
    for state in answer.json()["events"].as_array().unwrap() {
        let place = records.iter().find(|r| {
            json!(r.offset) == state["offset"] && json!(r.partition) == state["partition"]
        });
        assert_eq!(json!(world.decode(place.unwrap()).id), state["id"]);
    }
}

#[tokio::test]
async fn events_of_one_sender_keep_the_order_of_the_request() {
    keeps_order(&World::local().await).await;
}

#[tokio::test]
async fn events_of_one_sender_keep_the_order_of_the_request_on_kafka() {
    keeps_order(&World::kafka("gateway-order").await).await;
}

#[tokio::test]
async fn a_dry_run_tells_everything_and_publishes_nothing() {
    let world = World::local().await;
    let mut body = with(
        "/target/recipients",
        json!([
            { "id": "a", "addresses": [
                { "channel": "webhook", "address": "https://example.com/1" },
                { "channel": "webhook", "address": "https://example.com/2" },
                { "channel": "discord", "address": "https://discord.com/api/webhooks/1/x" },
            ]},
            { "id": "b" },
        ]),
    );
    body["class"] = json!("bulk");
    let mut request = post(body.to_string());
    *request.uri_mut() = "/v1/events?dry_run=true".parse().unwrap();
    let answer = world.ask(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let plan = json!({
        "dry_run": true,
        "events": [{
            "id": "e-1", "sender": "shop-1", "class": "bulk", "topic": "t.events.bulk",
            "partition": partition_of(b"shop-1", PARTITIONS),
            "deliveries": 2, "unreachable_recipients": 1,
        }],
    });
    assert_eq!(answer.json(), plan);
    assert_eq!(world.records().await, []);
    let mut request = post(event("e-1").to_string());
    *request.uri_mut() = "/v1/events?dry_run=false".parse().unwrap();
    assert_eq!(world.ask(request).await.status, 202);
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_ids_again_and_others_for_other_keys() {
    let world = World::local().await;
    let nameless = with("/id", json!(""));
    let body = json!([nameless, event("mine"), nameless]).to_string();
    let ask = |key: &'static str, secret: &'static str| {
        let mut request = post(body.clone());
        let headers = request.headers_mut();
        headers.insert("idempotency-key", key.parse().unwrap());
        headers.insert("authorization", format!("Bearer {secret}").parse().unwrap());
        world.ask(request)
    };
    let first = ask("order-7", crate::world::PUBLISHER).await;
    assert_eq!(first.status, 202, "{}", first.text);
    let again = ask("order-7", crate::world::PUBLISHER).await;
    let other = ask("order-8", crate::world::PUBLISHER).await;
    let another = ask("order-7", crate::world::EVERYTHING).await;
    assert_eq!(first.ids(), again.ids());
    assert_eq!(first.ids().get(1).unwrap(), "mine");
    assert_ne!(first.ids().first(), first.ids().last());
    assert_ne!(first.ids().first(), other.ids().first());
    assert_ne!(first.ids().first(), another.ids().first());
}

#[tokio::test]
async fn an_event_without_an_id_gets_a_fresh_one() {
    let world = World::local().await;
    let nameless = with("/id", json!("")).to_string();
    let (one, two) = (
        world.publish(nameless.clone()).await,
        world.publish(nameless).await,
    );
    assert_ne!(one.ids(), two.ids());
    let records = world.records().await;
    let written: Vec<String> = records.iter().map(|r| world.decode(r).id).collect();
    assert_eq!(written, [one.ids(), two.ids()].concat());
    assert_eq!(
        uuid::Uuid::parse_str(one.ids().first().unwrap())
            .unwrap()
            .get_version_num(),
        7
    );
}

fn nameless() -> Value {
    let mut data = event("");
    let fields = data.as_object_mut().unwrap();
    fields.remove("id");
    fields.remove("sender");
    data
}

#[tokio::test]
async fn cloud_events_are_taken_in_all_three_modes() {
    let world = World::local().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let structured = json!({
        "specversion": "1.0", "id": "ce-1", "source": "shop-1", "type": "order.paid",
        "time": "1970-01-01T00:00:01Z", "traceparent": trace, "data": nameless(),
    });
    let single = typed("application/cloudevents+json", structured.to_string());
    assert_eq!(world.ask(single).await.status, 202);
    let batch = json!([
        { "specversion": "1.0", "id": "ce-2", "source": "/x", "sender": "shop-1", "type": "t", "data": nameless() },
        { "specversion": "1.0", "id": "ce-3", "source": "/x", "type": "t", "data": event("own") },
    ]);
    let batch = typed("application/cloudevents-batch+json", batch.to_string());
    assert_eq!(world.ask(batch).await.status, 202);
    let mut binary = post(nameless().to_string());
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "ce%204"),
        ("ce-source", "shop-1"),
        ("ce-type", "t"),
        ("ce-time", "1970-01-01T00:00:02Z"),
    ] {
        binary.headers_mut().insert(name, value.parse().unwrap());
    }
    assert_eq!(world.ask(binary).await.status, 202);
    let records = world.records().await;
    let found: Vec<_> = records.iter().map(|r| world.decode(r)).collect();
    let ids: Vec<_> = found
        .iter()
        .map(|e| (e.id.as_str(), e.sender.as_str()))
        .collect();
    assert_eq!(
        ids,
        [
            ("ce-1", "shop-1"),
            ("ce-2", "shop-1"),
            ("own", "shop-1"),
            ("ce 4", "shop-1")
        ]
    );
    let times: Vec<_> = found.iter().map(|e| e.occurred_at.map(|t| t.0)).collect();
    assert_eq!(times, [Some(1_000), None, None, Some(2_000)]);
    assert_eq!(
        records.first().unwrap().headers.text("traceparent"),
        Some(trace)
    );
}
