use std::time::Duration;

use bongsu_simulators::Kind;
use reqwest::{Certificate, Client, StatusCode};

use crate::{body, start};

/// A twin is asked again until it answered as wanted: the pool may first try a dead connection.
async fn post(client: &Client, url: &str, patience: Duration) -> Option<StatusCode> {
    let sent = client.post(url).body(body("s", "e", 1)).send();
    let answer = tokio::time::timeout(patience, sent).await.ok()?;
    Some(answer.unwrap().status())
}

#[tokio::test]
async fn a_frozen_connection_stays_open_and_says_nothing_more() {
    let sim = start(Kind::Webhook, |_| {}).await;
    let url = format!("{}/hook/a", sim.running()[0].url());
    let client = Client::new();
    let long = Duration::from_secs(10);
    assert_eq!(
        post(&client, &url, long).await,
        Some(StatusCode::NO_CONTENT)
    );
    assert_eq!(sim.running()[0].freeze(), 1);
    // The pooled connection looks well to its owner.
    assert_eq!(post(&client, &url, Duration::from_millis(300)).await, None);
    assert_eq!(sim.running()[0].recorder().counts().requests, 1);
    assert_eq!(
        post(&Client::new(), &url, long).await,
        Some(StatusCode::NO_CONTENT)
    );
}

#[tokio::test]
async fn every_twin_speaks_tls_with_the_authority_it_tells() {
    let sim = start(Kind::Webhook, |_| {}).await;
    let running = &sim.running()[0];
    let told = reqwest::get(format!("{}/_sim/authority", running.url())).await;
    let pem = told.unwrap().text().await.unwrap();
    assert_eq!(pem, running.authority());
    let trusting = Client::builder()
        .tls_certs_only([Certificate::from_pem(pem.as_bytes()).unwrap()])
        .build()
        .unwrap();
    let url = format!("{}/hook/a", running.tls_url());
    let sent = trusting.post(&url).body(body("s", "e", 1)).send().await;
    assert_eq!(sent.unwrap().version(), reqwest::Version::HTTP_2);
    let strangers = Client::new().post(&url).body("{}").send().await;
    assert!(strangers.unwrap_err().is_connect());
}
