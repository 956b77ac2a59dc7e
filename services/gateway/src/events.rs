//! `POST /v1/events`.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bongsu_domain::{Class, limits};
use http::{HeaderMap, Request, StatusCode, header};
use serde::Serialize;

use crate::check::{Origin, Ready};
use crate::config::Scope;
use crate::intake::{Format, split};
use crate::keys::Caller;
use crate::problem::{FieldError, ItemState, Problem, ProblemCode};
use crate::query::Query;
use crate::state::Gateway;

/// What a publish came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Published {
    /// Kafka has acknowledged every event.
    Acknowledged {
        /// In the order of the request.
        events: Vec<ItemState>,
    },
    /// Nothing was published; this is what would have been.
    DryRun {
        /// Always true.
        dry_run: bool,
        /// In the order of the request.
        events: Vec<Plan>,
    },
}

/// What would become of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Given, derived from `Idempotency-Key`, or made for this answer alone.
    pub id: String,
    /// Who speaks.
    pub sender: String,
    /// Lane.
    pub class: Class,
    /// Topic it would go to.
    pub topic: String,
    /// Partition it would go to.
    pub partition: i32,
    /// Deliveries it would become.
    pub deliveries: usize,
    /// Recipients without an address on a planned channel; each would be refused.
    pub unreachable_recipients: usize,
}

impl From<Ready> for Plan {
    fn from(ready: Ready) -> Self {
        Self {
            topic: ready.record.topic.to_string(),
            partition: ready.record.partition,
            id: ready.id,
            sender: ready.sender,
            class: ready.class,
            deliveries: ready.deliveries,
            unreachable_recipients: ready.unreachable_recipients,
        }
    }
}

impl Gateway {
    /// Publishes a body on behalf of `caller`, as `POST /v1/events` does after it recognised the
    /// caller and read the body: nothing of it, or all of it acknowledged, or a problem that tells
    /// each event's state. For callers in the same process, simulations above all.
    ///
    /// `headers` may hold `Content-Type` (required), `Idempotency-Key`, `traceparent` and `ce-*`.
    ///
    /// # Errors
    /// The problem the HTTP client would have got.
    pub async fn publish(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        body: &[u8],
        dry_run: bool,
    ) -> Result<Published, Problem> {
        let inner = &self.inner;
        caller.require(Scope::Publish)?;
        let format = Format::of(headers)?;
        let origin = Origin {
            caller,
            idempotency_key: idempotency_key(headers)?,
            traceparent: headers.get("traceparent").and_then(|v| v.to_str().ok()),
        };
        let raw = split(format, headers, body, inner.settings.max_events.get())?;
        let ready = inner.checker.check(&origin, raw).await?;
        if dry_run {
            return Ok(Published::DryRun {
                dry_run,
                events: ready.into_iter().map(Plan::from).collect(),
            });
        }
        let bulk = ready.iter().filter(|r| r.class == Class::Bulk).count();
        let events = inner.publisher.publish(ready).await?;
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        inner.instruments.published(Class::Bulk, count(bulk));
        inner
            .instruments
            .published(Class::Transactional, count(events.len() - bulk));
        Ok(Published::Acknowledged { events })
    }
}

/// The handler.
pub(crate) async fn publish(
    State(gateway): State<Gateway>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    // In the order of what a refusal costs: the body is read only for a caller who may publish.
    let caller = gateway.inner.keys.recognise(&parts.headers)?;
    caller.require(Scope::Publish)?;
    Format::of(&parts.headers)?;
    let mut query = Query::read(&parts.uri, &["dry_run"]);
    let dry_run = query.parsed("dry_run", "true or false", |text| text.parse().ok());
    query.finish()?;
    let bodies = &gateway.inner.bodies;
    let held = bodies.read(&parts.headers, body).await?;
    gateway.record_held();
    let published = gateway
        .publish(&caller, &parts.headers, &held.bytes, dry_run == Some(true))
        .await;
    drop(held);
    gateway.record_held();
    published.map(IntoResponse::into_response)
}

impl IntoResponse for Published {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Acknowledged { .. } => StatusCode::ACCEPTED,
            Self::DryRun { .. } => StatusCode::OK,
        };
        json(status, &self)
    }
}

/// A JSON answer.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(e) => {
            tracing::error!(error = %e, "an answer cannot be written");
            Problem::new(ProblemCode::Internal, "the answer could not be written").into_response()
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let fault = |message: &str| {
        Problem::of_field(
            ProblemCode::Malformed,
            FieldError::new("Idempotency-Key", "invalid", message),
        )
    };
    if values.next().is_some() {
        return Err(fault("is given twice; give it once"));
    }
    match value.to_str().map(str::trim) {
        Ok(text) if !text.is_empty() && text.len() <= limits::ID_BYTES => Ok(Some(text)),
        Ok(_) | Err(_) => Err(fault("must be 1 to 256 visible ASCII characters")),
    }
}
