//! Connections whose HTTP/2 streams are counted from outside, for a provider that ends a connection
//! with one stream too many where a library would refuse the stream.
//!
//! Only the heads of frames are read, on their way: what opens a stream, what ends it. A connection
//! that is not HTTP/2 is left alone.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before every payload.
const HEAD: usize = 9;

// Kinds of frames and a flag. [R: RFC 9113]
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
/// The error of the GOAWAY. [M: the debug data is what was seen, the code is not documented]
const ENHANCE_YOUR_CALM: u32 = 11;
/// What Google says. [R: pushiko; firebase-admin-node 2943]
const TOO_MANY: &[u8] = b"exceeded_max_concurrent_streams";

/// Counts over all connections of a twin.
#[derive(Debug, Default)]
pub(crate) struct StreamCounts {
    most: AtomicU64,
    overruns: AtomicU64,
}

impl StreamCounts {
    /// The most streams at a time on one connection.
    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// Connections ended for one stream too many.
    pub(crate) fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }
}

/// The heads of frames in a stream of bytes that comes in pieces of any size.
#[derive(Debug, Default)]
struct Heads {
    /// Bytes of the preface that are still to come.
    preface: usize,
    head: Vec<u8>,
    /// Bytes of the payload that are still to come.
    payload: usize,
    /// Whether it turned out not to be HTTP/2.
    foreign: bool,
}

impl Heads {
    /// Whether a frame may begin now.
    fn between(&self) -> bool {
        self.head.is_empty() && self.payload == 0 && self.preface == 0
    }

    /// Shows kind, flags and stream of every frame that begins in `bytes`.
    fn read(&mut self, mut bytes: &[u8], mut see: impl FnMut(u8, u8, u32)) {
        if self.foreign {
            return;
        }
        let expected = PREFACE.get(PREFACE.len() - self.preface..).unwrap_or(&[]);
        let length = expected.len().min(bytes.len());
        if bytes.get(..length) != expected.get(..length) {
            self.foreign = true;
            return;
        }
        self.preface -= length;
        bytes = bytes.get(length..).unwrap_or(&[]);
        while !bytes.is_empty() {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = bytes.get(skipped..).unwrap_or(&[]);
            let wanted = (HEAD - self.head.len()).min(bytes.len());
            let (part, rest) = bytes.split_at(wanted);
            if self.payload > 0 {
                return;
            }
            self.head.extend_from_slice(part);
            bytes = rest;
            if let Some(head) = self.head.first_chunk::<HEAD>() {
                let [a, b, c, kind, flags, s, t, u, v] = *head;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                see(kind, flags, u32::from_be_bytes([s & 0x7f, t, u, v]));
                self.head.clear();
            }
        }
    }
}

/// One connection.
pub(crate) struct Watched<S> {
    stream: S,
    counts: Option<(Arc<StreamCounts>, usize)>,
    from_client: Heads,
    to_client: Heads,
    open: BTreeSet<u32>,
    highest: u32,
    over: bool,
}

impl<S> Watched<S> {
    /// A connection that may have so many streams; without counts it is left alone.
    pub(crate) fn new(stream: S, counts: Option<Arc<StreamCounts>>, limit: u32) -> Self {
        Self {
            stream,
            counts: counts.map(|counts| (counts, limit as usize)),
            from_client: Heads {
                preface: PREFACE.len(),
                ..Heads::default()
            },
            to_client: Heads::default(),
            open: BTreeSet::new(),
            highest: 0,
            over: false,
        }
    }

