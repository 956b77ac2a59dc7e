use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const SINGLE: Packing = Packing {
    max: 1,
    one_key: false,
};
const PACK: Packing = Packing {
    max: 3,
    one_key: true,
};

fn record(offset: i64, key: u64) -> Admission<()> {
    carrying(offset, key, ())
}

fn carrying<P>(offset: i64, key: u64, payload: P) -> Admission<P> {
    Admission {
        offset,
        key,
        sender: key,
        group: 0,
        cost: 1,
        tag: offset.unsigned_abs(),
        bytes: 10,
        expires_at: 1_000,
        attempts: 0,
        not_before: 0,
        diverted: false,
        payload,
    }
}

fn fresh() -> Sequencer<()> {
    Sequencer::new(0, SettledTags::new())
}

fn go(s: &mut Sequencer<()>) -> Vec<i64> {
    s.start(SINGLE, 0, |(), _| Permit::Go).batch
}

fn admit_all(s: &mut Sequencer<()>, records: impl IntoIterator<Item = (i64, u64)>) {
    for (offset, key) in records {
        assert_eq!(s.admit(record(offset, key)), Admitted::Queued);
    }
}

fn finish(s: &mut Sequencer<()>, offset: i64) {
    s.settle(offset);
    assert!(s.acknowledge(offset).is_some(), "{offset}");
}

#[test]
fn one_key_goes_one_after_the_other_and_another_key_passes() {
    let mut s = fresh();
    admit_all(&mut s, [(0, 7), (1, 7), (2, 8)]);
    assert_eq!(go(&mut s), [0]);
    assert_eq!(go(&mut s), [2]);
    assert!(go(&mut s).is_empty());
    s.settle(0);
    assert!(go(&mut s).is_empty(), "settled is not terminal yet");
    s.acknowledge(0);
    assert_eq!(go(&mut s), [1]);
    assert_eq!(s.watermark(), 1);
}

#[test]
fn what_ended_above_the_watermark_is_told_with_its_tags() {
    let mut s = fresh();
    admit_all(&mut s, (0_i64..4).map(|o| (o, o.unsigned_abs())));
    for _ in 0..3 {
        assert_eq!(go(&mut s).len(), 1);
    }
    finish(&mut s, 2);
    finish(&mut s, 1);
    assert_eq!(s.watermark(), 0);
    assert_eq!(s.settled().collect::<Vec<_>>(), [(1, 1), (2, 2)]);
    finish(&mut s, 0);
    assert_eq!(s.watermark(), 3);
    assert_eq!(s.settled_count(), 0);
}

#[test]
fn what_is_known_to_have_ended_is_not_sent_again_unless_it_is_another_delivery() {
    let mut s = Sequencer::new(5, BTreeMap::from([(5, 5), (6, 99), (2, 2)]));
    assert_eq!(s.admit(record(5, 1)), Admitted::AlreadySettled);
    assert_eq!(s.admit(record(6, 1)), Admitted::TagMismatch);
    assert_eq!(go(&mut s), [6]);
    assert_eq!(s.watermark(), 6);
}

#[test]
fn what_is_restored_beyond_the_fetched_records_stays_in_the_checkpoint() {
    let mut s: Sequencer<()> = Sequencer::new(5, BTreeMap::from([(9, 9)]));
    assert_eq!(s.settled().collect::<Vec<_>>(), [(9, 9)]);
    admit_all(&mut s, [(5, 1)]);
    assert_eq!(s.settled().collect::<Vec<_>>(), [(9, 9)]);
    assert_eq!(s.watermark(), 5);
    // Offset 9 turned out to be no record of ours: nothing is kept of it.
    admit_all(&mut s, [(10, 1)]);
    assert_eq!(s.settled_count(), 0);
}

