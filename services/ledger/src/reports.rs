//! Reports that carry a provider's own id only: kept until their delivery is known, then written to
//! `results` as the receipts they would have been with our reference.
//!
//! ```text
//! reports ─► waiting_reports (store) ─► looked at when due ─► delivery known: receipt on results
//!                                             │               not yet: looked at again, ever later
//!                                             └─────────────► too old, or two deliveries: given up
//! ```
//!
//! Invariant: a report leaves the store only after Kafka has its receipt, or when it is given up and
//! counted; the group's offsets move only after the store has it. So a crash at any point maps a
//! report again at most, and a receipt's id is derived: twice is one receipt.

mod decide;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bongsu_domain::{Outcome, Reason, Timestamp};
use bongsu_runtime::Shutdown;
use bongsu_schemas::convert::report_receipt;
use bongsu_schemas::headers;
use bongsu_store::{DueReport, ReportChanges, StoreError, WaitingReport};
use bongsu_stream::error::ProduceError;
use bongsu_stream::port::{
    Commit, Committed, GroupConsumer, GroupEvent, GroupOptions, Headers, Outgoing, Producer,
    Record, Reset, TopicPartition,
};
use futures_util::future::try_join_all;
use thiserror::Error;
use tokio::time::{Instant, timeout};

use self::decide::{Next, decide};
use crate::config::Settings;
use crate::error::LedgerError;
use crate::metrics::ReportMetrics;
use crate::service::{LINGER, Resources};

/// How often what is due is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Pause after something failed.
const TROUBLE: Duration = Duration::from_secs(5);
/// Reports looked at in one go.
const MOST: u32 = 500;
/// Bytes that wait between Kafka and the store.
const BUFFER: usize = 1024 * 1024;
/// Longest id or other text of a report that is kept.
const TEXT_BYTES: usize = 200;

/// Something that is waited for failed; it is tried again.
#[derive(Debug, Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Produce(#[from] ProduceError),
    #[error("a receipt does not fit its schema: {0}")]
    Encode(#[from] bongsu_schemas::EncodeError),
    #[error("no answer in time")]
    Late,
}

/// What was read of a partition and is not in the store yet.
#[derive(Default)]
struct Unwritten {
    reports: Vec<WaitingReport>,
    next: i64,
}

/// The mapper of one ledger.
pub(crate) struct Mapper {
    resources: Resources,
    producer: Arc<dyn Producer>,
    metrics: ReportMetrics,
    kept_ms: i64,
    patience: Duration,
    consumer: Box<dyn GroupConsumer>,
    assigned: BTreeSet<TopicPartition>,
    unwritten: BTreeMap<TopicPartition, Unwritten>,
    is_paused: bool,
    /// Nothing failed at the last step.
    is_quiet: bool,
}

