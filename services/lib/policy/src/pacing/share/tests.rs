use proptest::prelude::*;

use super::*;
use crate::pacing::window::{Want, Window};

/// Uniform numbers from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: i64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % n.max(1)
    }
}

/// Between two claims of a worker that is short, or that others wait for.
const HASTE: i64 = 250;

/// One worker of the model: its share, its window, what is under way, and how far it has read.
struct Worker {
    name: String,
    share: Share,
    window: Window,
    open: Vec<(i64, u32)>,
    /// Records written and not yet in the log, in order: when they arrive there.
    writing: VecDeque<(i64, Claim)>,
    read: usize,
    reads_until: i64,
    claimed_at: i64,
    claims_at: i64,
    wants: u32,
    cut_off_until: i64,
    alive: bool,
}

/// The whole model: workers, the log and what the provider saw.
struct Model {
    limit: u32,
    draw: Draw,
    delay: i64,
    workers: Vec<Worker>,
    log: Vec<(i64, String, Claim)>,
    arrivals: Vec<i64>,
    sent: Vec<u32>,
}

impl Model {
    fn new(limit: u32, delay: i64, seed: u64) -> Self {
        Self {
            limit,
            draw: Draw(seed),
            delay,
            workers: Vec::new(),
            log: Vec::new(),
            arrivals: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn join(&mut self, now: i64, wants: u32) {
        let name = format!("w{}", self.workers.len());
        let mut window = Window::new(self.limit);
        window.set_limit(0);
        self.sent.push(0);
        self.workers.push(Worker {
            share: Share::new(name.clone(), self.limit),
            name,
            window,
            open: Vec::new(),
            writing: VecDeque::new(),
            read: 0,
            reads_until: now,
            claimed_at: now,
            claims_at: now + self.draw.below(1_000),
            wants,
            cut_off_until: 0,
            alive: true,
        });
    }

    /// One millisecond.
    fn step(&mut self, now: i64) {
        let (draw, delay) = (&mut self.draw, self.delay);
        for (i, w) in self.workers.iter_mut().enumerate() {
            // What was written arrives in order, whether or not the writer still lives.
            while w.writing.front().is_some_and(|(at, _)| *at <= now) {
                let (_, claim) = w.writing.pop_front().unwrap();
                self.log.push((now, w.name.clone(), claim));
            }
            if !w.alive {
                continue;
            }
            if now >= w.reads_until && now >= w.cut_off_until {
                for (at, name, claim) in &self.log[w.read..] {
                    w.share.read(name, *claim, *at);
                }
                w.read = self.log.len();
                w.reads_until = now + draw.below(delay);
            }
            if now >= w.claims_at || (now >= w.claimed_at + HASTE && w.share.owes()) {
                let held = w.window.held(now);
                // As the exchange does: who was refused may want far more than it had.
                let demand = w.wants.min(2 * held + self.limit / 4 + 2);
                let short = w.share.spendable(now) < demand;
                let pause = if short { HASTE } else { 900 };
                w.claimed_at = now;
                w.claims_at = now + pause + draw.below(200);
                let claim = w.share.claim(now, demand, held);
                let after = w.writing.back().map_or(now, |(at, _)| *at);
                let at = after.max(now.max(w.cut_off_until) + draw.below(delay));
                w.writing.push_back((at, claim));
            }
            w.window.set_limit(w.share.spendable(now));
            w.open.retain(|(until, units)| {
                let due = *until <= now;
                if due {
                    w.window.answered(now, *units, false);
                }
                !due
            });
            let want = Want {
                units: 1,
                bulk: false,
                reserved: 0,
            };
            // Demand: `wants` a second, spread over its milliseconds.
            let due = i64::from(w.wants) * (now + 1) / 1_000 - i64::from(w.wants) * now / 1_000;
            for _ in 0..due + 1 {
                if w.wants == 0 || w.window.wait(now, want).is_some() {
                    break;
                }
                w.window.take(now, want);
                let rtt = 20 + draw.below(80);
                w.open.push((now + rtt, 1));
                self.arrivals
                    .push((now + draw.below(rtt)) * 1_000 + draw.below(1_000));
                self.sent[i] += 1;
            }
        }
    }

    fn most_in_a_second(&mut self) -> usize {
        self.arrivals.sort_unstable();
        let (mut first, mut most) = (0, 0);
        for (i, at) in self.arrivals.iter().enumerate() {
            while self.arrivals[first] <= at - 1_000_000 {
                first += 1;
            }
            most = most.max(i + 1 - first);
        }
        most
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Delays up to two seconds, joins, kills, workers cut off from the log, demand that jumps.
    #[test]
    fn the_sum_never_exceeds_the_limit(seed: u64, limit in 1_u32..120, delay in 1_i64..2_000) {
        let mut model = Model::new(limit, delay, seed);
        model.join(0, 1_000);
        for now in 0..20_000 {
            if now % 500 == 0 {
                let i = usize::try_from(model.draw.below(8)).unwrap();
                let wants = u32::try_from(model.draw.below(200)).unwrap();
                let span = model.draw.below(6_000);
                let what = model.draw.below(6);
                if what > 3 && model.workers.len() < 12 {
                    model.join(now, wants);
                } else if let Some(w) = model.workers.get_mut(i) {
                    match what {
                        0 => w.alive = false,
                        1 => w.cut_off_until = now + span,
                        _ => w.wants = wants,
                    }
                }
            }
            model.step(now);
            for w in &model.workers {
                prop_assert!(w.share.book().granted() <= u64::from(limit));
            }
        }
        let most = model.most_in_a_second();
        prop_assert!(most <= limit as usize, "{most} of {limit}");
    }

    #[test]
    fn the_split_is_max_min(limit in 0_u32..1_000, turn in 0_usize..20, demands in prop::collection::vec(0_u32..500, 1..8)) {
        let names: Vec<String> = (0..demands.len()).map(|i| format!("w{i}")).collect();
        let parts: Vec<u32> = names.iter().map(|name| {
            let mut all: Vec<(u32, &str)> =
                demands.iter().copied().zip(names.iter().map(String::as_str)).collect();
            split(limit, &mut all, name, turn)
        }).collect();
        let (given, wanted): (u32, u32) = (parts.iter().sum(), demands.iter().sum());
        prop_assert_eq!(given, limit, "nothing is wasted, nothing invented");
        let most = parts.iter().max().copied().unwrap_or(0);
        let spare = limit.saturating_sub(wanted) / u32::try_from(demands.len()).unwrap();
        for (part, demand) in parts.iter().zip(&demands) {
            if wanted <= limit {
                let more = part.checked_sub(*demand).expect("all have what they want");
                prop_assert!(more == spare || more == spare + 1, "and the same beyond it");
                continue;
            }
            prop_assert!(part <= demand);
            prop_assert!(part == demand || part + 1 >= most, "who gets less than he wants gets the most");
        }
    }
}

/// One unit, and more workers than that: each has it in its turn.
#[test]
fn fewer_units_than_workers_go_round() {
    let mut model = Model::new(1, 50, 5);
    model.join(0, 10);
    model.join(0, 10);
    model.join(0, 0);
    for now in 0..90_000 {
        model.step(now);
    }
    println!("1/s over two busy workers, 90 s: {:?}", model.sent);
    assert!(model.sent[0] > 10 && model.sent[1] > 10, "{:?}", model.sent);
    assert!(model.most_in_a_second() <= 1);
}

#[test]
fn four_saturated_workers_share_evenly_and_use_it_all() {
    let mut model = Model::new(200, 50, 7);
    for i in 0..4 {
        model.join(i * 300, 1_000);
    }
    for now in 0..12_000 {
        model.step(now);
    }
    model.arrivals.clear();
    model.sent.fill(0);
    for now in 12_000..42_000 {
        model.step(now);
    }
    let total = model.sent.iter().sum::<u32>() / 30;
    println!("200/s over four workers: {total}/s, of which {:?}/s", {
        model.sent.iter().map(|n| n / 30).collect::<Vec<_>>()
    });
    assert!(total >= 185, "{total}");
    assert!(
        model.sent.iter().all(|n| (44..=50).contains(&(n / 30))),
        "{:?}",
        model.sent
    );
    assert!(model.most_in_a_second() <= 200);
}

#[test]
fn the_share_of_a_dead_worker_is_free_after_its_grant_and_a_window() {
    let mut model = Model::new(100, 50, 3);
    model.join(0, 1_000);
    model.join(0, 1_000);
    for now in 0..10_000 {
        model.step(now);
    }
    model.workers[0].alive = false;
    let before = model.sent[1];
    for now in 10_000..18_000 {
        model.step(now);
    }
    let meanwhile = model.sent[1];
    for now in 18_000..28_000 {
        model.step(now);
    }
    let after = (model.sent[1] - meanwhile) / 10;
    println!(
        "after kill: {}/s for 8 s, then {after}/s",
        (meanwhile - before) / 8
    );
    assert!(after >= 90, "{after}");
    assert!(model.most_in_a_second() <= 100);
}

#[test]
fn a_silent_log_stops_the_spending() {
    let mut share = Share::new("a", 10);
    let claim = share.claim(0, 10, 0);
    assert_eq!(share.spendable(0), 0, "nothing before it was read back");
    share.read("a", claim, 100);
    assert_eq!(share.spendable(100), 10);
    assert_eq!(share.spendable(GRANT_MS - DRIFT_MS), 0);
}

#[test]
fn a_claim_given_up_meanwhile_is_not_spent() {
    let mut share = Share::new("a", 10);
    let first = share.claim(0, 10, 0);
    share.read("a", first, 10);
    // Somebody who wants the rest.
    let other = Claim {
        sequence: 1,
        demand: 8,
        claimed: 0,
        limit: 10,
        left: false,
    };
    share.read("b", other, 20);
    assert!(share.owes());
    let small = share.claim(100, 2, 0);
    let large = share.claim(200, 10, 0);
    assert_eq!(
        share.spendable(200),
        2,
        "between the two, others may have taken it"
    );
    share.read("a", small, 110);
    share.read(
        "b",
        Claim {
            sequence: 2,
            claimed: 8,
            ..other
        },
        150,
    );
    share.read("a", large, 210);
    assert_eq!(share.spendable(210), 2);
}
