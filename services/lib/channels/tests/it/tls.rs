//! Receivers with certificates.

use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::provider::AttemptResult;
use bongsu_channels::{Settings, build, webhook};
use bongsu_domain::Channel;
use bongsu_runtime::Clock;
use bongsu_runtime::tasks::detach;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{attempt, delivery};

/// A server for `localhost` that accepts everything; its URL and its certificate as PEM.
async fn serve() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}/",
        listener.local_addr().unwrap().port()
    );
    detach("tls server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust the certificate hangs up here.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 4_096];
            while stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                if stream.write_all(answer).await.is_err() || stream.flush().await.is_err() {
                    break;
                }
            }
        }
    });
    (url, made.cert.pem())
}

async fn send(url: &str, ca_file: Option<std::path::PathBuf>) -> AttemptResult {
    let mut settings = Settings::default();
    settings.webhook.client.ca_file = ca_file;
    let account = webhook::config::Account {
        allow_private: true,
        ..Default::default()
    };
    settings.webhook.accounts.insert("test".into(), account);
    let provider = build(Channel::Webhook, &settings, "w", Clock::system()).unwrap();
    let delivery = delivery(Channel::Webhook, url, "e1");
    attempt(&*provider, &delivery, Duration::from_secs(5)).await
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_trusted_when_it_is_named_and_only_then() {
    let (url, pem) = serve().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    assert_eq!(
        send(&url, Some(file.path().to_owned())).await,
        AttemptResult::Accepted
    );
    // Nothing of the request has left: it may be tried again.
    assert_eq!(send(&url, None).await, AttemptResult::Unavailable);
}

#[test]
fn a_certificate_file_that_is_not_there_stops_the_start() {
    let mut settings = Settings::default();
    settings.webhook.client.ca_file = Some("/nowhere/ca.pem".into());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let error = build(Channel::Webhook, &settings, "w", Clock::system())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "channel webhook: the HTTP client cannot be built"
    );
}
