//! Metrics of fanout. Labels come from closed vocabularies; the client id of a misplaced event is
//! the one exception, bounded by `MAX_CLIENTS`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bongsu_domain::Class;
use bongsu_runtime::Metrics;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};

/// Client ids told apart; later ones are counted as `other`.
const MAX_CLIENTS: usize = 100;

/// Handles for one class, built once.
#[derive(Debug, Clone)]
pub struct FanoutMetrics {
    events: Counter<u64>,
    deliveries: Counter<u64>,
    repeats: Counter<u64>,
    refused: Counter<u64>,
    dead_letters: Counter<u64>,
    rehomed: Counter<u64>,
    transaction_seconds: Histogram<f64>,
    clients: Arc<Mutex<BTreeSet<String>>>,
    class: KeyValue,
}

impl FanoutMetrics {
    /// Registers the instruments.
    #[must_use]
    pub fn new(metrics: &Metrics, class: Class) -> Self {
        let meter = metrics.meter("bongsu_fanout");
        let counter = |name: &'static str, what: &'static str| {
            meter.u64_counter(name).with_description(what).build()
        };
        Self {
            events: counter("bongsu_events", "Events read."),
            deliveries: counter("bongsu_deliveries", "Deliveries made."),
            repeats: counter("bongsu_event_repeats", "Events seen before and dropped."),
            refused: counter(
                "bongsu_events_refused",
                "Events or recipients refused, by reason.",
            ),
            dead_letters: counter("bongsu_dead_letters", "Records put aside. Alert on any."),
            rehomed: counter(
                "bongsu_events_rehomed",
                "Events that came in the wrong partition, by client id. Mend that publisher.",
            ),
            transaction_seconds: meter
                .f64_histogram("bongsu_transaction_duration_seconds")
                .with_description("Time of one transaction. Alert above a second.")
                .with_boundaries(vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0])
                .build(),
            clients: Arc::default(),
            class: KeyValue::new("class", class.as_str()),
        }
    }

    fn labels(&self, key: &'static str, value: impl Into<opentelemetry::Value>) -> [KeyValue; 2] {
        [self.class.clone(), KeyValue::new(key, value)]
    }

    /// An event was read and made this many deliveries.
    pub fn expanded(&self, deliveries: usize) {
        self.events.add(1, std::slice::from_ref(&self.class));
        self.deliveries
            .add(deliveries as u64, std::slice::from_ref(&self.class));
    }

    /// An event was seen before.
    pub fn repeated(&self) {
        self.repeats.add(1, std::slice::from_ref(&self.class));
    }

    /// An event or one of its recipients was refused.
    pub fn refused(&self, reason: &'static str) {
        self.refused.add(1, &self.labels("reason", reason));
    }

    /// A record was put aside.
    pub fn dead_lettered(&self, reason: &'static str) {
        self.dead_letters.add(1, &self.labels("reason", reason));
    }

    /// An event was moved to its right partition.
    pub fn rehomed(&self, client: &str) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let known = clients.contains(client);
        let label = if known || clients.len() < MAX_CLIENTS {
            client
        } else {
            "other"
        };
        if !known && clients.len() < MAX_CLIENTS {
            clients.insert(client.to_owned());
            tracing::warn!(
                client,
                "events come in the wrong partition: this publisher must use murmur2 of its sender"
            );
        }
        self.rehomed
            .add(1, &self.labels("client", label.to_owned()));
    }

    /// A transaction was committed.
    pub fn committed(&self, took: std::time::Duration) {
        self.transaction_seconds
            .record(took.as_secs_f64(), std::slice::from_ref(&self.class));
    }
}
