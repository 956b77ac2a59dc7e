//! Metrics by OpenTelemetry, read in Prometheus' text form.

use std::sync::Arc;

use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder as _, TextEncoder};
use thiserror::Error;

/// The metrics could not be set up or read.
#[derive(Debug, Error)]
#[error("metrics: {0}")]
pub struct MetricsError(String);

/// One registry per process; clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: prometheus::Registry,
    provider: Arc<SdkMeterProvider>,
}

impl Metrics {
    /// An empty registry.
    ///
    /// # Errors
    /// When the exporter cannot be built.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|e| MetricsError(e.to_string()))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        Ok(Self {
            registry,
            provider: Arc::new(provider),
        })
    }

    /// The meter of one crate. Instruments are named `bongsu_<noun>_<unit>`; counters get `_total`
    /// from the exporter. Labels come from closed vocabularies only.
    #[must_use]
    pub fn meter(&self, name: &'static str) -> Meter {
        self.provider.meter(name)
    }

    /// Everything, as Prometheus' text exposition.
    ///
    /// # Errors
    /// When encoding fails.
    pub fn render(&self) -> Result<String, MetricsError> {
        let mut out = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut out)
            .map_err(|e| MetricsError(e.to_string()))?;
        String::from_utf8(out).map_err(|e| MetricsError(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_rendered_with_its_labels() {
        let metrics = Metrics::new().unwrap();
        let counter = metrics.meter("test").u64_counter("bongsu_things").build();
        counter.add(3, &[opentelemetry::KeyValue::new("channel", "webhook")]);
        let text = metrics.render().unwrap();
        assert!(
            text.contains("bongsu_things_total{channel=\"webhook\"} 3"),
            "{text}"
        );
    }
}
