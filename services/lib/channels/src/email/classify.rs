//! Reply to result, as a table. Pure.
//!
//! The enhanced code (RFC 3463) decides before the reply's own number, for a 550 alone says everything
//! from "no such user" to "you look like spam". [R: IANA's registry of enhanced codes, AWS SES; M =
//! RFC 5321 and common servers, from memory; D = decided here]
//!
//! | reply | result |
//! |---|---|
//! | 2xx after the final dot | accepted |
//! | 5.1.1, 5.1.2, 5.1.3, 5.1.6, 5.1.10; 553, 556, 521 to RCPT without a code (M) | refused, `invalid_address` |
//! | 5.1.7, 5.1.8 (our sender) | the account's fault |
//! | 5.2.1, 5.2.2; 552 to RCPT without a code | refused, `not_reachable`: the mailbox is full or off, the address stays |
//! | 5.2.3, 5.3.4, 5.6.x; 552 to MAIL or the dot without a code | refused, `invalid_content` |
//! | 5.7.8, 5.7.9, 5.7.11, 5.7.13, 5.7.14; 530, 534, 535, 538 | the account's fault: it may not log in |
//! | 5.7.20 to 5.7.27 (SPF, DKIM, DMARC) | the account's fault: every other mail fails as well |
//! | other 5.7.x; 554 without a code | refused, `provider_refused`; the account's fault when more than half of the last 32 answers say so (D) |
//! | any other 5xx to RCPT, DATA or the dot | refused, `provider_refused` |
//! | 5xx to the greeting, EHLO, STARTTLS, AUTH or MAIL | the account's fault: no mail can be sent |
//! | 421, 4.3.x, 4.4.x; any 4xx before RCPT | unavailable |
//! | other 4xx to RCPT, DATA or the dot (450, 451, 452, greylisting 4.7.1, 4.2.2) | throttled for `soft_wait`, this address only |
//! | connection lost or silent before the final dot | unavailable |
//! | connection lost or silent after it | **unknown** |

use std::time::Duration;

use bongsu_domain::Reason;

use crate::provider::{AttemptResult, ThrottleScope};

/// Where in the conversation something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Greeting, EHLO, STARTTLS.
    Connect,
    /// AUTH.
    Login,
    /// MAIL FROM: nothing of the mail is known yet but its return path.
    Mail,
    /// RCPT TO: the recipient.
    Rcpt,
    /// DATA.
    Data,
    /// The mail's end.
    Dot,
}

/// An enhanced code, `class.subject.detail`. [R: RFC 3463]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enhanced {
    /// 2, 4 or 5.
    pub class: u8,
    /// What it is about.
    pub subject: u16,
    /// What exactly.
    pub detail: u16,
}

impl Enhanced {
    /// Reads the code a text begins with.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let word = text.split_ascii_whitespace().next()?;
        let mut parts = word.split('.');
        let (class, subject) = (parts.next()?, parts.next()?);
        let detail = parts.next()?;
        let number = |text: &str| {
            let digits = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok())?
        };
        let class = u8::try_from(number(class)?).ok()?;
        if parts.next().is_some() || !matches!(class, 2 | 4 | 5) {
            return None;
        }
        Some(Self {
            class,
            subject: number(subject)?,
            detail: number(detail)?,
        })
    }
}

/// A server's reply that is no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// The enhanced code its text begins with.
    pub enhanced: Option<Enhanced>,
}

impl Reply {
    /// A reply of this number and text.
    #[must_use]
    pub fn new(code: u16, text: &str) -> Self {
        // One that contradicts the number says nothing.
        let enhanced = Enhanced::parse(text).filter(|e| u16::from(e.class) == code / 100);
        Self { code, enhanced }
    }
}

/// How a mail was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The server said no.
    Refused(Step, Reply),
    /// No connection, or it broke, or the time was over, before the final dot.
    NotSent(Step),
    /// As before, but after the final dot: it may have been taken.
    Lost,
    /// The server does not offer what the account asks for: TLS, a way to log in, or addresses
    /// beyond ASCII.
    NotOffered(Step),
    /// The mail is longer than the server takes.
    TooLarge,
}

