//! The webhook channel's I/O.

use std::collections::HashMap;

use bongsu_domain::target::{TargetError, check_url};
use bongsu_domain::{Channel, Reason};
use bongsu_runtime::Clock;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request};
use tokio::time::Instant;

use super::config::{Account, SigningKey};
use super::{classify, payload};
use crate::client::{self, Reach};
use crate::limits::{Egress, Limits};
use crate::provider::{
    Attempt, AttemptResult, HEADER_ATTEMPT, HEADER_WORKER, Provider, ThrottleScope, TryError,
    only_known,
};
use crate::registry::BuildError;
use crate::retry_after;
use crate::settings::{DEFAULT_ACCOUNT, HttpSettings};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ID: HeaderName = HeaderName::from_static(payload::HEADER_ID);
const TIMESTAMP: HeaderName = HeaderName::from_static(payload::HEADER_TIMESTAMP);
const SIGNATURE: HeaderName = HeaderName::from_static(payload::HEADER_SIGNATURE);

/// Sends webhooks. One client for guarded accounts and one for those that may call private targets.
pub struct WebhookProvider {
    accounts: HashMap<String, Ready>,
    egress: Egress,
    worker: HeaderValue,
    clock: Clock,
}

/// An account, ready to send.
struct Ready {
    keys: Vec<SigningKey>,
    allow_private: bool,
    client: Client,
    limits: Limits,
    one_receiver: bool,
}

impl WebhookProvider {
    /// Makes the clients and reads the keys.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(
        settings: &HttpSettings<Account>,
        worker: &str,
        clock: Clock,
    ) -> Result<Self, BuildError> {
        let channel = Channel::Webhook.as_str();
        let make = |reach| {
            client::build(&settings.client, reach)
                .map_err(|source| BuildError::Client { channel, source })
        };
        let guarded = make(Reach::Public)?;
        let open = make(Reach::Anywhere)?;
        let ready = |name: &str, account: &Account| {
            let keys = account.secrets.iter().map(SigningKey::new);
            Ok(Ready {
                keys: keys
                    .collect::<Result<_, _>>()
                    .map_err(|message| BuildError::Account {
                        channel,
                        account: name.to_owned(),
                        message: message.to_owned(),
                    })?,
                allow_private: account.allow_private,
                limits: account.limits.clone(),
                one_receiver: account.one_receiver,
                client: if account.allow_private {
                    open.clone()
                } else {
                    guarded.clone()
                },
            })
        };
        let mut accounts = HashMap::new();
        accounts.insert(
            DEFAULT_ACCOUNT.to_owned(),
            ready(DEFAULT_ACCOUNT, &Account::default())?,
        );
        for (name, account) in &settings.accounts {
            accounts.insert(name.clone(), ready(name, account)?);
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
        let url = match check_url(&delivery.address.address, account.allow_private) {
            Ok(url) => url,
            Err(TargetError::Private) => return AttemptResult::Refused(Reason::PrivateAddress),
            Err(TargetError::Malformed | TargetError::Scheme | TargetError::UserInfo) => {
                return AttemptResult::Refused(Reason::InvalidAddress);
            }
        };
        let Ok(body) = payload::body(delivery) else {
            return AttemptResult::Refused(Reason::InvalidContent);
        };
        let scope = if account.one_receiver {
            ThrottleScope::Account
        } else {
            ThrottleScope::Address
        };
        let now = self.clock.now_millis();
        let mut request = Request::new(Method::POST, url);
        *request.headers_mut() = self.headers(attempt, &account.keys, now, &body);
        match client::exchange(&account.client, request, body, deadline).await {
            Ok(answer) => {
                let wait = answer.headers.get(RETRY_AFTER).and_then(|value| {
                    retry_after::parse(value.to_str().ok()?, self.clock.now_millis())
                });
                classify::classify(answer.status, wait, scope)
            }
            Err(no_answer) => no_answer.result(),
        }
    }

    fn headers(
        &self,
        attempt: Attempt<'_>,
        keys: &[SigningKey],
        now_millis: i64,
        body: &[u8],
    ) -> HeaderMap {
        let id = attempt.delivery.id.to_string();
        let timestamp = (now_millis / 1_000).to_string();
        let signature = payload::signature(keys, &id, &timestamp, body);
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(HEADER_WORKER, self.worker.clone());
        headers.insert(HEADER_ATTEMPT, HeaderValue::from(attempt.number));
        // Digits, hyphens and base64 always are valid header values.
        for (name, value) in [(ID, id), (TIMESTAMP, timestamp), (SIGNATURE, signature)] {
            if let (false, Ok(value)) = (value.is_empty(), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

impl Provider for WebhookProvider {
    fn limits(&self, account: &str) -> Limits {
        let known = self.accounts.get(account);
        known.map(|ready| ready.limits.clone()).unwrap_or_default()
    }

    fn serves_strangers(&self, account: &str) -> bool {
        self.accounts.get(account).is_none_or(|a| !a.one_receiver)
    }

    fn egress(&self) -> Egress {
        self.egress.clone()
    }

    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        async move {
            only_known(Channel::Webhook, batch, |name| {
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
