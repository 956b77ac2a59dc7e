//! Codes to reactions, as tables. Pure. [R: solapi/documents, Twilio's error dictionary and support
//! pages, 2026-08, unless tagged]
//!
//! | answer without a word of the vendor's | result |
//! |---|---|
//! | 2xx | unknown: it may have been taken |
//! | 400 | unavailable: something between us and the vendor answered |
//! | 413 | refused, `invalid_content` |
//! | 401, 402, 403 | the account's fault |
//! | 429 | throttled, the whole account |
//! | 502, 503 with `Retry-After` | throttled, the whole account |
//! | 504 | unknown |
//! | the rest | unavailable |
//!
//! With a word of Solapi's that is not known, 400 is refused as `invalid_content`. A request of several
//! texts that is refused as a whole says nothing of any of them: its halves are sent.
//!
//! Both vendors refine their codes from time to time, so an unknown one is a soft failure: refused
//! as `provider_refused`, which says nothing of the address.

use std::time::Duration;

use bongsu_domain::{Outcome, Reason};
use reqwest::StatusCode;

use crate::provider::{AttemptResult, ThrottleScope};

/// What a code asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Taken.
    Accepted,
    /// Never to be sent again.
    Refused(Reason),
    /// The account must wait.
    Throttled,
    /// The account is at fault.
    AccountFault,
    /// Not taken, may be later.
    Unavailable,
    /// Surely not looked at: to be sent again at once.
    NotProcessed,
    /// Nobody can tell.
    Unknown,
}

impl Reaction {
    /// The attempt's result.
    pub const fn result(self, retry_after: Option<Duration>) -> AttemptResult {
        match self {
            Self::Accepted => AttemptResult::Accepted,
            Self::Refused(reason) => AttemptResult::Refused(reason),
            Self::Throttled => AttemptResult::Throttled {
                retry_after,
                scope: ThrottleScope::Account,
            },
            Self::AccountFault => AttemptResult::AccountFault,
            Self::Unavailable => AttemptResult::Unavailable,
            Self::NotProcessed => AttemptResult::NotProcessed,
            Self::Unknown => AttemptResult::Unknown,
        }
    }
}

/// What an answer without a word of the vendor's means.
#[must_use]
pub fn by_status(status: StatusCode, retry_after: Option<Duration>) -> Reaction {
    match status.as_u16() {
        200..=299 | 504 => Reaction::Unknown,
        413 => Reaction::Refused(Reason::InvalidContent),
        401..=403 => Reaction::AccountFault,
        429 => Reaction::Throttled,
        502 | 503 if retry_after.is_some() => Reaction::Throttled,
        _ => Reaction::Unavailable,
    }
}

/// What the word in Solapi's error answer means; the status decides where there is none known.
#[must_use]
pub fn solapi_error(word: &str, status: StatusCode, retry_after: Option<Duration>) -> Reaction {
    match word {
        "InvalidAPIKey" | "SignatureDoesNotMatch" | "RequestTimeTooSkewed" => {
            Reaction::AccountFault
        }
        // Somebody made the same signature; the next attempt has a salt of its own.
        "DuplicatedSignature" => Reaction::NotProcessed,
        word if !word.is_empty() && status == StatusCode::BAD_REQUEST => {
            Reaction::Refused(Reason::InvalidContent)
        }
        _ => by_status(status, retry_after),
    }
}

/// What a status code of Solapi's for one text means when it is taken in.
#[must_use]
pub fn solapi(code: &str) -> Reaction {
    let refused = Reaction::Refused;
    match code {
        // The same number twice in one request, which we do not send: it goes out alone later.
        "1026" => Reaction::Unavailable,
        // No balance; a sender number that is not registered.
        "1030" | "1062" => Reaction::AccountFault,
        // Too long; template missing or not approved.
        "1031" | "1042" | "1043" => refused(Reason::InvalidContent),
        // Blocked, opted out.
        "1060" | "1061" => refused(Reason::NotReachable),
        // Waiting at Solapi or at the carrier, or done.
        "3000" | "4000" => Reaction::Accepted,
        _ if code.starts_with('2') => Reaction::Accepted,
        _ => refused(Reason::ProviderRefused),
    }
}

