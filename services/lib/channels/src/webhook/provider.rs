//! The webhook channel's I/O.

use std::collections::HashMap;
use std::sync::Arc;

use bongsu_domain::target::{TargetError, check_url};
use bongsu_domain::{Channel, Delivery, Reason};
use bongsu_runtime::Clock;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Client, Method, Request, StatusCode};
use tokio::time::Instant;

use super::cloudevents::{self, Attributes};
use super::config::{Account, Format};
use super::keys::SigningKey;
use super::oauth::{self, NoToken, Token, Tokens};
use super::{classify, payload};
use crate::client;
use crate::limits::{Egress, Limits};
use crate::provider::{
    Attempt, AttemptResult, Expiring, HEADER_ATTEMPT, HEADER_WORKER, Provider, ThrottleScope,
    TryError, only_known,
};
use crate::registry::BuildError;
use crate::retry_after;
use crate::settings::{ClientSettings, DEFAULT_ACCOUNT, HttpSettings};
use crate::ssrf::PublicOnly;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLOUD_EVENT: HeaderValue = HeaderValue::from_static(cloudevents::STRUCTURED);
const ID: HeaderName = HeaderName::from_static(payload::HEADER_ID);
const TIMESTAMP: HeaderName = HeaderName::from_static(payload::HEADER_TIMESTAMP);
const SIGNATURE: HeaderName = HeaderName::from_static(payload::HEADER_SIGNATURE);

/// Sends webhooks. One client for guarded accounts, one for those that may call private targets, and
/// one for each account with a certificate of its own.
pub struct WebhookProvider {
    accounts: HashMap<String, Ready>,
    egress: Egress,
    worker: HeaderValue,
    clock: Clock,
}

/// An account, ready to send.
struct Ready {
    keys: Vec<SigningKey>,
    format: Format,
    source: String,
    event_type: String,
    credential: Credential,
    certificate_ends: Option<i64>,
    allow_private: bool,
    client: Client,
    limits: Limits,
    one_receiver: bool,
}

/// What a request proves itself with, beside signatures and certificates.
enum Credential {
    None,
    /// The same with every request.
    Fixed(HeaderValue),
    /// Fetched, and renewed.
    Fetched(Arc<Tokens>),
}