    fn came(&mut self, bytes: &[u8]) {
        let Some((counts, limit)) = &self.counts else {
            return;
        };
        let (open, highest, over) = (&mut self.open, &mut self.highest, &mut self.over);
        self.from_client.read(bytes, |kind, _, stream| match kind {
            HEADERS if stream > *highest && !*over => {
                if open.len() >= *limit {
                    *over = true;
                    counts.overruns.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                *highest = stream;
                open.insert(stream);
                counts.most.fetch_max(open.len() as u64, Ordering::Relaxed);
            }
            RST_STREAM => {
                open.remove(&stream);
            }
            _ => {}
        });
    }

    fn went(&mut self, bytes: &[u8]) {
        if self.counts.is_none() || self.from_client.foreign {
            return;
        }
        let open = &mut self.open;
        self.to_client.read(bytes, |kind, flags, stream| {
            let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
            if ends || kind == RST_STREAM {
                open.remove(&stream);
            }
        });
    }

    /// A GOAWAY that names the last stream there was room for.
    fn goaway(&self) -> Vec<u8> {
        let length = u8::try_from(8 + TOO_MANY.len()).unwrap_or(u8::MAX);
        let mut frame = vec![0, 0, length, GOAWAY, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&self.highest.to_be_bytes());
        frame.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
        frame.extend_from_slice(TOO_MANY);
        frame
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        if !matches!(polled, Poll::Ready(Ok(()))) {
            return polled;
        }
        let came = into.filled().get(before..).unwrap_or(&[]);
        self.came(came);
        if !self.over {
            return polled;
        }
        // Between two frames of ours it is said; within one the connection just ends.
        if self.to_client.between() {
            let goaway = self.goaway();
            let written = Pin::new(&mut self.stream).poll_write(cx, &goaway);
            let flushed = Pin::new(&mut self.stream).poll_flush(cx);
            tracing::debug!(?written, ?flushed, "one stream too many");
        }
        Poll::Ready(Err(Error::new(
            ErrorKind::ConnectionReset,
            "one stream too many",
        )))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(n)) = &polled {
            self.went(bytes.get(..*n).unwrap_or(bytes));
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn heads_are_found_whatever_the_pieces() {
        let mut bytes = PREFACE.to_vec();
        for stream in [1, 3, 5] {
            bytes.extend(frame(HEADERS, 4, stream, b"abc"));
            bytes.extend(frame(DATA, END_STREAM, stream, b""));
        }
        for size in [1, 2, 7, 1_000] {
            let mut heads = Heads {
                preface: PREFACE.len(),
                ..Heads::default()
            };
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                heads.read(piece, |kind, _, stream| seen.push((kind, stream)));
            }
            let expected = [1, 3, 5].map(|s| [(HEADERS, s), (DATA, s)]).concat();
            assert_eq!(seen, expected, "{size}");
            assert!(heads.between());
        }
    }

    #[tokio::test]
    async fn one_stream_too_many_ends_the_connection_with_a_word() {
        let (mut client, server) = tokio::io::duplex(64 * 1_024);
        let counts = Arc::new(StreamCounts::default());
        let mut server = Watched::new(server, Some(Arc::clone(&counts)), 2);
        let mut read = [0; 4_096];
        client.write_all(PREFACE).await.unwrap();
        for stream in [1, 3] {
            client
                .write_all(&frame(HEADERS, 4, stream, b"x"))
                .await
                .unwrap();
        }
        assert!(server.read(&mut read).await.unwrap() > 0);
        // One is answered, so there is room for one more.
        server
            .write_all(&frame(HEADERS, 4 | END_STREAM, 1, b"y"))
            .await
            .unwrap();
        client.write_all(&frame(HEADERS, 4, 5, b"x")).await.unwrap();
        assert!(server.read(&mut read).await.unwrap() > 0);
        client.write_all(&frame(HEADERS, 4, 7, b"x")).await.unwrap();
        assert!(server.read(&mut read).await.is_err());
        drop(server);
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        let goaway = said.split_at(10).1;
        assert_eq!(goaway[3], GOAWAY);
        assert_eq!(goaway[9..13], 5_u32.to_be_bytes());
        assert!(goaway.ends_with(TOO_MANY));
        assert_eq!((counts.most(), counts.overruns()), (2, 1));
    }

    #[tokio::test]
    async fn what_is_not_http2_is_left_alone() {
        let (mut client, server) = tokio::io::duplex(64 * 1_024);
        let mut server = Watched::new(server, Some(Arc::default()), 1);
        client.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut read = [0; 100];
        assert_eq!(server.read(&mut read).await.unwrap(), 19);
    }
}
