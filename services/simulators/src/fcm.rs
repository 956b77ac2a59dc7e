//! FCM's twin: the token endpoint (`POST /token`) and `POST /v1/projects/{project}/messages:send`, over
//! TLS and HTTP/2 with 100 streams as Google's.
//!
//! Assertions are checked to the signature, access tokens to their age; messages to their form and
//! size; quotas of project, device and topic are counted. Tokens of devices are personal data: the
//! report knows a device by [`target_path`], a topic by its name.

mod account;
mod message;
mod oauth;
mod plan;
mod quota;
mod refusal;
mod topics;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use http::request::Parts;
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::authority::AuthorityError;
use crate::control::{json as json_of, text};
use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::{Answer, Question, Twin, header, plain};
use crate::simulators::{Running, SimulatorError};
use crate::streams::StreamCounts;
use crate::words::{Words, status_and_rest};

pub use account::Account;
use message::Checked;
pub use message::target_path;
pub use oauth::TokenCounts;
use oauth::Tokens;
pub use plan::Plan;
use quota::Quotas;
use refusal::Refusal;
use topics::Topics;

/// Requests of one connection at a time. [R: pushiko; firebase-admin-node 2943]
const STREAMS: u32 = 100;

/// Running totals, as JSON at `/_sim/fcm`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// What the token endpoint did.
    #[serde(flatten)]
    pub tokens: TokenCounts,
    /// The most streams at a time on one connection.
    pub most_streams: u64,
    /// Connections ended for one stream too many.
    pub overruns: u64,
}

/// The twin.
pub(crate) struct Fcm {
    account: Account,
    plan: RwLock<Arc<Plan>>,
    tokens: Mutex<Tokens>,
    quotas: Mutex<Quotas>,
    words: Words,
    topics: Mutex<Topics>,
    streams: Arc<StreamCounts>,
}

impl Fcm {
    /// Makes the service account, or reads the one in `dir`.
    pub(crate) fn new(plan: Plan, dir: Option<&Path>) -> Result<Self, AuthorityError> {
        Ok(Self {
            account: Account::make(dir)?,
            plan: RwLock::new(Arc::new(plan)),
            tokens: Mutex::default(),
            quotas: Mutex::default(),
            words: Words::default(),
            topics: Mutex::default(),
            streams: Arc::default(),
        })
    }

    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_plan(&self, plan: Plan) -> Result<(), String> {
        plan.validate()?;
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
        Ok(())
    }

    fn stats(&self) -> Stats {
        Stats {
            tokens: self.tokens().counts(),
            most_streams: self.streams.most(),
            overruns: self.streams.overruns(),
        }
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change of subscriptions.
    fn subscribe(&self, change: topics::Change, parts: &Parts, body: &[u8], now_ms: u64) -> Answer {
        let authorization = header(parts, "authorization");
        if header(parts, "access_token_auth") != "true"
            || self.tokens().judge(authorization, now_ms).is_err()
        {
            return plain(StatusCode::UNAUTHORIZED);
        }
        let plan = self.plan();
        let (status, word) = status_and_rest(&plan.topics_answer).unwrap_or_default();
        if let Ok(status) = StatusCode::from_u16(status) {
            return json_of(status, &json!({"error": word}));
        }
        match self.topics().change(change, body, &self.words) {
            Ok(answer) => json_of(StatusCode::OK, &answer),
            Err(word) => json_of(StatusCode::BAD_REQUEST, &json!({"error": word})),
        }
    }

    /// What Google would answer to a message.
    fn judge(&self, question: &Question<'_>) -> Result<String, Refusal> {
        let plan = self.plan();
        let now_ms = question.now_us / 1_000;
        self.tokens()
            .judge(header(question.parts, "authorization"), now_ms)?;
        let project = project_of(question.parts.uri.path()).unwrap_or_default();
        if project != self.account.project {
            return Err(Refusal::new("PERMISSION_DENIED"));
        }
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        quotas.project(&plan, now_ms)?;
        let checked = Checked::read(question.body)?;
        if let Some(word) = self.words.of(checked.target.value()) {
            return Err(Refusal::of_word(&word));
        }
        if checked.validate_only {
            return Ok("fake_message_id".to_owned());
        }
        quotas.target(&checked.target, &plan, now_ms)?;
        quotas.keep(&checked);
        Ok(question.now_us.to_string())
    }
}

/// The project of `/v1/projects/{project}/messages:send`.
fn project_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/v1/projects/")?;
    let project = rest.strip_suffix("/messages:send")?;
    (!project.is_empty() && !project.contains('/')).then_some(project)
}

impl Twin for Fcm {
    fn serves(&self, parts: &Parts) -> bool {
        let path = parts.uri.path();
        let is_known =
            path == "/token" || topics::change_of(path).is_some() || project_of(path).is_some();
        parts.method == Method::POST && is_known
    }

    fn streams(&self) -> u32 {
        STREAMS
    }

