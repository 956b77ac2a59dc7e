//! Complaints: feedback reports (ARF, RFC 5965), which a mailbox provider sends when somebody calls a
//! mail unwanted. Pure.
//!
//! A complaint says that the mail **arrived**, and that its reader wants no more of them: the delivery
//! is `delivered`, with the reason `complained`, and hygiene holds the address for good. Which types
//! say so:
//!
//! | `Feedback-Type` | becomes |
//! |---|---|
//! | `abuse`, `fraud`, `opt-out`, `opt-out-list` | `delivered`, `complained` [R: RFC 5965, 7.3; opt-out: IANA's registry] |
//! | `not-spam` (RFC 6430), `virus`, `other`, `auth-failure` (RFC 6591), any other | nothing: its reader did not ask for silence |

use bongsu_domain::{Outcome, Reason};

use super::{fields, shortened};

/// What a feedback report says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// In small letters.
    pub(super) kind: String,
    /// Return path of the mail complained of.
    pub(super) mail_from: Option<String>,
    /// Envelope id of it.
    pub(super) envelope_id: Option<String>,
}

impl Complaint {
    /// Reads the part `message/feedback-report`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.replace("\r\n", "\n");
        let group = text.trim().split("\n\n").next().unwrap_or_default();
        let fields = fields(group);
        let all = |name: &str| {
            let same = fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
            same.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        let kind = match all("Feedback-Type").as_slice() {
            [] => return Err("its message/feedback-report names no Feedback-Type"),
            [kind] if !kind.is_empty() => kind.to_ascii_lowercase(),
            [_] => return Err("the Feedback-Type of its message/feedback-report is empty"),
            [_, _, ..] => return Err("its message/feedback-report names several Feedback-Types"),
        };
        // Required, and of 0.1 with those who built it before it was a standard.
        let version = all("Version").first().copied().unwrap_or_default();
        if !matches!(version, "1" | "1.0" | "0.1") {
            return Err("its message/feedback-report names no Version that is known");
        }
        let first = |name: &str| all(name).first().map(|value| shortened(value));
        Ok(Self {
            kind,
            mail_from: first("Original-Mail-From"),
            envelope_id: first("Original-Envelope-Id"),
        })
    }

    /// What it makes of the delivery; nothing for what does not ask for silence.
    pub(super) fn verdict(&self) -> Option<(Outcome, Reason)> {
        let complained = ["abuse", "fraud", "opt-out", "opt-out-list"];
        complained
            .contains(&self.kind.as_str())
            .then_some((Outcome::Delivered, Reason::Complained))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_meaning() {
        let complained = Some((Outcome::Delivered, Reason::Complained));
        for (kind, verdict) in [
            ("abuse", complained),
            ("Abuse", complained),
            ("fraud", complained),
            ("opt-out", complained),
            ("opt-out-list", complained),
            ("not-spam", None),
            ("virus", None),
            ("other", None),
            ("auth-failure", None),
            ("unheard-of", None),
        ] {
            let text = format!("Feedback-Type: {kind}\r\nUser-Agent: x/1\r\nVersion: 1\r\n");
            assert_eq!(
                Complaint::parse(&text).unwrap().verdict(),
                verdict,
                "{kind}"
            );
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        for (text, word) in [
            ("", "no Feedback-Type"),
            ("User-Agent: x/1\nVersion: 1\n", "no Feedback-Type"),
            ("Feedback-Type:\nVersion: 1\n", "empty"),
            (
                "Feedback-Type: abuse\nFeedback-Type: fraud\nVersion: 1\n",
                "several",
            ),
            ("Feedback-Type: abuse\n", "no Version"),
            ("Feedback-Type: abuse\nVersion: two\n", "no Version"),
            ("Version: 1\n\nFeedback-Type: abuse\n", "no Feedback-Type"),
        ] {
            let why = Complaint::parse(text).unwrap_err();
            assert!(why.contains(word), "{text:?}: {why}");
        }
    }
}
