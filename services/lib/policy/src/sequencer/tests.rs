use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const SINGLE: Packing = Packing {
    max: 1,
    one_key: false,
};

fn record(offset: i64, key: u64) -> Admission<()> {
    Admission {
        offset,
        key,
        tag: offset.unsigned_abs(),
        bytes: 10,
        expires_at: 1_000,
        payload: (),
    }
}

fn fresh() -> Sequencer<()> {
    Sequencer::new(0, BTreeMap::new(), 0)
}

#[test]
fn one_key_goes_one_after_the_other_and_another_key_passes() {
    let mut s = fresh();
    for (offset, key) in [(0, 7), (1, 7), (2, 8)] {
        assert_eq!(s.admit(record(offset, key)), Admitted::Queued);
    }
    assert_eq!(s.start(SINGLE), [0]);
    assert_eq!(s.start(SINGLE), [2]);
    assert!(s.start(SINGLE).is_empty());
    s.settle(0);
    assert!(s.start(SINGLE).is_empty(), "settled is not terminal yet");
    s.acknowledge(0, Some(100));
    assert_eq!(s.start(SINGLE), [1]);
    assert_eq!(
        s.position(),
        Position {
            watermark: 1,
            results_floor: 101
        }
    );
}

#[test]
fn the_floor_keeps_receipts_above_the_watermark_readable() {
    let mut s = fresh();
    for offset in 0..3 {
        assert_eq!(
            s.admit(record(offset, offset.unsigned_abs())),
            Admitted::Queued
        );
    }
    for _ in 0..3 {
        assert_eq!(s.start(SINGLE).len(), 1);
    }
    s.settle(2);
    s.acknowledge(2, Some(50));
    s.settle(1);
    s.acknowledge(1, Some(60));
    assert_eq!(
        s.position(),
        Position {
            watermark: 0,
            results_floor: 50
        }
    );
    s.settle(0);
    s.acknowledge(0, Some(70));
    assert_eq!(
        s.position(),
        Position {
            watermark: 3,
            results_floor: 71
        }
    );
}

#[test]
fn what_results_holds_is_not_sent_again_unless_it_is_another_delivery() {
    let mut s = Sequencer::new(
        5,
        BTreeMap::from([(5, (5, 40)), (6, (99, 41)), (2, (2, 30))]),
        42,
    );
    assert_eq!(s.admit(record(5, 1)), Admitted::AlreadySettled);
    assert_eq!(s.admit(record(6, 1)), Admitted::TagMismatch);
    assert_eq!(s.start(SINGLE), [6]);
    assert_eq!(
        s.position(),
        Position {
            watermark: 6,
            results_floor: 42
        }
    );
}

#[test]
fn restored_receipts_beyond_the_fetched_records_hold_the_floor() {
    let mut s: Sequencer<()> = Sequencer::new(5, BTreeMap::from([(9, (9, 40))]), 42);
    assert_eq!(s.position().results_floor, 40);
    assert_eq!(s.admit(record(5, 1)), Admitted::Queued);
    assert_eq!(
        s.position(),
        Position {
            watermark: 5,
            results_floor: 40
        }
    );
}

#[test]
fn an_expired_delivery_leaves_at_once_and_does_not_hold_its_key() {
    let mut s = fresh();
    assert_eq!(
        s.admit(Admission {
            expires_at: 10,
            ..record(0, 7)
        }),
        Admitted::Queued
    );
    assert_eq!(s.admit(record(1, 7)), Admitted::Queued);
    assert_eq!(s.start(SINGLE), [0]);
    s.retry(0, 50);
    assert!(s.start(SINGLE).is_empty());
    assert_eq!(s.advance(10), [0]);
    assert_eq!(s.start(SINGLE), [1]);
    assert_eq!(s.position().watermark, 0, "its receipt is not acknowledged");
    s.acknowledge(0, Some(1));
    assert_eq!(s.position().watermark, 1);
}

#[test]
fn consecutive_deliveries_of_one_key_pack() {
    let mut s = fresh();
    for offset in 0..4 {
        assert_eq!(s.admit(record(offset, 7)), Admitted::Queued);
    }
    assert_eq!(
        s.start(Packing {
            max: 3,
            one_key: true
        }),
        [0, 1, 2]
    );
    for offset in 0..3 {
        s.settle(offset);
    }
    for offset in 0..3 {
        s.acknowledge(offset, Some(offset));
    }
    assert_eq!(
        s.start(Packing {
            max: 3,
            one_key: true
        }),
        [3]
    );
}

