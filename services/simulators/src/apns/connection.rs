//! One connection: TLS, frames, answers. Everything in the order of reading.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use httlib_hpack::Decoder;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::device_path;
use super::frames::{self, Broken, Frame};
use super::plan::Plan;
use super::request::{Content, Refusal, Request};
use super::state::{Apns, Command, count};
use crate::faults::{Act, share};
use crate::recorder::{Arrived, Ticket};
use crate::server::Server;

/// Bytes read at once.
const READ: usize = 64 * 1_024;
/// Room given back to the client in pieces of this size.
const WINDOW: u32 = 1 << 20;
/// Bytes of a request's body that are kept; more is too long for every limit.
const BODY: usize = 8 * 1_024;
/// How long a client may take to close after an orderly end.
const LINGER: Duration = Duration::from_secs(5);
/// Purpose of the random share that refuses streams, beside those of the fault plan.
const REFUSE: u64 = 2;

/// Why a connection ended before the client closed it.
#[derive(Debug, Error)]
enum Ended {
    #[error("the client broke the protocol")]
    Broken,
    #[error("cut by the plan")]
    Cut,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<Broken> for Ended {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

/// What is known of a stream.
enum Stream {
    /// Its request is still read.
    Reading(Box<Request>, Vec<u8>),
    /// Its answer is due, or never comes.
    Answering,
}

/// An answer that waits for its time. Ordered by time, then by the order of reading.
struct Due {
    at: Instant,
    stream: u32,
    apns_id: String,
    outcome: Option<Refusal>,
    ticket: Ticket,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.stream) == (other.at, other.stream)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.stream).cmp(&(other.at, other.stream))
    }
}

/// A connection's state.
struct Connection {
    server: Arc<Server>,
    apns: Arc<Apns>,
    plan: Arc<Plan>,
    number: u64,
    out: Vec<u8>,
    lines: Vec<String>,
    decoder: Decoder<'static>,
    /// A header block that is not whole: its stream, whether the request ends with it, its bytes.
    block: Option<(u32, bool, Vec<u8>)>,
    streams: HashMap<u32, Stream>,
    /// The highest stream there was, and the highest whose request was read whole.
    highest: u32,
    whole: u32,
    due: BinaryHeap<Reverse<Due>>,
    /// Bodies that wait for the client's window.
    blocked: VecDeque<(u32, String)>,
    send_window: i64,
    consumed: u32,
    requests: u64,
    /// The limit of each SETTINGS frame that is not acknowledged, the oldest first.
    announced: VecDeque<u32>,
    /// The last limit that was said.
    limit: u32,
    /// The last limit that was acknowledged.
    acknowledged: u32,
    certificate: bool,
    proved: bool,
    /// An expired token makes a connection unusable. [R: pushy]
    wedged: bool,
    /// The value of `authorization` that was judged last and was right, and until when it is, in
    /// epoch milliseconds.
    trusted: String,
    trusted_until_ms: u64,
    last_stream: Option<u32>,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    server: Arc<Server>,
    apns: Arc<Apns>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let acceptor = TlsAcceptor::from(Arc::clone(&apns.tls));
    let tls = match acceptor.accept(stream).await {
        Ok(tls) => tls,
        Err(error) => {
            count(&apns.counters.handshakes_failed);
            tracing::debug!(%error, %peer, "TLS handshake");
            return;
        }
    };
    let certificate = tls.get_ref().1.peer_certificates().is_some();
    let number = apns
        .counters
        .connections_total
        .fetch_add(1, Ordering::Relaxed);
    count(&apns.counters.connections);
    let open = Open(Arc::clone(&apns));
    let plan = apns.plan();
    let connection = Connection::new(server, apns, plan, number, certificate);
    if let Err(error) = connection.run(tls).await {
        tracing::debug!(%error, %peer, "connection ended");
    }
    drop(open);
}

