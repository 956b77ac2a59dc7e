//! Providers' reports: believed only when they are theirs, kept before they are acknowledged, and
//! mapped back to their delivery.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bongsu_channels::Settings as Channels;
use bongsu_channels::alimtalk::config::{Account, Dealer, ReportMode};
use bongsu_domain::{Channel, Class, DeliveryId, Reference};
use bongsu_gateway::{Gateway, ReportSources, Resources, Settings, router, run};
use bongsu_runtime::{ByteSize, Secret, Shutdown, Tasks};
use bongsu_schemas::Receipt;
use bongsu_simulators::simulators::{Instance, Settings as Twins};
use bongsu_simulators::{Kind, Simulators};
use bongsu_stream::local::{FaultPlan, LocalCluster};
use bongsu_stream::port::{Cluster, From, Isolation, Record, TailRange, TopicPartition, TopicSpec};
use bongsu_testkit::wait_until;
use futures_util::stream::{self, StreamExt as _};
use hmac::{Hmac, Mac as _};
use http::Request;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::oneshot;

use crate::world::{PARTITIONS, World, settings};

const SOON: Duration = Duration::from_secs(30);
const SECRET: &str = "callback-secret";
const DELIVERY: &str = "543ca93d-b1f3-326a-271e-8b06ef78cd5d";

pub(crate) fn account(change: impl FnOnce(&mut Account)) -> Account {
    let mut account = Account {
        api_key: Secret::new("key-of-the-account"),
        sender_key: "0123456789abcdef0123456789abcdef01234567".into(),
        reference_secret: Secret::new("0123456789abcdef"),
        ..Account::default()
    };
    account.reports.mode = ReportMode::Webhook;
    account.reports.secret = Secret::new(SECRET);
    change(&mut account);
    account
}

fn sources(account: Account) -> ReportSources {
    let mut channels = Channels::default();
    channels.alimtalk.accounts.insert("main".into(), account);
    assert_eq!(channels.validate(), []);
    ReportSources::build(&channels).unwrap()
}

/// The world with an account's reports, and its topics.
pub(crate) async fn with_reports(world: World, account: Account) -> World {
    with_sources(world, sources(account)).await
}

/// The world with these reports, and its topics.
pub(crate) async fn with_sources(mut world: World, sources: ReportSources) -> World {
    for topic in [world.topics.results(), world.topics.reports()] {
        let spec = TopicSpec {
            name: topic.to_string(),
            partitions: PARTITIONS,
            replication: 1,
            settings: BTreeMap::new(),
        };
        world.cluster.create_topic(spec).await.unwrap();
    }
    world.resources.reports = sources;
    let gateway = Gateway::build(settings(), world.resources.clone()).await;
    world.router = router(gateway.unwrap());
    world
}

fn reference(partition: i32) -> String {
    account(|_| {}).reference_key().unwrap().write(&Reference {
        channel: Channel::AlimTalk,
        class: Class::Bulk,
        partition,
        delivery: DeliveryId::parse(DELIVERY).unwrap(),
    })
}

fn report(code: &str, reference: &str) -> Value {
    json!({"msgKey": "k1", "serviceType": "ALIMTALK", "reportCode": code, "ref": reference,
           "reportTime": "2026-11-25T19:00:00+09:00"})
}

fn sign(secret: &str, at: i64) -> String {
    let key = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    let bytes = key.chain_update(at.to_string()).finalize().into_bytes();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn now() -> i64 {
    bongsu_runtime::Clock::system().now_millis()
}

fn signed(body: &Value, secret: &str, at: i64) -> Request<Body> {
    Request::post("/v1/reports/bizgo/main")
        .header("x-ib-timestamp", at.to_string())
        .header("x-ib-signature", sign(secret, at))
        .body(Body::from(body.to_string()))
        .unwrap()
}

pub(crate) async fn records(cluster: &dyn Cluster, topic: &Arc<str>) -> Vec<Record> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&found);
    let ranges = (0..PARTITIONS).map(|p| TailRange {
        partition: TopicPartition::new(Arc::clone(topic), p),
        from: From::Beginning,
        until: None,
    });
    let read = cluster.read_tails(
        ranges.collect(),
        Isolation::Committed,
        Box::new(move |record| sink.lock().unwrap().push(record)),
    );
    read.await.unwrap();
    found.lock().unwrap().clone()
}