#[test]
fn an_expired_delivery_leaves_at_once_and_does_not_hold_its_key() {
    let mut s = fresh();
    let short = Admission {
        expires_at: 10,
        ..record(0, 7)
    };
    assert_eq!(s.admit(short), Admitted::Queued);
    admit_all(&mut s, [(1, 7)]);
    assert_eq!(go(&mut s), [0]);
    s.retry(0, 50);
    assert!(go(&mut s).is_empty());
    assert_eq!(s.advance(10), [0]);
    assert_eq!(go(&mut s), [1]);
    assert_eq!(s.watermark(), 0, "its receipt is not acknowledged");
    s.acknowledge(0);
    assert_eq!(s.watermark(), 1);
}

#[test]
fn consecutive_deliveries_of_one_key_pack() {
    let mut s = fresh();
    admit_all(&mut s, (0..4).map(|o| (o, 7)));
    let batch = s.start(PACK, 0, |(), _| Permit::Go).batch;
    assert_eq!(batch, [0, 1, 2]);
    for offset in 0..3 {
        s.settle(offset);
    }
    for offset in 0..3 {
        s.acknowledge(offset);
    }
    assert_eq!(s.start(PACK, 0, |(), _| Permit::Go).batch, [3]);
}

/// Lets all start, and those follow that are listed.
struct Following(Vec<i64>);

impl Starter<i64> for Following {
    fn ask(&mut self, _payload: &mut i64, _attempts: u32) -> Permit {
        Permit::Go
    }

    fn follows(&mut self, payload: &mut i64) -> bool {
        self.0.contains(payload)
    }
}

#[test]
fn one_that_may_not_follow_ends_the_pack_and_begins_the_next() {
    let mut s = Sequencer::new(0, SettledTags::default());
    for offset in 0..5 {
        assert_eq!(s.admit(carrying(offset, 7, offset)), Admitted::Queued);
    }
    let batch = |s: &mut Sequencer<i64>| s.start_by(PACK, 0, &mut Following(vec![1, 3])).batch;
    assert_eq!(batch(&mut s), [0, 1]);
    for offset in [0, 1] {
        s.settle(offset);
        s.acknowledge(offset);
    }
    assert_eq!(batch(&mut s), [2, 3]);
    // The first fails, what was behind it was not processed: the first goes alone, then a pack.
    s.requeue(3, 5);
    s.retry(2, 10);
    assert!(batch(&mut s).is_empty());
    s.advance(10);
    assert_eq!(batch(&mut s), [2]);
    s.settle(2);
    s.acknowledge(2);
    assert_eq!(batch(&mut s), [3]);
}

#[test]
fn a_sender_with_a_thousand_waiting_does_not_hold_one_with_one() {
    let mut s = fresh();
    for offset in 0..1_000 {
        let flood = Admission {
            sender: 1,
            ..record(offset, 10_000 + offset.unsigned_abs())
        };
        assert_eq!(s.admit(flood), Admitted::Queued);
    }
    for offset in 1_000..1_003 {
        assert_eq!(s.admit(record(offset, 2)), Admitted::Queued);
    }
    let first: Vec<i64> = (0..20).flat_map(|_| go(&mut s)).collect();
    let at = first.iter().position(|o| *o == 1_000);
    assert!(at.is_some_and(|at| at <= 8), "{first:?}");
}

#[test]
fn a_key_that_must_wait_is_no_attempt_and_lets_others_pass() {
    let mut s = fresh();
    admit_all(&mut s, [(0, 7), (1, 8)]);
    let mut asked = Vec::new();
    let started = s.start(SINGLE, 0, |(), attempts| {
        asked.push(attempts);
        if asked.len() == 1 {
            Permit::KeyWaits(30)
        } else {
            Permit::Go
        }
    });
    assert_eq!(started.batch, [1]);
    assert_eq!(s.next_timer(0), Some(30));
    assert!(s.advance(30).is_empty());
    assert_eq!(go(&mut s), [0]);
    assert_eq!(s.attempts(0), 1);
}

