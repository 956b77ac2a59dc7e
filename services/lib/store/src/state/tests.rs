//! Reports in any order, told any number of times.

use bongsu_domain::DeliveryId;
use proptest::prelude::*;

use super::*;
use crate::receipt::Facts;

fn receipt(n: usize, finding: Finding) -> LedgerReceipt {
    LedgerReceipt {
        receipt_id: format!("r-{n}"),
        finding,
        facts: Facts {
            sender: if n == 0 { "shop".into() } else { String::new() },
            address_id: (n == 0).then(|| "a".into()),
            ..Facts::default()
        },
        reason: format!("reason-{n}"),
        detail: None,
        attempts: i32::from(n == 0),
        at: Timestamp(1_000 + i64::try_from(n).unwrap_or(0)),
        possible_duplicate: false,
        provider_reference: None,
        worker_id: None,
    }
}

fn delivery() -> DeliveryId {
    DeliveryId::parse("543ca93d-b1f3-326a-271e-8b06ef78cd5d").unwrap()
}

/// One outcome and some reports, as the log may hold them: doubled, in any order.
fn history() -> impl Strategy<Value = (Vec<LedgerReceipt>, Vec<usize>)> {
    let settled = prop::sample::select(Outcome::ALL.to_vec());
    let reports = prop::collection::vec(prop::sample::select(Outcome::ALL.to_vec()), 0..4);
    (settled, reports).prop_flat_map(|(settled, reports)| {
        let mut receipts = vec![receipt(
            0,
            Finding::Outcome {
                delivery: delivery(),
                outcome: settled,
            },
        )];
        receipts.extend(reports.into_iter().enumerate().map(|(n, outcome)| {
            let finding = Finding::Report {
                delivery: delivery(),
                outcome,
            };
            receipt(n + 1, finding)
        }));
        let all = receipts.len();
        let order = prop::collection::vec(0..all, 0..3 * all);
        let order = order.prop_map(move |mut order| {
            // Each at least once.
            order.extend((0..all).filter(|n| !order.contains(n)).collect::<Vec<_>>());
            order
        });
        (Just(receipts), order)
    })
}

fn absorbed(receipts: &[LedgerReceipt], order: impl IntoIterator<Item = usize>) -> DeliveryRow {
    let mut order = order.into_iter();
    let first = &receipts[order.next().unwrap()];
    let mut row = DeliveryRow::first(first, &delivery().to_string());
    row.absorb(first).unwrap();
    for n in order {
        row.absorb(&receipts[n]).unwrap();
    }
    row
}

fn word(row: &DeliveryRow) -> Option<Outcome> {
    row.standing().unwrap().map(|verdict| verdict.outcome)
}

/// How far a report has moved a delivery.
const fn stage(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Delivered => 2,
        Outcome::Undelivered => 1,
        Outcome::Accepted
        | Outcome::Refused
        | Outcome::Suppressed
        | Outcome::Expired
        | Outcome::Cancelled
        | Outcome::Unknown
        | Outcome::Dead => 0,
    }
}

proptest! {
    #[test]
    fn reports_in_any_order_and_number_come_to_the_same((receipts, order) in history()) {
        let in_order = absorbed(&receipts, 0..receipts.len());
        let row = absorbed(&receipts, order.iter().copied());
        prop_assert_eq!(word(&row), word(&in_order));
        prop_assert_eq!(&row.sender, "shop");
        // Told once more, each of them changes nothing at all.
        for receipt in &receipts {
            let mut again = row.clone();
            again.absorb(receipt).unwrap();
            prop_assert_eq!(&again, &row);
        }
    }

    #[test]
    fn once_the_outcome_is_known_reports_only_move_it_forward((receipts, order) in history()) {
        let mut row = DeliveryRow::first(&receipts[0], &delivery().to_string());
        row.absorb(&receipts[0]).unwrap();
        let mut before = word(&row).unwrap();
        for n in order {
            row.absorb(&receipts[n]).unwrap();
            let after = word(&row).unwrap();
            prop_assert!(after == before || stage(after) > stage(before), "{before} to {after}");
            before = after;
        }
        // Only what the provider may have taken can be moved by its reports.
        let settled = match receipts[0].finding {
            Finding::Outcome { outcome, .. } => outcome,
            Finding::Event(_) | Finding::Attempt { .. } | Finding::Report { .. } => before,
        };
        let moves = matches!(settled, Outcome::Accepted | Outcome::Unknown | Outcome::Undelivered);
        prop_assert!(moves || before == settled, "{settled} to {before}");
    }
}
