//! Discord against its twin: every code of its protocol, buckets, strikes and packs.

use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::discord::config::{Account, Mention};
use bongsu_channels::provider::{Attempt, AttemptResult, Provider, ThrottleScope};
use bongsu_channels::{Egress, Settings, build};
use bongsu_domain::{Channel, Delivery, Reason};
use bongsu_runtime::Clock;
use bongsu_simulators::{Kind, Settings as Twins, Simulators};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{attempt, delivery};

const PATIENT: Duration = Duration::from_secs(5);

/// The twin with a plan, and a provider that reaches it.
struct Discord {
    twins: Simulators,
    client: reqwest::Client,
    provider: Arc<dyn Provider>,
}

impl Discord {
    async fn start(plan: Value) -> Self {
        Self::start_with(plan, Account::default()).await
    }

    async fn start_with(plan: Value, account: Account) -> Self {
        let twins = Simulators::start(Twins::of(&[Kind::Discord]))
            .await
            .unwrap();
        let mut settings = Settings::default();
        let account = Account {
            api_base: twins.running()[0].url(),
            ..account
        };
        assert_eq!(account.validate("a"), []);
        settings.discord.accounts.insert("test".into(), account);
        let provider = build(Channel::Discord, &settings, "w", Clock::system()).unwrap();
        let discord = Self {
            twins,
            client: reqwest::Client::new(),
            provider,
        };
        let plan_url = format!("{}/_sim/plan", discord.twins.running()[0].url());
        let answer = discord
            .client
            .put(plan_url)
            .json(&plan)
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
        discord
    }

    async fn execute(&self, address: &str) -> AttemptResult {
        let delivery = delivery(Channel::Discord, address, "e1");
        attempt(&*self.provider, &delivery, PATIENT).await
    }

    async fn execute_all(&self, deliveries: &[Delivery]) -> Vec<AttemptResult> {
        let batch: Vec<_> = deliveries
            .iter()
            .map(|delivery| Attempt {
                delivery,
                number: 1,
                partition: 0,
            })
            .collect();
        let results = self.provider.attempt(&batch, Instant::now() + PATIENT);
        results.await.unwrap()
    }

    fn requests(&self) -> u64 {
        self.twins.running()[0].recorder().counts().requests
    }
}

/// The delivery of event `e<n>` as an embed to webhook 1.
fn embed(n: usize, body: &str) -> Delivery {
    let mut delivery = delivery(Channel::Discord, "1/token", &format!("e{n}"));
    delivery.content.title = Some(format!("[#e{n} s {n}]"));
    delivery.content.body = Some(body.to_owned());
    delivery
}

fn with_override(mut delivery: Delivery, raw: &Value) -> Delivery {
    let overrides = &mut delivery.content.overrides;
    overrides.insert("discord".into(), raw.to_string());
    delivery
}

fn throttled(millis: u64, scope: ThrottleScope) -> AttemptResult {
    AttemptResult::Throttled {
        retry_after: Some(Duration::from_millis(millis)),
        scope,
    }
}

