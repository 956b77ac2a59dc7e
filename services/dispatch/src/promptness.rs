//! Holds places back while Kafka takes receipts late: [`bongsu_policy::promptness`] with a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bongsu_policy::promptness::{PERIOD_MS, Promptness, Seen};
use bongsu_runtime::{Clock, Ratio, Shutdown};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::DispatchError;
use crate::metrics::ChannelMetrics;

/// Receipts of a channel on their way to Kafka, counted between two looks.
#[derive(Debug, Default)]
pub struct Receipted {
    sent: AtomicUsize,
    taken: AtomicUsize,
    waited_ms: AtomicUsize,
}

impl Receipted {
    /// One is on its way.
    pub(crate) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Kafka has taken one, so many milliseconds after its delivery ended.
    pub(crate) fn taken(&self, waited_ms: i64) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        let waited = usize::try_from(waited_ms).unwrap_or(0);
        self.waited_ms.fetch_add(waited, Ordering::Relaxed);
    }

    /// What was counted since the last time.
    fn look(&self) -> Seen {
        let number = |counted: &AtomicUsize| counted.swap(0, Ordering::Relaxed);
        Seen {
            sent: u32::try_from(number(&self.sent)).unwrap_or(u32::MAX),
            taken: u32::try_from(number(&self.taken)).unwrap_or(u32::MAX),
            waited_ms: number(&self.waited_ms) as u64,
            open: 0,
        }
    }
}

/// What one channel's places follow.
pub(crate) struct Places {
    pub(crate) all: Arc<Semaphore>,
    pub(crate) bulk: Arc<Semaphore>,
    /// Places in `all`.
    pub(crate) most: usize,
    /// The part of them that bulk may take.
    pub(crate) bulk_share: Ratio,
    pub(crate) receipted: Arc<Receipted>,
    pub(crate) target: Duration,
    pub(crate) clock: Clock,
    pub(crate) metrics: ChannelMetrics,
}

impl Places {
    /// Looks at what receipts wait for until it is told to end.
    pub(crate) async fn follow(self, shutdown: Shutdown) -> Result<(), DispatchError> {
        if self.target.is_zero() {
            return Ok(());
        }
        let ceiling = u32::try_from(self.most).unwrap_or(u32::MAX);
        let target_ms = self.target.as_secs_f64() * 1_000.0;
        let mut pace = Promptness::new(target_ms, ceiling, self.clock.now_millis());
        let mut held = Held::of(&self.all);
        let mut held_bulk = Held::of(&self.bulk);
        let period = Duration::from_millis(PERIOD_MS.unsigned_abs());
        let mut limit = pace.limit();
        loop {
            let places = usize::try_from(limit).unwrap_or(usize::MAX);
            let bulk = |places| self.bulk_share.of(places).max(1);
            self.metrics.places(places);
            // Whoever has a place keeps it: what is missing is taken as places come free.
            let hold = async {
                tokio::join!(
                    held_bulk.hold(bulk(self.most) - bulk(places)),
                    held.hold(self.most - places),
                    std::future::pending::<()>(),
                );
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                _ = tokio::time::timeout(period, hold) => {}
            }
            let open = self.most - self.all.available_permits() - held.places();
            let seen = Seen {
                open: u32::try_from(open).unwrap_or(u32::MAX),
                ..self.receipted.look()
            };
            limit = pace.look(self.clock.now_millis(), seen);
        }
    }
}

/// Places that nobody gets.
struct Held {
    from: Arc<Semaphore>,
    places: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn of(from: &Arc<Semaphore>) -> Self {
        Self {
            from: Arc::clone(from),
            places: None,
        }
    }

    fn places(&self) -> usize {
        let places = self.places.as_ref();
        places.map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Holds so many. Cancel safe: it keeps what it has by then.
    async fn hold(&mut self, wanted: usize) {
        let has = self.places();
        if let Some(places) = self.places.as_mut().filter(|_| wanted < has) {
            drop(places.split(has - wanted));
        }
        while self.places() < wanted {
            // In parts, for one that is cancelled gives back what it waited with; in large ones, for
            // each waits behind everybody who wants a place.
            let part = (wanted - self.places()).div_ceil(4);
            let part = u32::try_from(part).unwrap_or(u32::MAX);
            let Ok(more) = Arc::clone(&self.from).acquire_many_owned(part).await else {
                return;
            };
            match &mut self.places {
                Some(places) => places.merge(more),
                None => self.places = Some(more),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bongsu_domain::Channel;
    use bongsu_runtime::{Metrics, Tasks};

    use super::*;

    const MOST: usize = 80;

    struct World {
        all: Arc<Semaphore>,
        bulk: Arc<Semaphore>,
        receipted: Arc<Receipted>,
        shutdown: Shutdown,
        tasks: Tasks,
    }

    impl World {
        fn start() -> Self {
            let all = Arc::new(Semaphore::new(MOST));
            let bulk = Arc::new(Semaphore::new(MOST / 2));
            let receipted = Arc::new(Receipted::default());
            let places = Places {
                all: Arc::clone(&all),
                bulk: Arc::clone(&bulk),
                most: MOST,
                bulk_share: Ratio::percent(50),
                receipted: Arc::clone(&receipted),
                target: Duration::from_millis(20),
                clock: Clock::system(),
                metrics: ChannelMetrics::new(&Metrics::new().unwrap(), Channel::Webhook),
            };
            let shutdown = Shutdown::new();
            let mut tasks = Tasks::new();
            tasks.spawn("places", places.follow(shutdown.clone()));
            Self {
                all,
                bulk,
                receipted,
                shutdown,
                tasks,
            }
        }

        /// Uses whatever is free for so many periods, each receipt taken after `waited_ms`; what was
        /// open at once in the last.
        async fn work(&self, periods: u32, waited_ms: i64) -> usize {
            let mut open = 0;
            for _ in 0..periods {
                open = self.all.available_permits();
                let permits = self.all.try_acquire_many(u32::try_from(open).unwrap());
                for _ in 0..open {
                    self.receipted.sent();
                    self.receipted.taken(waited_ms);
                }
                tokio::time::sleep(Duration::from_millis(PERIOD_MS.unsigned_abs())).await;
                drop(permits);
                // Whoever waits for a place has it now.
                tokio::task::yield_now().await;
            }
            open
        }
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_held_back_while_receipts_are_late_and_given_back_after() {
        let mut world = World::start();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(world.all.available_permits(), MOST / 8, "a start");
        assert_eq!(world.bulk.available_permits(), MOST / 16);
        assert_eq!(world.work(60, 10).await, MOST);
        assert_eq!(world.bulk.available_permits(), MOST / 2);
        let late = world.work(15, 500).await;
        assert!(late <= MOST / 8, "{late}");
        assert_eq!(world.work(60, 10).await, MOST);
        world.shutdown.request();
        world.tasks.join().await.unwrap();
        assert_eq!(world.all.available_permits(), MOST, "nothing is kept");
    }
}
