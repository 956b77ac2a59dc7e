use bongsu_simulators::Kind;
use bongsu_simulators::discord::{Limits, Quota};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::{start, url};

async fn execute(client: &Client, url: &str, body: Value) -> Response {
    let request = client.post(url).header("content-type", "application/json");
    request.body(body.to_string()).send().await.unwrap()
}

#[tokio::test]
async fn the_sixth_execution_waits_and_headers_say_so_before() {
    let sim = start(Kind::Discord, |_| {}).await;
    let (client, target) = (Client::new(), url(&sim, "/api/v10/webhooks/1/secret-token"));
    for left in (0..5).rev() {
        let answer = execute(
            &client,
            &target,
            json!({"content": format!("n {left} [#e{left} s {}]", 5 - left)}),
        )
        .await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(answer.headers()["x-ratelimit-remaining"], left.to_string());
    }
    let answer = execute(&client, &target, json!({"content": "[#e6 s 6]"})).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers().contains_key("via"));
    let body: Value = answer.json().await.unwrap();
    let wait = body["retry_after"].as_f64().unwrap();
    assert!((0.5..=2.001).contains(&wait), "{wait}");
    let report = sim.running()[0].report();
    assert_eq!(
        (report.accepted, report.errors, report.order_violations),
        (5, 1, 0)
    );
    assert!(!format!("{report:?}").contains("secret-token"));
}

#[tokio::test]
async fn copies_are_known_by_marker_or_text() {
    let sim = start(Kind::Discord, |i| i.limits = None).await;
    let (client, target) = (Client::new(), url(&sim, "/api/v10/webhooks/1/t"));
    for content in ["hello", "hello", "a [#e1]", "b [#e1]", "c [#e2]"] {
        execute(&client, &target, json!({"content": content})).await;
    }
    let report = sim.running()[0].report();
    assert_eq!((report.requests, report.duplicates), (5, 2));
    assert_eq!(report.duplicate_deliveries[1], "e1 to /webhooks/1");
}

#[tokio::test]
async fn forms_deleted_webhooks_and_wait_answer_as_discord_does() {
    let sim = start(Kind::Discord, |i| i.faults.deleted = vec!["9".into()]).await;
    let client = Client::new();
    let code = async |path: &str, body: Value| {
        let answer = execute(&client, &url(&sim, path), body).await;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap_or_default();
        (status, body["code"].as_i64().unwrap_or(0))
    };
    assert_eq!(
        code("/api/v10/webhooks/9/t", json!({"content": "x"})).await,
        (404, 10_015)
    );
    assert_eq!(
        code(
            "/api/v10/webhooks/1/t",
            json!({"content": "x".repeat(2_001)})
        )
        .await,
        (400, 50_035)
    );
    assert_eq!(
        code("/api/v10/webhooks/1/t", json!({})).await,
        (400, 50_006)
    );
    assert_eq!(
        code("/api/v10/webhooks/1/t?wait=true", json!({"content": "x"})).await,
        (200, 0)
    );
}

#[tokio::test]
async fn too_many_invalid_requests_bring_the_ban_page() {
    let sim = start(Kind::Discord, |i| {
        i.faults.deleted = vec!["9".into()];
        i.limits = Some(Limits {
            invalid: Quota {
                requests: 3,
                window_us: 600_000_000,
            },
            ..Limits::default()
        });
    })
    .await;
    let (client, target) = (Client::new(), url(&sim, "/api/v10/webhooks/9/t"));
    for _ in 0..4 {
        execute(&client, &target, json!({"content": "x"})).await;
    }
    let answer = execute(
        &client,
        &url(&sim, "/api/v10/webhooks/1/t"),
        json!({"content": "x"}),
    )
    .await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(!answer.headers().contains_key("via"));
    assert!(answer.text().await.unwrap().starts_with("<!doctype html>"));
}