/// What a status code of Solapi's in a report makes of a text; `None` says nothing final.
#[must_use]
pub fn solapi_reported(code: &str) -> Option<(Outcome, Reason)> {
    let undelivered = |reason| Some((Outcome::Undelivered, reason));
    match code {
        "4000" => Some((Outcome::Delivered, Reason::None)),
        "3000" => None,
        _ if code.starts_with('2') => None,
        "1030" | "1062" => undelivered(Reason::Credential),
        "1031" | "1042" | "1043" | "3103" => undelivered(Reason::InvalidContent),
        "1060" | "1061" | "3104" | "3107" => undelivered(Reason::NotReachable),
        // The handset: off, full, blocked, a spam filter.
        _ if ("3040"..="3059").contains(&code) && code.len() == 4 => {
            undelivered(Reason::NotReachable)
        }
        "3108" => undelivered(Reason::OutsideHours),
        _ => undelivered(Reason::ProviderRefused),
    }
}

/// What a code of Twilio's in an answer means; the status decides where there is none known.
#[must_use]
pub fn twilio(code: u64, status: StatusCode, retry_after: Option<Duration>) -> Reaction {
    let refused = Reaction::Refused;
    match code {
        20_003 => Reaction::AccountFault,
        // Too many requests; our queue at Twilio is full.
        20_429 | 21_611 | 30_001 => Reaction::Throttled,
        // Not a number; not a mobile one; opted out; unknown to its carrier.
        21_211 | 21_614 | 21_610 | 30_005 => refused(Reason::InvalidAddress),
        // The sender is not ours, or cannot send texts. [M for 21603]
        21_603 | 21_606 => Reaction::AccountFault,
        // No text; too long. [M]
        21_602 | 21_617 => refused(Reason::InvalidContent),
        // A region the account is not allowed to send to.
        21_408 => refused(Reason::ProviderRefused),
        30_003 | 30_006 => refused(Reason::NotReachable),
        30_007 => refused(Reason::InvalidContent),
        _ if status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 429) => {
            refused(Reason::ProviderRefused)
        }
        _ => by_status(status, retry_after),
    }
}

