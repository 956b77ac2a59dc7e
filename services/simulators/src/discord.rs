//! Discord's twin: `POST /api/v10/webhooks/{id}/{token}` with its limits, errors and ban page.
//!
//! A Discord execution carries no ids, so the report knows an event by a marker in its text
//! (`[#<event id> <sender> <number>]`, the last two optional) or else by a hash of its text, and an
//! address by `/webhooks/{id}`: tokens are secrets and are not recorded. An execution of several
//! embeds with markers of their own is recorded once for each.
//!
//! Scripted answers, tokens and limits are its plan, read and replaced at `/_sim/plan`.

mod execution;
mod limits;
mod plan;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use plan::{Plan, Scripted};
use serde_json::{Value, json};

use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::{Answer, Question, Twin, header, plain, with};
use crate::webhook::whole_seconds;
use execution::Execution;
pub(crate) use execution::marker;
pub use limits::{Limits, Quota, State, Verdict};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const RESET_AFTER: HeaderName = HeaderName::from_static("x-ratelimit-reset-after");
const BUCKET: HeaderName = HeaderName::from_static("x-ratelimit-bucket");
const SCOPE: HeaderName = HeaderName::from_static("x-ratelimit-scope");
const GLOBAL: HeaderName = HeaderName::from_static("x-ratelimit-global");
const VIA: HeaderName = HeaderName::from_static("via");

/// What Cloudflare shows to a banned address: no JSON, no `Via`.
const BAN_PAGE: &str = "<!doctype html><title>Access denied</title><h1>Error 1015</h1>\
                        <p>You are being rate limited</p>";

/// Where the plan is.
const PLAN_PATH: &str = "/_sim/plan";

/// The twin.
pub(crate) struct Discord {
    limits: Option<Limits>,
    state: Mutex<State>,
    plan: RwLock<Arc<Plan>>,
}

/// What an execution meets before its form is looked at.
enum Door<'a> {
    /// The webhook, which takes it.
    Open,
    /// A webhook that does not exist, or another token of one that does.
    Shut(StatusCode, i64, &'static str),
    /// What the plan says.
    Scripted(&'a Scripted),
}

impl Door<'_> {
    /// Whether the answer counts towards a ban. [R: discord-api-docs, 2026-08: 401, 403 and 429 whose
    /// scope is not `shared`; 404 is counted to be strict]
    fn is_strike(&self) -> bool {
        match self {
            Self::Open => false,
            Self::Shut(..) => true,
            Self::Scripted(scripted) => {
                let shared = scripted
                    .headers
                    .iter()
                    .any(|(name, scope)| name == SCOPE.as_str() && scope == "shared");
                matches!(scripted.status, 401 | 403 | 404) || (scripted.status == 429 && !shared)
            }
        }
    }
}