/// Counts a connection for as long as it lives.
struct Open(Arc<Apns>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    fn new(
        server: Arc<Server>,
        apns: Arc<Apns>,
        plan: Arc<Plan>,
        number: u64,
        certificate: bool,
    ) -> Self {
        // The default table; nothing larger is announced.
        let decoder = Decoder::with_dynamic_size(4_096);
        Self {
            server,
            apns,
            plan,
            number,
            out: Vec::with_capacity(READ),
            lines: Vec::new(),
            decoder,
            block: None,
            streams: HashMap::new(),
            highest: 0,
            whole: 0,
            due: BinaryHeap::new(),
            blocked: VecDeque::new(),
            send_window: 65_535,
            consumed: 0,
            requests: 0,
            announced: VecDeque::new(),
            limit: 0,
            // Until our first SETTINGS are acknowledged a client may not know any limit.
            acknowledged: u32::MAX,
            certificate,
            proved: certificate,
            wedged: false,
            trusted: String::new(),
            trusted_until_ms: 0,
            last_stream: None,
        }
    }

    async fn run<T: AsyncRead + AsyncWrite + Unpin>(mut self, mut io: T) -> Result<(), Ended> {
        let mut preface = [0; frames::PREFACE.len()];
        io.read_exact(&mut preface).await?;
        if preface != *frames::PREFACE {
            return Err(Ended::Broken);
        }
        self.announce();
        frames::window_update(&mut self.out, 0, WINDOW);
        let mut plans = self.apns.watch_plan();
        let mut commands = self.apns.commands();
        let mut read = BytesMut::with_capacity(READ);
        let leaves = match self.plan.goaway_every_ms {
            0 => None,
            ms => Some(Instant::now() + Duration::from_millis(ms)),
        };
        loop {
            self.flush(&mut io).await?;
            let idle = self.streams.is_empty() || self.plan.goaway_abrupt;
            if self.last_stream.is_some() && idle {
                io.shutdown().await?;
                linger(&mut io).await;
                return Ok(());
            }
            read.reserve(READ);
            let next = self.due.peek().map(|Reverse(due)| due.at);
            tokio::select! {
                // All branches are cancel safe.
                biased;
                told = commands.recv() => match told {
                    Ok(Command::GoAway) => self.go_away(),
                    Ok(Command::Freeze) => return std::future::pending().await,
                    Ok(Command::Cut) => return Err(Ended::Cut),
                    Err(_lagged) => {}
                },
                changed = plans.changed() => if changed.is_ok() {
                    self.plan = Arc::clone(&plans.borrow_and_update());
                    self.announce();
                },
                () = at(next), if next.is_some() => self.answer_due(),
                () = at(leaves), if leaves.is_some() && self.last_stream.is_none() => self.go_away(),
                n = io.read_buf(&mut read) => {
                    if n? == 0 {
                        return Ok(());
                    }
                    self.take(&mut read)?;
                }
            }
        }
    }

    /// Writes what is ready, the log's lines first.
    async fn flush<T: AsyncWrite + Unpin>(&mut self, io: &mut T) -> Result<(), Ended> {
        for line in self.lines.drain(..) {
            self.server.log(line).await;
        }
        if !self.out.is_empty() {
            io.write_all(&self.out).await?;
            io.flush().await?;
            self.out.clear();
        }
        Ok(())
    }

    /// Says the limit of streams that holds now, when it is another one.
    fn announce(&mut self) {
        let limit = if self.proved {
            self.plan.streams
        } else {
            self.plan.streams_before_proof
        };
        self.say_limit(limit);
    }

    fn say_limit(&mut self, limit: u32) {
        if limit != self.limit {
            self.limit = limit;
            self.announced.push_back(limit);
            frames::settings(&mut self.out, limit);
        }
    }

    fn take(&mut self, read: &mut BytesMut) -> Result<(), Ended> {
        loop {
            match frames::next(read) {
                Ok(Some(frame)) => self.frame(&frame)?,
                Ok(None) => break,
                Err(broken) => return Err(broken.into()),
            }
        }
        if self.consumed >= WINDOW / 2 {
            frames::window_update(&mut self.out, 0, self.consumed);
            self.consumed = 0;
        }
        // Without any delay the answers are due already: no turn of the timer is needed.
        self.answer_due();
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), Ended> {
        if self.block.is_some() && frame.kind != frames::CONTINUATION {
            return Err(Ended::Broken);
        }
        match frame.kind {
            frames::HEADERS => {
                let piece = frame.content()?;
                self.headers(frame, piece)
            }
            frames::CONTINUATION => self.continuation(frame),
            frames::DATA => self.data(frame),
            frames::RST_STREAM => {
                if self.streams.remove(&frame.stream).is_some() {
                    count(&self.apns.counters.cancelled);
                }
                Ok(())
            }
            frames::SETTINGS if frame.is_ack() => {
                if let Some(limit) = self.announced.pop_front() {
                    self.acknowledged = limit;
                }
                Ok(())
            }
            frames::SETTINGS => {
                frames::settings_ack(&mut self.out);
                Ok(())
            }
            frames::PING if !frame.is_ack() => {
                count(&self.apns.counters.pings);
                frames::pong(&mut self.out, &frame.payload);
                Ok(())
            }
            frames::WINDOW_UPDATE => {
                self.window(frame);
                Ok(())
            }
            // The client leaves: it gets its answers and closes.
            _ => Ok(()),
        }
    }

    fn window(&mut self, frame: &Frame) {
        let Some(bytes) = frame.payload.first_chunk::<4>() else {
            return;
        };
        if frame.stream == 0 {
            self.send_window += i64::from(u32::from_be_bytes(*bytes) & 0x7fff_ffff);
            while let Some((stream, body)) = self.blocked.pop_front() {
                if !self.write_body(stream, &body) {
                    self.blocked.push_front((stream, body));
                    return;
                }
            }
        }
    }

    fn headers(&mut self, frame: &Frame, piece: Bytes) -> Result<(), Ended> {
        if frame.stream == 0 || frame.stream.is_multiple_of(2) {
            return Err(Ended::Broken);
        }
        if frame.ends_headers() {
            self.open(frame.stream, frame.ends_stream(), piece.to_vec())
        } else {
            self.block = Some((frame.stream, frame.ends_stream(), piece.to_vec()));
            Ok(())
        }
    }

    fn continuation(&mut self, frame: &Frame) -> Result<(), Ended> {
        let Some((stream, ends, mut block)) = self.block.take() else {
            return Err(Ended::Broken);
        };
        if stream != frame.stream {
            return Err(Ended::Broken);
        }
        block.extend_from_slice(&frame.payload);
        if frame.ends_headers() {
            self.open(stream, ends, block)
        } else {
            self.block = Some((stream, ends, block));
            Ok(())
        }
    }

    /// A new stream with its headers. They must be decoded whatever becomes of the stream: the
    /// compression's table belongs to the connection.
    fn open(&mut self, stream: u32, ends: bool, mut block: Vec<u8>) -> Result<(), Ended> {
        let mut request = Box::<Request>::default();
        let mut headers = Vec::new();
        let decoded = self.decoder.decode(&mut block, &mut headers);
        for (name, value, _) in &headers {
            request.take(name, value);
        }
        if decoded.is_err() || stream <= self.highest {
            frames::goaway(&mut self.out, self.highest, frames::PROTOCOL_ERROR, b"");
            return Err(Ended::Broken);
        }
        if self.last_stream.is_some() {
            count(&self.apns.counters.ignored);
            return Ok(());
        }
        self.highest = stream;
        if self.streams.len() >= self.acknowledged as usize {
            count(&self.apns.counters.violations);
            frames::reset(&mut self.out, stream, frames::REFUSED_STREAM);
            return Ok(());
        }
        if self.plan.refuse_ratio > 0.0 {
            let n = (self.number << 32) | u64::from(stream);
            if share(self.server.faults().seed, n, REFUSE) < self.plan.refuse_ratio {
                count(&self.apns.counters.refused);
                frames::reset(&mut self.out, stream, frames::REFUSED_STREAM);
                return Ok(());
            }
        }
        if ends {
            self.streams.insert(stream, Stream::Answering);
            return self.request(stream, *request, &[]);
        }
        self.streams
            .insert(stream, Stream::Reading(request, Vec::new()));
        let most = self.streams.len() as u64;
        self.apns
            .counters
            .most_streams
            .fetch_max(most, Ordering::Relaxed);
        Ok(())
    }

    fn data(&mut self, frame: &Frame) -> Result<(), Ended> {
        let length = u32::try_from(frame.payload.len()).unwrap_or(u32::MAX);
        self.consumed = self.consumed.saturating_add(length);
        let piece = frame.content()?;
        let Some(Stream::Reading(_, body)) = self.streams.get_mut(&frame.stream) else {
            return Ok(());
        };
        let whole = body.is_empty() && frame.ends_stream();
        if !whole && body.len() <= BODY {
            body.extend_from_slice(&piece);
        }
        if !frame.ends_stream() {
            // The stream's own window: bodies that fit never need more.
            return Ok(());
        }
        let Some(Stream::Reading(request, body)) =
            self.streams.insert(frame.stream, Stream::Answering)
        else {
            return Ok(());
        };
        let body = if whole { piece } else { Bytes::from(body) };
        self.request(frame.stream, *request, &body)
    }

    /// A request that was read whole.
    fn request(&mut self, stream: u32, request: Request, body: &[u8]) -> Result<(), Ended> {
        self.requests += 1;
        self.whole = self.whole.max(stream);
        if !self.proved {
            count(&self.apns.counters.unproved);
        }
        let content: Content<'_> = serde_json::from_slice(body).unwrap_or_default();
        let identity = content.identity();
        let path = device_path(request.device());
        let arrived = Arrived {
            delivery_id: &request.id,
            event_id: identity.event_id,
            sender: identity.sender,
            path: &path,
            seq: identity.seq,
            worker: &request.worker,
            attempt: request.attempt,
        };
        let (ticket, line) = self.server.record(&arrived);
        self.lines.extend(line);
        let decision = self
            .server
            .faults()
            .decide(ticket.n, &path, request.attempt);
        let outcome = match decision.act {
            Act::Reset => return Err(Ended::Cut),
            Act::Hang => return Ok(()),
            Act::Fail(status) => Some(Refusal::new(status, word(status))),
            Act::Throttle(_) => Some(Refusal::new(429, "TooManyRequests")),
            Act::Answer => self.judge(&request, body, ticket.read_us / 1_000),
        };
        self.due.push(Reverse(Due {
            at: Instant::now() + decision.delay,
            stream,
            apns_id: request.id,
            outcome,
            ticket,
        }));
        let every = self.plan.goaway_every_requests;
        if every > 0 && self.requests.is_multiple_of(every) {
            self.go_away();
        }
        Ok(())
    }

    /// What Apple would answer; none is 200.
    fn judge(&mut self, request: &Request, body: &[u8], now_ms: u64) -> Option<Refusal> {
        if self.wedged {
            return Some(Refusal::new(403, "ExpiredProviderToken"));
        }
        let by_token = !self.certificate || !request.authorization.is_empty();
        let trusted = self.trusted == request.authorization
            && now_ms < self.trusted_until_ms
            && self.plan.tokens_expired_before == 0;
        if by_token && !trusted {
            match self.apns.judge(&request.authorization, &self.plan, now_ms) {
                Ok(until_ms) => {
                    self.trusted.clone_from(&request.authorization);
                    self.trusted_until_ms = until_ms;
                }
                Err(refusal) => {
                    self.wedged = refusal.reason == "ExpiredProviderToken";
                    return Some(refusal);
                }
            }
        }
        if !self.proved {
            self.proved = true;
            self.announce();
        }
        let refusal = request.fault(body, &self.plan).or_else(|| {
            let admitted = self.apns.admit(request.device(), &self.plan, now_ms);
            admitted.err()
        });
        if self.plan.shrink_on_refusal {
            let limit = match refusal {
                Some(_) => self.plan.streams_before_proof,
                None => self.plan.streams,
            };
            self.say_limit(limit);
        }
        refusal
    }

    /// Writes the answers whose time has come.
    fn answer_due(&mut self) {
        let now = Instant::now();
        while let Some(Reverse(due)) = self.due.peek() {
            if due.at > now {
                return;
            }
            let Some(Reverse(due)) = self.due.pop() else {
                return;
            };
            // A client that has reset the stream gets nothing.
            if self.streams.remove(&due.stream).is_none() {
                continue;
            }
            let status = due.outcome.map_or(200, |refusal| refusal.status);
            let body = due
                .outcome
                .map_or_else(String::new, |refusal| refusal.body());
            let ends = body.is_empty();
            frames::answer(&mut self.out, due.stream, status, &due.apns_id, ends);
            if !ends && !self.write_body(due.stream, &body) {
                self.blocked.push_back((due.stream, body));
            }
            self.server.recorder().answered(due.ticket, status);
        }
    }

    /// False when the client's window has no room.
    fn write_body(&mut self, stream: u32, body: &str) -> bool {
        let length = i64::try_from(body.len()).unwrap_or(i64::MAX);
        if self.send_window < length {
            return false;
        }
        self.send_window -= length;
        frames::data(&mut self.out, stream, body.as_bytes());
        true
    }

    fn go_away(&mut self) {
        if self.last_stream.is_some() {
            return;
        }
        count(&self.apns.counters.goaways);
        // What was not read whole by now is not processed, and not read any further.
        let last = self.whole;
        self.streams.retain(|stream, _| *stream <= last);
        self.last_stream = Some(last);
        let debug = match self.plan.goaway_reason.as_str() {
            "" => String::new(),
            reason => format!(r#"{{"reason":"{reason}"}}"#),
        };
        frames::goaway(&mut self.out, last, frames::NO_ERROR, debug.as_bytes());
    }
}

/// Reads what still comes until the client closes: a socket that is closed with unread bytes takes the
/// answers and the GOAWAY before it with it.
async fn linger<T: AsyncRead + Unpin>(io: &mut T) {
    let drained = async {
        let mut rest = [0; 4_096];
        while io.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    };
    if timeout(LINGER, drained).await.is_err() {
        tracing::debug!("a client does not close after GOAWAY");
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Apple's word for a status of the fault plan.
const fn word(status: u16) -> &'static str {
    match status {
        500 => "InternalServerError",
        503 => "ServiceUnavailable",
        _ => "",
    }
}
