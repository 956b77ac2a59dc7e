//! The one HTTP client builder of all channels, and the one way to make an exchange.
//!
//! Invariants: no redirect is followed, no proxy of the environment is used (it would undo the
//! target guard), an exchange ends at its deadline, at most [`BODY_LIMIT`] bytes of an answer are
//! kept, and it is always known whether the request may have been read whole.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::header::HeaderMap;
use reqwest::{Client, ClientBuilder, Request, Response, StatusCode};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::provider::AttemptResult;
use crate::settings::ClientSettings;
use crate::ssrf::{self, PublicOnly};

/// Bytes of an answer's body that are read; the rest is left and its connection dropped. Errors are
/// short JSON or HTML everywhere; 64 KiB holds all that were seen.
pub const BODY_LIMIT: usize = 64 * 1024;

/// How long the body of an answer may take once its status is known. The status decides; the body
/// adds detail and must only be drained so that the connection can be used again. A receiver that
/// drips bytes would otherwise hold the attempt until its deadline.
pub const BODY_PATIENCE: Duration = Duration::from_secs(2);

/// What every request says it is.
pub const USER_AGENT: &str = concat!("bongsu/", env!("CARGO_PKG_VERSION"));

/// The client cannot be made.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The file of extra certificate authorities cannot be read.
    #[error("the certificate file {path} cannot be read")]
    CaFile {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// TLS or another part of the client cannot start.
    #[error("the client cannot start")]
    Client(#[from] reqwest::Error),
}

/// Which targets a client may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Public addresses only: the URL is somebody else's.
    Public,
    /// Anything: the URL is the operator's own, or the operator allowed private targets.
    Anywhere,
}

/// Builds a client.
///
/// # Errors
/// [`ClientError`].
pub fn build(settings: &ClientSettings, reach: Reach) -> Result<Client, ClientError> {
    let guard = match reach {
        Reach::Public => Some(PublicOnly::default()),
        Reach::Anywhere => None,
    };
    Ok(builder(settings, guard)?.build()?)
}

/// A client as [`build`] makes it, before it is built: for accounts that add something of their own.
/// With a guard it reaches what the guard lets pass, else anything.
///
/// # Errors
/// [`ClientError`].
pub fn builder(
    settings: &ClientSettings,
    guard: Option<PublicOnly>,
) -> Result<ClientBuilder, ClientError> {
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .tcp_nodelay(true)
        .connect_timeout(settings.connect_timeout.0)
        .pool_idle_timeout(settings.idle_timeout.0)
        .pool_max_idle_per_host(settings.idle_per_host)
        // Every second try is the sequencer's decision, never the client's.
        .retry(reqwest::retry::never());
    if let Some(path) = &settings.ca_file {
        let pem = std::fs::read(path).map_err(|source| ClientError::CaFile {
            path: path.display().to_string(),
            source,
        })?;
        builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&pem)?);
    }
    Ok(match guard {
        Some(guard) => builder.dns_resolver(Arc::new(guard)),
        None => builder,
    })
}

/// An answer, its body cut to [`BODY_LIMIT`].
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// What was read of the body; a body that failed or came too late is short or empty.
    pub body: Vec<u8>,
}

/// No answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// The request was not read whole by anybody: no connection, or it broke before the body was
    /// handed over.
    NotSent,
    /// The request may have been read whole.
    Lost,
    /// The guard refused the target.
    PrivateTarget,
}

impl NoAnswer {
    /// What it means for the attempt, the same for every channel.
    pub const fn result(self) -> AttemptResult {
        match self {
            Self::NotSent => AttemptResult::Unavailable,
            Self::Lost => AttemptResult::Unknown,
            Self::PrivateTarget => AttemptResult::Refused(bongsu_domain::Reason::PrivateAddress),
        }
    }
}

/// Sends a request with a body and reads the answer, all before `deadline`.
///
/// Cancel safety: dropping the future closes the exchange; the request may have been read.
///
/// # Errors
/// [`NoAnswer`], which says whether the request may have been read.
pub async fn exchange(
    client: &Client,
    request: Request,
    body: Vec<u8>,
    deadline: Instant,
) -> Result<Answer, NoAnswer> {
    exchange_up_to(client, request, body, deadline, BODY_LIMIT).await
}

/// As [`exchange`], keeping up to `limit` bytes of the answer: for providers whose answer speaks of
/// many recipients.
///
/// Cancel safety: as [`exchange`].
///
/// # Errors
/// As [`exchange`].
pub async fn exchange_up_to(
    client: &Client,
    mut request: Request,
    body: Vec<u8>,
    deadline: Instant,
    limit: usize,
) -> Result<Answer, NoAnswer> {
    // An empty body is never asked for, so it counts as sent from the start.
    let sent = Arc::new(AtomicBool::new(body.is_empty()));
    *request.body_mut() = Some(reqwest::Body::wrap(Tracked {
        content: Some(Bytes::from(body)),
        sent: Arc::clone(&sent),
    }));
    let answered = timeout_at(deadline, client.execute(request)).await;
    let lost = || {
        if sent.load(Ordering::Acquire) {
            NoAnswer::Lost
        } else {
            NoAnswer::NotSent
        }
    };
    let response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if ssrf::is_private_target(&error) => return Err(NoAnswer::PrivateTarget),
        Ok(Err(error)) => {
            // Without its URL, which may hold a secret.
            tracing::debug!(error = %causes(&error.without_url()), "no answer");
            return Err(lost());
        }
        Err(_elapsed) => return Err(lost()),
    };
    let status = response.status();
    let headers = response.headers().clone();
    let patience = deadline.min(Instant::now() + BODY_PATIENCE);
    let mut body = Vec::new();
    if timeout_at(patience, drain(response, &mut body, limit))
        .await
        .is_err()
    {
        tracing::debug!(status = status.as_u16(), "the answer's body took too long");
    }
    Ok(Answer {
        status,
        headers,
        body,
    })
}

/// Reads up to `limit` bytes. A body that breaks is as good as one that ends: the status has
/// decided already.
async fn drain(mut response: Response, into: &mut Vec<u8>, limit: usize) {
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = limit.saturating_sub(into.len());
        into.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if chunk.len() > room {
            return;
        }
    }
}

fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A request body that notes when the connection asks for it. Before that moment nothing but
/// (perhaps) headers can have left, so nobody has read the request whole; from then on somebody may
/// have.
struct Tracked {
    content: Option<Bytes>,
    sent: Arc<AtomicBool>,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.sent.store(true, Ordering::Release);
        Poll::Ready(self.content.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.as_ref().map_or(0, |b| b.len() as u64))
    }
}
