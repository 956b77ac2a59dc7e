//! The idempotent producer: queue at once, one callback per record, nothing lost unseen.
//!
//! librdkafka lets each partition linger by itself, so its threads wake up for every batch of every
//! partition, and again for every answer. A producer that may linger therefore gathers here: what was
//! sent meanwhile is handed over in one go, all partitions at once, and answers are taken every
//! [`TICK`]. The linger is the time between two hand-overs: a lonely record goes at once, and a
//! partition asks Kafka at most once in it, however quickly Kafka answers. Each request costs about
//! what ten records do, here and there: see `docs/benchmarks/engine.md`.

mod gathering;
mod lines;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, NoCustomPartitioner, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Message};
use tokio::sync::{Notify, oneshot};

use self::gathering::Gathering;
use self::lines::{Handed, Lines, NO_LINE};
use super::client::{Kept, Recipe};
use super::context::{log_error, log_line};
use super::convert::{Parts, produce_error, size};
use super::flush::{HAND_OVER, Room, send_now};
use super::settings::{MESSAGE_TIMEOUT, Settings};
use crate::error::ProduceError;
use crate::port::{Answers, Outgoing, Producer};

/// How long a dropped producer still tries to get rid of what is outstanding.
const LINGER_AFTER_DROP: Duration = Duration::from_secs(30);

/// How often the serving thread looks whether it should end.
const SERVE: Duration = Duration::from_millis(100);

/// How often a gathering producer looks for answers, and whether to hand over; as often as it lingers
/// where that is shorter.
const TICK: Duration = Duration::from_millis(2);

/// How long to wait for an answer that is late already.
const SLOW_TICK: Duration = Duration::from_millis(20);

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
    bytes: usize,
    since: Instant,
    /// Its line in [`Lines`].
    line: usize,
}

/// A record and who waits for it.
type Gathered = (Outgoing, Box<Waiting>);

/// Counts what is outstanding and hands the answers out.
#[derive(Default)]
struct Deliveries {
    outstanding: AtomicUsize,
    none_outstanding: Notify,
    closed: AtomicBool,
    /// What a gathering producer has taken and not seen answered. Only its serving thread asks.
    lines: Mutex<Lines>,
}

impl Deliveries {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
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
            bytes,
            line,
            ..
        } = *waiting;
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(produce_error(error, &topic, bytes)),
        };
        waiter.tell(outcome);
        if line != NO_LINE {
            self.0.lines().answered(line);
        }
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
        let gathers = !linger.is_zero();
        let inside = if gathers { HAND_OVER } else { linger };
        let config = settings.producer_config(&base.config, inside);
        let room = Room::of(&config);
        let recipe = base.with(config);
        let producer: Kept<BaseProducer<Context>> = recipe
            .make(Context(deliveries.clone()))
            .map_err(|e| ProduceError::Client(e.to_string()))?;
        let producer = Arc::new(producer);
        let gathering = gathers.then(|| Arc::new(Gathering::new(linger)));
        let served = Served {
            producer: producer.clone(),
            deliveries: deliveries.clone(),
            room,
        };
        let gathered = gathering.clone();
        std::thread::Builder::new()
            .name("kafka-producer".to_owned())
            .spawn(move || match gathered {
                Some(gathering) => served.gather(&gathering, linger.min(TICK)),
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
            bytes,
            since: Instant::now(),
            line: NO_LINE,
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
    room: Room,
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
    fn gather(&self, gathering: &Gathering, tick: Duration) {
        let mut closed_at = None;
        let mut batch = Vec::new();
        let mut handed_over = Instant::now();
        while !self.is_over(&mut closed_at) {
            if self.deliveries.outstanding.load(Ordering::Acquire) == 0 {
                // Nothing to hand over, nothing to wait for: until the first record, or for what
                // librdkafka has to say for itself.
                gathering.wait_for_work(SERVE);
                self.producer.poll(Duration::ZERO);
                continue;
            }
            if self.deliveries.lines().owed() == 0 {
                gathering.pause(tick);
            } else if handed_over.elapsed() <= HAND_OVER {
                send_now(self.producer.client(), tick);
            } else {
                // librdkafka has sent it in any case, and Kafka is slow: many producers that looked
                // for answers every tick would make it slower.
                self.producer.poll(SLOW_TICK);
            }
            self.take_answers();
            let closed = self.deliveries.closed.load(Ordering::Acquire);
            if gathering.take_due(&mut batch, closed) && self.hand_over(&mut batch) {
                gathering.handed_over();
                handed_over = Instant::now();
            }
        }
        for (_, waiting) in self.deliveries.lines().take_older(Instant::now()) {
            waiting.waiter.tell(Err(ProduceError::Closed));
        }
    }

    /// Runs the callbacks that are due, without waiting for more.
    fn take_answers(&self) {
        loop {
            let before = self.deliveries.lines().owed();
            self.producer.poll(Duration::ZERO);
            // A poll without a deadline takes one event, which may be of many records.
            if self.deliveries.lines().owed() >= before {
                return;
            }
        }
    }

    /// Puts a batch into its lines and hands over what may go; whether that was any.
    fn hand_over(&self, batch: &mut Vec<Gathered>) -> bool {
        let mut lines = self.deliveries.lines();
        for gathered in batch.drain(..) {
            lines.add(gathered);
        }
        if let Some(then) = Instant::now().checked_sub(MESSAGE_TIMEOUT) {
            for (record, waiting) in lines.take_older(then) {
                waiting.waiter.tell(Err(ProduceError::NotAcknowledged {
                    topic: record.topic.to_string(),
                    reason: "what was sent before it was not answered in time".to_owned(),
                }));
                self.deliveries.settled();
            }
        }
        lines.hand_over(self.room, |(outgoing, waiting)| {
            let bytes = waiting.bytes;
            let sent = self
                .producer
                .send(Parts::of(&outgoing).record(&outgoing, waiting))
                .map_err(|(error, refused)| (error, refused.delivery_opaque));
            let Err((error, waiting)) = sent else {
                // Its callback runs on this thread, later.
                return Handed::Over;
            };
            let error = produce_error(&error, &outgoing.topic, bytes);
            if matches!(error, ProduceError::QueueFull) {
                // What is outstanding is bounded by the callers: it waits for room, in order.
                return Handed::Back((outgoing, waiting));
            }
            waiting.waiter.tell(Err(error));
            self.deliveries.settled();
            Handed::Refused
        })
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

    use super::*;
    use crate::error::ErrorClass;
    use crate::port::Headers;

    fn record(partition: i32) -> Outgoing {
        Outgoing {
            topic: "t".into(),
            partition,
            key: None,
            value: None,
            headers: Headers::default(),
        }
    }

    /// A record of one byte that nobody waits for.
    pub(super) fn gathered(partition: i32, value: u8) -> Gathered {
        let record = Outgoing {
            value: Some(vec![value].into()),
            ..record(partition)
        };
        let waiting = Waiting {
            waiter: Waiter::Many(0, Arc::default()),
            topic: record.topic.clone(),
            bytes: 0,
            since: Instant::now(),
            line: NO_LINE,
        };
        (record, Box::new(waiting))
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
        for linger in [Duration::ZERO, Duration::from_millis(10)] {
            let settings = Settings {
                // Nobody listens there: what is asked here is the client.
                bootstrap_servers: "127.0.0.1:1".to_owned(),
                ..Settings::default()
            };
            let base = Recipe::new(ClientConfig::new(), None);
            let producer = KafkaProducer::start(&settings, &base, linger).unwrap();
            let before = producer.send(record(0));
            break_down(&producer);
            let after = producer.send(record(0)).await.unwrap_err();
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