/// Why a text of Twilio's did not arrive, by the error code of its report.
#[must_use]
pub const fn twilio_reported(code: u64) -> Reason {
    match code {
        20_003 | 21_603 | 21_606 | 30_002 => Reason::Credential,
        21_211 | 21_614 | 21_610 | 30_005 => Reason::InvalidAddress,
        // Unreachable handset, blocked, landline.
        30_003 | 30_004 | 30_006 => Reason::NotReachable,
        // Filtered as spam.
        30_007 => Reason::InvalidContent,
        20_429 | 21_611 | 30_001 => Reason::ProviderUnavailable,
        _ => Reason::ProviderRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: Reaction = Reaction::Refused(Reason::InvalidContent);
    const ADDRESS: Reaction = Reaction::Refused(Reason::InvalidAddress);
    const AWAY: Reaction = Reaction::Refused(Reason::NotReachable);
    const OTHER: Reaction = Reaction::Refused(Reason::ProviderRefused);

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap()
    }

    #[test]
    fn a_status_alone_decides_as_the_table_says() {
        for (code, reaction) in [
            (200, Reaction::Unknown),
            (302, Reaction::Unavailable),
            (400, Reaction::Unavailable),
            (401, Reaction::AccountFault),
            (402, Reaction::AccountFault),
            (403, Reaction::AccountFault),
            (404, Reaction::Unavailable),
            (413, CONTENT),
            (429, Reaction::Throttled),
            (500, Reaction::Unavailable),
            (503, Reaction::Unavailable),
            (504, Reaction::Unknown),
        ] {
            assert_eq!(by_status(status(code), None), reaction, "{code}");
        }
        let busy = by_status(status(503), Some(Duration::from_secs(1)));
        assert_eq!(busy, Reaction::Throttled);
    }

    #[test]
    fn every_code_of_solapi_has_its_reaction() {
        for (code, reaction) in [
            ("2000", Reaction::Accepted),
            ("2230", Reaction::Accepted),
            ("3000", Reaction::Accepted),
            ("4000", Reaction::Accepted),
            ("1026", Reaction::Unavailable),
            ("1030", Reaction::AccountFault),
            ("1031", CONTENT),
            ("1042", CONTENT),
            ("1043", CONTENT),
            ("1060", AWAY),
            ("1061", AWAY),
            ("1062", Reaction::AccountFault),
            ("1099", OTHER),
            ("", OTHER),
        ] {
            assert_eq!(solapi(code), reaction, "{code}");
        }
        for (word, code, reaction) in [
            ("InvalidAPIKey", 403, Reaction::AccountFault),
            ("SignatureDoesNotMatch", 403, Reaction::AccountFault),
            ("RequestTimeTooSkewed", 403, Reaction::AccountFault),
            ("DuplicatedSignature", 403, Reaction::NotProcessed),
            ("ValidationError", 400, CONTENT),
            ("", 400, Reaction::Unavailable),
            ("PayloadTooLarge", 413, CONTENT),
            ("InternalError", 500, Reaction::Unavailable),
        ] {
            assert_eq!(solapi_error(word, status(code), None), reaction, "{word}");
        }
        let undelivered = |reason| Some((Outcome::Undelivered, reason));
        for (code, verdict) in [
            ("4000", Some((Outcome::Delivered, Reason::None))),
            ("2000", None),
            ("3000", None),
            ("1030", undelivered(Reason::Credential)),
            ("1062", undelivered(Reason::Credential)),
            ("1031", undelivered(Reason::InvalidContent)),
            ("3103", undelivered(Reason::InvalidContent)),
            ("1061", undelivered(Reason::NotReachable)),
            ("3040", undelivered(Reason::NotReachable)),
            ("3059", undelivered(Reason::NotReachable)),
            ("3104", undelivered(Reason::NotReachable)),
            ("3107", undelivered(Reason::NotReachable)),
            ("3108", undelivered(Reason::OutsideHours)),
            ("3060", undelivered(Reason::ProviderRefused)),
            ("1099", undelivered(Reason::ProviderRefused)),
        ] {
            assert_eq!(solapi_reported(code), verdict, "{code}");
        }
    }

    #[test]
    fn every_code_of_twilio_has_its_reaction() {
        for (code, http, reaction) in [
            (20_003, 401, Reaction::AccountFault),
            (20_429, 429, Reaction::Throttled),
            (21_610, 400, ADDRESS),
            (21_211, 400, ADDRESS),
            (21_614, 400, ADDRESS),
            (30_005, 400, ADDRESS),
            (21_408, 400, OTHER),
            (21_606, 400, Reaction::AccountFault),
            (21_611, 429, Reaction::Throttled),
            (30_001, 400, Reaction::Throttled),
            (30_003, 400, AWAY),
            (30_006, 400, AWAY),
            (30_007, 400, CONTENT),
            (30_008, 400, OTHER),
            (99_999, 400, OTHER),
            (99_999, 404, OTHER),
            (99_999, 500, Reaction::Unavailable),
            (99_999, 401, Reaction::AccountFault),
        ] {
            assert_eq!(twilio(code, status(http), None), reaction, "{code} {http}");
        }
        for (code, reason) in [
            (30_001, Reason::ProviderUnavailable),
            (30_003, Reason::NotReachable),
            (30_005, Reason::InvalidAddress),
            (30_006, Reason::NotReachable),
            (30_007, Reason::InvalidContent),
            (30_008, Reason::ProviderRefused),
            (21_610, Reason::InvalidAddress),
            (0, Reason::ProviderRefused),
        ] {
            assert_eq!(twilio_reported(code), reason, "{code}");
        }
    }
}
