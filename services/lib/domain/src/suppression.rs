//! Suppressions: stored reasons not to send to an address.
//!
//! The key is a hash, so that who reads them all keeps no addresses and few bytes each.

use std::fmt;

use crate::channel::{Channel, vocabulary};
use crate::delivery::Address;
use crate::identity::hash64;
use crate::outcome::Reason;
use crate::time::Timestamp;

vocabulary!(
    /// What is held of an address.
    Hold, "hold", {
        /// Doubtful verdicts are counted; it is still sent to.
        Suspected = "suspected",
        /// Nothing is sent to it.
        Suppressed = "suppressed",
    }
);

/// Who writes suppressions from verdicts of providers; any other name is a person's or program's.
pub const BY_HYGIENE: &str = "hygiene";

/// Who writes suppressions from complaints of readers: like a person's word, for they are one's, they
/// hold for every version of the address and end by hand alone.
pub const BY_COMPLAINT: &str = "complaint";

/// An address of one account of one channel, hashed; the key of its suppression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressKey(pub u64);

impl AddressKey {
    /// The key of an address by its stable id.
    #[must_use]
    pub fn new(channel: Channel, account: &str, address_id: &str) -> Self {
        let parts = [
            channel.as_str().as_bytes(),
            account.as_bytes(),
            address_id.as_bytes(),
        ];
        Self(hash64(&parts))
    }

    /// The key of an address.
    #[must_use]
    pub fn of(address: &Address) -> Self {
        Self::new(address.channel, &address.account, &address.id.0)
    }

    /// Reads 16 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let whole = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        whole.then(|| u64::from_str_radix(text, 16).ok().map(Self))?
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Why nothing is sent to an address, or what is suspected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// Its channel.
    pub channel: Channel,
    /// The account that would send.
    pub account: String,
    /// The address's stable id; never the address itself.
    pub address_id: String,
    /// The publisher's app.
    pub app: Option<String>,
    /// Whether it is sent to.
    pub hold: Hold,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub at: Timestamp,
    /// When the version of the address was registered that the verdict is about.
    pub registered_at: Option<Timestamp>,
    /// Verdicts so far.
    pub verdicts: u32,
    /// When the first verdict came.
    pub first_at: Timestamp,
    /// [`BY_HYGIENE`], [`BY_COMPLAINT`], or who asked for it.
    pub by: String,
    /// In the words of who asked for it.
    pub why: Option<String>,
}

impl Suppression {
    /// The key of its record.
    #[must_use]
    pub fn key(&self) -> AddressKey {
        AddressKey::new(self.channel, &self.account, &self.address_id)
    }

    /// A version of the address registered after this moment is another one, and alive; none when it
    /// holds for every version, as a person's word does.
    #[must_use]
    pub fn alive_after(&self) -> Option<Timestamp> {
        (self.by == BY_HYGIENE).then(|| self.registered_at.unwrap_or(self.at))
    }

    /// Whether it is about the version of the address that was registered at this moment.
    #[must_use]
    pub fn is_about(&self, registered_at: Option<Timestamp>) -> bool {
        match (self.alive_after(), registered_at) {
            (Some(after), Some(registered)) => registered <= after,
            (None, _) | (Some(_), None) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_tell_accounts_apart() {
        let key = AddressKey::new(Channel::Apns, "shop", "a-1");
        assert_eq!(AddressKey::parse(&key.to_string()), Some(key));
        assert_ne!(key, AddressKey::new(Channel::Apns, "other", "a-1"));
        for text in ["", "+00000000000000a", "00000000000000", "zz00000000000000"] {
            assert_eq!(AddressKey::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_later_registration_is_alive_unless_a_person_said_no() {
        let mut suppression = Suppression {
            channel: Channel::Apns,
            account: "shop".into(),
            address_id: "a-1".into(),
            app: None,
            hold: Hold::Suppressed,
            reason: Reason::InvalidAddress,
            at: Timestamp(100),
            registered_at: Some(Timestamp(40)),
            verdicts: 1,
            first_at: Timestamp(100),
            by: BY_HYGIENE.into(),
            why: None,
        };
        assert!(suppression.is_about(Some(Timestamp(40))));
        assert!(!suppression.is_about(Some(Timestamp(41))));
        assert!(suppression.is_about(None));
        suppression.registered_at = None;
        assert!(suppression.is_about(Some(Timestamp(100))));
        assert!(!suppression.is_about(Some(Timestamp(101))));
        suppression.by = "ann".into();
        assert!(suppression.is_about(Some(Timestamp(101))));
    }
}
