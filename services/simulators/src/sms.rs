//! The twin of the SMS vendors: Solapi's and Twilio's APIs on one port, with their credentials,
//! validation, codes and reports.
//!
//! Recorded, one entry per **recipient**: `POST /messages/v4/send-many/detail` (Solapi) and
//! `POST /2010-04-01/Accounts/{sid}/Messages.json` (Twilio). `GET /messages/v4/list` is answered
//! unrecorded.
//!
//! | control request | answer |
//! |---|---|
//! | `GET`, `PUT /_sim/plan` | what the vendors do, see [`Plan`] |
//! | `GET /_sim/vendors` | their own counts, see [`Counts`] |

mod caller;
mod desk;
mod plan;
mod solapi;
mod twilio;

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
pub use plan::{Plan, SOLAPI_KEY, SOLAPI_SECRET, TWILIO_ACCOUNT, TWILIO_TOKEN};

/// The twin.
pub(crate) struct Sms {
    desk: Mutex<Desk>,
    /// Told when a report was scheduled earlier than all others.
    scheduled: Notify,
}

impl Sms {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            desk: Mutex::new(Desk::new(plan)),
            scheduled: Notify::new(),
        }
    }

    fn set_plan(&self, plan: Plan) -> Result<(), String> {
        plan.validate()?;
        self.desk().set_plan(plan);
        self.scheduled.notify_one();
        Ok(())
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Replaces what the SMS vendors do.
    ///
    /// # Errors
    /// [`SimulatorError::Faults`], also for a twin of another kind.
    pub fn set_vendors(&self, plan: Plan) -> Result<(), SimulatorError> {
        let none = || "is for the sms simulator only".to_owned();
        let twin = self.twin::<Sms>().ok_or_else(none);
        twin.and_then(|twin| twin.set_plan(plan))
            .map_err(SimulatorError::Faults)
    }

    /// What the SMS vendors count; none of every other twin.
    #[must_use]
    pub fn vendors(&self) -> Option<Counts> {
        self.twin::<Sms>().map(|twin| twin.desk().counts())
    }
}

/// Whose API a request is for.
enum Api<'a> {
    Solapi,
    /// With the account in the path.
    Twilio(&'a str),
}

fn api(parts: &Parts) -> Option<Api<'_>> {
    let path = parts.uri.path();
    if parts.method != Method::POST {
        return None;
    }
    if path == solapi::SEND {
        return Some(Api::Solapi);
    }
    let account = path
        .strip_prefix("/2010-04-01/Accounts/")?
        .strip_suffix("/Messages.json")?;
    (!account.is_empty() && !account.contains('/')).then_some(Api::Twilio(account))
}

impl Twin for Sms {
    fn serves(&self, parts: &Parts) -> bool {
        api(parts).is_some()
    }

    fn aside(&self, parts: &Parts, now_us: u64) -> Option<Answer> {
        if parts.method != Method::GET || parts.uri.path() != solapi::LIST {
            return None;
        }
        let key = header(parts, AUTHORIZATION.as_str());
        let mut desk = self.desk();
        if let Err(word) = desk.opens_solapi(key, now_us) {
            let body = solapi::error(word);
            return Some(json_answer(StatusCode::FORBIDDEN, HeaderMap::new(), &body));
        }
        let query = parts.uri.query().unwrap_or_default();
        let page = desk.list(query, now_us);
        Some(json_answer(StatusCode::OK, HeaderMap::new(), &page))
    }

    fn shows(&self) -> &'static [&'static str] {
        &["/_sim/vendors", "/_sim/plan"]
    }

    fn control(&self, parts: &Parts, body: &[u8]) -> Option<Answer> {
        let ok = |value: &Value| json_answer(StatusCode::OK, HeaderMap::new(), value);
        Some(match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/_sim/plan") => ok(&json!(self.desk().plan())),
            (&Method::PUT, "/_sim/plan") => {
                let read = serde_json::from_slice::<Plan>(body).map_err(|e| e.to_string());
                match read.and_then(|plan| self.set_plan(plan)) {
                    Ok(()) => ok(&json!(self.desk().plan())),
                    Err(why) => with(StatusCode::BAD_REQUEST, HeaderMap::new(), why),
                }
            }
            (&Method::GET, "/_sim/vendors") => ok(&json!(self.desk().counts())),
            _ => return None,
        })
    }

    fn start(self: Arc<Self>, tasks: &mut Tasks, shutdown: Shutdown) {
        tasks.spawn("sms reports", caller::run(self, shutdown));
    }

    fn identify(&self, parts: &Parts, body: &[u8], record: &mut dyn FnMut(&Arrived<'_>)) {
        let worker = header(parts, "bongsu-worker");
        let attempt = header(parts, "bongsu-attempt").parse().unwrap_or(0);
        match api(parts) {
            Some(Api::Twilio(_)) => twilio::identify(body, worker, attempt, record),
            Some(Api::Solapi) | None => solapi::identify(body, worker, attempt, record),
        }
    }

    fn answer(&self, question: &Question<'_>, act: Act) -> Answer {
        match act {
            Act::Fail(status) => {
                return plain(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY));
            }
            Act::Throttle(wait) => {
                let seconds = HeaderValue::from(whole_seconds(wait));
                let headers = HeaderMap::from_iter([(RETRY_AFTER, seconds)]);
                return with(StatusCode::TOO_MANY_REQUESTS, headers, "");
            }
            // A reset or a silence never comes here.
            Act::Answer | Act::Reset | Act::Hang => {}
        }
        let key = header(question.parts, AUTHORIZATION.as_str());
        let mut desk = self.desk();
        let Answered {
            status,
            body,
            statuses,
            scheduled,
        } = match api(question.parts) {
            Some(Api::Twilio(account)) => {
                desk.send_twilio(key, account, question.body, question.now_us)
            }
            Some(Api::Solapi) | None => desk.send_solapi(key, question.body, question.now_us),
        };
        drop(desk);
        if scheduled {
            self.scheduled.notify_one();
        }
        let mut answer = json_answer(status, HeaderMap::new(), &body);
        answer.extensions_mut().insert(Statuses(statuses));
        answer
    }
}

fn json_answer(status: StatusCode, mut headers: HeaderMap, body: &Value) -> Answer {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    with(status, headers, body.to_string())
}
