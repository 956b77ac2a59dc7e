//! Bulk yields to transactional deliveries that start late: [`bongsu_policy::yielding`] with a clock, and places
//! to hold back.
//!
//! The owners of the transactional class count in [`Starts`] how their deliveries start. `BulkPlaces` looks at
//! it, and keeps from bulk what it may not use. While that is nearly all of its places, floods stay where they are:
//! the way through the side lane costs a second write and read of each delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bongsu_policy::yielding::{PERIOD_MS, Seen, Yielding};
use bongsu_runtime::{Clock, Shutdown};
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::DispatchError;
use crate::metrics::ChannelMetrics;

/// Below this part of its places, bulk does nothing that can wait. Not more: a window that stays full is read on a
/// little at a time, which seems to cost more than parking does (ADR 0016).
const LITTLE: f64 = 1.0 / 16.0;

/// How the transactional deliveries of a channel start, counted between two looks.
#[derive(Debug, Default)]
pub struct Starts {
    /// A start later than this is late, milliseconds; 0 where bulk never yields.
    late_ms: u64,
    started: AtomicU32,
    late: AtomicU32,
    waited_ms: AtomicU64,
    has_little: AtomicBool,
}

impl Starts {
    /// None yet; one is late that waited for longer than `late`. Bulk never yields where that is zero.
    #[must_use]
    pub fn new(late: Duration) -> Self {
        Self {
            late_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX),
            ..Self::default()
        }
    }

    /// A transactional delivery starts that waited for so many milliseconds, for no limit's sake.
    pub fn started(&self, waited_ms: i64) {
        let waited = u64::try_from(waited_ms).unwrap_or(0);
        self.started.fetch_add(1, Ordering::Relaxed);
        self.waited_ms.fetch_add(waited, Ordering::Relaxed);
        if waited > self.late_ms {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether bulk has little of its places, and leaves what can wait.
    pub fn bulk_has_little(&self) -> bool {
        self.has_little.load(Ordering::Relaxed)
    }

    fn look(&self) -> Seen {
        Seen {
            started: self.started.swap(0, Ordering::Relaxed),
            late: self.late.swap(0, Ordering::Relaxed),
            waited_ms: self.waited_ms.swap(0, Ordering::Relaxed),
        }
    }
}

/// The places of one channel's bulk class.
pub(crate) struct BulkPlaces {
    pub(crate) places: Arc<Semaphore>,
    /// How many there are.
    pub(crate) most: usize,
    pub(crate) starts: Arc<Starts>,
    pub(crate) clock: Clock,
    pub(crate) metrics: ChannelMetrics,
}

impl BulkPlaces {
    /// Holds back what bulk may not use, until it is told to end.
    pub(crate) async fn follow(self, shutdown: Shutdown) -> Result<(), DispatchError> {
        self.metrics.bulk_places(self.most);
        if self.starts.late_ms == 0 {
            return Ok(());
        }
        let mut yielding = Yielding::new(self.clock.now_millis());
        let mut held = Held::of(&self.places);
        let mut ticks = tokio::time::interval(Duration::from_millis(PERIOD_MS.unsigned_abs()));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut allowed = self.most;
        loop {
            // Whoever has a place keeps it: what is missing is taken as places come free.
            let hold = async {
                held.hold(self.most - allowed).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                _ = ticks.tick() => {}
                () = hold => {}
            }
            let now = self.clock.now_millis();
            let share = yielding.look(now, self.starts.look());
            self.starts
                .has_little
                .store(share < LITTLE, Ordering::Relaxed);
            let now_allowed = part(self.most, share);
            if now_allowed != allowed {
                tell(self.most, allowed, now_allowed, yielding.has_given_up(now));
                self.metrics.bulk_places(now_allowed);
                allowed = now_allowed;
            }
        }
    }
}

/// A campaign that has become slow is a question somebody will ask.
fn tell(most: usize, before: usize, now: usize, given_up: bool) {
    if before == most && now < most {
        tracing::info!(
            places = now,
            of = most,
            "bulk yields: transactional deliveries start late"
        );
    } else if given_up {
        tracing::info!(
            "bulk goes on beside transactional deliveries that start late: yielding did not help"
        );
    } else if before < most && now == most {
        tracing::info!(places = now, "bulk has all of its places again");
    }
}

/// A part of so many places, and at least one.
fn part(most: usize, share: f64) -> usize {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share between 0 and 1 of a number of places"
    )]
    let places = (most as f64 * share).round() as usize;
    places.clamp(1, most.max(1))
}

/// Places that nobody gets.
struct Held {
    from: Arc<Semaphore>,
    places: Option<OwnedSemaphorePermit>,
    /// So many more are waited for. It stays in the queue of those who wait while others are looked at: one that
    /// began anew each time would never be served where places come free more slowly than they are asked for.
    wanted: Option<(usize, BoxFuture<'static, Option<OwnedSemaphorePermit>>)>,
}

impl Held {
    fn of(from: &Arc<Semaphore>) -> Self {
        Self {
            from: Arc::clone(from),
            places: None,
            wanted: None,
        }
    }

