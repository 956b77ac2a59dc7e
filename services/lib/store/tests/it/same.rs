//! Random histories: every backend ends as memory does, and the books balance.

use std::collections::BTreeMap;
use std::sync::Arc;

use bongsu_domain::{Outcome, Timestamp};
use bongsu_store::{
    CountsQuery, Finding, LedgerReceipt, LedgerStore, MemoryStore, RecipientQuery, SenderScope,
};

use crate::sample::{BEGIN, MINUTE, batch, id, receipt_of, seen};

const DELIVERIES: u64 = 12;

/// A small generator of our own: the same seed is the same history on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }
}

fn any_receipt(dice: &mut Dice) -> LedgerReceipt {
    let event = format!("e-{}", dice.below(DELIVERIES));
    let delivery = id("shop", &event, "ann");
    let outcomes = Outcome::ALL;
    let at = dice.below(outcomes.len() as u64);
    let outcome = outcomes[usize::try_from(at).unwrap()];
    let finding = match dice.below(8) {
        0 => Finding::Attempt {
            delivery,
            result: "throttled".to_owned(),
        },
        1..=3 => Finding::Report { delivery, outcome },
        4 => Finding::Event(Outcome::Refused),
        _ => Finding::Outcome { delivery, outcome },
    };
    let at = BEGIN + i64::try_from(dice.below(10)).unwrap() * MINUTE / 2;
    let mut receipt = receipt_of("shop", &event, "ann", finding, at);
    if dice.below(4) == 0 {
        receipt.facts.platform = None;
    }
    receipt.attempts = i32::try_from(dice.below(5)).unwrap();
    receipt.possible_duplicate = dice.below(9) == 0;
    receipt
}

pub(crate) async fn random_histories_look_as_in_memory(store: &Arc<dyn LedgerStore>) {
    let model: Arc<dyn LedgerStore> = Arc::new(MemoryStore::new());
    let seed = 20_251_125;
    let mut dice = Dice(seed);
    let mut log: Vec<LedgerReceipt> = Vec::new();
    for _ in 0..40 {
        // From a random place at or before the end: what a zombie or a restart reads again.
        let from = log.len() - usize::try_from(dice.below(6)).unwrap().min(log.len());
        log.extend((0..dice.below(9)).map(|_| any_receipt(&mut dice)));
        let batch = batch(2, i64::try_from(from).unwrap(), log[from..].to_vec());
        let (ours, theirs) = (store.apply(&batch).await, model.apply(&batch).await);
        assert_eq!(ours.unwrap(), theirs.unwrap(), "seed {seed}");
    }
    let all = CountsQuery::between(Timestamp(0), Timestamp(BEGIN * 2));
    let counts = store.counts(&all).await.unwrap();
    assert_eq!(counts, model.counts(&all).await.unwrap(), "seed {seed}");
    let query = RecipientQuery {
        recipient: "ann".to_owned(),
        scope: SenderScope::All,
        limit: 100,
        before: None,
    };
    let page = store.recipient_deliveries(&query).await.unwrap();
    assert_eq!(page, model.recipient_deliveries(&query).await.unwrap());
    let mut books: BTreeMap<String, i64> = BTreeMap::new();
    for delivery in page.deliveries {
        let ours = seen(store, delivery.delivery_id).await;
        assert_eq!(
            ours,
            seen(&model, delivery.delivery_id).await,
            "seed {seed}"
        );
        if let Some(outcome) = ours.outcome {
            *books.entry(outcome.as_str().to_owned()).or_insert(0) += 1;
        }
    }
    for row in counts {
        *books.entry(row.outcome).or_insert(0) -= row.deliveries;
    }
    assert!(books.values().all(|n| *n == 0), "the books: {books:?}");
}
