//! Metrics of fanout. Labels come from closed vocabularies; the client id of a misplaced event is
//! the one exception, bounded by `MAX_CLIENTS`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bongsu_domain::Class;
use bongsu_runtime::{Metrics, instruments};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};

/// Client ids told apart; later ones are counted as `other`.
const MAX_CLIENTS: usize = 100;

const SECONDS: [f64; 8] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0];

instruments! {
    /// The instruments of fanout.
    pub struct Instruments in "bongsu_fanout" {
        /// Events read.
        events: Counter<u64> = "bongsu_events" of "events" by [class], alert "";
        /// Deliveries made.
        deliveries: Counter<u64> = "bongsu_deliveries" of "deliveries" by [class], alert "";
        /// Events seen before and dropped.
        repeats: Counter<u64> = "bongsu_event_repeats" of "events" by [class], alert "";
        /// Events or recipients refused, by reason.
        refused: Counter<u64> = "bongsu_events_refused" of "events" by [class, reason], alert "on a rising share";
        /// Records put aside.
        dead_letters: Counter<u64> = "bongsu_dead_letters" of "records" by [class, reason], alert "on any";
        /// Events that came in the wrong partition, by client id; 100 are told apart, later ones are `other`.
        rehomed: Counter<u64> = "bongsu_events_rehomed" of "events" by [class, client], alert "on any: mend that publisher";
        /// Time of one transaction.
        transaction_seconds: Histogram<f64> = "bongsu_transaction_duration_seconds" of "seconds" in SECONDS by [class], alert "above a second";
    }
}

/// Handles for one class, built once.
#[derive(Debug, Clone)]
pub struct FanoutMetrics {
    on: Instruments,
    clients: Arc<Mutex<BTreeSet<String>>>,
    class: KeyValue,
}

impl FanoutMetrics {
    /// Registers the instruments.
    #[must_use]
    pub fn new(metrics: &Metrics, class: Class) -> Self {
        Self {
            on: Instruments::new(metrics),
            clients: Arc::default(),
            class: KeyValue::new("class", class.as_str()),
        }
    }

    fn labels(&self, key: &'static str, value: impl Into<opentelemetry::Value>) -> [KeyValue; 2] {
        [self.class.clone(), KeyValue::new(key, value)]
    }

    /// An event was read and made this many deliveries.
    pub fn expanded(&self, deliveries: usize) {
        self.on.events.add(1, std::slice::from_ref(&self.class));
        self.on
            .deliveries
            .add(deliveries as u64, std::slice::from_ref(&self.class));
    }

    /// An event was seen before.
    pub fn repeated(&self) {
        self.on.repeats.add(1, std::slice::from_ref(&self.class));
    }

    /// An event or one of its recipients was refused.
    pub fn refused(&self, reason: &'static str) {
        self.on.refused.add(1, &self.labels("reason", reason));
    }

    /// A record was put aside.
    pub fn dead_lettered(&self, reason: &'static str) {
        self.on.dead_letters.add(1, &self.labels("reason", reason));
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
        self.on
            .rehomed
            .add(1, &self.labels("client", label.to_owned()));
    }

    /// A transaction was committed.
    pub fn committed(&self, took: std::time::Duration) {
        self.on
            .transaction_seconds
            .record(took.as_secs_f64(), std::slice::from_ref(&self.class));
    }
}
