//! Answer to reaction, as a table. Pure.
//!
//! The reason in the JSON body decides before the status. [R: Apple, "Handling notification
//! responses from APNs", 2026-08, unless tagged; M = from memory, D = decided here]
//!
//! | status | reason | reaction |
//! |---|---|---|
//! | 2xx | | accepted |
//! | 400 | BadDeviceToken | refused, `address_doubtful`; `invalid_address` where the account trusts it: the other environment's tokens get the same word |
//! | 400 | DeviceTokenNotForTopic | refused, `provider_refused`: another app's token |
//! | 400 | BadCollapseId, BadExpirationDate, BadPriority, InvalidPushType, PayloadEmpty | refused, `invalid_content` |
//! | 400 | BadMessageId, DuplicateHeaders, MissingDeviceToken | refused, `provider_refused` |
//! | 400 | BadTopic, MissingTopic, TopicDisallowed | account fault: the topic is the account's (D) |
//! | 400 | IdleTimeout | unavailable, on a new connection |
//! | 403 | BadCertificate, BadCertificateEnvironment, Forbidden, InvalidProviderToken, BadEnvironmentKeyIdInToken, BadEnvironmentKeyInToken | account fault |
//! | 403 | ExpiredProviderToken, MissingProviderToken | another token on a new connection, then not processed; account fault when there is none |
//! | 403 | UnrelatedKeyIdInToken | unavailable, on a new connection |
//! | 404, 405 | BadPath, MethodNotAllowed | refused, `provider_refused` |
//! | 410 | Unregistered, ExpiredToken | refused, `invalid_address`; `provider_refused` when the address was registered after the timestamp |
//! | 413 | PayloadTooLarge | refused, `invalid_content` |
//! | 429 | TooManyRequests | throttled, this address |
//! | 429 | TooManyProviderTokenUpdates | throttled, the account; the present token is kept |
//! | 500 | InternalServerError | unavailable |
//! | 503 | ServiceUnavailable, Shutdown | unavailable, on a new connection |
//! | 504 | | unknown |
//! | 400, 413 | any other | refused, `provider_refused` / `invalid_content` |
//! | 403 | any other | account fault |
//! | 429 | none | throttled for `Retry-After`, everything of this worker: not Apple's word (D) |
//! | other, or no reason | | unavailable; throttled when 502 or 503 names a `Retry-After` |

use std::time::Duration;

use bongsu_domain::{Reason, Timestamp};
use serde::Deserialize;

use crate::provider::{AttemptResult, ThrottleScope};

/// What the transport has to do beside telling the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Reaction {
    /// Nothing more.
    Result(AttemptResult),
    /// Replace the connection.
    Reconnect(AttemptResult),
    /// Make another token and replace the connection: an expired one leaves it unusable. [R: pushy]
    RenewToken,
    /// Make no other token for a while.
    KeepToken(AttemptResult),
}

/// What of an error body is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody<'a> {
    #[serde(borrow)]
    reason: Option<std::borrow::Cow<'a, str>>,
    timestamp: Option<i64>,
}

/// What an answer is judged by, beside itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// When the address was registered.
    pub registered_at: Option<Timestamp>,
    /// Whether `BadDeviceToken` means that the address is dead.
    pub trust_bad_device_token: bool,
    /// `Retry-After`, when there was one.
    pub retry_after: Option<Duration>,
}

const fn refused(reason: Reason) -> Reaction {
    Reaction::Result(AttemptResult::Refused(reason))
}

/// What an answer means.
pub fn classify(status: u16, body: &[u8], facts: Facts) -> Reaction {
    if (200..300).contains(&status) {
        return Reaction::Result(AttemptResult::Accepted);
    }
    let error: ErrorBody<'_> = serde_json::from_slice(body).unwrap_or_default();
    let reason = error.reason.as_deref();
    reason
        .and_then(|reason| by_reason(reason, error.timestamp, facts))
        .unwrap_or_else(|| by_status(status, reason.is_some(), facts.retry_after))
}

