//! NHN Cloud KakaoTalk Bizmessage: letters to a request, an answer to results. Pure. [R: NHN Cloud
//! guides and error-code pages, 2026-05 to 2026-09]
//!
//! HTTP 200 is no success: the header must say so, and every recipient has a code of his own.
//!
//! | code | reaction |
//! |---|---|
//! | 0 | accepted |
//! | -1005, 400305 (the key was there) | accepted: an earlier attempt was taken |
//! | -1000, -1001, -1017, -1027, 400217, 400218, 400300, 400301, 400309, 400318 | the account's fault |
//! | 4, -1028, -3003 to -3011, 400319, 400354, 400355 | refused, `invalid_content` |
//! | -5000 | refused, `invalid_address` |
//! | -2999, 400000 (some or all recipients failed) | what each recipient's code says |
//! | -7000, -9998, -9999 | unavailable |
//! | the rest | refused, `provider_refused` |
//!
//! The service remembers a key for ten minutes only, so it is not counted on as a protection
//! against second copies: see [`dedupes`](crate::provider::Provider::dedupes).

use std::collections::BTreeMap;
use std::time::Duration;

use bongsu_domain::Reason;
use reqwest::StatusCode;
use reqwest::header::HeaderName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::classify::{Reaction, by_status};
use super::config::{Account, FailoverKind};
use super::payload::Letter;
use crate::provider::{AttemptResult, own_id};

/// Header with the account's secret key.
pub const HEADER_SECRET: HeaderName = HeaderName::from_static("x-secret-key");
/// Header with the idempotency key.
pub const HEADER_KEY: HeaderName = HeaderName::from_static("x-nc-api-idempotency-key");

/// Bytes of an answer that are read: a thousand recipients need about 200 KB.
pub const ANSWER_BYTES: usize = 1024 * 1024;

/// How long to wait after a 429 that names no time. [R: notice of 2026-05]
pub const WAIT: Duration = Duration::from_secs(5);

/// Where it is sent to.
#[must_use]
pub fn path(app_key: &str) -> String {
    format!("/alimtalk/v2.3/appkeys/{app_key}/messages")
}

/// Where results are listed.
#[must_use]
pub fn results_path(app_key: &str) -> String {
    format!("/alimtalk/v2.3/appkeys/{app_key}/message-results")
}

/// Where the templates of a sender profile are listed.
#[must_use]
pub fn templates_path(app_key: &str, sender_key: &str) -> String {
    format!("/alimtalk/v2.3/appkeys/{app_key}/senders/{sender_key}/templates")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    sender_key: &'a str,
    template_code: &'a str,
    recipient_list: Vec<Recipient<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Recipient<'a> {
    recipient_no: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    template_parameter: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resend_parameter: Option<Resend<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_grouping_key: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resend<'a> {
    is_resend: bool,
    resend_type: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    resend_title: &'a str,
    resend_content: &'a str,
    resend_send_no: &'a str,
}

/// The request body for letters of one template.
///
/// # Errors
/// When it cannot be written, which checked parts do not allow.
pub fn body(account: &Account, letters: &[&Letter]) -> Result<Vec<u8>, serde_json::Error> {
    let Some(first) = letters.first() else {
        return Ok(Vec::new());
    };
    let failover = &account.failover;
    let resend = |letter: &'_ Letter| {
        let (resend_type, resend_title) = match failover.kind {
            FailoverKind::None => return None,
            FailoverKind::Sms => ("SMS", ""),
            FailoverKind::Lms => ("LMS", failover.title.as_str()),
        };
        Some((resend_type, resend_title, letter.text.clone()))
    };
    let texts: Vec<_> = letters.iter().map(|letter| resend(letter)).collect();
    let recipient_list = letters
        .iter()
        .zip(&texts)
        .map(|(letter, text)| Recipient {
            recipient_no: letter.to.dialled_in_korea(),
            template_parameter: &letter.values,
            resend_parameter: text.as_ref().map(|(kind, title, text)| Resend {
                is_resend: true,
                resend_type: kind,
                resend_title: title,
                resend_content: text,
                resend_send_no: &failover.from,
            }),
            recipient_grouping_key: letter.reference.as_deref(),
        })
        .collect();
    serde_json::to_vec(&Request {
        sender_key: &account.sender_key,
        template_code: &first.template,
        recipient_list,
    })
}

