//! The twin of an AlimTalk dealer: Bizgo's Communication API, its limits, its layered answers and
//! its reports.
//!
//! `POST /api/comm/v1/send/omni` is recorded, one entry per **recipient**, so that every count and
//! window of the report is in recipients; a recipient refused inside an HTTP 200 counts as answered
//! with an error. `GET` and `DELETE /api/comm/v1/report/polling` are answered unrecorded.
//!
//! | control request | answer |
//! |---|---|
//! | `GET`, `PUT /_sim/plan` | what the dealer does, see [`Plan`] |
//! | `GET /_sim/dealer` | its own counts, see [`Counts`] |

mod caller;
mod desk;
mod envelope;
mod plan;
mod reports;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bongsu_runtime::{Shutdown, Tasks};
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::{Answer, Question, Statuses, Twin, header, plain, with};
use crate::simulators::{Running, SimulatorError};
use crate::webhook::whole_seconds;
pub use desk::Counts;
use desk::{Answered, Desk};
use envelope::{Sending, identify};
pub use plan::{Plan, ReportMode, ReportPlan};

const SEND: &str = "/api/comm/v1/send/omni";
const POLLING: &str = "/api/comm/v1/report/polling";

/// The twin.
pub(crate) struct AlimTalk {
    desk: Mutex<Desk>,
    /// Told when a report was scheduled earlier than all others.
    scheduled: Notify,
}

impl AlimTalk {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            desk: Mutex::new(Desk::new(plan)),
            scheduled: Notify::new(),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_plan(&self, body: &[u8]) -> Answer {
        let read = serde_json::from_slice::<Plan>(body).map_err(|e| e.to_string());
        match read.and_then(|plan| plan.validate().map(|()| plan)) {
            Ok(plan) => {
                let answer = json_answer(StatusCode::OK, HeaderMap::new(), &json!(plan));
                self.desk().set_plan(plan);
                self.scheduled.notify_one();
                answer
            }
            Err(why) => with(StatusCode::BAD_REQUEST, HeaderMap::new(), why),
        }
    }
}

impl Twin for AlimTalk {
    fn serves(&self, parts: &Parts) -> bool {
        parts.method == Method::POST && parts.uri.path() == SEND
    }

    fn aside(&self, parts: &Parts, now_us: u64) -> Option<Answer> {
        let path = parts.uri.path();
        let key = header(parts, AUTHORIZATION.as_str());
        if !path.starts_with(POLLING) {
            return None;
        }
        let mut desk = self.desk();
        let Some(mine) = desk.opens(key) else {
            return Some(refused_key());
        };
        Some(match (&parts.method, path.strip_prefix(POLLING)) {
            (&Method::GET, Some("")) => {
                let found = desk.poll(mine, now_us);
                json_answer(StatusCode::OK, HeaderMap::new(), &found)
            }
            (&Method::DELETE, Some(rest)) => {
                let known = desk.acknowledge(rest.trim_start_matches('/'));
                let code = if known { "A000" } else { "A801" };
                json_answer(StatusCode::OK, HeaderMap::new(), &envelope::service(code))
            }
            _ => plain(StatusCode::NOT_FOUND),
        })
    }

    fn control(&self, parts: &Parts, body: &[u8]) -> Option<Answer> {
        let path = parts.uri.path();
        Some(match (&parts.method, path) {
            (&Method::GET, "/_sim/plan") => {
                json_answer(StatusCode::OK, HeaderMap::new(), &json!(self.desk().plan()))
            }
            (&Method::PUT, "/_sim/plan") => self.put_plan(body),
            (&Method::GET, "/_sim/dealer") => json_answer(
                StatusCode::OK,
                HeaderMap::new(),
                &json!(self.desk().counts()),
            ),
            _ => return None,
        })
    }

    fn start(self: Arc<Self>, tasks: &mut Tasks, shutdown: Shutdown) {
        tasks.spawn("alimtalk reports", caller::run(self, shutdown));
    }

    fn identify(&self, parts: &Parts, body: &[u8], record: &mut dyn FnMut(&Arrived<'_>)) {
        let worker = header(parts, "bongsu-worker");
        let attempt = header(parts, "bongsu-attempt").parse().unwrap_or(0);
        identify(
            &Sending::parse(body).unwrap_or_default(),
            worker,
            attempt,
            record,
        );
    }

    fn answer(&self, question: &Question<'_>, act: Act) -> Answer {
        match act {
            Act::Fail(status) => {
                return plain(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY));
            }
            Act::Throttle(wait) => return throttled(whole_seconds(wait), Vec::new()),
            // A reset or a silence never comes here.
            Act::Answer | Act::Reset | Act::Hang => {}
        }
        let key = header(question.parts, AUTHORIZATION.as_str());
        let mut desk = self.desk();
        if desk.opens(key).is_none() {
            return refused_key();
        }
        let Answered {
            status,
            body,
            statuses,
            scheduled,
        } = desk.send(Sending::parse(question.body), question.now_us);
        drop(desk);
        if scheduled {
            self.scheduled.notify_one();
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            return throttled(1, statuses);
        }
        let mut answer = json_answer(status, HeaderMap::new(), &body);
        answer.extensions_mut().insert(Statuses(statuses));
        answer
    }
}

/// A dealer of AlimTalk, asked in the same process.
impl Running {
    /// Replaces what the dealer does; false of every other twin.
    ///
    /// # Errors
    /// [`SimulatorError::Faults`].
    pub fn set_dealer(&self, plan: Plan) -> Result<bool, SimulatorError> {
        plan.validate().map_err(SimulatorError::Faults)?;
        let Some(dealer) = self.twin::<AlimTalk>() else {
            return Ok(false);
        };
        dealer.desk().set_plan(plan);
        dealer.scheduled.notify_one();
        Ok(true)
    }

    /// The dealer's own counts; none of every other twin.
    #[must_use]
    pub fn dealer(&self) -> Option<Counts> {
        Some(self.twin::<AlimTalk>()?.desk().counts())
    }
}

fn throttled(seconds: u64, statuses: Vec<u16>) -> Answer {
    let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from(seconds))]);
    let mut answer = json_answer(
        StatusCode::TOO_MANY_REQUESTS,
        headers,
        &envelope::gateway("A020"),
    );
    answer.extensions_mut().insert(Statuses(statuses));
    answer
}

fn refused_key() -> Answer {
    let body = envelope::gateway("A401");
    json_answer(StatusCode::UNAUTHORIZED, HeaderMap::new(), &body)
}

fn json_answer(status: StatusCode, mut headers: HeaderMap, body: &Value) -> Answer {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    with(status, headers, body.to_string())
}
