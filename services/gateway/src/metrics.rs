//! The gateway's instruments.

use bongsu_domain::Class;
use bongsu_runtime::Metrics;
use http::StatusCode;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, UpDownCounter};

use crate::problem::ProblemCode;

/// Handles, built once.
#[derive(Debug, Clone)]
pub struct Instruments {
    /// `bongsu_gateway_requests_total{route,status}`: alert on the share of 5xx.
    requests: Counter<u64>,
    /// `bongsu_gateway_request_duration_seconds{route}`: for `POST /v1/events` the time to Kafka's
    /// acknowledgement; alert on p99 above 30 ms.
    duration: Histogram<f64>,
    /// `bongsu_gateway_events_total{class}`: events acknowledged by Kafka.
    events: Counter<u64>,
    /// `bongsu_gateway_problems_total{code}`: answers that are no success; alert on
    /// `not_acknowledged`, `overloaded` and `internal`.
    problems: Counter<u64>,
    /// `bongsu_gateway_in_flight_bytes`: bodies held; the bound is `max_bytes_in_flight`.
    in_flight: Gauge<u64>,
    /// `bongsu_gateway_connections`: open connections; the bound is `max_connections`.
    connections: UpDownCounter<i64>,
}

impl Instruments {
    /// Registers the instruments.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let meter = metrics.meter("bongsu_gateway");
        Self {
            requests: meter.u64_counter("bongsu_gateway_requests").build(),
            duration: meter
                .f64_histogram("bongsu_gateway_request_duration_seconds")
                .with_boundaries(vec![
                    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0,
                ])
                .build(),
            events: meter.u64_counter("bongsu_gateway_events").build(),
            problems: meter.u64_counter("bongsu_gateway_problems").build(),
            in_flight: meter.u64_gauge("bongsu_gateway_in_flight_bytes").build(),
            connections: meter
                .i64_up_down_counter("bongsu_gateway_connections")
                .build(),
        }
    }

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
