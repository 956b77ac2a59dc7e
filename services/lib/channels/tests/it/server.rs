//! Real servers that answer as told, byte by byte where HTTP libraries would be too polite.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bongsu_domain::Channel;
use bongsu_runtime::tasks::detach;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a server does after it read a request whole.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Writes these bytes and keeps the connection.
    Bytes(Vec<u8>),
    /// Closes the connection.
    Close,
    /// Says nothing.
    Silence,
    /// Writes these bytes, then one more byte ten times a second for ever.
    Drip(Vec<u8>),
}

impl Reply {
    /// An answer with a status line, headers and a body.
    pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        let text =
            format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}");
        Self::Bytes(text.into_bytes())
    }
}

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/1.1 without TLS.
    Http1,
    /// HTTP/2 over TLS, and nothing else.
    Http2,
    /// SMTP, and no HTTP at all.
    Smtp,
}

/// A listening server; what it read is kept.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Starts one that replies to every request alike, over plain HTTP/1.
    pub(crate) async fn start(reply: Reply) -> Self {
        Self::start_with(reply, Speaks::Http1).await
    }

    /// Starts one that a channel can reach: over TLS and HTTP/2 where it speaks nothing else.
    pub(crate) async fn start_for(channel: Channel, reply: Reply) -> Self {
        let speaks = crate::subject::subject(channel).speaks;
        Self::start_with(reply, speaks).await
    }

    async fn start_with(reply: Reply, speaks: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            connections: Arc::default(),
        };
        let accepting = server.clone();
        detach("test server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                let (server, reply) = (accepting.clone(), reply.clone());
                detach("test connection", async move {
                    match speaks {
                        Speaks::Http1 => server.talk(stream, reply).await,
                        Speaks::Http2 => crate::http2::talk(server, stream, reply).await,
                        Speaks::Smtp => crate::smtp::talk(server, stream, reply).await,
                    }
                });
            }
        });
        server
    }

    /// `http://address`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request read whole so far, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Notes a request that was read whole.
    pub(crate) fn read(&self, request: String) {
        self.requests.lock().unwrap().push(request);
    }

    async fn talk(&self, mut stream: TcpStream, reply: Reply) {
        loop {
            let Some(request) = read_request(&mut stream).await else {
                return;
            };
            self.read(request);
            match &reply {
                Reply::Bytes(bytes) => {
                    if stream.write_all(bytes).await.is_err() {
                        return;
                    }
                }
                Reply::Close => return,
                Reply::Silence => std::future::pending().await,
                Reply::Drip(bytes) => {
                    let mut next = bytes.clone();
                    while stream.write_all(&next).await.is_ok() {
                        next = vec![b'x'];
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                    return;
                }
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_lowercase()
                        .strip_prefix("content-length: ")?
                        .parse()
                        .ok()
                })
                .unwrap_or(0);
            if body.len() >= length {
                return Some(text);
            }
        }
        let mut more = [0; 4_096];
        match stream.read(&mut more).await {
            Ok(n) if n > 0 => read.extend_from_slice(&more[..n]),
            _ => return None,
        }
    }
}