impl Discord {
    pub(crate) fn new(limits: Option<Limits>) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            plan: RwLock::default(),
        }
    }

    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn limits(&self) -> Option<Limits> {
        let planned = self.plan().limits;
        planned.map(plan::PlannedLimits::limits).or(self.limits)
    }

    fn door<'a>(plan: &'a Plan, question: &Question<'_>, id: &str, token: &str) -> Door<'a> {
        if let Some(scripted) = plan.answers.get(id) {
            return Door::Scripted(scripted);
        }
        if question.faults.deleted.iter().any(|deleted| deleted == id) {
            return Door::Shut(StatusCode::NOT_FOUND, 10_015, "Unknown Webhook");
        }
        if plan.tokens.get(id).is_some_and(|known| known != token) {
            return Door::Shut(StatusCode::UNAUTHORIZED, 50_027, "Invalid Webhook Token");
        }
        Door::Open
    }

    /// What the limits say; `strike` is whether the answer will be a bad one.
    fn decide(&self, question: &Question<'_>, id: &str, strike: bool) -> Verdict {
        let Some(limits) = &self.limits() else {
            return Verdict::Served {
                remaining: u64::MAX,
                reset_after_us: 0,
            };
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = match state.enter(limits, question.peer, question.now_us) {
            Ok(()) => state.webhook(limits, id, question.now_us),
            Err(verdict) => verdict,
        };
        let invalid = match verdict {
            Verdict::Limited(_) | Verdict::Global(_) => true,
            Verdict::Served { .. } => strike,
            Verdict::Banned(_) => false,
        };
        if invalid {
            state.invalid(limits, question.peer, question.now_us);
        }
        verdict
    }

    fn served(
        &self,
        question: &Question<'_>,
        id: &str,
        door: &Door<'_>,
        mut headers: HeaderMap,
    ) -> Answer {
        match door {
            Door::Open => {}
            Door::Shut(status, code, message) => {
                let body = json!({"message": message, "code": code});
                return json_answer(*status, headers, &body);
            }
            Door::Scripted(scripted) => return told(scripted, headers),
        }
        if header(question.parts, "content-type") != "application/json" {
            headers.remove(VIA);
            return with(StatusCode::UNSUPPORTED_MEDIA_TYPE, headers, "");
        }
        let Some(execution) = Execution::parse(question.body) else {
            let body = json!({"message": "The request body contains invalid JSON.", "code": 50109});
            return json_answer(StatusCode::BAD_REQUEST, headers, &body);
        };
        if let Some(refusal) = execution.refusal() {
            return json_answer(StatusCode::BAD_REQUEST, headers, &refusal);
        }
        let query = question.parts.uri.query().unwrap_or_default();
        let threaded = query.split('&').any(|pair| pair.starts_with("thread_id="));
        if self.plan().forums.iter().any(|forum| forum == id)
            && threaded == execution.names_thread()
        {
            // [R: discord-api-docs, 2026-08; which of the three codes is which M]
            let (code, message) = if threaded {
                (
                    220_002,
                    "Webhooks can't have both a thread_name and thread_id set",
                )
            } else {
                (
                    220_001,
                    "Webhooks posted to forum channels must have a thread_name or thread_id",
                )
            };
            let body = json!({"message": message, "code": code});
            return json_answer(StatusCode::BAD_REQUEST, headers, &body);
        }
        if query.split('&').any(|pair| pair == "wait=true") {
            let message = json!({
                "id": question.now_us.to_string(),
                "webhook_id": id,
                "type": 0,
                "content": execution.content.unwrap_or_default(),
            });
            return json_answer(StatusCode::OK, headers, &message);
        }
        with(StatusCode::NO_CONTENT, headers, "")
    }

    /// The announced limit, on every answer that Discord itself gives.
    fn announce(&self, remaining: u64, reset_after_us: u64, now_us: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(VIA, HeaderValue::from_static("1.1 google"));
        if let Some(limits) = &self.limits() {
            headers.insert(LIMIT, HeaderValue::from(limits.webhook.requests));
            headers.insert(REMAINING, HeaderValue::from(remaining));
            headers.insert(BUCKET, HeaderValue::from_static("bongsu-twin-webhook"));
            for (name, micros) in [
                (RESET_AFTER, reset_after_us),
                (RESET, now_us + reset_after_us),
            ] {
                if let Ok(value) = HeaderValue::from_str(&seconds(micros)) {
                    headers.insert(name, value);
                }
            }
        }
        headers
    }

    fn limited(&self, wait: Duration, global: bool, now_us: u64) -> Answer {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let mut headers = self.announce(0, micros, now_us);
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        let scope = if global { "global" } else { "user" };
        headers.insert(SCOPE, HeaderValue::from_static(scope));
        if global {
            headers.insert(GLOBAL, HeaderValue::from_static("true"));
        }
        let body = json!({
            "message": "You are being rate limited.",
            // Milliseconds, rounded up: a client that waits exactly so long is let in.
            "retry_after": Duration::from_millis(micros.div_ceil(1_000)).as_secs_f64(),
            "global": global,
        });
        json_answer(StatusCode::TOO_MANY_REQUESTS, headers, &body)
    }
}

impl Twin for Discord {
    fn serves(&self, parts: &Parts) -> bool {
        parts.method == Method::POST && target(parts.uri.path()).is_some()
    }

