//! The token endpoint: assertions against access tokens. Pure but for the cryptography.

use std::collections::HashMap;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::account::{AUDIENCE, Account};
use super::plan::Plan;
use super::refusal::Refusal;
use crate::control::{decode, json as json_of};
use crate::server::{Answer, plain};
use crate::words::status_and_rest;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// Seconds an assertion may be valid, and may be ahead of or behind our clock.
const LONGEST_LIFE_S: i64 = 3_600;
const SKEW_S: i64 = 300;

/// What the token endpoint did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Access tokens given.
    pub granted: u64,
    /// Exchanges refused.
    pub denied: u64,
    /// Messages with an access token that is unknown or has ended.
    pub unauthenticated: u64,
}

/// The access tokens that were given.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// When each ends, in milliseconds.
    ends: HashMap<String, u64>,
    counts: TokenCounts,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    scope: String,
    aud: String,
    iat: i64,
    exp: i64,
}

impl Tokens {
    pub(super) const fn counts(&self) -> TokenCounts {
        self.counts
    }

    pub(super) fn revoke(&mut self) {
        self.ends.clear();
    }

    /// Judges the value of `authorization`.
    pub(super) fn judge(&mut self, authorization: &str, now_ms: u64) -> Result<(), Refusal> {
        let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
        if self.ends.get(token).is_some_and(|ends| now_ms < *ends) {
            return Ok(());
        }
        self.counts.unauthenticated += 1;
        Err(Refusal::new("UNAUTHENTICATED"))
    }

    /// Answers an exchange.
    pub(super) fn grant(
        &mut self,
        body: &[u8],
        account: &Account,
        plan: &Plan,
        now_ms: u64,
    ) -> Answer {
        if let Some((status, word)) = status_and_rest(&plan.token_answer) {
            self.counts.denied += 1;
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            return if word.is_empty() {
                plain(status)
            } else {
                json_of(status, &json!({"error": word}))
            };
        }
        match self.check(body, account, plan, now_ms) {
            Err(word) => {
                self.counts.denied += 1;
                json_of(StatusCode::BAD_REQUEST, &json!({"error": word}))
            }
            Ok(()) => {
                self.counts.granted += 1;
                let token = format!("ya29.twin-{}-{now_ms}", self.counts.granted);
                let life_ms = plan.token_life_s.saturating_mul(1_000);
                self.ends.insert(token.clone(), now_ms + life_ms);
                json_of(
                    StatusCode::OK,
                    &json!({
                        "access_token": token,
                        "expires_in": plan.token_life_s,
                        "token_type": "Bearer",
                    }),
                )
            }
        }
    }

    /// Google's word for what is wrong with an exchange.
    fn check(
        &self,
        body: &[u8],
        account: &Account,
        plan: &Plan,
        now_ms: u64,
    ) -> Result<(), &'static str> {
        let form = std::str::from_utf8(body).map_err(|_| "invalid_request")?;
        let field = |name: &str| {
            let mut pairs = form.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, v)| decode(v))
        };
        if field("grant_type").as_deref() != Some(GRANT_TYPE) {
            return Err("unsupported_grant_type");
        }
        let assertion = field("assertion").ok_or("invalid_request")?;
        let (signed, signature) = assertion.rsplit_once('.').ok_or("invalid_grant")?;
        let (head, claims) = signed.split_once('.').ok_or("invalid_grant")?;
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| "invalid_grant");
        let head: Head = serde_json::from_slice(&part(head)?).map_err(|_| "invalid_grant")?;
        let claims: Claims = serde_json::from_slice(&part(claims)?).map_err(|_| "invalid_grant")?;
        let key_known = head.kid.is_none_or(|kid| kid == account.key_id);
        if head.alg != "RS256" || !key_known || claims.iss != account.email {
            return Err("invalid_grant");
        }
        if claims.scope != SCOPE {
            return Err("invalid_scope");
        }
        let now_s = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX);
        let in_time = claims.iat <= now_s + SKEW_S
            && claims.exp > now_s - SKEW_S
            && claims.exp - claims.iat <= LONGEST_LIFE_S;
        if claims.aud != AUDIENCE || !in_time {
            return Err("invalid_grant");
        }
        if plan.verify_assertions {
            let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &account.public);
            let signature = part(signature)?;
            key.verify(signed.as_bytes(), &signature)
                .map_err(|_| "invalid_grant")?;
        }
        Ok(())
    }
}
