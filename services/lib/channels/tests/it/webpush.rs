//! What only Web Push promises, against the twin, which decrypts as a browser does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::provider::{AttemptResult, Provider, ThrottleScope};
use bongsu_channels::webpush::config::Account;
use bongsu_channels::webpush::standing::IN_A_ROW;
use bongsu_channels::{Settings, build};
use bongsu_domain::{Channel, Reason};
use bongsu_runtime::{Clock, Secret};
use bongsu_simulators::simulators::{Instance, Settings as Twins};
use bongsu_simulators::webpush::subscription;
use bongsu_simulators::{Faults, Kind, Simulators};

use crate::server::{Reply, Server};
use crate::{attempt, delivery};

const PATIENT: Duration = Duration::from_secs(5);
/// Opens nothing: the example of RFC 8291, and another.
const KEY: &str = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";
const OTHER_KEY: &str = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94";

/// An account that may call this machine, and takes its word as a push service's.
pub(crate) fn account() -> Account {
    Account {
        key: Secret::new(KEY),
        subject: "mailto:push@example.com".into(),
        services: vec!["127.0.0.1".into()],
        allow_private: true,
        ..Account::default()
    }
}

fn provider(accounts: &[(&str, Account)]) -> Arc<dyn Provider> {
    let mut settings = Settings::default();
    for (name, account) in accounts {
        let accounts = &mut settings.webpush.accounts;
        accounts.insert((*name).to_owned(), account.clone());
    }
    build(Channel::WebPush, &settings, "worker-1", Clock::system()).unwrap()
}

async fn twin(faults: Faults) -> Simulators {
    let mut instance = Instance::new(Kind::WebPush);
    instance.faults = faults;
    let twins = Twins {
        instances: vec![instance],
    };
    Simulators::start(twins).await.unwrap()
}

async fn send(provider: &dyn Provider, base: &str, id: &str, event: &str) -> AttemptResult {
    let delivery = delivery(Channel::WebPush, &subscription(base, id), event);
    attempt(provider, &delivery, PATIENT).await
}

/// Every status of the table in docs/channels/webpush.md, from the twin, through the real client.
#[tokio::test]
async fn every_answer_becomes_the_result_it_stands_for() {
    let throttled = |retry_after| AttemptResult::Throttled {
        retry_after,
        scope: ThrottleScope::Address,
    };
    let address = AttemptResult::Refused(Reason::InvalidAddress);
    let content = AttemptResult::Refused(Reason::InvalidContent);
    let table = [
        (400, AttemptResult::AccountFault),
        (401, AttemptResult::AccountFault),
        (403, AttemptResult::AccountFault),
        (404, address),
        (406, AttemptResult::Refused(Reason::ProviderRefused)),
        (410, address),
        (413, content),
        (429, throttled(None)),
        (500, AttemptResult::Unavailable),
        (502, AttemptResult::Unavailable),
        (503, AttemptResult::Unavailable),
        (504, AttemptResult::Unknown),
    ];
    let plan = |status| Faults {
        fail_ratio: 1.0,
        fail_status: status,
        ..Faults::default()
    };
    let paths: BTreeMap<_, _> = table
        .iter()
        .map(|(status, _)| (format!("/push/{status}"), plan(*status)))
        .collect();
    let twins = twin(Faults {
        paths,
        ..Faults::default()
    })
    .await;
    let base = twins.running()[0].url();
    let provider = provider(&[("test", account())]);
    for (status, expected) in table {
        let result = send(&*provider, &base, &status.to_string(), "e1").await;
        assert_eq!(result, expected, "{status}");
    }
    let result = send(&*provider, &base, "any", "e1").await;
    assert_eq!(result, AttemptResult::Accepted);
}

