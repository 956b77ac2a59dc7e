//! The in-process provider: reads, answers, fails and forgets to answer, and remembers it all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_channels::provider::{
    Attempt, AttemptResult, Batching, Provider, ThrottleScope, TryError,
};
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
    /// Number of its call.
    pub call: u64,
    /// How many deliveries came in it.
    pub together: usize,
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
                | AttemptResult::Doubted
                | AttemptResult::NotProcessed
                | AttemptResult::AccountFault,
            ) => false,
        }
    }
}

/// What the provider remembers, over every crash of ours.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<Read>>>, Arc<AtomicU64>);

impl Memory {
    /// Every request so far, in the order in which they were read.
    #[must_use]
    pub fn reads(&self) -> Vec<Read> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn next_call(&self) -> u64 {
        self.1.fetch_add(1, Ordering::Relaxed)
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
    pack: bool,
}

/// The most deliveries of a call that packs.
const PACK: usize = 4;

impl SimulatedProvider {
    /// A connection of one process; with `pack` consecutive deliveries of one key share a call.
    #[must_use]
    pub fn new(memory: Memory, worker: u64, random: Random, pack: bool) -> Self {
        Self {
            memory,
            worker,
            random: Mutex::new(random),
            pack,
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

    /// How many of a call fit, the first always does.
    fn fitting(&self, call: usize) -> usize {
        if call < 2 {
            return call;
        }
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let most = u64::try_from(call).unwrap_or(1);
        usize::try_from(1 + random.below(most)).unwrap_or(1)
    }

    /// One call; what does not fit is not processed, and what fails is tried again from the first on.
    async fn call(&self, call: &[Attempt<'_>], deadline: Instant) -> Vec<AttemptResult> {
        let mut results = vec![AttemptResult::NotProcessed; call.len()];
        let Some(first) = call.first() else {
            return results;
        };
        let (there, back, result) = self.plan(first.delivery);
        let fitting = self.fitting(call.len());
        if timeout_at(deadline, sleep(there)).await.is_err() {
            results[0] = AttemptResult::Unavailable;
            return results;
        }
        let number = self.memory.next_call();
        let reads: Vec<usize> = call[..fitting]
            .iter()
            .map(|attempt| {
                self.memory
                    .read(self.seen(attempt.delivery, number, fitting))
            })
            .collect();
        if timeout_at(deadline, sleep(back)).await.is_err() {
            results[..fitting].fill(AttemptResult::Unknown);
            return results;
        }
        match result {
            AttemptResult::Accepted | AttemptResult::Unknown | AttemptResult::Refused(_) => {
                results[..fitting].fill(result);
            }
            AttemptResult::Throttled { .. }
            | AttemptResult::Unavailable
            | AttemptResult::Doubted
            | AttemptResult::NotProcessed
            | AttemptResult::AccountFault => results[0] = result,
        }
        for (n, answer) in reads.into_iter().zip(&results) {
            self.memory.answered(n, *answer);
        }
        results
    }

    fn seen(&self, delivery: &Delivery, call: u64, together: usize) -> Read {
        Read {
            delivery: delivery.id.to_string(),
            key: (delivery.sender.clone(), delivery.address.id.0.clone()),
            seq: seq(delivery),
            worker: self.worker,
            call,
            together,
            answer: None,
        }
    }
}

fn seq(delivery: &Delivery) -> i64 {
    let seq = delivery.content.data.get("seq");
    seq.and_then(|s| s.parse().ok()).unwrap_or(-1)
}

impl Provider for SimulatedProvider {
    fn batching(&self) -> Batching {
        if self.pack {
            Batching {
                max: PACK,
                packs_one_key: true,
            }
        } else {
            Batching::SINGLE
        }
    }

    /// Every fifth goes alone.
    fn packs(&self, delivery: &Delivery) -> bool {
        self.pack && seq(delivery) % 5 != 4
    }

    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        Box::pin(async move {
            if self.pack {
                return Ok(self.call(batch, deadline).await);
            }
            let mut results = Vec::with_capacity(batch.len());
            for one in batch.chunks(1) {
                results.extend(self.call(one, deadline).await);
            }
            Ok(results)
        })
    }
}
