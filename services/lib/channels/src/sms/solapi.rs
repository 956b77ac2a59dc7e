//! Solapi: texts to a request, an answer to results, a report to what it says. Pure. [R:
//! solapi/documents, solapi-nodejs, 2026-08]
//!
//! A request is signed by `HMAC-SHA256(secret, date + salt)`; a signature may be used once, so every
//! attempt has a salt of its own. An answer names the texts that were **not** taken; our reference
//! rides in `customFields` and comes back with every report.

use std::time::Duration;

use aws_lc_rs::hmac;
use bongsu_domain::ReferenceKey;
use bongsu_domain::Timestamp;
use bongsu_domain::reference::NotOurs;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::classify::{Reaction, by_status, solapi, solapi_error, solapi_reported};
use super::payload::{Kind, Text};
use crate::provider::AttemptResult;
use crate::reports::{NotAReport, Told};

/// Where it is sent to.
pub const SEND_PATH: &str = "/messages/v4/send-many/detail";
/// Where texts are asked for.
pub const LIST_PATH: &str = "/messages/v4/list";
/// The field of ours that holds our reference.
pub const FIELD: &str = "bongsu";
/// Bytes of an answer that are read: ten thousand refused texts of about 400 bytes, with room.
pub const ANSWER_BYTES: usize = 6 * 1024 * 1024;
/// Texts of one page. [R: solapi/documents]
pub const PAGE: usize = 500;

/// The header that opens the API: `date` in RFC 3339, a salt of 12 to 64 characters.
#[must_use]
pub fn authorization(key: &str, secret: &str, date: &str, salt: &str) -> String {
    let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&hmac_key, format!("{date}{salt}").as_bytes());
    let signature: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("HMAC-SHA256 apiKey={key}, date={date}, salt={salt}, signature={signature}")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    messages: Vec<Message<'a>>,
    allow_duplicates: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    to: String,
    from: &'a str,
    text: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_fields: Option<Fields<'a>>,
}

#[derive(Serialize)]
struct Fields<'a> {
    bongsu: &'a str,
}

/// The number as Solapi takes it: as dialled in Korea.
#[must_use]
pub fn number(text: &Text) -> String {
    text.to.dialled_in_korea()
}

