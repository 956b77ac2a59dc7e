use bongsu_runtime::Shutdown;
use bongsu_simulators::{Comparison, Difference, Faults, Kind, Report};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::{body, start, url};

#[tokio::test]
async fn everything_can_be_asked_over_http() {
    let sim = start(Kind::Webhook, |_| {}).await;
    let client = Client::new();
    for (event, seq) in [("e1", 1), ("e2", 2)] {
        let request = client
            .post(url(&sim, "/hook/a"))
            .body(body("s", event, seq));
        request.send().await.unwrap();
    }
    let get = |path: &str| client.get(url(&sim, path)).send();
    let post = |path: &str, body: String| client.post(url(&sim, path)).body(body).send();

    let report: Report = get("/_sim/report?windows=1000,60000")
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((report.requests, report.accepted), (2, 2));
    assert_eq!(report.max_in_window_per_address[&60_000], 2);

    let lines = get("/_sim/requests?from=1&path=%2Fhook%2Fa")
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let line: Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(
        (&line["n"], &line["event_id"], &line["status"]),
        (&json!(1), &json!("e2"), &json!(204))
    );
    assert_eq!(
        (&line["seq"], &line["path"]),
        (&json!(2), &json!("/hook/a"))
    );

    let found = post("/_sim/compare", "\"d-e1\"\n\"d-e9\"".into())
        .await
        .unwrap();
    let found: Comparison = found.json().await.unwrap();
    assert_eq!(
        (found.lost, found.unexpected),
        (vec!["d-e9".to_owned()], vec!["d-e2".to_owned()])
    );
}

#[tokio::test]
async fn the_page_of_every_twin_shows_what_the_twin_answers_and_nothing_from_elsewhere() {
    let client = Client::new();
    for kind in Kind::ALL {
        let sim = start(*kind, |_| {}).await;
        let page = client.get(url(&sim, "/_sim/")).send().await.unwrap();
        assert_eq!(page.status(), StatusCode::OK);
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(
            page.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html")
        );
        let page = page.text().await.unwrap();
        let list = page.split_once("const SHOWN = ").unwrap().1;
        let list = list.split_once(";\n").unwrap().0;
        let mut paths: Vec<String> = serde_json::from_str(list).unwrap();
        paths.extend(["/_sim/counts".to_owned(), "/_sim/report".to_owned()]);
        for path in paths {
            assert!(page.contains(&path), "{path}");
            let answer = client.get(url(&sim, &path)).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{} {path}", kind.as_str());
            let _read: Value = answer.json().await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_assertion_is_answered_and_a_reset_forgets() {
    let sim = start(Kind::Webhook, |_| {}).await;
    let client = Client::new();
    for (event, seq) in [("e1", 1), ("e2", 2)] {
        let request = client
            .post(url(&sim, "/hook/a"))
            .body(body("s", event, seq));
        request.send().await.unwrap();
    }
    let get = |path: &str| client.get(url(&sim, path)).send();
    let post = |path: &str, body: String| client.post(url(&sim, path)).body(body).send();

    let right = json!({"sender": "s", "path": "/hook/a", "deliveries": ["e1", "e2"]});
    assert_eq!(
        post("/_sim/assert", right.to_string())
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
    let wrong = json!({"sender": "s", "deliveries": ["e2", "e1"]});
    let answer = post("/_sim/assert", wrong.to_string()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let difference: Difference = answer.json().await.unwrap();
    assert_eq!(difference.expected_there.as_deref(), Some("e2"));

    let seconds: Value = get("/_sim/seconds").await.unwrap().json().await.unwrap();
    let accepted = seconds.as_array().unwrap().iter();
    assert_eq!(
        accepted.filter_map(|s| s["accepted"].as_u64()).sum::<u64>(),
        2
    );

    assert_eq!(get("/healthz").await.unwrap().text().await.unwrap(), "ok");
    assert_eq!(
        post("/_sim/reset", String::new()).await.unwrap().status(),
        StatusCode::NO_CONTENT
    );
    let counts: Value = get("/_sim/counts").await.unwrap().json().await.unwrap();
    assert_eq!(counts["requests"], 0);
    assert_eq!(
        get("/_sim/nothing").await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_fault_plan_is_replaced_and_a_wrong_one_is_refused() {
    let sim = start(Kind::Webhook, |_| {}).await;
    let client = Client::new();
    let put = |body: Value| {
        client
            .put(url(&sim, "/_sim/faults"))
            .body(body.to_string())
            .send()
    };
    assert_eq!(
        put(json!({"fail_ratio": 1, "fail_status": 502}))
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
    let status = client
        .post(url(&sim, "/hook/a"))
        .body("{}")
        .send()
        .await
        .unwrap()
        .status();
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert_eq!(
        put(json!({"fail_ratio": 2})).await.unwrap().status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        put(json!({"typo": 2})).await.unwrap().status(),
        StatusCode::BAD_REQUEST
    );
    let now = client.get(url(&sim, "/_sim/faults")).send().await.unwrap();
    let now: Faults = now.json().await.unwrap();
    assert_eq!((now.fail_ratio, now.fail_status), (1.0, 502));
}

#[tokio::test]
async fn the_log_holds_every_request_after_an_orderly_stop() {
    let path = std::env::temp_dir().join(format!("bongsu-simulator-{}.ndjson", std::process::id()));
    let sim = start(Kind::Webhook, |i| i.log = Some(path.clone())).await;
    let client = Client::new();
    for i in 0..50 {
        let request = client
            .post(url(&sim, "/hook/a"))
            .body(body("s", &format!("e{i}"), i));
        request.send().await.unwrap();
    }
    let stop = Shutdown::new();
    stop.request();
    sim.run(stop).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(text.lines().count(), 50);
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["n"], &last["seq"]), (&json!(49), &json!(49)));
}