/// The clients that accounts share.
struct Clients<'a> {
    settings: &'a ClientSettings,
    guard: PublicOnly,
    guarded: Client,
    open: Client,
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
        Self::guarded_by(PublicOnly::default(), settings, worker, clock)
    }

    /// As [`WebhookProvider::new`], with a guard of one's own before the accounts that may not call
    /// private targets.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn guarded_by(
        guard: PublicOnly,
        settings: &HttpSettings<Account>,
        worker: &str,
        clock: Clock,
    ) -> Result<Self, BuildError> {
        let clients = Clients::new(&settings.client, guard)?;
        let mut accounts = HashMap::new();
        accounts.insert(
            DEFAULT_ACCOUNT.to_owned(),
            clients.ready(DEFAULT_ACCOUNT, &Account::default())?,
        );
        for (name, account) in &settings.accounts {
            accounts.insert(name.clone(), clients.ready(name, account)?);
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
            Err(
                TargetError::Malformed
                | TargetError::Scheme
                | TargetError::UserInfo
                | TargetError::Port,
            ) => {
                return AttemptResult::Refused(Reason::InvalidAddress);
            }
        };
        let token = match account.token(deadline).await {
            Ok(token) => token,
            Err(error) => {
                tracing::warn!(account = delivery.address.account, %error, "no webhook is sent");
                return AttemptResult::AccountFault;
            }
        };
        let Ok(built) = account.build(delivery) else {
            return AttemptResult::Refused(Reason::InvalidContent);
        };
        let scope = if account.one_receiver {
            ThrottleScope::Account
        } else {
            ThrottleScope::Address
        };
        let mut request = Request::new(Method::POST, url);
        *request.headers_mut() = self.headers(attempt, account, token.as_deref(), &built);
        match client::exchange(&account.client, request, built.body, deadline).await {
            Ok(answer) => {
                if answer.status == StatusCode::UNAUTHORIZED && account.renews(token.as_ref()) {
                    return AttemptResult::NotProcessed;
                }
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
        account: &Ready,
        token: Option<&Token>,
        built: &Built,
    ) -> HeaderMap {
        let id = attempt.delivery.id.to_string();
        let timestamp = (self.clock.now_millis() / 1_000).to_string();
        let signature = payload::signature(&account.keys, &id, &timestamp, &built.body);
        let mut headers = HeaderMap::with_capacity(20);
        headers.insert(CONTENT_TYPE, built.content_type.clone());
        headers.insert(HEADER_WORKER, self.worker.clone());
        headers.insert(HEADER_ATTEMPT, HeaderValue::from(attempt.number));
        // Digits, hyphens and base64 always are valid header values.
        for (name, value) in [(ID, id), (TIMESTAMP, timestamp), (SIGNATURE, signature)] {
            if let (false, Ok(value)) = (value.is_empty(), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
        for (name, value) in &built.attributes {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(*name, value);
            }
        }
        match (&account.credential, token) {
            (Credential::Fixed(value), _) => drop(headers.insert(AUTHORIZATION, value.clone())),
            (Credential::Fetched(_), Some(token)) => {
                headers.insert(AUTHORIZATION, token.header.clone());
            }
            (Credential::None | Credential::Fetched(_), _) => {}
        }
        headers
    }
}

/// A request's own part of one delivery.
struct Built {
    body: Vec<u8>,
    content_type: HeaderValue,
    attributes: Vec<(&'static str, String)>,
}

impl Ready {
    fn build(&self, delivery: &Delivery) -> Result<Built, serde_json::Error> {
        let attributes = || Attributes::new(delivery, &self.source, &self.event_type);
        Ok(match self.format {
            Format::Standard => Built {
                body: payload::body(delivery, &self.event_type)?,
                content_type: JSON,
                attributes: Vec::new(),
            },
            Format::CloudeventsStructured => Built {
                body: attributes().structured(delivery)?,
                content_type: CLOUD_EVENT,
                attributes: Vec::new(),
            },
            Format::CloudeventsBinary => Built {
                body: cloudevents::binary(delivery)?,
                content_type: JSON,
                attributes: attributes().headers().into(),
            },
        })
    }

    async fn token(&self, deadline: Instant) -> Result<Option<Arc<Token>>, NoToken> {
        match &self.credential {
            Credential::Fetched(tokens) => tokens.get(deadline).await.map(Some),
            Credential::None | Credential::Fixed(_) => Ok(None),
        }
    }

    /// Whether a refused token is worth another try with a new one: nothing was processed, and the
    /// attempt is not the delivery's fault.
    fn renews(&self, token: Option<&Arc<Token>>) -> bool {
        match (&self.credential, token) {
            (Credential::Fetched(tokens), Some(token)) => tokens.refused(token),
            (Credential::None | Credential::Fixed(_) | Credential::Fetched(_), _) => false,
        }
    }
}

impl<'a> Clients<'a> {
    fn new(settings: &'a ClientSettings, guard: PublicOnly) -> Result<Self, BuildError> {
        Ok(Self {
            guarded: make(settings, Some(guard.clone()), None)?,
            open: make(settings, None, None)?,
            settings,
            guard,
        })
    }

    fn ready(&self, name: &str, account: &Account) -> Result<Ready, BuildError> {
        let wrong = |message: String| BuildError::Account {
            channel: Channel::Webhook.as_str(),
            account: name.to_owned(),
            message,
        };
        let keys: Result<Vec<_>, _> = account.secrets.iter().map(SigningKey::new).collect();
        let identity = account.identity().map_err(|e| wrong(e.to_string()))?;
        let client = match &identity {
            None if account.allow_private => self.open.clone(),
            None => self.guarded.clone(),
            Some(_) => {
                let guard = (!account.allow_private).then(|| self.guard.clone());
                make(self.settings, guard, Some(account))?
            }
        };
        let credential = if account.has_oauth() {
            let tokens = Tokens::new(account, self.open.clone());
            Credential::Fetched(Arc::new(tokens.map_err(|m| wrong(m.to_owned()))?))
        } else if !account.bearer.is_empty() {
            let bearer = format!("Bearer {}", account.bearer.expose());
            Credential::Fixed(oauth::sensitive(bearer))
        } else if !account.basic_user.is_empty() {
            let password = account.basic_password.expose();
            Credential::Fixed(oauth::basic(&account.basic_user, password))
        } else {
            Credential::None
        };
        Ok(Ready {
            keys: keys.map_err(|message| wrong(message.to_owned()))?,
            format: account.format,
            source: account.source.clone(),
            event_type: account.event_type.clone(),
            credential,
            certificate_ends: identity.map(|i| i.not_after_millis()),
            allow_private: account.allow_private,
            client,
            limits: account.limits.clone(),
            one_receiver: account.one_receiver,
        })
    }
}

/// A client, with the account's certificate when it has one.
fn make(
    settings: &ClientSettings,
    guard: Option<PublicOnly>,
    account: Option<&Account>,
) -> Result<Client, BuildError> {
    let build = || {
        let mut builder = client::builder(settings, guard)?;
        if let Some(account) = account {
            let (chain, key) = (
                account.certificate.expose(),
                account.certificate_key.expose(),
            );
            let pem = format!("{chain}\n{key}");
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes())?);
        }
        Ok(builder.build()?)
    };
    build().map_err(|source| BuildError::Client {
        channel: Channel::Webhook.as_str(),
        source,
    })
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

    fn expiring(&self) -> Vec<Expiring> {
        let ends = self.accounts.iter().filter_map(|(account, ready)| {
            Some(Expiring {
                account: account.clone(),
                not_after_millis: ready.certificate_ends?,
            })
        });
        ends.collect()
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
