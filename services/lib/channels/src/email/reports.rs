//! Bounces and complaints: delivery status notifications (RFC 3464) as they arrive in the mailbox of
//! the return path, feedback reports (RFC 5965) as they arrive where mailbox providers were told to.
//!
//! The mailbox's server (or a small script at it) posts each mail as it is to
//! `POST /v1/reports/email/{account}`. It finds its delivery by the return path (a bounce was sent to
//! it, a complaint names it), else by the envelope id, else by our header in the returned mail; all
//! three hold our reference with its mac, so a forged one settles nothing. Bounded by the gateway's
//! limit of a body; at most `PARTS` parts and `RECIPIENTS` recipients are looked at.

mod complaint;

use std::time::Duration;

use bongsu_domain::identity::digest;
use bongsu_domain::reference::NotOurs;
use bongsu_domain::{Channel, Outcome, Reason, Reference, ReferenceKey, Timestamp};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mail_parser::{DateTime, Message, MessageParser, MessagePart, MimeHeaders as _};
use reqwest::header::AUTHORIZATION;
use tokio::time::Instant;

use self::complaint::Complaint;
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

    /// The delivery a mail is about, by return paths and an envelope id it names, or by the mail that
    /// comes back in it.
    fn reference<'a>(
        &self,
        mail: &Message<'_>,
        paths: impl Iterator<Item = &'a str>,
        envelope_id: Option<&str>,
    ) -> Result<Reference, NotOurs> {
        let mut worst = NotOurs::Foreign;
        let mut keep = |read: Result<Reference, NotOurs>| match read {
            Ok(reference) if reference.channel == Channel::Email => Some(reference),
            Ok(_) | Err(NotOurs::Foreign) => None,
            Err(NotOurs::Forged) => {
                worst = NotOurs::Forged;
                None
            }
        };
        for path in paths {
            let words = path.split(|c: char| c.is_whitespace() || "<>,;\"".contains(c));
            for token in words.filter_map(verp::token_of) {
                if let Some(found) = keep(verp::read(&self.references, token)) {
                    return Ok(found);
                }
            }
        }
        let given = envelope_id.map(xtext);
        if let Some(found) = given.and_then(|id| keep(self.references.read(&id))) {
            return Ok(found);
        }
        let returned = returned_reference(mail);
        returned
            .and_then(|text| keep(self.references.read(&text)))
            .ok_or(worst)
    }

    /// A bounce: one report for each recipient it tells of.
    fn bounce(
        &self,
        mail: &Message<'_>,
        part: &MessagePart<'_>,
        body: &[u8],
    ) -> Result<Vec<Told>, NotAReport> {
        let status = Status::parse(&String::from_utf8_lossy(part.contents()));
        if status.said.is_empty() {
            let why = "its message/delivery-status names no Action";
            return Err(NotAReport(why.to_owned()));
        }
        let reference = self.reference(mail, sent_to(mail), status.envelope_id.as_deref());
        let key = key_of(mail, &reference);
        let said = status.said.iter().map(|said| Told {
            key: key.clone(),
            said: format!("{}/{}", said.action, said.status),
            reference,
            verdict: verdict(said),
            at: said.at,
            raw: body.to_vec(),
        });
        Ok(said.collect())
    }

    /// A complaint.
    fn complaint(
        &self,
        mail: &Message<'_>,
        part: &MessagePart<'_>,
        body: &[u8],
    ) -> Result<Vec<Told>, NotAReport> {
        let read = Complaint::parse(&String::from_utf8_lossy(part.contents()));
        let complaint = read.map_err(|why| NotAReport(why.to_owned()))?;
        let paths = complaint.mail_from.as_deref().into_iter();
        let paths = paths.chain(sent_to(mail));
        let reference = self.reference(mail, paths, complaint.envelope_id.as_deref());
        Ok(vec![Told {
            key: key_of(mail, &reference),
            said: format!("complaint/{}", complaint.kind),
            verdict: complaint.verdict(),
            at: mail.date().filter(|date| date.is_valid()).map(moment),
            raw: body.to_vec(),
            reference,
        }])
    }
}

/// The addresses a mail was sent to, as its headers have them.
fn sent_to<'a>(mail: &'a Message<'_>) -> impl Iterator<Item = &'a str> {
    SENT_TO.iter().flat_map(|name| {
        let same = mail.headers_raw();
        same.filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    })
}

/// What a report is known by: its delivery, else its own mail.
fn key_of(mail: &Message<'_>, reference: &Result<Reference, NotOurs>) -> String {
    match reference {
        Ok(reference) => reference.delivery.to_string(),
        Err(_) => shortened(mail.message_id().unwrap_or("unknown")),
    }
}

fn moment(date: &DateTime) -> Timestamp {
    Timestamp(date.to_timestamp().saturating_mul(1_000))
}

/// The first part that is `message/<one of these>`.
fn part_of<'a>(mail: &'a Message<'a>, subtypes: &[&str]) -> Option<&'a MessagePart<'a>> {
    mail.parts.iter().take(PARTS).find(|part| {
        part.content_type().is_some_and(|kind| {
            let subtype = kind.subtype().unwrap_or_default();
            kind.ctype().eq_ignore_ascii_case("message")
                && subtypes
                    .iter()
                    .any(|wanted| subtype.eq_ignore_ascii_case(wanted))
        })
    })
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
    date.is_valid().then(|| moment(&date))
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
        // The second for addresses beyond ASCII. [R: RFC 6533]
        if let Some(part) = part_of(&mail, &["delivery-status", "global-delivery-status"]) {
            return self.bounce(&mail, part, body);
        }
        match part_of(&mail, &["feedback-report"]) {
            Some(part) => self.complaint(&mail, part, body),
            None => Err(none(
                "it has no part message/delivery-status and none message/feedback-report",
            )),
        }
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
mod tests;
