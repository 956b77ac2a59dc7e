//! SMS through the real client: against the vendors' twin, and byte by byte.

use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::provider::{Attempt, AttemptResult, Provider, ThrottleScope};
use bongsu_channels::reports::ReportSources;
use bongsu_channels::sms::config::{Account, Longest, ReportMode, Vendor};
use bongsu_channels::{Settings, build};
use bongsu_domain::{Channel, Delivery, Outcome, Purpose, Reason};
use bongsu_runtime::{Clock, Secret};
use bongsu_simulators::simulators::Settings as Twins;
use bongsu_simulators::sms::{Counts, Plan, TWILIO_ACCOUNT, TWILIO_TOKEN};
use bongsu_simulators::{Faults, Kind, Simulators};
use tokio::time::Instant;

use crate::server::{Reply, Server};
use crate::{attempt, delivery, sms_account};

pub(crate) const PATIENT: Duration = Duration::from_secs(5);
pub(crate) const NUMBER: &str = "010-1234-5678";
const DIALLED: &str = "01012345678";
const ABROAD: &str = "+821012345678";

pub(crate) fn twilio_account(base: &str) -> Account {
    Account {
        provider: Vendor::Twilio,
        api_key: TWILIO_ACCOUNT.into(),
        api_secret: Secret::new(TWILIO_TOKEN),
        from: "+14155552671".into(),
        ..sms_account(base)
    }
}

pub(crate) fn provider(account: Account) -> Arc<dyn Provider> {
    let mut settings = Settings::default();
    settings.sms.accounts.insert("test".into(), account);
    assert_eq!(settings.validate(), []);
    build(Channel::Sms, &settings, "worker-1", Clock::system()).unwrap()
}

pub(crate) async fn twin(plan: &Plan) -> Simulators {
    let twins = Simulators::start(Twins::of(&[Kind::Sms])).await.unwrap();
    twins.running()[0].set_vendors(plan.clone()).unwrap();
    twins
}

fn counts(twins: &Simulators) -> Counts {
    twins.running()[0].vendors().unwrap()
}

