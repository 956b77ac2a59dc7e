//! Telegram, Slack, Sendbird and LINE: every code of their tables through the real client against their
//! twins, and what only they promise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::provider::{Attempt, AttemptResult, Provider, ThrottleScope};
use bongsu_channels::verdict::Verdict;
use bongsu_channels::{Settings, build};
use bongsu_domain::{Channel, Reason};
use bongsu_runtime::{Clock, Secret};
use bongsu_simulators::simulators::{Instance, Running, Settings as Twins};
use bongsu_simulators::{Kind, Simulators};
use tokio::time::Instant;

use crate::server::{Reply, Server};
use crate::subject::{self, BOT_TOKEN};
use crate::{attempt, delivery};

/// Far more than any of this takes, for machines that have other things to do.
const PATIENT: Duration = Duration::from_secs(60);

/// A twin and a provider that reaches it.
struct Rig {
    channel: Channel,
    twins: Simulators,
    provider: Arc<dyn Provider>,
}

impl Rig {
    async fn start(channel: Channel, change: impl FnOnce(&mut Settings)) -> Self {
        let kind = Kind::parse(channel.as_str()).unwrap();
        let instances = vec![Instance::new(kind)];
        let twins = Simulators::start(Twins { instances }).await.unwrap();
        let mut settings = Settings::default();
        (subject::subject(channel).twin_account)(&mut settings, &twins);
        change(&mut settings);
        let provider = build(channel, &settings, "worker-1", Clock::system()).unwrap();
        Self {
            channel,
            twins,
            provider,
        }
    }

    fn twin(&self) -> &Running {
        &self.twins.running()[0]
    }

    async fn to(&self, address: &str) -> AttemptResult {
        attempt(
            &*self.provider,
            &delivery(self.channel, address, "e1"),
            PATIENT,
        )
        .await
    }

    /// The result where `key`, by which the twin knows `address`, is answered `word`.
    async fn told(&self, key: &str, address: &str, word: &str) -> AttemptResult {
        let words = BTreeMap::from([(key.to_owned(), word.to_owned())]);
        assert!(self.twin().set_answers(words));
        self.to(address).await
    }

    async fn table(&self, key: &str, address: &str, table: &[(&str, AttemptResult)]) {
        for (word, expected) in table {
            assert_eq!(self.told(key, address, word).await, *expected, "{word}");
        }
    }
}

const ADDRESS: AttemptResult = AttemptResult::Refused(Reason::InvalidAddress);
const CONTENT: AttemptResult = AttemptResult::Refused(Reason::InvalidContent);
const AWAY: AttemptResult = AttemptResult::Refused(Reason::NotReachable);
const OTHER: AttemptResult = AttemptResult::Refused(Reason::ProviderRefused);

const fn wait(seconds: u64, scope: ThrottleScope) -> AttemptResult {
    AttemptResult::Throttled {
        retry_after: Some(Duration::from_secs(seconds)),
        scope,
    }
}

#[tokio::test]
async fn every_answer_of_telegram_has_its_reaction() {
    let rig = Rig::start(Channel::Telegram, |_| {}).await;
    let table = [
        ("400 Bad Request: chat not found", ADDRESS),
        ("400 Bad Request: user not found", ADDRESS),
        ("403 Forbidden: bot was blocked by the user", ADDRESS),
        ("403 Forbidden: user is deactivated", ADDRESS),
        ("403 Forbidden: bot was kicked from the group chat", ADDRESS),
        (
            "403 Forbidden: bot is not a member of the channel chat",
            ADDRESS,
        ),
        ("403 Forbidden: bot can't send messages to the user", AWAY),
        (
            "403 Forbidden: bot can't initiate conversation with a user",
            AWAY,
        ),
        (
            "400 Bad Request: not enough rights to send text messages to the chat",
            AWAY,
        ),
        ("400 Bad Request: can't parse entities: x", CONTENT),
        ("400 Bad Request: message is too long", CONTENT),
        ("401 Unauthorized", AttemptResult::AccountFault),
        ("404 Not Found", AttemptResult::AccountFault),
        ("429 35", wait(35, ThrottleScope::Account)),
        ("500 Internal Server Error", AttemptResult::Unavailable),
        ("504 Gateway Timeout", AttemptResult::Unknown),
    ];
    rig.table("-100", "-100", &table).await;
}

