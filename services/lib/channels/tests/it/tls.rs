//! Receivers with certificates.

use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::provider::AttemptResult;
use bongsu_channels::{Settings, build, webhook};
use bongsu_domain::Channel;
use bongsu_runtime::tasks::detach;
use bongsu_runtime::{Clock, Secret};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{attempt, delivery};

/// A server for `localhost` that accepts everything; its URL and its certificate as PEM. With an
/// authority it talks to clients whose certificate is signed by it, and to nobody else.
async fn serve(clients: Option<CertificateDer<'static>>) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let config = config
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
    send_as(url, ca_file, webhook::config::Account::default()).await
}

async fn send_as(
    url: &str,
    ca_file: Option<std::path::PathBuf>,
    mut account: webhook::config::Account,
) -> AttemptResult {
    let mut settings = Settings::default();
    settings.webhook.client.ca_file = ca_file;
    account.allow_private = true;
    settings.webhook.accounts.insert("test".into(), account);
    let provider = build(Channel::Webhook, &settings, "w", Clock::system()).unwrap();
    let delivery = delivery(Channel::Webhook, url, "e1");
    attempt(&*provider, &delivery, Duration::from_secs(5)).await
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_trusted_when_it_is_named_and_only_then() {
    let (url, pem) = serve(None).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    assert_eq!(
        send(&url, Some(file.path().to_owned())).await,
        AttemptResult::Accepted
    );
    // Nothing of the request has left: it may be tried again.
    assert_eq!(send(&url, None).await, AttemptResult::Unavailable);
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_certificate_gets_the_accounts_own() {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let client = CertificateParams::new(["bongsu".to_owned()]).unwrap();
    let client = client.signed_by(&key, &issuer).unwrap();

    let (url, pem) = serve(Some(authority.der().clone())).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let ca_file = || Some(file.path().to_owned());
    let account = webhook::config::Account {
        certificate: Secret::new(client.pem()),
        certificate_key: Secret::new(key.serialize_pem()),
        ..Default::default()
    };
    let provider = {
        let mut settings = Settings::default();
        let accounts = &mut settings.webhook.accounts;
        accounts.insert("test".into(), account.clone());
        build(Channel::Webhook, &settings, "w", Clock::system()).unwrap()
    };
    assert_eq!(provider.expiring().len(), 1, "its end is told");
    assert_eq!(
        send_as(&url, ca_file(), account).await,
        AttemptResult::Accepted
    );
    // In TLS 1.3 a server refuses the client after the handshake: the request may have been written.
    let without = send(&url, ca_file()).await;
    assert!(
        matches!(without, AttemptResult::Unavailable | AttemptResult::Unknown),
        "{without:?}"
    );
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
