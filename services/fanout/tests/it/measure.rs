//! Figures, printed and not judged:
//! `scripts/test -p bongsu-fanout --profile bench-run measure -- --ignored --nocapture`.
#![expect(clippy::print_stderr, reason = "a measurement is read by a person")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bongsu_domain::partition_of;
use bongsu_fanout::digest::Seen;
use bongsu_fanout::rebuild::Rebuild;
use bongsu_fanout::trail::Trail;
use bongsu_runtime::Clock;
use bongsu_schemas::convert::{event_hash, event_key};
use bongsu_schemas::{Codec, NoLookup, parse_json_event};
use bongsu_stream::kafka::{KafkaCluster, Settings};
use bongsu_stream::port::{Cluster, Committed, Headers, Outgoing, TopicPartition, TopicSpec};
use bongsu_testkit::{Names, TestKafka};

use crate::world::event;

const PARTITIONS: i32 = 8;
const EVENTS: usize = 1_000_000;

async fn topic(cluster: &dyn Cluster, names: &Names, name: &str) -> Arc<str> {
    let name = names.topic(name);
    let append = (
        "message.timestamp.type".to_owned(),
        "LogAppendTime".to_owned(),
    );
    let spec = TopicSpec {
        name: name.clone(),
        partitions: PARTITIONS,
        replication: 1,
        settings: BTreeMap::from([append]),
    };
    cluster.create_topic(spec).await.unwrap();
    name.into()
}

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// User and system time of this process, seconds.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let mut fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11);
    let mut ticks = || fields.next().unwrap().parse::<f64>().unwrap();
    (ticks() + ticks()) / 100.0
}

/// A million events behind eight partitions: read back from their notes, and without them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn takeover_behind_a_million_events() {
    let names = Names::new("takeover");
    let cluster = KafkaCluster::connect(Settings {
        bootstrap_servers: TestKafka::shared().bootstrap().to_owned(),
        ..Settings::default()
    })
    .unwrap();
    let events = topic(&*cluster, &names, "events").await;
    let seen = topic(&*cluster, &names, "seen").await;
    let codec = Arc::new(Codec::default());
    let producer = cluster.producer(Duration::from_millis(5)).unwrap();
    let mut trails: Vec<_> = (0..PARTITIONS)
        .map(|_| Trail::anew(None, Vec::new()))
        .collect();
    let mut ends = vec![0_i64; 8];
    let (mut event_bytes, mut note_bytes) = (0, 0);
    let at = Clock::system().now_millis();
    for n in 0..EVENTS {
        let sender = format!("sender-{}", n % 2_000);
        let event =
            parse_json_event(event(&sender, &n.to_string()).to_string().as_bytes()).unwrap();
        let partition = partition_of(sender.as_bytes(), PARTITIONS);
        let lane = usize::try_from(partition).unwrap();
        let value = codec.encode(&event).unwrap();
        event_bytes += value.len();
        let write = |topic: &Arc<str>, key: Option<String>, value| {
            producer.send(Outgoing {
                topic: Arc::clone(topic),
                partition,
                key: key.map(Into::into),
                value: Some(value),
                headers: Headers::default(),
            })
        };
        drop(write(&events, Some(sender), value));
        let (key, content) = (event_key(&event), event_hash(&event));
        let offset = ends[lane];
        ends[lane] += 1;
        trails[lane].pass(
            offset,
            Some(Seen {
                offset,
                at,
                key,
                content,
            }),
        );
        let of = TopicPartition::new(Arc::clone(&events), partition);
        for stretch in trails[lane].stretches(offset + 1) {
            let value = stretch.encode(&of);
            note_bytes += value.len();
            drop(write(&seen, None, value));
        }
        if n % 10_000 == 0 {
            producer.drain(Duration::from_secs(60)).await.unwrap();
        }
    }
    producer.drain(Duration::from_secs(60)).await.unwrap();
    eprintln!("{EVENTS} events: {event_bytes} bytes; notes: {note_bytes} bytes");
    let assigned: Vec<_> = (0..PARTITIONS)
        .zip(&ends)
        .map(|(p, end)| {
            let committed = Committed {
                offset: *end,
                metadata: String::new(),
            };
            (TopicPartition::new(Arc::clone(&events), p), Some(committed))
        })
        .collect();
    let empty = topic(&*cluster, &names, "no-notes").await;
    for (what, seen) in [("notes", seen), ("events", empty)] {
        let rebuild = Rebuild {
            cluster: Arc::clone(&cluster),
            codec: Arc::clone(&codec),
            schemas: Arc::new(NoLookup),
            schema_patience: Duration::from_secs(1),
            seen,
            partitions: PARTITIONS,
            window_ms: 3_600_000,
            clock: Clock::system(),
        };
        let before = resident();
        let (begun, worked) = (Instant::now(), processor_time());
        let shares = assigned.chunks(4).map(|share| {
            let (rebuild, share) = (rebuild.clone(), share.to_vec());
            #[expect(clippy::disallowed_methods, reason = "a test's own task")]
            tokio::spawn(async move { rebuild.run(&share).await })
        });
        let pasts = futures_util::future::join_all(shares).await;
        let (took, worked) = (begun.elapsed(), processor_time() - worked);
        let ids: usize = pasts
            .iter()
            .flat_map(|p| p.as_ref().unwrap().values())
            .map(|past| past.repeats.len())
            .sum();
        assert_eq!(ids, EVENTS);
        eprintln!(
            "from {what}: {took:?} in two shares, {worked:.2} s of processor time, {} bytes of memory per id",
            resident().saturating_sub(before) / ids
        );
    }
}
