//! What only APNs promises, against its twin and against a server that answers as told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::apns::ApnsProvider;
use bongsu_channels::apns::config::Account;
use bongsu_channels::provider::{AttemptResult, ThrottleScope};
use bongsu_channels::{ApnsSettings, Settings, build};
use bongsu_domain::{Channel, Delivery, Reason, Timestamp};
use bongsu_runtime::{Clock, Secret};
use bongsu_simulators::apns::{Device, Plan, Stats};
use bongsu_simulators::simulators::{Instance, Running, Settings as Twins};
use bongsu_simulators::{Faults, Kind, Simulators};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::server::{Reply, Server};
use crate::{apns_account, attempt, delivery, http2};

/// Far more than any of this takes, for machines that have other things to do.
const PATIENT: Duration = Duration::from_secs(60);

/// Settings whose account `test` reaches a twin with its own key.
pub(crate) fn settings_for(twins: &Simulators) -> ApnsSettings {
    let twin = twins.get(Kind::Apns).unwrap();
    let credentials = twin.credentials().unwrap();
    // Kept on disk for as long as the process runs: a connection reads it when it is made.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &credentials.ca).unwrap();
    let (_, ca_file) = file.keep().unwrap();
    let mut settings = ApnsSettings::default();
    settings.connection.ca_file = Some(ca_file);
    let account = Account {
        endpoint: twin.tls_url(),
        topic: "com.example.app".into(),
        key: Secret::new(credentials.key.clone()),
        key_id: credentials.key_id.clone(),
        team_id: credentials.team_id.clone(),
        ..Account::default()
    };
    settings.accounts.insert("test".into(), account);
    settings
}

/// A twin and a provider that reaches it.
struct Rig {
    twins: Simulators,
    provider: Arc<ApnsProvider>,
}

async fn twins(plan: Plan, faults: Faults) -> Simulators {
    let mut instance = Instance::new(Kind::Apns);
    (instance.apns, instance.faults) = (plan, faults);
    Simulators::start(Twins {
        instances: vec![instance],
    })
    .await
    .unwrap()
}

fn provider(settings: &ApnsSettings, clock: Clock) -> Arc<ApnsProvider> {
    Arc::new(ApnsProvider::new(settings, "worker-1", clock).unwrap())
}

impl Rig {
    async fn start(plan: Plan, change: impl FnOnce(&mut ApnsSettings)) -> Self {
        let twins = twins(plan, Faults::default()).await;
        let mut settings = settings_for(&twins);
        change(&mut settings);
        let provider = provider(&settings, Clock::system());
        Self { twins, provider }
    }

    fn twin(&self) -> &Running {
        &self.twins.running()[0]
    }

    fn stats(&self) -> Stats {
        self.twin().apns_stats().unwrap()
    }

    async fn push(&self, event: &str) -> AttemptResult {
        attempt(&*self.provider, &numbered(event), PATIENT).await
    }

    /// Many at once; their results in order.
    async fn burst(&self, events: std::ops::Range<u32>) -> Vec<AttemptResult> {
        join_all(events.map(|i| async move { self.push(&format!("e{i}")).await })).await
    }
}

/// A delivery to a device of its own.
fn numbered(event: &str) -> Delivery {
    let token = format!("{:0>64}", event.trim_start_matches('e'));
    delivery(Channel::Apns, &token, event)
}

