//! Twilio's API: credentials, requests, validation, reports. Pure. [R: Twilio's API reference and
//! error dictionary, 2026-08]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::plan::Plan;
use crate::marks::{delivery_of, marker};
use crate::recorder::Arrived;

/// Characters of a text.
const MOST: usize = 1_600;

/// Whether an `Authorization` opens an account's API.
pub(super) fn opens(header: &str, account: &str, token: &str) -> bool {
    let right = STANDARD.encode(format!("{account}:{token}"));
    header.strip_prefix("Basic ") == Some(right.as_str())
}

/// One text.
#[derive(Debug, Default)]
pub(super) struct Text {
    to: String,
    from: String,
    service: String,
    body: String,
    pub(super) callback: Option<String>,
}

impl Text {
    pub(super) fn parse(body: &[u8]) -> Self {
        let mut text = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            match name.as_ref() {
                "To" => text.to = value.into_owned(),
                "From" => text.from = value.into_owned(),
                "MessagingServiceSid" => text.service = value.into_owned(),
                "Body" => text.body = value.into_owned(),
                "StatusCallback" => text.callback = Some(value.into_owned()),
                _ => {}
            }
        }
        text
    }

    /// The number it goes to.
    pub(super) fn number(&self) -> String {
        self.to.clone()
    }

    /// The answer to a text that was taken.
    pub(super) fn answer(&self, account: &str, sid: &str) -> Value {
        json!({
            "sid": sid, "account_sid": account, "status": "queued", "direction": "outbound-api",
            "to": self.to, "from": self.from, "messaging_service_sid": self.service,
            "error_code": null, "error_message": null, "num_segments": "1",
        })
    }

    /// The form of a report.
    pub(super) fn report(
        &self,
        account: &str,
        sid: &str,
        status: &str,
        code: Option<&str>,
    ) -> Vec<(&'static str, String)> {
        let mut form = vec![
            ("AccountSid", account.to_owned()),
            ("ApiVersion", "2010-04-01".to_owned()),
            ("From", self.from.clone()),
            ("MessageSid", sid.to_owned()),
            ("MessageStatus", status.to_owned()),
            ("SmsSid", sid.to_owned()),
            ("SmsStatus", status.to_owned()),
            ("To", self.to.clone()),
        ];
        if let Some(code) = code {
            form.push(("ErrorCode", code.to_owned()));
        }
        form
    }
}

/// Tells the recorder of a text.
pub(super) fn identify(
    body: &[u8],
    worker: &str,
    attempt: u32,
    record: &mut dyn FnMut(&Arrived<'_>),
) {
    let text = Text::parse(body);
    let query = text.callback.as_deref().and_then(|url| url.split_once('?'));
    let reference = query.and_then(|(_, query)| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find_map(|(_, value)| delivery_of(&value))
    });
    let delivery_id = reference.unwrap_or_default();
    let (event_id, sender, seq) = marker(&text.body).unwrap_or((&delivery_id, "", None));
    record(&Arrived {
        delivery_id: &delivery_id,
        event_id,
        sender,
        path: &format!("/to/{}", text.to),
        seq,
        worker,
        attempt,
    });
}

/// Why a text is not taken. Codes but 21211 and 21606 are [M: from memory].
pub(super) fn fault(plan: &Plan, text: &Text) -> Option<String> {
    if let Some(code) = plan.codes.get(&text.to) {
        return Some(code.clone());
    }
    let digits = text.to.strip_prefix('+').unwrap_or_default();
    let is_number = (8..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let registered = plan.senders.is_empty() || plan.senders.contains(&text.from);
    let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    let code = if !is_number {
        "21211"
    } else if text.from.is_empty() && text.service.is_empty() {
        "21603"
    } else if text.service.is_empty() && !registered {
        "21606"
    } else if text.body.is_empty() {
        "21602"
    } else if text.body.chars().count() > MOST {
        "21617"
    } else if !text.callback.as_ref().is_none_or(is_url) {
        "21609"
    } else {
        return None;
    };
    Some(code.to_owned())
}

/// An error answer.
pub(super) fn error(status: StatusCode, code: &str) -> Value {
    json!({
        "code": code.parse::<u64>().ok(), "message": "refused by the twin",
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        "status": status.as_u16(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_checked_as_the_service_does() {
        let plan = Plan {
            senders: ["+14155552671".to_owned()].into(),
            codes: [("+821000000000".to_owned(), "21610".to_owned())].into(),
            ..Plan::default()
        };
        let of = |body: &str| fault(&plan, &Text::parse(body.as_bytes()));
        let good = "To=%2B821012345678&From=%2B14155552671&Body=x";
        assert_eq!(of(good), None);
        for (body, code) in [
            ("To=01012345678&From=%2B14155552671&Body=x", "21211"),
            ("To=%2B821012345678&Body=x", "21603"),
            ("To=%2B821012345678&From=%2B1&Body=x", "21606"),
            ("To=%2B821012345678&From=%2B14155552671", "21602"),
            ("To=%2B821000000000&From=%2B14155552671&Body=x", "21610"),
        ] {
            assert_eq!(of(body).as_deref(), Some(code), "{body}");
        }
        assert_eq!(
            of(&format!("{good}&StatusCallback=ftp://x")).as_deref(),
            Some("21609")
        );
        assert_eq!(
            of(&good.replace("=x", &format!("={}", "x".repeat(1_601)))).as_deref(),
            Some("21617")
        );
        assert!(opens("Basic QUMxOnQ=", "AC1", "t"));
        assert!(!opens("Basic QUMxOnQ=", "AC1", "u"));
    }
}
