//! Bizgo: letters to a request, an answer to results. Pure. [R: icomm-api/bizgo-api-spec, 2026-08]
//!
//! An answer is judged in layers, because one code means different things in each, and a failure may
//! come with HTTP 200: no envelope (the status decides), `common.authCode` (the gateway),
//! `data.code` (the service), then the code of every recipient.
//!
//! | layer, code | reaction |
//! |---|---|
//! | A000 | accepted |
//! | gateway A401, A403; service A001, A002, A100, A110, A111 | the account's fault |
//! | gateway A400, A404; A010, A011, A302 to A319, A4xx, A5xx | refused, `invalid_content` |
//! | gateway A301 (a redirect) | unavailable |
//! | A020 | throttled, the whole account |
//! | service or recipient A301 | accepted: it was, under this key |
//! | A306, A324 | refused, `invalid_address` |
//! | A318 | split |
//! | A320 (quota), A323 (sender blocked), A325, A327 | the account's fault |
//! | A322, A328, A331 | refused, `invalid_content` |
//! | A330 (advertising at night) | refused, `purpose_not_allowed` |
//! | A2xx, A8xx and what is unknown | refused, `provider_refused` |
//! | A9xx | unknown: sent again under the same key it does no harm |

use std::collections::BTreeMap;
use std::time::Duration;

use bongsu_domain::Reason;
use bongsu_domain::identity::digest;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use super::classify::{Reaction, by_status};
use super::config::{Account, FailoverKind};
use super::payload::Letter;
use crate::euc_kr::{self, LMS_BYTES, SMS_BYTES};
use crate::provider::{AttemptResult, own_id};

/// Where it is sent to.
pub const SEND_PATH: &str = "/api/comm/v1/send/omni";

