//! The steps of the writer: compare, catch up, put aside, write, commit.

use std::time::Duration;

use bongsu_store::{ErrorClass, ReceiptBatch, StoreError, WindowRow};
use bongsu_stream::dead_letters::dead_letter;
use bongsu_stream::port::{Commit, Committed, Outgoing};
use futures_util::future::try_join_all;
use tokio::time::{Instant, timeout};

use super::{Beneath, Progress, Trouble, Writer};
use crate::backlog::{Backlog, Letter, Prepared};
use crate::catch_up::{Difference, decide_difference};
use crate::hygiene::Failed;
use crate::service::SERVICE;

/// The store's answer to a batch.
enum Applied {
    Written,
    /// It will never take all of this.
    Refused(String),
}

impl Writer {
    pub(super) async fn work(&mut self) -> Result<Progress, Trouble> {
        if !self.has_store_answered {
            let store = self.beneath.resources.store.clone();
            self.beneath.ask("answer", store.ping()).await?;
        }
        if !self.unreconciled.is_empty() {
            self.reconcile().await?;
        }
        let caught = if self.catch_up.is_empty() {
            Progress::None
        } else {
            self.catch_up_once().await?
        };
        match self.write().await? {
            Progress::None => Ok(caught),
            Progress::Some => Ok(Progress::Some),
        }
    }

    /// Compares the store's offsets with the group's before anything of a new partition is written.
    async fn reconcile(&mut self) -> Result<(), Trouble> {
        let topics = &self.beneath.resources.topics;
        let (group, results) = (topics.ledger_group(), topics.results());
        let store = self.beneath.resources.store.clone();
        let stored = self
            .beneath
            .ask("give its offsets", store.offsets(&results))
            .await?;
        let cluster = &self.beneath.resources.cluster;
        let lag = cluster.lag(&group, vec![results.to_string()]).await;
        let lag = lag.map_err(|error| Trouble {
            what: "log",
            why: error.to_string(),
        })?;
        let mut renewed = Vec::new();
        let mut behind = Vec::new();
        for (partition, committed) in &self.unreconciled {
            let stored = stored.iter().find(|s| s.partition == partition.partition);
            let end = lag.iter().find(|l| &l.partition == partition);
            match decide_difference(
                stored.map(|s| s.next_offset),
                *committed,
                end.map(|l| l.end),
            ) {
                Difference::None => {}
                Difference::LogIsNew => renewed.push(partition.partition),
                Difference::Behind { from, until } => {
                    behind.push((partition.clone(), from, until));
                }
            }
        }
        if !renewed.is_empty() {
            tracing::warn!(
                topic = %results,
                partitions = ?renewed,
                "the store is ahead of the log, which must have been made anew: reading from its \
                 beginning"
            );
            self.beneath
                .ask("forget offsets", store.forget_offsets(&results, &renewed))
                .await?;
        }
        for (partition, from, until) in behind {
            tracing::info!(%partition, from, until, "the store is behind: reading again");
            self.catch_up.start(partition, from, until);
        }
        self.unreconciled.clear();
        Ok(())
    }

    /// Reads a stretch again that the group has passed and the store has not.
    async fn catch_up_once(&mut self) -> Result<Progress, Trouble> {
        let limit = self.beneath.settings.batch_records;
        let cluster = self.beneath.resources.cluster.clone();
        let read = self.catch_up.read(&*cluster, limit).await;
        let records = read.map_err(|error| Trouble {
            what: "log",
            why: error.to_string(),
        })?;
        let is_whole = records.len() < limit;
        let mut stretch = Backlog::default();
        for record in &records {
            stretch.push(record.clone());
        }
        let codec = &self.beneath.resources.codec;
        let mut prepared = stretch.prepare(codec, &self.known, limit, |_| true);
        if let Some(reference) = prepared.needs {
            self.known.schemas.learn(reference);
        }
        let written = prepared.records();
        if written == 0 && !records.is_empty() {
            return Ok(Progress::None);
        }
        // What cannot be read was put aside when it was read first.
        if let Applied::Refused(why) = self.apply(&mut prepared).await? {
            return Err(Trouble { what: "store", why });
        }
        let done = records.get(..written).unwrap_or_default();
        self.catch_up
            .written(done, is_whole && written == records.len());
        Ok(Progress::Some)
    }

    async fn write(&mut self) -> Result<Progress, Trouble> {
        let prepared = match self.prepared.take() {
            Some(prepared) => prepared,
            None => self.prepare(),
        };
        if prepared.records() == 0 {
            return Ok(Progress::None);
        }
        // Kept until it is written, so that a dead letter is not sent again with every try; and the
        // letters are kept until Kafka has them all, whatever becomes of this future.
        self.prepared = Some(prepared);
        if let Some(prepared) = &self.prepared {
            self.beneath.put_aside(&prepared.letters).await?;
        }
        let Some(mut prepared) = self.prepared.take() else {
            return Ok(Progress::None);
        };
        prepared.letters.clear();
        match self.apply(&mut prepared).await {
            Ok(Applied::Written) => {
                self.commit(&prepared).await;
                self.backlog.written(&prepared);
                self.limit = (self.limit * 2).min(self.beneath.settings.batch_records);
                Ok(Progress::Some)
            }
            Ok(Applied::Refused(why)) => {
                self.narrow(&prepared, why);
                Ok(Progress::Some)
            }
            Err(trouble) => {
                self.prepared = Some(prepared);
                Err(trouble)
            }
        }
    }

