//! The I/O of every simulator: accepts, reads whole, records, lets the twin and the fault plan
//! decide, waits, answers.

use std::any::Any;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bongsu_runtime::{Shutdown, Tasks};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use thiserror::Error;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::bucket::Level;
use crate::control;
use crate::faults::{Act, Decision, Faults};
use crate::line::Lines;
use crate::recorder::{Arrived, Recorder, Seen, Ticket};
use crate::streams::{StreamCounts, Watched};
use crate::words::Words;

/// Bytes of a request that are read; more is answered 413. Providers take far less.
const REQUEST_LIMIT: usize = 4 * 1024 * 1024;

/// Bytes of a control request: a list of some millions of expected deliveries.
const CONTROL_LIMIT: usize = 512 * 1024 * 1024;

/// Lines waiting for the log; a full queue slows the answers down instead of losing lines.
const LOG_QUEUE: usize = 8_192;

/// Requests of one HTTP/2 connection at a time, unless the provider takes fewer.
const STREAMS: u32 = 4_096;

pub(crate) type Answer = Response<Full<Bytes>>;

/// Serves one TLS connection whole.
pub(crate) type OwnTls = Box<
    dyn FnOnce(Arc<Server>, TcpStream, SocketAddr) -> Pin<Box<dyn Future<Output = ()> + Send>>
        + Send,
>;

/// Serves one connection in which the server speaks first.
pub(crate) type SpeaksFirst = Box<
    dyn Fn(Arc<Server>, TcpStream, SocketAddr) -> Pin<Box<dyn Future<Output = ()> + Send>>
        + Send
        + Sync,
>;

/// What is specific to one provider.
pub(crate) trait Twin: Any + Send + Sync {
    /// Whether the request is one of this provider's API; others are answered 404 unrecorded.
    fn serves(&self, parts: &Parts) -> bool;

    /// Answers what is part of the API but sends nothing, unrecorded.
    fn aside(&self, _parts: &Parts, _now_us: u64) -> Option<Answer> {
        None
    }

    /// Answers control requests of its own, below `/_sim/`.
    fn control(&self, _parts: &Parts, _body: &[u8]) -> Option<Answer> {
        None
    }

    /// Paths of its own JSON that tell its state and its plan, for the page.
    fn shows(&self) -> &'static [&'static str] {
        &[]
    }

    /// Takes TLS connections over from their first byte on; by default the server speaks TLS with
    /// HTTP/1.1 and HTTP/2 in them, as it does without TLS.
    fn own_tls(self: Arc<Self>) -> Option<OwnTls> {
        None
    }

    /// Silences its own connections; how many there were.
    fn freeze(&self) -> usize {
        0
    }

    /// Requests of one HTTP/2 connection at a time.
    fn streams(&self) -> u32 {
        STREAMS
    }

    /// Where streams are counted, of a provider that ends a connection with one too many; others
    /// refuse the stream.
    fn stream_counts(&self) -> Option<Arc<StreamCounts>> {
        None
    }

    /// What single addresses are answered, where the twin lets that be chosen.
    fn words(&self) -> Option<&Words> {
        None
    }

    /// Answers a request that [`Twin::identify`] did not record: one that sends nothing.
    fn unrecorded(&self, _parts: &Parts, _body: &[u8], _now_us: u64) -> Answer {
        plain(StatusCode::BAD_REQUEST)
    }

    /// Serves a port of its own for a protocol in which the server speaks first: on the common port
    /// a connection is told apart by what the client says.
    fn speaks_first(self: Arc<Self>) -> Option<SpeaksFirst> {
        None
    }

    /// Starts what it does by itself.
    fn start(self: Arc<Self>, _tasks: &mut Tasks, _shutdown: Shutdown) {}

    /// Reads what is recorded, and hands it to `record`: once, or once per recipient.
    fn identify(&self, parts: &Parts, body: &[u8], record: &mut dyn FnMut(&Arrived<'_>));

    /// What the provider answers, `act` being the fault plan's wish. Called right after the
    /// recording, before any delay.
    fn answer(&self, question: &Question<'_>, act: Act) -> Answer;
}

/// The statuses under which the recipients of one request are counted, in their order; beside an
/// answer (as its extension) whose own status does not speak for all of them.
#[derive(Debug, Clone)]
pub(crate) struct Statuses(pub(crate) Vec<u16>);

/// A request as the twin answers it.
pub(crate) struct Question<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) body: &'a [u8],
    pub(crate) peer: IpAddr,
    pub(crate) now_us: u64,
    pub(crate) faults: &'a Faults,
}

/// Ends a connection without an answer.
#[derive(Debug, Error)]
#[error("reset by the fault plan")]
pub(crate) struct Reset;

/// One simulator.
pub(crate) struct Server {
    twin: Arc<dyn Twin>,
    recorder: Recorder,
    faults: RwLock<Arc<Faults>>,
    level: Mutex<Level>,
    log: Option<mpsc::Sender<String>>,
    authority: Arc<str>,
    tls: TlsAcceptor,
    lines: Arc<Lines>,
}

