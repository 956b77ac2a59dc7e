//! Where tokens come from: the client credentials grant (RFC 6749, 4.4).

use std::ffi::CString;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bongsu_runtime::Secret;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use thiserror::Error;
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::error::{AdminError, ConsumeError, TransactionError};
use crate::kafka::settings::{OauthBearer, SettingsError, fault};

/// How long one fetch may take.
const FETCH: Duration = Duration::from_secs(10);

/// Most bytes of an answer. Tokens have a few KiB.
const LARGEST_ANSWER: usize = 64 * 1024;

/// How long a token lives that does not say. RFC 6749 leaves it open. (D)
const UNSAID: Duration = Duration::from_mins(5);

/// Longer lives are not believed: a secret that was taken away should be noticed within a day.
const LONGEST_LIFE: Duration = Duration::from_hours(24);

/// The settings to look at when the endpoint speaks of the client.
const CLIENT: &str = "kafka.sasl.oauth";

/// The setting to look at when there is no token endpoint where one should be.
const TOKEN_URL: &str = "kafka.sasl.oauth.token_url";

/// There is no token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{setting}: {reason}; {fix}")]
pub(in crate::kafka) struct NoToken {
    setting: &'static str,
    reason: String,
    fix: &'static str,
    /// The endpoint refused the client: waiting does not help.
    pub(super) certain: bool,
}

impl NoToken {
    fn refused(status: StatusCode, code: &str) -> Self {
        Self {
            setting: CLIENT,
            reason: format!("the token endpoint answers {} {code}", status.as_u16())
                .trim_end()
                .to_owned(),
            fix: "check client_id, client_secret and scope, and that the client may use the client \
                  credentials grant",
            certain: true,
        }
    }

    fn unavailable(reason: impl Into<String>) -> Self {
        Self {
            setting: TOKEN_URL,
            reason: reason.into(),
            fix: "check that this is the address of a token endpoint, and that it is up",
            certain: false,
        }
    }

    /// The endpoint has not answered yet.
    pub(super) fn unanswered() -> Self {
        Self::unavailable("no answer yet")
    }

    /// This process cannot ask.
    pub(super) fn impossible(error: &dyn std::error::Error) -> Self {
        Self::unavailable(format!("nothing can be asked here: {error}"))
    }

    /// As the error of a transactional producer that cannot start.
    pub(in crate::kafka) fn of_transaction(self) -> TransactionError {
        if self.certain {
            return TransactionError::Fatal(self.to_string());
        }
        TransactionError::Aborted(format!("there is no token for Kafka: {self}"))
    }
}

impl From<NoToken> for AdminError {
    fn from(none: NoToken) -> Self {
        if none.certain {
            return Self::NoEntry {
                setting: none.setting,
                fix: none.fix,
                reason: none.reason,
            };
        }
        Self::Unavailable(format!("there is no token to show it: {none}"))
    }
}

impl From<NoToken> for ConsumeError {
    fn from(none: NoToken) -> Self {
        if none.certain {
            return Self::Client(none.to_string());
        }
        Self::Unavailable(format!("there is no token to show it: {none}"))
    }
}

/// A token. Has no `Debug`: it must not be printed.
pub(super) struct Token {
    pub(super) text: CString,
    /// How long it lives from the moment it was asked for.
    pub(super) life: Duration,
    pub(super) ends: Instant,
    /// The same moment on the clock on the wall, which librdkafka goes by.
    pub(super) ends_unix_millis: i64,
}

/// The token endpoint, and what it is asked.
#[derive(Clone)]
pub(super) struct Source {
    client: Client,
    url: Url,
    /// Id and secret, form-encoded as RFC 6749, 2.3.1 wants them before they are joined.
    id: String,
    secret: Secret,
    form: String,
}

