//! From raw events to records ready to be produced, or every fault of all of them.
//!
//! Invariant: a request yields records only when nothing at all is wrong with it; nothing is
//! produced here.

use std::collections::HashMap;
use std::sync::Arc;

use bongsu_domain::{Channel, Class, Event, Faults, Timestamp, limits, partition_of};
use bongsu_runtime::Clock;
use bongsu_runtime::telemetry::is_traceparent;
use bongsu_schemas::{Codec, NotificationEvent, check_event, headers, parse_json_event};
use bongsu_stream::port::{Headers, Outgoing};
use bytes::Bytes;

use crate::findings::Findings;
use crate::ids::{self, Ids};
use crate::intake::{RawEvent, join};
use crate::keys::Caller;
use crate::problem::{FieldError, Problem, ProblemCode};
use crate::targets;

/// JSON text of one event beyond this is not even parsed: escapes and spelled-out nulls make text
/// longer than what it decodes to, but not eight times.
const TEXT_BYTES: usize = 8 * limits::EVENT_BYTES;
/// Events checked before other tasks of the thread get their turn.
const BEFORE_YIELD: usize = 32;

/// What of a request concerns all of its events.
#[derive(Debug, Clone)]
pub struct Origin<'a> {
    /// Whose key it came with.
    pub caller: &'a Caller,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<&'a str>,
    /// `traceparent` of the request, as it came.
    pub traceparent: Option<&'a str>,
}

/// An event that passed, as the record it becomes.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Given, derived or made.
    pub id: String,
    /// Who speaks.
    pub sender: String,
    /// Lane.
    pub class: Class,
    /// Deliveries fanout will make of it.
    pub deliveries: usize,
    /// Recipients without an address on a planned channel; fanout refuses them one by one.
    pub unreachable_recipients: usize,
    /// The last useful moment, when the publisher named one.
    pub expires_at: Option<Timestamp>,
    /// The record, partition included.
    pub record: Outgoing,
}

/// Where events go.
#[derive(Debug, Clone)]
pub struct EventTopics {
    /// Topic of transactional events.
    pub transactional: Arc<str>,
    /// Topic of bulk events.
    pub bulk: Arc<str>,
    /// Partitions of each.
    pub partitions: i32,
}

/// Checks events; built once.
pub struct Checker {
    codec: Arc<Codec>,
    clock: Clock,
    ids: Ids,
    topics: EventTopics,
    allow_private: bool,
}

/// What the check of one request carries along.
struct Run<'a> {
    origin: &'a Origin<'a>,
    now: Timestamp,
    findings: Findings,
}

/// An event without faults, in both forms.
struct Parsed {
    record: NotificationEvent,
    event: Event,
}

impl RawEvent<'_> {
    /// The name under which the publisher knows a field of the event: one that an envelope filled
    /// goes by the attribute's name.
    fn field(&self, field: &str) -> String {
        let attribute = match field {
            "id" => self.envelope.id.as_ref().map(|a| a.name),
            "sender" => self.envelope.sender.as_ref().map(|a| a.name),
            "occurred_at" => self.envelope.occurred_at.as_ref().map(|a| a.name),
            _ => None,
        };
        attribute.map_or_else(
            || join(&self.path, field),
            |name| join(&self.envelope_path, name),
        )
    }
}

impl Checker {
    /// `allow_private` lets targets lead into private networks.
    #[must_use]
    pub fn new(
        codec: Arc<Codec>,
        clock: Clock,
        ids: Ids,
        topics: EventTopics,
        allow_private: bool,
    ) -> Self {
        Self {
            codec,
            clock,
            ids,
            topics,
            allow_private,
        }
    }

