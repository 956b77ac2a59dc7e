//! What only webhooks promise.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_channels::provider::AttemptResult;
use bongsu_channels::{Settings, build, webhook};
use bongsu_domain::{Channel, Reason};
use bongsu_runtime::{Clock, Secret};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::server::{Reply, Server};
use crate::{attempt, delivery};

const PATIENT: Duration = Duration::from_secs(5);

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    request
        .lines()
        .find_map(|line| line.strip_prefix(prefix.as_str()))
        .unwrap_or_default()
}

#[tokio::test]
async fn a_receiver_can_verify_the_signature_of_what_it_read() {
    let server = Server::start(Reply::answer(204, "", "")).await;
    let key = [7_u8; 32];
    let secret = format!("whsec_{}", STANDARD.encode(key));
    let mut settings = Settings::default();
    settings.webhook.accounts.insert(
        "test".into(),
        webhook::config::Account {
            secrets: vec![Secret::new(secret)],
            allow_private: true,
            ..Default::default()
        },
    );
    let provider = build(Channel::Webhook, &settings, "w", Clock::system()).unwrap();
    let delivery = delivery(
        Channel::Webhook,
        &format!("{}/hook/a?b=c", server.url()),
        "e1",
    );
    assert_eq!(
        attempt(&*provider, &delivery, PATIENT).await,
        AttemptResult::Accepted
    );

    let request = server.requests().remove(0);
    assert!(request.starts_with("POST /hook/a?b=c HTTP/1.1\r\n"));
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let (id, timestamp) = (
        header(&request, "webhook-id"),
        header(&request, "webhook-timestamp"),
    );
    assert_eq!(id, delivery.id.to_string());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(header(&request, "webhook-signature"), expected);
    let now = Clock::system().now_millis() / 1_000;
    assert!((now - timestamp.parse::<i64>().unwrap()).abs() <= 5);
}

#[tokio::test]
async fn without_a_secret_there_is_no_signature() {
    let server = Server::start(Reply::answer(204, "", "")).await;
    let mut settings = Settings::default();
    let account = webhook::config::Account {
        allow_private: true,
        ..Default::default()
    };
    settings.webhook.accounts.insert("test".into(), account);
    let provider = build(Channel::Webhook, &settings, "w", Clock::system()).unwrap();
    let delivery = delivery(Channel::Webhook, &server.url(), "e1");
    assert_eq!(
        attempt(&*provider, &delivery, PATIENT).await,
        AttemptResult::Accepted
    );
    assert!(!server.requests()[0].contains("webhook-signature"));
}

#[tokio::test]
async fn private_targets_are_refused_unless_the_account_allows_them() {
    let server = Server::start(Reply::answer(204, "", "")).await;
    let provider = build(Channel::Webhook, &Settings::default(), "w", Clock::system()).unwrap();
    // A literal address, the name of loopback, and this machine's own name, which the resolver finds.
    let port = server.address.port();
    let mut targets = vec![server.url(), format!("http://localhost:{port}/")];
    if let Ok(name) = std::fs::read_to_string("/etc/hostname") {
        let name = format!("{}:{port}", name.trim());
        if tokio::net::lookup_host(&name)
            .await
            .is_ok_and(|mut a| a.next().is_some())
        {
            targets.push(format!("http://{name}/"));
        }
    }
    for target in targets {
        let mut delivery = delivery(Channel::Webhook, &target, "e1");
        delivery.address.account = "default".into();
        assert_eq!(
            attempt(&*provider, &delivery, PATIENT).await,
            AttemptResult::Refused(Reason::PrivateAddress),
            "{target}"
        );
    }
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn a_gone_endpoint_is_an_invalid_address_and_a_bad_request_is_tried_again() {
    for (status, expected) in [
        (410, AttemptResult::Refused(Reason::InvalidAddress)),
        (404, AttemptResult::Doubted),
        (400, AttemptResult::Unavailable),
    ] {
        let server = Server::start(Reply::answer(status, "", "")).await;
        let mut settings = Settings::default();
        let account = webhook::config::Account {
            allow_private: true,
            ..Default::default()
        };
        settings.webhook.accounts.insert("test".into(), account);
        let provider = build(Channel::Webhook, &settings, "w", Clock::system()).unwrap();
        let delivery = delivery(Channel::Webhook, &server.url(), "e1");
        assert_eq!(
            attempt(&*provider, &delivery, PATIENT).await,
            expected,
            "{status}"
        );
    }
}
