//! The owner of one partition: joins its sequencer to the provider and to Kafka.
//!
//! It alone touches the sequencer. It takes [`Command`]s from the class loop and gives back a
//! [`Status`]; everything that takes time (attempts, receipts, a schema) is a future it polls beside
//! its commands, so nothing holds anything else up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bongsu_channels::provider::{Attempt, AttemptResult, Provider, TryError};
use bongsu_domain::{Delivery, Outcome, Reason, Settled, Timestamp};
use bongsu_policy::sequencer::Admitted;
use bongsu_policy::{Admission, AttemptClass, Next, Packing, Position, RetryPolicy, Sequencer};
use bongsu_runtime::Clock;
use bongsu_schemas::{Codec, SchemaLookup, SchemaRef, learn_missing};
use bongsu_stream::dead_letters::dead_letter;
use bongsu_stream::error::ProduceError;
use bongsu_stream::port::{Producer, Record};
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::error::DispatchError;
use crate::intake::{self, Intake};
use crate::metrics::DispatchMetrics;
use crate::receipts::{Ended, Where, outcome_record, send_until_acknowledged};
use crate::restore::Restored;

/// Grace beyond an attempt's deadline before the owner stops waiting for the provider's own answer.
const ATTEMPT_GRACE: Duration = Duration::from_millis(500);
/// Finished futures taken in one go before new work is looked at.
const BURST: usize = 64;

/// What the class loop asks of an owner, in order.
#[derive(Debug)]
pub enum Command {
    /// What is known of the partition; nothing is sent before.
    Start(Restored),
    /// Records, in offset order.
    Records(Vec<Record>),
    /// Start nothing new, finish what is under way, then end.
    Drain,
}

/// What an owner says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Status {
    /// What may be committed; none before the start.
    pub position: Option<Position>,
}

