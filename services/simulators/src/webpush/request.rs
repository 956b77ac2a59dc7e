//! What a push service checks before it takes a push. Pure.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use serde::Deserialize;

use super::keys::MOST_BYTES;
use crate::server::header;

/// The longest life of a token, in seconds. [R: RFC 8292, 2]
const LONGEST_LIFE: u64 = 24 * 3_600;

/// Why a push is not taken: Mozilla's form. [numbers M]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: u16,
    pub(crate) errno: Option<u16>,
    pub(crate) message: &'static str,
}

const fn fault(code: u16, errno: u16, message: &'static str) -> Fault {
    Fault {
        code,
        errno: Some(errno),
        message,
    }
}

impl Fault {
    pub(crate) const GONE: Self = fault(410, 106, "the subscription is gone");
    pub(crate) const TOO_MANY: Self = Self {
        code: 429,
        errno: None,
        message: "too many pushes",
    };
    /// In FCM's words. [R: web-push issue 941]
    pub(crate) const OTHERS_KEY: Self = fault(
        403,
        109,
        "the VAPID credentials in the authorization header do not correspond to the credentials used \
         to create the subscriptions.",
    );
    pub(crate) const CANNOT_DECRYPT: Self = fault(400, 110, "the browser could not decrypt it");
    const TOO_LARGE: Self = fault(413, 104, "the body is longer than 4096 bytes");
    const NO_TTL: Self = fault(400, 112, "TTL is missing or no number");
    const TOPIC: Self = fault(400, 113, "Topic is not 1 to 32 characters of base64url");
    const ENCODING: Self = fault(400, 110, "Content-Encoding is not aes128gcm");
    const URGENCY: Self = fault(400, 111, "Urgency is not one of the four");
    const NO_TOKEN: Self = fault(401, 109, "Authorization is not vapid t=..., k=...");
    const SIGNATURE: Self = fault(401, 109, "the token's signature is wrong");
    const AUDIENCE: Self = fault(401, 109, "the token is for another origin");
    const EXPIRED: Self = fault(401, 109, "the token has expired");
    const TOO_LONG: Self = fault(403, 109, "the token lives longer than 24 hours");
    const SUBJECT: Self = fault(401, 109, "the token's sub is neither mailto: nor https:");

    /// A fault plan's.
    pub(crate) const fn scripted(code: u16) -> Self {
        Self {
            code,
            errno: None,
            message: "as the fault plan says",
        }
    }
}

/// A push that is well-formed and shows a valid token.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// Which subscription.
    pub(crate) id: &'a str,
    /// The application server's public key.
    pub(crate) key: String,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    exp: u64,
    #[serde(default)]
    sub: String,
}

impl<'a> Request<'a> {
    /// Checks everything that needs no key of the subscription; `now` in epoch seconds.
    pub(crate) fn read(parts: &'a Parts, body: &[u8], now: u64) -> Result<Self, Fault> {
        if body.len() > MOST_BYTES {
            return Err(Fault::TOO_LARGE);
        }
        let ttl = header(parts, "ttl");
        if ttl.is_empty() || !ttl.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Fault::NO_TTL);
        }
        if parts.headers.contains_key("topic") && !is_topic(header(parts, "topic")) {
            return Err(Fault::TOPIC);
        }
        let urgencies = ["very-low", "low", "normal", "high"];
        if parts.headers.contains_key("urgency") && !urgencies.contains(&header(parts, "urgency")) {
            return Err(Fault::URGENCY);
        }
        if header(parts, "content-encoding") != "aes128gcm" {
            return Err(Fault::ENCODING);
        }
        Ok(Self {
            id: parts.uri.path().strip_prefix("/push/").unwrap_or_default(),
            key: authorized(parts, now)?,
        })
    }
}

