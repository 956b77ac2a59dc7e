//! The FCM channel's I/O.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bongsu_domain::{Channel, ContentHash, Delivery, Platform, PushTarget, Reason, identity};
use bongsu_runtime::Clock;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri};
use tokio::time::Instant;

use super::classify::{self, Facts, PLATFORM_WAIT, Reaction};
use super::config::Account;
use super::payload;
use super::token::{Renewal, Token, TokenSource};
use crate::client::{self, Reach};
use crate::http2::slots::Rules;
use crate::http2::{self, Answer, Lease, Pool, Target, client_config, names};
use crate::limits;
use crate::provider::{
    Attempt, AttemptResult, HEADER_ATTEMPT, HEADER_WORKER, Provider, ThrottleScope, TryError,
    only_known,
};
use crate::registry::BuildError;
use crate::retry_after;
use crate::settings::{ClientSettings, HttpSettings};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(client::USER_AGENT);

/// How connections are kept. Too many PINGs end one (`ENHANCE_YOUR_CALM`), so they are few.
/// [R: pigeon 81]
mod kept {
    use std::time::Duration;

    /// Longest silence with messages under way.
    pub(super) const SILENCE: Duration = Duration::from_secs(10);
    /// Longest silence without.
    pub(super) const IDLE_SILENCE: Duration = Duration::from_mins(5);
    /// How long a connection without a message is kept.
    pub(super) const IDLE_TIMEOUT: Duration = Duration::from_hours(1);
    /// How long the answer to a PING may take.
    pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);
    /// First and longest wait after a failure to connect.
    pub(super) const BACKOFF: Duration = Duration::from_millis(250);
    pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(30);
}

/// Contents remembered as accepted, per account.
const PASSED: usize = 256;
/// The most that rests at once, per account.
const RESTING: usize = 10_000;

/// Sends messages, one delivery per request.
pub struct FcmProvider {
    accounts: HashMap<String, Ready>,
    egress: limits::Egress,
    worker: HeaderValue,
    clock: Clock,
}

/// An account, ready to send.
struct Ready {
    authority: Authority,
    path: PathAndQuery,
    pool: Pool,
    tokens: TokenSource,
    validate_only: bool,
    limits: limits::Limits,
    memory: Mutex<Memory>,
}

/// What an account remembers of its answers.
#[derive(Default)]
struct Memory {
    /// Contents that were accepted, the newest last.
    passed: VecDeque<ContentHash>,
    /// What rests, and until when.
    resting: HashMap<Rest, Instant>,
}

/// What rests while Firebase's credential for its platform is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rest {
    /// Everything of a platform that has such a credential, where the publisher stated it.
    Platform(Platform),
    /// One target, by its hash. Android is what a target counts as whose platform nobody stated, and
    /// has no such credential: that this one needs it says nothing of the others.
    Target(u64),
}

impl Rest {
    fn of(delivery: &Delivery) -> Self {
        let address = &delivery.address;
        match address.platform {
            platform @ (Platform::Ios | Platform::Web) => Self::Platform(platform),
            Platform::Android
            | Platform::Desktop
            | Platform::Server
            | Platform::Phone
            | Platform::Mail
            | Platform::Other => Self::Target(identity::hash64(&[address.address.as_bytes()])),
        }
    }
}

impl Memory {
    /// How long a delivery must still rest.
    fn wait(&self, delivery: &Delivery, now: Instant) -> Option<Duration> {
        if self.resting.is_empty() {
            return None;
        }
        let wait = self
            .resting
            .get(&Rest::of(delivery))?
            .checked_duration_since(now)?;
        (!wait.is_zero()).then_some(wait)
    }

    /// Lets what a delivery belongs to rest; whether it did not yet. `None` when there is no room.
    fn rest(&mut self, delivery: &Delivery, now: Instant) -> Option<bool> {
        if self.wait(delivery, now).is_some() {
            return Some(false);
        }
        self.resting.retain(|_, until| *until > now);
        if self.resting.len() >= RESTING {
            return None;
        }
        self.resting.insert(Rest::of(delivery), now + PLATFORM_WAIT);
        Some(true)
    }
}