impl Source {
    pub(super) fn new(settings: &OauthBearer) -> Result<Self, SettingsError> {
        let url = Url::parse(&settings.token_url).ok();
        let url = url
            .filter(|url| ["http", "https"].contains(&url.scheme()))
            .ok_or_else(|| {
                fault(
                    "sasl.oauth.token_url",
                    "write the token endpoint's address, https://…",
                )
            })?;
        if settings.client_id.is_empty() {
            return Err(fault("sasl.oauth.client_id", "it is empty"));
        }
        if settings.client_secret.is_empty() {
            return Err(fault("sasl.oauth.client_secret", "it is empty"));
        }
        let client = Client::builder()
            .timeout(FETCH)
            // Credentials go to the address the operator wrote, and to no other.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .build()
            .map_err(|e| fault("sasl.oauth", &causes(&e)))?;
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if let Some(scope) = settings.scope.as_deref().filter(|s| !s.is_empty()) {
            form.append_pair("scope", scope);
        }
        let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        Ok(Self {
            client,
            url,
            id: encode(&settings.client_id),
            secret: Secret::new(encode(settings.client_secret.expose())),
            form: form.finish(),
        })
    }

    /// Asks for a token, once.
    pub(super) async fn fetch(&self) -> Result<Token, NoToken> {
        // The endpoint counts from its own moment, which is later.
        let (asked, asked_at) = (Instant::now(), SystemTime::now());
        let request = self
            .client
            .post(self.url.clone())
            .basic_auth(&self.id, Some(self.secret.expose()))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(self.form.clone());
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let body = bounded(answer).await?;
        let (text, life) = read(status, &body)?;
        let ends_unix = asked_at.duration_since(UNIX_EPOCH).unwrap_or_default() + life;
        Ok(Token {
            text,
            life,
            ends: asked + life,
            ends_unix_millis: i64::try_from(ends_unix.as_millis()).unwrap_or(i64::MAX),
        })
    }
}

fn failed(error: reqwest::Error) -> NoToken {
    // The address may carry credentials.
    NoToken::unavailable(causes(&error.without_url()))
}

/// An error and what led to it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}

async fn bounded(mut answer: Response) -> Result<Vec<u8>, NoToken> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(failed)? {
        if body.len() + part.len() > LARGEST_ANSWER {
            return Err(NoToken::unavailable(format!(
                "the answer is larger than {LARGEST_ANSWER} bytes"
            )));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// What of an answer is read.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    token_type: String,
    #[serde(default)]
    expires_in: Option<Seconds>,
}

/// A number; some endpoints write it as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

/// What of a refusal is read (RFC 6749, 5.2).
#[derive(Deserialize, Default)]
#[serde(default)]
struct Refusal {
    error: String,
}

/// The token of an answer, and how long it lives. Nothing of the answer but the code of a refusal is
/// ever told: it may be a token.
fn read(status: StatusCode, body: &[u8]) -> Result<(CString, Duration), NoToken> {
    if !status.is_success() {
        return Err(refusal(status, body));
    }
    let granted: Granted = serde_json::from_slice(body)
        .map_err(|_| NoToken::unavailable("the answer is no token answer"))?;
    // RFC 6749, 5.1: the type is required and its case does not matter; some leave it out.
    if !granted.token_type.is_empty() && !granted.token_type.eq_ignore_ascii_case("bearer") {
        return Err(NoToken::unavailable("the token is no bearer token"));
    }
    // RFC 6750, 2.1: visible characters only. One that is not would also not pass as a C string.
    let visible = granted.access_token.bytes().all(|b| b.is_ascii_graphic());
    let text = CString::new(granted.access_token)
        .ok()
        .filter(|text| visible && !text.is_empty())
        .ok_or_else(|| NoToken::unavailable("the token is empty or has strange characters"))?;
    Ok((text, life(granted.expires_in)?))
}

fn life(expires_in: Option<Seconds>) -> Result<Duration, NoToken> {
    let seconds = match expires_in {
        None => return Ok(UNSAID),
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(text)) => text.parse().ok(),
    };
    seconds
        .filter(|s| *s > 0.0)
        .map(|s| Duration::try_from_secs_f64(s).map_or(LONGEST_LIFE, |l| l.min(LONGEST_LIFE)))
        .ok_or_else(|| NoToken::unavailable("expires_in is no number above 0"))
}

