//! The other dealers of AlimTalk through the real client against their twin: NHN Cloud, and
//! Infobank's OMNI and BizPlus.

use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::alimtalk::config::{Account, Dealer, ReportMode};
use bongsu_channels::provider::{AttemptResult, Provider, ThrottleScope};
use bongsu_channels::reports::{ReportSource, ReportSources};
use bongsu_channels::{Settings, build};
use bongsu_domain::{Channel, Delivery, Outcome, Reason};
use bongsu_runtime::Clock;
use bongsu_simulators::alimtalk::{Counts, Plan, ReportMode as Told};
use bongsu_simulators::simulators::Settings as Twins;
use bongsu_simulators::{Kind, Simulators};
use tokio::time::Instant;

use crate::{alimtalk_account, attempt, delivery};

const PATIENT: Duration = Duration::from_secs(5);
const NUMBER: &str = "010-1234-5678";
const CONTENT: AttemptResult = AttemptResult::Refused(Reason::InvalidContent);
const ADDRESS: AttemptResult = AttemptResult::Refused(Reason::InvalidAddress);
const OTHER: AttemptResult = AttemptResult::Refused(Reason::ProviderRefused);

async fn twin(plan: Plan) -> Simulators {
    let twins = Simulators::start(Twins::of(&[Kind::AlimTalk]))
        .await
        .unwrap();
    twins.running()[0].set_dealer(plan).unwrap();
    twins
}

fn account(dealer: Dealer, twins: &Simulators) -> Account {
    let mut account = Account {
        provider: dealer,
        app_key: "app-1".into(),
        client_id: "client".into(),
        ..alimtalk_account(&twins.running()[0].url())
    };
    account.failover.from = "0212345678".into();
    account
}

fn settings(account: Account) -> Settings {
    let mut settings = Settings::default();
    settings.alimtalk.accounts.insert("test".into(), account);
    assert_eq!(settings.validate(), []);
    settings
}

fn provider(account: Account) -> Arc<dyn Provider> {
    let settings = settings(account);
    build(Channel::AlimTalk, &settings, "worker-1", Clock::system()).unwrap()
}

fn source(dealer: Dealer, account: Account) -> Arc<dyn ReportSource> {
    let sources = ReportSources::build(&settings(account)).unwrap();
    Arc::clone(sources.get(dealer.as_str(), "test").unwrap())
}

fn counts(twins: &Simulators) -> Counts {
    twins.running()[0].dealer().unwrap()
}

fn numbered(n: usize) -> Delivery {
    delivery(Channel::AlimTalk, NUMBER, &format!("e{n}"))
}

