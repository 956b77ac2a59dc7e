//! What a successor must know, as bytes: checkpoints, intents, and the text beside a commit.
//!
//! Pure. The commit's text ([`Pointer`]) says where to read on; while few offsets have ended above
//! the watermark it holds them itself, else a checkpoint in the journal does. It is never the only
//! copy: the journal has a checkpoint of every assignment before its first attempt, and one every
//! now and then afterwards.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bongsu_policy::SettledTags;
use bongsu_schemas::JournalEntry;
use bongsu_schemas::records::{JournalMark, JournalWait};

/// The kind of a checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// The kind of a group of intents.
pub const INTENTS: &str = "intents";
/// The most bytes of packed offsets that the commit's text may hold; a stock broker takes 4,096
/// characters of text, and base64 makes four of three.
pub const INLINE_BYTES: usize = 1_200;

/// Which log of a partition an offset belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The deliveries topic.
    Main,
    /// The side lane.
    Lane,
}

impl Source {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Main, Self::Lane];

    /// Its place in arrays of two.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Main => 0,
            Self::Lane => 1,
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Main => Self::Lane,
            Self::Lane => Self::Main,
        }
    }

    /// The source a mark of the journal names.
    #[must_use]
    pub const fn of(lane: bool) -> Self {
        if lane { Self::Lane } else { Self::Main }
    }
}

/// A mark of the journal.
#[must_use]
pub fn mark(source: Source, offset: i64, tag: u64) -> JournalMark {
    JournalMark {
        lane: source == Source::Lane,
        offset,
        tag: tag.cast_signed(),
    }
}

/// Packs offsets and tags, ascending from `base`: a varint of each distance and eight bytes of tag.
#[must_use]
pub fn pack(base: i64, settled: impl Iterator<Item = (i64, u64)>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut previous = base;
    for (offset, tag) in settled {
        let mut distance = (offset - previous).cast_unsigned();
        previous = offset;
        while distance >= 0x80 {
            out.push(u8::try_from(distance & 0x7f).unwrap_or(0) | 0x80);
            distance >>= 7;
        }
        out.push(u8::try_from(distance).unwrap_or(0));
        out.extend_from_slice(&tag.to_le_bytes());
    }
    out
}

/// Reads what [`pack`] wrote; none when the bytes are damaged.
#[must_use]
pub fn unpack(base: i64, mut bytes: &[u8]) -> Option<SettledTags> {
    let mut out = SettledTags::new();
    let mut offset = base;
    while !bytes.is_empty() {
        let mut distance = 0_u64;
        let mut shift = 0;
        loop {
            let (byte, rest) = bytes.split_first()?;
            bytes = rest;
            distance |= u64::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (tag, rest) = bytes.split_first_chunk::<8>()?;
        bytes = rest;
        offset = offset.checked_add_unsigned(distance)?;
        out.insert(offset, u64::from_le_bytes(*tag));
    }
    Some(out)
}

/// The text beside a committed offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pointer {
    /// Receipts at lower offsets of `results` are known already.
    pub results_floor: i64,
    /// Offsets of the lane below it have ended.
    pub lane_floor: i64,
    /// Where the journal is to be read from.
    pub journal_floor: i64,
    /// No delivery at or above this offset was ever started by this owner or an earlier one.
    pub reach: i64,
    /// Whether the owner drained: nothing was under way at its end.
    pub clean: bool,
    /// Packed offsets above the committed one that have ended; none when a checkpoint holds them.
    pub settled: Vec<u8>,
}

impl Pointer {
    /// As text.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "b2;r={};l={};j={};e={};c={};m={}",
            self.results_floor,
            self.lane_floor,
            self.journal_floor,
            self.reach,
            u8::from(self.clean),
            STANDARD_NO_PAD.encode(&self.settled)
        )
    }

    /// Reads the text; none when it is not ours or damaged. Fields this version does not know are
    /// passed over.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(';');
        if fields.next()? != "b2" {
            return None;
        }
        let mut pointer = Self::default();
        let mut seen = 0;
        for field in fields {
            let (name, value) = field.split_once('=')?;
            let number = || value.parse::<i64>().ok().filter(|n| *n >= 0);
            match name {
                "r" => pointer.results_floor = number()?,
                "l" => pointer.lane_floor = number()?,
                "j" => pointer.journal_floor = number()?,
                "e" => pointer.reach = number()?,
                "c" => pointer.clean = number()? == 1,
                "m" => pointer.settled = STANDARD_NO_PAD.decode(value).ok()?,
                _ => continue,
            }
            seen += 1;
        }
        (seen == 6).then_some(pointer)
    }
}

/// What a journal told, read in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The last checkpoint whose bytes were sound, without its intents.
    pub checkpoint: Option<Checkpoint>,
    /// Intents that were not withdrawn, per source.
    pub intents: [SettledTags; 2],
}

