use std::collections::BTreeMap;

use bongsu_schemas::NoLookup;
use bongsu_schemas::millis::Millis;
use bongsu_schemas::records::JournalOwner;
use bongsu_stream::local::LocalCluster;
use bongsu_stream::port::{Headers, Outgoing, TopicSpec};

use super::*;
use crate::journal::{CHECKPOINT, INTENTS, mark, pack};
use crate::lane::{Progress, lane_record};

const TEXTS: [&str; 3] = [
    "543ca93d-b1f3-326a-271e-8b06ef78cd5d",
    "643ca93d-b1f3-326a-271e-8b06ef78cd5d",
    "743ca93d-b1f3-326a-271e-8b06ef78cd5d",
];

struct Logs {
    log: LocalCluster,
    sources: Sources,
}

fn id(n: usize) -> DeliveryId {
    DeliveryId::parse(TEXTS[n]).unwrap()
}

impl Logs {
    async fn new() -> Self {
        let log = LocalCluster::default();
        for name in ["deliveries", "results", "journal", "lanes"] {
            let spec = TopicSpec {
                name: name.to_owned(),
                partitions: 1,
                replication: 1,
                settings: BTreeMap::new(),
            };
            log.create_topic(spec).await.unwrap();
        }
        let sources = Sources {
            cluster: Arc::new(log.clone()),
            deliveries: "deliveries".into(),
            results: "results".into(),
            journal: "journal".into(),
            lanes: "lanes".into(),
            codec: Arc::new(Codec::default()),
            schemas: Arc::new(NoLookup),
            schema_patience: Duration::from_secs(1),
            lane_bytes: 1_000,
        };
        Self { log, sources }
    }

    async fn write(&self, topic: &str, value: Option<bytes::Bytes>, headers: Headers) -> i64 {
        let record = Outgoing {
            topic: topic.into(),
            partition: 0,
            key: None,
            value,
            headers,
        };
        let producer = self.log.producer(Duration::ZERO).unwrap();
        producer.send(record).await.unwrap()
    }

    async fn outcome(&self, topic: &str, offset: i64, id: DeliveryId) -> i64 {
        let headers = Headers::default()
            .with(headers::KIND, "outcome")
            .with(headers::SOURCE_TOPIC, topic.to_owned())
            .with(headers::SOURCE_OFFSET, offset.to_string())
            .with(headers::DELIVERY_ID, id.to_string());
        self.write("results", None, headers).await
    }

    async fn delivery(&self) -> i64 {
        let value = Some("a delivery".into());
        self.write("deliveries", value, Headers::default()).await
    }

    async fn journal(&self, entry: &JournalEntry) -> i64 {
        let value = self.sources.codec.encode(entry).unwrap();
        self.write("journal", Some(value), Headers::default()).await
    }

    async fn checkpoint(&self, watermark: i64, settled: &[(i64, u64)]) -> i64 {
        let entry = JournalEntry {
            kind: CHECKPOINT.to_owned(),
            at: Millis(1),
            watermark,
            settled: pack(watermark, settled.iter().copied()),
            ..JournalEntry::default()
        };
        self.journal(&entry).await
    }

    async fn park(&self, origin: i64, id: DeliveryId, key: u64) -> i64 {
        self.park_by(0, origin, id, key).await
    }

    async fn park_by(&self, epoch: i64, origin: i64, id: DeliveryId, key: u64) -> i64 {
        let original = Record {
            topic: "deliveries".into(),
            partition: 0,
            offset: origin,
            timestamp: 0,
            key: None,
            value: Some("parked".into()),
            headers: Headers::default(),
        };
        let progress = Progress {
            attempts: 1,
            not_before: 9,
            uncertain: false,
        };
        let record = lane_record(&"lanes".into(), &original, id, (key, progress), epoch);
        let producer = self.log.producer(Duration::ZERO).unwrap();
        producer.send(record).await.unwrap()
    }

    async fn restored(&self, committed: Option<(i64, String)>) -> Restored {
        let tp = TopicPartition::new("deliveries", 0);
        let committed = committed.map(|(offset, metadata)| Committed { offset, metadata });
        let mut all = restore(self.sources.clone(), vec![(tp.clone(), committed)]).await;
        all.remove(&tp).unwrap()
    }
}

fn pointer(results_floor: i64, journal_floor: i64) -> Pointer {
    Pointer {
        results_floor,
        journal_floor,
        reach: 100,
        ..Pointer::default()
    }
}

