use bongsu_domain::{Address, AddressId, Platform};
use proptest::prelude::*;

use super::*;
use crate::Suppressions;

const LIMITS: HygieneLimits = HygieneLimits {
    window_ms: 3_600_000,
    share: 0.2,
    believed: 5,
    doubtful: Streak {
        verdicts: 3,
        span_ms: DAY,
    },
    turned_away: Streak {
        verdicts: 4,
        span_ms: 5 * DAY,
    },
};

fn scope(app: &str) -> HygieneScope {
    HygieneScope {
        channel: Channel::Apns,
        account: "shop".into(),
        app: app.into(),
    }
}

fn observed(address: u32, at: i64, word: Word) -> Observation {
    Observation {
        scope: scope("app"),
        address_id: format!("a-{address}"),
        registered_at: None,
        at: Timestamp(at),
        word,
    }
}

const DEAD: Word = Word::Dead(Reason::InvalidAddress);
const DOUBT: Word = Word::Doubtful(Reason::AddressDoubtful);
const AWAY: Word = Word::TurnedAway(Reason::AddressDoubtful);
const DAY: i64 = 86_400_000;

fn judged(observations: &[Observation]) -> (Judged, HashMap<u64, Held>) {
    let mut known = HashMap::new();
    let judged = judge(&LIMITS, Windows::default(), &mut known, observations);
    (judged, known)
}

fn retired(judged: &Judged) -> usize {
    let kept = judged.acts.iter().filter(
        |act| matches!(act, Act::Keep(suppression) if suppression.hold == Hold::Suppressed),
    );
    kept.count()
}

#[test]
fn a_wrong_environment_retires_what_is_believed_and_no_more() {
    let all_dead: Vec<_> = (0..1_000)
        .map(|i| observed(i, i64::from(i), DEAD))
        .collect();
    let (first, known) = judged(&all_dead);
    assert_eq!((retired(&first), known.len()), (5, 5));
    assert_eq!(first.withheld[&scope("app")], 995);
    // Batch by batch it is the same: the windows are what was told before.
    let (mut told, mut known, mut count) = (Windows::default(), HashMap::new(), 0);
    for batch in all_dead.chunks(7) {
        let next = judge(&LIMITS, told.clone(), &mut known, batch);
        for (scope, minute, words) in next.windows.rows() {
            told.add(scope, minute, words);
        }
        count += retired(&next);
    }
    assert_eq!(count, 5);
}

#[test]
fn the_usual_share_of_dead_addresses_is_believed() {
    let mixed: Vec<_> = (0..1_000)
        .map(|i| {
            observed(
                i,
                i64::from(i),
                if i % 10 == 9 { DEAD } else { Word::Reached },
            )
        })
        .collect();
    let (judged, _) = judged(&mixed);
    assert_eq!(retired(&judged), 100);
    assert!(judged.withheld.is_empty());
}

#[test]
fn doubts_retire_only_when_many_far_apart_and_nothing_between_them() {
    let doubts = |times: &[i64]| {
        let all: Vec<_> = times.iter().map(|at| observed(1, *at, DOUBT)).collect();
        retired(&judged(&all).0)
    };
    assert_eq!(doubts(&[0, DAY]), 0);
    assert_eq!(doubts(&[0, 1, 2, 3, 4, 5]), 0);
    assert_eq!(doubts(&[0, DAY / 2, DAY]), 1);
    let between = [
        observed(1, 0, DOUBT),
        observed(1, DAY / 2, Word::Reached),
        observed(1, DAY, DOUBT),
        observed(1, DAY + 1, DOUBT),
    ];
    assert_eq!(retired(&judged(&between).0), 0);
}

/// What a receiver's verdicts, at these tenths of days, come to; a negative one is a success.
fn turned_away(tenths: &[i64]) -> (usize, Option<u32>) {
    let all: Vec<_> = tenths
        .iter()
        .map(|tenth| {
            let word = if *tenth < 0 { Word::Reached } else { AWAY };
            observed(1, tenth.abs() * DAY / 10, word)
        })
        .collect();
    let (judged, known) = judged(&all);
    (retired(&judged), known.values().next().map(|h| h.verdicts))
}

