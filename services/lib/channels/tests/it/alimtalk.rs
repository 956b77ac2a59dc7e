//! AlimTalk through the real client: against the dealer's twin, and byte by byte.

use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::alimtalk::config::{Account, Dealer};
use bongsu_channels::provider::{Attempt, AttemptResult, Provider, ThrottleScope};
use bongsu_channels::{Settings, build};
use bongsu_domain::{Channel, Delivery, Purpose, Reason};
use bongsu_runtime::Clock;
use bongsu_simulators::alimtalk::Plan;
use bongsu_simulators::simulators::{Instance, Settings as Twins};
use bongsu_simulators::{Kind, Simulators};
use tokio::time::Instant;

use crate::server::{Reply, Server};
use crate::{alimtalk_account, attempt, delivery};

const PATIENT: Duration = Duration::from_secs(5);
const NUMBER: &str = "010-1234-5678";

fn provider(account: Account) -> Arc<dyn Provider> {
    let mut settings = Settings::default();
    settings.alimtalk.accounts.insert("test".into(), account);
    assert_eq!(settings.validate(), []);
    build(Channel::AlimTalk, &settings, "worker-1", Clock::system()).unwrap()
}

async fn twin(plan: Plan) -> (Simulators, Account) {
    let mut instance = Instance::new(Kind::AlimTalk);
    instance.alimtalk = plan;
    let twins = Simulators::start(Twins {
        instances: vec![instance],
    })
    .await
    .unwrap();
    let account = alimtalk_account(&twins.running()[0].url());
    (twins, account)
}

async fn all(provider: &dyn Provider, deliveries: &[Delivery]) -> Vec<AttemptResult> {
    let batch: Vec<Attempt<'_>> = deliveries
        .iter()
        .map(|delivery| Attempt {
            delivery,
            number: 1,
            partition: 3,
        })
        .collect();
    let results = provider.attempt(&batch, Instant::now() + PATIENT).await;
    results.unwrap()
}

#[tokio::test]
async fn every_code_becomes_its_result_through_the_real_client() {
    let content = AttemptResult::Refused(Reason::InvalidContent);
    let address = AttemptResult::Refused(Reason::InvalidAddress);
    let other = AttemptResult::Refused(Reason::ProviderRefused);
    let purpose = AttemptResult::Refused(Reason::PurposeNotAllowed);
    let throttled = AttemptResult::Throttled {
        retry_after: Some(Duration::from_secs(1)),
        scope: ThrottleScope::Account,
    };
    let (twins, account) = twin(Plan::default()).await;
    let provider = provider(account);
    let mut n = 0;
    let mut check = async |plan: Plan, expected: AttemptResult| {
        n += 1;
        assert!(twins.running()[0].set_dealer(plan.clone()).unwrap());
        let delivery = delivery(Channel::AlimTalk, NUMBER, &format!("e{n}"));
        let result = attempt(&*provider, &delivery, PATIENT).await;
        assert_eq!(result, expected, "{plan:?}");
    };
    for (code, expected) in [
        ("A000", AttemptResult::Unknown),
        ("A401", AttemptResult::AccountFault),
        ("A403", AttemptResult::AccountFault),
        ("A400", content),
        ("A404", content),
        ("A301", AttemptResult::Unavailable),
        ("A020", throttled),
        ("A999", AttemptResult::Unknown),
    ] {
        let plan = Plan {
            gateway_code: Some(code.to_owned()),
            ..Plan::default()
        };
        check(plan, expected).await;
    }
    let shared = [
        ("A001", AttemptResult::AccountFault),
        ("A002", AttemptResult::AccountFault),
        ("A100", AttemptResult::AccountFault),
        ("A110", AttemptResult::AccountFault),
        ("A111", AttemptResult::AccountFault),
        ("A010", content),
        ("A011", content),
        ("A201", other),
        ("A301", AttemptResult::Accepted),
        ("A302", content),
        ("A306", address),
        ("A309", content),
        ("A318", AttemptResult::NotProcessed),
        ("A319", content),
        ("A320", AttemptResult::AccountFault),
        ("A322", content),
        ("A323", AttemptResult::AccountFault),
        ("A324", address),
        ("A325", AttemptResult::AccountFault),
        ("A327", AttemptResult::AccountFault),
        ("A328", content),
        ("A330", purpose),
        ("A331", content),
        ("A401", content),
        ("A502", content),
        ("A505", content),
        ("A523", content),
        ("A801", other),
        ("A910", AttemptResult::Unknown),
        ("A920", AttemptResult::Unknown),
        ("A999", AttemptResult::Unknown),
    ];
    for (code, expected) in shared {
        let plan = Plan {
            service_code: Some(code.to_owned()),
            ..Plan::default()
        };
        // The same code for the whole request, then for the one recipient of a request taken.
        check(plan, expected).await;
        let plan = Plan {
            codes: [("01012345678".to_owned(), code.to_owned())].into(),
            recipients_per_second: 0,
            ..Plan::default()
        };
        check(plan, expected).await;
    }
}

