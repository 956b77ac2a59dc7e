use bongsu_domain::{Class, DeliveryId};
use bongsu_runtime::Secret;
use proptest::prelude::*;
use reqwest::header::{HeaderMap, HeaderValue};

use super::*;
use crate::email::config::tests::account;

fn source() -> Source {
    let mut account = account();
    account.reports.secret = Secret::new("a secret of the mailbox");
    Source::new(&account).unwrap().unwrap()
}

fn read(body: &[u8]) -> Result<Vec<Told>, NotAReport> {
    let callback = Callback {
        headers: &HeaderMap::new(),
        query: "",
        peer: None,
        now: Timestamp(0),
    };
    source().read(&callback, body)
}

fn reference() -> Reference {
    Reference {
        channel: Channel::Email,
        class: Class::Bulk,
        partition: 3,
        delivery: DeliveryId::parse("543ca93d-b1f3-326a-271e-8b06ef78cd5d").unwrap(),
    }
}

fn bounce(to: &str, head: &str, group: &str, returned: &str) -> Vec<u8> {
    format!(
        "From: MAILER-DAEMON@relay.example\r\nTo: {to}\r\nMessage-ID: <b1@relay.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\
         \tboundary=\"x\"\r\n\r\n\
         --x\r\nContent-Type: text/plain\r\n\r\nIt did not work.\r\n\
         --x\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; relay.example\r\n{head}\r\n{group}\r\n\
         --x\r\nContent-Type: text/rfc822-headers\r\n\r\n{returned}Subject: Paid\r\n\r\n--x--\r\n"
    )
    .into_bytes()
}

const FAILED: &str = "Final-Recipient: rfc822; ann@example.net\r\nAction: failed\r\n\
                      Status: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1\r\n  no such user\r\n\
                      Last-Attempt-Date: Thu, 09 Oct 2025 08:53:20 +0000\r\n";

fn one(body: &[u8]) -> Told {
    let mut told = read(body).unwrap();
    assert_eq!(told.len(), 1);
    told.remove(0)
}

#[test]
fn a_bounce_finds_its_delivery_in_each_of_three_ways() {
    let key = account().reference_key().unwrap();
    let path = format!("bounces+{}@example.com", verp::write(&key, &reference()));
    let text = key.write(&reference());
    for body in [
        bounce(&format!("<{}>", path.to_uppercase()), "", FAILED, ""),
        bounce(
            "x@y.z",
            &format!("Original-Envelope-Id: {text}\r\n"),
            FAILED,
            "",
        ),
        bounce(
            "x@y.z",
            "",
            FAILED,
            &format!("X-Bongsu-Reference: {text}\r\n"),
        ),
    ] {
        let told = one(&body);
        assert_eq!(told.reference, Ok(reference()));
        assert_eq!(
            told.verdict,
            Some((Outcome::Undelivered, Reason::InvalidAddress))
        );
        assert_eq!(
            (told.said.as_str(), told.at),
            ("failed/5.1.1", Some(Timestamp(1_760_000_000_000)))
        );
        assert_eq!(told.key, reference().delivery.to_string());
    }
    let strange = one(&bounce("x@y.z", "", FAILED, ""));
    assert_eq!(strange.reference, Err(NotOurs::Foreign));
    assert_eq!(strange.key, "b1@relay.example");
    let forged = text.replace(".3.", ".4.");
    let head = format!("Original-Envelope-Id: {forged}\r\n");
    assert_eq!(
        one(&bounce("x@y.z", &head, FAILED, "")).reference,
        Err(NotOurs::Forged)
    );
}

#[test]
fn every_action_has_its_meaning() {
    for (action, status, verdict) in [
        (
            "failed",
            "5.2.2",
            Some((Outcome::Undelivered, Reason::NotReachable)),
        ),
        (
            "Failed",
            "4.4.7",
            Some((Outcome::Undelivered, Reason::ProviderUnavailable)),
        ),
        (
            "failed",
            "5.7.1",
            Some((Outcome::Undelivered, Reason::ProviderRefused)),
        ),
        (
            "failed",
            "nonsense",
            Some((Outcome::Undelivered, Reason::ProviderRefused)),
        ),
        (
            "delivered",
            "2.0.0",
            Some((Outcome::Delivered, Reason::None)),
        ),
        ("delayed", "4.4.1", None),
        ("relayed", "2.0.0", None),
        ("expanded", "2.0.0", None),
        ("unheard-of", "2.0.0", None),
    ] {
        let group = format!("Action: {action}\r\nStatus: {status}\r\n");
        assert_eq!(
            one(&bounce("x@y.z", "", &group, "")).verdict,
            verdict,
            "{action}"
        );
    }
}

#[test]
fn what_is_no_bounce_is_told() {
    for body in [
        b"".to_vec(),
        b"Subject: out of office\r\n\r\nBack on Monday.\r\n".to_vec(),
        bounce("x@y.z", "", "Status: 5.1.1\r\n", ""),
    ] {
        assert!(read(&body).is_err());
    }
}

