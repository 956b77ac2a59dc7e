//! The APNs channel's I/O.

use std::collections::HashMap;

use bongsu_domain::target::is_device_token;
use bongsu_domain::{Channel, Reason, identity};
use bongsu_runtime::Clock;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri};
use tokio::time::Instant;

use super::classify::{self, Facts, Reaction};
use super::config::{Account, ApnsSettings, Connections, Credential};
use super::payload::{self, Push};
use super::token::{Renewal, Token, TokenSource};
use crate::client;
use crate::http2::slots::Rules;
use crate::http2::{Answer, Lease, Limits, Pool, Target, client_config, names};
use crate::limits;
use crate::provider::{
    Attempt, AttemptResult, Expiring, HEADER_ATTEMPT, HEADER_WORKER, Provider, TryError, only_known,
};
use crate::registry::BuildError;
use crate::retry_after;

const TOPIC: HeaderName = HeaderName::from_static("apns-topic");
const PUSH_TYPE: HeaderName = HeaderName::from_static("apns-push-type");
const ID: HeaderName = HeaderName::from_static("apns-id");
const EXPIRATION: HeaderName = HeaderName::from_static("apns-expiration");
const PRIORITY: HeaderName = HeaderName::from_static("apns-priority");
const COLLAPSE_ID: HeaderName = HeaderName::from_static("apns-collapse-id");
const AGENT: HeaderValue = HeaderValue::from_static(client::USER_AGENT);

/// Before the token in every path. [R: Apple, "Sending notification requests to APNs", 2026-08]
const PATH: &str = "/3/device/";

/// Pushes to Apple's devices, one delivery per request.
pub struct ApnsProvider {
    accounts: HashMap<String, Ready>,
    worker: HeaderValue,
    clock: Clock,
    egress: limits::Egress,
}

/// A push that was answered.
struct Pushed<'a> {
    ready: &'a Ready,
    attempt: Attempt<'a>,
    lease: Lease,
    token: Option<Token>,
}

/// An account, ready to push.
struct Ready {
    account: Account,
    authority: Authority,
    pool: Pool,
    tokens: Option<TokenSource>,
    certificate_ends: Option<i64>,
}

impl ApnsProvider {
    /// Reads the accounts' credentials; opens no connection. There is no account by default: each
    /// has a credential of its own.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(settings: &ApnsSettings, worker: &str, clock: Clock) -> Result<Self, BuildError> {
        let mut accounts = HashMap::new();
        for (name, account) in &settings.accounts {
            let ready = ready(name, account, &settings.connection, worker)?;
            accounts.insert(name.clone(), ready);
        }
        Ok(Self {
            accounts,
            worker: HeaderValue::from_str(worker).map_err(|_| BuildError::WorkerId)?,
            clock,
            egress: settings.egress.clone(),
        })
    }

    /// Connections at this moment, over all accounts.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.accounts.values().map(|a| a.pool.connections()).sum()
    }

    /// Requests under way at this moment, over all accounts.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.accounts.values().map(|a| a.pool.in_flight()).sum()
    }

    /// Tasks at this moment, over all accounts: one per connection.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.accounts.values().map(|a| a.pool.tasks()).sum()
    }

    async fn attempt_one(&self, attempt: Attempt<'_>, deadline: Instant) -> AttemptResult {
        let delivery = attempt.delivery;
        // Checked by `only_known` before any attempt of the batch was made.
        let Some(ready) = self.accounts.get(&delivery.address.account) else {
            return AttemptResult::Unavailable;
        };
        if !is_device_token(&delivery.address.address) {
            return AttemptResult::Refused(Reason::InvalidAddress);
        }
        let topic = ready.account.topic_of(delivery.address.app.as_deref());
        let push = match payload::push(delivery, topic) {
            Ok(push) => push,
            Err(fault) => {
                tracing::debug!(delivery.id = %delivery.id, %fault, "no push can be made of it");
                return AttemptResult::Refused(Reason::InvalidContent);
            }
        };
        let Some(lease) = ready.pool.lease(deadline).await else {
            return AttemptResult::Unavailable;
        };
        let token = match &ready.tokens {
            None => None,
            Some(tokens) => match tokens.current(self.clock.now_millis()) {
                Ok(token) => Some(token),
                Err(_) => return AttemptResult::AccountFault,
            },
        };
        let Some(request) = self.request(ready, attempt, &push, token.as_ref()) else {
            return AttemptResult::Refused(Reason::InvalidContent);
        };
        let answered = lease.exchange(request, Bytes::from(push.body), deadline);
        match answered.await {
            Err(no_answer) => no_answer.result(),
            Ok(answer) => {
                let pushed = Pushed {
                    ready,
                    attempt,
                    lease,
                    token,
                };
                self.react(&pushed, &answer)
            }
        }
    }

    /// None when a value cannot stand in a header, which checked contents do not allow.
    fn request(
        &self,
        ready: &Ready,
        attempt: Attempt<'_>,
        push: &Push<'_>,
        token: Option<&Token>,
    ) -> Option<Request<()>> {
        let delivery = attempt.delivery;
        let path = format!("{PATH}{}", delivery.address.address);
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTPS);
        uri.authority = Some(ready.authority.clone());
        uri.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        let headers = request.headers_mut();
        headers.reserve(10);
        headers.insert(TOPIC, HeaderValue::from_str(&push.topic).ok()?);
        headers.insert(PUSH_TYPE, HeaderValue::from_static(push.push_type.as_str()));
        let mut id = HeaderValue::try_from(delivery.id.to_string()).ok()?;
        // Keeps a value that is never the same out of the compression's table.
        id.set_sensitive(true);
        headers.insert(ID, id);
        headers.insert(EXPIRATION, HeaderValue::from(push.expiration));
        headers.insert(PRIORITY, HeaderValue::from(u16::from(push.priority)));
        if let Some(collapse_id) = &push.collapse_id {
            headers.insert(COLLAPSE_ID, HeaderValue::from_str(collapse_id).ok()?);
        }
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token.header.clone());
        }
        headers.insert(USER_AGENT, AGENT);
        headers.insert(HEADER_WORKER, self.worker.clone());
        headers.insert(HEADER_ATTEMPT, HeaderValue::from(attempt.number));
        Some(request)
    }

    /// What the answer means, and what it asks of token and connection.
    fn react(&self, pushed: &Pushed<'_>, answer: &Answer) -> AttemptResult {
        let Pushed {
            ready,
            attempt,
            lease,
            token,
        } = pushed;
        let now = self.clock.now_millis();
        let facts = Facts {
            registered_at: attempt.delivery.address.registered_at,
            trust_bad_device_token: ready.account.trust_bad_device_token,
            retry_after: answer
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| retry_after::parse(value.to_str().ok()?, now)),
        };
        let reaction = classify::classify(answer.status, &answer.body, facts);
        // Every answer but a refusal of the credential is one to a request that was let in.
        let refused = matches!(answer.status, 401 | 403 | 429 | 500..);
        lease.answered(!refused);
        match reaction {
            Reaction::Result(result) => result,
            Reaction::Reconnect(result) => {
                lease.replace();
                result
            }
            Reaction::KeepToken(result) => {
                if let Some(tokens) = &ready.tokens {
                    tokens.keep(now);
                }
                result
            }
            Reaction::RenewToken => {
                // The connection is unusable after such an answer, whatever comes of the token.
                lease.retire();
                let renewal = match (&ready.tokens, token) {
                    (Some(tokens), Some(token)) => tokens.expired(token.iat, now),
                    _ => Renewal::Stuck,
                };
                match renewal {
                    Renewal::Renewed => AttemptResult::NotProcessed,
                    Renewal::Stuck => {
                        tracing::error!(
                            account = attempt.delivery.address.account,
                            "APNs calls a provider token expired that is not; check this machine's \
                             clock, and key_id and team_id"
                        );
                        AttemptResult::AccountFault
                    }
                }
            }
        }
    }
}

