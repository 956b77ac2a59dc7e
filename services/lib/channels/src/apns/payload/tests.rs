use bongsu_domain::Timestamp;
use serde_json::json;

use super::*;
use crate::provider::tests::delivery;

const TOPIC: &str = "com.example.app";

fn with(content: Content) -> Delivery {
    Delivery {
        content,
        ..delivery("00ff")
    }
}

fn overridden(text: &str) -> Delivery {
    let mut delivery = delivery("00ff");
    delivery
        .content
        .overrides
        .insert("apns".into(), text.into());
    delivery
}

fn json_of(push: &Push<'_>) -> Value {
    serde_json::from_slice(&push.body).unwrap()
}

#[test]
fn a_plain_content_is_an_alert_byte_by_byte() {
    let delivery = delivery("00ff");
    let push = push(&delivery, TOPIC).unwrap();
    assert_eq!(
        String::from_utf8(push.body.clone()).unwrap(),
        r#"{"aps":{"alert":{"title":"Paid","body":"Your order is paid."}},"seq":"1"}"#
    );
    assert_eq!(
        (push.topic.as_ref(), push.push_type, push.priority),
        (TOPIC, PushType::Alert, 10)
    );
    assert_eq!((push.expiration, push.collapse_id), (1_760_086_400, None));
}

#[test]
fn a_body_alone_is_a_plain_alert_and_link_and_image_travel_beside_it() {
    let delivery = with(Content {
        body: Some("hello".into()),
        link: Some("https://x.example/1".into()),
        image: Some("https://x.example/i.png".into()),
        ..Content::default()
    });
    assert_eq!(
        json_of(&push(&delivery, TOPIC).unwrap()),
        json!({
            "aps": {"alert": "hello", "mutable-content": 1},
            "link": "https://x.example/1",
            "image": "https://x.example/i.png",
        })
    );
}

#[test]
fn data_alone_is_a_background_push_of_priority_five() {
    let delivery = with(Content {
        data: Pairs::from([("link".into(), "mine".into())]),
        link: Some("https://x.example".into()),
        ..Content::default()
    });
    let push = push(&delivery, TOPIC).unwrap();
    assert_eq!(
        String::from_utf8(push.body.clone()).unwrap(),
        r#"{"aps":{"content-available":1},"link":"mine"}"#
    );
    assert_eq!((push.push_type, push.priority), (PushType::Background, 5));
}

#[test]
fn options_shape_the_push_made_of_the_content() {
    let delivery = overridden(
        r#"{"apns": {"priority": 5, "expiration": 0, "collapse_id": "c", "subtitle": "s",
            "thread_id": "room", "badge": 3, "sound": "ping.caf", "category": "reply",
            "mutable_content": true, "content_available": true,
            "interruption_level": "time-sensitive", "relevance_score": 0.5,
            "target_content_id": "w"}}"#,
    );
    let push = push(&delivery, TOPIC).unwrap();
    assert_eq!((push.priority, push.expiration), (5, 0));
    assert_eq!(push.collapse_id.as_deref(), Some("c"));
    assert_eq!(
        json_of(&push),
        json!({"aps": {
            "alert": {"title": "Paid", "subtitle": "s", "body": "Your order is paid."},
            "badge": 3, "sound": "ping.caf", "category": "reply", "mutable-content": 1,
            "content-available": 1, "thread-id": "room", "interruption-level": "time-sensitive",
            "relevance-score": 0.5, "target-content-id": "w",
        }, "seq": "1"})
    );
}

#[test]
fn a_critical_sound_is_an_object() {
    let delivery = overridden(r#"{"apns": {"sound": {"name": "default", "volume": 0.8}}}"#);
    let push = push(&delivery, TOPIC).unwrap();
    assert_eq!(
        json_of(&push)["aps"]["sound"],
        json!({"critical": 1, "name": "default", "volume": 0.8})
    );
}

#[test]
fn a_live_activity_has_a_topic_and_members_of_its_own() {
    let delivery = overridden(
        r#"{"apns": {"live_activity": {"event": "update", "content_state": {"score": 2},
            "stale_date": 1760000100}}}"#,
    );
    let push = push(&delivery, TOPIC).unwrap();
    assert_eq!(push.topic, "com.example.app.push-type.liveactivity");
    assert_eq!(push.push_type, PushType::LiveActivity);
    let aps = &json_of(&push)["aps"];
    assert_eq!(aps["event"], "update");
    assert_eq!(aps["timestamp"], 1_760_000_000);
    assert_eq!(aps["content-state"], json!({"score": 2}));
    assert_eq!(aps["stale-date"], 1_760_000_100);
}

