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
use bongsu_schemas::records::{JournalMark, JournalOwner, JournalWait};

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
    /// Open deliveries below these offsets, of the topic and of the lane, may have been started by an
    /// owner before one that drained; 0 for none.
    pub doubted: [i64; 2],
    /// Packed offsets above the committed one that have ended; none when a checkpoint holds them.
    pub settled: Vec<u8>,
}

impl Pointer {
    /// As text.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "b2;r={};l={};j={};e={};c={};d={};n={};m={}",
            self.results_floor,
            self.lane_floor,
            self.journal_floor,
            self.reach,
            u8::from(self.clean),
            self.doubted[Source::Main.index()],
            self.doubted[Source::Lane.index()],
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
                // Versions that did not write them had none.
                "d" => {
                    pointer.doubted[Source::Main.index()] = number()?;
                    continue;
                }
                "n" => {
                    pointer.doubted[Source::Lane.index()] = number()?;
                    continue;
                }
                _ => continue,
            }
            seen += 1;
        }
        (seen == 6).then_some(pointer)
    }
}

/// Who owned the partition, in order.
///
/// A worker that was cut off and comes back may still write to the journal and the lane, for a producer
/// is no member of a group. Who an owner was is told by commits alone, which the group checks: the
/// commit's text leads to a checkpoint of the last owner, and that names the ones before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners(Vec<JournalOwner>);

impl Owners {
    /// Whether a record of the lane was written when its writer's successor had taken over. One of an
    /// epoch that is not known is of an owner before all that are.
    #[must_use]
    pub fn is_late(&self, epoch: Option<i64>, offset: i64) -> bool {
        let known = self.0.iter().position(|o| Some(o.epoch) == epoch);
        let next = self.0.get(known.map_or(0, |i| i + 1));
        next.is_some_and(|next| offset >= next.lane_end)
    }

    /// Those a successor must know of a lane that begins at `floor`.
    #[must_use]
    pub fn from(&self, floor: i64) -> Vec<JournalOwner> {
        let past = self.0.iter().take_while(|o| o.lane_end <= floor).count();
        self.0
            .iter()
            .skip(past.saturating_sub(1))
            .copied()
            .collect()
    }
}

