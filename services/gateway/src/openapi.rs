//! The API description and the pages for people, made once at the start.
//!
//! The event's schema comes from the `.avsc` file, so that the two cannot part.

mod html;
mod schema;

use bongsu_schemas::{AvroRecord, NotificationEvent};
use serde_json::{Value, json};

use crate::intake::Format;
use crate::problem::ProblemCode;

/// Texts served as they are.
pub(crate) struct Pages {
    pub(crate) openapi: String,
    pub(crate) docs: String,
    pub(crate) problems: String,
}

impl Pages {
    pub(crate) fn new() -> Self {
        let document = document();
        Self {
            docs: html::docs(&document),
            problems: html::problems(),
            openapi: document.to_string(),
        }
    }
}

/// The OpenAPI 3.1 document.
#[must_use]
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bongsu",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Publish notification events and see what became of them.",
        },
        "security": [{ "bearer": [] }, { "api_key": [] }],
        "paths": {
            "/v1/events": { "post": publish() },
            "/v1/events/{id}": { "get": event() },
            "/v1/deliveries/{id}": { "get": delivery() },
            "/v1/recipients/{id}/deliveries": { "get": recipient_deliveries() },
            "/v1/statistics": { "get": statistics() },
            "/v1/reports/{provider}/{account}": { "post": report() },
            "/v1/suppressions": { "get": suppressions() },
            "/v1/suppressions/{channel}/{account}/{address_id}": {
                "put": suppress(),
                "delete": change("Send to an address again", "Over.", &address()),
            },
            "/healthz": { "get": open("Whether the process lives", "Always while it answers.") },
            "/readyz": { "get": readyz() },
            "/metrics": { "get": open("Metrics", "Prometheus' text form.") },
            "/openapi.json": { "get": open("This document", "OpenAPI 3.1.") },
            "/": { "get": open("The readable form of this document", "HTML.") },
            "/docs": { "get": open("The readable form of this document", "HTML.") },
            "/problems": { "get": open("Every kind of problem", "HTML; `type` of a problem leads here.") },
        },
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "api_key": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
            },
            "schemas": schemas(),
        },
    })
}

fn schemas() -> Value {
    let mut schemas = schema::of_record(NotificationEvent::current().text);
    let codes: Vec<&str> = ProblemCode::ALL.iter().map(|c| c.as_str()).collect();
    let state = json!({
        "type": "object",
        "required": ["id", "sender", "state"],
        "properties": {
            "id": { "type": "string", "description": "Given, derived from Idempotency-Key, or made." },
            "sender": { "type": "string" },
            "state": { "enum": ["acknowledged", "unknown"] },
            "partition": { "type": "integer" },
            "offset": { "type": "integer" },
            "reason": { "type": "string", "description": "Why the state is unknown." },
        },
    });
    let plan = json!({
        "type": "object",
        "required": ["id", "sender", "class", "topic", "partition", "deliveries", "unreachable_recipients"],
        "properties": {
            "id": { "type": "string" },
            "sender": { "type": "string" },
            "class": { "type": "string" },
            "topic": { "type": "string" },
            "partition": { "type": "integer" },
            "deliveries": { "type": "integer" },
            "unreachable_recipients": { "type": "integer" },
        },
    });
    let problem = json!({
        "type": "object",
        "description": "RFC 9457.",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": { "type": "string", "description": "`/problems#<code>`." },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "code": { "enum": codes },
            "detail": { "type": "string" },
            "errors": {
                "type": "array",
                "description": "Every fault, up to 1,000.",
                "items": {
                    "type": "object",
                    "required": ["field", "code", "message"],
                    "properties": {
                        "field": { "type": "string", "description": "`events[17].target.recipients[0].id`" },
                        "code": { "type": "string" },
                        "message": { "type": "string" },
                    },
                },
            },
            "errors_total": { "type": "integer", "description": "How many there are, when more than listed." },
            "events": { "type": "array", "items": { "$ref": "#/components/schemas/ItemState" } },
        },
    });
    for (name, value) in [("ItemState", state), ("Plan", plan), ("Problem", problem)] {
        schemas.insert(name.to_owned(), value);
    }
    Value::Object(schemas)
}

