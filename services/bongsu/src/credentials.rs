//! How long the credentials that end on their own still live.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::provider::Provider;
use bongsu_domain::Channel;
use bongsu_runtime::{Clock, Shutdown, instruments};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Gauge;

instruments! {
    /// The instrument of credentials.
    pub(crate) struct Instruments in "bongsu_credentials" {
        /// Days until a credential of an account ends; negative once it has.
        expiry: Gauge<f64> = "bongsu_credential_expiry_days" of "days" by [channel, account], alert "below 14";
    }
}

/// How often it is told: a day has many of these.
const EVERY: Duration = Duration::from_secs(3_600);

/// Tells it until the shutdown.
pub(crate) async fn watch(
    channel: Channel,
    provider: Arc<dyn Provider>,
    on: Instruments,
    clock: Clock,
    shutdown: Shutdown,
) -> Result<(), Infallible> {
    loop {
        for credential in provider.expiring() {
            let days = days_until(credential.not_after_millis, clock.now_millis());
            let labels = [
                KeyValue::new("channel", channel.as_str()),
                KeyValue::new("account", credential.account),
            ];
            on.expiry.record(days, &labels);
        }
        tokio::select! {
            // Both branches are cancel safe.
            biased;
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn days_until(then_millis: i64, now_millis: i64) -> f64 {
    let seconds = then_millis.saturating_sub(now_millis) / 1_000;
    // Exact for as long as any certificate lives.
    i32::try_from(seconds).map_or(f64::INFINITY, f64::from) / 86_400.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_in_both_directions() {
        let day = 86_400_000;
        assert!((days_until(10 * day, 0) - 10.0).abs() < 1e-9);
        assert!((days_until(0, day / 2) + 0.5).abs() < 1e-9);
    }
}