#[derive(Debug, Clone)]
enum Step {
    Admit { key: u64, gap: bool },
    Start { max: usize },
    Settle(usize),
    Retry(usize),
    Acknowledge(usize),
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u64..4, proptest::bool::weighted(0.1)).prop_map(|(key, gap)| Step::Admit { key, gap }),
        4 => (1_usize..4).prop_map(|max| Step::Start { max }),
        3 => any::<usize>().prop_map(Step::Settle),
        1 => any::<usize>().prop_map(Step::Retry),
        3 => any::<usize>().prop_map(Step::Acknowledge),
        1 => (1_i64..400).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..200)
}

/// A naive model beside the sequencer: plain sets, recomputed from scratch.
#[derive(Default)]
struct Model {
    keys: BTreeMap<i64, u64>,
    terminal: BTreeMap<i64, i64>,
    calling: BTreeSet<i64>,
    settling: BTreeSet<i64>,
    /// Expired without an attempt under way: they hold nobody.
    passed: BTreeSet<i64>,
    next: i64,
    results: i64,
    now: i64,
}

fn pick(set: &BTreeSet<i64>, index: usize) -> Option<i64> {
    set.iter().nth(index.checked_rem(set.len())?).copied()
}

impl Model {
    fn apply(&mut self, s: &mut Sequencer<()>, step: &Step) {
        match *step {
            Step::Admit { key, gap } => {
                self.next += i64::from(gap);
                assert_eq!(s.admit(record(self.next, key)), Admitted::Queued);
                self.keys.insert(self.next, key);
                self.next += 1;
            }
            Step::Start { max } => self.check_start(&s.start(Packing {
                max,
                one_key: false,
            })),
            Step::Settle(i) => {
                if let Some(offset) = pick(&self.calling, i) {
                    self.calling.remove(&offset);
                    self.settling.insert(offset);
                    s.settle(offset);
                }
            }
            Step::Retry(i) => {
                if let Some(offset) = pick(&self.calling, i) {
                    self.calling.remove(&offset);
                    s.retry(offset, self.now + 20);
                }
            }
            Step::Acknowledge(i) => {
                if let Some(offset) = pick(&self.settling, i) {
                    self.settling.remove(&offset);
                    s.acknowledge(offset, Some(self.results));
                    self.terminal.insert(offset, self.results);
                    self.results += 1;
                }
            }
            Step::Wait(ms) => {
                self.now += ms;
                for offset in s.advance(self.now) {
                    assert!(
                        !self.calling.contains(&offset),
                        "expired while in an attempt"
                    );
                    self.settling.insert(offset);
                    self.passed.insert(offset);
                }
            }
        }
    }

    fn check_start(&mut self, batch: &[i64]) {
        for offset in batch {
            let key = self.keys.get(offset);
            for (earlier, other) in self.keys.range(..offset) {
                assert!(
                    Some(other) != key
                        || self.terminal.contains_key(earlier)
                        || self.passed.contains(earlier),
                    "{offset} started before {earlier} of its key was terminal"
                );
            }
            assert!(!self.terminal.contains_key(offset) && !self.passed.contains(offset));
            assert!(self.calling.insert(*offset), "{offset} is in two attempts");
        }
    }

    fn check_position(&self, s: &Sequencer<()>) {
        let p = s.position();
        let first_open = self
            .keys
            .keys()
            .find(|o| !self.terminal.contains_key(o))
            .copied();
        assert_eq!(p.watermark, first_open.unwrap_or(self.next), "watermark");
        for (offset, results_offset) in self.terminal.range(p.watermark..) {
            assert!(
                p.results_floor <= *results_offset,
                "the receipt of {offset} is out of reach"
            );
        }
        assert!(
            p.results_floor <= self.results,
            "a receipt to come is out of reach"
        );
    }
}

proptest! {
    #[test]
    fn order_watermark_and_floor_hold_against_a_naive_model(steps in steps()) {
        let mut s = fresh();
        let mut model = Model::default();
        let mut watermark = 0;
        for step in &steps {
            model.apply(&mut s, step);
            model.check_position(&s);
            prop_assert!(s.position().watermark >= watermark, "the watermark fell");
            watermark = s.position().watermark;
            prop_assert_eq!(s.calling(), model.calling.len());
            prop_assert_eq!(s.settling(), model.settling.len());
        }
        // Everything ends: after the deadline of all, with every answer given, gauges are zero.
        for offset in model.calling.clone() {
            s.settle(offset);
            model.settling.insert(offset);
        }
        model.settling.extend(s.advance(i64::MAX));
        for offset in model.settling.clone() {
            s.acknowledge(offset, Some(model.results));
        }
        prop_assert_eq!((s.open_count(), s.bytes(), s.calling(), s.settling()), (0, 0, 0, 0));
        prop_assert_eq!(s.position().watermark, model.next);
        prop_assert!(s.queues.is_empty() && s.timers.is_empty() && s.expiries.is_empty());
    }
}