#[tokio::test]
async fn mozillas_number_decides_before_the_status() {
    let address = AttemptResult::Refused(Reason::InvalidAddress);
    let content = AttemptResult::Refused(Reason::InvalidContent);
    let throttled = AttemptResult::Throttled {
        retry_after: Some(Duration::from_secs(9)),
        scope: ThrottleScope::Address,
    };
    for (status, errno, expected) in [
        (400, 102, address),
        (404, 103, address),
        (410, 105, address),
        (410, 106, address),
        (413, 104, content),
        (400, 112, content),
        (400, 113, content),
        (401, 109, AttemptResult::AccountFault),
        (400, 110, AttemptResult::AccountFault),
        (503, 201, throttled),
        (503, 202, AttemptResult::Unavailable),
        (500, 999, AttemptResult::Unavailable),
    ] {
        let body = format!(r#"{{"code":{status},"errno":{errno},"error":"x","message":"y"}}"#);
        let reply = Reply::answer(status, "retry-after: 9\r\n", &body);
        let server = Server::start(reply).await;
        let provider = provider(&[("test", account())]);
        let result = send(&*provider, &server.url(), "1", "e1").await;
        assert_eq!(result, expected, "{errno}");
    }
}

#[tokio::test]
async fn what_a_publisher_says_reaches_the_push_service_as_headers() {
    let server = Server::start(Reply::answer(201, "", "")).await;
    let provider = provider(&[("test", account())]);
    let address = subscription(&server.url(), "1");
    let mut delivery = delivery(Channel::WebPush, &address, "e1");
    delivery.collapse_key = Some("order-7".into());
    let now = Clock::system().now_millis();
    delivery.expires_at = bongsu_domain::Timestamp(now + 3_600_000);
    let result = attempt(&*provider, &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    let request = String::from(&server.requests()[0]);
    for line in [
        "POST /push/1 HTTP/1.1\r\n",
        "content-encoding: aes128gcm\r\n",
        "urgency: high\r\n",
        "topic: order-7\r\n",
    ] {
        assert!(request.contains(line), "{line} in {request}");
    }
    let ttl = request.split("ttl: ").nth(1).unwrap();
    let ttl: i64 = ttl.split("\r\n").next().unwrap().parse().unwrap();
    assert!((3_500..=3_600).contains(&ttl), "{ttl}");
    assert!(!request.contains("text of e1"), "it is sent in the clear");
}

#[tokio::test]
async fn a_gone_subscription_and_anothers_key_are_told() {
    let twins = twin(Faults {
        deleted: vec!["gone".into()],
        ..Faults::default()
    })
    .await;
    let base = twins.running()[0].url();
    let other = Account {
        key: Secret::new(OTHER_KEY),
        ..account()
    };
    let provider = provider(&[("test", account()), ("other", other)]);
    assert_eq!(
        send(&*provider, &base, "gone", "e1").await,
        AttemptResult::Refused(Reason::InvalidAddress)
    );
    let result = send(&*provider, &base, "mine", "e1").await;
    assert_eq!(result, AttemptResult::Accepted);
    let mut delivery = delivery(Channel::WebPush, &subscription(&base, "mine"), "e2");
    delivery.address.account = "other".into();
    let result = attempt(&*provider, &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::Refused(Reason::Credential));
    // Nobody but foreigners: it is the account whose key is another.
    let mut result = result;
    for _ in 0..IN_A_ROW {
        result = attempt(&*provider, &delivery, PATIENT).await;
    }
    assert_eq!(result, AttemptResult::AccountFault);
}

/// One subscription that its service refuses does not stop the account that it takes pushes of.
#[tokio::test]
async fn a_service_that_takes_the_key_does_not_refuse_the_account() {
    for status in [400, 401, 403] {
        let plan = Faults {
            fail_ratio: 1.0,
            fail_status: status,
            ..Faults::default()
        };
        let twins = twin(Faults {
            paths: BTreeMap::from([("/push/foreign".to_owned(), plan)]),
            ..Faults::default()
        })
        .await;
        let base = twins.running()[0].url();
        let provider = provider(&[("test", account())]);
        // Nothing was taken yet: key, clock and subject may all be wrong.
        let result = send(&*provider, &base, "foreign", "e1").await;
        assert_eq!(result, AttemptResult::AccountFault, "{status}");
        for event in ["e2", "e3"] {
            let result = send(&*provider, &base, "mine", event).await;
            assert_eq!(result, AttemptResult::Accepted, "{status}");
            let result = send(&*provider, &base, "foreign", event).await;
            let refused = AttemptResult::Refused(Reason::Credential);
            assert_eq!(result, refused, "{status}");
        }
    }
}

#[tokio::test]
async fn a_stranger_cannot_stop_the_account() {
    let server = Server::start(Reply::answer(403, "", "")).await;
    let stranger = Account {
        services: vec!["fcm.googleapis.com".into()],
        ..account()
    };
    let provider = provider(&[("test", stranger)]);
    assert_eq!(
        send(&*provider, &server.url(), "1", "e1").await,
        AttemptResult::Refused(Reason::Credential)
    );
}

#[tokio::test]
async fn a_service_that_asked_for_a_pause_is_left_alone_and_others_are_not() {
    let busy = Server::start(Reply::answer(429, "retry-after: 60\r\n", "")).await;
    let free = Server::start(Reply::answer(201, "", "")).await;
    let provider = provider(&[("test", account())]);
    let to = |server: &Server| {
        let address = subscription(&server.url(), "2");
        delivery(Channel::WebPush, &address, "e2")
    };
    assert_eq!(provider.hold(&to(&busy)), None);
    let minute = Duration::from_mins(1);
    assert_eq!(
        send(&*provider, &busy.url(), "1", "e1").await,
        AttemptResult::Throttled {
            retry_after: Some(minute),
            scope: ThrottleScope::Address,
        }
    );
    // Held before anything is counted: neither an attempt nor a limit.
    let held = provider.hold(&to(&busy)).unwrap();
    assert!((50..=60).contains(&held.as_secs()), "{held:?}");
    assert_eq!(provider.hold(&to(&free)), None);
    assert_eq!(busy.requests().len(), 1);
    let result = send(&*provider, &free.url(), "1", "e1").await;
    assert_eq!(result, AttemptResult::Accepted);
}

#[tokio::test]
async fn private_plain_and_broken_endpoints_are_refused_and_nobody_is_asked() {
    let server = Server::start(Reply::answer(201, "", "")).await;
    let guarded = Account {
        allow_private: false,
        ..account()
    };
    let provider = provider(&[("test", guarded)]);
    let private = AttemptResult::Refused(Reason::PrivateAddress);
    let invalid = AttemptResult::Refused(Reason::InvalidAddress);
    let port = server.address.port();
    for (base, expected) in [
        (server.url(), private),
        (format!("https://localhost:{port}"), private),
        (format!("https://[::1]:{port}"), private),
        (format!("https://169.254.169.254:{port}"), private),
        ("http://push.example.com".to_owned(), invalid),
        ("https://user:pass@push.example.com".to_owned(), invalid),
        ("file://push.example.com".to_owned(), invalid),
    ] {
        assert_eq!(send(&*provider, &base, "1", "e1").await, expected, "{base}");
    }
    let zeros = format!("B{}", "A".repeat(86));
    let good = subscription("https://push.example.com", "1");
    let keys = bongsu_simulators::webpush::Keys::of("1");
    for bad in [
        "https://push.example.com/push/1".to_owned(),
        // The point at infinity's neighbour: the right length, but not on the curve.
        good.replace(&keys.p256dh(), &zeros),
        good.replace(&keys.auth(), "AAAA"),
    ] {
        let delivery = delivery(Channel::WebPush, &bad, "e1");
        assert_eq!(attempt(&*provider, &delivery, PATIENT).await, invalid);
    }
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn a_text_that_does_not_fit_is_refused_before_it_is_sent() {
    let twins = twin(Faults::default()).await;
    let base = twins.running()[0].url();
    let provider = provider(&[("test", account())]);
    let mut delivery = delivery(Channel::WebPush, &subscription(&base, "1"), "e1");
    delivery.content.body = Some("x".repeat(4_000));
    assert_eq!(
        attempt(&*provider, &delivery, PATIENT).await,
        AttemptResult::Refused(Reason::InvalidContent)
    );
    // The longest that fits is taken by a service that takes no more than it must.
    let short = delivery.content.body.as_ref().map_or(0, String::len);
    let raw = |n: usize| format!(r#"{{"x":"{}"}}"#, "x".repeat(n));
    assert!(short > 3_993);
    let overrides = &mut delivery.content.overrides;
    overrides.insert("webpush".into(), raw(3_993 - 8));
    assert_eq!(
        attempt(&*provider, &delivery, PATIENT).await,
        AttemptResult::Accepted
    );
    assert_eq!(twins.running()[0].recorder().counts().requests, 1);
}
