//! Solapi's API: credentials, requests, validation, the list. Pure. [R: solapi/documents,
//! solapi-nodejs, 2026-08]

use std::borrow::Cow;
use std::collections::BTreeMap;

use hmac::{Hmac, Mac as _};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::plan::Plan;
use crate::later::Timing;
use crate::marks::{delivery_of, marker};
use crate::recorder::Arrived;

pub(super) const SEND: &str = "/messages/v4/send-many/detail";
pub(super) const LIST: &str = "/messages/v4/list";
/// Texts of one request.
const MOST: usize = 10_000;
/// How far a date may lie from the service's.
const SKEW_US: u64 = 15 * 60 * 1_000_000;
/// How long a signature may not be used again.
pub(super) const SAME_SIGNATURE_US: u64 = SKEW_US;
/// Texts of a page, unless asked for fewer.
const PAGE: usize = 500;

/// Whether an `Authorization` opens the API; gives its signature.
pub(super) fn opens(plan: &Plan, header: &str, now_us: u64) -> Result<String, &'static str> {
    let parts: BTreeMap<&str, &str> = header
        .strip_prefix("HMAC-SHA256 ")
        .unwrap_or_default()
        .split(',')
        .filter_map(|part| part.trim().split_once('='))
        .collect();
    let part = |name: &str| parts.get(name).copied().unwrap_or_default();
    let (date, salt) = (part("date"), part("salt"));
    let secret = plan.solapi_keys.get(part("apiKey"));
    let secret = secret.ok_or("InvalidAPIKey")?;
    let at = micros(date).ok_or("RequestTimeTooSkewed")?;
    if at.abs_diff(now_us) > SKEW_US {
        return Err("RequestTimeTooSkewed");
    }
    let key = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
    let key = key.map_err(|_| "SignatureDoesNotMatch")?;
    let right = key.chain_update(format!("{date}{salt}")).finalize();
    let right: String = right
        .into_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    if !(12..=64).contains(&salt.len()) || part("signature") != right {
        return Err("SignatureDoesNotMatch");
    }
    Ok(right)
}

fn micros(date: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(date, &Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000).ok()
}

fn date(us: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// A sending.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Sending {
    pub(super) messages: Vec<Message>,
    pub(super) allow_duplicates: bool,
}

/// One text.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Message {
    pub(super) to: String,
    from: String,
    text: String,
    #[serde(rename = "type")]
    kind: String,
    custom_fields: Map<String, Value>,
}

impl Sending {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    pub(super) fn is_formed(&self) -> bool {
        (1..=MOST).contains(&self.messages.len())
    }
}

/// Tells the recorder of every text; of one without a name when there is none.
pub(super) fn identify(
    body: &[u8],
    worker: &str,
    attempt: u32,
    record: &mut dyn FnMut(&Arrived<'_>),
) {
    let sending = Sending::parse(body).unwrap_or_default();
    let nobody = Message::default();
    let none = sending.messages.is_empty().then_some(&nobody);
    for message in sending.messages.iter().chain(none) {
        let mut references = message.custom_fields.values().filter_map(Value::as_str);
        let delivery_id = references.find_map(delivery_of).unwrap_or_default();
        let (event_id, sender, seq) = marker(&message.text).unwrap_or((&delivery_id, "", None));
        record(&Arrived {
            delivery_id: &delivery_id,
            event_id,
            sender,
            path: &format!("/to/{}", message.to),
            seq,
            worker,
            attempt,
        });
    }
}

/// The code a text is taken in with: 2000, or why not.
pub(super) fn judge(plan: &Plan, message: &Message, twice: bool) -> String {
    if let Some(code) = plan.codes.get(&message.to) {
        return code.clone();
    }
    let most = match message.kind.as_str() {
        "SMS" => 90,
        "LMS" | "MMS" => 2_000,
        // [M]
        _ => return "1011".to_owned(),
    };
    let bytes: usize = message
        .text
        .chars()
        .map(|c| if c.is_ascii() { 1 } else { 2 })
        .sum();
    let to = &message.to;
    let is_number = (9..=11).contains(&to.len())
        && to.starts_with('0')
        && to.bytes().all(|b| b.is_ascii_digit());
    let registered = plan.senders.is_empty() || plan.senders.contains(&message.from);
    if twice {
        "1026"
    } else if !is_number {
        // [M]
        "1025"
    } else if message.from.is_empty() || !registered {
        "1062"
    } else if bytes == 0 || bytes > most {
        "1031"
    } else {
        "2000"
    }
    .to_owned()
}

/// A text that was not taken.
pub(super) struct Refused<'a> {
    pub(super) message: &'a Message,
    pub(super) id: String,
    pub(super) code: String,
}

