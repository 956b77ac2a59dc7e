//! Publishing from other systems: one sender, every client, real Kafka, real PostgreSQL.

use std::process::{Command, Stdio};
use std::time::Duration;

use bongsu_testkit::{Names, Postgres, TestKafka, wait_until};
use serde_json::Value;

use crate::dev::{Dev, scripts};

const COUNT: u64 = 20;
/// python, java, node, kcat, curl and the outbox.
const CLIENTS: u64 = 6;

async fn report(dev: &Dev) -> Value {
    let url = format!("{}/_sim/report", dev.webhook);
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_on_kafka_publish_for_one_sender_in_order_and_a_careless_one_is_named() {
    let kafka = TestKafka::shared();
    let postgres = Postgres::start().unwrap();
    let prefix = Names::new("clients").topic_prefix().to_owned();
    let dev = Dev::start(kafka.bootstrap(), &prefix);
    let run = Command::new(scripts().join("clients"))
        .args([
            "run",
            "--bootstrap",
            kafka.bootstrap(),
            "--topic-prefix",
            &prefix,
        ])
        .args([
            "--url",
            &format!("{}/hook/clients", dev.webhook),
            "--gateway",
            &dev.gateway,
        ])
        .args([
            "--database",
            &postgres.url(),
            "--count",
            &COUNT.to_string(),
            "--json",
        ])
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    wait_until(
        Duration::from_secs(60),
        "every client's notifications",
        || async { report(&dev).await["requests"].as_u64() >= Some(CLIENTS * COUNT) },
    )
    .await;

    careless(kafka.bootstrap(), &prefix, &dev);
    wait_until(
        Duration::from_secs(60),
        "the careless client's notifications",
        || async { report(&dev).await["requests"].as_u64() >= Some(CLIENTS * COUNT + 16) },
    )
    .await;
    let seen = report(&dev).await;
    for broken in ["duplicates", "order_violations"] {
        assert_eq!(seen[broken], 0, "{seen}");
    }
    let metrics = reqwest::get(format!("{}/metrics", dev.gateway))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let named = metrics
        .lines()
        .any(|l| l.starts_with("bongsu_events_rehomed_total") && l.contains("client=\"careless\""));
    assert!(named, "nobody names the careless client");

    dev.stop();
}

/// Sixteen senders through librdkafka's default partitioner, which is not murmur2.
fn careless(bootstrap: &str, prefix: &str, dev: &Dev) {
    let mut kcat = Command::new("kcat")
        .args([
            "-P",
            "-b",
            bootstrap,
            "-t",
            &format!("{prefix}events"),
            "-K",
            "\t",
        ])
        .args([
            "-X",
            "partitioner=consistent",
            "-H",
            "bongsu-client-id=careless",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = kcat.stdin.take().unwrap();
    for n in 0..16 {
        let sender = format!("careless-{n}");
        let event = serde_json::json!({
            "id": "1", "sender": sender, "plan": {"channels": ["webhook"]},
            "target": {"recipients": [{"id": "r", "addresses": [
                {"channel": "webhook", "address": format!("{}/hook/{sender}", dev.webhook)}]}]},
            "content": {"body": "b", "data": {"seq": "1"}},
        });
        std::io::Write::write_all(&mut input, format!("{sender}\t{event}\n").as_bytes()).unwrap();
    }
    drop(input);
    assert!(kcat.wait().unwrap().success());
}
