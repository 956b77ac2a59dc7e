//! What only FCM promises, against its twin and against a server that answers as told.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bongsu_channels::fcm::FcmProvider;
use bongsu_channels::fcm::config::Account;
use bongsu_channels::provider::{AttemptResult, Provider as _, ThrottleScope};
use bongsu_channels::settings::HttpSettings;
use bongsu_channels::{Settings, build};
use bongsu_domain::{Channel, ContentHash, Delivery, Platform, Reason};
use bongsu_runtime::{Clock, Secret};
use bongsu_simulators::fcm::{Plan, TokenCounts};
use bongsu_simulators::simulators::{Instance, Running, Settings as Twins};
use bongsu_simulators::{Faults, Kind, Simulators};
use futures_util::future::join_all;

use crate::server::{Reply, Server};
use crate::{attempt, delivery, http2};

/// Far more than any of this takes, for machines that have other things to do.
const PATIENT: Duration = Duration::from_secs(60);
const TOKEN: &str = "bk3RNwTe3H0:CI2k_HHwgIpo";

/// A service account's file whose key opens nothing; one for all tests, for keys take their time.
fn service_account() -> &'static str {
    static FILE: OnceLock<String> = OnceLock::new();
    FILE.get_or_init(|| {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
        use aws_lc_rs::rsa::{KeyPair, KeySize};
        use base64::Engine as _;

        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let key = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
        serde_json::json!({
            "project_id": "shop-1",
            "private_key": format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"),
            "client_email": "push@shop-1.example",
        })
        .to_string()
    })
}

/// A token endpoint that takes everybody, for servers that answer every request alike.
fn token_endpoint() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|n| n > 2) {
                    line.clear();
                }
                let body = r#"{"access_token":"test","expires_in":3599,"token_type":"Bearer"}"#;
                let length = body.len();
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json";
                let answer = format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.get_mut().write_all(answer.as_bytes()).ok();
            }
        });
        url
    })
}

/// Adds the account `test`, which reaches `base` and gets a token elsewhere.
pub(crate) fn account(settings: &mut Settings, base: &str) {
    settings.fcm.client.ca_file = Some(http2::ca_file());
    let account = Account {
        endpoint: base.replace("http://", "https://"),
        token_endpoint: token_endpoint().to_owned(),
        service_account: Secret::new(service_account()),
        ..Account::default()
    };
    settings.fcm.accounts.insert("test".into(), account);
}

pub(crate) fn settings_for(twin: &Running) -> HttpSettings<Account> {
    // Kept on disk for as long as the process runs.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), twin.authority()).unwrap();
    let (_, ca_file) = file.keep().unwrap();
    let mut settings = HttpSettings::default();
    settings.client.ca_file = Some(ca_file);
    let account = Account {
        endpoint: twin.tls_url(),
        topics_endpoint: twin.tls_url(),
        token_endpoint: format!("{}/token", twin.url()),
        service_account: Secret::new(twin.service_account().unwrap().file.clone()),
        ..Account::default()
    };
    settings.accounts.insert("test".into(), account);
    settings
}

/// The account `test` of the twin.
pub(crate) fn twin_account(settings: &mut Settings, twins: &Simulators) {
    settings.fcm = settings_for(twins.get(Kind::Fcm).unwrap());
}

/// A twin and a provider that reaches it.
struct Rig {
    twins: Simulators,
    provider: Arc<FcmProvider>,
}

impl Rig {
    async fn start(plan: Plan, change: impl FnOnce(&mut HttpSettings<Account>)) -> Self {
        Self::with(plan, Faults::default(), Clock::system(), change).await
    }

    async fn with(
        plan: Plan,
        faults: Faults,
        clock: Clock,
        change: impl FnOnce(&mut HttpSettings<Account>),
    ) -> Self {
        let mut instance = Instance::new(Kind::Fcm);
        (instance.fcm, instance.faults) = (plan, faults);
        let instances = vec![instance];
        let twins = Simulators::start(Twins { instances }).await.unwrap();
        let mut settings = settings_for(&twins.running()[0]);
        change(&mut settings);
        let provider = Arc::new(FcmProvider::new(&settings, "worker-1", clock).unwrap());
        Self { twins, provider }
    }

    fn twin(&self) -> &Running {
        &self.twins.running()[0]
    }

    fn tokens(&self) -> TokenCounts {
        self.twin().fcm_stats().unwrap().tokens
    }

    fn answers(&self, words: &[(&str, &str)]) {
        let words = words.iter();
        let words = words.map(|(a, w)| ((*a).to_owned(), (*w).to_owned()));
        assert!(self.twin().set_answers(words.collect()));
    }

