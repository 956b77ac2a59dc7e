//! The gateway as a service: from settings to a drained end.

use std::convert::Infallible;
use std::net::SocketAddr;

use bongsu_runtime::{Shutdown, Tasks};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::config::Settings;
use crate::error::GatewayError;
use crate::routes::router;
use crate::server::{Limits, Server, bind};
use crate::state::{Gateway, Resources};

/// Serves HTTP until `shutdown`, then stops accepting, finishes open requests and drains the
/// producer.
///
/// `on_bound` gets the bound address, which settings with port 0 leave open.
///
/// # Errors
/// [`GatewayError`]; nothing is bound before settings and topics were found right.
pub async fn run(
    settings: Settings,
    resources: Resources,
    shutdown: Shutdown,
    on_bound: Option<oneshot::Sender<SocketAddr>>,
) -> Result<(), GatewayError> {
    // A child: when a part of the gateway dies, its other parts end, and nobody else's.
    let shutdown = shutdown.child();
    let address = settings.listen;
    let drain = settings.drain_timeout.0;
    let limits = Limits {
        connections: settings.max_connections.get(),
        header_timeout: settings.header_timeout.0,
    };
    let gateway = Gateway::build(settings, resources).await?;
    let (listener, bound) = bind(address)
        .await
        .map_err(|source| GatewayError::Bind { address, source })?;
    let instruments = gateway.inner.instruments.clone();
    let server = Server::new(listener, router(gateway.clone()), &limits, instruments);
    gateway.probe_once().await;
    gateway.inner.health.set("gateway", Ok(()));
    tracing::info!(%bound, log = gateway.inner.cluster.describe(), "gateway listens");
    if let Some(on_bound) = on_bound
        && on_bound.send(bound).is_err()
    {
        tracing::debug!("nobody waits for the bound address");
    }
    let mut probes = Tasks::new();
    probes.spawn("gateway probe", gateway.clone().probe(shutdown.clone()));
    gateway.start_polls(&mut probes, &shutdown);
    let served = server.run(shutdown.clone(), drain).await;
    // The server also ends when a connection's task died: then the probe must end, too, and the
    // records of other requests still deserve their drain.
    shutdown.request();
    gateway
        .inner
        .health
        .set("gateway", Err("draining".to_owned()));
    let left = served.as_ref().map_or(drain, |drained| drained.left);
    let records = gateway.inner.producer.drain(left).await.err().unwrap_or(0);
    probes.join().await?;
    let connections = served?.connections_cut;
    tracing::info!(connections, records, "gateway drained");
    if connections + records > 0 {
        return Err(GatewayError::DrainMissed {
            connections,
            records,
        });
    }
    Ok(())
}

impl Gateway {
    async fn probe(self, shutdown: Shutdown) -> Result<(), Infallible> {
        loop {
            // Both branches are cancel safe.
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                () = sleep(self.inner.settings.probe_interval.0) => self.probe_once().await,
            }
        }
    }

    /// Asks Kafka and the store whether they answer. Without the store only look-ups fail.
    async fn probe_once(&self) {
        let inner = &self.inner;
        let patience = inner.settings.probe_interval.0;
        let kafka = inner.cluster.ping(patience).await;
        inner
            .health
            .set("gateway.kafka", kafka.map_err(|e| e.to_string()));
        let Some(store) = &inner.store else {
            return;
        };
        let answer = match timeout(patience, store.ping()).await {
            Ok(answer) => answer.map_err(|e| e.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        inner.degraded.set("gateway.store", answer);
    }
}
