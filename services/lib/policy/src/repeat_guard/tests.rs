//! The guard against a naive model, at its bounds, and after a restart.

use proptest::prelude::*;

use super::*;

const LIMIT: RepeatLimit = RepeatLimit {
    copies: 3,
    window_ms: 1_000,
    max_copies: 10_000,
};

fn ask(guard: &mut RepeatGuard, key: u64, content: u64, at: i64) -> bool {
    guard.decide(RepeatKey(key), ContentHash(content), at) == Verdict::Allow
}

/// Everything that was allowed, looked through one by one.
#[derive(Default)]
struct Naive(Vec<(u64, u64, i64)>);

impl Naive {
    fn ask(&mut self, limit: RepeatLimit, key: u64, content: u64, at: i64) -> bool {
        let same =
            |e: &&(u64, u64, i64)| e.0 == key && e.1 == content && e.2 > at - limit.window_ms;
        let allowed = self.0.iter().filter(same).count() < limit.copies as usize;
        if allowed {
            self.0.push((key, content, at));
        }
        allowed
    }
}

prop_compose! {
    /// Attempts in the order of time: key, content, moment.
    fn attempts()(steps in prop::collection::vec((0_u64..3, 1_u64..4, 0_i64..400), 0..200))
        -> Vec<(u64, u64, i64)> {
        let mut now = 0;
        steps.into_iter().map(|(key, content, wait)| {
            now += wait;
            (key, content, now)
        }).collect()
    }
}

proptest! {
    #[test]
    fn it_decides_as_one_who_remembers_everything(attempts in attempts(), copies in 1_u32..5) {
        let limit = RepeatLimit { copies, ..LIMIT };
        let mut guard = RepeatGuard::new(limit);
        let mut naive = Naive::default();
        for (key, content, at) in attempts {
            let wanted = naive.ask(limit, key, content, at);
            prop_assert_eq!(ask(&mut guard, key, content, at), wanted);
        }
        prop_assert_eq!(guard.forgotten_early(), 0);
    }

    #[test]
    fn never_more_copies_than_allowed_start_within_any_window(
        attempts in attempts(), copies in 1_u32..5, restart in 0_usize..200,
    ) {
        let limit = RepeatLimit { copies, ..LIMIT };
        let mut guard = RepeatGuard::new(limit);
        let mut started: Vec<Copied> = Vec::new();
        for (i, (key, content, at)) in attempts.into_iter().enumerate() {
            if i == restart {
                // A successor, whose receipts come in another order.
                guard = RepeatGuard::restore(limit, started.iter().rev().copied(), at);
            }
            if ask(&mut guard, key, content, at) {
                started.push(Copied { key: RepeatKey(key), content: ContentHash(content), at });
            }
        }
        for last in &started {
            let within = started.iter().filter(|c| {
                c.key == last.key && c.content == last.content
                    && c.at <= last.at && c.at > last.at - limit.window_ms
            });
            prop_assert!(within.count() <= copies as usize);
        }
    }

    #[test]
    fn distinct_contents_are_never_held(waits in prop::collection::vec(0_i64..10, 0..500)) {
        let mut guard = RepeatGuard::new(RepeatLimit { copies: 1, ..LIMIT });
        let mut now = 0;
        for (content, wait) in (1..).zip(waits) {
            now += wait;
            prop_assert!(ask(&mut guard, 7, content, now));
        }
    }

    #[test]
    fn memory_stays_within_its_bound_and_what_is_forgotten_is_counted(
        attempts in attempts(), max_copies in 1_usize..20,
    ) {
        let limit = RepeatLimit { max_copies, ..LIMIT };
        let mut guard = RepeatGuard::new(limit);
        let mut allowed = 0;
        let mut last = 0;
        for (key, content, at) in attempts {
            allowed += u64::from(ask(&mut guard, key, content, at));
            last = at;
            prop_assert!(guard.len() <= max_copies);
            prop_assert!(guard.seen.len() <= guard.len());
            let counted: usize = guard.seen.values().map(|s| s.copies as usize).sum();
            prop_assert_eq!(counted, guard.len());
        }
        prop_assert!(guard.forgotten_early() + guard.len() as u64 <= allowed);
        // An idle guard holds nothing once the window has gone by.
        guard.forget_until(last);
        prop_assert!(guard.is_empty() && guard.seen.is_empty());
    }
}

#[test]
fn the_alarm_is_raised_once_per_run_of_copies() {
    let mut guard = RepeatGuard::new(LIMIT);
    let mut first = Vec::new();
    for at in [0, 1, 2, 3, 4, 1_000, 1_001, 1_001, 1_003] {
        match guard.decide(RepeatKey(1), ContentHash(9), at) {
            Verdict::Allow => first.push("allow"),
            Verdict::Repeat {
                copies: 3,
                first: true,
            } => first.push("alarm"),
            Verdict::Repeat { .. } => first.push("held"),
        }
    }
    assert_eq!(
        first,
        [
            "allow", "allow", "allow", "alarm", "held", "allow", "allow", "alarm", "allow"
        ]
    );
}

#[test]
fn the_same_text_to_others_or_from_others_is_no_repeat() {
    let mut guard = RepeatGuard::new(RepeatLimit { copies: 1, ..LIMIT });
    let address = |id: &str| AddressId(id.to_owned());
    let keys = [
        RepeatKey::of("shop-1", &address("a")),
        RepeatKey::of("shop-1", &address("b")),
        RepeatKey::of("shop-2", &address("a")),
    ];
    for key in keys {
        assert!(ask(&mut guard, key.0, 5, 0));
    }
    assert!(!ask(&mut guard, keys[0].0, 5, 0));
}

#[test]
fn a_clock_that_goes_back_or_differs_opens_no_gap() {
    let copy = |at| Copied {
        key: RepeatKey(1),
        content: ContentHash(5),
        at,
    };
    // The predecessor's clock was an hour ahead: its copies count from now, and end with the window.
    let ahead = [copy(3_600_000), copy(3_600_000), copy(3_600_000)];
    let mut guard = RepeatGuard::restore(LIMIT, ahead, 10);
    assert!(!ask(&mut guard, 1, 5, 11));
    assert!(ask(&mut guard, 1, 5, 1_010));
    // Our own clock steps back: nothing is let through early.
    let mut guard = RepeatGuard::new(LIMIT);
    for at in [500, 400, 300] {
        assert!(ask(&mut guard, 1, 5, at));
    }
    assert!(!ask(&mut guard, 1, 5, 1_499));
    assert!(ask(&mut guard, 1, 5, 1_500));
}

#[test]
fn content_without_a_hash_is_never_held() {
    let mut guard = RepeatGuard::new(RepeatLimit { copies: 1, ..LIMIT });
    for _ in 0..10 {
        assert!(ask(&mut guard, 1, 0, 0));
    }
    assert!(guard.is_empty());
}
