//! The one loop: events of the group in, transactions out.
//!
//! It owns the backlog and every decision about it. It never waits for the store with its ears
//! closed: after a failure it goes back to the loop until the next try is due, so a partition can
//! be given up while the store is down.

mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bongsu_runtime::Shutdown;
use bongsu_schemas::SchemaRef;
use bongsu_stream::port::{Committed, GroupConsumer, GroupEvent, Producer, Record, TopicPartition};
use tokio::time::{Instant, timeout_at};

use crate::backlog::{Backlog, Prepared, Verdicts};
use crate::catch_up::CatchUp;
use crate::config::Settings;
use crate::error::LedgerError;
use crate::hygiene::Hygiene;
use crate::metrics::LedgerMetrics;
use crate::schemas::Schemas;
use crate::service::{Resources, SERVICE};

/// What the writer stands on.
pub(crate) struct Beneath {
    pub(crate) settings: Settings,
    pub(crate) resources: Resources,
    pub(crate) producer: Arc<dyn Producer>,
    pub(crate) dead_letter_partitions: i32,
    pub(crate) metrics: LedgerMetrics,
    /// None when it is switched off.
    pub(crate) hygiene: Option<Hygiene>,
}

/// Something that is waited for failed.
#[derive(Debug)]
struct Trouble {
    what: &'static str,
    why: String,
}

/// Whether a step did something, so that the next may follow at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Some,
    None,
}

/// What was found to be wrong with single records.
struct Known {
    schemas: Schemas,
    /// Receipts the store refuses for good, with its reason.
    refused: BTreeMap<(TopicPartition, i64), String>,
}

impl Verdicts for Known {
    fn schema_is_missing(&self, reference: SchemaRef) -> Option<String> {
        self.schemas.missing(reference)
    }

    fn store_refuses(&self, record: &Record) -> Option<String> {
        if self.refused.is_empty() {
            return None;
        }
        let partition = TopicPartition::new(record.topic.clone(), record.partition);
        self.refused.get(&(partition, record.offset)).cloned()
    }
}

pub(crate) struct Writer {
    beneath: Beneath,
    consumer: Box<dyn GroupConsumer>,
    known: Known,
    assigned: BTreeSet<TopicPartition>,
    /// Assigned and not yet compared with the store, with the group's offset.
    unreconciled: BTreeMap<TopicPartition, Option<i64>>,
    catch_up: CatchUp,
    backlog: Backlog,
    /// The transaction that is being tried.
    prepared: Option<Prepared>,
    /// Most records of the next transaction; small while the store refuses one of them.
    limit: usize,
    is_paused: bool,
    /// When to take the next step; `None` while there is nothing to do.
    due: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    has_store_answered: bool,
}

