//! Suppressions and the guard's windows: the same in every backend.

use std::sync::Arc;

use bongsu_domain::{Channel, Hold, Outcome, Reason, Suppression, Timestamp};
use bongsu_store::{Finding, LedgerStore, SuppressionChanges, SuppressionQuery, WindowRow};

use crate::sample::{BEGIN, batch, id, receipt};

fn suppression(address: &str) -> Suppression {
    Suppression {
        channel: Channel::Apns,
        account: "shop".into(),
        address_id: address.into(),
        app: Some("app".into()),
        hold: Hold::Suppressed,
        reason: Reason::InvalidAddress,
        at: Timestamp(BEGIN),
        registered_at: Some(Timestamp(BEGIN - 1)),
        verdicts: 2,
        first_at: Timestamp(BEGIN - 2),
        by: "hygiene".into(),
        why: None,
    }
}

async fn all(store: &Arc<dyn LedgerStore>, query: &SuppressionQuery) -> Vec<String> {
    let found = store.suppressions(query).await.unwrap();
    found.into_iter().map(|s| s.address_id).collect()
}

pub(crate) async fn suppressions_are_kept_changed_and_forgotten(store: &Arc<dyn LedgerStore>) {
    let mut other = suppression("b");
    other.channel = Channel::Webhook;
    other.app = None;
    other.why = Some("asked \0 for".replace('\0', ""));
    let changes = SuppressionChanges {
        kept: vec![suppression("a"), other.clone(), suppression("c")],
        ..SuppressionChanges::default()
    };
    store.keep_suppressions(&changes).await.unwrap();
    store.keep_suppressions(&changes).await.unwrap();
    let whole = SuppressionQuery {
        limit: 10,
        ..SuppressionQuery::default()
    };
    let mut found = store.suppressions(&whole).await.unwrap();
    assert!(found.is_sorted_by_key(Suppression::key));
    found.sort_by(|x, y| x.address_id.cmp(&y.address_id));
    assert_eq!(found, [suppression("a"), other.clone(), suppression("c")]);
    let of_webhooks = SuppressionQuery {
        channel: Some(Channel::Webhook),
        account: Some("shop".into()),
        address_id: Some("b".into()),
        ..whole.clone()
    };
    assert_eq!(all(store, &of_webhooks).await, ["b"]);
    // Page by page.
    let mut pages = Vec::new();
    let mut query = SuppressionQuery {
        limit: 1,
        ..whole.clone()
    };
    while let Some(last) = store.suppressions(&query).await.unwrap().pop() {
        query.after = Some(last.key());
        pages.push(last.address_id);
    }
    assert_eq!(pages, all(store, &whole).await);
    // Changed, forgotten, and everything anew.
    let mut changed = suppression("a");
    changed.hold = Hold::Suspected;
    let changes = SuppressionChanges {
        kept: vec![changed.clone()],
        gone: vec![suppression("c").key(), suppression("never").key()],
        ..SuppressionChanges::default()
    };
    store.keep_suppressions(&changes).await.unwrap();
    let mut found = store.suppressions(&whole).await.unwrap();
    found.sort_by(|x, y| x.address_id.cmp(&y.address_id));
    assert_eq!(found, [changed, other]);
    let changes = SuppressionChanges {
        replace: true,
        kept: vec![suppression("z")],
        ..SuppressionChanges::default()
    };
    store.keep_suppressions(&changes).await.unwrap();
    assert_eq!(all(store, &whole).await, ["z"]);
}

pub(crate) async fn windows_move_with_their_batch_and_never_twice(store: &Arc<dyn LedgerStore>) {
    let row = |minute: i64, told: i64, dead: i64| WindowRow {
        channel: "apns".into(),
        account: "shop".into(),
        app: String::new(),
        minute,
        told,
        dead,
    };
    let accepted = || {
        let finding = Finding::Outcome {
            delivery: id("shop", "e-1", "ann"),
            outcome: Outcome::Accepted,
        };
        receipt(finding, BEGIN)
    };
    let mut first = batch(0, 0, vec![accepted()]);
    first.windows = vec![row(60_000, 5, 1), row(120_000, 2, 2)];
    store.apply(&first).await.unwrap();
    // A ledger that lost its partition writes the same again: nothing is counted twice.
    store.apply(&first).await.unwrap();
    let mut second = batch(0, 1, vec![accepted()]);
    second.windows = vec![row(120_000, 3, 1)];
    store.apply(&second).await.unwrap();
    let found = store.windows(Timestamp(0)).await.unwrap();
    assert_eq!(found, [row(60_000, 5, 1), row(120_000, 5, 3)]);
    let found = store.windows(Timestamp(60_001)).await.unwrap();
    assert_eq!(found, [row(120_000, 5, 3)]);
    store.forget_windows(59_999).await.unwrap();
    let found = store.windows(Timestamp(0)).await.unwrap();
    assert_eq!(found, [row(120_000, 5, 3)]);
}