#[tokio::test]
async fn nothing_committed_means_nothing_was_sent() {
    let logs = Logs::new().await;
    let restored = logs.restored(None).await;
    assert!(restored.clean && restored.settled.is_empty());
    assert_eq!(restored.doubted, [0, 0]);
}

#[tokio::test]
async fn of_two_receipts_at_one_offset_the_later_is_believed() {
    let logs = Logs::new().await;
    let journal = logs.checkpoint(5, &[]).await;
    // The first is of a delivery that lay there before the topic was made anew.
    logs.outcome("deliveries", 5, id(0)).await;
    logs.outcome("deliveries", 5, id(1)).await;
    logs.outcome("other", 6, id(2)).await;
    let restored = logs
        .restored(Some((5, pointer(0, journal).to_text())))
        .await;
    assert_eq!(restored.settled, SettledTags::from([(5, id(1).tag())]));
    assert!(!restored.clean);
    assert_eq!((restored.doubted[0], restored.results_end), (100, 3));
}

#[tokio::test]
async fn text_checkpoint_and_tail_are_folded_together() {
    let logs = Logs::new().await;
    logs.outcome("deliveries", 2, id(0)).await;
    let journal = logs.checkpoint(3, &[(5, 50)]).await;
    let intents = JournalEntry {
        kind: INTENTS.to_owned(),
        intents: vec![
            mark(Source::Main, 8, 80),
            mark(Source::Main, 9, id(2).tag()),
        ],
        ..JournalEntry::default()
    };
    logs.journal(&intents).await;
    logs.outcome("deliveries", 9, id(2)).await;
    let text = Pointer {
        settled: pack(4, [(7, 70)].into_iter()),
        ..pointer(1, journal)
    };
    let restored = logs.restored(Some((4, text.to_text()))).await;
    let settled = SettledTags::from([(5, 50), (7, 70), (9, id(2).tag())]);
    assert_eq!(restored.settled, settled);
    assert_eq!(restored.intents[0], SettledTags::from([(8, 80)]));
    assert!(!restored.intents_unsure);
}

#[tokio::test]
async fn a_lane_record_proves_the_diversion_and_a_second_copy_is_not_sent() {
    let logs = Logs::new().await;
    let journal = logs.checkpoint(3, &[]).await;
    logs.park(4, id(0), 7).await;
    logs.park(5, id(1), 7).await;
    logs.park(4, id(0), 7).await;
    logs.park(6, id(2), 8).await;
    logs.outcome("lanes", 1, id(1)).await;
    let restored = logs
        .restored(Some((3, pointer(0, journal).to_text())))
        .await;
    let origins: Vec<_> = restored.settled.keys().copied().collect();
    assert_eq!(origins, [4, 5, 6]);
    assert_eq!(restored.lane.keys, BTreeMap::from([(7, 1), (8, 1)]));
    let ended: Vec<_> = restored.lane.settled.keys().copied().collect();
    assert_eq!(
        ended,
        [1],
        "a copy that is passed over is no end of the other"
    );
    assert_eq!(restored.lane.doubled, BTreeSet::from([4]));
    assert_eq!((restored.lane.next, restored.lane.end), (4, 4));
    assert_eq!(restored.lane.records.len(), 4);
}

#[tokio::test]
async fn both_copies_have_ended_when_one_has_and_a_call_noted_for_one_was_made_for_both() {
    let logs = Logs::new().await;
    let journal = logs.checkpoint(3, &[]).await;
    for n in [0, 1] {
        logs.park(4, id(n), 7).await;
        logs.park(4, id(n), 7).await;
    }
    // Of the one the second copy was sent, of the other it was about to be.
    logs.outcome("lanes", 1, id(0)).await;
    let noted = JournalEntry {
        kind: INTENTS.to_owned(),
        intents: vec![mark(Source::Lane, 3, id(1).tag())],
        ..JournalEntry::default()
    };
    logs.journal(&noted).await;
    let restored = logs
        .restored(Some((3, pointer(0, journal).to_text())))
        .await;
    let ended: Vec<_> = restored.lane.settled.keys().copied().collect();
    assert_eq!(ended, [0, 1]);
    assert_eq!(restored.lane.keys, BTreeMap::from([(7, 1)]));
    assert_eq!(restored.intents[1], SettledTags::from([(2, id(1).tag())]));
}

