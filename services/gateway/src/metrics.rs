//! The gateway's instruments.

use bongsu_domain::Class;
use bongsu_runtime::instruments;
use http::StatusCode;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, UpDownCounter};

use crate::problem::ProblemCode;

const SECONDS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0,
];

instruments! {
    /// Handles, built once.
    pub struct Instruments in "bongsu_gateway" {
        /// Requests that were answered. `route` is a pattern, never a path as it came.
        requests: Counter<u64> = "bongsu_gateway_requests" of "requests" by [route, status], alert "on the share of 5xx";
        /// Time to the answer; for `POST /v1/events` to Kafka's acknowledgement.
        duration: Histogram<f64> = "bongsu_gateway_request_duration_seconds" of "seconds" in SECONDS by [route], alert "on a p99 above 30 ms";
        /// Events that Kafka has acknowledged.
        events: Counter<u64> = "bongsu_gateway_events" of "events" by [class], alert "on none where there should be some";
        /// Answers that are no success, by their code.
        problems: Counter<u64> = "bongsu_gateway_problems" of "answers" by [code], alert "on `not_acknowledged`, `overloaded` and `internal`";
        /// Providers' reports that were kept: `delivered`, `undelivered`, `interim` (nothing final),
        /// `unmapped` (no reference of ours; the ledger looks for its delivery) or `forged`.
        reports: Counter<u64> = "bongsu_reports" of "reports" by [provider, result], alert "on `forged`, and on `unmapped` where every delivery carries a reference";
        /// Bodies held; the bound is `gateway.max_bytes_in_flight` and `gateway.max_report_bytes_in_flight` together.
        in_flight: Gauge<u64> = "bongsu_gateway_in_flight_bytes" of "bytes" by [], alert "near the bound";
        /// Open connections; the bound is `gateway.max_connections`.
        connections: UpDownCounter<i64> = "bongsu_gateway_connections" of "connections" by [], alert "near the bound";
    }
}

impl Instruments {
    /// A request was answered. `route` is a pattern of ours, never a path as it came.
    pub fn answered(&self, route: &'static str, status: StatusCode, seconds: f64) {
        let route = KeyValue::new("route", route);
        self.duration.record(seconds, std::slice::from_ref(&route));
        let status = KeyValue::new("status", i64::from(status.as_u16()));
        self.requests.add(1, &[route, status]);
    }

    /// An answer was a problem.
    pub fn refused(&self, code: ProblemCode) {
        self.problems
            .add(1, &[KeyValue::new("code", code.as_str())]);
    }

    /// Kafka acknowledged events.
    pub fn published(&self, class: Class, events: u64) {
        if events > 0 {
            self.events
                .add(events, &[KeyValue::new("class", class.as_str())]);
        }
    }

    /// A report is kept. `provider` is a configured one's word.
    pub fn reported(&self, provider: &'static str, result: &'static str) {
        let provider = KeyValue::new("provider", provider);
        self.reports
            .add(1, &[provider, KeyValue::new("result", result)]);
    }

    /// Bytes of bodies held now.
    pub fn holds(&self, bytes: usize) {
        self.in_flight
            .record(u64::try_from(bytes).unwrap_or(u64::MAX), &[]);
    }

    /// A connection was opened (1) or closed (-1).
    pub fn connections(&self, change: i64) {
        self.connections.add(change, &[]);
    }
}
