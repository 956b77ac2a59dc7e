//! The token of an account of Infobank's older APIs: fetched when it is needed, kept until shortly
//! before its end, fetched anew when it is refused. Several tokens of one client are valid at once,
//! so workers need not share one; too many requests for tokens are answered 429. [R: OMNI guide]

use reqwest::header::{HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request};
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::infobank;
use crate::client;
use crate::provider::AttemptResult;
use crate::retry_after;

const CLIENT_ID: HeaderName = HeaderName::from_static("x-ib-client-id");
const CLIENT_PASSWORD: HeaderName = HeaderName::from_static("x-ib-client-passwd");

/// The token of one account.
pub(super) struct Session {
    url: Url,
    id: HeaderValue,
    password: HeaderValue,
    token: Mutex<Option<Kept>>,
}

struct Kept {
    header: HeaderValue,
    until: Instant,
}

impl Session {
    pub(super) fn new(url: Url, id: &str, password: &str) -> Result<Self, String> {
        let header = |text: &str| {
            let mut value = HeaderValue::from_str(text)
                .map_err(|_| "client_id or api_key cannot stand in a header".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        };
        Ok(Self {
            url,
            id: header(id)?,
            password: header(password)?,
            token: Mutex::new(None),
        })
    }

    /// The token's header. One request at a time fetches it; the others wait for that.
    ///
    /// Cancel safety: a dropped fetch is made again by whoever comes next.
    ///
    /// # Errors
    /// What the missing token means for the attempt; nothing was sent.
    pub(super) async fn header(
        &self,
        client: &Client,
        now_millis: i64,
        deadline: Instant,
    ) -> Result<HeaderValue, AttemptResult> {
        let Ok(mut kept) = tokio::time::timeout_at(deadline, self.token.lock()).await else {
            return Err(AttemptResult::Unavailable);
        };
        if let Some(kept) = kept.as_ref().filter(|kept| kept.until > Instant::now()) {
            return Ok(kept.header.clone());
        }
        let mut request = Request::new(Method::POST, self.url.clone());
        request.headers_mut().insert(CLIENT_ID, self.id.clone());
        request
            .headers_mut()
            .insert(CLIENT_PASSWORD, self.password.clone());
        let asked = client::exchange(client, request, Vec::new(), deadline).await;
        // Nothing of the notification has left.
        let answer = asked.map_err(|_| AttemptResult::Unavailable)?;
        let wait = answer
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| retry_after::parse(value.to_str().ok()?, now_millis));
        let token = infobank::token(answer.status, &answer.body, wait)?;
        let mut header =
            HeaderValue::from_str(&token.header).map_err(|_| AttemptResult::AccountFault)?;
        header.set_sensitive(true);
        *kept = Some(Kept {
            header: header.clone(),
            until: Instant::now() + token.life,
        });
        Ok(header)
    }

    /// Drops a token that was refused, unless another one has taken its place.
    pub(super) async fn refused(&self, header: &HeaderValue) {
        let mut kept = self.token.lock().await;
        if kept.as_ref().is_some_and(|kept| kept.header == *header) {
            *kept = None;
        }
    }
}
