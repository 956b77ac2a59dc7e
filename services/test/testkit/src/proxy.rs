//! A TCP proxy that breaks the network on request: cut, silent without a reset, slow, narrow, reset
//! after so many bytes.
//!
//! Owns the connections that pass through it. Rules may change at any time and hold for bytes that
//! are already on their way. Dropping the proxy closes everything. Called by tests and drills that
//! stand it between two processes: a service and Kafka, a provider or a database.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Connections waiting to be accepted.
const BACKLOG: u32 = 8_192;
/// Bytes carried at once.
const CHUNK: usize = 16 * 1024;
/// Chunks on their way in one direction; bounds what a delay can hold.
const UNDER_WAY: usize = 256;

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Passage {
    /// They pass.
    #[default]
    Open,
    /// Every connection is reset, and so is every new one.
    Cut,
    /// Nothing passes and nobody is told: connections stay open, new ones are accepted, all are
    /// silent. When the passage opens again, what was held goes on.
    Silent,
}

/// The rules in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Whether bytes pass at all.
    pub passage: Passage,
    /// How much later every byte arrives, in each direction.
    pub delay: Duration,
    /// Bytes per second of each connection and direction; no limit without.
    pub bytes_per_second: Option<u64>,
    /// A connection is reset once its client has sent so many bytes (they still pass).
    pub reset_after: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    rules: Rules,
    /// Connections born before this number are silent for ever.
    frozen_before: u64,
}

/// A running proxy in front of one address.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    born: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
    to_clients: Arc<AtomicU64>,
    _accepting: JoinSet<()>,
}