pub(crate) async fn all(provider: &dyn Provider, deliveries: &[Delivery]) -> Vec<AttemptResult> {
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

fn one(map: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    map.iter().map(own).collect()
}

pub(crate) const CONTENT: AttemptResult = AttemptResult::Refused(Reason::InvalidContent);
const ADDRESS: AttemptResult = AttemptResult::Refused(Reason::InvalidAddress);
const AWAY: AttemptResult = AttemptResult::Refused(Reason::NotReachable);
const OTHER: AttemptResult = AttemptResult::Refused(Reason::ProviderRefused);
const THROTTLED: AttemptResult = AttemptResult::Throttled {
    retry_after: None,
    scope: ThrottleScope::Account,
};

#[tokio::test]
async fn every_code_of_solapi_becomes_its_result_through_the_real_client() {
    let twins = twin(&Plan::default()).await;
    let provider = provider(sms_account(&twins.running()[0].url()));
    let mut n = 0;
    let mut check = async |plan: Plan, expected: AttemptResult| {
        n += 1;
        twins.running()[0].set_vendors(plan.clone()).unwrap();
        let delivery = delivery(Channel::Sms, NUMBER, &format!("e{n}"));
        let result = attempt(&*provider, &delivery, PATIENT).await;
        assert_eq!(result, expected, "{:?} {:?}", plan.error, plan.codes);
    };
    for (word, error_status, expected) in [
        ("InvalidAPIKey", 403, AttemptResult::AccountFault),
        ("SignatureDoesNotMatch", 403, AttemptResult::AccountFault),
        ("RequestTimeTooSkewed", 403, AttemptResult::AccountFault),
        ("DuplicatedSignature", 403, AttemptResult::NotProcessed),
        ("ValidationError", 400, CONTENT),
        ("TooManyRequests", 429, THROTTLED),
        ("InternalError", 500, AttemptResult::Unavailable),
        ("ServiceUnavailable", 503, AttemptResult::Unavailable),
    ] {
        let plan = Plan {
            error: Some(word.to_owned()),
            error_status,
            ..Plan::default()
        };
        check(plan, expected).await;
    }
    for (code, expected) in [
        ("2000", AttemptResult::Accepted),
        ("1026", AttemptResult::Unavailable),
        ("1030", AttemptResult::AccountFault),
        ("1031", CONTENT),
        ("1042", CONTENT),
        ("1043", CONTENT),
        ("1060", AWAY),
        ("1061", AWAY),
        ("1062", AttemptResult::AccountFault),
        ("1099", OTHER),
    ] {
        let plan = Plan {
            codes: one(&[(DIALLED, code)]),
            ..Plan::default()
        };
        check(plan, expected).await;
    }
}

#[tokio::test]
async fn every_code_of_twilio_becomes_its_result_through_the_real_client() {
    let twins = twin(&Plan::default()).await;
    let provider = provider(twilio_account(&twins.running()[0].url()));
    for (code, error_status, expected) in [
        ("20003", 401, AttemptResult::AccountFault),
        ("20429", 429, THROTTLED),
        ("21610", 400, ADDRESS),
        ("21211", 400, ADDRESS),
        ("21614", 400, ADDRESS),
        ("21408", 400, OTHER),
        ("21606", 400, AttemptResult::AccountFault),
        ("21611", 429, THROTTLED),
        ("30001", 400, THROTTLED),
        ("30003", 400, AWAY),
        ("30005", 400, ADDRESS),
        ("30006", 400, AWAY),
        ("30007", 400, CONTENT),
        ("30008", 400, OTHER),
        ("29999", 400, OTHER),
        ("20500", 500, AttemptResult::Unavailable),
    ] {
        let plan = Plan {
            error: Some(code.to_owned()),
            error_status,
            ..Plan::default()
        };
        twins.running()[0].set_vendors(plan.clone()).unwrap();
        let delivery = delivery(Channel::Sms, NUMBER, code);
        let result = attempt(&*provider, &delivery, PATIENT).await;
        assert_eq!(result, expected, "{code}");
    }
    twins.running()[0].set_vendors(Plan::default()).unwrap();
    let good = delivery(Channel::Sms, NUMBER, "good");
    let result = attempt(&*provider, &good, PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    assert_eq!(counts(&twins).taken, 1);
}

#[tokio::test]
async fn foreign_credentials_are_the_accounts_fault() {
    let twins = twin(&Plan::default()).await;
    let base = twins.running()[0].url();
    let wrong = Secret::new("wrong");
    for account in [
        Account {
            api_secret: wrong.clone(),
            ..sms_account(&base)
        },
        Account {
            api_key: "ANOTHERKEY".into(),
            ..sms_account(&base)
        },
        Account {
            api_secret: wrong,
            ..twilio_account(&base)
        },
    ] {
        let delivery = delivery(Channel::Sms, NUMBER, "e1");
        let result = attempt(&*provider(account), &delivery, PATIENT).await;
        assert_eq!(result, AttemptResult::AccountFault);
    }
    let counts = counts(&twins);
    assert_eq!((counts.strangers, counts.requests), (3, 0));
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_the_accounts_fault() {
    let twins = twin(&Plan::default()).await;
    let mut settings = Settings::default();
    let account = sms_account(&twins.running()[0].url());
    settings.sms.accounts.insert("test".into(), account);
    let late = Clock::starting_at(Clock::system().now_millis() - 20 * 60_000);
    let provider = build(Channel::Sms, &settings, "worker-1", late).unwrap();
    let delivery = delivery(Channel::Sms, NUMBER, "e1");
    let result = attempt(&*provider, &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::AccountFault);
}

#[tokio::test]
async fn a_batch_holds_no_number_twice_and_is_answered_one_by_one() {
    let plan = Plan {
        codes: one(&[("01000000003", "1061")]),
        ..Plan::default()
    };
    let twins = twin(&plan).await;
    let mut account = sms_account(&twins.running()[0].url());
    account.recipients_per_request = 100;
    let provider = provider(account);
    assert_eq!(provider.batching().max, 100);
    // The tenth delivery is for the number of the ninth.
    let deliveries: Vec<Delivery> = (0..150)
        .map(|i| {
            let number = match i {
                7 => "no number".to_owned(),
                10 => "01000000009".to_owned(),
                i => format!("0100000{i:04}"),
            };
            delivery(Channel::Sms, &number, &format!("e{i}"))
        })
        .collect();
    assert!(!provider.dedupes(&deliveries[0]));
    let results = all(&*provider, &deliveries).await;
    for (i, result) in results.iter().enumerate() {
        let expected = match i {
            3 => AWAY,
            7 => ADDRESS,
            _ => AttemptResult::Accepted,
        };
        assert_eq!(*result, expected, "{i}");
    }
    let counts = counts(&twins);
    assert_eq!((counts.requests, counts.taken), (2, 148));
    let report = twins.running()[0].report();
    assert_eq!(
        (report.accepted, report.errors, report.duplicates),
        (148, 1, 0)
    );
}

#[tokio::test]
async fn what_does_not_fit_is_never_sent() {
    let twins = twin(&Plan::default()).await;
    let base = twins.running()[0].url();
    let long = |n: usize| {
        let mut delivery = delivery(Channel::Sms, NUMBER, "e1");
        delivery.content.body = Some("가".repeat(n));
        delivery
    };
    let short_only = Account {
        longest: Longest::Sms,
        ..sms_account(&base)
    };
    for (account, delivery) in [
        (short_only, long(46)),
        (sms_account(&base), long(1_001)),
        (twilio_account(&base), long(1_601)),
    ] {
        let result = attempt(&*provider(account), &delivery, PATIENT).await;
        assert_eq!(result, CONTENT);
    }
    let abroad = delivery(Channel::Sms, "+1 415 555 2671", "e1");
    let result = attempt(&*provider(sms_account(&base)), &abroad, PATIENT).await;
    assert_eq!(result, AttemptResult::Refused(Reason::NotBuilt));
    assert_eq!(twins.running()[0].recorder().counts().requests, 0);
    // What just fits does.
    for (account, delivery) in [
        (sms_account(&base), long(45)),
        (sms_account(&base), long(1_000)),
        (twilio_account(&base), long(1_600)),
    ] {
        let result = attempt(&*provider(account), &delivery, PATIENT).await;
        assert_eq!(result, AttemptResult::Accepted);
    }
}

#[tokio::test]
async fn a_lost_answer_of_twilio_is_unknown_and_an_error_is_not() {
    let twins = twin(&Plan::default()).await;
    let provider = provider(twilio_account(&twins.running()[0].url()));
    let plan = Faults::default;
    for (faults, expected) in [
        (
            Faults {
                lost_ratio: 1.0,
                ..plan()
            },
            AttemptResult::Unknown,
        ),
        (
            Faults {
                fail_ratio: 1.0,
                fail_status: 504,
                ..plan()
            },
            AttemptResult::Unknown,
        ),
        (
            Faults {
                fail_ratio: 1.0,
                ..plan()
            },
            AttemptResult::Unavailable,
        ),
        (
            Faults {
                throttle_ratio: 1.0,
                retry_after_ms: 3_000,
                ..plan()
            },
            AttemptResult::Throttled {
                retry_after: Some(Duration::from_secs(3)),
                scope: ThrottleScope::Account,
            },
        ),
    ] {
        twins.running()[0].set_faults(faults).unwrap();
        let delivery = delivery(Channel::Sms, NUMBER, "e1");
        let result = attempt(&*provider, &delivery, PATIENT).await;
        assert_eq!(result, expected);
    }
    // Nothing removes a second copy: the one that was taken and its answer lost is there.
    twins.running()[0].set_faults(plan()).unwrap();
    let delivery = delivery(Channel::Sms, NUMBER, "e1");
    let result = attempt(&*provider, &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    assert_eq!(counts(&twins).taken, 2);
}

#[tokio::test]
async fn advertising_is_carried() {
    let twins = twin(&Plan::default()).await;
    let mut delivery = delivery(Channel::Sms, NUMBER, "e1");
    delivery.purpose = Purpose::Advertising;
    let account = sms_account(&twins.running()[0].url());
    let result = attempt(&*provider(account), &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
}

#[tokio::test]
async fn requests_are_exact_to_the_byte() {
    let delivery = delivery(Channel::Sms, NUMBER, "e1");
    let answer = r#"{"groupInfo":{"groupId":"G"}}"#;
    let server = Server::start(Reply::answer(200, "", answer)).await;
    let result = attempt(&*provider(sms_account(&server.url())), &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    let request = server.requests().remove(0);
    for part in [
        "POST /messages/v4/send-many/detail HTTP/1.1\r\n",
        "content-type: application/json\r\n",
        "authorization: HMAC-SHA256 apiKey=NCSTWINKEY000001, date=",
        r#"{"messages":[{"to":"01012345678","from":"0212345678","text":"text of e1","type":"SMS","customFields":{"bongsu":"b1.sms.transactional.0."#,
        r#""}}],"allowDuplicates":false}"#,
    ] {
        assert!(request.contains(part), "{part} in {request}");
    }

    let server = Server::start(Reply::answer(201, "", r#"{"sid":"SM1"}"#)).await;
    let mut account = twilio_account(&server.url());
    account.reports.mode = ReportMode::Webhook;
    account.reports.url = "https://n.example/v1/reports/twilio/test".into();
    let result = attempt(&*provider(account), &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    let request = server.requests().remove(0);
    for part in [
        "POST /2010-04-01/Accounts/AC00000000000000000000000000000001/Messages.json HTTP/1.1\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        "authorization: Basic ",
        "\r\n\r\nTo=%2B821012345678&From=%2B14155552671&Body=text+of+e1&StatusCallback=\
         https%3A%2F%2Fn.example%2Fv1%2Freports%2Ftwilio%2Ftest%3Fref%3Db1.sms.transactional.0.",
    ] {
        assert!(request.contains(part), "{part} in {request}");
    }
}

/// Polls until nothing is left; every report once.
#[tokio::test]
async fn the_list_of_solapi_is_read_page_by_page() {
    let plan = Plan {
        report_codes: one(&[("01000000001", "3104"), ("01000000002", "3059")]),
        ..Plan::default()
    };
    let twins = twin(&Plan {
        reports: bongsu_simulators::alimtalk::ReportPlan {
            delay_ms: 0,
            ..plan.reports.clone()
        },
        ..plan
    })
    .await;
    let mut account = sms_account(&twins.running()[0].url());
    account.recipients_per_request = 700;
    account.reports.mode = ReportMode::Polling;
    account.reports.poll_settle = bongsu_runtime::Duration::millis(50);
    let mut settings = Settings::default();
    settings.sms.accounts.insert("test".into(), account.clone());
    let sources = ReportSources::build(&settings).unwrap();
    let source = sources.get("solapi", "test").unwrap();
    let deliveries: Vec<Delivery> = (0..700)
        .map(|i| delivery(Channel::Sms, &format!("0100000{i:04}"), &format!("e{i}")))
        .collect();
    let results = all(&*provider(account), &deliveries).await;
    assert!(results.iter().all(|r| *r == AttemptResult::Accepted));
    let mut told = std::collections::BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut fetches = 0;
    while told.len() < 700 {
        assert!(Instant::now() < deadline, "{} of 700", told.len());
        let Some(fetched) = source.poll(Instant::now() + PATIENT).await.unwrap() else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        fetches += 1;
        for report in fetched.told {
            let reference = report.reference.unwrap();
            assert_eq!(reference.channel, Channel::Sms);
            let verdict = report.verdict.unwrap();
            assert_eq!(told.insert(reference.delivery, verdict), None, "told twice");
        }
        source
            .confirm(&fetched.id, Instant::now() + PATIENT)
            .await
            .unwrap();
    }
    assert!(fetches >= 2, "a page holds 500");
    let away = (Outcome::Undelivered, Reason::NotReachable);
    assert_eq!(told[&deliveries[1].id], away);
    assert_eq!(told[&deliveries[2].id], away);
    assert_eq!(told[&deliveries[3].id], (Outcome::Delivered, Reason::None));
}

#[tokio::test]
async fn a_poll_with_a_foreign_key_is_refused() {
    let twins = twin(&Plan::default()).await;
    let mut account = sms_account(&twins.running()[0].url());
    account.api_key = "ANOTHERKEY".into();
    account.reports.mode = ReportMode::Polling;
    let mut settings = Settings::default();
    settings.sms.accounts.insert("test".into(), account);
    let sources = ReportSources::build(&settings).unwrap();
    let source = sources.get("solapi", "test").unwrap();
    let error = source.poll(Instant::now() + PATIENT).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the provider refused a poll: 403 InvalidAPIKey"
    );
}

#[tokio::test]
async fn a_number_is_told_in_the_vendors_form() {
    let plan = Plan {
        codes: one(&[(ABROAD, "21610")]),
        ..Plan::default()
    };
    let twins = twin(&plan).await;
    let account = twilio_account(&twins.running()[0].url());
    let delivery = delivery(Channel::Sms, NUMBER, "e1");
    assert_eq!(
        attempt(&*provider(account), &delivery, PATIENT).await,
        ADDRESS
    );
}
