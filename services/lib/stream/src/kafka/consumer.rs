//! Group membership: one thread polls, one commits, the owner sees events in order.
//!
//! The poll thread owns the librdkafka consumer and everything about the assignment. It never
//! waits for the owner: a full channel makes it look for commands, and after a while pause all
//! partitions so that it can go on polling for rebalances. Revocations are answered late, when the
//! owner releases them; librdkafka allows that for as long as the session and the rebalance
//! timeout (5 min) last. Commits run synchronously on a second thread, so that they neither wait
//! for the poll loop nor hold it up.

mod assignment;
mod committer;
mod poller;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::{mpsc, oneshot};

use self::assignment::RebalanceContext;
use self::committer::Committer;
use self::poller::Poller;
use super::client::{Kept, Recipe};
use super::convert::consume_error;
use super::settings::Settings;
use crate::error::{CommitError, ConsumeError};
use crate::port::{
    Commit, GroupConsumer, GroupEvent, GroupMetadata, GroupOptions, Record, TopicPartition,
};

/// Batches that may wait for the owner; their bytes are bounded too.
const BATCHES: usize = 64;

type GroupClient = Kept<BaseConsumer<RebalanceContext>>;

/// What the owner asks of the poll thread.
enum Command {
    Pause(Vec<TopicPartition>),
    Resume(Vec<TopicPartition>),
    Release(u64),
    Close(oneshot::Sender<()>),
}

/// What the poll thread tells the owner.
enum Item {
    /// Records read under this assignment epoch, and their weight.
    Records {
        epoch: u64,
        records: Vec<Record>,
        bytes: usize,
    },
    Event(GroupEvent),
}

/// What the threads and the owner share.
struct Shared {
    /// Bytes in the channel.
    waiting_bytes: AtomicUsize,
    /// The partitions for which a commit may be asked.
    owned: Mutex<HashMap<TopicPartition, ()>>,
    /// Partitions lost, with the last epoch whose records must not be given out any more.
    lost: Mutex<HashMap<TopicPartition, u64>>,
    closed: AtomicBool,
}

/// Takes a lock whose data stays sound even if a thread died holding it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The owner's side of a membership.
pub(super) struct KafkaGroupConsumer {
    items: mpsc::Receiver<Item>,
    /// Unbounded: they are few, the poll thread looks every few milliseconds, and none may be dropped.
    commands: std_mpsc::Sender<Command>,
    shared: Arc<Shared>,
    committer: Committer,
    /// Weak, because the last reference closes the consumer, which blocks: the poll thread's job.
    client: Weak<GroupClient>,
    /// Only partitions lost recently; empty nearly always.
    failed: Option<ConsumeError>,
}

impl KafkaGroupConsumer {
    pub(super) fn join(
        settings: &Settings,
        base: &Recipe,
        options: &GroupOptions,
    ) -> Result<Self, ConsumeError> {
        let recipe = base.with(settings.group_config(&base.config, options));
        let client: GroupClient = recipe
            .make(RebalanceContext::default())
            .map_err(|e| ConsumeError::Client(e.to_string()))?;
        let topics: Vec<&str> = options.topics.iter().map(|t| &**t).collect();
        client.subscribe(&topics).map_err(|e| consume_error(&e))?;
        let client = Arc::new(client);
        let shared = Arc::new(Shared {
            waiting_bytes: AtomicUsize::new(0),
            owned: Mutex::default(),
            lost: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let (sender, items) = mpsc::channel(BATCHES);
        let (commands, received) = std_mpsc::channel();
        let weak = Arc::downgrade(&client);
        let committer = Committer::start(&options.group, weak.clone())?;
        let poller = Poller::new(client, shared.clone(), sender, received, options);
        std::thread::Builder::new()
            .name(format!("kafka-{}", options.group))
            .spawn(move || poller.run())
            .map_err(|e| ConsumeError::Client(e.to_string()))?;
        Ok(Self {
            items,
            commands,
            shared,
            committer,
            client: weak,
            failed: None,
        })
    }

    fn command(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("the kafka poll thread takes no commands any more");
        }
    }

    /// Takes out what belongs to somebody else by now.
    fn still_ours(&self, epoch: u64, mut records: Vec<Record>) -> Vec<Record> {
        let lost = lock(&self.shared.lost);
        if lost.is_empty() {
            return records;
        }
        records.retain(|r| {
            let key = TopicPartition {
                topic: r.topic.clone(),
                partition: r.partition,
            };
            lost.get(&key).is_none_or(|until| epoch > *until)
        });
        records
    }
}

impl GroupConsumer for KafkaGroupConsumer {
    fn next(&mut self) -> BoxFuture<'_, GroupEvent> {
        Box::pin(async move {
            loop {
                match self.items.recv().await {
                    Some(Item::Records {
                        epoch,
                        records,
                        bytes,
                    }) => {
                        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
                        let records = self.still_ours(epoch, records);
                        if !records.is_empty() {
                            return GroupEvent::Records(records);
                        }
                    }
                    Some(Item::Event(GroupEvent::Failed(error))) => {
                        self.failed = Some(error.clone());
                        return GroupEvent::Failed(error);
                    }
                    Some(Item::Event(event)) => return event,
                    None => {
                        let error = self.failed.clone().unwrap_or(ConsumeError::Closed);
                        return GroupEvent::Failed(error);
                    }
                }
            }
        })
    }

    fn commit(&self, commits: Vec<Commit>) -> BoxFuture<'static, Result<(), CommitError>> {
        if commits.is_empty() {
            return Box::pin(std::future::ready(Ok(())));
        }
        if self.shared.closed.load(Ordering::Acquire) {
            return Box::pin(std::future::ready(Err(CommitError::Closed)));
        }
        // The broker checks the member's generation only, so a partition that moved away within
        // it is checked here.
        let foreign = {
            let owned = lock(&self.shared.owned);
            commits
                .iter()
                .find(|c| !owned.contains_key(&c.partition))
                .map(|c| c.partition.clone())
        };
        if let Some(partition) = foreign {
            let reason = format!("{partition} is not assigned to this member");
            return Box::pin(std::future::ready(Err(CommitError::NotOwner(reason))));
        }
        let answered = self.committer.commit(commits);
        Box::pin(async move {
            match answered {
                Some(answered) => answered.await.unwrap_or(Err(CommitError::Closed)),
                None => Err(CommitError::Transient(
                    "too many commits are waiting".to_owned(),
                )),
            }
        })
    }

    fn pause(&self, partitions: &[TopicPartition]) {
        self.command(Command::Pause(partitions.to_vec()));
    }

    fn resume(&self, partitions: &[TopicPartition]) {
        self.command(Command::Resume(partitions.to_vec()));
    }

    fn release(&self, rebalance: u64) {
        self.command(Command::Release(rebalance));
    }

    fn group_metadata(&self) -> BoxFuture<'static, Result<GroupMetadata, ConsumeError>> {
        let client = self.client.upgrade();
        // A question to librdkafka's own main thread, answered in microseconds.
        let metadata = client.as_ref().and_then(|c| c.group_metadata());
        Box::pin(std::future::ready(match metadata {
            Some(metadata) => Ok(GroupMetadata(Arc::new(metadata))),
            None => Err(ConsumeError::Closed),
        }))
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let (done, closed) = oneshot::channel();
            self.command(Command::Close(done));
            // Nothing is given out any more; the poll thread must not wait for room.
            self.items.close();
            if tokio::time::timeout(poller::CLOSE, closed).await.is_err() {
                tracing::warn!("the kafka consumer did not leave its group in time");
            }
        })
    }
}
