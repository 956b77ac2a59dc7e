use proptest::prelude::*;

use super::*;

const ASK: Ask = Ask {
    account: AccountKey(0),
    class: Class::Transactional,
    sender: 1,
    address: 1,
    campaign: None,
    cost: 1,
    retry: false,
};
const BULK: Ask = Ask {
    class: Class::Bulk,
    ..ASK
};

fn pacer(limits: AccountLimits) -> Pacer {
    let mut pacer = Pacer::new(512, None, 1);
    assert_eq!(pacer.account("default", || limits), ASK.account);
    pacer
}

fn go(pacer: &mut Pacer, now: i64, ask: &Ask) -> Ticket {
    match pacer.ask(now, ask) {
        Permit::Go(ticket) => ticket,
        refused @ (Permit::KeyWaits { .. } | Permit::AccountWaits { .. }) => panic!("{refused:?}"),
    }
}

/// Why it may not go: (whether the account waits, until when).
fn refused(pacer: &mut Pacer, now: i64, ask: &Ask) -> (bool, i64) {
    match pacer.ask(now, ask) {
        Permit::Go(ticket) => panic!("{ticket:?}"),
        Permit::KeyWaits { until } => (false, until),
        Permit::AccountWaits { until } => (true, until),
    }
}

#[test]
fn without_limits_everything_goes_up_to_the_ceiling() {
    let mut pacer = pacer(AccountLimits::default());
    // The start doubles every round trip: 32, 64, 128, 256, and then the ceiling.
    let mut now = 0;
    for open in [32, 64, 128, 256, 512] {
        let tickets: Vec<Ticket> = (0..open).map(|_| go(&mut pacer, now, &BULK)).collect();
        let (account, until) = refused(&mut pacer, now, &BULK);
        assert!(account && until > now && until <= now + 500);
        assert!(pacer.take_starved() && !pacer.take_starved());
        now += 60;
        for ticket in tickets {
            pacer.answered(now, ticket, Answer::Accepted);
        }
        assert_eq!(pacer.in_flight(), 0);
    }
    let unsent = go(&mut pacer, now, &BULK);
    pacer.cancelled(now, unsent);
    assert_eq!(pacer.in_flight(), 0);
}

#[test]
fn no_level_is_charged_when_another_refuses() {
    let mut pacer = pacer(AccountLimits {
        per_second: Some(2),
        per_address: Some(1),
        per_sender: Some(5),
        ..AccountLimits::default()
    });
    let first = go(&mut pacer, 0, &ASK);
    let (account, until) = refused(&mut pacer, 0, &ASK);
    assert!(!account && until > 1_000, "the address waits: {until}");
    let other = Ask { address: 2, ..ASK };
    let second = go(&mut pacer, 0, &other);
    let third = Ask { address: 3, ..ASK };
    assert!(
        refused(&mut pacer, 0, &third).0,
        "the account's two are spent"
    );
    pacer.cancelled(0, second);
    let again = go(&mut pacer, 0, &third);
    pacer.answered(50, first, Answer::Refused);
    pacer.answered(50, again, Answer::Unknown);
    assert_eq!(refused(&mut pacer, 1_050, &ASK), (true, 1_051));
    let _last = go(&mut pacer, 1_051, &ASK);
    assert_eq!(pacer.next_release(1_000), Some(1_051));
    assert_eq!(pacer.next_release(1_051), None);
}

#[test]
fn a_retry_after_is_exact_and_stops_whom_it_names() {
    let throttled = |scope| Answer::Throttled {
        retry_after_ms: Some(700),
        scope,
    };
    let other_address = Ask { address: 2, ..ASK };
    let other_account = |pacer: &mut Pacer| Ask {
        account: pacer.account("other", AccountLimits::default),
        ..ASK
    };

    let mut by_address = pacer(AccountLimits::default());
    let ticket = go(&mut by_address, 0, &ASK);
    by_address.answered(50, ticket, throttled(Scope::Address));
    assert_eq!(refused(&mut by_address, 50, &ASK), (false, 750));
    assert_eq!(refused(&mut by_address, 749, &ASK), (false, 750));
    let _other = go(&mut by_address, 50, &other_address);
    let _again = go(&mut by_address, 750, &ASK);

    let mut by_account = pacer(AccountLimits::default());
    let ticket = go(&mut by_account, 0, &ASK);
    by_account.answered(50, ticket, throttled(Scope::Account));
    assert_eq!(refused(&mut by_account, 749, &other_address), (true, 750));
    assert_eq!(by_account.paused_until(ASK.account), 750);
    let other = other_account(&mut by_account);
    let _free = go(&mut by_account, 50, &other);

    let mut by_worker = pacer(AccountLimits::default());
    let ticket = go(&mut by_worker, 0, &ASK);
    by_worker.answered(50, ticket, throttled(Scope::Worker));
    let other = other_account(&mut by_worker);
    assert_eq!(refused(&mut by_worker, 749, &other), (true, 750));
    assert_eq!(by_worker.egress_paused_until(), 750);

    let mut told = pacer(AccountLimits::default());
    told.pause(ASK.account, 900);
    told.pause(ASK.account, 300);
    assert_eq!(
        refused(&mut told, 0, &ASK),
        (true, 900),
        "another worker's word"
    );
}