impl Writer {
    pub(crate) fn new(
        beneath: Beneath,
        schemas: Schemas,
        consumer: Box<dyn GroupConsumer>,
    ) -> Self {
        Self {
            limit: beneath.settings.batch_records,
            beneath,
            consumer,
            known: Known {
                schemas,
                refused: BTreeMap::new(),
            },
            assigned: BTreeSet::new(),
            unreconciled: BTreeMap::new(),
            catch_up: CatchUp::default(),
            backlog: Backlog::default(),
            prepared: None,
            is_paused: false,
            due: Some(Instant::now()),
            failures: 0,
            has_store_answered: false,
        }
    }

    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), LedgerError> {
        loop {
            let due = self.due;
            tokio::select! {
                // Cancel safe, all of them: a step runs in the handler, never in a branch.
                biased;
                () = shutdown.requested() => break,
                () = self.known.schemas.learned() => self.due_now(),
                () = until(due) => self.step().await,
                event = self.consumer.next() => self.take(event).await?,
            }
        }
        self.drain().await;
        self.consumer.close().await;
        Ok(())
    }

    async fn take(&mut self, event: GroupEvent) -> Result<(), LedgerError> {
        match event {
            GroupEvent::Records(records) => self.receive(records),
            GroupEvent::Assigned(partitions) => self.assign(partitions),
            GroupEvent::Revoked {
                rebalance,
                partitions,
            } => {
                self.finish(&partitions).await;
                self.forget(&partitions);
                self.consumer.release(rebalance);
            }
            GroupEvent::Lost(partitions) => self.forget(&partitions),
            GroupEvent::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn receive(&mut self, records: Vec<Record>) {
        for record in records {
            self.backlog.push(record);
        }
        if self.backlog.len() >= self.beneath.settings.backlog_records && !self.is_paused {
            self.is_paused = true;
            let all: Vec<_> = self.assigned.iter().cloned().collect();
            self.consumer.pause(&all);
        }
        // While something fails, its own wait stands.
        if self.failures > 0 {
            return;
        }
        if self.backlog.len() >= self.limit {
            self.due_now();
        } else if self.due.is_none() {
            self.due = Some(Instant::now() + self.beneath.settings.batch_wait.0);
        }
    }

    fn assign(&mut self, partitions: Vec<(TopicPartition, Option<Committed>)>) {
        let names: Vec<_> = partitions.iter().map(|(p, _)| p.clone()).collect();
        if self.is_paused {
            self.consumer.pause(&names);
        }
        self.assigned.extend(names);
        for (partition, committed) in partitions {
            let committed = committed.map(|c| c.offset);
            self.unreconciled.insert(partition, committed);
        }
        if self.failures == 0 {
            self.due_now();
        }
    }

    /// Writes what was read of partitions that are to be given up, unless the store is down: the
    /// next owner reads it again.
    async fn finish(&mut self, partitions: &[TopicPartition]) {
        let until = Instant::now() + self.beneath.settings.apply_timeout.0;
        while self.failures == 0 && partitions.iter().any(|p| self.backlog.holds(p)) {
            match timeout_at(until, self.work()).await {
                Ok(Ok(Progress::Some)) => {}
                Ok(Ok(Progress::None)) | Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.assigned.remove(partition);
            self.unreconciled.remove(partition);
            self.catch_up.drop_partition(partition);
            self.backlog.drop_partition(partition);
            self.known.refused.retain(|(p, _), _| p != partition);
        }
        self.prepared = None;
        self.resume_if_short();
    }

    /// Writes what was read, within the drain deadline; what is left is read again after the
    /// restart.
    async fn drain(&mut self) {
        let health = &self.beneath.resources.health;
        health.set(SERVICE, Err("draining".to_owned()));
        let until = Instant::now() + self.beneath.settings.drain_timeout.0;
        while !self.backlog.is_empty() && self.failures == 0 {
            match timeout_at(until, self.work()).await {
                Ok(Ok(Progress::Some)) => {}
                Ok(Ok(Progress::None)) | Err(_) => break,
                Ok(Err(trouble)) => {
                    tracing::warn!(what = trouble.what, why = trouble.why, "the drain failed");
                    break;
                }
            }
        }
        if !self.backlog.is_empty() {
            let records = self.backlog.len();
            tracing::warn!(
                records,
                "not written before the end; they will be read again"
            );
        }
    }

    /// One step, and when the next is due.
    async fn step(&mut self) {
        match self.work().await {
            Ok(progress) => {
                if self.failures > 0 || !self.has_store_answered {
                    tracing::info!("the ledger writes");
                    self.beneath.resources.health.set(SERVICE, Ok(()));
                }
                self.has_store_answered = true;
                self.failures = 0;
                self.resume_if_short();
                self.due = self.next_due(progress);
            }
            Err(trouble) => self.wait_after(trouble),
        }
    }

    fn next_due(&self, progress: Progress) -> Option<Instant> {
        let now = Instant::now();
        let is_open = self.unreconciled.is_empty() && self.catch_up.is_empty();
        let is_full = self.backlog.len() >= self.limit || !is_open;
        match progress {
            Progress::Some if is_full => Some(now),
            Progress::None if is_open && self.known.schemas.is_learning() => None,
            Progress::Some | Progress::None if self.backlog.is_empty() && is_open => None,
            Progress::Some | Progress::None => Some(now + self.beneath.settings.batch_wait.0),
        }
    }

    fn wait_after(&mut self, trouble: Trouble) {
        let Trouble { what, why } = trouble;
        if self.failures == 0 {
            tracing::error!(what, why, "the ledger waits; nothing is lost");
        } else {
            tracing::debug!(
                what,
                why,
                failures = self.failures,
                "the ledger still waits"
            );
        }
        self.beneath.metrics.failed(what);
        let health = &self.beneath.resources.health;
        health.set(SERVICE, Err(format!("{what}: {why}")));
        let settings = &self.beneath.settings;
        let wait = backoff(settings.retry_base.0, settings.retry_cap.0, self.failures);
        self.failures = self.failures.saturating_add(1);
        self.due = Some(Instant::now() + wait);
    }

    fn resume_if_short(&mut self) {
        if self.is_paused && self.backlog.len() <= self.beneath.settings.backlog_records / 2 {
            self.is_paused = false;
            let all: Vec<_> = self.assigned.iter().cloned().collect();
            self.consumer.resume(&all);
        }
    }

    fn due_now(&mut self) {
        if self.failures == 0 {
            self.due = Some(Instant::now());
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn backoff(base: Duration, cap: Duration, failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.min(20));
    base.saturating_mul(factor).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_cap() {
        let wait = |failures| {
            backoff(
                Duration::from_millis(200),
                Duration::from_secs(10),
                failures,
            )
        };
        assert_eq!(wait(0), Duration::from_millis(200));
        assert_eq!(wait(3), Duration::from_millis(1_600));
        assert_eq!(wait(9), Duration::from_secs(10));
        assert_eq!(wait(u32::MAX), Duration::from_secs(10));
    }
}
