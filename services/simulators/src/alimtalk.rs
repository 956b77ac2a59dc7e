//! The twin of the AlimTalk dealers: Bizgo's Communication API, NHN Cloud's, and Infobank's older
//! OMNI and BizPlus, on one port; their limits, answers and reports.
//!
//! Sendings are recorded, one entry per **recipient**, so that every count and window of the report is
//! in recipients; a recipient refused inside an HTTP 200 counts as answered with an error. Tokens,
//! polls and lists are answered unrecorded.
//!
//! | control request | answer |
//! |---|---|
//! | `GET`, `PUT /_sim/plan` | what the dealer does, see [`Plan`] |
//! | `GET /_sim/dealer` | its own counts, see [`Counts`] |

mod caller;
mod desk;
mod envelope;
mod forms;
mod plan;
mod reports;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bongsu_runtime::{Shutdown, Tasks};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
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
use desk::{Answered, Desk, Query};
use envelope::identify;
use forms::{Asked, Form, Said, asked, credential, sending};
pub use plan::{Plan, ReportMode, ReportPlan};

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
        matches!(asked(parts), Some(Asked::Send(_)))
    }

    fn aside(&self, parts: &Parts, now_us: u64) -> Option<Answer> {
        let ok = |body: &Value| json_answer(StatusCode::OK, HeaderMap::new(), body);
        let mut desk = self.desk();
        let asked = asked(parts)?;
        if let Asked::Token(form) = asked {
            let id = header(parts, "x-ib-client-id");
            let password = header(parts, "x-ib-client-passwd");
            let Some(token) = desk.token(id, password, now_us) else {
                return Some(refused_key(form));
            };
            return Some(ok(&match form {
                Form::Bizplus => json!({"accessToken": token, "schema": "Bearer"}),
                Form::Omni | Form::Bizgo | Form::Nhn => json!({
                    "code": "A000", "result": "Success",
                    "data": {"token": token, "schema": "Bearer", "expired": ""},
                }),
            }));
        }
        let form = match &asked {
            Asked::Send(_) | Asked::Token(_) => return None,
            Asked::Batch(form) | Asked::Confirm(form, _) => *form,
            Asked::Results | Asked::Templates => Form::Nhn,
        };
        let Some(mine) = desk.opens(form, credential(form, parts), now_us) else {
            return Some(refused_key(form));
        };
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let service = |code: &str, data: &Value| match form {
            Form::Omni => json!({"code": code, "result": "", "data": data}),
            Form::Bizgo | Form::Nhn | Form::Bizplus => envelope::answer(code, data),
        };
        let listed = |wrapper: &str, name: &str, list: Vec<Value>| {
            json!({
                "header": {"resultCode": 0, "resultMessage": "SUCCESS", "isSuccessful": true},
                wrapper: {name: list, "totalCount": list.len()},
            })
        };
        Some(ok(&match asked {
            Asked::Batch(_) => match desk.poll(mine, now_us) {
                Some(batch) => service("A000", &batch),
                None => service("A802", &Value::Null),
            },
            Asked::Confirm(_, id) => {
                let known = desk.acknowledge(&id);
                service(if known { "A000" } else { "A801" }, &Value::Null)
            }
            Asked::Results => listed(
                "messageSearchResultResponse",
                "messages",
                desk.results(&query, now_us),
            ),
            Asked::Templates => listed("templateListResponse", "templates", desk.templates(&query)),
            Asked::Send(_) | Asked::Token(_) => return None,
        }))
    }

    fn shows(&self) -> &'static [&'static str] {
        &["/_sim/dealer", "/_sim/plan"]
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
        let read = sending(send_form(parts), parts, body);
        identify(&read.unwrap_or_default(), worker, attempt, record);
    }

    fn answer(&self, question: &Question<'_>, act: Act) -> Answer {
        match act {
            Act::Fail(status) => {
                return plain(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY));
            }
            Act::Throttle(wait) => return throttled(whole_seconds(wait)),
            // A reset or a silence never comes here.
            Act::Answer | Act::Reset | Act::Hang => {}
        }
        let parts = question.parts;
        let form = send_form(parts);
        let mut desk = self.desk();
        if desk
            .opens(form, credential(form, parts), question.now_us)
            .is_none()
        {
            return refused_key(form);
        }
        let read = sending(form, parts, question.body);
        let Answered {
            said,
            statuses,
            scheduled,
        } = desk.send(form, read, question.now_us);
        drop(desk);
        if scheduled {
            self.scheduled.notify_one();
        }
        let (status, body) = forms::answer(form, &said);
        let mut headers = HeaderMap::new();
        // NHN names no time.
        if status == StatusCode::TOO_MANY_REQUESTS && form != Form::Nhn {
            headers.insert(RETRY_AFTER, HeaderValue::from(1));
        }
        let mut answer = json_answer(status, headers, &body);
        answer.extensions_mut().insert(Statuses(statuses));
        answer
    }
}

fn send_form(parts: &Parts) -> Form {
    match asked(parts) {
        Some(Asked::Send(form)) => form,
        _ => Form::Bizgo,
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

fn throttled(seconds: u64) -> Answer {
    let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from(seconds))]);
    json_answer(
        StatusCode::TOO_MANY_REQUESTS,
        headers,
        &envelope::gateway("A020"),
    )
}

fn refused_key(form: Form) -> Answer {
    let (status, body) = forms::answer(form, &Said::Gateway("A401".to_owned()));
    json_answer(status, HeaderMap::new(), &body)
}

fn json_answer(status: StatusCode, mut headers: HeaderMap, body: &Value) -> Answer {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    with(status, headers, body.to_string())
}