pub(crate) fn receipts(world: &World, records: &[Record]) -> Vec<Receipt> {
    let decode = |r: &Record| world.codec.decode(r.value.as_ref().unwrap()).unwrap();
    records.iter().map(decode).collect()
}

async fn a_report_is_kept_and_acknowledged(world: World) {
    let world = with_reports(world, account(|_| {})).await;
    let ours = report("10000", &reference(3));
    for _ in 0..2 {
        let answer = world.ask(signed(&ours, SECRET, now())).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (200, json!({"msgKey": "k1"}))
        );
    }
    let kept = records(world.cluster.as_ref(), &world.topics.results()).await;
    assert!(kept.iter().all(|r| r.partition == 3));
    assert_eq!(kept[0].headers.text("bongsu-kind"), Some("report"));
    let receipts = receipts(&world, &kept);
    assert_eq!(receipts.len(), 2);
    assert_eq!(
        receipts[0].receipt_id, receipts[1].receipt_id,
        "one receipt"
    );
    let first = &receipts[0];
    assert_eq!(first.delivery_id.as_deref(), Some(DELIVERY));
    assert_eq!(
        (first.kind.as_str(), first.outcome.as_str()),
        ("report", "delivered")
    );
    assert_eq!(first.provider_reference.as_deref(), Some("k1"));

    // Without a reference of ours, or with a forged one: kept apart, and acknowledged all the same.
    for foreign in ["order-17".to_owned(), reference(3).replace(".3.", ".2.")] {
        let answer = world
            .ask(signed(&report("10000", &foreign), SECRET, now()))
            .await;
        assert_eq!(answer.status, 200);
    }
    // What is not final moves nothing.
    let interim = world
        .ask(signed(&report("3005", &reference(3)), SECRET, now()))
        .await;
    assert_eq!(interim.status, 200);
    let apart = records(world.cluster.as_ref(), &world.topics.reports()).await;
    assert_eq!(apart.len(), 2);
    assert_eq!(apart[0].key.as_deref(), Some(&b"k1"[..]));
    assert_eq!(apart[0].headers.text("bongsu-account"), Some("main"));
    let kept = records(world.cluster.as_ref(), &world.topics.results()).await;
    assert_eq!(kept.len(), 2);
    let metrics = world.get("/metrics", "").await.text;
    for (result, count) in [
        ("delivered", 2),
        ("unmapped", 1),
        ("forged", 1),
        ("interim", 1),
    ] {
        let line = metrics.lines().find(|l| {
            l.starts_with("bongsu_reports_total") && l.contains(&format!("\"{result}\""))
        });
        assert!(
            line.is_some_and(|l| l.ends_with(&format!(" {count}"))),
            "{result}: {line:?}"
        );
    }
}

#[tokio::test]
async fn a_report_is_kept_and_acknowledged_on_the_local_log() {
    a_report_is_kept_and_acknowledged(World::local().await).await;
}

#[tokio::test]
async fn a_report_is_kept_and_acknowledged_on_kafka() {
    a_report_is_kept_and_acknowledged(World::kafka("reports").await).await;
}

#[tokio::test]
async fn what_is_not_the_providers_is_refused() {
    let world = with_reports(World::local().await, account(|_| {})).await;
    let ours = report("10000", &reference(3));
    for (request, status, code) in [
        (
            signed(&ours, "another secret", now()),
            401,
            "invalid_signature",
        ),
        (
            signed(&ours, SECRET, now() - 301_000),
            401,
            "invalid_signature",
        ),
        (
            signed(&json!({"msgKey": "k"}), SECRET, now()),
            422,
            "not_a_report",
        ),
        (
            Request::post("/v1/reports/bizgo/main")
                .body(Body::from(ours.to_string()))
                .unwrap(),
            401,
            "invalid_signature",
        ),
        (
            Request::post("/v1/reports/bizgo/other")
                .body(Body::empty())
                .unwrap(),
            404,
            "not_found",
        ),
        (
            Request::post("/v1/reports/nhn/main")
                .body(Body::empty())
                .unwrap(),
            404,
            "not_found",
        ),
    ] {
        let answer = world.ask(request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code)
        );
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    let kept = records(world.cluster.as_ref(), &world.topics.results()).await;
    assert_eq!(kept, []);
}

