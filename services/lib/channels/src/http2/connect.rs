//! From a name to an HTTP/2 connection: resolve, connect, TLS, first words. Everything anew for every
//! connection, so that a moved name is followed.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::Verifier;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

use crate::apns::certificate::Identity;

/// TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file of extra certificate authorities cannot be read.
    #[error("the certificate file {path} cannot be read")]
    CaFile {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The certificates, ours or the authorities', do not work.
    #[error("TLS cannot start")]
    Tls(#[from] rustls::Error),
}

/// A client's TLS: HTTP/2 only, the system's authorities and those of `ca_file`.
///
/// # Errors
/// [`TlsError`].
pub fn client_config(
    ca_file: Option<&Path>,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut extra = Vec::new();
    if let Some(path) = ca_file {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let certificates: Vec<_> = read.map_err(|source| TlsError::CaFile {
            path: path.display().to_string(),
            source,
        })?;
        extra.extend(certificates);
    }
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_auth_cert(own.chain(), own.key())?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Where connections lead.
#[derive(Clone)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What the certificate must be for.
    pub name: ServerName<'static>,
    /// How TLS is spoken.
    pub tls: Arc<ClientConfig>,
}

/// No connection was made; nothing of a request has left.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("the name cannot be resolved")]
    Resolve(#[source] std::io::Error),
    #[error("the name has no address")]
    NoAddress,
    #[error("TCP or TLS failed")]
    Io(#[from] std::io::Error),
    #[error("HTTP/2 failed")]
    Http2(#[from] h2::Error),
    #[error("it took too long")]
    TimedOut,
}

/// What is resolved, and what the certificate must be for; none without a host.
#[must_use]
pub fn names(url: &Url) -> Option<(String, ServerName<'static>)> {
    Some(match url.host()? {
        Host::Domain(name) => (name.to_owned(), ServerName::try_from(name.to_owned()).ok()?),
        Host::Ipv4(ip) => (ip.to_string(), ServerName::from(IpAddr::V4(ip))),
        Host::Ipv6(ip) => (ip.to_string(), ServerName::from(IpAddr::V6(ip))),
    })
}

type Io = TlsStream<TcpStream>;

/// Resets of our own that are remembered at a time: as many as one connection may have streams.
const RESETS: usize = 1_024;

/// Connects to one of the target's addresses; `turn` says which is tried first.
///
/// Cancel safety: dropping the future closes the connection.
pub(super) async fn connect(
    target: &Target,
    turn: usize,
) -> Result<(SendRequest<Bytes>, Connection<Io, Bytes>), ConnectError> {
    let found = lookup_host((target.host.as_str(), target.port)).await;
    let mut addresses: Vec<_> = found.map_err(ConnectError::Resolve)?.collect();
    if addresses.is_empty() {
        return Err(ConnectError::NoAddress);
    }
    let first = turn % addresses.len();
    addresses.rotate_left(first);
    let mut last = ConnectError::NoAddress;
    for address in addresses {
        let stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) => {
                last = error.into();
                continue;
            }
        };
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&target.tls));
        let tls = connector.connect(target.name.clone(), stream).await?;
        let handshake = h2::client::Builder::new()
            // Until the server's settings are read.
            .initial_max_send_streams(1)
            .max_concurrent_reset_streams(RESETS)
            .enable_push(false)
            .handshake(tls);
        return Ok(handshake.await?);
    }
    Err(last)
}
