//! Infobank's older APIs, OMNI of the first generation and BizPlus: a letter to a request, an answer
//! to a result. Pure. [R: infobank-guide.gitbook.io and the OMNI SDKs; public clients of BizPlus,
//! 2026-08; what is tagged [M: from memory] is from memory]
//!
//! Both take one recipient per request and a token that is fetched with the client's id and password.
//! Neither has an idempotency key, so a second copy is not recognised.
//!
//! | BizPlus | reaction |
//! |---|---|
//! | A000, 0000, or the account's `accepted_codes` | accepted |
//! | A005 (token) | a new token, once |
//! | A001, A002 (account), A003 (failover), A100, A101 (response method), A102 (sender key), A109 (sender) | the account's fault |
//! | A004, A103 to A108, A111 | refused, `invalid_content` |
//! | A110 | refused, `invalid_address` |
//! | four digits | as Kakao's result code says |
//!
//! OMNI's codes are Bizgo's, without its layers.

use std::time::Duration;

use bongsu_domain::Reason;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use super::bizgo;
use super::classify::{Reaction, by_status, kakao};
use super::config::{Account, Dealer, FailoverKind};
use super::payload::Letter;
use crate::provider::{AttemptResult, own_id};

/// How long a token lives when its answer does not say. [R: OMNI guide: 24 h]
const TOKEN_LIFE: Duration = Duration::from_hours(24);
/// A token is fetched anew so long before its end. [R: infobank-omni-sdk-go]
const EARLY: Duration = Duration::from_mins(10);

/// Where tokens are fetched.
#[must_use]
pub const fn token_path(dealer: Dealer) -> &'static str {
    match dealer {
        Dealer::Bizplus => "/auth/v1/token",
        Dealer::Omni | Dealer::Bizgo | Dealer::Nhn => "/v1/auth/token",
    }
}

/// Where it is sent to.
#[must_use]
pub const fn send_path(dealer: Dealer) -> &'static str {
    match dealer {
        Dealer::Bizplus => "/v1/send/kko",
        Dealer::Omni | Dealer::Bizgo | Dealer::Nhn => "/v1/send/alimtalk",
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Omni<'a> {
    sender_key: &'a str,
    msg_type: &'static str,
    to: String,
    template_code: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<Fallback<'a>>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
}

#[derive(Serialize)]
struct Fallback<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    from: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
}

#[derive(Serialize)]
struct Bizplus<'a> {
    msg_type: &'static str,
    mt_failover: &'static str,
    msg_data: Data<'a>,
    msg_attr: Attributes<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    senderid: &'a str,
    to: &'a str,
    content: &'a str,
}

#[derive(Serialize)]
struct Attributes<'a> {
    sender_key: &'a str,
    template_code: &'a str,
    response_method: &'static str,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
}

/// The request body for one letter.
///
/// # Errors
/// When it cannot be written, which checked parts do not allow.
pub fn body(account: &Account, letter: &Letter) -> Result<Vec<u8>, serde_json::Error> {
    let failover = &account.failover;
    let reference = letter.reference.as_deref();
    if account.provider == Dealer::Bizplus {
        return serde_json::to_vec(&Bizplus {
            msg_type: "AL",
            mt_failover: match failover.kind {
                FailoverKind::None => "N",
                FailoverKind::Sms | FailoverKind::Lms => "Y",
            },
            msg_data: Data {
                senderid: &failover.from,
                to: letter.to.digits(),
                content: &letter.text,
            },
            msg_attr: Attributes {
                sender_key: &account.sender_key,
                template_code: &letter.template,
                response_method: account.response_method.as_str(),
                reference,
            },
        });
    }
    let fallback = |kind, title| Fallback {
        kind,
        from: &failover.from,
        text: &letter.text,
        title,
    };
    serde_json::to_vec(&Omni {
        sender_key: &account.sender_key,
        msg_type: "AT",
        to: letter.to.dialled_in_korea(),
        template_code: &letter.template,
        text: &letter.text,
        fallback: match failover.kind {
            FailoverKind::None => None,
            FailoverKind::Sms => Some(fallback("SMS", "")),
            FailoverKind::Lms => Some(fallback("MMS", failover.title.as_str())),
        },
        reference,
    })
}

/// A token as it goes into the `Authorization` header.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// `<schema> <token>`.
    pub header: String,
    /// How long it may be used.
    pub life: Duration,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Login {
    data: Option<LoginData>,
    access_token: Option<String>,
    schema: Option<String>,
}

