//! Signing keys of Standard Webhooks: symmetric `whsec_` (HMAC-SHA256, version `v1`) and asymmetric
//! `whsk_` (ed25519, version `v1a`), whose public half receivers know as `whpk_`.
//! [R: Standard Webhooks, 2026-08]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_runtime::Secret;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::sync::Arc;

/// The prefix of a symmetric secret.
const SYMMETRIC: &str = "whsec_";
/// The prefix of a private key.
const PRIVATE: &str = "whsk_";
/// The prefix of a public key.
const PUBLIC: &str = "whpk_";

/// A key ready to sign. For a symmetric one the padded key is hashed once, not once per request.
#[derive(Clone)]
pub enum SigningKey {
    /// HMAC-SHA256 with a secret that the receiver has too.
    Symmetric(Hmac<Sha256>),
    /// ed25519: the receiver has the public half only, so it cannot sign in our name.
    Asymmetric(Arc<Ed25519KeyPair>),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

impl SigningKey {
    /// Reads a `whsec_` secret or a `whsk_` private key.
    ///
    /// # Errors
    /// What is wrong with it, without its value.
    pub fn new(secret: &Secret) -> Result<Self, &'static str> {
        let text = secret.expose();
        if let Some(encoded) = text.strip_prefix(SYMMETRIC) {
            let bytes = STANDARD
                .decode(encoded)
                .map_err(|_| "is not base64 after `whsec_`")?;
            if !(24..=64).contains(&bytes.len()) {
                return Err("is not 24 to 64 bytes long");
            }
            let keyed = Hmac::new_from_slice(&bytes).map_err(|_| "cannot be a key")?;
            return Ok(Self::Symmetric(keyed));
        }
        if let Some(encoded) = text.strip_prefix(PRIVATE) {
            let bytes = STANDARD
                .decode(encoded)
                .map_err(|_| "is not base64 after `whsk_`")?;
            return private(&bytes).map(|pair| Self::Asymmetric(Arc::new(pair)));
        }
        if text.starts_with(PUBLIC) {
            return Err(
                "is a public key, which receivers verify with; write its private half, \
                        which starts with `whsk_`",
            );
        }
        Err(
            "starts neither with `whsec_` nor with `whsk_`; make one with: \
             echo whsec_$(openssl rand -base64 32)",
        )
    }

    /// What receivers verify with, `whpk_` and base64; none of a symmetric key.
    #[must_use]
    pub fn public_key(&self) -> Option<String> {
        match self {
            Self::Symmetric(_) => None,
            Self::Asymmetric(pair) => {
                Some(format!("{PUBLIC}{}", STANDARD.encode(pair.public_key())))
            }
        }
    }

    /// Appends the version and the signature of the parts in a row: `v1,…` or `v1a,…`.
    pub fn sign_into(&self, parts: &[&[u8]], value: &mut String) {
        match self {
            Self::Symmetric(keyed) => {
                let mut mac = keyed.clone();
                parts.iter().for_each(|part| mac.update(part));
                value.push_str("v1,");
                STANDARD.encode_string(mac.finalize().into_bytes(), value);
            }
            Self::Asymmetric(pair) => {
                value.push_str("v1a,");
                STANDARD.encode_string(pair.sign(&parts.concat()), value);
            }
        }
    }
}

/// A private key is its 32 bytes of seed, or these and the 32 of the public key behind them, as
/// `NaCl` libraries write it; which of the two is not said by the specification. (M)
fn private(bytes: &[u8]) -> Result<Ed25519KeyPair, &'static str> {
    match bytes.len() {
        32 => Ed25519KeyPair::from_seed_unchecked(bytes),
        64 => {
            let (seed, public) = bytes.split_at(32);
            Ed25519KeyPair::from_seed_and_public_key(seed, public)
        }
        _ => return Err("is not 32 or 64 bytes long"),
    }
    .map_err(|_| "is no ed25519 key, or its two halves do not belong together")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 1: an empty text.
    const SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    const PUBLIC_HALF: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    fn key(text: String) -> Result<SigningKey, &'static str> {
        SigningKey::new(&Secret::new(text))
    }

    #[test]
    fn ed25519_agrees_with_the_rfc() {
        let key = key(format!("whsk_{SEED}")).unwrap();
        assert_eq!(key.public_key().unwrap(), format!("whpk_{PUBLIC_HALF}"));
        let mut value = String::new();
        key.sign_into(&[b""], &mut value);
        let signature = STANDARD
            .decode(value.strip_prefix("v1a,").unwrap())
            .unwrap();
        let hex: String = signature.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
             5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        );
    }

    #[test]
    fn a_private_key_may_bring_its_public_half_which_must_fit() {
        let seed = STANDARD.decode(SEED).unwrap();
        let public = STANDARD.decode(PUBLIC_HALF).unwrap();
        let both = [seed.clone(), public].concat();
        assert!(key(format!("whsk_{}", STANDARD.encode(both))).is_ok());
        let wrong = [seed.clone(), seed].concat();
        assert!(key(format!("whsk_{}", STANDARD.encode(wrong))).is_err());
    }

    #[test]
    fn what_is_no_key_is_told_without_its_value() {
        for (text, told) in [
            ("hunter2", "starts neither"),
            ("whsec_hunter2", "not base64"),
            ("whsec_AAAA", "24 to 64"),
            ("whsk_AAAA", "32 or 64"),
            ("whpk_AAAA", "public key"),
        ] {
            let error = key(text.to_owned()).unwrap_err();
            assert!(
                error.contains(told) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
