//! Where an FCM message goes: one grammar for every way to write it.
//!
//! `token:…` (a registration token; also without any tag), `fid:…` (a Firebase installation id),
//! `topic:…` and `condition:…` (devices that subscribed). A registration token holds colons itself,
//! so only these four words count as tags.

use std::borrow::Cow;

use thiserror::Error;

/// Characters of a registration token. Google names no length; some 160 are usual, and a page that
/// holds one never gets near the end of this. (M: from memory)
const TOKEN: std::ops::RangeInclusive<usize> = 8..=4_096;
/// Characters of an installation id: 22 today. (M: from memory)
const FID: std::ops::RangeInclusive<usize> = 16..=64;
/// Characters of a topic's name. [R: Firebase, "Send messages to topics", 2026-08]
const TOPIC: std::ops::RangeInclusive<usize> = 1..=900;
/// Topics of one condition. [R: the same]
pub const CONDITION_TOPICS: usize = 5;
/// Bytes of a condition: five topics of full length and what joins them.
const CONDITION: usize = 8_192;
/// Brackets and negations within one another.
const DEPTH: usize = 16;

const TAGS: [&str; 4] = ["token:", "fid:", "topic:", "condition:"];

/// Why a text is no target. Never holds the text: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PushTargetError {
    /// No registration token.
    #[error("is no registration token; write token:…, fid:…, topic:name or condition:…")]
    Token,
    /// No installation id.
    #[error("is no Firebase installation id; write fid: and its 22 characters")]
    Fid,
    /// No topic.
    #[error("is no topic; write topic: and letters, digits, or any of -_.~%")]
    Topic,
    /// No condition.
    #[error("is no condition; write condition:'a' in topics && ('b' in topics || 'c' in topics)")]
    Condition,
    /// A condition that Google would not take.
    #[error("is a condition with more than {CONDITION_TOPICS} topics")]
    TooManyTopics,
}

/// One target. `Debug` hides which.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PushTarget<'a> {
    /// A registration token of one app on one device.
    Token(&'a str),
    /// An installation of one app.
    Fid(&'a str),
    /// Everybody who subscribed to a topic, without `/topics/`.
    Topic(&'a str),
    /// Everybody whose topics fulfil a condition.
    Condition(&'a str),
}

impl std::fmt::Debug for PushTarget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PushTarget({})", self.member())
    }
}

impl<'a> PushTarget<'a> {
    /// Reads an address.
    ///
    /// # Errors
    /// [`PushTargetError`].
    pub fn parse(text: &'a str) -> Result<Self, PushTargetError> {
        let text = text.trim();
        if let Some(fid) = text.strip_prefix("fid:") {
            return if within(fid, &FID, |b| matches!(b, b'-' | b'_')) {
                Ok(Self::Fid(fid))
            } else {
                Err(PushTargetError::Fid)
            };
        }
        if let Some(topic) = text.strip_prefix("topic:") {
            let topic = topic.strip_prefix("/topics/").unwrap_or(topic);
            return if is_topic(topic) {
                Ok(Self::Topic(topic))
            } else {
                Err(PushTargetError::Topic)
            };
        }
        if let Some(condition) = text.strip_prefix("condition:") {
            let condition = condition.trim();
            return check_condition(condition).map(|()| Self::Condition(condition));
        }
        let token = text.strip_prefix("token:").unwrap_or(text);
        if within(token, &TOKEN, |b| matches!(b, b'-' | b'_' | b':' | b'.')) {
            Ok(Self::Token(token))
        } else {
            Err(PushTargetError::Token)
        }
    }

    /// The name of its member in a message.
    #[must_use]
    pub const fn member(self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Fid(_) => "fid",
            Self::Topic(_) => "topic",
            Self::Condition(_) => "condition",
        }
    }

    /// Its value.
    #[must_use]
    pub const fn value(self) -> &'a str {
        match self {
            Self::Token(value) | Self::Fid(value) | Self::Topic(value) | Self::Condition(value) => {
                value
            }
        }
    }

    /// Whether it may reach many devices.
    #[must_use]
    pub const fn is_many(self) -> bool {
        match self {
            Self::Token(_) | Self::Fid(_) => false,
            Self::Topic(_) | Self::Condition(_) => true,
        }
    }

    /// The one writing of all that mean the same; a token is its own.
    #[must_use]
    pub fn normal(self) -> Cow<'a, str> {
        match self {
            // A token that begins like a tag keeps its own.
            Self::Token(token) if TAGS.iter().any(|tag| token.starts_with(tag)) => {
                Cow::Owned(format!("token:{token}"))
            }
            Self::Token(token) => Cow::Borrowed(token),
            Self::Fid(_) | Self::Topic(_) | Self::Condition(_) => {
                Cow::Owned(format!("{}:{}", self.member(), self.value()))
            }
        }
    }
}

fn within(text: &str, length: &std::ops::RangeInclusive<usize>, more: fn(u8) -> bool) -> bool {
    length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || more(b))
}

