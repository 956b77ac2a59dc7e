//! Provider tokens: one JWT per key, the same on every worker.
//!
//! Apple counts how often a provider changes its token (at most once in 20 minutes) and refuses
//! tokens older than 60. Both are kept without any exchange between workers, and through restarts:
//! `iat` is the start of a time slot that follows from the wall clock alone, and the signature is
//! deterministic (RFC 6979), so all workers of an installation make **byte for byte the same token**
//! in the same slot. Whether Apple counts tokens or their `iat` therefore makes no difference.
//!
//! When Apple calls a token expired although it is younger than 60 minutes, the clocks differ: the
//! key moves to slots of 20 minutes, which is as often as Apple allows; a token that is refused even
//! so is a fault of the account.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bongsu_runtime::Secret;
use http::HeaderValue;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey as _;

/// Apple's shortest time between two tokens. [R: Apple, "Establishing a token-based connection"]
pub const SHORTEST_LIFE: Duration = Duration::from_mins(20);
/// Apple's longest life of a token. [R: the same]
pub const LONGEST_LIFE: Duration = Duration::from_mins(60);

/// A signing key with the two ids that stand in every token it signs.
pub struct TokenKey {
    key: SigningKey,
    key_id: String,
    team_id: String,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(***)")
    }
}

impl TokenKey {
    /// Reads the content of a `.p8` file.
    ///
    /// # Errors
    /// What is wrong with it, without its value.
    pub fn read(pem: &Secret, key_id: &str, team_id: &str) -> Result<Self, &'static str> {
        let key = SigningKey::from_pkcs8_pem(pem.expose().trim()).map_err(
            |_| "is no .p8 key; it begins with -----BEGIN PRIVATE KEY----- and is an EC key (P-256)",
        )?;
        Ok(Self {
            key,
            key_id: key_id.to_owned(),
            team_id: team_id.to_owned(),
        })
    }

    /// The token issued at `iat`, in epoch seconds.
    #[must_use]
    pub fn sign(&self, iat: i64) -> String {
        let part = |json: String| URL_SAFE_NO_PAD.encode(json);
        let header = part(format!(r#"{{"alg":"ES256","kid":"{}"}}"#, self.key_id));
        let claims = part(format!(r#"{{"iss":"{}","iat":{iat}}}"#, self.team_id));
        let mut token = format!("{header}.{claims}");
        let signature: Signature = self.key.sign(token.as_bytes());
        token.push('.');
        // r and s, 32 bytes each: what JWS asks for, not DER.
        URL_SAFE_NO_PAD.encode_string(signature.to_bytes(), &mut token);
        token
    }
}

/// A token as it goes out. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Token {
    /// When it says it was issued, in epoch seconds. Tells tokens of one key apart.
    pub iat: i64,
    /// The value of `authorization`; marked as sensitive, so it is never printed.
    pub header: HeaderValue,
}

/// What follows from Apple's word about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The next request carries another token.
    Renewed,
    /// There is no newer one that Apple would allow: key, ids or clock are wrong.
    Stuck,
}

/// The current token of one key.
#[derive(Debug)]
pub struct TokenSource {
    key: TokenKey,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    slot_seconds: i64,
    current: Option<Token>,
    keep_until: i64,
}

/// The start of the slot that holds `now`.
const fn slot(now_seconds: i64, slot_seconds: i64) -> i64 {
    now_seconds.div_euclid(slot_seconds) * slot_seconds
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX).max(1)
}

impl TokenSource {
    /// No token made yet; each will be used for `interval`.
    #[must_use]
    pub fn new(key: TokenKey, interval: Duration) -> Self {
        Self {
            key,
            state: Mutex::new(State {
                slot_seconds: seconds(interval),
                current: None,
                keep_until: i64::MIN,
            }),
        }
    }

    /// The token of this moment; signs only when a new slot has begun.
    ///
    /// # Errors
    /// When the ids cannot stand in a header, which checked settings do not allow.
    pub fn current(&self, now_millis: i64) -> Result<Token, http::header::InvalidHeaderValue> {
        let now = now_millis.div_euclid(1_000);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let iat = slot(now, state.slot_seconds);
        if let Some(current) = &state.current
            && (current.iat == iat || now < state.keep_until)
        {
            return Ok(current.clone());
        }
        let mut header = HeaderValue::try_from(format!("bearer {}", self.key.sign(iat)))?;
        header.set_sensitive(true);
        let token = Token { iat, header };
        state.current = Some(token.clone());
        Ok(token)
    }

