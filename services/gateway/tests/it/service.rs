//! The service with its socket: starting, limits, readiness, and an orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bongsu_gateway::{Gateway, GatewayError, Settings, run};
use bongsu_runtime::{ByteSize, Duration as Span, Shutdown, Tasks};
use bongsu_schemas::Topics;
use bongsu_store::{LedgerReader, MemoryStore};
use bongsu_stream::local::{FaultPlan, LocalCluster};
use bongsu_stream::port::{Cluster as _, TopicSpec};
use bongsu_testkit::wait_until;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::world::{PUBLISHER, READER, World, event, settings};

const SOON: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    tasks: Tasks,
    cluster: LocalCluster,
    world: World,
}

async fn start(settings: Settings) -> Running {
    start_with(settings, None).await
}

async fn start_with(settings: Settings, store: Option<Arc<dyn LedgerReader>>) -> Running {
    let cluster = LocalCluster::default();
    let world = World::new(Arc::new(cluster.clone()), "t.", settings.clone(), store).await;
    let shutdown = Shutdown::new();
    let (on_bound, bound) = oneshot::channel();
    let mut tasks = Tasks::new();
    let resources = world.resources.clone();
    tasks.spawn(
        "gateway",
        run(settings, resources, shutdown.clone(), Some(on_bound)),
    );
    let address = tokio::time::timeout(SOON, bound).await.unwrap().unwrap();
    Running {
        address,
        shutdown,
        tasks,
        cluster,
        world,
    }
}

impl Running {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn readiness(&self) -> (u16, Value) {
        let answer = reqwest::get(self.url("/readyz")).await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap())
    }

    fn post(&self) -> reqwest::RequestBuilder {
        reqwest::Client::new()
            .post(self.url("/v1/events"))
            .bearer_auth(PUBLISHER)
            .header("content-type", "application/json")
    }

    async fn end(self) -> Result<(), bongsu_runtime::TaskDied> {
        self.shutdown.request();
        tokio::time::timeout(SOON, self.tasks.join()).await.unwrap()
    }
}

#[tokio::test]
async fn it_serves_on_the_bound_address_and_ends_when_asked() {
    let running = start(settings()).await;
    let answer = running
        .post()
        .body(event("e-1").to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    let get = |path| reqwest::get(running.url(path));
    assert_eq!(get("/healthz").await.unwrap().status(), 200);
    assert_eq!(get("/readyz").await.unwrap().status(), 200);
    let metrics = get("/metrics").await.unwrap().text().await.unwrap();
    for line in [
        "bongsu_gateway_events_total{class=\"transactional\"} 1",
        "bongsu_gateway_requests_total{route=\"/v1/events\",status=\"202\"} 1",
        "bongsu_gateway_in_flight_bytes 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let address = running.address;
    assert_eq!(running.world.records().await.len(), 1);
    running.end().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn open_requests_finish_at_shutdown() {
    let running = start(settings()).await;
    running.cluster.set_faults(FaultPlan {
        acknowledge_within: Duration::from_millis(800),
        seed: 3,
        ..FaultPlan::default()
    });
    let body = serde_json::json!((0..50).map(|i| event(&format!("{i}"))).collect::<Vec<_>>());
    let request = running.post().body(body.to_string()).send();
    let stop = async {
        wait_until(SOON, "the records", || async {
            !running.world.records().await.is_empty()
        })
        .await;
        running.shutdown.request();
    };
    let (answer, ()) = tokio::join!(request, stop);
    assert_eq!(answer.unwrap().status(), 202);
    running.end().await.unwrap();
}

#[tokio::test]
async fn slow_bodies_slow_headers_and_silence_are_cut() {
    let running = start(Settings {
        header_timeout: Span::millis(200),
        body_timeout: Span::millis(200),
        ..settings()
    })
    .await;
    for (what, sent, expected) in [
        (
            "body",
            format!(
                "POST /v1/events HTTP/1.1\r\nhost: x\r\nx-api-key: {PUBLISHER}\r\n\
                 content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
            ),
            "HTTP/1.1 408",
        ),
        (
            "headers",
            "POST /v1/events HTTP/1.1\r\nhost:".to_owned(),
            "",
        ),
        ("silence", String::new(), ""),
        (
            "half of what tells the versions apart",
            "PRI * HT".to_owned(),
            "",
        ),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{what}: the connection stayed open");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(expected), "{what}: {answer}");
    }
    assert_eq!(running.world.records().await, []);
    running.end().await.unwrap();
}

#[tokio::test]
async fn bodies_beyond_the_budget_of_all_are_told_to_come_back() {
    let running = start(Settings {
        max_body: ByteSize(1_000),
        max_bytes_in_flight: ByteSize(1_000),
        ..settings()
    })
    .await;
    // An upload that has announced its bytes and not sent them holds its share.
    let mut held = TcpStream::connect(running.address).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nx-api-key: {PUBLISHER}\r\n\
         content-type: application/json\r\ncontent-length: 900\r\n\r\n"
    );
    held.write_all(head.as_bytes()).await.unwrap();
    let text = event("e-1").to_string();
    wait_until(SOON, "503", || async {
        let answer = running.post().body(text.clone()).send().await.unwrap();
        let busy = answer.status() == 503;
        assert!(!busy || answer.headers()["retry-after"] == "1");
        busy
    })
    .await;
    let large = running.post().body(vec![b' '; 1_001]).send().await.unwrap();
    assert_eq!(large.status(), 413);
    drop(held);
    wait_until(SOON, "202", || async {
        running
            .post()
            .body(text.clone())
            .send()
            .await
            .unwrap()
            .status()
            == 202
    })
    .await;
    running.end().await.unwrap();
}

#[tokio::test]
async fn connections_are_bounded_and_the_next_one_waits_its_turn() {
    let running = start(Settings {
        max_connections: std::num::NonZeroUsize::MIN,
        ..settings()
    })
    .await;
    let mut first = TcpStream::connect(running.address).await.unwrap();
    let ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    first.write_all(ask).await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    let mut second = TcpStream::connect(running.address).await.unwrap();
    second.write_all(ask).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), second.read_exact(&mut byte));
    assert!(early.await.is_err(), "a second connection was served");
    drop(first);
    tokio::time::timeout(SOON, second.read_exact(&mut byte))
        .await
        .unwrap()
        .unwrap();
    drop(second);
    running.end().await.unwrap();
}

