//! Content to letter: which template, with which values, to which number. Pure.
//!
//! A publisher names the template and its values in the override
//! `{"template": "paid", "variables": {"name": "Kim"}}` for `alimtalk`, or as `data.template` with
//! the other `data` as values. A `body` beside it must be the template's text to the letter; where
//! no values are given, they are read out of it.

use std::collections::BTreeMap;

use bongsu_domain::{
    Channel, Content, Delivery, DeliveryId, Phone, Reason, Reference, ReferenceKey,
};
use serde::Deserialize;
use thiserror::Error;

use super::template::{Prepared, TEXT_CHARS, TemplateFault, same};
use crate::provider::Attempt;

/// The key of `data` that names the template.
pub const TEMPLATE: &str = "template";

/// One recipient's notification, ready for any dealer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Whose.
    pub delivery: DeliveryId,
    /// The number.
    pub to: Phone,
    /// The template's code.
    pub template: String,
    /// Values of the template's variables, no others.
    pub values: BTreeMap<String, String>,
    /// The text with its values.
    pub text: String,
    /// Our reference; none when the account has no secret for it.
    pub reference: Option<String>,
}

/// Why a delivery is not sent. Never holds address or text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unfit {
    /// Advertising.
    #[error("AlimTalk carries information only, no advertising")]
    Purpose,
    /// The address is no phone number.
    #[error("the address {0}")]
    Phone(#[from] bongsu_domain::phone::PhoneError),
    /// No template is named.
    #[error("no template is named; write data.template or the override's template")]
    NoTemplate,
    /// The override is no JSON of the form.
    #[error("the override for alimtalk is not {{\"template\": ..., \"variables\": {{...}}}}: {0}")]
    Override(String),
    /// The account does not know the template.
    #[error("the template `{0}` is not in the account's templates")]
    UnknownTemplate(String),
    /// The text is not the template's.
    #[error("template `{code}`: {fault}")]
    Template {
        /// The template's code.
        code: String,
        /// What does not fit.
        fault: TemplateFault,
    },
}

impl Unfit {
    /// The reason on the receipt.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Purpose => Reason::PurposeNotAllowed,
            Self::Phone(_) => Reason::InvalidAddress,
            Self::NoTemplate
            | Self::Override(_)
            | Self::UnknownTemplate(_)
            | Self::Template { .. } => Reason::InvalidContent,
        }
    }
}

/// What an override may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    template: String,
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

/// What of a content is larger than Kakao takes; none when nothing is. A text that its template
/// makes is measured when it is sent, for only the account knows the template.
#[must_use]
pub fn too_large(content: &Content) -> Option<String> {
    let characters = content.body.as_deref()?.chars().count();
    (characters > TEXT_CHARS)
        .then(|| format!("has a text of {characters} characters; Kakao takes {TEXT_CHARS}"))
}

/// The template and the values a content names.
fn named(content: &Content) -> Result<(String, BTreeMap<String, String>), Unfit> {
    if let Some(text) = content.overrides.get(Channel::AlimTalk.as_str()) {
        let read: Override =
            serde_json::from_str(text).map_err(|error| Unfit::Override(error.to_string()))?;
        return Ok((read.template, read.variables));
    }
    let template = content.data.get(TEMPLATE).ok_or(Unfit::NoTemplate)?;
    let others = content.data.iter().filter(|(name, _)| *name != TEMPLATE);
    let values = others.map(|(name, text)| (name.clone(), text.clone()));
    Ok((template.clone(), values.collect()))
}