    async fn send(&self, delivery: &Delivery) -> AttemptResult {
        attempt(&*self.provider, delivery, PATIENT).await
    }

    async fn to(&self, address: &str) -> AttemptResult {
        self.send(&push(address, "e1")).await
    }
}

fn push(address: &str, event: &str) -> Delivery {
    let mut delivery = delivery(Channel::Fcm, address, event);
    delivery.address.platform = Platform::Android;
    // Far from now whatever the clock says: the time to live is the longest there is.
    delivery.expires_at = bongsu_domain::Timestamp(9_000_000_000_000);
    delivery
}

fn throttled(seconds: u64, scope: ThrottleScope) -> AttemptResult {
    AttemptResult::Throttled {
        retry_after: Some(Duration::from_secs(seconds)),
        scope,
    }
}

#[tokio::test]
async fn a_push_is_byte_by_byte_what_google_asks_for() {
    let server = Server::start_for(Channel::Fcm, Reply::answer(200, "", "{}")).await;
    let mut settings = Settings::default();
    account(&mut settings, &server.url());
    let provider = build(Channel::Fcm, &settings, "worker-1", Clock::system()).unwrap();
    let mut delivery = push(TOKEN, "e1");
    delivery.collapse_key = Some("room-1".into());
    let result = attempt(&*provider, &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        server.requests().remove(0),
        format!(
            "POST /v1/projects/shop-1/messages:send HTTP/2\r\n\
             authorization: Bearer test\r\n\
             content-type: application/json\r\n\
             user-agent: bongsu/{version}\r\n\
             bongsu-worker: worker-1\r\n\
             bongsu-attempt: 1\r\n\
             \r\n\
             {{\"message\":{{\"android\":{{\"collapse_key\":\"room-1\",\
             \"notification\":{{\"tag\":\"room-1\"}},\"priority\":\"HIGH\",\"ttl\":\"2419200s\"}},\
             \"notification\":{{\"body\":\"text of e1\"}},\"token\":\"{TOKEN}\"}}}}"
        )
    );
}

#[tokio::test]
async fn every_code_of_google_has_its_reaction() {
    let rig = Rig::start(Plan::default(), |_| {}).await;
    let refused = AttemptResult::Refused;
    let minute = |scope| throttled(60, scope);
    let table = [
        ("INVALID_ARGUMENT", refused(Reason::InvalidContent)),
        (
            "INVALID_ARGUMENT field=message.android.ttl",
            refused(Reason::InvalidContent),
        ),
        (
            "INVALID_ARGUMENT field=message.token",
            refused(Reason::ProviderRefused),
        ),
        ("UNREGISTERED", refused(Reason::InvalidAddress)),
        ("SENDER_ID_MISMATCH", refused(Reason::InvalidAddress)),
        ("PERMISSION_DENIED", AttemptResult::AccountFault),
        ("NOT_FOUND", refused(Reason::ProviderRefused)),
        ("QUOTA_EXCEEDED", minute(ThrottleScope::Account)),
        (
            "QUOTA_EXCEEDED quota=project:p",
            minute(ThrottleScope::Account),
        ),
        (
            "QUOTA_EXCEEDED quota=device:d",
            minute(ThrottleScope::Address),
        ),
        (
            "QUOTA_EXCEEDED quota=topic:t",
            minute(ThrottleScope::Address),
        ),
        ("RESOURCE_EXHAUSTED", minute(ThrottleScope::Account)),
        (
            "QUOTA_EXCEEDED retry-after=7",
            throttled(7, ThrottleScope::Account),
        ),
        ("INTERNAL", AttemptResult::Unavailable),
        ("UNAVAILABLE", AttemptResult::Unavailable),
        (
            "UNAVAILABLE retry-after=9",
            throttled(9, ThrottleScope::Account),
        ),
        ("UNSPECIFIED_ERROR", AttemptResult::Unavailable),
        ("DEADLINE_EXCEEDED", AttemptResult::Unknown),
        ("UNAUTHENTICATED", AttemptResult::NotProcessed),
    ];
    for (word, expected) in table {
        rig.answers(&[(TOKEN, word)]);
        assert_eq!(rig.to(TOKEN).await, expected, "{word}");
    }
    rig.answers(&[]);
    assert_eq!(rig.to(TOKEN).await, AttemptResult::Accepted);
}

