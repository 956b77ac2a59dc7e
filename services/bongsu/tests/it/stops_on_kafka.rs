//! `bongsu stop`, `start` and `stops` against real Kafka.

use std::sync::{Arc, Mutex};

use bongsu_schemas::{AuditEntry, Codec};
use bongsu_stream::kafka::{KafkaCluster, Settings};
use bongsu_stream::port::{From, Isolation, Record, TailRange, TopicPartition};
use bongsu_testkit::{Names, TestKafka};
use serde_json::Value;

use crate::dev::{prefixed, refusal, text};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Every entry of the audit.
async fn audit(bootstrap: &str, topic: &str) -> Vec<AuditEntry> {
    let cluster = KafkaCluster::connect(Settings {
        bootstrap_servers: bootstrap.to_owned(),
        ..Settings::default()
    })
    .unwrap();
    let found: Arc<Mutex<Vec<Record>>> = Arc::default();
    let sink = Arc::clone(&found);
    let range = TailRange {
        partition: TopicPartition::new(topic, 0),
        from: From::Beginning,
        until: None,
    };
    let each = Box::new(move |record| sink.lock().unwrap().push(record));
    cluster
        .read_tails(vec![range], Isolation::Committed, each)
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
    let listed = json(&text(&mut ask(&["stops", "--json"])));
    assert_eq!(listed[0]["scope"], "account/discord/default", "{listed}");
    assert_eq!(listed[1]["scope"], "sender/shop-1", "{listed}");
    assert_eq!(listed[0]["until"], Value::Null);
    assert!(listed[1]["until"].is_string() && listed[1]["why"] == "a loop");

    // A slip of the pen is told what there is.
    let bob = ["--who", "bob", "--why", "mended"];
    let (code, told) = refusal(ask(&["start", "sender", "shop1"]).args(bob));
    assert_eq!(code, Some(64));
    assert!(told.contains("sender/shop-1"), "{told}");
    text(ask(&["start", "sender", "shop-1"]).args(bob));
    let listed = text(&mut ask(&["stops"]));
    assert!(
        listed.contains("account/discord/default") && !listed.contains("shop-1"),
        "{listed}"
    );
    let all = json(&text(&mut ask(&["stops", "--all", "--json"])));
    assert_eq!(
        (&all[1]["state"], &all[1]["who"]),
        (&"started".into(), &"bob".into())
    );

    let entries = audit(bootstrap, &names.topic("audit")).await;
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
}