impl Mapper {
    /// A mapper in its group; none where there is no topic of such reports.
    pub(crate) async fn join(
        settings: &Settings,
        resources: &Resources,
    ) -> Result<Option<Self>, LedgerError> {
        let topic = resources.topics.reports();
        let found = resources.cluster.topics(vec![topic.to_string()]).await?;
        if found.is_empty() {
            tracing::warn!(%topic, "no such topic: reports without our reference are not mapped");
            return Ok(None);
        }
        let consumer = resources.cluster.join(GroupOptions {
            group: resources.topics.mapping_group(),
            topics: vec![topic],
            reset: Reset::Earliest,
            session_timeout: settings.session_timeout.0,
            buffer_bytes: BUFFER,
        })?;
        Ok(Some(Self {
            producer: resources.cluster.producer(LINGER)?,
            metrics: ReportMetrics::new(&resources.metrics),
            kept_ms: i64::try_from(settings.reports_kept.0.as_millis()).unwrap_or(i64::MAX),
            patience: settings.apply_timeout.0,
            resources: resources.clone(),
            consumer,
            assigned: BTreeSet::new(),
            unwritten: BTreeMap::new(),
            is_paused: false,
            is_quiet: true,
        }))
    }

    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), LedgerError> {
        let mut due = Instant::now();
        loop {
            tokio::select! {
                // Cancel safe, all of them: a step runs in the handler, never in a branch.
                biased;
                () = shutdown.requested() => break,
                () = tokio::time::sleep_until(due) => due = Instant::now() + self.step().await,
                event = self.consumer.next() => self.take(event)?,
            }
        }
        self.consumer.close().await;
        Ok(())
    }

    fn take(&mut self, event: GroupEvent) -> Result<(), LedgerError> {
        match event {
            GroupEvent::Records(records) => {
                for record in &records {
                    self.receive(record);
                }
            }
            GroupEvent::Assigned(partitions) => {
                let partitions: Vec<_> = partitions.into_iter().map(|(p, _)| p).collect();
                if self.is_paused {
                    self.consumer.pause(&partitions);
                }
                self.assigned.extend(partitions);
            }
            GroupEvent::Revoked {
                rebalance,
                partitions,
            } => {
                self.forget(&partitions);
                self.consumer.release(rebalance);
            }
            GroupEvent::Lost(partitions) => self.forget(&partitions),
            GroupEvent::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// What is not in the store of partitions that are given up is read again by the next owner.
    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.assigned.remove(partition);
            self.unwritten.remove(partition);
        }
    }

    fn receive(&mut self, record: &Record) {
        let partition = TopicPartition::new(Arc::clone(&record.topic), record.partition);
        let unwritten = self.unwritten.entry(partition).or_default();
        unwritten.next = record.offset + 1;
        match read(record, self.resources.clock.now_millis()) {
            Some(report) => unwritten.reports.push(report),
            None => self.metrics.reports("not_final", 1),
        }
        let held: usize = self.unwritten.values().map(|u| u.reports.len()).sum();
        if held >= MOST as usize && !self.is_paused {
            self.is_paused = true;
            let all: Vec<_> = self.assigned.iter().cloned().collect();
            self.consumer.pause(&all);
        }
    }

    /// Writes what was read, and looks at what is due; gives the pause until the next step.
    async fn step(&mut self) -> Duration {
        let patience = self.patience;
        let done = match timeout(patience, self.work()).await {
            Ok(done) => done,
            Err(_) => Err(Failed::Late),
        };
        match done {
            Ok(more) => {
                self.is_quiet = true;
                if more { Duration::ZERO } else { LOOK }
            }
            Err(error) => {
                if std::mem::replace(&mut self.is_quiet, false) {
                    tracing::warn!(%error, "reports wait; nothing is lost");
                }
                TROUBLE
            }
        }
    }

    /// Whether more is due at once.
    async fn work(&mut self) -> Result<bool, Failed> {
        self.write().await?;
        let now = self.resources.clock.now_millis();
        let due = self
            .resources
            .store
            .due_reports(Timestamp(now), MOST)
            .await?;
        let more = due.len() >= MOST as usize;
        if !due.is_empty() {
            self.settle(due, now).await?;
        }
        Ok(more)
    }

    /// What was read goes into the store, and then the group's offsets move.
    async fn write(&mut self) -> Result<(), Failed> {
        if self.unwritten.is_empty() {
            self.resume();
            return Ok(());
        }
        let came: Vec<_> = self
            .unwritten
            .values()
            .flat_map(|u| u.reports.clone())
            .collect();
        if !came.is_empty() {
            let kept = came.len();
            let changes = ReportChanges {
                came,
                ..ReportChanges::default()
            };
            self.resources.store.keep_reports(&changes).await?;
            self.metrics.reports("kept", kept);
        }
        let commits =
            std::mem::take(&mut self.unwritten)
                .into_iter()
                .map(|(partition, unwritten)| Commit {
                    partition,
                    committed: Committed {
                        offset: unwritten.next,
                        metadata: String::new(),
                    },
                });
        // That they could not be written is no loss: what is read again is one row.
        if let Err(error) = self.consumer.commit(commits.collect()).await {
            tracing::debug!(%error, "the offsets of reports stay behind the store");
        }
        self.resume();
        Ok(())
    }

    fn resume(&mut self) {
        if std::mem::replace(&mut self.is_paused, false) {
            let all: Vec<_> = self.assigned.iter().cloned().collect();
            self.consumer.resume(&all);
        }
    }

    /// Writes the receipts of what is known, and then takes it out of the store.
    async fn settle(&self, due: Vec<DueReport>, now: i64) -> Result<(), Failed> {
        let mut changes = ReportChanges::default();
        let mut sent = Vec::new();
        let mut counted: BTreeMap<&'static str, usize> = BTreeMap::new();
        for due in due {
            let next = decide(&due, now, self.kept_ms);
            let result = match next {
                Next::Map { reference, settled } => {
                    sent.push(
                        self.producer
                            .send(self.record(&due.report, reference, settled)?),
                    );
                    "mapped"
                }
                Next::Look(at) => {
                    changes.later.push(WaitingReport {
                        look_at: at,
                        ..due.report
                    });
                    continue;
                }
                Next::GiveUp(why) => why,
            };
            changes.over.push(due.report.id());
            *counted.entry(result).or_default() += 1;
        }
        try_join_all(sent).await?;
        self.resources.store.keep_reports(&changes).await?;
        for (result, reports) in counted {
            self.metrics.reports(result, reports);
        }
        Ok(())
    }

    fn record(
        &self,
        report: &WaitingReport,
        reference: bongsu_domain::Reference,
        settled: bongsu_domain::Settled,
    ) -> Result<Outgoing, Failed> {
        let topics = &self.resources.topics;
        let topic = topics.deliveries(reference.channel, reference.class);
        let receipt = report_receipt(&bongsu_schemas::convert::Report {
            reference,
            settled,
            account: &report.account,
            key: &report.provider_reference,
            said: &report.said,
            at: Timestamp(report.at),
            topic: &topic,
        });
        Ok(Outgoing {
            topic: topics.results(),
            partition: reference.partition,
            key: None,
            value: Some(self.resources.codec.encode(&receipt)?),
            headers: Headers::default()
                .with(headers::KIND, "report")
                .with(headers::DELIVERY_ID, reference.delivery.to_string()),
        })
    }
}

/// The report of a record; none when it says nothing final, or was forged.
fn read(record: &Record, now: i64) -> Option<WaitingReport> {
    let text = |name| {
        let found = record.headers.text(name);
        found.filter(|t| !t.is_empty() && t.len() <= TEXT_BYTES)
    };
    let (outcome, reason) = (text(headers::OUTCOME)?, text(headers::REASON)?);
    Outcome::parse(outcome).ok()?;
    Reason::parse(reason).ok()?;
    let key = std::str::from_utf8(record.key.as_deref()?).ok()?;
    let at = text(headers::AT).and_then(|at| at.parse().ok());
    (!key.is_empty() && key.len() <= TEXT_BYTES).then(|| WaitingReport {
        channel: text(headers::CHANNEL).unwrap_or_default().to_owned(),
        account: text(headers::ACCOUNT).unwrap_or_default().to_owned(),
        provider_reference: key.to_owned(),
        said: text(headers::SAID).unwrap_or_default().to_owned(),
        outcome: outcome.to_owned(),
        reason: reason.to_owned(),
        at: at.unwrap_or(record.timestamp),
        // By our clock: the topic may be read again long after.
        received_at: record.timestamp.min(now),
        look_at: now,
    })
}
