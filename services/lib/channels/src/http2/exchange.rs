//! One request and its answer on a leased connection.

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use std::future::poll_fn;
use tokio::time::{Instant, timeout_at};

use crate::client::BODY_PATIENCE;
use crate::provider::AttemptResult;

/// Bytes of an answer's body that are read; Apple's are below 100, Google's below 2,000.
const BODY_LIMIT: usize = 8_192;

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
    request: Request<()>,
    body: Bytes,
    deadline: Instant,
) -> Result<Answer, NoAnswer> {
    let sent = send.send_request(request, false);
    let (response, mut stream) = sent.map_err(|error| unsent(&error))?;
    // As long as the body waits for room nobody can have read the request whole.
    let room = timeout_at(deadline, room_for(&mut stream, body.len())).await;
    match room {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(unsent(&error)),
        Err(_elapsed) => return Err(NoAnswer::NotSent),
    }
    if let Err(error) = stream.send_data(body, true) {
        return Err(unsent(&error));
    }
    let response = match timeout_at(deadline, response).await {
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

/// Waits until `bytes` fit into the windows of stream and connection.
async fn room_for(stream: &mut SendStream<Bytes>, bytes: usize) -> Result<(), h2::Error> {
    stream.reserve_capacity(bytes);
    while stream.capacity() < bytes {
        match poll_fn(|context| stream.poll_capacity(context)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(Reason::STREAM_CLOSED.into()),
        }
    }
    Ok(())
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
