//! The backlog of a start: what a person chose for deliveries accepted before it is carried out here,
//! out of turn, before anything of them is sent.
//!
//! What is stale is known by its time alone. What is superseded is known once the whole partition was
//! read ahead, deliveries and side lane, from the first that has not ended; until then what the choice
//! is about waits, and nothing else does. The answer depends on the logs and the choice alone and is
//! found anew by every owner, so a crash on the way drops and keeps the same.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_domain::{Delivery, Outcome, Reason, Settled};
use bongsu_policy::{Choice, Chosen, Facts, Newest, Sieve, Stops, Unit};
use bongsu_stream::error::ConsumeError;
use bongsu_stream::port::{From, Isolation, Record, TailRange, TopicPartition};
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::{Owner, Pending};
use crate::intake::{self, Intake};
use crate::journal::Source;
use crate::lane::parked_of;

/// How often what waits for the read asks again, milliseconds.
const ASK_AGAIN_MS: i64 = 100;
/// Pause before the partition is read again after an error.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// What becomes of a delivery that a choice may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing is chosen for it.
    Goes,
    /// It ends without an attempt.
    Ends(Settled),
    /// It waits until the partition was read ahead; ask again then.
    Waits(i64),
}

/// Room for collapse keys, shared by all partitions of the channel, and who reads ahead.
#[derive(Debug)]
pub struct ReadAhead {
    /// One partition at a time: what is held meanwhile is as large as its backlog.
    turn: Semaphore,
    room: AtomicUsize,
}

/// Memory of one collapse key while a backlog is read, in bytes.
const UNIT_BYTES: usize = 40;

impl ReadAhead {
    /// Room within so many bytes.
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        Self {
            turn: Semaphore::const_new(1),
            room: AtomicUsize::new(bytes / UNIT_BYTES),
        }
    }
}

/// What is known of the backlog.
struct Known {
    choices: Vec<Choice>,
    newest: Newest,
    /// Where the deliveries and the lane ended when they were read.
    ends: [i64; 2],
    /// Where its room is from.
    room: Arc<ReadAhead>,
}

impl Known {
    fn forget(&mut self) {
        let units = std::mem::take(&mut self.newest).len();
        self.room.room.fetch_add(units, Ordering::Relaxed);
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.forget();
    }
}

/// One partition's backlog.
#[derive(Default)]
pub(super) struct Backlog {
    known: Option<Known>,
    /// A delivery was met that waits for the read.
    wanted: bool,
    reading: Option<BoxFuture<'static, Known>>,
}

impl Backlog {
    /// Asks for one delivery, by its original offset.
    pub(super) fn decide(
        &mut self,
        stops: &Stops,
        delivery: &Delivery,
        offset: i64,
        now: i64,
    ) -> Fate {
        match stops.decide_backlog(&Facts::of(delivery), delivery.accepted_at) {
            Chosen::Goes => Fate::Goes,
            Chosen::Stale => Fate::Ends(cancelled(Reason::Stale)),
            Chosen::IfNewest => {
                let Some(unit) = Unit::of(delivery) else {
                    return Fate::Goes;
                };
                match &self.known {
                    Some(known) if known.choices == stops.newest_choices() => {
                        if known.newest.supersedes(unit, offset) {
                            Fate::Ends(cancelled(Reason::Superseded))
                        } else {
                            Fate::Goes
                        }
                    }
                    Some(_) | None => {
                        self.wanted = true;
                        Fate::Waits(now + ASK_AGAIN_MS)
                    }
                }
            }
        }
    }

    /// Whether the partition is being read ahead.
    pub(super) const fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Waits for the read. Cancel safe: the future keeps its state.
    pub(super) async fn read(&mut self) {
        let known = super::maybe(self.reading.as_mut()).await;
        self.reading = None;
        // Who asked meanwhile waited for this one.
        self.wanted = false;
        self.known = Some(known);
    }

    /// Forgets what was found once nothing of it is open: what else comes is kept.
    fn passed(&mut self, watermarks: [i64; 2]) {
        if let Some(known) = &mut self.known
            && known.ends[0] <= watermarks[0]
            && known.ends[1] <= watermarks[1]
        {
            known.forget();
        }
    }
}

const fn cancelled(reason: Reason) -> Settled {
    Settled {
        outcome: Outcome::Cancelled,
        reason,
    }
}

/// How a delivery ends that is dropped: one that may have arrived is not said to be cancelled.
pub(super) const fn dropped(settled: Settled, uncertain: bool) -> Settled {
    if uncertain {
        return Settled {
            outcome: Outcome::Unknown,
            reason: Reason::NoAnswer,
        };
    }
    settled
}

impl Owner {
    /// How a delivery ends that is taken in and not to be sent at all.
    pub(super) fn dropped_from_backlog(
        &mut self,
        delivery: &Delivery,
        origin: i64,
        uncertain: bool,
    ) -> Option<Settled> {
        let stops = self.switch.stops();
        match self
            .backlog_choice
            .decide(stops, delivery, origin, self.now)
        {
            Fate::Ends(settled) => Some(dropped(settled, uncertain)),
            Fate::Goes | Fate::Waits(_) => None,
        }
    }

