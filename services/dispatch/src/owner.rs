//! The owner of one partition: joins its two sequencers (deliveries and side lane) to the provider
//! and to Kafka.
//!
//! It alone touches them. It takes [`Command`]s from the class loop and gives back a [`Status`];
//! everything that takes time (attempts, receipts, notes, a schema) is a future it polls beside its
//! commands, so nothing holds anything else up. Nothing is sent before the partition's state was
//! restored, a checkpoint of it lies in the journal, and the group has confirmed this member.

mod admission;
mod attempts;
mod backlog;
mod ends;
mod flood;
mod gate;
mod notes;
mod parking;
mod shared;
mod standstill;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bongsu_domain::{Delivery, Timestamp};
use bongsu_policy::{Nights, Packing, Sequencer, Turns};
use bongsu_schemas::SchemaRef;
use bongsu_stream::port::{Answer, Answers, Committed, Record};
use bongsu_suppressions::Suppressed;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Sleep;

pub use self::attempts::ATTEMPT_GRACE;
use self::attempts::{Attempted, Jitter};
use self::backlog::Backlog;
pub use self::backlog::ReadAhead;
use self::ends::Acknowledged;
use self::flood::Diversion;
use self::gate::{Limited, Times};
use self::notes::{Notes, NotesWake};
use self::parking::Lane;
pub use self::shared::{Budget, LaneBudget, Load, Permits, Places, Shared, size_of_record};
use self::shared::{Busy, LaneShare, Part, Permit};
use self::standstill::Standstill;
use crate::control::StopSwitch;
use crate::error::DispatchError;
use crate::guard::Guard;
use crate::journal::Source;
use crate::metrics::Share;
use crate::pacing::Subject;
use crate::receipts::Ended;
use crate::restore::Restored;

/// Finished futures taken in one go before new work is looked at.
const BURST: usize = 64;
/// How often a lease that does not hold is looked at again, milliseconds.
const LEASE_AGAIN_MS: i64 = 50;

/// What the class loop asks of an owner, in order.
#[derive(Debug)]
pub enum Command {
    /// What is known of the partition; nothing is sent before.
    Start(Box<Restored>),
    /// Records, in offset order.
    Records(Vec<Record>),
    /// Say what may be committed.
    Report(oneshot::Sender<Option<Committed>>),
    /// The report was committed: deliveries below this offset may be started.
    Committed {
        /// The `reach` of the committed text.
        reach: i64,
        /// Where in the journal it leads.
        journal_floor: i64,
    },
    /// Receipts of other writers: source, offset and tag; everything below `until` was looked at.
    Foreign {
        /// What ended.
        ended: Vec<(Source, i64, u64)>,
        /// Offset of `results`.
        until: i64,
    },
    /// No other writer can be left.
    ForeignDone,
    /// The end of `results`, as asked when this owner had sent so many receipts.
    ResultsEnd {
        /// Its next offset.
        end: i64,
        /// Receipts sent by then.
        sent: u64,
    },
    /// What is stopped has changed: look at what waits.
    Look,
    /// Start nothing new, finish what is under way, then end.
    Drain,
}

/// What an owner says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The last word, once drained: what may be committed.
    pub last: Option<Committed>,
    /// Receipts sent so far, and whether all of them are acknowledged.
    pub sent: u64,
    /// Nothing of it is on its way to Kafka.
    pub quiet: bool,
    /// What holds the partition up, when it cannot go on by itself.
    pub stalled: bool,
}

/// What is kept of a delivery while it is open.
struct Pending {
    delivery: Option<Arc<Delivery>>,
    record: Record,
    /// Its offset in the deliveries topic, from wherever it was read.
    origin: i64,
    bytes: usize,
    /// An earlier attempt of this or a former owner may have arrived.
    uncertain: bool,
    /// A former owner may have made an attempt that is not counted.
    inherited: bool,
    /// The repeat guard has let it go.
    guarded: bool,
    /// What pacing knows it by; none for what could not be read.
    subject: Option<Subject>,
    times: Times,
    /// Attempts that were not answered, or answered with "not now, for no reason of yours": what a retry
    /// budget is for. A 429 is the limiter's business.
    failures: u32,
    /// Its first attempt failed then, milliseconds; 0 when none has.
    failing_since: i64,
    /// How it ended, once it has.
    ended: Option<Ended>,
    /// The provider's own id of what it took, where it gives one.
    provider_reference: Option<Box<str>>,
}

impl Pending {
    /// Whether an attempt of this or of a former owner may have arrived.
    const fn may_have_arrived(&self) -> bool {
        self.uncertain || self.inherited
    }
}

/// This partition's parts of the class's gauges.
struct Gauges {
    held: Share,
    in_lane: Share,
    stopped: Share,
}

