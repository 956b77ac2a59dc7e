//! Our reference in a provider's hands: what brings a report back to its delivery without asking a
//! database.
//!
//! `b1.<channel>.<class>.<partition>.<delivery id>.<mac>`: the partition is where the delivery's
//! receipts lie, the delivery id 32 hexadecimal digits, the mac the first 8 bytes of HMAC-SHA256
//! under a secret of the account over all that stands before it. A report is mostly not signed as a
//! whole, so the mac is what keeps a stranger from settling deliveries he can only guess.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use thiserror::Error;
use uuid::Uuid;

use crate::channel::{Channel, Class};
use crate::identity::DeliveryId;

/// What every reference of this form begins with.
const VERSION: &str = "b1";
/// Bytes of the mac that are written.
const MAC_BYTES: usize = 8;
/// A shorter secret can be guessed.
pub const SECRET_BYTES: usize = 16;

/// What a reference says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// The delivery's channel.
    pub channel: Channel,
    /// Its class; with the channel, the topic it came from.
    pub class: Class,
    /// Its partition, and that of its receipts.
    pub partition: i32,
    /// Which delivery.
    pub delivery: DeliveryId,
}

/// A text is no reference of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotOurs {
    /// It does not have the form.
    #[error("it is no reference of this installation")]
    Foreign,
    /// It has the form, but its mac was not made with this secret.
    #[error("its check sum is wrong")]
    Forged,
}

/// The secret that makes and checks references, ready for use.
#[derive(Clone)]
pub struct ReferenceKey(Hmac<Sha256>);

impl std::fmt::Debug for ReferenceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReferenceKey(***)")
    }
}

impl ReferenceKey {
    /// Takes a secret of at least [`SECRET_BYTES`]; `None` for a shorter one.
    #[must_use]
    pub fn new(secret: &str) -> Option<Self> {
        (secret.len() >= SECRET_BYTES)
            .then(|| Hmac::new_from_slice(secret.as_bytes()).ok())?
            .map(Self)
    }

    /// Writes a reference: at most 80 ASCII characters.
    #[must_use]
    pub fn write(&self, reference: &Reference) -> String {
        let said = format!(
            "{VERSION}.{}.{}.{}.{}",
            reference.channel,
            reference.class,
            reference.partition,
            reference.delivery.0.simple()
        );
        let mac = self.0.clone().chain_update(said.as_bytes()).finalize();
        let mac: String = mac
            .into_bytes()
            .iter()
            .take(MAC_BYTES)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{said}.{mac}")
    }

    /// Reads a reference and checks its mac in constant time.
    ///
    /// # Errors
    /// [`NotOurs`].
    pub fn read(&self, text: &str) -> Result<Reference, NotOurs> {
        let (said, mac) = text.rsplit_once('.').ok_or(NotOurs::Foreign)?;
        let reference = parse(said).ok_or(NotOurs::Foreign)?;
        let mac = bytes_of(mac).ok_or(NotOurs::Foreign)?;
        self.0
            .clone()
            .chain_update(said.as_bytes())
            .verify_truncated_left(&mac)
            .map_err(|_| NotOurs::Forged)?;
        Ok(reference)
    }
}

fn parse(said: &str) -> Option<Reference> {
    let mut parts = said.split('.');
    let (version, channel, class) = (parts.next()?, parts.next()?, parts.next()?);
    let (partition, delivery) = (parts.next()?, parts.next()?);
    if version != VERSION || parts.next().is_some() {
        return None;
    }
    let partition: i32 = partition.parse().ok()?;
    (partition >= 0).then_some(Reference {
        channel: Channel::parse(channel).ok()?,
        class: Class::parse(class).ok()?,
        partition,
        delivery: DeliveryId(Uuid::try_parse(delivery).ok()?),
    })
}

/// Exactly [`MAC_BYTES`] from hexadecimal digits: a shorter mac would be easier to guess.
fn bytes_of(hex: &str) -> Option<[u8; MAC_BYTES]> {
    if hex.len() != MAC_BYTES * 2 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(hex, 16).ok().map(u64::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(secret: &str) -> ReferenceKey {
        ReferenceKey::new(secret).unwrap()
    }

    fn reference(partition: i32, delivery: u128) -> Reference {
        Reference {
            channel: Channel::Discord,
            class: Class::Bulk,
            partition,
            delivery: DeliveryId(Uuid::from_u128(delivery)),
        }
    }

    #[test]
    fn the_form_is_pinned() {
        // Deliveries on their way carry it: a change would lose their reports.
        assert_eq!(
            key("0123456789abcdef").write(&reference(31, 7)),
            "b1.discord.bulk.31.00000000000000000000000000000007.2ca463fcf379745f"
        );
    }

    #[test]
    fn another_secret_or_form_is_not_ours() {
        let text = key("0123456789abcdef").write(&reference(31, 7));
        assert_eq!(key("0123456789abcdeF").read(&text), Err(NotOurs::Forged));
        let short = text.rsplit_once('.').unwrap().0;
        for foreign in [
            "",
            "order-17",
            short,
            &format!("{short}.00"),
            &format!("{text}.1"),
        ] {
            let read = key("0123456789abcdef").read(foreign);
            assert_eq!(read, Err(NotOurs::Foreign), "{foreign}");
        }
        assert!(ReferenceKey::new("short").is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_and_no_changed_character_passes(
            partition in 0..i32::MAX,
            delivery in any::<u128>(),
            at in 0_usize..80,
        ) {
            let key = key("a secret of this account");
            let reference = reference(partition, delivery);
            let text = key.write(&reference);
            prop_assert!(text.len() <= 80);
            prop_assert_eq!(key.read(&text), Ok(reference));
            let mut bytes = text.into_bytes();
            let at = at % bytes.len();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).unwrap();
            prop_assert!(key.read(&changed).is_err(), "{changed}");
        }
    }
}