impl Failure {
    /// Whether a kept connection was closed before it was used again, so that nothing was lost.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        matches!(
            self,
            Self::NotSent(Step::Mail) | Self::Refused(Step::Mail, Reply { code: 421, .. })
        )
    }

    /// Whether it is a refusal for policy's sake.
    #[must_use]
    pub const fn is_policy(&self) -> bool {
        let Self::Refused(Step::Rcpt | Step::Data | Step::Dot, reply) = self else {
            return false;
        };
        match reply.enhanced {
            Some(enhanced) => reply.code >= 500 && enhanced.subject == 7,
            None => reply.code == 554,
        }
    }
}

/// What a failure means; `soft_wait` is how long an address is left alone that was refused for now.
pub fn classify(failure: Failure, soft_wait: Duration) -> AttemptResult {
    match failure {
        Failure::Refused(step, reply) if reply.code >= 500 => permanent(step, reply),
        Failure::Refused(step, reply) if reply.code >= 400 => transient(step, reply, soft_wait),
        // A success or a question where none belongs: before the dot nothing was taken.
        Failure::Refused(Step::Dot, _) | Failure::Lost => AttemptResult::Unknown,
        Failure::Refused(..) | Failure::NotSent(_) => AttemptResult::Unavailable,
        Failure::NotOffered(Step::Rcpt) => AttemptResult::Refused(Reason::NotReachable),
        Failure::NotOffered(_) => AttemptResult::AccountFault,
        Failure::TooLarge => AttemptResult::Refused(Reason::InvalidContent),
    }
}

fn permanent(step: Step, reply: Reply) -> AttemptResult {
    if matches!(reply.code, 530 | 534 | 535 | 538) {
        return AttemptResult::AccountFault;
    }
    if let Some(enhanced) = reply.enhanced
        && let Some(result) = by_enhanced(enhanced)
    {
        return result;
    }
    match (step, reply.code, reply.enhanced) {
        (Step::Connect | Step::Login, ..) => AttemptResult::AccountFault,
        (Step::Mail | Step::Dot, 552, None) => AttemptResult::Refused(Reason::InvalidContent),
        (Step::Mail, ..) => AttemptResult::AccountFault,
        (Step::Rcpt, 521 | 553 | 556, None) => AttemptResult::Refused(Reason::InvalidAddress),
        (Step::Rcpt, 552, None) => AttemptResult::Refused(Reason::NotReachable),
        (Step::Rcpt | Step::Data | Step::Dot, ..) => {
            AttemptResult::Refused(Reason::ProviderRefused)
        }
    }
}

fn by_enhanced(enhanced: Enhanced) -> Option<AttemptResult> {
    Some(match (enhanced.subject, enhanced.detail) {
        (1, 1 | 2 | 3 | 6 | 10) => AttemptResult::Refused(Reason::InvalidAddress),
        (1, 7 | 8) | (7, 8 | 9 | 11 | 13 | 14 | 20..=27) => AttemptResult::AccountFault,
        (2, 1 | 2) => AttemptResult::Refused(Reason::NotReachable),
        (2, 3) | (3, 4) | (6, _) => AttemptResult::Refused(Reason::InvalidContent),
        _ => return None,
    })
}

fn transient(step: Step, reply: Reply, soft_wait: Duration) -> AttemptResult {
    let server = reply.enhanced.is_some_and(|e| matches!(e.subject, 3 | 4));
    match step {
        Step::Connect | Step::Login | Step::Mail => AttemptResult::Unavailable,
        Step::Rcpt | Step::Data | Step::Dot if reply.code == 421 || server => {
            AttemptResult::Unavailable
        }
        Step::Rcpt | Step::Data | Step::Dot => AttemptResult::Throttled {
            retry_after: Some(soft_wait),
            scope: ThrottleScope::Address,
        },
    }
}

