//! A wrong APNs environment for one app, on real Kafka against the twin: how many addresses are
//! retired before the guard stops, and taking it back.

use std::process::Command;
use std::time::Duration;

use bongsu_testkit::{Names, TestKafka, wait_until};
use serde_json::{Map, Value, json};

use crate::dev::{Dev, http, prefixed, text};

const SOON: Duration = Duration::from_secs(120);
const DEVICES: usize = 600;
/// `ledger.hygiene.believed` by default.
const BELIEVED: usize = 20;

fn token(n: usize) -> String {
    format!("{n:064x}")
}

/// One event to every device of the app.
fn event(id: &str) -> Value {
    let recipients: Vec<Value> = (0..DEVICES)
        .map(|n| {
            json!({"id": format!("r-{n}"), "addresses": [
                {"channel": "apns", "address": token(n), "app": "com.example.app"}]})
        })
        .collect();
    json!({
        "id": id, "sender": "shop", "plan": {"channels": ["apns"]},
        "target": {"recipients": recipients},
        "content": {"title": "Hello"},
    })
}

/// What the twin does with every device: `wrong_environment`, or nothing special.
async fn plan(dev: &Dev, device: Option<&str>) {
    let devices: Map<String, Value> = match device {
        None => Map::new(),
        Some(what) => (0..DEVICES).map(|n| (token(n), what.into())).collect(),
    };
    let client = http();
    let url = format!("{}/_sim/apns/plan", dev.apns);
    let request = client.put(url).json(&json!({ "devices": devices }));
    let status = request.send().await.unwrap().status();
    assert!(status.is_success(), "{status}");
}

async fn get(url: String) -> Value {
    http().get(url).send().await.unwrap().json().await.unwrap()
}

/// Deliveries of every event by outcome, as the ledger has counted them.
async fn outcome(dev: &Dev, wanted: &str) -> u64 {
    let counts = get(format!("{}/v1/statistics", dev.gateway)).await;
    let rows = counts["counts"].as_array().unwrap();
    rows.iter()
        .filter(|row| row["outcome"] == wanted)
        .map(|row| row["deliveries"].as_u64().unwrap())
        .sum()
}

async fn suppressed(dev: &Dev) -> usize {
    let url = format!("{}/v1/suppressions?channel=apns&limit=1000", dev.gateway);
    let found = get(url).await;
    let all = found["suppressions"].as_array().unwrap();
    all.iter().filter(|s| s["hold"] == "suppressed").count()
}

async fn metric(dev: &Dev, line: &str) -> Option<f64> {
    let url = format!("{}/metrics", dev.gateway);
    let text = http().get(url).send().await.unwrap().text().await.unwrap();
    let found = text.lines().find(|l| l.starts_with(line))?;
    found.rsplit(' ').next()?.parse().ok()
}

async fn publish(dev: &Dev, id: &str) {
    let url = format!("{}/v1/events", dev.gateway);
    let request = http().post(url).json(&event(id));
    assert_eq!(request.send().await.unwrap().status().as_u16(), 202);
}

