//! The twin of a webhook receiver: `POST /hook/<anything>`, where path and query are the address.
//!
//! What it asks of a request (signature, credential, form) and scripted answers are its [`Plan`],
//! read and replaced at `/_sim/plan`; `/oauth2/token` gives tokens when the plan says so.

mod plan;
mod verify;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use plan::{Plan, Scripted};
use serde::Deserialize;
use serde_json::json;

use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::{Answer, Question, Twin, header, plain, with};

/// Takes what its plan lets pass.
#[derive(Default)]
pub(crate) struct Webhook {
    plan: RwLock<Arc<Plan>>,
    tokens: Mutex<Tokens>,
}

/// Tokens given, with the microsecond they end.
#[derive(Default)]
struct Tokens {
    given: u64,
    refused: u64,
    alive: HashMap<String, u64>,
}

/// Where tokens are fetched.
const TOKEN_PATH: &str = "/oauth2/token";
/// Where the plan is.
const PLAN_PATH: &str = "/_sim/plan";

/// What of a body is read. Everything may be absent: a raw override can have any form.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Body<'a> {
    #[serde(borrow)]
    data: Data<'a>,
    /// Of the binary form of `CloudEvents`, whose body is the data alone, and of raw overrides.
    #[serde(borrow)]
    delivery_id: Cow<'a, str>,
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    sender: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Data<'a> {
    #[serde(borrow)]
    delivery_id: Cow<'a, str>,
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    #[serde(borrow)]
    data: Inner<'a>,
    #[serde(borrow)]
    seq: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Inner<'a> {
    #[serde(borrow)]
    seq: Cow<'a, str>,
}

impl Twin for Webhook {
    fn serves(&self, parts: &Parts) -> bool {
        parts.method == Method::POST && parts.uri.path().starts_with("/hook")
    }

    fn identify(&self, parts: &Parts, body: &[u8], record: &mut dyn FnMut(&Arrived<'_>)) {
        let read: Body<'_> = serde_json::from_slice(body).unwrap_or_default();
        let id = header(parts, "webhook-id");
        let inner = &read.data;
        // In the binary form `data` is the notification's own, one level up.
        let or = |inner: &'_ Cow<'_, str>, outer: &'_ Cow<'_, str>| {
            if inner.is_empty() {
                outer.to_string()
            } else {
                inner.to_string()
            }
        };
        let delivery_id = or(&inner.delivery_id, &read.delivery_id);
        let seq = if inner.data.seq.is_empty() {
            &inner.seq
        } else {
            &inner.data.seq
        };
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        record(&Arrived {
            delivery_id: if delivery_id.is_empty() {
                id
            } else {
                &delivery_id
            },
            event_id: &or(&inner.event_id, &read.event_id),
            sender: &or(&inner.sender, &read.sender),
            path,
            seq: seq.parse().ok(),
            worker: header(parts, "bongsu-worker"),
            attempt: header(parts, "bongsu-attempt").parse().unwrap_or(0),
        });
    }

    fn aside(&self, parts: &Parts, now_us: u64) -> Option<Answer> {
        (parts.method == Method::POST && parts.uri.path() == TOKEN_PATH)
            .then(|| self.give_token(parts, now_us))
    }

    fn shows(&self) -> &'static [&'static str] {
        &[PLAN_PATH]
    }

    fn control(&self, parts: &Parts, body: &[u8]) -> Option<Answer> {
        if parts.uri.path() != PLAN_PATH {
            return None;
        }
        if parts.method == Method::PUT {
            let read = serde_json::from_slice::<Plan>(body).map_err(|e| e.to_string());
            match read.and_then(|plan| plan.validate().map(|()| plan)) {
                Ok(plan) => {
                    *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
                }
                Err(why) => return Some(with(StatusCode::BAD_REQUEST, HeaderMap::new(), why)),
            }
        }
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let told = json!({
            "plan": &*self.plan(),
            "tokens_given": tokens.given,
            "clients_refused": tokens.refused,
        });
        Some(json_answer(StatusCode::OK, &told))
    }

    fn answer(&self, question: &Question<'_>, act: Act) -> Answer {
        match act {
            Act::Fail(status) => {
                plain(StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE))
            }
            Act::Throttle(wait) if wait.is_zero() => plain(StatusCode::TOO_MANY_REQUESTS),
            Act::Throttle(wait) => with(
                StatusCode::TOO_MANY_REQUESTS,
                HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)))]),
                "",
            ),
            // A reset or a silence never comes here.
            Act::Answer | Act::Reset | Act::Hang => self.receive(question),
        }
    }
}

impl Webhook {
    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn receive(&self, question: &Question<'_>) -> Answer {
        let plan = self.plan();
        let token = plan.oauth.as_ref().is_some_and(|oauth| {
            !oauth.revoked && self.knows_token(question.parts, question.now_us)
        });
        let (parts, body) = (question.parts, question.body);
        if let Err((status, why)) = verify::check(&plan, parts, body, question.now_us, token) {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            return with(status, HeaderMap::new(), why);
        }
        match plan.answer_to(parts.uri.path()) {
            Some(scripted) => told(scripted),
            None => plain(StatusCode::NO_CONTENT),
        }
    }

    fn knows_token(&self, parts: &Parts, now_us: u64) -> bool {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        header(parts, "authorization")
            .strip_prefix("Bearer ")
            .and_then(|token| tokens.alive.get(token))
            .is_some_and(|end| now_us < *end)
    }

    /// Answers a client by its basic authentication; what the form asks for is not looked at.
    fn give_token(&self, parts: &Parts, now_us: u64) -> Answer {
        let plan = self.plan();
        let Some(oauth) = &plan.oauth else {
            return plain(StatusCode::NOT_FOUND);
        };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let known = format!("{}:{}", oauth.client_id, oauth.client_secret);
        if header(parts, "authorization") != format!("Basic {}", STANDARD.encode(known)) {
            tokens.refused += 1;
            return json_answer(
                StatusCode::UNAUTHORIZED,
                &json!({"error": "invalid_client"}),
            );
        }
        tokens.given += 1;
        let token = format!("token-{}-{now_us}", tokens.given);
        let end = now_us + oauth.expires_in * 1_000_000;
        tokens.alive.retain(|_, end| *end > now_us);
        tokens.alive.insert(token.clone(), end);
        let granted = json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": oauth.expires_in,
        });
        json_answer(StatusCode::OK, &granted)
    }
}

fn told(scripted: &Scripted) -> Answer {
    let headers = scripted.headers.iter().filter_map(|(name, value)| {
        Some((
            HeaderName::try_from(name).ok()?,
            HeaderValue::from_str(value).ok()?,
        ))
    });
    let status = StatusCode::from_u16(scripted.status).unwrap_or(StatusCode::NO_CONTENT);
    with(
        status,
        headers.collect(),
        Bytes::from(scripted.body.clone()),
    )
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Answer {
    let headers =
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    with(status, headers, body.to_string())
}

/// `Retry-After` knows whole seconds only; rounded up, so that it never asks for less.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