impl Ready {
    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FcmProvider {
    /// Reads the accounts' credentials; opens no connection.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(
        settings: &HttpSettings<Account>,
        worker: &str,
        clock: Clock,
    ) -> Result<Self, BuildError> {
        let mut accounts = HashMap::new();
        for (name, account) in &settings.accounts {
            let ready = ready(name, account, &settings.client, worker, clock)?;
            accounts.insert(name.clone(), ready);
        }
        Ok(Self {
            accounts,
            egress: settings.egress.clone(),
            worker: HeaderValue::from_str(worker).map_err(|_| BuildError::WorkerId)?,
            clock,
        })
    }

    /// Connections at this moment, over all accounts.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.accounts.values().map(|a| a.pool.connections()).sum()
    }

    async fn attempt_one(&self, attempt: Attempt<'_>, deadline: Instant) -> AttemptResult {
        let delivery = attempt.delivery;
        // Checked by `only_known` before any attempt of the batch was made.
        let Some(ready) = self.accounts.get(&delivery.address.account) else {
            return AttemptResult::Unavailable;
        };
        let Ok(target) = PushTarget::parse(&delivery.address.address) else {
            return AttemptResult::Refused(Reason::InvalidAddress);
        };
        let now = self.clock.now_millis();
        let body = match payload::body(delivery, target, ready.validate_only, now) {
            Ok(body) => body,
            Err(fault) => {
                tracing::debug!(delivery.id = %delivery.id, %fault, "no message can be made of it");
                return AttemptResult::Refused(Reason::InvalidContent);
            }
        };
        // The token first: a place on a connection is not held while one is fetched.
        let token = match ready.tokens.current(deadline).await {
            Ok(token) => token,
            Err(none) => return none.result(),
        };
        let Some(lease) = ready.pool.lease(deadline).await else {
            return AttemptResult::Unavailable;
        };
        let Some(request) = self.request(ready, attempt, &token) else {
            return AttemptResult::AccountFault;
        };
        match lease.exchange(request, Bytes::from(body), deadline).await {
            Err(no_answer) => no_answer.result(),
            Ok(answer) => self.react(ready, delivery, &lease, &token, &answer),
        }
    }

    /// None when a value cannot stand in a request, which checked settings do not allow.
    fn request(&self, ready: &Ready, attempt: Attempt<'_>, token: &Token) -> Option<Request<()>> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTPS);
        uri.authority = Some(ready.authority.clone());
        uri.path_and_query = Some(ready.path.clone());
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token.header.clone());
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(USER_AGENT, AGENT);
        headers.insert(HEADER_WORKER, self.worker.clone());
        headers.insert(HEADER_ATTEMPT, HeaderValue::from(attempt.number));
        Some(request)
    }

    /// What the answer means, and what it asks of token, connection and platform.
    fn react(
        &self,
        ready: &Ready,
        delivery: &Delivery,
        lease: &Lease,
        token: &Token,
        answer: &Answer,
    ) -> AttemptResult {
        let hash = delivery.content_hash;
        let facts = Facts {
            retry_after: answer.headers.get(RETRY_AFTER).and_then(|value| {
                retry_after::parse(value.to_str().ok()?, self.clock.now_millis())
            }),
            content_passed: ready.memory().passed.contains(&hash),
        };
        let reaction = classify::classify(answer.status, &answer.body, facts);
        let let_in = reaction != Reaction::RenewToken && answer.status < 500;
        lease.answered(let_in);
        if let_in {
            ready.tokens.accepted(token.number);
        }
        match reaction {
            Reaction::Result(result) => {
                if result == AttemptResult::Accepted {
                    remember(&mut ready.memory().passed, hash);
                }
                result
            }
            Reaction::RenewToken => match ready.tokens.refused(token.number) {
                Renewal::Renewed => AttemptResult::NotProcessed,
                Renewal::TooSoon => AttemptResult::Unavailable,
                Renewal::Stuck => {
                    tracing::error!(
                        account = delivery.address.account,
                        "FCM refuses every access token of this service account; check that it \
                         belongs to the project and may send messages"
                    );
                    AttemptResult::AccountFault
                }
            },
            Reaction::PlatformFault => rest(ready, delivery),
        }
    }
}

