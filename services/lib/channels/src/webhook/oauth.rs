//! Bearer tokens by OAuth 2 client credentials (RFC 6749, 4.4): cached, fetched by one attempt for
//! all that wait, and renewed before they end.
//!
//! Invariant: at most one request to the token endpoint of an account is open at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, Request};
use serde::Deserialize;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::config::Account;
use crate::client;

/// How long one fetch may take.
const FETCH: Duration = Duration::from_secs(10);
/// How long a token lives that does not say. RFC 6749 leaves it open. (D)
const UNSAID: Duration = Duration::from_mins(5);
/// A token is renewed when this part of its life is left, but at most [`EARLY`] before its end.
const LAST_PART: u32 = 10;
/// See [`LAST_PART`].
const EARLY: Duration = Duration::from_mins(1);
/// A token refused within this time after it was fetched is the account's fault, not its age's.
const FRESH: Duration = Duration::from_secs(10);

/// No token: nothing was sent to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoToken {
    /// The token endpoint refused the client.
    #[error("the token endpoint refused the client ({0})")]
    Refused(u16),
    /// The token endpoint gave no answer, or one that is no token.
    #[error("the token endpoint gave no token")]
    Unavailable,
}

/// A token ready to send.
pub struct Token {
    /// `Bearer …`, marked as sensitive.
    pub header: HeaderValue,
    fetched: Instant,
    renew_at: Instant,
}

type Fetched = Result<Arc<Token>, NoToken>;
type Fetch = Shared<BoxFuture<'static, Fetched>>;

/// The tokens of one account.
pub struct Tokens {
    client: Client,
    form: Arc<Form>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    fetch: Option<Fetch>,
}

/// The request for a token.
struct Form {
    url: Url,
    body: String,
    /// Basic authentication, when id and secret are not in the body.
    header: Option<HeaderValue>,
}

impl Tokens {
    /// Of an account that has a token endpoint.
    ///
    /// # Errors
    /// What is wrong with the settings, which [`Account::validate`] says too.
    pub fn new(account: &Account, client: Client) -> Result<Self, &'static str> {
        let url = Url::parse(&account.oauth_token_url).map_err(|_| "is no URL")?;
        let (id, secret) = (
            account.oauth_client_id.as_str(),
            account.oauth_client_secret.expose(),
        );
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        for (name, value) in [
            ("scope", &account.oauth_scope),
            ("audience", &account.oauth_audience),
        ] {
            if !value.is_empty() {
                form.append_pair(name, value);
            }
        }
        let header = if account.oauth_in_body {
            form.append_pair("client_id", id);
            form.append_pair("client_secret", secret);
            None
        } else {
            // RFC 6749, 2.3.1: both are form-encoded before they are joined.
            let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            Some(basic(&encode(id), &encode(secret)))
        };
        Ok(Self {
            client,
            form: Arc::new(Form {
                url,
                body: form.finish(),
                header,
            }),
            state: Mutex::default(),
        })
    }

    /// The token in force; fetched first when there is none or it ends soon.
    ///
    /// Cancel safety: dropping the future leaves the fetch to whoever else waits for it, or to the
    /// next caller.
    ///
    /// # Errors
    /// [`NoToken`]; at `deadline` at the latest.
    pub async fn get(&self, deadline: Instant) -> Fetched {
        let fetch = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(token) = &state.token
                && Instant::now() < token.renew_at
            {
                return Ok(Arc::clone(token));
            }
            let new = || {
                fetch(self.client.clone(), Arc::clone(&self.form))
                    .boxed()
                    .shared()
            };
            state.fetch.get_or_insert_with(new).clone()
        };
        let fetched = timeout_at(deadline, fetch.clone())
            .await
            .map_err(|_| NoToken::Unavailable)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever is first keeps the result; a later fetch is somebody else's.
        if state.fetch.as_ref().is_some_and(|open| open.ptr_eq(&fetch)) {
            state.fetch = None;
            if let Ok(token) = &fetched {
                state.token = Some(Arc::clone(token));
            }
        }
        fetched
    }

    /// A receiver refused the token. True when it was not quite new, so that another may be taken:
    /// it is forgotten, and the next attempt fetches one.
    pub fn refused(&self, token: &Arc<Token>) -> bool {
        if token.fetched.elapsed() < FRESH {
            return false;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .token
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, token))
        {
            state.token = None;
        }
        true
    }
}

