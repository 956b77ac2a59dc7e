//! Bounces: delivery status notifications (RFC 3464) as they arrive in the mailbox of the return path.
//!
//! The mailbox's server (or a small script at it) posts each mail as it is to
//! `POST /v1/reports/email/{account}`. A bounce finds its delivery by the return path it was sent to,
//! else by the envelope id the relay gives back, else by our header in the returned mail; all three
//! hold our reference with its mac, so a forged bounce settles nothing. Bounded by the gateway's limit
//! of a body; at most `PARTS` parts and `RECIPIENTS` recipients are looked at.

use std::time::Duration;

use bongsu_domain::identity::digest;
use bongsu_domain::reference::NotOurs;
use bongsu_domain::{Channel, Outcome, Reason, Reference, ReferenceKey, Timestamp};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mail_parser::{DateTime, Message, MessageParser, MimeHeaders as _};
use reqwest::header::AUTHORIZATION;
use tokio::time::Instant;

use super::classify::{Enhanced, bounced};
use super::config::Account;
use super::payload::REFERENCE_HEADER;
use super::verp;
use crate::network::Callers;
use crate::reports::{Callback, Fetched, NotAReport, PollError, Refusal, ReportSource, Told};

/// The word in the path of the callback.
pub const PROVIDER: &str = "email";
/// Parts of a mail that are looked at. A bounce has three.
const PARTS: usize = 32;
/// Recipients of one bounce that are looked at. Our mails have one each.
const RECIPIENTS: usize = 16;
/// Bytes of a text that is kept beside a report.
const KEY_BYTES: usize = 200;

/// Headers in which the address lies that a bounce was sent to. [M: Delivered-To of Postfix, qmail and
/// Gmail; X-Original-To of Postfix; Envelope-To of Exim]
const SENT_TO: [&str; 4] = ["Delivered-To", "X-Original-To", "Envelope-To", "To"];

/// The bounces of one account.
pub struct Source {
    secret: [u8; 32],
    callers: Callers,
    references: ReferenceKey,
}

impl Source {
    /// The source of an account; `None` when it takes no bounces.
    ///
    /// # Errors
    /// What is wrong with the account.
    pub fn new(account: &Account) -> Result<Option<Self>, String> {
        let secret = account.reports.secret.expose();
        if secret.is_empty() {
            return Ok(None);
        }
        let reports = &account.reports;
        Ok(Some(Self {
            secret: digest(&[secret.as_bytes()]),
            callers: Callers::new(&reports.allow_from, &reports.trusted_proxies),
            references: account
                .reference_key()
                .ok_or("reference_secret is too short")?,
        }))
    }

    /// The delivery a bounce is about.
    fn reference(&self, mail: &Message<'_>, status: &Status) -> Result<Reference, NotOurs> {
        let mut worst = NotOurs::Foreign;
        let mut keep = |read: Result<Reference, NotOurs>| match read {
            Ok(reference) if reference.channel == Channel::Email => Some(reference),
            Ok(_) | Err(NotOurs::Foreign) => None,
            Err(NotOurs::Forged) => {
                worst = NotOurs::Forged;
                None
            }
        };
        for name in SENT_TO {
            for (known, value) in mail.headers_raw() {
                let tokens = value.split(|c: char| c.is_whitespace() || "<>,;\"".contains(c));
                for token in tokens.filter_map(verp::token_of) {
                    if known.eq_ignore_ascii_case(name)
                        && let Some(found) = keep(verp::read(&self.references, token))
                    {
                        return Ok(found);
                    }
                }
            }
        }
        let given = status.envelope_id.as_deref().map(xtext);
        if let Some(found) = given.and_then(|id| keep(self.references.read(&id))) {
            return Ok(found);
        }
        let returned = returned_reference(mail);
        returned
            .and_then(|text| keep(self.references.read(&text)))
            .ok_or(worst)
    }
}

/// Our header in the mail that comes back, or in its headers alone.
fn returned_reference(mail: &Message<'_>) -> Option<String> {
    let name = format!("{REFERENCE_HEADER}:");
    let text = String::from_utf8_lossy(mail.raw_message());
    let line = text.lines().find_map(|line| {
        let (head, rest) = line.split_at_checked(name.len())?;
        head.eq_ignore_ascii_case(&name).then_some(rest)
    })?;
    Some(line.trim().to_owned())
}

/// What a bounce says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    envelope_id: Option<String>,
    said: Vec<Said>,
}

/// What it says of one recipient.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    action: String,
    status: String,
    at: Option<Timestamp>,
}

