//! The transactional producer: a thread runs whole transactions, one at a time.
//!
//! librdkafka's transaction calls block, so they have a thread of their own; a second thread serves
//! delivery callbacks while the first waits until all records are answered.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::client::{Kept, Recipe};
use super::context::{log_error, log_line};
use super::convert::{Parts, commit_list};
use super::flush::{Room, send_now};
use super::oauth::NoToken;
use super::settings::{Settings, TRANSACTION_TIMEOUT};
use crate::error::TransactionError;
use crate::port::{Commit, GroupMetadata, Outgoing, TransactionalProducer};

/// How long a call of a transaction may take: as long as the broker keeps it open.
const CALL: Duration = TRANSACTION_TIMEOUT;
/// How long to leave a full queue alone.
const ROOM: Duration = Duration::from_millis(10);
/// How often to look whether a record has failed while others are not answered.
const LOOK: Duration = Duration::from_millis(100);

/// What the callbacks of the running transaction have said so far.
#[derive(Default)]
struct Tally {
    outstanding: usize,
    failed: Option<KafkaError>,
}

#[derive(Default)]
struct Deliveries {
    tally: Mutex<Tally>,
}

impl Deliveries {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Context(Arc<Deliveries>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut tally = self.0.tally();
        tally.outstanding = tally.outstanding.saturating_sub(1);
        if let Err((error, _)) = result {
            tally.failed.get_or_insert_with(|| error.clone());
        }
    }
}

struct Transaction {
    records: Vec<Outgoing>,
    offsets: Vec<Commit>,
    group: Arc<ConsumerGroupMetadata>,
    answer: oneshot::Sender<Result<(), TransactionError>>,
}

/// The port's transactional producer. Dropping it ends its threads; a transaction that runs is
/// finished first.
pub(super) struct KafkaTransactional {
    transactions: SyncSender<Transaction>,
}

impl KafkaTransactional {
    pub(super) async fn start(
        settings: &Settings,
        base: &Recipe,
        id: String,
    ) -> Result<Self, TransactionError> {
        base.ready(CALL).await.map_err(NoToken::of_transaction)?;
        let recipe = base.with(settings.transactional_config(&base.config, &id));
        let (transactions, received) = sync_channel(1);
        let (ready, started) = oneshot::channel();
        std::thread::Builder::new()
            .name(format!("transactions-{id}"))
            .spawn(move || {
                let worker = match Worker::start(&recipe, id) {
                    Ok(worker) => worker,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                if ready.send(Ok(())).is_ok() {
                    worker.work(&received);
                }
            })
            .map_err(|e| TransactionError::Fatal(e.to_string()))?;
        started.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { transactions })
    }
}

fn gone() -> TransactionError {
    TransactionError::Fatal("the transaction thread ended".to_owned())
}

