//! Connections: bounded, timed, and closed in order.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bongsu_runtime::{Shutdown, TaskDied, Tasks};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower::ServiceExt as _;

use crate::metrics::Instruments;

/// How long to leave the listener alone after it failed (out of file descriptors, usually).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Room for the headers of a request over HTTP/1.
const HEADER_BYTES: usize = 64 * 1024;
/// Requests at once on a connection over HTTP/2.
const STREAMS: u32 = 256;

/// Who is connected, beside each request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What the server holds to.
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) header_timeout: Duration,
}

/// How serving ended.
pub(crate) struct Drained {
    /// Connections still open at the deadline.
    pub(crate) connections_cut: usize,
    /// What is left of the time to drain.
    pub(crate) left: Duration,
}

pub(crate) struct Server {
    listener: TcpListener,
    router: Router,
    builder: Arc<Builder<TokioExecutor>>,
    header_timeout: Duration,
    slots: Arc<Semaphore>,
    instruments: Instruments,
}

impl Server {
    pub(crate) fn new(
        listener: TcpListener,
        router: Router,
        limits: &Limits,
        instruments: Instruments,
    ) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(HEADER_BYTES)
            .keep_alive(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(limits.header_timeout)
            .keep_alive_timeout(limits.header_timeout);
        Self {
            listener,
            router,
            builder: Arc::new(builder),
            header_timeout: limits.header_timeout,
            slots: Arc::new(Semaphore::new(limits.connections)),
            instruments,
        }
    }

    /// Serves until `shutdown`, then lets open requests finish.
    pub(crate) async fn run(
        self,
        shutdown: Shutdown,
        drain: Duration,
    ) -> Result<Drained, TaskDied> {
        let mut connections = Tasks::new();
        loop {
            // All branches are cancel safe: a permit or an ended task that is lost with its branch
            // is given back or seen on the next turn.
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                Some(ended) = connections.next() => { ended?; }
                accepted = self.accept() => {
                    if let Some((stream, slot)) = accepted {
                        connections.spawn("connection", self.serve(stream, slot, shutdown.clone()));
                    }
                }
            }
        }
        let deadline = Instant::now() + drain;
        drop(self.listener);
        while let Ok(Some(ended)) = timeout_at(deadline, connections.next()).await {
            ended?;
        }
        Ok(Drained {
            connections_cut: connections.len(),
            left: deadline.saturating_duration_since(Instant::now()),
        })
    }

    async fn accept(&self) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        // First the slot: without one, new connections wait in the kernel's backlog.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, _)) => Some((stream, slot)),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }

    fn serve(
        &self,
        stream: TcpStream,
        slot: OwnedSemaphorePermit,
        shutdown: Shutdown,
    ) -> impl Future<Output = Result<(), Infallible>> + Send + 'static {
        let builder = Arc::clone(&self.builder);
        let router = self.router.clone();
        let patience = self.header_timeout;
        let open = Open::new(self.instruments.clone());
        async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
            let peer = stream.peer_addr().ok().map(|address| Peer(address.ip()));
            let begun = Arc::new(Notify::new());
            let begins = Arc::clone(&begun);
            let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                begins.notify_one();
                let mut request = request.map(Body::new);
                if let Some(peer) = peer {
                    request.extensions_mut().insert(peer);
                }
                router.clone().oneshot(request)
            });
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = shutdown.requested() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
                () = silent(&begun, patience) => {
                    tracing::debug!("a connection brought no request in time");
                    return Ok(());
                }
            };
            if let Err(error) = ended {
                // A client that went away, or spoke no HTTP: its business, not ours.
                tracing::debug!(%error, "connection");
            }
            drop((slot, open));
            Ok(())
        }
    }
}

/// Ends when a connection's first request has not begun within `patience`; never once it has. The
/// timer of the headers starts only when the version of HTTP is known, which takes bytes that may
/// never come.
async fn silent(begun: &Notify, patience: Duration) {
    if timeout(patience, begun.notified()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Counts a connection while it lives.
struct Open(Instruments);

impl Open {
    fn new(instruments: Instruments) -> Self {
        instruments.connections(1);
        Self(instruments)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections(-1);
    }
}

/// Binds the address.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}
