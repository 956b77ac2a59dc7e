//! Look-ups: what became of events and deliveries, for the senders of the caller's key only.

use std::future::Future;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use bongsu_domain::{DeliveryId, Timestamp};
use bongsu_store::{
    CountsQuery, Cursor, EventAnswer, EventQuery, LedgerReader, RecipientQuery, SenderScope,
    StoreError,
};
use http::{HeaderMap, StatusCode, Uri};
use tokio::time::timeout;

use crate::config::Scope;
use crate::events::json;
use crate::keys::Caller;
use crate::problem::{Problem, ProblemCode};
use crate::query::Query;
use crate::state::Gateway;

const DEFAULT_LIMIT: u32 = 100;
const MOST: u32 = bongsu_store::query::MAX_LIMIT;

impl Gateway {
    pub(crate) fn reader(
        &self,
        headers: &HeaderMap,
    ) -> Result<(Caller, &dyn LedgerReader), Problem> {
        let caller = self.inner.keys.recognise(headers)?;
        caller.require(Scope::Read)?;
        let store = self.inner.store.as_deref().ok_or_else(|| {
            Problem::new(
                ProblemCode::StoreUnavailable,
                "this gateway has no store; configure `store.url`",
            )
        })?;
        Ok((caller, store))
    }

    pub(crate) async fn ask<T>(
        &self,
        look_up: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Problem> {
        let answer = timeout(self.inner.settings.request_timeout.0, look_up).await;
        let reason = match answer {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(reason, "a look-up failed");
        Err(Problem::new(ProblemCode::StoreUnavailable, "the store does not answer").retry_after(1))
    }
}

type Id = Result<Path<String>, PathRejection>;

fn id_of(path: Id) -> Result<String, Problem> {
    path.map(|Path(id)| id)
        .map_err(|_| Problem::new(ProblemCode::Malformed, "the path must be UTF-8"))
}

pub(crate) fn limit_of(query: &mut Query) -> u32 {
    query
        .parsed("limit", "a number from 1 to 1000", |text| {
            text.parse().ok().filter(|n| (1..=MOST).contains(n))
        })
        .unwrap_or(DEFAULT_LIMIT)
}

fn not_found(what: &str) -> Problem {
    Problem::new(
        ProblemCode::NotFound,
        format!(
            "{what}, or none that the API key may see; what is published appears within seconds"
        ),
    )
}

/// `GET /v1/deliveries/{id}`.
pub(crate) async fn delivery(
    State(gateway): State<Gateway>,
    path: Id,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let (caller, store) = gateway.reader(&headers)?;
    Query::read(&uri, &[]).finish()?;
    let id = DeliveryId::parse(&id_of(path)?)
        .ok_or_else(|| Problem::new(ProblemCode::Malformed, "a delivery id is a UUID"))?;
    let scope = caller.sender_scope();
    let found = gateway.ask(store.delivery(id, &scope)).await?;
    found.map_or_else(
        || Err(not_found("there is no such delivery")),
        |view| Ok(json(StatusCode::OK, &view)),
    )
}

/// `GET /v1/events/{id}?sender=&limit=&after=`.
pub(crate) async fn event(
    State(gateway): State<Gateway>,
    path: Id,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let (caller, store) = gateway.reader(&headers)?;
    let mut query = Query::read(&uri, &["sender", "limit", "after"]);
    let limit = limit_of(&mut query);
    let after = query.parsed(
        "after",
        "the `next_after` of the answer before",
        DeliveryId::parse,
    );
    let sender = query.take("sender");
    query.finish()?;
    let asked = EventQuery {
        event_id: id_of(path)?,
        sender,
        scope: caller.sender_scope(),
        limit,
        after,
    };
    match gateway.ask(store.event(&asked)).await? {
        EventAnswer::Unknown => Err(not_found("there is no such event")),
        EventAnswer::Found(view) => Ok(json(StatusCode::OK, &view)),
        EventAnswer::Ambiguous(senders) => Err(Problem::new(
            ProblemCode::Ambiguous,
            format!(
                "an event id is unique per sender only; add ?sender= with one of {}",
                senders.join(", ")
            ),
        )),
    }
}

/// `GET /v1/recipients/{id}/deliveries?limit=&before=`.
pub(crate) async fn recipient_deliveries(
    State(gateway): State<Gateway>,
    path: Id,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let (caller, store) = gateway.reader(&headers)?;
    let mut query = Query::read(&uri, &["limit", "before"]);
    let limit = limit_of(&mut query);
    let before = query.parsed("before", "the `next` of the answer before", Cursor::parse);
    query.finish()?;
    let asked = RecipientQuery {
        recipient: id_of(path)?,
        scope: caller.sender_scope(),
        limit,
        before,
    };
    let page = gateway.ask(store.recipient_deliveries(&asked)).await?;
    let body = serde_json::json!({
        "deliveries": page.deliveries,
        "next": page.next.map(|cursor| cursor.to_string()),
    });
    Ok(json(StatusCode::OK, &body))
}

/// `GET /v1/statistics?from=&to=&bucket_minutes=`.
pub(crate) async fn statistics(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let (caller, store) = gateway.reader(&headers)?;
    if caller.sender_scope() != SenderScope::All {
        // Counts are not kept per sender, so a key of some senders would see all others' numbers.
        return Err(Problem::new(
            ProblemCode::MissingScope,
            format!(
                "statistics count every sender together; the API key `{}` sees only some, \
                 use one with senders = [\"*\"]",
                caller.key_id
            ),
        ));
    }
    let mut query = Query::read(&uri, &["from", "to", "bucket_minutes"]);
    let time = "an RFC 3339 time such as 2026-11-24T09:00:00Z, or milliseconds since 1970";
    let to = query.parsed("to", time, moment);
    let from = query.parsed("from", time, moment);
    let bucket = query.parsed("bucket_minutes", "a number from 1 to 1440", |text| {
        text.parse().ok().filter(|n| (1..=1_440).contains(n))
    });
    let to = to.unwrap_or_else(|| Timestamp(gateway.inner.clock.now_millis()).plus_millis(60_000));
    let from = from.unwrap_or_else(|| to.plus_millis(-3_600_000));
    let bucket_minutes = bucket.unwrap_or(1);
    check_span(&mut query, from, to, bucket_minutes);
    query.finish()?;
    let asked = CountsQuery {
        bucket_minutes,
        ..CountsQuery::between(from, to)
    };
    let rows = gateway.ask(store.counts(&asked)).await?;
    let body = serde_json::json!({ "from": from, "to": to, "counts": rows });
    Ok(json(StatusCode::OK, &body))
}

/// Most spans of time one answer holds: a week by minute.
const MOST_SPANS: i64 = 7 * 1_440;

fn check_span(query: &mut Query, from: Timestamp, to: Timestamp, bucket_minutes: u32) {
    if from >= to {
        query.fault("from", "must be before `to`");
    } else if to.millis_since(from) / 60_000 / i64::from(bucket_minutes.max(1)) > MOST_SPANS {
        query.fault(
            "bucket_minutes",
            "gives more than 10080 spans of time; ask for longer ones, or for less time",
        );
    }
}

fn moment(text: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(text).or_else(|| text.parse().ok().map(Timestamp))
}