#[derive(Deserialize)]
struct Answer {
    header: Header,
    message: Option<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    result_code: Value,
    #[serde(default)]
    is_successful: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    #[serde(default)]
    request_id: String,
    #[serde(default)]
    send_results: Vec<Sent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    recipient_no: String,
    result_code: Value,
    #[serde(default)]
    recipient_seq: Value,
}

/// A code is a number in most of the documents and a text in some.
fn number(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_str()?.trim().parse().ok())
}

/// What an answer means for every recipient, in the order of the request.
#[must_use]
pub fn results(
    status: StatusCode,
    body: &[u8],
    retry_after: Option<Duration>,
    letters: &[&Letter],
) -> Vec<AttemptResult> {
    let wait = || match status {
        StatusCode::TOO_MANY_REQUESTS => retry_after.or(Some(WAIT)),
        _ => retry_after,
    };
    let all = |reaction: Reaction| vec![reaction.result(wait()); letters.len()];
    if status == StatusCode::TOO_MANY_REQUESTS {
        return all(Reaction::Throttled);
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else {
        return all(by_status(status, retry_after));
    };
    let Some(whole) = number(&answer.header.result_code) else {
        return all(by_status(status, retry_after));
    };
    let sent = answer.message.map(|m| m.send_results).unwrap_or_default();
    let each = matches!(whole, 0 | -2999 | 400_000) && !sent.is_empty();
    if !each {
        return all(if whole == 0 && answer.header.is_successful {
            // Taken, but not a word about anybody.
            Reaction::Unknown
        } else {
            code(whole)
        });
    }
    own(&sent, letters)
        .map(|own| {
            let code_of = own.and_then(|s| number(&s.result_code));
            code_of.map_or(Reaction::Unknown, code).result(retry_after)
        })
        .collect()
}

/// Each letter's own part of an answer.
fn own<'a>(sent: &'a [Sent], letters: &'a [&Letter]) -> impl Iterator<Item = Option<&'a Sent>> {
    letters.iter().enumerate().map(|(i, letter)| {
        let to = letter.to.dialled_in_korea();
        let same = sent.get(i).filter(|s| s.recipient_no == to);
        same.or_else(|| sent.iter().find(|s| s.recipient_no == to))
    })
}

/// The id of each letter, `<request>/<number of the recipient>`, as its report has it.
#[must_use]
pub fn names(body: &[u8], letters: &[&Letter]) -> Vec<Option<Box<str>>> {
    let answer = serde_json::from_slice::<Answer>(body).ok();
    let Some(message) = answer.and_then(|answer| answer.message) else {
        return Vec::new();
    };
    let request = message.request_id.as_str();
    let name = |own: &Sent| {
        let seq = number(&own.recipient_seq)?;
        (!request.is_empty()).then(|| own_id(&format!("{request}/{seq}")))?
    };
    let own = own(&message.send_results, letters);
    own.map(|own| name(own?)).collect()
}

/// What a code means.
#[must_use]
pub const fn code(code: i64) -> Reaction {
    match code {
        0 | -1005 | 400_305 => Reaction::Accepted,
        -1000 | -1001 | -1017 | -1027 => Reaction::AccountFault,
        400_217 | 400_218 | 400_300 | 400_301 | 400_309 | 400_318 => Reaction::AccountFault,
        4 | -1028 | -3011..=-3003 | 400_319 | 400_354 | 400_355 => {
            Reaction::Refused(Reason::InvalidContent)
        }
        -5000 => Reaction::Refused(Reason::InvalidAddress),
        -7000 | -9998 | -9999 => Reaction::Unavailable,
        _ => Reaction::Refused(Reason::ProviderRefused),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bongsu_domain::{DeliveryId, Phone};

    use super::super::config::{Failover, tests::account};
    use super::*;
    use crate::provider::ThrottleScope;

    fn letter(number: &str) -> Letter {
        Letter {
            delivery: DeliveryId(Default::default()),
            to: Phone::parse(number).unwrap(),
            template: "paid".into(),
            values: BTreeMap::from([("no".into(), "17".into())]),
            text: "order 17".into(),
            reference: Some("b1.x".into()),
        }
    }

    #[test]
    fn the_request_is_exact_to_the_byte() {
        let written = body(&account(), &[&letter("+82 10 1234 5678")]).unwrap();
        assert_eq!(
            String::from_utf8(written).unwrap(),
            r#"{"senderKey":"0123456789abcdef0123456789abcdef01234567","templateCode":"paid","recipientList":[{"recipientNo":"01012345678","templateParameter":{"no":"17"},"recipientGroupingKey":"b1.x"}]}"#
        );
        let sms = Account {
            failover: Failover {
                kind: FailoverKind::Sms,
                from: "0212345678".into(),
                ..Failover::default()
            },
            ..account()
        };
        let written = String::from_utf8(body(&sms, &[&letter("01012345678")]).unwrap()).unwrap();
        assert!(written.contains(
            r#""resendParameter":{"isResend":true,"resendType":"SMS","resendContent":"order 17","resendSendNo":"0212345678"}"#
        ), "{written}");
        assert_eq!(path("k"), "/alimtalk/v2.3/appkeys/k/messages");
    }

    #[test]
    fn every_code_has_its_reaction() {
        let table: [(&[i64], Reaction); 6] = [
            (&[0, -1005, 400_305], Reaction::Accepted),
            (
                &[
                    -1000, -1001, -1017, -1027, 400_217, 400_218, 400_300, 400_301, 400_309,
                    400_318,
                ],
                Reaction::AccountFault,
            ),
            (
                &[
                    4, -1028, -3003, -3004, -3005, -3010, -3011, 400_319, 400_354, 400_355,
                ],
                Reaction::Refused(Reason::InvalidContent),
            ),
            (&[-5000], Reaction::Refused(Reason::InvalidAddress)),
            (&[-7000, -9998, -9999], Reaction::Unavailable),
            (&[7, -4242], Reaction::Refused(Reason::ProviderRefused)),
        ];
        for (codes, reaction) in table {
            for number in codes {
                assert_eq!(code(*number), reaction, "{number}");
            }
        }
    }

    fn of(status: u16, body: &str) -> Vec<AttemptResult> {
        let letters = [letter("01011112222"), letter("01033334444")];
        let letters: Vec<&Letter> = letters.iter().collect();
        let status = StatusCode::from_u16(status).unwrap();
        results(status, body.as_bytes(), None, &letters)
    }

    #[test]
    fn header_and_recipients_are_judged() {
        let both = |result| vec![result; 2];
        let header = |code: &str| {
            format!(
                r#"{{"header":{{"resultCode":{code},"resultMessage":"","isSuccessful":false}}}}"#
            )
        };
        assert_eq!(of(200, "x"), both(AttemptResult::Unknown));
        assert_eq!(of(401, "x"), both(AttemptResult::AccountFault));
        assert_eq!(of(200, &header("-1005")), both(AttemptResult::Accepted));
        assert_eq!(
            of(200, &header(r#""-1000""#)),
            both(AttemptResult::AccountFault),
            "a text is a number, too"
        );
        let waits = AttemptResult::Throttled {
            retry_after: Some(WAIT),
            scope: ThrottleScope::Account,
        };
        assert_eq!(of(429, ""), both(waits));
        let each = r#"{"header":{"resultCode":0,"isSuccessful":true},"message":{"requestId":"r","sendResults":[
            {"recipientSeq":1,"recipientNo":"01011112222","resultCode":0},
            {"recipientSeq":2,"recipientNo":"01033334444","resultCode":-3004}]}}"#;
        assert_eq!(
            of(200, each),
            [
                AttemptResult::Accepted,
                AttemptResult::Refused(Reason::InvalidContent)
            ]
        );
        let letters = [letter("01011112222"), letter("01033334444")];
        let letters: Vec<&Letter> = letters.iter().collect();
        let named = names(each.as_bytes(), &letters);
        assert_eq!(named, [Some("r/1".into()), Some("r/2".into())]);
        let silent = r#"{"header":{"resultCode":0,"isSuccessful":true}}"#;
        assert_eq!(of(200, silent), both(AttemptResult::Unknown));
    }
}