fn change(account: impl Fn(&mut Account)) -> impl FnOnce(&mut ApnsSettings) {
    move |settings| account(settings.accounts.get_mut("test").unwrap())
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn of(results: &[AttemptResult], wanted: AttemptResult) -> usize {
    results.iter().filter(|result| **result == wanted).count()
}

#[tokio::test]
async fn a_push_is_byte_by_byte_what_apple_asks_for() {
    let server = Server::start_for(Channel::Apns, Reply::answer(200, "", "")).await;
    let mut settings = Settings::default();
    settings.apns.connection.ca_file = Some(http2::ca_file());
    let account = apns_account(&server.url().replace("http://", "https://"));
    settings.apns.accounts.insert("test".into(), account);
    let provider = build(Channel::Apns, &settings, "worker-1", Clock::system()).unwrap();
    let mut delivery = numbered("e1");
    delivery.collapse_key = Some("room-1".into());
    let result = attempt(&*provider, &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);

    let request = server.requests().remove(0);
    let (before, rest) = request.split_once("authorization: bearer ").unwrap();
    let (token, after) = rest.split_once("\r\n").unwrap();
    assert_eq!(token.split('.').count(), 3);
    assert_eq!(
        before,
        format!(
            "POST /3/device/{:0>64} HTTP/2\r\n\
             apns-topic: com.example.app\r\n\
             apns-push-type: alert\r\n\
             apns-id: {}\r\n\
             apns-expiration: 1760086400\r\n\
             apns-priority: 10\r\n\
             apns-collapse-id: room-1\r\n",
            "1", delivery.id
        )
    );
    let expected = concat!(
        "user-agent: bongsu/",
        env!("CARGO_PKG_VERSION"),
        "\r\nbongsu-worker: worker-1\r\nbongsu-attempt: 1\r\n\r\n",
        r#"{"aps":{"alert":"text of e1"}}"#
    );
    assert_eq!(after, expected);
}

#[tokio::test]
async fn every_reason_comes_through_the_real_client_as_its_result() {
    let refused = AttemptResult::Refused;
    let throttled = |scope| AttemptResult::Throttled {
        retry_after: None,
        scope,
    };
    for (status, reason, expected) in [
        (400, "BadDeviceToken", refused(Reason::AddressDoubtful)),
        (
            400,
            "DeviceTokenNotForTopic",
            refused(Reason::ProviderRefused),
        ),
        (400, "PayloadEmpty", refused(Reason::InvalidContent)),
        (400, "TopicDisallowed", AttemptResult::AccountFault),
        (400, "IdleTimeout", AttemptResult::Unavailable),
        (403, "InvalidProviderToken", AttemptResult::AccountFault),
        (
            403,
            "BadCertificateEnvironment",
            AttemptResult::AccountFault,
        ),
        (404, "BadPath", refused(Reason::ProviderRefused)),
        (410, "ExpiredToken", refused(Reason::InvalidAddress)),
        (413, "PayloadTooLarge", refused(Reason::InvalidContent)),
        (429, "TooManyRequests", throttled(ThrottleScope::Address)),
        (
            429,
            "TooManyProviderTokenUpdates",
            throttled(ThrottleScope::Account),
        ),
        (500, "InternalServerError", AttemptResult::Unavailable),
        (503, "Shutdown", AttemptResult::Unavailable),
    ] {
        let body = format!(r#"{{"reason":"{reason}"}}"#);
        let server = Server::start_for(Channel::Apns, Reply::answer(status, "", &body)).await;
        let mut settings = ApnsSettings::default();
        settings.connection.ca_file = Some(http2::ca_file());
        let account = apns_account(&server.url().replace("http://", "https://"));
        settings.accounts.insert("test".into(), account);
        let provider = provider(&settings, Clock::system());
        let result = attempt(&*provider, &numbered("e1"), PATIENT).await;
        assert_eq!(result, expected, "{reason}");
    }
}

#[tokio::test]
async fn the_twin_checks_a_device_as_apple_does() {
    let dead_at = 1_760_000_000_000;
    let states = [
        Device::Unregistered(dead_at),
        Device::Expired,
        Device::WrongEnvironment,
        Device::WrongTopic,
    ];
    let devices = states.iter().enumerate();
    let devices = devices.map(|(i, state)| (format!("{i:0>64}"), *state));
    let plan = Plan {
        devices: devices.collect(),
        device_limit: 2,
        device_window_ms: 60_000,
        topics: vec!["com.example.app".into()],
        ..Plan::default()
    };
    let rig = Rig::start(plan, |_| {}).await;
    let invalid = AttemptResult::Refused(Reason::InvalidAddress);
    let other = AttemptResult::Refused(Reason::ProviderRefused);
    for (event, expected) in [
        ("e0", invalid),
        ("e1", invalid),
        ("e2", AttemptResult::Refused(Reason::AddressDoubtful)),
        ("e3", other),
    ] {
        assert_eq!(rig.push(event).await, expected, "{event}");
    }
    let mut newer = numbered("e0");
    newer.address.registered_at = Some(Timestamp(dead_at + 1));
    assert_eq!(attempt(&*rig.provider, &newer, PATIENT).await, other);
    for _ in 0..2 {
        assert_eq!(rig.push("e9").await, AttemptResult::Accepted);
    }
    let throttled = AttemptResult::Throttled {
        retry_after: None,
        scope: ThrottleScope::Address,
    };
    assert_eq!(rig.push("e9").await, throttled);
}

#[tokio::test]
async fn a_burst_waits_for_the_first_answer_of_every_connection() {
    let rig = Rig::start(Plan::default(), |_| {}).await;
    for result in rig.burst(0..500).await {
        assert_eq!(result, AttemptResult::Accepted);
    }
    let stats = rig.stats();
    assert_eq!(stats.violations, 0);
    assert_eq!(stats.unproved, stats.connections_total, "{stats:?}");
    assert!(stats.connections_total <= 4);
    assert_eq!(stats.tokens, 1);
}

#[tokio::test]
async fn the_servers_limit_is_followed_while_it_changes() {
    let plan = |streams| Plan {
        streams,
        ..Plan::default()
    };
    let rig = Rig::start(plan(5), change(|account| account.connections = 1)).await;
    let slow = Faults {
        latency_ms: 5,
        ..Faults::default()
    };
    rig.twin().set_faults(slow).unwrap();
    assert_eq!(of(&rig.burst(0..60).await, AttemptResult::Accepted), 60);
    assert_eq!(rig.stats().most_streams, 5);
    rig.twin().set_apns(plan(50)).unwrap();
    assert_eq!(of(&rig.burst(60..300).await, AttemptResult::Accepted), 240);
    assert!((6..=50).contains(&rig.stats().most_streams));
    rig.twin().set_apns(plan(2)).unwrap();
    assert_eq!(of(&rig.burst(300..400).await, AttemptResult::Accepted), 100);
    assert_eq!(
        (rig.stats().violations, rig.stats().connections_total),
        (0, 1)
    );
}

#[tokio::test]
async fn an_orderly_goaway_loses_and_doubles_nothing() {
    let plan = Plan {
        goaway_every_requests: 40,
        ..Plan::default()
    };
    let rig = Rig::start(plan, |_| {}).await;
    let slow = Faults {
        latency_ms: 2,
        jitter_ms: 5,
        ..Faults::default()
    };
    rig.twin().set_faults(slow).unwrap();
    let results = join_all((0..200).map(|i| {
        let rig = &rig;
        async move {
            let mut again = 0;
            loop {
                match rig.push(&format!("e{i}")).await {
                    AttemptResult::NotProcessed => again += 1,
                    result @ (AttemptResult::Accepted
                    | AttemptResult::Refused(_)
                    | AttemptResult::Throttled { .. }
                    | AttemptResult::Unavailable
                    | AttemptResult::Doubted
                    | AttemptResult::Unknown
                    | AttemptResult::AccountFault) => return (result, again),
                }
            }
        }
    }))
    .await;
    for (result, _) in &results {
        assert_eq!(*result, AttemptResult::Accepted);
    }
    let again: u32 = results.iter().map(|(_, again)| again).sum();
    assert!(again > 0, "no request was caught by a GOAWAY");
    let report = rig.twin().report();
    assert_eq!((report.accepted, report.duplicates), (200, 0));
    let stats = rig.stats();
    assert!(stats.goaways > 3, "{stats:?}");
}

#[tokio::test]
async fn after_an_abrupt_goaway_it_is_known_what_was_not_processed() {
    let plan = Plan {
        goaway_every_requests: 50,
        goaway_abrupt: true,
        ..Plan::default()
    };
    let rig = Rig::start(plan, |_| {}).await;
    // Longer than a busy machine stands still: no answer is due before the connection is gone.
    let slow = Faults {
        latency_ms: 500,
        ..Faults::default()
    };
    rig.twin().set_faults(slow).unwrap();
    let results = rig.burst(0..400).await;
    let mut read = HashSet::new();
    rig.twin().recorder().visit(0, |seen| {
        read.insert(seen.delivery_id.to_owned());
        true
    });
    for (i, result) in results.iter().enumerate() {
        let id = numbered(&format!("e{i}")).id.to_string();
        let was_read = read.contains(&id);
        match result {
            AttemptResult::Accepted => assert!(was_read),
            AttemptResult::NotProcessed | AttemptResult::Unavailable => assert!(!was_read, "{i}"),
            AttemptResult::Unknown => {}
            AttemptResult::Refused(_)
            | AttemptResult::Doubted
            | AttemptResult::Throttled { .. }
            | AttemptResult::AccountFault => panic!("{result:?}"),
        }
    }
    let unknown = of(&results, AttemptResult::Unknown);
    let not_processed = of(&results, AttemptResult::NotProcessed);
    assert!(
        unknown > 0 && not_processed > 0,
        "{unknown} {not_processed}"
    );
}

#[tokio::test]
async fn a_refused_stream_was_not_processed() {
    let plan = Plan {
        refuse_ratio: 0.3,
        ..Plan::default()
    };
    let rig = Rig::start(plan, |_| {}).await;
    let results = rig.burst(0..300).await;
    let accepted = of(&results, AttemptResult::Accepted);
    let not_processed = of(&results, AttemptResult::NotProcessed);
    assert_eq!(accepted + not_processed, 300);
    assert!((50..=140).contains(&not_processed), "{not_processed}");
    let counts = rig.twin().recorder().counts();
    assert_eq!(counts.requests, accepted as u64);
}

#[tokio::test]
async fn a_hanging_answer_is_unknown_at_its_deadline_and_gives_its_stream_back() {
    let rig = Rig::start(Plan::default(), |_| {}).await;
    assert_eq!(rig.push("e1").await, AttemptResult::Accepted);
    let hang = Faults {
        timeout_ratio: 1.0,
        ..Faults::default()
    };
    rig.twin().set_faults(hang).unwrap();
    // More than half a second: with less nothing is sent.
    let short = Duration::from_secs(2);
    let hanging = (2..40).map(|i| {
        let provider = Arc::clone(&rig.provider);
        async move { attempt(&*provider, &numbered(&format!("e{i}")), short).await }
    });
    let results = join_all(hanging).await;
    assert_eq!(of(&results, AttemptResult::Unknown), 38);
    assert_eq!(rig.provider.in_flight(), 0);
    wait_until("streams are reset", || rig.stats().cancelled == 38).await;
    rig.twin().set_faults(Faults::default()).unwrap();
    assert_eq!(rig.push("e40").await, AttemptResult::Accepted);
    assert_eq!(rig.stats().connections_total, 1);
}

#[tokio::test]
async fn a_silent_half_open_connection_is_found_and_replaced() {
    let rig = Rig::start(Plan::default(), |settings| {
        settings.connection.silence = bongsu_runtime::Duration::millis(100);
        settings.connection.ping_timeout = bongsu_runtime::Duration::millis(100);
    })
    .await;
    assert_eq!(rig.push("e1").await, AttemptResult::Accepted);
    assert_eq!(rig.twin().freeze(), 1);
    let started = Instant::now();
    assert_eq!(rig.push("e2").await, AttemptResult::Unknown);
    assert!(started.elapsed() < PATIENT / 2, "{:?}", started.elapsed());
    assert_eq!(rig.push("e3").await, AttemptResult::Accepted);
    assert_eq!(rig.stats().connections_total, 2);
    assert_eq!((rig.provider.connections(), rig.provider.tasks()), (1, 1));
}

#[tokio::test]
async fn a_living_connection_answers_pings_and_stays() {
    let rig = Rig::start(Plan::default(), |settings| {
        settings.connection.silence = bongsu_runtime::Duration::millis(20);
        settings.connection.idle_silence = bongsu_runtime::Duration::millis(20);
    })
    .await;
    assert_eq!(rig.push("e1").await, AttemptResult::Accepted);
    wait_until("pings are answered", || rig.stats().pings >= 3).await;
    assert_eq!(rig.push("e2").await, AttemptResult::Accepted);
    assert_eq!(rig.stats().connections_total, 1);
}

#[tokio::test]
async fn connections_and_tasks_end_with_idleness_and_with_the_provider() {
    let rig = Rig::start(Plan::default(), |settings| {
        settings.connection.silence = bongsu_runtime::Duration::millis(20);
        settings.connection.idle_timeout = bongsu_runtime::Duration::millis(100);
    })
    .await;
    assert_eq!(rig.push("e1").await, AttemptResult::Accepted);
    wait_until("the pool is empty", || {
        (rig.provider.connections(), rig.provider.tasks()) == (0, 0)
    })
    .await;
    assert_eq!(rig.push("e2").await, AttemptResult::Accepted);
    assert_eq!(rig.provider.in_flight(), 0);
    wait_until("one is open", || rig.stats().connections == 1).await;
    let Rig { twins, provider } = rig;
    drop(provider);
    let twin = &twins.running()[0];
    wait_until("the twin has no connection", || {
        twin.apns_stats().unwrap().connections == 0
    })
    .await;
}

/// A clock 25 minutes into a slot of 40, and the slot's start in epoch seconds.
fn late_in_a_slot() -> (Clock, i64) {
    let slot = 40 * 60;
    let start = Clock::system().now_millis() / 1_000 / slot * slot;
    (Clock::starting_at((start + 25 * 60) * 1_000), start)
}

#[tokio::test]
async fn an_expired_token_is_replaced_on_a_new_connection_and_costs_no_attempt() {
    let (clock, slot) = late_in_a_slot();
    let plan = |before| Plan {
        tokens_expired_before: before,
        ..Plan::default()
    };
    let twins = twins(plan(0), Faults::default()).await;
    let provider = provider(&settings_for(&twins), clock);
    let twin = &twins.running()[0];
    let push = async |event: &str| attempt(&*provider, &numbered(event), PATIENT).await;
    assert_eq!(push("e1").await, AttemptResult::Accepted);
    twin.set_apns(plan(slot + 1)).unwrap();
    assert_eq!(push("e2").await, AttemptResult::NotProcessed);
    assert_eq!(push("e2").await, AttemptResult::Accepted);
    let stats = twin.apns_stats().unwrap();
    assert_eq!((stats.tokens, stats.connections_total), (2, 2));
    // No newer one may be shown: the account is at fault, not the delivery.
    twin.set_apns(plan(i64::MAX)).unwrap();
    assert_eq!(push("e3").await, AttemptResult::AccountFault);
    assert_eq!(push("e4").await, AttemptResult::AccountFault);
}

#[tokio::test]
async fn workers_and_restarts_show_the_same_token() {
    let twins = twins(Plan::default(), Faults::default()).await;
    let settings = settings_for(&twins);
    let (clock, _) = late_in_a_slot();
    for i in 0..5 {
        let provider = provider(&settings, clock);
        let result = attempt(&*provider, &numbered(&format!("e{i}")), PATIENT).await;
        assert_eq!(result, AttemptResult::Accepted);
    }
    assert_eq!(twins.running()[0].apns_stats().unwrap().tokens, 1);
}

#[tokio::test]
async fn too_many_tokens_throttle_the_account() {
    let plan = Plan {
        token_changes: 1,
        ..Plan::default()
    };
    let twins = twins(plan, Faults::default()).await;
    let settings = settings_for(&twins);
    let (clock, slot) = late_in_a_slot();
    let first = provider(&settings, clock);
    assert_eq!(
        attempt(&*first, &numbered("e1"), PATIENT).await,
        AttemptResult::Accepted
    );
    let second = provider(&settings, Clock::starting_at((slot + 41 * 60) * 1_000));
    assert_eq!(
        attempt(&*second, &numbered("e2"), PATIENT).await,
        AttemptResult::Throttled {
            retry_after: None,
            scope: ThrottleScope::Account
        }
    );
}

#[tokio::test]
async fn a_key_apple_does_not_know_is_the_accounts_fault() {
    let stranger = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let rig = Rig::start(
        Plan::default(),
        change(move |account| account.key = Secret::new(stranger.clone())),
    )
    .await;
    assert_eq!(rig.push("e1").await, AttemptResult::AccountFault);
    assert_eq!(rig.provider.connections(), 1);
}

#[tokio::test]
async fn a_certificate_needs_no_token_and_says_when_it_ends() {
    use bongsu_channels::provider::Provider as _;

    let twins = twins(Plan::default(), Faults::default()).await;
    let mut settings = settings_for(&twins);
    let credentials = twins.running()[0].credentials().unwrap().clone();
    let account = settings.accounts.get_mut("test").unwrap();
    account.key = Secret::default();
    account.certificate = Secret::new(credentials.certificate);
    account.certificate_key = Secret::new(credentials.certificate_key);
    let provider = provider(&settings, Clock::system());
    let result = attempt(&*provider, &numbered("e1"), PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    assert_eq!(twins.running()[0].apns_stats().unwrap().tokens, 0);
    let expiring = provider.expiring();
    assert_eq!(expiring[0].account, "test");
    assert!(expiring[0].not_after_millis > Clock::system().now_millis());
}

#[tokio::test]
async fn accounts_stand_side_by_side_with_connections_of_their_own() {
    let rig = Rig::start(Plan::default(), |settings| {
        let mut other = settings.accounts["test"].clone();
        other.topic = "com.example.other".into();
        settings.accounts.insert("other".into(), other);
    })
    .await;
    assert_eq!(rig.push("e1").await, AttemptResult::Accepted);
    let mut delivery = numbered("e2");
    delivery.address.account = "other".into();
    let result = attempt(&*rig.provider, &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    assert_eq!(rig.provider.connections(), 2);
}

#[tokio::test]
async fn an_authority_nobody_trusts_is_unavailable() {
    let rig = Rig::start(Plan::default(), |settings| {
        settings.connection.ca_file = None;
    })
    .await;
    assert_eq!(rig.push("e1").await, AttemptResult::Unavailable);
    assert_eq!(rig.twin().recorder().counts().requests, 0);
}
