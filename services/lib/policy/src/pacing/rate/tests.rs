use proptest::prelude::*;

use super::sim::{Draw, World, run};
use super::*;

/// From here on the figures count.
const WARM: i64 = 30_000;

/// Runs the seeds; prints and gives the lowest goodput as percent of the limit and the highest share
/// of denied requests.
fn measure(name: &str, world: World, seeds: std::ops::Range<u64>) -> (f64, f64) {
    let (mut lowest, mut highest, mut uneven) = (f64::MAX, 0.0_f64, 1.0_f64);
    for seed in seeds {
        let seen = run(world, seed * 7_919 + 1);
        lowest = lowest.min(seen.goodput(WARM, world.ends) / world.limit * 100.0);
        highest = highest.max(seen.denied(WARM, world.ends));
        let most = seen.by_worker.iter().max().copied().unwrap_or(0);
        let least = seen.by_worker.iter().min().copied().unwrap_or(0).max(1);
        uneven = uneven.max(most as f64 / least as f64);
    }
    println!(
        "{name}: goodput {lowest:.1} % of the limit at the lowest, {highest:.2} % answered 429 at the \
         highest, largest to smallest worker {uneven:.1}"
    );
    (lowest, highest)
}

/// When the goodput of one second has come to 90 % of a doubled limit, at the latest, and the lowest
/// share of it over the five seconds after `allowed`.
fn doubled(name: &str, world: World, allowed: i64, phases: i64) -> (f64, f64) {
    let (mut latest, mut lowest) = (0, f64::MAX);
    for phase in 0..phases {
        let at = 45_000 + phase * 237;
        let world = World {
            doubles_at: Some(at),
            ends: at + 16_000,
            ..world
        };
        let seen = run(world, u64::try_from(phase).unwrap() * 31 + 5);
        let from = (at / 100 + 1) * 100;
        let reached = (from..at + 14_000)
            .step_by(100)
            .find(|t| seen.goodput(*t, t + 1_000) >= 180.0)
            .unwrap_or(i64::MAX);
        latest = latest.max(reached - at);
        lowest = lowest.min(seen.goodput(from + allowed, from + allowed + 5_000) / 2.0);
    }
    println!(
        "{name}: 90 % of the doubled limit after {:.2} s at the latest of {phases}, then {lowest:.1} % \
         at the lowest",
        seconds(latest)
    );
    (seconds(latest), lowest)
}

#[test]
fn alone_it_uses_the_limit_with_few_429() {
    let (goodput, denied) = measure("alone", World::plain(), 0..3);
    assert!(goodput >= 97.0 && denied <= 0.8, "{goodput} {denied}");
}

#[test]
fn four_workers_that_never_talk_use_the_limit_with_few_429() {
    let world = World {
        workers: 4,
        ..World::plain()
    };
    let (goodput, denied) = measure("four workers", world, 0..4);
    assert!(goodput >= 95.0 && denied <= 1.0, "{goodput} {denied}");
}

/// Four workers that tell each other their rates, whether they begin together or one after the other,
/// carefully or in a flood.
fn talking() -> impl Iterator<Item = World> {
    let begin = [(32, 50.0), (32, 3_000.0), (512, 50.0), (512, 3_000.0)];
    begin.into_iter().map(|(open, spread)| World {
        workers: 4,
        talk: true,
        open,
        spread,
        ..World::plain()
    })
}

#[test]
fn workers_that_talk_are_equal_within_half_a_minute() {
    for world in talking() {
        let begun = World {
            ends: 30_000,
            ..world
        };
        for seed in 0..3 {
            let seen = run(begun, seed * 7_919 + 1);
            let (most, least) = (seen.by_worker.iter().max(), seen.by_worker.iter().min());
            assert!(
                most <= least.map(|n| n * 3).as_ref(),
                "{:?}",
                seen.by_worker
            );
        }
        let (goodput, denied) = measure("four that talk", world, 0..2);
        assert!(goodput >= 97.0 && denied <= 1.0, "{goodput} {denied}");
    }
}

#[test]
fn a_retry_after_costs_little_because_it_comes_seldom() {
    for (name, workers) in [("Retry-After 1, alone", 1), ("Retry-After 1, four", 4)] {
        let world = World {
            workers,
            retry_after: Some(1_000),
            ..World::plain()
        };
        for talk in [false, true] {
            let (goodput, denied) = measure(name, World { talk, ..world }, 0..3);
            assert!(goodput >= 90.0 && denied <= 1.0, "{goodput} {denied}");
        }
    }
}