#[tokio::test]
async fn every_code_of_the_protocol_has_its_reaction() {
    let content = AttemptResult::Refused(Reason::InvalidContent);
    let dead = AttemptResult::Refused(Reason::InvalidAddress);
    let not_now = |retry_after: Option<u64>| AttemptResult::Throttled {
        retry_after: retry_after.map(Duration::from_millis),
        scope: ThrottleScope::Address,
    };
    let code =
        |status: u16, code: i64| json!({"status": status, "body": {"message": "m", "code": code}});
    let limited = |scope: &str, global: bool| {
        json!({
            "status": 429,
            "headers": {"x-ratelimit-scope": scope, "retry-after": "2"},
            "body": {"message": "You are being rate limited.", "retry_after": 1.336, "global": global},
        })
    };
    let everything = |millis| throttled(millis, ThrottleScope::Worker);
    let cases: Vec<(Value, AttemptResult)> = vec![
        (
            json!({"status": 200, "body": {"id": "1"}}),
            AttemptResult::Accepted,
        ),
        (json!({"status": 204}), AttemptResult::Accepted),
        (code(400, 50_035), content),
        (code(400, 50_006), content),
        (code(400, 40_005), content),
        (code(413, 40_005), content),
        (json!({"status": 413}), content),
        (code(400, 220_001), dead),
        (code(400, 220_002), dead),
        (code(400, 220_003), dead),
        (code(401, 50_027), dead),
        (code(403, 50_013), dead),
        (code(404, 10_015), dead),
        (code(404, 10_003), dead),
        (code(400, 200_000), content),
        (code(400, 200_001), content),
        (code(400, 240_000), content),
        (code(429, 20_028), not_now(None)),
        (code(429, 20_029), not_now(None)),
        (code(503, 130_000), not_now(None)),
        (limited("user", false), not_now(Some(1_336))),
        (limited("shared", false), not_now(Some(1_336))),
        (limited("global", true), everything(1_336)),
        // Without headers, and without JSON: Cloudflare, which blocks the address.
        (
            json!({"status": 429, "body": "<h1>Error 1015</h1>"}),
            everything(60_000),
        ),
        (
            json!({"status": 429, "headers": {"retry-after": "600"}, "body": "<h1>Error 1015</h1>"}),
            everything(600_000),
        ),
        (
            json!({"status": 403, "body": "<h1>Access denied</h1>"}),
            everything(60_000),
        ),
        (code(429, 40_333), everything(60_000)),
        (
            json!({"status": 500, "body": {"message": "500"}}),
            AttemptResult::Unavailable,
        ),
        (
            json!({"status": 502, "body": "<h1>Bad gateway</h1>"}),
            AttemptResult::Unavailable,
        ),
        (json!({"status": 503}), AttemptResult::Unavailable),
        (json!({"status": 504}), AttemptResult::Unknown),
        (
            json!({"status": 404, "body": "<h1>Not found</h1>"}),
            AttemptResult::Unavailable,
        ),
        (
            json!({"status": 301, "headers": {"location": "/api/v10/webhooks/9/t"}}),
            AttemptResult::Unavailable,
        ),
    ];
    for (answer, expected) in cases {
        let discord = Discord::start(json!({"answers": {"1": answer}})).await;
        assert_eq!(discord.execute("1/token").await, expected, "{answer}");
        assert_eq!(discord.requests(), 1);
        // Whom a 429 concerns is who waits without asking again, and nobody else.
        let waits = |id: &str| {
            let delivery = delivery(Channel::Discord, &format!("{id}/token"), "e2");
            discord.provider.hold(&delivery)
        };
        let paused = match expected {
            AttemptResult::Throttled { retry_after, scope } => retry_after.map(|_| scope),
            AttemptResult::Accepted
            | AttemptResult::Refused(_)
            | AttemptResult::Unavailable
            | AttemptResult::Doubted
            | AttemptResult::Unknown
            | AttemptResult::NotProcessed
            | AttemptResult::AccountFault => None,
        };
        assert_eq!(waits("1").is_some(), paused.is_some(), "{answer}");
        let everything = paused == Some(ThrottleScope::Worker);
        assert_eq!(waits("2").is_some(), everything, "{answer}");
    }
}

#[tokio::test]
async fn what_the_twin_checks_itself_has_the_same_reaction() {
    let discord = Discord::start(json!({"tokens": {"1": "right"}, "forums": ["2"]})).await;
    let dead = AttemptResult::Refused(Reason::InvalidAddress);
    assert_eq!(discord.execute("1/wrong").await, dead);
    assert_eq!(discord.execute("1/right").await, AttemptResult::Accepted);
    assert_eq!(discord.execute("2/token").await, dead);
    let thread = "https://discord.com/api/webhooks/2/token?thread_id=7";
    assert_eq!(discord.execute(thread).await, AttemptResult::Accepted);
    // A name for a new thread beside one that exists.
    let both = with_override(
        delivery(Channel::Discord, thread, "e1"),
        &json!({"content": "x", "thread_name": "y"}),
    );
    assert_eq!(attempt(&*discord.provider, &both, PATIENT).await, dead);
    assert_eq!(discord.provider.strikes(), 1, "the wrong token alone");
}