#[test]
fn a_faulty_account_opens_its_circuit_and_no_other() {
    let mut pacer = pacer(AccountLimits::default());
    let ticket = go(&mut pacer, 0, &ASK);
    pacer.answered(50, ticket, Answer::AccountFault);
    let (account, until) = refused(&mut pacer, 50, &ASK);
    assert!(account && until >= 5_050);
    let other = Ask {
        account: pacer.account("other", AccountLimits::default),
        ..ASK
    };
    let _free = go(&mut pacer, 50, &other);
    let mut now = until;
    for _ in 0..5 {
        let probe = go(&mut pacer, now, &ASK);
        now += 10;
        pacer.answered(now, probe, Answer::Accepted);
    }
    let (limit, open) = pacer.concurrency(ASK.account).unwrap();
    assert!(limit < 10 && open == 0, "it begins gently: {limit}");
}

#[test]
fn transactional_finds_its_reserve() {
    let mut pacer = pacer(AccountLimits {
        concurrency: Some(10),
        ..AccountLimits::default()
    });
    let quiet: Vec<Ticket> = (0..10).map(|_| go(&mut pacer, 0, &BULK)).collect();
    assert!(refused(&mut pacer, 0, &ASK).0);
    for ticket in quiet {
        pacer.answered(60, ticket, Answer::Accepted);
    }
    let bulk: Vec<Ticket> = (0..8).map(|_| go(&mut pacer, 100, &BULK)).collect();
    assert!(
        refused(&mut pacer, 100, &BULK).0,
        "two are kept: it was asked for just now"
    );
    let _one = go(&mut pacer, 100, &ASK);
    let _two = go(&mut pacer, 100, &ASK);
    assert_eq!(bulk.len(), 8);
}

#[test]
fn retries_beyond_the_budget_are_postponed_and_others_go() {
    let mut pacer = pacer(AccountLimits::default());
    let retry = Ask { retry: true, ..ASK };
    for _ in 0..100 {
        let ticket = go(&mut pacer, 0, &retry);
        pacer.answered(0, ticket, Answer::NotProcessed);
    }
    assert_eq!(refused(&mut pacer, 0, &retry), (false, 1_000));
    let _first = go(&mut pacer, 0, &ASK);
}

#[test]
fn a_retry_that_was_taken_is_given_back() {
    let mut pacer = pacer(AccountLimits::default());
    let retry = Ask { retry: true, ..ASK };
    for _ in 0..1_000 {
        let ticket = go(&mut pacer, 0, &retry);
        pacer.answered(0, ticket, Answer::Accepted);
    }
}

