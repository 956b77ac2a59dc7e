//! The idempotent producer: queue at once, one callback per record, nothing lost unseen.
//!
//! librdkafka lets each partition linger by itself, so its threads wake up for every batch of every
//! partition, and again for every answer. A producer that may linger [`GATHERS_FROM`] or longer
//! therefore gathers here: what was sent meanwhile is handed over in one go, all partitions at once,
//! and answers are taken every [`TICK`]. The linger is the time between two hand-overs: a lonely record
//! goes at once, and a partition asks Kafka at most once in it, however quickly Kafka answers. Each
//! request costs about what ten records do, here and there: see `docs/benchmarks/engine.md`.

mod gathering;
mod handed;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, NoCustomPartitioner, ProducerContext};
use rdkafka::{ClientContext, Message};
use tokio::sync::{Notify, oneshot};

use self::gathering::Gathering;
use self::handed::Handed;
use super::client::{Kept, Recipe};
use super::context::{log_error, log_line};
use super::convert::{Parts, produce_error, size};
use super::settings::Settings;
use crate::error::ProduceError;
use crate::port::{Answers, Outgoing, Producer};

/// How long a dropped producer still tries to get rid of what is outstanding.
const LINGER_AFTER_DROP: Duration = Duration::from_secs(30);

/// How often the serving thread looks whether it should end.
const SERVE: Duration = Duration::from_millis(100);

/// From this linger on records are gathered here and not in librdkafka.
const GATHERS_FROM: Duration = Duration::from_millis(10);

/// How long librdkafka waits for the rest of what is handed over in one go.
const HAND_OVER: Duration = Duration::from_millis(1);

/// How often a gathering producer looks for answers, and whether to hand over.
const TICK: Duration = Duration::from_millis(2);

/// Who waits for a record's answer.
enum Waiter {
    One(oneshot::Sender<Result<i64, ProduceError>>),
    Many(u64, Arc<Answers>),
}

impl Waiter {
    fn tell(self, answer: Result<i64, ProduceError>) {
        match self {
            // Nobody waits when the caller dropped the future: the record is in the log all the same.
            Self::One(waiter) => drop(waiter.send(answer)),
            Self::Many(ticket, answers) => answers.add((ticket, answer)),
        }
    }
}

/// What goes with a record to its delivery callback.
pub(super) struct Waiting {
    waiter: Waiter,
    topic: Arc<str>,
    partition: i32,
    bytes: usize,
}

/// Counts what is outstanding and hands the answers out.
#[derive(Default)]
struct Deliveries {
    outstanding: AtomicUsize,
    none_outstanding: Notify,
    closed: AtomicBool,
    /// What a gathering producer has handed over.
    handed: Mutex<Handed>,
}

impl Deliveries {
    fn handed(&self) -> MutexGuard<'_, Handed> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settled(&self) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none_outstanding.notify_waiters();
        }
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
    type DeliveryOpaque = Box<Waiting>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Box<Waiting>) {
        let Waiting {
            waiter,
            topic,
            partition,
            bytes,
        } = *waiting;
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(produce_error(error, &topic, bytes)),
        };
        waiter.tell(outcome);
        self.0.handed().answered(&(topic, partition));
        self.0.settled();
    }
}

/// The port's producer over librdkafka's, with a thread of its own that serves the callbacks.
pub(super) struct KafkaProducer {
    producer: Arc<Kept<BaseProducer<Context>>>,
    deliveries: Arc<Deliveries>,
    gathering: Option<Arc<Gathering>>,
}

impl KafkaProducer {
    pub(super) fn start(
        settings: &Settings,
        base: &Recipe,
        linger: Duration,
    ) -> Result<Self, ProduceError> {
        let deliveries = Arc::new(Deliveries::default());
        let gathers = linger >= GATHERS_FROM;
        let inside = if gathers { HAND_OVER } else { linger };
        let recipe = base.with(settings.producer_config(&base.config, inside));
        let producer: Kept<BaseProducer<Context>> = recipe
            .make(Context(deliveries.clone()))
            .map_err(|e| ProduceError::Client(e.to_string()))?;
        let producer = Arc::new(producer);
        let gathering = gathers.then(|| Arc::new(Gathering::new(linger)));
        let served = Served {
            producer: producer.clone(),
            deliveries: deliveries.clone(),
        };
        let gathered = gathering.clone();
        std::thread::Builder::new()
            .name("kafka-producer".to_owned())
            .spawn(move || match gathered {
                Some(gathering) => served.gather(&gathering),
                None => served.serve(),
            })
            .map_err(|e| ProduceError::Client(e.to_string()))?;
        Ok(Self {
            producer,
            deliveries,
            gathering,
        })
    }
}

