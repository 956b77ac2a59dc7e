use reqwest::header::HeaderMap;

use bongsu_domain::{Class, DeliveryId, Reference};
use bongsu_runtime::Secret;

use super::super::config::{ReportSettings, tests::account};
use super::*;

const SECRET: &str = "callback-secret";
const NOW: i64 = 1_795_600_800_000;

fn with(change: impl FnOnce(&mut Account)) -> Source {
    let mut account = Account {
        reports: ReportSettings {
            mode: ReportMode::Webhook,
            secret: Secret::new(SECRET),
            ..ReportSettings::default()
        },
        ..account()
    };
    change(&mut account);
    Source::new(&account, &ClientSettings::default())
        .unwrap()
        .unwrap()
}

fn bytes(secret: &str, at: i64) -> Vec<u8> {
    let key = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    key.chain_update(at.to_string())
        .finalize()
        .into_bytes()
        .to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

fn headers(at: i64, signature: &str) -> HeaderMap {
    [
        ("x-ib-timestamp", at.to_string()),
        ("x-ib-signature", signature.to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
    .collect()
}

fn verify(source: &Source, headers: &HeaderMap, peer: &str) -> Result<(), Refusal> {
    source.verify(&Callback {
        headers,
        query: "",
        peer: Some(peer.parse().unwrap()),
        now: Timestamp(NOW),
    })
}

fn read(source: &Source, body: &[u8]) -> Result<Vec<Told>, NotAReport> {
    let callback = Callback {
        headers: &HeaderMap::new(),
        query: "",
        peer: None,
        now: Timestamp(NOW),
    };
    source.read(&callback, body)
}

#[test]
fn forged_stale_and_foreign_callbacks_are_refused() {
    let source = with(|a| a.reports.allow_from = vec!["203.0.113.0/24".into()]);
    let check = |at, signature: &str, peer| verify(&source, &headers(at, signature), peer);
    let known = "203.0.113.9";
    assert_eq!(check(NOW, &hex(&bytes(SECRET, NOW)), known), Ok(()));
    assert_eq!(
        check(NOW, &hex(&bytes(SECRET, NOW)).to_lowercase(), known),
        Ok(())
    );
    assert_eq!(
        check(NOW, &STANDARD.encode(bytes(SECRET, NOW)), known),
        Ok(())
    );
    let old = NOW - 300_001;
    assert_eq!(
        check(old, &hex(&bytes(SECRET, old)), known),
        Err(Refusal::Time)
    );
    let ahead = NOW + 300_001;
    assert_eq!(
        check(ahead, &hex(&bytes(SECRET, ahead)), known),
        Err(Refusal::Time)
    );
    assert_eq!(
        check(NOW, &hex(&bytes("another", NOW)), known),
        Err(Refusal::Signature)
    );
    assert_eq!(
        check(NOW + 1, &hex(&bytes(SECRET, NOW)), known),
        Err(Refusal::Signature)
    );
    assert_eq!(check(NOW, "", known), Err(Refusal::Signature));
    assert_eq!(
        check(NOW, &hex(&bytes(SECRET, NOW)), "198.51.100.1"),
        Err(Refusal::Source)
    );
    let polled = with(|a| a.reports.mode = ReportMode::Polling);
    let refused = verify(&polled, &headers(NOW, &hex(&bytes(SECRET, NOW))), known);
    assert_eq!(refused, Err(Refusal::NotTaken));
}

#[test]
fn only_our_own_proxies_are_believed() {
    let source = with(|a| {
        a.reports.allow_from = vec!["203.0.113.9".into()];
        a.reports.trusted_proxies = vec!["10.0.0.0/8".into()];
    });
    let mut headers = headers(NOW, &hex(&bytes(SECRET, NOW)));
    headers.insert(
        "x-forwarded-for",
        "1.1.1.1, 203.0.113.9, 10.0.0.2".parse().unwrap(),
    );
    assert_eq!(verify(&source, &headers, "10.0.0.1"), Ok(()));
    assert_eq!(
        verify(&source, &headers, "198.51.100.1"),
        Err(Refusal::Source)
    );
    headers.insert("x-forwarded-for", "203.0.113.9, 1.1.1.1".parse().unwrap());
    assert_eq!(verify(&source, &headers, "10.0.0.1"), Err(Refusal::Source));
}

fn reference() -> Reference {
    Reference {
        channel: Channel::AlimTalk,
        class: Class::Bulk,
        partition: 5,
        delivery: DeliveryId(Default::default()),
    }
}

#[test]
fn a_report_leads_back_to_its_delivery() {
    let source = with(|_| {});
    let own = account().reference_key().unwrap().write(&reference());
    let body = |code: &str, reference: &str| {
        json!({"msgKey": "k1", "serviceType": "ALIMTALK", "msgType": "AT", "reportCode": code,
               "reportTime": "2026-11-25T19:00:00+09:00", "ref": reference})
        .to_string()
    };
    let read = |body: String| read(&source, body.as_bytes()).unwrap().remove(0);
    let told = read(body("10000", &own));
    assert_eq!(told.reference, Ok(reference()));
    assert_eq!(told.verdict, Some((Outcome::Delivered, Reason::None)));
    assert_eq!(told.at, Some(Timestamp(NOW)));
    assert_eq!(told.said, "ALIMTALK/10000");
    let told = [told];
    assert_eq!(source.acknowledgement(&told), r#"{"msgKey":"k1"}"#);
    let failed = read(body("3018", &own));
    let undelivered = Some((Outcome::Undelivered, Reason::NotReachable));
    assert_eq!(failed.verdict, undelivered);
    assert_eq!(read(body("3005", &own)).verdict, None);
    assert_eq!(
        read(body("10000", "order-17")).reference,
        Err(NotOurs::Foreign)
    );
    let forged = own.replace(".5.", ".6.");
    assert_eq!(read(body("10000", &forged)).reference, Err(NotOurs::Forged));
    for bad in [
        "x",
        "{}",
        r#"{"msgKey":"k"}"#,
        r#"{"msgKey":"","reportCode":"1"}"#,
    ] {
        assert!(self::read(&source, bad.as_bytes()).is_err(), "{bad}");
    }
    assert_eq!(time("2026-11-25 19:00:00"), Some(Timestamp(NOW)));
}

#[test]
fn success_codes_are_a_setting() {
    let source = with(|a| a.reports.success_codes = vec!["SUC".into()]);
    let body = br#"{"messageId":"k","resultCode":"SUC"}"#;
    let told = read(&source, body).unwrap().remove(0);
    assert_eq!(told.verdict, Some((Outcome::Delivered, Reason::None)));
    let body = br#"{"messageId":"k","resultCode":"10000"}"#;
    let told = read(&source, body).unwrap().remove(0);
    let refused = (Outcome::Undelivered, Reason::ProviderRefused);
    assert_eq!(told.verdict, Some(refused));
}

#[test]
fn hooks_of_nhn_are_reports_when_they_are_final() {
    let source = with(|a| {
        a.provider = Dealer::Nhn;
        a.app_key = "app".into();
    });
    let own = account().reference_key().unwrap().write(&reference());
    let hook = |status: &str, resend: &str, code: &str| {
        json!({"hookId": "h", "requestId": "r", "recipientSeq": 1, "messageStatus": status,
               "resendStatus": resend, "resultCode": code, "recipientGroupingKey": own})
    };
    let body = json!({"event": "MESSAGE_RESULT_UPDATE", "hooks": [
        hook("COMPLETED", "RSC01", "1000"),
        hook("FAILED", "RSC04", "3018"),
        hook("FAILED", "RSC05", "3018"),
        hook("READY", "RSC01", ""),
    ]});
    let told = read(&source, body.to_string().as_bytes()).unwrap();
    let verdicts: Vec<_> = told.iter().map(|t| t.verdict.map(|v| v.0)).collect();
    assert_eq!(
        verdicts,
        [
            Some(Outcome::Delivered),
            Some(Outcome::Delivered),
            Some(Outcome::Undelivered)
        ]
    );
    assert_eq!(told[0].reference, Ok(reference()));
    assert_eq!(told[0].key, "r/1");
    assert_eq!(source.acknowledgement(&told), "{}");
    let other = json!({"event": "TEMPLATE_UPDATE", "hooks": []});
    assert_eq!(read(&source, other.to_string().as_bytes()), Ok(vec![]));
    let signed = |text: &str| {
        let headers = [(
            "x-toast-webhook-signature".parse().unwrap(),
            text.parse().unwrap(),
        )];
        verify(&source, &headers.into_iter().collect(), "203.0.113.9")
    };
    assert_eq!(signed(SECRET), Ok(()));
    assert_eq!(signed("callback-secreT"), Err(Refusal::Signature));
}

#[test]
fn a_secret_in_the_url_stands_for_a_signature_with_the_older_dealers() {
    let source = with(|a| {
        a.provider = Dealer::Bizplus;
        a.failover.from = "0212345678".into();
        a.client_id = "client".into();
    });
    let check = |query: &str, headers: &HeaderMap| {
        source.verify(&Callback {
            headers,
            query,
            peer: None,
            now: Timestamp(NOW),
        })
    };
    let none = HeaderMap::new();
    assert_eq!(check("secret=callback-secret", &none), Ok(()));
    assert_eq!(check("a=b&secret=callback%2Dsecret", &none), Ok(()));
    for query in ["", "secret=", "secret=another", "key=callback-secret"] {
        assert_eq!(check(query, &none), Err(Refusal::Signature), "{query}");
    }
    // A signature that is there must be right.
    let signed = headers(NOW, &hex(&bytes("another", NOW)));
    assert_eq!(
        check("secret=callback-secret", &signed),
        Err(Refusal::Signature)
    );
}

#[test]
fn the_names_of_a_reports_fields_are_a_setting() {
    let source = with(|a| {
        a.provider = Dealer::Bizplus;
        a.reports.success_codes = vec!["SUC".into()];
        a.reports.fields.key = "id".into();
        a.reports.fields.code = "result".into();
        a.reports.fields.reference = "mine".into();
        a.reports.fields.time = "when".into();
    });
    let own = account().reference_key().unwrap().write(&reference());
    let body = json!({"id": "k", "result": "SUC", "mine": own, "when": "2026-11-25 19:00:00"});
    let told = read(&source, body.to_string().as_bytes())
        .unwrap()
        .remove(0);
    assert_eq!(told.reference, Ok(reference()));
    assert_eq!(told.verdict, Some((Outcome::Delivered, Reason::None)));
    assert_eq!(told.at, Some(Timestamp(NOW)));
    let usual = br#"{"messageId":"k","resultCode":"0000"}"#;
    let error = read(&source, usual).unwrap_err();
    assert_eq!(error.0, "`id` is missing");
}
