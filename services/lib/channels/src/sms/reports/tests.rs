use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_domain::reference::NotOurs;
use bongsu_domain::{Class, DeliveryId, Outcome, Reason, Reference};
use bongsu_runtime::Secret;
use reqwest::header::HeaderMap;
use serde_json::json;

use super::super::config::tests;
use super::*;

fn source(account: Account, change: impl FnOnce(&mut Account)) -> Source {
    let mut account = account;
    account.reports.mode = ReportMode::Webhook;
    account.reports.secret = Secret::new("test-secret");
    account.reports.url = "https://n.example/v1/reports/twilio/main".into();
    change(&mut account);
    assert_eq!(account.validate("a"), []);
    Source::new(&account, &ClientSettings::default())
        .unwrap()
        .unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&'static str, &str)| (name.parse().unwrap(), value.parse().unwrap());
    pairs.iter().map(pair).collect()
}

fn callback<'a>(headers: &'a HeaderMap, query: &'a str) -> Callback<'a> {
    Callback {
        headers,
        query,
        peer: Some("203.0.113.9".parse().unwrap()),
        now: Timestamp(0),
    }
}

fn reference() -> Reference {
    Reference {
        channel: Channel::Sms,
        class: Class::Bulk,
        partition: 5,
        delivery: DeliveryId(Default::default()),
    }
}

fn own() -> String {
    tests::solapi().reference_key().unwrap().write(&reference())
}

#[test]
fn solapi_is_known_by_its_secret_and_its_address() {
    let source = source(tests::solapi(), |a| {
        a.reports.allow_from = vec!["203.0.113.0/24".into()];
    });
    let check = |secret: &str| {
        let headers = headers(&[("x-solapi-secret", secret)]);
        source.verify(&callback(&headers, ""))
    };
    // SHA-1 of `test-secret`.
    assert_eq!(check("fe1bae27cb7c1fb823f496f286e78f1d2ae87734"), Ok(()));
    assert_eq!(check("FE1BAE27CB7C1FB823F496F286E78F1D2AE87734"), Ok(()));
    assert_eq!(check("test-secret"), Ok(()));
    assert_eq!(check("test-secreT"), Err(Refusal::Signature));
    assert_eq!(
        source.verify(&callback(&HeaderMap::new(), "")),
        Err(Refusal::Signature)
    );
    let good = headers(&[("x-solapi-secret", "test-secret")]);
    let mut foreign = callback(&good, "");
    foreign.peer = Some("198.51.100.1".parse().unwrap());
    assert_eq!(source.verify(&foreign), Err(Refusal::Source));
}

#[test]
fn a_list_of_solapi_leads_back_to_its_deliveries() {
    let source = source(tests::solapi(), |_| {});
    let headers = headers(&[("x-solapi-event-name", "SINGLE-REPORT")]);
    let item = |id: &str, code: &str| json!({"messageId": id, "type": "SMS", "statusCode": code, "customFields": {"bongsu": own()}});
    let body = json!([item("M1", "4000"), {"data": item("M2", "3104")}, item("M3", "3000")]);
    let told = source
        .read(&callback(&headers, ""), body.to_string().as_bytes())
        .unwrap();
    let verdicts: Vec<_> = told.iter().map(|t| t.verdict).collect();
    assert_eq!(
        verdicts,
        [
            Some((Outcome::Delivered, Reason::None)),
            Some((Outcome::Undelivered, Reason::NotReachable)),
            None
        ]
    );
    assert!(told.iter().all(|t| t.reference == Ok(reference())));
    let read = |headers: &HeaderMap, body: &[u8]| source.read(&callback(headers, ""), body);
    for bad in [&b"x"[..], b"{}", br#"[{"messageId":"M"}]"#] {
        assert!(read(&headers, bad).is_err());
    }
    let broken = json!([{"messageId": "M"}, item("M1", "4000"), 7]);
    let told = read(&headers, broken.to_string().as_bytes()).unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].key, "M1");
    assert_eq!(read(&headers, b"[]"), Ok(vec![]));
    let group = self::headers(&[("x-solapi-event-name", "GROUP-REPORT")]);
    assert_eq!(read(&group, b"[]"), Ok(vec![]));
}

fn sign(token: &str, text: &str) -> String {
    let key = aws_lc_rs::hmac::Key::new(
        aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        token.as_bytes(),
    );
    STANDARD.encode(aws_lc_rs::hmac::sign(&key, text.as_bytes()))
}

#[test]
fn twilios_signature_covers_url_reference_and_form() {
    let source = source(tests::twilio(), |_| {});
    let own = own();
    let query = format!("ref={own}");
    let body = b"MessageSid=SM1&MessageStatus=delivered&To=%2B821012345678";
    let said = format!(
        "https://n.example/v1/reports/twilio/main?{query}MessageSidSM1MessageStatusdeliveredTo+821012345678"
    );
    let check = |token: &str, query: &str, body: &[u8]| {
        let headers = headers(&[("x-twilio-signature", &sign(token, &said))]);
        let callback = callback(&headers, query);
        source
            .verify(&callback)
            .and_then(|()| source.verify_body(&callback, body))
    };
    assert_eq!(check("12345", &query, body), Ok(()));
    assert_eq!(check("12346", &query, body), Err(Refusal::Signature));
    assert_eq!(check("12345", "ref=b1.x", body), Err(Refusal::Signature));
    let changed = b"MessageSid=SM1&MessageStatus=failed&To=%2B821012345678";
    assert_eq!(check("12345", &query, changed), Err(Refusal::Signature));
    let none = HeaderMap::new();
    assert_eq!(
        source.verify(&callback(&none, &query)),
        Err(Refusal::Signature)
    );
    let told = source.read(&callback(&none, &query), body).unwrap();
    assert_eq!(told[0].reference, Ok(reference()));
    assert_eq!(told[0].verdict, Some((Outcome::Delivered, Reason::None)));
    let foreign = source.read(&callback(&none, ""), body).unwrap();
    assert_eq!(foreign[0].reference, Err(NotOurs::Foreign));
}

#[test]
fn who_is_polled_takes_no_callbacks() {
    let polled = source(tests::solapi(), |a| a.reports.mode = ReportMode::Polling);
    let good = headers(&[("x-solapi-secret", "test-secret")]);
    assert_eq!(polled.verify(&callback(&good, "")), Err(Refusal::NotTaken));
    assert!(polled.poll_interval().is_some());
    let called = source(tests::solapi(), |_| {});
    assert_eq!(called.poll_interval(), None);
}
