//! Producing checked events: all acknowledged, or each one's state told.
//!
//! Invariant: records of one partition are queued in the order of the request, and nothing is
//! queued after a failure was seen. A failed record is never tried again here: the idempotent
//! producer retries by itself, and a later attempt of ours would overtake what followed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bongsu_runtime::Health;
use bongsu_stream::error::ProduceError;
use bongsu_stream::port::{Outgoing, Producer};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout_at};

use crate::check::Ready;
use crate::problem::{ItemState, Problem, ProblemCode};

/// How long to leave a full queue alone when nothing of this request is in it.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);

type Acknowledgement = BoxFuture<'static, Result<i64, ProduceError>>;

/// Produces checked events.
pub struct Publisher {
    producer: Arc<dyn Producer>,
    timeout: Duration,
    health: Health,
}

/// One request on its way.
struct Flight {
    deadline: Instant,
    waiting: VecDeque<(usize, Acknowledgement)>,
    /// By index; `None` while nothing is known.
    answers: Vec<Option<Result<i64, ProduceError>>>,
    /// How many were queued: always the first ones.
    queued: usize,
    failed: bool,
}

impl Publisher {
    /// Waits at most `timeout` for the acknowledgements of a request; tells `health` when the producer
    /// can write nothing any more.
    #[must_use]
    pub fn new(producer: Arc<dyn Producer>, timeout: Duration, health: Health) -> Self {
        Self {
            producer,
            timeout,
            health,
        }
    }

    /// Produces events in order and answers once Kafka has acknowledged all.
    ///
    /// Not cancel safe in one sense: a dropped call may have published a first part of the request.
    /// The caller then has no answer, and its repeat with the same ids is safe.
    ///
    /// # Errors
    /// [`ProblemCode::Overloaded`] when nothing was published, else
    /// [`ProblemCode::NotAcknowledged`] with the state of every event.
    pub async fn publish(&self, events: Vec<Ready>) -> Result<Vec<ItemState>, Problem> {
        let mut flight = Flight {
            deadline: Instant::now() + self.timeout,
            waiting: VecDeque::with_capacity(events.len()),
            answers: events.iter().map(|_| None).collect(),
            queued: 0,
            failed: false,
        };
        for (index, event) in events.iter().enumerate() {
            if !self.queue(&mut flight, index, &event.record).await {
                break;
            }
        }
        if flight.queued == 0 && !flight.failed {
            return Err(Problem::new(
                ProblemCode::Overloaded,
                "the producer's queue stayed full; nothing was published",
            )
            .retry_after(1));
        }
        while flight.settle_oldest().await {}
        if let Some(error) = flight.fatal() {
            // Nothing that this process takes can be written any more. Not `gateway.kafka`: Kafka
            // itself may answer every probe.
            self.health.set("gateway.producer", Err(error.to_string()));
        }
        flight.conclude(&events)
    }

    /// Queues one record; false when the request cannot go on.
    async fn queue(&self, flight: &mut Flight, index: usize, record: &Outgoing) -> bool {
        while !flight.failed && Instant::now() < flight.deadline {
            let mut sent = self.producer.send(record.clone());
            // A refusal is there at once; whatever takes time is queued.
            match (&mut sent).now_or_never() {
                Some(Err(ProduceError::QueueFull)) => {
                    if !flight.settle_oldest().await {
                        sleep(QUEUE_PAUSE).await;
                    }
                }
                Some(answer) => {
                    flight.queued += usize::from(answer.is_ok());
                    flight.note(index, answer);
                    return !flight.failed;
                }
                None => {
                    flight.queued += 1;
                    flight.waiting.push_back((index, sent));
                    return true;
                }
            }
        }
        false
    }
}

impl Flight {
    fn note(&mut self, index: usize, answer: Result<i64, ProduceError>) {
        self.failed |= answer.is_err();
        if let Some(slot) = self.answers.get_mut(index) {
            *slot = Some(answer);
        }
    }

    /// Waits for the oldest outstanding record; false when none is left or time is up.
    async fn settle_oldest(&mut self) -> bool {
        let Some((index, acknowledgement)) = self.waiting.pop_front() else {
            return false;
        };
        match timeout_at(self.deadline, acknowledgement).await {
            Ok(answer) => {
                self.note(index, answer);
                true
            }
            Err(_) => {
                self.failed = true;
                // What is known of the others by now is still told.
                while let Some((index, acknowledgement)) = self.waiting.pop_front() {
                    if let Some(answer) = acknowledgement.now_or_never() {
                        self.note(index, answer);
                    }
                }
                false
            }
        }
    }

    /// The failure that no later request of this process will be spared.
    fn fatal(&self) -> Option<&ProduceError> {
        let mut answers = self.answers.iter().flatten();
        answers.find_map(|answer| match answer {
            Err(error @ ProduceError::Fatal(_)) => Some(error),
            Ok(_) | Err(_) => None,
        })
    }

    fn conclude(self, events: &[Ready]) -> Result<Vec<ItemState>, Problem> {
        let states: Vec<ItemState> = events
            .iter()
            .zip(self.answers)
            .enumerate()
            .map(|(index, (event, answer))| match answer {
                Some(Ok(offset)) => acknowledged(event, offset),
                Some(Err(error)) => unknown(event, error.to_string()),
                None if index < self.queued => unknown(event, "no answer in time".to_owned()),
                None => unknown(event, "not sent, for the request had failed".to_owned()),
            })
            .collect();
        let missing = states.iter().filter(|s| s.offset.is_none()).count();
        if missing == 0 {
            return Ok(states);
        }
        tracing::warn!(
            missing,
            of = states.len(),
            "kafka did not acknowledge every event of a request"
        );
        Err(Problem {
            events: states,
            ..Problem::new(
                ProblemCode::NotAcknowledged,
                format!(
                    "{missing} of {} event(s) are not acknowledged and may or may not be published; \
                     send the request again with the ids given here, repeats are recognised",
                    events.len()
                ),
            )
            .retry_after(1)
        })
    }
}

fn acknowledged(event: &Ready, offset: i64) -> ItemState {
    ItemState {
        state: "acknowledged",
        partition: Some(event.record.partition),
        offset: Some(offset),
        reason: None,
        ..unknown(event, String::new())
    }
}

fn unknown(event: &Ready, reason: String) -> ItemState {
    ItemState {
        id: event.id.clone(),
        sender: event.sender.clone(),
        state: "unknown",
        partition: None,
        offset: None,
        reason: Some(reason),
    }
}
