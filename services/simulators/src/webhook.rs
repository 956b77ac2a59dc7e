//! The twin of a webhook receiver: `POST /hook/<anything>`, where path and query are the address.

use std::borrow::Cow;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::{Answer, Question, Twin, header, plain, with};

/// Takes everything.
pub(crate) struct Webhook;

/// What of a body is read. Everything may be absent: a raw override can have any form.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Body<'a> {
    #[serde(borrow)]
    data: Data<'a>,
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
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        record(&Arrived {
            delivery_id: if read.data.delivery_id.is_empty() {
                id
            } else {
                &read.data.delivery_id
            },
            event_id: &read.data.event_id,
            sender: &read.data.sender,
            path,
            seq: read.data.data.seq.parse().ok(),
            worker: header(parts, "bongsu-worker"),
            attempt: header(parts, "bongsu-attempt").parse().unwrap_or(0),
        });
    }

    fn answer(&self, _question: &Question<'_>, act: Act) -> Answer {
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
            Act::Answer | Act::Reset | Act::Hang => plain(StatusCode::NO_CONTENT),
        }
    }
}

/// `Retry-After` knows whole seconds only; rounded up, so that it never asks for less.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