/// How many requests a connection has brought, and the word to close it.
#[derive(Default)]
struct Brought {
    requests: AtomicU64,
    enough: Notify,
}

impl Server {
    pub(crate) fn new(
        twin: Arc<dyn Twin>,
        faults: Faults,
        log: Option<mpsc::Sender<String>>,
        authority: Arc<str>,
        tls: Arc<ServerConfig>,
    ) -> Self {
        Self {
            twin,
            recorder: Recorder::default(),
            faults: RwLock::new(Arc::new(faults)),
            level: Mutex::default(),
            log,
            authority,
            tls: TlsAcceptor::from(tls),
            lines: Arc::default(),
        }
    }

    /// Silences every present connection without closing it, as behind a load balancer that forgets
    /// idle ones; how many there were.
    pub(crate) fn freeze(&self) -> usize {
        self.lines.freeze() + self.twin.freeze()
    }

    /// The authority of its certificate, as PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Its side of TLS.
    pub(crate) const fn tls(&self) -> &TlsAcceptor {
        &self.tls
    }

    /// Records a request that was read whole; with its line for the log when there is one.
    pub(crate) fn record(&self, arrived: &Arrived<'_>) -> (Ticket, Option<String>) {
        let ticket = self.recorder.read(arrived);
        let line = self
            .log
            .is_some()
            .then(|| log_line(ticket.n, ticket.read_us, arrived));
        (ticket, line)
    }

    /// Writes a line into the log; waits while its queue is full.
    pub(crate) async fn log(&self, line: String) {
        if let Some(log) = &self.log
            && log.send(line).await.is_err()
        {
            tracing::error!("the log is closed");
        }
    }

    pub(crate) fn twin(&self) -> &dyn Twin {
        self.twin.as_ref()
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub(crate) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_faults(&self, faults: Faults) -> Result<(), String> {
        faults.validate()?;
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(faults);
        Ok(())
    }

    /// Accepts until the shutdown, then drops every connection.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: Shutdown,
    ) -> Result<(), Infallible> {
        let talk = |server: Arc<Self>, stream, peer| server.connection(stream, peer);
        self.accept(listener, shutdown, talk).await
    }

    /// As [`Server::serve`], for the port on which the server speaks first.
    pub(crate) async fn serve_first(
        self: Arc<Self>,
        listener: TcpListener,
        talk: SpeaksFirst,
        shutdown: Shutdown,
    ) -> Result<(), Infallible> {
        let talk = |server, stream: TcpStream, peer| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
            let talked = talk(server, stream, peer);
            async move {
                talked.await;
                Ok(())
            }
        };
        self.accept(listener, shutdown, talk).await
    }

    async fn accept<F>(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: Shutdown,
        talk: impl Fn(Arc<Self>, TcpStream, SocketAddr) -> F,
    ) -> Result<(), Infallible>
    where
        F: Future<Output = Result<(), Infallible>> + Send + 'static,
    {
        let mut connections = Tasks::new();
        loop {
            tokio::select! {
                // All branches are cancel safe.
                biased;
                () = shutdown.requested() => return Ok(()),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn("connection", talk(Arc::clone(&self), stream, peer));
                    }
                    Err(error) => {
                        // Out of file descriptors, most likely: closing connections mends it.
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(ended) = connections.next() => if let Err(died) = ended {
                    tracing::debug!(%died, "connection ended");
                },
            }
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Result<(), Infallible> {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        if !speaks_tls(&stream).await {
            self.talk(stream, peer).await;
        } else if let Some(own) = Arc::clone(&self.twin).own_tls() {
            own(self, stream, peer).await;
        } else {
            match self.tls.accept(stream).await {
                Ok(stream) => self.talk(stream, peer).await,
                Err(error) => tracing::debug!(%error, %peer, "TLS handshake"),
            }
        }
        Ok(())
    }

    /// HTTP/1.1 or HTTP/2 until the connection ends.
    async fn talk(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
    ) {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().pipeline_flush(true);
        builder.http2().max_concurrent_streams(self.twin.streams());
        let (counts, limit) = (self.twin.stream_counts(), self.twin.streams());
        let stream = Watched::new(self.lines.line(stream), counts, limit);
        let brought = Brought::default();
        let service = service_fn(|request| {
            let server = Arc::clone(&self);
            server.count(&brought);
            async move { server.serve_one(request, peer.ip()).await }
        });
        let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut enough = pin!(brought.enough.notified());
        let mut closing = false;
        let ended = loop {
            tokio::select! {
                // Both branches are cancel safe: neither future is dropped.
                ended = served.as_mut() => break ended,
                () = enough.as_mut(), if !closing => {
                    closing = true;
                    served.as_mut().graceful_shutdown();
                }
            }
        };
        if let Err(error) = ended {
            tracing::trace!(%error, "connection closed");
        }
    }

    /// Counts a request of a connection, which closes after the plan's number of them.
    fn count(&self, brought: &Brought) {
        let limit = self.faults().goaway_after;
        let n = brought.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if limit > 0 && n >= limit {
            brought.enough.notify_one();
        }
    }

    /// The plan's decision once its bucket was asked too.
    pub(crate) fn limited(&self, faults: &Faults, decision: Decision, now_us: u64) -> Act {
        let Some(bucket) = faults.bucket.as_ref().filter(|_| decision.bucketed) else {
            return decision.act;
        };
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if level.take(bucket, now_us) {
            decision.act
        } else {
            Act::Throttle(bucket.retry_after())
        }
    }

    async fn serve_one(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Answer, Reset> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        if path.starts_with("/_sim/") || path == "/healthz" {
            let Ok(body) = Limited::new(body, CONTROL_LIMIT).collect().await else {
                return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE));
            };
            return Ok(control::answer(self, parts, body.to_bytes()).await);
        }
        if let Some(answer) = self.twin.aside(&parts, self.recorder.now_us()) {
            return Ok(answer);
        }
        if !self.twin.serves(&parts) {
            return Ok(plain(StatusCode::NOT_FOUND));
        }
        // A request that breaks off was not read whole and is not recorded.
        let Ok(body) = Limited::new(body, REQUEST_LIMIT).collect().await else {
            return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE));
        };
        self.exchange(&parts, &body.to_bytes(), peer).await
    }

    async fn exchange(&self, parts: &Parts, body: &[u8], peer: IpAddr) -> Result<Answer, Reset> {
        let faults = self.faults();
        let mut tickets = Vec::new();
        let mut decided = None;
        let mut lines = Vec::new();
        self.twin.identify(parts, body, &mut |arrived| {
            let (ticket, written) = self.record(arrived);
            if decided.is_none() {
                decided = Some((
                    faults.decide(ticket.n, arrived.path, arrived.attempt),
                    ticket.read_us,
                ));
            }
            lines.extend(written);
            tickets.push(ticket);
        });
        let Some((decision, read_us)) = decided else {
            let now_us = self.recorder.now_us();
            return Ok(self.twin.unrecorded(parts, body, now_us));
        };
        let read_at = Instant::now();
        for line in lines {
            self.log(line).await;
        }
        let question = Question {
            parts,
            body,
            peer,
            now_us: read_us,
            faults: &faults,
        };
        let act = self.limited(&faults, decision, read_us);
        match act {
            Act::Reset => return Err(Reset),
            Act::Hang => return std::future::pending().await,
            Act::Answer | Act::Fail(_) | Act::Throttle(_) => {}
        }
        let answer = self.twin.answer(&question, act);
        if !decision.delay.is_zero() {
            tokio::time::sleep_until(read_at + decision.delay).await;
        }
        let statuses = answer.extensions().get::<Statuses>();
        for (i, ticket) in tickets.into_iter().enumerate() {
            let own = statuses.and_then(|s| s.0.get(i)).copied();
            let status = own.unwrap_or(answer.status().as_u16());
            self.recorder.answered(ticket, status);
        }
        if decision.lost && act == Act::Answer {
            return Err(Reset);
        }
        Ok(answer)
    }
}