impl Status {
    /// Reads the part `message/delivery-status`: groups of fields, parted by empty lines, the first
    /// about the mail and one each about the recipients. [R: RFC 3464, 2]
    fn parse(text: &str) -> Self {
        let mut status = Self::default();
        let text = text.replace("\r\n", "\n");
        for (i, group) in text.trim().split("\n\n").take(RECIPIENTS + 1).enumerate() {
            let mut said = Said::default();
            for (name, value) in fields(group) {
                match name.to_ascii_lowercase().as_str() {
                    "original-envelope-id" if i == 0 => status.envelope_id = Some(value),
                    "action" => said.action = value.to_ascii_lowercase(),
                    "status" => said.status = value,
                    "last-attempt-date" => said.at = date(&value),
                    _ => {}
                }
            }
            // Some servers leave the first group out or write all into one.
            if !said.action.is_empty() {
                status.said.push(said);
            }
        }
        status
    }
}

/// Fields of a group, folded lines joined; a value is cut to [`KEY_BYTES`].
fn fields(group: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in group.lines() {
        match (line.starts_with([' ', '\t']), fields.last_mut()) {
            (true, Some((_, value))) if value.len() < KEY_BYTES => {
                value.push(' ');
                value.push_str(&shortened(line.trim()));
            }
            (true, _) => {}
            (false, _) => {
                if let Some((name, value)) = line.split_once(':') {
                    fields.push((name.trim().to_owned(), shortened(value.trim())));
                }
            }
        }
    }
    fields
}

fn shortened(text: &str) -> String {
    text.chars().take(KEY_BYTES).collect()
}

fn date(text: &str) -> Option<Timestamp> {
    let date = DateTime::parse_rfc822(text)?;
    date.is_valid()
        .then(|| Timestamp(date.to_timestamp().saturating_mul(1_000)))
}

/// Takes `+XX` back. [R: RFC 3461, 4]
fn xtext(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('+') {
        plain.push_str(before);
        let code = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                plain.push('+');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// What an action makes of a delivery; nothing final for those that only tell of a step.
fn verdict(said: &Said) -> Option<(Outcome, Reason)> {
    match said.action.as_str() {
        "failed" => {
            let reason = bounced(Enhanced::parse(&said.status));
            Some((Outcome::Undelivered, reason))
        }
        "delivered" => Some((Outcome::Delivered, Reason::None)),
        // `delayed`: still tried. `relayed`, `expanded`: gone where nobody reports.
        _ => None,
    }
}

impl ReportSource for Source {
    fn channel(&self) -> Channel {
        Channel::Email
    }

    fn verify(&self, callback: &Callback<'_>) -> Result<(), Refusal> {
        self.callers.check(callback)?;
        let shown = callback
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or(Refusal::Signature)?;
        // Compared as digests: how long it takes tells nothing of the secret.
        if digest(&[shown.as_bytes()]) == self.secret {
            Ok(())
        } else {
            Err(Refusal::Signature)
        }
    }

    fn read(&self, _callback: &Callback<'_>, body: &[u8]) -> Result<Vec<Told>, NotAReport> {
        let none = |why: &str| NotAReport(why.to_owned());
        let mail = MessageParser::default()
            .parse(body)
            .ok_or_else(|| none("it is no mail"))?;
        let part = mail.parts.iter().take(PARTS).find(|part| {
            part.content_type().is_some_and(|kind| {
                let subtype = kind.subtype().unwrap_or_default();
                kind.ctype().eq_ignore_ascii_case("message")
                    // The second for addresses beyond ASCII. [R: RFC 6533]
                    && (subtype.eq_ignore_ascii_case("delivery-status")
                        || subtype.eq_ignore_ascii_case("global-delivery-status"))
            })
        });
        let part = part.ok_or_else(|| none("it has no part message/delivery-status"))?;
        let status = Status::parse(&String::from_utf8_lossy(part.contents()));
        if status.said.is_empty() {
            return Err(none("its message/delivery-status names no Action"));
        }
        let reference = self.reference(&mail, &status);
        let key = match &reference {
            Ok(reference) => reference.delivery.to_string(),
            Err(_) => shortened(mail.message_id().unwrap_or("unknown")),
        };
        Ok(status
            .said
            .iter()
            .map(|said| Told {
                key: key.clone(),
                said: format!("{}/{}", said.action, said.status),
                reference,
                verdict: verdict(said),
                at: said.at,
                raw: body.to_vec(),
            })
            .collect())
    }

    fn acknowledgement(&self, told: &[Told]) -> String {
        format!(r#"{{"reports":{}}}"#, told.len())
    }

    fn poll_interval(&self) -> Option<Duration> {
        None
    }

    fn poll(&self, _deadline: Instant) -> BoxFuture<'_, Result<Option<Fetched>, PollError>> {
        std::future::ready(Ok(None)).boxed()
    }

    fn confirm<'a>(
        &'a self,
        _id: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<(), PollError>> {
        std::future::ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
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
}