/// The request body.
///
/// # Errors
/// When it cannot be written, which checked parts do not allow.
pub fn body(from: &str, texts: &[&Text]) -> Result<Vec<u8>, serde_json::Error> {
    let messages = texts
        .iter()
        .map(|text| Message {
            to: number(text),
            from,
            text: &text.text,
            kind: text.kind.as_str(),
            subject: match text.kind {
                Kind::Sms => "",
                Kind::Lms => &text.title,
            },
            custom_fields: text.reference.as_deref().map(|bongsu| Fields { bongsu }),
        })
        .collect();
    serde_json::to_vec(&Request {
        messages,
        allow_duplicates: false,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    failed_message_list: Vec<Failed>,
    group_info: Option<Group>,
    #[serde(default)]
    error_code: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failed {
    #[serde(default)]
    to: String,
    #[serde(default)]
    status_code: String,
    #[serde(default)]
    custom_fields: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    #[serde(default)]
    group_id: String,
    #[serde(default)]
    count: Count,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Count {
    registered_failed: usize,
}

/// What an error answer means, which speaks of the request as a whole.
fn of_error(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> Reaction {
    let answer = serde_json::from_slice::<Answer>(body).ok();
    let word = answer.as_ref().and_then(|a| a.error_code.as_str());
    solapi_error(word.unwrap_or_default(), status, retry_after)
}

/// Whether an answer refuses a request as a whole for what it holds. Where that is several texts it
/// says nothing of any one of them, and none was taken.
#[must_use]
pub fn refuses_whole(status: StatusCode, body: &[u8]) -> bool {
    !status.is_success() && matches!(of_error(status, body, None), Reaction::Refused(_))
}

/// What an answer means for every recipient, in the order of the request.
#[must_use]
pub fn results(
    status: StatusCode,
    body: &[u8],
    retry_after: Option<Duration>,
    texts: &[&Text],
) -> Vec<AttemptResult> {
    let all = |reaction: Reaction| vec![reaction.result(retry_after); texts.len()];
    if !status.is_success() {
        return all(of_error(status, body, retry_after));
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else {
        return all(by_status(status, retry_after));
    };
    let Some(group) = answer.group_info.filter(|group| !group.group_id.is_empty()) else {
        return all(by_status(status, retry_after));
    };
    let failed = |text: &Text| {
        let own = answer.failed_message_list.iter();
        own.clone()
            .find(|f| {
                text.reference.is_some()
                    && f.custom_fields[FIELD].as_str() == text.reference.as_deref()
            })
            // Numbers are told apart within a request.
            .or_else(|| own.clone().find(|f| f.to == number(text)))
    };
    let named = texts.iter().filter(|text| failed(text).is_some()).count();
    // More were refused than named: nobody can tell who.
    let others = if group.count.registered_failed > named {
        Reaction::Unknown
    } else {
        Reaction::Accepted
    };
    texts
        .iter()
        .map(|text| failed(text).map_or(others, |f| solapi(&f.status_code)))
        .map(|reaction| reaction.result(retry_after))
        .collect()
}

/// A text as a report or the list tells of it.
///
/// # Errors
/// [`NotAReport`] when it lacks its id or its code.
pub fn told(fields: &Value, references: &ReferenceKey) -> Result<Told, NotAReport> {
    let text = |name: &str| {
        let found = fields[name].as_str();
        found.filter(|t| !t.is_empty() && t.len() <= 200)
    };
    let missing = |field: &str| NotAReport(format!("`{field}` is missing"));
    let key = text("messageId").ok_or_else(|| missing("messageId"))?;
    let code = text("statusCode").ok_or_else(|| missing("statusCode"))?;
    let kind = text("type").unwrap_or("SMS");
    let reference = fields["customFields"][FIELD].as_str();
    Ok(Told {
        key: key.to_owned(),
        said: format!("{kind}/{code}"),
        reference: reference.map_or(Err(NotOurs::Foreign), |text| references.read(text)),
        verdict: solapi_reported(code),
        at: ["dateReceived", "dateReported", "dateProcessed"]
            .iter()
            .find_map(|name| Timestamp::parse_rfc3339(fields[*name].as_str()?)),
        raw: fields.to_string().into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use bongsu_domain::{DeliveryId, Outcome, Phone, Reason};
    use serde_json::json;

    use super::super::config::tests::solapi as account;
    use super::*;

    fn text(number: &str) -> Text {
        Text {
            delivery: DeliveryId(Default::default()),
            to: Phone::parse(number).unwrap(),
            text: "주문 17".into(),
            title: String::new(),
            kind: Kind::Sms,
            reference: Some(format!("b1.{number}")),
            expires_at: 0,
        }
    }

    #[test]
    fn a_signature_is_that_of_the_vector() {
        let header = authorization(
            "K",
            "secret",
            "2025-10-09T08:53:20.000Z",
            "0123456789abcdef",
        );
        assert_eq!(
            header,
            "HMAC-SHA256 apiKey=K, date=2025-10-09T08:53:20.000Z, salt=0123456789abcdef, \
             signature=a0f0fe306409be37918b3d84eceb0ab7bc9fafd9be73a4e1c5da71d4c6084766"
        );
    }

    #[test]
    fn the_request_is_exact_to_the_byte() {
        let mut long = text("02-1234-5679");
        long.kind = Kind::Lms;
        long.title = "Shop".into();
        long.reference = None;
        let written = body("0212345678", &[&text("+82 10 1234 5678"), &long]).unwrap();
        assert_eq!(
            String::from_utf8(written).unwrap(),
            r#"{"messages":[{"to":"01012345678","from":"0212345678","text":"주문 17","type":"SMS","customFields":{"bongsu":"b1.+82 10 1234 5678"}},{"to":"0212345679","from":"0212345678","text":"주문 17","type":"LMS","subject":"Shop"}],"allowDuplicates":false}"#
        );
    }

    fn of(status: u16, body: &str) -> Vec<AttemptResult> {
        let texts = [text("01011112222"), text("01033334444")];
        let texts: Vec<&Text> = texts.iter().collect();
        results(
            StatusCode::from_u16(status).unwrap(),
            body.as_bytes(),
            None,
            &texts,
        )
    }

    #[test]
    fn only_the_vendors_word_refuses_a_request_as_a_whole() {
        let of = |status: u16, body: &str| {
            refuses_whole(StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        assert!(of(400, r#"{"errorCode":"ValidationError"}"#));
        assert!(of(413, "<html>"));
        for (status, body) in [
            (400, "<html>"),
            (400, "{}"),
            (403, r#"{"errorCode":"InvalidAPIKey"}"#),
            (403, r#"{"errorCode":"DuplicatedSignature"}"#),
            (500, r#"{"errorCode":"InternalError"}"#),
            // Each text has a code of its own.
            (
                200,
                r#"{"failedMessageList":[{"to":"1","statusCode":"1031"}]}"#,
            ),
        ] {
            assert!(!of(status, body), "{status} {body}");
        }
    }

    #[test]
    fn who_is_not_named_was_taken_when_the_counts_agree() {
        let both = |result| vec![result; 2];
        assert_eq!(of(200, "x"), both(AttemptResult::Unknown));
        assert_eq!(of(200, "{}"), both(AttemptResult::Unknown));
        assert_eq!(
            of(403, r#"{"errorCode":"InvalidAPIKey"}"#),
            both(AttemptResult::AccountFault)
        );
        let group = |failed: usize, list: &str| {
            format!(
                r#"{{"failedMessageList":[{list}],"groupInfo":{{"groupId":"G","count":{{"total":2,"registeredFailed":{failed}}}}}}}"#
            )
        };
        assert_eq!(of(200, &group(0, "")), both(AttemptResult::Accepted));
        assert_eq!(of(200, &group(1, "")), both(AttemptResult::Unknown));
        let content = AttemptResult::Refused(Reason::InvalidContent);
        let by_number = r#"{"to":"01033334444","statusCode":"1031"}"#;
        assert_eq!(
            of(200, &group(1, by_number)),
            [AttemptResult::Accepted, content]
        );
        let by_field =
            r#"{"to":"1033334444","statusCode":"1031","customFields":{"bongsu":"b1.01033334444"}}"#;
        assert_eq!(
            of(200, &group(1, by_field)),
            [AttemptResult::Accepted, content]
        );
    }

    #[test]
    fn a_report_says_what_its_code_says() {
        let references = account().reference_key().unwrap();
        let fields = json!({"messageId": "M4V", "type": "LMS", "statusCode": "4000",
            "dateReceived": "2026-11-25T10:00:00.000Z", "customFields": {"bongsu": "order-17"}});
        let read = told(&fields, &references).unwrap();
        assert_eq!((read.key.as_str(), read.said.as_str()), ("M4V", "LMS/4000"));
        assert_eq!(read.verdict, Some((Outcome::Delivered, Reason::None)));
        assert_eq!(read.at, Some(Timestamp(1_795_600_800_000)));
        assert_eq!(read.reference, Err(NotOurs::Foreign));
        for bad in [
            json!({}),
            json!({"messageId": "M"}),
            json!({"messageId": "", "statusCode": "1"}),
        ] {
            assert!(told(&bad, &references).is_err(), "{bad}");
        }
    }
}
