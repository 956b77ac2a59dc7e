//! The Web Push channel's I/O.

use std::collections::HashMap;
use std::time::Duration;

use bongsu_domain::target::{TargetError, check_url};
use bongsu_domain::{Channel, Delivery, Reason, Subscription, Timestamp};
use bongsu_runtime::Clock;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Client, Method, Request};
use tokio::time::Instant;

use super::config::Account;
use super::pauses::Pauses;
use super::payload::Push;
use super::standing::Standing;
use super::vapid::{Tokens, VapidKey};
use super::{classify, encryption, payload};
use crate::client::{self, Reach};
use crate::limits::{Egress, Limits};
use crate::provider::{
    Attempt, AttemptResult, HEADER_ATTEMPT, HEADER_WORKER, Provider, TryError, only_known,
};
use crate::registry::BuildError;
use crate::retry_after;
use crate::settings::HttpSettings;

const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const AES128GCM: HeaderValue = HeaderValue::from_static("aes128gcm");
const TTL: HeaderName = HeaderName::from_static("ttl");
const URGENCY: HeaderName = HeaderName::from_static("urgency");
const TOPIC: HeaderName = HeaderName::from_static("topic");

/// Sends Web Push notifications.
pub struct WebPushProvider {
    accounts: HashMap<String, Ready>,
    egress: Egress,
    worker: HeaderValue,
    clock: Clock,
}

/// An account, ready to send.
struct Ready {
    tokens: Tokens,
    settings: Account,
    client: Client,
    pauses: Pauses,
    standing: Standing,
}

impl WebPushProvider {
    /// Makes the clients and reads the keys.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(
        settings: &HttpSettings<Account>,
        worker: &str,
        clock: Clock,
    ) -> Result<Self, BuildError> {
        let channel = Channel::WebPush.as_str();
        let make = |reach| {
            client::build(&settings.client, reach)
                .map_err(|source| BuildError::Client { channel, source })
        };
        let guarded = make(Reach::Public)?;
        let open = make(Reach::Anywhere)?;
        let mut accounts = HashMap::new();
        for (name, account) in &settings.accounts {
            let key = VapidKey::read(&account.key).map_err(|message| BuildError::Account {
                channel,
                account: name.clone(),
                message: message.to_owned(),
            })?;
            let ready = Ready {
                tokens: Tokens::new(key, account.subject.clone(), account.token_life.0),
                settings: account.clone(),
                client: if account.allow_private {
                    open.clone()
                } else {
                    guarded.clone()
                },
                pauses: Pauses::default(),
                standing: Standing::default(),
            };
            accounts.insert(name.clone(), ready);
        }
        Ok(Self {
            accounts,
            egress: settings.egress.clone(),
            worker: HeaderValue::from_str(worker).map_err(|_| BuildError::WorkerId)?,
            clock,
        })
    }

    async fn attempt_one(&self, attempt: Attempt<'_>, deadline: Instant) -> AttemptResult {
        let delivery = attempt.delivery;
        // Checked by `only_known` before any attempt of the batch was made.
        let Some(account) = self.accounts.get(&delivery.address.account) else {
            return AttemptResult::Unavailable;
        };
        let subscription = match account.subscription(&delivery.address.address) {
            Ok(subscription) => subscription,
            Err(reason) => return AttemptResult::Refused(reason),
        };
        let origin = subscription.endpoint.origin().ascii_serialization();
        let now = Timestamp(self.clock.now_millis());
        let Ok(push) = payload::push(delivery, account.settings.body_bytes, now) else {
            return AttemptResult::Refused(Reason::InvalidContent);
        };
        let Ok(body) = encryption::encrypt(&subscription, &push.text) else {
            return AttemptResult::Refused(Reason::InvalidAddress);
        };
        let Some(token) = account.tokens.header(&origin, now.0) else {
            return AttemptResult::AccountFault;
        };
        let known = account
            .settings
            .knows(subscription.endpoint.host_str().unwrap_or_default());
        let mut request = Request::new(Method::POST, subscription.endpoint);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token);
        headers.insert(HEADER_WORKER, self.worker.clone());
        headers.insert(HEADER_ATTEMPT, HeaderValue::from(attempt.number));
        describe(headers, &push);
        let answer = match client::exchange(&account.client, request, body, deadline).await {
            Ok(answer) => answer,
            Err(no_answer) => return no_answer.result(),
        };
        let wait = answer
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| retry_after::parse(value.to_str().ok()?, self.clock.now_millis()));
        if matches!(answer.status.as_u16(), 401 | 403) {
            // A clock that jumped is mended by the next token.
            account.tokens.forget(&origin);
        }
        let result = match classify::classify(answer.status, &answer.body, wait, known) {
            classify::Reaction::Result(result) => result,
            classify::Reaction::KeyRefused { named } => account.key_refused(&origin, named),
        };
        if known && result == AttemptResult::Accepted {
            account.standing.accepted(&origin);
        }
        if let AttemptResult::Throttled {
            retry_after: Some(wait),
            ..
        } = result
        {
            account.pauses.pause(&origin, wait, Instant::now());
        }
        result
    }
}

