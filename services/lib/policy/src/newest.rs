//! Which deliveries of a backlog are superseded: one of the same unit (sender, address and collapse
//! key) lies behind them.
//!
//! Pure. A [`Sieve`] is shown the whole backlog of a partition, in any order, and becomes a
//! [`Newest`], which is asked about one delivery after the other. Only the newest of a unit is never
//! superseded, so nothing is lost that has no successor. Memory: about 40 bytes per unit while it is
//! shown, at most `most` units, and about 25 per unit that has more than one afterwards. Units that
//! find no room keep all of their deliveries.

use std::collections::HashMap;

use bongsu_domain::Delivery;
use bongsu_domain::identity::hash64;

use crate::hashing::ByHash;

/// What a delivery is one of: of equal units the newest says it all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unit(u64);

impl Unit {
    /// The unit of a delivery; none when it carries no collapse key, and so never says the same as
    /// another.
    #[must_use]
    pub fn of(delivery: &Delivery) -> Option<Self> {
        let collapse_key = delivery.collapse_key.as_ref()?;
        let address = &delivery.address.id.0;
        Some(Self(hash64(&[
            delivery.sender.as_bytes(),
            address.as_bytes(),
            collapse_key.as_bytes(),
        ])))
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    newest: i64,
    several: bool,
}

/// Looks at a backlog.
#[derive(Debug)]
pub struct Sieve {
    seen: HashMap<u64, Seen, ByHash>,
    most: usize,
    kept: u64,
}

impl Sieve {
    /// A sieve of at most `most` units.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            seen: HashMap::default(),
            most,
            kept: 0,
        }
    }

    /// A delivery of the backlog, by its original offset.
    pub fn show(&mut self, unit: Unit, offset: i64) {
        let room = self.seen.len() < self.most;
        match self.seen.get_mut(&unit.0) {
            // The same record twice: in the deliveries and in the side lane.
            Some(seen) if seen.newest == offset => {}
            Some(seen) => {
                seen.newest = seen.newest.max(offset);
                seen.several = true;
            }
            None if room => {
                let seen = Seen {
                    newest: offset,
                    several: false,
                };
                self.seen.insert(unit.0, seen);
            }
            None => self.kept += 1,
        }
    }

    /// Deliveries that are kept because there was no room for their unit.
    #[must_use]
    pub const fn kept(&self) -> u64 {
        self.kept
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> Newest {
        let several = self.seen.into_iter().filter(|(_, seen)| seen.several);
        Newest(several.map(|(unit, seen)| (unit, seen.newest)).collect())
    }
}

/// The newest delivery of every unit that has several.
#[derive(Debug, Default)]
pub struct Newest(HashMap<u64, i64, ByHash>);

impl Newest {
    /// Units that have several.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is superseded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a newer one of its unit lay in the backlog. What came after the backlog was looked at
    /// is never superseded.
    #[must_use]
    pub fn supersedes(&self, unit: Unit, offset: i64) -> bool {
        self.0.get(&unit.0).is_some_and(|newest| *newest > offset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn of_each_unit_the_newest_alone_is_kept(
            backlog in prop::collection::vec((0_u64..6, any::<bool>()), 0..60), most in 0_usize..8,
            seed in any::<prop::sample::Index>(),
        ) {
            let offsets: Vec<(u64, i64)> = backlog.iter().zip(10..).map(|((unit, _), at)| (*unit, at)).collect();
            let mut sieve = Sieve::new(most);
            // Some lie in the side lane too, and that is read beside the deliveries, in no order.
            let mut shown = offsets.clone();
            shown.extend(offsets.iter().zip(&backlog).filter(|(_, (_, twice))| *twice).map(|(seen, _)| *seen));
            let turn = if shown.is_empty() { 0 } else { seed.index(shown.len()) };
            shown.rotate_left(turn);
            for (unit, offset) in &shown {
                sieve.show(Unit(*unit), *offset);
            }
            let all_fit = sieve.kept() == 0;
            let newest = sieve.finish();
            for (unit, offset) in &offsets {
                let newer = offsets.iter().any(|(other, at)| other == unit && at > offset);
                let dropped = newest.supersedes(Unit(*unit), *offset);
                // Nothing is dropped without a successor, whatever has room; and all the rest is, if it has.
                prop_assert!(!dropped || newer);
                prop_assert!(dropped == newer || !all_fit);
                prop_assert!(!newest.supersedes(Unit(*unit), 1_000), "what came later is kept");
            }
        }
    }
}
