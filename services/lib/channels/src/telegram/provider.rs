//! A bot, ready to send.

use std::collections::{HashMap, VecDeque};
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
/// when its publisher registers it anew. One that is forgotten costs its next attempt another request.
const MOVED: usize = 10_000;

/// Where chats have moved, the longest known forgotten first.
#[derive(Debug, Default)]
struct Moved {
    to: HashMap<String, i64>,
    order: VecDeque<String>,
}

impl Moved {
    fn remember(&mut self, chat: &str, new: i64) {
        if let Some(known) = self.to.get_mut(chat) {
            *known = new;
            return;
        }
        if self.order.len() >= MOVED
            && let Some(oldest) = self.order.pop_front()
        {
            self.to.remove(&oldest);
        }
        self.order.push_back(chat.to_owned());
        self.to.insert(chat.to_owned(), new);
    }
}

/// One account.
pub struct Bot {
    account: Account,
    url: Url,
    moved: Mutex<Moved>,
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

    fn moved(&self) -> MutexGuard<'_, Moved> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Protocol for Bot {
    const CHANNEL: Channel = Channel::Telegram;

    fn request(&self, attempt: Attempt<'_>) -> Result<Outgoing, AttemptResult> {
        let delivery = attempt.delivery;
        let chat = TelegramChat::parse(&delivery.address.address)
            .map_err(|_| AttemptResult::Refused(Reason::InvalidAddress))?;
        let moved = self.moved().to.get(chat.as_str()).map(ToString::to_string);
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
        if let Ok(chat) = TelegramChat::parse(&attempt.delivery.address.address) {
            self.moved().remember(chat.as_str(), new);
        }
        // Should it move again at once, that is nobody's content: let it come back.
        Reaction::Again(AttemptResult::Unavailable)
    }

    fn limits(&self) -> &Limits {
        &self.account.limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_remembered_however_many_there_were() {
        let mut moved = Moved::default();
        for chat in 0..2 * MOVED {
            moved.remember(&format!("-{chat}"), 1);
        }
        assert_eq!((moved.to.len(), moved.order.len()), (MOVED, MOVED));
        let newest = format!("-{}", 2 * MOVED - 1);
        assert_eq!(moved.to.get(&newest), Some(&1));
        assert_eq!(moved.to.get("-0"), None);
        // It moved on: its place is kept, its new id told.
        moved.remember(&newest, 2);
        assert_eq!(moved.to.get(&newest), Some(&2));
        assert_eq!(moved.order.len(), MOVED);
    }
}
