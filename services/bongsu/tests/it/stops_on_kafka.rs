//! `bongsu stop`, `start` and `stops` against real Kafka.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bongsu_runtime::Tasks;
use bongsu_schemas::{AuditEntry, AvroRecord, Codec, Delivery, Receipt};
use bongsu_stream::kafka::{KafkaCluster, Settings};
use bongsu_stream::port::{From, Isolation, Record, TailRange, TopicPartition};
use bongsu_testkit::{Names, TestKafka, wait_until};
use serde_json::{Value, json};

use crate::dev::{Dev, http, prefixed, refusal, text};

const SOON: Duration = Duration::from_secs(30);

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Every record of a topic that can be read as what is asked for, in no order.
async fn read<T: AvroRecord>(bootstrap: &str, topic: &str) -> Vec<T> {
    let cluster = KafkaCluster::connect(Settings {
        bootstrap_servers: bootstrap.to_owned(),
        ..Settings::default()
    })
    .unwrap();
    let described = cluster.topics(vec![topic.to_owned()]).await.unwrap();
    let ranges = (0..described[topic].partitions)
        .map(|p| TailRange {
            partition: TopicPartition::new(topic, p),
            from: From::Beginning,
            until: None,
        })
        .collect();
    let found: Arc<Mutex<Vec<Record>>> = Arc::default();
    let sink = Arc::clone(&found);
    let each = Box::new(move |record| sink.lock().unwrap().push(record));
    cluster
        .read_tails(ranges, Isolation::Committed, each)
        .await
        .unwrap();
    let records = std::mem::take(&mut *found.lock().unwrap());
    let codec = Codec::default();
    let decode = |r: &Record| codec.decode(r.value.as_deref().unwrap()).unwrap();
    records.iter().map(decode).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_is_listed_started_again_and_kept_in_the_audit() {
    let bootstrap = TestKafka::shared().bootstrap();
    let names = Names::new("stops");
    let ask = |arguments: &[&str]| {
        let mut command = prefixed(names.topic_prefix(), bootstrap, arguments);
        command
            .env("BONGSU__TOPICS__REPLICATION", "1")
            .env("BONGSU__TOPICS__MIN_INSYNC_REPLICAS", "1")
            .env("BONGSU__TOPICS__PARTITIONS", "2");
        command
    };
    let (_, told) = refusal(&mut ask(&["stops"]));
    assert!(told.contains("bongsu topics apply"), "{told}");
    text(&mut ask(&["topics", "apply"]));
    assert_eq!(text(&mut ask(&["stops"])).trim(), "nothing is stopped");

    let ann = ["--who", "ann", "--why", "a loop"];
    text(ask(&["stop", "sender", "shop-1", "--until", "30m"]).args(ann));
    text(ask(&["stop", "account", "default", "--channel", "discord"]).args(ann));
    let listed = parse(&text(&mut ask(&["stops", "--json"])));
    assert_eq!(listed[0]["scope"], "account/discord/default", "{listed}");
    assert_eq!(listed[1]["scope"], "sender/shop-1", "{listed}");
    assert_eq!(listed[0]["until"], Value::Null);
    assert!(listed[1]["until"].is_string() && listed[1]["why"] == "a loop");

    // A slip of the pen is told what there is.
    let bob = ["--who", "bob", "--why", "mended"];
    let (code, told) = refusal(ask(&["start", "sender", "shop1"]).args(bob));
    assert_eq!(code, Some(64));
    assert!(told.contains("sender/shop-1"), "{told}");
    let (_, told) = refusal(ask(&["start", "sender", "shop-1", "--backlog", "oldest"]).args(bob));
    assert!(told.contains("drop-stale=10m"), "{told}");
    let stale = ["--backlog", "drop-stale=10m"];
    text(ask(&["start", "sender", "shop-1"]).args(stale).args(bob));
    let listed = text(&mut ask(&["stops"]));
    assert!(
        listed.contains("account/discord/default") && !listed.contains("shop-1"),
        "{listed}"
    );
    let all = parse(&text(&mut ask(&["stops", "--all", "--json"])));
    assert_eq!(
        (&all[1]["state"], &all[1]["who"]),
        (&"started".into(), &"bob".into())
    );
    assert_eq!(all[1]["backlog"], "drop-stale");

    let entries: Vec<AuditEntry> = read(bootstrap, &names.topic("audit")).await;
    let acts: Vec<_> = entries
        .iter()
        .map(|e| (e.actor.as_str(), e.act.as_str(), e.scope.as_str()))
        .collect();
    assert_eq!(
        acts,
        [
            ("ann", "stop", "sender/shop-1"),
            ("ann", "stop", "account/discord/default"),
            ("bob", "start", "sender/shop-1"),
        ]
    );
    assert!(entries[0].details.contains_key("until") && entries[0].why == "a loop");
    assert_eq!(entries[2].details["backlog"], "drop-stale");
}

/// When the simulator read each request to a hook, in Unix microseconds.
async fn read_at(dev: &Dev, hook: &str) -> Vec<u64> {
    let url = format!(
        "{}/_sim/requests?path=/hook/{hook}&limit=10000",
        dev.webhook
    );
    let lines = http().get(url).send().await.unwrap().text().await.unwrap();
    let read = |line: &str| parse(line)["read_us"].as_u64().unwrap();
    lines.lines().map(read).collect()
}

/// Publishes to both hooks without a break until told to end; gives the number of events to each.
async fn publish(gateway: String, webhook: String, end: Arc<AtomicBool>) -> usize {
    let client = http();
    let mut n = 0;
    while !end.load(Ordering::Relaxed) {
        n += 1;
        let events: Vec<Value> = ["loud", "calm"]
            .map(|sender| {
                json!({
                    "id": format!("{sender}-{n}"), "sender": sender,
                    "plan": {"channels": ["webhook"]},
                    "target": {"recipients": [{"id": "r", "addresses": [
                        {"channel": "webhook", "address": format!("{webhook}/hook/{sender}")}]}]},
                    "content": {"title": "Hello", "data": {"seq": n.to_string()}},
                })
            })
            .to_vec();
        let answer = client.post(format!("{gateway}/v1/events")).json(&events);
        assert_eq!(answer.send().await.unwrap().status(), 202);
    }
    n
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_bites_within_two_seconds_and_a_start_lets_everything_go_on_in_order() {
    let bootstrap = TestKafka::shared().bootstrap();
    let names = Names::new("bite");
    let dev = Dev::start(bootstrap, names.topic_prefix());
    let ask = |arguments: &[&str]| text(&mut prefixed(names.topic_prefix(), bootstrap, arguments));
    let end = Arc::new(AtomicBool::new(false));
    let published: Arc<Mutex<usize>> = Arc::default();
    let mut publisher = Tasks::new();
    let sink = Arc::clone(&published);
    let work = publish(dev.gateway.clone(), dev.webhook.clone(), Arc::clone(&end));
    publisher.spawn("publisher", async move {
        *sink.lock().unwrap() = work.await;
        Ok::<(), String>(())
    });
    let count = async |hook| read_at(&dev, hook).await.len();
    wait_until(SOON, "traffic", async || count("loud").await > 20).await;

    ask(&["stop", "sender", "loud", "--why", "a test", "--who", "ann"]);
    let stopped = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let bites_by = u64::try_from((stopped + Duration::from_secs(2)).as_micros()).unwrap();
    let judged_at = bites_by + 3_000_000;
    wait_until(SOON, "the other sender goes on", async || {
        read_at(&dev, "calm").await.last() > Some(&judged_at)
    })
    .await;
    let loud = read_at(&dev, "loud").await;
    let late = loud.iter().filter(|at| **at > bites_by).count();
    assert_eq!(late, 0, "sent more than two seconds after the stop");

    end.store(true, Ordering::Relaxed);
    publisher.join().await.unwrap();
    ask(&["start", "sender", "loud", "--why", "over", "--who", "ann"]);
    let all = *published.lock().unwrap();
    assert!(all > loud.len());
    wait_until(SOON, "everything arrives", async || {
        count("loud").await >= all
    })
    .await;
    let report = dev.report().await;
    for broken in ["duplicates", "order_violations"] {
        assert_eq!(report[broken], 0, "{broken}: {report}");
    }
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_backlog_the_newest_of_each_collapse_key_is_sent_and_the_rest_is_answered_for() {
    let bootstrap = TestKafka::shared().bootstrap();
    let names = Names::new("newest");
    let dev = Dev::start(bootstrap, names.topic_prefix());
    let ask = |arguments: &[&str]| text(&mut prefixed(names.topic_prefix(), bootstrap, arguments));
    ask(&["stop", "sender", "loud", "--why", "a test", "--who", "ann"]);
    let hook = format!("{}/hook/loud", dev.webhook);
    let events: Vec<Value> = (0..40)
        .map(|n| {
            json!({
                "id": format!("loud-{n}"), "sender": "loud",
                "collapse_key": format!("order-{}", n % 2),
                "plan": {"channels": ["webhook"]},
                "target": {"recipients": [{"id": "r", "addresses": [
                    {"channel": "webhook", "address": hook}]}]},
                "content": {"title": "Hello", "data": {"seq": n.to_string()}},
            })
        })
        .collect();
    let answer = http()
        .post(format!("{}/v1/events", dev.gateway))
        .json(&events);
    assert_eq!(answer.send().await.unwrap().status(), 202);
    let deliveries = names.topic("deliveries.webhook");
    wait_until(SOON, "fanout is done", async || {
        read::<Delivery>(bootstrap, &deliveries).await.len() == events.len()
    })
    .await;
    let mended = ["--why", "mended", "--who", "ann", "--backlog", "newest"];
    ask(&[&["start", "sender", "loud"][..], &mended].concat());
    let results = names.topic("results");
    wait_until(SOON, "everything is answered for", async || {
        read::<Receipt>(bootstrap, &results).await.len() >= events.len()
    })
    .await;
    let ended: Vec<(String, String)> = read::<Receipt>(bootstrap, &results)
        .await
        .into_iter()
        .map(|receipt| (receipt.outcome, receipt.reason))
        .collect();
    let count = |outcome: &str, reason: &str| {
        let wanted = (outcome.to_owned(), reason.to_owned());
        ended.iter().filter(|found| **found == wanted).count()
    };
    assert_eq!(count("accepted", "none"), 2, "{ended:?}");
    assert_eq!(count("cancelled", "superseded"), 38, "{ended:?}");
    assert_eq!(read_at(&dev, "loud").await.len(), 2);
    dev.stop();
}
