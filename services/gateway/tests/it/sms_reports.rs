//! Reports of text messages: from the sending to the receipt, through both vendors' twin.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bongsu_channels::provider::{Attempt, AttemptResult};
use bongsu_channels::sms::config::{Account, ReportMode, Vendor};
use bongsu_channels::{Settings as Channels, build};
use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{
    Address, AddressId, Channel, Class, Content, ContentHash, Delivery, DeliveryId, OnUncertain,
    Ordering, Pairs, Platform, Purpose, RecipientTerms, Timestamp,
};
use bongsu_gateway::{ReportSources, Settings};
use bongsu_runtime::{Clock, Secret};
use bongsu_simulators::alimtalk::{ReportMode as Told, ReportPlan};
use bongsu_simulators::simulators::Settings as Twins;
use bongsu_simulators::sms::{
    Counts, Plan, SOLAPI_KEY, SOLAPI_SECRET, TWILIO_ACCOUNT, TWILIO_TOKEN,
};
use bongsu_simulators::{Kind, Simulators};
use bongsu_testkit::wait_until;
use tokio::time::Instant;

use crate::reports::{Running, receipts, records, with_sources};
use crate::world::{PARTITIONS, World, settings};

const SOON: Duration = Duration::from_secs(60);
/// Texts through each vendor.
const TEXTS: usize = 120;

fn account(vendor: Vendor, twin: &str, gateway: SocketAddr) -> Account {
    let mut account = Account {
        provider: vendor,
        api_base: twin.to_owned(),
        reference_secret: Secret::new("0123456789abcdef"),
        ..Account::default()
    };
    let (key, secret, from) = match vendor {
        Vendor::Solapi => (SOLAPI_KEY, SOLAPI_SECRET, "0212345678"),
        Vendor::Twilio => (TWILIO_ACCOUNT, TWILIO_TOKEN, "+14155552671"),
    };
    account.api_key = key.to_owned();
    account.api_secret = Secret::new(secret);
    account.from = from.to_owned();
    account.reports.mode = ReportMode::Webhook;
    account.reports.secret = Secret::new("callback-secret");
    account.reports.url = format!("http://{gateway}/v1/reports/{}/main", vendor.as_str());
    account.reports.allow_from = vec!["127.0.0.0/8".to_owned()];
    account.reports.poll_interval = bongsu_runtime::Duration::millis(20);
    account.reports.poll_settle = bongsu_runtime::Duration::millis(20);
    account
}

fn number(i: usize) -> String {
    format!("0101234{i:04}")
}

/// A number as the vendor writes it.
fn written(vendor: Vendor, i: usize) -> String {
    match vendor {
        Vendor::Solapi => number(i),
        Vendor::Twilio => format!("+82{}", number(i).trim_start_matches('0')),
    }
}

