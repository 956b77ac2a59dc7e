use proptest::prelude::*;

use super::*;
use crate::provider::ThrottleScope;

const SECOND: Duration = Duration::from_secs(1);

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

fn limited(wait: Duration) -> AttemptResult {
    AttemptResult::Throttled {
        scope: ThrottleScope::Address,
        retry_after: Some(wait),
    }
}

#[test]
fn the_last_of_a_limit_holds_its_webhook_and_no_other() {
    let now = Instant::now();
    let buckets = Buckets::new(5, 30, now);
    let last = headers(&[
        ("x-ratelimit-limit", "5"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset-after", "1.5"),
    ]);
    assert_eq!(buckets.take(1, now), Ok(()));
    let told = buckets.answered(1, AttemptResult::Accepted, &last, now, now);
    assert_eq!(told, None);
    let rest = Duration::from_millis(1_500);
    assert_eq!(buckets.wait(1, now), Some(rest));
    assert_eq!(buckets.take(1, now), Err((Scope::Webhook, rest)));
    assert_eq!(buckets.take(2, now), Ok(()));
    assert_eq!(buckets.take(1, now + rest), Ok(()));
    // The answer of a start in the window before says nothing of this one.
    buckets.answered(1, AttemptResult::Accepted, &last, now, now + rest);
    assert_eq!(buckets.wait(1, now + rest), None);
}

#[test]
fn attempts_on_their_way_are_counted_before_anything_is_announced() {
    let now = Instant::now();
    let buckets = Buckets::new(5, 30, now);
    for _ in 0..5 {
        assert_eq!(buckets.take(1, now), Ok(()));
    }
    assert_eq!(buckets.take(1, now), Err((Scope::Webhook, ASSUMED_WINDOW)));
    // The answers come out of order: what is left never grows by one.
    for remaining in ["0", "3", "1"] {
        let told = headers(&[
            ("x-ratelimit-limit", "5"),
            ("x-ratelimit-remaining", remaining),
            ("x-ratelimit-reset-after", "1.9"),
        ]);
        buckets.answered(1, AttemptResult::Accepted, &told, now, now);
        assert!(buckets.wait(1, now).is_some());
    }
}

#[test]
fn a_429_pauses_its_webhook_or_everything() {
    let scope = |pairs| {
        let now = Instant::now();
        let buckets = Buckets::new(5, 30, now);
        let told = buckets.answered(1, limited(SECOND), &headers(pairs), now, now);
        let other = buckets.take(2, now);
        match told {
            Some(Scope::Everything) => assert_eq!(other, Err((Scope::Everything, SECOND))),
            Some(Scope::Webhook) | None => assert_eq!(other, Ok(())),
        }
        assert_eq!(buckets.wait(1, now), Some(SECOND));
        assert_eq!(buckets.wait(1, now + SECOND), None);
        told
    };
    assert_eq!(
        scope(&[("x-ratelimit-scope", "user")]),
        Some(Scope::Webhook)
    );
    assert_eq!(
        scope(&[("x-ratelimit-scope", "shared")]),
        Some(Scope::Webhook)
    );
    assert_eq!(
        scope(&[("x-ratelimit-scope", "global")]),
        Some(Scope::Everything)
    );
    let both = [
        ("x-ratelimit-scope", "user"),
        ("x-ratelimit-global", "true"),
    ];
    assert_eq!(scope(&both), Some(Scope::Everything));
    assert_eq!(scope(&[]), Some(Scope::Everything), "a block by Cloudflare");
}

#[test]
fn what_is_remembered_is_bounded_and_forgotten_when_it_says_nothing_any_more() {
    let now = Instant::now();
    let buckets = Buckets::new(5, 30, now);
    for id in 0..(REMEMBERED as u64 + 10) {
        assert_eq!(buckets.take(id, now), Ok(()));
    }
    let known = || buckets.inner.lock().unwrap().webhooks.len();
    assert_eq!(known(), REMEMBERED);
    assert_eq!(buckets.take(u64::MAX, now + 81 * SECOND), Ok(()));
    assert_eq!(known(), 1);
    assert!(size_of::<Webhook>() <= 40, "the documented memory");
}

proptest! {
    /// Against a provider that counts fixed windows from their first request: 5 in 2 s and 30 in
    /// 60 s, with requests that take some time to arrive.
    #[test]
    fn no_request_is_ever_too_much_for_its_webhook(
        gaps in prop::collection::vec((0_u64..3_000, 0_u64..200, 0_u64..200), 1..400),
    ) {
        let start = Instant::now();
        let buckets = Buckets::new(5, 30, start);
        let (mut now, mut read_last) = (0, 0);
        let mut windows = [(0_u64, 0_u32); 2];
        for (gap, there, back) in gaps {
            now += gap;
            let taken = start + Duration::from_millis(now);
            if buckets.take(7, taken).is_err() {
                continue;
            }
            // One connection keeps the order of its requests.
            let read = read_last.max(now + there);
            read_last = read;
            for ((ends, used), (most, width)) in windows.iter_mut().zip([(5, 2_000), (30, 60_000)]) {
                if read >= *ends {
                    (*ends, *used) = (read + width, 0);
                }
                *used += 1;
                prop_assert!(*used <= most, "{used} of {most} at {read}");
            }
            let remaining = (5 - windows[0].1).to_string();
            let reset = format!("{:.3}", Duration::from_millis(windows[0].0 - read).as_secs_f64());
            let told: HeaderMap = [
                ("x-ratelimit-limit", "5"),
                ("x-ratelimit-remaining", remaining.as_str()),
                ("x-ratelimit-reset-after", reset.as_str()),
            ]
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
            now = read + back;
            let at = start + Duration::from_millis(now);
            buckets.answered(7, AttemptResult::Accepted, &told, taken, at);
        }
    }
}