#[test]
fn a_receiver_is_retired_by_a_long_streak_and_nothing_less() {
    assert_eq!(turned_away(&[0]), (0, Some(1)));
    assert_eq!(turned_away(&[0, 1, 2, 3, 49]), (0, Some(5)), "days");
    assert_eq!(turned_away(&[0, 30, 60]), (0, Some(3)), "verdicts");
    assert_eq!(turned_away(&[0, 10, 20, 50]), (1, Some(4)));
    let reset = turned_away(&[0, 10, 20, -30, 50, 60, 70]);
    assert_eq!(reset, (0, Some(3)), "a success ends the streak");
    assert_eq!(
        word_of(Outcome::Dead, Reason::AddressDoubtful),
        Some(AWAY),
        "what dispatch writes of it"
    );
}

#[test]
fn a_verdict_read_twice_counts_once() {
    let streak: Vec<_> = [0, 2, 4].map(|day| observed(1, day * DAY, AWAY)).into();
    let (_, mut known) = judged(&streak);
    let again = judge(&LIMITS, Windows::default(), &mut known, &streak);
    assert!(again.acts.is_empty());
    assert_eq!(known.values().next().unwrap().verdicts, 3);
}

#[test]
fn who_is_reached_after_the_verdict_is_restored_unless_a_person_said_no() {
    let (first, mut known) = judged(&[observed(1, 10, DEAD)]);
    assert_eq!(retired(&first), 1);
    let late = judge(
        &LIMITS,
        Windows::default(),
        &mut known,
        &[observed(1, 5, Word::Reached)],
    );
    assert!(late.acts.is_empty(), "an older word restores nothing");
    let reached = [observed(1, 20, Word::Reached)];
    let mut by_a_person = known.clone();
    by_a_person.values_mut().for_each(|s| s.by_hygiene = false);
    let next = judge(&LIMITS, Windows::default(), &mut known, &reached);
    assert!(matches!(next.acts[..], [Act::Forget(_, Hold::Suppressed)]));
    let next = judge(&LIMITS, Windows::default(), &mut by_a_person, &reached);
    assert!(next.acts.is_empty());
}

#[test]
fn a_complaint_holds_for_good_and_the_guard_does_not_doubt_it() {
    assert_eq!(
        word_of(Outcome::Delivered, Reason::Complained),
        Some(Word::Unwanted)
    );
    // As many as there are, and over what hygiene wrote before.
    let mut words: Vec<_> = (0..100).map(|a| observed(a, 10, Word::Unwanted)).collect();
    words.insert(0, observed(1, 5, DEAD));
    let (first, mut known) = judged(&words);
    assert_eq!((retired(&first), known.len()), (101, 100));
    assert!(first.withheld.is_empty() && first.believed.len() == 1);
    let last = first.acts.last().unwrap();
    let Act::Keep(kept) = last else {
        panic!("{last:?}")
    };
    assert_eq!(
        (kept.by.as_str(), kept.reason),
        ("complaint", Reason::Complained)
    );
    // Neither a success, nor another registration, nor another complaint changes it.
    let mut later = observed(1, 30, DEAD);
    later.registered_at = Some(Timestamp(20));
    let after = [
        observed(1, 20, Word::Reached),
        later,
        observed(1, 40, Word::Unwanted),
    ];
    let next = judge(&LIMITS, Windows::default(), &mut known, &after);
    assert!(next.acts.is_empty(), "{next:?}");
    let mut suppressions = Suppressions::default();
    suppressions.apply(kept);
    let registered = address("a-99", Some(50));
    assert_eq!(suppressions.decide(&registered), Some(Reason::Complained));
}

fn address(address_id: &str, registered_at: Option<i64>) -> Address {
    Address {
        channel: Channel::Apns,
        address: "t".into(),
        id: AddressId(address_id.into()),
        account: "shop".into(),
        platform: Platform::Ios,
        app: None,
        registered_at: registered_at.map(Timestamp),
    }
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let word = prop::sample::select(vec![Word::Reached, DEAD, DOUBT, AWAY]);
    (0_u32..8, 0_i64..40, word, prop::option::of(0_i64..40)).prop_map(
        |(a, at, word, registered)| {
            // Quarter hours, so that windows slide and doubts get old.
            let mut observation = observed(a, at * 900_000, word);
            let registered = registered.map(|at| Timestamp(at * 900_000));
            observation.registered_at = registered.filter(|r| *r <= observation.at);
            observation
        },
    )
}

