//! Bounces: from the sending to the receipt, through the twin of a relay, which posts them as a
//! mailbox's script would.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bongsu_channels::email::config::{Account, Tls};
use bongsu_channels::provider::{Attempt, AttemptResult};
use bongsu_channels::{Settings as Channels, build};
use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{
    Address, AddressId, Channel, Class, Content, ContentHash, Delivery, DeliveryId, OnUncertain,
    Ordering, Pairs, Platform, Purpose, RecipientTerms, Timestamp,
};
use bongsu_gateway::{ReportSources, Settings};
use bongsu_runtime::{Clock, Secret};
use bongsu_simulators::email::{Plan, Scripted};
use bongsu_simulators::simulators::Settings as Twins;
use bongsu_simulators::{Kind, Simulators};
use bongsu_testkit::wait_until;
use tokio::time::Instant;

use crate::reports::{Running, receipts, records, with_sources};
use crate::world::{PARTITIONS, World, settings};

const SOON: Duration = Duration::from_secs(60);
const SECRET: &str = "a secret of the mailbox";
/// Mails; every third bounces, and of every seven one of the others is complained of.
const MAILS: usize = 60;

fn bounces(i: usize) -> bool {
    i.is_multiple_of(3)
}

fn complained(i: usize) -> bool {
    !bounces(i) && i.is_multiple_of(7)
}

fn partition(i: usize) -> i32 {
    i32::try_from(i).unwrap() % PARTITIONS
}

fn delivery(i: usize) -> Delivery {
    let id = AddressId(format!("a-{i}"));
    let event_id = format!("e-{i}");
    let name = match (bounces(i), complained(i)) {
        (true, _) => "gone",
        (false, true) => "angry",
        (false, false) => "ann",
    };
    Delivery {
        id: DeliveryId::derive(DeliveryParts {
            sender: "shop-1",
            event_id: &event_id,
            channel: "email",
            recipient: "r",
            address_id: &id,
            step: 0,
        }),
        event_id,
        sender: "shop-1".into(),
        class: Class::Bulk,
        purpose: Purpose::Informational,
        category: None,
        recipient: "r".into(),
        terms: RecipientTerms::default(),
        address: Address {
            channel: Channel::Email,
            address: format!("{name}+{i}@example.net"),
            id,
            account: "main".into(),
            platform: Platform::Mail,
            app: None,
            registered_at: None,
        },
        content: Content {
            body: Some(format!("text {i}")),
            ..Content::default()
        },
        content_hash: ContentHash(0),
        step: 0,
        accepted_at: Timestamp(1_760_000_000_000),
        expires_at: Timestamp(i64::MAX),
        ordering: Ordering::None,
        collapse_key: None,
        on_uncertain: OnUncertain::Resend,
        campaign_id: None,
        replay_id: None,
        labels: Pairs::new(),
    }
}

fn account(twins: &Simulators) -> Account {
    let relay = twins.running()[0].smtp_address().unwrap();
    let mut account = Account {
        host: relay.ip().to_string(),
        port: relay.port(),
        tls: Tls::None,
        from: "shop@example.com".into(),
        return_path: "bounces@example.com".into(),
        reference_secret: Secret::new("0123456789abcdef"),
        ..Account::default()
    };
    account.reports.secret = Secret::new(SECRET);
    account.reports.allow_from = vec!["127.0.0.0/8".to_owned()];
    account
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

async fn send(channels: &Channels, deliveries: &[Delivery]) {
    let provider = build(Channel::Email, channels, "worker-1", Clock::system()).unwrap();
    let attempts: Vec<Attempt<'_>> = deliveries
        .iter()
        .enumerate()
        .map(|(i, delivery)| Attempt {
            delivery,
            number: 1,
            partition: partition(i),
        })
        .collect();
    let results = provider.attempt(&attempts, Instant::now() + SOON).await;
    let results = results.unwrap();
    assert!(results.iter().all(|r| *r == AttemptResult::Accepted));
}

#[tokio::test]
async fn bounces_and_complaints_find_their_deliveries() {
    let twins = Simulators::start(Twins::of(&[Kind::Email])).await.unwrap();
    let address = free_address();
    let reported = |said: &str| Scripted {
        bounce: said.into(),
        ..Scripted::default()
    };
    let plan = Plan {
        recipients: BTreeMap::from([
            ("gone".to_owned(), reported("failed 5.1.1")),
            ("angry".to_owned(), reported("complaint abuse")),
        ]),
        bounce_url: format!("http://{address}/v1/reports/email/main"),
        bounce_secret: SECRET.into(),
        ..Plan::default()
    };
    assert!(twins.running()[0].set_relay(plan).unwrap());
    let mut channels = Channels::default();
    let account = account(&twins);
    channels.email.accounts.insert("main".into(), account);
    assert_eq!(channels.validate(), []);
    let sources = ReportSources::build(&channels).unwrap();
    let world = with_sources(World::local().await, sources).await;
    let listening = Settings {
        listen: address,
        ..settings()
    };
    let gateway = Running::start_with(listening, world.resources.clone()).await;
    let deliveries: Vec<Delivery> = (0..MAILS).map(delivery).collect();
    send(&channels, &deliveries).await;

    let reported = |i: &usize| bounces(*i) || complained(*i);
    let expected = (0..MAILS).filter(reported).count();
    let kept = async || records(world.cluster.as_ref(), &world.topics.results()).await;
    wait_until(SOON, "a receipt for every bounce and complaint", || async {
        kept().await.len() == expected
    })
    .await;
    let kept = kept().await;
    for (record, receipt) in kept.iter().zip(receipts(&world, &kept)) {
        let i = deliveries
            .iter()
            .position(|d| Some(d.id.to_string()) == receipt.delivery_id)
            .unwrap();
        assert_eq!(record.partition, partition(i));
        let said = match (bounces(i), complained(i)) {
            (true, false) => ("report", "undelivered", "invalid_address"),
            (false, true) => ("report", "delivered", "complained"),
            other => panic!("{i}: {other:?}"),
        };
        let (kind, outcome) = (receipt.kind.as_str(), receipt.outcome.as_str());
        assert_eq!((kind, outcome, receipt.reason.as_str()), said);
    }
    let apart = records(world.cluster.as_ref(), &world.topics.reports()).await;
    assert_eq!(apart.len(), 0, "every one was mapped");
    gateway.end().await;
}

#[tokio::test]
async fn a_mail_that_is_no_bounce_or_comes_from_a_stranger_is_refused() {
    let twins = Simulators::start(Twins::of(&[Kind::Email])).await.unwrap();
    let mut channels = Channels::default();
    let mut account = account(&twins);
    account.reports.allow_from = Vec::new();
    channels.email.accounts.insert("main".into(), account);
    let sources = ReportSources::build(&channels).unwrap();
    let world = with_sources(World::local().await, sources).await;
    for (secret, status) in [(SECRET, 422), ("another", 401)] {
        let request = http::Request::post("/v1/reports/email/main")
            .header("authorization", format!("Bearer {secret}"))
            .body("Subject: out of office\r\n\r\nBack on Monday.\r\n".into())
            .unwrap();
        assert_eq!(world.ask(request).await.status.as_u16(), status);
    }
    let kept = records(world.cluster.as_ref(), &world.topics.results()).await;
    assert_eq!(kept, []);
}
