//! Event ids the gateway gives where a publisher gave none.

use std::sync::atomic::{AtomicU64, Ordering};

use bongsu_domain::identity::digest;
use uuid::Uuid;

/// Makes version 7 UUIDs from the injected clock and a seed, so that a simulation repeats itself.
#[derive(Debug)]
pub struct Ids {
    seed: [u8; 16],
    next: AtomicU64,
}

impl Ids {
    /// Seeded by the system's randomness.
    #[must_use]
    pub fn random() -> Self {
        Self::seeded(*Uuid::new_v4().as_bytes())
    }

    /// Always the same sequence.
    #[must_use]
    pub const fn seeded(seed: [u8; 16]) -> Self {
        Self {
            seed,
            next: AtomicU64::new(0),
        }
    }

    /// A fresh version 7 UUID of the moment `now_millis`.
    #[must_use]
    pub fn fresh(&self, now_millis: i64) -> Uuid {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let hash = digest(&[&self.seed, &number.to_be_bytes()]);
        let mut random = [0; 10];
        random.copy_from_slice(hash.split_at(10).0);
        let millis = u64::try_from(now_millis).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

/// The id of event number `index` (from 0) of a request with an `Idempotency-Key`: the same for
/// every repeat of the request by the same API key. Pinned: a change makes repeats look new.
#[must_use]
pub fn derived(api_key_id: &str, idempotency_key: &str, index: usize) -> Uuid {
    let hash = digest(&[
        api_key_id.as_bytes(),
        idempotency_key.as_bytes(),
        index.to_string().as_bytes(),
    ]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(hash.split_at(16).0);
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_id_is_pinned_and_depends_on_every_part() {
        let id = derived("shop", "order-7", 0);
        assert_eq!(id.to_string(), derived("shop", "order-7", 0).to_string());
        assert_ne!(id, derived("shop", "order-7", 1));
        assert_ne!(id, derived("shop", "order-8", 0));
        assert_ne!(id, derived("shoporder-7", "", 0));
        assert_eq!(id.to_string(), "99e2d2d4-41b9-31c8-65ea-b97710ee9cd8");
    }

    #[test]
    fn fresh_ids_differ_sort_by_time_and_repeat_with_their_seed() {
        let ids = Ids::seeded([7; 16]);
        let (a, b) = (ids.fresh(1_000), ids.fresh(2_000));
        assert!(a < b);
        assert_eq!(a.get_version_num(), 7);
        assert_eq!(Ids::seeded([7; 16]).fresh(1_000), a);
        assert_ne!(Ids::random().fresh(1_000), a);
    }
}
