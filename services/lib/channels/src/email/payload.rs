//! Content to mail: headers, plain text and HTML, and the return path. Pure: the same delivery makes
//! the same bytes, so a mail that is sent again is the same mail to who compares.
//!
//! Whatever a publisher writes ends up inside of a header or a body, never beside it: addresses are
//! [`Mailbox`]es, which hold no line's end, and every header goes through lettre's encoder after its
//! control characters were replaced.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use bongsu_domain::{Channel, Content, Delivery, Mailbox, Reference, ReferenceKey};
use lettre::Address;
use lettre::message::header::{self, ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox as Named, Message, MultiPart, SinglePart};
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::config::{is_link, named};
use super::verp;

/// Characters of a subject made of the text's first line. [D: what a phone's list shows twice over]
const SUBJECT_CHARACTERS: usize = 78;
/// The longest subject: more is cut with `…`. [D]
const LONGEST_SUBJECT: usize = 255;

const LIST_UNSUBSCRIBE: HeaderName = HeaderName::new_from_ascii_str("List-Unsubscribe");
const LIST_UNSUBSCRIBE_POST: HeaderName = HeaderName::new_from_ascii_str("List-Unsubscribe-Post");
const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");
const REFERENCE: HeaderName = HeaderName::new_from_ascii_str(REFERENCE_HEADER);
/// Header with our reference, which a bounce that returns the headers brings back.
pub const REFERENCE_HEADER: &str = "X-Bongsu-Reference";

/// What a publisher may say in a raw override for `email`. Unknown members are faults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// By default the title, else the first line of the text.
    pub subject: Option<String>,
    /// Plain text; by default the body and the link.
    pub text: Option<String>,
    /// HTML; by default made of body, link and image where one of the last two is there.
    pub html: Option<String>,
    /// Where answers go; by default the account's.
    pub reply_to: Option<String>,
    /// As the account's setting, for this event.
    pub list_unsubscribe: Option<String>,
}

/// A content that is no mail. Never holds the content.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContentFault {
    /// Nothing to read.
    #[error("has no text")]
    Empty,
    /// The override cannot be used.
    #[error("has an override for email that {0}")]
    Override(&'static str),
    /// It cannot be written as a mail.
    #[error("cannot be written as a mail")]
    Unwritable,
}

/// What of an account shapes its mails.
#[derive(Debug, Clone)]
pub struct Letterhead {
    /// `From`.
    pub from: Named,
    /// `Reply-To`.
    pub reply_to: Option<Named>,
    /// Where bounces go.
    pub return_path: Option<Mailbox>,
    /// What signs references.
    pub references: Option<ReferenceKey>,
    /// The template of `List-Unsubscribe`; empty for none.
    pub list_unsubscribe: String,
}