fn is_topic(text: &str) -> bool {
    within(text, &TOPIC, |b| {
        matches!(b, b'-' | b'_' | b'.' | b'~' | b'%')
    })
}

/// `'a' in topics`, joined by `&&` and `||`, negated by `!`, in brackets.
fn check_condition(text: &str) -> Result<(), PushTargetError> {
    let mut reader = Reader {
        rest: text,
        topics: 0,
    };
    let whole = text.len() <= CONDITION && reader.all(0).is_some() && reader.skip().is_empty();
    match (whole, reader.topics) {
        (true, 1..=CONDITION_TOPICS) => Ok(()),
        (true, _) => Err(PushTargetError::TooManyTopics),
        (false, _) => Err(PushTargetError::Condition),
    }
}

struct Reader<'a> {
    rest: &'a str,
    topics: usize,
}

impl<'a> Reader<'a> {
    fn skip(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn take(&mut self, word: &str) -> Option<()> {
        self.rest = self.skip().strip_prefix(word)?;
        Some(())
    }

    fn all(&mut self, depth: usize) -> Option<()> {
        self.one(depth)?;
        while self.take("&&").or_else(|| self.take("||")).is_some() {
            self.one(depth)?;
        }
        Some(())
    }

    fn one(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        if self.take("!").is_some() {
            return self.one(depth + 1);
        }
        if self.take("(").is_some() {
            self.all(depth + 1)?;
            return self.take(")");
        }
        self.take("'")?;
        let (topic, rest) = self.rest.split_once('\'')?;
        self.rest = rest;
        self.topics += 1;
        is_topic(topic).then_some(())?;
        self.take("in")?;
        self.take("topics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1";

    #[test]
    fn a_tag_says_what_it_is_and_no_tag_is_a_token() {
        for (text, target, normal) in [
            (TOKEN, PushTarget::Token(TOKEN), TOKEN),
            (
                "token:bk3RNwTe3H0:CI2k_",
                PushTarget::Token("bk3RNwTe3H0:CI2k_"),
                "bk3RNwTe3H0:CI2k_",
            ),
            (
                " fid:eBlnf0SSS_qIRPz0OzO3bd ",
                PushTarget::Fid("eBlnf0SSS_qIRPz0OzO3bd"),
                "fid:eBlnf0SSS_qIRPz0OzO3bd",
            ),
            (
                "topic:/topics/news-1",
                PushTarget::Topic("news-1"),
                "topic:news-1",
            ),
            (
                "condition: 'a' in topics",
                PushTarget::Condition("'a' in topics"),
                "condition:'a' in topics",
            ),
        ] {
            assert_eq!(PushTarget::parse(text), Ok(target), "{text}");
            assert_eq!(target.normal(), normal);
        }
        let printed = format!("{:?}", PushTarget::Token(TOKEN));
        assert!(!printed.contains("bk3"), "{printed}");
    }

    #[test]
    fn a_token_that_looks_like_a_tag_stays_one() {
        let odd = PushTarget::parse("token:fid:abcdefgh").unwrap();
        assert_eq!(odd, PushTarget::Token("fid:abcdefgh"));
        let normal = odd.normal();
        assert_eq!(PushTarget::parse(&normal), Ok(odd));
    }

    #[test]
    fn what_is_no_target_is_told_why() {
        for (text, error) in [
            ("", PushTargetError::Token),
            ("not an address", PushTargetError::Token),
            ("token:", PushTargetError::Token),
            ("short", PushTargetError::Token),
            ("https://example.com/x", PushTargetError::Token),
            ("fid:short", PushTargetError::Fid),
            ("topic:", PushTargetError::Topic),
            ("topic:a b", PushTargetError::Topic),
            ("condition:", PushTargetError::Condition),
            ("condition:'a' in topics &&", PushTargetError::Condition),
            (
                "condition:'a' in topics || (b in topics)",
                PushTargetError::Condition,
            ),
            ("condition:('a' in topics", PushTargetError::Condition),
            ("condition:'a' in topics)", PushTargetError::Condition),
        ] {
            assert_eq!(PushTarget::parse(text), Err(error), "{text}");
        }
        let many = ["'t' in topics"; 6].join("||");
        let error = PushTarget::parse(Box::leak(format!("condition:{many}").into_boxed_str()));
        assert_eq!(error, Err(PushTargetError::TooManyTopics));
    }

    #[test]
    fn conditions_may_be_nested_and_never_overflow() {
        for good in [
            "'a' in topics && ('b' in topics || 'c' in topics)",
            "!('a' in topics) && 'b-~%.' in topics",
            "( ( 'a' in topics ) )",
        ] {
            assert_eq!(check_condition(good), Ok(()), "{good}");
        }
        let deep = format!("{}'a' in topics{}", "(".repeat(4_000), ")".repeat(4_000));
        assert_eq!(check_condition(&deep), Err(PushTargetError::Condition));
    }
}
