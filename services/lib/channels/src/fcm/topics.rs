//! Who subscribed to a topic: tokens are added and taken away in batches of at most a thousand.
//!
//! Sending to topics and conditions is [`PushTarget`]'s form of address; this is the other half, which
//! belongs to no delivery. Both changes are idempotent, so a batch that failed as a whole is tried
//! again. [R: Firebase, "Manage topic subscriptions", 2026-08: a thousand tokens; M: from memory: the
//! service's paths, words and header, as Google's SDKs use them]

use std::time::Duration;

use bongsu_domain::PushTarget;
use bongsu_runtime::Clock;
use futures_util::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::Instant;
use url::Url;

use super::config::{Account, AccountFault};
use super::token::{NoToken, RENEWAL_INTERVAL, Renewal, TokenSource};
use crate::client::{self, ClientError, Reach};
use crate::retry_after;
use crate::settings::ClientSettings;

/// Tokens of one request. \[R\]
pub const BATCH: usize = 1_000;
/// Requests that are made for one batch before it is given up.
pub const TRIES: u32 = 5;

/// Bytes of an answer that are read: a thousand results of some 40 bytes, with room.
const ANSWER_BYTES: usize = 256 * 1024;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first wait after a failure; it doubles. [R: Google asks for exponential waits]
const BACKOFF: Duration = Duration::from_secs(1);
/// Tells the service that the token is OAuth's and no legacy key. [M]
const OAUTH: HeaderName = HeaderName::from_static("access_token_auth");

/// What is done to the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They get what is sent to the topic.
    Subscribe,
    /// They get it no more.
    Unsubscribe,
}

impl Change {
    const fn path(self) -> &'static str {
        match self {
            Self::Subscribe => "/iid/v1:batchAdd",
            Self::Unsubscribe => "/iid/v1:batchRemove",
        }
    }
}

/// The batch came to nothing; no token of it can be counted on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopicError {
    /// The service account is refused, or may not do this.
    #[error("the account is refused: {0}")]
    Account(String),
    /// The request is wrong.
    #[error("the service refuses the request: {0}")]
    Request(String),
    /// The service, or the token endpoint, kept failing.
    #[error("the service did not answer as it should: {0}")]
    Unavailable(String),
}

/// The client of one account's topics cannot be made.
#[derive(Debug, Error)]
pub enum TopicClientError {
    /// Of the account's own.
    #[error("{} {}", .0.key, .0.message)]
    Account(AccountFault),
    /// Of TLS or the network.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl From<AccountFault> for TopicClientError {
    fn from(fault: AccountFault) -> Self {
        Self::Account(fault)
    }
}

/// One token's result: nothing, or the service's word on why not.
pub type Changed = Result<(), String>;

/// Changes subscriptions with one account's credential.
pub struct TopicClient {
    url: Url,
    client: Client,
    tokens: TokenSource,
    clock: Clock,
}

#[derive(Serialize)]
struct Body<'a> {
    to: &'a str,
    registration_tokens: &'a [String],
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    error: Option<String>,
}

/// What one request came to.
enum Asked {
    Done(Vec<Changed>),
    /// The access token was refused; another may do.
    Renew,
    /// Later again, after this time when the service named one.
    Later(Option<Duration>, String),
    Never(TopicError),
}

impl TopicClient {
    /// Reads the account's credential; opens no connection.
    ///
    /// # Errors
    /// [`TopicClientError`].
    pub fn new(
        account: &Account,
        settings: &ClientSettings,
        clock: Clock,
    ) -> Result<Self, TopicClientError> {
        let credential = account.credential()?;
        let token_url = account.token_url(&credential)?;
        // The operator writes both hosts: no guard is needed.
        let client = client::build(settings, Reach::Anywhere)?;
        Ok(Self {
            url: account.topics_url()?,
            tokens: TokenSource::new(credential, client.clone(), token_url, clock),
            client,
            clock,
        })
    }

