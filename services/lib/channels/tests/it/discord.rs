//! What only Discord promises.

use std::time::Duration;

use bongsu_channels::provider::{AttemptResult, ThrottleScope};
use bongsu_channels::{Settings, build, discord};
use bongsu_domain::{Channel, Reason};
use bongsu_runtime::Clock;

use crate::server::{Reply, Server};
use crate::{attempt, delivery};

const PATIENT: Duration = Duration::from_secs(5);

async fn execute(reply: Reply) -> (AttemptResult, String) {
    let server = Server::start(reply).await;
    let mut settings = Settings::default();
    settings.discord.accounts.insert(
        "test".into(),
        discord::config::Account {
            api_base: server.url(),
            username: "Bongsu".into(),
            ..Default::default()
        },
    );
    let provider = build(Channel::Discord, &settings, "w", Clock::system()).unwrap();
    // The stored URL names Discord itself; the account's base decides where it goes.
    let address = "https://discord.com/api/webhooks/123/token?thread_id=7";
    let result = attempt(
        &*provider,
        &delivery(Channel::Discord, address, "e1"),
        PATIENT,
    )
    .await;
    (result, server.requests().remove(0))
}

#[tokio::test]
async fn the_request_is_an_execution_that_mentions_nobody() {
    let (result, request) = execute(Reply::answer(204, "", "")).await;
    assert_eq!(result, AttemptResult::Accepted);
    assert!(request.starts_with("POST /api/v10/webhooks/123/token?thread_id=7 HTTP/1.1\r\n"));
    assert!(request.ends_with(
        r#"{"content":"text of e1","username":"Bongsu","allowed_mentions":{"parse":[]}}"#
    ));
}

#[tokio::test]
async fn the_body_of_an_error_decides() {
    let deleted = Reply::answer(404, "", r#"{"message":"Unknown Webhook","code":10015}"#);
    assert_eq!(
        execute(deleted).await.0,
        AttemptResult::Refused(Reason::InvalidAddress)
    );
    let form = Reply::answer(400, "", r#"{"message":"Invalid Form Body","code":50035}"#);
    assert_eq!(
        execute(form).await.0,
        AttemptResult::Refused(Reason::InvalidContent)
    );
    let limited = Reply::answer(
        429,
        "retry-after: 2\r\n",
        r#"{"retry_after":1.336,"global":false}"#,
    );
    let retry_after = Some(Duration::from_millis(1_336));
    assert_eq!(
        execute(limited).await.0,
        AttemptResult::Throttled {
            retry_after,
            scope: ThrottleScope::Worker,
        }
    );
    let banned = Reply::answer(429, "", "<html>Error 1015</html>");
    let retry_after = Some(Duration::from_mins(1));
    assert_eq!(
        execute(banned).await.0,
        AttemptResult::Throttled {
            retry_after,
            scope: ThrottleScope::Worker,
        }
    );
}

#[tokio::test]
async fn a_pause_discord_asked_for_is_kept_without_asking_again() {
    let last = "x-ratelimit-remaining: 0\r\nx-ratelimit-reset-after: 0.4\r\n";
    let server = Server::start(Reply::answer(204, last, "")).await;
    let mut settings = Settings::default();
    let account = discord::config::Account {
        api_base: server.url(),
        ..Default::default()
    };
    settings.discord.accounts.insert("test".into(), account);
    let provider = build(Channel::Discord, &settings, "w", Clock::system()).unwrap();
    let first = delivery(Channel::Discord, "123/token", "e1");
    let other = delivery(Channel::Discord, "456/token", "e2");
    assert_eq!(
        attempt(&*provider, &first, PATIENT).await,
        AttemptResult::Accepted
    );
    let AttemptResult::Throttled {
        retry_after: Some(wait),
        ..
    } = attempt(&*provider, &first, PATIENT).await
    else {
        unreachable!("it must wait")
    };
    assert!(wait <= Duration::from_millis(400), "{wait:?}");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(
        attempt(&*provider, &other, PATIENT).await,
        AttemptResult::Accepted
    );
    tokio::time::sleep(wait).await;
    assert_eq!(
        attempt(&*provider, &first, PATIENT).await,
        AttemptResult::Accepted
    );
}