#[tokio::test]
async fn readiness_names_what_is_not_ready() {
    let running = start(settings()).await;
    let health = &running.world.resources.health;
    health.set("gateway", Err("no room".into()));
    health.set("ledger", Err("no store".into()));
    let (status, body) = running.readiness().await;
    let expected = json!({
        "ready": false,
        "unready": { "gateway": "no room" },
        "degraded": { "ledger": "no store" },
    });
    assert_eq!((status, body), (503, expected));
    running.end().await.unwrap();
}

#[tokio::test]
async fn without_the_store_events_are_taken_and_look_ups_are_not() {
    let store = Arc::new(MemoryStore::new());
    let quick = Settings {
        probe_interval: Span::millis(20),
        ..settings()
    };
    let running = start_with(quick, Some(Arc::<MemoryStore>::clone(&store))).await;
    let well = json!({ "ready": true, "unready": {}, "degraded": {} });
    assert_eq!(running.readiness().await, (200, well.clone()));
    store.set_available(false);
    wait_until(SOON, "the store shown as gone", || async {
        let (status, body) = running.readiness().await;
        assert_eq!((status, &body["ready"]), (200, &json!(true)), "{body}");
        body["degraded"]["gateway.store"].is_string()
    })
    .await;
    let answer = running.post().body(event("e-1").to_string()).send().await;
    assert_eq!(answer.unwrap().status(), 202);
    let found = reqwest::Client::new()
        .get(running.url("/v1/events/e-1?sender=shop-1"))
        .bearer_auth(READER)
        .send()
        .await;
    assert_eq!(found.unwrap().status(), 503);
    store.set_available(true);
    wait_until(SOON, "the store shown as back", || async {
        running.readiness().await == (200, well.clone())
    })
    .await;
    running.end().await.unwrap();
}

async fn build_on(cluster: LocalCluster, settings: Settings) -> GatewayError {
    let world = World::local().await;
    let mut resources = world.resources.clone();
    resources.cluster = Arc::new(cluster);
    resources.topics = Topics::new("other.");
    Gateway::build(settings, resources).await.err().unwrap()
}

#[tokio::test]
async fn it_refuses_to_start_without_its_topics_and_says_what_to_run() {
    let cluster = LocalCluster::default();
    let error = build_on(cluster.clone(), settings()).await.to_string();
    assert_eq!(
        error,
        "the topics other.events, other.events.bulk do not exist; run `bongsu topics apply`"
    );
    for (name, partitions) in [("other.events", 4), ("other.events.bulk", 8)] {
        let spec = TopicSpec {
            name: name.into(),
            partitions,
            replication: 1,
            settings: std::collections::BTreeMap::new(),
        };
        cluster.create_topic(spec).await.unwrap();
    }
    let error = build_on(cluster, settings()).await;
    assert!(
        matches!(error, GatewayError::PartitionsDiffer { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn it_refuses_to_start_without_keys_and_takes_everybody_only_when_told() {
    let error = build_on(LocalCluster::default(), Settings::default()).await;
    assert!(
        error.to_string().contains("allow_anonymous = true"),
        "{error}"
    );
    let world = World::local_with(Settings {
        allow_anonymous: true,
        ..Settings::default()
    })
    .await;
    let mut request = crate::world::post(event("e-1").to_string());
    request.headers_mut().remove("authorization");
    assert_eq!(world.ask(request).await.status, 202);
    let record = world.records().await.remove(0);
    assert_eq!(record.headers.text("bongsu-client-id"), Some("anonymous"));
}