    /// Checks all events of a request.
    ///
    /// # Errors
    /// [`ProblemCode::ForeignSender`] before [`ProblemCode::EventTooLarge`] before
    /// [`ProblemCode::InvalidEvent`], with the faults of every event.
    pub async fn check(
        &self,
        origin: &Origin<'_>,
        events: Vec<RawEvent<'_>>,
    ) -> Result<Vec<Ready>, Problem> {
        let mut run = Run {
            origin,
            now: Timestamp(self.clock.now_millis()),
            findings: Findings::default(),
        };
        let mut ready = Vec::with_capacity(events.len());
        let mut places: HashMap<(String, String), String> = HashMap::new();
        for mut raw in events {
            if raw.index % BEFORE_YIELD == BEFORE_YIELD - 1 {
                tokio::task::yield_now().await;
            }
            let Some(parsed) = self.read(&mut run, &mut raw) else {
                continue;
            };
            let place = (parsed.event.sender.clone(), parsed.event.id.clone());
            let field = raw.field("id");
            if let Some(earlier) = places.insert(place, field.clone()) {
                run.findings.add(FieldError::new(
                    field,
                    "contradiction",
                    format!("equals {earlier}, of the same sender; give each event its own"),
                ));
            }
            ready.extend(self.encode(&mut run, &raw, &parsed)?);
        }
        run.findings.into_problem().map_or(Ok(ready), Err)
    }

    /// Parses and checks one event; `None` when it has faults.
    fn read(&self, run: &mut Run<'_>, raw: &mut RawEvent<'_>) -> Option<Parsed> {
        let Run {
            origin,
            now,
            findings,
        } = run;
        let before = findings.total();
        if !raw.faults.is_empty() {
            raw.faults.drain(..).for_each(|fault| findings.add(fault));
            return None;
        }
        if raw.json.len() > TEXT_BYTES {
            findings.add_leading(ProblemCode::EventTooLarge, too_large(raw, raw.json.len()));
            return None;
        }
        let mut record = match parse_json_event(raw.json.as_bytes()) {
            Ok(record) => record,
            Err(faults) => {
                add_faults(findings, raw, faults);
                return None;
            }
        };
        fill_from_envelope(raw, &mut record);
        // Escapes may make a text longer than its event, so only the encoded size decides.
        if raw.json.len() > limits::EVENT_BYTES
            && let Ok(value) = self.codec.encode(&record)
            && value.len() > limits::EVENT_BYTES
        {
            findings.add_leading(ProblemCode::EventTooLarge, too_large(raw, value.len()));
            return None;
        }
        if record.id.is_empty() {
            record.id = self.make_id(origin, raw.index, *now);
        }
        for (field, value) in [
            ("schedule_id", &record.schedule_id),
            ("replay_id", &record.replay_id),
        ] {
            // They exempt an event from deduplication, so they are not a publisher's to set.
            if value.is_some() {
                findings.add(FieldError::new(
                    raw.field(field),
                    "invalid",
                    "is set by Bongsu alone; leave it out",
                ));
            }
        }
        if !record.sender.is_empty() && !origin.caller.covers(&record.sender) {
            let fault = foreign(raw, origin.caller, &record.sender);
            findings.add_leading(ProblemCode::ForeignSender, fault);
        }
        self.check_targets(raw, &record, findings);
        match check_event(&record, *now) {
            Ok(event) if findings.total() == before => Some(Parsed { record, event }),
            Ok(_) => None,
            Err(faults) => {
                add_faults(findings, raw, faults);
                None
            }
        }
    }

    fn make_id(&self, origin: &Origin<'_>, index: usize, now: Timestamp) -> String {
        let id = origin.idempotency_key.map_or_else(
            || self.ids.fresh(now.0),
            |key| ids::derived(&origin.caller.key_id, key, index),
        );
        id.to_string()
    }

    fn check_targets(
        &self,
        raw: &RawEvent<'_>,
        record: &NotificationEvent,
        findings: &mut Findings,
    ) {
        for (i, recipient) in record.target.recipients.iter().enumerate() {
            for (j, address) in recipient.addresses.iter().enumerate() {
                let Err(fault) = targets::check(address, self.allow_private) else {
                    continue;
                };
                let field = format!("target.recipients[{i}].addresses[{j}].address");
                findings.add(FieldError::new(
                    raw.field(&field),
                    fault.code,
                    fault.message,
                ));
            }
        }
    }

