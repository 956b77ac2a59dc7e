//! How long a publish takes at a steady rate: through the gateway on real Kafka, and beside it the
//! two halves alone (the gateway on the local log, the producer on real Kafka), so that a tail can
//! be told to belong to the one or the other. By hand, optimised and in one run:
//! `cargo test -p bongsu-gateway --profile bench-run --test it -- --ignored --nocapture --test-threads 1 latency`.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bongsu_gateway::run;
use bongsu_runtime::{Shutdown, Tasks};
use bongsu_stream::port::{Headers, Outgoing};
use hdrhistogram::Histogram;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::world::{PUBLISHER, World, event, kafka_cluster, settings};

const RATE: u32 = 2_000;
const SECONDS: u32 = 25;
/// Left out of the figures: connections open, and the broker's Java compiles itself.
const WARM_UP: u32 = 10;
const WORKERS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, by hand and optimised"]
async fn a_latency_of_the_gateway_on_kafka() {
    let world = World::kafka("gateway-latency").await;
    let p99 = through_gateway("gateway on Kafka", &world).await;
    assert!(p99 <= Duration::from_millis(30), "p99 {p99:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, by hand and optimised"]
async fn b_latency_of_the_gateway_on_the_local_log() {
    through_gateway("gateway on the local log", &World::local().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, by hand and optimised"]
async fn c_latency_of_the_producer_alone() {
    let world = World::kafka("gateway-producer").await;
    let producer = kafka_cluster().producer(settings().linger.0).unwrap();
    let topic = world.topics.events(bongsu_domain::Class::Transactional);
    let mut tasks = Tasks::new();
    let received = load(&mut tasks, move |number| {
        let sent = producer.send(Outgoing {
            topic: Arc::clone(&topic),
            partition: 0,
            key: Some("shop-1".into()),
            value: Some(event(&format!("{number}")).to_string().into()),
            headers: Headers::default(),
        });
        async move { assert!(sent.await.is_ok()) }
    });
    report("producer alone on Kafka", received).await;
    tasks.join().await.unwrap();
}

async fn through_gateway(what: &str, world: &World) -> Duration {
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
    let received = load(&mut tasks, move |number| {
        let body = event(&format!("{number}")).to_string();
        let request = client.post(&url).bearer_auth(PUBLISHER);
        let request = request
            .header("content-type", "application/json")
            .body(body);
        async move {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 202);
            answer.bytes().await.unwrap();
        }
    });
    let p99 = report(what, received).await;
    shutdown.request();
    tasks.join().await.unwrap();
    p99
}

/// Writes the figures and gives the p99.
async fn report(what: &str, mut received: mpsc::Receiver<(u32, Duration)>) -> Duration {
    let mut all = Histogram::<u64>::new(3).unwrap();
    let mut seconds: Vec<Histogram<u64>> = vec![Histogram::new(3).unwrap(); SECONDS as usize];
    while let Some((number, took)) = received.recv().await {
        let micros = u64::try_from(took.as_micros()).unwrap();
        seconds[(number / RATE) as usize].record(micros).unwrap();
        if number >= RATE * WARM_UP {
            all.record(micros).unwrap();
        }
    }
    let at = |histogram: &Histogram<u64>, quantile| {
        Duration::from_micros(histogram.value_at_quantile(quantile))
    };
    let p99s: Vec<_> = seconds.iter().map(|s| at(s, 0.99).as_millis()).collect();
    let line = format!(
        "{what}, {} at {RATE}/s: p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}; \
         p99 by second, warm-up included, in ms: {p99s:?}\n",
        all.len(),
        at(&all, 0.5),
        at(&all, 0.99),
        at(&all, 0.999),
        at(&all, 1.0),
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    at(&all, 0.99)
}

/// Open loop: measured from the moment it was due, not from when it left.
fn load<F, Fut>(tasks: &mut Tasks, ask: F) -> mpsc::Receiver<(u32, Duration)>
where
    F: Fn(u32) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let begun = Instant::now() + Duration::from_millis(200);
    let next = Arc::new(AtomicU32::new(0));
    let (results, received) = mpsc::channel(1_024);
    for _ in 0..WORKERS {
        let (ask, next, results) = (ask.clone(), Arc::clone(&next), results.clone());
        tasks.spawn("load", async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= RATE * SECONDS {
                    return Ok::<(), Infallible>(());
                }
                let due = begun + Duration::from_secs(1) * number / RATE;
                sleep_until(due).await;
                ask(number).await;
                results.send((number, due.elapsed())).await.unwrap();
            }
        });
    }
    received
}