#[tokio::test]
async fn the_older_dealers_are_known_by_the_secret_in_the_url() {
    let account = account(|a| {
        a.provider = Dealer::Bizplus;
        a.client_id = "client".into();
        a.failover.from = "0212345678".into();
    });
    let world = with_reports(World::local().await, account).await;
    let post = |query: &str, code: &str| {
        let body = json!({"messageId": "k1", "resultCode": code, "ref": reference(3),
                          "reportTime": "2026-11-25 19:00:00"});
        Request::post(format!("/v1/reports/bizplus/main{query}"))
            .body(Body::from(body.to_string()))
            .unwrap()
    };
    for query in ["", "?secret=another", "?secret="] {
        let answer = world.ask(post(query, "0000")).await;
        assert_eq!(answer.code(), "invalid_signature", "{query}");
    }
    for code in ["SUC", "3018"] {
        let answer = world.ask(post("?secret=callback-secret&x=1", code)).await;
        assert_eq!(answer.json(), json!({"messageId": "k1"}));
    }
    let kept = records(world.cluster.as_ref(), &world.topics.results()).await;
    let outcomes: Vec<String> = receipts(&world, &kept)
        .into_iter()
        .map(|receipt| receipt.outcome)
        .collect();
    assert_eq!(outcomes, ["delivered", "undelivered"]);
}

#[tokio::test]
async fn nothing_is_acknowledged_that_kafka_does_not_have() {
    let cluster = LocalCluster::default();
    let world = World::new(Arc::new(cluster.clone()), "t.", settings(), None).await;
    let world = with_reports(world, account(|_| {})).await;
    cluster.set_faults(FaultPlan {
        unacknowledged_per_mille: 1_000,
        ..FaultPlan::default()
    });
    let ours = report("10000", &reference(3));
    let answer = world.ask(signed(&ours, SECRET, now())).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "not_acknowledged")
    );
    cluster.set_faults(FaultPlan::default());
    assert_eq!(world.ask(signed(&ours, SECRET, now())).await.status, 200);
    let kept = records(&cluster, &world.topics.results()).await;
    let ids: Vec<String> = receipts(&world, &kept)
        .into_iter()
        .map(|r| r.receipt_id)
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn reports_that_never_end_take_no_room_of_events() {
    let mut world = with_reports(World::local().await, account(|_| {})).await;
    let limits = Settings {
        max_body: ByteSize(1_000),
        max_bytes_in_flight: ByteSize(1_000),
        max_report_body: ByteSize(600),
        max_report_bytes_in_flight: ByteSize(600),
        ..settings()
    };
    let gateway = Gateway::build(limits, world.resources.clone()).await;
    world.router = router(gateway.unwrap());
    let unending = |announced: usize, sent: usize| {
        let sent = Ok::<_, std::io::Error>(vec![b' '; sent]);
        let body = stream::iter([sent]).chain(stream::pending());
        let mut request = signed(&json!({}), SECRET, now()).map(|_| Body::from_stream(body));
        let length = http::HeaderValue::from(announced);
        request.headers_mut().insert("content-length", length);
        request
    };
    let ours = report("10000", &reference(3));
    // What is only announced takes no room of other reports.
    let mut announced = std::pin::pin!(world.ask(unending(600, 0)));
    assert!(futures_util::poll!(announced.as_mut()).is_pending());
    assert_eq!(world.ask(signed(&ours, SECRET, now())).await.status, 200);
    // What was sent does, and none of events.
    let mut sent = std::pin::pin!(world.ask(unending(600, 500)));
    assert!(futures_util::poll!(sent.as_mut()).is_pending());
    assert_eq!(world.ask(signed(&ours, SECRET, now())).await.status, 503);
    let event = format!("{:<900}", crate::world::event("e-1").to_string());
    assert_eq!(world.publish(event).await.status, 202);
    assert_eq!(world.ask(unending(601, 0)).await.status, 413);
}