    fn stream_counts(&self) -> Option<Arc<StreamCounts>> {
        Some(Arc::clone(&self.streams))
    }

    fn words(&self) -> Option<&Words> {
        Some(&self.words)
    }

    fn identify(&self, parts: &Parts, body: &[u8], record: &mut dyn FnMut(&Arrived<'_>)) {
        let path = parts.uri.path();
        if path == "/token" || topics::change_of(path).is_some() {
            return;
        }
        let identity = message::Identity::read(body);
        record(&Arrived {
            delivery_id: "",
            event_id: &identity.event_id,
            sender: &identity.sender,
            path: &identity.path,
            seq: identity.seq,
            worker: header(parts, "bongsu-worker"),
            attempt: header(parts, "bongsu-attempt").parse().unwrap_or(0),
        });
    }

    fn unrecorded(&self, parts: &Parts, body: &[u8], now_us: u64) -> Answer {
        if let Some(change) = topics::change_of(parts.uri.path()) {
            return self.subscribe(change, parts, body, now_us / 1_000);
        }
        let plan = self.plan();
        self.tokens()
            .grant(body, &self.account, &plan, now_us / 1_000)
    }

    fn answer(&self, question: &Question<'_>, act: Act) -> Answer {
        let refusal = match act {
            Act::Fail(status) => Refusal::of_status(status),
            Act::Throttle(wait) => Refusal::throttled(wait),
            // A reset or a silence never comes here.
            Act::Answer | Act::Reset | Act::Hang => match self.judge(question) {
                Ok(id) => {
                    let name = format!("projects/{}/messages/{id}", self.account.project);
                    return json_of(StatusCode::OK, &json!({"name": name}));
                }
                Err(refusal) => refusal,
            },
        };
        refusal.answer()
    }

    fn shows(&self) -> &'static [&'static str] {
        &["/_sim/fcm", "/_sim/fcm/topics", "/_sim/fcm/plan"]
    }

    fn control(&self, parts: &Parts, body: &[u8]) -> Option<Answer> {
        let path = parts.uri.path();
        if !path.starts_with("/_sim/fcm") {
            return None;
        }
        Some(match (&parts.method, path) {
            (&Method::GET, "/_sim/fcm") => json_of(StatusCode::OK, &self.stats()),
            (&Method::GET, "/_sim/fcm/plan") => json_of(StatusCode::OK, &*self.plan()),
            (&Method::PUT, "/_sim/fcm/plan") => {
                let read = serde_json::from_slice::<Plan>(body).map_err(|e| e.to_string());
                match read.and_then(|plan| self.set_plan(plan)) {
                    Ok(()) => json_of(StatusCode::OK, &*self.plan()),
                    Err(why) => text(StatusCode::BAD_REQUEST, &why),
                }
            }
            (&Method::GET, "/_sim/fcm/service-account") => text(StatusCode::OK, &self.account.file),
            (&Method::GET, "/_sim/fcm/topics") => json_of(StatusCode::OK, &self.topics().counts()),
            (&Method::GET, "/_sim/fcm/waiting") => {
                let quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
                json_of(StatusCode::OK, &quotas.waiting())
            }
            (&Method::POST, "/_sim/fcm/revoke") => {
                self.tokens().revoke();
                plain(StatusCode::NO_CONTENT)
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "known: GET /_sim/fcm, GET|PUT /_sim/fcm/plan, GET /_sim/fcm/service-account, \
                 GET /_sim/fcm/topics, GET /_sim/fcm/waiting, POST /_sim/fcm/revoke",
            ),
        })
    }
}

/// The twin of FCM, asked in the same process. Of every other twin: none, an error, nothing.
impl Running {
    /// What a client is given.
    #[must_use]
    pub fn service_account(&self) -> Option<&Account> {
        Some(&self.twin::<Fcm>()?.account)
    }

    /// What it counts.
    #[must_use]
    pub fn fcm_stats(&self) -> Option<Stats> {
        Some(self.twin::<Fcm>()?.stats())
    }

    /// Replaces its plan.
    ///
    /// # Errors
    /// [`SimulatorError::Faults`].
    pub fn set_fcm(&self, plan: Plan) -> Result<(), SimulatorError> {
        let none = || SimulatorError::Faults("is for the fcm simulator only".to_owned());
        let fcm = self.twin::<Fcm>().ok_or_else(none)?;
        fcm.set_plan(plan).map_err(SimulatorError::Faults)
    }

    /// Subscribers by topic.
    #[must_use]
    pub fn fcm_topics(&self) -> Option<BTreeMap<String, usize>> {
        Some(self.twin::<Fcm>()?.topics().counts())
    }

    /// Makes every access token of it invalid from now on.
    pub fn revoke_tokens(&self) {
        if let Some(fcm) = self.twin::<Fcm>() {
            fcm.tokens().revoke();
        }
    }
}
