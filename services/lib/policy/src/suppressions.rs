//! What must not be sent to, as fanout and dispatch hold it: 24 bytes an address (about 45 MB a
//! million in the map that keeps them), and no address.

use std::collections::HashMap;

use bongsu_domain::{Address, AddressKey, Hold, Reason, Suppression, Timestamp};

use crate::hashing::ByHash;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    alive_after: Option<Timestamp>,
    reason: Reason,
}

/// Every suppression in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suppressions {
    kept: HashMap<u64, Kept, ByHash>,
}

impl Suppressions {
    /// Takes the next record of the log; the last one on an address stands.
    pub fn apply(&mut self, suppression: &Suppression) {
        let key = suppression.key();
        match suppression.hold {
            Hold::Suspected => self.forget(key),
            Hold::Suppressed => {
                let kept = Kept {
                    alive_after: suppression.alive_after(),
                    reason: suppression.reason,
                };
                self.kept.insert(key.0, kept);
            }
        }
    }

    /// Ends the suppression of an address.
    pub fn forget(&mut self, key: AddressKey) {
        self.kept.remove(&key.0);
    }

    /// Why nothing may be sent to an address; none when it may. A hash of the address, and nothing at
    /// all while nothing is suppressed.
    #[must_use]
    pub fn decide(&self, address: &Address) -> Option<Reason> {
        if self.kept.is_empty() {
            return None;
        }
        let kept = self.kept.get(&AddressKey::of(address).0)?;
        let alive = kept
            .alive_after
            .zip(address.registered_at)
            .is_some_and(|(after, registered)| registered > after);
        (!alive).then_some(kept.reason)
    }

    /// How many addresses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
