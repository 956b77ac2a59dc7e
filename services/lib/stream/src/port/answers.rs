//! Answers to many records of one sender, taken together.

use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::error::ProduceError;

/// What became of a record: its ticket, and its offset or why it has none.
pub type Answer = (u64, Result<i64, ProduceError>);

/// Where a producer puts answers and one task takes them. Memory: what that task has outstanding.
#[derive(Debug, Default)]
pub struct Answers {
    come: Mutex<Vec<Answer>>,
    waker: AtomicWaker,
}

impl Answers {
    /// Adds an answer and wakes who waits.
    pub fn add(&self, answer: Answer) {
        self.come
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(answer);
        // Only the first of several finds somebody to wake.
        self.waker.wake();
    }

    /// Takes what has come into `into`, which must be empty.
    pub fn take(&self, into: &mut Vec<Answer>) {
        let mut come = self.come.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *come, into);
    }

    /// Ready with at least one answer in `into`, which must be empty; else the task is woken when
    /// one comes. For one task only.
    pub fn poll_take(&self, context: &Context<'_>, into: &mut Vec<Answer>) -> Poll<()> {
        self.waker.register(context.waker());
        self.take(into);
        if into.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_that_come_together_are_taken_together() {
        let answers = Answers::default();
        let mut taken = Vec::new();
        let take = std::future::poll_fn(|context| answers.poll_take(context, &mut taken));
        let tell = async {
            answers.add((1, Ok(10)));
            answers.add((2, Err(ProduceError::Closed)));
        };
        tokio::join!(take, tell);
        assert!(matches!(
            taken[..],
            [(1, Ok(10)), (2, Err(ProduceError::Closed))]
        ));
    }
}