fn refusal(status: StatusCode, body: &[u8]) -> NoToken {
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let code: String = refusal
        .error
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .take(40)
        .collect();
    // Others speak of the address or of the moment.
    let of_client = [
        StatusCode::BAD_REQUEST,
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
    ];
    if of_client.contains(&status) {
        return NoToken::refused(status, &code);
    }
    NoToken::unavailable(format!("it answers {} {code}", status.as_u16()).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> OauthBearer {
        OauthBearer {
            token_url: "https://id.example/token".to_owned(),
            client_id: "a:b".to_owned(),
            client_secret: Secret::new("c d"),
            scope: Some("kafka read".to_owned()),
        }
    }

    fn granted(body: &str) -> Result<(String, u64), String> {
        read(StatusCode::OK, body.as_bytes())
            .map(|(text, life)| (text.into_string().unwrap(), life.as_secs()))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn settings_become_a_form_and_encoded_credentials() {
        let source = Source::new(&settings()).unwrap();
        assert_eq!(
            source.form,
            "grant_type=client_credentials&scope=kafka+read"
        );
        assert_eq!(
            (source.id.as_str(), source.secret.expose()),
            ("a%3Ab", "c+d")
        );
    }

    #[test]
    fn settings_that_cannot_work_name_their_field() {
        for (field, broken) in [
            (
                "token_url",
                OauthBearer {
                    token_url: "id.example/token".to_owned(),
                    ..settings()
                },
            ),
            (
                "client_id",
                OauthBearer {
                    client_id: String::new(),
                    ..settings()
                },
            ),
            (
                "client_secret",
                OauthBearer {
                    client_secret: Secret::default(),
                    ..settings()
                },
            ),
        ] {
            let told = Source::new(&broken).err().unwrap().to_string();
            assert!(
                told.starts_with(&format!("kafka.sasl.oauth.{field}: ")),
                "{told}"
            );
        }
    }

    #[test]
    fn a_token_lives_as_long_as_its_answer_says() {
        let lives =
            |rest: &str| granted(&format!(r#"{{"access_token":"x"{rest}}}"#)).map(|(_, life)| life);
        assert_eq!(lives(r#","expires_in":60,"token_type":"bearer""#), Ok(60));
        assert_eq!(lives(r#","expires_in":"3600""#), Ok(3600));
        assert_eq!(lives(r#","expires_in":null"#), Ok(UNSAID.as_secs()));
        assert_eq!(lives(""), Ok(UNSAID.as_secs()));
        assert_eq!(lives(r#","expires_in":1e300"#), Ok(LONGEST_LIFE.as_secs()));
        for never in ["0", "-1", r#""soon""#, r#""NaN""#] {
            let told = lives(&format!(r#","expires_in":{never}"#)).unwrap_err();
            assert!(told.contains("expires_in"), "{never}: {told}");
        }
    }

    #[test]
    fn what_is_no_token_is_not_taken_and_not_told() {
        for body in [
            "<html>sesame</html>",
            r#"{"access_token":""}"#,
            r#"{"access_token":"sesame\u0000"}"#,
            r#"{"access_token":"open sesame"}"#,
            r#"{"access_token":"sesame","token_type":"mac"}"#,
        ] {
            let told = granted(body).unwrap_err();
            assert!(told.starts_with("kafka.sasl.oauth.token_url: "), "{told}");
            assert!(!told.contains("sesame"), "{told}");
        }
    }

    #[test]
    fn a_refused_client_is_certain_and_a_busy_endpoint_is_not() {
        let body = br#"{"error":"invalid_client","error_description":"sesame"}"#;
        let refused = read(StatusCode::UNAUTHORIZED, body).unwrap_err();
        assert!(refused.certain);
        let told = AdminError::from(refused).to_string();
        assert!(told.contains("kafka.sasl.oauth is refused"), "{told}");
        assert!(told.contains("401 invalid_client"), "{told}");
        assert!(!told.contains("sesame"), "{told}");
        for status in [StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE] {
            let busy = read(status, b"").unwrap_err();
            assert!(!busy.certain);
            assert!(busy.to_string().contains(status.as_str()), "{busy}");
        }
    }
}
