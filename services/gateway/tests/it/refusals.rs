//! The table of bad requests: status, code, field, and that nothing of them was published.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::world::{EVERYTHING, READER, World, event, post, with};

struct Bad {
    what: &'static str,
    request: Request<Body>,
    status: u16,
    code: &'static str,
    /// Field and code of one of the errors; empty when the problem is of no field.
    error: (&'static str, &'static str),
}

fn bad(
    what: &'static str,
    request: Request<Body>,
    status: u16,
    code: &'static str,
    error: (&'static str, &'static str),
) -> Bad {
    Bad {
        what,
        request,
        status,
        code,
        error,
    }
}

/// A fault of one field of a good event.
fn field(what: &'static str, body: &Value, error: (&'static str, &'static str)) -> Bad {
    bad(what, post(body.to_string()), 422, "invalid_event", error)
}

fn without(path: &str) -> Value {
    let mut event = event("e-1");
    let (parent, key) = path.rsplit_once('/').unwrap();
    let parent = event.pointer_mut(parent).unwrap();
    assert!(parent.as_object_mut().unwrap().remove(key).is_some());
    event
}

fn address(address: &str) -> Value {
    with(
        "/target/recipients",
        json!([{
            "id": "u-1", "addresses": [{ "channel": "webhook", "address": address }],
        }]),
    )
}

fn recipients(count: usize, address: &str) -> Value {
    let one = |i: usize| json!({ "id": format!("u-{i}"), "addresses": [{ "channel": "webhook", "address": address }] });
    with("/target/recipients", (0..count).map(one).collect())
}

fn typed(content_type: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = post(body);
    let value = content_type.parse().unwrap();
    request.headers_mut().insert("content-type", value);
    request
}