#[tokio::test]
async fn a_malformed_token_is_dead_once_its_content_passed_elsewhere() {
    let rig = Rig::start(Plan::default(), |_| {}).await;
    rig.answers(&[("malformed-token", "INVALID_ARGUMENT field=message.token")]);
    let with = |address: &str, hash| {
        let mut delivery = push(address, "e1");
        delivery.content_hash = ContentHash(hash);
        delivery
    };
    assert_eq!(rig.send(&with(TOKEN, 7)).await, AttemptResult::Accepted);
    let (same, other) = (with("malformed-token", 7), with("malformed-token", 8));
    assert_eq!(
        rig.send(&same).await,
        AttemptResult::Refused(Reason::InvalidAddress)
    );
    assert_eq!(
        rig.send(&other).await,
        AttemptResult::Refused(Reason::ProviderRefused)
    );
}

fn on(address: &str, platform: Platform) -> Delivery {
    let mut delivery = push(address, "e1");
    delivery.address.platform = platform;
    delivery
}

#[tokio::test]
async fn firebases_bad_credential_holds_its_platform_and_no_other() {
    let rig = Rig::start(Plan::default(), |_| {}).await;
    let bad = "THIRD_PARTY_AUTH_ERROR";
    rig.answers(&[("an-ios-token", bad), ("another-ios-token", bad)]);
    let (ios, other) = (
        on("an-ios-token", Platform::Ios),
        on("another-ios-token", Platform::Ios),
    );
    assert_eq!(rig.provider.hold(&ios), None);
    // No attempt is counted, however many answers are under way.
    let results = join_all([rig.send(&ios), rig.send(&other)]).await;
    assert_eq!(results, [AttemptResult::NotProcessed; 2]);
    for delivery in [&ios, &other] {
        let wait = rig.provider.hold(delivery).unwrap();
        assert!((50..=60).contains(&wait.as_secs()), "{wait:?}");
    }
    for platform in [Platform::Android, Platform::Web] {
        let free = on("an-ios-token", platform);
        assert_eq!(rig.provider.hold(&free), None, "{platform:?}");
    }
    let android = rig.send(&on(TOKEN, Platform::Android)).await;
    assert_eq!(android, AttemptResult::Accepted);
}

/// A publisher that states no platform registers an iOS token as Android's.
#[tokio::test]
async fn a_target_of_no_stated_platform_is_held_alone() {
    let rig = Rig::start(Plan::default(), |_| {}).await;
    rig.answers(&[("an-ios-token", "THIRD_PARTY_AUTH_ERROR")]);
    for platform in [Platform::Android, Platform::Other] {
        let unstated = on("an-ios-token", platform);
        assert_eq!(rig.send(&unstated).await, AttemptResult::NotProcessed);
        assert!(rig.provider.hold(&unstated).is_some());
        assert_eq!(rig.provider.hold(&on(TOKEN, platform)), None);
    }
}

#[tokio::test]
async fn every_kind_of_target_arrives() {
    let rig = Rig::start(Plan::default(), |_| {}).await;
    for address in [
        TOKEN,
        "token:bk3RNwTe3H0:CI2k_HHwgIpo",
        "fid:eBlnf0SSS_qIRPz0OzO3bd",
        "topic:news",
        "condition:'news' in topics && !('quiet' in topics)",
    ] {
        assert_eq!(rig.to(address).await, AttemptResult::Accepted, "{address}");
    }
    let mut silent = push(TOKEN, "e2");
    silent.content.body = None;
    silent.content.data.insert("seq".into(), "1".into());
    for platform in [
        Platform::Android,
        Platform::Ios,
        Platform::Web,
        Platform::Other,
    ] {
        silent.address.platform = platform;
        assert_eq!(rig.send(&silent).await, AttemptResult::Accepted);
    }
    assert_eq!(rig.twin().recorder().counts().accepted, 9);
}

#[tokio::test]
async fn one_token_serves_everybody_and_is_fetched_once() {
    let rig = Rig::start(Plan::default(), |_| {}).await;
    let events: Vec<String> = (0..200).map(|i| format!("e{i}")).collect();
    let rig = &rig;
    let sends = events.iter().map(|event| async move {
        let address = format!("{TOKEN}-{event}");
        rig.send(&push(&address, event)).await
    });
    let results = join_all(sends).await;
    assert!(results.iter().all(|r| *r == AttemptResult::Accepted));
    assert_eq!(rig.tokens().granted, 1);
    assert_eq!(rig.tokens().unauthenticated, 0);
    assert!(rig.provider.connections() <= 4);
    let stats = rig.twin().fcm_stats().unwrap();
    assert!((1..=100).contains(&stats.most_streams), "{stats:?}");
    assert_eq!(stats.overruns, 0);
}

