//! The idempotent producer: queue at once, one callback per record, nothing lost unseen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, NoCustomPartitioner, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message};
use tokio::sync::{Notify, oneshot};

use super::context::{log_error, log_line};
use super::convert::{Parts, produce_error, size};
use super::settings::Settings;
use crate::error::ProduceError;
use crate::port::{Outgoing, Producer};

/// How long a dropped producer still tries to get rid of what is outstanding.
const LINGER_AFTER_DROP: Duration = Duration::from_secs(30);

/// How often the serving thread looks whether it should end.
const SERVE: Duration = Duration::from_millis(100);

type Answer = oneshot::Sender<Result<i64, ProduceError>>;

/// What goes with a record to its delivery callback.
pub(super) struct Waiting {
    answer: Answer,
    topic: Arc<str>,
    bytes: usize,
}

/// Counts what is outstanding and hands the answers out.
#[derive(Default)]
struct Deliveries {
    outstanding: AtomicUsize,
    none_outstanding: Notify,
    closed: AtomicBool,
}

impl Deliveries {
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
            answer,
            topic,
            bytes,
        } = *waiting;
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(produce_error(error, &topic, bytes)),
        };
        // Nobody waits when the caller dropped the future: the record is in the log all the same.
        drop(answer.send(outcome));
        self.0.settled();
    }
}

/// The port's producer over librdkafka's, with a thread of its own that serves the callbacks.
pub(super) struct KafkaProducer {
    producer: Arc<BaseProducer<Context>>,
    deliveries: Arc<Deliveries>,
}

impl KafkaProducer {
    pub(super) fn start(
        settings: &Settings,
        base: &ClientConfig,
        linger: Duration,
    ) -> Result<Self, ProduceError> {
        let deliveries = Arc::new(Deliveries::default());
        let config = settings.producer_config(base, linger);
        let producer = BaseProducer::from_config_and_context(&config, Context(deliveries.clone()))
            .map_err(|e| ProduceError::Client(e.to_string()))?;
        let producer = Arc::new(producer);
        let served = (producer.clone(), deliveries.clone());
        std::thread::Builder::new()
            .name("kafka-producer".to_owned())
            .spawn(move || serve(&served.0, &served.1))
            .map_err(|e| ProduceError::Client(e.to_string()))?;
        Ok(Self {
            producer,
            deliveries,
        })
    }
}

/// Runs callbacks until the producer is dropped and nothing is outstanding any more.
fn serve(producer: &BaseProducer<Context>, deliveries: &Deliveries) {
    let mut closed_at: Option<Instant> = None;
    loop {
        producer.poll(SERVE);
        if !deliveries.closed.load(Ordering::Acquire) {
            continue;
        }
        let left = deliveries.outstanding.load(Ordering::Acquire);
        if left == 0 {
            return;
        }
        if closed_at.get_or_insert_with(Instant::now).elapsed() > LINGER_AFTER_DROP {
            tracing::error!(
                records = left,
                "a dropped kafka producer gave up unacknowledged records"
            );
            return;
        }
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        self.deliveries.closed.store(true, Ordering::Release);
    }
}

impl Producer for KafkaProducer {
    fn send(&self, record: Outgoing) -> BoxFuture<'static, Result<i64, ProduceError>> {
        let (answer, answered) = oneshot::channel();
        let bytes = size(&record);
        let waiting = Box::new(Waiting {
            answer,
            topic: record.topic.clone(),
            bytes,
        });
        self.deliveries.outstanding.fetch_add(1, Ordering::AcqRel);
        let parts = Parts::of(&record);
        if let Err((error, _)) = self.producer.send(parts.record(&record, waiting)) {
            self.deliveries.settled();
            let error = produce_error(&error, &record.topic, bytes);
            return Box::pin(std::future::ready(Err(error)));
        }
        Box::pin(async move { answered.await.unwrap_or(Err(ProduceError::Closed)) })
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
