//! Commits, one request at a time, on a thread of their own.
//!
//! What waits while a request runs is merged into the next one, so a slow broker makes commits
//! larger and not more.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::oneshot;

use super::GroupClient;
use crate::error::{CommitError, ConsumeError};
use crate::kafka::convert::commit_list;
use crate::port::{Commit, TopicPartition};

/// Commits that may wait for the running one.
const WAITING: usize = 1_024;

type Answer = oneshot::Sender<Result<(), CommitError>>;

struct Request {
    commits: Vec<Commit>,
    answer: Answer,
}

/// The way to the commit thread. The thread ends when this is dropped.
pub(super) struct Committer(SyncSender<Request>);

impl Committer {
    pub(super) fn start(group: &str, client: Weak<GroupClient>) -> Result<Self, ConsumeError> {
        let (requests, received) = sync_channel(WAITING);
        std::thread::Builder::new()
            .name(format!("commit-{group}"))
            .spawn(move || run(&received, &client))
            .map_err(|e| ConsumeError::Client(e.to_string()))?;
        Ok(Self(requests))
    }

    /// Queues a commit; `None` when too many wait.
    pub(super) fn commit(
        &self,
        commits: Vec<Commit>,
    ) -> Option<oneshot::Receiver<Result<(), CommitError>>> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Request { commits, answer }).ok()?;
        Some(answered)
    }
}

fn run(requests: &Receiver<Request>, client: &Weak<GroupClient>) {
    while let Ok(first) = requests.recv() {
        let mut answers = vec![first.answer];
        let mut latest: BTreeMap<TopicPartition, Commit> = BTreeMap::new();
        let mut add = |commits: Vec<Commit>| {
            for commit in commits {
                latest.insert(commit.partition.clone(), commit);
            }
        };
        add(first.commits);
        while let Ok(more) = requests.try_recv() {
            answers.push(more.answer);
            add(more.commits);
        }
        let result = commit(client, &latest);
        for answer in answers {
            // Whoever dropped the future does not want to know.
            drop(answer.send(result.clone()));
        }
    }
}

fn commit(
    client: &Weak<GroupClient>,
    latest: &BTreeMap<TopicPartition, Commit>,
) -> Result<(), CommitError> {
    let client = client.upgrade().ok_or(CommitError::Closed)?;
    let list = commit_list(latest.values()).map_err(|e| CommitError::Transient(e.to_string()))?;
    client
        .commit(&list, CommitMode::Sync)
        .map_err(|e| commit_error(&e))
}

fn commit_error(error: &KafkaError) -> CommitError {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::FencedInstanceId
            | Code::FencedMemberEpoch
            | Code::AssignmentLost,
        ) => CommitError::NotOwner(error.to_string()),
        _ => CommitError::Transient(error.to_string()),
    }
}
