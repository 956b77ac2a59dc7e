use proptest::prelude::*;

use super::*;

const ONE: Want = Want {
    units: 1,
    bulk: false,
    reserved: 0,
};

/// The most units of any sliding second, of arrivals as (microsecond, units).
fn most_in_a_second(mut arrivals: Vec<(i64, u32)>) -> u32 {
    arrivals.sort_unstable();
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for (at, units) in &arrivals {
        sum += units;
        while arrivals[first].0 <= at - 1_000_000 {
            sum -= arrivals[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

/// Runs saturating demand for `seconds`; every request arrives at a random moment between its send
/// and its answer. Gives the arrivals and the most entries the window ever kept.
fn saturate(
    limit: u32,
    seconds: i64,
    bulk: bool,
    mut draw: impl FnMut() -> (u32, i64, f64),
) -> (Vec<(i64, u32)>, usize) {
    let mut window = Window::new(limit);
    let mut open: Vec<(i64, u32)> = Vec::new();
    let (mut arrivals, mut kept) = (Vec::new(), 0);
    let mut next = draw();
    for now in 0..seconds * 1_000 {
        open.retain(|(until, units)| {
            let due = *until <= now;
            if due {
                window.answered(now, *units, bulk);
            }
            !due
        });
        let want = |units| Want {
            units,
            bulk,
            reserved: 0,
        };
        while window.wait(now, want(next.0)).is_none() {
            let (units, rtt, part) = next;
            window.take(now, want(units));
            // Sent late in this millisecond, arrived before the answer was seen.
            #[expect(clippy::cast_possible_truncation, reason = "below an hour")]
            let at = now * 1_000 + ((rtt * 1_000) as f64 * part) as i64;
            arrivals.push((at, units));
            open.push((now + rtt, window.charge(units)));
            next = draw();
        }
        kept = kept.max(window.leaving.len());
    }
    (arrivals, kept)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_sliding_second_at_the_provider_holds_more(
        limit in 1_u32..300,
        bulk: bool,
        draws in prop::collection::vec((1_u32..4, 1_i64..400, 0.0..1.0_f64), 50..400),
    ) {
        let mut i = 0;
        let (arrivals, kept) = saturate(limit, 6, bulk, || {
            i += 1;
            let (units, rtt, part) = draws[i % draws.len()];
            (units.min(limit), rtt, part)
        });
        prop_assert!(!arrivals.is_empty());
        prop_assert!(most_in_a_second(arrivals) <= limit);
        prop_assert!(kept <= (limit as usize).min(1_002));
    }

    #[test]
    fn whoever_waits_until_told_gets_it_and_not_before(limit in 1_u32..50, rtt in 1_i64..500) {
        let mut window = Window::new(limit);
        for _ in 0..limit {
            prop_assert_eq!(window.wait(0, ONE), None);
            window.take(0, ONE);
        }
        let told = window.wait(0, ONE);
        prop_assert!(told.is_some_and(|until| until > 1_000), "nothing can leave before");
        for _ in 0..limit {
            window.answered(rtt, 1, false);
        }
        let until = window.wait(rtt, ONE).unwrap();
        prop_assert_eq!(until, rtt + WINDOW_MS + 1);
        prop_assert!(window.wait(until - 1, ONE).is_some());
        prop_assert_eq!(window.wait(until, ONE), None);
    }
}

#[test]
fn the_mean_is_what_the_round_trip_leaves_of_it() {
    for bulk in [false, true] {
        let mut i = 0_u32;
        let (arrivals, _) = saturate(200, 60, bulk, || {
            i += 1;
            (1, 55 + i64::from(i % 11), f64::from(i % 7) / 7.0)
        });
        let most = most_in_a_second(arrivals.clone());
        let warm = arrivals.iter().filter(|(at, _)| *at >= 5_000_000).count();
        #[expect(clippy::cast_precision_loss, reason = "a count of a test")]
        let mean = warm as f64 / 55.0;
        println!(
            "limit 200/s, RTT 60 ms, bulk {bulk}: mean {mean:.1}/s, at most {most} in a second"
        );
        assert!(mean >= 185.0 && most <= 200, "{mean} {most}");
    }
}

#[test]
fn bulk_leaves_the_reserve_alone() {
    let mut window = Window::new(10);
    let bulk = Want {
        units: 1,
        bulk: true,
        reserved: 2,
    };
    let mut now = 0;
    while window.held_bulk < 8 {
        match window.wait(now, bulk) {
            None => window.take(now, bulk),
            Some(until) => now = until,
        }
    }
    assert!(window.wait(now, bulk).is_some());
    assert_eq!(window.wait(now, ONE), None);
    let all = Want {
        reserved: 0,
        ..bulk
    };
    now += 1_000;
    assert_eq!(window.wait(now, all), None, "nobody needs the reserve");
}

#[test]
fn a_unit_that_was_never_sent_is_free_at_once() {
    let mut window = Window::new(1);
    window.take(0, ONE);
    assert!(window.wait(0, ONE).is_some());
    window.cancelled(1, false);
    assert_eq!(window.wait(0, ONE), None);
    assert!(window.is_idle(0));
}

#[test]
fn a_smaller_limit_holds_until_enough_has_left() {
    let mut window = Window::new(3);
    for _ in 0..3 {
        window.take(0, ONE);
        window.answered(10, 1, false);
    }
    window.set_limit(1);
    assert_eq!(window.held(1_010), 3);
    assert_eq!(window.wait(1_010, ONE), Some(1_011));
    assert_eq!(window.wait(1_011, ONE), None);
}
