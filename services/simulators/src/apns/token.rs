//! Provider tokens as Apple checks them. Pure but for the cryptography.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The one key this twin knows.
#[derive(Debug, Clone)]
pub(super) struct KnownKey {
    pub(super) key_id: String,
    pub(super) team_id: String,
    /// The point, uncompressed.
    pub(super) public: Vec<u8>,
}

/// What a token says, once its form and signature are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) key_id: String,
    pub(super) iat: i64,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Body {
    iss: String,
    iat: i64,
}

/// Reads a token; none is `InvalidProviderToken`.
pub(super) fn read(token: &str, key: &KnownKey, verify: bool) -> Option<Claims> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, body) = signed.split_once('.')?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let head: Head = serde_json::from_slice(&decode(head)?).ok()?;
    let body: Body = serde_json::from_slice(&decode(body)?).ok()?;
    let known = head.alg == "ES256" && head.kid == key.key_id && body.iss == key.team_id;
    if !known {
        return None;
    }
    if verify {
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.public);
        public.verify(signed.as_bytes(), &decode(signature)?).ok()?;
    }
    Some(Claims {
        key_id: head.kid,
        iat: body.iat,
    })
}
