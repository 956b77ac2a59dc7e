//! The connections of one account: as many as it may have, kept while they are of use.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::classify::{Failure, Reply, Step};
use super::payload::Mail;
use super::session::{Endpoint, Session};

/// A pool. Bounded: by its permits.
pub(super) struct Pool {
    endpoint: Endpoint,
    idle: Mutex<Vec<Session>>,
    permits: Semaphore,
    idle_timeout: Duration,
    most_mails: usize,
}

impl Pool {
    pub(super) fn new(
        endpoint: Endpoint,
        connections: usize,
        most_mails: usize,
        idle_timeout: Duration,
    ) -> Self {
        Self {
            endpoint,
            idle: Mutex::default(),
            permits: Semaphore::new(connections.min(Semaphore::MAX_PERMITS)),
            idle_timeout,
            most_mails,
        }
    }

    /// Sends a mail over a kept connection or a new one.
    ///
    /// Cancel safety: dropping the future closes the connection; the mail may have been taken.
    pub(super) async fn send(&self, mail: &Mail, deadline: Instant) -> Result<(), Failure> {
        let permit = timeout_at(deadline, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(Failure::NotSent(Step::Connect));
        };
        if let Some(session) = self.take() {
            match self.over(session, mail, deadline).await {
                // The relay closed it while it was idle: nothing of the mail was read.
                Err(failure) if failure.is_stale() && Instant::now() < deadline => {}
                result => return result,
            }
        }
        let session = Session::open(&self.endpoint, deadline).await?;
        self.over(session, mail, deadline).await
    }

    async fn over(
        &self,
        mut session: Session,
        mail: &Mail,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let result = match timeout_at(deadline, session.send(mail)).await {
            Ok(result) => result,
            Err(_) if session.dot_left() => Err(Failure::Lost),
            Err(_) => Err(Failure::NotSent(Step::Data)),
        };
        let useful = match result {
            Ok(()) | Err(Failure::TooLarge | Failure::NotOffered(_)) => true,
            Err(Failure::Refused(_, Reply { code: 421, .. })) => false,
            Err(Failure::Refused(..)) => {
                matches!(timeout_at(deadline, session.reset()).await, Ok(true))
            }
            Err(Failure::NotSent(_) | Failure::Lost) => false,
        };
        if useful && session.mails < self.most_mails {
            session.used = Instant::now();
            self.idle().push(session);
        }
        result
    }

    /// The connection used last; those idle for too long are closed.
    fn take(&self) -> Option<Session> {
        let mut idle = self.idle();
        let now = Instant::now();
        idle.retain(|session| now.duration_since(session.used) < self.idle_timeout);
        idle.pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