    fn prepare(&mut self) -> Prepared {
        let prepared = self.backlog.prepare(
            &self.beneath.resources.codec,
            &self.known,
            self.limit,
            |partition| {
                !self.unreconciled.contains_key(partition) && !self.catch_up.is_behind(partition)
            },
        );
        if let Some(reference) = prepared.needs {
            self.known.schemas.learn(reference);
        }
        prepared
    }

    /// Finds the one receipt that the store refuses, by writing one at a time, and puts it aside:
    /// one bad receipt must not stop all others.
    fn narrow(&mut self, prepared: &Prepared, why: String) {
        if prepared.records() > 1 {
            self.limit = 1;
            return;
        }
        for (partition, next) in prepared.positions() {
            tracing::error!(%partition, offset = next - 1, why, "the store refuses a receipt");
            self.known
                .refused
                .insert((partition, next - 1), why.clone());
        }
    }

    async fn apply(&mut self, prepared: &mut Prepared) -> Result<Applied, Trouble> {
        prepared.batch.windows = self.beneath.judge(&prepared.batch).await?;
        let begin = Instant::now();
        let store = self.beneath.resources.store.clone();
        let call = store.apply(&prepared.batch);
        let report = match timeout(self.beneath.settings.apply_timeout.0, call).await {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => {
                return match error.class() {
                    ErrorClass::Permanent => Ok(Applied::Refused(told(&error))),
                    ErrorClass::Transient | ErrorClass::Misconfigured => Err(Trouble {
                        what: "store",
                        why: told(&error),
                    }),
                };
            }
            Err(_) => {
                return Err(Trouble {
                    what: "store",
                    why: "it did not write in time".to_owned(),
                });
            }
        };
        self.count(&prepared.batch);
        let now = self.beneath.resources.clock.now_millis();
        let age = now.saturating_sub(prepared.oldest.unwrap_or(now));
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        self.beneath.metrics.applied(report, begin.elapsed(), age);
        Ok(Applied::Written)
    }

    fn count(&self, batch: &ReceiptBatch) {
        for (_, receipt) in batch.partitions.iter().flat_map(|p| &p.receipts) {
            self.beneath.metrics.received(&receipt.finding);
        }
    }

    /// The group's offsets follow the store's; that they could not be written is no loss.
    async fn commit(&mut self, prepared: &Prepared) {
        let commits: Vec<_> = prepared
            .positions()
            .filter(|(partition, _)| self.assigned.contains(partition))
            .map(|(partition, offset)| Commit {
                partition,
                committed: Committed {
                    offset,
                    metadata: String::new(),
                },
            })
            .collect();
        if commits.is_empty() {
            return;
        }
        let answer = self.consumer.commit(commits);
        match timeout(self.beneath.settings.session_timeout.0, answer).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the group's offsets stay behind the store"),
            Err(_) => tracing::warn!("the group's offsets stay behind the store: no answer"),
        }
    }
}

// On what is shared, because a future that borrows the whole writer could not move between threads.
impl Beneath {
    /// Waits for the store, but not for ever.
    async fn ask<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Trouble> {
        match timeout(self.settings.apply_timeout.0, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Trouble {
                what: "store",
                why: told(&error),
            }),
            Err(_) => Err(Trouble {
                what: "store",
                why: format!("it did not {what} in time"),
            }),
        }
    }

    /// What a batch says of addresses: decided and published before the batch is written.
    async fn judge(&self, batch: &ReceiptBatch) -> Result<Vec<WindowRow>, Trouble> {
        let Some(hygiene) = &self.hygiene else {
            return Ok(Vec::new());
        };
        let store = &*self.resources.store;
        let judged = timeout(self.settings.apply_timeout.0, hygiene.judge(batch, store)).await;
        let failed = match judged {
            Ok(Ok(windows)) => return Ok(windows),
            Ok(Err(failed)) => failed,
            Err(_) => Failed::Publish("it was not decided in time".to_owned()),
        };
        Err(match failed {
            Failed::Store(error) => Trouble {
                what: "store",
                why: told(&error),
            },
            Failed::Publish(why) => Trouble {
                what: "suppressions",
                why,
            },
        })
    }

    /// Sends dead letters and waits until Kafka has them.
    async fn put_aside(&self, letters: &[Letter]) -> Result<(), Trouble> {
        let sent = letters
            .iter()
            .map(|letter| self.producer.send(self.outgoing(letter)));
        try_join_all(sent).await.map_err(|error| Trouble {
            what: "dead letters",
            why: error.to_string(),
        })?;
        for letter in letters {
            tracing::warn!(
                topic = %letter.record.topic,
                partition = letter.record.partition,
                offset = letter.record.offset,
                reason = letter.reason,
                "a receipt was put aside"
            );
            self.metrics.dead_lettered(letter.reason);
        }
        Ok(())
    }

    fn outgoing(&self, letter: &Letter) -> Outgoing {
        let topic = self.resources.topics.dead_letters();
        let partition = letter
            .record
            .partition
            .rem_euclid(self.dead_letter_partitions);
        dead_letter(
            &letter.record,
            &topic,
            partition,
            letter.reason,
            &letter.detail,
            SERVICE,
        )
    }
}

/// An error with its causes, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        out.push_str(": ");
        out.push_str(&error.to_string());
        cause = error.source();
    }
    out
}
