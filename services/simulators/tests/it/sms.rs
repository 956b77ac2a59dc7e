use std::time::Duration;

use bongsu_simulators::alimtalk::{ReportMode, ReportPlan};
use bongsu_simulators::sms::{
    Counts, Plan, SOLAPI_KEY, SOLAPI_SECRET, TWILIO_ACCOUNT, TWILIO_TOKEN,
};
use bongsu_simulators::{Kind, Simulators};
use hmac::{Hmac, Mac as _};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{start, url};

fn authorization(salt: &str) -> String {
    let date = OffsetDateTime::now_utc().format(&Rfc3339).unwrap();
    let key = Hmac::<Sha256>::new_from_slice(SOLAPI_SECRET.as_bytes()).unwrap();
    let tag = key.chain_update(format!("{date}{salt}")).finalize();
    let tag: String = tag
        .into_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("HMAC-SHA256 apiKey={SOLAPI_KEY}, date={date}, salt={salt}, signature={tag}")
}

async fn solapi(sim: &Simulators, authorization: &str, to: &[&str]) -> Response {
    let message = |to: &&str| json!({"to": to, "from": "0212345678", "text": "t", "type": "SMS"});
    let messages: Vec<Value> = to.iter().map(message).collect();
    let request = Client::new().post(url(sim, "/messages/v4/send-many/detail"));
    let request = request
        .header("authorization", authorization)
        .body(json!({"messages": messages, "allowDuplicates": false}).to_string());
    request.send().await.unwrap()
}

async fn counts(sim: &Simulators) -> Counts {
    let answer = reqwest::get(url(sim, "/_sim/vendors")).await.unwrap();
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_signature_of_solapi_opens_once() {
    let sim = start(Kind::Sms, |_| {}).await;
    let signed = authorization("0123456789abcdef");
    let answer = solapi(&sim, &signed, &["01011112222"]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let again = solapi(&sim, &signed, &["01011112222"]).await;
    assert_eq!(again.status(), StatusCode::FORBIDDEN);
    let body: Value = again.json().await.unwrap();
    assert_eq!(body["errorCode"], "DuplicatedSignature");
    let counts = counts(&sim).await;
    assert_eq!((counts.requests, counts.strangers, counts.taken), (1, 1, 1));
}

#[tokio::test]
async fn recipients_are_what_is_counted_and_limited() {
    let sim = start(Kind::Sms, |_| {}).await;
    sim.running()[0]
        .set_vendors(Plan {
            recipients_per_second: 3,
            ..Plan::default()
        })
        .unwrap();
    let mut n = 0;
    let mut send = async |to: &[&str]| {
        n += 1;
        solapi(&sim, &authorization(&format!("0123456789{n:04}")), to).await
    };
    // The second copy of a number is taken out.
    let answer = send(&["01011112222", "01011112222"]).await;
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["failedMessageList"][0]["statusCode"], "1026");
    assert_eq!(body["groupInfo"]["count"]["registeredFailed"], 1);
    let over = send(&["01011112222", "01033334444"]).await;
    assert_eq!(over.status(), StatusCode::TOO_MANY_REQUESTS);
    let report = sim.running()[0].report();
    assert_eq!((report.requests, report.accepted, report.errors), (4, 1, 3));
    assert_eq!(counts(&sim).await.over_limit, 2);
}

#[tokio::test]
async fn a_plan_is_shown_and_set_and_a_wrong_one_refused() {
    let sim = start(Kind::Sms, |_| {}).await;
    let put = async |body: Value| {
        let request = Client::new().put(url(&sim, "/_sim/plan"));
        let answer = request.body(body.to_string()).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(put(json!({"error": "21211"})).await, 200);
    let answer = reqwest::get(url(&sim, "/_sim/plan")).await.unwrap();
    let plan: Plan = answer.json().await.unwrap();
    assert_eq!(plan.error.as_deref(), Some("21211"));
    assert_eq!(put(json!({"unheard": 1})).await, 400);
    assert_eq!(put(json!({"error_status": 200})).await, 400);
    assert_eq!(put(json!({"reports": {"late_ratio": 2}})).await, 400);
}

#[tokio::test]
async fn an_unanswered_callback_of_twilio_is_repeated_three_times_and_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let sim = start(Kind::Sms, |_| {}).await;
    sim.running()[0]
        .set_vendors(Plan {
            reports: ReportPlan {
                mode: ReportMode::Webhook,
                delay_ms: 0,
                retry_ms: 1,
                ..ReportPlan::default()
            },
            ..Plan::default()
        })
        .unwrap();
    let path = format!("/2010-04-01/Accounts/{TWILIO_ACCOUNT}/Messages.json");
    let callback = format!("http://{gone}/");
    let form = [
        ("To", "+821012345678"),
        ("From", "+14155552671"),
        ("Body", "t"),
        ("StatusCallback", &callback),
    ];
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let answer = Client::new()
        .post(url(&sim, &path))
        .basic_auth(TWILIO_ACCOUNT, Some(TWILIO_TOKEN))
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        (&body["status"], &body["error_code"]),
        (&json!("queued"), &Value::Null)
    );
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while counts(&sim).await.given_up < 2 {
        assert!(tokio::time::Instant::now() < deadline, "it never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let counts = counts(&sim).await;
    // `sent` and `delivered`, each posted four times.
    assert_eq!((counts.reports, counts.posted, counts.waiting), (2, 8, 0));
}
