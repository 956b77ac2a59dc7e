//! A running pipeline on real Kafka: what is published, watched, asked and stopped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use bongsu_testkit::{Names, Postgres, TestKafka, wait_for, wait_until};
use serde_json::{Value, json};

use crate::dev::{Dev, bongsu, drain, http, prefixed, refusal, text};

const SOON: Duration = Duration::from_secs(30);

fn event(id: &str, sender: &str, url: &str, seq: usize) -> Value {
    json!({
        "id": id, "sender": sender, "plan": {"channels": ["webhook"]},
        "target": {"recipients": [{"id": format!("{sender}-reader"), "addresses": [
            {"channel": "webhook", "address": url}]}]},
        "content": {"title": "Hello", "data": {"seq": seq.to_string()}},
    })
}

async fn post(gateway: &str, body: &Value) -> (u16, Value) {
    let url = format!("{gateway}/v1/events");
    let request = http().post(url).json(body);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn get(url: String) -> Option<Value> {
    let answer = http().get(url).send().await.ok()?;
    if answer.status().is_success() {
        answer.json().await.ok()
    } else {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_over_http_can_be_asked_for() {
    let names = Names::new("http");
    let dev = Dev::start(TestKafka::shared().bootstrap(), names.topic_prefix());
    let hook = format!("{}/hook/http", dev.webhook);
    let (status, taken) = post(&dev.gateway, &event("e-1", "shop", &hook, 1)).await;
    assert_eq!((status, &taken["events"][0]["id"]), (202, &json!("e-1")));

    // The ledger follows; the answer comes when it has caught up.
    let asked = format!("{}/v1/events/e-1?sender=shop", dev.gateway);
    let found = wait_for(SOON, "the event's outcome", || async {
        get(asked.clone())
            .await
            .filter(|e| e["deliveries"][0]["outcome"] == "accepted")
    })
    .await;
    let told = &found["deliveries"][0];
    assert_eq!(told["timeline"][0]["word"], "accepted", "{found}");
    let id = told["delivery_id"].as_str().unwrap();
    let delivery = get(format!("{}/v1/deliveries/{id}", dev.gateway)).await;
    assert_eq!(delivery.unwrap()["event_id"], "e-1");
    let page = get(format!(
        "{}/v1/recipients/shop-reader/deliveries",
        dev.gateway
    ))
    .await
    .unwrap();
    assert_eq!(page["deliveries"][0]["delivery_id"], id);

    let (status, problem) = post(&dev.gateway, &json!({"sender": "shop"})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_event")));
    let fields = problem["errors"].to_string();
    assert!(
        fields.contains("plan.channels") && fields.contains("target.recipients"),
        "{problem}"
    );
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_publishes_watches_and_counts_what_waits() {
    let names = Names::new("commands");
    let bootstrap = TestKafka::shared().bootstrap();
    let ask = |arguments: &[&str]| prefixed(names.topic_prefix(), bootstrap, arguments);
    let dev = Dev::start(bootstrap, names.topic_prefix());
    let hook = format!("{}/hook/commands", dev.webhook);

    let flags = [
        "publish", "--json", "--sender", "s", "--id", "flags", "--to",
    ];
    let dry = text(ask(&flags).args([hook.as_str(), "--dry-run"]));
    let dry: Value = serde_json::from_str(&dry).unwrap();
    assert_eq!(dry["offset"], Value::Null);
    let sent: Value = serde_json::from_str(&text(ask(&flags).arg(&hook))).unwrap();
    assert_eq!(sent["topic"], names.topic("events"));
    assert_eq!(sent["offset"], 0, "the dry run published something");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.ndjson");
    let path = file.display().to_string();
    let bad = [
        event("bad-1", "s", &hook, 1),
        json!({"id": "bad-2", "sender": "s"}),
    ];
    std::fs::write(&file, format!("{}\n{}\n", bad[0], bad[1])).unwrap();
    let (code, told) = refusal(&mut ask(&["publish", "--file", &path]));
    assert_eq!(code, Some(64), "{told}");
    assert!(
        told.contains("event 2") && told.contains("plan.channels"),
        "{told}"
    );
    let good: String = (1..=3)
        .map(|n| format!("{}\n", event(&format!("file-{n}"), "s", &hook, n)))
        .collect();
    std::fs::write(&file, good).unwrap();
    let told = text(&mut ask(&["publish", "--file", &path]));
    assert_eq!(told.lines().count(), 3, "{told}");

    // Four events in publish order, and nothing of the refused file.
    let watch = [
        "watch",
        "--json",
        "--from-beginning",
        "--sender",
        "s",
        "--count",
        "4",
    ];
    let seen: Vec<String> = text(&mut ask(&watch))
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["event_id"].to_string())
        .collect();
    assert_eq!(
        seen,
        ["\"flags\"", "\"file-1\"", "\"file-2\"", "\"file-3\""]
    );
    assert_eq!(dev.report().await["requests"], 4);

    // Behind its last delivery a partition holds the marker of fanout's transaction, which is no
    // record: dispatch never commits past it.
    wait_until(SOON, "nothing waits", || async {
        let rows: Value = serde_json::from_str(&text(&mut ask(&["lag", "--json"]))).unwrap();
        let rows = rows.as_array().unwrap();
        let marker = |row: &Value| {
            let dispatch = row["group"].as_str().unwrap().contains("dispatch");
            i64::from(dispatch)
        };
        rows.len() == 8
            && rows
                .iter()
                .all(|row| row["worst_lag"].as_i64() <= Some(marker(row)))
    })
    .await;
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_under_way_and_the_next_run_does_the_rest_once() {
    const EVENTS: usize = 400;
    const SENDERS: usize = 4;
    let names = Names::new("drain");
    let bootstrap = TestKafka::shared().bootstrap();
    // Receivers that outlive the pipeline.
    let faults = json!({"latency_ms": 50}).to_string();
    let mut twin = Twin::start(&["--faults", &faults]);
    let dev = Dev::start(bootstrap, names.topic_prefix());
    let events: Vec<Value> = (0..EVENTS)
        .map(|n| {
            let sender = n % SENDERS;
            let hook = format!("{}/hook/drain-{sender}", twin.url);
            event(
                &format!("e-{n}"),
                &format!("s-{sender}"),
                &hook,
                n / SENDERS,
            )
        })
        .collect();
    assert_eq!(post(&dev.gateway, &Value::Array(events)).await.0, 202);
    wait_until(SOON, "some deliveries", || async {
        twin.report().await["requests"].as_u64() >= Some(20)
    })
    .await;
    dev.stop();
    let before = twin.report().await;
    assert!(before["requests"].as_u64() < Some(400), "{before}");
    assert_eq!(before["unanswered"], 0, "{before}");

    let again = Dev::start(bootstrap, names.topic_prefix());
    wait_until(SOON, "the rest", || async {
        twin.report().await["requests"].as_u64() >= Some(400)
    })
    .await;
    // Whatever is sent twice is sent before the drain ends.
    again.stop();
    let seen = twin.report().await;
    assert_eq!(seen["requests"], EVENTS, "{seen}");
    for broken in ["duplicates", "order_violations", "unnumbered"] {
        assert_eq!(seen[broken], 0, "{seen}");
    }
    drain(&mut twin.process.0);
}

#[test]
fn a_drain_that_misses_its_deadline_ends_with_70() {
    let names = Names::new("missed");
    let bootstrap = TestKafka::shared().bootstrap();
    let dev = Dev::start_with(bootstrap, names.topic_prefix(), |command| {
        command.env("BONGSU__GATEWAY__DRAIN_TIMEOUT", "1s");
    });
    // A client that never finishes its request.
    let mut client = TcpStream::connect(dev.gateway.trim_start_matches("http://")).unwrap();
    let head = "POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
                content-length: 9\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    let mut told = String::new();
    let mut answer = BufReader::new(client.try_clone().unwrap());
    answer.read_line(&mut told).unwrap();
    assert!(told.contains("100 Continue"), "{told}");
    assert_eq!(dev.terminate().code(), Some(70));
}

#[test]
fn the_demo_on_real_kafka_keeps_every_promise() {
    let names = Names::new("demo");
    let summary = text(&mut prefixed(
        names.topic_prefix(),
        TestKafka::shared().bootstrap(),
        &["dev", "--demo", "--once", "--port", "0", "--json"],
    ));
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(
        (&summary["sent"], &summary["outcomes"]),
        (&json!(810), &json!(810))
    );
    for broken in ["lost", "duplicates", "order_violations"] {
        assert_eq!(summary[broken], 0, "{broken}");
    }
}

/// A service in a process of its own; gone with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) && self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}

/// A webhook simulator in a process of its own.
pub(crate) struct Twin {
    process: Running,
    pub(crate) url: String,
}

impl Twin {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = bongsu(&["simulate", "webhook", "--port", "0"]);
        command.args(arguments).stdout(Stdio::piped());
        let mut process = Running(command.spawn().unwrap());
        let mut line = String::new();
        let mut told = BufReader::new(process.0.stdout.take().unwrap());
        told.read_line(&mut line).unwrap();
        let report = line.split_whitespace().last().unwrap();
        let url = report.trim_end_matches("/_sim/report").to_owned();
        Self { process, url }
    }

    async fn report(&self) -> Value {
        get(format!("{}/_sim/report", self.url)).await.unwrap()
    }
}

fn free_address() -> String {
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn services_in_processes_of_their_own_meet_on_kafka_and_postgresql() {
    let names = Names::new("apart");
    let bootstrap = TestKafka::shared().bootstrap();
    let postgres = Postgres::start().unwrap();
    let ask = |arguments: &[&str]| {
        let mut command = prefixed(names.topic_prefix(), bootstrap, arguments);
        command
            .env("BONGSU__TOPICS__REPLICATION", "1")
            .env("BONGSU__TOPICS__MIN_INSYNC_REPLICAS", "1")
            .env("BONGSU__TOPICS__PARTITIONS", "4")
            .env("BONGSU__STORE__URL", postgres.url())
            .env("BONGSU__GATEWAY__ALLOW_ANONYMOUS", "true")
            .env("BONGSU__GATEWAY__ALLOW_PRIVATE", "true")
            .env(
                "BONGSU__CHANNELS__WEBHOOK__ACCOUNTS__DEFAULT__ALLOW_PRIVATE",
                "true",
            );
        command
    };
    text(&mut ask(&["topics", "apply"]));
    let gateway = free_address();
    let mut running = Vec::new();
    for service in ["gateway", "fanout", "dispatch", "ledger"] {
        let ops = free_address();
        let mut command = ask(&["run", service]);
        command.env("BONGSU__GATEWAY__LISTEN", &gateway);
        command.env("BONGSU__PROCESS__OPS_LISTEN", &ops);
        running.push((Running(command.spawn().unwrap()), ops));
    }
    let mut twin = Twin::start(&[]);
    let hook = format!("{}/hook/apart", twin.url);
    for (_, ops) in &running {
        let url = format!("http://{ops}/readyz");
        wait_until(SOON, "readiness", || async {
            get(url.clone()).await.is_some()
        })
        .await;
    }
    let events: Vec<Value> = (1..=50)
        .map(|n| event(&format!("e-{n}"), "shop", &hook, n))
        .collect();
    let gateway = format!("http://{gateway}");
    assert_eq!(post(&gateway, &Value::Array(events)).await.0, 202);
    let last = format!("{gateway}/v1/events/e-50?sender=shop");
    wait_until(SOON, "the last outcome in PostgreSQL", || async {
        get(last.clone())
            .await
            .is_some_and(|e| e["deliveries"][0]["outcome"] == "accepted")
    })
    .await;
    let seen = twin.report().await;
    assert_eq!(
        (&seen["requests"], &seen["duplicates"]),
        (&json!(50), &json!(0))
    );
    assert_eq!(seen["order_violations"], 0, "{seen}");
    for (service, _) in &mut running {
        drain(&mut service.0);
    }
    drain(&mut twin.process.0);
}