#[tokio::test]
async fn however_many_wait_no_connection_ever_has_a_stream_too_many() {
    let faults = Faults {
        latency_ms: 20,
        ..Faults::default()
    };
    let rig = Rig::with(Plan::default(), faults, Clock::system(), |settings| {
        settings.accounts.get_mut("test").unwrap().connections = 2;
    })
    .await;
    let rig = &rig;
    let sends = (0..1_000).map(|i| async move {
        let address = format!("{TOKEN}-{i}");
        rig.send(&push(&address, "e1")).await
    });
    let results = join_all(sends).await;
    assert!(results.iter().all(|r| *r == AttemptResult::Accepted));
    let stats = rig.twin().fcm_stats().unwrap();
    assert!((50..=100).contains(&stats.most_streams), "{stats:?}");
    assert_eq!(stats.overruns, 0);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_at_no_attempts_cost() {
    let rig = Rig::start(Plan::default(), |_| {}).await;
    assert_eq!(rig.to(TOKEN).await, AttemptResult::Accepted);
    rig.twin().revoke_tokens();
    assert_eq!(rig.to(TOKEN).await, AttemptResult::NotProcessed);
    assert_eq!(rig.to(TOKEN).await, AttemptResult::Accepted);
    assert_eq!(rig.tokens().granted, 2);
    // Again at once: attempts are counted, and no token is minted for each.
    rig.twin().revoke_tokens();
    for _ in 0..3 {
        assert_eq!(rig.to(TOKEN).await, AttemptResult::Unavailable);
    }
    assert_eq!(rig.tokens().granted, 2);
}

#[tokio::test]
async fn two_tokens_refused_in_a_row_are_the_accounts_fault() {
    let rig = Rig::start(Plan::default(), |_| {}).await;
    rig.answers(&[(TOKEN, "UNAUTHENTICATED")]);
    assert_eq!(rig.to(TOKEN).await, AttemptResult::NotProcessed);
    assert_eq!(rig.to(TOKEN).await, AttemptResult::AccountFault);
    assert_eq!(rig.tokens().granted, 2);
    rig.answers(&[]);
    assert_eq!(rig.to(TOKEN).await, AttemptResult::Accepted);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    // It lives ten seconds and is renewed after five.
    let plan = Plan {
        token_life_s: 10,
        ..Plan::default()
    };
    let rig = Rig::start(plan, |_| {}).await;
    assert_eq!(rig.to(TOKEN).await, AttemptResult::Accepted);
    let deadline = tokio::time::Instant::now() + PATIENT;
    while rig.tokens().granted < 2 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(rig.to(TOKEN).await, AttemptResult::Accepted);
    }
    assert_eq!(rig.tokens().unauthenticated, 0);
}

#[tokio::test]
async fn a_token_endpoint_that_says_no_is_the_accounts_fault_and_is_not_asked_again_at_once() {
    for (answer, expected) in [
        ("400 invalid_grant", AttemptResult::AccountFault),
        ("401 invalid_client", AttemptResult::AccountFault),
        ("500", AttemptResult::Unavailable),
        ("404", AttemptResult::Unavailable),
        (
            "429",
            AttemptResult::Throttled {
                retry_after: None,
                scope: ThrottleScope::Account,
            },
        ),
    ] {
        let plan = Plan {
            token_answer: answer.to_owned(),
            ..Plan::default()
        };
        let rig = Rig::start(plan, |_| {}).await;
        let sends = (0..20).map(|_| rig.to(TOKEN));
        for result in join_all(sends).await {
            assert_eq!(result, expected, "{answer}");
        }
        assert_eq!(rig.tokens().denied, 1, "{answer}");
        assert_eq!(rig.twin().recorder().counts().requests, 0);
    }
}

#[tokio::test]
async fn an_account_of_another_project_or_key_is_at_fault() {
    let other = Rig::start(Plan::default(), |settings| {
        settings.accounts.get_mut("test").unwrap().project = "another-project".into();
    })
    .await;
    assert_eq!(other.to(TOKEN).await, AttemptResult::AccountFault);
    let stranger = Rig::start(Plan::default(), |settings| {
        let account = settings.accounts.get_mut("test").unwrap();
        account.service_account = Secret::new(service_account());
        account.project = "twin-project".into();
    })
    .await;
    assert_eq!(stranger.to(TOKEN).await, AttemptResult::AccountFault);
    assert_eq!(stranger.tokens().denied, 1);
}

