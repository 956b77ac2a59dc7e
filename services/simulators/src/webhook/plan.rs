//! What the receiver asks of its senders, as JSON at `/_sim/plan`. Nothing set: it takes
//! everything.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Plan {
    /// Keys of which one must have signed: `whsec_…`, or `whpk_…` for ed25519.
    pub(super) keys: Vec<String>,
    /// The form that is read; any when absent.
    pub(super) form: Option<Form>,
    /// Credentials of which one must be shown, as they stand in `Authorization`.
    pub(super) authorization: Vec<String>,
    /// The token endpoint at `/oauth2/token`; its tokens are credentials too.
    pub(super) oauth: Option<OAuth>,
    /// Answers instead of the usual one, by the path's beginning; the longest wins.
    pub(super) answers: BTreeMap<String, Scripted>,
}

/// A form of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Form {
    Standard,
    CloudeventsStructured,
    CloudeventsBinary,
}

/// A client of the token endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OAuth {
    pub(super) client_id: String,
    pub(super) client_secret: String,
    /// Seconds a token lives.
    pub(super) expires_in: u64,
    /// Whether every token given so far is refused.
    #[serde(default)]
    pub(super) revoked: bool,
}

/// An answer as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scripted {
    /// Its status, 200 to 599.
    pub(super) status: u16,
    /// Its headers.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// Its body.
    #[serde(default)]
    pub(super) body: String,
}

impl Plan {
    /// What is wrong with it.
    pub(super) fn validate(&self) -> Result<(), String> {
        for (path, answer) in &self.answers {
            if !(200..=599).contains(&answer.status) {
                return Err(format!(
                    "answers[{path}].status must lie between 200 and 599"
                ));
            }
        }
        for (i, key) in self.keys.iter().enumerate() {
            if Key::read(key).is_none() {
                return Err(format!(
                    "keys[{i}] is neither whsec_ nor whpk_ with base64 behind it"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn answer_to(&self, path: &str) -> Option<&Scripted> {
        let fitting = self
            .answers
            .iter()
            .filter(|(at, _)| path.starts_with(at.as_str()));
        fitting
            .max_by_key(|(at, _)| at.len())
            .map(|(_, answer)| answer)
    }
}

/// A key that signatures are verified with.
pub(super) enum Key {
    Symmetric(Vec<u8>),
    Public(Vec<u8>),
}

impl Key {
    pub(super) fn read(text: &str) -> Option<Self> {
        if let Some(encoded) = text.strip_prefix("whsec_") {
            return STANDARD.decode(encoded).ok().map(Self::Symmetric);
        }
        let bytes = STANDARD.decode(text.strip_prefix("whpk_")?).ok()?;
        (bytes.len() == 32).then_some(Self::Public(bytes))
    }
}