#[tokio::test]
async fn a_form_that_discord_would_refuse_is_not_sent() {
    let discord = Discord::start(json!({})).await;
    for raw in [
        json!({"content": "x".repeat(2_001)}),
        json!({"embeds": [{"title": "x".repeat(257)}]}),
        json!({"embeds": vec![json!({"title": "t"}); 11]}),
        json!({"embeds": vec![json!({"description": "x".repeat(3_001)}); 2]}),
        json!({"content": "  "}),
    ] {
        let broken = with_override(embed(1, "x"), &raw);
        assert_eq!(
            attempt(&*discord.provider, &broken, PATIENT).await,
            AttemptResult::Refused(Reason::InvalidContent),
            "{raw}"
        );
    }
    assert_eq!(discord.requests(), 0);
    // What our rules let pass the twin lets pass too.
    let full = json!({
        "content": "x".repeat(2_000),
        "username": "x".repeat(80),
        "embeds": [
            {"title": "x".repeat(256), "description": "x".repeat(3_000), "color": 0xff_ff_ff,
             "author": {"name": "x".repeat(256)}},
            {"footer": {"text": "x".repeat(1_208)},
             "fields": [{"name": "x".repeat(256), "value": "x".repeat(1_024)}]}
        ],
        "allowed_mentions": {"parse": ["everyone"], "users": ["1"]},
    });
    let full = with_override(embed(1, "x"), &full);
    assert_eq!(
        attempt(&*discord.provider, &full, PATIENT).await,
        AttemptResult::Accepted
    );
}

#[tokio::test]
async fn waiting_asks_for_the_stored_text() {
    let account = Account {
        wait: true,
        mentions: vec![Mention::Users],
        ..Account::default()
    };
    let discord = Discord::start_with(json!({}), account).await;
    assert_eq!(discord.execute("1/token").await, AttemptResult::Accepted);
}

#[tokio::test]
async fn strikes_are_counted_and_a_shared_limit_is_none() {
    let code = |status: u16| json!({"status": status, "body": {"code": 1}});
    let shared = json!({"status": 429, "headers": {"x-ratelimit-scope": "shared"},
                        "body": {"retry_after": 0.001, "global": false}});
    let plan = json!({"answers": {"1": code(401), "2": code(403), "3": code(404), "4": shared,
                                  "5": code(500), "6": code(400)}});
    let discord = Discord::start(plan).await;
    for id in 1..=7 {
        let _result = discord.execute(&format!("{id}/token")).await;
    }
    assert_eq!(discord.provider.strikes(), 3);
    let limit = discord.provider.strike_limit().unwrap();
    assert_eq!((limit.strikes, limit.window.as_secs()), (10_000, 600));
}

#[tokio::test]
async fn fifty_a_second_leave_one_address_unless_settings_say_otherwise() {
    let per_second = |settings: &Settings| {
        let provider = build(Channel::Discord, settings, "w", Clock::system()).unwrap();
        provider.egress().per_second
    };
    let mut settings = Settings::default();
    assert_eq!(per_second(&settings), Some(50));
    settings.discord.egress = Egress {
        per_second: Some(2_000),
    };
    assert_eq!(per_second(&settings), Some(2_000));
}

#[tokio::test]
async fn starts_on_their_way_never_overrun_a_webhook() {
    let discord = Discord::start(json!({})).await;
    let deliveries: Vec<_> = (0..20)
        .map(|i| delivery(Channel::Discord, "1/token", &format!("e{i}")))
        .collect();
    // All at once: nothing is announced before the first answer.
    let results = discord.execute_all(&deliveries).await;
    let accepted = results
        .iter()
        .filter(|r| **r == AttemptResult::Accepted)
        .count();
    let report = discord.twins.running()[0].report();
    assert_eq!((accepted, report.accepted, report.errors), (5, 5, 0));
}

