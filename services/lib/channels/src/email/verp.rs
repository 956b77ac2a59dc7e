//! Our reference as a return path (VERP): `bounces+<reference>@example.com`. Pure.
//!
//! A bounce is sent to the return path of the mail it is about, whatever else it says. The reference
//! of `bongsu_domain::reference` is too long for a local part, so its parts are packed into 28 bytes
//! and written in base32: digits and lower-case letters, because some servers change the case.

use bongsu_domain::reference::NotOurs;
use bongsu_domain::{Channel, Class, Reference, ReferenceKey};

/// Bytes of a local part at most. [R: RFC 5321, 4.5.3.1.1]
pub const LOCAL_BYTES: usize = 64;
/// Characters of a packed reference.
pub const TOKEN_CHARACTERS: usize = (BYTES * 8).div_ceil(5);

/// Class and partition, delivery, mac.
const BYTES: usize = 4 + 16 + 8;
/// The highest bit of the first four bytes: bulk.
const BULK: u32 = 1 << 31;
/// RFC 4648's alphabet in lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Packs a reference.
#[must_use]
pub fn write(key: &ReferenceKey, reference: &Reference) -> String {
    let text = key.write(reference);
    // Hexadecimal digits of the mac, as `ReferenceKey::write` ends.
    let mac = text.rsplit('.').next().unwrap_or_default();
    let mac = u64::from_str_radix(mac, 16).unwrap_or(0);
    let class = match reference.class {
        Class::Transactional => 0,
        Class::Bulk => BULK,
    };
    let place = class | (reference.partition.unsigned_abs() & !BULK);
    let mut bytes = [0; BYTES];
    let parts = place
        .to_be_bytes()
        .into_iter()
        .chain(*reference.delivery.0.as_bytes())
        .chain(mac.to_be_bytes());
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = from;
    }
    encode(&bytes)
}

/// Reads a packed reference and checks its mac.
///
/// # Errors
/// [`NotOurs`].
pub fn read(key: &ReferenceKey, token: &str) -> Result<Reference, NotOurs> {
    let bytes = decode(token).ok_or(NotOurs::Foreign)?;
    let (place, rest) = bytes.split_at(4);
    let (delivery, mac) = rest.split_at(16);
    let place = u32::from_be_bytes(place.try_into().map_err(|_| NotOurs::Foreign)?);
    let class = if place & BULK == 0 {
        Class::Transactional
    } else {
        Class::Bulk
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    key.read(&format!(
        "b1.{}.{class}.{}.{}.{}",
        Channel::Email,
        place & !BULK,
        hex(delivery),
        hex(mac)
    ))
}

/// The reference in an address at one of our return paths, if it is one: what follows the last `+`
/// before the `@`.
#[must_use]
pub fn token_of(address: &str) -> Option<&str> {
    let (local, _) = address.rsplit_once('@')?;
    let (_, token) = local.rsplit_once('+')?;
    (token.len() == TOKEN_CHARACTERS).then_some(token)
}

fn encode(bytes: &[u8; BYTES]) -> String {
    let mut text = String::with_capacity(TOKEN_CHARACTERS);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes.iter().copied().map(Some).chain([None]) {
        match byte {
            Some(byte) => {
                held = (held << 8) | u32::from(byte);
                bits += 8;
            }
            // The last character is filled with zeros.
            None if bits > 0 => {
                held <<= 5 - bits;
                bits = 5;
            }
            None => {}
        }
        while bits >= 5 {
            bits -= 5;
            let at = (held >> bits) & 31;
            text.push(char::from(ALPHABET[at as usize]));
        }
    }
    text
}

fn decode(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != TOKEN_CHARACTERS {
        return None;
    }
    let mut bytes = [0; BYTES];
    let mut slots = bytes.iter_mut();
    let (mut held, mut bits) = (0_u32, 0);
    for c in text.bytes() {
        let c = c.to_ascii_lowercase();
        let at = ALPHABET.iter().position(|known| *known == c)?;
        held = (held << 5) | u32::try_from(at).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *slots.next()? = u8::try_from((held >> bits) & 0xff).ok()?;
        }
    }
    // What fills the last character is zero, so that every reference has one text.
    (held & ((1 << bits) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use bongsu_domain::DeliveryId;
    use proptest::prelude::*;

    use super::*;

    fn key() -> ReferenceKey {
        ReferenceKey::new("0123456789abcdef").unwrap()
    }

    fn reference(partition: i32, delivery: u128, class: Class) -> Reference {
        let text = format!("{delivery:032x}");
        Reference {
            channel: Channel::Email,
            class,
            partition,
            delivery: DeliveryId::parse(&text).unwrap(),
        }
    }

    #[test]
    fn the_form_is_pinned_and_fits_a_local_part() {
        // Mails on their way carry it: a change would lose their bounces.
        let token = write(&key(), &reference(31, 7, Class::Bulk));
        assert_eq!(token.len(), TOKEN_CHARACTERS);
        assert!(
            token.starts_with("qaaaahyaaaaaaaaaaaaaaaaaaaaaaaah"),
            "{token}"
        );
        assert!("bounces+".len() + token.len() <= LOCAL_BYTES);
        let address = format!("bounces+{token}@example.com");
        assert_eq!(token_of(&address), Some(token.as_str()));
        for none in ["bounces@example.com", "a+b@example.com", "a+b", ""] {
            assert_eq!(token_of(none), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_in_any_case_and_no_changed_character_passes(
            partition in 0..i32::MAX,
            delivery in any::<u128>(),
            bulk in any::<bool>(),
            at in 0..TOKEN_CHARACTERS,
        ) {
            let class = if bulk { Class::Bulk } else { Class::Transactional };
            let reference = reference(partition, delivery, class);
            let token = write(&key(), &reference);
            prop_assert_eq!(read(&key(), &token), Ok(reference));
            prop_assert_eq!(read(&key(), &token.to_uppercase()), Ok(reference));
            let mut bytes = token.into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(bytes).unwrap();
            prop_assert!(read(&key(), &changed).is_err());
        }

        #[test]
        fn no_text_is_taken_for_a_reference(text in ".{0,60}") {
            prop_assert!(read(&key(), &text).is_err());
        }
    }
}
