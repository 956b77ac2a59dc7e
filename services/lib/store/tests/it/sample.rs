//! Receipts to write.

use std::sync::Arc;

use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{AddressId, DeliveryId, Outcome, OutcomeId, Timestamp};
use bongsu_store::{
    ApplyReport, CountsQuery, DeliveryView, Facts, Finding, LedgerReceipt, LedgerStore,
    PartitionBatch, Position, ReceiptBatch, SenderScope,
};

pub(crate) const TOPIC: &str = "bongsu.results";
pub(crate) const MINUTE: i64 = 60_000;
/// A full minute.
pub(crate) const BEGIN: i64 = 1_760_000_040_000;

pub(crate) fn id(sender: &str, event: &str, recipient: &str) -> DeliveryId {
    DeliveryId::derive(DeliveryParts {
        sender,
        event_id: event,
        channel: "webhook",
        recipient,
        address_id: &AddressId("a".to_owned()),
        step: 0,
    })
}

pub(crate) fn facts(sender: &str, event: &str, recipient: &str) -> Facts {
    Facts {
        sender: sender.to_owned(),
        event_id: event.to_owned(),
        class: "transactional".to_owned(),
        purpose: "informational".to_owned(),
        channel: Some("webhook".to_owned()),
        account: Some("default".to_owned()),
        recipient: Some(recipient.to_owned()),
        address_id: Some("a".to_owned()),
        platform: Some("server".to_owned()),
        app: None,
        origin: "event".to_owned(),
        content_hash: "00000000000000aa".to_owned(),
        accepted_at: Some(Timestamp(BEGIN)),
        expires_at: Some(Timestamp(BEGIN + 3_600_000)),
        source: Some(Position {
            topic: "bongsu.deliveries.webhook".to_owned(),
            partition: 1,
            offset: 7,
        }),
        ..Facts::default()
    }
}

/// A receipt about the delivery of `event` of `shop` to `ann`.
pub(crate) fn receipt(finding: Finding, at: i64) -> LedgerReceipt {
    receipt_of("shop", "e-1", "ann", finding, at)
}

pub(crate) fn receipt_of(
    sender: &str,
    event: &str,
    recipient: &str,
    finding: Finding,
    at: i64,
) -> LedgerReceipt {
    let receipt_id = match &finding {
        Finding::Event(_) => OutcomeId::of_event(sender, event, recipient).to_string(),
        Finding::Outcome { delivery, .. } => OutcomeId::of(*delivery).to_string(),
        Finding::Attempt { delivery, .. } => {
            OutcomeId::of_attempt(*delivery, u32::try_from(at - BEGIN).unwrap_or(0)).to_string()
        }
        Finding::Report { delivery, outcome } => {
            OutcomeId::of_event(&delivery.to_string(), outcome.as_str(), "report").to_string()
        }
    };
    LedgerReceipt {
        receipt_id,
        finding,
        facts: facts(sender, event, recipient),
        reason: "none".to_owned(),
        detail: None,
        attempts: 1,
        at: Timestamp(at),
        possible_duplicate: false,
        provider_reference: None,
        worker_id: Some("w-1".to_owned()),
    }
}

pub(crate) fn ann() -> DeliveryId {
    id("shop", "e-1", "ann")
}

pub(crate) fn outcome(outcome: Outcome, at: i64) -> LedgerReceipt {
    let delivery = ann();
    receipt(Finding::Outcome { delivery, outcome }, at)
}

pub(crate) fn report(outcome: Outcome, at: i64) -> LedgerReceipt {
    let delivery = ann();
    receipt(Finding::Report { delivery, outcome }, at)
}

/// One partition's receipts at consecutive offsets from `first`.
pub(crate) fn batch(partition: i32, first: i64, receipts: Vec<LedgerReceipt>) -> ReceiptBatch {
    let receipts: Vec<_> = (first..).zip(receipts).collect();
    ReceiptBatch {
        partitions: vec![PartitionBatch {
            topic: TOPIC.into(),
            partition,
            next_offset: receipts.last().map_or(first, |(o, _)| o + 1),
            receipts,
        }],
        ..ReceiptBatch::default()
    }
}

pub(crate) async fn apply(
    store: &Arc<dyn LedgerStore>,
    first: i64,
    receipts: Vec<LedgerReceipt>,
) -> ApplyReport {
    store.apply(&batch(0, first, receipts)).await.unwrap()
}

pub(crate) async fn seen(store: &Arc<dyn LedgerStore>, id: DeliveryId) -> DeliveryView {
    store
        .delivery(id, &SenderScope::All)
        .await
        .unwrap()
        .unwrap()
}

/// Everything counted, as `outcome=n` in the order of the outcomes' words.
pub(crate) async fn counted(store: &Arc<dyn LedgerStore>) -> Vec<String> {
    let query = CountsQuery {
        bucket_minutes: 60 * 24 * 365,
        ..CountsQuery::between(Timestamp(0), Timestamp(BEGIN * 2))
    };
    let mut sums = std::collections::BTreeMap::new();
    for row in store.counts(&query).await.unwrap() {
        *sums.entry(row.outcome).or_insert(0) += row.deliveries;
    }
    sums.into_iter().map(|(o, n)| format!("{o}={n}")).collect()
}