impl TransactionalProducer for KafkaTransactional {
    fn run(
        &mut self,
        records: Vec<Outgoing>,
        offsets: Vec<Commit>,
        group: GroupMetadata,
    ) -> BoxFuture<'_, Result<(), TransactionError>> {
        Box::pin(async move {
            let group = group.0.downcast::<ConsumerGroupMetadata>().map_err(|_| {
                TransactionError::Fatal("the group metadata are another adapter's".to_owned())
            })?;
            let (answer, answered) = oneshot::channel();
            // Room for one: a transaction whose caller went away may still be running.
            let transaction = Transaction {
                records,
                offsets,
                group,
                answer,
            };
            self.transactions
                .try_send(transaction)
                .map_err(|e| match e {
                    std::sync::mpsc::TrySendError::Full(_) => {
                        TransactionError::Aborted("an earlier transaction still runs".to_owned())
                    }
                    std::sync::mpsc::TrySendError::Disconnected(_) => gone(),
                })?;
            answered.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

/// A producer whose transaction was open for longer than Kafka allows is fenced by Kafka itself. If
/// somebody else has taken its id meanwhile, the producer that comes next takes it back: the two end each
/// other, as two that are restarted do, and nothing is written twice.
fn unless_outlived(error: TransactionError, open: Duration) -> TransactionError {
    if let TransactionError::Fenced { reason, .. } = &error
        && open >= TRANSACTION_TIMEOUT
    {
        return TransactionError::Lost(format!("Kafka ended it after {open:.1?}: {reason}"));
    }
    error
}

struct Worker {
    producer: Kept<ThreadedProducer<Context>>,
    deliveries: Arc<Deliveries>,
    room: Room,
    id: String,
}

impl Worker {
    fn start(recipe: &Recipe, id: String) -> Result<Self, TransactionError> {
        let deliveries = Arc::new(Deliveries::default());
        let room = Room::of(&recipe.config);
        let producer = recipe
            .make(Context(deliveries.clone()))
            .map_err(|e| TransactionError::Fatal(e.to_string()))?;
        let worker = Self {
            producer,
            deliveries,
            room,
            id,
        };
        worker
            .producer
            .init_transactions(CALL)
            .map_err(|e| worker.error(&e))?;
        Ok(worker)
    }

    fn work(&self, transactions: &Receiver<Transaction>) {
        while let Ok(transaction) = transactions.recv() {
            let Transaction {
                mut records,
                offsets,
                group,
                answer,
            } = transaction;
            // Each partition's together, in their order.
            records.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
            let began = Instant::now();
            let result = self
                .run(&records, &offsets, &group)
                .map_err(|error| unless_outlived(error, began.elapsed()));
            // A caller that went away learns of a fence with its next transaction.
            drop(answer.send(result));
        }
    }

    fn run(
        &self,
        records: &[Outgoing],
        offsets: &[Commit],
        group: &ConsumerGroupMetadata,
    ) -> Result<(), TransactionError> {
        self.producer
            .begin_transaction()
            .map_err(|e| self.error(&e))?;
        match self.fill_and_commit(records, offsets, group) {
            Ok(()) => Ok(()),
            Err(error) => self.abort(&error),
        }
    }

    fn fill_and_commit(
        &self,
        records: &[Outgoing],
        offsets: &[Commit],
        group: &ConsumerGroupMetadata,
    ) -> Result<(), KafkaError> {
        *self.deliveries.tally() = Tally::default();
        let until = Instant::now() + CALL;
        let same = |a: &Outgoing, b: &Outgoing| a.partition == b.partition && a.topic == b.topic;
        let mut left: Vec<&[Outgoing]> = records.chunk_by(same).collect();
        while !left.is_empty() {
            // One request for each partition, and the next when they are answered.
            for records in &mut left {
                let (now, later) = records.split_at(self.room.fits(records.iter()));
                for record in now {
                    self.queue(record, until)?;
                }
                *records = later;
            }
            self.await_deliveries()?;
            left.retain(|records| !records.is_empty());
        }
        if !offsets.is_empty() {
            let list = commit_list(offsets)?;
            self.producer
                .send_offsets_to_transaction(&list, group, CALL)?;
        }
        self.commit()
    }

    /// Gives librdkafka a record, which may have to wait for room.
    fn queue(&self, record: &Outgoing, until: Instant) -> Result<(), KafkaError> {
        let parts = Parts::of(record);
        loop {
            self.deliveries.tally().outstanding += 1;
            let Err((error, _)) = self.producer.send(parts.record(record, ())) else {
                return Ok(());
            };
            self.deliveries.tally().outstanding -= 1;
            let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            if !full || !self.await_room(until) {
                return Err(error);
            }
        }
    }

    /// Waits until the queue may have given some of its records away; false when that is over, one of
    /// them has failed, or there is none.
    fn await_room(&self, until: Instant) -> bool {
        let empty = self.deliveries.tally().outstanding == 0;
        if empty || Instant::now() >= until {
            return false;
        }
        send_now(self.producer.client(), ROOM);
        self.deliveries.tally().failed.is_none()
    }

    fn await_deliveries(&self) -> Result<(), KafkaError> {
        let until = Instant::now() + CALL;
        loop {
            {
                let tally = self.deliveries.tally();
                if let Some(error) = &tally.failed {
                    return Err(error.clone());
                }
                if tally.outstanding == 0 {
                    return Ok(());
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
            }
            send_now(self.producer.client(), left.min(LOOK));
        }
    }

    /// Commits. A call that timed out is made again: the coordinator may have the answer.
    fn commit(&self) -> Result<(), KafkaError> {
        let until = Instant::now() + CALL;
        loop {
            match self.producer.commit_transaction(CALL) {
                Err(KafkaError::Transaction(error))
                    if error.is_retriable() && Instant::now() < until => {}
                other => return other,
            }
        }
    }

    fn abort(&self, cause: &KafkaError) -> Result<(), TransactionError> {
        let mapped = self.error(cause);
        if !matches!(mapped, TransactionError::Aborted(_)) {
            return Err(mapped);
        }
        let until = Instant::now() + CALL;
        loop {
            match self.producer.abort_transaction(CALL) {
                Ok(()) => return Err(mapped),
                Err(KafkaError::Transaction(error))
                    if error.is_retriable() && Instant::now() < until => {}
                Err(error) => {
                    return Err(match self.error(&error) {
                        // Not even the abort went through.
                        TransactionError::Aborted(reason) => TransactionError::Lost(reason),
                        other @ (TransactionError::Lost(_)
                        | TransactionError::Fenced { .. }
                        | TransactionError::Fatal(_)) => other,
                    });
                }
            }
        }
    }

    fn error(&self, error: &KafkaError) -> TransactionError {
        use RDKafkaErrorCode as Code;
        let fatal = self.producer.client().fatal_error();
        let code = fatal
            .as_ref()
            .map(|(code, _)| *code)
            .or_else(|| error.rdkafka_error_code());
        let reason = fatal
            .as_ref()
            .map_or_else(|| error.to_string(), |(_, text)| text.clone());
        match code {
            Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => {
                TransactionError::Fenced {
                    id: self.id.clone(),
                    reason,
                }
            }
            // The coordinator has ended the transaction by itself, which is the end of this producer only.
            Some(Code::InvalidTransactionalState) => TransactionError::Lost(reason),
            _ if fatal.is_some() => TransactionError::Fatal(reason),
            Some(Code::TransactionalIdAuthorizationFailed | Code::State | Code::Fatal) => {
                TransactionError::Fatal(reason)
            }
            _ => TransactionError::Aborted(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_transaction_within_its_time_is_fenced_by_somebody_else() {
        let fenced = || TransactionError::Fenced {
            id: "bongsu.fanout.bulk.0".to_owned(),
            reason: "there is a newer producer".to_owned(),
        };
        let short = TRANSACTION_TIMEOUT - Duration::from_millis(1);
        assert!(matches!(
            unless_outlived(fenced(), short),
            TransactionError::Fenced { .. }
        ));
        let long = unless_outlived(fenced(), TRANSACTION_TIMEOUT);
        assert!(
            matches!(&long, TransactionError::Lost(reason) if reason.contains("newer producer")),
            "{long}"
        );
    }
}