fn publish() -> Value {
    let one = json!({ "$ref": "#/components/schemas/NotificationEvent" });
    let many = json!({ "type": "array", "items": one });
    let cloud = json!({
        "type": "object",
        "description": "A CloudEvent 1.0 whose `data` holds the event's fields. `id` fills a missing \
            event id, the extension `sender` or else `source` a missing sender, `time` a missing \
            occurred_at.",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": { "data": one },
    });
    let [json_type, lines, structured, batch] = Format::CONTENT_TYPES;
    json!({
        "summary": "Publish one or many events",
        "description": "All events are checked before the first is published: any fault refuses the \
            whole request and lists every fault. 202 is answered only after Kafka has acknowledged \
            all. On 503 `not_acknowledged` send the request again with the ids of the answer: \
            repeats within the deduplication window are recognised. An event without an id gets one \
            derived from the API key, `Idempotency-Key` and its position, or a fresh one. Events of \
            one sender are published in the order given.",
        "parameters": [
            query("dry_run", "boolean", "Check only and say what would happen; publishes nothing."),
            header("Idempotency-Key", "Makes a repeat of a request without event ids recognisable."),
            header("traceparent", "W3C trace context, passed on in the record's headers."),
        ],
        "requestBody": {
            "required": true,
            "description": "CloudEvents' binary mode is taken, too: `ce-*` headers and the event's \
                fields as the body.",
            "content": {
                json_type: { "schema": { "oneOf": [one, many] } },
                lines: { "schema": { "type": "string", "description": "One event per line." } },
                structured: { "schema": cloud },
                batch: { "schema": { "type": "array", "items": cloud } },
            },
        },
        "responses": {
            "202": answer("Kafka has acknowledged every event.", json!({
                "type": "object",
                "properties": { "events": list("ItemState") },
            })),
            "200": answer("What would happen, for `dry_run=true`.", json!({
                "type": "object",
                "properties": { "dry_run": { "const": true }, "events": list("Plan") },
            })),
            "default": problem(),
        },
    })
}

fn event() -> Value {
    look_up(
        "An event with its deliveries and their timelines",
        &[
            path("The event's id."),
            query(
                "sender",
                "string",
                "Whose event; without it the answer may be 409 `ambiguous`.",
            ),
            query(
                "limit",
                "integer",
                "At most so many deliveries, 1 to 1000; 100 by default.",
            ),
            query("after", "string", "`next_after` of the answer before."),
        ],
    )
}

fn delivery() -> Value {
    look_up(
        "A delivery with its timeline",
        &[path("The delivery's UUID.")],
    )
}

fn recipient_deliveries() -> Value {
    look_up(
        "A recipient's deliveries, newest first",
        &[
            path("The recipient's id."),
            query(
                "limit",
                "integer",
                "At most so many, 1 to 1000; 100 by default.",
            ),
            query("before", "string", "`next` of the answer before."),
        ],
    )
}

fn statistics() -> Value {
    look_up(
        "Deliveries by outcome over time, of all senders together; needs a key for `*`",
        &[
            query(
                "from",
                "string",
                "RFC 3339 or milliseconds; by default an hour before `to`.",
            ),
            query("to", "string", "RFC 3339 or milliseconds; by default now."),
            query(
                "bucket_minutes",
                "integer",
                "Minutes per row, 1 to 1440; 1 by default.",
            ),
        ],
    )
}

fn suppressions() -> Value {
    look_up(
        "What is not sent to, and what is suspected; needs a key for `*`",
        &[
            query("channel", "string", "Of this channel."),
            query("account", "string", "Of this account."),
            query("address_id", "string", "Of this address."),
            query(
                "limit",
                "integer",
                "At most so many, 1 to 1000; 100 by default.",
            ),
            query("after", "string", "The `next` of the answer before."),
        ],
    )
}