/// They have all they want, and say nothing; what they lack now and then they get.
#[test]
fn workers_with_little_to_send_leave_the_limit_to_a_busy_one() {
    let world = World {
        small: Some(3.0),
        workers: 4,
        talk: true,
        ..World::plain()
    };
    for seed in 0..4 {
        let seen = run(world, seed * 7_919 + 1);
        let others: u64 = seen.by_worker[1..].iter().sum();
        let goodput = seen.goodput(WARM, world.ends);
        println!(
            "one busy beside three of 3/s: {:?}, {goodput:.1}/s",
            seen.by_worker
        );
        assert!(goodput >= 85.0, "{goodput}");
        assert!(others as f64 >= 0.95 * 9.0 * seconds(world.ends));
    }
}

#[test]
fn where_nobody_asks_for_more_a_rate_does_not_run_away() {
    let mut rate = Rate::new();
    let sent = rate.take(0, 1, false);
    rate.throttled(60, sent, None);
    let mut highest = 0.0_f64;
    for now in (100..600_000).step_by(100) {
        if rate.wait(now, false, 0.0).is_none() {
            let sent = rate.take(now, 1, false);
            rate.accepted(now + 60, sent, 1);
        }
        highest = highest.max(rate.rate().unwrap_or(0.0));
    }
    println!("ten a second without a 429 for ten minutes: at most {highest:.1}/s");
    assert!((20.0..=100.0).contains(&highest), "{highest}");
}

#[test]
fn a_doubled_limit_is_found_alone() {
    let (latest, after) = doubled("alone", World::plain(), 3_000, 16);
    assert!(latest <= 3.0 && after >= 90.0, "{latest} {after}");
}

#[test]
fn a_doubled_limit_is_found_by_four() {
    let world = World {
        workers: 4,
        ..World::plain()
    };
    let (latest, after) = doubled("four workers", world, 8_000, 16);
    assert!(latest <= 8.0 && after >= 88.0, "{latest} {after}");
    for world in talking() {
        let (latest, after) = doubled("four that talk", world, 8_000, 8);
        assert!(latest <= 8.0 && after >= 88.0, "{latest} {after}");
    }
}

#[test]
fn other_limits_round_trips_and_jitters_do_as_well() {
    let plain = World::plain();
    let worlds = [
        (
            "20/s",
            World {
                limit: 20.0,
                ..plain
            },
        ),
        (
            "round trip 300 ms",
            World {
                rtt: 300.0,
                ..plain
            },
        ),
        (
            "jitter 50 %",
            World {
                jitter: 0.5,
                ..plain
            },
        ),
        (
            "1,000/s, burst 100",
            World {
                limit: 1_000.0,
                burst: 100.0,
                ends: 90_000,
                ..plain
            },
        ),
    ];
    for (name, world) in worlds {
        let (goodput, denied) = measure(name, world, 0..1);
        assert!(
            goodput >= 93.0 && denied <= 1.5,
            "{name}: {goodput} {denied}"
        );
    }
}

/// Grants within `span`, with every answer accepted after 60 ms.
fn grants(rate: &mut Rate, span: std::ops::Range<i64>) -> Vec<Sent> {
    let mut sent: Vec<Sent> = Vec::new();
    let mut answered = 0;
    for now in span {
        while let Some(first) = sent.get(answered).copied() {
            if first.at + 60 > now {
                break;
            }
            rate.accepted(now, first, 1);
            answered += 1;
        }
        for _ in 0..100 {
            if rate.wait(now, false, 0.0).is_some() {
                break;
            }
            sent.push(rate.take(now, 1, false));
        }
    }
    sent
}

#[test]
fn nothing_is_restricted_while_no_429_was_seen() {
    let mut rate = Rate::new();
    assert_eq!(grants(&mut rate, 0..5_000).len(), 500_000);
    assert_eq!(rate.rate(), None);
}