/// What a bounce's status makes of a mail that was accepted; the table above, as a reason.
#[must_use]
pub fn bounced(status: Option<Enhanced>) -> Reason {
    let Some(status) = status else {
        return Reason::ProviderRefused;
    };
    match (status.class, status.subject, status.detail) {
        (5, 1, 1 | 2 | 3 | 6 | 10) => Reason::InvalidAddress,
        (_, 2, 1 | 2) => Reason::NotReachable,
        (_, 2, 3) | (_, 3, 4) | (_, 6, _) => Reason::InvalidContent,
        // Tried for days, and given up.
        (4, ..) | (_, 4, _) => Reason::ProviderUnavailable,
        _ => Reason::ProviderRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(300);

    fn of(step: Step, code: u16, text: &str) -> AttemptResult {
        classify(Failure::Refused(step, Reply::new(code, text)), WAIT)
    }

    #[test]
    fn an_enhanced_code_is_read_where_it_agrees_with_the_number() {
        let code = |class, subject, detail| Enhanced {
            class,
            subject,
            detail,
        };
        assert_eq!(Enhanced::parse("5.1.1 no such user"), Some(code(5, 1, 1)));
        assert_eq!(Enhanced::parse("5.7.514"), Some(code(5, 7, 514)));
        for none in [
            "",
            "no such user",
            "5.1",
            "5.1.1.1 x",
            "3.1.1",
            "5.1.x",
            "5.+1.1",
            "5..1",
        ] {
            assert_eq!(Enhanced::parse(none), None, "{none}");
        }
        assert_eq!(Reply::new(550, "4.1.1 odd").enhanced, None);
    }

    #[test]
    fn refusals_for_now_concern_the_address_or_the_server() {
        let soft = AttemptResult::Throttled {
            retry_after: Some(WAIT),
            scope: ThrottleScope::Address,
        };
        for (step, code, text, expected) in [
            (Step::Rcpt, 450, "4.2.0 greylisted", soft),
            (Step::Rcpt, 451, "4.7.1 greylisted", soft),
            (Step::Rcpt, 452, "4.2.2 over quota", soft),
            (Step::Dot, 451, "", soft),
            (Step::Data, 451, "4.3.0 later", AttemptResult::Unavailable),
            (Step::Rcpt, 451, "4.4.3 no DNS", AttemptResult::Unavailable),
            (Step::Rcpt, 421, "4.7.0 bye", AttemptResult::Unavailable),
            (Step::Connect, 421, "", AttemptResult::Unavailable),
            (Step::Login, 454, "4.7.0", AttemptResult::Unavailable),
            (Step::Mail, 451, "4.7.1", AttemptResult::Unavailable),
        ] {
            assert_eq!(of(step, code, text), expected, "{step:?} {code} {text}");
        }
    }

    #[test]
    fn what_was_cut_is_unknown_only_after_the_final_dot() {
        assert_eq!(
            classify(Failure::NotSent(Step::Dot), WAIT),
            AttemptResult::Unavailable
        );
        assert_eq!(classify(Failure::Lost, WAIT), AttemptResult::Unknown);
        assert_eq!(of(Step::Dot, 354, ""), AttemptResult::Unknown);
        assert_eq!(of(Step::Rcpt, 354, ""), AttemptResult::Unavailable);
        assert!(Failure::NotSent(Step::Mail).is_stale());
        assert!(!Failure::NotSent(Step::Rcpt).is_stale());
    }

    #[test]
    fn policy_is_told_apart() {
        let policy = |code, text| Failure::Refused(Step::Dot, Reply::new(code, text)).is_policy();
        assert!(policy(550, "5.7.1 spam") && policy(554, "spam"));
        assert!(!policy(554, "5.6.0 bad") && !policy(450, "4.7.1") && !policy(550, "no"));
    }

    #[test]
    fn a_bounce_says_why() {
        let reason = |text| bounced(Enhanced::parse(text));
        assert_eq!(reason("5.1.1"), Reason::InvalidAddress);
        assert_eq!(reason("5.2.2"), Reason::NotReachable);
        assert_eq!(reason("5.3.4"), Reason::InvalidContent);
        assert_eq!(reason("5.7.1"), Reason::ProviderRefused);
        assert_eq!(reason("4.4.7"), Reason::ProviderUnavailable);
        assert_eq!(reason("5.4.4"), Reason::ProviderUnavailable);
        assert_eq!(reason("5.0.0"), Reason::ProviderRefused);
        assert_eq!(reason(""), Reason::ProviderRefused);
    }
}