impl KafkaProducer {
    /// Queues a record, or gives its waiter back with the reason.
    fn queue(&self, record: Outgoing, waiter: Waiter) -> Result<(), (ProduceError, Waiter)> {
        let bytes = size(&record);
        let waiting = Box::new(Waiting {
            waiter,
            topic: record.topic.clone(),
            partition: record.partition,
            bytes,
        });
        self.deliveries.outstanding.fetch_add(1, Ordering::AcqRel);
        if let Some(gathering) = &self.gathering {
            gathering.add(record, waiting);
            return Ok(());
        }
        let parts = Parts::of(&record);
        let sent = self.producer.send(parts.record(&record, waiting));
        sent.map_err(|(error, refused)| {
            self.deliveries.settled();
            let error = produce_error(&error, &record.topic, bytes);
            (error, refused.delivery_opaque.waiter)
        })
    }
}

/// What the serving thread works with.
struct Served {
    producer: Arc<Kept<BaseProducer<Context>>>,
    deliveries: Arc<Deliveries>,
}

impl Served {
    /// Runs callbacks until the producer is dropped and nothing is outstanding any more.
    fn serve(&self) {
        let mut closed_at = None;
        while !self.is_over(&mut closed_at) {
            self.producer.poll(SERVE);
        }
    }

    /// Hands gathered records over and runs callbacks, both in bursts.
    fn gather(&self, gathering: &Gathering) {
        let mut closed_at = None;
        let mut batch = Vec::new();
        while !self.is_over(&mut closed_at) {
            if self.deliveries.outstanding.load(Ordering::Acquire) == 0 {
                // Nothing to hand over, nothing to wait for: until the first record, or for what
                // librdkafka has to say for itself.
                gathering.wait_for_work(SERVE);
                self.producer.poll(Duration::ZERO);
                continue;
            }
            gathering.pause(TICK);
            self.take_answers();
            let closed = self.deliveries.closed.load(Ordering::Acquire);
            gathering.take_due(&mut batch, closed);
            self.hand_over(gathering, &mut batch);
        }
    }

    /// Runs the callbacks that are due, without waiting for more.
    fn take_answers(&self) {
        loop {
            let before = self.deliveries.outstanding.load(Ordering::Acquire);
            self.producer.poll(Duration::ZERO);
            // A poll without a deadline takes one event, which may be of many records.
            if self.deliveries.outstanding.load(Ordering::Acquire) >= before {
                return;
            }
        }
    }

    fn hand_over(&self, gathering: &Gathering, batch: &mut Vec<(Outgoing, Box<Waiting>)>) {
        let mut kept = Vec::new();
        let mut records = batch.drain(..);
        self.deliveries.handed().begin();
        while let Some((outgoing, waiting)) = records.next() {
            let place = (outgoing.topic.clone(), outgoing.partition);
            if !self.deliveries.handed().takes(&place) {
                kept.push((outgoing, waiting));
                continue;
            }
            let sent = self
                .producer
                .send(Parts::of(&outgoing).record(&outgoing, waiting))
                .map_err(|(error, refused)| (error, refused.delivery_opaque));
            let Err((error, waiting)) = sent else {
                // Its callback runs on this thread, later.
                self.deliveries.handed().add(place);
                continue;
            };
            let error = produce_error(&error, &outgoing.topic, waiting.bytes);
            if matches!(error, ProduceError::QueueFull) {
                // What is outstanding is bounded by the callers: it waits for room, in order.
                kept.push((outgoing, waiting));
                break;
            }
            waiting.waiter.tell(Err(error));
            self.deliveries.settled();
        }
        if !kept.is_empty() {
            gathering.give_back(kept.into_iter().chain(records));
        }
    }

