//! TLS in front of a server that has none, offering HTTP/2 by ALPN.
//!
//! Owns a certificate of its own for `localhost`. Bytes pass as they are once the handshake is
//! done, so the server behind must speak HTTP/2 without an upgrade (the simulators do).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Connections waiting to be accepted.
const BACKLOG: u32 = 8_192;

/// A running front; dropping it closes every connection.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    certificate: String,
    _accepting: JoinSet<()>,
}

impl TlsFront {
    /// Listens on any free port of the loopback interface and leads to `target`. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// When no port can be bound or no certificate be made.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(BACKLOG).context("the TLS front")?;
        let address = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            target,
        ));
        Ok(Self {
            address,
            certificate: made.cert.pem(),
            _accepting: accepting,
        })
    }

    /// `https://localhost:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// What a client must trust, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, target: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Both branches are cancel safe.
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(carry(client, acceptor.clone(), target));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(client: TcpStream, acceptor: TlsAcceptor, target: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    // A client that does not trust the certificate hangs up here.
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
