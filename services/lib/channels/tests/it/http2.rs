//! The same test server over TLS and HTTP/2, for channels that speak nothing else.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use h2::server::SendResponse;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::server::{Reply, Server};

/// One certificate for all servers of the process, and the file that makes clients trust it.
struct Trust {
    config: Arc<ServerConfig>,
    ca_file: PathBuf,
    _dir: tempfile::TempDir,
}

fn trust() -> &'static Trust {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    TRUST.get_or_init(|| {
        let names = ["127.0.0.1", "localhost"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, made.cert.pem()).unwrap();
        Trust {
            config: Arc::new(config),
            ca_file,
            _dir: dir,
        }
    })
}

/// The file of the authority of every such server.
pub(crate) fn ca_file() -> PathBuf {
    trust().ca_file.clone()
}

/// Talks to one client.
pub(crate) async fn talk(server: Server, stream: TcpStream, reply: Reply) {
    let acceptor = TlsAcceptor::from(Arc::clone(&trust().config));
    let Ok(tls) = acceptor.accept(stream).await else {
        return;
    };
    let Ok(mut connection) = h2::server::handshake(tls).await else {
        return;
    };
    let mut held = Vec::new();
    let (over, mut ends) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            _ = ends.recv() => return,
        };
        let Some(Ok((request, respond))) = accepted else {
            return;
        };
        let (server, reply, over) = (server.clone(), reply.clone(), over.clone());
        let (asked, body) = request.into_parts();
        let (keep, kept) = tokio::sync::oneshot::channel::<()>();
        held.push(keep);
        bongsu_runtime::tasks::detach("test stream", async move {
            let Some(body) = whole(body).await else {
                return;
            };
            let path = asked.uri.path_and_query().unwrap();
            let mut text = format!("{} {path} HTTP/2\r\n", asked.method);
            for (name, value) in &asked.headers {
                text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
            }
            text.push_str(&format!("\r\n{body}"));
            server.read(text);
            answer(respond, reply, over).await;
            drop(kept);
        });
    }
}

async fn whole(mut body: h2::RecvStream) -> Option<String> {
    let mut read = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        read.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len()).ok()?;
    }
    Some(String::from_utf8_lossy(&read).into_owned())
}

async fn answer(
    mut respond: SendResponse<Bytes>,
    reply: Reply,
    over: tokio::sync::mpsc::Sender<()>,
) {
    let (head, dripping) = match reply {
        Reply::Close => {
            over.send(()).await.ok();
            return;
        }
        Reply::Silence => return std::future::pending().await,
        Reply::Bytes(bytes) => (bytes, false),
        Reply::Drip(bytes) => (bytes, true),
    };
    let text = String::from_utf8(head).unwrap();
    let Some(rest) = text.strip_prefix("HTTP/1.1 ") else {
        respond.send_reset(h2::Reason::PROTOCOL_ERROR);
        return;
    };
    let (head, body) = rest.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap();
    let mut response = http::Response::builder().status(status.split(' ').next().unwrap());
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        response = response.header(name, value);
    }
    let response = response.body(()).unwrap();
    let Ok(mut stream) = respond.send_response(response, false) else {
        return;
    };
    if !dripping {
        stream
            .send_data(Bytes::copy_from_slice(body.as_bytes()), true)
            .ok();
        return;
    }
    while stream.send_data(Bytes::from_static(b"x"), false).is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
