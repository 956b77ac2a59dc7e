use std::time::Duration;

use bongsu_simulators::alimtalk::{Counts, Plan, ReportMode};
use bongsu_simulators::{Kind, Simulators};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::{start, url};

async fn send(sim: &Simulators, to: &[&str], key: Option<&str>, flow: &Value) -> Response {
    let destinations: Vec<Value> = to
        .iter()
        .map(|to| json!({"to": to, "ref": format!("b1.alimtalk.bulk.0.{:032x}.00", to.len())}))
        .collect();
    let body = json!({
        "destinations": destinations,
        "messageFlow": flow,
        "idempotencyKey": key,
        "idempotencyTtl": key.map(|_| 60),
    });
    let request = Client::new().post(url(sim, "/api/comm/v1/send/omni"));
    let request = request
        .header("authorization", "key")
        .body(body.to_string());
    request.send().await.unwrap()
}

fn flow() -> Value {
    json!([{"alimtalk": {"senderKey": "k".repeat(40), "templateCode": "t", "sendType": "template"}}])
}

async fn dealer(sim: &Simulators) -> Counts {
    let answer = reqwest::get(url(sim, "/_sim/dealer")).await.unwrap();
    answer.json().await.unwrap()
}

#[tokio::test]
async fn recipients_are_what_is_counted_and_limited() {
    let sim = start(Kind::AlimTalk, |i| i.alimtalk.recipients_per_second = 3).await;
    let answer = send(&sim, &["01011112222", "x"], None, &flow()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["common"]["authCode"], "A000");
    let codes = &body["data"]["data"]["destinations"];
    assert_eq!(
        (&codes[0]["code"], &codes[1]["code"]),
        (&json!("A000"), &json!("A306"))
    );
    let over = send(&sim, &["01011112222", "01033334444"], None, &flow()).await;
    assert_eq!(over.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(over.headers()["retry-after"], "1");
    let report = sim.running()[0].report();
    assert_eq!((report.requests, report.accepted, report.errors), (4, 1, 3));
    assert_eq!(
        report.max_in_window[&1_000], 4,
        "refused ones were read, too"
    );
    assert_eq!(dealer(&sim).await.over_limit, 2);
}

#[tokio::test]
async fn a_plan_is_shown_and_set_and_a_wrong_one_refused() {
    let sim = start(Kind::AlimTalk, |_| {}).await;
    let put = async |body: Value| {
        let request = Client::new().put(url(&sim, "/_sim/plan"));
        let answer = request.body(body.to_string()).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(put(json!({"service_code": "A310"})).await, 200);
    let answer = reqwest::get(url(&sim, "/_sim/plan")).await.unwrap();
    let plan: Plan = answer.json().await.unwrap();
    assert_eq!(plan.service_code.as_deref(), Some("A310"));
    let answer = send(&sim, &["01011112222"], None, &flow()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["data"]["code"], "A310");
    assert_eq!(put(json!({"unheard": 1})).await, 400);
    assert_eq!(put(json!({"reports": {"late_ratio": 2}})).await, 400);
    assert_eq!(put(json!({"reports": {"mode": "webhook"}})).await, 400);
}

#[tokio::test]
async fn polled_reports_are_given_until_they_are_confirmed_one_per_way() {
    let sim = start(Kind::AlimTalk, |i| {
        i.alimtalk.reports.mode = ReportMode::Polling;
        i.alimtalk.reports.delay_ms = 0;
        i.alimtalk.unreachable.insert("01011112222".into());
    })
    .await;
    let mut flow = flow();
    let sms = json!({"sms": {"from": "0212345678", "text": "t"}});
    flow.as_array_mut().unwrap().push(sms);
    send(&sim, &["01011112222"], Some("k"), &flow).await;
    let again: Value = send(&sim, &["01011112222"], Some("k"), &flow)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(again["data"]["code"], "A301");
    let ask = async |method: reqwest::Method, path: String| {
        let request = Client::new().request(method, url(&sim, &path));
        let answer = request.header("authorization", "key").send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    let polling = "/api/comm/v1/report/polling";
    let fetch =
        async || ask(reqwest::Method::GET, polling.to_owned()).await["data"]["data"].clone();
    eventually(|| async {
        fetch().await["report"]
            .as_array()
            .is_some_and(|r| !r.is_empty())
    })
    .await;
    let fetched = fetch().await;
    let same = ask(reqwest::Method::GET, polling.to_owned()).await["data"]["data"].clone();
    assert_eq!(same["reportId"], fetched["reportId"]);
    let id = fetched["reportId"].as_str().unwrap();
    let first = &fetched["report"][0];
    assert_eq!(
        (&first["serviceType"], &first["reportCode"]),
        (&json!("ALIMTALK"), &json!("3018"))
    );
    let confirmed = ask(reqwest::Method::DELETE, format!("{polling}/{id}")).await;
    assert_eq!(confirmed["data"]["code"], "A000");
    let unknown = ask(reqwest::Method::DELETE, format!("{polling}/{id}")).await;
    assert_eq!(unknown["data"]["code"], "A801");
    assert_eq!(dealer(&sim).await.recognised, 1);
    assert_eq!(dealer(&sim).await.reports, 2);
}

/// Asks until it holds, ten seconds at most.
async fn eventually<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "it never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_unanswered_callback_is_repeated_three_times_and_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let sim = start(Kind::AlimTalk, |i| {
        let reports = &mut i.alimtalk.reports;
        reports.mode = ReportMode::Webhook;
        reports.url = format!("http://{gone}/");
        reports.delay_ms = 0;
        reports.retry_ms = 1;
    })
    .await;
    send(&sim, &["01011112222"], None, &flow()).await;
    eventually(|| async { dealer(&sim).await.given_up == 1 }).await;
    let counts = dealer(&sim).await;
    assert_eq!(
        (counts.posted, counts.acknowledged, counts.waiting),
        (4, 0, 0)
    );
}
