//! Inputs: seeds, and what a few changes make of them.

/// The longest input.
const LONGEST: usize = 8 * 1024;
/// The most changes of one input.
const CHANGES: u64 = 8;

/// What parsers stumble over.
const MORSELS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b".",
    b"-1",
    b"0",
    b"1e308",
    b"1e999",
    b"18446744073709551616",
    b"null",
    b"true",
    b"--x",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"=?utf-8?q?=",
    b"+",
    b"%00",
    b" ",
    b"\t",
];

/// Makes inputs; the same seed makes the same.
pub struct Mutator<'a> {
    state: u64,
    seeds: &'a [&'a [u8]],
}

impl<'a> Mutator<'a> {
    /// Mutations of `seeds`.
    #[must_use]
    pub fn new(seed: u64, seeds: &'a [&'a [u8]]) -> Self {
        // Not 0, which xorshift never leaves.
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            seeds,
        }
    }

    /// xorshift64*. [R: Vigna 2016]
    fn draw(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, most: usize) -> usize {
        let most = most.max(1) as u64;
        usize::try_from(self.draw() % most).unwrap_or(0)
    }

    fn pick(&mut self) -> Vec<u8> {
        let at = self.below(self.seeds.len());
        self.seeds
            .get(at)
            .map(|seed| seed.to_vec())
            .unwrap_or_default()
    }

    /// The next input.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> Vec<u8> {
        let mut input = self.pick();
        for _ in 0..self.draw() % CHANGES {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let until = (at + self.below(16)).min(input.len());
        match self.draw() % 8 {
            0 => input.truncate(at),
            1 => drop(input.drain(at..until)),
            2 => {
                let morsel = self.below(MORSELS.len());
                let morsel = MORSELS.get(morsel).copied().unwrap_or_default();
                input.splice(at..at, morsel.iter().copied());
            }
            3 => {
                let morsel = self.below(MORSELS.len());
                let morsel = MORSELS.get(morsel).copied().unwrap_or_default();
                input.splice(at..until, morsel.iter().copied());
            }
            4 => {
                let part = input.get(at..until).unwrap_or_default().to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, part);
            }
            5 => {
                let other = self.pick();
                let from = self.below(other.len() + 1);
                let part = other.get(from..).unwrap_or_default().to_vec();
                input.truncate(at);
                input.extend(part);
            }
            6 => {
                let times = self.below(64);
                let part = input.get(at..until).unwrap_or_default().repeat(times);
                input.splice(at..at, part);
            }
            _ => {
                let bit = 1_u8 << (self.draw() % 8);
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= bit;
                }
            }
        }
    }
}
