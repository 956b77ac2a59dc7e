//! Channels from the publisher's request to the provider's twin and back to the status.

use std::time::Duration;

use bongsu_testkit::wait_for;
use serde_json::{Value, json};

use crate::dev::{Dev, http};

const SOON: Duration = Duration::from_secs(60);

async fn get(url: String) -> Option<Value> {
    let answer = http().get(url).send().await.ok()?;
    if answer.status().is_success() {
        answer.json().await.ok()
    } else {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_write_an_address_arrives_on_the_local_log() {
    let dev = Dev::local();
    let addresses = [
        ("apns", "0a".repeat(32)),
        ("fcm", "token:bk3RNwTe3H0:CI2k_HHwgIpo".to_owned()),
        ("fcm", "fid:eBlnf0SSS_qIRPz0OzO3bd".to_owned()),
        ("fcm", "topic:news".to_owned()),
        ("telegram", "-1001234567890".to_owned()),
        ("telegram", "@the_shop".to_owned()),
        (
            "slack",
            "https://hooks.slack.com/services/T0000/B0000/x".to_owned(),
        ),
        ("slack", "C0123ABCD".to_owned()),
        ("sendbird", "sendbird_group_channel_1".to_owned()),
        ("line", format!("U{}", "0a".repeat(16))),
    ];
    let url = format!("{}/v1/events", dev.gateway);
    let client = http();
    for (i, (channel, address)) in addresses.iter().enumerate() {
        let event = json!({
            "id": format!("e-{i}"), "sender": "shop", "plan": {"channels": [channel]},
            "target": {"recipients": [{"id": "ann", "addresses": [
                {"channel": channel, "address": address}]}]},
            "content": {"title": "Paid", "body": "Your order is paid."},
        });
        let answer = client.post(&url).json(&event).send().await.unwrap();
        let status = answer.status().as_u16();
        let told = answer.text().await.unwrap();
        assert_eq!(status, 202, "{channel}: {told}");
    }
    for (i, (channel, _)) in addresses.iter().enumerate() {
        let asked = format!("{}/v1/events/e-{i}?sender=shop", dev.gateway);
        let found = wait_for(SOON, channel, || async {
            get(asked.clone())
                .await
                .filter(|event| event["deliveries"][0]["outcome"].is_string())
        })
        .await;
        let outcome = &found["deliveries"][0]["outcome"];
        assert_eq!(outcome, "accepted", "{channel}: {found}");
    }
    // What is no address of its channel is refused at the door.
    let event = json!({
        "id": "e-bad", "sender": "shop", "plan": {"channels": ["telegram"]},
        "target": {"recipients": [{"id": "ann", "addresses": [
            {"channel": "telegram", "address": "the shop"}]}]},
        "content": {"body": "x"},
    });
    let answer = client.post(&url).json(&event).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 422);
    let told = answer.text().await.unwrap();
    assert!(told.contains("is no Telegram chat"), "{told}");
    dev.stop();
}
