//! Reading a body within its limits: size, time and the bytes of all requests in flight.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::problem::{Problem, ProblemCode};

/// The limits, shared by all requests.
pub struct Bodies {
    budget: Arc<Semaphore>,
    total: usize,
    most: usize,
    timeout: Duration,
    ahead: bool,
}

/// A body with its share of the budget; give it back by dropping.
pub struct Held {
    /// The bytes.
    pub bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// `most` bytes per body, `total` bytes of all.
    #[must_use]
    pub fn new(most: usize, total: usize, timeout: Duration) -> Self {
        Self {
            budget: Arc::new(Semaphore::new(total)),
            total,
            most,
            timeout,
            ahead: true,
        }
    }

    /// The same limits for callers nobody knows yet: what a body announces reserves nothing, only
    /// bytes that arrived count.
    #[must_use]
    pub fn as_they_arrive(mut self) -> Self {
        self.ahead = false;
        self
    }

    /// Bytes held now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.total.saturating_sub(self.budget.available_permits())
    }

    /// Reads a body whole.
    ///
    /// # Errors
    /// [`ProblemCode::BodyTooLarge`], [`ProblemCode::Overloaded`], [`ProblemCode::BodyTimeout`] or
    /// [`ProblemCode::Malformed`] when the connection ended first.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Held, Problem> {
        timeout(self.timeout, self.read_all(headers, body))
            .await
            .unwrap_or_else(|_| {
                Err(Problem::new(
                    ProblemCode::BodyTimeout,
                    format!("the body did not arrive within {:?}", self.timeout),
                ))
            })
    }

    async fn read_all(&self, headers: &HeaderMap, mut body: Body) -> Result<Held, Problem> {
        let announced = announced(headers).unwrap_or(0);
        if announced > self.most {
            return Err(self.too_large());
        }
        // What is announced is reserved at once, so that an upload is refused before it was sent.
        let mut reserved = if self.ahead { announced } else { 0 };
        let mut share = self.reserve(reserved)?;
        let mut bytes = BytesMut::with_capacity(reserved);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| {
                Problem::new(
                    ProblemCode::Malformed,
                    format!("the body ended too early: {e}"),
                )
            })?;
            let Ok(chunk) = frame.into_data() else {
                continue; // trailers
            };
            let length = bytes.len() + chunk.len();
            if length > self.most {
                return Err(self.too_large());
            }
            if length > reserved {
                merge(&mut share, self.reserve(length - reserved)?);
                reserved = length;
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Held {
            bytes: bytes.freeze(),
            _share: share,
        })
    }

    fn reserve(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        if bytes == 0 {
            return Ok(None);
        }
        u32::try_from(bytes)
            .ok()
            .and_then(|n| Arc::clone(&self.budget).try_acquire_many_owned(n).ok())
            .map(Some)
            .ok_or_else(|| {
                Problem::new(
                    ProblemCode::Overloaded,
                    "too many bytes are in flight; nothing was published, come back soon",
                )
                .retry_after(1)
            })
    }

    fn too_large(&self) -> Problem {
        Problem::new(
            ProblemCode::BodyTooLarge,
            format!(
                "at most {} bytes are taken; send several requests",
                self.most
            ),
        )
    }
}

fn merge(share: &mut Option<OwnedSemaphorePermit>, more: Option<OwnedSemaphorePermit>) {
    match (share.as_mut(), more) {
        (Some(share), Some(more)) => share.merge(more),
        (None, more) => *share = more,
        (Some(_), None) => {}
    }
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn bytes_are_bounded_per_body_and_over_all_and_given_back() {
        let bodies = Bodies::new(10, 15, Duration::from_secs(1));
        let none = HeaderMap::new();
        let held = bodies.read(&none, Body::from("0123456789")).await.unwrap();
        assert_eq!(&held.bytes[..], b"0123456789");
        assert_eq!(bodies.in_flight(), 10);
        let code = |r: Result<Held, Problem>| r.err().unwrap().code;
        let over = bodies.read(&none, Body::from("012345")).await;
        assert_eq!(code(over), ProblemCode::Overloaded);
        let large = bodies.read(&none, Body::from("0123456789A")).await;
        assert_eq!(code(large), ProblemCode::BodyTooLarge);
        drop(held);
        assert_eq!(bodies.in_flight(), 0);
        let announced =
            HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from_static("11"))]);
        let large = bodies.read(&announced, Body::empty()).await;
        assert_eq!(code(large), ProblemCode::BodyTooLarge);
    }
}