#[test]
fn a_group_that_must_wait_does_not_hold_another() {
    let grouped = |offset: i64, group: u32| Admission {
        offset,
        key: offset.unsigned_abs(),
        sender: offset.unsigned_abs(),
        group,
        cost: 1,
        tag: 0,
        bytes: 10,
        expires_at: 1_000,
        attempts: 0,
        not_before: 0,
        diverted: false,
        payload: group,
    };
    let mut s: Sequencer<u32> = Sequencer::new(0, SettledTags::new());
    for (offset, group) in [(0, 1), (1, 1), (2, 2)] {
        assert_eq!(s.admit(grouped(offset, group)), Admitted::Queued);
    }
    let ask = |group: &mut u32, _| {
        if *group == 1 {
            Permit::GroupWaits(50)
        } else {
            Permit::Go
        }
    };
    assert_eq!(s.start(SINGLE, 0, ask).batch, [2]);
    assert!(!s.has_ready(0) && s.has_ready(50));
    assert_eq!(s.next_timer(0), Some(50));
    assert_eq!(s.start(SINGLE, 50, |_, _| Permit::Go).batch, [0]);
}

#[test]
fn what_ends_without_an_attempt_is_told_and_leaves_its_key() {
    let mut s = fresh();
    admit_all(&mut s, [(0, 7), (1, 7)]);
    let mut first = true;
    let started = s.start(SINGLE, 0, |(), _| {
        if std::mem::take(&mut first) {
            Permit::End
        } else {
            Permit::Go
        }
    });
    assert_eq!(
        started,
        Started {
            batch: vec![1],
            ended: vec![0]
        }
    );
    assert_eq!(s.settling(), 1);
}

#[test]
fn an_attempt_that_never_happened_is_not_counted() {
    let mut s = fresh();
    admit_all(&mut s, [(0, 7)]);
    assert_eq!(go(&mut s), [0]);
    s.requeue(0, 5);
    assert!(s.advance(5).is_empty());
    assert_eq!(go(&mut s), [0]);
    assert_eq!(s.attempts(0), 1);
}

/// Of a pack, a later one may end before the first: written to the lane it would end twice.
#[test]
fn a_key_is_not_diverted_while_one_of_it_waits_for_its_receipt() {
    let mut s = fresh();
    admit_all(&mut s, (0..3).map(|o| (o, 7)));
    assert_eq!(s.start(PACK, 0, |(), _| Permit::Go).batch, [0, 1, 2]);
    s.retry(0, 900);
    s.settle(1);
    s.retry(2, 900);
    assert!(s.divert(7).is_empty());
    assert!(s.acknowledge(1).is_some());
    assert_eq!(s.divert(7), [0, 2]);
}

#[test]
fn a_diverted_key_frees_the_window_in_order_and_holds_the_watermark_until_acknowledged() {
    let mut s = fresh();
    admit_all(&mut s, [(0, 7), (1, 8), (2, 7)]);
    assert_eq!(go(&mut s), [0]);
    assert!(s.divert(7).is_empty(), "its head is in an attempt");
    s.retry(0, 900);
    assert_eq!(s.divert(7), [0, 2]);
    let follower = Admission {
        diverted: true,
        ..record(3, 7)
    };
    assert_eq!(s.admit(follower), Admitted::Queued);
    assert_eq!(go(&mut s), [1]);
    assert!(go(&mut s).is_empty(), "nothing of the key starts here");
    assert_eq!(s.watermark(), 0);
    for offset in [0, 2, 3] {
        assert!(s.acknowledge(offset).is_some());
    }
    assert_eq!(s.watermark(), 1);
    // Once it has come back, the key is served here again.
    admit_all(&mut s, [(4, 7)]);
    assert_eq!(go(&mut s), [4]);
}

#[test]
fn a_restored_wait_keeps_its_moment_and_its_attempts() {
    let mut s = fresh();
    let waiting = Admission {
        attempts: 3,
        not_before: 40,
        ..record(0, 7)
    };
    assert_eq!(s.admit(waiting), Admitted::Queued);
    assert!(go(&mut s).is_empty());
    assert!(s.advance(40).is_empty());
    assert_eq!(go(&mut s), [0]);
    assert_eq!(s.attempts(0), 4);
}

