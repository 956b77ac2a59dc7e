//! The targets: one per reader. Each begins with what a provider really writes.

use std::time::Duration;

use bongsu_channels::alimtalk::config::{Dealer, ReportMode};
use bongsu_channels::provider::{AttemptResult, ThrottleScope};
use bongsu_channels::reports::{Callback, ReportSources};
use bongsu_channels::sms::config::Vendor;
use bongsu_channels::verdict::Reactions;
use bongsu_channels::{
    Settings, alimtalk, discord, email, fcm, line, retry_after, sendbird, slack, sms, telegram,
    webhook, webpush,
};
use bongsu_domain::reference::NotOurs;
use bongsu_domain::{Mailbox, Phone, ReferenceKey, Subscription, Timestamp};
use bongsu_runtime::Secret;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

/// One reader.
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What inputs are made of.
    pub seeds: &'static [&'static [u8]],
    /// Reads one input; panics when a promise breaks.
    pub run: fn(&[u8]),
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Target> {
    vec![
        Target {
            name: "answers",
            seeds: ANSWERS,
            run: answers,
        },
        Target {
            name: "smtp_replies",
            seeds: REPLIES,
            run: smtp_replies,
        },
        Target {
            name: "reports",
            seeds: REPORTS,
            run: reports,
        },
        Target {
            name: "references",
            seeds: REFERENCES,
            run: references,
        },
        Target {
            name: "addresses",
            seeds: ADDRESSES,
            run: addresses,
        },
    ]
}

/// Reads one input as the target of this name does, for a driver of its own (`guided`).
///
/// # Panics
/// When a promise breaks, or there is no such target.
pub fn run(name: &str, input: &[u8]) {
    let all = all();
    let target = all.iter().find(|target| target.name == name);
    assert!(target.is_some(), "no target {name}");
    if let Some(target) = target {
        (target.run)(input);
    }
}

const ANSWERS: &[&[u8]] = &[
    br#"{"message":"You are being rate limited.","retry_after":1.336,"global":false}"#,
    br#"{"message":"Unknown Webhook","code":10015}"#,
    br#"{"code":410,"errno":106,"error":"Gone","message":"gone"}"#,
    br#"{"reason":"Unregistered","timestamp":1760000000000}"#,
    br#"{"common":{"authCode":"A000"},"data":{"code":"A000","data":{"destinations":[{"to":"01012345678","msgKey":"k","code":"A000"}]}}}"#,
    b"Thu, 09 Oct 2025 08:53:20 GMT",
    b"120",
    b"<html>banned</html>",
    br#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 5","parameters":{"retry_after":5,"migrate_to_chat_id":-1001}}"#,
    br#"{"ok":false,"error":"channel_not_found"}"#,
    br#"{"error":true,"message":"Not found","code":400201}"#,
    br#"{"error":{"code":404,"status":"NOT_FOUND","message":"x","details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"UNREGISTERED"}]}}"#,
    br#"{"message":"The property, 'to', in the request body is invalid","details":[{"message":"x","property":"to"}]}"#,
];

/// Answers over HTTP: whatever the body, a success is accepted where the status alone decides.
fn answers(body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    let wait = retry_after::parse(&text, 1_760_000_000_000);
    assert!(wait.is_none_or(|wait| wait <= retry_after::LONGEST));
    for code in [
        200, 204, 301, 400, 401, 403, 404, 410, 413, 422, 429, 500, 502, 503, 504,
    ] {
        let Ok(status) = StatusCode::from_u16(code) else {
            continue;
        };
        let pushed = |known| match webpush::classify::classify(status, body, wait, known) {
            webpush::classify::Reaction::Result(result) => result,
            webpush::classify::Reaction::KeyRefused { .. } => AttemptResult::AccountFault,
        };
        let results = [
            discord::classify::classify(status, body, wait),
            pushed(true),
            pushed(false),
            webhook::classify::classify(status, wait, ThrottleScope::Address),
        ];
        assert!(
            results
                .iter()
                .all(|r| (*r == AttemptResult::Accepted) == status.is_success())
        );
        let _reaction = alimtalk::classify::by_status(status, wait);
    }
    others(body, wait);
    let _reported = alimtalk::classify::reported(&text);
    let _reaction = alimtalk::bizgo::code(&text);
}