#[test]
fn an_override_with_aps_is_the_body() {
    let raw = r#"{ "aps": {"alert": "x"}, "own": [1] }"#;
    let plain = overridden(raw);
    assert_eq!(push(&plain, TOPIC).unwrap().body, raw.as_bytes());
    let call = overridden(r#"{"apns": {"push_type": "voip"}, "aps": {}, "call": 7}"#);
    let call = push(&call, TOPIC).unwrap();
    assert_eq!(call.body, br#"{"aps":{},"call":7}"#);
    assert_eq!(call.topic, "com.example.app.voip");
}

#[test]
fn the_limit_is_named_and_calls_have_their_own() {
    let long = |bytes: usize, options: &str| {
        let frame = r#"{"aps":{"alert":""}}"#.len();
        let text = "x".repeat(bytes - frame);
        overridden(&format!(r#"{{{options}"aps":{{"alert":"{text}"}}}}"#))
    };
    assert!(push(&long(BODY_BYTES, ""), TOPIC).is_ok());
    assert_eq!(
        push(&long(BODY_BYTES + 1, ""), TOPIC).unwrap_err(),
        ContentFault::TooLarge {
            bytes: 4_097,
            limit: 4_096
        }
    );
    let voip = r#""apns":{"push_type":"voip"},"#;
    assert!(push(&long(VOIP_BODY_BYTES, voip), TOPIC).is_ok());
    assert!(push(&long(VOIP_BODY_BYTES + 1, voip), TOPIC).is_err());
}

#[test]
fn what_apple_would_refuse_is_told_with_the_member() {
    for (text, told) in [
        ("[]", "is no JSON object"),
        ("{}", "neither a member `aps`"),
        (r#"{"x": 1}"#, "neither a member `aps`"),
        (r#"{"apns": {"priorty": 5}}"#, "priorty"),
        (r#"{"apns": {"priority": 7}}"#, "apns.priority"),
        (
            r#"{"apns": {"push_type": "background", "priority": 10}}"#,
            "must be 5",
        ),
        (r#"{"apns": {"relevance_score": 2}}"#, "relevance_score"),
        (r#"{"apns": {}, "x": 1}"#, "no `aps`"),
    ] {
        let error = push(&overridden(text), TOPIC).unwrap_err().to_string();
        assert!(error.contains(told), "{text}: {error}");
    }
    let long = format!(r#"{{"apns": {{"collapse_id": "{}"}}}}"#, "x".repeat(65));
    assert!(push(&overridden(&long), TOPIC).is_err());
    assert_eq!(
        push(&with(Content::default()), TOPIC),
        Err(ContentFault::Empty)
    );
    let reserved = with(Content {
        data: Pairs::from([("aps".into(), "x".into())]),
        ..Content::default()
    });
    assert_eq!(push(&reserved, TOPIC), Err(ContentFault::ReservedData));
}

#[test]
fn a_collapse_key_that_does_not_fit_is_hashed() {
    let of = |key: &str| {
        let mut delivery = delivery("00ff");
        delivery.collapse_key = Some(key.into());
        push(&delivery, TOPIC)
            .unwrap()
            .collapse_id
            .unwrap()
            .into_owned()
    };
    assert_eq!(of("order-1"), "order-1");
    let long = "x".repeat(65);
    assert_eq!(of(&long).len(), 43);
    assert_eq!(of(&long), of(&long));
    assert_ne!(of("주문 1"), of("주문 2"));
}

#[test]
fn an_expiry_before_the_epoch_is_no_negative_number() {
    let mut delivery = delivery("00ff");
    delivery.expires_at = Timestamp(-5);
    assert_eq!(push(&delivery, TOPIC).unwrap().expiration, 0);
}