    /// Ends what was taken in before the choice was known, out of turn.
    pub(super) fn drop_backlog(&mut self) {
        let now = self.now;
        let stops = Arc::clone(self.switch.stops());
        if !stops.has_choices() {
            return;
        }
        let mut backlog = std::mem::take(&mut self.backlog_choice);
        for source in Source::ALL {
            let mut ends = Vec::new();
            let Some(sequencer) = self.sequencer(source) else {
                break;
            };
            let over = sequencer.end_where(|pending: &Pending| {
                let Some(delivery) = &pending.delivery else {
                    return false;
                };
                match backlog.decide(&stops, delivery, pending.origin, now) {
                    Fate::Ends(settled) => {
                        ends.push(dropped(settled, pending.uncertain));
                        true
                    }
                    Fate::Goes | Fate::Waits(_) => false,
                }
            });
            for (offset, settled) in over.into_iter().zip(ends) {
                self.write_receipt(source, offset, settled);
            }
        }
        self.backlog_choice = backlog;
    }

    /// Reads the partition ahead when something waits for it.
    pub(super) fn read_ahead(&mut self) {
        if !self.backlog_choice.wanted || self.backlog_choice.is_reading() || self.draining {
            return;
        }
        self.backlog_choice.wanted = false;
        let Some(from) = self.watermarks() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let ahead = Ahead {
            partition: self.partition,
            from,
            stops: Arc::clone(self.switch.stops()),
        };
        self.backlog_choice.reading = Some(Box::pin(async move {
            let _turn = shared.read_ahead.turn.acquire().await;
            loop {
                match ahead.read(&shared).await {
                    Ok(known) => return known,
                    Err(error) => {
                        tracing::warn!(
                            partition = ahead.partition, %error,
                            "the backlog cannot be read ahead; what the choice is about waits"
                        );
                        tokio::time::sleep(READ_AGAIN).await;
                    }
                }
            }
        }));
    }

    /// Forgets the backlog once all of it has ended.
    pub(super) fn pass_backlog(&mut self) {
        if let Some(watermarks) = self.watermarks() {
            self.backlog_choice.passed(watermarks);
        }
    }

    fn watermarks(&self) -> Option<[i64; 2]> {
        let [main, lane] = self.sequencers.as_ref()?;
        Some([main.watermark(), lane.watermark()])
    }
}

/// What is read ahead.
struct Ahead {
    partition: i32,
    /// The first offsets that have not ended, of the deliveries and of the lane.
    from: [i64; 2],
    stops: Arc<Stops>,
}

impl Ahead {
    async fn read(&self, shared: &super::Shared) -> Result<Known, ConsumeError> {
        let room = shared.read_ahead.room.load(Ordering::Relaxed);
        let sieve = Arc::new(Mutex::new(Sieve::new(room)));
        let (topics, isolations) = (
            [&shared.sources.deliveries, &shared.sources.lanes],
            // Fanout writes deliveries in transactions; the lane is written without.
            [Isolation::Committed, Isolation::Uncommitted],
        );
        let mut ends = [0; 2];
        for source in Source::ALL {
            let at = source.index();
            let tp = TopicPartition::new(Arc::clone(topics[at]), self.partition);
            let range = TailRange {
                partition: tp.clone(),
                from: From::Offset(self.from[at]),
                until: None,
            };
            let each = self.shows(source, shared, &sieve);
            let cluster = &shared.sources.cluster;
            let read = cluster
                .read_tails(vec![range], isolations[at], each)
                .await?;
            ends[at] = read.get(&tp).copied().unwrap_or(self.from[at]);
        }
        let sieve = std::mem::replace(
            &mut *sieve.lock().unwrap_or_else(PoisonError::into_inner),
            Sieve::new(0),
        );
        if sieve.kept() > 0 {
            tracing::warn!(
                partition = self.partition,
                deliveries = sieve.kept(),
                "the backlog has more collapse keys than memory allows: these are all sent"
            );
        }
        let newest = sieve.finish();
        let read_ahead = &shared.read_ahead;
        // Nobody else took room meanwhile: who reads has the turn.
        read_ahead.room.fetch_sub(newest.len(), Ordering::Relaxed);
        Ok(Known {
            choices: self.stops.newest_choices(),
            newest,
            ends,
            room: Arc::clone(read_ahead),
        })
    }

    /// Shows the sieve what the choice is about; what cannot be read now is kept when it is met.
    fn shows(
        &self,
        source: Source,
        shared: &super::Shared,
        sieve: &Arc<Mutex<Sieve>>,
    ) -> Box<dyn FnMut(Record) + Send> {
        let (stops, sieve) = (Arc::clone(&self.stops), Arc::clone(sieve));
        let codec = Arc::clone(&shared.codec);
        Box::new(move |record| {
            let origin = match source {
                Source::Main => Some(record.offset),
                Source::Lane => parked_of(&record).map(|parked| parked.origin),
            };
            let Intake::Delivery(delivery) = intake::read(&codec, &record) else {
                return;
            };
            let chosen = stops.decide_backlog(&Facts::of(&delivery), delivery.accepted_at);
            if let (Some(origin), Chosen::IfNewest, Some(unit)) =
                (origin, chosen, Unit::of(&delivery))
            {
                let mut sieve = sieve.lock().unwrap_or_else(PoisonError::into_inner);
                sieve.show(unit, origin);
            }
        })
    }
}