/// A mail and its envelope.
#[derive(Clone)]
pub struct Mail {
    /// MAIL FROM.
    pub return_path: Address,
    /// RCPT TO.
    pub to: Address,
    /// ENVID: our reference, else the delivery's id.
    pub envelope_id: String,
    /// Headers and body, without dot-stuffing.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail")
            .field("envelope_id", &self.envelope_id)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Headers of a rehearsal: name and value.
pub type Trace<'a> = [(&'static str, &'a str)];

/// The mail of a delivery in `partition` to `to`.
///
/// # Errors
/// [`ContentFault`].
pub fn mail(
    delivery: &Delivery,
    partition: i32,
    to: &Mailbox,
    head: &Letterhead,
    trace: &Trace<'_>,
) -> Result<Mail, ContentFault> {
    let options = options(&delivery.content)?;
    let text = text(&delivery.content, &options)?;
    let to = Address::new(to.local(), to.domain()).map_err(|_| ContentFault::Unwritable)?;
    let reference = head.references.as_ref().map(|key| {
        let reference = Reference {
            channel: Channel::Email,
            class: delivery.class,
            partition,
            delivery: delivery.id,
        };
        (key.write(&reference), verp::write(key, &reference))
    });
    let from = head.from.email.clone();
    let mut builder = Message::builder()
        .message_id(Some(format!("<{}@{}>", delivery.id, from.domain())))
        .date(UNIX_EPOCH + Duration::from_millis(delivery.accepted_at.0.unsigned_abs()))
        .from(head.from.clone())
        .to(Named::new(None, to.clone()))
        .subject(subject(&delivery.content, &options))
        // No vacation replies to a machine. [R: RFC 3834, 5]
        .raw_header(HeaderValue::new(
            AUTO_SUBMITTED,
            "auto-generated".to_owned(),
        ));
    let reply_to = match &options.reply_to {
        None => head.reply_to.clone(),
        Some(text) => {
            Some(named(text).ok_or(ContentFault::Override("has no mailbox in reply_to"))?)
        }
    };
    if let Some(reply_to) = reply_to {
        builder = builder.reply_to(reply_to);
    }
    for value in unsubscribe(delivery, to.as_ref(), head, &options)? {
        builder = builder.raw_header(value);
    }
    if let Some((reference, _)) = &reference {
        // As it is, on one line: letters, digits and dots.
        let text = reference.clone();
        let header = HeaderValue::dangerous_new_pre_encoded(REFERENCE, text.clone(), text);
        builder = builder.raw_header(header);
    }
    for (name, value) in trace {
        let name = HeaderName::new_from_ascii_str(name);
        builder = builder.raw_header(HeaderValue::new(name, one_line(value)));
    }
    let plain = part(ContentType::TEXT_PLAIN, text);
    let message = match html(&delivery.content, &options) {
        None => builder.singlepart(plain),
        Some(html) => builder.multipart(
            MultiPart::alternative()
                // Cannot stand in an encoded part, and makes the bytes the same every time.
                .boundary(format!("=_{}", delivery.id))
                .singlepart(plain)
                .singlepart(part(ContentType::TEXT_HTML, html)),
        ),
    };
    let bytes = message.map_err(|_| ContentFault::Unwritable)?.formatted();
    let return_path = match (&head.return_path, &reference) {
        (None, _) => from,
        (Some(path), None) => address(path.local(), path.domain())?,
        (Some(path), Some((_, token))) => {
            address(&format!("{}+{token}", path.local()), path.domain())?
        }
    };
    Ok(Mail {
        return_path,
        to,
        envelope_id: reference.map_or_else(|| delivery.id.to_string(), |(text, _)| text),
        bytes,
    })
}

fn address(local: &str, domain: &str) -> Result<Address, ContentFault> {
    Address::new(local, domain).map_err(|_| ContentFault::Unwritable)
}

/// Quoted-printable or base64, never as it is: then no line is too long and every byte is ASCII.
fn part(kind: ContentType, text: String) -> SinglePart {
    let encoding = if text.is_ascii() {
        header::ContentTransferEncoding::QuotedPrintable
    } else {
        header::ContentTransferEncoding::Base64
    };
    SinglePart::builder()
        .header(kind)
        .header(encoding)
        .body(text)
}

fn options(content: &Content) -> Result<Options, ContentFault> {
    let Some(raw) = content.overrides.get(Channel::Email.as_str()) else {
        return Ok(Options::default());
    };
    // Through an object: an array would be read as the members in their order.
    let object: serde_json::Result<Map<String, Value>> = serde_json::from_str(raw);
    object
        .and_then(|object| serde_json::from_value(Value::Object(object)))
        .map_err(|_| {
            ContentFault::Override(
                "is no JSON object of subject, text, html, reply_to and list_unsubscribe",
            )
        })
}

/// Everything that could end a header's line becomes a space.
fn one_line(text: &str) -> String {
    let clean = |c: char| {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            ' '
        } else {
            c
        }
    };
    text.chars()
        .map(clean)
        .collect::<String>()
        .trim()
        .to_owned()
}

