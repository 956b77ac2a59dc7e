use bongsu_domain::Timestamp;

use super::*;
use crate::provider::tests;

const TOKEN: &str = "bk3RNwTe3H0:CI2k_HHwgIpo";
const NOW: i64 = 1_760_000_000_000;

fn delivery() -> Delivery {
    let mut delivery = tests::delivery(TOKEN);
    delivery.address.platform = Platform::Android;
    delivery.expires_at = Timestamp(NOW + 3_600_000);
    delivery
}

fn message(delivery: &Delivery, target: &str) -> Result<Value, ContentFault> {
    let target = PushTarget::parse(target).unwrap();
    let body = body(delivery, target, false, NOW)?;
    let mut read: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(read["message"][target.member()], target.value());
    Ok(read["message"].take())
}

fn with_override(text: &str) -> Delivery {
    let mut delivery = delivery();
    delivery
        .content
        .overrides
        .insert("fcm".to_owned(), text.to_owned());
    delivery
}

#[test]
fn a_device_gets_its_platforms_block_alone() {
    let mut delivery = delivery();
    assert_eq!(
        message(&delivery, TOKEN).unwrap(),
        json!({
            "token": TOKEN,
            "data": {"seq": "1"},
            "notification": {"title": "Paid", "body": "Your order is paid."},
            "android": {"priority": "HIGH", "ttl": "3600s"},
        })
    );
    delivery.address.platform = Platform::Ios;
    delivery.collapse_key = Some("order 7".into());
    let ios = message(&delivery, "fid:eBlnf0SSS_qIRPz0OzO3bd").unwrap();
    assert_eq!(ios.get("android"), None);
    assert_eq!(ios["apns"]["headers"]["apns-priority"], "10");
    assert_eq!(ios["apns"]["headers"]["apns-expiration"], "1760003600");
    assert_eq!(
        ios["apns"]["headers"]["apns-collapse-id"]
            .as_str()
            .unwrap()
            .len(),
        43
    );
    delivery.address.platform = Platform::Web;
    delivery.content.link = Some("https://shop.example/7".into());
    let web = message(&delivery, TOKEN).unwrap();
    assert_eq!(
        web["webpush"],
        json!({
            "headers": {"TTL": "3600", "Urgency": "high", "Topic": web_topic("order 7")},
            "fcm_options": {"link": "https://shop.example/7"},
        })
    );
    assert_eq!(web["data"]["link"], "https://shop.example/7");
}

#[test]
fn a_topic_reaches_every_platform_and_bulk_does_not_wake() {
    let mut delivery = delivery();
    delivery.class = Class::Bulk;
    delivery.collapse_key = Some("news".into());
    delivery.campaign_id = Some("spring-1".into());
    let made = message(&delivery, "topic:news").unwrap();
    assert_eq!(
        made["android"],
        json!({"priority": "NORMAL", "ttl": "3600s", "collapse_key": "news",
               "notification": {"tag": "news"}})
    );
    assert_eq!(made["apns"]["headers"]["apns-priority"], "5");
    assert_eq!(made["webpush"]["headers"]["Urgency"], "normal");
    assert_eq!(made["fcm_options"]["analytics_label"], "spring-1");
    assert!(message(&delivery, "condition:'a' in topics || 'b' in topics").is_ok());
}

#[test]
fn data_alone_is_a_silent_push() {
    let mut delivery = delivery();
    (delivery.content.title, delivery.content.body) = (None, None);
    delivery.address.platform = Platform::Ios;
    let made = message(&delivery, TOKEN).unwrap();
    assert_eq!(made.get("notification"), None);
    assert_eq!(made["apns"]["headers"]["apns-push-type"], "background");
    assert_eq!(made["apns"]["headers"]["apns-priority"], "5");
    assert_eq!(
        made["apns"]["payload"],
        json!({"aps": {"content-available": 1}})
    );
    delivery.content.data.clear();
    assert_eq!(message(&delivery, TOKEN), Err(ContentFault::Empty));
}

#[test]
fn an_override_is_laid_over_or_replaces() {
    let over = r#"{"android":{"priority":"NORMAL","notification":{"channel_id":"orders"}}}"#;
    let made = message(&with_override(over), TOKEN).unwrap();
    assert_eq!(
        made["android"],
        json!({"priority": "NORMAL", "ttl": "3600s", "notification": {"channel_id": "orders"}})
    );
    assert_eq!(made["notification"]["title"], "Paid");
    let whole = r#"{"message":{"data":{"a":"b"}},"validate_only":true}"#;
    let target = PushTarget::parse(TOKEN).unwrap();
    let body = body(&with_override(whole), target, false, NOW).unwrap();
    assert_eq!(
        String::from_utf8(body).unwrap(),
        format!(
            r#"{{"message":{{"android":{{"ttl":"3600s"}},"data":{{"a":"b"}},"token":"{TOKEN}"}},"validate_only":true}}"#
        )
    );
}

