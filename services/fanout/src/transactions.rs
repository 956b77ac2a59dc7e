//! The one task that runs transactions, one at a time, so that the loop goes on reading meanwhile.

use bongsu_stream::error::{ConsumeError, TransactionError};
use bongsu_stream::port::{Commit, GroupMetadata, Outgoing, TransactionalProducer};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

/// One transaction to run.
pub struct Job {
    /// Records, in order.
    pub records: Vec<Outgoing>,
    /// Offsets of the group.
    pub offsets: Vec<Commit>,
    /// Proof of membership, as of now.
    pub group: BoxFuture<'static, Result<GroupMetadata, ConsumeError>>,
    /// Where the end is told.
    pub done: oneshot::Sender<Result<(), TransactionError>>,
}

/// Runs jobs until the loop is gone.
///
/// # Errors
/// Never by itself; the errors of transactions go to the loop, which decides.
pub async fn run_jobs(
    mut producer: Box<dyn TransactionalProducer>,
    mut jobs: mpsc::Receiver<Job>,
) -> Result<(), TransactionError> {
    while let Some(job) = jobs.recv().await {
        let result = match job.group.await {
            Ok(group) => producer.run(job.records, job.offsets, group).await,
            Err(error) => Err(TransactionError::Aborted(error.to_string())),
        };
        if job.done.send(result).is_err() {
            tracing::debug!("nobody waits for the transaction any more");
        }
    }
    Ok(())
}

/// Sends a job and gives a future of its end.
pub fn submit(
    jobs: &mpsc::Sender<Job>,
    records: Vec<Outgoing>,
    offsets: Vec<Commit>,
    group: BoxFuture<'static, Result<GroupMetadata, ConsumeError>>,
) -> BoxFuture<'static, Result<(), TransactionError>> {
    let (done, ended) = oneshot::channel();
    let jobs = jobs.clone();
    Box::pin(async move {
        let gone = || TransactionError::Fatal("the transaction task has ended".to_owned());
        jobs.send(Job {
            records,
            offsets,
            group,
            done,
        })
        .await
        .map_err(|_| gone())?;
        ended.await.map_err(|_| gone())?
    })
}
