//! Codes to reactions, as tables. Pure.
//!
//! The dealers' own codes stand in `bizgo` and `nhn`; here are the reactions they share, what a bare
//! HTTP status means, and Kakao's result codes, which every dealer passes on in its reports.
//! [R: docs.kakaoi.ai, NHN error-code pages, 2026-08]
//!
//! | answer without an envelope | result |
//! |---|---|
//! | 2xx | unknown: it may have been taken |
//! | 400, 413 | refused, `invalid_content` |
//! | 401, 403 | the account's fault |
//! | 429 | throttled, the whole account |
//! | 502, 503 with `Retry-After` | throttled, the whole account |
//! | 504 | unknown |
//! | the rest | unavailable |

use std::time::Duration;

use bongsu_domain::{Outcome, Reason};
use reqwest::StatusCode;

use crate::provider::{AttemptResult, ThrottleScope};

/// What a dealer's code asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Taken, now or by an earlier attempt.
    Accepted,
    /// Never to be sent again.
    Refused(Reason),
    /// The account must wait.
    Throttled,
    /// The account is at fault.
    AccountFault,
    /// Not taken, may be later.
    Unavailable,
    /// Nobody can tell.
    Unknown,
    /// Too many recipients: nothing was taken, send it in smaller requests.
    Split,
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
            Self::Unknown => AttemptResult::Unknown,
            Self::Split => AttemptResult::NotProcessed,
        }
    }
}

/// What an answer without a dealer's envelope means.
#[must_use]
pub fn by_status(status: StatusCode, retry_after: Option<Duration>) -> Reaction {
    match status.as_u16() {
        200..=299 | 504 => Reaction::Unknown,
        400 | 413 => Reaction::Refused(Reason::InvalidContent),
        401 | 403 => Reaction::AccountFault,
        429 => Reaction::Throttled,
        502 | 503 if retry_after.is_some() => Reaction::Throttled,
        _ => Reaction::Unavailable,
    }
}

/// What Kakao's result code in an answer to a sending means, for dealers that pass it on there.
#[must_use]
pub fn kakao(code: &str) -> Reaction {
    // Sent, reception not confirmed, or the serial was there before: never again.
    if matches!(code, "3005" | "3060" | "3030") {
        return Reaction::Accepted;
    }
    match reported(code) {
        None | Some((Outcome::Delivered, _)) => Reaction::Accepted,
        Some((_, Reason::Credential)) => Reaction::AccountFault,
        Some((_, Reason::ProviderUnavailable)) => Reaction::Unavailable,
        Some((_, reason)) => Reaction::Refused(reason),
    }
}

/// What Kakao's result code in a report makes of a delivery; `None` says nothing final.
#[must_use]
pub fn reported(code: &str) -> Option<(Outcome, Reason)> {
    let undelivered = |reason| Some((Outcome::Undelivered, reason));
    let Ok(number) = code.parse::<u32>() else {
        return undelivered(Reason::ProviderRefused);
    };
    match number {
        // Sent, reception not confirmed: it may still arrive, for up to three days.
        3_005 | 3_060 => None,
        // The serial was there before: the first copy's report tells.
        3_030 => None,
        1_002 | 1_003 | 1_005..=1_008 | 1_011 | 1_021..=1_025 => undelivered(Reason::Credential),
        1_001 | 2_000 | 2_001 | 2_004 | 3_000 | 3_006 | 3_010 | 3_012 | 9_998 | 9_999 => {
            undelivered(Reason::ProviderUnavailable)
        }
        3_008 => undelivered(Reason::InvalidAddress),
        3_009 | 3_013 | 3_023 | 3_031 | 3_032 => undelivered(Reason::InvalidContent),
        3_015 | 3_016 | 3_025..=3_028 | 3_033 | 3_034 => undelivered(Reason::InvalidContent),
        3_018 | 3_050 | 3_051 => undelivered(Reason::NotReachable),
        3_022 | 3_054 => undelivered(Reason::OutsideHours),
        _ => undelivered(Reason::ProviderRefused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_alone_decides_as_the_table_says() {
        let of = |status| by_status(StatusCode::from_u16(status).unwrap(), None);
        for (status, reaction) in [
            (200, Reaction::Unknown),
            (204, Reaction::Unknown),
            (302, Reaction::Unavailable),
            (400, Reaction::Refused(Reason::InvalidContent)),
            (401, Reaction::AccountFault),
            (403, Reaction::AccountFault),
            (404, Reaction::Unavailable),
            (413, Reaction::Refused(Reason::InvalidContent)),
            (429, Reaction::Throttled),
            (500, Reaction::Unavailable),
            (503, Reaction::Unavailable),
            (504, Reaction::Unknown),
        ] {
            assert_eq!(of(status), reaction, "{status}");
        }
        let wait = Some(Duration::from_secs(1));
        let busy = by_status(StatusCode::SERVICE_UNAVAILABLE, wait);
        assert_eq!(busy, Reaction::Throttled);
    }

    #[test]
    fn a_result_code_in_an_answer_is_a_reaction() {
        for (code, reaction) in [
            ("3005", Reaction::Accepted),
            ("3030", Reaction::Accepted),
            ("1002", Reaction::AccountFault),
            ("9999", Reaction::Unavailable),
            ("3008", Reaction::Refused(Reason::InvalidAddress)),
            ("3018", Reaction::Refused(Reason::NotReachable)),
            ("3022", Reaction::Refused(Reason::OutsideHours)),
            ("7777", Reaction::Refused(Reason::ProviderRefused)),
        ] {
            assert_eq!(kakao(code), reaction, "{code}");
        }
    }

    #[test]
    fn every_result_code_of_kakao_has_its_meaning() {
        let table: [(&[&str], Option<Reason>); 9] = [
            (&["3005", "3060", "3030"], None),
            (
                &[
                    "1002", "1003", "1005", "1006", "1007", "1008", "1011", "1021", "1022", "1023",
                    "1024", "1025",
                ],
                Some(Reason::Credential),
            ),
            (
                &[
                    "1001", "2000", "2001", "2004", "3000", "3006", "3010", "3012", "9998", "9999",
                ],
                Some(Reason::ProviderUnavailable),
            ),
            (&["3008"], Some(Reason::InvalidAddress)),
            (
                &["3009", "3013", "3023", "3031", "3032"],
                Some(Reason::InvalidContent),
            ),
            (
                &[
                    "3015", "3016", "3025", "3026", "3027", "3028", "3033", "3034",
                ],
                Some(Reason::InvalidContent),
            ),
            (&["3018", "3050", "3051"], Some(Reason::NotReachable)),
            (&["3022", "3054"], Some(Reason::OutsideHours)),
            (&["7777", "E1", ""], Some(Reason::ProviderRefused)),
        ];
        for (codes, reason) in table {
            for code in codes {
                let expected = reason.map(|reason| (Outcome::Undelivered, reason));
                assert_eq!(reported(code), expected, "{code}");
            }
        }
    }
}