#[tokio::test]
async fn quotas_of_project_device_and_topic_throttle_whom_they_concern() {
    let plan = Plan {
        device_per_minute: 2,
        topic_per_minute: 1,
        project_per_minute: 8,
        quota_retry_after_s: 30,
        ..Plan::default()
    };
    let rig = Rig::start(plan, |_| {}).await;
    let mut results = Vec::new();
    for address in [
        TOKEN,
        TOKEN,
        TOKEN,
        "topic:a",
        "topic:a",
        "other-token",
        "topic:b",
        "topic:c",
    ] {
        results.push(rig.to(address).await);
    }
    let mine = throttled(30, ThrottleScope::Address);
    let accepted = AttemptResult::Accepted;
    assert_eq!(
        results,
        [
            accepted, accepted, mine, accepted, mine, accepted, accepted, accepted
        ]
    );
    assert_eq!(
        rig.to("yet-another-token").await,
        throttled(30, ThrottleScope::Account)
    );
}

#[tokio::test]
async fn a_rehearsal_at_google_sends_nothing() {
    let rig = Rig::start(Plan::default(), |settings| {
        settings.accounts.get_mut("test").unwrap().validate_only = true;
    })
    .await;
    assert_eq!(rig.to(TOKEN).await, AttemptResult::Accepted);
    let mut long = push(TOKEN, "e2");
    long.content.body = Some("x".repeat(5_000));
    assert_eq!(
        rig.send(&long).await,
        AttemptResult::Refused(Reason::InvalidContent)
    );
    let client = reqwest::Client::new();
    let url = format!("{}/_sim/fcm/waiting", rig.twin().url());
    let waiting = client.get(url).send().await.unwrap().text().await.unwrap();
    assert_eq!(waiting, "{}");
}

#[tokio::test]
async fn a_collapse_key_replaces_what_waits() {
    let rig = Rig::start(Plan::default(), |_| {}).await;
    for (event, key) in [("e1", "room"), ("e2", "room"), ("e3", "other")] {
        let mut delivery = push(TOKEN, event);
        delivery.content.body = Some(format!("line [#{event}]"));
        delivery.collapse_key = Some(key.into());
        assert_eq!(rig.send(&delivery).await, AttemptResult::Accepted);
    }
    let url = format!("{}/_sim/fcm/waiting", rig.twin().url());
    let waiting = reqwest::get(url).await.unwrap().text().await.unwrap();
    let waiting: BTreeMap<String, Vec<String>> = serde_json::from_str(&waiting).unwrap();
    assert_eq!(waiting.into_values().next().unwrap(), ["e2", "e3"]);
}

#[tokio::test]
async fn several_projects_stand_side_by_side() {
    let (a, b) = (
        Rig::start(Plan::default(), |_| {}).await,
        Rig::start(Plan::default(), |_| {}).await,
    );
    let mut settings = settings_for(a.twin());
    let other = settings_for(b.twin());
    // Both authorities, for one client reaches both.
    let both = [a.twin().authority(), b.twin().authority()].concat();
    std::fs::write(settings.client.ca_file.as_ref().unwrap(), both).unwrap();
    settings
        .accounts
        .insert("second".into(), other.accounts["test"].clone());
    let provider = FcmProvider::new(&settings, "w", Clock::system()).unwrap();
    let mut second = push(TOKEN, "e1");
    second.address.account = "second".into();
    let first = attempt(&provider, &push(TOKEN, "e1"), PATIENT).await;
    assert_eq!(first, AttemptResult::Accepted);
    let second = attempt(&provider, &second, PATIENT).await;
    assert_eq!(second, AttemptResult::Accepted);
    for rig in [&a, &b] {
        assert_eq!(rig.twin().recorder().counts().accepted, 1);
    }
    assert_eq!(provider.limits("second"), provider.limits("nobody"));
}

#[tokio::test]
async fn a_connection_that_google_ends_costs_nothing() {
    let faults = Faults {
        goaway_after: 10,
        ..Faults::default()
    };
    let rig = Rig::with(Plan::default(), faults, Clock::system(), |_| {}).await;
    for event in 0..100 {
        let delivery = push(&format!("{TOKEN}-{event}"), &format!("e{event}"));
        let mut result = rig.send(&delivery).await;
        while result == AttemptResult::NotProcessed {
            result = rig.send(&delivery).await;
        }
        assert_eq!(result, AttemptResult::Accepted);
    }
    let report = rig.twin().report();
    assert_eq!((report.accepted, report.duplicates), (100, 0));
}
