//! Answer to reaction, as a table. Pure.
//!
//! `details[].errorCode` decides first, then `status`, then HTTP's status. [R: FCM's `ErrorCode`
//! reference, 2026-08, unless tagged; M = from memory, D = decided here]
//!
//! | HTTP | errorCode or status | reaction |
//! |---|---|---|
//! | 2xx | | accepted |
//! | 400 | INVALID_ARGUMENT about the target | refused: `invalid_address` where the same content was accepted for another target, else `provider_refused` |
//! | 400 | INVALID_ARGUMENT about anything else | refused, `invalid_content` |
//! | 404 | UNREGISTERED | refused, `invalid_address` |
//! | 403 | SENDER_ID_MISMATCH | refused, `invalid_address`: a token of another project |
//! | 401 | THIRD_PARTY_AUTH_ERROR | not processed; the platform (iOS or web) is held for a minute (D), the others go on. A target of another platform is held alone |
//! | 401 | status UNAUTHENTICATED | another token, then not processed; unavailable when the last one was replaced less than a minute ago (D); account fault when two in a row are refused |
//! | 403 | status PERMISSION_DENIED | account fault |
//! | 404 | status NOT_FOUND | refused, `provider_refused`: it says nothing of a token (D) |
//! | 429 | QUOTA_EXCEEDED or RESOURCE_EXHAUSTED, of a device or a topic | throttled, this address, for `Retry-After`, else 60 s |
//! | 429 | the same, of the project, or of nothing named | throttled, the account, for `Retry-After`, else 60 s |
//! | 500 | INTERNAL | unavailable |
//! | 503 | UNAVAILABLE | throttled for `Retry-After`, the account; else unavailable |
//! | – | UNSPECIFIED_ERROR | unavailable |
//! | 504 | DEADLINE_EXCEEDED | unknown |
//! | other, or not in Google's form | | 413 refused, `invalid_content`; 429 throttled, this worker; else unavailable |

use std::time::Duration;

use bongsu_domain::Reason;
use serde::Deserialize;
use serde_json::Value;

use crate::provider::{AttemptResult, ThrottleScope};

/// The wait after a 429 that names none. [R: firebase-admin-go 736, quoting the reference: at least
/// a minute for project and topic; the same for a device is ours]
pub const QUOTA_WAIT: Duration = Duration::from_mins(1);
/// How long a platform rests whose credential at Firebase is bad: a person must mend it.
pub const PLATFORM_WAIT: Duration = Duration::from_mins(1);

/// What Google says of a malformed token beside the same code as for everything else malformed.
/// [R: firebase-admin-dotnet 45, firebase-admin-java 1064]
const NO_TOKEN: &str = "The registration token is not a valid FCM registration token";

/// Words by which a quota says whose it is, in the violation's subject and description, and in
/// `quota_limit` and `quota_metric`. Google documents that there are three, not how they are named. (M: from memory)
const DEVICE_QUOTA: &[&str] = &["device", "token", "registration"];
const TOPIC_QUOTA: &[&str] = &["topic"];

/// What the provider has to do beside telling the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Reaction {
    /// Nothing more.
    Result(AttemptResult),
    /// Take another access token.
    RenewToken,
    /// Firebase's credential for this target's platform is bad: its deliveries rest.
    PlatformFault,
}

/// What an answer is judged by, beside itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// `Retry-After`, when there was one.
    pub retry_after: Option<Duration>,
    /// Whether the same content was accepted for another target.
    pub content_passed: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    error: Option<Error>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Error {
    message: String,
    status: String,
    details: Vec<Value>,
}

