//! An official account, ready to send.

use std::time::Duration;

use bongsu_domain::chat::line_id;
use bongsu_domain::{Channel, Reason};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::config::Account;
use super::{classify, payload};
use crate::client::Answer;
use crate::limits::Limits;
use crate::provider::{Attempt, AttemptResult};
use crate::single::{Outgoing, Protocol, Reaction};

/// The same on every attempt: LINE remembers it for a day. (M: from memory)
const RETRY_KEY: HeaderName = HeaderName::from_static("x-line-retry-key");

/// One account.
pub struct OfficialAccount {
    account: Account,
    url: Url,
    authorization: HeaderValue,
}

impl OfficialAccount {
    /// Reads an account.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(account: &Account) -> Result<Self, String> {
        let url = account.url().map_err(|why| format!("api_base {why}"))?;
        let value = HeaderValue::try_from(format!("Bearer {}", account.token.expose()));
        let mut authorization = value.map_err(|_| "token cannot stand in a header".to_owned())?;
        authorization.set_sensitive(true);
        Ok(Self {
            account: account.clone(),
            url,
            authorization,
        })
    }
}

impl Protocol for OfficialAccount {
    const CHANNEL: Channel = Channel::Line;
    /// By `X-Line-Retry-Key`. (M: from memory)
    const REMEMBERS: Option<Duration> = Some(Duration::from_hours(24));

    fn request(&self, attempt: Attempt<'_>) -> Result<Outgoing, AttemptResult> {
        let delivery = attempt.delivery;
        let to = line_id(&delivery.address.address)
            .map_err(|_| AttemptResult::Refused(Reason::InvalidAddress))?;
        let body = payload::body(delivery, to, &self.account).map_err(|fault| {
            tracing::debug!(delivery.id = %delivery.id, %fault, "no message can be made of it");
            AttemptResult::Refused(Reason::InvalidContent)
        })?;
        let key = HeaderValue::try_from(delivery.id.to_string())
            .map_err(|_| AttemptResult::Unavailable)?;
        Ok(Outgoing {
            url: self.url.clone(),
            headers: HeaderMap::from_iter([
                (AUTHORIZATION, self.authorization.clone()),
                (RETRY_KEY, key),
            ]),
            body,
        })
    }

    fn react(&self, _attempt: Attempt<'_>, answer: &Answer, wait: Option<Duration>) -> Reaction {
        let status = answer.status.as_u16();
        let verdict = classify::classify(status, &answer.body, wait, &self.account.reactions);
        Reaction::Done(verdict.result(wait))
    }

    fn limits(&self) -> &Limits {
        &self.account.limits
    }
}