/// A gateway with a socket.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    shutdown: Shutdown,
    tasks: Tasks,
}

impl Running {
    pub(crate) async fn start(resources: Resources) -> Self {
        Self::start_with(settings(), resources).await
    }

    pub(crate) async fn start_with(settings: Settings, resources: Resources) -> Self {
        let (shutdown, mut tasks) = (Shutdown::new(), Tasks::new());
        let (on_bound, bound) = oneshot::channel();
        tasks.spawn(
            "gateway",
            run(settings, resources, shutdown.clone(), Some(on_bound)),
        );
        let address = tokio::time::timeout(SOON, bound).await.unwrap().unwrap();
        Self {
            address,
            shutdown,
            tasks,
        }
    }

    pub(crate) async fn end(self) {
        self.shutdown.request();
        let ended = tokio::time::timeout(SOON, self.tasks.join()).await;
        ended.unwrap().unwrap();
    }
}

#[tokio::test]
async fn only_the_providers_addresses_may_call() {
    for (network, status) in [("203.0.113.0/24", 403), ("127.0.0.0/8", 200)] {
        let account = account(|a| a.reports.allow_from = vec![network.to_owned()]);
        let world = with_reports(World::local().await, account).await;
        let gateway = Running::start(world.resources.clone()).await;
        let at = now();
        let answer = reqwest::Client::new()
            .post(format!("http://{}/v1/reports/bizgo/main", gateway.address))
            .header("x-ib-timestamp", at.to_string())
            .header("x-ib-signature", sign(SECRET, at))
            // Nobody who calls himself may say where he comes from.
            .header("x-forwarded-for", "203.0.113.7")
            .body(report("10000", &reference(3)).to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), status, "{network}");
        gateway.end().await;
    }
}

async fn dealer() -> Simulators {
    let mut instance = Instance::new(Kind::AlimTalk);
    instance.alimtalk.reports.mode = bongsu_simulators::alimtalk::ReportMode::Polling;
    instance.alimtalk.recipients_per_second = 0;
    let instances = vec![instance];
    Simulators::start(Twins { instances }).await.unwrap()
}

async fn send(twins: &Simulators, count: usize) {
    let destinations: Vec<Value> = (0..count)
        .map(|i| json!({"to": format!("0100000{i:04}"), "ref": reference(3)}))
        .collect();
    let body = json!({
        "destinations": destinations,
        "messageFlow": [{"alimtalk": {"senderKey": "k".repeat(40), "templateCode": "t"}}],
    });
    let answer = reqwest::Client::new()
        .post(format!(
            "{}/api/comm/v1/send/omni",
            twins.running()[0].url()
        ))
        .header("authorization", "key-of-the-account")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success());
}

async fn one_of_two_gateways_polls(world: World) {
    let twins = dealer().await;
    let account = account(|a| {
        a.api_base = twins.running()[0].url();
        a.reports.mode = ReportMode::Polling;
        a.reports.poll_interval = bongsu_runtime::Duration::millis(20);
    });
    let world = with_reports(world, account).await;
    let first = Running::start(world.resources.clone()).await;
    let second = Running::start(world.resources.clone()).await;
    let waiting = || twins.running()[0].dealer().unwrap().waiting;
    let kept = async || {
        records(world.cluster.as_ref(), &world.topics.results())
            .await
            .len()
    };
    send(&twins, 150).await;
    wait_until(SOON, "the first reports", || async { waiting() == 0 }).await;
    assert_eq!(kept().await, 150);
    // Whoever polled, one of them ends; the other one takes over.
    first.end().await;
    send(&twins, 100).await;
    wait_until(SOON, "the reports after the change", || async {
        waiting() == 0
    })
    .await;
    assert!(kept().await >= 250);
    assert_eq!(twins.running()[0].dealer().unwrap().acknowledged, 250);
    second.end().await;
}

#[tokio::test]
async fn one_of_two_gateways_polls_on_the_local_log() {
    one_of_two_gateways_polls(World::local().await).await;
}

#[tokio::test]
async fn one_of_two_gateways_polls_on_kafka() {
    one_of_two_gateways_polls(World::kafka("polls").await).await;
}