async fn until_outcome(dev: &Dev, wanted: &str, count: u64) {
    let what = format!("{count} {wanted}");
    wait_until(SOON, &what, || async {
        outcome(dev, wanted).await == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_environment_retires_what_is_believed_and_is_taken_back() {
    let bootstrap = TestKafka::shared().bootstrap();
    let names = Names::new("hygiene");
    let dev = Dev::start_with(bootstrap, names.topic_prefix(), |command: &mut Command| {
        let key = "BONGSU__CHANNELS__APNS__ACCOUNTS__DEFAULT__TRUST_BAD_DEVICE_TOKEN";
        command.env(key, "true");
    });
    plan(&dev, Some("wrong_environment")).await;
    publish(&dev, "e-1").await;
    until_outcome(&dev, "refused", DEVICES as u64).await;
    // The list follows the statistics.
    wait_until(SOON, "retired before the guard stopped", || async {
        suppressed(&dev).await >= BELIEVED
    })
    .await;
    assert_eq!(suppressed(&dev).await, BELIEVED);
    assert_eq!(
        metric(&dev, "bongsu_hygiene_guarded_scopes").await,
        Some(1.0)
    );
    let withheld = metric(&dev, "bongsu_hygiene_withheld_total").await;
    assert_eq!(withheld, Some((DEVICES - BELIEVED) as f64));

    // What is retired is not called; the rest still is.
    let fanout = "bongsu_suppressed_addresses{channel=\"all\",service=\"fanout\"}";
    let known = Some(BELIEVED as f64);
    wait_until(SOON, fanout, || async {
        metric(&dev, fanout).await == known
    })
    .await;
    publish(&dev, "e-2").await;
    let rest = (DEVICES - BELIEVED) as u64;
    until_outcome(&dev, "refused", DEVICES as u64 + rest).await;
    assert_eq!(suppressed(&dev).await, BELIEVED);

    // Mended, and taken back.
    plan(&dev, None).await;
    let ask = |arguments: &[&str]| prefixed(names.topic_prefix(), bootstrap, arguments);
    let undo = [
        "suppressions",
        "undo",
        "--channel",
        "apns",
        "--app",
        "com.example.app",
        "--since",
        "1h",
        "--who",
        "ann",
        "--why",
        "a sandbox key",
        "--json",
    ];
    let told: Value = serde_json::from_str(&text(&mut ask(&undo))).unwrap();
    assert_eq!(told["addresses"], BELIEVED);
    for service in [
        "bongsu_suppressed_addresses{channel=\"all\",service=\"fanout\"}",
        "bongsu_suppressed_addresses{channel=\"apns\",service=\"dispatch\"}",
    ] {
        wait_until(SOON, service, || async {
            metric(&dev, service).await == Some(0.0)
        })
        .await;
    }
    wait_until(SOON, "the store's table", || async {
        suppressed(&dev).await == 0
    })
    .await;
    publish(&dev, "e-3").await;
    until_outcome(&dev, "accepted", DEVICES as u64).await;
    assert_eq!(suppressed(&dev).await, 0);
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_a_bad_token_is_only_suspected_and_a_person_may_hold_an_address() {
    let bootstrap = TestKafka::shared().bootstrap();
    let names = Names::new("doubts");
    let dev = Dev::start(bootstrap, names.topic_prefix());
    plan(&dev, Some("wrong_environment")).await;
    publish(&dev, "e-1").await;
    until_outcome(&dev, "refused", DEVICES as u64).await;
    assert_eq!(suppressed(&dev).await, 0);

    // By hand over HTTP: held, listed, and let go.
    let client = http();
    let path = format!("{}/v1/suppressions/webhook/default/a-17", dev.gateway);
    let refused = client.put(&path).json(&json!({})).send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 400);
    let held = client.put(&path).json(&json!({"why": "asked for it"}));
    assert_eq!(held.send().await.unwrap().status().as_u16(), 200);
    let asked = format!(
        "{}/v1/suppressions?channel=webhook&account=default&address_id=a-17",
        dev.gateway
    );
    wait_until(SOON, "the list", || async {
        let found = get(asked.clone()).await;
        found["suppressions"][0]["reason"] == "withheld"
            && found["suppressions"][0]["why"] == "asked for it"
    })
    .await;
    let service = "bongsu_suppressed_addresses{channel=\"webhook\",service=\"dispatch\"}";
    wait_until(SOON, service, || async {
        metric(&dev, service).await == Some(1.0)
    })
    .await;
    let gone = client.delete(&path).send().await.unwrap();
    assert_eq!(gone.status().as_u16(), 200);
    wait_until(SOON, service, || async {
        metric(&dev, service).await == Some(0.0)
    })
    .await;
    dev.stop();
}
