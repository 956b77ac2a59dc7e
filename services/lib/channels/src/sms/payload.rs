//! Content to text: what is said, to which number, and whether it fits. Pure.
//!
//! The text is the title, the body and the link, each on a line of its own. The override
//! `{"text": "...", "title": "..."}` for `sms` says it in other words; its title is that of a long
//! text of Solapi's.

use bongsu_domain::{Channel, Content, DeliveryId, Phone, Reason, Reference, ReferenceKey};
use serde::Deserialize;
use thiserror::Error;

use super::config::{Account, Longest, Vendor};
use crate::euc_kr::{self, LMS_BYTES, SMS_BYTES};
use crate::provider::Attempt;

/// Characters of a text of Twilio's. [R: Twilio's API reference, 2026-08]. Counted in UTF-16 units,
/// which are never fewer than the code points: whichever Twilio counts, it fits.
pub const TWILIO_CHARS: usize = 1_600;

/// What Solapi sends a text as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Short.
    Sms,
    /// Long.
    Lms,
}

impl Kind {
    /// Solapi's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sms => "SMS",
            Self::Lms => "LMS",
        }
    }
}

/// One recipient's text, ready for either vendor. `Debug` hides the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Whose.
    pub delivery: DeliveryId,
    /// The number.
    pub to: Phone,
    /// What is said.
    pub text: String,
    /// The title of a long text; empty for none.
    pub title: String,
    /// Short or long, by its bytes.
    pub kind: Kind,
    /// Our reference; none when the account has no secret for it.
    pub reference: Option<String>,
    /// When it is of no use any more, in epoch milliseconds.
    pub expires_at: i64,
}

/// Why a delivery is not sent. Never holds address or text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unfit {
    /// The address is no phone number.
    #[error("the address {0}")]
    Phone(#[from] bongsu_domain::phone::PhoneError),
    /// A number outside Korea on an account of Solapi.
    #[error("the number lies outside Korea, which accounts of Solapi do not send to; use Twilio")]
    Abroad,
    /// There is nothing to say.
    #[error("the content has no title, body or link, so there is no text")]
    Empty,
    /// The override is no JSON of the form.
    #[error("the override for sms is not {{\"text\": ..., \"title\": ...}}: {0}")]
    Override(String),
    /// Too long for what the account sends.
    #[error("the text has {bytes} bytes of EUC-KR; at most {most} are taken")]
    Bytes {
        /// How many it has.
        bytes: usize,
        /// How many are taken.
        most: usize,
    },
    /// Too long for Twilio.
    #[error("the text has {chars} characters; at most {TWILIO_CHARS} are taken")]
    Chars {
        /// How many it has.
        chars: usize,
    },
}

impl Unfit {
    /// The reason on the receipt.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Phone(_) => Reason::InvalidAddress,
            Self::Abroad => Reason::NotBuilt,
            Self::Empty | Self::Override(_) | Self::Bytes { .. } | Self::Chars { .. } => {
                Reason::InvalidContent
            }
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    text: String,
    #[serde(default)]
    title: String,
}

/// Text and title of a content.
fn said(content: &Content) -> Result<(String, String), Unfit> {
    if let Some(json) = content.overrides.get(Channel::Sms.as_str()) {
        let read: Override =
            serde_json::from_str(json).map_err(|error| Unfit::Override(error.to_string()))?;
        return Ok((read.text, read.title));
    }
    let lines = [&content.title, &content.body, &content.link];
    let lines: Vec<&str> = lines.into_iter().flatten().map(String::as_str).collect();
    Ok((lines.join("\n"), String::new()))
}

/// What of a content is larger than both vendors take; none when one of them takes it. Which one an
/// account uses is known when it is sent.
#[must_use]
pub fn too_large(content: &Content) -> Option<String> {
    let (text, _) = said(content).ok()?;
    let (chars, bytes) = (text.encode_utf16().count(), euc_kr::bytes(&text));
    (chars > TWILIO_CHARS && bytes > LMS_BYTES).then(|| {
        format!(
            "has a text of {chars} characters, {bytes} bytes of EUC-KR; Twilio takes \
             {TWILIO_CHARS} characters, Solapi {LMS_BYTES} bytes"
        )
    })
}

/// Makes the text of an attempt.
///
/// # Errors
/// [`Unfit`]; nothing may be sent then.
pub fn text(
    attempt: Attempt<'_>,
    account: &Account,
    key: Option<&ReferenceKey>,
) -> Result<Text, Unfit> {
    let delivery = attempt.delivery;
    let to = Phone::parse(&delivery.address.address)?;
    if account.provider == Vendor::Solapi && !to.is_korean() {
        return Err(Unfit::Abroad);
    }
    let (text, title) = said(&delivery.content)?;
    if text.trim().is_empty() {
        return Err(Unfit::Empty);
    }
    let kind = match account.provider {
        Vendor::Solapi => kind(&text, !title.is_empty(), account.longest)?,
        Vendor::Twilio => {
            let chars = text.encode_utf16().count();
            if chars > TWILIO_CHARS {
                return Err(Unfit::Chars { chars });
            }
            Kind::Sms
        }
    };
    let title = if title.is_empty() && kind == Kind::Lms {
        account.title.clone()
    } else {
        title
    };
    Ok(Text {
        delivery: delivery.id,
        to,
        text,
        title,
        kind,
        reference: key.map(|key| {
            key.write(&Reference {
                channel: Channel::Sms,
                class: delivery.class,
                partition: attempt.partition,
                delivery: delivery.id,
            })
        }),
        expires_at: delivery.expires_at.0,
    })
}

