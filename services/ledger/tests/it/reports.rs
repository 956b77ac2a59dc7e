//! Reports that carry a provider's own id only: mapped, early, twice, over a restart, and given up;
//! through the real ledger on the log.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bongsu_domain::Outcome;
use bongsu_ledger::Resources;
use bongsu_runtime::Clock;
use bongsu_schemas::{Receipt, headers};
use bongsu_store::{MemoryStore, SenderScope};
use bongsu_stream::port::{
    From, Headers, Isolation, Outgoing, TailRange, TopicPartition, TopicSpec,
};
use bongsu_testkit::wait_until;

use crate::world::{AT, Ledger, PARTITIONS, SOON, World, id, outcome};

/// A world with the topic of such reports, on virtual time.
async fn world() -> World {
    let (world, _) = World::local(&MemoryStore::new()).await;
    let spec = TopicSpec {
        name: world.topics.reports().to_string(),
        partitions: PARTITIONS,
        replication: 1,
        settings: Default::default(),
    };
    world.cluster.create_topic(spec).await.unwrap();
    world
}

fn start(world: &World) -> Ledger {
    Ledger::start(Resources {
        clock: Clock::starting_at(AT),
        ..world.resources()
    })
}

/// What the gateway writes of a report without our reference.
async fn told(world: &World, key: &str, verdict: Option<&str>) {
    let mut headers = Headers::default()
        .with(headers::KIND, "report")
        .with(headers::PROVIDER, "twilio")
        .with(headers::ACCOUNT, "default");
    if let Some(outcome) = verdict {
        headers = headers
            .with(headers::CHANNEL, "webhook")
            .with(headers::OUTCOME, outcome.to_owned())
            .with(headers::REASON, "none")
            .with(headers::SAID, format!("SMS/{outcome}"))
            .with(headers::AT, (AT + 5).to_string());
    }
    let record = Outgoing {
        topic: world.topics.reports(),
        partition: i32::try_from(key.len()).unwrap() % PARTITIONS,
        key: Some(key.to_owned().into()),
        value: Some("{}".into()),
        headers,
    };
    let producer = world.cluster.producer(Duration::ZERO).unwrap();
    producer.send(record).await.unwrap();
}

/// An accepted delivery that the provider knows by `key`.
fn accepted(event: &str, key: &str) -> Receipt {
    let topic = "bongsu.deliveries.webhook".to_owned();
    Receipt {
        account: Some("default".into()),
        provider_reference: Some(key.into()),
        source_topic: Some(topic),
        source_partition: Some(3),
        source_offset: Some(7),
        ..outcome(event, Outcome::Accepted)
    }
}

async fn stands(world: &World, event: &str) -> Option<Outcome> {
    let view = world.store.delivery(id(event), &SenderScope::All).await;
    view.unwrap()?.outcome
}

async fn until(world: &World, event: &str, expected: Outcome) {
    wait_until(SOON, &format!("{event} is {expected}"), || async {
        stands(world, event).await == Some(expected)
    })
    .await;
}

/// The receipts of reports in one partition of `results`.
async fn mapped(world: &World, partition: i32) -> Vec<Receipt> {
    let found: Arc<Mutex<Vec<Receipt>>> = Arc::default();
    let (sink, codec) = (Arc::clone(&found), Arc::clone(&world.codec));
    let each = Box::new(move |record: bongsu_stream::port::Record| {
        let receipt: Receipt = codec.decode(&record.value.unwrap()).unwrap();
        if receipt.kind == "report" {
            sink.lock().unwrap().push(receipt);
        }
    });
    let range = TailRange {
        partition: TopicPartition::new(world.topics.results(), partition),
        from: From::Beginning,
        until: None,
    };
    let read = world
        .cluster
        .read_tails(vec![range], Isolation::Committed, each)
        .await;
    read.unwrap();
    std::mem::take(&mut *found.lock().unwrap())
}

/// Waits until so many reports came to this.
async fn until_counted(ledger: &Ledger, result: &str, reports: u32) {
    let line = format!("result=\"{result}\"");
    wait_until(2 * SOON, &line, || async {
        let text = ledger.metrics.render().unwrap();
        let found = text
            .lines()
            .find(|l| l.starts_with("bongsu_ledger_unmapped_reports_total") && l.contains(&line));
        found.is_some_and(|l| l.ends_with(&format!(" {reports}")))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_report_is_mapped_by_the_providers_id_into_its_deliverys_partition() {
    let world = world().await;
    let ledger = start(&world);
    world
        .publish(&[accepted("e-1", "SM1"), accepted("e-2", "SM2")])
        .await;
    until(&world, "e-1", Outcome::Accepted).await;
    // Undelivered after delivered: overtaken, and reports only move forward.
    for verdict in ["delivered", "undelivered", "delivered"] {
        told(&world, "SM1", Some(verdict)).await;
    }
    told(&world, "SM2", None).await;
    until(&world, "e-1", Outcome::Delivered).await;
    until_counted(&ledger, "not_final", 1).await;
    let receipts = mapped(&world, 3).await;
    let said = |outcome: &str| {
        receipts
            .iter()
            .filter(|r| r.outcome == outcome)
            .collect::<Vec<_>>()
    };
    assert_eq!(said("undelivered").len(), 1);
    let delivered = said("delivered");
    assert!(
        delivered
            .iter()
            .all(|r| r.receipt_id == delivered[0].receipt_id),
        "one receipt"
    );
    let first = delivered[0];
    assert_eq!(first.delivery_id, Some(id("e-1").to_string()));
    assert_eq!(
        (first.at.0, first.account.as_deref()),
        (AT + 5, Some("default"))
    );
    assert_eq!(first.provider_reference.as_deref(), Some("SM1"));
    assert_eq!(stands(&world, "e-2").await, Some(Outcome::Accepted));
    ledger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_early_report_waits_for_its_outcome_also_over_a_restart() {
    let world = world().await;
    let ledger = start(&world);
    told(&world, "SM1", Some("delivered")).await;
    until_counted(&ledger, "kept", 1).await;
    ledger.kill();
    let ledger = start(&world);
    world.publish(&[accepted("e-1", "SM1")]).await;
    until(&world, "e-1", Outcome::Delivered).await;
    until_counted(&ledger, "mapped", 1).await;
    assert_eq!(mapped(&world, 3).await.len(), 1);
    ledger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knows_or_two_claim_is_given_up_and_counted() {
    let world = world().await;
    let ledger = start(&world);
    world
        .publish(&[accepted("e-1", "SM1"), accepted("e-2", "SM1")])
        .await;
    until(&world, "e-2", Outcome::Accepted).await;
    told(&world, "SM1", Some("delivered")).await;
    told(&world, "of-another", Some("delivered")).await;
    until_counted(&ledger, "ambiguous", 1).await;
    until_counted(&ledger, "unknown", 1).await;
    for event in ["e-1", "e-2"] {
        assert_eq!(stands(&world, event).await, Some(Outcome::Accepted));
    }
    ledger.stop().await;
}