/// A checkpoint as read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything below has ended.
    pub watermark: i64,
    /// Receipts below are in here.
    pub results_floor: i64,
    /// Everything of the lane below has ended.
    pub lane_floor: i64,
    /// What has ended above, per source.
    pub settled: [SettledTags; 2],
    /// What waits between attempts.
    pub waiting: Vec<JournalWait>,
}

impl Told {
    /// Takes the next entry of the journal; false when it cannot be understood.
    pub fn take(&mut self, entry: &JournalEntry) -> bool {
        match entry.kind.as_str() {
            CHECKPOINT => {
                let main = unpack(entry.watermark, &entry.settled);
                let lane = unpack(entry.lane_floor, &entry.lane_settled);
                let (Some(main), Some(lane)) = (main, lane) else {
                    return false;
                };
                self.checkpoint = Some(Checkpoint {
                    watermark: entry.watermark,
                    results_floor: entry.results_floor,
                    lane_floor: entry.lane_floor,
                    settled: [main, lane],
                    waiting: entry.waiting.clone(),
                });
                self.intents = Default::default();
            }
            INTENTS => {}
            _ => return false,
        }
        for withdrawn in &entry.withdrawn {
            let known = &mut self.intents[Source::of(withdrawn.lane).index()];
            known.remove(&withdrawn.offset);
        }
        for intent in &entry.intents {
            let known = &mut self.intents[Source::of(intent.lane).index()];
            known.insert(intent.offset, intent.tag.cast_unsigned());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packed_offsets_read_back(base in 0_i64..1_000, steps in proptest::collection::vec((0_i64..5_000, any::<u64>()), 0..200)) {
            let mut offset = base;
            let settled: SettledTags = steps.into_iter().map(|(step, tag)| { offset += step + 1; (offset, tag) }).collect();
            let bytes = pack(base, settled.iter().map(|(o, t)| (*o, *t)));
            prop_assert_eq!(unpack(base, &bytes), Some(settled));
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(unpack(0, &bytes).is_none_or(|read| read.len() <= bytes.len()));
        }

        #[test]
        fn a_pointer_reads_back(r in 0_i64..i64::MAX, l in 0_i64..i64::MAX, j in 0_i64..i64::MAX, e in 0_i64..i64::MAX, clean: bool, settled in proptest::collection::vec(any::<u8>(), 0..1_200)) {
            let pointer = Pointer { results_floor: r, lane_floor: l, journal_floor: j, reach: e, clean, settled };
            let text = pointer.to_text();
            prop_assert!(text.len() < 2_048, "{}", text.len());
            prop_assert_eq!(Pointer::parse(&text), Some(pointer));
        }
    }

    #[test]
    fn damage_is_seen_and_later_fields_are_passed_over() {
        let good = Pointer {
            results_floor: 4,
            settled: vec![1, 2, 3],
            ..Pointer::default()
        };
        let text = good.to_text();
        assert_eq!(Pointer::parse(&format!("{text};later=1")), Some(good));
        for damaged in [
            "",
            "b1;r=4",
            "b2",
            "b2;r=-4;l=0;j=0;e=0;c=0;m=",
            "b2;r=4;l=0;j=0;e=0;c=0",
            "garbage",
        ] {
            assert_eq!(Pointer::parse(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn a_checkpoint_starts_anew_and_intents_follow_it() {
        let mut told = Told::default();
        let old = JournalEntry {
            kind: INTENTS.to_owned(),
            intents: vec![mark(Source::Main, 3, 30)],
            ..JournalEntry::default()
        };
        let checkpoint = JournalEntry {
            kind: CHECKPOINT.to_owned(),
            watermark: 4,
            settled: pack(4, [(6, 60)].into_iter()),
            intents: vec![mark(Source::Main, 5, 50), mark(Source::Lane, 1, 10)],
            ..JournalEntry::default()
        };
        let more = JournalEntry {
            kind: INTENTS.to_owned(),
            intents: vec![mark(Source::Main, 7, 70)],
            withdrawn: vec![mark(Source::Main, 5, 50)],
            ..JournalEntry::default()
        };
        for entry in [&old, &checkpoint, &more] {
            assert!(told.take(entry));
        }
        assert_eq!(told.intents[0], SettledTags::from([(7, 70)]));
        assert_eq!(told.intents[1], SettledTags::from([(1, 10)]));
        let checkpoint = told.checkpoint.clone().unwrap_or_default();
        assert_eq!(checkpoint.settled[0], SettledTags::from([(6, 60)]));
        let damaged = JournalEntry {
            kind: CHECKPOINT.to_owned(),
            settled: vec![0x80],
            ..JournalEntry::default()
        };
        assert!(!told.take(&damaged));
        assert!(told.checkpoint.is_some_and(|kept| kept == checkpoint));
    }
}