/// Short where it fits and has no title, else long.
fn kind(text: &str, titled: bool, longest: Longest) -> Result<Kind, Unfit> {
    let bytes = euc_kr::bytes(text);
    match longest {
        _ if bytes <= SMS_BYTES && !titled => Ok(Kind::Sms),
        Longest::Sms if bytes <= SMS_BYTES => Ok(Kind::Sms),
        Longest::Sms => Err(Unfit::Bytes {
            bytes,
            most: SMS_BYTES,
        }),
        Longest::Lms if bytes <= LMS_BYTES => Ok(Kind::Lms),
        Longest::Lms => Err(Unfit::Bytes {
            bytes,
            most: LMS_BYTES,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::{solapi, twilio};
    use super::*;
    use crate::provider::tests::delivery;

    fn of(account: &Account, content: Content) -> Result<Text, Unfit> {
        let mut delivery = delivery("010-1234-5678");
        delivery.content = content;
        let attempt = Attempt {
            delivery: &delivery,
            number: 1,
            partition: 3,
        };
        text(attempt, account, account.reference_key().as_ref())
    }

    fn body(text: impl Into<String>) -> Content {
        Content {
            body: Some(text.into()),
            ..Content::default()
        }
    }

    fn overridden(json: &str) -> Content {
        Content {
            overrides: [("sms".to_owned(), json.to_owned())].into(),
            ..body("another")
        }
    }

    #[test]
    fn title_body_and_link_are_lines_of_the_text() {
        let text = of(
            &solapi(),
            Content {
                title: Some("결제".into()),
                link: Some("https://x.example/1".into()),
                ..body("주문 17")
            },
        )
        .unwrap();
        assert_eq!(text.text, "결제\n주문 17\nhttps://x.example/1");
        assert_eq!((text.kind, text.title.as_str()), (Kind::Sms, ""));
        let reference = text.reference.unwrap();
        assert!(
            reference.starts_with("b1.sms.transactional.3."),
            "{reference}"
        );
        let text = of(&solapi(), overridden(r#"{"text": "short"}"#)).unwrap();
        assert_eq!(text.text, "short");
        assert_eq!(of(&solapi(), Content::default()), Err(Unfit::Empty));
        let wrong = of(&solapi(), overridden(r#"{"body": "x"}"#)).unwrap_err();
        assert_eq!(wrong.reason(), Reason::InvalidContent);
    }

    #[test]
    fn solapi_sends_within_korea() {
        let mut delivery = delivery("+1 415 555 2671");
        delivery.content = body("x");
        let attempt = Attempt {
            delivery: &delivery,
            number: 1,
            partition: 0,
        };
        assert_eq!(text(attempt, &solapi(), None), Err(Unfit::Abroad));
        assert!(text(attempt, &twilio(), None).is_ok());
    }

    #[test]
    fn what_one_vendor_takes_is_not_too_large_for_the_channel() {
        let large = |text: String| too_large(&body(text));
        assert_eq!(large("a".repeat(2_000)), None);
        assert_eq!(large("가".repeat(1_600)), None);
        assert_eq!(
            large("a".repeat(2_001)).as_deref(),
            Some(
                "has a text of 2001 characters, 2001 bytes of EUC-KR; Twilio takes 1600 \
                 characters, Solapi 2000 bytes"
            )
        );
    }

    #[test]
    fn bytes_of_euc_kr_decide_short_long_or_refused() {
        let kinds = |account: &Account, hangul: usize| {
            of(account, body("가".repeat(hangul))).map(|text| text.kind)
        };
        let lms = Account {
            title: "Shop".into(),
            ..solapi()
        };
        assert_eq!(kinds(&lms, 45), Ok(Kind::Sms));
        assert_eq!(kinds(&lms, 46), Ok(Kind::Lms));
        assert_eq!(kinds(&lms, 1_000), Ok(Kind::Lms));
        let over = kinds(&lms, 1_001).unwrap_err();
        assert_eq!(
            over.to_string(),
            "the text has 2002 bytes of EUC-KR; at most 2000 are taken"
        );
        assert_eq!(of(&lms, body("가".repeat(46))).unwrap().title, "Shop");
        let titled = of(&lms, overridden(r#"{"text": "a", "title": "t"}"#)).unwrap();
        assert_eq!((titled.kind, titled.title.as_str()), (Kind::Lms, "t"));
        let sms = Account {
            longest: Longest::Sms,
            ..solapi()
        };
        assert_eq!(kinds(&sms, 45), Ok(Kind::Sms));
        let most = SMS_BYTES;
        assert_eq!(kinds(&sms, 46), Err(Unfit::Bytes { bytes: 92, most }));
        assert!(of(&twilio(), body("가".repeat(1_600))).is_ok());
        let chars = 1_601;
        let over = of(&twilio(), body("a".repeat(chars)));
        assert_eq!(over, Err(Unfit::Chars { chars }));
    }
}
