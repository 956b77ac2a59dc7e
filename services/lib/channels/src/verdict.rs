//! What a provider's code asks for, as a word: the form in which a channel keeps its table of codes,
//! and in which an operator changes one.
//!
//! Codes are a provider's to change, and some of those below are known from memory only. Every channel
//! that uses this has a setting `reactions` that goes before its own table.

use std::collections::BTreeMap;
use std::time::Duration;

use bongsu_domain::Reason;
use bongsu_runtime::settings::Complaint;
use serde::{Deserialize, Serialize};

use crate::provider::{AttemptResult, ThrottleScope};

/// A reaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum Verdict {
    /// Taken, now or by an earlier attempt.
    Accepted,
    /// The address is dead.
    InvalidAddress,
    /// This content will never be taken.
    InvalidContent,
    /// This address cannot be reached now; it stays.
    NotReachable,
    /// No, for a reason that says nothing of address or content.
    ProviderRefused,
    /// Credential, plan or configuration: the account rests.
    AccountFault,
    /// This address must wait.
    ThrottledAddress,
    /// The account must wait.
    ThrottledAccount,
    /// Not taken, may be later.
    Unavailable,
    /// Nobody can tell.
    Unknown,
}

impl Verdict {
    /// The attempt's result; `retry_after` is what the provider asked for.
    pub const fn result(self, retry_after: Option<Duration>) -> AttemptResult {
        match self {
            Self::Accepted => AttemptResult::Accepted,
            Self::InvalidAddress => AttemptResult::Refused(Reason::InvalidAddress),
            Self::InvalidContent => AttemptResult::Refused(Reason::InvalidContent),
            Self::NotReachable => AttemptResult::Refused(Reason::NotReachable),
            Self::ProviderRefused => AttemptResult::Refused(Reason::ProviderRefused),
            Self::AccountFault => AttemptResult::AccountFault,
            Self::ThrottledAddress => AttemptResult::Throttled {
                retry_after,
                scope: ThrottleScope::Address,
            },
            Self::ThrottledAccount => AttemptResult::Throttled {
                retry_after,
                scope: ThrottleScope::Account,
            },
            Self::Unavailable => AttemptResult::Unavailable,
            Self::Unknown => AttemptResult::Unknown,
        }
    }

    /// What a bare HTTP status means where the provider itself said nothing: something between us and
    /// it answered, so nobody is condemned, and nothing is believed to have been taken.
    pub const fn of_status(status: u16, retry_after: Option<Duration>) -> Self {
        match (status, retry_after) {
            (413, _) => Self::InvalidContent,
            (429, _) | (502 | 503, Some(_)) => Self::ThrottledAccount,
            (200..=299 | 504, _) => Self::Unknown,
            _ => Self::Unavailable,
        }
    }
}

/// An account's own reactions, by the provider's code.
pub type Reactions = BTreeMap<String, Verdict>;

/// One line of a channel's table: codes that mean the same.
pub type Line = (&'static [&'static str], Verdict);

/// The reaction to a code: the account's own, else the table's.
#[must_use]
pub fn look_up(code: &str, own: &Reactions, table: &[Line]) -> Option<Verdict> {
    own.get(code).copied().or_else(|| {
        let line = table.iter().find(|(codes, _)| codes.contains(&code));
        line.map(|(_, verdict)| *verdict)
    })
}

/// An account's own reaction to a text: that of the longest beginning that fits.
#[must_use]
pub fn by_beginning(said: &str, own: &Reactions) -> Option<Verdict> {
    own.iter()
        .filter(|(start, _)| said.starts_with(start.as_str()))
        .max_by_key(|(start, _)| start.len())
        .map(|(_, verdict)| *verdict)
}

/// Whether a body that could not be read whole begins as a success: a long answer repeats the message
/// and is cut, but begins with what matters.
#[must_use]
pub fn begins_ok(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(br#"{"ok":true"#)
}

/// What is wrong with an account's own reactions; `prefix` is the account's path.
#[must_use]
pub fn validate(reactions: &Reactions, prefix: &str) -> Vec<Complaint> {
    let empty = reactions.keys().any(|code| code.trim().is_empty());
    let complaint = || Complaint::new(format!("{prefix}.reactions"), "has an empty code");
    empty.then(complaint).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accounts_own_reaction_goes_before_the_table() {
        let table: &[Line] = &[(&["a", "b"], Verdict::InvalidAddress)];
        let own = Reactions::from([("b".to_owned(), Verdict::Unavailable)]);
        assert_eq!(look_up("a", &own, table), Some(Verdict::InvalidAddress));
        assert_eq!(look_up("b", &own, table), Some(Verdict::Unavailable));
        assert_eq!(look_up("c", &own, table), None);
    }

    #[test]
    fn the_longest_beginning_that_fits_decides() {
        let own = Reactions::from([
            ("Forbidden".to_owned(), Verdict::NotReachable),
            ("Forbidden: bot was".to_owned(), Verdict::Unavailable),
            (
                "Forbidden: bot was kicked".to_owned(),
                Verdict::InvalidAddress,
            ),
        ]);
        for (said, verdict) in [
            ("Forbidden: x", Some(Verdict::NotReachable)),
            ("Forbidden: bot was blocked", Some(Verdict::Unavailable)),
            ("Forbidden: bot was kicked", Some(Verdict::InvalidAddress)),
            ("Bad Request", None),
        ] {
            assert_eq!(by_beginning(said, &own), verdict, "{said}");
        }
    }

    #[test]
    fn a_bare_success_is_nobodys_word() {
        assert_eq!(Verdict::of_status(200, None), Verdict::Unknown);
        assert_eq!(Verdict::of_status(204, None), Verdict::Unknown);
    }

    #[test]
    fn a_verdict_is_written_as_a_word() {
        #[derive(Deserialize)]
        struct Account {
            reactions: Reactions,
        }
        let read: Account =
            serde_json::from_str(r#"{"reactions": {"400201": "not_reachable"}}"#).unwrap();
        assert_eq!(read.reactions["400201"], Verdict::NotReachable);
        assert_eq!(validate(&read.reactions, "a"), []);
        let wrong = Reactions::from([(String::new(), Verdict::Unknown)]);
        assert_eq!(validate(&wrong, "a").len(), 1);
    }
}
