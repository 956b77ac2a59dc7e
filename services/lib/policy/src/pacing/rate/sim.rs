//! A seeded discrete-event simulation: workers with saturating demand, a network with jitter, and a
//! provider that is a token bucket. Each worker has a [`Rate`] of its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Rate, Sent, Word};

/// Uniform numbers in 0..1 from a seed (`SplitMix64`).
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What is simulated; times in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct World {
    pub(super) workers: usize,
    /// The bucket: units per second and depth.
    pub(super) limit: f64,
    pub(super) burst: f64,
    pub(super) rtt: f64,
    /// Each way takes half of the round trip, more or less by this part.
    pub(super) jitter: f64,
    pub(super) retry_after: Option<i64>,
    /// When the limit doubles.
    pub(super) doubles_at: Option<i64>,
    pub(super) ends: i64,
    /// Attempts each worker may have open.
    pub(super) open: usize,
    /// Workers begin within so long of each other.
    pub(super) spread: f64,
    /// All but the first want no more than so much per second, two at a time.
    pub(super) small: Option<f64>,
    /// Whether they tell each other their rates, each once a second.
    pub(super) talk: bool,
}

impl World {
    /// The bucket of the requirement: 100/s, burst 10, 60 ms.
    pub(super) const fn plain() -> Self {
        Self {
            workers: 1,
            limit: 100.0,
            burst: 10.0,
            rtt: 60.0,
            jitter: 0.1,
            retry_after: None,
            doubles_at: None,
            ends: 330_000,
            open: 512,
            spread: 500.0,
            small: None,
            talk: false,
        }
    }
}

/// What the provider saw, in slots of a tenth of a second.
pub(super) struct Seen {
    accepted: Vec<u32>,
    denied: Vec<u32>,
    /// Accepted per worker.
    pub(super) by_worker: Vec<u64>,
}

impl Seen {
    /// Accepted per second between two moments.
    pub(super) fn goodput(&self, from: i64, to: i64) -> f64 {
        sum(&self.accepted, from, to) * 1_000.0 / (to - from) as f64
    }

    /// Percent of the requests between two moments that were denied.
    pub(super) fn denied(&self, from: i64, to: i64) -> f64 {
        let denied = sum(&self.denied, from, to);
        100.0 * denied / (denied + sum(&self.accepted, from, to)).max(1.0)
    }
}

fn sum(slots: &[u32], from: i64, to: i64) -> f64 {
    let slot = |ms: i64| usize::try_from(ms / 100).unwrap();
    slots[slot(from)..slot(to)]
        .iter()
        .map(|n| f64::from(*n))
        .sum()
}

/// What happens next, in order of time (microseconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: i64,
    request: usize,
    worker: usize,
    /// None: it arrives. Else its answer comes: accepted or not.
    answer: Option<bool>,
}

pub(super) fn run(world: World, seed: u64) -> Seen {
    let mut draw = Draw(seed);
    let mut rates: Vec<Rate> = (0..world.workers).map(|_| Rate::new()).collect();
    let mut open = vec![0; world.workers];
    let starts: Vec<i64> = (0..world.workers)
        .map(|_| (draw.next() * world.spread) as i64)
        .collect();
    let told_at: Vec<i64> = starts.iter().map(|start| start * 7 % 1_000).collect();
    let mut told: Vec<Option<Word>> = vec![None; world.workers];
    let slots = usize::try_from(world.ends / 100).unwrap() + 20;
    let mut seen = Seen {
        accepted: vec![0; slots],
        denied: vec![0; slots],
        by_worker: vec![0; world.workers],
    };
    let mut events: BinaryHeap<Reverse<Event>> = BinaryHeap::new();
    let mut requests: Vec<Sent> = Vec::new();
    let (mut tokens, mut filled_at, mut limit) = (world.burst, 0, world.limit);
    let way = move |draw: &mut Draw| {
        (world.rtt * 500.0 * (1.0 + world.jitter * (draw.next() * 2.0 - 1.0))) as i64
    };
    // What each of them has not sent yet; without end where demand saturates.
    let mut backlog = vec![u64::MAX; world.workers];
    let pair = world.small.map(|small| (2_000.0 / small) as i64);
    if pair.is_some() {
        backlog[1..].fill(0);
    }
    for now in 0..world.ends {
        if pair.is_some_and(|pair| now % pair == 0) {
            backlog[1..].iter_mut().for_each(|waiting| *waiting += 2);
        }
        if Some(now) == world.doubles_at {
            limit *= 2.0;
        }
        while events.peek().is_some_and(|Reverse(e)| e.at <= now * 1_000) {
            let Reverse(mut event) = events.pop().unwrap();
            match event.answer {
                None => {
                    let inflow = (event.at - filled_at) as f64 / 1e6 * limit;
                    tokens = (tokens + inflow).min(world.burst);
                    filled_at = event.at;
                    let accepted = tokens >= 1.0;
                    let slot = usize::try_from(event.at / 100_000).unwrap().min(slots - 1);
                    if accepted {
                        tokens -= 1.0;
                        seen.accepted[slot] += 1;
                        seen.by_worker[event.worker] += 1;
                    } else {
                        seen.denied[slot] += 1;
                    }
                    event.at += way(&mut draw);
                    event.answer = Some(accepted);
                    events.push(Reverse(event));
                }
                Some(accepted) => {
                    open[event.worker] -= 1;
                    let rate = &mut rates[event.worker];
                    let sent = requests[event.request];
                    if accepted {
                        rate.accepted(now, sent, 1);
                    } else {
                        rate.throttled(now, sent, world.retry_after);
                        backlog[event.worker] = backlog[event.worker].saturating_add(1);
                    }
                }
            }
        }
        if world.talk {
            for worker in 0..world.workers {
                if (now + told_at[worker]) % 1_000 == 0 {
                    let others = told.iter().enumerate().filter(|(w, _)| *w != worker);
                    let heard: Vec<Word> = others.filter_map(|(_, told)| *told).collect();
                    told[worker] = rates[worker].word(now);
                    if told[worker].is_some() {
                        rates[worker].hear(now, &heard);
                    }
                }
            }
        }
        for i in 0..world.workers {
            let worker = (usize::try_from(now).unwrap() + i) % world.workers;
            while now >= starts[worker]
                && open[worker] < world.open
                && backlog[worker] > 0
                && rates[worker].wait(now, false, 0.0).is_none()
            {
                open[worker] += 1;
                backlog[worker] -= 1;
                requests.push(rates[worker].take(now, 1, false));
                let at = now * 1_000 + (draw.next() * 900.0) as i64 + way(&mut draw);
                events.push(Reverse(Event {
                    at,
                    request: requests.len() - 1,
                    worker,
                    answer: None,
                }));
            }
        }
    }
    seen
}
