//! The twin of a push service: `POST /push/{id}`, strict in what RFC 8030, 8188, 8291 and 8292 ask.
//!
//! Every id is a subscription with keys of its own, made from the id alone, so a rehearsal may use as
//! many as it likes; `GET /_sim/webpush/subscription?id=…` gives one as a browser would. A push is
//! decrypted as the browser does, and what it says is recorded. A subscription belongs to the
//! application server key that pushed to it first.

mod keys;
mod request;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::{Answer, Question, Twin, header, with};
use crate::webhook::whole_seconds;
pub use keys::Keys;
use request::{Fault, Request};

/// The twin.
#[derive(Default)]
pub(crate) struct WebPush {
    /// Which key each subscription belongs to.
    owners: Mutex<HashMap<String, String>>,
}

/// What of a decrypted text is read.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Text {
    delivery_id: String,
    event_id: String,
    sender: String,
    data: Inner,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Inner {
    seq: String,
}

/// The subscription `id` of the twin at `base`, as a browser writes it.
#[must_use]
pub fn subscription(base: &str, id: &str) -> String {
    let keys = Keys::of(id);
    json!({
        "endpoint": format!("{base}/push/{id}"),
        "expirationTime": null,
        "keys": {"p256dh": keys.p256dh(), "auth": keys.auth()},
    })
    .to_string()
}

impl WebPush {
    /// What the service finds wrong with a push.
    fn judge(&self, question: &Question<'_>) -> Result<(), Fault> {
        let request = Request::read(question.parts, question.body, question.now_us / 1_000_000)?;
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = owners
            .entry(request.id.to_owned())
            .or_insert_with(|| request.key.clone());
        if *owner != request.key {
            return Err(Fault::OTHERS_KEY);
        }
        let text = Keys::of(request.id).decrypt(question.body);
        text.map(drop).ok_or(Fault::CANNOT_DECRYPT)
    }
}

impl Twin for WebPush {
    fn serves(&self, parts: &Parts) -> bool {
        parts.method == Method::POST && id_of(parts).is_some()
    }

    fn control(&self, parts: &Parts, _body: &[u8]) -> Option<Answer> {
        if parts.uri.path() != "/_sim/webpush/subscription" {
            return None;
        }
        let query = parts.uri.query().unwrap_or_default();
        let id = query.strip_prefix("id=").unwrap_or("1");
        let base = format!("http://{}", header(parts, "host"));
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON)]);
        Some(with(StatusCode::OK, headers, subscription(&base, id)))
    }

    fn identify(&self, parts: &Parts, body: &[u8], record: &mut dyn FnMut(&Arrived<'_>)) {
        let id = id_of(parts).unwrap_or_default();
        let text = Keys::of(id).decrypt(body).unwrap_or_default();
        let text: Text = serde_json::from_slice(&text).unwrap_or_default();
        record(&Arrived {
            delivery_id: &text.delivery_id,
            event_id: &text.event_id,
            sender: &text.sender,
            path: parts.uri.path(),
            seq: text.data.seq.parse().ok(),
            worker: header(parts, "bongsu-worker"),
            attempt: header(parts, "bongsu-attempt").parse().unwrap_or(0),
        });
    }

    fn answer(&self, question: &Question<'_>, act: Act) -> Answer {
        match act {
            Act::Fail(status) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                return refused(status, &Fault::scripted(status.as_u16()), None);
            }
            Act::Throttle(wait) => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                return refused(status, &Fault::TOO_MANY, Some(wait));
            }
            // A reset or a silence never comes here.
            Act::Answer | Act::Reset | Act::Hang => {}
        }
        let id = id_of(question.parts).unwrap_or_default();
        if question.faults.deleted.iter().any(|deleted| deleted == id) {
            return refused(StatusCode::GONE, &Fault::GONE, None);
        }
        if let Err(fault) = self.judge(question) {
            let status = StatusCode::from_u16(fault.code).unwrap_or(StatusCode::BAD_REQUEST);
            return refused(status, &fault, None);
        }
        let mut headers = HeaderMap::new();
        let message = format!("/message/{}", question.now_us);
        if let Ok(location) = HeaderValue::try_from(message) {
            headers.insert(LOCATION, location);
        }
        if let Some(ttl) = question.parts.headers.get("ttl") {
            headers.insert("ttl", ttl.clone());
        }
        with(StatusCode::CREATED, headers, "")
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `/push/{id}`.
fn id_of(parts: &Parts) -> Option<&str> {
    let id = parts.uri.path().strip_prefix("/push/")?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

/// A refusal in the form that Mozilla's service has.
fn refused(status: StatusCode, fault: &Fault, wait: Option<Duration>) -> Answer {
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON)]);
    if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    let mut body = json!({
        "code": status.as_u16(),
        "error": status.canonical_reason().unwrap_or("Error"),
        "message": fault.message,
    });
    if let (Some(errno), Value::Object(body)) = (fault.errno, &mut body) {
        body.insert("errno".to_owned(), errno.into());
    }
    with(status, headers, body.to_string())
}
