use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> Rules {
    Rules {
        connections: 2,
        streams: 1_000,
        warm: false,
        silence: 5 * SECOND,
        idle_silence: 60 * SECOND,
        idle_timeout: 3_600 * SECOND,
        backoff: SECOND,
        backoff_max: 10 * SECOND,
    }
}

fn used(choice: Choice<()>) -> (u64, bool) {
    match choice {
        Choice::Use { id, open_more, .. } => (id, open_more),
        other @ (Choice::Open | Choice::Wait | Choice::Down) => panic!("{other:?}"),
    }
}

/// One warm connection with room for `limit`.
fn warm(limit: usize, now: Instant) -> Slots<()> {
    let mut slots = Slots::new(rules());
    assert_eq!(slots.choose(now), Choice::Open);
    let id = slots.opened((), now);
    slots.limited(id, limit);
    slots.heard(id, true, now);
    slots
}

#[test]
fn the_first_request_is_alone_until_a_credential_was_accepted() {
    let now = Instant::now();
    let mut slots = Slots::new(rules());
    assert_eq!(slots.choose(now), Choice::Open);
    assert_eq!(slots.choose(now), Choice::Wait, "one is being opened");
    let id = slots.opened((), now);
    slots.limited(id, 1_000);
    assert_eq!(used(slots.choose(now)), (id, false));
    assert_eq!(slots.choose(now), Choice::Wait);
    assert!(!slots.heard(id, false, now), "refused: still alone");
    slots.released(id);
    used(slots.choose(now));
    assert_eq!(slots.choose(now), Choice::Wait);
    assert!(slots.heard(id, true, now));
    used(slots.choose(now));
    assert_eq!(slots.in_flight(), 2);
}

#[test]
fn the_servers_limit_is_followed_up_and_down() {
    let now = Instant::now();
    let mut slots = Slots::new(Rules {
        connections: 1,
        ..rules()
    });
    assert_eq!(slots.choose(now), Choice::Open);
    let id = slots.opened((), now);
    slots.heard(id, true, now);
    assert!(slots.limited(id, 3));
    for _ in 0..3 {
        used(slots.choose(now));
    }
    assert_eq!(slots.choose(now), Choice::Wait);
    assert!(!slots.limited(id, 1), "it sank");
    slots.released(id);
    assert_eq!(slots.choose(now), Choice::Wait);
    slots.released(id);
    slots.released(id);
    used(slots.choose(now));
    assert_eq!(slots.choose(now), Choice::Wait);
}

#[test]
fn another_connection_is_opened_when_one_is_half_full_and_never_more_than_allowed() {
    let now = Instant::now();
    let mut slots = warm(4, now);
    assert!(!used(slots.choose(now)).1);
    assert!(!used(slots.choose(now)).1);
    assert!(used(slots.choose(now)).1, "half full");
    assert!(!used(slots.choose(now)).1, "said once");
    let second = slots.opened((), now);
    slots.limited(second, 4);
    assert_eq!(used(slots.choose(now)).0, second, "the emptier one");
    slots.heard(second, true, now);
    for _ in 0..3 {
        assert_eq!(used(slots.choose(now)), (second, false));
    }
    assert_eq!(slots.choose(now), Choice::Wait);
}

#[test]
fn failures_wait_longer_and_longer_and_a_success_forgets_them() {
    let now = Instant::now();
    let mut slots: Slots<()> = Slots::new(rules());
    let mut at = now;
    for wait in [1, 2, 4, 8, 10, 10] {
        assert_eq!(slots.choose(at), Choice::Open);
        slots.failed(at, 1.0);
        assert_eq!(slots.choose(at), Choice::Down);
        let until = at + wait * SECOND;
        assert_eq!(slots.choose(until - Duration::from_millis(1)), Choice::Down);
        at = until;
    }
    assert_eq!(slots.choose(at), Choice::Open);
    let id = slots.opened((), at);
    slots.heard(id, true, at);
    slots.removed(id, at, 1.0);
    assert_eq!(
        slots.choose(at),
        Choice::Open,
        "a proven one is replaced at once"
    );
    let id = slots.opened((), at);
    slots.removed(id, at, 1.0);
    assert_eq!(
        slots.choose(at),
        Choice::Down,
        "one that proved nothing is not"
    );
}

#[test]
fn a_retired_connection_takes_nothing_and_closes_with_its_last_request() {
    let now = Instant::now();
    let mut slots = warm(100, now);
    let (id, _) = used(slots.choose(now));
    assert!(!slots.retire(id));
    assert_eq!(slots.choose(now), Choice::Open, "another takes over");
    assert!(matches!(slots.check(id, now), Check::At(_)));
    assert!(slots.released(id));
    assert_eq!(slots.check(id, now), Check::Close);
}

#[test]
fn a_young_connection_is_not_replaced_at_its_servers_word() {
    let now = Instant::now();
    let mut slots = warm(100, now);
    let (id, _) = used(slots.choose(now));
    slots.replace(id, now + 4 * SECOND);
    assert_eq!(used(slots.choose(now)).0, id);
    slots.replace(id, now + 5 * SECOND);
    assert_eq!(slots.choose(now + 5 * SECOND), Choice::Open);
}

#[test]
fn silence_is_asked_about_sooner_when_somebody_waits() {
    let now = Instant::now();
    let mut slots = warm(100, now);
    assert_eq!(slots.check(0, now), Check::At(now + 5 * SECOND));
    assert_eq!(
        slots.check(0, now + 59 * SECOND),
        Check::At(now + 60 * SECOND)
    );
    assert_eq!(slots.check(0, now + 60 * SECOND), Check::Ping);
    let (id, _) = used(slots.choose(now + 10 * SECOND));
    assert_eq!(slots.check(id, now + 10 * SECOND), Check::Ping);
    slots.heard(id, true, now + 10 * SECOND);
    assert_eq!(
        slots.check(id, now + 11 * SECOND),
        Check::At(now + 15 * SECOND)
    );
}

#[test]
fn an_unused_connection_is_closed_and_takes_nothing_meanwhile() {
    let now = Instant::now();
    let mut slots = warm(100, now);
    let late = now + 3_600 * SECOND;
    assert_eq!(slots.check(0, late), Check::Close);
    assert_eq!(slots.choose(late), Choice::Open);
}
