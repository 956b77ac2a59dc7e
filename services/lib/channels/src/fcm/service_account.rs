//! A service account's file, and what it signs.
//!
//! The flow is the one of RFC 7523. [R: the scope; M: the rest, which is Google's long-standing
//! "OAuth 2.0 for server to server applications"]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bongsu_runtime::Secret;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::json;

/// What a token may be used for. [R: googleapis.dev]
pub const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// Where tokens come from when the file does not say.
pub const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// What is posted.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Seconds an assertion may live.
pub const ASSERTION_LIFE_S: i64 = 3_600;
/// Seconds by which an assertion is dated back: a clock that is a little fast is not refused.
const DATED_BACK_S: i64 = 30;

/// What of the file is read.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    project_id: String,
    #[serde(default)]
    private_key_id: String,
    private_key: String,
    client_email: String,
    #[serde(default)]
    token_uri: String,
}

/// A service account. `Debug` hides its key.
pub struct ServiceAccount {
    key: KeyPair,
    key_id: String,
    email: String,
    /// Its own project; empty when the file does not say.
    pub project: String,
    /// Where its tokens come from.
    pub token_uri: String,
}

impl std::fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccount")
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

impl ServiceAccount {
    /// Reads the content of the JSON file that the console gives.
    ///
    /// # Errors
    /// What is wrong with it, without any of its values.
    pub fn read(json: &Secret) -> Result<Self, &'static str> {
        let file: File = serde_json::from_str(json.expose().trim()).map_err(
            |_| "is no service account's file; it is JSON with client_email and private_key",
        )?;
        let wrong = "has a private_key that is no RSA key in PEM form (BEGIN PRIVATE KEY)";
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(file.private_key.as_bytes()).map_err(|_| wrong)?;
        let key = KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| wrong)?;
        if file.client_email.is_empty() {
            return Err("has no client_email");
        }
        Ok(Self {
            key,
            key_id: file.private_key_id,
            email: file.client_email,
            project: file.project_id,
            token_uri: if file.token_uri.is_empty() {
                TOKEN_URI.to_owned()
            } else {
                file.token_uri
            },
        })
    }

    /// The assertion of this moment, which is exchanged for an access token; `None` when the key
    /// cannot sign, which a key that was read can.
    #[must_use]
    pub fn assertion(&self, now_seconds: i64) -> Option<String> {
        let iat = now_seconds.saturating_sub(DATED_BACK_S);
        let mut head = json!({"alg": "RS256", "typ": "JWT"});
        if !self.key_id.is_empty() {
            head["kid"] = self.key_id.as_str().into();
        }
        let claims = json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.token_uri,
            "iat": iat,
            "exp": iat.saturating_add(ASSERTION_LIFE_S),
        });
        let part = |json: String| URL_SAFE_NO_PAD.encode(json);
        let mut jwt = format!("{}.{}", part(head.to_string()), part(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        let signed = self
            .key
            .sign(&RSA_PKCS1_SHA256, &random, jwt.as_bytes(), &mut signature);
        signed.ok()?;
        jwt.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
        Some(jwt)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    use super::*;

    /// A service account's file with a key made for this run, and the key's public half.
    pub(crate) fn file() -> (String, Vec<u8>) {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let key = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_ref())
        );
        let file = json!({
            "type": "service_account",
            "project_id": "shop-1",
            "private_key_id": "k1",
            "private_key": key,
            "client_email": "push@shop-1.example",
            "token_uri": "https://oauth2.googleapis.com/token",
        });
        (file.to_string(), pair.public_key().as_ref().to_vec())
    }

    #[test]
    fn an_assertion_says_what_google_asks_for_and_its_signature_holds() {
        let (file, public) = file();
        let account = ServiceAccount::read(&Secret::new(file)).unwrap();
        assert_eq!(account.project, "shop-1");
        let jwt = account.assertion(1_760_000_030).unwrap();
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        key.verify(signed.as_bytes(), &signature).unwrap();
        let part = |text: &str| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
        };
        let (head, claims) = signed.split_once('.').unwrap();
        assert_eq!(
            part(head),
            json!({"alg": "RS256", "typ": "JWT", "kid": "k1"})
        );
        assert_eq!(
            part(claims),
            json!({
                "iss": "push@shop-1.example",
                "scope": "https://www.googleapis.com/auth/firebase.messaging",
                "aud": "https://oauth2.googleapis.com/token",
                "iat": 1_760_000_000,
                "exp": 1_760_003_600,
            })
        );
    }

    #[test]
    fn a_file_that_is_none_is_told_without_its_content() {
        for text in [
            "hunter2",
            "{}",
            r#"{"client_email":"a@b","private_key":"hunter2"}"#,
        ] {
            let error = ServiceAccount::read(&Secret::new(text)).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let (file, _) = file();
        let account = ServiceAccount::read(&Secret::new(file)).unwrap();
        assert!(!format!("{account:?}").contains("BEGIN"), "{account:?}");
    }
}