/// One of the details; their kinds have different members.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Detail {
    error_code: String,
    field_violations: Vec<FieldViolation>,
    violations: Vec<QuotaViolation>,
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FieldViolation {
    field: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct QuotaViolation {
    subject: String,
    description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    quota_limit: String,
    quota_metric: String,
}

const fn refused(reason: Reason) -> Reaction {
    Reaction::Result(AttemptResult::Refused(reason))
}

const UNAVAILABLE: Reaction = Reaction::Result(AttemptResult::Unavailable);

/// What an answer means.
pub fn classify(status: u16, body: &[u8], facts: Facts) -> Reaction {
    if (200..300).contains(&status) {
        return Reaction::Result(AttemptResult::Accepted);
    }
    let body: Body = serde_json::from_slice(body).unwrap_or_default();
    let Some(error) = body.error else {
        return not_googles(status, facts);
    };
    // A detail of a kind that is not known, or that has changed, is as good as none.
    let details = error.details.iter();
    let details: Vec<Detail> = details
        .filter_map(|detail| Detail::deserialize(detail).ok())
        .collect();
    let code = details.iter().map(|d| d.error_code.as_str());
    let code = code.into_iter().find(|code| !code.is_empty());
    code.and_then(|code| by_word(code, &error, &details, facts))
        .or_else(|| by_word(&error.status, &error, &details, facts))
        .unwrap_or_else(|| by_status(status, facts))
}

fn by_word(word: &str, error: &Error, details: &[Detail], facts: Facts) -> Option<Reaction> {
    Some(match word {
        "INVALID_ARGUMENT" => invalid(error, details, facts),
        "UNREGISTERED" | "SENDER_ID_MISMATCH" => refused(Reason::InvalidAddress),
        "THIRD_PARTY_AUTH_ERROR" => Reaction::PlatformFault,
        "UNAUTHENTICATED" => Reaction::RenewToken,
        "PERMISSION_DENIED" => Reaction::Result(AttemptResult::AccountFault),
        "NOT_FOUND" => refused(Reason::ProviderRefused),
        "QUOTA_EXCEEDED" | "RESOURCE_EXHAUSTED" => Reaction::Result(AttemptResult::Throttled {
            retry_after: facts.retry_after.or(Some(QUOTA_WAIT)),
            scope: quota_scope(details),
        }),
        "UNAVAILABLE" => unavailable(facts),
        "INTERNAL" | "UNSPECIFIED_ERROR" => UNAVAILABLE,
        "DEADLINE_EXCEEDED" => Reaction::Result(AttemptResult::Unknown),
        _ => return None,
    })
}

/// The same code stands for a bad field and for a malformed token.
fn invalid(error: &Error, details: &[Detail], facts: Facts) -> Reaction {
    let targets = ["token", "fid", "topic", "condition"];
    let of_target = |violation: &FieldViolation| {
        let field = violation.field.strip_prefix("message.");
        targets.contains(&field.unwrap_or(&violation.field))
    };
    let mut fields = details.iter().flat_map(|d| &d.field_violations).peekable();
    let about_target = if fields.peek().is_some() {
        fields.all(of_target)
    } else {
        error.message.starts_with(NO_TOKEN)
    };
    match (about_target, facts.content_passed) {
        (true, true) => refused(Reason::InvalidAddress),
        (true, false) => refused(Reason::ProviderRefused),
        (false, _) => refused(Reason::InvalidContent),
    }
}

/// Whose quota is used up.
fn quota_scope(details: &[Detail]) -> ThrottleScope {
    let violations = details.iter().flat_map(|d| &d.violations);
    let told: String = violations
        .flat_map(|v| [v.subject.as_str(), v.description.as_str()])
        .chain(details.iter().flat_map(|d| {
            [
                d.metadata.quota_limit.as_str(),
                d.metadata.quota_metric.as_str(),
            ]
        }))
        .collect::<Vec<_>>()
        .join(" ")
        .to_ascii_lowercase();
    let mut ours = DEVICE_QUOTA.iter().chain(TOPIC_QUOTA);
    if ours.any(|word| told.contains(word)) {
        ThrottleScope::Address
    } else {
        ThrottleScope::Account
    }
}

const fn unavailable(facts: Facts) -> Reaction {
    match facts.retry_after {
        None => UNAVAILABLE,
        Some(_) => Reaction::Result(AttemptResult::Throttled {
            retry_after: facts.retry_after,
            scope: ThrottleScope::Account,
        }),
    }
}

/// In Google's form, but with words we do not know.
fn by_status(status: u16, facts: Facts) -> Reaction {
    match status {
        400 | 404 | 413 => refused(Reason::ProviderRefused),
        401 => Reaction::RenewToken,
        403 => Reaction::Result(AttemptResult::AccountFault),
        429 => Reaction::Result(AttemptResult::Throttled {
            retry_after: facts.retry_after.or(Some(QUOTA_WAIT)),
            scope: ThrottleScope::Account,
        }),
        _ => not_googles(status, facts),
    }
}

/// What stands between us and Google says it: it condemns nobody.
fn not_googles(status: u16, facts: Facts) -> Reaction {
    match status {
        413 => refused(Reason::InvalidContent),
        429 => Reaction::Result(AttemptResult::Throttled {
            retry_after: facts.retry_after.or(Some(QUOTA_WAIT)),
            scope: ThrottleScope::Worker,
        }),
        502 | 503 => unavailable(facts),
        504 => Reaction::Result(AttemptResult::Unknown),
        _ => UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(status: &str, details: Value) -> String {
        json!({"error": {"code": 0, "message": "m", "status": status, "details": details}})
            .to_string()
    }

    fn with_code(status: &str, code: &str) -> String {
        let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
        error(status, json!([{"@type": kind, "errorCode": code}]))
    }

    fn of(status: u16, body: &str) -> Reaction {
        classify(status, body.as_bytes(), Facts::default())
    }

    fn throttled(seconds: u64, scope: ThrottleScope) -> Reaction {
        Reaction::Result(AttemptResult::Throttled {
            retry_after: Some(Duration::from_secs(seconds)),
            scope,
        })
    }

    #[test]
    fn the_table_holds() {
        let account = Reaction::Result(AttemptResult::AccountFault);
        let address = refused(Reason::InvalidAddress);
        let content = refused(Reason::InvalidContent);
        let other = refused(Reason::ProviderRefused);
        let limited = throttled(60, ThrottleScope::Account);
        for (http, status, code, reaction) in [
            (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", content),
            (404, "NOT_FOUND", "UNREGISTERED", address),
            (403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", address),
            (
                401,
                "UNAUTHENTICATED",
                "THIRD_PARTY_AUTH_ERROR",
                Reaction::PlatformFault,
            ),
            (401, "UNAUTHENTICATED", "", Reaction::RenewToken),
            (403, "PERMISSION_DENIED", "", account),
            (404, "NOT_FOUND", "", other),
            (429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", limited),
            (429, "RESOURCE_EXHAUSTED", "", limited),
            (500, "INTERNAL", "INTERNAL", UNAVAILABLE),
            (503, "UNAVAILABLE", "UNAVAILABLE", UNAVAILABLE),
            (500, "UNKNOWN", "UNSPECIFIED_ERROR", UNAVAILABLE),
            (
                504,
                "DEADLINE_EXCEEDED",
                "",
                Reaction::Result(AttemptResult::Unknown),
            ),
            (400, "FAILED_PRECONDITION", "SOMETHING_NEW", other),
            (403, "NEW", "", account),
            (500, "NEW", "", UNAVAILABLE),
        ] {
            let body = if code.is_empty() {
                error(status, json!([]))
            } else {
                with_code(status, code)
            };
            assert_eq!(of(http, &body), reaction, "{http} {status} {code}");
        }
    }

    #[test]
    fn a_malformed_token_is_dead_only_where_its_content_passed_elsewhere() {
        let kind = "type.googleapis.com/google.rpc.BadRequest";
        let field = |field: &str| {
            let details = json!([{"@type": kind, "fieldViolations": [{"field": field}]}]);
            error("INVALID_ARGUMENT", details)
        };
        let passed = Facts {
            content_passed: true,
            ..Facts::default()
        };
        let told = json!({"error": {"status": "INVALID_ARGUMENT", "message": NO_TOKEN}});
        for body in [
            field("message.token"),
            field("message.fid"),
            told.to_string(),
        ] {
            assert_eq!(of(400, &body), refused(Reason::ProviderRefused), "{body}");
            let sure = classify(400, body.as_bytes(), passed);
            assert_eq!(sure, refused(Reason::InvalidAddress), "{body}");
        }
        let body = field("message.android.ttl");
        let sure = classify(400, body.as_bytes(), passed);
        assert_eq!(sure, refused(Reason::InvalidContent));
    }

    #[test]
    fn a_quota_says_whose_it_is() {
        let quota = |subject: &str| {
            let kind = "type.googleapis.com/google.rpc.QuotaFailure";
            let violations = json!([{"subject": subject, "description": "used up"}]);
            error(
                "RESOURCE_EXHAUSTED",
                json!([{"@type": kind, "violations": violations}]),
            )
        };
        for (subject, scope) in [
            ("device:abc", ThrottleScope::Address),
            ("topic:news", ThrottleScope::Address),
            ("project:shop-1", ThrottleScope::Account),
        ] {
            assert_eq!(of(429, &quota(subject)), throttled(60, scope), "{subject}");
            let facts = Facts {
                retry_after: Some(Duration::from_secs(7)),
                ..Facts::default()
            };
            let told = classify(429, quota(subject).as_bytes(), facts);
            assert_eq!(told, throttled(7, scope));
        }
        // As it is seen at the project's limit. [R: firebase-admin-go #719]
        let info = json!([{"reason": "RATE_LIMIT_EXCEEDED",
                           "metadata": {"quota_limit": "SendsPerMinutePerProject"}}]);
        let body = error("RESOURCE_EXHAUSTED", info);
        assert_eq!(of(429, &body), throttled(60, ThrottleScope::Account));
    }

    #[test]
    fn what_is_not_googles_word_condemns_nobody() {
        for (status, result) in [
            (307, AttemptResult::Unavailable),
            (400, AttemptResult::Unavailable),
            (401, AttemptResult::Unavailable),
            (403, AttemptResult::Unavailable),
            (404, AttemptResult::Unavailable),
            (413, AttemptResult::Refused(Reason::InvalidContent)),
            (502, AttemptResult::Unavailable),
            (504, AttemptResult::Unknown),
        ] {
            for body in ["", "<html>", "{}", "[]", r#"{"error":"x"}"#] {
                assert_eq!(
                    of(status, body),
                    Reaction::Result(result),
                    "{status} {body}"
                );
            }
        }
        assert_eq!(of(429, "<html>"), throttled(60, ThrottleScope::Worker));
    }
}
