//! What owners report, the commits made of it, and where `results` ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_stream::error::{CommitError, ConsumeError};
use bongsu_stream::port::{Commit, Committed, GroupConsumer, TailEnds, TopicPartition};
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{ClassLoop, send};
use crate::error::DispatchError;
use crate::journal::Pointer;
use crate::owner::Command;

/// How long a final commit is tried.
const FINAL_COMMIT: Duration = Duration::from_secs(3);
/// How long owners may take to say what may be committed; one that is late is left out.
const REPORT: Duration = Duration::from_millis(500);
/// A commit that takes longer is no reason not to look at the partitions.
const COMMIT_SLOW: Duration = Duration::from_secs(5);
/// A commit that takes longer than this while Kafka answers other questions was lost.
const COMMIT_LOST: Duration = Duration::from_secs(60);
/// How often the end of `results` is asked for partitions where nothing is under way.
const ENDS_EVERY: Duration = Duration::from_secs(2);

pub(super) type Reports = BTreeMap<TopicPartition, Committed>;
pub(super) type Asked = (Result<TailEnds, ConsumeError>, BTreeMap<i32, u64>);

/// A commit under way.
pub(super) struct Committing {
    pub(super) answer: BoxFuture<'static, Result<Vec<Commit>, CommitError>>,
    /// The moment its sending counts from, for the lease.
    pub(super) sent: i64,
    since: Instant,
}

impl ClassLoop {
    /// Asks every owner what may be committed.
    pub(super) fn ask_reports(&mut self) {
        let committing = self.commit.as_ref();
        // Beside a commit that takes long they are asked all the same: they watch the partitions.
        if self.reports.is_some() || committing.is_some_and(|c| c.since.elapsed() < COMMIT_SLOW) {
            return;
        }
        let asked = self.partitions.iter().map(|(tp, partition)| {
            let (answer, answered) = oneshot::channel();
            let commands = partition.commands.clone();
            let tp = tp.clone();
            async move {
                // One whose queue is full for so long is left out this time.
                let asked = async {
                    commands.send(Command::Report(answer)).await.ok()?;
                    answered.await.ok().flatten()
                };
                let committed = tokio::time::timeout(REPORT, asked).await.ok().flatten()?;
                Some((tp, committed))
            }
        });
        let asked: Vec<_> = asked.collect();
        if asked.is_empty() {
            return;
        }
        self.reports = Some(Box::pin(async move {
            join_all(asked).await.into_iter().flatten().collect()
        }));
    }

    /// Commits what has changed, and if nothing has, one position all the same: a commit that is
    /// taken is what the lease stands on.
    pub(super) fn commit_reports(&mut self, reports: Reports) {
        if self.commit.is_some() {
            return;
        }
        let mut commits: Vec<Commit> = Vec::new();
        let mut same = None;
        for (partition, committed) in reports {
            let Some(known) = self.partitions.get(&partition) else {
                continue;
            };
            let changed = known.committed.as_ref() != Some(&committed);
            let commit = Commit {
                partition,
                committed,
            };
            if changed {
                commits.push(commit);
            } else {
                same = Some(commit);
            }
        }
        if commits.is_empty() {
            commits.extend(same);
        }
        if commits.is_empty() {
            return;
        }
        let sent = self.shared.lease.moment();
        let commit = self.consumer.commit(commits.clone());
        self.commit = Some(Committing {
            answer: Box::pin(async move { commit.await.map(|()| commits) }),
            sent,
            since: Instant::now(),
        });
    }

    pub(super) async fn remember(
        &mut self,
        committed: Result<Vec<Commit>, CommitError>,
        sent: Option<i64>,
    ) {
        let commits = match committed {
            Ok(commits) => commits,
            // Tried again at the next tick; a lost assignment is told by the consumer itself.
            Err(error) => {
                tracing::warn!(%error, "a commit was not taken");
                return;
            }
        };
        if let Some(sent) = sent {
            self.shared.lease.renew(sent);
        }
        for commit in commits {
            let Some(partition) = self.partitions.get_mut(&commit.partition) else {
                continue;
            };
            if let Some(pointer) = Pointer::parse(&commit.committed.metadata) {
                let command = Command::Committed {
                    reach: pointer.reach,
                    journal_floor: pointer.journal_floor,
                };
                send(&partition.commands, &commit.partition, command).await;
            }
            partition.committed = Some(commit.committed);
        }
    }

    /// Asks where `results` ends, for partitions of which nothing is on its way: their successor
    /// need not read what others wrote meanwhile.
    pub(super) fn ask_ends(&mut self) {
        if self.ends.is_some() || self.ends_asked.elapsed() < ENDS_EVERY {
            return;
        }
        self.ends_asked = Instant::now();
        let mut sent = BTreeMap::new();
        let mut asked = Vec::new();
        for (tp, partition) in &self.partitions {
            let status = partition.status.borrow();
            if status.quiet {
                sent.insert(tp.partition, status.sent);
                let results = Arc::clone(&self.shared.sources.results);
                asked.push(TopicPartition::new(results, tp.partition));
            }
        }
        if asked.is_empty() {
            return;
        }
        let cluster = Arc::clone(&self.cluster);
        self.ends = Some(Box::pin(async move { (cluster.ends(asked).await, sent) }));
    }

    pub(super) async fn tell_ends(&mut self, (ends, sent): Asked) {
        let ends = match ends {
            Ok(ends) => ends,
            Err(error) => {
                tracing::debug!(%error, "the ends of results are not known");
                return;
            }
        };
        self.ends_told = Some(Instant::now());
        for (results, end) in ends {
            let Some(sent) = sent.get(&results.partition).copied() else {
                continue;
            };
            let known = self
                .partitions
                .iter()
                .find(|(tp, _)| tp.partition == results.partition);
            if let Some((tp, partition)) = known {
                let command = Command::ResultsEnd { end, sent };
                send(&partition.commands, tp, command).await;
            }
        }
    }

    /// A commit that Kafka's client never answers, while Kafka answers others, ends the lease for good;
    /// joining anew waits for it too.
    pub(super) fn watch_commit(&self) -> Result<(), DispatchError> {
        let Some(commit) = &self.commit else {
            return Ok(());
        };
        let waited = commit.since.elapsed();
        let reached = |told: Instant| told.saturating_duration_since(commit.since);
        if waited >= COMMIT_LOST && self.ends_told.is_some_and(|t| reached(t) >= waited / 2) {
            return Err(DispatchError::CommitLost(waited));
        }
        Ok(())
    }
}

/// One last commit, tried again for a short time; what it cannot write, the successor finds in
/// `results`.
pub(super) fn final_commit(
    consumer: &dyn GroupConsumer,
    commits: Vec<Commit>,
) -> impl Future<Output = ()> + Send + 'static {
    let attempt = (!commits.is_empty()).then(|| consumer.commit(commits));
    async move {
        let Some(attempt) = attempt else { return };
        match tokio::time::timeout(FINAL_COMMIT, attempt).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the final commit was not taken"),
            Err(_) => tracing::warn!("the final commit was not answered"),
        }
    }
}