#[test]
fn only_the_mailbox_is_believed() {
    let mut source = source();
    source.callers = Callers::new(&["203.0.113.0/24".to_owned()], &[]);
    let verify = |secret: &'static str, peer: [u8; 4]| {
        let value = HeaderValue::from_static(secret);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        source.verify(&Callback {
            headers: &headers,
            query: "",
            peer: Some(peer.into()),
            now: Timestamp(0),
        })
    };
    let good = "Bearer a secret of the mailbox";
    assert_eq!(verify(good, [203, 0, 113, 9]), Ok(()));
    assert_eq!(verify(good, [198, 51, 100, 9]), Err(Refusal::Source));
    assert_eq!(
        verify("Bearer x", [203, 0, 113, 9]),
        Err(Refusal::Signature)
    );
    assert_eq!(verify("Basic x", [203, 0, 113, 9]), Err(Refusal::Signature));
}

#[test]
fn xtext_is_taken_back() {
    assert_eq!(xtext("a+2Bb+3D+"), "a+b=+");
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _read = read(&body);
    }

    #[test]
    fn no_status_breaks_the_reader(text in any::<String>()) {
        let body = bounce("x@y.z", "", &text, &text);
        if let Ok(told) = read(&body) {
            prop_assert!(told.len() <= RECIPIENTS + 1);
            prop_assert!(told.iter().all(|t| t.said.len() <= 4 * (2 * KEY_BYTES + 2)));
        }
    }
}

/// A feedback report as a mailbox provider writes it, its recipient blacked out.
fn feedback(kind: &str, mail_from: &str, returned: &str) -> Vec<u8> {
    format!(
        "From: <abusedesk@mailbox.example>\r\nDate: Thu, 09 Oct 2025 08:53:20 +0000\r\n\
         Subject: FW: Order paid\r\nTo: <complaints@example.com>\r\n\
         Message-ID: <arf1@mailbox.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report;\r\n \
         boundary=\"part1_13d.2e68ed54_boundary\"\r\n\r\n\
         --part1_13d.2e68ed54_boundary\r\nContent-Type: text/plain; charset=\"US-ASCII\"\r\n\
         Content-Transfer-Encoding: 7bit\r\n\r\n\
         This is an email abuse report for an email message received from IP\r\n\
         192.0.2.1 on Thu, 9 Oct 2025 08:40:00 EDT.\r\n\r\n\
         --part1_13d.2e68ed54_boundary\r\nContent-Type: message/feedback-report\r\n\r\n\
         Feedback-Type: {kind}\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\n\
         {mail_from}Original-Rcpt-To: <redacted@mailbox.example>\r\n\
         Arrival-Date: Thu, 9 Oct 2025 08:40:00 EDT\r\nReporting-MTA: dns; mx.mailbox.example\r\n\
         Source-IP: 192.0.2.1\r\nReported-Domain: example.com\r\n\r\n\
         --part1_13d.2e68ed54_boundary\r\nContent-Type: message/rfc822\r\n\
         Content-Disposition: inline\r\n\r\n\
         Received: from relay.example.com\r\n{returned}From: <shop@example.com>\r\n\
         To: <redacted@mailbox.example>\r\nSubject: Order paid\r\n\r\nYour order is paid.\r\n\r\n\
         --part1_13d.2e68ed54_boundary--\r\n"
    )
    .into_bytes()
}

#[test]
fn a_complaint_finds_its_delivery_and_says_that_it_arrived_unwanted() {
    let key = account().reference_key().unwrap();
    let path = format!("bounces+{}@example.com", verp::write(&key, &reference()));
    let text = key.write(&reference());
    let named = format!("Original-Mail-From: <{path}>\r\n");
    let returned = format!("X-Bongsu-Reference: {text}\r\n");
    for body in [
        feedback("abuse", &named, ""),
        feedback("abuse", "", &returned),
        feedback("abuse", "Original-Mail-From: <>\r\n", &returned),
    ] {
        let told = one(&body);
        assert_eq!(told.reference, Ok(reference()));
        assert_eq!(told.verdict, Some((Outcome::Delivered, Reason::Complained)));
        assert_eq!(told.said, "complaint/abuse");
        assert_eq!(told.key, reference().delivery.to_string());
        assert_eq!(told.at, Some(Timestamp(1_760_000_000_000)));
    }
    assert_eq!(one(&feedback("not-spam", &named, "")).verdict, None);
    // Whose mail it was nobody can tell, or somebody would have us believe.
    assert_eq!(
        one(&feedback("abuse", "", "")).reference,
        Err(NotOurs::Foreign)
    );
    let forged = returned.replace(".3.", ".4.");
    let told = one(&feedback("abuse", "", &forged));
    assert_eq!(told.reference, Err(NotOurs::Forged));
    assert_eq!(told.key, "arf1@mailbox.example");
}

#[test]
fn a_malformed_complaint_is_refused_with_its_fault() {
    let whole = String::from_utf8(feedback("abuse", "", "")).unwrap();
    for (from, to, word) in [
        ("Feedback-Type: abuse\r\n", "", "no Feedback-Type"),
        (
            "Feedback-Type: abuse",
            "Feedback-Type: abuse\r\nFeedback-Type: fraud",
            "several",
        ),
        ("Version: 1\r\n", "", "no Version"),
        (
            "message/feedback-report",
            "text/plain",
            "none message/feedback-report",
        ),
    ] {
        assert!(whole.contains(from), "{from}");
        let fault = read(whole.replace(from, to).as_bytes()).unwrap_err();
        assert!(fault.0.contains(word), "{fault}");
    }
}
