//! What the server asks of every twin, and what the tests and `/_sim/apns…` ask of this one.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, StatusCode};

use super::{Apns, Command, Credentials, Plan, Stats, serve};
use crate::control::{json, text};
use crate::faults::Act;
use crate::recorder::Arrived;
use crate::server::{Answer, OwnTls, Question, Twin, plain};
use crate::simulators::{Running, SimulatorError};

/// Its API is spoken over TLS alone, frame by frame; plain HTTP knows the control requests only.
impl Twin for Apns {
    fn serves(&self, _parts: &Parts) -> bool {
        false
    }

    fn identify(&self, _parts: &Parts, _body: &[u8], _record: &mut dyn FnMut(&Arrived<'_>)) {}

    fn answer(&self, _question: &Question<'_>, _act: Act) -> Answer {
        plain(StatusCode::NOT_FOUND)
    }

    fn own_tls(self: Arc<Self>) -> Option<OwnTls> {
        Some(Box::new(|server, stream, peer| {
            Box::pin(serve(server, self, stream, peer))
        }))
    }

    fn freeze(&self) -> usize {
        self.command(Command::Freeze)
    }

    fn shows(&self) -> &'static [&'static str] {
        &["/_sim/apns", "/_sim/apns/plan"]
    }

    fn control(&self, parts: &Parts, body: &[u8]) -> Option<Answer> {
        let path = parts.uri.path();
        path.starts_with("/_sim/apns")
            .then(|| about(self, &parts.method, path, body))
    }
}

fn about(apns: &Apns, method: &Method, path: &str, body: &[u8]) -> Answer {
    let told = |command| json(StatusCode::OK, &apns.command(command));
    match (method, path) {
        (&Method::GET, "/_sim/apns") => json(StatusCode::OK, &apns.stats()),
        (&Method::GET, "/_sim/apns/plan") => json(StatusCode::OK, &*apns.plan()),
        (&Method::PUT, "/_sim/apns/plan") => {
            let read = serde_json::from_slice::<Plan>(body).map_err(|e| e.to_string());
            match read.and_then(|plan| apns.set_plan(plan)) {
                Ok(()) => json(StatusCode::OK, &*apns.plan()),
                Err(why) => text(StatusCode::BAD_REQUEST, &why),
            }
        }
        (&Method::GET, "/_sim/apns/credentials") => json(StatusCode::OK, apns.credentials()),
        (&Method::POST, "/_sim/apns/goaway") => told(Command::GoAway),
        (&Method::POST, "/_sim/apns/cut") => told(Command::Cut),
        _ => text(
            StatusCode::NOT_FOUND,
            "known: GET /_sim/apns, GET|PUT /_sim/apns/plan, GET /_sim/apns/credentials, \
             POST /_sim/apns/goaway, POST /_sim/apns/cut",
        ),
    }
}

/// The twin of APNs, asked in the same process. Of every other twin: none, an error, 0.
impl Running {
    /// What a client is given.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        Some(self.twin::<Apns>()?.credentials())
    }

    /// What it counts.
    #[must_use]
    pub fn apns_stats(&self) -> Option<Stats> {
        Some(self.twin::<Apns>()?.stats())
    }

    /// Replaces its plan; connections follow at once.
    ///
    /// # Errors
    /// [`SimulatorError::Faults`].
    pub fn set_apns(&self, plan: Plan) -> Result<(), SimulatorError> {
        let none = || SimulatorError::Faults("is for the apns simulator only".to_owned());
        let apns = self.twin::<Apns>().ok_or_else(none)?;
        apns.set_plan(plan).map_err(SimulatorError::Faults)
    }

    /// Makes every connection say GOAWAY; how many.
    pub fn go_away(&self) -> usize {
        self.twin::<Apns>()
            .map_or(0, |apns| apns.command(Command::GoAway))
    }
}
