//! Google's errors, in Google's nested form. Pure.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::control::json as json_of;
use crate::server::{Answer, plain};
use crate::webhook::whole_seconds;

/// HTTP status, `status`, code of the FCM error (none for Google's general ones), by the word a plan
/// uses. [R: FCM's `ErrorCode` reference]
const CODES: &[(&str, u16, &str, &str)] = &[
    (
        "INVALID_ARGUMENT",
        400,
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
    ),
    ("UNREGISTERED", 404, "NOT_FOUND", "UNREGISTERED"),
    (
        "SENDER_ID_MISMATCH",
        403,
        "PERMISSION_DENIED",
        "SENDER_ID_MISMATCH",
    ),
    (
        "THIRD_PARTY_AUTH_ERROR",
        401,
        "UNAUTHENTICATED",
        "THIRD_PARTY_AUTH_ERROR",
    ),
    (
        "QUOTA_EXCEEDED",
        429,
        "RESOURCE_EXHAUSTED",
        "QUOTA_EXCEEDED",
    ),
    ("INTERNAL", 500, "INTERNAL", "INTERNAL"),
    ("UNAVAILABLE", 503, "UNAVAILABLE", "UNAVAILABLE"),
    ("UNSPECIFIED_ERROR", 500, "UNKNOWN", "UNSPECIFIED_ERROR"),
    ("UNAUTHENTICATED", 401, "UNAUTHENTICATED", ""),
    ("PERMISSION_DENIED", 403, "PERMISSION_DENIED", ""),
    ("NOT_FOUND", 404, "NOT_FOUND", ""),
    ("RESOURCE_EXHAUSTED", 429, "RESOURCE_EXHAUSTED", ""),
    ("DEADLINE_EXCEEDED", 504, "DEADLINE_EXCEEDED", ""),
];

/// An error.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    code: String,
    /// A field of the message that is wrong.
    field: Option<String>,
    /// Whose quota is used up.
    quota: Option<String>,
    retry_after_s: Option<u64>,
    /// A status without a body of Google's.
    bare: Option<u16>,
}

impl Refusal {
    pub(super) fn new(code: &str) -> Self {
        Self {
            code: code.to_owned(),
            field: None,
            quota: None,
            retry_after_s: None,
            bare: None,
        }
    }

    pub(super) fn field(field: &str) -> Self {
        Self {
            field: Some(field.to_owned()),
            ..Self::new("INVALID_ARGUMENT")
        }
    }

    /// `whose`: `project:…`, `device:…` or `topic:…`. (M: from memory)
    pub(super) fn quota(whose: String, retry_after_s: u64) -> Self {
        Self {
            quota: Some(whose),
            retry_after_s: (retry_after_s > 0).then_some(retry_after_s),
            ..Self::new("QUOTA_EXCEEDED")
        }
    }

    /// What a plan's word asks for: a code, then `field=…`, `quota=…`, `retry-after=…`.
    pub(super) fn of_word(word: &str) -> Self {
        let mut words = word.split(' ');
        let mut refusal = Self::new(words.next().unwrap_or_default());
        for word in words {
            match word.split_once('=') {
                Some(("field", field)) => refusal.field = Some(field.to_owned()),
                Some(("quota", whose)) => refusal.quota = Some(whose.to_owned()),
                Some(("retry-after", seconds)) => refusal.retry_after_s = seconds.parse().ok(),
                Some(_) | None => {}
            }
        }
        refusal
    }

    pub(super) fn of_status(status: u16) -> Self {
        let line = CODES
            .iter()
            .find(|(_, s, ..)| *s == status && status >= 500);
        match line {
            Some((code, ..)) => Self::new(code),
            None => Self {
                bare: Some(status),
                ..Self::new("")
            },
        }
    }

    pub(super) fn throttled(wait: Duration) -> Self {
        Self::quota("project:twin-project".to_owned(), whole_seconds(wait))
    }

    fn details(&self, fcm_code: &str) -> Vec<Value> {
        let mut details = Vec::new();
        if !fcm_code.is_empty() {
            let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
            details.push(json!({"@type": kind, "errorCode": fcm_code}));
        }
        if let Some(field) = &self.field {
            let kind = "type.googleapis.com/google.rpc.BadRequest";
            let violations = json!([{"field": field, "description": "Invalid value"}]);
            details.push(json!({"@type": kind, "fieldViolations": violations}));
        }
        if let Some(whose) = &self.quota {
            let kind = "type.googleapis.com/google.rpc.QuotaFailure";
            let violations = json!([{"subject": whose, "description": "Message rate exceeded"}]);
            details.push(json!({"@type": kind, "violations": violations}));
        }
        details
    }

    pub(super) fn answer(&self) -> Answer {
        if let Some(status) = self.bare {
            return plain(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY));
        }
        let line = CODES.iter().find(|(word, ..)| *word == self.code);
        let (_, http, status, fcm_code) = line.unwrap_or(&("", 400, "UNKNOWN", ""));
        let body = json!({
            "error": {
                "code": http,
                "message": self.message(),
                "status": status,
                "details": self.details(fcm_code),
            }
        });
        let mut answer = json_of(
            StatusCode::from_u16(*http).unwrap_or(StatusCode::BAD_REQUEST),
            &body,
        );
        if let Some(seconds) = self.retry_after_s {
            answer
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }

    fn message(&self) -> &'static str {
        match (self.code.as_str(), self.field.as_deref()) {
            ("INVALID_ARGUMENT", Some("message.token")) => {
                "The registration token is not a valid FCM registration token"
            }
            ("UNREGISTERED" | "NOT_FOUND", _) => "Requested entity was not found.",
            ("INVALID_ARGUMENT", _) => "Request contains an invalid argument.",
            _ => "The request was refused.",
        }
    }
}
