//! Fuzzing of everything that reads what a provider writes: answers, reports, addresses.
//!
//! Runs on the stable compiler and for as long as it is told, so that it has its place in CI; the
//! inputs are mutations of whole, real texts ([`mutate`]), which get past the first check of a parser
//! where random bytes do not. A target is a function over bytes ([`targets`]); it must neither panic
//! nor break what it promises. `cargo fuzz` drives the same functions, guided by coverage (`guided`).

pub mod mutate;
pub mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};

use mutate::Mutator;
use targets::Target;

/// An input that a target did not survive.
#[derive(Debug)]
pub struct Found {
    /// Whose.
    pub target: &'static str,
    /// The input.
    pub input: Vec<u8>,
    /// Which input it was, from 0.
    pub number: u64,
}

/// Runs a target on input after input until `enough` says so (asked after every input); the number of
/// inputs it survived, or the first it did not. The same seed gives the same inputs.
///
/// # Errors
/// [`Found`].
pub fn run(target: &Target, seed: u64, mut enough: impl FnMut(u64) -> bool) -> Result<u64, Found> {
    let mut mutator = Mutator::new(seed, target.seeds);
    let mut number = 0;
    while !enough(number) {
        let input = mutator.next();
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            return Err(Found {
                target: target.name,
                input,
                number,
            });
        }
        number += 1;
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_survives_the_first_inputs() {
        for target in targets::all() {
            let survived = run(&target, 1, |n| n >= 3_000);
            if let Err(found) = survived {
                let text = String::from_utf8_lossy(&found.input);
                unreachable!("{} at {}: {text:?}", found.target, found.number);
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let seeds = [b"hello world".as_slice()];
        let (mut one, mut other) = (Mutator::new(7, &seeds), Mutator::new(7, &seeds));
        assert!((0..100).all(|_| one.next() == other.next()));
        let mut third = Mutator::new(8, &seeds);
        assert!((0..100).any(|_| one.next() != third.next()));
    }
}