/// Whether the client begins as TLS does; nothing is taken from the stream.
async fn speaks_tls(stream: &TcpStream) -> bool {
    /// The kind of a TLS record that holds a handshake.
    const HANDSHAKE: u8 = 22;
    let mut first = [0];
    stream.peek(&mut first).await.is_ok_and(|n| n == 1) && first == [HANDSHAKE]
}

fn log_line(n: u64, read_us: u64, arrived: &Arrived<'_>) -> String {
    let seen = Seen {
        n,
        read_us,
        answered_us: None,
        status: None,
        delivery_id: arrived.delivery_id,
        event_id: arrived.event_id,
        sender: arrived.sender,
        path: arrived.path,
        seq: arrived.seq,
        worker: arrived.worker,
        attempt: arrived.attempt,
    };
    let mut line = serde_json::to_string(&seen).unwrap_or_default();
    line.push('\n');
    line
}

/// Opens the log for appending and starts its writer, which ends when the last sender is dropped.
pub(crate) async fn open_log(
    path: &Path,
    tasks: &mut Tasks,
) -> Result<mpsc::Sender<String>, std::io::Error> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .await?;
    let (send, receive) = mpsc::channel(LOG_QUEUE);
    tasks.spawn("simulator log", write_log(file, receive));
    Ok(send)
}

async fn write_log(file: File, mut lines: mpsc::Receiver<String>) -> Result<(), std::io::Error> {
    let mut file = BufWriter::with_capacity(64 * 1024, file);
    while let Some(line) = lines.recv().await {
        file.write_all(line.as_bytes()).await?;
        // Flushed whenever nothing waits, so the file is as new as it can be without a system call
        // per line.
        if lines.is_empty() {
            file.flush().await?;
        }
    }
    file.flush().await
}

/// An answer without a body.
pub(crate) fn plain(status: StatusCode) -> Answer {
    with(status, HeaderMap::new(), Bytes::new())
}

/// An answer.
pub(crate) fn with(status: StatusCode, headers: HeaderMap, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// A header's text; empty when it is absent or no text.
pub(crate) fn header<'a>(parts: &'a Parts, name: &str) -> &'a str {
    parts
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