#[test]
fn one_429_stops_the_probing_at_once_and_older_ones_are_ignored() {
    let mut rate = Rate::new();
    let sent = grants(&mut rate, 0..1_000);
    rate.throttled(1_000, sent[0], None);
    let first = rate.rate().unwrap();
    for late in &sent[1..50] {
        rate.throttled(1_010, *late, None);
    }
    assert_eq!(rate.rate(), Some(first));
    let sent = grants(&mut rate, 1_100..3_000);
    let climbed = rate.rate().unwrap();
    assert!(climbed > first, "{climbed} {first}");
    rate.throttled(3_000, *sent.last().unwrap(), None);
    let cut = rate.rate().unwrap();
    assert!(cut < climbed, "{cut} {climbed}");
    assert!(rate.wait(3_000, false, 0.0).is_some(), "some are kept back");
}

#[test]
fn a_rate_nobody_uses_does_not_grow() {
    let mut rate = Rate::new();
    let sent = grants(&mut rate, 0..200);
    rate.throttled(200, sent[0], None);
    let sent = grants(&mut rate, 200..2_000);
    rate.throttled(2_000, *sent.last().unwrap(), None);
    let was = rate.rate().unwrap();
    for second in 3..600 {
        let now = second * 1_000;
        assert_eq!(rate.wait(now, false, 0.0), None);
        let sent = rate.take(now, 1, false);
        rate.accepted(now + 60, sent, 1);
    }
    assert_eq!(rate.rate(), Some(was));
}

#[test]
fn bulk_leaves_its_part_to_the_other_class() {
    let mut rate = Rate::new();
    let sent = grants(&mut rate, 0..300);
    rate.throttled(300, sent[0], None);
    let (mut bulk, mut other) = (0_u32, 0_u32);
    let before = rate.rate().unwrap();
    for now in 400..10_400 {
        while rate.wait(now, true, 0.2).is_none() {
            let _sent = rate.take(now, 1, true);
            bulk += 1;
        }
        // The other class comes last in each millisecond, and still has its part.
        while rate.wait(now, false, 0.2).is_none() {
            let _sent = rate.take(now, 1, false);
            other += 1;
        }
    }
    let part = f64::from(other) / f64::from(bulk + other);
    println!("rate {before:.0}/s: bulk {bulk}, other {other}");
    assert!((0.15..0.30).contains(&part), "{part}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes back, in whatever order: the rate is a number above zero, and what is granted
    /// in a second is not far above what it says.
    #[test]
    fn any_answers_leave_a_rate_that_is_kept(seed: u64, denies in 0.0..1.0_f64, pauses: bool) {
        let mut rate = Rate::new();
        let mut draw = Draw(seed);
        let mut open: Vec<Sent> = Vec::new();
        let (mut granted, mut highest) = (0.0, 0.0_f64);
        for now in 0..8_000 {
            if now % 1_000 == 0 {
                prop_assert!(granted <= highest * 1.05 + 3.0 || now <= 1_000, "{granted} {highest}");
                (granted, highest) = (0.0, rate.rate().unwrap_or(f64::INFINITY));
            }
            for _ in 0..20 {
                if open.len() > 200 || rate.wait(now, false, 0.0).is_some() {
                    break;
                }
                open.push(rate.take(now, 1, false));
                granted += 1.0;
            }
            for _ in 0..3 {
                if open.is_empty() || draw.next() < 0.5 {
                    continue;
                }
                let sent = open.swap_remove((draw.next() * open.len() as f64) as usize);
                if draw.next() < denies {
                    rate.throttled(now, sent, pauses.then_some((draw.next() * 300.0) as i64));
                } else {
                    rate.accepted(now, sent, 1);
                }
            }
            if let Some(rate) = rate.rate() {
                prop_assert!(rate.is_finite() && rate >= LOWEST);
                highest = highest.max(rate);
            }
        }
    }

    #[test]
    fn waiting_as_told_is_enough(seed: u64) {
        let mut rate = Rate::new();
        let sent = grants(&mut rate, 0..200);
        let mut draw = Draw(seed);
        rate.throttled(200, sent[0], None);
        let mut now = 200;
        for _ in 0..200 {
            if let Some(until) = rate.wait(now, false, 0.0) {
                prop_assert!(until > now);
                now = until;
                prop_assert_eq!(rate.wait(now, false, 0.0), None);
            }
            let sent = rate.take(now, 1 + (draw.next() * 3.0) as u32, false);
            rate.accepted(now, sent, 1);
        }
    }
}