fn by_reason(reason: &str, timestamp: Option<i64>, facts: Facts) -> Option<Reaction> {
    let unavailable = AttemptResult::Unavailable;
    let throttled = |scope| AttemptResult::Throttled {
        retry_after: facts.retry_after,
        scope,
    };
    Some(match reason {
        "BadDeviceToken" if facts.trust_bad_device_token => refused(Reason::InvalidAddress),
        // The same is said of a good token of the other environment.
        "BadDeviceToken" => refused(Reason::AddressDoubtful),
        "DeviceTokenNotForTopic"
        | "BadMessageId"
        | "DuplicateHeaders"
        | "MissingDeviceToken"
        | "BadPath"
        | "MethodNotAllowed" => refused(Reason::ProviderRefused),
        "BadCollapseId" | "BadExpirationDate" | "BadPriority" | "InvalidPushType"
        | "PayloadEmpty" | "PayloadTooLarge" => refused(Reason::InvalidContent),
        "BadTopic"
        | "MissingTopic"
        | "TopicDisallowed"
        | "BadCertificate"
        | "BadCertificateEnvironment"
        | "Forbidden"
        | "InvalidProviderToken"
        | "BadEnvironmentKeyIdInToken"
        | "BadEnvironmentKeyInToken" => Reaction::Result(AttemptResult::AccountFault),
        "ExpiredProviderToken" | "MissingProviderToken" => Reaction::RenewToken,
        "Unregistered" | "ExpiredToken" => unregistered(timestamp, facts.registered_at),
        "TooManyRequests" => Reaction::Result(throttled(ThrottleScope::Address)),
        "TooManyProviderTokenUpdates" => Reaction::KeepToken(throttled(ThrottleScope::Account)),
        "InternalServerError" => Reaction::Result(unavailable),
        "IdleTimeout" | "UnrelatedKeyIdInToken" | "ServiceUnavailable" | "Shutdown" => {
            Reaction::Reconnect(unavailable)
        }
        _ => return None,
    })
}

/// The verdict is about the token as it was at `timestamp` (epoch milliseconds): one that was
/// registered later is alive again.
fn unregistered(timestamp: Option<i64>, registered_at: Option<Timestamp>) -> Reaction {
    match (timestamp, registered_at) {
        (Some(dead_at), Some(Timestamp(registered))) if registered > dead_at => {
            refused(Reason::ProviderRefused)
        }
        _ => refused(Reason::InvalidAddress),
    }
}

