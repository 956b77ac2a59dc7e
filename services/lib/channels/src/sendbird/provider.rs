//! An application, ready to send.

use std::time::Duration;

use bongsu_domain::chat::sendbird_channel;
use bongsu_domain::{Channel, Reason};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::config::Account;
use super::{classify, payload};
use crate::client::Answer;
use crate::limits::Limits;
use crate::provider::{Attempt, AttemptResult};
use crate::retry_after;
use crate::single::{Outgoing, Protocol, Reaction};

const API_TOKEN: HeaderName = HeaderName::from_static("api-token");

/// One account.
pub struct Application {
    account: Account,
    base: Url,
    token: HeaderValue,
}

impl Application {
    /// Reads an account.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(account: &Account) -> Result<Self, String> {
        let base = account.url().map_err(|(key, why)| format!("{key} {why}"))?;
        let token = HeaderValue::try_from(account.api_token.expose());
        let mut token = token.map_err(|_| "api_token cannot stand in a header".to_owned())?;
        token.set_sensitive(true);
        Ok(Self {
            account: account.clone(),
            base,
            token,
        })
    }
}

impl Protocol for Application {
    const CHANNEL: Channel = Channel::Sendbird;
    /// By `dedup_id`, which stays with the message: it is made for moving old messages over.
    /// [R: Sendbird, "Send a message"; M: for how long]
    const REMEMBERS: Option<Duration> = Some(Duration::MAX);

    fn request(&self, attempt: Attempt<'_>) -> Result<Outgoing, AttemptResult> {
        let delivery = attempt.delivery;
        let refused = AttemptResult::Refused(Reason::InvalidAddress);
        let channel = sendbird_channel(&delivery.address.address).map_err(|_| refused)?;
        let path = format!("/v3/group_channels/{channel}/messages");
        let url = self.base.join(&path).map_err(|_| refused)?;
        let body = payload::body(delivery, &self.account).map_err(|fault| {
            tracing::debug!(delivery.id = %delivery.id, %fault, "no message can be made of it");
            AttemptResult::Refused(Reason::InvalidContent)
        })?;
        let headers = HeaderMap::from_iter([(API_TOKEN, self.token.clone())]);
        Ok(Outgoing { url, headers, body })
    }

    fn react(&self, attempt: Attempt<'_>, answer: &Answer, wait: Option<Duration>) -> Reaction {
        let own = answer.headers.get(classify::RETRY_AFTER);
        let own = own.and_then(|value| retry_after::from_seconds(value.to_str().ok()?));
        let wait = own.or(wait);
        let status = answer.status.as_u16();
        let own_user = payload::names_own_user_alone(attempt.delivery, &self.account);
        let reactions = &self.account.reactions;
        let verdict = classify::classify(status, &answer.body, wait, reactions, own_user);
        let copy = !answer.status.is_success() && verdict == crate::verdict::Verdict::Accepted;
        if copy && attempt.number == 1 {
            tracing::error!(
                delivery.id = %attempt.delivery.id,
                "Sendbird has seen the first attempt of a delivery before"
            );
        }
        Reaction::Done(verdict.result(wait))
    }

    fn limits(&self) -> &Limits {
        &self.account.limits
    }
}