/// Firebase's credential for the platform is bad: a person must mend it, and until then the
/// platform's deliveries are held, which costs them no attempt.
fn rest(ready: &Ready, delivery: &Delivery) -> AttemptResult {
    match ready.memory().rest(delivery, Instant::now()) {
        Some(begun) => {
            if begun {
                tracing::error!(
                    account = delivery.address.account,
                    platform = delivery.address.platform.as_str(),
                    "Firebase's own credential for this target's platform is refused; check the \
                     APNs key or the web push key in the Firebase console"
                );
            }
            AttemptResult::NotProcessed
        }
        None => AttemptResult::Throttled {
            retry_after: Some(PLATFORM_WAIT),
            scope: ThrottleScope::Address,
        },
    }
}

fn remember(passed: &mut VecDeque<ContentHash>, hash: ContentHash) {
    if passed.contains(&hash) {
        return;
    }
    if passed.len() == PASSED {
        passed.pop_front();
    }
    passed.push_back(hash);
}

fn ready(
    name: &str,
    account: &Account,
    client: &ClientSettings,
    worker: &str,
    clock: Clock,
) -> Result<Ready, BuildError> {
    let channel = Channel::Fcm.as_str();
    let wrong = |message: String| BuildError::Account {
        channel,
        account: name.to_owned(),
        message,
    };
    let told =
        |fault: super::config::AccountFault| wrong(format!("{} {}", fault.key, fault.message));
    let url = account.url().map_err(told)?;
    let credential = account.credential().map_err(told)?;
    let token_url = account.token_url(&credential).map_err(told)?;
    let project = account.project(&credential).map_err(told)?.to_owned();
    let tls =
        client_config(client.ca_file.as_deref(), None).map_err(|error| wrong(error.to_string()))?;
    let (host, server_name) = names(&url).ok_or_else(|| wrong("endpoint has no host".into()))?;
    let target = Target {
        host,
        port: url.port_or_known_default().unwrap_or(443),
        name: server_name,
        tls,
    };
    let limits = http2::Limits {
        rules: Rules {
            connections: account.connections,
            streams: account.streams,
            // The first message of a connection goes alone: it proves token and path.
            warm: false,
            silence: kept::SILENCE,
            idle_silence: kept::IDLE_SILENCE,
            idle_timeout: kept::IDLE_TIMEOUT,
            backoff: kept::BACKOFF,
            backoff_max: kept::BACKOFF_MAX,
        },
        connect_timeout: client.connect_timeout.0,
        ping_timeout: kept::PING_TIMEOUT,
    };
    let seed = identity::hash64(&[worker.as_bytes(), name.as_bytes()]);
    let path = PathAndQuery::try_from(format!("/v1/projects/{project}/messages:send"));
    // The host is the operator's choice: no guard is needed.
    let http = client::build(client, Reach::Anywhere)
        .map_err(|source| BuildError::Client { channel, source })?;
    Ok(Ready {
        authority: Authority::try_from(url.authority())
            .map_err(|_| wrong("endpoint has no host".into()))?,
        path: path.map_err(|_| wrong("project cannot stand in a path".into()))?,
        pool: Pool::new(name, target, limits, seed),
        tokens: TokenSource::new(credential, http, token_url, clock),
        validate_only: account.validate_only,
        limits: account.limits.clone(),
        memory: Mutex::default(),
    })
}

impl Provider for FcmProvider {
    fn limits(&self, account: &str) -> limits::Limits {
        let known = self.accounts.get(account);
        known.map(|ready| ready.limits.clone()).unwrap_or_default()
    }

    fn egress(&self) -> limits::Egress {
        self.egress.clone()
    }

    fn hold(&self, delivery: &Delivery) -> Option<Duration> {
        let ready = self.accounts.get(&delivery.address.account)?;
        ready.memory().wait(delivery, Instant::now())
    }

    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        async move {
            only_known(Channel::Fcm, batch, |name| self.accounts.contains_key(name))?;
            Ok(match batch {
                [one] => vec![self.attempt_one(*one, deadline).await],
                many => join_all(many.iter().map(|one| self.attempt_one(*one, deadline))).await,
            })
        }
        .boxed()
    }
}