#[tokio::test]
async fn parked_deliveries_beyond_memory_are_counted_and_left_in_kafka() {
    let mut logs = Logs::new().await;
    logs.sources.lane_bytes = 13;
    let journal = logs.checkpoint(0, &[]).await;
    for n in 0..3 {
        logs.park(n, id(usize::try_from(n).unwrap()), 7).await;
    }
    let restored = logs
        .restored(Some((0, pointer(0, journal).to_text())))
        .await;
    assert_eq!(restored.lane.records.len(), 2);
    assert_eq!((restored.lane.next, restored.lane.end), (2, 3));
    assert_eq!(restored.lane.keys, BTreeMap::from([(7, 3)]));
}

#[tokio::test]
async fn a_damaged_text_or_checkpoint_loses_no_receipt() {
    for damage in ["garbage in the text", "garbage in the journal"] {
        let logs = Logs::new().await;
        for _ in 0..4 {
            logs.delivery().await;
        }
        let first = logs.checkpoint(0, &[(1, id(1).tag())]).await;
        logs.outcome("deliveries", 1, id(1)).await;
        logs.outcome("deliveries", 3, id(2)).await;
        let text = if damage == "garbage in the text" {
            "nonsense".to_owned()
        } else {
            let value = Some(bytes::Bytes::from_static(b"not a checkpoint"));
            let at = logs.write("journal", value, Headers::default()).await;
            assert!(at > first);
            pointer(2, at).to_text()
        };
        let restored = logs.restored(Some((1, text))).await;
        let settled = SettledTags::from([(1, id(1).tag()), (3, id(2).tag())]);
        assert_eq!(restored.settled, settled, "{damage}");
        assert!(restored.intents_unsure && !restored.clean, "{damage}");
        assert_eq!(restored.doubted[0], i64::MAX, "{damage}");
    }
}

/// The first checkpoint of an owner that took over when the lane ended at `lane_end`.
fn claim(lane_end: i64, owners: &[JournalOwner]) -> JournalEntry {
    JournalEntry {
        kind: CHECKPOINT.to_owned(),
        claim: true,
        watermark: 5,
        lane_end,
        owners: owners.to_vec(),
        ..JournalEntry::default()
    }
}

#[tokio::test]
async fn what_a_former_owner_wrote_after_it_lost_the_partition_says_nothing_to_any_later_one() {
    let logs = Logs::new().await;
    let first = logs.journal(&claim(0, &[])).await;
    logs.park_by(first, 5, id(0), 50).await;
    let before = JournalOwner {
        epoch: first,
        lane_end: 0,
    };
    let second = logs.journal(&claim(1, &[before])).await;
    // The first owner comes back, and has not heard of it; another claims and never gets to work.
    logs.park_by(first, 6, id(1), 60).await;
    let sent_late = logs.park_by(first, 7, id(2), 70).await;
    logs.outcome("lanes", sent_late, id(2)).await;
    let late = JournalEntry {
        claim: false,
        epoch: first,
        watermark: 9,
        ..claim(0, &[])
    };
    logs.journal(&late).await;
    let noted = JournalEntry {
        kind: INTENTS.to_owned(),
        epoch: first,
        intents: vec![mark(Source::Lane, 1, id(1).tag())],
        ..JournalEntry::default()
    };
    logs.journal(&noted).await;
    logs.journal(&JournalEntry {
        watermark: 9,
        ..claim(0, &[])
    })
    .await;

    let third = logs.restored(Some((5, pointer(0, second).to_text()))).await;
    let look = |restored: &Restored| {
        assert_eq!(restored.committed, 5, "late checkpoints are passed over");
        let settled: Vec<i64> = restored.settled.keys().copied().collect();
        assert_eq!(
            settled,
            [5, 7],
            "what was parked late is not ended, what was sent is"
        );
        let lane = &restored.lane;
        assert_eq!(lane.keys, BTreeMap::from([(50, 1)]));
        assert!(lane.settled.keys().all(|offset| *offset == sent_late));
        assert_eq!((lane.next, lane.end), (3, 3));
    };
    look(&third);
    let intents = SettledTags::from([(6, id(1).tag())]);
    assert_eq!(
        third.intents[0], intents,
        "the call was for the one that is open"
    );

    // Its own successor knows as much.
    let claimed = logs.journal(&claim(3, &third.lane.owners.from(0))).await;
    let fourth = logs
        .restored(Some((5, pointer(0, claimed).to_text())))
        .await;
    look(&fourth);
}