#[tokio::test]
async fn a_second_copy_is_recognised_however_often_it_is_sent() {
    let (twins, account) = twin(Plan::default()).await;
    let first = provider(account.clone());
    let delivery = delivery(Channel::AlimTalk, NUMBER, "e1");
    assert!(first.dedupes(&delivery));
    for _ in 0..3 {
        assert_eq!(
            attempt(&*first, &delivery, PATIENT).await,
            AttemptResult::Accepted
        );
    }
    // Another process after a crash.
    let second = provider(account);
    let result = attempt(&*second, &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    let dealer = twins.running()[0].dealer().unwrap();
    assert_eq!((dealer.taken, dealer.recognised), (1, 3));
    let report = twins.running()[0].report();
    assert_eq!((report.accepted, report.duplicates), (1, 0));
}

#[tokio::test]
async fn a_batch_is_cut_to_what_the_dealer_takes_and_answered_one_by_one() {
    let plan = Plan {
        recipients_per_second: 0,
        codes: [("01000000003".to_owned(), "A324".to_owned())].into(),
        ..Plan::default()
    };
    let (twins, mut account) = twin(plan).await;
    account.recipients_per_request = 200;
    let provider = provider(account);
    assert_eq!(provider.batching().max, 200);
    let deliveries: Vec<Delivery> = (0..250)
        .map(|i| {
            let number = match i {
                7 => "no number".to_owned(),
                i => format!("0100000{i:04}"),
            };
            delivery(Channel::AlimTalk, &number, &format!("e{i}"))
        })
        .collect();
    assert!(!provider.dedupes(&deliveries[0]));
    let results = all(&*provider, &deliveries).await;
    for (i, result) in results.iter().enumerate() {
        let expected = match i {
            3 | 7 => AttemptResult::Refused(Reason::InvalidAddress),
            _ => AttemptResult::Accepted,
        };
        assert_eq!(*result, expected, "{i}");
    }
    let dealer = twins.running()[0].dealer().unwrap();
    assert_eq!((dealer.requests, dealer.taken), (2, 248));
    let report = twins.running()[0].report();
    assert_eq!(
        (report.accepted, report.errors, report.addresses),
        (248, 1, 249)
    );
    // The same batch again is recognised as a whole.
    let again = all(&*provider, &deliveries).await;
    assert_eq!(again[0], AttemptResult::Accepted);
    assert_eq!(
        again[3],
        AttemptResult::Accepted,
        "the dealer tells no more"
    );
    assert_eq!(twins.running()[0].dealer().unwrap().taken, 248);
}

#[tokio::test]
async fn requests_shrink_when_the_dealer_takes_fewer() {
    let plan = Plan {
        service_code: Some("A318".into()),
        ..Plan::default()
    };
    let (twins, mut account) = twin(plan).await;
    account.recipients_per_request = 100;
    let provider = provider(account);
    let deliveries: Vec<Delivery> = (0..40)
        .map(|i| {
            delivery(
                Channel::AlimTalk,
                &format!("0100000{i:04}"),
                &format!("e{i}"),
            )
        })
        .collect();
    let first = all(&*provider, &deliveries).await;
    assert_eq!(first, [AttemptResult::NotProcessed; 40]);
    twins.running()[0].set_dealer(Plan::default()).unwrap();
    let second = all(&*provider, &deliveries).await;
    assert_eq!(second, [AttemptResult::Accepted; 40]);
    assert_eq!(twins.running()[0].dealer().unwrap().requests, 3);
}

#[tokio::test]
async fn the_second_over_its_limit_is_throttled_for_the_whole_account() {
    let plan = Plan {
        recipients_per_second: 3,
        ..Plan::default()
    };
    let (twins, account) = twin(plan).await;
    let provider = provider(account);
    let mut throttled = 0;
    for i in 0..5 {
        let delivery = delivery(Channel::AlimTalk, NUMBER, &format!("e{i}"));
        let result = attempt(&*provider, &delivery, PATIENT).await;
        if let AttemptResult::Throttled { scope, .. } = result {
            assert_eq!(scope, ThrottleScope::Account);
            throttled += 1;
        } else {
            assert_eq!(result, AttemptResult::Accepted);
        }
    }
    assert_eq!(throttled, 2);
    assert_eq!(twins.running()[0].dealer().unwrap().over_limit, 2);
}

#[tokio::test]
async fn advertising_and_a_text_that_is_not_the_templates_are_never_sent() {
    let (twins, account) = twin(Plan::default()).await;
    let provider = provider(account);
    let mut advertising = delivery(Channel::AlimTalk, NUMBER, "e1");
    advertising.purpose = Purpose::Advertising;
    let mut other = delivery(Channel::AlimTalk, NUMBER, "e2");
    other.content.data.insert("text".into(), "another".into());
    assert_eq!(
        all(&*provider, &[advertising, other]).await,
        [
            AttemptResult::Refused(Reason::PurposeNotAllowed),
            AttemptResult::Refused(Reason::InvalidContent)
        ]
    );
    assert_eq!(twins.running()[0].recorder().counts().requests, 0);
}

#[tokio::test]
async fn a_key_with_a_prefix_or_a_foreign_one_is_the_accounts_fault() {
    let plan = Plan {
        api_keys: ["another".to_owned()].into(),
        ..Plan::default()
    };
    let (_twins, account) = twin(plan).await;
    let delivery = delivery(Channel::AlimTalk, NUMBER, "e1");
    let result = attempt(&*provider(account), &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::AccountFault);
}

#[tokio::test]
async fn nhn_gets_its_own_form() {
    let body = r#"{"header":{"resultCode":0,"resultMessage":"SUCCESS","isSuccessful":true},"message":{"requestId":"r","sendResults":[{"recipientSeq":1,"recipientNo":"01012345678","resultCode":0}]}}"#;
    let server = Server::start(Reply::answer(200, "", body)).await;
    let provider = provider(Account {
        provider: Dealer::Nhn,
        app_key: "app-1".into(),
        ..alimtalk_account(&server.url())
    });
    let delivery = delivery(Channel::AlimTalk, NUMBER, "e1");
    assert!(!provider.dedupes(&delivery), "ten minutes are too short");
    assert_eq!(
        attempt(&*provider, &delivery, PATIENT).await,
        AttemptResult::Accepted
    );
    let request = server.requests().remove(0);
    let key = format!("x-nc-api-idempotency-key: {}\r\n", delivery.id);
    for line in [
        "POST /alimtalk/v2.3/appkeys/app-1/messages HTTP/1.1\r\n",
        "x-secret-key: key-of-the-account\r\n",
        "content-type: application/json;charset=UTF-8\r\n",
        &key,
        r#""recipientList":[{"recipientNo":"01012345678","templateParameter":{"text":"text of e1"},"recipientGroupingKey":"b1.alimtalk.transactional.0."#,
    ] {
        assert!(request.contains(line), "{line} in {request}");
    }
}