/// Makes the letter of an attempt.
///
/// # Errors
/// [`Unfit`]; nothing may be sent then.
pub fn letter(
    attempt: Attempt<'_>,
    templates: &BTreeMap<String, Prepared>,
    key: Option<&ReferenceKey>,
) -> Result<Letter, Unfit> {
    let delivery: &Delivery = attempt.delivery;
    if !Channel::AlimTalk.takes(delivery.purpose) {
        return Err(Unfit::Purpose);
    }
    let to = Phone::parse(&delivery.address.address)?;
    let (code, mut values) = named(&delivery.content)?;
    let template = templates
        .get(&code)
        .ok_or_else(|| Unfit::UnknownTemplate(code.chars().take(64).collect()))?;
    let unfit = |fault| Unfit::Template {
        code: code.clone(),
        fault,
    };
    let body = delivery.content.body.as_deref();
    let mut complete = template.variables().all(|name| values.contains_key(name));
    if let (Some(body), false) = (body, complete) {
        values.extend(template.read(body).map_err(unfit)?);
        complete = true;
    }
    let text = template.fill(&values).map_err(unfit)?;
    if let (Some(body), true) = (body, complete) {
        same(&text, body).map_err(unfit)?;
    }
    let wanted: Vec<&str> = template.variables().collect();
    values.retain(|name, _| wanted.contains(&name.as_str()));
    Ok(Letter {
        delivery: delivery.id,
        to,
        values,
        text,
        template: code,
        reference: key.map(|key| {
            key.write(&Reference {
                channel: Channel::AlimTalk,
                class: delivery.class,
                partition: attempt.partition,
                delivery: delivery.id,
            })
        }),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use bongsu_domain::Purpose;

    use super::*;
    use crate::alimtalk::config::tests::account;
    use crate::provider::tests::delivery;

    pub(crate) fn templates() -> BTreeMap<String, Prepared> {
        account()
            .templates
            .iter()
            .map(|(code, template)| (code.clone(), template.prepare().unwrap()))
            .collect()
    }

    fn of(change: impl FnOnce(&mut Delivery)) -> Result<Letter, Unfit> {
        let mut delivery = delivery("010-1234-5678");
        delivery.content.title = None;
        delivery.content.body = None;
        change(&mut delivery);
        let attempt = Attempt {
            delivery: &delivery,
            number: 1,
            partition: 3,
        };
        letter(attempt, &templates(), account().reference_key().as_ref())
    }

    fn data(delivery: &mut Delivery, pairs: &[(&str, &str)]) {
        let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        delivery.content.data = pairs.iter().map(own).collect();
    }

    #[test]
    fn every_way_to_name_a_template_makes_the_same_letter() {
        let by_data = of(|d| {
            data(
                d,
                &[
                    ("template", "paid"),
                    ("name", "Kim"),
                    ("no", "17"),
                    ("x", "y"),
                ],
            );
        })
        .unwrap();
        assert_eq!(by_data.text, "Kim, your order 17 is paid.");
        assert_eq!(by_data.to.dialled_in_korea(), "01012345678");
        assert_eq!(by_data.values.len(), 2, "only the template's own variables");
        let reference = by_data.reference.clone().unwrap();
        assert!(reference.starts_with("b1.alimtalk.transactional.3."));
        let by_override = of(|d| {
            let text = r#"{"template": "paid", "variables": {"name": "Kim", "no": "17"}}"#;
            d.content.overrides.insert("alimtalk".into(), text.into());
        });
        assert_eq!(by_override.as_ref(), Ok(&by_data));
        let by_body = of(|d| {
            data(d, &[("template", "paid")]);
            d.content.body = Some("Kim, your order 17 is paid.".into());
        });
        assert_eq!(by_body.as_ref(), Ok(&by_data));
    }

    #[test]
    fn what_kakao_would_not_take_is_refused_with_its_reason() {
        let paid = |d: &mut Delivery| {
            data(d, &[("template", "paid"), ("name", "Kim"), ("no", "17")]);
        };
        let reason = |letter: Result<Letter, Unfit>| letter.unwrap_err().reason();
        assert_eq!(
            reason(of(|d| {
                paid(d);
                d.purpose = Purpose::Advertising;
            })),
            Reason::PurposeNotAllowed
        );
        assert_eq!(
            reason(of(|d| {
                paid(d);
                d.address.address = "not an address".into();
            })),
            Reason::InvalidAddress
        );
        for unfit in [
            of(|_| {}),
            of(|d| data(d, &[("template", "other")])),
            of(|d| data(d, &[("template", "paid"), ("name", "Kim")])),
            of(|d| {
                d.content.overrides.insert("alimtalk".into(), "[]".into());
            }),
        ] {
            assert_eq!(reason(unfit), Reason::InvalidContent);
        }
        let differs = of(|d| {
            paid(d);
            d.content.body = Some("Kim, your order 17 is paid!".into());
        });
        assert_eq!(
            differs.unwrap_err().to_string(),
            "template `paid`: the text differs from the template at character 27: '!' instead of '.'"
        );
    }
}