/// One partition's owner.
pub struct Owner {
    shared: Arc<Shared>,
    partition: i32,
    load: Arc<Load>,
    status: watch::Sender<Status>,
    commands: mpsc::Receiver<Command>,
    sequencers: Option<[Sequencer<Pending>; 2]>,
    restored: Restored,
    backlog: VecDeque<Record>,
    schema: Option<BoxFuture<'static, (SchemaRef, Result<(), String>)>>,
    attempts: FuturesUnordered<BoxFuture<'static, Attempted>>,
    /// Receipts and dead letters whose answer is a future's.
    receipts: FuturesUnordered<BoxFuture<'static, Acknowledged>>,
    /// Where the producer answers to the others, how many it owes, and those that were taken.
    answers: Arc<Answers>,
    unanswered: usize,
    taken: Vec<Answer>,
    permit: Option<BoxFuture<'static, Option<Permit>>>,
    /// Places that came free in this turn and may be used again in it.
    spare: Vec<Permit>,
    busy: Busy,
    switch: StopSwitch,
    suppressed: Suppressed,
    nights: Nights,
    /// What a start chose for what was accepted before it.
    backlog_choice: Backlog,
    lane: Lane,
    lane_share: LaneShare,
    /// What is in the window.
    window: Part,
    diversion: Diversion,
    /// When each account was last told to wait, milliseconds.
    limited: Limited,
    notes: Notes,
    standstill: Option<Standstill>,
    guard: Option<Guard>,
    gauges: Gauges,
    /// Starts that a stop has held back since the last report.
    stopped_now: usize,
    packing: Packing,
    jitter: Jitter,
    reach: i64,
    sent: u64,
    /// The time of this turn of the loop, milliseconds: one look at the clock serves it all.
    now: i64,
    /// Whether the lease held at the begin of this turn.
    leased: bool,
    /// Rings when something is due, and when that is, milliseconds.
    timer: Pin<Box<Sleep>>,
    rings_at: i64,
    /// Which source is asked first.
    turns: Turns,
    draining: bool,
    /// A drained owner has written its last checkpoint.
    last_note: bool,
}

enum Wake {
    Answered,
    Command(Option<Command>),
    Acknowledged(Acknowledged),
    Attempted(Attempted),
    Permit(Option<Permit>),
    Schema(SchemaRef, Result<(), String>),
    Parked(parking::Wake),
    Notes(NotesWake),
    Timer,
    /// What is suppressed has changed.
    Suppressions,
    /// A place at the provider is free again.
    Freed,
    /// The partition was read ahead.
    Backlog,
}

