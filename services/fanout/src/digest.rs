//! What was seen in a stretch of a partition of `events`, in about 27 bytes per event: pure.
//!
//! The value of a record of `seen`: version, flags, the stretch, then one entry per event that
//! counts as seen, and a check over it all. Written by fanout in the transaction that commits the
//! stretch, read by whoever takes the partition over. Nothing depends on it but speed: what is
//! missing or damaged is read from `events` instead.

use bongsu_domain::identity::hash64;
use bongsu_stream::port::TopicPartition;
use bytes::Bytes;

/// The version this code writes and reads.
const VERSION: u8 = 1;
/// Flag: what earlier records say of this partition does not count.
const BEGINS: u8 = 1;
/// Bytes of the check at the end.
const CHECK: usize = 8;

/// An event that counts as seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its offset in `events`.
    pub offset: i64,
    /// Its broker time, milliseconds since the epoch.
    pub at: i64,
    /// Hash of (sender, id).
    pub key: u128,
    /// Hash of what it says.
    pub content: u64,
}

/// Everything seen from `from` to before `to`, in offset order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// First offset that is covered.
    pub from: i64,
    /// First offset that is not covered any more.
    pub to: i64,
    /// Whether earlier stretches of this partition do not count.
    pub begins: bool,
    /// The events that count as seen.
    pub seen: Vec<Seen>,
}

/// A value that is no stretch of its partition, or one of a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

fn put(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

/// Small numbers of either sign as small numbers.
const fn fold(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

const fn unfold(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

fn check(partition: &TopicPartition, body: &[u8]) -> [u8; CHECK] {
    let number = partition.partition.to_be_bytes();
    hash64(&[partition.topic.as_bytes(), &number, body]).to_be_bytes()
}

impl Stretch {
    /// As the value of a record; `partition` is the partition of `events` that it speaks of.
    #[must_use]
    pub fn encode(&self, partition: &TopicPartition) -> Bytes {
        let mut out = Vec::with_capacity(48 + self.seen.len() * 28);
        out.push(VERSION);
        out.push(if self.begins { BEGINS } else { 0 });
        put(&mut out, fold(self.from));
        put(&mut out, fold(self.to));
        put(&mut out, self.seen.len() as u64);
        let (mut offset, mut at) = (self.from, 0);
        for seen in &self.seen {
            put(&mut out, fold(seen.offset.wrapping_sub(offset)));
            put(&mut out, fold(seen.at.wrapping_sub(at)));
            out.extend_from_slice(&seen.key.to_be_bytes());
            out.extend_from_slice(&seen.content.to_be_bytes());
            (offset, at) = (seen.offset, seen.at);
        }
        let check = check(partition, &out);
        out.extend_from_slice(&check);
        out.into()
    }

    /// Reads a value back.
    ///
    /// # Errors
    /// [`Damaged`], whatever is wrong.
    pub fn decode(partition: &TopicPartition, value: &[u8]) -> Result<Self, Damaged> {
        let body = value.len().checked_sub(CHECK).ok_or(Damaged)?;
        let (body, told) = value.split_at(body);
        if told != check(partition, body) {
            return Err(Damaged);
        }
        let mut rest = Rest(body);
        let [version, flags] = rest.take()?;
        if version != VERSION {
            return Err(Damaged);
        }
        let (from, to) = (rest.signed()?, rest.signed()?);
        let count = usize::try_from(rest.number()?).map_err(|_| Damaged)?;
        // An entry has at least 26 bytes, so a wrong count cannot ask for more than there is.
        let mut seen = Vec::with_capacity(count.min(body.len() / 26));
        let (mut offset, mut at) = (from, 0_i64);
        for _ in 0..count {
            offset = offset.wrapping_add(rest.signed()?);
            at = at.wrapping_add(rest.signed()?);
            seen.push(Seen {
                offset,
                at,
                key: u128::from_be_bytes(rest.take()?),
                content: u64::from_be_bytes(rest.take()?),
            });
        }
        if !rest.0.is_empty() || from > to {
            return Err(Damaged);
        }
        Ok(Self {
            from,
            to,
            begins: flags & BEGINS != 0,
            seen,
        })
    }
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*head)
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Damaged)
    }

    fn signed(&mut self) -> Result<i64, Damaged> {
        self.number().map(unfold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition::new("bongsu.events", 3)
    }

    fn stretch() -> Stretch {
        let seen = |offset, at, key| Seen {
            offset,
            at,
            key,
            content: 7,
        };
        Stretch {
            from: 1_000,
            to: 2_000,
            begins: true,
            seen: vec![
                seen(1_000, 1_760_000_000_000, u128::MAX),
                seen(1_001, 1_760_000_000_003, 1),
                // A broker's clock may step back.
                seen(1_999, 1_759_999_999_000, 2),
            ],
        }
    }

    #[test]
    fn a_stretch_reads_back_and_an_event_costs_some_27_bytes() {
        let mut stretch = stretch();
        let value = stretch.encode(&partition());
        assert_eq!(Stretch::decode(&partition(), &value), Ok(stretch.clone()));
        stretch.seen = (0..1_000)
            .map(|n| Seen {
                offset: 1_000 + n,
                at: 1_760_000_000_000 + n / 2,
                key: u128::MAX - u128::from(n.unsigned_abs()),
                content: u64::MAX,
            })
            .collect();
        let value = stretch.encode(&partition());
        assert!(value.len() < 26_100, "{}", value.len());
        assert_eq!(Stretch::decode(&partition(), &value), Ok(stretch));
    }

    #[test]
    fn whatever_is_damaged_is_refused() {
        let value = stretch().encode(&partition());
        for (at, _) in value.iter().enumerate() {
            let mut damaged = value.to_vec();
            damaged[at] ^= 0x10;
            assert_eq!(
                Stretch::decode(&partition(), &damaged),
                Err(Damaged),
                "{at}"
            );
            let short = value.slice(..at);
            assert_eq!(Stretch::decode(&partition(), &short), Err(Damaged), "{at}");
        }
        let other = TopicPartition::new("bongsu.events", 4);
        assert_eq!(Stretch::decode(&other, &value), Err(Damaged));
    }

    #[test]
    fn a_later_version_is_refused_though_its_check_holds() {
        let mut body = stretch().encode(&partition()).to_vec();
        body.truncate(body.len() - CHECK);
        body[0] = VERSION + 1;
        let check = check(&partition(), &body);
        body.extend_from_slice(&check);
        assert_eq!(Stretch::decode(&partition(), &body), Err(Damaged));
    }
}
