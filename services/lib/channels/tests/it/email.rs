//! What only e-mail promises, against the twin of a relay: real TCP, STARTTLS, AUTH.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::email::config::{Account, Tls};
use bongsu_channels::provider::{Attempt, AttemptResult, Provider, ThrottleScope};
use bongsu_channels::reports::{Callback, ReportSources};
use bongsu_channels::{Settings, build};
use bongsu_domain::{Channel, Class, Outcome, Reason, Reference, Timestamp};
use bongsu_runtime::{Clock, Secret};
use bongsu_simulators::email::{Login, Offer, Plan, Scripted, Step, Taken, Then};
use bongsu_simulators::simulators::{Instance, Settings as Twins};
use bongsu_simulators::{Kind, Simulators};
use reqwest::header::HeaderMap;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::server::{Reply, Server};
use crate::{attempt, delivery};

const PATIENT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(400);
/// How long an address is left alone in these tests.
const SOFT: Duration = Duration::from_secs(3);

/// An account that speaks in the clear to a relay at `base`.
pub(crate) fn account(base: &str) -> Account {
    let (_, rest) = base.split_once("://").unwrap();
    let (host, port) = rest.rsplit_once(':').unwrap();
    Account {
        host: host.to_owned(),
        port: port.parse().unwrap(),
        tls: Tls::None,
        from: "Shop <shop@example.com>".into(),
        return_path: "bounces@example.com".into(),
        reference_secret: Secret::new("0123456789abcdef"),
        soft_wait: bongsu_runtime::Duration(SOFT),
        trace: true,
        ..Account::default()
    }
}

/// The account for a twin.
pub(crate) fn twin_account(twins: &Simulators) -> Account {
    let address = twins.running()[0].smtp_address().unwrap();
    account(&format!("smtp://{address}"))
}

/// A running twin and what a client of it needs.
struct Relay {
    twins: Simulators,
    dir: TempDir,
}

