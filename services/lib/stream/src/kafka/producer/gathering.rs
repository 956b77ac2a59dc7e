//! Records on their way to librdkafka, gathered until they are due.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Gathered, Waiting};
use crate::port::Outgoing;

/// What senders add and the serving thread takes, in order. Memory: what the callers have
/// outstanding, which is theirs to bound.
pub(super) struct Gathering {
    linger: Duration,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    records: Vec<Gathered>,
    /// When records were handed over last; `None` before the first time.
    handed_over: Option<Instant>,
    /// The serving thread sleeps until somebody comes.
    asleep: bool,
    woken: bool,
}

impl Gathering {
    pub(super) fn new(linger: Duration) -> Self {
        Self {
            linger,
            state: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record behind all others.
    pub(super) fn add(&self, record: Outgoing, waiting: Box<Waiting>) {
        let mut state = self.lock();
        state.records.push((record, waiting));
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.arrived.notify_one();
        }
    }

    /// Ends the serving thread's sleep.
    pub(super) fn wake(&self) {
        let mut state = self.lock();
        state.woken = true;
        state.asleep = false;
        drop(state);
        self.arrived.notify_one();
    }

    /// Sleeps until a record is there, but no longer than `most`.
    pub(super) fn wait_for_work(&self, most: Duration) {
        let mut state = self.lock();
        state.asleep = true;
        let (mut state, _) = self
            .arrived
            .wait_timeout_while(state, most, |s| s.records.is_empty() && !s.woken)
            .unwrap_or_else(PoisonError::into_inner);
        state.asleep = false;
        state.woken = false;
    }

    /// Sleeps, whoever comes.
    pub(super) fn pause(&self, time: Duration) {
        let state = self.lock();
        // Nobody notifies a thread that is not asleep, and being woken early does no harm.
        drop(
            self.arrived
                .wait_timeout(state, time)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Takes all records into `batch` (empty before) when the last hand-over is a linger ago, or
    /// `at_once`; whether that is so. There may be none.
    pub(super) fn take_due(&self, batch: &mut Vec<Gathered>, at_once: bool) -> bool {
        let mut state = self.lock();
        let rested = |at: Instant| at.elapsed() >= self.linger;
        let due = at_once || state.handed_over.is_none_or(rested);
        if due {
            std::mem::swap(&mut state.records, batch);
        }
        due
    }

    /// Records were handed over: a linger begins.
    pub(super) fn handed_over(&self) {
        self.lock().handed_over = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::gathered;
    use super::*;

    const LINGER: Duration = Duration::from_secs(3_600);

    fn add(gathering: &Gathering, partition: i32) {
        let (record, waiting) = gathered(partition, 0);
        gathering.add(record, waiting);
    }

    fn take(gathering: &Gathering, at_once: bool) -> Vec<i32> {
        let mut batch = Vec::new();
        if gathering.take_due(&mut batch, at_once) && !batch.is_empty() {
            gathering.handed_over();
        }
        batch.iter().map(|(record, _)| record.partition).collect()
    }

    #[test]
    fn the_first_goes_at_once_and_the_next_not_before_a_linger_is_over() {
        let gathering = Gathering::new(LINGER);
        assert!(take(&gathering, false).is_empty());
        add(&gathering, 1);
        assert_eq!(take(&gathering, false), [1], "nothing was handed over yet");
        add(&gathering, 2);
        add(&gathering, 3);
        assert!(take(&gathering, false).is_empty());
        assert_eq!(take(&gathering, true), [2, 3], "the end waits for nobody");
        let quick = Gathering::new(Duration::ZERO);
        for partition in [4, 5] {
            add(&quick, partition);
            assert_eq!(take(&quick, false), [partition]);
        }
    }
}
