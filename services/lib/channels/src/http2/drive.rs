//! The life of one connection: connect, drive its frames, watch that it lives, remove it.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::{ConnectError, Target, connect};
use super::pool::Shared;
use super::slots::Check;

/// Times of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) connect: Duration,
    pub(super) ping: Duration,
}

/// Opens a connection and lives until it ends. Never fails: what went wrong is told to `shared`.
pub(super) async fn live(shared: Arc<Shared>, target: Target, patience: Patience) {
    let turn = shared.turn();
    let connected = timeout(patience.connect, connect(&target, turn)).await;
    let (send, connection) = match connected.unwrap_or(Err(ConnectError::TimedOut)) {
        Ok(both) => both,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(account = shared.account(), %error, cause, "no connection");
            shared.failed();
            return;
        }
    };
    let (id, closing) = shared.opened(send.clone());
    tracing::debug!(account = shared.account(), id, "connected");
    let mut connection = connection;
    let ping = connection.ping_pong();
    tokio::select! {
        // Both branches are dropped for good when the other ends.
        biased;
        ended = frames(&shared, id, connection, send) => {
            if let Err(error) = ended {
                tracing::info!(account = shared.account(), id, %error, "a connection ended");
            }
        }
        () = watch(&shared, id, ping, &closing, patience.ping) => {}
    }
    shared.removed(id);
}

/// Moves frames, and tells `shared` whenever the server's limit changes or it takes no more.
///
/// Whoever wakes it is seldom alone: it lets everything else that is ready run first, so that the
/// requests of many tasks go into one write and one TLS record, and the server answers them together.
async fn frames<T: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    id: u64,
    mut connection: Connection<T, Bytes>,
    mut send: SendRequest<Bytes>,
) -> Result<(), h2::Error> {
    let mut limit = 0;
    let mut open = true;
    let mut others_ran = false;
    poll_fn(move |context| {
        others_ran = !others_ran;
        if others_ran {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = Pin::new(&mut connection).poll(context);
        if polled.is_pending() && open {
            let now = send.current_max_send_streams();
            if now != limit {
                limit = now;
                shared.limited(id, limit);
            }
            // Without a request of its own this handle is always ready, or the connection is not.
            if matches!(send.poll_ready(context), Poll::Ready(Err(_))) {
                open = false;
                shared.retire(id);
            }
        }
        polled
    })
    .await
}

/// Returns when the connection is to be closed: it is dead, or unused.
async fn watch(
    shared: &Shared,
    id: u64,
    mut ping: Option<PingPong>,
    closing: &tokio::sync::Notify,
    patience: Duration,
) {
    loop {
        match shared.check(id) {
            Check::Close => return,
            Check::At(at) => {
                tokio::select! {
                    // Both branches are cancel safe.
                    biased;
                    () = closing.notified() => {}
                    () = sleep_until(at) => {}
                }
            }
            Check::Ping => {
                let Some(ping) = &mut ping else { return };
                let asked = Instant::now();
                match timeout(patience, ping.ping(Ping::opaque())).await {
                    Ok(Ok(_pong)) => shared.heard(id, false),
                    Ok(Err(_)) => return std::future::pending().await,
                    Err(_elapsed) => {
                        tracing::warn!(
                            account = shared.account(),
                            id,
                            waited_ms = asked.elapsed().as_millis(),
                            "a connection is silent and is replaced"
                        );
                        return;
                    }
                }
            }
        }
    }
}