/// The public key that a valid token was made with.
fn authorized(parts: &Parts, now: u64) -> Result<String, Fault> {
    let shown = header(parts, "authorization")
        .strip_prefix("vapid ")
        .ok_or(Fault::NO_TOKEN)?;
    let part = |name: &str| {
        shown
            .split(',')
            .find_map(|part| part.trim().strip_prefix(name))
            .ok_or(Fault::NO_TOKEN)
    };
    let (token, key) = (part("t=")?, part("k=")?);
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| Fault::NO_TOKEN);
    let (signed, signature) = token.rsplit_once('.').ok_or(Fault::NO_TOKEN)?;
    let (head, claims) = signed.split_once('.').ok_or(Fault::NO_TOKEN)?;
    let head: Head = serde_json::from_slice(&decode(head)?).map_err(|_| Fault::NO_TOKEN)?;
    if head.alg != "ES256" {
        return Err(Fault::SIGNATURE);
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, decode(key)?)
        .verify(signed.as_bytes(), &decode(signature)?)
        .map_err(|_| Fault::SIGNATURE)?;
    let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| Fault::NO_TOKEN)?;
    let origin = claims.aud.split_once("://").map_or("", |(_, host)| host);
    let host = parts.uri.authority().map(http::uri::Authority::as_str);
    if origin != host.unwrap_or_else(|| header(parts, "host")) {
        return Err(Fault::AUDIENCE);
    }
    if claims.exp <= now {
        return Err(Fault::EXPIRED);
    }
    if claims.exp > now + LONGEST_LIFE {
        return Err(Fault::TOO_LONG);
    }
    if !claims.sub.starts_with("mailto:") && !claims.sub.starts_with("https://") {
        return Err(Fault::SUBJECT);
    }
    Ok(key.to_owned())
}

fn is_topic(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_760_000_000;

    fn token(head: &Value, claims: &Value) -> String {
        let made = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = made.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!(
            "vapid t={signed}.{}, k={}",
            URL_SAFE_NO_PAD.encode(signature),
            URL_SAFE_NO_PAD.encode(made.public_key())
        )
    }

    fn read(change: impl FnOnce(&mut Parts, &mut Value, &mut Vec<u8>)) -> Option<&'static str> {
        let request = http::Request::post("/push/7")
            .header("host", "push.example")
            .header("ttl", "60")
            .header("content-encoding", "aes128gcm")
            .header("topic", "a_b-C")
            .header("urgency", "high");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let mut claims =
            json!({"aud": "https://push.example", "exp": NOW + 60, "sub": "mailto:a@b"});
        let mut body = vec![0; 100];
        change(&mut parts, &mut claims, &mut body);
        if !parts.headers.contains_key("authorization") {
            let value = token(&json!({"alg": "ES256"}), &claims);
            parts
                .headers
                .insert("authorization", value.parse().unwrap());
        }
        Request::read(&parts, &body, NOW).err().map(|f| f.message)
    }

    #[test]
    fn a_good_push_is_taken_and_each_fault_is_named() {
        assert_eq!(read(|_, _, _| {}), None);
        let set = |name: &'static str, value: &str| {
            let value = value.to_owned();
            read(move |parts, _, _| {
                parts.headers.insert(name, value.parse().unwrap());
            })
        };
        let message = |fault: &Fault| Some(fault.message);
        assert_eq!(set("ttl", "soon"), message(&Fault::NO_TTL));
        assert_eq!(set("topic", "a b"), message(&Fault::TOPIC));
        assert_eq!(set("topic", &"x".repeat(33)), message(&Fault::TOPIC));
        assert_eq!(set("urgency", "now"), message(&Fault::URGENCY));
        assert_eq!(set("content-encoding", "gzip"), message(&Fault::ENCODING));
        assert_eq!(set("authorization", "Bearer x"), message(&Fault::NO_TOKEN));
        let none = token(&json!({"alg": "none"}), &json!({}));
        assert_eq!(set("authorization", &none), message(&Fault::SIGNATURE));
        let claim =
            |name: &'static str, value: Value| read(move |_, claims, _| claims[name] = value);
        assert_eq!(claim("aud", json!("https://x")), message(&Fault::AUDIENCE));
        assert_eq!(claim("exp", json!(NOW)), message(&Fault::EXPIRED));
        assert_eq!(claim("exp", json!(NOW + 86_401)), message(&Fault::TOO_LONG));
        assert_eq!(claim("sub", json!("x")), message(&Fault::SUBJECT));
        assert_eq!(
            read(|_, _, body| body.resize(4_097, 0)),
            message(&Fault::TOO_LARGE)
        );
    }

    #[test]
    fn a_changed_token_is_refused() {
        let good = token(
            &json!({"alg": "ES256"}),
            &json!({"aud": "https://push.example", "exp": NOW + 60, "sub": "mailto:a@b"}),
        );
        let other = token(&json!({"alg": "ES256"}), &json!({}));
        let (_, key) = other.split_once(", k=").unwrap();
        let (mine, _) = good.split_once(", k=").unwrap();
        let forged = format!("{mine}, k={key}");
        let told = read(move |parts, _, _| {
            let value = forged.parse().unwrap();
            parts.headers.insert("authorization", value);
        });
        assert_eq!(told, Some(Fault::SIGNATURE.message));
    }
}