/// `own`: whether the body was in Apple's form, with a reason we do not know.
fn by_status(status: u16, own: bool, retry_after: Option<Duration>) -> Reaction {
    Reaction::Result(match (status, own, retry_after) {
        (429, true, _) => AttemptResult::Throttled {
            retry_after,
            scope: ThrottleScope::Address,
        },
        (429, false, _) | (502 | 503, false, Some(_)) => AttemptResult::Throttled {
            retry_after,
            scope: ThrottleScope::Worker,
        },
        (413, ..) => AttemptResult::Refused(Reason::InvalidContent),
        (400 | 404 | 405, true, _) => AttemptResult::Refused(Reason::ProviderRefused),
        (410, true, _) => AttemptResult::Refused(Reason::InvalidAddress),
        (403, true, _) => AttemptResult::AccountFault,
        (504, ..) => AttemptResult::Unknown,
        _ => AttemptResult::Unavailable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, reason: &str) -> Reaction {
        let body = format!(r#"{{"reason":"{reason}"}}"#);
        classify(status, body.as_bytes(), Facts::default())
    }

    const THROTTLED: fn(ThrottleScope) -> AttemptResult = |scope| AttemptResult::Throttled {
        retry_after: None,
        scope,
    };

    #[test]
    fn the_table_holds() {
        use Reaction::{KeepToken, Reconnect, RenewToken, Result};
        let content = refused(Reason::InvalidContent);
        let other = refused(Reason::ProviderRefused);
        let account = Result(AttemptResult::AccountFault);
        let unavailable = AttemptResult::Unavailable;
        for (status, reason, reaction) in [
            (400, "BadCollapseId", content),
            (400, "BadDeviceToken", refused(Reason::AddressDoubtful)),
            (400, "BadExpirationDate", content),
            (400, "BadMessageId", other),
            (400, "BadPriority", content),
            (400, "BadTopic", account),
            (400, "DeviceTokenNotForTopic", other),
            (400, "DuplicateHeaders", other),
            (400, "IdleTimeout", Reconnect(unavailable)),
            (400, "InvalidPushType", content),
            (400, "MissingDeviceToken", other),
            (400, "MissingTopic", account),
            (400, "PayloadEmpty", content),
            (400, "TopicDisallowed", account),
            (403, "BadCertificate", account),
            (403, "BadCertificateEnvironment", account),
            (403, "ExpiredProviderToken", RenewToken),
            (403, "Forbidden", account),
            (403, "InvalidProviderToken", account),
            (403, "MissingProviderToken", RenewToken),
            (403, "UnrelatedKeyIdInToken", Reconnect(unavailable)),
            (403, "BadEnvironmentKeyIdInToken", account),
            (404, "BadPath", other),
            (405, "MethodNotAllowed", other),
            (410, "ExpiredToken", refused(Reason::InvalidAddress)),
            (410, "Unregistered", refused(Reason::InvalidAddress)),
            (413, "PayloadTooLarge", content),
            (
                429,
                "TooManyRequests",
                Result(THROTTLED(ThrottleScope::Address)),
            ),
            (
                429,
                "TooManyProviderTokenUpdates",
                KeepToken(THROTTLED(ThrottleScope::Account)),
            ),
            (500, "InternalServerError", Result(unavailable)),
            (503, "ServiceUnavailable", Reconnect(unavailable)),
            (503, "Shutdown", Reconnect(unavailable)),
            (400, "SomethingNew", other),
            (403, "SomethingNew", account),
            (410, "SomethingNew", refused(Reason::InvalidAddress)),
            (
                429,
                "SomethingNew",
                Result(THROTTLED(ThrottleScope::Address)),
            ),
            (500, "SomethingNew", Result(unavailable)),
            (504, "SomethingNew", Result(AttemptResult::Unknown)),
        ] {
            assert_eq!(of(status, reason), reaction, "{status} {reason}");
        }
    }

    #[test]
    fn what_is_not_apples_word_condemns_nobody() {
        for (status, result) in [
            (200, AttemptResult::Accepted),
            (307, AttemptResult::Unavailable),
            (400, AttemptResult::Unavailable),
            (403, AttemptResult::Unavailable),
            (404, AttemptResult::Unavailable),
            (410, AttemptResult::Unavailable),
            (413, AttemptResult::Refused(Reason::InvalidContent)),
            (429, THROTTLED(ThrottleScope::Worker)),
            (500, AttemptResult::Unavailable),
            (502, AttemptResult::Unavailable),
            (503, AttemptResult::Unavailable),
            (504, AttemptResult::Unknown),
        ] {
            for body in ["", "<html>", "{}", "[]"] {
                let reaction = classify(status, body.as_bytes(), Facts::default());
                assert_eq!(reaction, Reaction::Result(result), "{status} {body}");
            }
        }
    }

    #[test]
    fn a_verdict_does_not_kill_an_address_that_was_registered_after_it() {
        let body = br#"{"reason":"Unregistered","timestamp":1760000000000}"#;
        let at = |registered: Option<i64>| {
            let facts = Facts {
                registered_at: registered.map(Timestamp),
                ..Facts::default()
            };
            classify(410, body, facts)
        };
        let dead = refused(Reason::InvalidAddress);
        assert_eq!(at(None), dead);
        assert_eq!(at(Some(1_759_999_999_999)), dead);
        assert_eq!(at(Some(1_760_000_000_000)), dead);
        assert_eq!(
            at(Some(1_760_000_000_001)),
            refused(Reason::ProviderRefused)
        );
    }

    #[test]
    fn a_bad_device_token_kills_only_where_the_environment_is_sure() {
        let facts = Facts {
            trust_bad_device_token: true,
            ..Facts::default()
        };
        let body = br#"{"reason":"BadDeviceToken"}"#;
        assert_eq!(classify(400, body, facts), refused(Reason::InvalidAddress));
    }
}
