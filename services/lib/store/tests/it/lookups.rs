//! Questions and answers.

use std::sync::Arc;

use bongsu_domain::{Channel, Outcome, Timestamp};
use bongsu_store::{
    CountsQuery, EventAnswer, EventQuery, Finding, LedgerReceipt, LedgerStore, RecipientQuery,
    SenderScope,
};

use crate::sample::{BEGIN, MINUTE, ann, apply, id, receipt_of};

type Store = Arc<dyn LedgerStore>;

fn settled(sender: &str, event: &str, recipient: &str, at: i64) -> LedgerReceipt {
    let delivery = id(sender, event, recipient);
    let outcome = Outcome::Accepted;
    let mut receipt = receipt_of(
        sender,
        event,
        recipient,
        Finding::Outcome { delivery, outcome },
        at,
    );
    receipt.facts.accepted_at = Some(Timestamp(at));
    receipt
}

fn only(exact: &[&str], prefixes: &[&str]) -> SenderScope {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    SenderScope::Only {
        exact: owned(exact),
        prefixes: owned(prefixes),
    }
}

fn event_query(sender: Option<&str>, scope: SenderScope) -> EventQuery {
    EventQuery {
        event_id: "e-1".to_owned(),
        sender: sender.map(str::to_owned),
        scope,
        limit: 2,
        after: None,
    }
}

fn recipient_query(scope: SenderScope) -> RecipientQuery {
    RecipientQuery {
        recipient: "ann".to_owned(),
        scope,
        limit: 2,
        before: None,
    }
}

pub(crate) async fn a_key_sees_its_senders_only(store: &Store) {
    apply(store, 0, vec![settled("shop", "e-1", "ann", BEGIN)]).await;
    for (scope, sees) in [
        (only(&["shop"], &[]), true),
        (only(&[], &["sh"]), true),
        (only(&[], &[""]), true),
        (only(&["sho"], &["s%", "sh_p", "shopp"]), false),
        (only(&[], &[]), false),
    ] {
        let found = store.delivery(ann(), &scope).await.unwrap();
        assert_eq!(found.is_some(), sees, "{scope:?}");
        let event = store
            .event(&event_query(None, scope.clone()))
            .await
            .unwrap();
        assert_eq!(event != EventAnswer::Unknown, sees, "{scope:?}");
        let query = recipient_query(scope.clone());
        let page = store.recipient_deliveries(&query).await.unwrap();
        assert_eq!(page.deliveries.len() == 1, sees, "{scope:?}");
    }
}

pub(crate) async fn an_event_of_two_senders_is_ambiguous(store: &Store) {
    let both = vec![
        settled("shop", "e-1", "ann", BEGIN),
        settled("bank", "e-1", "ann", BEGIN),
    ];
    apply(store, 0, both).await;
    let answer = store.event(&event_query(None, SenderScope::All)).await;
    let senders = ["bank".to_owned(), "shop".to_owned()];
    assert_eq!(answer.unwrap(), EventAnswer::Ambiguous(senders.into()));
    for query in [
        event_query(Some("bank"), SenderScope::All),
        event_query(None, only(&["bank"], &[])),
    ] {
        let EventAnswer::Found(view) = store.event(&query).await.unwrap() else {
            panic!("one sender is left: {query:?}");
        };
        assert_eq!((view.sender.as_str(), view.deliveries.len()), ("bank", 1));
    }
}

