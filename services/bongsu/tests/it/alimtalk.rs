//! AlimTalk from the publisher's request to the dealer's report and back.

use std::time::Duration;

use bongsu_testkit::{Names, TestKafka, wait_for};
use serde_json::{Value, json};

use crate::dev::{Dev, http};

const SOON: Duration = Duration::from_secs(30);

async fn get(url: String) -> Option<Value> {
    let answer = http().get(url).send().await.ok()?;
    if answer.status().is_success() {
        answer.json().await.ok()
    } else {
        None
    }
}

/// Publishes to a number, and waits until the report has reached the status of its delivery.
async fn a_report_reaches_the_status(dev: &Dev) {
    let event = json!({
        "id": "e-1", "sender": "shop", "plan": {"channels": ["alimtalk"]},
        "target": {"recipients": [{"id": "ann", "addresses": [
            {"channel": "alimtalk", "address": "010-1234-5678"}]}]},
        "content": {"data": {"template": "free"}, "body": "Your order is paid."},
    });
    let url = format!("{}/v1/events", dev.gateway);
    let request = http().post(url).json(&event);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 202);

    let asked = format!("{}/v1/events/e-1?sender=shop", dev.gateway);
    let found = wait_for(SOON, "the report", || async {
        get(asked.clone())
            .await
            .filter(|e| e["deliveries"][0]["outcome"] == "delivered")
    })
    .await;
    let id = found["deliveries"][0]["delivery_id"].as_str().unwrap();
    let url = format!("{}/v1/deliveries/{id}", dev.gateway);
    let delivery = get(url).await.unwrap();
    assert_eq!(delivery["outcome"], "delivered", "{delivery}");
    assert_eq!(
        (
            &delivery["sender"],
            &delivery["recipient"],
            &delivery["channel"]
        ),
        (&json!("shop"), &json!("ann"), &json!("alimtalk"))
    );
    assert!(delivery["provider_reference"].is_string(), "{delivery}");
    // By the dealer's clock the report may be older than our own receipt.
    let mut told: Vec<&str> = delivery["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["word"].as_str().unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(told, ["accepted", "delivered"], "{delivery}");
}

/// The dealer gives everything back but our reference.
async fn forget_references(dev: &Dev) {
    let client = http();
    let url = format!("{}/_sim/plan", dev.alimtalk);
    let mut plan = get(url.clone()).await.unwrap();
    plan["reports"]["forgets_reference"] = true.into();
    let answer = client.put(url).json(&plan).send().await.unwrap();
    assert!(
        answer.status().is_success(),
        "{}",
        answer.text().await.unwrap()
    );
}

/// How many reports came to this, as the ledger counts those without our reference.
async fn mapped(dev: &Dev) -> f64 {
    let url = format!("{}/metrics", dev.gateway);
    let text = http().get(url).send().await.unwrap().text().await.unwrap();
    let line = "bongsu_ledger_unmapped_reports_total{result=\"mapped\"}";
    let found = text.lines().find_map(|l| l.strip_prefix(line));
    found.map_or(0.0, |n| n.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_without_our_reference_reaches_the_status_by_the_dealers_id_on_kafka() {
    let names = Names::new("forgetful");
    let dev = Dev::start(TestKafka::shared().bootstrap(), names.topic_prefix());
    forget_references(&dev).await;
    a_report_reaches_the_status(&dev).await;
    assert!(mapped(&dev).await >= 1.0);
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_without_our_reference_reaches_the_status_by_the_dealers_id_on_the_local_log() {
    let dev = Dev::local();
    forget_references(&dev).await;
    a_report_reaches_the_status(&dev).await;
    assert!(mapped(&dev).await >= 1.0);
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_reaches_the_status_on_kafka() {
    let names = Names::new("alimtalk");
    let dev = Dev::start(TestKafka::shared().bootstrap(), names.topic_prefix());
    a_report_reaches_the_status(&dev).await;
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_reaches_the_status_on_the_local_log() {
    let dev = Dev::local();
    a_report_reaches_the_status(&dev).await;
    dev.stop();
}
