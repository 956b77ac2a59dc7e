//! One request and its answer on a leased connection.

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use std::future::poll_fn;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use crate::client::BODY_PATIENCE;
use crate::provider::AttemptResult;

/// Bytes of an answer's body that are read; Apple's are below 100, Google's below 2,000.
const BODY_LIMIT: usize = 8_192;

/// The least time before a deadline at which a request is still sent: with less nobody would see the
/// answer, and what is surely not sent may be sent again. (D)
const LEAST: Duration = Duration::from_millis(500);

/// An answer, its body cut to some kilobytes.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// What was read of the body.
    pub body: Bytes,
}

/// No answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// The request was never written whole, by our own doing: no connection, no room, no time.
    NotSent,
    /// The server says that it did not process it: a refused stream, or one above the last of a
    /// GOAWAY.
    NotProcessed,
    /// The request may have been read whole.
    Lost,
}

impl NoAnswer {
    /// What it means for the attempt.
    pub const fn result(self) -> AttemptResult {
        match self {
            Self::NotSent => AttemptResult::Unavailable,
            Self::NotProcessed => AttemptResult::NotProcessed,
            Self::Lost => AttemptResult::Unknown,
        }
    }
}

/// Whether the server itself says that it did not process the stream. [R: RFC 9113, 6.8 and 8.7]
fn surely_not_processed(error: &h2::Error) -> bool {
    error.is_remote()
        && (error.is_go_away()
            || (error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)))
}

/// What a failure before the last byte was handed over means.
fn unsent(error: &h2::Error) -> NoAnswer {
    if surely_not_processed(error) {
        NoAnswer::NotProcessed
    } else {
        NoAnswer::NotSent
    }
}

/// Sends `request` with `body`, and reads the answer before `deadline`.
///
/// Cancel safety: dropping the future resets the stream; the request may have been read.
pub(super) async fn exchange(
    mut send: SendRequest<Bytes>,
    writing: &Writing,
    request: Request<()>,
    body: Bytes,
    deadline: Instant,
) -> Result<Answer, NoAnswer> {
    if Instant::now() + LEAST > deadline {
        return Err(NoAnswer::NotSent);
    }
    let sent = send.send_request(request, false);
    let (mut response, mut stream) = sent.map_err(|error| unsent(&error))?;
    // As long as a part of the body waits for room nobody can have read the request whole.
    let written = timeout_at(deadline, write(&mut stream, writing, body)).await;
    let answered = match written {
        Ok(Ok(())) => timeout_at(deadline, response).await,
        // Why the stream has ended is told by its answer, which is there with the end; it may even be
        // one to a request that was not read whole.
        Ok(Err(error)) => match (&mut response).now_or_never() {
            Some(Ok(early)) => Ok(Ok(early)),
            Some(Err(told)) => return Err(unsent(&told)),
            None => return Err(unsent(&error)),
        },
        Err(_elapsed) => return Err(NoAnswer::NotSent),
    };
    let response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if surely_not_processed(&error) => return Err(NoAnswer::NotProcessed),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no answer");
            return Err(NoAnswer::Lost);
        }
        Err(_elapsed) => return Err(NoAnswer::Lost),
    };
    let (head, body) = response.into_parts();
    let patience = deadline.min(Instant::now() + BODY_PATIENCE);
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: read(body, patience).await,
    })
}

/// Whose body is being written on a connection: one at a time.
///
/// Room in the connection's window is handed out in pieces. Were several bodies to wait for it, each
/// holding a piece too small for itself, they could hold so much that the server never has read
/// enough to grant more.
pub(super) type Writing = tokio::sync::Mutex<()>;

/// Hands the whole body over, as the windows of stream and connection have room.
async fn write(
    stream: &mut SendStream<Bytes>,
    writing: &Writing,
    mut body: Bytes,
) -> Result<(), h2::Error> {
    let _mine = writing.lock().await;
    loop {
        stream.reserve_capacity(body.len());
        while stream.capacity() == 0 && !body.is_empty() {
            match poll_fn(|context| stream.poll_capacity(context)).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(Reason::STREAM_CLOSED.into()),
            }
        }
        let piece = body.split_to(stream.capacity().min(body.len()));
        let last = body.is_empty();
        stream.send_data(piece, last)?;
        if last {
            return Ok(());
        }
    }
}

/// Reads up to [`BODY_LIMIT`] bytes. A body that breaks or drips is as good as one that ends: the
/// status has decided already.
async fn read(mut body: RecvStream, patience: Instant) -> Bytes {
    if body.is_end_stream() {
        return Bytes::new();
    }
    let mut read = BytesMut::new();
    while read.len() < BODY_LIMIT
        && let Ok(Some(Ok(chunk))) = timeout_at(patience, body.data()).await
    {
        let room = BODY_LIMIT - read.len();
        read.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if body.flow_control().release_capacity(chunk.len()).is_err() {
            break;
        }
    }
    read.freeze()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Response;
    use tokio::io::{AsyncRead, AsyncWrite};
    use tokio::task::JoinSet;

    use super::*;

    /// Reads every request whole before it answers.
    async fn serve(io: impl AsyncRead + AsyncWrite + Unpin, stream_window: u32) {
        let mut server = h2::server::Builder::new()
            .initial_window_size(stream_window)
            .handshake::<_, Bytes>(io)
            .await
            .unwrap();
        let mut answering = JoinSet::new();
        while let Some(request) = server.accept().await {
            let (request, mut respond) = request.unwrap();
            answering.spawn(async move {
                let mut body = request.into_body();
                let mut bytes = 0;
                while let Some(Ok(chunk)) = body.data().await {
                    bytes += chunk.len();
                    body.flow_control().release_capacity(chunk.len()).unwrap();
                }
                let length = Response::builder().header("length", bytes).body(());
                respond.send_response(length.unwrap(), true).unwrap();
            });
        }
    }

    /// Bodies that together need many times the connection's window, and that no stream's window
    /// holds whole: all of them arrive.
    #[tokio::test]
    async fn large_bodies_go_through_small_windows() {
        const BODY: usize = 4_096;
        for stream_window in [1_000, 65_535] {
            let (ours, theirs) = tokio::io::duplex(16 * 1_024);
            let mut tasks = JoinSet::new();
            tasks.spawn(serve(theirs, stream_window));
            let (send, connection) = h2::client::handshake(ours).await.unwrap();
            tasks.spawn(async move { connection.await.unwrap() });
            let writing = std::sync::Arc::new(Writing::default());
            let mut requests = JoinSet::new();
            for _ in 0..150 {
                let (send, writing) = (send.clone(), writing.clone());
                requests.spawn(async move {
                    let request = Request::post("http://twin/").body(()).unwrap();
                    let deadline = Instant::now() + Duration::from_secs(60);
                    let send = send.ready().await.unwrap();
                    let body = Bytes::from(vec![b'x'; BODY]);
                    exchange(send, &writing, request, body, deadline).await
                });
            }
            while let Some(answered) = requests.join_next().await {
                let answer = answered.unwrap().unwrap();
                assert_eq!(answer.headers["length"], BODY.to_string());
            }
        }
    }
}
