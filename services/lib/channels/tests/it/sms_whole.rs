//! Requests to SMS vendors that are refused as a whole, and who refuses them.

use bongsu_channels::provider::AttemptResult;
use bongsu_domain::{Channel, Delivery};
use bongsu_simulators::sms::Plan;

use crate::server::{Reply, Server};
use crate::sms::{CONTENT, NUMBER, PATIENT, all, provider, twilio_account, twin};
use crate::{attempt, delivery, sms_account};

#[tokio::test]
async fn a_text_that_spoils_its_request_is_refused_alone() {
    let plan = Plan {
        spoiling: ["01000000003".to_owned(), "01000000064".to_owned()].into(),
        ..Plan::default()
    };
    let twins = twin(&plan).await;
    let mut account = sms_account(&twins.running()[0].url());
    account.recipients_per_request = 1_000;
    let provider = provider(account);
    let deliveries = |n: usize| -> Vec<Delivery> {
        let number = |i| format!("0100000{i:04}");
        let one = |i| delivery(Channel::Sms, &number(i), &format!("e{i}"));
        (0..n).map(one).collect()
    };
    let hundred = deliveries(100);
    for (i, result) in all(&*provider, &hundred).await.iter().enumerate() {
        let expected = if matches!(i, 3 | 64) {
            CONTENT
        } else {
            AttemptResult::Accepted
        };
        assert_eq!(*result, expected, "{i}");
    }
    let report = twins.running()[0].report();
    assert_eq!((report.accepted, report.duplicates), (98, 0));
    // One that is too long as a whole fits in halves.
    let plan = Plan {
        most_bytes: 4_000,
        ..Plan::default()
    };
    twins.running()[0].set_vendors(plan).unwrap();
    let results = all(&*provider, &hundred).await;
    assert!(results.iter().all(|r| *r == AttemptResult::Accepted));
    // Where too many spoil, some are settled and the rest comes again, at no attempt's cost.
    let many = deliveries(200);
    let spoiling = (0..200).map(|i| format!("0100000{i:04}")).collect();
    let plan = Plan {
        spoiling,
        ..Plan::default()
    };
    twins.running()[0].set_vendors(plan).unwrap();
    let results = all(&*provider, &many).await;
    let refused = results.iter().filter(|r| **r == CONTENT).count();
    let again = results
        .iter()
        .filter(|r| **r == AttemptResult::NotProcessed)
        .count();
    assert!(refused >= 25, "{refused}");
    assert_eq!(refused + again, 200);
}

#[tokio::test]
async fn a_page_of_somebody_between_refuses_no_text() {
    for status in [400, 404] {
        let server = Server::start(Reply::answer(status, "", "<html>Bad Request</html>")).await;
        let delivery = delivery(Channel::Sms, NUMBER, "e1");
        for account in [sms_account(&server.url()), twilio_account(&server.url())] {
            let result = attempt(&*provider(account), &delivery, PATIENT).await;
            assert_eq!(result, AttemptResult::Unavailable, "{status}");
        }
    }
}