    /// The name of a topic as the service takes it, from any way to write it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn topic(text: &str) -> Result<String, String> {
        let tagged = format!("topic:{}", text.strip_prefix("topic:").unwrap_or(text));
        match PushTarget::parse(&tagged) {
            Ok(target) => Ok(format!("/topics/{}", target.value())),
            Err(error) => Err(format!("`{text}` {error}")),
        }
    }

    /// A registration token, from any way to write it.
    ///
    /// # Errors
    /// What is wrong with it, without the token.
    pub fn token(text: &str) -> Result<&str, String> {
        match PushTarget::parse(text) {
            Ok(PushTarget::Token(token)) => Ok(token),
            Ok(PushTarget::Fid(_) | PushTarget::Topic(_) | PushTarget::Condition(_)) => {
                Err("is no registration token; topics take nothing else".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Changes at most [`BATCH`] tokens, one result per token in their order. `wait` is asked to
    /// pause between two tries, so that a caller's clock decides.
    ///
    /// Cancel safety: a dropped change may have been made; made again it is the same.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn change(
        &self,
        change: Change,
        topic: &str,
        tokens: &[String],
        wait: impl Fn(Duration) -> BoxFuture<'static, ()>,
    ) -> Result<Vec<Changed>, TopicError> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.ask(change, topic, tokens).await {
                Asked::Done(results) => return Ok(results),
                Asked::Never(error) => return Err(error),
                // Once at most: a second refusal in a row is the account's.
                Asked::Renew => {}
                Asked::Later(_, why) if tried >= TRIES => return Err(TopicError::Unavailable(why)),
                Asked::Later(after, _) => {
                    let own = BACKOFF.saturating_mul(2_u32.saturating_pow(tried - 1));
                    wait(after.unwrap_or(own)).await;
                }
            }
        }
    }

    async fn ask(&self, change: Change, topic: &str, tokens: &[String]) -> Asked {
        let deadline = Instant::now() + PATIENCE;
        let access = match self.tokens.current(deadline).await {
            Ok(access) => access,
            Err(NoToken::Refused) => {
                let why = "no access token is given to it".to_owned();
                return Asked::Never(TopicError::Account(why));
            }
            Err(NoToken::Throttled(after)) => {
                return Asked::Later(after, "the token endpoint asks to wait".to_owned());
            }
            Err(NoToken::Unavailable) => {
                return Asked::Later(None, "the token endpoint does not answer".to_owned());
            }
        };
        let body = Body {
            to: topic,
            registration_tokens: tokens,
        };
        let (Ok(url), Ok(body)) = (self.url.join(change.path()), serde_json::to_vec(&body)) else {
            return Asked::Never(TopicError::Request("it cannot be written".to_owned()));
        };
        let mut request = Request::new(Method::POST, url);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, access.header);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(OAUTH, HeaderValue::from_static("true"));
        let asked = client::exchange_up_to(&self.client, request, body, deadline, ANSWER_BYTES);
        let Ok(answer) = asked.await else {
            return Asked::Later(None, "no answer".to_owned());
        };
        let wait = answer
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| retry_after::parse(value.to_str().ok()?, self.clock.now_millis()));
        let asked = judge(answer.status.as_u16(), &answer.body, wait, tokens.len());
        match asked {
            Asked::Renew => match self.tokens.refused(access.number) {
                Renewal::Renewed => Asked::Renew,
                Renewal::TooSoon => {
                    let why = "a fresh access token is refused".to_owned();
                    Asked::Later(Some(RENEWAL_INTERVAL), why)
                }
                Renewal::Stuck => Asked::Never(TopicError::Account("401".to_owned())),
            },
            Asked::Done(_) => {
                self.tokens.accepted(access.number);
                asked
            }
            Asked::Later(..) | Asked::Never(_) => asked,
        }
    }
}

/// What an answer means. Pure.
fn judge(status: u16, body: &[u8], wait: Option<Duration>, tokens: usize) -> Asked {
    let said = || {
        let error = serde_json::from_slice::<One>(body).ok();
        let word = error.and_then(|one| one.error).unwrap_or_default();
        let word: String = word.chars().take(64).collect();
        format!("{status} {word}").trim_end().to_owned()
    };
    match status {
        200 => {
            let Ok(answer) = serde_json::from_slice::<Answer>(body) else {
                return Asked::Later(None, "an unreadable answer".to_owned());
            };
            if answer.results.len() != tokens {
                let why = format!("{} results for {tokens} tokens", answer.results.len());
                return Asked::Later(None, why);
            }
            let results = answer.results.into_iter();
            Asked::Done(results.map(|one| one.error.map_or(Ok(()), Err)).collect())
        }
        401 => Asked::Renew,
        403 => Asked::Never(TopicError::Account(said())),
        429 | 500..=599 => Asked::Later(wait, said()),
        _ => Asked::Never(TopicError::Request(said())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_tokens_are_read_from_every_way_to_write_them() {
        for text in ["news", "topic:news", "/topics/news", "topic:/topics/news"] {
            assert_eq!(TopicClient::topic(text).as_deref(), Ok("/topics/news"));
        }
        for text in ["", "a b", "topic:", "condition:'a' in topics"] {
            assert!(TopicClient::topic(text).is_err(), "{text}");
        }
        assert_eq!(TopicClient::token("token:abcdefgh:1"), Ok("abcdefgh:1"));
        for text in [
            "fid:cAbcdefghijklmnopqrstu",
            "topic:news",
            "short",
            "a b c d e f g",
        ] {
            let fault = TopicClient::token(text).unwrap_err();
            assert!(!fault.contains(text), "{fault}");
        }
    }

    #[test]
    fn an_answer_is_counted_token_by_token() {
        let of = |status, body: &str| judge(status, body.as_bytes(), None, 2);
        let one = r#"{"results":[{},{"error":"NOT_FOUND"}]}"#;
        let expected = vec![Ok(()), Err("NOT_FOUND".to_owned())];
        assert!(matches!(of(200, one), Asked::Done(results) if results == expected));
        for body in ["", "{}", r#"{"results":[{}]}"#] {
            assert!(matches!(of(200, body), Asked::Later(None, _)), "{body}");
        }
        assert!(matches!(of(401, ""), Asked::Renew));
        assert!(matches!(of(503, ""), Asked::Later(None, why) if why == "503"));
        let wrong = of(400, r#"{"error":"InvalidTopicName"}"#);
        let word = TopicError::Request("400 InvalidTopicName".to_owned());
        assert!(matches!(wrong, Asked::Never(error) if error == word));
        assert!(matches!(of(403, ""), Asked::Never(TopicError::Account(_))));
    }
}
