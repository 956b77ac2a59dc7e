//! A subscription's keys and the decryption a browser does with them (RFC 8291, RFC 8188).

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

const SALT: usize = 16;
/// The longest body a push service must take. [R: RFC 8030, 7.2]
pub(crate) const MOST_BYTES: usize = 4_096;

/// The keys of one subscription.
pub struct Keys {
    private: PrivateKey,
    public: Vec<u8>,
    auth: [u8; 16],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(***)")
    }
}

impl Keys {
    /// The keys of a subscription: the same for the same id. They protect nothing, for who knows the
    /// id knows them.
    ///
    /// # Panics
    /// When no number of 32 bytes in 256 were a private key, of which all but one in 2^32 are.
    #[must_use]
    pub fn of(id: &str) -> Self {
        let hash = |what: &str, turn: u8| -> [u8; 32] {
            Sha256::digest(format!("bongsu twin {what} {turn} {id}")).into()
        };
        let made = (0..=u8::MAX).find_map(|turn| {
            let private = PrivateKey::from_private_key(&ECDH_P256, &hash("key", turn)).ok()?;
            let public = private.compute_public_key().ok()?.as_ref().to_vec();
            Some((private, public))
        });
        #[expect(clippy::expect_used, reason = "all but one number in 2^32 are keys")]
        let (private, public) = made.expect("a private key");
        let mut auth = [0; 16];
        for (to, from) in auth.iter_mut().zip(hash("auth", 0)) {
            *to = from;
        }
        Self {
            private,
            public,
            auth,
        }
    }

    /// The public key as a browser writes it.
    #[must_use]
    pub fn p256dh(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.public)
    }

    /// The secret as a browser writes it.
    #[must_use]
    pub fn auth(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.auth)
    }

    /// The text of a body of one record; `None` when it was not made for this subscription or not as
    /// the standards say.
    #[must_use]
    pub fn decrypt(&self, body: &[u8]) -> Option<Vec<u8>> {
        let (salt, rest) = body.split_at_checked(SALT)?;
        let (size, rest) = rest.split_at_checked(4)?;
        let (length, rest) = rest.split_first()?;
        let (sender, record) = rest.split_at_checked(usize::from(*length))?;
        let size = u32::from_be_bytes(size.try_into().ok()?);
        // One record only: a longer one would need a second. [R: RFC 8291, 4]
        if size < 18 || record.len() > usize::try_from(size).ok()? {
            return None;
        }
        let theirs = UnparsedPublicKey::new(&ECDH_P256, sender);
        let shared: Vec<u8> = agree(&self.private, theirs, (), |s| Ok(s.to_vec())).ok()?;
        let mut info = b"WebPush: info\0".to_vec();
        info.extend_from_slice(&self.public);
        info.extend_from_slice(sender);
        let input = hkdf(&self.auth, &shared, &info);
        let key = hkdf(salt, &input, b"Content-Encoding: aes128gcm\0");
        let nonce = hkdf(salt, &input, b"Content-Encoding: nonce\0");
        let key = UnboundKey::new(&AES_128_GCM, key.get(..16)?).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(nonce.get(..12)?).ok()?;
        let mut record = record.to_vec();
        let text = LessSafeKey::new(key)
            .open_in_place(nonce, Aad::empty(), &mut record)
            .ok()?;
        // Padding of zeros, before it the delimiter of the last record.
        let end = text.iter().rposition(|byte| *byte != 0)?;
        (text.get(end) == Some(&2)).then(|| text.get(..end).map(<[u8]>::to_vec))?
    }
}

/// HKDF's first 32 bytes, by hand from HMAC: written otherwise than in the channel, so that the two
/// cannot be wrong in the same way. [R: RFC 5869, 2]
fn hkdf(salt: &[u8], secret: &[u8], info: &[u8]) -> Vec<u8> {
    let extracted = sign(&Key::new(HMAC_SHA256, salt), secret);
    let mut block = info.to_vec();
    block.push(1);
    sign(&Key::new(HMAC_SHA256, extracted.as_ref()), &block)
        .as_ref()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    /// RFC 8291, 5.
    fn example() -> (Keys, Vec<u8>) {
        let private = bytes("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94");
        let private = PrivateKey::from_private_key(&ECDH_P256, &private).unwrap();
        let public = private.compute_public_key().unwrap().as_ref().to_vec();
        let auth = bytes("BTBZMqHH6r4Tts7J_aSIgg").try_into().unwrap();
        let body = bytes(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIg\
             Dll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2K\
             s3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        );
        let keys = Keys {
            private,
            public,
            auth,
        };
        (keys, body)
    }

    #[test]
    fn the_example_of_the_standard_is_read() {
        let (keys, body) = example();
        assert_eq!(
            keys.decrypt(&body).unwrap(),
            b"When I grow up, I want to be a watermelon"
        );
    }

    #[test]
    fn every_broken_body_is_refused() {
        let (keys, body) = example();
        for n in 0..body.len() {
            assert_eq!(keys.decrypt(&body[..n]), None, "{n}");
            let mut changed = body.clone();
            changed[n] ^= 0x40;
            // The record size is no part of what is encrypted; a larger one says the same.
            if !(16..20).contains(&n) {
                assert_eq!(keys.decrypt(&changed), None, "{n}");
            }
        }
        assert_eq!(Keys::of("1").decrypt(&body), None);
    }

    #[test]
    fn an_id_always_has_the_same_keys() {
        assert_eq!(Keys::of("1").p256dh(), Keys::of("1").p256dh());
        assert_ne!(Keys::of("1").p256dh(), Keys::of("2").p256dh());
        assert_ne!(Keys::of("1").auth(), Keys::of("2").auth());
    }
}
