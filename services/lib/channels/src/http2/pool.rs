//! The connections of one account, shared by all of its attempts.
//!
//! Memory: a few kilobytes per connection and what HTTP/2 buffers for the requests under way.
//! Dropping the pool closes every connection.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bongsu_runtime::Tasks;
use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::client::SendRequest;
use http::Request;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::connect::Target;
use super::drive::{Patience, live};
use super::exchange::{Answer, NoAnswer, Writing, exchange};
use super::slots::{Check, Choice, Rules, Slots};

/// How a pool behaves.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What the slots follow.
    pub rules: Rules,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the answer to a PING may take.
    pub ping_timeout: Duration,
}

#[derive(Clone)]
struct Handle {
    send: SendRequest<Bytes>,
    writing: Arc<Writing>,
    closing: Arc<Notify>,
}

/// What attempts, connections and the pool share.
pub(super) struct Shared {
    account: String,
    slots: Mutex<Slots<Handle>>,
    changed: Notify,
    random: AtomicU64,
}

/// The pool.
pub struct Pool {
    shared: Arc<Shared>,
    target: Target,
    patience: Patience,
    tasks: Mutex<Tasks>,
}

impl Pool {
    /// An empty pool; connections are opened when they are needed. `seed` spreads waits and
    /// addresses over the workers.
    #[must_use]
    pub fn new(account: &str, target: Target, limits: Limits, seed: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                account: account.to_owned(),
                slots: Mutex::new(Slots::new(limits.rules)),
                changed: Notify::new(),
                random: AtomicU64::new(seed),
            }),
            target,
            patience: Patience {
                connect: limits.connect_timeout,
                ping: limits.ping_timeout,
            },
            tasks: Mutex::new(Tasks::new()),
        }
    }

    /// Connections at this moment, those that end included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.slots().len()
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.slots().in_flight()
    }

    /// Tasks at this moment: one per connection, open or being opened.
    #[must_use]
    pub fn tasks(&self) -> usize {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        reap(&mut tasks);
        tasks.len()
    }

    /// The right to make one request on one connection. Waits for room until `deadline`; gives up
    /// at once when there is no connection and none may be tried yet.
    ///
    /// Cancel safe.
    pub async fn lease(&self, deadline: Instant) -> Option<Lease> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let choice = self.shared.slots().choose(Instant::now());
            match choice {
                Choice::Use {
                    id,
                    handle,
                    open_more,
                } => {
                    if open_more {
                        self.open();
                    }
                    return Some(Lease {
                        shared: Arc::clone(&self.shared),
                        id,
                        handle,
                    });
                }
                Choice::Open => self.open(),
                Choice::Wait => {}
                Choice::Down => return None,
            }
            timeout_at(deadline, changed).await.ok()?;
        }
    }

    fn open(&self) {
        let one = live(Arc::clone(&self.shared), self.target.clone(), self.patience);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        reap(&mut tasks);
        tasks.spawn("http2 connection", one.map(Ok::<(), Infallible>));
    }
}

/// Forgets the tasks that have ended.
fn reap(tasks: &mut Tasks) {
    while let Some(Some(ended)) = tasks.next().now_or_never() {
        if let Err(died) = ended {
            tracing::error!(%died, "a connection's task died");
        }
    }
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, Slots<Handle>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn account(&self) -> &str {
        &self.account
    }

    /// The next number of splitmix64.
    fn random(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut x = self.random.fetch_add(step, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn share(&self) -> f64 {
        let bits = u32::try_from(self.random() >> 32).unwrap_or(u32::MAX);
        f64::from(bits) / f64::from(u32::MAX)
    }

    /// Which of several addresses is tried first.
    pub(super) fn turn(&self) -> usize {
        usize::try_from(self.random() >> 33).unwrap_or(0)
    }

    pub(super) fn opened(&self, send: SendRequest<Bytes>) -> (u64, Arc<Notify>) {
        let closing = Arc::new(Notify::new());
        let handle = Handle {
            send,
            writing: Arc::default(),
            closing: Arc::clone(&closing),
        };
        let id = self.slots().opened(handle, Instant::now());
        self.changed.notify_waiters();
        (id, closing)
    }

    pub(super) fn failed(&self) {
        let share = self.share();
        self.slots().failed(Instant::now(), share);
        self.changed.notify_waiters();
    }

    pub(super) fn limited(&self, id: u64, limit: usize) {
        let rose = self.slots().limited(id, limit);
        tracing::debug!(
            account = self.account,
            id,
            limit,
            "the limit of streams changed"
        );
        if rose {
            self.changed.notify_waiters();
        }
    }

    pub(super) fn heard(&self, id: u64, proved: bool) {
        let warmed = self.slots().heard(id, proved, Instant::now());
        if warmed {
            self.changed.notify_waiters();
        }
    }

    pub(super) fn retire(&self, id: u64) {
        self.slots().retire(id);
        self.changed.notify_waiters();
    }

    pub(super) fn removed(&self, id: u64) {
        let share = self.share();
        self.slots().removed(id, Instant::now(), share);
        self.changed.notify_waiters();
    }

    pub(super) fn check(&self, id: u64) -> Check {
        self.slots().check(id, Instant::now())
    }
}

/// The right to one request; dropping it gives the place back.
pub struct Lease {
    shared: Arc<Shared>,
    id: u64,
    handle: Handle,
}

impl Lease {
    /// Makes the request.
    ///
    /// Cancel safety: dropping the future resets the stream; the request may have been read.
    ///
    /// # Errors
    /// [`NoAnswer`], which says whether the request may have been processed.
    pub async fn exchange(
        &self,
        request: Request<()>,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Answer, NoAnswer> {
        let Handle { send, writing, .. } = &self.handle;
        exchange(send.clone(), writing, request, body, deadline).await
    }

    /// An answer came; `proved` says that it accepted our credential.
    pub fn answered(&self, proved: bool) {
        self.shared.heard(self.id, proved);
    }

    /// The connection takes no further request and is replaced.
    pub fn retire(&self) {
        self.shared.retire(self.id);
    }

    /// As [`Lease::retire`], unless the connection is very young.
    pub fn replace(&self) {
        self.shared.slots().replace(self.id, Instant::now());
        self.shared.changed.notify_waiters();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let over = self.shared.slots().released(self.id);
        if over {
            self.handle.closing.notify_one();
        }
        self.shared.changed.notify_one();
    }
}
