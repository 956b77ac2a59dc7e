//! Webhooks against a careful receiver: every answer of the protocol, signatures, credentials,
//! forms.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_channels::provider::{Attempt, AttemptResult, Provider, ThrottleScope};
use bongsu_channels::webhook::config::{Account, Format};
use bongsu_channels::webhook::keys::SigningKey;
use bongsu_channels::{Settings, build};
use bongsu_domain::{Channel, Reason};
use bongsu_runtime::{Clock, Secret};
use bongsu_simulators::{Kind, Settings as Twins, Simulators};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{attempt, delivery};

const PATIENT: Duration = Duration::from_secs(5);

/// A receiver with a plan.
struct Receiver {
    twins: Simulators,
    client: reqwest::Client,
}

impl Receiver {
    async fn start(plan: Value) -> Self {
        let receiver = Self {
            twins: Simulators::start(Twins::of(&[Kind::Webhook]))
                .await
                .unwrap(),
            client: reqwest::Client::new(),
        };
        receiver.plan(plan).await;
        receiver
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.twins.running()[0].url())
    }

    /// Replaces the plan; what the twin tells of itself.
    async fn plan(&self, plan: Value) -> Value {
        let request = self.client.put(self.url("/_sim/plan")).json(&plan);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
        answer.json().await.unwrap()
    }

    async fn told(&self, field: &str) -> u64 {
        let request = self.client.get(self.url("/_sim/plan"));
        let told: Value = request.send().await.unwrap().json().await.unwrap();
        told[field].as_u64().unwrap()
    }

    async fn send(&self, account: &Account) -> AttemptResult {
        self.send_to(account, "/hook/a").await
    }

    async fn send_to(&self, account: &Account, path: &str) -> AttemptResult {
        let provider = provider(account);
        let delivery = delivery(Channel::Webhook, &self.url(path), "e1");
        attempt(&*provider, &delivery, PATIENT).await
    }
}

fn provider(account: &Account) -> Arc<dyn Provider> {
    let mut settings = Settings::default();
    let account = Account {
        allow_private: true,
        ..account.clone()
    };
    assert_eq!(account.validate("a"), []);
    settings.webhook.accounts.insert("test".into(), account);
    build(Channel::Webhook, &settings, "w", Clock::system()).unwrap()
}

fn secret(prefix: &str, byte: u8) -> String {
    format!("{prefix}{}", STANDARD.encode([byte; 32]))
}

fn signing(secrets: &[&str]) -> Account {
    Account {
        secrets: secrets.iter().map(|s| Secret::new(*s)).collect(),
        ..Account::default()
    }
}

#[tokio::test]
async fn every_answer_of_the_protocol_has_its_reaction() {
    let throttled = |seconds: Option<u64>| AttemptResult::Throttled {
        retry_after: seconds.map(Duration::from_secs),
        scope: ThrottleScope::Address,
    };
    let gone = AttemptResult::Refused(Reason::InvalidAddress);
    let cases = [
        (200, None, AttemptResult::Accepted),
        (201, None, AttemptResult::Accepted),
        (202, None, AttemptResult::Accepted),
        (204, None, AttemptResult::Accepted),
        (301, None, AttemptResult::Unavailable),
        (302, None, AttemptResult::Unavailable),
        (307, None, AttemptResult::Unavailable),
        (308, None, AttemptResult::Unavailable),
        (400, None, AttemptResult::Unavailable),
        (401, None, AttemptResult::Doubted),
        (403, None, AttemptResult::Doubted),
        (404, None, AttemptResult::Doubted),
        (410, None, gone),
        (413, None, AttemptResult::Unavailable),
        (422, None, AttemptResult::Unavailable),
        (429, None, throttled(None)),
        (429, Some(7), throttled(Some(7))),
        (500, None, AttemptResult::Unavailable),
        (502, None, AttemptResult::Unavailable),
        (502, Some(7), throttled(Some(7))),
        (503, None, AttemptResult::Unavailable),
        (503, Some(7), throttled(Some(7))),
        (504, None, AttemptResult::Unknown),
    ];
    let path = |status: u16, wait: Option<u64>| format!("/hook/{status}-{}", wait.unwrap_or(0));
    let mut answers = serde_json::Map::new();
    for (status, wait, _) in cases {
        let mut headers = serde_json::Map::new();
        if let Some(wait) = wait {
            headers.insert("retry-after".into(), wait.to_string().into());
        }
        if (300..400).contains(&status) {
            headers.insert("location".into(), "/hook/elsewhere".into());
        }
        answers.insert(
            path(status, wait),
            json!({"status": status, "headers": headers}),
        );
    }
    let receiver = Receiver::start(json!({"answers": answers})).await;
    for (status, wait, expected) in cases {
        let path = path(status, wait);
        let result = receiver.send_to(&Account::default(), &path).await;
        assert_eq!(result, expected, "{status} {wait:?}");
    }
    let counts = receiver.twins.running()[0].recorder().counts();
    assert_eq!(
        counts.requests,
        cases.len() as u64,
        "no redirect is followed"
    );
}