/// Records and bytes that were handed to an owner and are not settled, shared with the class loop.
#[derive(Debug, Default)]
pub struct Load {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    /// Adds what is handed over.
    pub fn add(&self, records: usize, bytes: usize) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize) {
        self.records.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Records and bytes now.
    #[must_use]
    pub fn get(&self) -> (usize, usize) {
        (
            self.records.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

/// What all owners of a class share.
pub struct Shared {
    /// Reads deliveries and writes receipts.
    pub codec: Arc<Codec>,
    /// Finds schemas that are missing.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The way to the provider.
    pub provider: Arc<dyn Provider>,
    /// For receipts and dead letters.
    pub producer: Arc<dyn Producer>,
    /// Name of the results topic.
    pub results: Arc<str>,
    /// Name of the dead letter topic and its number of partitions.
    pub dead_letters: (Arc<str>, i32),
    /// Attempts open at once, over all partitions of the channel.
    pub permits: Arc<Semaphore>,
    /// Told when a partition has room again.
    pub room: Arc<Notify>,
    /// Time.
    pub clock: Clock,
    /// What follows a failed attempt.
    pub retry: RetryPolicy,
    /// Longest time of one attempt.
    pub attempt_timeout: Duration,
    /// How long a schema may stay unknown.
    pub schema_patience: Duration,
    /// This process, on receipts and requests.
    pub worker_id: Arc<str>,
    /// Instruments.
    pub metrics: DispatchMetrics,
    /// Seed of the jitter.
    pub seed: u64,
}

struct Pending {
    delivery: Option<Arc<Delivery>>,
    source: Where,
    bytes: usize,
    /// An earlier attempt may have arrived.
    uncertain: bool,
}

struct Attempted {
    offsets: Vec<i64>,
    results: Result<Vec<AttemptResult>, TryError>,
    took: Duration,
    permit: OwnedSemaphorePermit,
}

struct Acknowledged {
    offset: i64,
    /// Offset in `results`; none for a dead letter.
    result: Result<Option<i64>, ProduceError>,
}

/// One partition's owner.
pub struct Owner {
    shared: Arc<Shared>,
    load: Arc<Load>,
    status: watch::Sender<Status>,
    commands: mpsc::Receiver<Command>,
    sequencer: Option<Sequencer<Pending>>,
    backlog: VecDeque<Record>,
    schema: Option<BoxFuture<'static, (SchemaRef, Result<(), String>)>>,
    attempts: FuturesUnordered<BoxFuture<'static, Attempted>>,
    receipts: FuturesUnordered<BoxFuture<'static, Acknowledged>>,
    permit: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
    packing: Packing,
    jitter: Jitter,
    draining: bool,
}

enum Wake {
    Command(Option<Command>),
    Acknowledged(Acknowledged),
    Attempted(Attempted),
    Permit(Option<OwnedSemaphorePermit>),
    Schema(SchemaRef, Result<(), String>),
    Timer,
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
        Self {
            shared,
            load,
            status,
            commands,
            sequencer: None,
            backlog: VecDeque::new(),
            schema: None,
            attempts: FuturesUnordered::new(),
            receipts: FuturesUnordered::new(),
            permit: None,
            packing: Packing {
                max: batching.max,
                one_key: batching.packs_one_key,
            },
            jitter,
            draining: false,
        }
    }

    /// Runs until it is drained or its class loop is gone.
    ///
    /// # Errors
    /// When a receipt can never be written.
    pub async fn run(mut self) -> Result<(), DispatchError> {
        loop {
            self.admit_backlog();
            self.pump();
            self.publish_status();
            if self.draining && self.attempts.is_empty() && self.receipts.is_empty() {
                return Ok(());
            }
            match self.wake().await {
                Wake::Command(Some(command)) => self.obey(command),
                Wake::Command(None) => self.draining = true,
                Wake::Acknowledged(ack) => {
                    self.acknowledge(ack)?;
                    for _ in 0..BURST {
                        let Some(Some(ack)) = self.receipts.next().now_or_never() else {
                            break;
                        };
                        self.acknowledge(ack)?;
                    }
                }
                Wake::Attempted(done) => {
                    self.judge(done);
                    for _ in 0..BURST {
                        let Some(Some(done)) = self.attempts.next().now_or_never() else {
                            break;
                        };
                        self.judge(done);
                    }
                }
                Wake::Permit(permit) => self.start_with(permit),
                Wake::Schema(reference, learned) => self.schema_answered(reference, learned),
                Wake::Timer => {}
            }
        }
    }

    /// Every branch is cancel safe: streams and the permit keep their futures, `recv` loses nothing.
    async fn wake(&mut self) -> Wake {
        let timer = self.sequencer.as_ref().and_then(Sequencer::next_timer);
        let due = timer.map(|at| self.shared.clock.instant_of(at));
        let permit = self.permit.as_mut();
        let schema = self.schema.as_mut();
        let wake = tokio::select! {
            biased;
            Some(ack) = self.receipts.next(), if !self.receipts.is_empty() => Wake::Acknowledged(ack),
            Some(done) = self.attempts.next(), if !self.attempts.is_empty() => Wake::Attempted(done),
            command = self.commands.recv(), if !self.draining => Wake::Command(command),
            permit = maybe(permit) => Wake::Permit(permit),
            (reference, learned) = maybe(schema) => Wake::Schema(reference, learned),
            () = sleep_until(due), if !self.draining => Wake::Timer,
        };
        match wake {
            Wake::Permit(_) => self.permit = None,
            Wake::Schema(..) => self.schema = None,
            Wake::Command(_) | Wake::Acknowledged(_) | Wake::Attempted(_) | Wake::Timer => {}
        }
        wake
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start(restored) => {
                self.sequencer = Some(Sequencer::new(
                    restored.committed,
                    restored.settled,
                    restored.results_end,
                ));
            }
            Command::Records(records) => self.backlog.extend(records),
            Command::Drain => {
                self.draining = true;
                self.permit = None;
                self.schema = None;
            }
        }
    }

    fn publish_status(&self) {
        let position = self.sequencer.as_ref().map(Sequencer::position);
        self.status.send_if_modified(|status| {
            let changed = status.position != position;
            status.position = position;
            changed
        });
    }

    /// Takes records into the sequencer, in order, until one needs a schema.
    fn admit_backlog(&mut self) {
        if self.draining || self.sequencer.is_none() || self.schema.is_some() {
            return;
        }
        while let Some(record) = self.backlog.pop_front() {
            match intake::read(&self.shared.codec, &record) {
                Intake::Delivery(delivery) => self.admit(&record, delivery),
                Intake::Unreadable(reason, detail) => self.put_aside(&record, reason, &detail),
                Intake::NeedsSchema(reference) => {
                    self.backlog.push_front(record);
                    self.fetch_schema(reference);
                    return;
                }
            }
        }
    }

    fn fetch_schema(&mut self, reference: SchemaRef) {
        let shared = Arc::clone(&self.shared);
        self.schema = Some(Box::pin(async move {
            let learned = learn_missing(
                &shared.codec,
                shared.schemas.as_ref(),
                reference,
                shared.schema_patience,
            )
            .await;
            (reference, learned)
        }));
    }

    fn schema_answered(&mut self, reference: SchemaRef, learned: Result<(), String>) {
        if let Err(why) = learned
            && let Some(record) = self.backlog.pop_front()
        {
            tracing::warn!(%reference, "a delivery's schema stays unknown");
            self.put_aside(&record, "unknown_schema", &why);
        }
    }

    fn admit(&mut self, record: &Record, delivery: Arc<Delivery>) {
        let Some(sequencer) = self.sequencer.as_mut() else {
            return;
        };
        let bytes = size_of_record(record);
        let admitted = sequencer.admit(Admission {
            offset: record.offset,
            key: delivery.order_key().0,
            tag: delivery.id.tag(),
            bytes,
            expires_at: intake::expiry(&delivery).0,
            payload: Pending {
                delivery: Some(delivery),
                source: Where::of(record),
                bytes,
                uncertain: false,
            },
        });
        match admitted {
            Admitted::Queued => {}
            Admitted::AlreadySettled => {
                self.shared.metrics.restored();
                self.unload(bytes);
            }
            Admitted::TagMismatch => {
                self.shared.metrics.mismatched();
                tracing::error!(
                    topic = %record.topic, partition = record.partition, offset = record.offset,
                    "results speak of another delivery at this offset: was the topic re-created?"
                );
            }
        }
    }

    /// Puts an unreadable record into the dead letters; its offset is terminal once that is
    /// acknowledged.
    fn put_aside(&mut self, record: &Record, reason: &'static str, detail: &str) {
        let Some(sequencer) = self.sequencer.as_mut() else {
            return;
        };
        let bytes = size_of_record(record);
        let offset = record.offset;
        let admitted = sequencer.admit(Admission {
            offset,
            // A key of its own: what cannot be read has no order to keep.
            key: bongsu_domain::identity::hash64(&[b"unreadable", &offset.to_be_bytes()]),
            tag: 0,
            bytes,
            expires_at: i64::MAX,
            payload: Pending {
                delivery: None,
                source: Where::of(record),
                bytes,
                uncertain: false,
            },
        });
        if admitted == Admitted::AlreadySettled {
            self.unload(bytes);
            return;
        }
        sequencer.settle(offset);
        self.shared.metrics.dead_lettered(reason);
        let (topic, partitions) = &self.shared.dead_letters;
        let partition = record.partition % (*partitions).max(1);
        let letter = dead_letter(record, topic, partition, reason, detail, "dispatch");
        let producer = Arc::clone(&self.shared.producer);
        self.receipts.push(Box::pin(async move {
            let result = send_until_acknowledged(producer, letter)
                .await
                .map(|_| None);
            Acknowledged { offset, result }
        }));
    }

    /// Starts what may start: expiries settle, retries that are due and ready keys go out.
    fn pump(&mut self) {
        if self.draining {
            return;
        }
        let now = self.shared.clock.now_millis();
        let expired = self
            .sequencer
            .as_mut()
            .map(|s| s.advance(now))
            .unwrap_or_default();
        for offset in expired {
            self.write_receipt(
                offset,
                Settled {
                    outcome: Outcome::Expired,
                    reason: Reason::DeadlinePassed,
                },
            );
        }
        while self.permit.is_none() && self.sequencer.as_ref().is_some_and(Sequencer::has_ready) {
            match Arc::clone(&self.shared.permits).try_acquire_owned() {
                Ok(permit) => self.start_with(Some(permit)),
                Err(_) => {
                    let permits = Arc::clone(&self.shared.permits);
                    self.permit = Some(Box::pin(async move { permits.acquire_owned().await.ok() }));
                }
            }
        }
    }

    fn start_with(&mut self, permit: Option<OwnedSemaphorePermit>) {
        let Some(permit) = permit else { return };
        let Some(sequencer) = self.sequencer.as_mut() else {
            return;
        };
        let offsets = if self.draining {
            Vec::new()
        } else {
            sequencer.start(self.packing)
        };
        if offsets.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut deadline = now + self.shared.attempt_timeout;
        let mut batch = Vec::with_capacity(offsets.len());
        for offset in &offsets {
            let number = sequencer.attempts(*offset);
            if let Some(delivery) = sequencer.payload(*offset).and_then(|p| p.delivery.clone()) {
                let expiry = self.shared.clock.instant_of(delivery.expires_at.0);
                deadline = deadline.min(expiry);
                batch.push((delivery, number));
            }
        }
        self.shared.metrics.started(offsets.len());
        let provider = Arc::clone(&self.shared.provider);
        self.attempts.push(Box::pin(async move {
            let results = attempt(provider.as_ref(), &batch, deadline).await;
            Attempted {
                offsets,
                results,
                took: now.elapsed(),
                permit,
            }
        }));
    }

    fn judge(&mut self, done: Attempted) {
        let Attempted {
            offsets,
            results,
            took,
            permit,
        } = done;
        drop(permit);
        let results = match results {
            Ok(results) => results,
            Err(error) => {
                let result = match &error {
                    TryError::UnknownAccount { .. } => {
                        AttemptResult::Refused(Reason::UnknownAccount)
                    }
                    TryError::Client(_) => AttemptResult::Unavailable,
                };
                tracing::warn!(%error, "an attempt could not be made");
                vec![result; offsets.len()]
            }
        };
        for (i, offset) in offsets.into_iter().enumerate() {
            let result = results.get(i).copied().unwrap_or(AttemptResult::Unknown);
            self.shared.metrics.attempted(result, took);
            self.decide(offset, result);
        }
    }

    fn decide(&mut self, offset: i64, result: AttemptResult) {
        let jitter = self.jitter.next();
        let now = Timestamp(self.shared.clock.now_millis());
        let Some(sequencer) = self.sequencer.as_mut() else {
            return;
        };
        let attempt = sequencer.attempts(offset);
        let Some(pending) = sequencer.payload_mut(offset) else {
            return;
        };
        pending.uncertain |= result == AttemptResult::Unknown;
        let Some(expires_at) = pending.delivery.as_ref().map(|d| d.expires_at) else {
            return;
        };
        let mut next = self
            .shared
            .retry
            .decide(class_of(result), attempt, now, expires_at, jitter);
        if let Next::Settle(settled) = &mut next
            && pending.uncertain
            && settled.outcome == Outcome::Dead
        {
            // An earlier attempt may have arrived: nobody can say that it did not.
            *settled = Settled {
                outcome: Outcome::Unknown,
                reason: Reason::NoAnswer,
            };
        }
        match next {
            Next::RetryAt(at) => sequencer.retry(offset, at.0),
            Next::Settle(settled) => {
                sequencer.settle(offset);
                self.write_receipt(offset, settled);
            }
        }
    }

    fn write_receipt(&mut self, offset: i64, settled: Settled) {
        let now = self.shared.clock.now_millis();
        let Some(sequencer) = self.sequencer.as_ref() else {
            return;
        };
        let attempts = sequencer.attempts(offset);
        let Some(pending) = sequencer.payload(offset) else {
            return;
        };
        let Some(delivery) = pending.delivery.as_ref() else {
            return;
        };
        let possible_duplicate = pending.uncertain && attempts > 1;
        let ended = Ended {
            settled,
            attempts,
            at: Timestamp(now),
            possible_duplicate,
        };
        let shared = &self.shared;
        shared
            .metrics
            .settled(settled, Timestamp(now).millis_since(delivery.accepted_at));
        let record = outcome_record(
            &shared.codec,
            &shared.results,
            &pending.source,
            delivery,
            ended,
            &shared.worker_id,
        );
        let producer = Arc::clone(&shared.producer);
        self.receipts.push(match record {
            Ok(record) => {
                // Queued now, so that receipts keep the order in which deliveries ended.
                let first = producer.send(record.clone());
                Box::pin(async move {
                    let result = match first.await {
                        Ok(at) => Ok(at),
                        Err(_) => send_until_acknowledged(producer, record).await,
                    };
                    Acknowledged {
                        offset,
                        result: result.map(Some),
                    }
                })
            }
            Err(error) => Box::pin(std::future::ready(Acknowledged {
                offset,
                result: Err(ProduceError::Refused {
                    topic: shared.results.to_string(),
                    reason: error.to_string(),
                }),
            })),
        });
    }

    fn acknowledge(&mut self, ack: Acknowledged) -> Result<(), DispatchError> {
        let results_offset = ack.result?;
        let ended = self
            .sequencer
            .as_mut()
            .and_then(|s| s.acknowledge(ack.offset, results_offset));
        if let Some(pending) = ended {
            self.unload(pending.bytes);
        }
        Ok(())
    }

    fn unload(&self, bytes: usize) {
        self.load.remove(bytes);
        self.shared.room.notify_one();
    }
}

async fn attempt(
    provider: &dyn Provider,
    batch: &[(Arc<Delivery>, u32)],
    deadline: Instant,
) -> Result<Vec<AttemptResult>, TryError> {
    let attempts: Vec<Attempt<'_>> = batch
        .iter()
        .map(|(delivery, number)| Attempt {
            delivery,
            number: *number,
        })
        .collect();
    let call = provider.attempt(&attempts, deadline);
    // The provider keeps the deadline itself; this bounds one that does not.
    tokio::time::timeout_at(deadline + ATTEMPT_GRACE, call)
        .await
        .unwrap_or_else(|_| Ok(vec![AttemptResult::Unknown; batch.len()]))
}

fn class_of(result: AttemptResult) -> AttemptClass {
    match result {
        AttemptResult::Accepted => AttemptClass::Accepted,
        AttemptResult::Refused(reason) => AttemptClass::Refused(reason),
        AttemptResult::Throttled { retry_after, .. } => AttemptClass::Throttled(
            retry_after.map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
        ),
        AttemptResult::Unavailable | AttemptResult::NotProcessed | AttemptResult::AccountFault => {
            AttemptClass::Unavailable
        }
        AttemptResult::Unknown => AttemptClass::Unknown,
    }
}

/// Bytes a record holds while it is open: its value, key and our bookkeeping.
#[must_use]
pub fn size_of_record(record: &Record) -> usize {
    const BOOKKEEPING: usize = 512;
    let value = record.value.as_ref().map_or(0, bytes::Bytes::len);
    let key = record.key.as_ref().map_or(0, bytes::Bytes::len);
    value + key + BOOKKEEPING
}

async fn maybe<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Uniform numbers in 0..1 from a seed (`SplitMix64`).
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        #[expect(
            clippy::cast_precision_loss,
            reason = "53 bits are what a double holds"
        )]
        let part = (z >> 11) as f64 / (1_u64 << 53) as f64;
        part
    }
}