impl Owner {
    /// An owner that has not started yet.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        partition: i32,
        load: Arc<Load>,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<Status>,
    ) -> Self {
        let batching = shared.provider.batching();
        let jitter = Jitter::new(shared.seed ^ u64::from(partition.unsigned_abs()));
        let switch = shared.switch.clone();
        let nights = shared.nights.clone();
        let suppressed = shared.suppressed.clone();
        let lane_share = LaneShare::new(Arc::clone(&shared.lane_budget));
        let window = Part::new(Arc::clone(&shared.windows));
        let busy = Busy::new(&shared.permits);
        let diversion = Diversion::new(shared.flood_share);
        let gauges = Gauges {
            held: shared.metrics.held(),
            in_lane: shared.metrics.in_lane(),
            stopped: shared.metrics.stopped(),
        };
        Self {
            shared,
            partition,
            load,
            status,
            commands,
            sequencers: None,
            restored: Restored::default(),
            backlog: VecDeque::new(),
            schema: None,
            attempts: FuturesUnordered::new(),
            receipts: FuturesUnordered::new(),
            answers: Arc::default(),
            unanswered: 0,
            taken: Vec::new(),
            permit: None,
            spare: Vec::new(),
            busy,
            switch,
            suppressed,
            nights,
            backlog_choice: Backlog::default(),
            lane: Lane::default(),
            lane_share,
            window,
            diversion,
            limited: Limited::default(),
            notes: Notes::default(),
            standstill: None,
            guard: None,
            gauges,
            stopped_now: 0,
            packing: Packing {
                max: batching.max,
                one_key: batching.packs_one_key,
            },
            jitter,
            reach: i64::MIN,
            sent: 0,
            now: 0,
            leased: false,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            rings_at: i64::MAX,
            turns: Turns::default(),
            draining: false,
            last_note: false,
        }
    }

    /// Runs until it is drained or its class loop is gone.
    ///
    /// # Errors
    /// When a receipt or a note can never be written.
    pub async fn run(mut self) -> Result<(), DispatchError> {
        self.look_at_clock();
        loop {
            self.admit_backlog();
            self.pump();
            self.feed_lane();
            self.write_intents();
            self.read_ahead();
            if self.is_drained() {
                if self.last_note || !self.owes_checkpoint() {
                    self.publish_last_word();
                    return Ok(());
                }
                self.last_note = true;
                self.write_checkpoint();
            }
            let wake = self.wake().await;
            self.look_at_clock();
            match wake {
                Wake::Command(Some(command)) => self.obey(command),
                Wake::Command(None) => self.draining = true,
                Wake::Answered => self.take_answers()?,
                Wake::Acknowledged(ack) => self.acknowledge(ack)?,
                Wake::Attempted(done) => self.judge(done),
                Wake::Permit(permit) => {
                    if let Some(permit) = permit {
                        self.start_with(permit);
                    }
                }
                Wake::Schema(reference, learned) => self.schema_answered(reference, learned),
                Wake::Parked(wake) => self.parked(wake)?,
                Wake::Notes(wake) => self.noted(wake)?,
                Wake::Timer => self.publish_status(),
                Wake::Suppressions => self.end_suppressed(),
                Wake::Freed => self.wake_groups(),
                Wake::Backlog => self.drop_backlog(),
            }
            self.take_what_is_ready()?;
        }
    }

    /// Takes what else has ended or come meanwhile: one turn of the loop serves it all.
    fn take_what_is_ready(&mut self) -> Result<(), DispatchError> {
        if self.unanswered > 0 {
            self.answers.take(&mut self.taken);
            self.take_answers()?;
        }
        for _ in 0..BURST {
            let Some(Some(ack)) = self.receipts.next().now_or_never() else {
                break;
            };
            self.acknowledge(ack)?;
        }
        for _ in 0..BURST {
            let Some(Some(done)) = self.attempts.next().now_or_never() else {
                break;
            };
            self.judge(done);
        }
        Ok(())
    }

    fn look_at_clock(&mut self) {
        self.now = self.shared.clock.now_millis();
        self.leased = self.shared.lease.holds();
    }

    /// Whether everything that was under way has ended: no attempt, no receipt, no diversion, no note.
    fn is_drained(&self) -> bool {
        self.draining
            && self.attempts.is_empty()
            && self.is_receipted()
            && self.lane.is_quiet()
            && self.notes.is_quiet()
    }

    /// Whether the group has taken a commit that leads to this owner's claim, or past it: before,
    /// nothing is started.
    const fn is_confirmed(&self) -> bool {
        self.reach > i64::MIN
    }

    /// Whether every receipt that was sent is acknowledged.
    fn is_receipted(&self) -> bool {
        self.receipts.is_empty() && self.unanswered == 0
    }

    /// Every branch is cancel safe: streams and boxed futures keep their state, `recv` loses nothing.
    async fn wake(&mut self) -> Wake {
        let timed = self.set_timer();
        let waits = self.has_waiting_group();
        let permit = self.permit.as_mut();
        let schema = self.schema.as_mut();
        let wake = tokio::select! {
            biased;
            () = answered(&self.answers, &mut self.taken), if self.unanswered > 0 => Wake::Answered,
            Some(ack) = self.receipts.next(), if !self.receipts.is_empty() => Wake::Acknowledged(ack),
            Some(done) = self.attempts.next(), if !self.attempts.is_empty() => Wake::Attempted(done),
            wake = self.lane.next() => Wake::Parked(wake),
            wake = self.notes.next() => Wake::Notes(wake),
            command = self.commands.recv(), if !self.draining => Wake::Command(command),
            permit = maybe(permit) => Wake::Permit(permit),
            (reference, learned) = maybe(schema) => Wake::Schema(reference, learned),
            () = self.suppressed.changed(), if !self.draining => Wake::Suppressions,
            () = self.shared.pacing.freed(), if !self.draining && waits => Wake::Freed,
            () = self.backlog_choice.read(), if self.backlog_choice.is_reading() => Wake::Backlog,
            () = self.timer.as_mut(), if timed => Wake::Timer,
        };
        match wake {
            Wake::Permit(_) => self.permit = None,
            Wake::Schema(..) => self.schema = None,
            Wake::Answered
            | Wake::Command(_)
            | Wake::Acknowledged(_)
            | Wake::Attempted(_)
            | Wake::Parked(_)
            | Wake::Notes(_)
            | Wake::Timer
            | Wake::Suppressions
            | Wake::Freed
            | Wake::Backlog => {}
        }
        wake
    }

    /// Sets the timer to the next moment at which something is due; false when there is none. A timer
    /// that rings earlier than that stays: setting it costs more than a turn for nothing.
    fn set_timer(&mut self) -> bool {
        let Some(due) = self.next_due().filter(|_| !self.draining) else {
            return false;
        };
        if self.rings_at > due || self.timer.is_elapsed() {
            self.rings_at = due;
            self.timer.as_mut().reset(self.shared.clock.instant_of(due));
        }
        true
    }

    /// The next moment at which something is due, milliseconds.
    fn next_due(&self) -> Option<i64> {
        let now = self.now;
        let sequencers = self.sequencers.as_ref()?;
        let timer = sequencers.iter().filter_map(|s| s.next_timer(now)).min();
        let unleased = !self.leased && sequencers.iter().any(|s| s.has_ready(now));
        let again = unleased.then_some(now + LEASE_AGAIN_MS);
        [timer, again].into_iter().flatten().min()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start(restored) => self.begin(*restored),
            Command::Records(records) => {
                self.hear(&records);
                self.backlog.extend(records);
            }
            Command::Report(answer) => self.report(answer),
            Command::Committed {
                reach,
                journal_floor,
            } => {
                // One that an owner before this one asked for leads to that one's checkpoint.
                if self.notes.has_claimed_by(journal_floor) {
                    self.reach = self.reach.max(reach);
                }
            }
            Command::Foreign { ended, until } => self.foreign(&ended, until),
            Command::Look => self.drop_backlog(),
            Command::ForeignDone => self.notes.following = None,
            Command::ResultsEnd { end, sent } => {
                if sent == self.sent && self.is_receipted() {
                    self.notes.known_results = self.notes.known_results.max(end);
                }
            }
            Command::Drain => {
                self.draining = true;
                self.permit = None;
                self.schema = None;
            }
        }
    }

    fn begin(&mut self, mut restored: Restored) {
        if self.sequencers.is_some() {
            tracing::error!(
                partition = self.partition,
                "an owner is started a second time"
            );
            return;
        }
        let settled = std::mem::take(&mut restored.settled);
        let lane = std::mem::take(&mut restored.lane);
        self.notes = Notes::restored(&restored);
        self.sequencers = Some([
            Sequencer::new(restored.committed, settled),
            Sequencer::new(lane.floor, lane.settled.clone()),
        ]);
        self.guard = self.shared.guard.map(|limit| {
            let started = std::mem::take(&mut restored.started);
            let now = Timestamp(self.now);
            Guard::new(limit, started, now, self.shared.metrics.clone())
        });
        self.restored = restored;
        self.lane = Lane::restored(&lane);
        self.lane_share.set_keys(self.lane.keys.len());
        for record in lane.records {
            self.admit_parked(record);
        }
        self.lane.caught_up_to(lane.next);
        self.write_checkpoint();
    }

    fn publish_status(&self) {
        let status = Status {
            last: None,
            sent: self.sent,
            quiet: self.is_receipted(),
            stalled: self.is_stalled(),
        };
        self.status.send_if_modified(|known| {
            let changed = *known != status;
            *known = status;
            changed
        });
    }

    fn publish_last_word(&mut self) {
        let last = self.last_word();
        // Whoever owns the partition next says how old it is.
        let no_age = Duration::ZERO;
        self.shared.metrics.watermark_age(self.partition, no_age);
        if let Some([main, _]) = &self.sequencers {
            self.shared.metrics.returned(main.open_count() as u64);
        }
        self.status.send_replace(Status {
            last,
            sent: self.sent,
            quiet: true,
            stalled: false,
        });
    }

    fn sequencer(&mut self, source: Source) -> Option<&mut Sequencer<Pending>> {
        self.sequencers.as_mut().map(|s| &mut s[source.index()])
    }

    /// Whether an account waits for its provider: an answer may free a place for it.
    fn has_waiting_group(&self) -> bool {
        let now = self.now;
        self.sequencers
            .as_ref()
            .is_some_and(|s| s.iter().any(|s| s.has_waiting_group(now)))
    }

    fn wake_groups(&mut self) {
        for sequencer in self.sequencers.iter_mut().flatten() {
            sequencer.wake_groups();
        }
    }

    fn foreign(&mut self, ended: &[(Source, i64, u64)], until: i64) {
        for (source, offset, tag) in ended {
            let Some(sequencer) = self.sequencer(*source) else {
                continue;
            };
            let key = sequencer.key_of(*offset);
            if let Some(pending) = sequencer.acknowledge_foreign(*offset, *tag) {
                self.shared.metrics.restored();
                self.left(*source, *offset, key, pending.bytes);
            }
        }
        if let Some(following) = self.notes.following.as_mut() {
            *following = (*following).max(until);
        }
    }
}

/// Waits for answers, which are in `taken` then. Cancel safe: nothing is taken before it is ready.
async fn answered(answers: &Answers, taken: &mut Vec<Answer>) {
    std::future::poll_fn(|context| answers.poll_take(context, taken)).await;
}

async fn maybe<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