#[tokio::test]
async fn keys_are_rotated_without_a_request_that_nobody_can_verify() {
    let (old, new) = (secret("whsec_", 1), secret("whsec_", 2));
    let receiver = Receiver::start(json!({"keys": [old]})).await;
    // Old alone, then both while the receiver still has the old one, then both with the new one.
    assert_eq!(
        receiver.send(&signing(&[&old])).await,
        AttemptResult::Accepted
    );
    let both = signing(&[&new, &old]);
    assert_eq!(receiver.send(&both).await, AttemptResult::Accepted);
    receiver.plan(json!({"keys": [new]})).await;
    assert_eq!(receiver.send(&both).await, AttemptResult::Accepted);
    assert_eq!(
        receiver.send(&signing(&[&new])).await,
        AttemptResult::Accepted
    );
    for unknown in [signing(&[&old]), signing(&[])] {
        assert_eq!(receiver.send(&unknown).await, AttemptResult::Doubted);
    }
}

#[tokio::test]
async fn an_asymmetric_signature_is_verified_with_the_public_key_alone() {
    let private = secret("whsk_", 3);
    let key = SigningKey::new(&Secret::new(private.as_str())).unwrap();
    let public = key.public_key().unwrap();
    let receiver = Receiver::start(json!({"keys": [public]})).await;
    let symmetric = secret("whsec_", 1);
    // Moving from the one kind to the other is a rotation too.
    for secrets in [vec![private.as_str()], vec![&private, &symmetric]] {
        assert_eq!(
            receiver.send(&signing(&secrets)).await,
            AttemptResult::Accepted
        );
    }
    for other in [secret("whsk_", 4), symmetric] {
        assert_eq!(
            receiver.send(&signing(&[&other])).await,
            AttemptResult::Doubted
        );
    }
}

#[tokio::test]
async fn each_form_is_read_by_a_receiver_of_that_form_and_is_signed() {
    let key = secret("whsec_", 1);
    for (form, format) in [
        ("standard", Format::Standard),
        ("cloudevents-structured", Format::CloudeventsStructured),
        ("cloudevents-binary", Format::CloudeventsBinary),
    ] {
        let receiver = Receiver::start(json!({"form": form, "keys": [key]})).await;
        for sent in [
            Format::Standard,
            Format::CloudeventsStructured,
            Format::CloudeventsBinary,
        ] {
            let account = Account {
                format: sent,
                ..signing(&[&key])
            };
            let result = receiver.send(&account).await;
            let read = result == AttemptResult::Accepted;
            assert_eq!(
                read,
                sent == format,
                "{sent:?} by a receiver of {form}: {result:?}"
            );
        }
        // The twin knows what it got in every form.
        receiver.twins.running()[0].recorder().visit(0, |seen| {
            let expected = delivery(Channel::Webhook, &receiver.url("/hook/a"), "e1");
            assert_eq!(seen.delivery_id, expected.id.to_string());
            assert_eq!((seen.event_id, seen.sender), ("e1", "s"));
            true
        });
    }
}

