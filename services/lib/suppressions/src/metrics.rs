//! Metrics of who holds suppressions.

use bongsu_domain::Channel;
use bongsu_runtime::{Metrics, instruments};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge};

instruments! {
    /// The instruments of a list.
    pub struct Instruments in "bongsu_suppressions" {
        /// Addresses that nothing is sent to, as a service knows them: fanout those of `all` channels, dispatch those of its own.
        held: Gauge<u64> = "bongsu_suppressed_addresses" of "addresses" by [service, channel], alert "when it jumps: `bongsu suppressions undo` takes a mistake back";
        /// Suppression records that mean nothing to this version.
        unreadable: Counter<u64> = "bongsu_suppressions_unreadable" of "records" by [service, channel], alert "on any: what they hold back is sent";
    }
}

/// Handles of one list, built once.
#[derive(Debug, Clone)]
pub(crate) struct ListMetrics {
    on: Instruments,
    labels: [KeyValue; 2],
}

impl ListMetrics {
    pub(crate) fn new(metrics: &Metrics, service: &'static str, channel: Option<Channel>) -> Self {
        Self {
            on: Instruments::new(metrics),
            labels: [
                KeyValue::new("service", service),
                KeyValue::new("channel", channel.map_or("all", Channel::as_str)),
            ],
        }
    }

    pub(crate) fn held(&self, addresses: usize) {
        self.on.held.record(addresses as u64, &self.labels);
    }

    pub(crate) fn unreadable(&self) {
        self.on.unreadable.add(1, &self.labels);
    }
}