fn ready(
    name: &str,
    account: &Account,
    connections: &Connections,
    worker: &str,
) -> Result<Ready, BuildError> {
    let channel = Channel::Apns.as_str();
    let wrong = |message: String| BuildError::Account {
        channel,
        account: name.to_owned(),
        message,
    };
    let told =
        |fault: super::config::AccountFault| wrong(format!("{} {}", fault.key, fault.message));
    let url = account.url().map_err(told)?;
    let credential = account.credential().map_err(told)?;
    let (tokens, identity) = match credential {
        Credential::Key(key) => {
            let tokens = TokenSource::new(*key, account.token_interval.0);
            (Some(tokens), None)
        }
        Credential::Certificate(identity) => (None, Some(identity)),
    };
    let tls = client_config(connections.ca_file.as_deref(), identity.as_ref())
        .map_err(|error| wrong(causes(&error)))?;
    let (host, server_name) = names(&url).ok_or_else(|| wrong("endpoint has no host".into()))?;
    let port = url.port_or_known_default().unwrap_or(443);
    let target = Target {
        host,
        port,
        name: server_name,
        tls,
    };
    let limits = Limits {
        rules: Rules {
            connections: account.connections,
            streams: account.streams,
            warm: identity.is_some(),
            silence: connections.silence.0,
            idle_silence: connections.idle_silence.0,
            idle_timeout: connections.idle_timeout.0,
            backoff: connections.backoff.0,
            backoff_max: connections.backoff_max.0,
        },
        connect_timeout: connections.connect_timeout.0,
        ping_timeout: connections.ping_timeout.0,
    };
    let seed = identity::hash64(&[worker.as_bytes(), name.as_bytes()]);
    Ok(Ready {
        account: account.clone(),
        authority: Authority::try_from(url.authority())
            .map_err(|_| wrong("endpoint has no host".into()))?,
        pool: Pool::new(name, target, limits, seed),
        tokens,
        certificate_ends: identity.map(|identity| identity.not_after_millis()),
    })
}

fn causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        None => error.to_string(),
        Some(source) => format!("{error}: {source}"),
    }
}

impl Provider for ApnsProvider {
    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        async move {
            only_known(Channel::Apns, batch, |name| {
                self.accounts.contains_key(name)
            })?;
            Ok(match batch {
                [one] => vec![self.attempt_one(*one, deadline).await],
                many => join_all(many.iter().map(|one| self.attempt_one(*one, deadline))).await,
            })
        }
        .boxed()
    }

    fn limits(&self, account: &str) -> limits::Limits {
        let known = self.accounts.get(account);
        known
            .map(|ready| ready.account.limits.clone())
            .unwrap_or_default()
    }

    fn egress(&self) -> limits::Egress {
        self.egress.clone()
    }

    fn expiring(&self) -> Vec<Expiring> {
        let ends = self.accounts.iter();
        ends.filter_map(|(account, ready)| {
            Some(Expiring {
                account: account.clone(),
                not_after_millis: ready.certificate_ends?,
            })
        })
        .collect()
    }
}
