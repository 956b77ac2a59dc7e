//! What receipts make of a delivery.

use std::sync::Arc;

use bongsu_domain::{Outcome, Timestamp};
use bongsu_store::{CountsQuery, Finding, LedgerStore};

use crate::sample::{BEGIN, MINUTE, ann, apply, counted, outcome, receipt, report, seen};

type Store = Arc<dyn LedgerStore>;

pub(crate) async fn an_outcome_is_counted_once_however_often_it_is_read(store: &Store) {
    let first = apply(store, 0, vec![outcome(Outcome::Accepted, BEGIN)]).await;
    assert_eq!((first.applied, first.new_deliveries), (1, 1));
    let copies = vec![
        outcome(Outcome::Accepted, BEGIN + 5),
        outcome(Outcome::Accepted, BEGIN + MINUTE),
    ];
    let again = apply(store, 1, copies).await;
    assert_eq!((again.applied, again.transitions), (2, 0));
    assert_eq!(counted(store).await, ["accepted=1"]);
    assert_eq!(seen(store, ann()).await.decided_at, Some(Timestamp(BEGIN)));
}

pub(crate) async fn accepted_beats_the_rest_and_the_first_stays_otherwise(store: &Store) {
    apply(store, 0, vec![outcome(Outcome::Expired, BEGIN)]).await;
    apply(store, 1, vec![outcome(Outcome::Dead, BEGIN + 1)]).await;
    assert_eq!(counted(store).await, ["expired=1"]);
    let report = apply(store, 2, vec![outcome(Outcome::Accepted, BEGIN + MINUTE)]).await;
    assert_eq!(report.transitions, 1);
    assert_eq!(counted(store).await, ["accepted=1"]);
    let rows = store
        .counts(&CountsQuery::between(Timestamp(0), Timestamp(BEGIN * 2)))
        .await
        .unwrap();
    // The delivery stays in the minute in which it was first settled.
    assert_eq!(rows[0].from, Timestamp(BEGIN));
}

pub(crate) async fn a_report_moves_the_outcome_forward_and_the_counts_with_it(store: &Store) {
    apply(store, 0, vec![outcome(Outcome::Accepted, BEGIN)]).await;
    apply(store, 1, vec![report(Outcome::Undelivered, BEGIN + MINUTE)]).await;
    assert_eq!(counted(store).await, ["undelivered=1"]);
    apply(
        store,
        2,
        vec![report(Outcome::Delivered, BEGIN + 2 * MINUTE)],
    )
    .await;
    apply(
        store,
        3,
        vec![report(Outcome::Undelivered, BEGIN + 3 * MINUTE)],
    )
    .await;
    assert_eq!(counted(store).await, ["delivered=1"]);
    let view = seen(store, ann()).await;
    assert_eq!(view.outcome, Some(Outcome::Delivered));
    assert_eq!(view.decided_at, Some(Timestamp(BEGIN + 2 * MINUTE)));
}

pub(crate) async fn a_report_that_comes_first_is_not_lost(store: &Store) {
    let mut early = report(Outcome::Delivered, BEGIN);
    // What a provider's report leaves open.
    early.facts = bongsu_store::Facts {
        class: early.facts.class,
        channel: early.facts.channel,
        ..bongsu_store::Facts::default()
    };
    apply(store, 0, vec![early]).await;
    assert_eq!(counted(store).await, ["delivered=1"]);
    apply(store, 1, vec![outcome(Outcome::Accepted, BEGIN + 1)]).await;
    assert_eq!(counted(store).await, ["delivered=1"]);
    let view = seen(store, ann()).await;
    assert_eq!(view.outcome, Some(Outcome::Delivered));
    assert_eq!(view.recipient.as_deref(), Some("ann"));
    assert_eq!(
        (view.sender.as_str(), view.event_id.as_str()),
        ("shop", "e-1")
    );
    assert_eq!(
        (view.purpose.as_str(), view.origin.as_str()),
        ("informational", "event")
    );
    assert_eq!(view.source.map(|s| s.offset), Some(7));
    let rows = store
        .counts(&CountsQuery::between(Timestamp(0), Timestamp(BEGIN * 2)))
        .await
        .unwrap();
    let platforms: Vec<_> = rows.iter().map(|r| r.platform.as_str()).collect();
    assert_eq!(platforms, ["server"], "counted under what is known by now");
}

pub(crate) async fn an_attempt_shows_a_delivery_without_counting_it(store: &Store) {
    let attempt = Finding::Attempt {
        delivery: ann(),
        result: "throttled".to_owned(),
    };
    apply(store, 0, vec![receipt(attempt, BEGIN)]).await;
    let view = seen(store, ann()).await;
    assert_eq!(
        (view.outcome, view.reason, view.timeline.len()),
        (None, None, 1)
    );
    assert_eq!(counted(store).await, [""; 0]);
}

pub(crate) async fn the_timeline_tells_the_whole_life_in_order(store: &Store) {
    let attempt = |at: i64| {
        let result = "unavailable".to_owned();
        let delivery = ann();
        let mut attempt = receipt(Finding::Attempt { delivery, result }, at);
        attempt.attempts = i32::try_from(at - BEGIN).unwrap();
        attempt
    };
    let mut settled = outcome(Outcome::Accepted, BEGIN + 3);
    settled.attempts = 3;
    settled.provider_reference = Some("p-1".to_owned());
    let life = vec![
        report(Outcome::Delivered, BEGIN + 3),
        attempt(BEGIN + 2),
        settled,
        attempt(BEGIN + 1),
        attempt(BEGIN + 1),
    ];
    apply(store, 0, life).await;
    let view = seen(store, ann()).await;
    let told: Vec<_> = view
        .timeline
        .iter()
        .map(|e| format!("{} {} {}", e.kind, e.word, e.at.0 - BEGIN))
        .collect();
    let expected = [
        "attempt unavailable 1",
        "attempt unavailable 2",
        "outcome accepted 3",
        "report delivered 3",
    ];
    assert_eq!(told, expected);
    assert_eq!(view.attempts, 3);
    assert_eq!(view.provider_reference.as_deref(), Some("p-1"));
    assert_eq!(view.source.unwrap().offset, 7);
}

pub(crate) async fn a_text_with_a_nul_is_stored(store: &Store) {
    let mut strange = outcome(Outcome::Refused, BEGIN);
    strange.detail = Some("a\0b".to_owned());
    apply(store, 0, vec![strange]).await;
    assert_eq!(seen(store, ann()).await.outcome, Some(Outcome::Refused));
}