#[test]
fn a_receipt_of_a_former_owner_counts_unless_the_attempt_is_under_way() {
    let mut s = fresh();
    admit_all(&mut s, [(0, 7), (1, 8)]);
    assert_eq!(go(&mut s), [0]);
    assert!(s.acknowledge_foreign(0, 0).is_none(), "under way");
    assert!(
        s.acknowledge_foreign(1, 99).is_none(),
        "of another delivery"
    );
    assert!(s.acknowledge_foreign(1, 1).is_some());
    assert!(s.acknowledge_foreign(2, 2).is_none(), "not read yet");
    assert_eq!(s.admit(record(2, 9)), Admitted::AlreadySettled);
    finish(&mut s, 0);
    assert_eq!(s.watermark(), 3);
}

#[test]
fn the_pin_names_what_holds_the_watermark() {
    let mut s = fresh();
    admit_all(&mut s, [(0, 7), (1, 8), (2, 9)]);
    assert_eq!(go(&mut s), [0]);
    s.retry(0, 70);
    let pin = s.pin();
    assert_eq!(
        pin.map(|p| (p.offset, p.key, p.state, p.span)),
        Some((0, 7, State::Waiting, 3))
    );
    assert_eq!(s.blocked_keys(5), [(7, 1)]);
}

#[test]
fn deadlines_of_what_has_ended_do_not_pile_up() {
    let mut s = fresh();
    for offset in 0_i64..20_000 {
        admit_all(&mut s, [(offset, offset.unsigned_abs() % 50)]);
        assert_eq!(go(&mut s), [offset]);
        finish(&mut s, offset);
    }
    assert!(s.expiries.len() <= 1_100, "{}", s.expiries.len());
}

#[derive(Debug, Clone)]
enum Step {
    Admit { key: u64, gap: bool },
    Start { max: usize, permit: u8 },
    Settle(usize),
    Retry(usize),
    Requeue(usize),
    Divert { key: u64 },
    Acknowledge(usize),
    Foreign(usize),
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u64..4, proptest::bool::weighted(0.1)).prop_map(|(key, gap)| Step::Admit { key, gap }),
        5 => (1_usize..4, 0_u8..10).prop_map(|(max, permit)| Step::Start { max, permit }),
        3 => any::<usize>().prop_map(Step::Settle),
        1 => any::<usize>().prop_map(Step::Retry),
        1 => any::<usize>().prop_map(Step::Requeue),
        1 => (0_u64..4).prop_map(|key| Step::Divert { key }),
        4 => any::<usize>().prop_map(Step::Acknowledge),
        1 => any::<usize>().prop_map(Step::Foreign),
        1 => (1_i64..400).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..200)
}

/// A naive model beside the sequencer: plain sets, recomputed from scratch.
#[derive(Default)]
struct Model {
    keys: BTreeMap<i64, u64>,
    terminal: BTreeSet<i64>,
    calling: BTreeSet<i64>,
    settling: BTreeSet<i64>,
    diverting: BTreeSet<i64>,
    /// Ended without an attempt under way: they hold nobody.
    passed: BTreeSet<i64>,
    next: i64,
    now: i64,
}

fn pick(set: &BTreeSet<i64>, index: usize) -> Option<i64> {
    set.iter().nth(index.checked_rem(set.len())?).copied()
}

impl Model {
    fn idle(&self) -> BTreeSet<i64> {
        self.keys
            .keys()
            .filter(|o| {
                !self.terminal.contains(o)
                    && !self.calling.contains(o)
                    && !self.settling.contains(o)
                    && !self.diverting.contains(o)
            })
            .copied()
            .collect()
    }

