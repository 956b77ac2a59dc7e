//! Twilio: a text to a request, an answer to a result, a report to what it says. Pure. [R: Twilio's
//! API reference, webhooks-security and status pages, 2026-08]
//!
//! Our reference rides in the query of the URL that Twilio calls back, and Twilio signs that URL
//! with everything it posts, so a report is as trustworthy as the auth token. States may come in any
//! order; outcomes only move forward.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_domain::reference::NotOurs;
use bongsu_domain::{Outcome, Reason, ReferenceKey};
use reqwest::StatusCode;
use serde::Deserialize;
use url::form_urlencoded;

use super::classify::{by_status, twilio, twilio_reported};
use super::config::Account;
use super::payload::Text;
use crate::provider::{AttemptResult, own_id};
use crate::reports::{NotAReport, Told};

/// The key of our reference in the callback's query.
pub const QUERY: &str = "ref";
/// Longest time a text may wait at Twilio, in seconds; without a word it is this long. [M: from memory]
pub const MOST_VALIDITY: i64 = 14_400;

/// Where it is sent to.
#[must_use]
pub fn path(account_sid: &str) -> String {
    format!("/2010-04-01/Accounts/{account_sid}/Messages.json")
}

/// The header that opens the API.
#[must_use]
pub fn authorization(account_sid: &str, token: &str) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{account_sid}:{token}"))
    )
}

/// The number as Twilio takes it.
#[must_use]
pub fn number(text: &Text) -> String {
    format!("+{}", text.to.digits())
}

/// The request body, a form. A text that is of no use after some time is not kept longer.
#[must_use]
pub fn body(account: &Account, text: &Text, callback: Option<&str>, now_ms: i64) -> Vec<u8> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("To", &number(text));
    if account.messaging_service.is_empty() {
        form.append_pair("From", &account.from);
    } else {
        form.append_pair("MessagingServiceSid", &account.messaging_service);
    }
    form.append_pair("Body", &text.text);
    if let (Some(url), Some(reference)) = (callback, &text.reference) {
        form.append_pair("StatusCallback", &format!("{url}?{QUERY}={reference}"));
    }
    let left = text.expires_at.saturating_sub(now_ms) / 1_000;
    if left < MOST_VALIDITY {
        form.append_pair("ValidityPeriod", &left.max(1).to_string());
    }
    form.finish().into_bytes()
}

#[derive(Deserialize)]
struct Answer {
    /// Of a text that was taken.
    sid: Option<String>,
    error_code: Option<u64>,
    /// Of an error.
    code: Option<u64>,
}

