//! Seeded chance: the same seed, the same drill.

/// Evenly spread bits of (seed, number, purpose): the finaliser of splitmix64.
pub(crate) const fn mix(seed: u64, n: u64, purpose: u64) -> u64 {
    let mut x = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(n.wrapping_mul(16).wrapping_add(purpose))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The same as a share from 0 to 1, 1 excluded.
pub(crate) fn share(seed: u64, n: u64, purpose: u64) -> f64 {
    let bits = u32::try_from(mix(seed, n, purpose) >> 32).unwrap_or(u32::MAX);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

/// Draws one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    seed: u64,
    drawn: u64,
}

impl Dice {
    /// Starts anew with a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next share from 0 to 1, 1 excluded.
    pub(crate) fn share(&mut self) -> f64 {
        self.drawn += 1;
        share(self.seed, self.drawn, 3)
    }

    /// One of `items`; none of an empty list.
    pub(crate) fn one_of<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a handful of items"
        )]
        let at = (self.share() * items.len() as f64) as usize;
        items.get(at)
    }
}