    /// Apple called the token issued at `iat` expired.
    pub fn expired(&self, iat: i64, now_millis: i64) -> Renewal {
        let now = now_millis.div_euclid(1_000);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let finest = seconds(SHORTEST_LIFE);
        let newer = state.current.as_ref().is_some_and(|c| c.iat > iat);
        if newer || slot(now, state.slot_seconds) > iat {
            // Another request's answer has said so before, or the slot ended meanwhile.
            state.keep_until = i64::MIN;
            return Renewal::Renewed;
        }
        if state.slot_seconds > finest && slot(now, finest) >= iat.saturating_add(finest) {
            state.slot_seconds = finest;
            state.keep_until = i64::MIN;
            return Renewal::Renewed;
        }
        Renewal::Stuck
    }

    /// Apple counted too many tokens: the present one stays for 20 minutes more, whatever its slot.
    pub fn keep(&self, now_millis: i64) {
        let now = now_millis.div_euclid(1_000);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = state
            .current
            .as_ref()
            .map_or(i64::MIN, |c| c.iat.saturating_add(seconds(LONGEST_LIFE)));
        state.keep_until = now.saturating_add(seconds(SHORTEST_LIFE)).min(longest);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use p256::ecdsa::VerifyingKey;
    use p256::ecdsa::signature::Verifier as _;

    use super::*;

    /// A key made for these tests; it opens nothing.
    pub(crate) const P8: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVeTOD0DevHJUqg/q
MedAlR+eA9CB3ctmZwMLGWyvdnahRANCAATmOtcNaEDkSOgPfXKDFoHSoESyWALc
E/luvhu4sF/GjmJa7gEHVAVtYgDqvZUR7Y+bfARWCSz6/KbksFuyMlt1
-----END PRIVATE KEY-----";

    const MINUTE: i64 = 60_000;

    fn key() -> TokenKey {
        TokenKey::read(&Secret::new(P8), "ABCDE12345", "TEAM123456").unwrap()
    }

    fn source() -> TokenSource {
        TokenSource::new(key(), Duration::from_mins(40))
    }

    #[test]
    fn a_token_is_base64url_and_its_signature_holds() {
        let token = key().sign(1_760_000_000);
        let parts: Vec<&str> = token.split('.').collect();
        let text = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_eq!(text(parts[0]), r#"{"alg":"ES256","kid":"ABCDE12345"}"#);
        assert_eq!(text(parts[1]), r#"{"iss":"TEAM123456","iat":1760000000}"#);
        let signature = Signature::from_slice(&URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
        let signed = format!("{}.{}", parts[0], parts[1]);
        let key = SigningKey::from_pkcs8_pem(P8).unwrap();
        let verifying = VerifyingKey::from(&key);
        verifying.verify(signed.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn every_worker_makes_the_same_token_and_makes_it_once_per_slot() {
        let (a, b) = (source(), source());
        let start = 1_759_999_200_000;
        let first = a.current(start).unwrap();
        let later = b.current(start + 39 * MINUTE).unwrap();
        assert_eq!(first.header, later.header);
        let next = a.current(start + 40 * MINUTE).unwrap();
        assert_ne!(first.header, next.header);
        assert_eq!(next.iat - first.iat, 40 * 60);
        assert!(!format!("{next:?}").contains("ey"), "{next:?}");
    }

    #[test]
    fn an_expired_token_is_renewed_once_and_no_more_often_than_apple_allows() {
        let source = source();
        let start = 1_759_999_200_000;
        let now = start + 25 * MINUTE;
        let old = source.current(now).unwrap();
        assert_eq!(source.expired(old.iat, now), Renewal::Renewed);
        let new = source.current(now).unwrap();
        assert_eq!(new.iat - old.iat, 20 * 60);
        // Late answers to the old token change nothing more.
        assert_eq!(source.expired(old.iat, now), Renewal::Renewed);
        assert_eq!(source.current(now).unwrap().iat, new.iat);
        // The new one is refused too: nothing newer may be shown.
        assert_eq!(source.expired(new.iat, now), Renewal::Stuck);
        assert_eq!(source.current(now).unwrap().iat, new.iat);
    }

    #[test]
    fn too_many_tokens_keep_the_present_one_for_twenty_minutes() {
        let source = source();
        let start = 1_759_999_200_000;
        let old = source.current(start + 39 * MINUTE).unwrap();
        source.keep(start + 39 * MINUTE);
        assert_eq!(source.current(start + 50 * MINUTE).unwrap().iat, old.iat);
        assert_ne!(source.current(start + 60 * MINUTE).unwrap().iat, old.iat);
    }
}
