//! What single addresses are answered, as words of their provider: how a test or a rehearsal meets a
//! code that the provider gives for reasons a twin cannot know (a user who blocked a bot).

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{PoisonError, RwLock};

use http::request::Parts;

use crate::discord::marker;
use crate::recorder::Arrived;
use crate::server::header;

/// Words by address; an address that is not listed is served.
#[derive(Debug, Default)]
pub(crate) struct Words(RwLock<BTreeMap<String, String>>);

impl Words {
    /// Replaces all of them.
    pub(crate) fn replace(&self, words: BTreeMap<String, String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = words;
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeMap<String, String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The word of an address.
    pub(crate) fn of(&self, address: &str) -> Option<String> {
        let words = self.0.read().unwrap_or_else(PoisonError::into_inner);
        words.get(address).cloned()
    }
}

/// A status and what follows it: `403 Forbidden: …`.
pub(crate) fn status_and_rest(word: &str) -> Option<(u16, &str)> {
    let (status, rest) = word.split_once(' ').unwrap_or((word, ""));
    let status = status.parse().ok().filter(|s| (100..=599).contains(s))?;
    Some((status, rest))
}

/// What the report knows a chat message by: the marker in one of its texts (see
/// [Discord](crate::discord)), or a hash of them, as there.
#[derive(Debug, Default)]
pub(crate) struct Marked {
    pub(crate) event_id: String,
    pub(crate) sender: String,
    pub(crate) seq: Option<i64>,
}

impl Marked {
    pub(crate) fn of(texts: &[&str]) -> Self {
        if let Some(marker) = texts.iter().find_map(|text| marker(text)) {
            return Self {
                event_id: marker.event_id.to_owned(),
                sender: marker.sender.to_owned(),
                seq: marker.seq,
            };
        }
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        texts.hash(&mut hasher);
        Self {
            event_id: format!("content-{:016x}", hasher.finish()),
            ..Self::default()
        }
    }

    /// Hands it to the recorder.
    pub(crate) fn record(
        &self,
        parts: &Parts,
        delivery_id: &str,
        path: &str,
        record: &mut dyn FnMut(&Arrived<'_>),
    ) {
        record(&Arrived {
            delivery_id,
            event_id: &self.event_id,
            sender: &self.sender,
            path,
            seq: self.seq,
            worker: header(parts, "bongsu-worker"),
            attempt: header(parts, "bongsu-attempt").parse().unwrap_or(0),
        });
    }
}

/// A hash that stands for a secret address in the report.
pub(crate) fn hidden(kind: &str, secret: &str) -> String {
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    secret.hash(&mut hasher);
    format!("/{kind}/{:016x}", hasher.finish())
}