/// Channels whose bodies say more than their status: nothing but a panic is wrong here; what they
/// must not conclude is in the channels' own tests.
fn others(body: &[u8], wait: Option<Duration>) {
    let own = Reactions::new();
    let facts = fcm::classify::Facts {
        retry_after: wait,
        content_passed: true,
    };
    for status in [200, 400, 401, 403, 404, 409, 410, 429, 500, 503, 504] {
        let _reaction = fcm::classify::classify(status, body, facts);
        let _verdict = telegram::classify::classify(status, body, wait, &own);
        let _webhook = slack::classify::webhook(status, body, wait, &own);
        let _api = slack::classify::api(status, body, wait, &own, true);
        let _verdict = sendbird::classify::classify(status, body, wait, &own, true);
        let _verdict = line::classify::classify(status, body, wait, &own);
    }
}

const REPLIES: &[&[u8]] = &[
    b"5.1.1 no such user",
    b"4.7.1 greylisted",
    b"5.7.26 DMARC",
    b"2.0.0 queued",
];

/// Texts of SMTP replies: no text makes a refusal a success.
fn smtp_replies(text: &[u8]) {
    use email::classify::{Failure, Reply, Step, bounced, classify};

    let text = String::from_utf8_lossy(text);
    let _reason = bounced(email::classify::Enhanced::parse(&text));
    let steps = [
        Step::Connect,
        Step::Login,
        Step::Mail,
        Step::Rcpt,
        Step::Data,
        Step::Dot,
    ];
    for step in steps {
        for code in [220, 354, 421, 450, 452, 500, 530, 535, 550, 552, 554, 556] {
            let failure = Failure::Refused(step, Reply::new(code, &text));
            let result = classify(failure, Duration::from_secs(1));
            assert_ne!(result, AttemptResult::Accepted);
        }
    }
}

const REPORTS: &[&[u8]] = &[
    br#"{"msgKey":"k","reportCode":"10000","serviceType":"AT","ref":"b1.alimtalk.transactional.1.00000000000000000000000000000007.2ca463fcf379745f","reportTime":"2025-10-09T08:53:20+09:00"}"#,
    br#"{"event":"MESSAGE_RESULT_UPDATE","hooks":[{"requestId":"r","recipientSeq":1,"messageStatus":"FAILED","resultCode":"3018","resendStatus":"RSC04"}]}"#,
    br#"[{"messageId":"M1","groupId":"G1","statusCode":"4000","to":"01012345678","customFields":{"ref":"b1.sms.bulk.1.00000000000000000000000000000007.2ca463fcf379745f"},"dateReported":"2025-10-09T08:53:20.000Z"}]"#,
    b"MessageSid=SM1&SmsSid=SM1&MessageStatus=undelivered&ErrorCode=30003&To=%2B821012345678",
    b"To: <bounces+qaaaahyaaaaaaaaaaaaaaaaaaaaaaaah4xhg42dj7q3uhx@example.com>\r\nMessage-ID: <b@r>\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"x\"\r\n\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; r\r\nOriginal-Envelope-Id: b1.x\r\n\r\nFinal-Recipient: rfc822; a@b\r\nAction: failed\r\nStatus: 5.1.1\r\nLast-Attempt-Date: Thu, 09 Oct 2025 08:53:20 +0000\r\n\r\n--x\r\nContent-Type: text/rfc822-headers\r\n\r\nX-Bongsu-Reference: b1.x\r\n\r\n--x--\r\n",
    b"To: <complaints@example.com>\r\nMessage-ID: <c@r>\r\nDate: Thu, 09 Oct 2025 08:53:20 +0000\r\nContent-Type: multipart/report; report-type=feedback-report;\r\n\tboundary=\"x\"\r\n\r\n--x\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: u/1\r\nVersion: 1\r\nOriginal-Mail-From: <bounces+qaaaahyaaaaaaaaaaaaaaaaaaaaaaaah4xhg42dj7q3uhx@example.com>\r\n\r\n--x\r\nContent-Type: text/rfc822-headers\r\n\r\nX-Bongsu-Reference: b1.x\r\n\r\n--x--\r\n",
];

