//! Records on their way to librdkafka by partition, and for how many of them it owes answers.
//!
//! An idempotent producer sends a partition nothing more while five of its records are unanswered.
//! While more is due, librdkafka does not sleep: its thread asks over and over whether it may send, and
//! burns a processor until Kafka answers. Several processes on few processors then starve the very
//! broker they wait for (`docs/benchmarks/walk.md`). So a partition is handed nothing more while it has
//! not answered all of the hand-over before: nothing would be sent in any case. And what it is handed
//! goes in one request: it fits into one ([`Room`]), and is sent when all of it is there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::Gathered;
use crate::kafka::flush::Room;

/// The line of a record that is not in any.
pub(super) const NO_LINE: usize = usize::MAX;

/// One line for each partition that was ever written to. Memory beyond the records: their number.
#[derive(Default)]
pub(super) struct Lines {
    numbers: HashMap<(Arc<str>, i32), usize>,
    lines: Vec<Line>,
    /// Records in librdkafka's hands.
    owed: usize,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Gathered>,
    unanswered: usize,
}

impl Lines {
    /// Puts a record behind the others of its partition.
    pub(super) fn add(&mut self, (record, mut waiting): Gathered) {
        let place = (record.topic.clone(), record.partition);
        let number = *self.numbers.entry(place).or_insert(self.lines.len());
        if number == self.lines.len() {
            self.lines.push(Line::default());
        }
        waiting.line = number;
        self.lines[number].waiting.push_back((record, waiting));
    }

    /// Gives `send` the records of all partitions that owe no answer, in order, as many as have room in
    /// a request, and says whether it took any. A record that it gives back stays the first of its
    /// line, and ends this.
    pub(super) fn hand_over(
        &mut self,
        room: Room,
        mut send: impl FnMut(Gathered) -> Handed,
    ) -> bool {
        let mut any = false;
        for line in self.lines.iter_mut().filter(|line| line.unanswered == 0) {
            let fits = room.fits(line.waiting.iter().map(|(record, _)| record));
            for _ in 0..fits {
                let Some(first) = line.waiting.pop_front() else {
                    break;
                };
                match send(first) {
                    Handed::Over => {
                        line.unanswered += 1;
                        self.owed += 1;
                    }
                    Handed::Refused => {}
                    Handed::Back(record) => {
                        line.waiting.push_front(record);
                        return any;
                    }
                }
                any = true;
            }
        }
        any
    }

    /// Takes out what has waited since before `then`, in the order of its partition.
    pub(super) fn take_older(&mut self, then: Instant) -> Vec<Gathered> {
        let mut old = Vec::new();
        for line in &mut self.lines {
            let is_old = |(_, waiting): &Gathered| waiting.since < then;
            while let Some(first) = line.waiting.pop_front_if(|first| is_old(first)) {
                old.push(first);
            }
        }
        old
    }

    /// A record of a line was answered.
    pub(super) fn answered(&mut self, line: usize) {
        if let Some(line) = self.lines.get_mut(line) {
            line.unanswered -= 1;
            self.owed -= 1;
        }
    }

    /// Records that librdkafka has to answer.
    pub(super) const fn owed(&self) -> usize {
        self.owed
    }
}

/// What became of a record.
pub(super) enum Handed {
    /// librdkafka has it, and will answer.
    Over,
    /// It was refused, and whoever waits for it was told.
    Refused,
    /// There is no room for it now.
    Back(Gathered),
}

#[cfg(test)]
mod tests {
    use super::super::tests::gathered;
    use super::*;

    const ROOM: Room = Room {
        records: 3,
        bytes: 1_000_000,
    };

    /// The partitions and values of what is handed over now, the queue taking `most`.
    fn handed(lines: &mut Lines, most: usize) -> Vec<(i32, u8)> {
        let mut taken = Vec::new();
        lines.hand_over(ROOM, |(record, waiting)| {
            if taken.len() == most {
                return Handed::Back((record, waiting));
            }
            taken.push((record.partition, record.value.unwrap()[0]));
            Handed::Over
        });
        taken
    }

    #[test]
    fn a_partition_takes_one_hand_over_and_the_next_when_all_of_it_is_answered() {
        let mut lines = Lines::default();
        for n in 1..=3 {
            lines.add(gathered(7, n));
        }
        assert_eq!(handed(&mut lines, 9), [(7, 1), (7, 2), (7, 3)]);
        lines.add(gathered(7, 4));
        for n in 1..=3 {
            lines.add(gathered(5, n));
            assert_eq!(handed(&mut lines, 9), [(5, n)], "no other waits for it");
            lines.answered(0);
            lines.answered(1);
        }
        assert_eq!(handed(&mut lines, 9), [(7, 4)]);
    }

    /// The line of partition 0 with so many records, numbered from 1.
    fn with(records: u8) -> Lines {
        let mut lines = Lines::default();
        for n in 1..=records {
            lines.add(gathered(0, n));
        }
        lines
    }

    #[test]
    fn a_hand_over_fits_into_one_request() {
        let mut lines = with(4);
        assert_eq!(handed(&mut lines, 9), [(0, 1), (0, 2), (0, 3)]);
        assert_eq!(lines.owed(), 3);
        for _ in 0..3 {
            assert!(handed(&mut lines, 9).is_empty());
            lines.answered(0);
        }
        assert_eq!(handed(&mut lines, 9), [(0, 4)]);
        assert_eq!(lines.owed(), 1);
    }

    #[test]
    fn what_is_too_old_is_given_out_in_order() {
        let mut lines = with(3);
        let then = Instant::now();
        lines.add(gathered(0, 4));
        let old = lines.take_older(then);
        let values: Vec<u8> = old
            .iter()
            .map(|(record, _)| record.value.as_ref().unwrap()[0])
            .collect();
        assert_eq!(values, [1, 2, 3]);
        assert_eq!(handed(&mut lines, 9), [(0, 4)]);
    }

    #[test]
    fn without_room_the_rest_stays_in_order() {
        let mut lines = with(3);
        assert_eq!(handed(&mut lines, 1), [(0, 1)]);
        lines.add(gathered(0, 4));
        assert!(handed(&mut lines, 9).is_empty(), "one is not answered");
        lines.answered(0);
        assert_eq!(handed(&mut lines, 9), [(0, 2), (0, 3), (0, 4)]);
    }

    #[test]
    fn what_was_refused_is_not_waited_for() {
        let mut lines = Lines::default();
        lines.add(gathered(0, 1));
        assert!(lines.hand_over(ROOM, |_| Handed::Refused));
        assert!(!lines.hand_over(ROOM, |_| Handed::Refused), "there is none");
        lines.add(gathered(0, 2));
        assert_eq!(handed(&mut lines, 9), [(0, 2)]);
        lines.answered(NO_LINE);
    }
}