/// Every code, for the whole request and for its one recipient.
async fn every_code_becomes_its_result(dealer: Dealer, codes: &[(&str, AttemptResult)]) {
    let twins = twin(Plan::default()).await;
    let provider = provider(account(dealer, &twins));
    let plain = Plan {
        recipients_per_second: 0,
        ..Plan::default()
    };
    let to = match dealer {
        Dealer::Bizplus => "821012345678",
        Dealer::Bizgo | Dealer::Nhn | Dealer::Omni => "01012345678",
    };
    for (n, (code, expected)) in codes.iter().enumerate() {
        let whole = Plan {
            service_code: Some((*code).to_owned()),
            ..plain.clone()
        };
        let single = Plan {
            codes: [(to.to_owned(), (*code).to_owned())].into(),
            ..plain.clone()
        };
        for (turn, plan) in [whole, single].into_iter().enumerate() {
            twins.running()[0].set_dealer(plan).unwrap();
            let delivery = numbered(n * 2 + turn);
            let result = attempt(&*provider, &delivery, PATIENT).await;
            assert_eq!(result, *expected, "{code} {turn}");
        }
    }
    twins.running()[0].set_dealer(plain).unwrap();
    let result = attempt(&*provider, &numbered(9_999), PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
}

#[tokio::test]
async fn every_code_of_nhn_becomes_its_result_through_the_real_client() {
    let fault = AttemptResult::AccountFault;
    let taken = AttemptResult::Accepted;
    every_code_becomes_its_result(
        Dealer::Nhn,
        &[
            ("4", CONTENT),
            ("-1000", fault),
            ("-1001", fault),
            ("-1005", taken),
            ("-1017", fault),
            ("-1027", fault),
            ("-1028", CONTENT),
            ("-3003", CONTENT),
            ("-3004", CONTENT),
            ("-3005", CONTENT),
            ("-3010", CONTENT),
            ("-3011", CONTENT),
            ("-5000", ADDRESS),
            ("-7000", AttemptResult::Unavailable),
            ("-9998", AttemptResult::Unavailable),
            ("-9999", AttemptResult::Unavailable),
            ("400217", fault),
            ("400218", fault),
            ("400300", fault),
            ("400301", fault),
            ("400305", taken),
            ("400309", fault),
            ("400318", fault),
            ("400319", CONTENT),
            ("400354", CONTENT),
            ("400355", CONTENT),
            ("-4242", OTHER),
        ],
    )
    .await;
}

#[tokio::test]
async fn every_code_of_bizplus_becomes_its_result_through_the_real_client() {
    let fault = AttemptResult::AccountFault;
    let away = AttemptResult::Refused(Reason::NotReachable);
    let hours = AttemptResult::Refused(Reason::OutsideHours);
    every_code_becomes_its_result(
        Dealer::Bizplus,
        &[
            ("A001", fault),
            ("A002", fault),
            ("A003", fault),
            ("A004", CONTENT),
            // A token that is refused twice.
            ("A005", fault),
            ("A100", fault),
            ("A101", fault),
            ("A102", fault),
            ("A103", CONTENT),
            ("A104", CONTENT),
            ("A105", CONTENT),
            ("A106", CONTENT),
            ("A107", CONTENT),
            ("A108", CONTENT),
            ("A109", fault),
            ("A110", ADDRESS),
            ("A111", CONTENT),
            ("1002", fault),
            ("2000", AttemptResult::Unavailable),
            ("3005", AttemptResult::Accepted),
            ("3008", ADDRESS),
            ("3016", CONTENT),
            ("3018", away),
            ("3022", hours),
            ("3030", AttemptResult::Accepted),
            ("7777", OTHER),
        ],
    )
    .await;
}

#[tokio::test]
async fn every_code_of_omni_becomes_its_result_through_the_real_client() {
    let fault = AttemptResult::AccountFault;
    every_code_becomes_its_result(
        Dealer::Omni,
        &[
            ("A002", fault),
            ("A100", fault),
            ("A306", ADDRESS),
            // Without a key nobody is recognised.
            ("A301", AttemptResult::Unknown),
            ("A320", fault),
            ("A322", CONTENT),
            ("A502", CONTENT),
            ("A505", CONTENT),
            ("A801", OTHER),
            ("A910", AttemptResult::Unknown),
            ("A999", AttemptResult::Unknown),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_second_copy_is_recognised_by_nhn_for_a_while_and_by_the_older_ones_never() {
    for (dealer, taken) in [(Dealer::Nhn, 1), (Dealer::Omni, 2), (Dealer::Bizplus, 2)] {
        let twins = twin(Plan::default()).await;
        let provider = provider(account(dealer, &twins));
        assert!(!provider.dedupes(&numbered(1)), "{dealer:?}");
        for _ in 0..2 {
            let result = attempt(&*provider, &numbered(1), PATIENT).await;
            assert_eq!(result, AttemptResult::Accepted, "{dealer:?}");
        }
        assert_eq!(counts(&twins).taken, taken, "{dealer:?}");
    }
}

#[tokio::test]
async fn one_token_serves_all_requests_until_it_is_refused() {
    for dealer in [Dealer::Omni, Dealer::Bizplus] {
        let plan = Plan {
            clients: [("client".to_owned(), "key-of-the-account".to_owned())].into(),
            recipients_per_second: 0,
            ..Plan::default()
        };
        let twins = twin(plan.clone()).await;
        let provider = provider(account(dealer, &twins));
        let ten = async |from: usize| {
            let deliveries: Vec<Delivery> = (from..from + 10).map(numbered).collect();
            let tries = deliveries.iter().map(|d| attempt(&*provider, d, PATIENT));
            let results = futures_util::future::join_all(tries).await;
            assert_eq!(results, [AttemptResult::Accepted; 10], "{dealer:?}");
        };
        ten(0).await;
        assert_eq!(counts(&twins).tokens, 1, "{dealer:?}");
        // A new plan makes tokens void: one refusal, one new token, the same attempt.
        twins.running()[0].set_dealer(plan.clone()).unwrap();
        let result = attempt(&*provider, &numbered(10), PATIENT).await;
        assert_eq!(result, AttemptResult::Accepted, "{dealer:?}");
        assert_eq!(counts(&twins).tokens, 2, "{dealer:?}");
        ten(11).await;
        assert_eq!((counts(&twins).tokens, counts(&twins).taken), (2, 21));
        // A password that is refused is the account's fault.
        let plan = Plan {
            clients: [("client".to_owned(), "another".to_owned())].into(),
            ..plan
        };
        twins.running()[0].set_dealer(plan).unwrap();
        let result = attempt(&*provider, &numbered(30), PATIENT).await;
        assert_eq!(result, AttemptResult::AccountFault, "{dealer:?}");
    }
}

#[tokio::test]
async fn the_codes_that_mean_accepted_are_a_setting() {
    let plan = Plan {
        service_code: Some("SUC".into()),
        ..Plan::default()
    };
    let twins = twin(plan).await;
    let mut account = account(Dealer::Bizplus, &twins);
    let refused = attempt(&*provider(account.clone()), &numbered(1), PATIENT).await;
    assert_eq!(refused, OTHER);
    account.accepted_codes = vec!["SUC".into()];
    let taken = attempt(&*provider(account), &numbered(2), PATIENT).await;
    assert_eq!(taken, AttemptResult::Accepted);
}

#[tokio::test]
async fn a_full_second_of_nhn_is_waited_for_five_seconds() {
    let plan = Plan {
        recipients_per_second: 1,
        ..Plan::default()
    };
    let twins = twin(plan).await;
    let provider = provider(account(Dealer::Nhn, &twins));
    let _first = attempt(&*provider, &numbered(1), PATIENT).await;
    let second = attempt(&*provider, &numbered(2), PATIENT).await;
    let throttled = AttemptResult::Throttled {
        retry_after: Some(Duration::from_secs(5)),
        scope: ThrottleScope::Account,
    };
    assert_eq!(second, throttled);
}

/// Fetches until so many deliveries were told of.
async fn polled(source: &dyn ReportSource, count: usize) -> Vec<(String, Outcome)> {
    let mut told: Vec<(String, Outcome)> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(150);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < count {
        assert!(Instant::now() < deadline, "{} of {count}", seen.len());
        let fetched = source.poll(Instant::now() + PATIENT).await.unwrap();
        let Some(fetched) = fetched else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        for report in fetched.told {
            let delivery = report.reference.unwrap().delivery.to_string();
            seen.insert(delivery.clone());
            told.push((delivery, report.verdict.unwrap().0));
        }
        source
            .confirm(&fetched.id, Instant::now() + PATIENT)
            .await
            .unwrap();
    }
    told
}

#[tokio::test]
async fn reports_of_omni_are_polled_batch_by_batch() {
    let mut plan = Plan {
        recipients_per_second: 0,
        ..Plan::default()
    };
    plan.reports.mode = Told::Polling;
    plan.reports.delay_ms = 0;
    let twins = twin(plan).await;
    let mut account = account(Dealer::Omni, &twins);
    account.reports.mode = ReportMode::Polling;
    let provider = provider(account.clone());
    for n in 0..20 {
        let result = attempt(&*provider, &numbered(n), PATIENT).await;
        assert_eq!(result, AttemptResult::Accepted);
    }
    let source = source(Dealer::Omni, account);
    let told = polled(&*source, 20).await;
    assert!(
        told.iter()
            .all(|(_, outcome)| *outcome == Outcome::Delivered)
    );
    assert!(told.iter().any(|(id, _)| *id == numbered(7).id.to_string()));
    assert_eq!(counts(&twins).acknowledged, 20);
    assert_eq!(source.poll(Instant::now() + PATIENT).await, Ok(None));
}

#[tokio::test]
async fn results_of_nhn_are_read_by_their_time_page_by_page() {
    let mut plan = Plan {
        recipients_per_second: 0,
        unreachable: ["01000000003".to_owned()].into(),
        ..Plan::default()
    };
    plan.reports.mode = Told::Polling;
    plan.reports.delay_ms = 0;
    let twins = twin(plan).await;
    let mut account = account(Dealer::Nhn, &twins);
    account.recipients_per_request = 1_000;
    account.limits.per_second = Some(2_000);
    account.reports.mode = ReportMode::Polling;
    account.reports.poll_settle = bongsu_runtime::Duration::millis(10);
    account.reports.poll_step = bongsu_runtime::Duration::secs(1);
    let deliveries: Vec<Delivery> = (0..1_500)
        .map(|i| {
            let number = format!("0100000{i:04}");
            delivery(Channel::AlimTalk, &number, &format!("e{i}"))
        })
        .collect();
    let batch: Vec<_> = deliveries
        .iter()
        .map(|delivery| bongsu_channels::provider::Attempt {
            delivery,
            number: 1,
            partition: 3,
        })
        .collect();
    let provider = provider(account.clone());
    let results = provider.attempt(&batch, Instant::now() + PATIENT).await;
    assert!(
        results
            .unwrap()
            .iter()
            .all(|r| *r == AttemptResult::Accepted)
    );
    let told = polled(&*source(Dealer::Nhn, account), 1_500).await;
    let fate = |i: usize| -> Vec<Outcome> {
        let id = deliveries[i].id.to_string();
        let of = told.iter().filter(|(told, _)| *told == id);
        of.map(|(_, outcome)| *outcome).collect()
    };
    assert_eq!(fate(3), [Outcome::Undelivered]);
    assert_eq!(fate(1_499), [Outcome::Delivered]);
    let distinct: std::collections::BTreeSet<_> = told.iter().map(|(id, _)| id).collect();
    assert_eq!(distinct.len(), 1_500);
}

#[tokio::test]
async fn templates_are_pulled_with_their_state_and_refused_before_sending() {
    let mut plan = Plan {
        templates: [
            ("free".to_owned(), "#{text}".to_owned()),
            ("waiting".to_owned(), "#{text}".to_owned()),
        ]
        .into(),
        template_states: [("waiting".to_owned(), "TSC02".to_owned())].into(),
        ..Plan::default()
    };
    let twins = twin(plan.clone()).await;
    let mut account = account(Dealer::Nhn, &twins);
    account.templates.clear();
    account.pull_templates = true;
    account.templates_refresh = bongsu_runtime::Duration::millis(50);
    let provider = provider(account);
    let of = |template: &str, n: usize| {
        let mut delivery = numbered(n);
        delivery
            .content
            .data
            .insert("template".into(), template.into());
        delivery
    };
    let taken = attempt(&*provider, &of("free", 1), PATIENT).await;
    assert_eq!(taken, AttemptResult::Accepted);
    let refused = attempt(&*provider, &of("waiting", 2), PATIENT).await;
    assert_eq!(refused, CONTENT);
    assert_eq!(attempt(&*provider, &of("none", 3), PATIENT).await, CONTENT);
    assert_eq!(counts(&twins).taken, 1);
    assert_eq!(twins.running()[0].recorder().counts().requests, 1);
    // Approved, and the other one stopped: known after the refresh.
    plan.template_states = [("free".to_owned(), "TSC04".to_owned())].into();
    twins.running()[0].set_dealer(plan).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut n = 10;
    while attempt(&*provider, &of("waiting", n), PATIENT).await != AttemptResult::Accepted {
        assert!(Instant::now() < deadline, "the new state is never known");
        n += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(attempt(&*provider, &of("free", 4), PATIENT).await, CONTENT);
}

#[tokio::test]
async fn while_no_template_was_ever_pulled_nothing_is_sent_and_nothing_refused() {
    let plan = Plan {
        api_keys: ["another".to_owned()].into(),
        ..Plan::default()
    };
    let twins = twin(plan).await;
    let mut account = account(Dealer::Nhn, &twins);
    account.pull_templates = true;
    account.templates_refresh = bongsu_runtime::Duration::millis(10);
    let provider = provider(account);
    let result = attempt(&*provider, &numbered(1), PATIENT).await;
    assert_eq!(result, AttemptResult::Unavailable);
    twins.running()[0].set_dealer(Plan::default()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while attempt(&*provider, &numbered(2), PATIENT).await != AttemptResult::Accepted {
        assert!(Instant::now() < deadline, "the templates are never pulled");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
