//! Every answer that is not a success: RFC 9457 `application/problem+json`.

use axum::response::{IntoResponse, Response};
use bongsu_domain::Fault;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// Most faults listed in one answer; the rest are only counted, in `errors_total`. A hostile body
/// must not make an answer, or our memory, much larger than itself.
pub const LISTED: usize = 1_000;

macro_rules! problems {
    ($($(#[$meta:meta])* $variant:ident = $word:literal, $status:ident, $title:literal;)+) => {
        /// The closed list of problems, each a `type` of its own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemCode { $($(#[$meta])* $variant),+ }

        impl ProblemCode {
            /// Every problem, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in `code`, and the anchor in `type`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The HTTP status it comes with.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }

            /// What it is, in one line.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }
        }
    };
}

problems! {
    /// Not JSON at all, or not what the content type says.
    Malformed = "malformed", BAD_REQUEST, "The request cannot be read";
    /// No key, or an unknown one.
    Unauthorized = "unauthorized", UNAUTHORIZED, "A valid API key is required";
    /// The key may not do this.
    MissingScope = "missing_scope", FORBIDDEN, "The API key lacks the scope";
    /// The key may not speak for, or look at, this sender.
    ForeignSender = "foreign_sender", FORBIDDEN, "The sender does not belong to the API key";
    /// Nothing there, or nothing the key may see.
    NotFound = "not_found", NOT_FOUND, "There is nothing here";
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The path does not take this method";
    /// The body came too slowly.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT, "The body did not arrive in time";
    /// Several senders have an event of this id.
    Ambiguous = "ambiguous", CONFLICT, "The event id belongs to several senders";
    /// The body is too large.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// Too many events in one request.
    TooManyEvents = "too_many_events", PAYLOAD_TOO_LARGE, "The request holds too many events";
    /// One event is too large.
    EventTooLarge = "event_too_large", PAYLOAD_TOO_LARGE, "An event is too large";
    /// A content type we do not read.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The content type is not taken here";
    /// Readable, but wrong; every fault is listed and nothing was published.
    InvalidEvent = "invalid_event", UNPROCESSABLE_ENTITY, "The event is not valid";
    /// A fault of ours.
    Internal = "internal", INTERNAL_SERVER_ERROR, "The gateway failed";
    /// A callback that its provider did not sign, or too long ago.
    InvalidSignature = "invalid_signature", UNAUTHORIZED, "The callback is not signed by the provider";
    /// A callback from an address that is not the provider's.
    ForeignSource = "foreign_source", FORBIDDEN, "The callback does not come from the provider";
    /// A callback whose body is no report.
    NotAReport = "not_a_report", UNPROCESSABLE_ENTITY, "The body is no report of the provider";
    /// Too much at once; nothing was published.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "The gateway is busy";
    /// Kafka did not acknowledge everything; each event's state is listed.
    NotAcknowledged = "not_acknowledged", SERVICE_UNAVAILABLE, "Kafka did not acknowledge every event";
    /// The store is not configured or does not answer.
    StoreUnavailable = "store_unavailable", SERVICE_UNAVAILABLE, "Look-ups are not available";
}

/// One fault of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Path of the field as the publisher wrote it: `events[17].target.recipients[0].id`.
    pub field: String,
    /// The bounded kind.
    pub code: &'static str,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl FieldError {
    /// A fault of `field`.
    #[must_use]
    pub fn new(field: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            code,
            message: message.into(),
        }
    }

    /// A fault found by the event check, under the path of its event.
    #[must_use]
    pub fn at(field: String, fault: Fault) -> Self {
        Self {
            field,
            code: fault.code.as_str(),
            message: fault.message,
        }
    }
}

/// What became of one event of a request that was not wholly acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemState {
    /// The event's id, given or made; sent again with it, a repeat is safe.
    pub id: String,
    /// Who speaks.
    pub sender: String,
    /// `acknowledged` or `unknown`.
    pub state: &'static str,
    /// Partition, when acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// Offset, when acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Why it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which.
    pub code: ProblemCode,
    /// This occurrence, for people.
    pub detail: String,
    /// Faults by field, at most [`LISTED`].
    pub errors: Vec<FieldError>,
    /// How many faults there are, when more than are listed.
    pub errors_total: Option<usize>,
    /// States by event, for [`ProblemCode::NotAcknowledged`].
    pub events: Vec<ItemState>,
    /// When to come back, in seconds.
    pub retry_after: Option<u32>,
}

impl Problem {
    /// A problem with nothing but its detail.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            errors_total: None,
            events: Vec::new(),
            retry_after: None,
        }
    }

    /// A problem of one field.
    #[must_use]
    pub fn of_field(code: ProblemCode, error: FieldError) -> Self {
        Self {
            errors: vec![error.clone()],
            ..Self::new(code, format!("{}: {}", error.field, error.message))
        }
    }

    /// Asks the client to come back after `seconds`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "Option::is_none")]
    errors_total: Option<usize>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    events: &'a [ItemState],
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let body = Body {
            r#type: format!("/problems#{}", self.code.as_str()),
            title: self.code.title(),
            status: status.as_u16(),
            code: self.code.as_str(),
            detail: &self.detail,
            errors: &self.errors,
            errors_total: self.errors_total,
            events: &self.events,
        };
        let text = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (status, text).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == ProblemCode::Unauthorized {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"bongsu\""),
            );
        }
        // Read by the metrics layer, which sees responses only.
        response.extensions_mut().insert(self.code);
        response
    }
}