pub(crate) async fn an_event_shows_deliveries_and_refusals_page_by_page(store: &Store) {
    let mut receipts: Vec<_> = ["ann", "bob", "eve"]
        .map(|r| settled("shop", "e-1", r, BEGIN))
        .into();
    let refused = Finding::Event(Outcome::Refused);
    receipts.push(receipt_of("shop", "e-1", "zoe", refused.clone(), BEGIN));
    receipts.push(receipt_of("shop", "e-1", "zoe", refused, BEGIN));
    apply(store, 0, receipts).await;
    let mut query = event_query(Some("shop"), SenderScope::All);
    let mut found = Vec::new();
    loop {
        let EventAnswer::Found(view) = store.event(&query).await.unwrap() else {
            panic!("the event is known");
        };
        assert_eq!(view.receipts.len(), 1);
        assert_eq!(view.receipts[0].recipient.as_deref(), Some("zoe"));
        assert!(view.deliveries.iter().all(|d| d.timeline.len() == 1));
        found.extend(view.deliveries.into_iter().filter_map(|d| d.recipient));
        query.after = view.next_after;
        if query.after.is_none() {
            break;
        }
    }
    found.sort();
    assert_eq!(found, ["ann", "bob", "eve"]);
}

pub(crate) async fn a_recipients_list_is_read_page_by_page(store: &Store) {
    let receipts = vec![
        settled("shop", "e-1", "ann", BEGIN),
        settled("shop", "e-2", "ann", BEGIN + 2),
        settled("shop", "e-3", "ann", BEGIN + 2),
        settled("bank", "e-4", "ann", BEGIN + 1),
        settled("shop", "e-5", "bob", BEGIN + 1),
    ];
    apply(store, 0, receipts).await;
    let mut query = recipient_query(SenderScope::All);
    let mut events = Vec::new();
    loop {
        let page = store.recipient_deliveries(&query).await.unwrap();
        assert!(page.deliveries.len() <= 2);
        events.extend(page.deliveries.into_iter().map(|d| d.event_id));
        query.before = page.next;
        if query.before.is_none() {
            break;
        }
    }
    events[..2].sort();
    assert_eq!(events, ["e-2", "e-3", "e-4", "e-1"]);
}

/// Two transactional deliveries in the first minute, a bulk one of an app in the next.
async fn three(store: &Store) {
    let mut bulk = settled("shop", "e-3", "ann", BEGIN + MINUTE);
    bulk.facts.class = "bulk".to_owned();
    bulk.facts.app = Some("news".to_owned());
    let receipts = vec![
        settled("shop", "e-1", "ann", BEGIN),
        settled("shop", "e-2", "ann", BEGIN + MINUTE - 1),
        bulk,
    ];
    apply(store, 0, receipts).await;
}

fn all() -> CountsQuery {
    CountsQuery::between(Timestamp(BEGIN + 1), Timestamp(BEGIN + 2 * MINUTE))
}

pub(crate) async fn counts_are_summed_by_minute(store: &Store) {
    three(store).await;
    let rows = store.counts(&all()).await.unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|r| {
            (
                r.from.0 - BEGIN,
                r.class.as_str(),
                r.app.as_str(),
                r.deliveries,
            )
        })
        .collect();
    assert_eq!(
        told,
        [(0, "transactional", "", 2), (MINUTE, "bulk", "news", 1)]
    );
}

pub(crate) async fn counts_are_filtered(store: &Store) {
    three(store).await;
    let all = all();
    for (query, sum) in [
        (
            CountsQuery {
                app: Some("news".to_owned()),
                ..all.clone()
            },
            1,
        ),
        (
            CountsQuery {
                channel: Some(Channel::Webhook),
                ..all.clone()
            },
            3,
        ),
        (
            CountsQuery {
                channel: Some(Channel::Discord),
                ..all.clone()
            },
            0,
        ),
        (
            CountsQuery {
                outcome: Some(Outcome::Accepted),
                ..all.clone()
            },
            3,
        ),
        (
            CountsQuery {
                to: Timestamp(BEGIN + MINUTE),
                ..all.clone()
            },
            2,
        ),
        (
            CountsQuery {
                bucket_minutes: 60,
                ..all.clone()
            },
            3,
        ),
    ] {
        let rows = store.counts(&query).await.unwrap();
        assert_eq!(
            rows.iter().map(|r| r.deliveries).sum::<i64>(),
            sum,
            "{query:?}"
        );
    }
}
