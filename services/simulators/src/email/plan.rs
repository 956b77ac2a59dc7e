//! What a relay does: what it offers, what it answers to whom, where bounces go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where in the conversation an answer is scripted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Before anything: the greeting.
    Connect,
    /// AUTH.
    Login,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    #[default]
    Rcpt,
    /// DATA.
    Data,
    /// After the final dot.
    Dot,
}

/// What happens at the step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// The reply, and on.
    #[default]
    Reply,
    /// The reply, then the connection is closed (as after 421).
    Close,
    /// The connection is cut without a word.
    Cut,
    /// Silence for ever.
    Hang,
}

/// A scripted answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scripted {
    /// Where.
    pub step: Step,
    /// What is said: `550 5.1.1 no such user`.
    pub reply: String,
    /// What is done.
    pub then: Then,
    /// The mail is taken, and reported so later: an action of RFC 3464 and a status, `failed 5.1.1`; or
    /// its reader complains: `complaint abuse`, a type of RFC 5965.
    pub bounce: String,
}

/// An extension a relay may offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offer {
    /// STARTTLS.
    Starttls,
    /// DSN.
    Dsn,
    /// SMTPUTF8.
    Smtputf8,
}

/// Who may log in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// The plan of a relay, as JSON at `/_sim/email/plan`. Nothing set: takes everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// The extensions that are offered; by default all.
    pub offers: Vec<Offer>,
    /// Text sent in the clear right behind the answer to STARTTLS, as an attacker would.
    pub injected: String,
    /// Whether nothing is taken without TLS.
    pub requires_tls: bool,
    /// Who must log in; without it anybody sends.
    pub login: Option<Login>,
    /// Bytes of a mail at most, told by SIZE; 0 for none.
    pub size: u64,
    /// Whether the first mail to every recipient is put off with `451 4.7.1`.
    pub greylist: bool,
    /// Mails of one connection; then it says 421 and closes. 0 for any number.
    pub mails_per_connection: u64,
    /// Scripted answers to everybody.
    pub everybody: Vec<Scripted>,
    /// Scripted answers by recipient, its local part up to a `+`, or the whole address.
    pub recipients: BTreeMap<String, Scripted>,
    /// Where bounces are posted: `http://gateway/v1/reports/email/{account}`; nowhere when empty.
    pub bounce_url: String,
    /// What is shown there as `Authorization: Bearer …`.
    pub bounce_secret: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            offers: vec![Offer::Starttls, Offer::Dsn, Offer::Smtputf8],
            injected: String::new(),
            requires_tls: false,
            login: None,
            size: 10 * 1024 * 1024,
            greylist: false,
            mails_per_connection: 0,
            everybody: Vec::new(),
            recipients: BTreeMap::new(),
            bounce_url: String::new(),
            bounce_secret: String::new(),
        }
    }
}

impl Plan {
    /// What is wrong with the plan.
    ///
    /// # Errors
    /// The first fault.
    pub fn validate(&self) -> Result<(), String> {
        for scripted in self.everybody.iter().chain(self.recipients.values()) {
            let says = matches!(scripted.then, Then::Reply | Then::Close);
            let code = scripted.reply.get(..3).and_then(|c| c.parse::<u16>().ok());
            let clean = !scripted.reply.chars().any(char::is_control);
            if !scripted.bounce.is_empty() {
                let (action, status) = scripted.bounce.split_once(' ').unwrap_or_default();
                if action.is_empty() || status.is_empty() {
                    return Err(
                        "bounce must be an action and a status, failed 5.1.1, or complaint abuse"
                            .to_owned(),
                    );
                }
            } else if says && (!clean || code.is_none_or(|c| !(200..=599).contains(&c))) {
                return Err(format!(
                    "reply `{}` must begin with a number from 200 to 599",
                    scripted.reply
                ));
            }
        }
        Ok(())
    }

    /// Whether an extension is offered.
    #[must_use]
    pub fn has(&self, offer: Offer) -> bool {
        self.offers.contains(&offer)
    }

    /// What is scripted for a recipient.
    #[must_use]
    pub fn of(&self, recipient: &str) -> Option<&Scripted> {
        let local = recipient.split(['@', '+']).next().unwrap_or_default();
        self.recipients
            .get(recipient)
            .or_else(|| self.recipients.get(local))
    }

    /// What is scripted at a step: for the recipient, else for everybody. Steps before RCPT know no
    /// recipient.
    #[must_use]
    pub fn at(&self, step: Step, recipient: &str) -> Option<&Scripted> {
        let own = self.of(recipient).into_iter();
        own.chain(&self.everybody)
            .find(|script| script.step == step && script.bounce.is_empty())
    }

    /// How a mail to a recipient is reported once it was taken.
    #[must_use]
    pub fn bounce_of(&self, recipient: &str) -> Option<&str> {
        let own = self.of(recipient).into_iter();
        own.chain(&self.everybody)
            .map(|script| script.bounce.as_str())
            .find(|said| !said.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_and_what_cannot_be_is_refused() {
        let plan: Plan = serde_json::from_str(
            r#"{"recipients": {"nobody": {"reply": "550 5.1.1 no such user"},
                "late@example.com": {"bounce": "failed 5.2.2"}}, "greylist": true}"#,
        )
        .unwrap();
        assert_eq!(plan.validate(), Ok(()));
        assert!(plan.of("nobody+x@example.com").is_some());
        assert!(plan.of("late@example.com").is_some() && plan.of("late@x").is_none());
        for text in [
            r#"{"recipients": {"x": {"reply": "no"}}}"#,
            r#"{"recipients": {"x": {"reply": "999 x"}}}"#,
            r#"{"everybody": [{"reply": "550 x\r\n250 ok"}]}"#,
            r#"{"everybody": [{"bounce": "failed"}]}"#,
        ] {
            let plan: Plan = serde_json::from_str(text).unwrap();
            assert!(plan.validate().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Plan>(r#"{"grey": true}"#).is_err());
    }
}