impl Ready {
    /// One subscription of another account must not stop this one.
    fn key_refused(&self, origin: &str, named: bool) -> AttemptResult {
        if self.standing.blames_account(origin, named) {
            tracing::error!(
                origin,
                "the push service refuses this account's key or token; check key, subject and this \
                 machine's clock"
            );
            AttemptResult::AccountFault
        } else {
            AttemptResult::Refused(Reason::Credential)
        }
    }

    /// The subscription an address is, when it may be called.
    fn subscription(&self, address: &str) -> Result<Subscription, Reason> {
        let subscription = Subscription::parse(address).map_err(|_| Reason::InvalidAddress)?;
        let allowed = self.settings.allow_private;
        let url = match check_url(subscription.endpoint.as_str(), allowed) {
            Ok(url) => url,
            Err(TargetError::Private) => return Err(Reason::PrivateAddress),
            Err(
                TargetError::Malformed
                | TargetError::Scheme
                | TargetError::UserInfo
                | TargetError::Port,
            ) => {
                return Err(Reason::InvalidAddress);
            }
        };
        if url.scheme() == "https" || allowed {
            Ok(subscription)
        } else {
            Err(Reason::InvalidAddress)
        }
    }
}

/// The headers that say what the push is.
fn describe(headers: &mut reqwest::header::HeaderMap, push: &Push<'_>) {
    headers.insert(CONTENT_TYPE, BINARY);
    headers.insert(CONTENT_ENCODING, AES128GCM);
    headers.insert(TTL, HeaderValue::from(push.ttl));
    headers.insert(URGENCY, HeaderValue::from_static(push.urgency.as_str()));
    // A topic is base64url, so it always is a header's value.
    if let Some(Ok(topic)) = push.topic.as_deref().map(HeaderValue::from_str) {
        headers.insert(TOPIC, topic);
    }
}

impl Provider for WebPushProvider {
    fn limits(&self, account: &str) -> Limits {
        let known = self.accounts.get(account);
        known
            .map(|ready| ready.settings.limits.clone())
            .unwrap_or_default()
    }

    fn serves_strangers(&self, _account: &str) -> bool {
        true
    }

    fn egress(&self) -> Egress {
        self.egress.clone()
    }

    fn hold(&self, delivery: &Delivery) -> Option<Duration> {
        let pauses = &self.accounts.get(&delivery.address.account)?.pauses;
        let now = Instant::now();
        if !pauses.any(now) {
            return None;
        }
        let subscription = Subscription::parse(&delivery.address.address).ok()?;
        let origin = subscription.endpoint.origin().ascii_serialization();
        pauses.wait(&origin, now)
    }

    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        async move {
            only_known(Channel::WebPush, batch, |name| {
                self.accounts.contains_key(name)
            })?;
            Ok(match batch {
                // The usual case needs no join.
                [one] => vec![self.attempt_one(*one, deadline).await],
                many => join_all(many.iter().map(|one| self.attempt_one(*one, deadline))).await,
            })
        }
        .boxed()
    }
}