fn packing() -> Account {
    Account {
        pack: true,
        ..Account::default()
    }
}

#[tokio::test]
async fn ten_embeds_share_a_request_and_each_is_known_to_the_twin() {
    let discord = Discord::start_with(json!({}), packing()).await;
    let deliveries: Vec<_> = (1..=12).map(|n| embed(n, "x")).collect();
    assert!(deliveries.iter().all(|d| discord.provider.packs(d)));
    let results = discord.execute_all(&deliveries).await;
    assert!(
        results[..10].iter().all(|r| *r == AttemptResult::Accepted),
        "{results:?}"
    );
    assert_eq!(results[10..], [AttemptResult::NotProcessed; 2]);
    let report = discord.twins.running()[0].report();
    assert_eq!(
        (report.accepted, report.duplicates, report.order_violations),
        (10, 0, 0)
    );
    // One request of the webhook's limit: four are left of five.
    for n in 20..24 {
        assert_eq!(
            discord.execute_all(&[embed(n, "x")]).await,
            [AttemptResult::Accepted]
        );
    }
    assert!(matches!(
        discord.execute_all(&[embed(24, "x")]).await[..],
        [AttemptResult::Throttled { .. }]
    ));
}

#[tokio::test]
async fn each_of_a_pack_keeps_its_own_outcome() {
    let discord = Discord::start_with(json!({}), packing()).await;
    // Together too long: what does not fit goes with the next request.
    let long = [embed(1, &"x".repeat(3_000)), embed(2, &"x".repeat(3_000))];
    assert_eq!(
        discord.execute_all(&long).await,
        [AttemptResult::Accepted, AttemptResult::NotProcessed]
    );
    // Discord names the one whose link it does not take.
    let mut named = [embed(3, "x"), embed(4, "x"), embed(5, "x")];
    named[1].content.link = Some("nowhere".into());
    assert_eq!(
        discord.execute_all(&named).await,
        [
            AttemptResult::NotProcessed,
            AttemptResult::Refused(Reason::InvalidContent),
            AttemptResult::NotProcessed
        ]
    );
    // Text goes alone, and so does what is behind it.
    let mut text = embed(6, "x");
    text.content.title = None;
    assert!(!discord.provider.packs(&text));
    let mixed = [text, embed(7, "x")];
    assert_eq!(
        discord.execute_all(&mixed).await,
        [AttemptResult::Accepted; 2]
    );
}

#[tokio::test]
async fn a_pack_that_fails_is_tried_again_from_its_first() {
    for (answer, expected) in [
        (
            json!({"status": 429, "headers": {"x-ratelimit-scope": "user"},
                   "body": {"retry_after": 3.0, "global": false}}),
            [
                throttled(3_000, ThrottleScope::Address),
                AttemptResult::NotProcessed,
            ],
        ),
        (
            json!({"status": 500}),
            [AttemptResult::Unavailable, AttemptResult::NotProcessed],
        ),
        // Nobody says which of them the filter did not like.
        (
            json!({"status": 400, "body": {"code": 200_000}}),
            [AttemptResult::Unavailable, AttemptResult::NotProcessed],
        ),
        (json!({"status": 504}), [AttemptResult::Unknown; 2]),
        (
            json!({"status": 404, "body": {"code": 10_015}}),
            [AttemptResult::Refused(Reason::InvalidAddress); 2],
        ),
    ] {
        let discord = Discord::start_with(json!({"answers": {"1": answer}}), packing()).await;
        let results = discord.execute_all(&[embed(1, "x"), embed(2, "x")]).await;
        assert_eq!(results, expected, "{answer}");
    }
}