fn keyed(name: &'static str, value: &str, body: &Value) -> Request<Body> {
    let mut request = post(body.to_string());
    request.headers_mut().remove("authorization");
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

fn header(name: &'static str, value: &str, body: &Value) -> Request<Body> {
    let mut request = post(body.to_string());
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

fn at(path: &str) -> Request<Body> {
    let mut request = post(event("e-1").to_string());
    *request.uri_mut() = path.parse().unwrap();
    request
}

const ADDRESS: &str = "target.recipients[0].addresses[0].address";

#[expect(clippy::too_many_lines, reason = "a uniform table")]
fn event_faults() -> Vec<Bad> {
    vec![
        field("no sender", &without("/sender"), ("sender", "missing")),
        field(
            "no Discord webhook",
            &with(
                "/target/recipients",
                json!([{ "id": "u", "addresses": [{ "channel": "discord", "address": "https://discord.com/x" }] }]),
            ),
            (ADDRESS, "invalid"),
        ),
        field(
            "no recipients",
            &without("/target/recipients"),
            ("target.recipients", "missing"),
        ),
        field(
            "no target",
            &without("/target"),
            ("target.recipients", "missing"),
        ),
        field(
            "no channels",
            &without("/plan/channels"),
            ("plan.channels", "missing"),
        ),
        field("no content", &without("/content"), ("content", "missing")),
        field(
            "no recipient id",
            &with("/target/recipients", json!([{}])),
            ("target.recipients[0].id", "missing"),
        ),
        field(
            "wrong type",
            &with("/class", json!(5)),
            ("class", "invalid"),
        ),
        field(
            "wrong type, deep",
            &with("/target/recipients", json!([{ "id": "u", "addresses": 1 }])),
            ("target.recipients[0].addresses", "invalid"),
        ),
        field(
            "unknown field",
            &with("/contents", json!({})),
            ("contents", "invalid"),
        ),
        field(
            "unknown field, deep",
            &with("/content/titel", json!("x")),
            ("content.titel", "invalid"),
        ),
        field(
            "field of ours",
            &with("/schedule_id", json!("s")),
            ("schedule_id", "invalid"),
        ),
        field(
            "replay of ours",
            &with("/replay_id", json!("r")),
            ("replay_id", "invalid"),
        ),
        field(
            "unknown class",
            &with("/class", json!("urgent")),
            ("class", "unknown_word"),
        ),
        field(
            "unknown purpose",
            &with("/purpose", json!("spam")),
            ("purpose", "unknown_word"),
        ),
        field(
            "unknown channel",
            &with("/plan/channels", json!(["pigeon"])),
            ("plan.channels[0]", "unknown_channel"),
        ),
        field(
            "channel twice",
            &with("/plan/channels", json!(["webhook", "webhook"])),
            ("plan.channels[1]", "contradiction"),
        ),
        field(
            "unknown channel of an address",
            &with(
                "/target/recipients",
                json!([{ "id": "u", "addresses": [{ "channel": "fax", "address": "1" }] }]),
            ),
            (
                "target.recipients[0].addresses[0].channel",
                "unknown_channel",
            ),
        ),
        field("empty address", &address(" "), (ADDRESS, "missing")),
        field(
            "private address",
            &address("http://10.0.0.7/x"),
            (ADDRESS, "private_address"),
        ),
        field(
            "loopback",
            &address("http://[::1]:8080/"),
            (ADDRESS, "private_address"),
        ),
        field(
            "metadata service",
            &address("http://169.254.169.254/latest"),
            (ADDRESS, "private_address"),
        ),
        field(
            "localhost",
            &address("http://localhost/"),
            (ADDRESS, "private_address"),
        ),
        field(
            "no web address",
            &address("ftp://example.com/"),
            (ADDRESS, "invalid"),
        ),
        field("no URL", &address("example.com"), (ADDRESS, "invalid")),
        field(
            "password in URL",
            &address("https://a:b@example.com/"),
            (ADDRESS, "invalid"),
        ),
        field(
            "expired",
            &with("/expires_at", json!("2020-01-01T00:00:00Z")),
            ("expires_at", "expired"),
        ),
        field(
            "too far ahead",
            &with("/expires_at", json!("2199-01-01T00:00:00Z")),
            ("expires_at", "too_large"),
        ),
        field(
            "no time",
            &with("/expires_at", json!("tomorrow")),
            ("expires_at", "invalid"),
        ),
        field(
            "delayed",
            &with("/deliver_at", json!(1)),
            ("deliver_at", "not_built"),
        ),
        field(
            "audience",
            &with("/target/audience", json!("all")),
            ("target.audience", "not_built"),
        ),
        field(
            "fallback",
            &with("/plan/fallback", json!([{ "channels": ["discord"] }])),
            ("plan.fallback", "not_built"),
        ),
        field(
            "template",
            &with("/content/template", json!("t")),
            ("content.template", "not_built"),
        ),
        field(
            "uncertain",
            &with("/on_uncertain", json!("never")),
            ("on_uncertain", "unknown_word"),
        ),
        field(
            "ordering",
            &with("/ordering", json!("sender")),
            ("ordering", "unknown_word"),
        ),
        field(
            "long id",
            &with("/id", json!("x".repeat(257))),
            ("id", "too_large"),
        ),
        field(
            "control characters",
            &with("/sender", json!("shop-\n")),
            ("sender", "invalid"),
        ),
        field(
            "long title",
            &with("/content/title", json!("x".repeat(1_025))),
            ("content.title", "too_large"),
        ),
        field(
            "override",
            &with("/content/overrides", json!({ "webhook": "[" })),
            ("content.overrides.webhook", "invalid"),
        ),
        field(
            "too many recipients",
            &recipients(1_001, "https://example.com/"),
            ("target.recipients", "too_large"),
        ),
        field(
            "one of many",
            &json!([event("a"), with("/class", json!("x")), event("b")]),
            ("events[1].class", "unknown_word"),
        ),
        field(
            "an id twice",
            &json!([event("a"), event("b"), event("a")]),
            ("events[2].id", "contradiction"),
        ),
        field(
            "no object",
            &json!([event("a"), 7]),
            ("events[1]", "invalid"),
        ),
        field("no event at all", &json!([]), ("(body)", "missing")),
        bad(
            "too large an event",
            post(
                recipients(1_000, &format!("https://example.com/{}", "x".repeat(600))).to_string(),
            ),
            413,
            "event_too_large",
            ("(event)", "event_too_large"),
        ),
        bad(
            "foreign sender",
            post(with("/sender", json!("bank")).to_string()),
            403,
            "foreign_sender",
            ("sender", "foreign_sender"),
        ),
        bad(
            "one foreign sender",
            post(json!([event("a"), with("/sender", json!("shop"))]).to_string()),
            403,
            "foreign_sender",
            ("events[1].sender", "foreign_sender"),
        ),
    ]
}

fn request_faults() -> Vec<Bad> {
    let good = event("e-1");
    let many: Vec<Value> = (0..10_001).map(|_| json!({})).collect();
    let lines = format!("{good}\n{{\"id\":\n{good}");
    vec![
        bad("no JSON", post("{\"id\": "), 400, "malformed", ("(body)", "malformed")),
        bad("no UTF-8", post(vec![b'"', 0xff, b'"']), 400, "malformed", ("(body)", "malformed")),
        bad("empty body", post(""), 400, "malformed", ("(body)", "malformed")),
        bad("text after the event", post(format!("{good} x")), 400, "malformed", ("(body)", "malformed")),
        bad("a broken line", typed("application/x-ndjson", lines), 400, "malformed", ("events[1]", "malformed")),
        bad("too many", post(json!(many).to_string()), 413, "too_many_events", ("", "")),
        bad("too large", post(vec![b' '; 8 * 1024 * 1024 + 1]), 413, "body_too_large", ("", "")),
        bad("form", typed("application/x-www-form-urlencoded", "a=b"), 415, "unsupported_media_type", ("", "")),
        bad("charset", typed("application/json; charset=euc-kr", "{}"), 415, "unsupported_media_type", ("", "")),
        bad("compressed", header("content-encoding", "gzip", &good), 415, "unsupported_media_type", ("", "")),
        bad("no key", keyed("x-nothing", "", &good), 401, "unauthorized", ("", "")),
        bad("wrong key", keyed("x-api-key", "publisher-secret-2", &good), 401, "unauthorized", ("", "")),
        bad("basic", keyed("authorization", "Basic cHVibGlzaGVy", &good), 401, "unauthorized", ("", "")),
        bad("reader's key", keyed("x-api-key", READER, &good), 403, "missing_scope", ("", "")),
        bad("misspelt dry_run", at("/v1/events?dryrun=true"), 400, "malformed", ("dryrun", "invalid")),
        bad("dry_run of no sense", at("/v1/events?dry_run=yes"), 400, "malformed", ("dry_run", "invalid")),
        bad("dry_run twice", at("/v1/events?dry_run=true&dry_run=false"), 400, "malformed", ("dry_run", "invalid")),
        bad("unknown path", at("/v2/events"), 404, "not_found", ("", "")),
        bad("unknown method", Request::put("/v1/events").body(Body::empty()).unwrap(), 405, "method_not_allowed", ("", "")),
        bad("idempotency key", header("idempotency-key", "", &good), 400, "malformed", ("Idempotency-Key", "invalid")),
        bad("no batch", typed("application/cloudevents-batch+json", "{}"), 400, "malformed", ("", "")),
        bad("no CloudEvent", typed("application/cloudevents+json", "{}"), 422, "invalid_event", ("source", "missing")),
        bad("CloudEvent of another version",
            typed("application/cloudevents+json", json!({ "specversion": "0.3", "id": "1", "source": "shop-1", "type": "t", "data": good }).to_string()),
            422, "invalid_event", ("specversion", "unknown_word")),
        bad("fault in a CloudEvent's data",
            typed("application/cloudevents-batch+json", json!([{ "specversion": "1.0", "id": "1", "source": "shop-1", "type": "t", "data": with("/class", json!("x")) }]).to_string()),
            422, "invalid_event", ("events[0].data.class", "unknown_word")),
        bad("foreign source",
            typed("application/cloudevents+json", json!({ "specversion": "1.0", "id": "1", "source": "/bank", "type": "t", "data": without("/sender") }).to_string()),
            403, "foreign_sender", ("source", "foreign_sender")),
        bad("binary without its attributes", header("ce-specversion", "1.0", &good), 422, "invalid_event", ("ce-id", "missing")),
    ]
}

async fn table(world: &World) {
    let before = world.publish(event("before").to_string()).await;
    assert_eq!(before.status, 202, "{}", before.text);
    let mut count = 0;
    for bad in event_faults().into_iter().chain(request_faults()) {
        let what = bad.what;
        let answer = world.ask(bad.request).await;
        let text = &answer.text;
        assert_eq!(answer.status.as_u16(), bad.status, "{what}: {text}");
        assert_eq!(
            answer.headers["content-type"], "application/problem+json",
            "{what}"
        );
        let json = answer.json();
        assert_eq!(json["code"], bad.code, "{what}: {text}");
        assert_eq!(json["status"], bad.status, "{what}");
        assert_eq!(json["type"], format!("/problems#{}", bad.code), "{what}");
        assert!(
            json["title"].is_string() && json["detail"].is_string(),
            "{what}"
        );
        let (field, code) = bad.error;
        let errors = json["errors"].as_array().cloned().unwrap_or_default();
        assert!(
            field.is_empty()
                || errors.iter().any(|e| e["field"] == field
                    && e["code"] == code
                    && e["message"].as_str().is_some_and(|m| !m.is_empty())),
            "{what}: {field} {code} is not in {text}"
        );
        count += 1;
    }
    assert!(count >= 60, "only {count} bad requests");
    let ids: Vec<_> = world
        .records()
        .await
        .iter()
        .map(|r| world.decode(r).id)
        .collect();
    assert_eq!(ids, ["before"], "something of a bad request was published");
}

#[tokio::test]
async fn bad_requests_are_refused_whole_on_the_local_log() {
    table(&World::local().await).await;
}

#[tokio::test]
async fn bad_requests_are_refused_whole_on_kafka() {
    table(&World::kafka("gateway-refusals").await).await;
}

#[tokio::test]
async fn every_fault_of_every_event_is_listed_at_once() {
    let world = World::local().await;
    let mut two = with("/class", json!("x"));
    two["purpose"] = json!("y");
    let body = json!([two, event("ok"), with("/plan/channels", json!(["fax"]))]);
    let answer = world.publish(body.to_string()).await;
    let json = answer.json();
    let fields: Vec<_> = json["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["field"])
        .collect();
    assert_eq!(
        fields,
        [
            "events[0].class",
            "events[0].purpose",
            "events[2].plan.channels[0]"
        ]
    );
    assert_eq!(world.records().await, []);
}

#[tokio::test]
async fn a_refusal_never_repeats_an_address_and_names_the_foreign_sender() {
    let world = World::local().await;
    let private = world
        .publish(address("http://10.1.2.3/secret-path").to_string())
        .await;
    assert!(!private.text.contains("secret-path"), "{}", private.text);
    let foreign = world
        .publish(with("/sender", json!("bank")).to_string())
        .await;
    assert!(
        foreign.text.contains("`bank`") && foreign.text.contains("`shop`"),
        "{}",
        foreign.text
    );
}

#[tokio::test]
async fn more_faults_than_anybody_reads_are_counted_and_not_listed() {
    let world = World::local().await;
    let lines = vec![json!({ "sender": "shop-1" }).to_string(); 1_000].join("\n");
    let answer = world.ask(typed("application/x-ndjson", lines)).await;
    assert_eq!(answer.json()["errors"].as_array().unwrap().len(), 1_000);
    assert_eq!(answer.json()["errors_total"], 3_000);
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_one() {
    let world = World::local().await;
    let answer = world
        .ask(Request::get("/v1/events").body(Body::empty()).unwrap())
        .await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.headers["allow"], "POST");
}

#[tokio::test]
async fn private_addresses_are_taken_where_an_operator_says_so() {
    let world = World::local_with(bongsu_gateway::Settings {
        allow_private: true,
        ..crate::world::settings()
    })
    .await;
    let answer = world
        .publish(address("http://127.0.0.1:7401/hook").to_string())
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let wildcard = keyed("x-api-key", EVERYTHING, &with("/sender", json!("anyone")));
    assert_eq!(world.ask(wildcard).await.status, 202);
}
