//! Metrics by OpenTelemetry, read in Prometheus' text form, and described by the code that registers
//! them.
//!
//! [`instruments!`](crate::instruments!) declares the instruments of a crate once and gives their
//! handles and the description from which `docs/metrics.md` is generated.

pub mod process;

use std::sync::Arc;

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider as _, UpDownCounter};
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
    process: Option<Arc<process::Instruments>>,
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
        let mut metrics = Self {
            registry,
            provider: Arc::new(provider),
            process: None,
        };
        metrics.process = Some(Arc::new(process::Instruments::new(&metrics)));
        Ok(metrics)
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
        if let Some(process) = &self.process {
            process.observe();
        }
        let mut out = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut out)
            .map_err(|e| MetricsError(e.to_string()))?;
        String::from_utf8(out).map_err(|e| MetricsError(e.to_string()))
    }
}

/// One line of the generated metrics reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstrumentDoc {
    /// The name it is registered under; [`InstrumentDoc::exposed`] is what Prometheus shows.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`, as Prometheus sees it.
    pub kind: &'static str,
    /// What one of it is: seconds, bytes, attempts.
    pub unit: &'static str,
    /// Its labels, each from a closed vocabulary or bounded in number.
    pub labels: &'static [&'static str],
    /// What it means.
    pub what: &'static str,
    /// What to alert on; empty when nothing.
    pub alert: &'static str,
}

impl InstrumentDoc {
    /// The name in Prometheus' text form: counters get `_total`.
    #[must_use]
    pub fn exposed(&self) -> String {
        if self.kind == "counter" {
            format!("{}_total", self.name)
        } else {
            self.name.to_owned()
        }
    }
}

/// An instrument that [`instruments!`](crate::instruments!) can register.
pub trait Instrument: Sized {
    /// As Prometheus sees it.
    const KIND: &'static str;

    /// Registers it; `bounds` holds a histogram's upper bounds, the exporter's own hold without any.
    fn register(meter: &Meter, name: &'static str, what: String, bounds: &[&[f64]]) -> Self;
}

macro_rules! instrument {
    ($type:ty, $kind:literal, $builder:ident) => {
        impl Instrument for $type {
            const KIND: &'static str = $kind;

            fn register(meter: &Meter, name: &'static str, what: String, _: &[&[f64]]) -> Self {
                meter.$builder(name).with_description(what).build()
            }
        }
    };
}
instrument!(Counter<u64>, "counter", u64_counter);
instrument!(Counter<f64>, "counter", f64_counter);
instrument!(UpDownCounter<i64>, "gauge", i64_up_down_counter);
instrument!(Gauge<u64>, "gauge", u64_gauge);
instrument!(Gauge<f64>, "gauge", f64_gauge);

impl Instrument for Histogram<f64> {
    const KIND: &'static str = "histogram";

