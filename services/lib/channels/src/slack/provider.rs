//! A workspace, ready to send.

use std::time::Duration;

use bongsu_domain::chat::SlackTarget;
use bongsu_domain::{Channel, Reason};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use url::Url;

use super::config::Account;
use super::{classify, payload};
use crate::client::Answer;
use crate::limits::Limits;
use crate::provider::{Attempt, AttemptResult};
use crate::single::{Outgoing, Protocol, Reaction};

/// One account.
pub struct Workspace {
    account: Account,
    webhooks: Url,
    post_message: Url,
    authorization: Option<HeaderValue>,
}

const REFUSED: AttemptResult = AttemptResult::Refused(Reason::InvalidAddress);

impl Workspace {
    /// Reads an account.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(account: &Account) -> Result<Self, String> {
        let told = |(key, why): (&str, String)| format!("{key} {why}");
        let authorization = if account.token.is_empty() {
            None
        } else {
            let value = HeaderValue::try_from(format!("Bearer {}", account.token.expose()));
            let mut value = value.map_err(|_| "token cannot stand in a header".to_owned())?;
            value.set_sensitive(true);
            Some(value)
        };
        Ok(Self {
            webhooks: account.webhooks().map_err(told)?,
            post_message: account.post_message().map_err(told)?,
            account: account.clone(),
            authorization,
        })
    }

    /// A stored URL must be Slack's own or lead to `webhook_base`: any other was stored for another
    /// channel by mistake. The host is not used for the request; `webhook_base` is.
    fn webhook(&self, address: &str, path: &str) -> Result<Url, AttemptResult> {
        let url = Url::parse(address.trim()).map_err(|_| REFUSED)?;
        let known =
            url.host_str() == Some("hooks.slack.com") || url.host_str() == self.webhooks.host_str();
        if !known {
            return Err(REFUSED);
        }
        self.webhooks.join(path).map_err(|_| REFUSED)
    }
}

impl Protocol for Workspace {
    const CHANNEL: Channel = Channel::Slack;

    fn request(&self, attempt: Attempt<'_>) -> Result<Outgoing, AttemptResult> {
        let delivery = attempt.delivery;
        let address = &delivery.address.address;
        let mut headers = HeaderMap::new();
        let target = SlackTarget::parse(address).map_err(|_| REFUSED)?;
        let (url, conversation) = match &target {
            SlackTarget::Webhook(path) => (self.webhook(address, path)?, None),
            SlackTarget::Conversation(id) => {
                let token = self.authorization.clone().ok_or(classify::NO_TOKEN)?;
                headers.insert(AUTHORIZATION, token);
                (self.post_message.clone(), Some(*id))
            }
        };
        let body = payload::body(&delivery.content, conversation).map_err(|fault| {
            tracing::debug!(delivery.id = %delivery.id, %fault, "no message can be made of it");
            AttemptResult::Refused(Reason::InvalidContent)
        })?;
        Ok(Outgoing { url, headers, body })
    }

    fn react(&self, attempt: Attempt<'_>, answer: &Answer, wait: Option<Duration>) -> Reaction {
        let status = answer.status.as_u16();
        let own = &self.account.reactions;
        let delivery = attempt.delivery;
        Reaction::Done(if delivery.address.address.contains("://") {
            classify::webhook(status, &answer.body, wait, own)
        } else {
            let customised = payload::is_customised(&delivery.content);
            classify::api(status, &answer.body, wait, own, customised)
        })
    }

    fn limits(&self) -> &Limits {
        &self.account.limits
    }
}
