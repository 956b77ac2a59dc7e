//! Reports with a provider's id only: the same in every backend.

use std::sync::Arc;

use bongsu_domain::{Outcome, Timestamp};
use bongsu_store::{DueReport, Finding, LedgerReceipt, LedgerStore, ReportChanges, WaitingReport};

use crate::sample::{BEGIN, batch, id, receipt_of};

fn waiting(account: &str, key: &str, said: &str) -> WaitingReport {
    WaitingReport {
        channel: "webhook".into(),
        account: account.into(),
        provider_reference: key.into(),
        said: said.into(),
        outcome: "delivered".into(),
        reason: "none".into(),
        at: BEGIN,
        received_at: BEGIN + 1,
        look_at: BEGIN + 1,
    }
}

fn came(reports: &[WaitingReport]) -> ReportChanges {
    ReportChanges {
        came: reports.to_vec(),
        ..ReportChanges::default()
    }
}

fn outcome(event: &str, key: Option<&str>) -> LedgerReceipt {
    let finding = Finding::Outcome {
        delivery: id("shop", event, "ann"),
        outcome: Outcome::Accepted,
    };
    LedgerReceipt {
        provider_reference: key.map(str::to_owned),
        ..receipt_of("shop", event, "ann", finding, BEGIN)
    }
}

async fn due(store: &Arc<dyn LedgerStore>, now: i64) -> Vec<DueReport> {
    store.due_reports(Timestamp(now), 100).await.unwrap()
}

pub(crate) async fn a_report_waits_for_its_delivery_and_is_found_by_the_providers_id(
    store: &Arc<dyn LedgerStore>,
) {
    let reports = [
        waiting("default", "SM1", "SMS/delivered"),
        waiting("another", "SM1", "SMS/delivered"),
        waiting("default", "SM2", "SMS/delivered"),
        waiting("default", "SM3", "SMS/delivered"),
    ];
    store.keep_reports(&came(&reports)).await.unwrap();
    let found = due(store, BEGIN + 1).await;
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|due| due.deliveries.is_empty()), "early");

    let receipts = vec![
        outcome("e-1", Some("SM1")),
        outcome("e-2", None),
        // Two deliveries that claim one id: nobody can tell.
        outcome("e-3", Some("SM3")),
        outcome("e-4", Some("SM3")),
    ];
    store.apply(&batch(0, 0, receipts)).await.unwrap();
    for found in due(store, BEGIN + 1).await {
        let (account, key) = (&found.report.account, &found.report.provider_reference);
        let ids: Vec<_> = found.deliveries.iter().map(|d| &d.delivery_id).collect();
        match (account.as_str(), key.as_str()) {
            ("default", "SM1") => {
                assert_eq!(ids, [&id("shop", "e-1", "ann").to_string()]);
                let named = &found.deliveries[0];
                assert_eq!(named.class, "transactional");
                assert_eq!(named.source_partition, 1);
            }
            ("default", "SM3") => assert_eq!(ids.len(), 2),
            _ => assert!(ids.is_empty(), "{account} {key}"),
        }
    }
}

pub(crate) async fn reports_are_kept_once_and_looked_at_when_due(store: &Arc<dyn LedgerStore>) {
    let (first, second) = (waiting("a", "K", "one"), waiting("a", "K", "two"));
    let mut again = first.clone();
    again.received_at += 5;
    again.look_at += 5;
    let all = [first.clone(), second.clone(), again];
    store.keep_reports(&came(&all)).await.unwrap();
    assert!(due(store, BEGIN).await.is_empty(), "not before its moment");
    let found = due(store, BEGIN + 10).await;
    assert_eq!(found.len(), 2, "the first copy stands");
    assert!(found.iter().all(|due| due.report.look_at == BEGIN + 1));
    assert_eq!(
        store
            .due_reports(Timestamp(BEGIN + 10), 1)
            .await
            .unwrap()
            .len(),
        1
    );

    let mut later = second.clone();
    later.look_at = BEGIN + 100;
    let changes = ReportChanges {
        later: vec![later.clone()],
        over: vec![first.id(), "never".into()],
        ..ReportChanges::default()
    };
    store.keep_reports(&changes).await.unwrap();
    assert!(due(store, BEGIN + 99).await.is_empty());
    let found = due(store, BEGIN + 100).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].report, later);
}
