use std::time::{Duration, Instant};

use bongsu_simulators::faults::Bucket;
use bongsu_simulators::simulators::Kind;
use bongsu_simulators::{Expected, Faults};
use reqwest::{Client, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{body, start, url};

async fn post(client: &Client, url: &str, body: String) -> reqwest::Result<StatusCode> {
    let answer = client
        .post(url)
        .header("bongsu-worker", "w-1")
        .header("bongsu-attempt", "1")
        .body(body)
        .send()
        .await?;
    Ok(answer.status())
}

#[tokio::test]
async fn copies_and_order_are_counted_as_they_were_read() {
    let sim = start(Kind::Webhook, |_| {}).await;
    let (client, target) = (Client::new(), url(&sim, "/hook/a?x=1"));
    for (event, seq) in [("e1", 1), ("e3", 3), ("e2", 2), ("e3", 3)] {
        let status = post(&client, &target, body("s", event, seq)).await.unwrap();
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    let report = sim.running()[0].report();
    assert_eq!((report.requests, report.accepted, report.errors), (4, 3, 0));
    assert_eq!(report.duplicates, 1);
    assert_eq!(report.duplicate_deliveries, ["d-e3"]);
    assert_eq!(report.order_violations, 1);
    assert_eq!(report.order_violation_list[0].path, "/hook/a?x=1");
    assert_eq!(report.copies_per_address.max, 2);
    assert_eq!(report.per_worker["w-1"], 4);
    assert_eq!(report.max_in_window[&1_000], 4);

    let expected = Expected::parse(br#"["d-e1", "d-e2", "d-e3", "d-e4"]"#).unwrap();
    let found = sim.running()[0].compare(expected);
    assert_eq!(
        (found.lost, found.unexpected_count),
        (vec!["d-e4".to_owned()], 0)
    );
}

#[tokio::test]
async fn a_reset_and_a_silence_are_read_whole_and_never_answered() {
    let sim = start(Kind::Webhook, |i| {
        i.faults.paths = [
            (
                "/hook/reset",
                Faults {
                    reset_ratio: 1.0,
                    ..Faults::default()
                },
            ),
            (
                "/hook/hang",
                Faults {
                    timeout_ratio: 1.0,
                    ..Faults::default()
                },
            ),
        ]
        .map(|(path, plan)| (path.to_owned(), plan))
        .into();
    })
    .await;
    let client = Client::builder()
        .timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    let reset = post(&client, &url(&sim, "/hook/reset"), body("s", "e1", 1)).await;
    assert!(!reset.unwrap_err().is_timeout());
    let hang = post(&client, &url(&sim, "/hook/hang"), body("s", "e2", 2)).await;
    assert!(hang.unwrap_err().is_timeout());
    post(&client, &url(&sim, "/hook/fine"), body("s", "e3", 3))
        .await
        .unwrap();
    let report = sim.running()[0].report();
    assert_eq!(
        (report.requests, report.unanswered, report.accepted),
        (3, 2, 1)
    );
    let found = sim.running()[0].compare(Expected::parse(br#"["d-e1"]"#).unwrap());
    assert_eq!(found.lost_count, 0, "a reset request was read");
}

#[tokio::test]
async fn failures_throttling_and_latency_follow_the_plan() {
    let sim = start(Kind::Webhook, |i| {
        i.faults = Faults {
            latency_ms: 60,
            throttle_ratio: 1.0,
            retry_after_ms: 1_500,
            ..Faults::default()
        };
    })
    .await;
    let client = Client::new();
    let started = Instant::now();
    let target = url(&sim, "/hook/a");
    let answer = client.post(&target).body("{}").send().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(60));
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], "2");
    sim.running()[0]
        .set_faults(Faults {
            fail_attempts: 1,
            fail_status: 500,
            ..Faults::default()
        })
        .unwrap();
    let status = post(&client, &target, body("s", "e", 1)).await.unwrap();
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let report = sim.running()[0].report();
    assert_eq!(
        (report.errors, report.duplicates, report.accepted),
        (2, 0, 0)
    );
}

#[tokio::test]
async fn a_thousand_waiting_answers_do_not_wait_for_each_other() {
    let sim = start(Kind::Webhook, |i| i.faults.latency_ms = 200).await;
    let client = Client::new();
    let started = Instant::now();
    let target = url(&sim, "/hook/a");
    let mut tasks = bongsu_runtime::Tasks::new();
    for i in 0..1_000 {
        let (client, target) = (client.clone(), target.clone());
        tasks.spawn("post", async move {
            post(&client, &target, body("s", &format!("e{i}"), i))
                .await
                .map(drop)
        });
    }
    tasks.join().await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(sim.running()[0].recorder().counts().accepted, 1_000);
}

#[tokio::test]
async fn what_is_no_hook_is_not_recorded() {
    let sim = start(Kind::Webhook, |_| {}).await;
    let client = Client::new();
    let status = client
        .get(url(&sim, "/hook/a"))
        .send()
        .await
        .unwrap()
        .status();
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(sim.running()[0].recorder().counts().requests, 0);
}

#[tokio::test]
async fn a_lost_answer_was_taken_and_never_arrives() {
    let sim = start(Kind::Webhook, |i| i.faults.lost_ratio = 1.0).await;
    let target = url(&sim, "/hook/a");
    let answer = post(&Client::new(), &target, body("s", "e1", 1)).await;
    assert!(!answer.unwrap_err().is_timeout());
    let report = sim.running()[0].report();
    assert_eq!((report.accepted, report.unanswered), (1, 0));
}

#[tokio::test]
async fn beyond_its_bucket_it_says_too_many_with_or_without_a_wait() {
    let bucket = |retry_after_ms| Faults {
        bucket: Some(Bucket {
            rate: 0.001,
            burst: 2.0,
            retry_after_ms,
        }),
        ..Faults::default()
    };
    let sim = start(Kind::Webhook, |i| i.faults = bucket(0)).await;
    let client = Client::new();
    let target = url(&sim, "/hook/a");
    for (event, status) in [("e1", 204), ("e2", 204), ("e3", 429)] {
        let answer = client.post(&target).body(body("s", event, 1)).send().await;
        let answer = answer.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert!(!answer.headers().contains_key("retry-after"));
    }
    // The level outlives the change of the plan.
    sim.running()[0].set_faults(bucket(1_000)).unwrap();
    let answer = client.post(&target).body(body("s", "e4", 4)).send().await;
    assert_eq!(answer.unwrap().headers()["retry-after"], "1");
}

#[tokio::test]
async fn a_connection_is_closed_in_order_after_its_number_of_requests() {
    let sim = start(Kind::Webhook, |i| i.faults.goaway_after = 3).await;
    let request = "POST /hook/a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}";
    let mut raw = TcpStream::connect(sim.running()[0].address())
        .await
        .unwrap();
    raw.write_all(request.repeat(3).as_bytes()).await.unwrap();
    let mut answers = String::new();
    let read = raw.read_to_string(&mut answers);
    tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .expect("the connection ends")
        .unwrap();
    assert_eq!(answers.matches("204 No Content").count(), 3);
    // Over HTTP/2 nothing is lost when the connection is renewed.
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    for i in 0..9 {
        let target = url(&sim, "/hook/b");
        let status = post(&client, &target, body("s", "e", i)).await.unwrap();
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    assert_eq!(sim.running()[0].recorder().counts().accepted, 12);
}