proptest! {
    #[test]
    fn no_window_retires_more_than_the_guard_allows(
        words in prop::collection::vec((0_u32..400, 0_i64..7_200_000, any::<bool>()), 1..300),
    ) {
        let mut words = words;
        words.sort_by_key(|(_, at, _)| *at);
        let all: Vec<_> = words
            .iter()
            .map(|(a, at, dead)| observed(*a, *at, if *dead { DEAD } else { Word::Reached }))
            .collect();
        let (judged, _) = judged(&all);
        let retired_at: Vec<i64> = judged
            .acts
            .iter()
            .filter_map(|act| match act {
                Act::Keep(s) if s.hold == Hold::Suppressed => Some(s.at.0),
                Act::Keep(_) | Act::Forget(..) => None,
            })
            .collect();
        for end in &retired_at {
            let from = minute_of(Timestamp(*end)) - LIMITS.window_ms;
            let told = all.iter().filter(|o| (from..=*end).contains(&o.at.0)).count();
            let retired = retired_at.iter().filter(|at| (from..=*end).contains(at)).count();
            let most = (told as f64 * LIMITS.share).max(LIMITS.believed as f64);
            prop_assert!(retired as f64 <= most, "{retired} of {told}");
        }
    }

    #[test]
    fn what_is_suppressed_was_said_dead_or_often_doubted_and_never_newer(
        words in prop::collection::vec(any_observation(), 1..60),
    ) {
        let mut words = words;
        words.sort_by_key(|o| o.at);
        let (judged, known) = judged(&words);
        let mut suppressions = Suppressions::default();
        for act in &judged.acts {
            match act {
                Act::Keep(suppression) => suppressions.apply(suppression),
                Act::Forget(key, _) => suppressions.forget(*key),
            }
        }
        for a in 0..8 {
            let id = format!("a-{a}");
            let mine: Vec<_> = words.iter().filter(|o| o.address_id == id).collect();
            // The log's readers and the judge agree.
            let key = AddressKey::new(Channel::Apns, "shop", &id);
            let held = known.get(&key.0).filter(|s| s.hold == Hold::Suppressed);
            prop_assert_eq!(suppressions.decide(&address(&id, None)).is_some(), held.is_some());
            let Some(held) = held else { continue };
            let dead = mine.iter().any(|o| o.word == DEAD && o.at == held.at);
            let doubts = mine.iter().filter(|o| o.word == DOUBT && o.at <= held.at).count();
            let away = mine.iter().filter(|o| o.word == AWAY && o.at <= held.at).count();
            prop_assert!(dead || doubts + away >= 3);
            // Never reached since, and a later registration is alive.
            let reached = mine.iter().any(|o| o.word == Word::Reached && o.at > held.at);
            prop_assert!(!reached);
            let later = held.registered_at.unwrap_or(held.at).0 + 1;
            prop_assert_eq!(suppressions.decide(&address(&id, Some(later))), None);
        }
    }

    #[test]
    fn the_same_batch_again_decides_nothing_new(
        words in prop::collection::vec(any_observation(), 1..40),
    ) {
        let dead: Vec<_> = words.into_iter().filter(|o| o.word == DEAD).collect();
        let mut sorted = dead;
        sorted.sort_by_key(|o| (o.registered_at, o.at));
        let mut known = HashMap::new();
        let _first = judge(&LIMITS, Windows::default(), &mut known, &sorted);
        let before = known.clone();
        let again = judge(&LIMITS, Windows::default(), &mut known, &sorted);
        // What the guard withheld may be believed no more than before; what stands, stands.
        for (key, held) in &before {
            prop_assert_eq!(known[key].hold, held.hold);
        }
        prop_assert!(again.withheld.len() <= 1);
    }
}
