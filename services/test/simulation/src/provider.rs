//! The in-process provider: reads, answers, fails and forgets to answer, and remembers it all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_channels::provider::{Attempt, AttemptResult, Provider, ThrottleScope, TryError};
use bongsu_domain::{Delivery, Reason};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout_at};

use crate::random::Random;

/// One request the provider read whole.
#[derive(Debug, Clone)]
pub struct Read {
    /// Which delivery.
    pub delivery: String,
    /// Sender and address: the order key.
    pub key: (String, String),
    /// The publisher's running number.
    pub seq: i64,
    /// Which dispatch process sent it.
    pub worker: u64,
    /// What was answered; none while, or when, nobody heard the answer.
    pub answer: Option<AttemptResult>,
}

impl Read {
    /// Whether it counts as arrived: not answered with an error.
    #[must_use]
    pub fn arrived(&self) -> bool {
        match self.answer {
            None | Some(AttemptResult::Accepted | AttemptResult::Unknown) => true,
            Some(
                AttemptResult::Refused(_)
                | AttemptResult::Throttled { .. }
                | AttemptResult::Unavailable
                | AttemptResult::NotProcessed
                | AttemptResult::AccountFault,
            ) => false,
        }
    }
}

/// What the provider remembers, over every crash of ours.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<Read>>>);

impl Memory {
    /// Every request so far, in the order in which they were read.
    #[must_use]
    pub fn reads(&self) -> Vec<Read> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn read(&self, read: Read) -> usize {
        let mut reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reads.push(read);
        reads.len() - 1
    }

    fn answered(&self, n: usize, answer: AttemptResult) {
        let mut reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = reads.get_mut(n) {
            read.answer = Some(answer);
        }
    }

    /// Requests of one worker by delivery, that arrived.
    #[must_use]
    pub fn arrived_from(&self, worker: u64) -> BTreeMap<String, usize> {
        let mut out = BTreeMap::new();
        for read in self
            .reads()
            .iter()
            .filter(|r| r.worker == worker && r.arrived())
        {
            *out.entry(read.delivery.clone()).or_default() += 1;
        }
        out
    }
}

/// One dispatch process's way to the provider.
#[derive(Debug)]
pub struct SimulatedProvider {
    memory: Memory,
    worker: u64,
    random: Mutex<Random>,
}

impl SimulatedProvider {
    /// A connection of one process.
    #[must_use]
    pub fn new(memory: Memory, worker: u64, random: Random) -> Self {
        Self {
            memory,
            worker,
            random: Mutex::new(random),
        }
    }

    fn plan(&self, delivery: &Delivery) -> (Duration, Duration, AttemptResult) {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let there = Duration::from_millis(random.below(40));
        let back = Duration::from_millis(random.below(40));
        let gone = delivery.address.address.ends_with("/gone");
        let result = match random.below(100) {
            _ if gone => AttemptResult::Refused(Reason::InvalidAddress),
            0..5 => AttemptResult::Unavailable,
            5..8 => {
                let after = Duration::from_millis(random.below(3_000));
                AttemptResult::Throttled {
                    retry_after: Some(after),
                    scope: ThrottleScope::Address,
                }
            }
            8..10 => AttemptResult::Unknown,
            _ => AttemptResult::Accepted,
        };
        (there, back, result)
    }

    async fn one(&self, delivery: &Delivery, deadline: Instant) -> AttemptResult {
        let (there, back, result) = self.plan(delivery);
        if timeout_at(deadline, sleep(there)).await.is_err() {
            return AttemptResult::Unavailable;
        }
        let n = self.memory.read(Read {
            delivery: delivery.id.to_string(),
            key: (delivery.sender.clone(), delivery.address.id.0.clone()),
            seq: delivery
                .content
                .data
                .get("seq")
                .and_then(|s| s.parse().ok())
                .unwrap_or(-1),
            worker: self.worker,
            answer: None,
        });
        if timeout_at(deadline, sleep(back)).await.is_err() {
            return AttemptResult::Unknown;
        }
        self.memory.answered(n, result);
        result
    }
}

impl Provider for SimulatedProvider {
    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(batch.len());
            for attempt in batch {
                results.push(self.one(attempt.delivery, deadline).await);
            }
            Ok(results)
        })
    }
}