    fn identify(&self, parts: &Parts, body: &[u8], record: &mut dyn FnMut(&Arrived<'_>)) {
        let execution = Execution::parse(body).unwrap_or_default();
        let (id, _) = target(parts.uri.path()).unwrap_or_default();
        let path = format!("/webhooks/{id}");
        let mut arrived = |event_id: &str, sender: &str, seq: Option<i64>| {
            record(&Arrived {
                delivery_id: "",
                event_id,
                sender,
                path: &path,
                seq,
                worker: header(parts, "bongsu-worker"),
                attempt: header(parts, "bongsu-attempt").parse().unwrap_or(0),
            });
        };
        let markers = execution.markers();
        if markers.is_empty() {
            arrived(&execution.content_id(), "", None);
        }
        // Those of a pack start together, and one by one when it failed: the order of packs is that of
        // their first.
        for (i, marker) in markers.into_iter().enumerate() {
            arrived(
                marker.event_id,
                marker.sender,
                marker.seq.filter(|_| i == 0),
            );
        }
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
        let plan = json!(&*self.plan());
        Some(json_answer(StatusCode::OK, HeaderMap::new(), &plan))
    }

    fn answer(&self, question: &Question<'_>, act: Act) -> Answer {
        let (id, token) = target(question.parts.uri.path()).unwrap_or_default();
        match act {
            Act::Fail(status) => {
                return plain(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY));
            }
            Act::Throttle(wait) => return self.limited(wait, false, question.now_us),
            // A reset or a silence never comes here.
            Act::Answer | Act::Reset | Act::Hang => {}
        }
        let plan = self.plan();
        let door = Self::door(&plan, question, id, token);
        match self.decide(question, id, door.is_strike()) {
            Verdict::Served {
                remaining,
                reset_after_us,
            } => {
                let headers = self.announce(remaining, reset_after_us, question.now_us);
                self.served(question, id, &door, headers)
            }
            Verdict::Limited(us) => self.limited(Duration::from_micros(us), false, question.now_us),
            Verdict::Global(us) => self.limited(Duration::from_micros(us), true, question.now_us),
            Verdict::Banned(us) => {
                let wait = whole_seconds(Duration::from_micros(us));
                let headers = HeaderMap::from_iter([
                    (CONTENT_TYPE, HeaderValue::from_static("text/html")),
                    (RETRY_AFTER, HeaderValue::from(wait)),
                ]);
                with(StatusCode::TOO_MANY_REQUESTS, headers, BAN_PAGE)
            }
        }
    }
}

/// A scripted answer: a page of what stands in front of Discord has no `Via` and announces nothing.
fn told(scripted: &Scripted, usual: HeaderMap) -> Answer {
    let status = StatusCode::from_u16(scripted.status).unwrap_or(StatusCode::NO_CONTENT);
    let page = scripted.body.as_str();
    let mut headers = if page.is_some() {
        HeaderMap::new()
    } else {
        usual
    };
    for (name, value) in &scripted.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    match (page, scripted.body.is_null()) {
        (Some(page), _) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
            with(status, headers, page.to_owned())
        }
        (None, true) => with(status, headers, ""),
        (None, false) => json_answer(status, headers, &scripted.body),
    }
}

/// Id and token of `/api[/v…]/webhooks/{id}/{token}`.
fn target(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/api/")?;
    let rest = match rest.strip_prefix("webhooks/") {
        Some(rest) => rest,
        None => rest.split_once('/')?.1.strip_prefix("webhooks/")?,
    };
    let (id, token) = rest.split_once('/')?;
    (!id.is_empty() && !token.is_empty() && !token.contains('/')).then_some((id, token))
}

/// Seconds with milliseconds, as Discord writes them.
fn seconds(micros: u64) -> String {
    let millis = micros.div_ceil(1_000);
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}

fn json_answer(status: StatusCode, mut headers: HeaderMap, body: &Value) -> Answer {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    with(status, headers, body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_webhook_executions_are_served() {
        assert_eq!(target("/api/v10/webhooks/1/t"), Some(("1", "t")));
        assert_eq!(target("/api/webhooks/1/t"), Some(("1", "t")));
        for path in [
            "/api/v10/webhooks/1",
            "/api/v10/webhooks/1/t/slack",
            "/api/v10/users/1/t",
            "/",
        ] {
            assert_eq!(target(path), None, "{path}");
        }
        assert_eq!(seconds(1_335_001), "1.336");
    }
}
