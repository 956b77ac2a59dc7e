//! Publishing from other systems: one sender, every client, real Kafka, real PostgreSQL.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use bongsu_domain::partition_of;
use bongsu_testkit::{Names, Postgres, TestKafka};
use serde_json::Value;

use crate::dev::{Dev, http, scripts};

/// Of every client.
const SENDER: &str = "foreign-clients";
const COUNT: u64 = 20;
/// python, java, node, kcat, curl and the outbox.
const CLIENTS: u64 = 6;

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
            "--sender",
            SENDER,
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
    dev.received(CLIENTS * COUNT).await;
    assert_eq!(
        compared(&dev, &read_events(kafka.bootstrap(), &prefix)).await,
        0
    );

    careless(kafka.bootstrap(), &prefix, &dev);
    dev.received(CLIENTS * COUNT + 16).await;
    let seen = dev.report().await;
    assert_eq!(seen["requests"], CLIENTS * COUNT + 16, "{seen}");
    for broken in ["duplicates", "order_violations", "unnumbered"] {
        assert_eq!(seen[broken], 0, "{seen}");
    }
    let metrics = http()
        .get(format!("{}/metrics", dev.gateway))
        .send()
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

/// Offsets of the sender's events, all in the partition that the contract names.
fn read_events(bootstrap: &str, prefix: &str) -> Vec<String> {
    let topic = format!("{prefix}events");
    let read = Command::new("kcat")
        .args(["-C", "-e", "-q", "-o", "beginning", "-b", bootstrap])
        .args(["-t", &topic, "-f", "%k %p\n"])
        .output()
        .unwrap();
    assert!(read.status.success());
    let text = String::from_utf8(read.stdout).unwrap();
    let right = format!("{SENDER} {}", partition_of(SENDER.as_bytes(), 4));
    let records: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(
        records.iter().filter(|r| **r != right).count(),
        0,
        "{records:?}"
    );
    records
}

/// Every event is at the simulator: as many different events as there are records.
async fn compared(dev: &Dev, records: &[String]) -> usize {
    let url = format!("{}/_sim/requests?limit=10000", dev.webhook);
    let text = http().get(url).send().await.unwrap().text().await.unwrap();
    let seen: BTreeSet<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event_id"].to_string())
        .collect();
    records.len() - seen.len()
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