#[derive(Deserialize)]
struct LoginData {
    token: String,
    #[serde(default)]
    schema: String,
}

/// Reads the answer to a request for a token.
///
/// # Errors
/// What it means for the attempt that needs it; nothing was sent.
pub fn token(
    status: StatusCode,
    body: &[u8],
    retry_after: Option<Duration>,
) -> Result<Token, AttemptResult> {
    let refused = || match by_status(status, retry_after) {
        // The credential was refused, whatever the status says.
        Reaction::Refused(_) | Reaction::AccountFault => AttemptResult::AccountFault,
        Reaction::Throttled => Reaction::Throttled.result(retry_after),
        Reaction::Unknown | Reaction::Accepted | Reaction::Split | Reaction::Unavailable => {
            AttemptResult::Unavailable
        }
    };
    if !status.is_success() {
        return Err(refused());
    }
    let login: Login = serde_json::from_slice(body).map_err(|_| refused())?;
    let (token, schema) = match (login.data, login.access_token) {
        (Some(data), _) => (data.token, data.schema),
        (None, Some(token)) => (token, login.schema.unwrap_or_default()),
        // An answer without a token names its reason in a code; the credential's, nearly always.
        (None, None) => return Err(AttemptResult::AccountFault),
    };
    let schema = if schema.is_empty() { "Bearer" } else { &schema };
    Ok(Token {
        header: format!("{schema} {token}"),
        life: TOKEN_LIFE.saturating_sub(EARLY),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// OMNI's.
    code: Option<String>,
    /// BizPlus's.
    status: Option<String>,
    /// OMNI's id of the letter.
    msg_key: Option<String>,
    /// BizPlus's.
    message_id: Option<String>,
}

/// What an answer means; `None` when the token was refused.
#[must_use]
pub fn result(
    account: &Account,
    status: StatusCode,
    body: &[u8],
    retry_after: Option<Duration>,
) -> Option<AttemptResult> {
    let answer = serde_json::from_slice::<Answer>(body).ok();
    let code = answer.and_then(|answer| match account.provider {
        Dealer::Bizplus => answer.status,
        Dealer::Omni | Dealer::Bizgo | Dealer::Nhn => answer.code,
    });
    let Some(code) = code else {
        return (status != StatusCode::UNAUTHORIZED)
            .then(|| by_status(status, retry_after).result(retry_after));
    };
    if account.accepted().any(|accepted| accepted == code) {
        return Some(AttemptResult::Accepted);
    }
    let reaction = match (account.provider, code.as_str()) {
        (Dealer::Bizplus, "A005") => return None,
        (Dealer::Bizplus, _) if status.is_success() => bizplus(&code),
        (Dealer::Bizplus, _) => by_status(status, retry_after),
        _ if status == StatusCode::UNAUTHORIZED => return None,
        // Without a key nothing is recognised: A301 is a redirect or unknown, never an acceptance.
        (_, "A301") => by_status(status, retry_after),
        (_, code) => bizgo::code(code),
    };
    Some(reaction.result(retry_after))
}

/// The id of the letter, as its report has it. [M: from memory, BizPlus's]
#[must_use]
pub fn name(account: &Account, body: &[u8]) -> Option<Box<str>> {
    let answer = serde_json::from_slice::<Answer>(body).ok()?;
    own_id(&match account.provider {
        Dealer::Bizplus => answer.message_id.or(answer.msg_key)?,
        Dealer::Omni | Dealer::Bizgo | Dealer::Nhn => answer.msg_key?,
    })
}

/// What a code of BizPlus means.
#[must_use]
pub fn bizplus(code: &str) -> Reaction {
    match code {
        "A001" | "A002" | "A003" | "A005" | "A100" | "A101" | "A102" | "A109" => {
            Reaction::AccountFault
        }
        "A110" => Reaction::Refused(Reason::InvalidAddress),
        "A004" | "A103" | "A104" | "A105" | "A106" | "A107" | "A108" | "A111" => {
            Reaction::Refused(Reason::InvalidContent)
        }
        _ => kakao(code),
    }
}

#[cfg(test)]
mod tests {
    use bongsu_domain::{DeliveryId, Phone};

    use super::super::config::{Failover, tests::account};
    use super::*;

    fn letter() -> Letter {
        Letter {
            delivery: DeliveryId(Default::default()),
            to: Phone::parse("010-1234-5678").unwrap(),
            template: "paid".into(),
            values: Default::default(),
            text: "order 17".into(),
            reference: Some("b1.x".into()),
        }
    }

    fn of(dealer: Dealer, kind: FailoverKind) -> String {
        let account = Account {
            provider: dealer,
            failover: Failover {
                kind,
                from: "0212345678".into(),
                title: "Shop".into(),
            },
            ..account()
        };
        String::from_utf8(body(&account, &letter()).unwrap()).unwrap()
    }

    #[test]
    fn the_requests_are_exact_to_the_byte() {
        let key = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(
            of(Dealer::Omni, FailoverKind::Lms),
            format!(
                r#"{{"senderKey":"{key}","msgType":"AT","to":"01012345678","templateCode":"paid","text":"order 17","fallback":{{"type":"MMS","from":"0212345678","text":"order 17","title":"Shop"}},"ref":"b1.x"}}"#
            )
        );
        assert_eq!(
            of(Dealer::Bizplus, FailoverKind::None),
            format!(
                r#"{{"msg_type":"AL","mt_failover":"N","msg_data":{{"senderid":"0212345678","to":"821012345678","content":"order 17"}},"msg_attr":{{"sender_key":"{key}","template_code":"paid","response_method":"realtime","ref":"b1.x"}}}}"#
            )
        );
        assert!(of(Dealer::Bizplus, FailoverKind::Sms).contains(r#""mt_failover":"Y""#));
    }

    #[test]
    fn both_forms_of_a_token_are_read() {
        let read = |status: u16, body: &str| {
            token(StatusCode::from_u16(status).unwrap(), body.as_bytes(), None)
        };
        let omni = r#"{"code":"A000","data":{"token":"t","schema":"Bearer","expired":"x"}}"#;
        assert_eq!(read(200, omni).unwrap().header, "Bearer t");
        let bizplus = r#"{"accessToken":"t","schema":"Basic"}"#;
        assert_eq!(read(200, bizplus).unwrap().header, "Basic t");
        for (status, body, result) in [
            (200, r#"{"code":"A001"}"#, AttemptResult::AccountFault),
            (401, "", AttemptResult::AccountFault),
            (400, "", AttemptResult::AccountFault),
            (503, "", AttemptResult::Unavailable),
            (200, "x", AttemptResult::Unavailable),
        ] {
            assert_eq!(read(status, body), Err(result), "{status} {body}");
        }
        assert!(!format!("{:?}", read(200, omni)).contains("Bearer t"));
    }

    #[test]
    fn every_code_has_its_reaction() {
        let of = |dealer, status: u16, body: &str| {
            let account = Account {
                provider: dealer,
                ..account()
            };
            let status = StatusCode::from_u16(status).unwrap();
            result(&account, status, body.as_bytes(), None)
        };
        let omni = |code: &str| of(Dealer::Omni, 200, &format!(r#"{{"code":"{code}"}}"#));
        let content = Some(AttemptResult::Refused(Reason::InvalidContent));
        assert_eq!(omni("A000"), Some(AttemptResult::Accepted));
        assert_eq!(omni("A505"), content);
        assert_eq!(omni("A001"), Some(AttemptResult::AccountFault));
        assert_eq!(
            omni("A301"),
            Some(AttemptResult::Unknown),
            "no key, no memory"
        );
        assert_eq!(of(Dealer::Omni, 401, r#"{"code":"A401"}"#), None);
        assert_eq!(of(Dealer::Omni, 401, ""), None);
        assert_eq!(of(Dealer::Omni, 500, ""), Some(AttemptResult::Unavailable));
        let bizplus = |code: &str| of(Dealer::Bizplus, 200, &format!(r#"{{"status":"{code}"}}"#));
        let address = Some(AttemptResult::Refused(Reason::InvalidAddress));
        let fault = Some(AttemptResult::AccountFault);
        for (codes, expected) in [
            (&["A000", "0000"][..], Some(AttemptResult::Accepted)),
            (&["A005"], None),
            (
                &["A001", "A002", "A003", "A100", "A101", "A102", "A109"],
                fault,
            ),
            (
                &[
                    "A004", "A103", "A104", "A105", "A106", "A107", "A108", "A111",
                ],
                content,
            ),
            (&["A110", "3008"], address),
            (&["1002", "1025"], fault),
            (&["3016"], content),
            (
                &["3018"],
                Some(AttemptResult::Refused(Reason::NotReachable)),
            ),
            (
                &["A999", "zz"],
                Some(AttemptResult::Refused(Reason::ProviderRefused)),
            ),
        ] {
            for code in codes {
                assert_eq!(bizplus(code), expected, "{code}");
            }
        }
    }
}
