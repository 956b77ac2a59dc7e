//! Who calls, and what for: API keys, their scopes and their senders.

use std::hint::black_box;
use std::sync::Arc;

use bongsu_store::SenderScope;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::config::{Scope, Settings};
use crate::problem::{Problem, ProblemCode};

/// Senders a key may speak for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderPattern {
    /// This one.
    Exact(String),
    /// Every one that begins so; the empty prefix is everybody.
    Prefix(String),
}

impl SenderPattern {
    /// Reads `name`, `team-*` or `*`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.strip_suffix('*').map_or_else(
            || Self::Exact(text.to_owned()),
            |prefix| Self::Prefix(prefix.to_owned()),
        )
    }

    fn covers(&self, sender: &str) -> bool {
        match self {
            Self::Exact(name) => name == sender,
            Self::Prefix(prefix) => sender.starts_with(prefix),
        }
    }
}

/// A caller whose key was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Id of the key.
    pub key_id: Arc<str>,
    /// Senders it may speak for and look at.
    pub senders: Arc<[SenderPattern]>,
    scopes: Arc<[Scope]>,
}

impl Caller {
    /// A caller who may do everything: a development gateway without keys, or a simulation.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            key_id: "anonymous".into(),
            senders: Arc::new([SenderPattern::Prefix(String::new())]),
            scopes: Arc::new([Scope::Publish, Scope::Read, Scope::Suppress]),
        }
    }

    /// What the key may look at.
    #[must_use]
    pub fn sender_scope(&self) -> SenderScope {
        let (mut exact, mut prefixes) = (Vec::new(), Vec::new());
        for pattern in self.senders.iter() {
            match pattern {
                SenderPattern::Prefix(prefix) if prefix.is_empty() => return SenderScope::All,
                SenderPattern::Prefix(prefix) => prefixes.push(prefix.clone()),
                SenderPattern::Exact(name) => exact.push(name.clone()),
            }
        }
        SenderScope::Only { exact, prefixes }
    }

    /// Whether the key covers `sender`.
    #[must_use]
    pub fn covers(&self, sender: &str) -> bool {
        self.senders.iter().any(|p| p.covers(sender))
    }

    /// Checks a scope.
    ///
    /// # Errors
    /// A problem that names the scope.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let word = match scope {
            Scope::Publish => "publish",
            Scope::Read => "read",
            Scope::Suppress => "suppress",
        };
        Err(Problem::new(
            ProblemCode::MissingScope,
            format!("the API key `{}` lacks the scope `{word}`", self.key_id),
        ))
    }
}

/// The keys of the settings, as hashes.
#[derive(Debug)]
pub struct Keys {
    known: Vec<([u8; 32], Caller)>,
    anonymous: Option<Caller>,
}

impl Keys {
    /// Takes the keys of checked settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let known = settings
            .keys
            .iter()
            .map(|key| {
                let caller = Caller {
                    key_id: key.id.as_str().into(),
                    senders: key
                        .senders
                        .iter()
                        .map(|s| SenderPattern::parse(s))
                        .collect(),
                    scopes: key.scopes.clone().into(),
                };
                (hash(key.secret.expose().as_bytes()), caller)
            })
            .collect();
        Self {
            known,
            anonymous: settings.allow_anonymous.then(Caller::anonymous),
        }
    }

    /// Recognises the caller by `Authorization: Bearer` or `X-API-Key`.
    ///
    /// # Errors
    /// [`ProblemCode::Unauthorized`].
    pub fn recognise(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        if let Some(caller) = &self.anonymous {
            return Ok(caller.clone());
        }
        let Some(token) = token(headers) else {
            return Err(Problem::new(
                ProblemCode::Unauthorized,
                "send the API key as `Authorization: Bearer <secret>` or as `X-API-Key`",
            ));
        };
        self.find(&hash(token)).cloned().ok_or_else(|| {
            Problem::new(
                ProblemCode::Unauthorized,
                "the API key is not known here; check that it is whole and not withdrawn",
            )
        })
    }

    /// Compares hashes in full and with every key, so that time tells nothing about a secret.
    fn find(&self, presented: &[u8; 32]) -> Option<&Caller> {
        let mut found = None;
        for (known, caller) in &self.known {
            let difference = known
                .iter()
                .zip(presented)
                .fold(0_u8, |acc, (a, b)| black_box(acc | (a ^ b)));
            if black_box(difference) == 0 {
                found = Some(caller);
            }
        }
        found
    }
}

fn token(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.as_bytes().split_at_checked(7)?;
        return scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| token.trim_ascii());
    }
    headers.get("x-api-key").map(|v| v.as_bytes().trim_ascii())
}

fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use bongsu_runtime::Secret;
    use http::HeaderValue;

    use super::*;
    use crate::config::ApiKey;

    fn keys() -> Keys {
        Keys::new(&Settings {
            keys: vec![ApiKey {
                id: "shop".into(),
                secret: Secret::new("0123456789abcdef"),
                senders: vec!["team-*".into(), "shop".into()],
                scopes: vec![Scope::Publish],
            }],
            ..Settings::default()
        })
    }

    fn recognise(name: &'static str, value: &str) -> Result<Caller, ProblemCode> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        keys().recognise(&headers).map_err(|p| p.code)
    }

    #[test]
    fn both_headers_are_read_and_everything_else_is_unauthorized() {
        assert!(recognise("authorization", "Bearer 0123456789abcdef").is_ok());
        assert!(recognise("authorization", "bearer  0123456789abcdef").is_ok());
        assert!(recognise("x-api-key", "0123456789abcdef").is_ok());
        for (name, value) in [
            ("authorization", "Bearer 0123456789abcdeX"),
            ("authorization", "Bearer"),
            ("authorization", "Basic 0123456789abcdef"),
            ("x-api-key", "0123456789abcde"),
            ("x-other", "0123456789abcdef"),
        ] {
            assert_eq!(recognise(name, value), Err(ProblemCode::Unauthorized));
        }
    }

    #[test]
    fn a_key_covers_names_and_prefixes_and_only_its_scopes() {
        let caller = recognise("x-api-key", "0123456789abcdef").unwrap();
        assert!(caller.covers("shop") && caller.covers("team-1") && caller.covers("team-"));
        assert!(!caller.covers("shop-1") && !caller.covers("team"));
        assert!(caller.require(Scope::Publish).is_ok());
        assert_eq!(
            caller.require(Scope::Read).unwrap_err().code,
            ProblemCode::MissingScope
        );
        assert!(Caller::anonymous().covers("anyone"));
    }
}
