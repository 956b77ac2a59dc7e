//! How long a publish takes on real Kafka at a steady rate; run by hand, optimised:
//! `cargo test -p bongsu-gateway --profile bench-run --test it -- --ignored --nocapture latency`.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bongsu_gateway::run;
use bongsu_runtime::{Shutdown, Tasks};
use hdrhistogram::Histogram;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::world::{PUBLISHER, World, event, settings};

const RATE: u32 = 2_000;
const SECONDS: u32 = 15;
/// Left out of the figures: connections open, code pages in.
const WARM_UP: u32 = 3;
const WORKERS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, by hand and optimised"]
async fn latency_of_publishing_at_a_steady_rate() {
    let world = World::kafka("gateway-latency").await;
    let shutdown = Shutdown::new();
    let (on_bound, bound) = oneshot::channel();
    let mut tasks = Tasks::new();
    let resources = world.resources.clone();
    tasks.spawn(
        "gateway",
        run(settings(), resources, shutdown.clone(), Some(on_bound)),
    );
    let url = format!("http://{}/v1/events", bound.await.unwrap());
    let client = reqwest::Client::new();
    let begun = Instant::now() + Duration::from_millis(200);
    let next = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (results, mut received) = mpsc::channel(1_024);
    for _ in 0..WORKERS {
        let (client, url, next, results) = (
            client.clone(),
            url.clone(),
            Arc::clone(&next),
            results.clone(),
        );
        tasks.spawn("load", async move {
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= RATE * SECONDS {
                    return Ok::<(), std::convert::Infallible>(());
                }
                // Open loop: measured from the moment the request was due, not from when it left.
                let due = begun + Duration::from_secs(1) * number / RATE;
                sleep_until(due).await;
                let body = event(&format!("{number}")).to_string();
                let request = client.post(&url).bearer_auth(PUBLISHER);
                let request = request
                    .header("content-type", "application/json")
                    .body(body);
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), 202);
                answer.bytes().await.unwrap();
                results.send((number, due.elapsed())).await.unwrap();
            }
        });
    }
    drop(results);
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    while let Some((number, took)) = received.recv().await {
        if number >= RATE * WARM_UP {
            histogram
                .record(u64::try_from(took.as_micros()).unwrap())
                .unwrap();
        }
    }
    shutdown.request();
    tasks.join().await.unwrap();
    let millis = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
    let line = format!(
        "{} publishes at {RATE}/s: p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}\n",
        histogram.len(),
        millis(0.5),
        millis(0.99),
        millis(0.999),
        millis(1.0)
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    assert!(millis(0.99) <= Duration::from_millis(30), "{line}");
}
