//! The poll thread of a group consumer.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::assignment::{Asked, report};
use super::{Command, GroupClient, Item, Shared, lock};
use crate::error::ConsumeError;
use crate::kafka::convert::{Names, partition_list, partitions, record, weight};
use crate::port::{Committed, GroupEvent, GroupOptions, Reset, TopicPartition};

/// How long leaving the group may take.
pub(super) const CLOSE: Duration = Duration::from_secs(5);

/// How long a poll waits when nothing is going on; a command waits at most this long.
const IDLE: Duration = Duration::from_millis(10);

/// The same while a revocation waits for its release, whose answer others wait for.
const REVOKING: Duration = Duration::from_millis(1);

/// How long the thread waits for room in the channel before it looks for commands again.
const FULL: Duration = Duration::from_millis(2);

/// After this long without room all partitions are paused, so that polling can go on. Pausing
/// throws librdkafka's read-ahead away, hence not at once.
const STALLED: Duration = Duration::from_millis(500);

/// Most records of one batch.
const BATCH: usize = 500;

/// How long a look-up of committed offsets may hold the thread up.
const LOOK_UP: Duration = Duration::from_secs(5);

pub(super) struct Poller {
    client: Arc<GroupClient>,
    shared: Arc<Shared>,
    items: mpsc::Sender<Item>,
    commands: Receiver<Command>,
    /// What found no room in the channel: at most one batch, and the events behind it.
    outbox: VecDeque<Item>,
    full_since: Option<Instant>,
    stalled: bool,
    budget: usize,
    start: Offset,
    names: Names,
    epoch: u64,
    rebalance: u64,
    /// An assignment whose committed offsets are still to be looked up.
    unanswered: Option<TopicPartitionList>,
    /// Revocations the owner has not released.
    revoking: BTreeMap<u64, TopicPartitionList>,
    owned: HashSet<TopicPartition>,
    paused: HashSet<TopicPartition>,
    leaving: HashSet<TopicPartition>,
}

impl Poller {
    pub(super) fn new(
        client: Arc<GroupClient>,
        shared: Arc<Shared>,
        items: mpsc::Sender<Item>,
        commands: Receiver<Command>,
        options: &GroupOptions,
    ) -> Self {
        Self {
            client,
            shared,
            items,
            commands,
            outbox: VecDeque::new(),
            full_since: None,
            stalled: false,
            budget: (options.buffer_bytes / 2).max(256 * 1024),
            start: match options.reset {
                Reset::Earliest => Offset::Beginning,
                Reset::Latest => Offset::End,
            },
            names: Names::default(),
            epoch: 0,
            rebalance: 0,
            unanswered: None,
            revoking: BTreeMap::new(),
            owned: HashSet::new(),
            paused: HashSet::new(),
            leaving: HashSet::new(),
        }
    }

    /// Polls until the owner closes or goes away.
    pub(super) fn run(mut self) {
        let done = loop {
            match self.take_commands() {
                Ok(None) => {}
                Ok(Some(done)) => break Some(done),
                Err(OwnerGone) => break None,
            }
            self.push_outbox();
            if self.is_full() && !self.stalled {
                match self.wait_for_room() {
                    Ok(None) => continue,
                    Ok(Some(done)) => break Some(done),
                    Err(OwnerGone) => break None,
                }
            }
            self.unstall();
            if !self.poll() {
                break None;
            }
            self.serve_rebalances();
            self.notice_loss();
        };
        self.leave(done);
    }

    // ---- the owner ---------------------------------------------------------------------------