impl Relay {
    async fn start(plan: Plan) -> Self {
        let mut instance = Instance::new(Kind::Email);
        instance.email = plan;
        let twins = Simulators::start(Twins {
            instances: vec![instance],
        });
        let relay = Self {
            twins: twins.await.unwrap(),
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::write(relay.ca_file(), relay.twins.running()[0].authority()).unwrap();
        relay
    }

    fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn mails(&self) -> Vec<Taken> {
        self.twins.running()[0].mails()
    }

    /// An account over STARTTLS that logs in.
    fn account(&self) -> Account {
        Account {
            tls: Tls::Starttls,
            username: "shop".into(),
            password: Secret::new("hunter2"),
            ca_file: Some(self.ca_file()),
            ..twin_account(&self.twins)
        }
    }

    fn provider(&self) -> Arc<dyn Provider> {
        provider(self.account())
    }
}

fn provider(account: Account) -> Arc<dyn Provider> {
    let mut settings = Settings::default();
    settings.email.accounts.insert("test".into(), account);
    assert_eq!(settings.validate(), []);
    build(Channel::Email, &settings, "worker-1", Clock::system()).unwrap()
}

fn with_login(plan: Plan) -> Plan {
    Plan {
        login: Some(Login {
            user: "shop".into(),
            password: "hunter2".into(),
        }),
        requires_tls: true,
        ..plan
    }
}

async fn send(provider: &dyn Provider, to: &str, patience: Duration) -> AttemptResult {
    let address = format!("{to}@example.net");
    attempt(
        provider,
        &delivery(Channel::Email, &address, "e1"),
        patience,
    )
    .await
}

fn soft() -> AttemptResult {
    AttemptResult::Throttled {
        retry_after: Some(SOFT),
        scope: ThrottleScope::Address,
    }
}

/// Every code of docs/channels/email.md's table that concerns one recipient.
fn table() -> Vec<(Step, &'static str, AttemptResult)> {
    let address = AttemptResult::Refused(Reason::InvalidAddress);
    let content = AttemptResult::Refused(Reason::InvalidContent);
    let away = AttemptResult::Refused(Reason::NotReachable);
    let refused = AttemptResult::Refused(Reason::ProviderRefused);
    let unavailable = AttemptResult::Unavailable;
    let fault = AttemptResult::AccountFault;
    vec![
        (Step::Dot, "250 2.0.0 ok", AttemptResult::Accepted),
        (Step::Rcpt, "550 5.1.1 no such user", address),
        (Step::Rcpt, "550 5.1.2 bad system", address),
        (Step::Rcpt, "501 5.1.3 bad syntax", address),
        (Step::Rcpt, "551 5.1.6 moved", address),
        (Step::Rcpt, "556 5.1.10 null MX", address),
        (Step::Rcpt, "553 not allowed", address),
        (Step::Rcpt, "556 takes no mail", address),
        (Step::Rcpt, "521 takes no mail", address),
        (Step::Rcpt, "553 5.1.7 bad sender", fault),
        (Step::Rcpt, "550 5.1.8 bad sender system", fault),
        (Step::Rcpt, "550 5.2.1 disabled", away),
        (Step::Rcpt, "552 5.2.2 full", away),
        (Step::Rcpt, "552 full", away),
        (Step::Rcpt, "552 5.2.3 too long for it", content),
        (Step::Dot, "552 5.3.4 too large", content),
        (Step::Dot, "552 too large", content),
        (Step::Dot, "554 5.6.0 media", content),
        (Step::Dot, "550 5.6.3 conversion", content),
        (Step::Rcpt, "550 no", refused),
        (Step::Rcpt, "551 not local", refused),
        (Step::Rcpt, "550 5.4.1 no route", refused),
        (Step::Rcpt, "555 parameters", refused),
        (Step::Data, "554 no valid recipients", refused),
        (Step::Rcpt, "550 5.7.1 policy", refused),
        (Step::Dot, "554 5.7.1 spam", refused),
        (Step::Dot, "554 no", refused),
        (Step::Dot, "550 5.7.20 no DKIM", fault),
        (Step::Dot, "550 5.7.23 SPF failed", fault),
        (Step::Dot, "550 5.7.26 DMARC failed", fault),
        (Step::Rcpt, "530 5.7.0 log in", fault),
        (Step::Rcpt, "450 busy", soft()),
        (Step::Rcpt, "450 4.2.0 greylisted", soft()),
        (Step::Rcpt, "451 4.7.1 greylisted", soft()),
        (Step::Rcpt, "452 4.2.2 over quota", soft()),
        (Step::Dot, "451 aborted", soft()),
        (Step::Dot, "452 4.3.1 disk full", unavailable),
        (Step::Rcpt, "451 4.3.0 trouble", unavailable),
        (Step::Rcpt, "451 4.4.3 no DNS", unavailable),
        (Step::Rcpt, "421 4.3.2 closing", unavailable),
        (Step::Dot, "421 4.3.2 closing", unavailable),
    ]
}

#[tokio::test]
async fn every_code_about_a_recipient_becomes_the_result_it_stands_for() {
    let scripts = table()
        .into_iter()
        .enumerate()
        .map(|(i, (step, reply, _))| {
            let then = if reply.starts_with("421") {
                Then::Close
            } else {
                Then::Reply
            };
            let script = Scripted {
                step,
                reply: reply.into(),
                then,
                ..Scripted::default()
            };
            (format!("r{i}"), script)
        });
    let relay = Relay::start(with_login(Plan {
        recipients: scripts.collect(),
        ..Plan::default()
    }))
    .await;
    for (i, (step, reply, expected)) in table().into_iter().enumerate() {
        // A provider each: many refusals by policy in a row are told apart elsewhere.
        let provider = relay.provider();
        let result = send(&*provider, &format!("r{i}"), PATIENT).await;
        assert_eq!(result, expected, "{step:?} {reply}");
        // The connection is of use for the next mail, or another one is made.
        let result = send(&*provider, "anybody", PATIENT).await;
        assert_eq!(result, AttemptResult::Accepted, "after {step:?} {reply}");
    }
}

#[tokio::test]
async fn every_code_before_the_recipient_becomes_the_result_it_stands_for() {
    let fault = AttemptResult::AccountFault;
    for (step, reply, then, expected) in [
        (
            Step::Connect,
            "421 4.3.2 busy",
            Then::Close,
            AttemptResult::Unavailable,
        ),
        (Step::Connect, "554 5.7.1 not you", Then::Close, fault),
        (Step::Connect, "", Then::Cut, AttemptResult::Unavailable),
        (Step::Connect, "", Then::Hang, AttemptResult::Unavailable),
        (Step::Login, "535 5.7.8 wrong", Then::Reply, fault),
        (Step::Login, "534 5.7.9 too weak", Then::Reply, fault),
        (Step::Login, "538 5.7.11 encrypt", Then::Reply, fault),
        (
            Step::Login,
            "454 4.7.0 later",
            Then::Reply,
            AttemptResult::Unavailable,
        ),
        (Step::Mail, "530 5.7.0 log in", Then::Reply, fault),
        (Step::Mail, "550 5.7.1 not from you", Then::Reply, fault),
        (
            Step::Mail,
            "451 4.7.1 slow down",
            Then::Reply,
            AttemptResult::Unavailable,
        ),
        (
            Step::Mail,
            "452 4.3.1 disk full",
            Then::Reply,
            AttemptResult::Unavailable,
        ),
        (Step::Mail, "", Then::Cut, AttemptResult::Unavailable),
        (Step::Rcpt, "", Then::Cut, AttemptResult::Unavailable),
        (Step::Rcpt, "", Then::Hang, AttemptResult::Unavailable),
        (Step::Data, "", Then::Cut, AttemptResult::Unavailable),
        (Step::Data, "", Then::Hang, AttemptResult::Unavailable),
        (Step::Dot, "", Then::Cut, AttemptResult::Unknown),
        (Step::Dot, "", Then::Hang, AttemptResult::Unknown),
    ] {
        let everybody = vec![Scripted {
            step,
            reply: reply.into(),
            then,
            ..Scripted::default()
        }];
        let relay = Relay::start(with_login(Plan {
            everybody,
            ..Plan::default()
        }))
        .await;
        // What hangs before the dot ends as it would on a machine too slow to connect in time.
        let patience = match (step, then) {
            (Step::Dot, _) | (_, Then::Reply | Then::Close | Then::Cut) => PATIENT,
            (_, Then::Hang) => SHORT,
        };
        let result = send(&*relay.provider(), "ann", patience).await;
        assert_eq!(result, expected, "{step:?} {reply} {then:?}");
    }
}

#[tokio::test]
async fn tls_is_spoken_in_each_of_its_ways_and_logging_in_works() {
    let relay = Relay::start(with_login(Plan::default())).await;
    let implicit = Account {
        tls: Tls::Implicit,
        port: relay.twins.running()[0].address().port(),
        ..relay.account()
    };
    for account in [relay.account(), implicit] {
        let result = send(&*provider(account), "ann", PATIENT).await;
        assert_eq!(result, AttemptResult::Accepted);
        let mail = relay.mails().pop().unwrap();
        assert_eq!((mail.tls, mail.user.as_str()), (true, "shop"));
    }
    let wrong = Account {
        password: Secret::new("hunter3"),
        ..relay.account()
    };
    let result = send(&*provider(wrong), "ann", PATIENT).await;
    assert_eq!(result, AttemptResult::AccountFault);
    // A certificate of nobody we know, and one for another name.
    let unknown = Account {
        ca_file: None,
        ..relay.account()
    };
    let result = send(&*provider(unknown), "ann", PATIENT).await;
    assert_eq!(result, AttemptResult::Unavailable);
    assert_eq!(relay.mails().len(), 2);
}

#[tokio::test]
async fn without_tls_nothing_is_sent_and_what_is_injected_before_it_is_noticed() {
    for plan in [
        Plan {
            offers: vec![Offer::Dsn],
            ..Plan::default()
        },
        Plan {
            injected: "250-relay.example\n250 AUTH PLAIN\n".into(),
            ..Plan::default()
        },
    ] {
        let relay = Relay::start(plan).await;
        let result = send(&*relay.provider(), "ann", PATIENT).await;
        assert_eq!(result, AttemptResult::AccountFault);
        assert_eq!(relay.mails(), []);
    }
}

#[tokio::test]
async fn a_mail_asks_for_reports_and_its_bounce_finds_it() {
    let relay = Relay::start(with_login(Plan::default())).await;
    let provider = relay.provider();
    let delivery = delivery(Channel::Email, "ann@example.net", "e1");
    for number in 1..=2 {
        let batch = [Attempt {
            delivery: &delivery,
            number,
            partition: 3,
        }];
        let results = provider.attempt(&batch, Instant::now() + PATIENT).await;
        assert_eq!(results.unwrap(), [AttemptResult::Accepted]);
    }
    let mails = relay.mails();
    let [first, second] = mails.as_slice() else {
        unreachable!("{mails:?}")
    };
    let id = format!("Message-ID: <{}@example.com>\r\n", delivery.id);
    assert!(first.data.contains(&id) && second.data.contains(&id));
    assert_eq!(
        first
            .data
            .replace("X-Bongsu-Attempt: 1", "X-Bongsu-Attempt: 2"),
        second.data,
        "a resend is the same mail"
    );
    assert!(first.from.starts_with("bounces+") && first.from.ends_with("@example.com"));
    for parameter in ["RET=HDRS", "ENVID=b1.email.transactional.3.", "SIZE="] {
        assert!(
            first.from_parameters.contains(parameter),
            "{}",
            first.from_parameters
        );
    }
    assert_eq!(
        first.to_parameters,
        "NOTIFY=FAILURE,DELAY ORCPT=rfc822;ann@example.net"
    );
}

#[tokio::test]
async fn bounces_are_posted_back_and_read_as_reports() {
    let mailbox = Server::start(Reply::answer(200, "", "{}")).await;
    let scripted = |said: &str| Scripted {
        bounce: said.into(),
        ..Scripted::default()
    };
    let said = [
        (
            "gone",
            "failed 5.1.1",
            Some((Outcome::Undelivered, Reason::InvalidAddress)),
        ),
        (
            "full",
            "failed 5.2.2",
            Some((Outcome::Undelivered, Reason::NotReachable)),
        ),
        (
            "spam",
            "failed 5.7.1",
            Some((Outcome::Undelivered, Reason::ProviderRefused)),
        ),
        (
            "late",
            "failed 4.4.7",
            Some((Outcome::Undelivered, Reason::ProviderUnavailable)),
        ),
        ("slow", "delayed 4.4.1", None),
    ];
    let recipients: BTreeMap<_, _> = said
        .iter()
        .map(|(to, said, _)| ((*to).to_owned(), scripted(said)))
        .collect();
    let relay = Relay::start(with_login(Plan {
        recipients,
        bounce_url: format!("{}/v1/reports/email/test", mailbox.url()),
        bounce_secret: "a secret of the mailbox".into(),
        ..Plan::default()
    }))
    .await;
    let mut account = relay.account();
    account.reports.secret = Secret::new("a secret of the mailbox");
    let mut settings = Settings::default();
    settings.email.accounts.insert("test".into(), account);
    let provider = build(Channel::Email, &settings, "w", Clock::system()).unwrap();
    let sources = ReportSources::build(&settings).unwrap();
    let source = sources.get("email", "test").unwrap();
    for (i, (to, said, verdict)) in said.into_iter().enumerate() {
        let delivery = delivery(Channel::Email, &format!("{to}@example.net"), to);
        let result = attempt(&*provider, &delivery, PATIENT).await;
        assert_eq!(result, AttemptResult::Accepted);
        let deadline = Instant::now() + PATIENT;
        while mailbox.requests().len() <= i {
            assert!(Instant::now() < deadline, "no bounce of {to}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let request = mailbox.requests().remove(i);
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("authorization: Bearer a secret of the mailbox"),
            "{head}"
        );
        let callback = Callback {
            headers: &HeaderMap::new(),
            query: "",
            peer: None,
            now: Timestamp(0),
        };
        let told = source.read(&callback, body.as_bytes()).unwrap().remove(0);
        assert_eq!(told.verdict, verdict, "{said}");
        assert_eq!(
            told.reference,
            Ok(Reference {
                channel: Channel::Email,
                class: Class::Transactional,
                partition: 0,
                delivery: delivery.id,
            })
        );
        assert_eq!(told.said, said.replace(' ', "/"));
    }
}

#[tokio::test]
async fn a_greylist_is_waited_for() {
    let relay = Relay::start(with_login(Plan {
        greylist: true,
        ..Plan::default()
    }))
    .await;
    let provider = relay.provider();
    assert_eq!(send(&*provider, "ann", PATIENT).await, soft());
    let result = send(&*provider, "ann", PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    assert_eq!(relay.mails().len(), 1);
}

#[tokio::test]
async fn a_connection_that_the_relay_closed_costs_nothing() {
    let relay = Relay::start(with_login(Plan {
        mails_per_connection: 1,
        ..Plan::default()
    }))
    .await;
    let provider = relay.provider();
    for _ in 0..4 {
        let result = send(&*provider, "ann", PATIENT).await;
        assert_eq!(result, AttemptResult::Accepted);
    }
    assert_eq!(relay.mails().len(), 4);
}

#[tokio::test]
async fn what_the_relay_does_not_take_is_not_sent() {
    let relay = Relay::start(with_login(Plan {
        size: 2_000,
        offers: vec![Offer::Starttls],
        ..Plan::default()
    }))
    .await;
    let provider = relay.provider();
    let mut long = delivery(Channel::Email, "ann@example.net", "e1");
    long.content.body = Some("x".repeat(3_000));
    let result = attempt(&*provider, &long, PATIENT).await;
    assert_eq!(result, AttemptResult::Refused(Reason::InvalidContent));
    let result = send(&*provider, "사용자", PATIENT).await;
    assert_eq!(result, AttemptResult::Refused(Reason::NotReachable));
    assert_eq!(relay.mails(), []);

    let relay = Relay::start(with_login(Plan::default())).await;
    let result = send(&*relay.provider(), "사용자", PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    assert!(relay.mails()[0].from_parameters.contains("SMTPUTF8"));
}

#[tokio::test]
async fn most_mails_refused_by_policy_are_a_fault_of_the_account() {
    let everybody = vec![Scripted {
        step: Step::Dot,
        reply: "554 5.7.1 spam".into(),
        ..Scripted::default()
    }];
    let relay = Relay::start(with_login(Plan {
        everybody,
        ..Plan::default()
    }))
    .await;
    let provider = relay.provider();
    let refused = AttemptResult::Refused(Reason::ProviderRefused);
    for _ in 0..7 {
        assert_eq!(send(&*provider, "ann", PATIENT).await, refused);
    }
    let result = send(&*provider, "ann", PATIENT).await;
    assert_eq!(result, AttemptResult::AccountFault);
}

/// Names of the headers of a mail, each once per occurrence.
fn header_names(mail: &Taken) -> Vec<String> {
    let (head, _) = mail.data.split_once("\r\n\r\n").unwrap();
    head.split("\r\n")
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split(':').next().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn nothing_a_publisher_writes_becomes_a_header_a_recipient_or_a_command() {
    let relay = Relay::start(with_login(Plan::default())).await;
    let provider = relay.provider();
    let mut plain = delivery(Channel::Email, "ann@example.net", "e1");
    plain.content.title = Some("Hi".into());
    let result = attempt(&*provider, &plain, PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    let expected = header_names(&relay.mails()[0]);
    let evil = [
        "Hi\r\nBcc: eve@example.org",
        "Hi\nBcc: eve@example.org",
        "Hi\r\n\r\n.\r\nMAIL FROM:<eve@example.org>\r\n",
        "Hi\r\n.\r\nQUIT\r\n",
    ];
    for text in evil {
        let mut delivery = plain.clone();
        delivery.content.title = Some(text.into());
        delivery.content.body = Some(text.into());
        delivery.sender = text.into();
        delivery.event_id = text.into();
        let result = attempt(&*provider, &delivery, PATIENT).await;
        assert_eq!(result, AttemptResult::Accepted, "{text:?}");
        let mail = relay.mails().pop().unwrap();
        assert_eq!(header_names(&mail), expected, "{text:?}");
        assert_eq!(mail.to, "ann@example.net");
    }
    let sent = relay.mails().len();
    for address in [
        "ann@example.net>\r\nRCPT TO:<eve@example.org",
        "ann@example.net\r\nDATA",
        "ann@example.net, eve@example.org",
        "ann@example.net> NOTIFY=NEVER",
        "\"ann\r\n\"@example.net",
    ] {
        let mut delivery = plain.clone();
        delivery.address.address = address.into();
        let result = attempt(&*provider, &delivery, PATIENT).await;
        let invalid = AttemptResult::Refused(Reason::InvalidAddress);
        assert_eq!(result, invalid, "{address:?}");
    }
    assert_eq!(relay.mails().len(), sent);
}
