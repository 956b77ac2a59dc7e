//! What a careful receiver checks of a request: signature, age, credential, form. Pure.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use http::request::Parts;
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::Sha256;

use super::plan::{Form, Key, Plan};
use crate::server::header;

/// How far a timestamp may be away, in seconds. [R: Standard Webhooks' reference library, 2026-08]
const TOLERANCE: u64 = 300;

/// Why a request is not taken: a status and a word.
pub(super) type Fault = (u16, &'static str);

/// Checks a request that was read at `now_us`; `token` is whether its bearer token was given by the
/// twin and still lives.
pub(super) fn check(
    plan: &Plan,
    parts: &Parts,
    body: &[u8],
    now_us: u64,
    token: bool,
) -> Result<(), Fault> {
    if !plan.authorization.is_empty() || plan.oauth.is_some() {
        let shown = header(parts, "authorization");
        if !token && !plan.authorization.iter().any(|known| known == shown) {
            return Err((401, "no known credential"));
        }
    }
    if !plan.keys.is_empty() {
        check_signature(plan, parts, body, now_us)?;
    }
    match plan.form {
        None => Ok(()),
        Some(Form::Standard) => check_standard(parts, body),
        Some(Form::CloudeventsStructured) => check_structured(parts, body),
        Some(Form::CloudeventsBinary) => check_binary(parts, body),
    }
}

fn check_signature(plan: &Plan, parts: &Parts, body: &[u8], now_us: u64) -> Result<(), Fault> {
    let (id, at) = (
        header(parts, "webhook-id"),
        header(parts, "webhook-timestamp"),
    );
    if id.is_empty() || id.contains('.') {
        return Err((400, "webhook-id"));
    }
    let seconds: u64 = at.parse().map_err(|_| (400, "webhook-timestamp"))?;
    if seconds.abs_diff(now_us / 1_000_000) > TOLERANCE {
        return Err((401, "webhook-timestamp is too far away"));
    }
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", body].concat();
    let keys: Vec<Key> = plan.keys.iter().filter_map(|key| Key::read(key)).collect();
    let listed = header(parts, "webhook-signature").split(' ');
    let known = listed
        .filter_map(|one| one.split_once(','))
        .any(|(version, signature)| {
            let Ok(signature) = STANDARD.decode(signature) else {
                return false;
            };
            keys.iter()
                .any(|key| verifies(key, version, &signed, &signature))
        });
    if known {
        Ok(())
    } else {
        Err((401, "no known signature"))
    }
}

fn verifies(key: &Key, version: &str, signed: &[u8], signature: &[u8]) -> bool {
    match (key, version) {
        (Key::Symmetric(secret), "v1") => {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
                return false;
            };
            mac.update(signed);
            mac.verify_slice(signature).is_ok()
        }
        (Key::Public(public), "v1a") => UnparsedPublicKey::new(&ED25519, public)
            .verify(signed, signature)
            .is_ok(),
        _ => false,
    }
}

fn check_standard(parts: &Parts, body: &[u8]) -> Result<(), Fault> {
    if header(parts, "content-type") != "application/json" {
        return Err((415, "content-type"));
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| (400, "no JSON"))?;
    for name in ["type", "timestamp"] {
        if !body.get(name).is_some_and(Value::is_string) {
            return Err((400, "type or timestamp"));
        }
    }
    if body.get("data").is_none() {
        return Err((400, "data"));
    }
    Ok(())
}

fn check_structured(parts: &Parts, body: &[u8]) -> Result<(), Fault> {
    if !header(parts, "content-type").starts_with("application/cloudevents+json") {
        return Err((415, "content-type"));
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| (400, "no JSON"))?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    required(
        text("specversion"),
        text("id"),
        text("source"),
        text("type"),
    )?;
    let names = body.as_object().into_iter().flatten();
    if names.map(|(name, _)| name).all(|name| is_attribute(name)) {
        Ok(())
    } else {
        Err((400, "an attribute's name"))
    }
}

fn check_binary(parts: &Parts, body: &[u8]) -> Result<(), Fault> {
    let text = |name: &str| header(parts, name);
    required(
        text("ce-specversion"),
        text("ce-id"),
        text("ce-source"),
        text("ce-type"),
    )?;
    let attributes = parts.headers.iter().filter_map(|(name, value)| {
        Some((
            name.as_str().strip_prefix("ce-")?,
            value.to_str().unwrap_or(" "),
        ))
    });
    for (name, value) in attributes {
        // Encoded: no space, no quote, nothing outside of visible ASCII.
        let plain = value
            .bytes()
            .all(|b| (0x21..=0x7e).contains(&b) && b != b'"');
        if !is_attribute(name) || !plain {
            return Err((400, "an attribute"));
        }
    }
    if text("content-type") == "application/json" {
        let IgnoredAny = serde_json::from_slice(body).map_err(|_| (400, "no JSON"))?;
    }
    Ok(())
}

/// The required attributes. [R: CloudEvents 1.0, 2026-08]
fn required(version: &str, id: &str, source: &str, r#type: &str) -> Result<(), Fault> {
    if version != "1.0" {
        return Err((400, "specversion"));
    }
    if id.is_empty() || source.is_empty() || r#type.is_empty() {
        return Err((400, "id, source or type"));
    }
    Ok(())
}

/// Lower-case letters and digits only.
fn is_attribute(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
