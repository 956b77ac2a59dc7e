use bongsu_simulators::Kind;
use bongsu_simulators::apns::{Device, Plan, Stats, device_path};
use reqwest::{Certificate, Client, StatusCode, Version};
use serde_json::{Value, json};

use crate::{start, url};

const TOKEN: &str = "00aa11bb22cc33dd44ee55ff66007788990011223344556677889900aabbccdd";

/// A client of another kind than our own: reqwest over its own HTTP/2.
fn client(simulators: &bongsu_simulators::Simulators) -> Client {
    let credentials = simulators.running()[0].credentials().unwrap();
    let ca = Certificate::from_pem(credentials.ca.as_bytes()).unwrap();
    Client::builder()
        .tls_certs_only([ca])
        .http2_prior_knowledge()
        .build()
        .unwrap()
}

async fn push(client: &Client, base: &str, change: &[(&str, &str)]) -> (StatusCode, Value) {
    let mut request = client
        .post(format!("{base}/3/device/{TOKEN}"))
        .body(r##"{"aps":{"alert":"x [#e1 s 4]"}}"##);
    for (name, value) in [
        ("apns-topic", "com.example.app"),
        ("apns-push-type", "alert"),
    ] {
        if change.iter().all(|(changed, _)| *changed != name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in change {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let status = answer.status();
    let body = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_request_without_a_token_is_refused_and_recorded() {
    let sim = start(Kind::Apns, |_| {}).await;
    let base = sim.running()[0].tls_url();
    let (status, body) = push(&client(&sim), &base, &[]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body, json!({"reason": "MissingProviderToken"}));
    let bad = [("authorization", "bearer a.b.c")];
    let (status, body) = push(&client(&sim), &base, &bad).await;
    assert_eq!(
        (status, &body["reason"]),
        (StatusCode::FORBIDDEN, &json!("InvalidProviderToken"))
    );
    let mut seen = Vec::new();
    sim.running()[0].recorder().visit(0, |request| {
        seen.push((
            request.path.to_owned(),
            request.event_id.to_owned(),
            request.seq,
        ));
        true
    });
    assert_eq!(seen[0], (device_path(TOKEN), "e1".to_owned(), Some(4)));
    assert!(!format!("{seen:?}").contains(TOKEN));
    assert_eq!(sim.running()[0].report().errors, 2);
}

#[tokio::test]
async fn a_client_certificate_opens_the_rules_behind() {
    let sim = start(Kind::Apns, |instance| {
        instance.apns = Plan {
            devices: [(TOKEN.to_owned(), Device::Unregistered(17))].into(),
            topics: vec!["com.example.app".into()],
            ..Plan::default()
        };
    })
    .await;
    let credentials = sim.running()[0].credentials().unwrap().clone();
    let pem = format!("{}{}", credentials.certificate, credentials.certificate_key);
    let ca = Certificate::from_pem(credentials.ca.as_bytes()).unwrap();
    let client = Client::builder()
        .tls_certs_only([ca])
        .identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let base = sim.running()[0].tls_url();
    let (status, body) = push(&client, &base, &[]).await;
    assert_eq!(status, StatusCode::GONE);
    assert_eq!(body, json!({"reason": "Unregistered", "timestamp": 17}));
    let (status, body) = push(&client, &base, &[("apns-topic", "com.evil")]).await;
    assert_eq!(
        (status, &body["reason"]),
        (StatusCode::BAD_REQUEST, &json!("BadTopic"))
    );
}

#[tokio::test]
async fn reports_and_plans_are_asked_without_tls_on_the_same_port() {
    let sim = start(Kind::Apns, |_| {}).await;
    let plain = Client::new();
    let get = |path: &str| plain.get(url(&sim, path)).send();
    let stats: Stats = get("/_sim/apns").await.unwrap().json().await.unwrap();
    assert_eq!(stats.connections_total, 0);
    let put = |body: Value| {
        plain
            .put(url(&sim, "/_sim/apns/plan"))
            .body(body.to_string())
            .send()
    };
    assert_eq!(
        put(json!({"streams": 7})).await.unwrap().status(),
        StatusCode::OK
    );
    assert_eq!(
        put(json!({"streams": 0})).await.unwrap().status(),
        StatusCode::BAD_REQUEST
    );
    let plan: Plan = get("/_sim/apns/plan").await.unwrap().json().await.unwrap();
    assert_eq!(plan.streams, 7);
    let credentials: Value = get("/_sim/apns/credentials")
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(credentials["key_id"], "TWINKEY001");
    let told = plain
        .post(url(&sim, "/_sim/apns/goaway"))
        .send()
        .await
        .unwrap();
    assert_eq!(told.text().await.unwrap(), "0");
    let pushed = plain.post(url(&sim, "/3/device/00")).send().await.unwrap();
    assert_eq!(pushed.status(), StatusCode::NOT_FOUND, "never without TLS");
    let other = start(Kind::Webhook, |_| {}).await;
    let answer = plain.get(url(&other, "/_sim/apns")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn credentials_are_written_and_a_key_that_is_there_is_kept() {
    let dir = std::env::temp_dir().join(format!("bongsu-apns-{}", std::process::id()));
    let key =
        |sim: &bongsu_simulators::Simulators| sim.running()[0].credentials().unwrap().key.clone();
    let first = start(Kind::Apns, |i| i.credentials_dir = Some(dir.clone())).await;
    let second = start(Kind::Apns, |i| i.credentials_dir = Some(dir.clone())).await;
    assert_eq!(key(&first), key(&second));
    let written = std::fs::read_to_string(dir.join("AuthKey.p8")).unwrap();
    assert_eq!(written, key(&first));
    for name in ["ca.pem", "client.pem", "client.key"] {
        assert!(dir.join(name).is_file(), "{name}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