#[tokio::test]
async fn a_fixed_credential_is_shown() {
    let basic = format!("Basic {}", STANDARD.encode("bongsu:pass:word"));
    let receiver = Receiver::start(json!({"authorization": [basic, "Bearer a-token"]})).await;
    let user = Account {
        basic_user: "bongsu".into(),
        basic_password: Secret::new("pass:word"),
        ..Account::default()
    };
    let bearer = Account {
        bearer: Secret::new("a-token"),
        ..Account::default()
    };
    for known in [user, bearer] {
        assert_eq!(receiver.send(&known).await, AttemptResult::Accepted);
    }
    assert_eq!(
        receiver.send(&Account::default()).await,
        AttemptResult::Doubted
    );
}

fn oauth(receiver: &Receiver, client_secret: &str) -> Account {
    Account {
        oauth_token_url: receiver.url("/oauth2/token"),
        oauth_client_id: "bongsu".into(),
        oauth_client_secret: Secret::new(client_secret),
        ..Account::default()
    }
}

fn granting(expires_in: u64, revoked: bool) -> Value {
    json!({"oauth": {"client_id": "bongsu", "client_secret": "right",
                     "expires_in": expires_in, "revoked": revoked}})
}

#[tokio::test]
async fn one_token_is_fetched_for_all_that_wait_and_kept() {
    let receiver = Receiver::start(granting(3_600, false)).await;
    let provider = provider(&oauth(&receiver, "right"));
    let deliveries: Vec<_> = (0..50)
        .map(|i| delivery(Channel::Webhook, &receiver.url("/hook/a"), &format!("e{i}")))
        .collect();
    for half in deliveries.chunks(25) {
        let sent = half.iter().map(|d| attempt(&*provider, d, PATIENT));
        let results = join_all(sent).await;
        assert!(
            results.iter().all(|r| *r == AttemptResult::Accepted),
            "{results:?}"
        );
    }
    assert_eq!(receiver.told("tokens_given").await, 1);
    // A token that was refused at once is not asked for again and again.
    receiver.plan(granting(3_600, true)).await;
    let result = attempt(&*provider, &deliveries[0], PATIENT).await;
    assert_eq!(result, AttemptResult::Doubted);
    assert_eq!(receiver.told("tokens_given").await, 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let receiver = Receiver::start(granting(1, false)).await;
    let provider = provider(&oauth(&receiver, "right"));
    let delivery = delivery(Channel::Webhook, &receiver.url("/hook/a"), "e1");
    let deadline = Instant::now() + Duration::from_secs(20);
    while receiver.told("tokens_given").await < 3 {
        assert!(Instant::now() < deadline, "the token is never renewed");
        let result = attempt(&*provider, &delivery, PATIENT).await;
        assert_eq!(result, AttemptResult::Accepted);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_account_is_at_fault() {
    let receiver = Receiver::start(granting(3_600, false)).await;
    let wrong = receiver.send(&oauth(&receiver, "wrong")).await;
    assert_eq!(wrong, AttemptResult::AccountFault);
    assert_eq!(receiver.told("clients_refused").await, 1);
    let nowhere = Account {
        oauth_token_url: "http://127.0.0.1:1/token".into(),
        ..oauth(&receiver, "right")
    };
    assert_eq!(receiver.send(&nowhere).await, AttemptResult::AccountFault);
    let no_endpoint = Account {
        oauth_token_url: receiver.url("/nothing-here"),
        ..oauth(&receiver, "right")
    };
    assert_eq!(
        receiver.send(&no_endpoint).await,
        AttemptResult::AccountFault
    );
    let counts = receiver.twins.running()[0].recorder().counts();
    assert_eq!(counts.requests, 0);
}

#[tokio::test]
async fn the_same_delivery_has_the_same_id_on_every_attempt() {
    let receiver = Receiver::start(json!({})).await;
    let provider = provider(&Account::default());
    let delivery = delivery(Channel::Webhook, &receiver.url("/hook/a"), "e1");
    for number in 1..=3 {
        let batch = [Attempt {
            delivery: &delivery,
            number,
            partition: 0,
        }];
        let results = provider.attempt(&batch, Instant::now() + PATIENT).await;
        assert_eq!(results.unwrap(), [AttemptResult::Accepted]);
    }
    let report = receiver.twins.running()[0].report();
    assert_eq!((report.requests, report.duplicates), (3, 2));
}
