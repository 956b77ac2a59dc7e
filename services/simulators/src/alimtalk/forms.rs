//! The dealers' APIs: which one a request is for, what it says, and how each answers and reports.
//! Pure. All share the desk, whose codes are Bizgo's; a code that is none of them is passed on as it
//! is, so that a plan can name any code of any dealer. [R: the sources of each channel file, 2026-08]

use std::collections::BTreeMap;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::envelope::{self, Destination, Sending, Step};
use super::reports::Report;
use crate::server::header;

/// Whose API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    #[default]
    Bizgo,
    Nhn,
    Omni,
    Bizplus,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    Send(Form),
    Token(Form),
    /// The batch of reports.
    Batch(Form),
    /// Its acknowledgement.
    Confirm(Form, String),
    /// NHN's list of results.
    Results,
    /// NHN's list of templates.
    Templates,
}

const NHN: &str = "/alimtalk/v2.3/appkeys/";

/// What a request asks for; `None` is no request of any dealer.
pub(super) fn asked(parts: &Parts) -> Option<Asked> {
    let path = parts.uri.path();
    if parts.method == Method::POST {
        return match path {
            "/api/comm/v1/send/omni" => Some(Asked::Send(Form::Bizgo)),
            "/v1/send/alimtalk" => Some(Asked::Send(Form::Omni)),
            "/v1/send/kko" => Some(Asked::Send(Form::Bizplus)),
            "/v1/auth/token" => Some(Asked::Token(Form::Omni)),
            "/auth/v1/token" => Some(Asked::Token(Form::Bizplus)),
            _ => {
                let key = path.strip_prefix(NHN)?.strip_suffix("/messages")?;
                (!key.is_empty()).then_some(Asked::Send(Form::Nhn))
            }
        };
    }
    let polled = |form, prefix: &str| match (&parts.method, path.strip_prefix(prefix)?) {
        (&Method::GET, "") => Some(Asked::Batch(form)),
        (&Method::DELETE, id) => {
            let id = id.trim_start_matches('/').to_owned();
            Some(Asked::Confirm(form, id))
        }
        _ => None,
    };
    if let Some(asked) = polled(Form::Bizgo, "/api/comm/v1/report/polling")
        .or_else(|| polled(Form::Omni, "/v1/report/polling"))
    {
        return Some(asked);
    }
    let rest = path
        .strip_prefix(NHN)
        .filter(|_| parts.method == Method::GET)?;
    match rest.split('/').skip(1).collect::<Vec<_>>().as_slice() {
        ["message-results"] => Some(Asked::Results),
        ["senders", _, "templates"] => Some(Asked::Templates),
        _ => None,
    }
}

/// What opens an API: a key, or a token.
pub(super) fn credential(form: Form, parts: &Parts) -> &str {
    match form {
        Form::Bizgo | Form::Omni | Form::Bizplus => header(parts, AUTHORIZATION.as_str()),
        Form::Nhn => header(parts, "x-secret-key"),
    }
}

/// A sending of any dealer, as the desk reads it.
pub(super) fn sending(form: Form, parts: &Parts, body: &[u8]) -> Option<Sending> {
    match form {
        Form::Bizgo => Sending::parse(body),
        Form::Nhn => nhn(parts, body),
        Form::Omni => omni(body),
        Form::Bizplus => bizplus(body),
    }
}