    fn apply(&mut self, s: &mut Sequencer<()>, step: &Step) {
        match *step {
            Step::Admit { key, gap } => {
                self.next += i64::from(gap);
                assert_eq!(s.admit(record(self.next, key)), Admitted::Queued);
                self.keys.insert(self.next, key);
                self.next += 1;
            }
            Step::Start { max, permit } => self.start(s, max, permit),
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
            Step::Requeue(i) => {
                if let Some(offset) = pick(&self.calling, i) {
                    self.calling.remove(&offset);
                    s.requeue(offset, self.now);
                }
            }
            Step::Divert { key } => {
                let diverted = s.divert(key);
                let idle = self.idle();
                assert!(diverted.is_sorted());
                for offset in diverted {
                    assert!(idle.contains(&offset), "{offset} was not idle");
                    assert_eq!(self.keys.get(&offset), Some(&key));
                    self.diverting.insert(offset);
                }
                let left: Vec<_> = self
                    .idle()
                    .into_iter()
                    .filter(|o| self.keys.get(o) == Some(&key))
                    .collect();
                let busy = self
                    .calling
                    .iter()
                    .chain(self.settling.difference(&self.passed))
                    .any(|o| self.keys.get(o) == Some(&key));
                assert!(busy || left.is_empty(), "{left:?} of {key} stayed behind");
            }
            Step::Acknowledge(i) => {
                let open = self.settling.union(&self.diverting).copied().collect();
                if let Some(offset) = pick(&open, i) {
                    self.settling.remove(&offset);
                    self.diverting.remove(&offset);
                    assert!(s.acknowledge(offset).is_some());
                    self.terminal.insert(offset);
                }
            }
            Step::Foreign(i) => {
                if let Some(offset) = pick(&self.idle(), i) {
                    let ended = s.acknowledge_foreign(offset, offset.unsigned_abs());
                    assert!(ended.is_some());
                    self.terminal.insert(offset);
                }
            }
            Step::Wait(ms) => {
                self.now += ms;
                for offset in s.advance(self.now) {
                    self.pass(offset);
                }
            }
        }
    }

    fn pass(&mut self, offset: i64) {
        assert!(
            !self.calling.contains(&offset),
            "{offset} ended while in an attempt"
        );
        self.settling.insert(offset);
        self.passed.insert(offset);
    }

    fn start(&mut self, s: &mut Sequencer<()>, max: usize, permit: u8) {
        let packing = Packing {
            max,
            one_key: false,
        };
        let now = self.now;
        let mut first = true;
        let started = s.start(packing, now, |(), _| {
            let special = std::mem::take(&mut first);
            match permit {
                0 if special => Permit::KeyWaits(now + 15),
                1 if special => Permit::GroupWaits(now + 15),
                2 if special => Permit::End,
                3 => Permit::Stop,
                _ => Permit::Go,
            }
        });
        for offset in started.ended {
            self.pass(offset);
        }
        for offset in &started.batch {
            self.check_start(*offset);
        }
    }

    fn check_start(&mut self, offset: i64) {
        let key = self.keys.get(&offset);
        for (earlier, other) in self.keys.range(..offset) {
            assert!(
                Some(other) != key
                    || self.terminal.contains(earlier)
                    || self.passed.contains(earlier)
                    || self.diverting.contains(earlier),
                "{offset} started before {earlier} of its key was terminal"
            );
        }
        assert!(!self.terminal.contains(&offset) && !self.passed.contains(&offset));
        assert!(!self.diverting.contains(&offset));
        assert!(self.calling.insert(offset), "{offset} is in two attempts");
    }

    fn check_position(&self, s: &Sequencer<()>) {
        let first_open = self
            .keys
            .keys()
            .find(|o| !self.terminal.contains(o))
            .copied();
        assert_eq!(s.watermark(), first_open.unwrap_or(self.next), "watermark");
        let settled: Vec<_> = s.settled().map(|(offset, _)| offset).collect();
        let expected: Vec<_> = self.terminal.range(s.watermark()..).copied().collect();
        assert_eq!(settled, expected);
        self.check_senders(s);
    }