impl FaultProxy {
    /// Listens on any free port of the loopback interface and leads to `target`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        Self::bind(SocketAddr::from(([127, 0, 0, 1], 0)), target)
    }

    /// Listens on `listen` and leads to `target`. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub fn bind(listen: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(listen)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let (state, follow) = watch::channel(State::default());
        let born = Arc::new(AtomicU64::new(0));
        let open = Arc::new(AtomicUsize::new(0));
        let to_clients = Arc::new(AtomicU64::new(0));
        let mut accepting = JoinSet::new();
        let accept = Accept {
            listener,
            target,
            state: follow,
            born: Arc::clone(&born),
            open: Arc::clone(&open),
            to_clients: Arc::clone(&to_clients),
        };
        accepting.spawn(accept.run());
        Ok(Self {
            address,
            state,
            born,
            open,
            to_clients,
            _accepting: accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the rules, for bytes under way too.
    pub fn set(&self, rules: Rules) {
        self.state.send_modify(|state| state.rules = rules);
    }

    /// Makes every connection of this moment silent for ever, without a reset; new ones pass. What a
    /// load balancer does that forgets its idle connections.
    pub fn freeze(&self) {
        let next = self.born.load(Ordering::Acquire);
        self.state.send_modify(|state| state.frozen_before = next);
    }

    /// Bytes that clients have been given so far, over all connections.
    #[must_use]
    pub fn bytes_to_clients(&self) -> u64 {
        self.to_clients.load(Ordering::Relaxed)
    }

    /// Connections open at this moment.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }
}

struct Accept {
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Receiver<State>,
    born: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
    to_clients: Arc<AtomicU64>,
}

impl Accept {
    async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // Both branches are cancel safe.
                accepted = self.listener.accept() => {
                    // Out of descriptors, most likely: the next end of a connection mends it.
                    let Ok((client, _)) = accepted else {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        continue;
                    };
                    let line = Line {
                        birth: self.born.fetch_add(1, Ordering::AcqRel),
                        state: self.state.clone(),
                        to_clients: Arc::clone(&self.to_clients),
                    };
                    let open = Opened::count(&self.open);
                    connections.spawn(line.connect(client, self.target, open));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Counts a connection for as long as it lives.
struct Opened(Arc<AtomicUsize>);

impl Opened {
    fn count(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(open))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One connection's view of the rules.
#[derive(Clone)]
struct Line {
    birth: u64,
    state: watch::Receiver<State>,
    to_clients: Arc<AtomicU64>,
}

/// What one direction carries.
enum Piece {
    /// Bytes, and when they are due on the other side.
    Bytes(Instant, Vec<u8>),
    /// This side has finished.
    End,
    /// The rules want a reset once everything before has passed.
    Reset,
}

impl Line {
    async fn connect(mut self, client: TcpStream, target: SocketAddr, open: Opened) {
        // A cut resets at once; a silent proxy does not even call the target.
        let mut cut = self.clone();
        let established = tokio::select! {
            () = cut.until_cut() => None,
            server = async {
                self.until_open().await;
                TcpStream::connect(target).await.ok()
            } => server,
        };
        let Some(server) = established else {
            reset(&client);
            return;
        };
        // Nothing depends on either: a delayed segment is no fault of the rules.
        let set = client
            .set_nodelay(true)
            .and_then(|()| server.set_nodelay(true));
        drop(set);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let broken = watch::Sender::new(false);
        tokio::join!(
            self.clone().pump(from_client, to_server, &broken, true),
            self.clone().pump(from_server, to_client, &broken, false),
        );
        drop(open);
    }

    /// Carries one direction to its end, or until the other one is broken.
    async fn pump(
        mut self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        broken: &watch::Sender<bool>,
        client_side: bool,
    ) {
        let mut other = broken.subscribe();
        let (send, receive) = mpsc::channel(UNDER_WAY);
        let (reading, writing) = (self.clone(), self.clone());
        let carried = tokio::select! {
            () = self.until_cut() => Err(io::ErrorKind::ConnectionReset.into()),
            () = or_for_ever(other.wait_for(|broken| *broken)) => {
                Err(io::ErrorKind::ConnectionReset.into())
            }
            carried = async {
                tokio::try_join!(
                    reading.read(&mut from, send, client_side),
                    writing.write(&mut to, receive, client_side),
                )
            } => carried.map(drop),
        };
        if carried.is_err() {
            broken.send_replace(true);
            reset(from.as_ref());
            reset(to.as_ref());
            // Without the orderly end that a dropped half announces.
            to.forget();
        }
    }

    async fn read(
        mut self,
        from: &mut OwnedReadHalf,
        send: mpsc::Sender<Piece>,
        client_side: bool,
    ) -> io::Result<()> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let mut carried = 0_u64;
        loop {
            let mut bytes = vec![0; CHUNK];
            let n = from.read(&mut bytes).await?;
            if n == 0 {
                return send.send(Piece::End).await.map_err(gone);
            }
            bytes.truncate(n);
            carried += n as u64;
            self.until_open().await;
            let rules = self.rules();
            let due = Instant::now() + rules.delay;
            send.send(Piece::Bytes(due, bytes)).await.map_err(gone)?;
            let limit = rules.reset_after.filter(|_| client_side);
            if limit.is_some_and(|limit| carried >= limit) {
                return send.send(Piece::Reset).await.map_err(gone);
            }
        }
    }

    async fn write(
        mut self,
        to: &mut OwnedWriteHalf,
        mut receive: mpsc::Receiver<Piece>,
        client_side: bool,
    ) -> io::Result<()> {
        while let Some(piece) = receive.recv().await {
            match piece {
                Piece::Bytes(due, bytes) => {
                    tokio::time::sleep_until(due).await;
                    self.until_open().await;
                    to.write_all(&bytes).await?;
                    if !client_side {
                        let n = bytes.len() as u64;
                        self.to_clients.fetch_add(n, Ordering::Relaxed);
                    }
                    if let Some(rate) = self.rules().bytes_per_second {
                        let micros = (bytes.len() as u64).saturating_mul(1_000_000) / rate.max(1);
                        tokio::time::sleep(Duration::from_micros(micros)).await;
                    }
                }
                Piece::End => break,
                Piece::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
        self.until_open().await;
        to.shutdown().await
    }

    fn rules(&self) -> Rules {
        self.state.borrow().rules
    }

    /// Resolves when bytes may pass.
    async fn until_open(&mut self) {
        let birth = self.birth;
        let open = self
            .state
            .wait_for(|state| state.rules.passage == Passage::Open && birth >= state.frozen_before);
        or_for_ever(open).await;
    }

    /// Resolves when the connection must be reset.
    async fn until_cut(&mut self) {
        or_for_ever(
            self.state
                .wait_for(|state| state.rules.passage == Passage::Cut),
        )
        .await;
    }
}

/// Waits; when the proxy is gone, for ever: its tasks are aborted.
async fn or_for_ever<T, E>(wait: impl Future<Output = Result<T, E>>) {
    if wait.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The next close of this socket is a reset.
fn reset(stream: &TcpStream) {
    // A socket that is gone already needs none.
    drop(stream.set_zero_linger());
}