    fn places(&self) -> usize {
        let places = self.places.as_ref();
        places.map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Holds so many. Cancel safe: it keeps what it has by then, and its place in the queue.
    async fn hold(&mut self, wanted: usize) {
        let has = self.places();
        if let Some(places) = self.places.as_mut().filter(|_| wanted < has) {
            drop(places.split(has - wanted));
        }
        let too_many = |(more, _): &(usize, _)| wanted < has + more;
        if self.wanted.as_ref().is_some_and(too_many) {
            self.wanted = None;
        }
        while self.places() < wanted {
            // All at once, for each request waits behind everybody who wants a place.
            let part = wanted - self.places();
            let from = &self.from;
            let (_, more) = self
                .wanted
                .get_or_insert_with(|| (part, acquire(from, part)));
            let more = more.await;
            self.wanted = None;
            match (&mut self.places, more) {
                (_, None) => return,
                (Some(places), Some(more)) => places.merge(more),
                (places @ None, more) => *places = more,
            }
        }
    }
}

fn acquire(
    from: &Arc<Semaphore>,
    places: usize,
) -> BoxFuture<'static, Option<OwnedSemaphorePermit>> {
    let places = u32::try_from(places).unwrap_or(u32::MAX);
    let acquired = Arc::clone(from).acquire_many_owned(places);
    Box::pin(async move { acquired.await.ok() })
}

#[cfg(test)]
mod tests {
    use bongsu_domain::Channel;
    use bongsu_runtime::{Metrics, Tasks};

    use super::*;

    const MOST: usize = 64;

    struct World {
        places: Arc<Semaphore>,
        starts: Arc<Starts>,
        shutdown: Shutdown,
        tasks: Tasks,
    }

    impl World {
        fn start(late: Duration) -> Self {
            let places = Arc::new(Semaphore::new(MOST));
            let starts = Arc::new(Starts::new(late));
            let bulk = BulkPlaces {
                places: Arc::clone(&places),
                most: MOST,
                starts: Arc::clone(&starts),
                clock: Clock::system(),
                metrics: ChannelMetrics::new(&Metrics::new().unwrap(), Channel::Webhook),
            };
            let shutdown = Shutdown::new();
            let mut tasks = Tasks::new();
            tasks.spawn("bulk places", bulk.follow(shutdown.clone()));
            Self {
                places,
                starts,
                shutdown,
                tasks,
            }
        }

        /// So many looks with ten starts each that waited for so long.
        async fn go_on(&self, looks: u32, waited_ms: i64) {
            for _ in 0..looks {
                for _ in 0..10 {
                    self.starts.started(waited_ms);
                }
                tokio::time::sleep(Duration::from_millis(PERIOD_MS.unsigned_abs())).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_held_back_while_starts_are_late_and_given_back_after() {
        let world = World::start(Duration::from_millis(40));
        world.go_on(20, 40).await;
        assert_eq!(world.places.available_permits(), MOST, "not late yet");
        // What is in use is taken as it comes free.
        let used = Arc::clone(&world.places).try_acquire_many_owned(56);
        world.go_on(4, 41).await;
        assert_eq!(world.places.available_permits(), 0);
        assert!(world.starts.bulk_has_little());
        drop(used);
        world.go_on(2, 41).await;
        assert_eq!(world.places.available_permits(), 2, "the floor");
        world.go_on(2_500, 5).await;
        assert_eq!(world.places.available_permits(), MOST);
        assert!(!world.starts.bulk_has_little());
        world.go_on(2, 500).await;
        world.shutdown.request();
        world.tasks.join().await.unwrap();
        assert_eq!(world.places.available_permits(), MOST, "nothing is kept");
    }

    /// Many owners always want a place, and places come free slowly.
    #[tokio::test(start_paused = true)]
    async fn slow_attempts_and_a_queue_of_owners_do_not_keep_the_places() {
        let world = World::start(Duration::from_millis(40));
        let mut owners = Tasks::new();
        let open = Arc::new(AtomicU32::new(0));
        for _ in 0..MOST * 2 {
            let (places, open) = (Arc::clone(&world.places), Arc::clone(&open));
            owners.spawn("owner", async move {
                while let Ok(place) = places.acquire().await {
                    open.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                    drop(place);
                }
                Ok::<(), DispatchError>(())
            });
        }
        world.go_on(4, 5).await;
        assert_eq!(open.load(Ordering::Relaxed), 64);
        // Nobody is sooner than the attempts under way, and the queue before it.
        world.go_on(320, 500).await;
        assert_eq!(open.load(Ordering::Relaxed), 2, "the floor");
    }

    #[tokio::test(start_paused = true)]
    async fn zero_switches_it_off() {
        let world = World::start(Duration::ZERO);
        world.go_on(40, 5_000).await;
        assert_eq!(world.places.available_permits(), MOST);
        assert!(!world.starts.bulk_has_little());
    }
}