fn address() -> Vec<Value> {
    [
        ("channel", "The channel's word."),
        ("account", "The account that sends there."),
        (
            "address_id",
            "Stable id of the address, as receipts name it.",
        ),
    ]
    .map(|(name, what)| {
        json!({
            "name": name, "in": "path", "required": true, "description": what,
            "schema": { "type": "string" },
        })
    })
    .to_vec()
}

fn change(summary: &str, done: &str, parameters: &[Value]) -> Value {
    json!({
        "summary": summary,
        "description": "Needs the scope `suppress` and a key for `*`. Acknowledged by Kafka.",
        "parameters": parameters,
        "responses": {
            "200": answer(done, json!({ "type": "object" })),
            "default": problem(),
        },
    })
}

fn suppress() -> Value {
    let mut operation = change("Send nothing to an address any more", "Held.", &address());
    if let Some(operation) = operation.as_object_mut() {
        let body = json!({
            "required": true,
            "content": { "application/json": { "schema": {
                "type": "object",
                "required": ["why"],
                "properties": { "why": { "type": "string" } },
            } } },
        });
        operation.insert("requestBody".to_owned(), body);
    }
    operation
}

fn readyz() -> Value {
    let mut operation = open(
        "Whether events can be taken",
        "Ready. `degraded` names what fails beside: the store, pollers of reports, other services.",
    );
    if let Some(responses) = operation
        .get_mut("responses")
        .and_then(Value::as_object_mut)
    {
        let unready = json!({ "description": "Not ready; `unready` names what and why." });
        responses.insert("503".to_owned(), unready);
    }
    operation
}

fn report() -> Value {
    let named = |name: &str, what: &str| {
        json!({
            "name": name, "in": "path", "required": true, "description": what,
            "schema": { "type": "string" },
        })
    };
    json!({
        "summary": "Take a provider's report",
        "description": "For providers: the URL of their delivery reports. A callback must be signed \
            as the provider signs, come from an address of the account's reports.allow_from when \
            that is set, and is acknowledged in the provider's own form once Kafka has it. Told \
            twice, a report is kept once.",
        "security": [],
        "parameters": [
            named("provider", "`bizgo` or `nhn`."),
            named("account", "The account's name in the settings."),
        ],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": { "type": "object" } } },
        },
        "responses": {
            "200": answer("Kept.", json!({ "type": "object" })),
            "default": problem(),
        },
    })
}

fn look_up(summary: &str, parameters: &[Value]) -> Value {
    json!({
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": answer("Found.", json!({ "type": "object" })),
            "default": problem(),
        },
    })
}

fn open(summary: &str, what: &str) -> Value {
    json!({
        "summary": summary,
        "security": [],
        "responses": { "200": { "description": what } },
    })
}

fn path(what: &str) -> Value {
    json!({
        "name": "id", "in": "path", "required": true, "description": what,
        "schema": { "type": "string" },
    })
}

fn query(name: &str, form: &str, what: &str) -> Value {
    json!({ "name": name, "in": "query", "description": what, "schema": { "type": form } })
}

fn header(name: &str, what: &str) -> Value {
    json!({ "name": name, "in": "header", "description": what, "schema": { "type": "string" } })
}

fn list(name: &str) -> Value {
    json!({ "type": "array", "items": { "$ref": format!("#/components/schemas/{name}") } })
}

fn answer(what: &str, schema: Value) -> Value {
    let mut media = json!({ "schema": null });
    if let Some(slot) = media.get_mut("schema") {
        *slot = schema;
    }
    json!({ "description": what, "content": { "application/json": media } })
}

fn problem() -> Value {
    json!({
        "description": "A problem; see /problems.",
        "content": {
            "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } },
        },
    })
}