/// What a journal told, read in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The offset to which a commit's text has led; none when everything is read and believed.
    led_to: Option<i64>,
    /// The epoch of the last owner, once its checkpoint there is read.
    owner: Option<i64>,
    /// It and those before it; empty when they are not known.
    pub owners: Owners,
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
    /// To be told a journal from where a commit's text leads.
    #[must_use]
    pub fn led_to(offset: i64) -> Self {
        Self {
            led_to: Some(offset),
            ..Self::default()
        }
    }

    /// Takes the next entry of the journal; false when it cannot be understood, or the one that the
    /// commit's text leads to is not there.
    pub fn take(&mut self, entry: &JournalEntry, offset: i64) -> bool {
        if let Some(first) = self.led_to {
            let epoch = if entry.claim { offset } else { entry.epoch };
            if offset == first {
                self.owner = Some(epoch);
                if epoch != JournalEntry::NO_EPOCH {
                    self.owners.0.clone_from(&entry.owners);
                    let lane_end = entry.lane_end;
                    self.owners.0.push(JournalOwner { epoch, lane_end });
                }
            }
            let Some(owner) = self.owner else {
                return false;
            };
            if epoch != owner {
                // Late, or of one that claimed the partition and never got to work. That a call was
                // about to be made is believed all the same: it must not be made twice.
                if entry.kind == INTENTS {
                    self.intend(&entry.intents);
                }
                return true;
            }
        }
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
        self.intend(&entry.intents);
        true
    }

    fn intend(&mut self, intents: &[JournalMark]) {
        for intent in intents {
            let known = &mut self.intents[Source::of(intent.lane).index()];
            known.insert(intent.offset, intent.tag.cast_unsigned());
        }
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
        fn a_pointer_reads_back(r in 0_i64..i64::MAX, l in 0_i64..i64::MAX, j in 0_i64..i64::MAX, e in 0_i64..i64::MAX, clean: bool, doubted in [0_i64..i64::MAX, 0..i64::MAX], settled in proptest::collection::vec(any::<u8>(), 0..1_200)) {
            let pointer = Pointer { results_floor: r, lane_floor: l, journal_floor: j, reach: e, clean, doubted, settled };
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
        for (entry, offset) in [&old, &checkpoint, &more].into_iter().zip(0..) {
            assert!(told.take(entry, offset));
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
        assert!(!told.take(&damaged, 3));
        assert!(told.checkpoint.is_some_and(|kept| kept == checkpoint));
    }

    #[test]
    fn only_the_owner_that_a_commit_leads_to_is_believed() {
        let checkpoint = |claim, epoch, watermark| JournalEntry {
            kind: CHECKPOINT.to_owned(),
            claim,
            epoch,
            watermark,
            lane_end: 50,
            owners: vec![JournalOwner {
                epoch: 7,
                lane_end: 40,
            }],
            ..JournalEntry::default()
        };
        let marks = |offset: Option<i64>| offset.map(|o| mark(Source::Main, o, 1));
        let calls = |epoch, intend, withdraw| JournalEntry {
            kind: INTENTS.to_owned(),
            epoch,
            intents: marks(intend).into_iter().collect(),
            withdrawn: marks(withdraw).into_iter().collect(),
            ..JournalEntry::default()
        };
        let none = JournalEntry::NO_EPOCH;
        let damaged = JournalEntry {
            settled: vec![0x80],
            ..checkpoint(false, 7, 900)
        };
        let mut told = Told::led_to(22);
        for (offset, entry) in [
            (22, checkpoint(false, 20, 110)),
            (23, calls(20, Some(111), None)),
            // One that was cut off comes back, and one that never got to work claims the partition.
            (24, checkpoint(false, 7, 120)),
            (25, damaged),
            (26, calls(7, Some(131), Some(111))),
            (27, checkpoint(true, none, 130)),
            (28, checkpoint(false, none, 140)),
            (29, calls(20, Some(112), None)),
        ] {
            assert!(told.take(&entry, offset), "{offset}");
        }
        let watermark = told.checkpoint.as_ref().map(|c| c.watermark);
        assert_eq!(watermark, Some(110), "other checkpoints are passed over");
        let intents: Vec<i64> = told.intents[0].keys().copied().collect();
        assert_eq!(intents, [111, 112, 131], "others' intents are believed");

        let mut gone = Told::led_to(21);
        assert!(
            !gone.take(&checkpoint(false, 20, 110), 22),
            "retention took it"
        );
        let mut older = Told::led_to(3);
        assert!(older.take(&checkpoint(false, none, 10), 3));
        assert_eq!(older.owners, Owners::default(), "a version without epochs");
        assert_eq!(older.checkpoint.map(|c| c.watermark), Some(10));
    }

    #[test]
    fn what_is_parked_behind_a_successor_s_back_is_late() {
        let owner = |epoch, lane_end| JournalOwner { epoch, lane_end };
        let owners = Owners(vec![owner(7, 10), owner(20, 30), owner(33, 30)]);
        for (epoch, first_late) in [
            (Some(7), 30),
            (Some(20), 30),
            (Some(33), i64::MAX),
            // Older than what is known, and of a version without epochs.
            (Some(2), 10),
            (None, 10),
        ] {
            assert!(!owners.is_late(epoch, first_late - 1), "{epoch:?}");
            assert!(
                first_late == i64::MAX || owners.is_late(epoch, first_late),
                "{epoch:?}"
            );
        }
        assert!(!Owners::default().is_late(Some(3), 100), "nobody is known");
        assert_eq!(owners.from(9), owners.0);
        assert_eq!(owners.from(29), owners.0, "7 may have written up to 30");
        assert_eq!(owners.from(30), [owner(33, 30)]);
    }
}
