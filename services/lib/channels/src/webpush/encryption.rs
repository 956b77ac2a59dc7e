//! The encryption of a push (RFC 8291 over RFC 8188, `aes128gcm`): one record, one fresh key pair.
//!
//! Made of aws-lc-rs's ECDH, HKDF and AES-GCM, which TLS here uses as well; docs/channels/webpush.md says why
//! not by one of the libraries. Pure but for the randomness of salt and key pair.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::rand;
use bongsu_domain::Subscription;
use bongsu_domain::subscription::POINT_BYTES;
use thiserror::Error;

/// Bytes of the salt that begins a body. [R: RFC 8188, 2.1]
const SALT_BYTES: usize = 16;
/// What a body says its records are long: more than it has, so that there is one. [R: RFC 8291, 4]
const RECORD_BYTES: u32 = 4_096;
/// Bytes before the ciphertext: salt, record size, length of the key and the key.
pub const HEAD_BYTES: usize = SALT_BYTES + 4 + 1 + POINT_BYTES;
/// Bytes that encryption adds: the head, the delimiter of the last record, the tag.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + 1 + 16;
/// Ends the last record. [R: RFC 8188, 2]
const DELIMITER: u8 = 2;

/// The subscription's key is no point on the curve: nothing can ever be encrypted for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the subscription's p256dh lies not on P-256")]
pub struct BadKey;

/// Encrypts for a subscription, with a new key pair and salt.
///
/// # Errors
/// [`BadKey`].
pub fn encrypt(subscription: &Subscription, text: &[u8]) -> Result<Vec<u8>, BadKey> {
    let mut salt = [0; SALT_BYTES];
    rand::fill(&mut salt).map_err(|_| BadKey)?;
    let own = PrivateKey::generate(&ECDH_P256).map_err(|_| BadKey)?;
    seal(&own, salt, subscription, text)
}

fn seal(
    own: &PrivateKey,
    salt: [u8; SALT_BYTES],
    subscription: &Subscription,
    text: &[u8],
) -> Result<Vec<u8>, BadKey> {
    let public = own.compute_public_key().map_err(|_| BadKey)?;
    let public = public.as_ref();
    let theirs = UnparsedPublicKey::new(&ECDH_P256, &subscription.p256dh);
    let keys = agree(own, theirs, BadKey, |shared| {
        let info = [b"WebPush: info\0".as_slice(), &subscription.p256dh, public];
        let input: [u8; 32] = derive(&subscription.auth, shared, &info)?;
        let key: [u8; 16] = derive(&salt, &input, &[b"Content-Encoding: aes128gcm\0"])?;
        let nonce: [u8; 12] = derive(&salt, &input, &[b"Content-Encoding: nonce\0"])?;
        Ok((key, nonce))
    })?;
    let mut record = Vec::with_capacity(text.len() + OVERHEAD_BYTES);
    record.extend_from_slice(text);
    record.push(DELIMITER);
    let key = UnboundKey::new(&AES_128_GCM, &keys.0).map_err(|_| BadKey)?;
    LessSafeKey::new(key)
        .seal_in_place_append_tag(
            // The key is used once.
            Nonce::assume_unique_for_key(keys.1),
            Aad::empty(),
            &mut record,
        )
        .map_err(|_| BadKey)?;
    let mut body = Vec::with_capacity(HEAD_BYTES + record.len());
    body.extend_from_slice(&salt);
    body.extend_from_slice(&RECORD_BYTES.to_be_bytes());
    body.push(u8::try_from(public.len()).unwrap_or(0));
    body.extend_from_slice(public);
    body.extend_from_slice(&record);
    Ok(body)
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF with SHA-256: extract with `salt`, expand with `info`.
fn derive<const N: usize>(salt: &[u8], secret: &[u8], info: &[&[u8]]) -> Result<[u8; N], BadKey> {
    let mut out = [0; N];
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, Length(N))
        .and_then(|okm| okm.fill(&mut out))
        .map_err(|_| BadKey)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    fn subscription() -> Subscription {
        Subscription {
            endpoint: "https://push.example.net/push/x".parse().unwrap(),
            p256dh: bytes("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4")
                .try_into()
                .unwrap(),
            auth: bytes("BTBZMqHH6r4Tts7J_aSIgg").try_into().unwrap(),
        }
    }

    /// RFC 8291, 5: byte for byte.
    #[test]
    fn the_example_of_the_standard_comes_out() {
        let own = bytes("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw");
        let own = PrivateKey::from_private_key(&ECDH_P256, &own).unwrap();
        let salt = bytes("DGv6ra1nlYgDCS1FRnbzlw").try_into().unwrap();
        let text = b"When I grow up, I want to be a watermelon";
        let body = seal(&own, salt, &subscription(), text).unwrap();
        assert_eq!(
            URL_SAFE_NO_PAD.encode(&body),
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIg\
             Dll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2K\
             s3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
        );
        assert_eq!(body.len(), text.len() + OVERHEAD_BYTES);
    }

    #[test]
    fn no_two_bodies_are_alike_and_a_bad_point_is_told() {
        let mut subscription = subscription();
        let one = encrypt(&subscription, b"x").unwrap();
        assert_ne!(one, encrypt(&subscription, b"x").unwrap());
        subscription.p256dh[64] ^= 1;
        assert_eq!(encrypt(&subscription, b"x"), Err(BadKey));
    }
}
