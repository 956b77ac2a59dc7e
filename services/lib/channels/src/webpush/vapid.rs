//! Voluntary Application Server Identification (RFC 8292): one ES256 token per push service.
//!
//! A token names the origin it is for, so each service gets its own; it is made once and shown until
//! half of its life is over, for a signature costs more than all the rest of a request. Bounded: at
//! most [`ORIGINS`] tokens are kept, about 1 KB each.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bongsu_runtime::Secret;
use http::HeaderValue;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::pkcs8::DecodePrivateKey as _;

/// The shortest life of a token: shorter ones would be made all the time.
pub const SHORTEST_LIFE: Duration = Duration::from_hours(1);
/// The longest: services refuse what is good for more than 24 h, and clocks differ. [R: RFC 8292, 2]
pub const LONGEST_LIFE: Duration = Duration::from_hours(23);
/// The most origins whose tokens are kept. There are four large services; more are strangers.
pub const ORIGINS: usize = 1_024;

/// The first part of every token.
const HEADER: &str = r#"{"typ":"JWT","alg":"ES256"}"#;

/// A signing key with the public half as it is shown.
pub struct VapidKey {
    key: SigningKey,
    public: String,
}

impl std::fmt::Debug for VapidKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VapidKey(***)")
    }
}

impl VapidKey {
    /// Reads a PEM (PKCS #8) or the bare 32 bytes in base64url.
    ///
    /// # Errors
    /// What is wrong with it, without its value.
    pub fn read(secret: &Secret) -> Result<Self, &'static str> {
        let text = secret.expose().trim();
        let key = if text.starts_with("-----BEGIN") {
            SigningKey::from_pkcs8_pem(text).map_err(|_| {
                "is no EC key on P-256 in PKCS #8; make one with: \
                 openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
            })?
        } else {
            let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
            let bytes = bytes.map_err(|_| "is neither a PEM nor base64url")?;
            SigningKey::from_slice(&bytes).map_err(|_| "is no private key of P-256 (32 bytes)")?
        };
        let point = VerifyingKey::from(&key).to_encoded_point(false);
        let public = URL_SAFE_NO_PAD.encode(point.as_bytes());
        Ok(Self { key, public })
    }

    /// The public key in base64url: what a page gives to `pushManager.subscribe` as
    /// `applicationServerKey`.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The value of `authorization` for `origin`, good until `exp` in epoch seconds.
    #[must_use]
    pub fn sign(&self, origin: &str, exp: i64, subject: &str) -> String {
        // An origin holds no character that JSON escapes, and a subject is checked for them.
        let claims = format!(r#"{{"aud":"{origin}","exp":{exp},"sub":"{subject}"}}"#);
        let mut token = URL_SAFE_NO_PAD.encode(HEADER);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature: Signature = self.key.sign(token.as_bytes());
        token.push('.');
        // r and s, 32 bytes each: what JWS asks for, not DER.
        URL_SAFE_NO_PAD.encode_string(signature.to_bytes(), &mut token);
        format!("vapid t={token}, k={}", self.public)
    }
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    until: i64,
}

/// The tokens of one account.
#[derive(Debug)]
pub struct Tokens {
    key: VapidKey,
    subject: String,
    life_seconds: i64,
    kept: Mutex<HashMap<String, Token>>,
}

impl Tokens {
    /// Tokens of `key`, each good for `life`.
    #[must_use]
    pub fn new(key: VapidKey, subject: String, life: Duration) -> Self {
        Self {
            key,
            subject,
            life_seconds: i64::try_from(life.as_secs()).unwrap_or(i64::MAX),
            kept: Mutex::default(),
        }
    }

