//! Connections that can fall silent: open for the kernel, dead for both ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// All connections of one simulator.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Connections begun before this number are silent.
    silent_below: AtomicU64,
    begun: AtomicU64,
    open: AtomicUsize,
}

impl Lines {
    /// Takes a connection in.
    pub(crate) fn line<S>(self: &Arc<Self>, stream: S) -> Line<S> {
        self.open.fetch_add(1, Ordering::Relaxed);
        Line {
            number: self.begun.fetch_add(1, Ordering::AcqRel),
            lines: Arc::clone(self),
            stream,
        }
    }

    /// Silences every connection there is, for good; how many are open.
    pub(crate) fn freeze(&self) -> usize {
        let begun = self.begun.load(Ordering::Acquire);
        self.silent_below.store(begun, Ordering::Release);
        self.open.load(Ordering::Relaxed)
    }
}

/// One connection.
pub(crate) struct Line<S> {
    number: u64,
    lines: Arc<Lines>,
    stream: S,
}

impl<S> Line<S> {
    fn silent(&self) -> bool {
        self.number < self.lines.silent_below.load(Ordering::Acquire)
    }
}

impl<S> Drop for Line<S> {
    fn drop(&mut self) {
        self.lines.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        // Never woken again: that is the point.
        if self.silent() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.silent() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.silent() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