    fn take_commands(&mut self) -> Result<Option<oneshot::Sender<()>>, OwnerGone> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Close(done)) => return Ok(Some(done)),
                Ok(command) => self.obey(command),
                Err(std::sync::mpsc::TryRecvError::Empty) => return Ok(None),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Err(OwnerGone),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Pause(list) => {
                let list: Vec<_> = list
                    .into_iter()
                    .filter(|p| self.owned.contains(p))
                    .collect();
                if !self.stalled {
                    report(self.client.pause(&partition_list(&list)), "pausing");
                }
                self.paused.extend(list);
            }
            Command::Resume(list) => {
                let list: Vec<_> = list.into_iter().filter(|p| self.paused.remove(p)).collect();
                if !self.stalled {
                    report(self.client.resume(&partition_list(&list)), "resuming");
                }
            }
            Command::Release(number) => {
                // A number that is gone was answered already: by a loss that came in between.
                if let Some(list) = self.revoking.remove(&number) {
                    self.give_up(&list);
                }
            }
            Command::Close(_) => {}
        }
    }

    fn push_outbox(&mut self) {
        while let Some(item) = self.outbox.pop_front() {
            if let Err(TrySendError::Full(item)) = self.items.try_send(item) {
                self.outbox.push_front(item);
                return;
            }
            // A closed channel means that the owner is going: nobody wants the item.
        }
    }

    fn is_full(&self) -> bool {
        !self.outbox.is_empty() || self.shared.waiting_bytes.load(Ordering::Acquire) > self.budget
    }

    fn wait_for_room(&mut self) -> Result<Option<oneshot::Sender<()>>, OwnerGone> {
        let since = *self.full_since.get_or_insert_with(Instant::now);
        if since.elapsed() > STALLED {
            self.stalled = true;
            report(
                self.client.pause(&partition_list(&self.owned)),
                "pausing for room",
            );
            return Ok(None);
        }
        match self.commands.recv_timeout(FULL) {
            Ok(Command::Close(done)) => Ok(Some(done)),
            Ok(command) => {
                self.obey(command);
                Ok(None)
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(OwnerGone),
        }
    }

    /// Goes on reading once half of the room is free again.
    fn unstall(&mut self) {
        if !self.is_full() {
            self.full_since = None;
        }
        let half_free = self.outbox.is_empty()
            && self.items.capacity() * 2 >= self.items.max_capacity()
            && self.shared.waiting_bytes.load(Ordering::Acquire) * 2 <= self.budget;
        if self.stalled && half_free {
            self.stalled = false;
            let resumed = self.owned.iter().filter(|p| !self.paused.contains(p));
            report(
                self.client.resume(&partition_list(resumed)),
                "resuming with room",
            );
        }
    }

    // ---- records -----------------------------------------------------------------------------

    /// Reads a batch; false when the consumer cannot go on.
    fn poll(&mut self) -> bool {
        let patience = if self.revoking.is_empty() {
            IDLE
        } else {
            REVOKING
        };
        let (mut records, mut bytes, mut failed) = (Vec::new(), 0, None);
        let mut wait = patience;
        while records.len() < BATCH && bytes < self.budget {
            match self.client.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let read = record(&message, &mut self.names);
                    let leaving = !self.leaving.is_empty()
                        && self
                            .leaving
                            .contains(&TopicPartition::new(read.topic.clone(), read.partition));
                    if !leaving {
                        bytes += weight(&read);
                        records.push(read);
                    }
                }
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
            }
            wait = Duration::ZERO;
        }
        if !records.is_empty() {
            self.shared.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
            self.outbox.push_back(Item::Records {
                epoch: self.epoch,
                records,
                bytes,
            });
            self.push_outbox();
        }
        failed.is_none_or(|error| self.survive(&error))
    }

    /// Whether polling can go on after this error.
    fn survive(&mut self, error: &KafkaError) -> bool {
        if let Some(reason) = fatal(error) {
            self.say(GroupEvent::Failed(ConsumeError::Client(reason)));
            return false;
        }
        tracing::warn!(%error, "kafka consumer");
        true
    }

    fn say(&mut self, event: GroupEvent) {
        self.outbox.push_back(Item::Event(event));
        self.push_outbox();
    }

    // ---- the group ---------------------------------------------------------------------------

    fn serve_rebalances(&mut self) {
        while let Some(asked) = self.client.context().take() {
            match asked {
                Asked::Assign(list) => {
                    self.unanswered = Some(list);
                    self.answer_assignment();
                }
                Asked::Revoke { list, lost } => self.revoke(list, lost),
                Asked::Failed(reason) => tracing::warn!(reason, "a rebalance failed"),
            }
        }
        if self.unanswered.is_some() {
            self.answer_assignment();
        }
    }

    /// Looks the committed offsets up and starts to read there. When the look-up fails the
    /// assignment stays unanswered and this is called again.
    fn answer_assignment(&mut self) {
        let Some(list) = self.unanswered.take() else {
            return;
        };
        if list.count() == 0 {
            report(
                self.client.incremental_assign(&list),
                "taking an empty assignment",
            );
            return;
        }
        let (starts, assigned) = match self.starts(&list) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the committed offsets cannot be read, trying again");
                self.unanswered = Some(list);
                return;
            }
        };
        if let Err(error) = self.client.incremental_assign(&starts) {
            self.say(GroupEvent::Failed(ConsumeError::Client(error.to_string())));
            return;
        }
        if self.stalled {
            report(self.client.pause(&starts), "pausing for room");
        }
        self.epoch += 1;
        let mut owned = lock(&self.shared.owned);
        for (partition, _) in &assigned {
            self.owned.insert(partition.clone());
            owned.insert(partition.clone(), ());
        }
        drop(owned);
        self.say(GroupEvent::Assigned(assigned));
    }

    fn starts(&self, list: &TopicPartitionList) -> Result<Starts, KafkaError> {
        let committed = self.client.committed_offsets(list.clone(), LOOK_UP)?;
        let mut starts = TopicPartitionList::new();
        let mut assigned = Vec::with_capacity(committed.count());
        for elem in committed.elements() {
            elem.error()?;
            let known = match elem.offset() {
                Offset::Offset(offset) => Some(Committed {
                    offset,
                    metadata: elem.metadata().to_owned(),
                }),
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => None,
            };
            let start = known
                .as_ref()
                .map_or(self.start, |c| Offset::Offset(c.offset));
            starts.add_partition_offset(elem.topic(), elem.partition(), start)?;
            assigned.push((TopicPartition::new(elem.topic(), elem.partition()), known));
        }
        Ok((starts, assigned))
    }

    fn revoke(&mut self, list: TopicPartitionList, lost: bool) {
        if let Some(assigning) = self.unanswered.take() {
            // Taken away before we could answer; librdkafka wants both answers.
            report(
                self.client.incremental_assign(&assigning),
                "taking an assignment late",
            );
        }
        if lost {
            self.lose(&list);
            return;
        }
        let ours: Vec<_> = partitions(&list)
            .into_iter()
            .filter(|p| self.owned.contains(p))
            .collect();
        if ours.is_empty() {
            report(
                self.client.incremental_unassign(&list),
                "giving up partitions",
            );
            return;
        }
        // librdkafka itself has stopped fetching them; what it read ahead is dropped in `poll`.
        self.leaving.extend(ours.iter().cloned());
        self.rebalance += 1;
        self.revoking.insert(self.rebalance, list);
        self.say(GroupEvent::Revoked {
            rebalance: self.rebalance,
            partitions: ours,
        });
    }

    /// A session can end while a revocation waits; librdkafka then makes no second callback.
    fn notice_loss(&mut self) {
        if self.revoking.is_empty() || !self.client.assignment_lost() {
            return;
        }
        for (_, list) in std::mem::take(&mut self.revoking) {
            self.lose(&list);
        }
    }

    fn lose(&mut self, list: &TopicPartitionList) {
        let gone: HashSet<_> = partitions(list).into_iter().collect();
        self.revoking
            .retain(|_, pending| partitions(pending).iter().all(|p| !gone.contains(p)));
        let mut marks = lock(&self.shared.lost);
        for partition in &gone {
            marks.insert(partition.clone(), self.epoch);
        }
        drop(marks);
        self.give_up(list);
        self.say(GroupEvent::Lost(gone.into_iter().collect()));
    }

    /// Answers a revocation, once.
    fn give_up(&mut self, list: &TopicPartitionList) {
        let gone = partitions(list);
        let mut owned = lock(&self.shared.owned);
        for partition in &gone {
            owned.remove(partition);
            self.owned.remove(partition);
            self.leaving.remove(partition);
        }
        drop(owned);
        // The application's pause would outlive the assignment.
        let stalled = self.stalled;
        let paused: Vec<_> = gone
            .iter()
            .filter(|p| self.paused.remove(*p) || stalled)
            .cloned()
            .collect();
        if !paused.is_empty() {
            report(self.client.resume(&partition_list(&paused)), "resuming");
        }
        report(
            self.client.incremental_unassign(list),
            "giving up partitions",
        );
    }

    // ---- the end -----------------------------------------------------------------------------

    fn leave(mut self, done: Option<oneshot::Sender<()>>) {
        self.shared.closed.store(true, Ordering::Release);
        for (_, list) in std::mem::take(&mut self.revoking) {
            self.give_up(&list);
        }
        self.client.context().answer_at_once();
        if let Some(list) = self.unanswered.take() {
            report(
                self.client.incremental_assign(&list),
                "taking an assignment late",
            );
        }
        while let Some(asked) = self.client.context().take() {
            match asked {
                Asked::Assign(list) => {
                    report(
                        self.client.incremental_assign(&list),
                        "taking an assignment",
                    );
                }
                Asked::Revoke { list, .. } => {
                    report(
                        self.client.incremental_unassign(&list),
                        "giving up partitions",
                    );
                }
                Asked::Failed(_) => {}
            }
        }
        report(self.client.close_queue(), "leaving the group");
        let since = Instant::now();
        while !self.client.closed() && since.elapsed() < CLOSE {
            drop(self.client.poll(Duration::from_millis(5)));
        }
        if done.is_some_and(|done| done.send(()).is_err()) {
            tracing::debug!("the owner stopped waiting for its consumer to close");
        }
        // Dropping the client frees librdkafka's threads, which may take a while: still in here.
    }
}

type Starts = (TopicPartitionList, Vec<(TopicPartition, Option<Committed>)>);

/// The owner was dropped without closing.
struct OwnerGone;

/// The reason, when librdkafka cannot go on or the settings do not let it read.
fn fatal(error: &KafkaError) -> Option<String> {
    use RDKafkaErrorCode as Code;
    if let KafkaError::MessageConsumptionFatal(_) = error {
        return Some(error.to_string());
    }
    match error.rdkafka_error_code() {
        Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::Fatal) => {
            Some(error.to_string())
        }
        _ => None,
    }
}