    /// The value of `authorization` for an origin; marked as sensitive, so it is never printed.
    /// `None` only if the token could not stand in a header, which base64url always can.
    #[must_use]
    pub fn header(&self, origin: &str, now_millis: i64) -> Option<HeaderValue> {
        let now = now_millis.div_euclid(1_000);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = kept.get(origin)
            && now < token.until
        {
            return Some(token.header.clone());
        }
        let exp = now.saturating_add(self.life_seconds);
        let mut header = HeaderValue::try_from(self.key.sign(origin, exp, &self.subject)).ok()?;
        header.set_sensitive(true);
        if kept.len() >= ORIGINS {
            kept.retain(|_, token| now < token.until);
        }
        if kept.len() >= ORIGINS {
            // Strangers' origins fill it; what is forgotten is signed again.
            kept.clear();
        }
        let token = Token {
            header: header.clone(),
            until: now.saturating_add(self.life_seconds / 2),
        };
        kept.insert(origin.to_owned(), token);
        Some(header)
    }

    /// Forgets an origin's token: the service refused it, and the next one is new.
    pub fn forget(&self, origin: &str) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(origin);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use p256::ecdsa::signature::Verifier as _;

    use super::*;

    /// The private key of RFC 8291's example; it opens nothing.
    pub(crate) const KEY: &str = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";
    const PUBLIC: &str =
        "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8";

    fn tokens() -> Tokens {
        let key = VapidKey::read(&Secret::new(KEY)).unwrap();
        Tokens::new(key, "mailto:a@b".into(), Duration::from_hours(12))
    }

    #[test]
    fn a_token_names_its_origin_and_its_signature_holds() {
        let key = VapidKey::read(&Secret::new(KEY)).unwrap();
        assert_eq!(key.public(), PUBLIC);
        let value = key.sign("https://push.example.net", 1_760_000_000, "mailto:a@b");
        let (token, shown) = value
            .strip_prefix("vapid t=")
            .and_then(|rest| rest.split_once(", k="))
            .unwrap();
        assert_eq!(shown, PUBLIC);
        let parts: Vec<&str> = token.split('.').collect();
        let text = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_eq!(text(parts[0]), r#"{"typ":"JWT","alg":"ES256"}"#);
        assert_eq!(
            text(parts[1]),
            r#"{"aud":"https://push.example.net","exp":1760000000,"sub":"mailto:a@b"}"#
        );
        let signature = Signature::from_slice(&URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
        let point = URL_SAFE_NO_PAD.decode(shown).unwrap();
        let verifying = VerifyingKey::from_sec1_bytes(&point).unwrap();
        let signed = format!("{}.{}", parts[0], parts[1]);
        verifying.verify(signed.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn a_token_is_made_once_per_origin_and_anew_at_half_of_its_life() {
        let tokens = tokens();
        let hour = 3_600_000;
        let first = tokens.header("https://a", 0).unwrap();
        assert!(first.is_sensitive());
        assert_eq!(tokens.header("https://a", 6 * hour - 1_000).unwrap(), first);
        assert_ne!(tokens.header("https://b", 0).unwrap(), first);
        assert_ne!(tokens.header("https://a", 6 * hour).unwrap(), first);
        let again = tokens.header("https://a", 7 * hour).unwrap();
        tokens.forget("https://a");
        assert_ne!(tokens.header("https://a", 7 * hour + 1_000).unwrap(), again);
    }

    #[test]
    fn strangers_origins_do_not_fill_the_memory() {
        let tokens = tokens();
        for i in 0..=ORIGINS {
            assert!(tokens.header(&format!("https://{i}"), 0).is_some());
        }
        assert!(tokens.kept.lock().unwrap().len() <= ORIGINS);
    }

    #[test]
    fn a_pem_is_read_and_nothing_else_than_a_key() {
        let pem = crate::apns::token::tests::P8;
        assert!(VapidKey::read(&Secret::new(pem)).is_ok());
        for bad in ["hunter2!", "AAAA", "-----BEGIN PRIVATE KEY-----\nAAAA"] {
            assert!(!VapidKey::read(&Secret::new(bad)).unwrap_err().contains(bad));
        }
    }
}