fn cut(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn subject(content: &Content, options: &Options) -> String {
    let given = options.subject.as_ref().or(content.title.as_ref());
    match given {
        Some(subject) => cut(&one_line(subject), LONGEST_SUBJECT),
        None => {
            let text = options.text.as_ref().or(content.body.as_ref());
            let line = text.and_then(|text| text.lines().find(|line| !line.trim().is_empty()));
            cut(&one_line(line.unwrap_or_default()), SUBJECT_CHARACTERS)
        }
    }
}

fn text(content: &Content, options: &Options) -> Result<String, ContentFault> {
    if let Some(text) = &options.text {
        return Ok(text.clone());
    }
    let parts: Vec<&str> = [&content.body, &content.link]
        .into_iter()
        .filter_map(|part| part.as_deref())
        .collect();
    match (parts.is_empty(), &options.html, &content.title) {
        (false, ..) => Ok(parts.join("\r\n\r\n")),
        // Who has HTML alone still must have something for who reads none.
        (true, Some(_), title) => Ok(title.clone().unwrap_or_default()),
        (true, None, Some(title)) => Ok(title.clone()),
        (true, None, None) => Err(ContentFault::Empty),
    }
}

fn html(content: &Content, options: &Options) -> Option<String> {
    if options.html.is_some() {
        return options.html.clone();
    }
    // A text of the publisher's own goes with HTML of his own or with none.
    if options.text.is_some() || (content.link.is_none() && content.image.is_none()) {
        return None;
    }
    let mut html = String::from("<!doctype html><html><body>");
    if let Some(image) = content.image.as_deref().filter(|link| is_link(link)) {
        let image = escape(image);
        // Writing to a String cannot fail.
        let _written = write!(html, "<p><img src=\"{image}\" alt=\"\"></p>");
    }
    for line in content.body.as_deref().unwrap_or_default().lines() {
        let _written = write!(html, "<p>{}</p>", escape(line));
    }
    if let Some(link) = content.link.as_deref() {
        let shown = escape(link);
        let _written = if is_link(link) {
            write!(html, "<p><a href=\"{shown}\">{shown}</a></p>")
        } else {
            write!(html, "<p>{shown}</p>")
        };
    }
    html.push_str("</body></html>");
    Some(html)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// `List-Unsubscribe` and, for a link that takes a POST, its companion. [R: RFC 2369, RFC 8058]
fn unsubscribe(
    delivery: &Delivery,
    to: &str,
    head: &Letterhead,
    options: &Options,
) -> Result<Vec<HeaderValue>, ContentFault> {
    let template = options
        .list_unsubscribe
        .as_deref()
        .unwrap_or(&head.list_unsubscribe);
    if template.is_empty() {
        return Ok(Vec::new());
    }
    let mut link = template.to_owned();
    for (name, value) in [
        ("{delivery}", delivery.id.to_string()),
        ("{recipient}", delivery.recipient.clone()),
        ("{address}", to.to_owned()),
        ("{sender}", delivery.sender.clone()),
    ] {
        let value: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        link = link.replace(name, &value);
    }
    if !is_link(&link) {
        return Err(ContentFault::Override("has no link in list_unsubscribe"));
    }
    let mut values = Vec::new();
    // As it is: a link that is folded in the middle would be none. It holds visible ASCII only.
    let bracketed = format!("<{link}>");
    values.push(HeaderValue::dangerous_new_pre_encoded(
        LIST_UNSUBSCRIBE,
        bracketed.clone(),
        bracketed,
    ));
    if link.starts_with("https://") {
        let value = "List-Unsubscribe=One-Click".to_owned();
        values.push(HeaderValue::new(LIST_UNSUBSCRIBE_POST, value));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::email::config::tests::account;
    use crate::provider::tests::delivery;

    fn head() -> Letterhead {
        let account = account();
        Letterhead {
            from: account.sender().unwrap(),
            reply_to: None,
            return_path: Mailbox::parse(&account.return_path).ok(),
            references: account.reference_key(),
            list_unsubscribe: String::new(),
        }
    }

    fn made(delivery: &Delivery, head: &Letterhead) -> (Mail, String) {
        let to = Mailbox::parse("ann@example.net").unwrap();
        let mail = mail(delivery, 3, &to, head, &[]).unwrap();
        let text = String::from_utf8(mail.bytes.clone()).unwrap();
        (mail, text)
    }

    fn with_override(raw: &str) -> Delivery {
        let mut delivery = delivery("-");
        let overrides = &mut delivery.content.overrides;
        overrides.insert("email".into(), raw.into());
        delivery
    }

    #[test]
    fn a_plain_mail_is_pinned_byte_for_byte() {
        let delivery = delivery("-");
        let (mail, text) = made(&delivery, &head());
        assert_eq!(
            text,
            format!(
                "Message-ID: <{id}@example.com>\r\n\
                 Date: Thu, 09 Oct 2025 08:53:20 +0000\r\n\
                 From: Shop <shop@example.com>\r\n\
                 To: ann@example.net\r\n\
                 Subject: Paid\r\n\
                 Auto-Submitted: auto-generated\r\n\
                 X-Bongsu-Reference: {reference}\r\n\
                 MIME-Version: 1.0\r\n\
                 Content-Type: text/plain; charset=utf-8\r\n\
                 Content-Transfer-Encoding: quoted-printable\r\n\
                 \r\n\
                 Your order is paid.\r\n",
                id = delivery.id,
                reference = mail.envelope_id,
            )
        );
        assert!(mail.envelope_id.starts_with("b1.email.transactional.3."));
        let token = verp::token_of(mail.return_path.as_ref()).unwrap();
        let read = verp::read(&head().references.unwrap(), token).unwrap();
        assert_eq!((read.delivery, read.partition), (delivery.id, 3));
        assert_eq!(made(&delivery, &head()).1, text, "a resend is the same");
        assert!(!format!("{mail:?}").contains("ann@"));
    }

    #[test]
    fn a_link_or_an_image_makes_html_beside_the_text_and_nothing_in_it_is_code() {
        let mut delivery = delivery("-");
        delivery.content.body = Some("<script>alert(1)</script>".into());
        delivery.content.link = Some("javascript:alert(1)\"".into());
        let (_, text) = made(&delivery, &head());
        assert!(
            text.contains(&format!("boundary=\"=_{}\"", delivery.id)),
            "{text}"
        );
        let (_, html) = text.split_once("text/html").unwrap();
        for tag in ["<script", "<a href"] {
            assert!(!html.contains(tag), "{html}");
        }
        let raw = r#"{"html": "<b>own</b>", "text": "own", "subject": "s"}"#;
        let (_, text) = made(&with_override(raw), &head());
        assert!(
            text.contains("Subject: s\r\n") && text.contains("<b>own</b>"),
            "{text}"
        );
    }

    #[test]
    fn unsubscribing_takes_one_click_where_the_link_is_https() {
        let mut head = head();
        head.list_unsubscribe = "https://example.com/u?d={delivery}&r={recipient}".into();
        let mut delivery = delivery("-");
        delivery.recipient = "r 1>\r\nX: y".into();
        let (_, text) = made(&delivery, &head);
        let link = format!(
            "List-Unsubscribe: <https://example.com/u?d={}&r=r+1%3E%0D%0AX%3A+y>\r\n",
            delivery.id
        );
        assert!(text.contains(&link), "{text}");
        assert!(text.contains("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"));
        head.list_unsubscribe = "mailto:unsubscribe@example.com".into();
        assert!(!made(&delivery, &head).1.contains("One-Click"));
    }

    #[test]
    fn what_is_no_mail_is_told() {
        let to = Mailbox::parse("ann@example.net").unwrap();
        let fault = |delivery: &Delivery| mail(delivery, 0, &to, &head(), &[]).err();
        let mut empty = delivery("-");
        empty.content = Content::default();
        assert_eq!(fault(&empty), Some(ContentFault::Empty));
        for raw in [
            "[]",
            r#"{"body": "x"}"#,
            r#"{"reply_to": "x"}"#,
            r#"{"reply_to": "a@b.c\r\nBcc: e@f.g"}"#,
            r#"{"list_unsubscribe": "javascript:x"}"#,
            r#"{"list_unsubscribe": "https://x>\r\nBcc: e@f.g"}"#,
        ] {
            let told = fault(&with_override(raw));
            assert!(matches!(told, Some(ContentFault::Override(_))), "{raw}");
        }
    }

    /// Names of the headers, folded lines joined to theirs.
    fn header_names(text: &str) -> Vec<&str> {
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        head.split("\r\n")
            .filter(|line| !line.starts_with([' ', '\t']))
            .map(|line| line.split_once(": ").map_or("?", |(name, _)| name))
            .collect()
    }

    #[test]
    fn no_header_can_be_smuggled_in() {
        let expected = header_names(&made(&delivery("-"), &head()).1)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        for evil in [
            "Hi\r\nBcc: eve@example.org",
            "Hi\nBcc: eve@example.org",
            "Hi\rBcc: eve@example.org",
            "Hi\r\n\r\nbody",
            "Hi\u{2028}Bcc: e",
            "Hi\0\u{85}Bcc: e",
            "\r\n",
        ] {
            let mut delivery = delivery("-");
            delivery.content.title = Some(evil.into());
            assert_eq!(
                header_names(&made(&delivery, &head()).1),
                expected,
                "{evil:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_title_adds_a_header_or_a_line_that_is_too_long(title in any::<String>()) {
            let expected = header_names(&made(&delivery("-"), &head()).1).len();
            let mut delivery = delivery("-");
            delivery.content.title = Some(title);
            let (_, text) = made(&delivery, &head());
            prop_assert_eq!(header_names(&text).len(), expected);
            prop_assert!(text.is_ascii());
            prop_assert!(text.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n'])));
        }

        #[test]
        fn no_body_breaks_out(body in any::<String>()) {
            let mut delivery = delivery("-");
            delivery.content.body = Some(body);
            let (_, text) = made(&delivery, &head());
            prop_assert!(text.is_ascii());
            prop_assert!(text.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n'])));
        }
    }
}
