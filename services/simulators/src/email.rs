//! The twin of a mail relay: SMTP over real TCP, with STARTTLS or TLS from the first byte, AUTH, the
//! usual extensions, scripted answers per recipient, and bounces posted back.
//!
//! SMTP's server speaks first, so it cannot share a port with HTTP unless TLS comes first: `/_sim/…`
//! and implicit TLS are on the simulator's own port, SMTP in the clear and STARTTLS on a second one
//! ([`Running::smtp_address`]; [`PORT_OFFSET`] above, or any free one). A mail is recorded when its
//! final dot was read; its delivery is known by its Message-ID, the rest by the `X-Bongsu-…` headers
//! that an account with `trace` writes.
//!
//! | control request | answer |
//! |---|---|
//! | `GET`, `PUT /_sim/email/plan` | what the relay does, see [`Plan`] |
//! | `GET /_sim/email/mails` | the last mails with their envelopes, at most [`KEPT`] |
//!
//! The fault plan is met at the final dot: a failure is `451 4.3.0`, a failure of status 504 and a
//! reset cut the connection without an answer, a throttle is `451 4.7.1`.

mod bounce;
mod plan;
mod talk;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bongsu_runtime::{Shutdown, Tasks};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::{Answer, OwnTls, Question, Server, SpeaksFirst, Twin, plain, with};
use crate::simulators::{Running, SimulatorError};
use bounce::Bounce;
pub use plan::{Login, Offer, Plan, Scripted, Step, Then};

/// How far above the simulator's port SMTP has its own.
pub const PORT_OFFSET: u16 = 100;
/// Mails that are kept to be looked at.
pub const KEPT: usize = 1_000;
/// Bounces that wait to be posted; more are lost, and said so.
const BOUNCES: usize = 10_000;

/// A mail as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// MAIL FROM.
    pub from: String,
    /// What stood behind it.
    pub from_parameters: String,
    /// RCPT TO.
    pub to: String,
    /// What stood behind it.
    pub to_parameters: String,
    /// Whether it came through TLS.
    pub tls: bool,
    /// Who had logged in.
    pub user: String,
    /// Headers and body, dots taken back.
    pub data: String,
    /// What was answered; empty for nothing.
    pub answer: String,
}

/// The twin.
pub(crate) struct Email {
    plan: RwLock<Arc<Plan>>,
    mails: Mutex<VecDeque<Taken>>,
    /// Recipients a greylist has seen.
    seen: Mutex<std::collections::HashSet<String>>,
    bounces: mpsc::Sender<Bounce>,
    /// Taken by the task that posts.
    posted: AsyncMutex<Option<mpsc::Receiver<Bounce>>>,
}

impl Email {
    pub(crate) fn new(plan: Plan) -> Self {
        let (send, receive) = mpsc::channel(BOUNCES);
        Self {
            plan: RwLock::new(Arc::new(plan)),
            mails: Mutex::default(),
            seen: Mutex::default(),
            bounces: send,
            posted: AsyncMutex::new(Some(receive)),
        }
    }

    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_plan(&self, plan: Plan) -> Result<(), String> {
        plan.validate()?;
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
        Ok(())
    }

    fn keep(&self, mail: Taken) {
        let mut mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        if mails.len() == KEPT {
            mails.pop_front();
        }
        mails.push_back(mail);
    }

    fn mails(&self) -> Vec<Taken> {
        let mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        mails.iter().cloned().collect()
    }

    /// Whether a greylist sees a recipient for the first time.
    fn is_new(&self, recipient: &str) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(recipient.to_owned())
    }

    fn bounce(&self, bounce: Bounce) {
        if self.bounces.try_send(bounce).is_err() {
            tracing::error!("too many bounces wait to be posted; one is lost");
        }
    }
}

impl Running {
    /// Where the twin of a relay speaks SMTP in the clear and STARTTLS; none of every other twin.
    #[must_use]
    pub fn smtp_address(&self) -> Option<SocketAddr> {
        self.first_address()
    }

    /// Replaces what the twin of a relay does, from the next command on; false of every other twin.
    ///
    /// # Errors
    /// [`SimulatorError::Faults`].
    pub fn set_relay(&self, plan: Plan) -> Result<bool, SimulatorError> {
        let Some(email) = self.twin::<Email>() else {
            return Ok(false);
        };
        email.set_plan(plan).map_err(SimulatorError::Faults)?;
        Ok(true)
    }

    /// The last mails that the twin of a relay read; none of every other twin.
    #[must_use]
    pub fn mails(&self) -> Vec<Taken> {
        self.twin::<Email>().map(Email::mails).unwrap_or_default()
    }
}

impl Twin for Email {
    fn serves(&self, _parts: &Parts) -> bool {
        false
    }

    fn shows(&self) -> &'static [&'static str] {
        &["/_sim/email/plan"]
    }

    fn control(&self, parts: &Parts, body: &[u8]) -> Option<Answer> {
        let json = |value: serde_json::Value| {
            let kind = HeaderValue::from_static("application/json");
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
            with(StatusCode::OK, headers, value.to_string())
        };
        Some(match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/_sim/email/mails") => json(serde_json::json!(self.mails())),
            (&Method::GET, "/_sim/email/plan") => json(serde_json::json!(*self.plan())),
            (&Method::PUT, "/_sim/email/plan") => {
                let read = serde_json::from_slice::<Plan>(body).map_err(|e| e.to_string());
                match read.and_then(|plan| self.set_plan(plan)) {
                    Ok(()) => json(serde_json::json!(*self.plan())),
                    Err(why) => with(StatusCode::BAD_REQUEST, HeaderMap::new(), why),
                }
            }
            _ => return None,
        })
    }

    fn own_tls(self: Arc<Self>) -> Option<OwnTls> {
        Some(Box::new(
            move |server: Arc<Server>, stream: TcpStream, peer: SocketAddr| {
                Box::pin(talk::secured(server, self, stream, peer))
            },
        ))
    }

    fn speaks_first(self: Arc<Self>) -> Option<SpeaksFirst> {
        Some(Box::new(
            move |server: Arc<Server>, stream: TcpStream, peer: SocketAddr| {
                Box::pin(talk::clear(server, Arc::clone(&self), stream, peer))
            },
        ))
    }

    fn start(self: Arc<Self>, tasks: &mut Tasks, shutdown: Shutdown) {
        tasks.spawn("bounces", async move {
            let Some(bounces) = self.posted.lock().await.take() else {
                return Ok(());
            };
            bounce::post_all(bounces, shutdown).await
        });
    }

    fn identify(&self, _parts: &Parts, _body: &[u8], _record: &mut dyn FnMut(&Arrived<'_>)) {}

    fn answer(&self, _question: &Question<'_>, _act: Act) -> Answer {
        plain(StatusCode::NOT_FOUND)
    }
}