#[test]
fn a_share_replaces_the_limit_and_usage_is_told_once() {
    let mut pacer = pacer(AccountLimits {
        per_second: Some(100),
        ..AccountLimits::default()
    });
    pacer.share(ASK.account, 1, 5_000);
    let ticket = go(&mut pacer, 0, &ASK);
    assert!(refused(&mut pacer, 0, &ASK).0);
    let expected = Usage {
        granted: 1,
        held: 1,
        wanted_more: true,
    };
    assert_eq!(pacer.usage(0, ASK.account), expected);
    pacer.answered(10, ticket, Answer::Accepted);
    assert_eq!(pacer.usage(2_000, ASK.account), Usage::default());
    let _late = go(&mut pacer, 4_999, &ASK);
    assert!(
        refused(&mut pacer, 9_000, &ASK).0,
        "nobody renewed the share"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any answers in any order: every configured limit holds at the provider in every sliding
    /// second, and all gauges return to zero.
    #[test]
    fn every_limit_holds_whatever_comes_back(
        seed: u64, account in 1_u32..60, address in 1_u32..10, sender in 1_u32..30, egress in 1_u32..80,
    ) {
        let mut state = seed;
        let mut draw = move |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        let mut pacer = Pacer::new(64, Some(egress), 1);
        let limits = AccountLimits {
            per_second: Some(account),
            per_address: Some(address),
            per_sender: Some(sender),
            ..AccountLimits::default()
        };
        let keys = [pacer.account("a", || limits), pacer.account("b", || limits)];
        let mut open: Vec<(i64, Ticket)> = Vec::new();
        let mut sent: Vec<(i64, Ask)> = Vec::new();
        for now in 0..6_000 {
            while let Some(i) = open.iter().position(|(at, _)| *at <= now) {
                let (_, ticket) = open.swap_remove(i);
                let answer = match draw(40) {
                    0 => Answer::Unavailable,
                    1 => Answer::Unknown,
                    2 => Answer::NotProcessed,
                    3 => Answer::Throttled {
                        retry_after_ms: Some(50),
                        scope: Scope::Address,
                    },
                    _ => Answer::Accepted,
                };
                pacer.answered(now, ticket, answer);
            }
            for _ in 0..4 {
                let ask = Ask {
                    account: keys[usize::from(draw(2) == 0)],
                    class: if draw(3) == 0 { Class::Transactional } else { Class::Bulk },
                    address: draw(12),
                    sender: draw(4),
                    ..ASK
                };
                match pacer.ask(now, &ask) {
                    Permit::Go(ticket) if draw(20) == 0 => pacer.cancelled(now, ticket),
                    Permit::Go(ticket) => {
                        let rtt = i64::try_from(5 + draw(150)).unwrap();
                        let on_its_way = i64::try_from(draw(rtt.unsigned_abs())).unwrap();
                        sent.push((now + on_its_way, ask));
                        open.push((now + rtt, ticket));
                    }
                    Permit::KeyWaits { until } | Permit::AccountWaits { until } => {
                        prop_assert!(until > now);
                    }
                }
            }
        }
        prop_assert_eq!(pacer.in_flight() as usize, open.len());
        sent.sort_by_key(|(at, _)| *at);
        let most = |of: &dyn Fn(&Ask) -> bool| {
            let at: Vec<i64> = sent.iter().filter(|(_, ask)| of(ask)).map(|(at, _)| *at).collect();
            (0..at.len())
                .map(|i| i + 1 - at.partition_point(|t| *t <= at[i] - 1_000))
                .max()
                .unwrap_or(0)
        };
        prop_assert!(most(&|_| true) <= egress as usize);
        for key in keys {
            prop_assert!(most(&|ask| ask.account == key) <= account as usize);
            for n in 0..12 {
                prop_assert!(most(&|ask| ask.account == key && ask.address == n) <= address as usize);
                prop_assert!(most(&|ask| ask.account == key && ask.sender == n) <= sender as usize);
            }
        }
        for (_, ticket) in open {
            pacer.answered(10_000, ticket, Answer::Accepted);
        }
        prop_assert_eq!(pacer.in_flight(), 0);
        for key in keys {
            prop_assert_eq!(pacer.concurrency(key).map(|(_, open)| open), Some(0));
            prop_assert_eq!(pacer.usage(20_000, key).held, 0);
        }
    }
}

/// Everything at once: as many as fit are under way when the first 429 comes.
#[test]
fn a_flood_before_the_first_429_is_brought_down_to_the_limit() {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    let mut pacer = Pacer::new(512, None, 7);
    let account = pacer.account("a", AccountLimits::default);
    let (mut now, mut tokens, mut filled) = (0_i64, 10.0_f64, 0_i64);
    let mut flight: BinaryHeap<Reverse<(i64, u64)>> = BinaryHeap::new();
    let mut tickets = std::collections::HashMap::new();
    let (mut n, mut per_second) = (0_u64, Vec::new());
    let mut asked_again = 0;
    while now < 20_000 {
        // Answers that are due.
        while let Some(Reverse((at, id))) = flight.peek().copied()
            && at <= now
        {
            flight.pop();
            let (ticket, ok) = tickets.remove(&id).unwrap();
            let answer = if ok {
                Answer::Accepted
            } else {
                Answer::Throttled {
                    retry_after_ms: None,
                    scope: Scope::Account,
                }
            };
            pacer.answered(now, ticket, answer);
        }
        if now >= asked_again {
            loop {
                let ask = Ask {
                    account,
                    class: Class::Transactional,
                    sender: n,
                    address: n,
                    campaign: None,
                    cost: 1,
                    retry: false,
                };
                match pacer.ask(now, &ask) {
                    Permit::Go(ticket) => {
                        tokens = (tokens + (now - filled) as f64 * 0.1).min(10.0);
                        filled = now;
                        let ok = tokens >= 1.0;
                        if ok {
                            tokens -= 1.0;
                        }
                        let second = usize::try_from(now / 1_000).unwrap();
                        per_second.resize(per_second.len().max(second + 1), (0, 0));
                        per_second[second].0 += 1;
                        per_second[second].1 += usize::from(!ok);
                        n += 1;
                        tickets.insert(n, (ticket, ok));
                        flight.push(Reverse((now + 60, n)));
                    }
                    Permit::KeyWaits { until } | Permit::AccountWaits { until } => {
                        asked_again = until;
                        break;
                    }
                }
            }
        }
        now += 1;
    }
    let late: usize = per_second[10..].iter().map(|(_, denied)| denied).sum();
    assert!(late <= 20, "{per_second:?}");
}
