//! Thousands of seeds. A failing one is printed; run it alone with `BONGSU_SEED=<n>` and keep it in
//! [`KEPT`].
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod backlog;
mod classes;
mod flood;
mod handover;
mod night;
mod parked;
mod places;
mod standstill;
mod suppressed;
mod window;

use bongsu_simulation::simulate;

/// Seeds that once found a bug.
const KEPT: &[u64] = &[
    // A delivery that a killed owner may have sent, parked by its successor after a 429: the lane did
    // not know, and its receipt bore no mark.
    1_847,
];

/// Seeds of one run; `BONGSU_SEEDS` asks for another number.
const SEEDS: u64 = 2_000;

/// Runs in virtual time of its own.
fn paused<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(run)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_keeps_every_promise() {
    let seeds: Vec<u64> = match number("BONGSU_SEED") {
        Some(seed) => vec![seed],
        None => KEPT
            .iter()
            .copied()
            .chain(0..number("BONGSU_SEEDS").unwrap_or(SEEDS))
            .collect(),
    };
    let mut failed = Vec::new();
    let (mut duplicates, mut kills, mut deliveries, mut packed) = (0, 0, 0, 0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|t| {
                let mine: Vec<u64> = seeds.iter().copied().skip(t).step_by(threads).collect();
                scope.spawn(move || {
                    mine.into_iter()
                        .map(|seed| (seed, simulate(seed)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        for worker in workers {
            for (seed, result) in worker.join().unwrap_or_else(|_| panic!("a seed panicked")) {
                match result {
                    Ok(verdict) => {
                        duplicates += verdict.explained_duplicates;
                        kills += verdict.kills;
                        deliveries += verdict.expected;
                        packed += verdict.packed;
                    }
                    Err(why) => failed.push(format!("seed {seed}: {why}")),
                }
            }
        }
    });
    assert!(
        failed.is_empty(),
        "{} of {} seeds failed:\n{}",
        failed.len(),
        seeds.len(),
        failed
            .iter()
            .take(20)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
    // A run that never killed anybody, never saw a duplicate or never packed tests nothing.
    assert!(seeds.len() < 100 || (kills > seeds.len() && duplicates > 0 && packed > seeds.len()));
    assert!(deliveries > 0);
}
