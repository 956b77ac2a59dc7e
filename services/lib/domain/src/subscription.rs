//! A browser's push subscription: where a push service takes messages for it, and with which keys
//! they are encrypted.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use thiserror::Error;
use url::Url;

/// Bytes of an uncompressed point on P-256: what `p256dh` is. [R: RFC 8291, 3.1]
pub const POINT_BYTES: usize = 65;
/// Bytes of the authentication secret. [R: RFC 8291, 3.2]
pub const AUTH_BYTES: usize = 16;
/// Bytes of a subscription's JSON at most. Endpoints of a few hundred bytes are usual.
pub const SUBSCRIPTION_BYTES: usize = 4_096;

/// What a point begins with that is not compressed.
const UNCOMPRESSED: u8 = 4;

const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a text is no subscription. Never holds the text: who has it can push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SubscriptionError {
    /// No JSON of that form.
    #[error(
        "is no push subscription; write what PushSubscription.toJSON() gives: \
         {{\"endpoint\":…,\"keys\":{{\"p256dh\":…,\"auth\":…}}}}"
    )]
    Form,
    /// The endpoint does not parse.
    #[error("has an endpoint that is no URL")]
    Endpoint,
    /// The point is none.
    #[error("has a p256dh that is no uncompressed point of P-256 (65 bytes in base64url)")]
    Point,
    /// The secret is too short or too long.
    #[error("has an auth that is not 16 bytes in base64url")]
    Auth,
}

/// A subscription. `Debug` hides all of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Where the push service takes messages; its path is a secret.
    pub endpoint: Url,
    /// The browser's public key.
    pub p256dh: [u8; POINT_BYTES],
    /// The secret shared with the browser.
    pub auth: [u8; AUTH_BYTES],
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscription(***)")
    }
}

#[derive(Deserialize)]
struct Written {
    endpoint: String,
    keys: Keys,
}

#[derive(Deserialize)]
struct Keys {
    p256dh: String,
    auth: String,
}

impl Subscription {
    /// Reads what a browser's `PushSubscription.toJSON()` gives. Members of other names, such as
    /// `expirationTime`, are ignored. Whether the endpoint may be called is
    /// [`check_url`](crate::target::check_url)'s to say, and whether the point lies on the curve is
    /// seen when something is encrypted.
    ///
    /// # Errors
    /// [`SubscriptionError`].
    pub fn parse(text: &str) -> Result<Self, SubscriptionError> {
        let text = text.trim();
        if text.len() > SUBSCRIPTION_BYTES {
            return Err(SubscriptionError::Form);
        }
        let written: Written = serde_json::from_str(text).map_err(|_| SubscriptionError::Form)?;
        let endpoint = Url::parse(&written.endpoint).map_err(|_| SubscriptionError::Endpoint)?;
        let p256dh: [u8; POINT_BYTES] =
            exactly(&written.keys.p256dh).ok_or(SubscriptionError::Point)?;
        if p256dh[0] != UNCOMPRESSED {
            return Err(SubscriptionError::Point);
        }
        Ok(Self {
            endpoint,
            p256dh,
            auth: exactly(&written.keys.auth).ok_or(SubscriptionError::Auth)?,
        })
    }

    /// As a browser writes it.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "endpoint": self.endpoint.as_str(),
            "keys": {
                "p256dh": BASE64URL.encode(self.p256dh).trim_end_matches('='),
                "auth": BASE64URL.encode(self.auth).trim_end_matches('='),
            }
        })
        .to_string()
    }
}

/// Some libraries write the standard alphabet or padding; both are read.
fn exactly<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text: String = text
        .chars()
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            other => other,
        })
        .collect();
    BASE64URL.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 8291, 5.
    const EXAMPLE: &str = r#"{"endpoint":"https://push.example.net/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV",
        "expirationTime":null,"keys":{"auth":"BTBZMqHH6r4Tts7J_aSIgg",
        "p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"}}"#;

    #[test]
    fn a_browsers_json_is_read_written_and_hidden() {
        let read = Subscription::parse(EXAMPLE).unwrap();
        assert_eq!(read.endpoint.host_str(), Some("push.example.net"));
        assert_eq!((read.p256dh[0], read.auth[0]), (4, 5));
        assert_eq!(Subscription::parse(&read.to_json()), Ok(read.clone()));
        let standard = EXAMPLE.replace('_', "/").replace("Igg\"", "Igg==\"");
        assert_eq!(Subscription::parse(&standard), Ok(read.clone()));
        assert_eq!(format!("{read:?}"), "Subscription(***)");
    }

    #[test]
    fn what_is_no_subscription_is_told_without_its_text() {
        let long = format!("{{\"x\":\"{}\"}}", "y".repeat(SUBSCRIPTION_BYTES));
        for (text, error) in [
            ("https://push.example.net/push/x", SubscriptionError::Form),
            (long.as_str(), SubscriptionError::Form),
            (
                &EXAMPLE.replace("https://push", "push"),
                SubscriptionError::Endpoint,
            ),
            (&EXAMPLE.replace("\"BCV", "\"ACV"), SubscriptionError::Point),
            (&EXAMPLE.replace("\"BTBZ", "\"BT"), SubscriptionError::Auth),
        ] {
            assert_eq!(Subscription::parse(text), Err(error));
            assert!(!error.to_string().contains("example.net"));
        }
    }
}