fn delivery(i: usize) -> Delivery {
    let id = AddressId(format!("a-{i}"));
    let event_id = format!("e-{i}");
    Delivery {
        id: DeliveryId::derive(DeliveryParts {
            sender: "shop-1",
            event_id: &event_id,
            channel: "sms",
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
            channel: Channel::Sms,
            address: number(i),
            id,
            account: "main".into(),
            platform: Platform::Phone,
            app: None,
            registered_at: None,
        },
        content: Content {
            body: Some(format!("text {i}")),
            ..Content::default()
        },
        content_hash: ContentHash(0),
        step: 0,
        accepted_at: Timestamp(0),
        expires_at: Timestamp(i64::MAX),
        ordering: Ordering::None,
        collapse_key: None,
        on_uncertain: OnUncertain::Resend,
        campaign_id: None,
        replay_id: None,
        labels: Pairs::new(),
    }
}

/// Every seventh does not arrive.
fn fails(i: usize) -> bool {
    i.is_multiple_of(7)
}

fn partition(i: usize) -> i32 {
    i32::try_from(i).unwrap() % PARTITIONS
}

async fn twin(vendor: Vendor, mode: Told, gateway: SocketAddr) -> Simulators {
    let twins = Simulators::start(Twins::of(&[Kind::Sms])).await.unwrap();
    let code = match vendor {
        Vendor::Solapi => "3041",
        Vendor::Twilio => "30003",
    };
    let failing = (0..TEXTS).filter(|i| fails(*i));
    let plan = Plan {
        report_codes: failing
            .map(|i| (written(vendor, i), code.to_owned()))
            .collect(),
        reports: ReportPlan {
            mode,
            url: format!("http://{gateway}/v1/reports/solapi/main"),
            secret: "callback-secret".into(),
            delay_ms: 20,
            late_ratio: 0.2,
            late_ms: 300,
            double_ratio: 0.2,
            reorder_ratio: 0.5,
            reorder_ms: 200,
            seed: 7,
            ..ReportPlan::default()
        },
        ..Plan::default()
    };
    twins.running()[0].set_vendors(plan.clone()).unwrap();
    twins
}

fn counts(twins: &Simulators) -> Counts {
    twins.running()[0].vendors().unwrap()
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Sends, and gives the vendor's own ids.
async fn send(account: &Account, deliveries: &[Delivery]) -> Vec<Option<Box<str>>> {
    let mut channels = Channels::default();
    channels.sms.accounts.insert("main".into(), account.clone());
    let provider = build(Channel::Sms, &channels, "worker-1", Clock::system()).unwrap();
    let attempts: Vec<Attempt<'_>> = deliveries
        .iter()
        .enumerate()
        .map(|(i, delivery)| Attempt {
            delivery,
            number: 1,
            partition: partition(i),
        })
        .collect();
    let sent = provider
        .attempt_named(&attempts, Instant::now() + SOON)
        .await;
    let answers = sent.unwrap();
    let accepted = |r: &AttemptResult| *r == AttemptResult::Accepted;
    assert!(answers.results.iter().all(accepted));
    answers.references
}

/// Sends, lets the vendor tell, and checks that every delivery has its own verdict in its own
/// partition: late, doubled and overtaken reports included.
async fn every_report_finds_its_delivery(world: World, vendor: Vendor, polled: bool) {
    let address = free_address();
    let mode = if polled { Told::Polling } else { Told::Webhook };
    let twins = twin(vendor, mode, address).await;
    let mut account = account(vendor, &twins.running()[0].url(), address);
    if polled {
        account.reports.mode = ReportMode::Polling;
    }
    let mut channels = Channels::default();
    channels.sms.accounts.insert("main".into(), account.clone());
    assert_eq!(channels.validate(), []);
    let world = with_sources(world, ReportSources::build(&channels).unwrap()).await;
    let listening = Settings {
        listen: address,
        ..settings()
    };
    let gateway = Running::start_with(listening, world.resources.clone()).await;
    let deliveries: Vec<Delivery> = (0..TEXTS).map(delivery).collect();
    let names = send(&account, &deliveries).await;
    let named = match vendor {
        Vendor::Solapi => 0,
        Vendor::Twilio => TEXTS,
    };
    assert_eq!(names.iter().flatten().count(), named);

    let outcomes = async || {
        let kept = records(world.cluster.as_ref(), &world.topics.results()).await;
        let mut found: BTreeMap<String, Vec<(i32, String, Option<String>)>> = BTreeMap::new();
        for (record, receipt) in kept.iter().zip(receipts(&world, &kept)) {
            let id = receipt.delivery_id.unwrap();
            found.entry(id).or_default().push((
                record.partition,
                receipt.outcome,
                receipt.provider_reference,
            ));
        }
        found
    };
    wait_until(SOON, "a report for every delivery", || async {
        let told = polled || counts(&twins).waiting == 0;
        told && outcomes().await.len() == TEXTS
    })
    .await;
    let found = outcomes().await;
    for (i, delivery) in deliveries.iter().enumerate() {
        let expected = if fails(i) { "undelivered" } else { "delivered" };
        let own = &found[&delivery.id.to_string()];
        let right =
            |(to, outcome, _): &(i32, String, _)| *to == partition(i) && outcome == expected;
        assert!(own.iter().all(right), "{i}: {own:?}");
        // The name of the answer is the name of the reports: the way of those that have lost our
        // reference.
        if let Some(Some(name)) = names.get(i) {
            let named = |(_, _, key): &(_, _, Option<String>)| key.as_deref() == Some(&**name);
            assert!(own.iter().all(named), "{i}: {name} {own:?}");
        }
    }
    let apart = records(world.cluster.as_ref(), &world.topics.reports()).await;
    assert_eq!(apart.len(), 0, "every report was mapped");
    if !polled {
        let counts = counts(&twins);
        assert_eq!((counts.acknowledged, counts.given_up), (counts.reports, 0));
        // Some came twice, and Twilio's `sent` before its end.
        assert!(counts.reports > TEXTS as u64);
    }
    gateway.end().await;
}

#[tokio::test]
async fn reports_of_solapi_find_their_deliveries_on_the_local_log() {
    every_report_finds_its_delivery(World::local().await, Vendor::Solapi, false).await;
}

#[tokio::test]
async fn reports_of_solapi_find_their_deliveries_on_kafka() {
    let world = World::kafka("solapi").await;
    every_report_finds_its_delivery(world, Vendor::Solapi, false).await;
}

#[tokio::test]
async fn reports_of_twilio_find_their_deliveries_on_the_local_log() {
    every_report_finds_its_delivery(World::local().await, Vendor::Twilio, false).await;
}

#[tokio::test]
async fn reports_of_twilio_find_their_deliveries_on_kafka() {
    let world = World::kafka("twilio").await;
    every_report_finds_its_delivery(world, Vendor::Twilio, false).await;
}

#[tokio::test]
async fn polled_reports_of_solapi_find_their_deliveries() {
    every_report_finds_its_delivery(World::local().await, Vendor::Solapi, true).await;
}

#[tokio::test]
async fn what_twilio_did_not_sign_is_refused() {
    let gateway = free_address();
    let mut channels = Channels::default();
    let account = account(Vendor::Twilio, "http://127.0.0.1:1", gateway);
    let account = Account {
        reports: bongsu_channels::sms::config::ReportSettings {
            allow_from: Vec::new(),
            ..account.reports.clone()
        },
        ..account
    };
    channels.sms.accounts.insert("main".into(), account);
    let world = World::local().await;
    let world = with_sources(world, ReportSources::build(&channels).unwrap()).await;
    let post = |signature: Option<&str>| {
        let request = http::Request::post("/v1/reports/twilio/main?ref=b1.x");
        let request = match signature {
            Some(signature) => request.header("x-twilio-signature", signature),
            None => request,
        };
        request
            .body("MessageSid=SM1&MessageStatus=delivered".into())
            .unwrap()
    };
    for signature in [None, Some(""), Some("RSOYDt4T1cUTdK1PDd93/VVr8B8=")] {
        let answer = world.ask(post(signature)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (401, "invalid_signature"),
            "{signature:?}"
        );
    }
    let kept = records(world.cluster.as_ref(), &world.topics.results()).await;
    assert_eq!(kept, []);
}