/// What an answer means.
pub fn result(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> AttemptResult {
    let answer = serde_json::from_slice::<Answer>(body).ok();
    let code = answer.as_ref().and_then(|a| a.code.or(a.error_code));
    let taken = answer.is_some_and(|a| a.sid.is_some());
    let reaction = match code {
        Some(code) => twilio(code, status, retry_after),
        None if taken && status.is_success() => return AttemptResult::Accepted,
        None => by_status(status, retry_after),
    };
    reaction.result(retry_after)
}

/// The id of a text that was taken; its reports have it, too.
#[must_use]
pub fn sid(body: &[u8]) -> Option<Box<str>> {
    let answer = serde_json::from_slice::<Answer>(body).ok()?;
    own_id(&answer.sid?)
}

/// Whether a signature was made by the auth token over a URL and a form, names in order.
#[must_use]
pub fn is_signed(token: &str, url: &str, form: &[(String, String)], signature: &str) -> bool {
    let Ok(signature) = STANDARD.decode(signature.trim()) else {
        return false;
    };
    let mut sorted: Vec<&(String, String)> = form.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut said = url.to_owned();
    for (name, value) in sorted {
        said.push_str(name);
        said.push_str(value);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    hmac::verify(&key, said.as_bytes(), &signature).is_ok()
}

/// The pairs of a form.
#[must_use]
pub fn form(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}

/// Reads a report: the form, and the query of the URL that was called.
///
/// # Errors
/// [`NotAReport`] when it lacks its id or its state.
pub fn told(body: &[u8], query: &str, references: &ReferenceKey) -> Result<Told, NotAReport> {
    let form = form(body);
    let field = |name: &str| {
        let found = form.iter().find(|(n, _)| n == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|v| !v.is_empty() && v.len() <= 200)
    };
    let missing = |field: &str| NotAReport(format!("`{field}` is missing"));
    let key = field("MessageSid").or_else(|| field("SmsSid"));
    let key = key.ok_or_else(|| missing("MessageSid"))?;
    let state = field("MessageStatus").or_else(|| field("SmsStatus"));
    let state = state.ok_or_else(|| missing("MessageStatus"))?;
    let code = field("ErrorCode").unwrap_or_default();
    let reference = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == QUERY)
        .map_or(Err(NotOurs::Foreign), |(_, text)| references.read(&text));
    let failed = || twilio_reported(code.parse().unwrap_or(0));
    Ok(Told {
        key: key.to_owned(),
        said: match code {
            "" => format!("SMS/{state}"),
            code => format!("SMS/{state}/{code}"),
        },
        reference,
        verdict: match state {
            "delivered" | "read" => Some((Outcome::Delivered, Reason::None)),
            "undelivered" | "failed" | "canceled" => Some((Outcome::Undelivered, failed())),
            // On its way: accepted, scheduled, queued, sending, sent, partially_delivered. What is
            // not known is not final.
            _ => None,
        },
        at: None,
        raw: body.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use bongsu_domain::{DeliveryId, Phone};

    use super::super::config::tests::twilio as account;
    use super::super::payload::Kind;
    use super::*;

    fn text() -> Text {
        Text {
            delivery: DeliveryId(Default::default()),
            to: Phone::parse("+82 10 1234 5678").unwrap(),
            text: "주문 17 & co".into(),
            title: String::new(),
            kind: Kind::Sms,
            reference: Some("b1.x".into()),
            expires_at: 100_000_000,
        }
    }

    #[test]
    fn the_request_is_exact_to_the_byte() {
        let written = |account: &Account, callback, now| {
            String::from_utf8(body(account, &text(), callback, now)).unwrap()
        };
        assert_eq!(
            written(&account(), Some("https://n.example/r"), 0),
            "To=%2B821012345678&From=%2B14155552671&Body=%EC%A3%BC%EB%AC%B8+17+%26+co\
             &StatusCallback=https%3A%2F%2Fn.example%2Fr%3Fref%3Db1.x"
        );
        let service = Account {
            from: String::new(),
            messaging_service: "MG1".into(),
            ..account()
        };
        assert_eq!(
            written(&service, None, 99_000_000),
            "To=%2B821012345678&MessagingServiceSid=MG1&Body=%EC%A3%BC%EB%AC%B8+17+%26+co\
             &ValidityPeriod=1000"
        );
        assert_eq!(path("AC1"), "/2010-04-01/Accounts/AC1/Messages.json");
        assert_eq!(authorization("AC1", "t"), "Basic QUMxOnQ=");
    }

    #[test]
    fn an_answer_is_accepted_when_it_names_its_text() {
        let of = |status, body: &str| {
            result(StatusCode::from_u16(status).unwrap(), body.as_bytes(), None)
        };
        let taken = r#"{"sid":"SM1","status":"queued","error_code":null}"#;
        assert_eq!(of(201, taken), AttemptResult::Accepted);
        assert_eq!(sid(taken.as_bytes()).as_deref(), Some("SM1"));
        assert_eq!(sid(b"{}"), None);
        assert_eq!(of(201, "x"), AttemptResult::Unknown);
        assert_eq!(of(201, "{}"), AttemptResult::Unknown);
        assert_eq!(
            of(400, r#"{"code":21211,"message":"m","status":400}"#),
            AttemptResult::Refused(Reason::InvalidAddress)
        );
        let failed = r#"{"sid":"SM1","status":"failed","error_code":30007}"#;
        assert_eq!(
            of(201, failed),
            AttemptResult::Refused(Reason::InvalidContent)
        );
        assert_eq!(of(401, ""), AttemptResult::AccountFault);
    }

    /// The example of Twilio's own libraries.
    #[test]
    fn a_signature_is_checked_over_url_and_form() {
        let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
        let form: Vec<(String, String)> = [
            ("CallSid", "CA1234567890ABCDE"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
            ("Caller", "+14158675309"),
        ]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .into();
        let good = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
        assert!(is_signed("12345", url, &form, good));
        assert!(!is_signed("12346", url, &form, good));
        assert!(!is_signed("12345", &url.replace('2', "3"), &form, good));
        assert!(!is_signed("12345", url, &form[1..], good));
        assert!(!is_signed("12345", url, &form, "x"));
    }

    #[test]
    fn states_that_are_final_settle_and_the_rest_do_not() {
        let references = account().reference_key().unwrap();
        let of = |body: &str| told(body.as_bytes(), "x=1&ref=order-17", &references);
        let verdict = |status: &str| {
            of(&format!("MessageSid=SM1&MessageStatus={status}&New=1"))
                .unwrap()
                .verdict
        };
        for status in [
            "accepted",
            "scheduled",
            "queued",
            "sending",
            "sent",
            "partially_delivered",
            "new",
        ] {
            assert_eq!(verdict(status), None, "{status}");
        }
        for status in ["delivered", "read"] {
            assert_eq!(verdict(status), Some((Outcome::Delivered, Reason::None)));
        }
        for (status, reason) in [
            ("undelivered&ErrorCode=30005", Reason::InvalidAddress),
            ("failed&ErrorCode=30003", Reason::NotReachable),
            ("failed&ErrorCode=", Reason::ProviderRefused),
            ("canceled", Reason::ProviderRefused),
        ] {
            assert_eq!(
                verdict(status),
                Some((Outcome::Undelivered, reason)),
                "{status}"
            );
        }
        let read = of("SmsSid=SM1&SmsStatus=undelivered&ErrorCode=30006").unwrap();
        assert_eq!(read.said, "SMS/undelivered/30006");
        assert_eq!(read.reference, Err(NotOurs::Foreign));
        assert!(of("MessageSid=SM1").is_err());
        assert!(of("MessageStatus=sent").is_err());
    }
}