#[tokio::test]
async fn a_chat_that_moved_is_followed_and_remembered() {
    let rig = Rig::start(Channel::Telegram, |_| {}).await;
    let followed = rig.told("-100", "-100", "migrate -1001234").await;
    assert_eq!(followed, AttemptResult::Accepted);
    assert_eq!(rig.to("-100").await, AttemptResult::Accepted);
    let mut paths = Vec::new();
    rig.twin().recorder().visit(0, |seen| {
        paths.push(seen.path.to_owned());
        true
    });
    assert_eq!(paths, ["/chat/-100", "/chat/-1001234", "/chat/-1001234"]);
    // One that moves in a circle ends the attempt.
    let words = [("-7", "migrate -8"), ("-8", "migrate -9")];
    let words = words.map(|(a, w)| (a.to_owned(), w.to_owned()));
    rig.twin().set_answers(BTreeMap::from(words));
    assert_eq!(rig.to("-7").await, AttemptResult::Unavailable);
}

#[tokio::test]
async fn a_telegram_request_is_byte_by_byte_what_the_bot_api_asks_for() {
    let server =
        Server::start_for(Channel::Telegram, Reply::answer(200, "", r#"{"ok":true}"#)).await;
    let mut settings = Settings::default();
    subject::telegram(&mut settings, &server.url());
    let provider = build(Channel::Telegram, &settings, "w", Clock::system()).unwrap();
    let delivery = delivery(Channel::Telegram, "-100", "e1");
    let result = attempt(&*provider, &delivery, PATIENT).await;
    assert_eq!(result, AttemptResult::Accepted);
    let request = server.requests().remove(0);
    let line = format!("POST /bot{BOT_TOKEN}/sendMessage HTTP/1.1\r\n");
    assert!(request.starts_with(&line), "{request}");
    assert!(request.ends_with(r#"{"chat_id":-100,"text":"text of e1"}"#));
}

#[tokio::test]
async fn every_word_of_slack_has_its_reaction() {
    let rig = Rig::start(Channel::Slack, |_| {}).await;
    let path = "/services/T0000/B0000/5ec1e7";
    let hook = format!("https://hooks.slack.com{path}");
    let table = [
        ("400 invalid_payload", CONTENT),
        ("400 user_not_found", CONTENT),
        ("400 no_text", CONTENT),
        ("400 invalid_blocks", CONTENT),
        ("400 too_many_attachments", CONTENT),
        ("403 action_prohibited", ADDRESS),
        ("403 invalid_token", ADDRESS),
        ("404 channel_not_found", ADDRESS),
        ("404 no_service", ADDRESS),
        ("404 no_team", ADDRESS),
        ("410 channel_is_archived", ADDRESS),
        ("500 rollup_error", AttemptResult::Unavailable),
        ("429 30", wait(30, ThrottleScope::Address)),
        ("504 ", AttemptResult::Unknown),
    ];
    rig.table(path, &hook, &table).await;

    let fault = AttemptResult::AccountFault;
    let throttled = AttemptResult::Throttled {
        retry_after: None,
        scope: ThrottleScope::Address,
    };
    let table = [
        ("channel_not_found", ADDRESS),
        ("is_archived", ADDRESS),
        ("not_in_channel", AWAY),
        ("no_permission", AWAY),
        ("access_denied", AWAY),
        ("team_access_not_granted", AWAY),
        ("restricted_action", AWAY),
        ("no_text", CONTENT),
        ("msg_too_long", CONTENT),
        ("invalid_blocks", CONTENT),
        ("too_many_attachments", CONTENT),
        ("invalid_auth", fault),
        ("not_authed", fault),
        ("token_revoked", fault),
        ("token_expired", fault),
        ("account_inactive", fault),
        ("missing_scope", fault),
        ("ratelimited", throttled),
        ("429 20", wait(20, ThrottleScope::Address)),
        ("internal_error", AttemptResult::Unavailable),
        ("service_unavailable", AttemptResult::Unavailable),
        ("fatal_error", AttemptResult::Unknown),
        ("something_new", OTHER),
    ];
    rig.table("C0123ABCD", "C0123ABCD", &table).await;
}

#[tokio::test]
async fn a_name_that_slack_does_not_allow_does_not_stop_the_workspace() {
    let rig = Rig::start(Channel::Slack, |_| {}).await;
    let words = BTreeMap::from([("C0123ABCD".to_owned(), "missing_scope".to_owned())]);
    assert!(rig.twin().set_answers(words));
    let mut named = delivery(Channel::Slack, "C0123ABCD", "e1");
    let raw = r#"{"text":"x","username":"Shop"}"#;
    named.content.overrides.insert("slack".into(), raw.into());
    assert_eq!(attempt(&*rig.provider, &named, PATIENT).await, OTHER);
    assert_eq!(rig.to("C0123ABCD").await, AttemptResult::AccountFault);
}

/// What a proxy, a portal or a filter answers in a provider's place.
#[tokio::test]
async fn a_success_that_is_not_the_providers_is_unknown() {
    for channel in [
        Channel::Telegram,
        Channel::Slack,
        Channel::Sendbird,
        Channel::Line,
    ] {
        for body in [
            "<html>Welcome</html>",
            "",
            r#"{"page":1}"#,
            r#"{"ok":false}"#,
        ] {
            let server = Server::start_for(channel, Reply::answer(200, "", body)).await;
            let subject = subject::subject(channel);
            let mut settings = Settings::default();
            (subject.account)(&mut settings, &server.url());
            let provider = build(channel, &settings, "w", Clock::system()).unwrap();
            let delivery = delivery(channel, &(subject.address)(&server.url()), "e1");
            let result = attempt(&*provider, &delivery, PATIENT).await;
            assert_eq!(result, AttemptResult::Unknown, "{channel} {body}");
        }
    }
}

#[tokio::test]
async fn a_slack_address_is_a_webhook_or_needs_the_apps_token() {
    let rig = Rig::start(Channel::Slack, |_| {}).await;
    assert_eq!(rig.to("C0123ABCD").await, AttemptResult::Accepted);
    let elsewhere = rig.to("https://evil.example/services/T0/B0/x").await;
    assert_eq!(elsewhere, ADDRESS);
    let bare = Rig::start(Channel::Slack, |settings| {
        settings.slack.accounts.get_mut("test").unwrap().token = Secret::default();
    })
    .await;
    assert_eq!(
        bare.to("C0123ABCD").await,
        AttemptResult::Refused(Reason::Credential)
    );
    let hook = "https://hooks.slack.com/services/T0000/B0000/x";
    assert_eq!(bare.to(hook).await, AttemptResult::Accepted);
    assert_eq!(bare.twin().recorder().counts().requests, 1);
}

#[tokio::test]
async fn every_code_of_sendbird_has_its_reaction() {
    let rig = Rig::start(Channel::Sendbird, |_| {}).await;
    let fault = AttemptResult::AccountFault;
    let table = [
        ("400201 \"channel\" not found.", ADDRESS),
        // Sent as the administrator: no user of the account's is to blame.
        ("400201 \"User\" not found.", OTHER),
        ("400202 exists", AttemptResult::Accepted),
        ("400302 not a member", AWAY),
        ("400100 must be a string", CONTENT),
        ("400105 missing", CONTENT),
        ("400111 invalid", CONTENT),
        ("400401 Invalid API token.", fault),
        ("403100 Application disabled.", fault),
        (
            "429100 Too many requests.",
            AttemptResult::Throttled {
                retry_after: None,
                scope: ThrottleScope::Account,
            },
        ),
        ("429 3", wait(3, ThrottleScope::Account)),
        ("500901 Internal", AttemptResult::Unavailable),
        ("400700 new", OTHER),
    ];
    rig.table("room-1", "room-1", &table).await;
    let speaking = Rig::start(Channel::Sendbird, |settings| {
        settings.sendbird.accounts.get_mut("test").unwrap().user_id = "shop".into();
    })
    .await;
    let missing = "400201 \"User\" not found.";
    assert_eq!(speaking.told("room-1", "room-1", missing).await, fault);
    // An override that names another user is refused here, and the account goes on.
    let mut foreign = delivery(Channel::Sendbird, "room-2", "e1");
    let raw = r#"{"message":"x","user_id":"no-such-user"}"#;
    let overrides = &mut foreign.content.overrides;
    overrides.insert("sendbird".into(), raw.into());
    let refused = attempt(&*speaking.provider, &foreign, PATIENT).await;
    assert_eq!(refused, CONTENT);
    let own = Rig::start(Channel::Sendbird, |settings| {
        let account = settings.sendbird.accounts.get_mut("test").unwrap();
        let reactions = &mut account.reactions;
        reactions.insert("400700".into(), Verdict::InvalidAddress);
    })
    .await;
    assert_eq!(own.told("room-1", "room-1", "400700 x").await, ADDRESS);
}

#[tokio::test]
async fn a_second_copy_is_sent_to_nobody_where_the_provider_knows_its_key() {
    let line = format!("U{}", "0a".repeat(16));
    for (channel, address) in [
        (Channel::Sendbird, "room-1"),
        (Channel::Line, line.as_str()),
    ] {
        let rig = Rig::start(channel, |_| {}).await;
        let delivery = delivery(channel, address, "e1");
        assert!(rig.provider.dedupes(&delivery), "{channel}");
        // LINE forgets a key after a day, Sendbird keeps it with the message.
        let mut longer = delivery.clone();
        longer.expires_at.0 += 1;
        let remembered = channel == Channel::Sendbird;
        assert_eq!(rig.provider.dedupes(&longer), remembered, "{channel}");
        for number in [1, 2] {
            let batch = [Attempt {
                delivery: &delivery,
                number,
                partition: 0,
            }];
            let results = rig.provider.attempt(&batch, Instant::now() + PATIENT);
            assert_eq!(results.await.unwrap(), [AttemptResult::Accepted]);
        }
        let report = rig.twin().report();
        let counted = (report.requests, report.accepted, report.duplicates);
        assert_eq!(counted, (2, 1, 0), "{channel}");
    }
    for channel in [Channel::Slack, Channel::Telegram] {
        let rig = Rig::start(channel, |_| {}).await;
        assert!(!rig.provider.dedupes(&delivery(channel, "x", "e1")));
    }
}

#[tokio::test]
async fn every_answer_of_line_has_its_reaction() {
    let rig = Rig::start(Channel::Line, |_| {}).await;
    let id = format!("U{}", "0a".repeat(16));
    let fault = AttemptResult::AccountFault;
    let table = [
        (
            "400 The property, 'to', in the request body is invalid",
            ADDRESS,
        ),
        ("400 Failed to send messages", ADDRESS),
        ("400 The request body has 1 error(s)", CONTENT),
        ("401 Authentication failed", fault),
        ("403 Access to this API is not available", fault),
        (
            "409 The retry key is already accepted",
            AttemptResult::Accepted,
        ),
        ("413 Payload Too Large", CONTENT),
        ("429 You have reached your monthly limit.", fault),
        (
            "429 The API rate limit has been exceeded.",
            AttemptResult::Throttled {
                retry_after: None,
                scope: ThrottleScope::Account,
            },
        ),
        ("500 Internal Server Error", AttemptResult::Unavailable),
        ("504 Gateway Timeout", AttemptResult::Unknown),
    ];
    rig.table(&id, &id, &table).await;
}