fn flow(alimtalk: Step, failover: Option<&str>) -> Vec<BTreeMap<String, Step>> {
    let mut flow = vec![BTreeMap::from([("alimtalk".to_owned(), alimtalk)])];
    flow.extend(failover.map(|kind| BTreeMap::from([(kind.to_owned(), Step::default())])));
    flow
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NhnSending {
    sender_key: String,
    template_code: String,
    recipient_list: Vec<NhnRecipient>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NhnRecipient {
    recipient_no: String,
    template_parameter: BTreeMap<String, String>,
    recipient_grouping_key: String,
    resend_parameter: Option<NhnResend>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NhnResend {
    resend_type: String,
}

fn nhn(parts: &Parts, body: &[u8]) -> Option<Sending> {
    let read: NhnSending = serde_json::from_slice(body).ok()?;
    let resend = read
        .recipient_list
        .iter()
        .find_map(|r| r.resend_parameter.as_ref())
        .map(|r| if r.resend_type == "SMS" { "sms" } else { "mms" });
    let key = header(parts, "x-nc-api-idempotency-key");
    let key = (!key.is_empty()).then(|| key.to_owned());
    Some(Sending {
        message_flow: flow(
            Step {
                sender_key: read.sender_key,
                template_code: read.template_code,
                send_type: "template".to_owned(),
                ..Step::default()
            },
            resend,
        ),
        destinations: read
            .recipient_list
            .into_iter()
            .map(|r| Destination {
                to: r.recipient_no,
                replace_words: r.template_parameter,
                reference: r.recipient_grouping_key,
            })
            .collect(),
        // Remembered for ten minutes.
        idempotency_ttl: key.as_ref().map(|_| 600),
        idempotency_key: key,
    })
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OmniSending {
    sender_key: String,
    to: String,
    template_code: String,
    text: String,
    fallback: Option<OmniFallback>,
    #[serde(rename = "ref")]
    reference: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OmniFallback {
    #[serde(rename = "type")]
    kind: String,
}

fn single(to: String, reference: String, step: Step, failover: Option<&str>) -> Sending {
    Sending {
        destinations: vec![Destination {
            to,
            reference,
            ..Destination::default()
        }],
        message_flow: flow(step, failover),
        ..Sending::default()
    }
}

fn omni(body: &[u8]) -> Option<Sending> {
    let read: OmniSending = serde_json::from_slice(body).ok()?;
    let kind = read.fallback.map(|f| f.kind.to_lowercase());
    let step = Step {
        sender_key: read.sender_key,
        template_code: read.template_code,
        text: read.text,
        ..Step::default()
    };
    Some(single(read.to, read.reference, step, kind.as_deref()))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BizplusSending {
    mt_failover: String,
    msg_data: BizplusData,
    msg_attr: BizplusAttributes,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BizplusData {
    to: String,
    content: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BizplusAttributes {
    sender_key: String,
    template_code: String,
    #[serde(rename = "ref")]
    reference: String,
}

fn bizplus(body: &[u8]) -> Option<Sending> {
    let read: BizplusSending = serde_json::from_slice(body).ok()?;
    let failover = (read.mt_failover == "Y").then_some("mms");
    let step = Step {
        sender_key: read.msg_attr.sender_key,
        template_code: read.msg_attr.template_code,
        text: read.msg_data.content,
        ..Step::default()
    };
    Some(single(
        read.msg_data.to,
        read.msg_attr.reference,
        step,
        failover,
    ))
}

/// What the desk says of a sending.
#[derive(Debug)]
pub(super) enum Said {
    /// The gateway's code for all of it.
    Gateway(String),
    /// The service's code for all of it.
    Service(String),
    /// A key and a code for each: number, key, code, reference.
    Each(Vec<(String, String, String, String)>),
}

/// The answer in the dealer's form.
pub(super) fn answer(form: Form, said: &Said) -> (StatusCode, Value) {
    match form {
        Form::Bizgo => bizgo_answer(said),
        Form::Nhn => nhn_answer(said),
        Form::Omni | Form::Bizplus => {
            let (to, key, code, reference) = match said {
                Said::Gateway(code) | Said::Service(code) => ("", "", code.as_str(), ""),
                Said::Each(each) => each
                    .first()
                    .map_or(("", "", "A302", ""), |(to, key, code, r)| {
                        (to.as_str(), key.as_str(), code.as_str(), r.as_str())
                    }),
            };
            let status = http_status(code);
            let text = envelope::word(code);
            let body = if form == Form::Omni {
                json!({"code": code, "result": text, "msgKey": key, "ref": reference})
            } else {
                let code = bizplus_code(code);
                json!({"messageId": key, "to": to, "status": code, "text": text})
            };
            // BizPlus says what is wrong in the body alone.
            let inside = form == Form::Bizplus && matches!(status.as_u16(), 401 | 403);
            (if inside { StatusCode::OK } else { status }, body)
        }
    }
}

fn bizgo_answer(said: &Said) -> (StatusCode, Value) {
    match said {
        Said::Gateway(code) => (http_status(code), envelope::gateway(code)),
        Said::Service(code) => (http_status(code), envelope::service(code)),
        Said::Each(each) => {
            let destinations: Vec<Value> = each
                .iter()
                .map(|(to, key, code, _)| {
                    json!({"to": to, "msgKey": key, "code": code, "result": envelope::word(code)})
                })
                .collect();
            let data = json!({"destinations": destinations});
            (StatusCode::OK, envelope::answer("A000", &data))
        }
    }
}

fn nhn_answer(said: &Said) -> (StatusCode, Value) {
    let header = |code: i64| {
        json!({"resultCode": code, "resultMessage": if code == 0 { "SUCCESS" } else { "FAILED" },
               "isSuccessful": code == 0})
    };
    match said {
        Said::Gateway(code) | Said::Service(code) => {
            let status = match code.as_str() {
                "A020" => StatusCode::TOO_MANY_REQUESTS,
                "A910" | "A920" | "A999" => http_status(code),
                _ => StatusCode::OK,
            };
            (status, json!({"header": header(nhn_code(code))}))
        }
        Said::Each(each) => {
            let results: Vec<Value> = each
                .iter()
                .enumerate()
                .map(|(i, (to, _, code, reference))| {
                    json!({"recipientSeq": i + 1, "recipientNo": to, "resultCode": nhn_code(code),
                           "resultMessage": "", "recipientGroupingKey": reference})
                })
                .collect();
            let none = each.iter().all(|(_, _, code, _)| code != "A000");
            let request = each.first().map_or("", |(_, key, ..)| request_of(key).0);
            let message = json!({"requestId": request, "sendResults": results});
            let whole = if none { -2999 } else { 0 };
            (
                StatusCode::OK,
                json!({"header": header(whole), "message": message}),
            )
        }
    }
}

/// NHN's code for one of the desk's.
fn nhn_code(code: &str) -> i64 {
    match code {
        "A000" => 0,
        "A301" => -1005,
        "A306" => -5000,
        "A505" => -3003,
        "A506" => -3004,
        "A001" | "A401" => -1001,
        "A910" | "A920" | "A999" => -9999,
        _ => code.parse().unwrap_or(4),
    }
}

/// BizPlus's code for one of the desk's.
fn bizplus_code(code: &str) -> &str {
    match code {
        "A306" => "A110",
        "A502" => "A102",
        "A505" => "3015",
        "A506" => "3016",
        "A401" => "A005",
        _ => code,
    }
}

/// The HTTP status a code comes with: most errors come with 200.
pub(super) fn http_status(code: &str) -> StatusCode {
    match code {
        "A401" | "A001" => StatusCode::UNAUTHORIZED,
        "A403" | "A002" => StatusCode::FORBIDDEN,
        "A020" => StatusCode::TOO_MANY_REQUESTS,
        "A910" | "A999" => StatusCode::INTERNAL_SERVER_ERROR,
        "A920" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    }
}

/// NHN's request id and recipient number in a key of the desk's.
pub(super) fn request_of(key: &str) -> (&str, usize) {
    let (request, number) = key
        .split_at_checked(key.len().saturating_sub(3))
        .unwrap_or((key, ""));
    (request, number.parse::<usize>().unwrap_or(0) + 1)
}

/// The body of a report that is posted.
pub(super) fn posted(report: &Report) -> Value {
    match report.form {
        Form::Bizgo | Form::Omni | Form::Bizplus => report.json(),
        Form::Nhn => json!({
            "hooksId": report.key, "webhookConfigId": "twin", "productName": "KakaoTalk Bizmessage",
            "appKey": "twin", "event": "MESSAGE_RESULT_UPDATE", "hooks": [report.json()],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: Method, path: &str) -> Parts {
        let request = http::Request::builder().method(method).uri(path);
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn every_request_of_every_dealer_is_known() {
        let of = |method, path: &str| asked(&parts(method, path));
        let (get, post, delete) = (|| Method::GET, || Method::POST, || Method::DELETE);
        for (found, expected) in [
            (
                of(post(), "/api/comm/v1/send/omni"),
                Asked::Send(Form::Bizgo),
            ),
            (of(post(), "/v1/send/alimtalk"), Asked::Send(Form::Omni)),
            (of(post(), "/v1/send/kko"), Asked::Send(Form::Bizplus)),
            (
                of(post(), "/alimtalk/v2.3/appkeys/k/messages"),
                Asked::Send(Form::Nhn),
            ),
            (of(post(), "/v1/auth/token"), Asked::Token(Form::Omni)),
            (of(post(), "/auth/v1/token"), Asked::Token(Form::Bizplus)),
            (
                of(get(), "/api/comm/v1/report/polling"),
                Asked::Batch(Form::Bizgo),
            ),
            (of(get(), "/v1/report/polling"), Asked::Batch(Form::Omni)),
            (
                of(delete(), "/v1/report/polling/b1"),
                Asked::Confirm(Form::Omni, "b1".into()),
            ),
            (
                of(get(), "/alimtalk/v2.3/appkeys/k/message-results?x=1"),
                Asked::Results,
            ),
            (
                of(get(), "/alimtalk/v2.3/appkeys/k/senders/s/templates"),
                Asked::Templates,
            ),
        ] {
            assert_eq!(found, Some(expected));
        }
        for path in ["/", "/v1/send/sms", "/alimtalk/v2.3/appkeys/k"] {
            assert_eq!(of(get(), path), None, "{path}");
            assert_eq!(of(post(), path), None, "{path}");
        }
    }

    #[test]
    fn a_code_of_the_desk_is_each_dealers_own() {
        let said = Said::Service("A301".into());
        assert_eq!(answer(Form::Nhn, &said).1["header"]["resultCode"], -1005);
        let said = Said::Service("-1000".into());
        assert_eq!(answer(Form::Nhn, &said).1["header"]["resultCode"], -1000);
        let each = |code: &str| {
            Said::Each(vec![(
                "010".into(),
                "abc000".into(),
                code.into(),
                "r".into(),
            )])
        };
        let (_, body) = answer(Form::Nhn, &each("A306"));
        assert_eq!(body["header"]["resultCode"], -2999);
        assert_eq!(body["message"]["sendResults"][0]["resultCode"], -5000);
        assert_eq!(body["message"]["requestId"], "abc");
        assert_eq!(answer(Form::Bizplus, &each("A506")).1["status"], "3016");
        assert_eq!(answer(Form::Omni, &each("A000")).1["msgKey"], "abc000");
    }
}