    fn register(meter: &Meter, name: &'static str, what: String, bounds: &[&[f64]]) -> Self {
        let histogram = meter.f64_histogram(name).with_description(what);
        match bounds {
            [] => histogram.build(),
            bounds => histogram.with_boundaries(bounds.concat()).build(),
        }
    }
}

/// What an instrument says of itself where it is scraped: its meaning, then its alert.
#[must_use]
pub fn description(what: &str, alert: &str) -> String {
    let what = what.trim();
    if alert.is_empty() {
        what.to_owned()
    } else {
        format!("{what} Alert {alert}.")
    }
}

/// Declares the instruments of a crate: documented handles with their names, units, labels and
/// alerts.
///
/// ```
/// use opentelemetry::metrics::{Counter, Histogram};
///
/// const SECONDS: [f64; 2] = [0.1, 1.0];
///
/// bongsu_runtime::instruments! {
///     /// Handles, built once.
///     pub struct Instruments in "bongsu_example" {
///         /// Beacons that were lit.
///         lit: Counter<u64> = "bongsu_beacons" of "beacons" by [hill], alert "on none in a night";
///         /// From one hill to the next.
///         seconds: Histogram<f64> = "bongsu_beacon_duration_seconds" of "seconds" in SECONDS by [], alert "";
///     }
/// }
/// assert_eq!(Instruments::describe()[0].labels, ["hill"]);
/// ```
#[macro_export]
macro_rules! instruments {
    ($(#[doc = $sdoc:expr])* $vis:vis struct $name:ident in $meter:literal { $($(#[doc = $doc:expr])* $field:ident : $ty:ty = $metric:literal of $unit:literal $(in $bounds:ident)? by [$($label:ident),* $(,)?], alert $alert:literal;)+ }) => {
        $(#[doc = $sdoc])*
        #[derive(Debug, Clone)]
        $vis struct $name { $($(#[doc = $doc])* $field: $ty),+ }

        impl $name {
            /// Registers the instruments.
            #[must_use]
            pub fn new(metrics: &$crate::Metrics) -> Self {
                let meter = metrics.meter($meter);
                Self {
                    $($field: <$ty as $crate::metrics::Instrument>::register(
                        &meter,
                        $metric,
                        $crate::metrics::description(concat!($($doc, "\n"),*), $alert),
                        &[$(&$bounds[..])?],
                    )),+
                }
            }

            /// The instruments with their meaning, for the generated reference.
            #[must_use]
            pub fn describe() -> Vec<$crate::metrics::InstrumentDoc> {
                vec![$($crate::metrics::InstrumentDoc {
                    name: $metric,
                    kind: <$ty as $crate::metrics::Instrument>::KIND,
                    unit: $unit,
                    labels: &[$(stringify!($label)),*],
                    what: concat!($($doc, "\n"),*),
                    alert: $alert,
                }),+]
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: [f64; 2] = [0.5, 2.0];

    instruments! {
        /// Handles of a test.
        struct Handles in "test" {
            /// Beacons that were lit.
            lit: Counter<u64> = "bongsu_beacons" of "beacons" by [hill], alert "on none in a night";
            /// Beacons that burn.
            burning: UpDownCounter<i64> = "bongsu_beacons_burning" of "beacons" by [], alert "";
            /// From one hill to the next.
            seconds: Histogram<f64> = "bongsu_beacon_duration_seconds" of "seconds" in SECONDS by [hill], alert "above a minute";
        }
    }

    #[test]
    fn instruments_are_registered_as_they_are_described() {
        let metrics = Metrics::new().unwrap();
        let handles = Handles::new(&metrics);
        let hill = [opentelemetry::KeyValue::new("hill", "south")];
        handles.lit.add(1, &hill);
        handles.burning.add(2, &[]);
        handles.seconds.record(1.0, &hill);
        let text = metrics.render().unwrap();
        for line in [
            "# HELP bongsu_beacons_total Beacons that were lit. Alert on none in a night.",
            "bongsu_beacons_total{hill=\"south\"} 1",
            "# HELP bongsu_beacons_burning Beacons that burn.",
            "bongsu_beacons_burning 2",
            "bongsu_beacon_duration_seconds_bucket{hill=\"south\",le=\"0.5\"} 0",
            "bongsu_beacon_duration_seconds_bucket{hill=\"south\",le=\"2\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing: {text}");
        }
        let docs = Handles::describe();
        let exposed: Vec<String> = docs.iter().map(InstrumentDoc::exposed).collect();
        for (doc, name) in docs.iter().zip(&exposed) {
            let kind = format!("# TYPE {name} {}", doc.kind);
            assert!(text.contains(&kind), "{kind} is missing: {text}");
        }
        assert_eq!(docs[2].labels, ["hill"]);
    }

    #[tokio::test]
    async fn the_process_tells_its_tasks_and_files() {
        let metrics = Metrics::new().unwrap();
        let mut idle = tokio::task::JoinSet::new();
        idle.spawn(std::future::pending::<()>());
        let value = |text: &str, name: &str| {
            let mut lines = text.lines();
            lines.find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        let text = metrics.render().unwrap();
        assert_eq!(value(&text, "bongsu_process_tasks "), Some(1), "{text}");
        assert!(
            value(&text, "bongsu_process_open_files ") > Some(2),
            "{text}"
        );
        idle.shutdown().await;
        let text = metrics.render().unwrap();
        assert_eq!(value(&text, "bongsu_process_tasks "), Some(0), "{text}");
    }

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
