//! Maps whose keys are hashes already: they are not hashed again.

use std::hash::{BuildHasherDefault, Hasher};

/// Build of [`Already`].
pub type ByHash = BuildHasherDefault<Already>;

/// Takes the words of a key as they are, mixed with one multiplication (a hash of ours is uniform,
/// small numbers beside it are not).
#[derive(Debug, Default, Clone, Copy)]
pub struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }
}
