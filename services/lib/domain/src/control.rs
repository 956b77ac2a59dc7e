//! Stops and starts: what people hold back, why and for how long.
//!
//! Owns the scopes and their text, which is the key of the `control` topic. Written by the command
//! line, read by whoever is about to send.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::channel::{Channel, vocabulary};
use crate::limits;
use crate::time::Timestamp;

vocabulary!(
    /// What a person did to a scope.
    Act, "act", {
        /// Nothing of the scope starts any more.
        Stop = "stop",
        /// The scope's stop is over.
        Start = "start",
    }
);

/// What a start makes of the backlog: the deliveries of its scope that were accepted before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backlog {
    /// It is sent.
    #[default]
    All,
    /// What was accepted before this moment is dropped.
    DropStale(Timestamp),
    /// Of the deliveries of one sender to one address with one collapse key, only the newest is sent.
    Newest,
}

impl Backlog {
    /// The words of records and of the command line, in the order of the variants.
    pub const WORDS: [&'static str; 3] = ["all", "drop-stale", "newest"];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => Self::WORDS[0],
            Self::DropStale(_) => Self::WORDS[1],
            Self::Newest => Self::WORDS[2],
        }
    }
}

/// What a stop covers. Its text (`channel/webhook`, `account/webhook/default`, `sender/shop-1`,
/// `campaign/spring`, `template/welcome`) is the record's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything of one channel.
    Channel(Channel),
    /// Everything that one account of a channel sends.
    Account(Channel, String),
    /// Everything one sender says.
    Sender(String),
    /// Everything of one campaign.
    Campaign(String),
    /// Everything made from one template.
    Template(String),
}

impl Scope {
    /// The kind in one word, for labels and lists.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Channel(_) => "channel",
            Self::Account(..) => "account",
            Self::Sender(_) => "sender",
            Self::Campaign(_) => "campaign",
            Self::Template(_) => "template",
        }
    }
}

/// A text that names no scope.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is no scope: {why}")]
pub struct NoScope {
    /// The text, shortened.
    pub text: String,
    /// What is wrong, and what to write instead.
    pub why: String,
}

const FORMS: &str = "write channel/NAME, account/CHANNEL/NAME, sender/NAME, campaign/ID or \
                     template/ID";

impl FromStr for Scope {
    type Err = NoScope;

    fn from_str(text: &str) -> Result<Self, NoScope> {
        let no = |why: String| NoScope {
            text: text.chars().take(64).collect(),
            why,
        };
        let (kind, name) = text.split_once('/').ok_or_else(|| no(FORMS.to_owned()))?;
        let channel = |word: &str| Channel::parse(word).map_err(|e| no(e.to_string()));
        let named = |name: &str| check_name(name).map(|()| name.to_owned()).map_err(no);
        match kind {
            "channel" => Ok(Self::Channel(channel(name)?)),
            "account" => {
                let (word, account) = name.split_once('/').ok_or_else(|| no(FORMS.to_owned()))?;
                Ok(Self::Account(channel(word)?, named(account)?))
            }
            "sender" => Ok(Self::Sender(named(name)?)),
            "campaign" => Ok(Self::Campaign(named(name)?)),
            "template" => Ok(Self::Template(named(name)?)),
            _ => Err(no(FORMS.to_owned())),
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if name.len() > limits::ID_BYTES {
        return Err(format!(
            "the name has {} bytes; at most {} are taken",
            name.len(),
            limits::ID_BYTES
        ));
    }
    if name.chars().any(char::is_control) {
        return Err("the name contains control characters; remove them".to_owned());
    }
    Ok(())
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(channel) => write!(f, "channel/{channel}"),
            Self::Account(channel, name) => write!(f, "account/{channel}/{name}"),
            Self::Sender(name) => write!(f, "sender/{name}"),
            Self::Campaign(id) => write!(f, "campaign/{id}"),
            Self::Template(id) => write!(f, "template/{id}"),
        }
    }
}

/// One act on one scope; the last one in the log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// What it covers.
    pub scope: Scope,
    /// Stop or start.
    pub act: Act,
    /// Who did it.
    pub who: String,
    /// Why.
    pub why: String,
    /// When it was done, by the clock of who did it. For people: a stop holds as soon as it is read.
    pub from: Timestamp,
    /// When a stop ends by itself; none ends only with a start.
    pub until: Option<Timestamp>,
    /// What a start makes of the deliveries accepted before [`Control::from`].
    pub backlog: Backlog,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_reads_back_and_names_may_hold_slashes() {
        for text in [
            "channel/webhook",
            "account/discord/default",
            "account/webhook/a/b",
            "sender/shop/1",
            "campaign/spring",
            "template/welcome",
        ] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_scope_is_told_what_to_write() {
        for (text, told) in [
            ("sender", "sender/NAME"),
            ("sender/", "empty"),
            ("sender/a\u{7}", "control characters"),
            ("channel/pigeon", "webhook, discord"),
            ("account/webhook", "account/CHANNEL/NAME"),
            ("account/pigeon/x", "webhook, discord"),
            ("user/x", "campaign/ID"),
        ] {
            let error = text.parse::<Scope>().unwrap_err().to_string();
            assert!(error.contains(told), "{text:?}: {error}");
        }
        let long = format!("sender/{}", "x".repeat(257));
        assert!(long.parse::<Scope>().is_err());
    }
}