    /// Each key is a sender of its own here.
    fn check_senders(&self, s: &Sequencer<()>) {
        let mut most = None;
        for key in 0..4 {
            let queued = self.keys.iter().filter(|(offset, of)| {
                let left = [&self.terminal, &self.diverting, &self.passed];
                **of == key && !left.iter().any(|set| set.contains(offset))
            });
            let held = queued.count();
            assert_eq!(s.held_by(key), held, "held by {key}");
            assert_eq!(s.has_key(key), held > 0);
            assert_eq!(s.keys_of(key), if held > 0 { vec![key] } else { vec![] });
            most = most.max(Some(held));
        }
        let busiest = s.busiest_sender().map_or(0, |(_, held)| held);
        assert_eq!(Some(busiest), most);
    }
}

proptest! {
    #[test]
    fn order_and_watermark_hold_against_a_naive_model(steps in steps()) {
        let mut s = fresh();
        let mut model = Model::default();
        let mut watermark = 0;
        for step in &steps {
            model.apply(&mut s, step);
            model.check_position(&s);
            prop_assert!(s.watermark() >= watermark, "the watermark fell");
            watermark = s.watermark();
            prop_assert_eq!(s.calling(), model.calling.len());
            prop_assert_eq!(s.settling(), model.settling.len());
        }
        // Nothing is forgotten: whatever is idle starts sooner or later, with every answer given.
        model.now = model.now.max(500);
        for _ in 0..2_000 {
            for offset in std::mem::take(&mut model.calling) {
                s.settle(offset);
                model.settling.insert(offset);
            }
            let ended = std::mem::take(&mut model.settling);
            for offset in ended.into_iter().chain(std::mem::take(&mut model.diverting)) {
                prop_assert!(s.acknowledge(offset).is_some());
                model.terminal.insert(offset);
            }
            model.now += 50;
            for offset in s.advance(model.now) {
                model.pass(offset);
            }
            model.start(&mut s, 3, 9);
            if s.open_count() == 0 {
                break;
            }
        }
        prop_assert_eq!((s.open_count(), s.bytes(), s.calling(), s.settling()), (0, 0, 0, 0));
        prop_assert_eq!(s.waiting_count(), 0);
        prop_assert_eq!(s.watermark(), model.next);
        prop_assert!(s.start(SINGLE, model.now, |(), _| Permit::Go).batch.is_empty());
        prop_assert!(s.keys.is_empty(), "{:?}", s.keys);
        prop_assert!(s.by_sender.is_empty() && s.senders.len() == 0);
    }

    #[test]
    fn every_sender_with_something_to_send_gets_its_turn(
        counts in proptest::collection::vec(1_i64..60, 2..8)
    ) {
        let mut s = fresh();
        let mut offset = 0;
        for (sender, count) in counts.iter().enumerate() {
            for n in 0..*count {
                let sender = sender as u64;
                let admission = Admission { sender, ..record(offset, sender * 1_000 + n.unsigned_abs()) };
                prop_assert_eq!(s.admit(admission), Admitted::Queued);
                offset += 1;
            }
        }
        let mut served = vec![0_i64; counts.len()];
        for _ in 0..offset {
            let batch = go(&mut s);
            let [started] = batch[..] else { return Err(TestCaseError::fail("nothing started")) };
            let key = s.key_of(started).unwrap();
            served[usize::try_from(key / 1_000).unwrap()] += 1;
            let hungry: Vec<_> = served.iter().zip(&counts).filter(|(n, all)| n < all).map(|(n, _)| *n).collect();
            let ahead = served.iter().max().copied().unwrap_or(0);
            let behind = hungry.iter().min().copied().unwrap_or(ahead);
            // Nobody who waits is more than two turns behind the one ahead who still competed.
            let rivals = served.iter().zip(&counts).filter(|(n, all)| n < all).map(|(n, _)| *n).max().unwrap_or(0);
            prop_assert!(rivals - behind <= 2 * i64::from(QUANTUM), "{served:?}");
        }
    }
}
