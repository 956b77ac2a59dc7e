//! `GET|PUT|DELETE /v1/suppressions`: what is not sent to. Reading is from the store, which follows
//! the topic by a second; writing is acknowledged by Kafka, and dispatch follows at once.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bongsu_domain::{AddressKey, Channel, Hold, Reason, Suppression, Timestamp, limits};
use bongsu_schemas::AuditEntry;
use bongsu_schemas::suppression::SuppressionChange;
use bongsu_store::{SenderScope, SuppressionQuery};
use bongsu_suppressions::admin;
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::config::Scope;
use crate::events::json;
use crate::keys::Caller;
use crate::problem::{Problem, ProblemCode};
use crate::query::Query;
use crate::reads::limit_of;
use crate::state::Gateway;

type Address = Result<Path<(String, String, String)>, PathRejection>;

/// What a suppression looks like to who asks.
#[derive(Serialize)]
struct View<'a> {
    channel: &'a str,
    account: &'a str,
    address_id: &'a str,
    app: Option<&'a str>,
    hold: &'a str,
    reason: &'a str,
    at: Timestamp,
    registered_at: Option<Timestamp>,
    verdicts: u32,
    by: &'a str,
    why: Option<&'a str>,
}

impl<'a> View<'a> {
    fn of(s: &'a Suppression) -> Self {
        Self {
            channel: s.channel.as_str(),
            account: &s.account,
            address_id: &s.address_id,
            app: s.app.as_deref(),
            hold: s.hold.as_str(),
            reason: s.reason.as_str(),
            at: s.at,
            registered_at: s.registered_at,
            verdicts: s.verdicts,
            by: &s.by,
            why: s.why.as_deref(),
        }
    }
}

/// What may be said with a suppression.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// Why, for those who come after.
    why: String,
}

impl Gateway {
    /// An address belongs to no sender, so a key of some senders may not ask for it.
    fn everybody(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
        let caller = self.inner.keys.recognise(headers)?;
        caller.require(scope)?;
        if caller.sender_scope() == SenderScope::All {
            return Ok(caller);
        }
        Err(Problem::new(
            ProblemCode::MissingScope,
            format!(
                "an address belongs to no sender; the API key `{}` speaks for some only, use one \
                 with senders = [\"*\"]",
                caller.key_id
            ),
        ))
    }

    async fn change(
        &self,
        caller: &Caller,
        act: &str,
        address: (Channel, &str, &str),
        why: &str,
        change: SuppressionChange,
    ) -> Result<(), Problem> {
        let (channel, account, id) = address;
        let audit = AuditEntry {
            actor: format!("key/{}", caller.key_id),
            at: Timestamp(self.inner.clock.now_millis()).into(),
            act: act.to_owned(),
            scope: format!("address/{channel}/{account}/{id}"),
            why: why.to_owned(),
            ..AuditEntry::default()
        };
        let changes = [change];
        let inner = &self.inner;
        let written = async {
            // Not at the start: a gateway where nobody suppresses needs no such topics.
            let writer = inner.suppressions.get_or_try_init(|| {
                let producer = Arc::clone(&inner.producer);
                admin::Writer::new(inner.cluster.as_ref(), &inner.topics, producer)
            });
            let writer = writer.await?;
            writer.write(&inner.codec, &changes, &audit).await
        };
        let reason = match timeout(inner.settings.request_timeout.0, written).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(reason, "a suppression was not written");
        let told = "Kafka did not acknowledge it; send it again";
        Err(Problem::new(ProblemCode::NotAcknowledged, told).retry_after(1))
    }
}

fn address_of(address: Address) -> Result<(Channel, String, String), Problem> {
    let malformed = |why: &str| Problem::new(ProblemCode::Malformed, why);
    let Ok(Path((channel, account, id))) = address else {
        return Err(malformed("the path must be UTF-8"));
    };
    let channel = Channel::parse(&channel).map_err(|e| malformed(&e.to_string()))?;
    if account.len() > limits::ID_BYTES || id.len() > limits::ID_BYTES {
        return Err(malformed("account and address id have at most 256 bytes"));
    }
    Ok((channel, account, id))
}

/// `GET /v1/suppressions?channel=&account=&address_id=&limit=&after=`.
pub(crate) async fn list(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    gateway.everybody(&headers, Scope::Read)?;
    let (_, store) = gateway.reader(&headers)?;
    let keys = ["channel", "account", "address_id", "limit", "after"];
    let mut query = Query::read(&uri, &keys);
    let limit = limit_of(&mut query);
    let asked = SuppressionQuery {
        channel: query.parsed("channel", "a channel's word", |t| Channel::parse(t).ok()),
        account: query.parsed("account", "an account", |t| Some(t.to_owned())),
        address_id: query.parsed("address_id", "an address's id", |t| Some(t.to_owned())),
        after: query.parsed(
            "after",
            "the `next` of the answer before",
            AddressKey::parse,
        ),
        limit,
    };
    query.finish()?;
    let found = gateway.ask(store.suppressions(&asked)).await?;
    let full = u32::try_from(found.len()).is_ok_and(|n| n == limit);
    let next = found.last().filter(|_| full).map(|s| s.key().to_string());
    let views: Vec<View<'_>> = found.iter().map(View::of).collect();
    let body = serde_json::json!({ "suppressions": views, "next": next });
    Ok(json(StatusCode::OK, &body))
}

/// `PUT /v1/suppressions/{channel}/{account}/{address_id}`.
pub(crate) async fn put(
    State(gateway): State<Gateway>,
    address: Address,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = gateway.everybody(&parts.headers, Scope::Suppress)?;
    let (channel, account, id) = address_of(address)?;
    let held = gateway.inner.bodies.read(&parts.headers, body).await?;
    let wish: Wish = serde_json::from_slice(&held.bytes).map_err(|error| {
        let told = format!("the body is {{\"why\": \"...\"}}: {error}");
        Problem::new(ProblemCode::Malformed, told)
    })?;
    drop(held);
    if wish.why.trim().is_empty() || wish.why.len() > limits::TITLE_BYTES {
        let told = "`why` says in at most 1024 bytes why nothing may be sent there";
        return Err(Problem::new(ProblemCode::Malformed, told));
    }
    let now = Timestamp(gateway.inner.clock.now_millis());
    let suppression = Suppression {
        channel,
        account,
        address_id: id,
        app: None,
        hold: Hold::Suppressed,
        reason: Reason::Withheld,
        at: now,
        registered_at: None,
        verdicts: 0,
        first_at: now,
        by: format!("key/{}", caller.key_id),
        why: Some(wish.why.clone()),
    };
    let place = (
        channel,
        suppression.account.as_str(),
        suppression.address_id.as_str(),
    );
    let change = SuppressionChange::Keep(Box::new(suppression.clone()));
    gateway
        .change(&caller, "suppress", place, &wish.why, change)
        .await?;
    Ok(json(StatusCode::OK, &View::of(&suppression)))
}

/// `DELETE /v1/suppressions/{channel}/{account}/{address_id}`. One that is not there is no error.
pub(crate) async fn delete(
    State(gateway): State<Gateway>,
    address: Address,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = gateway.everybody(&headers, Scope::Suppress)?;
    let (channel, account, id) = address_of(address)?;
    let key = AddressKey::new(channel, &account, &id);
    let place = (channel, account.as_str(), id.as_str());
    gateway
        .change(
            &caller,
            "unsuppress",
            place,
            "",
            SuppressionChange::Forget(key),
        )
        .await?;
    let body = serde_json::json!({ "key": key.to_string() });
    Ok(json(StatusCode::OK, &body))
}
