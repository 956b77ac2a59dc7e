//! A bot, ready to send.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bongsu_domain::chat::TelegramChat;
use bongsu_domain::{Channel, Reason};
use reqwest::header::HeaderMap;
use url::Url;

use super::config::Account;
use super::{classify, payload};
use crate::client::Answer;
use crate::limits::Limits;
use crate::provider::{Attempt, AttemptResult};
use crate::single::{Outgoing, Protocol, Reaction};

/// Chats whose new id is remembered. A chat moves once in its life; the store's address is corrected
/// when its publisher registers it anew.
const MOVED: usize = 10_000;

/// One account.
pub struct Bot {
    account: Account,
    url: Url,
    moved: Mutex<HashMap<String, i64>>,
}

impl Bot {
    /// Reads an account.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(account: &Account) -> Result<Self, String> {
        let url = account.url().map_err(|(key, why)| format!("{key} {why}"))?;
        Ok(Self {
            account: account.clone(),
            url,
            moved: Mutex::default(),
        })
    }

    fn moved(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Protocol for Bot {
    const CHANNEL: Channel = Channel::Telegram;

    fn request(&self, attempt: Attempt<'_>) -> Result<Outgoing, AttemptResult> {
        let delivery = attempt.delivery;
        let chat = TelegramChat::parse(&delivery.address.address)
            .map_err(|_| AttemptResult::Refused(Reason::InvalidAddress))?;
        let moved = self.moved().get(chat.as_str()).map(ToString::to_string);
        let chat = moved.as_deref().unwrap_or(chat.as_str());
        let body = payload::body(delivery, chat, &self.account).map_err(|fault| {
            tracing::debug!(delivery.id = %delivery.id, %fault, "no message can be made of it");
            AttemptResult::Refused(Reason::InvalidContent)
        })?;
        Ok(Outgoing {
            url: self.url.clone(),
            headers: HeaderMap::new(),
            body,
        })
    }

    fn react(&self, attempt: Attempt<'_>, answer: &Answer, wait: Option<Duration>) -> Reaction {
        let status = answer.status.as_u16();
        let said = classify::classify(status, &answer.body, wait, &self.account.reactions);
        let result = said.verdict.result(said.wait);
        let Some(new) = said.moved_to else {
            return Reaction::Done(result);
        };
        let mut moved = self.moved();
        if let Ok(chat) = TelegramChat::parse(&attempt.delivery.address.address)
            && moved.len() < MOVED
        {
            moved.insert(chat.as_str().to_owned(), new);
        }
        // Should it move again at once, that is nobody's content: let it come back.
        Reaction::Again(AttemptResult::Unavailable)
    }

    fn limits(&self) -> &Limits {
        &self.account.limits
    }
}
