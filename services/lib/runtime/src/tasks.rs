//! Named, joined, watched tasks: the only place that spawns.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use thiserror::Error;
use tokio::task::JoinSet;

/// A task ended although nobody asked it to.
#[derive(Debug, Clone, Error)]
#[error("task `{name}` died: {reason}")]
pub struct TaskDied {
    /// The task's name.
    pub name: &'static str,
    /// Its panic or error.
    pub reason: String,
    /// The error itself, for who decides by its type; none after a panic. Not a source: `reason`
    /// says it already.
    pub error: Option<Arc<dyn Error + Send + Sync>>,
}

/// What a task ends with when it fails; errors and texts become one.
pub type Failure = Box<dyn Error + Send + Sync>;

/// A set of tasks that live and die with their owner; dropping it aborts them.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<(&'static str, Result<(), Failure>)>,
}

impl Tasks {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task whose error stops the service.
    pub fn spawn<F, E>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Failure>,
    {
        self.set
            .spawn(async move { (name, task.await.map_err(Into::into)) });
    }

    /// How many still run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Waits until a task ends: `Some(Ok(name))` when it finished, an error when it failed, `None`
    /// when no task is left. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<&'static str, TaskDied>> {
        Some(match self.set.join_next().await? {
            Ok((name, Ok(()))) => Ok(name),
            Ok((name, Err(error))) => Err(TaskDied {
                name,
                reason: error.to_string(),
                error: Some(error.into()),
            }),
            Err(panic) => Err(TaskDied {
                name: "unnamed",
                reason: panic.to_string(),
                error: None,
            }),
        })
    }

    /// Waits for all of them; the first failure is the answer, after all have ended.
    ///
    /// # Errors
    /// [`TaskDied`] of the first task that failed.
    pub async fn join(mut self) -> Result<(), TaskDied> {
        let mut first = Ok(());
        while let Some(ended) = self.next().await {
            if let (Ok(()), Err(died)) = (&first, ended) {
                first = Err(died);
            }
        }
        first
    }
}

/// Starts a task that nobody joins because its work ends by itself with the runtime (a background
/// reader that feeds a watch). Its panic is logged by the runtime.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn detach<F>(name: &'static str, task: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let handle = tokio::spawn(async move {
        task.await;
        tracing::trace!(task = name, "detached task ended");
    });
    drop(handle);
}