/// The value of `Authorization` of basic authentication.
pub(super) fn basic(user: &str, password: &str) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    sensitive(format!("Basic {encoded}"))
}

/// A secret as a header's value. What cannot stand in one is an empty value; settings are checked.
pub(super) fn sensitive(text: String) -> HeaderValue {
    let mut value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// What of an answer is read.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    token_type: String,
    expires_in: Option<f64>,
}

async fn fetch(client: Client, form: Arc<Form>) -> Fetched {
    let started = Instant::now();
    let mut request = Request::new(Method::POST, form.url.clone());
    let headers = request.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(basic) = &form.header {
        headers.insert(AUTHORIZATION, basic.clone());
    }
    let body = form.body.clone().into_bytes();
    let answer = client::exchange(&client, request, body, started + FETCH)
        .await
        .map_err(|_| NoToken::Unavailable)?;
    if !answer.status.is_success() {
        // 400 (RFC 6749, 5.2) and 401 speak of the client, 5xx of the endpoint.
        tracing::warn!(
            status = answer.status.as_u16(),
            "the token endpoint gives no token"
        );
        return Err(if answer.status.is_client_error() {
            NoToken::Refused(answer.status.as_u16())
        } else {
            NoToken::Unavailable
        });
    }
    let granted: Granted =
        serde_json::from_slice(&answer.body).map_err(|_| NoToken::Unavailable)?;
    // RFC 6749, 5.1: the type is required and its case does not matter; some leave it out.
    if !granted.token_type.is_empty() && !granted.token_type.eq_ignore_ascii_case("bearer") {
        return Err(NoToken::Unavailable);
    }
    let life = granted
        .expires_in
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .unwrap_or(UNSAID)
        .min(Duration::from_hours(24));
    let header = sensitive(format!("Bearer {}", granted.access_token));
    if granted.access_token.is_empty() || header.is_empty() {
        return Err(NoToken::Unavailable);
    }
    Ok(Arc::new(Token {
        header,
        fetched: Instant::now(),
        // From before the request, for the endpoint counts from its own moment.
        renew_at: started + life.saturating_sub((life / LAST_PART).min(EARLY)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let account = Account {
            oauth_token_url: "http://localhost/token".into(),
            oauth_client_id: "a:b".into(),
            oauth_client_secret: bongsu_runtime::Secret::new("c d"),
            oauth_scope: "send all".into(),
            ..Account::default()
        };
        Tokens::new(&account, Client::new()).unwrap()
    }

    #[tokio::test]
    async fn id_and_secret_are_encoded_before_they_are_joined() {
        let tokens = tokens();
        assert_eq!(
            tokens.form.body,
            "grant_type=client_credentials&scope=send+all"
        );
        let header = tokens.form.header.clone().unwrap();
        assert_eq!(header, format!("Basic {}", STANDARD.encode("a%3Ab:c+d")));
        assert!(header.is_sensitive());
    }

    #[tokio::test]
    async fn a_refused_token_is_forgotten_unless_it_is_new() {
        let tokens = tokens();
        let fetched_at = |fetched| {
            Arc::new(Token {
                header: sensitive("Bearer x".into()),
                fetched,
                renew_at: Instant::now() + FETCH * 10,
            })
        };
        let token = fetched_at(Instant::now());
        tokens.state.lock().unwrap().token = Some(Arc::clone(&token));
        assert!(!tokens.refused(&token));
        assert!(tokens.get(Instant::now()).await.is_ok());
        let token = fetched_at(Instant::now().checked_sub(FRESH).unwrap());
        tokens.state.lock().unwrap().token = Some(Arc::clone(&token));
        assert!(tokens.refused(&token));
        assert!(tokens.state.lock().unwrap().token.is_none());
    }
}