#[test]
fn a_whole_message_keeps_the_deadline_where_it_names_none() {
    let with = |message: &str, platform| {
        let mut delivery = with_override(&format!(r#"{{"message":{message}}}"#));
        delivery.address.platform = platform;
        delivery
    };
    let made = |text: &str, platform| {
        let mut made = message(&with(text, platform), TOKEN).unwrap();
        made.as_object_mut().unwrap().remove("token");
        made
    };
    let ios = |text: &str| made(text, Platform::Ios);
    assert_eq!(
        ios(r#"{"apns":{"payload":{"aps":{"alert":"x"}}}}"#),
        json!({"apns": {
            "headers": {"apns-expiration": "1760003600"},
            "payload": {"aps": {"alert": "x"}},
        }})
    );
    let web = made(
        r#"{"webpush":{"headers":{"Urgency":"low"}}}"#,
        Platform::Web,
    );
    assert_eq!(
        web,
        json!({"webpush": {"headers": {"Urgency": "low", "TTL": "3600"}}})
    );
    // Its own word stands, and what is none of ours.
    for (text, platform) in [
        (r#"{"android":{"ttl":"5s"}}"#, Platform::Android),
        (r#"{"androidV2":{}}"#, Platform::Android),
        (
            r#"{"apns":{"headers":{"APNS-Expiration":"0"}}}"#,
            Platform::Ios,
        ),
        (r#"{"apns":{"headers":1}}"#, Platform::Ios),
        (r#"{"webpush":{"headers":{"ttl":"5"}}}"#, Platform::Web),
    ] {
        let whole: Value = serde_json::from_str(text).unwrap();
        assert_eq!(made(text, platform), whole, "{text}");
    }
    let topic = message(&with("{}", Platform::Android), "topic:news").unwrap();
    assert_eq!(topic["android"]["ttl"], "3600s");
    assert_eq!(topic["apns"]["headers"]["apns-expiration"], "1760003600");
    assert_eq!(topic["webpush"]["headers"]["TTL"], "3600");
}

#[test]
fn an_override_that_cannot_be_is_refused() {
    for text in [
        "[]",
        "no json",
        r#"{"message":1}"#,
        r#"{"message":{},"android":{}}"#,
        r#"{"message":{"token":"x"}}"#,
        r#"{"topic":"x"}"#,
        r#"{"andriod":{}}"#,
        r#"{"android":1}"#,
        r#"{"validate_only":1}"#,
    ] {
        let fault = message(&with_override(text), TOKEN).unwrap_err();
        assert!(matches!(fault, ContentFault::Override(_)), "{text}");
    }
}

#[test]
fn what_fcm_would_refuse_is_refused_before() {
    for key in ["from", "message_type", "google.x", "gcm.n.e"] {
        let mut delivery = delivery();
        delivery.content.data.insert(key.into(), "x".into());
        assert_eq!(message(&delivery, TOKEN), Err(ContentFault::ReservedData));
    }
    let mut delivery = delivery();
    delivery.content.body = Some("x".repeat(2_100));
    assert!(message(&delivery, TOKEN).is_ok());
    let fault = message(&delivery, "topic:news").unwrap_err();
    assert!(matches!(fault, ContentFault::TooLarge { limit: 2_048, .. }));
    delivery.content.body = Some("x".repeat(4_096));
    let fault = message(&delivery, TOKEN).unwrap_err();
    assert!(matches!(fault, ContentFault::TooLarge { limit: 4_096, .. }));
    assert!(too_large(&delivery.content).is_some());
    delivery.content.body = Some("x".repeat(3_900));
    assert_eq!(too_large(&delivery.content), None);
}

#[test]
fn a_time_to_live_stays_within_googles_bounds() {
    let mut delivery = delivery();
    delivery.expires_at = Timestamp(NOW + 90 * 24 * 3_600_000);
    let made = message(&delivery, TOKEN).unwrap();
    assert_eq!(made["android"]["ttl"], "2419200s");
    delivery.expires_at = Timestamp(NOW - 1);
    assert_eq!(message(&delivery, TOKEN).unwrap()["android"]["ttl"], "0s");
}