    fn encode(
        &self,
        run: &mut Run<'_>,
        raw: &RawEvent<'_>,
        parsed: &Parsed,
    ) -> Result<Option<Ready>, Problem> {
        let Parsed { record, event } = parsed;
        let value = self.codec.encode(record).map_err(|e| {
            tracing::error!(error = %e, "a checked event cannot be encoded");
            Problem::new(ProblemCode::Internal, "the event could not be encoded")
        })?;
        if value.len() > limits::EVENT_BYTES {
            run.findings
                .add_leading(ProblemCode::EventTooLarge, too_large(raw, value.len()));
            return Ok(None);
        }
        let sender = event.sender.clone();
        let topic = match event.class {
            Class::Transactional => &self.topics.transactional,
            Class::Bulk => &self.topics.bulk,
        };
        let (deliveries, unreachable_recipients) = reach(event);
        Ok(Some(Ready {
            id: event.id.clone(),
            class: event.class,
            deliveries,
            unreachable_recipients,
            expires_at: event.expires_at,
            record: Outgoing {
                topic: Arc::clone(topic),
                partition: partition_of(sender.as_bytes(), self.topics.partitions),
                key: Some(Bytes::from(sender.clone())),
                value: Some(value),
                headers: record_headers(run.origin, raw, &event.id),
            },
            sender,
        }))
    }
}

fn fill_from_envelope(raw: &mut RawEvent<'_>, record: &mut NotificationEvent) {
    // What `data` says itself wins, and is then named by its own path.
    if !record.id.is_empty() {
        raw.envelope.id = None;
    }
    if let Some(id) = &raw.envelope.id {
        record.id.clone_from(&id.value);
    }
    if !record.sender.is_empty() {
        raw.envelope.sender = None;
    }
    if let Some(sender) = &raw.envelope.sender {
        record.sender.clone_from(&sender.value);
    }
    if record.occurred_at.is_some() {
        raw.envelope.occurred_at = None;
    }
    if let Some(time) = &raw.envelope.occurred_at {
        record.occurred_at = Some(time.value);
    }
}

fn record_headers(origin: &Origin<'_>, raw: &RawEvent<'_>, id: &str) -> Headers {
    let headers = Headers::default()
        .with(headers::EVENT_ID, id.to_owned())
        .with(headers::CLIENT_ID, origin.caller.key_id.to_string());
    let trace = raw.envelope.traceparent.as_deref();
    match trace.or(origin.traceparent).filter(|t| is_traceparent(t)) {
        Some(trace) => headers.with(headers::TRACEPARENT, trace.to_owned()),
        None => headers,
    }
}

fn foreign(raw: &RawEvent<'_>, caller: &Caller, sender: &str) -> FieldError {
    let sender: String = sender.chars().take(64).collect();
    FieldError::new(
        raw.field("sender"),
        "foreign_sender",
        format!(
            "the API key `{}` may not speak for `{sender}`",
            caller.key_id
        ),
    )
}

fn too_large(raw: &RawEvent<'_>, bytes: usize) -> FieldError {
    FieldError::new(
        join(&raw.path, "(event)"),
        "event_too_large",
        format!(
            "has {bytes} bytes; at most {} are taken, name fewer recipients per event",
            limits::EVENT_BYTES
        ),
    )
}

fn add_faults(findings: &mut Findings, raw: &RawEvent<'_>, faults: Faults) {
    for fault in faults.0 {
        findings.add(FieldError::at(raw.field(&fault.field), fault));
    }
}

/// Deliveries an event becomes, and recipients it cannot reach.
fn reach(event: &Event) -> (usize, usize) {
    let counts = event.recipients.iter().map(|r| {
        let planned = |channel: &Channel| event.channels.contains(channel);
        r.addresses.iter().filter(|a| planned(&a.channel)).count()
    });
    counts.fold((0, 0), |(all, none), n| {
        (all + n, none + usize::from(n == 0))
    })
}