/// How long the service remembers a key: as long as it takes, which is a day. A key without a time
/// is refused (A309).
pub const KEY_SECONDS: u32 = 86_400;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    destinations: Vec<Destination<'a>>,
    message_flow: Vec<Step<'a>>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    idempotency_key: String,
    idempotency_ttl: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Destination<'a> {
    to: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    replace_words: &'a BTreeMap<String, String>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Step<'a> {
    Alimtalk(AlimTalk<'a>),
    Sms(Sms<'a>),
    Mms(Mms<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlimTalk<'a> {
    sender_key: &'a str,
    template_code: &'a str,
    send_type: &'static str,
}

#[derive(Serialize)]
struct Sms<'a> {
    from: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct Mms<'a> {
    from: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
    text: &'a str,
}

/// Whether a letter fits the account's failover; a text message that is too long would fail only
/// when it is needed.
///
/// # Errors
/// [`Reason::InvalidContent`].
pub fn fits(account: &Account, letter: &Letter) -> Result<(), Reason> {
    let most = match account.failover.kind {
        FailoverKind::None => return Ok(()),
        FailoverKind::Sms => SMS_BYTES,
        FailoverKind::Lms => LMS_BYTES,
    };
    if euc_kr::bytes(&letter.text) <= most {
        Ok(())
    } else {
        Err(Reason::InvalidContent)
    }
}

/// The idempotency key of a request: the delivery's id, or a hash of all ids in order.
#[must_use]
pub fn key(letters: &[&Letter]) -> String {
    match letters {
        [one] => one.delivery.to_string(),
        many => {
            let ids: Vec<&[u8]> = many.iter().map(|l| &l.delivery.0.as_bytes()[..]).collect();
            let hash: String = digest(&ids)
                .iter()
                .take(16)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("batch-{hash}")
        }
    }
}

/// The request body for letters of one template; `text` is the template's own text, whose
/// variables the service fills for every recipient.
///
/// # Errors
/// When it cannot be written, which checked parts do not allow.
pub fn body(
    account: &Account,
    letters: &[&Letter],
    text: &str,
) -> Result<Vec<u8>, serde_json::Error> {
    let Some(first) = letters.first() else {
        return Ok(Vec::new());
    };
    let mut message_flow = vec![Step::Alimtalk(AlimTalk {
        sender_key: &account.sender_key,
        template_code: &first.template,
        send_type: "template",
    })];
    let failover = &account.failover;
    match failover.kind {
        FailoverKind::None => {}
        FailoverKind::Sms => message_flow.push(Step::Sms(Sms {
            from: &failover.from,
            text,
        })),
        // Without pictures it is a long text.
        FailoverKind::Lms => message_flow.push(Step::Mms(Mms {
            from: &failover.from,
            title: &failover.title,
            text,
        })),
    }
    let destinations = letters
        .iter()
        .map(|letter| Destination {
            to: letter.to.dialled_in_korea(),
            replace_words: &letter.values,
            reference: letter.reference.as_deref(),
        })
        .collect();
    serde_json::to_vec(&Request {
        destinations,
        message_flow,
        reference: match letters {
            [one] => one.reference.as_deref(),
            _ => None,
        },
        idempotency_key: key(letters),
        idempotency_ttl: KEY_SECONDS,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    common: Common,
    data: Option<Service>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Common {
    auth_code: String,
}

#[derive(Deserialize)]
struct Service {
    code: String,
    data: Option<Recipients>,
}

#[derive(Deserialize, Default)]
struct Recipients {
    #[serde(default)]
    destinations: Vec<Recipient>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recipient {
    to: String,
    code: String,
    #[serde(default)]
    msg_key: String,
}

/// What an answer means for every recipient, in the order of the request.
#[must_use]
pub fn results(
    status: StatusCode,
    body: &[u8],
    retry_after: Option<Duration>,
    letters: &[&Letter],
) -> Vec<AttemptResult> {
    let all = |reaction: Reaction| vec![reaction.result(retry_after); letters.len()];
    let Ok(envelope) = serde_json::from_slice::<Envelope>(body) else {
        return all(by_status(status, retry_after));
    };
    if envelope.common.auth_code != "A000" {
        return all(gateway(&envelope.common.auth_code, status));
    }
    let Some(service) = envelope.data else {
        return all(by_status(status, retry_after));
    };
    if service.code != "A000" {
        return all(code(&service.code));
    }
    let answered = service.data.unwrap_or_default().destinations;
    own(&answered, letters)
        .map(|own| {
            // A request that was taken without a word on this recipient leaves him unknown.
            let reaction = own.map_or(Reaction::Unknown, |r| code(&r.code));
            reaction.result(retry_after)
        })
        .collect()
}

/// Each letter's own part of an answer.
fn own<'a>(
    answered: &'a [Recipient],
    letters: &'a [&Letter],
) -> impl Iterator<Item = Option<&'a Recipient>> {
    letters.iter().enumerate().map(|(i, letter)| {
        let to = letter.to.dialled_in_korea();
        let same = answered.get(i).filter(|r| r.to == to);
        same.or_else(|| answered.iter().find(|r| r.to == to))
    })
}

/// The service's id of each letter, as its report has it.
#[must_use]
pub fn names(body: &[u8], letters: &[&Letter]) -> Vec<Option<Box<str>>> {
    let envelope = serde_json::from_slice::<Envelope>(body).ok();
    let service = envelope.and_then(|envelope| envelope.data?.data);
    let answered = service.unwrap_or_default().destinations;
    let own = own(&answered, letters);
    own.map(|own| own_id(&own?.msg_key)).collect()
}

/// What the gateway's code means.
fn gateway(code: &str, status: StatusCode) -> Reaction {
    match code {
        "A401" | "A403" | "A001" | "A002" | "A100" | "A110" | "A111" => Reaction::AccountFault,
        "A400" | "A404" => Reaction::Refused(Reason::InvalidContent),
        "A301" => Reaction::Unavailable,
        "A020" => Reaction::Throttled,
        code if code.starts_with("A9") => Reaction::Unknown,
        _ => by_status(status, None),
    }
}

/// What a code of the service, or of a recipient, means.
#[must_use]
pub fn code(code: &str) -> Reaction {
    let refused = Reaction::Refused;
    match code {
        "A000" | "A301" => Reaction::Accepted,
        "A001" | "A002" | "A100" | "A110" | "A111" => Reaction::AccountFault,
        "A320" | "A323" | "A325" | "A327" => Reaction::AccountFault,
        "A020" => Reaction::Throttled,
        "A306" | "A324" => refused(Reason::InvalidAddress),
        "A318" => Reaction::Split,
        "A330" => refused(Reason::PurposeNotAllowed),
        "A010" | "A011" | "A322" | "A328" | "A331" => refused(Reason::InvalidContent),
        _ if code.starts_with("A9") => Reaction::Unknown,
        _ if ["A30", "A31", "A4", "A5"]
            .iter()
            .any(|p| code.starts_with(p)) =>
        {
            refused(Reason::InvalidContent)
        }
        _ => refused(Reason::ProviderRefused),
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{Failover, tests::account};
    use super::super::payload::{letter, tests::templates};
    use super::*;
    use crate::provider::tests::delivery;
    use crate::provider::{Attempt, ThrottleScope};

    fn letter_to(number: &str, event: &str) -> Letter {
        let mut delivery = delivery(number);
        delivery.id = bongsu_domain::DeliveryId::derive(bongsu_domain::identity::DeliveryParts {
            sender: "shop-1",
            event_id: event,
            channel: "alimtalk",
            recipient: "r",
            address_id: &delivery.address.id.clone(),
            step: 0,
        });
        delivery.content.title = None;
        delivery.content.body = None;
        let pairs = [("template", "paid"), ("name", "Kim"), ("no", event)];
        delivery.content.data = pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        let attempt = Attempt {
            delivery: &delivery,
            number: 1,
            partition: 3,
        };
        letter(attempt, &templates(), account().reference_key().as_ref()).unwrap()
    }

    #[test]
    fn the_request_is_exact_to_the_byte() {
        let one = letter_to("010-1234-5678", "17");
        let id = one.delivery.to_string();
        let reference = one.reference.clone().unwrap();
        let written = body(&account(), &[&one], "#{name}, your order #{no} is paid.").unwrap();
        assert_eq!(
            String::from_utf8(written).unwrap(),
            format!(
                r##"{{"destinations":[{{"to":"01012345678","replaceWords":{{"name":"Kim","no":"17"}},"ref":"{reference}"}}],"messageFlow":[{{"alimtalk":{{"senderKey":"0123456789abcdef0123456789abcdef01234567","templateCode":"paid","sendType":"template"}}}}],"ref":"{reference}","idempotencyKey":"{id}","idempotencyTtl":86400}}"##
            )
        );
    }

    #[test]
    fn a_batch_has_one_key_of_its_own_and_the_failover_follows() {
        let (a, b) = (letter_to("01011112222", "1"), letter_to("01033334444", "2"));
        assert_eq!(key(&[&a, &b]), key(&[&a, &b]));
        assert_ne!(key(&[&a, &b]), key(&[&b, &a]));
        let account = Account {
            failover: Failover {
                kind: FailoverKind::Lms,
                from: "0212345678".into(),
                title: "Order".into(),
            },
            ..account()
        };
        let written = body(&account, &[&a, &b], "t #{no}").unwrap();
        let read: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(read["destinations"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            read["messageFlow"][1],
            serde_json::json!({"mms": {"from": "0212345678", "title": "Order", "text": "t #{no}"}})
        );
        assert_eq!(read["idempotencyKey"], key(&[&a, &b]));
        assert!(read.get("ref").is_none());
    }

    #[test]
    fn a_text_too_long_for_its_failover_is_refused() {
        let sms = Account {
            failover: Failover {
                kind: FailoverKind::Sms,
                ..Failover::default()
            },
            ..account()
        };
        let mut letter = letter_to("01011112222", "1");
        assert_eq!(fits(&sms, &letter), Ok(()));
        letter.text = "가".repeat(46);
        assert_eq!(fits(&sms, &letter), Err(Reason::InvalidContent));
        assert_eq!(fits(&account(), &letter), Ok(()));
    }

    fn of(status: u16, body: &str) -> AttemptResult {
        let letter = letter_to("01012345678", "17");
        let status = StatusCode::from_u16(status).unwrap();
        let retry_after = Some(Duration::from_secs(2));
        results(status, body.as_bytes(), retry_after, &[&letter])[0]
    }

    #[test]
    fn the_layers_are_judged_in_order() {
        let throttled = AttemptResult::Throttled {
            retry_after: Some(Duration::from_secs(2)),
            scope: ThrottleScope::Account,
        };
        let content = AttemptResult::Refused(Reason::InvalidContent);
        let gateway = |code: &str| format!(r#"{{"common":{{"authCode":"{code}"}}}}"#);
        let service = |code: &str| {
            format!(r#"{{"common":{{"authCode":"A000"}},"data":{{"code":"{code}"}}}}"#)
        };
        for (status, body, expected) in [
            (200, "taken".to_owned(), AttemptResult::Unknown),
            (401, gateway("A401"), AttemptResult::AccountFault),
            (403, gateway("A403"), AttemptResult::AccountFault),
            (400, gateway("A400"), content),
            (404, gateway("A404"), content),
            (200, gateway("A301"), AttemptResult::Unavailable),
            (429, gateway("A020"), throttled),
            (500, gateway("A999"), AttemptResult::Unknown),
            (429, gateway("A777"), throttled),
            (200, gateway("A000"), AttemptResult::Unknown),
            (401, service("A001"), AttemptResult::AccountFault),
            (200, service("A401"), content),
            (200, service("A301"), AttemptResult::Accepted),
            (429, service("A020"), throttled),
            (500, service("A910"), AttemptResult::Unknown),
            (200, service("A000"), AttemptResult::Unknown),
        ] {
            assert_eq!(of(status, &body), expected, "{status} {body}");
        }
    }

    #[test]
    fn every_code_of_the_service_has_its_reaction() {
        let refused = Reaction::Refused;
        let table: [(&[&str], Reaction); 10] = [
            (&["A000", "A301"], Reaction::Accepted),
            (
                &[
                    "A001", "A002", "A100", "A110", "A111", "A320", "A323", "A325", "A327",
                ],
                Reaction::AccountFault,
            ),
            (&["A020"], Reaction::Throttled),
            (&["A306", "A324"], refused(Reason::InvalidAddress)),
            (&["A318"], Reaction::Split),
            (&["A330"], refused(Reason::PurposeNotAllowed)),
            (
                &[
                    "A010", "A011", "A302", "A303", "A304", "A305", "A307", "A308", "A309", "A310",
                    "A311", "A312", "A313", "A314", "A315", "A316", "A317", "A319", "A322", "A328",
                    "A331", "A401", "A499", "A502", "A505", "A523",
                ],
                refused(Reason::InvalidContent),
            ),
            (
                &["A201", "A801", "A777", ""],
                refused(Reason::ProviderRefused),
            ),
            (&["A910", "A920", "A999"], Reaction::Unknown),
            (&["B000"], refused(Reason::ProviderRefused)),
        ];
        for (codes, reaction) in table {
            for text in codes {
                assert_eq!(code(text), reaction, "{text}");
            }
        }
    }

    #[test]
    fn every_recipient_gets_his_own_result_in_the_order_of_the_request() {
        let letters = [
            letter_to("01011112222", "1"),
            letter_to("01033334444", "2"),
            letter_to("01055556666", "3"),
        ];
        let letters: Vec<&Letter> = letters.iter().collect();
        // In another order, and one of them missing.
        let body = r#"{"common":{"authCode":"A000"},"data":{"code":"A000","data":{"destinations":[
            {"to":"01033334444","msgKey":"k2","code":"A306"},
            {"to":"01011112222","msgKey":"k1","code":"A000"}]}}}"#;
        assert_eq!(
            results(StatusCode::OK, body.as_bytes(), None, &letters),
            [
                AttemptResult::Accepted,
                AttemptResult::Refused(Reason::InvalidAddress),
                AttemptResult::Unknown,
            ]
        );
    }
}