/// The bodies of callbacks, by every provider's reader: what has no valid check sum is never taken for
/// a reference.
fn reports(body: &[u8]) {
    thread_local! {
        static SOURCES: ReportSources = sources();
    }
    let callback = Callback {
        headers: &HeaderMap::new(),
        query: "",
        peer: None,
        now: Timestamp(0),
    };
    SOURCES.with(|sources| {
        for (_, _, source) in sources.all() {
            if let Ok(told) = source.read(&callback, body) {
                assert!(told.iter().all(|told| told.reference.is_err()));
                let _answer = source.acknowledgement(&told);
            }
        }
    });
}

/// One account of each kind that has reports. Their secrets are known to nobody who writes inputs.
fn sources() -> ReportSources {
    let mut settings = Settings::default();
    for (name, provider) in [("bizgo", Dealer::Bizgo), ("nhn", Dealer::Nhn)] {
        let mut account = alimtalk::config::Account {
            provider,
            api_key: Secret::new("fuzz"),
            app_key: "fuzz".to_owned(),
            reference_secret: Secret::new("nobody's secret in fuzzing"),
            ..Default::default()
        };
        account.reports.mode = ReportMode::Webhook;
        account.reports.secret = Secret::new("fuzz");
        let accounts = &mut settings.alimtalk.accounts;
        accounts.insert(name.to_owned(), account);
    }
    for (name, provider) in [("solapi", Vendor::Solapi), ("twilio", Vendor::Twilio)] {
        let mut account = sms::config::Account {
            provider,
            api_key: "fuzz".to_owned(),
            api_secret: Secret::new("fuzz"),
            from: "0212345678".to_owned(),
            reference_secret: Secret::new("nobody's secret in fuzzing"),
            ..Default::default()
        };
        account.reports.mode = sms::config::ReportMode::Webhook;
        account.reports.secret = Secret::new("fuzz");
        account.reports.url = "https://example.com/v1/reports/twilio/twilio".to_owned();
        settings.sms.accounts.insert(name.to_owned(), account);
    }
    let mut account = email::config::Account {
        reference_secret: Secret::new("nobody's secret in fuzzing"),
        ..Default::default()
    };
    account.reports.secret = Secret::new("fuzz");
    settings.email.accounts.insert("email".to_owned(), account);
    let sources = ReportSources::build(&settings).unwrap_or_default();
    // None of them is left out for a fault of its settings.
    assert_eq!(sources.all().count(), 5);
    sources
}

const REFERENCES: &[&[u8]] = &[
    b"b1.discord.bulk.31.00000000000000000000000000000007.2ca463fcf379745f",
    b"b1.email.transactional.0.543ca93db1f3326a271e8b06ef78cd5d.0000000000000000",
    b"qaaaahyaaaaaaaaaaaaaaaaaaaaaaaah4xhg42dj7q3uhx",
];

/// References under a secret nobody has: never ours.
fn references(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let Some(key) = ReferenceKey::new("nobody's secret in fuzzing") else {
        return;
    };
    for read in [key.read(&text), email::verp::read(&key, &text)] {
        assert!(matches!(read, Err(NotOurs::Foreign | NotOurs::Forged)));
    }
    let _token = email::verp::token_of(&text);
}

const ADDRESSES: &[&[u8]] = &[
    b"ann+x@example.com",
    "사용자@bücher.example".as_bytes(),
    b"+82 10 1234 5678",
    br#"{"endpoint":"https://push.example.net/push/x","keys":{"auth":"BTBZMqHH6r4Tts7J_aSIgg","p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"}}"#,
];

/// Addresses: what is read is read again alike, and holds nothing that ends a line.
fn addresses(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    if let Ok(mailbox) = Mailbox::parse(&text) {
        let own = mailbox.as_str();
        assert!(!own.contains(|c: char| c.is_control() || "<> \"".contains(c)));
        assert_eq!(Mailbox::parse(own), Ok(mailbox.clone()));
    }
    if let Ok(subscription) = Subscription::parse(&text) {
        assert_eq!(
            Subscription::parse(&subscription.to_json()),
            Ok(subscription.clone())
        );
        let _sealed = webpush::encryption::encrypt(&subscription, b"x");
    }
    if let Ok(phone) = Phone::parse(&text) {
        assert!(phone.digits().bytes().all(|b| b.is_ascii_digit()));
    }
}