/// The answer to a sending.
pub(super) fn answer(total: usize, refused: &[Refused<'_>], now_us: u64) -> Value {
    let failed: Vec<Value> = refused
        .iter()
        .map(|r| {
            json!({
                "to": r.message.to, "from": r.message.from, "type": r.message.kind,
                "statusCode": r.code, "statusMessage": "Failed", "country": "82",
                "messageId": r.id, "accountId": "twin", "customFields": r.message.custom_fields,
            })
        })
        .collect();
    json!({
        "failedMessageList": failed,
        "groupInfo": {
            "groupId": format!("G4V{now_us:016}"),
            "status": "SENDING",
            "count": {
                "total": total, "registeredFailed": failed.len(),
                "registeredSuccess": total - failed.len(),
            },
        },
    })
}

/// An error answer.
pub(super) fn error(word: &str) -> Value {
    json!({"errorCode": word, "errorMessage": word})
}

/// A text that was taken.
#[derive(Debug)]
pub(super) struct Stored {
    id: String,
    to: String,
    from: String,
    kind: String,
    fields: Map<String, Value>,
    sent_us: u64,
    /// When its fate is known, and what it is.
    done_us: u64,
    code: String,
}

impl Message {
    pub(super) fn store(&self, id: String, code: String, now_us: u64, when: Timing) -> Stored {
        Stored {
            id,
            to: self.to.clone(),
            from: self.from.clone(),
            kind: self.kind.clone(),
            fields: self.custom_fields.clone(),
            sent_us: now_us,
            done_us: when.due_us,
            code,
        }
    }
}

impl Stored {
    fn updated_us(&self, now_us: u64) -> u64 {
        if now_us >= self.done_us {
            self.done_us
        } else {
            self.sent_us
        }
    }

    /// The text as it stands at a moment.
    pub(super) fn at(&self, now_us: u64) -> Value {
        let done = now_us >= self.done_us;
        let delivered = done && self.code == "4000";
        json!({
            "messageId": self.id, "groupId": "G4VTWIN", "to": self.to, "from": self.from,
            "type": self.kind, "country": "82", "customFields": self.fields,
            "status": if done { "COMPLETE" } else { "SENDING" },
            "statusCode": if done { self.code.as_str() } else { "3000" },
            "dateCreated": date(self.sent_us),
            "dateUpdated": date(self.updated_us(now_us)),
            "dateProcessed": date(self.sent_us),
            "dateReported": done.then(|| date(self.done_us)),
            "dateReceived": delivered.then(|| date(self.done_us)),
        })
    }
}

/// A page of the list: texts whose last change lies between two dates, by id.
pub(super) fn page(texts: &[Stored], query: &str, now_us: u64) -> Value {
    let asked: BTreeMap<Cow<'_, str>, Cow<'_, str>> =
        url::form_urlencoded::parse(query.as_bytes()).collect();
    let text = |name: &str| asked.get(name).map_or("", |value| value.as_ref());
    let from = micros(text("startDate")).unwrap_or(0);
    let until = micros(text("endDate")).unwrap_or(u64::MAX);
    let limit = text("limit").parse().unwrap_or(20).clamp(1, PAGE);
    // Ids rise with time.
    let start = texts.partition_point(|t| t.id.as_str() < text("startKey"));
    let mut found = texts
        .iter()
        .skip(start)
        .filter(|t| (from..until).contains(&t.updated_us(now_us)));
    let list: Map<String, Value> = found
        .by_ref()
        .take(limit)
        .map(|t| (t.id.clone(), t.at(now_us)))
        .collect();
    json!({
        "startKey": asked.get("startKey"), "limit": limit, "messageList": list,
        "nextKey": found.next().map(|t| &t.id),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sms::{SOLAPI_KEY, SOLAPI_SECRET};

    const NOW: u64 = 1_760_000_000_000_000;

    fn header(secret: &str, date: &str, salt: &str) -> String {
        let key = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        let tag = key.chain_update(format!("{date}{salt}")).finalize();
        let tag: String = tag
            .into_bytes()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        format!("HMAC-SHA256 apiKey={SOLAPI_KEY}, date={date}, salt={salt}, signature={tag}")
    }

    #[test]
    fn a_signature_opens_within_fifteen_minutes() {
        let plan = Plan::default();
        let salt = "0123456789abcdef";
        let check = |secret: &str, at: u64, salt: &str| {
            opens(&plan, &header(secret, &date(at), salt), NOW).err()
        };
        assert_eq!(check(SOLAPI_SECRET, NOW, salt), None);
        assert_eq!(check(SOLAPI_SECRET, NOW - SKEW_US, salt), None);
        let skewed = Some("RequestTimeTooSkewed");
        assert_eq!(
            check(SOLAPI_SECRET, NOW - SKEW_US - 1_000_000, salt),
            skewed
        );
        let wrong = Some("SignatureDoesNotMatch");
        assert_eq!(check("another", NOW, salt), wrong);
        assert_eq!(check(SOLAPI_SECRET, NOW, "short"), wrong);
        assert_eq!(opens(&plan, "Bearer x", NOW), Err("InvalidAPIKey"));
    }

    #[test]
    fn a_text_is_checked_as_the_service_does() {
        let plan = Plan {
            senders: ["0212345678".to_owned()].into(),
            ..Plan::default()
        };
        let message = |change: fn(&mut Message)| {
            let mut message = Message {
                to: "01012345678".into(),
                from: "0212345678".into(),
                text: "가".repeat(45),
                kind: "SMS".into(),
                ..Message::default()
            };
            change(&mut message);
            judge(&plan, &message, false)
        };
        assert_eq!(message(|_| {}), "2000");
        assert_eq!(message(|m| m.text.push('!')), "1031");
        assert_eq!(message(|m| m.text = "가".repeat(1_001)), "1031");
        assert_eq!(message(|m| m.to = "8210".into()), "1025");
        assert_eq!(message(|m| m.from = "0299999999".into()), "1062");
        assert_eq!(
            judge(
                &plan,
                &Message {
                    kind: "SMS".into(),
                    ..Message::default()
                },
                true
            ),
            "1026"
        );
    }

    #[test]
    fn the_list_gives_every_change_once_page_by_page() {
        let when = |due_us| Timing {
            due_us,
            doubled: false,
            undelivered: false,
        };
        let texts: Vec<Stored> = (0..25)
            .map(|i| {
                let id = format!("M{i:03}");
                Message::default().store(id, "4000".into(), NOW, when(NOW + 5_000_000))
            })
            .collect();
        let ask = |from: u64, until: u64, start: &str, now| {
            let query = format!(
                "startDate={}&endDate={}&limit=10&startKey={start}",
                date(from).replace('+', "%2B"),
                date(until)
            );
            let page = page(&texts, &query, now);
            let count = page["messageList"].as_object().unwrap().len();
            (count, page["nextKey"].as_str().map(str::to_owned))
        };
        let (count, next) = ask(NOW, NOW + 1_000_000, "", NOW + 1);
        assert_eq!((count, next.as_deref()), (10, Some("M010")));
        assert_eq!(ask(NOW, NOW + 1_000_000, "M020", NOW + 1), (5, None));
        let later = NOW + 6_000_000;
        assert_eq!(ask(NOW, NOW + 1_000_000, "", later).0, 0);
        assert_eq!(ask(NOW + 5_000_000, later, "M020", later), (5, None));
    }
}
