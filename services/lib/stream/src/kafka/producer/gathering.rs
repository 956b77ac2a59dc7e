//! Records on their way to librdkafka, gathered until they are due.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Waiting;
use crate::port::Outgoing;

type Gathered = (Outgoing, Box<Waiting>);

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

    /// Takes all records into `batch` (empty before) when the last time is a linger ago, or `at_once`.
    pub(super) fn take_due(&self, batch: &mut Vec<Gathered>, at_once: bool) {
        let mut state = self.lock();
        if state.records.is_empty() {
            return;
        }
        let now = Instant::now();
        let rested = |at| now.saturating_duration_since(at) >= self.linger;
        if at_once || state.handed_over.is_none_or(rested) {
            std::mem::swap(&mut state.records, batch);
            state.handed_over = Some(now);
        }
    }

    /// Puts records back in front of those that came meanwhile.
    pub(super) fn give_back(&self, records: impl Iterator<Item = Gathered>) {
        let mut state = self.lock();
        let come = std::mem::take(&mut state.records);
        state.records.extend(records);
        state.records.extend(come);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Waiter, Waiting};
    use super::*;
    use crate::port::{Answers, Headers};

    const LINGER: Duration = Duration::from_secs(3_600);

    fn add(gathering: &Gathering, partition: i32) {
        let topic: std::sync::Arc<str> = "t".into();
        let record = Outgoing {
            topic: topic.clone(),
            partition,
            key: None,
            value: None,
            headers: Headers::default(),
        };
        let waiting = Waiting {
            waiter: Waiter::Many(0, std::sync::Arc::<Answers>::default()),
            topic,
            partition,
            bytes: 0,
        };
        gathering.add(record, Box::new(waiting));
    }

    fn take(gathering: &Gathering, at_once: bool) -> Vec<i32> {
        let mut batch = Vec::new();
        gathering.take_due(&mut batch, at_once);
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

    #[test]
    fn what_is_given_back_goes_before_what_came_meanwhile() {
        let gathering = Gathering::new(LINGER);
        add(&gathering, 1);
        add(&gathering, 2);
        let mut batch = Vec::new();
        gathering.take_due(&mut batch, false);
        add(&gathering, 3);
        gathering.give_back(batch.into_iter());
        assert!(
            take(&gathering, false).is_empty(),
            "the queue was full just now"
        );
        assert_eq!(take(&gathering, true), [1, 2, 3]);
    }
}