    /// Whether the producer was dropped and nothing is outstanding, or it has taken too long.
    fn is_over(&self, closed_at: &mut Option<Instant>) -> bool {
        if !self.deliveries.closed.load(Ordering::Acquire) {
            return false;
        }
        let left = self.deliveries.outstanding.load(Ordering::Acquire);
        if left == 0 {
            return true;
        }
        let late = closed_at.get_or_insert_with(Instant::now).elapsed() > LINGER_AFTER_DROP;
        if late {
            tracing::error!(
                records = left,
                "a dropped kafka producer gave up unacknowledged records"
            );
        }
        late
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        self.deliveries.closed.store(true, Ordering::Release);
        if let Some(gathering) = &self.gathering {
            gathering.wake();
        }
    }
}

impl Producer for KafkaProducer {
    fn send(&self, record: Outgoing) -> BoxFuture<'static, Result<i64, ProduceError>> {
        let (waiter, answered) = oneshot::channel();
        match self.queue(record, Waiter::One(waiter)) {
            Ok(()) => Box::pin(async move { answered.await.unwrap_or(Err(ProduceError::Closed)) }),
            Err((error, _)) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn send_for(
        &self,
        record: Outgoing,
        ticket: u64,
        answers: &Arc<Answers>,
    ) -> Option<BoxFuture<'static, Result<i64, ProduceError>>> {
        let waiter = Waiter::Many(ticket, Arc::clone(answers));
        if let Err((error, waiter)) = self.queue(record, waiter) {
            waiter.tell(Err(error));
        }
        None
    }

    fn drain(&self, deadline: Duration) -> BoxFuture<'_, Result<(), usize>> {
        Box::pin(async move {
            let emptied = async {
                loop {
                    let notified = self.deliveries.none_outstanding.notified();
                    if self.deliveries.outstanding.load(Ordering::Acquire) == 0 {
                        return;
                    }
                    notified.await;
                }
            };
            match tokio::time::timeout(deadline, emptied).await {
                Ok(()) => Ok(()),
                Err(_) => match self.deliveries.outstanding.load(Ordering::Acquire) {
                    0 => Ok(()),
                    left => Err(left),
                },
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::bindings::{rd_kafka_resp_err_t, rd_kafka_test_fatal_error};
    use rdkafka::producer::Producer as _;

    use super::*;
    use crate::error::ErrorClass;
    use crate::port::Headers;

    fn record() -> Outgoing {
        Outgoing {
            topic: "t".into(),
            partition: 0,
            key: None,
            value: None,
            headers: Headers::default(),
        }
    }

    fn break_down(producer: &KafkaProducer) {
        #[expect(unsafe_code, reason = "librdkafka's own way to test this")]
        // SAFETY: the client lives as long as `producer`, and the text is a C string.
        unsafe {
            rd_kafka_test_fatal_error(
                producer.producer.client().native_ptr(),
                rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
                c"a test".as_ptr(),
            );
        }
    }

    /// Taken for transient, every receipt would be tried for ever, and after each rejoin everything
    /// of the window would be sent again.
    #[tokio::test]
    async fn a_client_that_failed_for_good_says_so() {
        for linger in [Duration::ZERO, GATHERS_FROM] {
            let settings = Settings {
                // Nobody listens there: what is asked here is the client.
                bootstrap_servers: "127.0.0.1:1".to_owned(),
                ..Settings::default()
            };
            let base = Recipe::new(ClientConfig::new(), None);
            let producer = KafkaProducer::start(&settings, &base, linger).unwrap();
            let before = producer.send(record());
            break_down(&producer);
            let after = producer.send(record()).await.unwrap_err();
            assert!(matches!(after, ProduceError::Fatal(_)), "{after}");
            assert_eq!(after.class(), ErrorClass::Permanent);
            let before = before.await.unwrap_err();
            assert!(
                matches!(
                    before,
                    ProduceError::Fatal(_) | ProduceError::NotAcknowledged { .. }
                ),
                "{before}"
            );
        }
    }
}
