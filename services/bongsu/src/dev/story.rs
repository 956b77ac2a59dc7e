//! Stories that `bongsu dev` plays: what went wrong elsewhere, first in the old way by a small driver,
//! then in Bongsu, against the same simulators.

mod chat;
mod idle_queue;
mod stuck_iphones;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_runtime::Shutdown;
use bongsu_schemas::{Codec, Receipt};
use bongsu_simulators::simulators::Running;
use bongsu_simulators::{Kind, Simulators};
use bongsu_stream::port::{Follower, From, Isolation, TailRange, TopicPartition};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::compose::World;
use crate::dev::Places;
use crate::error::Broken;
use crate::output::{say, say_json};

/// Which story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Story {
    /// Chat rooms whose members get every line, in order, while receivers fail now and then.
    Chat,
    /// Connections fall silent without closing; then one event comes.
    IdleQueue,
    /// Apple's connections hang and go away, and a token gets too old, while Android is well.
    StuckIphones,
}

/// What a story is played on.
pub(crate) struct Stage<'a> {
    pub(crate) world: &'a World,
    pub(crate) places: &'a Places,
    pub(crate) simulators: &'a Simulators,
    pub(crate) shutdown: &'a Shutdown,
    pub(crate) json: bool,
}

/// Plays a story, tells its end, and fails when a promise broke.
pub(crate) async fn play(story: Story, stage: &Stage<'_>) -> anyhow::Result<()> {
    let clean = match story {
        Story::Chat => {
            let summary = chat::play(stage).await?;
            stage.tell(&summary);
            summary.is_clean()
        }
        Story::IdleQueue => stage.end(&idle_queue::play(stage).await?),
        Story::StuckIphones => stage.end(&stuck_iphones::play(stage).await?),
    };
    if clean {
        Ok(())
    } else {
        Err(Broken("a promise broke".to_owned()).into())
    }
}

/// How a story of two ways ended.
#[derive(Debug, Serialize)]
struct Told {
    scenario: &'static str,
    /// What happened, in a sentence.
    what: String,
    /// The names of the figures.
    columns: Vec<&'static str>,
    /// A line per way and medium: its name and its figures.
    rows: Vec<(String, Vec<String>)>,
    /// What Bongsu itself said meanwhile.
    said: Vec<String>,
    /// The promises that broke, in words.
    broken: Vec<String>,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "\n{}\n", self.what)?;
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| {
                let cells = self.rows.iter().filter_map(|(_, cells)| cells.get(i));
                let widest = cells.map(|cell| cell.chars().count()).max();
                widest.unwrap_or(0).max(self.columns[i].chars().count())
            })
            .collect();
        let names = self.rows.iter().map(|(name, _)| name.chars().count());
        let first = names.max().unwrap_or(0);
        write!(f, "  {:first$}", "")?;
        for (column, width) in self.columns.iter().zip(&widths) {
            write!(f, "  {column:>width$}")?;
        }
        writeln!(f)?;
        for (name, cells) in &self.rows {
            write!(f, "  {name:first$}")?;
            for (cell, width) in cells.iter().zip(&widths) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        for line in &self.said {
            writeln!(f, "  Bongsu said: {line}")?;
        }
        if self.broken.is_empty() {
            return write!(f, "  counted at the simulators: every promise held");
        }
        write!(f, "  A PROMISE BROKE: {}", self.broken.join("; "))
    }
}

impl Stage<'_> {
    fn tell<T: Serialize + std::fmt::Display>(&self, told: &T) {
        if self.json {
            say_json(told);
        } else {
            say(&told.to_string());
        }
    }

    fn end(&self, told: &Told) -> bool {
        self.tell(told);
        told.broken.is_empty()
    }

    fn progress(&self, line: &str) {
        if !self.json {
            say(line);
        }
    }

    fn twin(&self, kind: Kind) -> anyhow::Result<&Running> {
        let found = self.simulators.get(kind);
        found.with_context(|| format!("no {} simulator", kind.as_str()))
    }

    /// Publishes a batch over HTTP.
    async fn publish(&self, events: &[Value]) -> anyhow::Result<()> {
        let url = format!("{}/v1/events", self.places.gateway);
        let request = reqwest::Client::new().post(url).json(events);
        let response = request.send().await.context("publishing")?;
        let status = response.status();
        if status != reqwest::StatusCode::ACCEPTED {
            anyhow::bail!("the gateway answered {status}: {}", response.text().await?);
        }
        Ok(())
    }

    /// The receipts from now on.
    async fn receipts(&self) -> anyhow::Result<Receipts> {
        let results = self.world.topics.results();
        let ends = self
            .world
            .cluster
            .lag("bongsu-story", vec![results.to_string()])
            .await?;
        let ranges = ends
            .into_iter()
            .map(|l| TailRange {
                partition: TopicPartition::new(Arc::clone(&results), l.partition.partition),
                from: From::Offset(l.end),
                until: None,
            })
            .collect();
        Ok(Receipts {
            follower: self.world.cluster.follow(ranges, Isolation::Committed)?,
            codec: Arc::clone(&self.world.codec),
            shutdown: self.shutdown.clone(),
        })
    }

    /// Waits until an event has been read whole by a twin; when, by the twin's clock in microseconds,
    /// or `None` at the deadline.
    async fn arrival(
        &self,
        kind: Kind,
        event: &str,
        deadline: Instant,
    ) -> anyhow::Result<Option<u64>> {
        let recorder = self.twin(kind)?.recorder();
        let mut look = tokio::time::interval(Duration::from_millis(10));
        loop {
            let mut found = None;
            recorder.visit(0, |seen| {
                if seen.event_id == event {
                    found = Some(seen.read_us);
                }
                found.is_none()
            });
            if found.is_some() || Instant::now() > deadline || self.shutdown.is_requested() {
                return Ok(found);
            }
            look.tick().await;
        }
    }
}

/// A reader of the results topic.
struct Receipts {
    follower: Box<dyn Follower>,
    codec: Arc<Codec>,
    shutdown: Shutdown,
}

impl Receipts {
    /// Collects outcomes until there are so many or the deadline has come. `each` sees every new one
    /// with the number of those before it.
    async fn outcomes(
        &mut self,
        want: usize,
        deadline: Instant,
        mut each: impl FnMut(&Receipt, usize),
    ) -> anyhow::Result<BTreeMap<String, Receipt>> {
        let mut outcomes = BTreeMap::new();
        while outcomes.len() < want {
            let records = tokio::select! {
                biased;
                () = self.shutdown.requested() => break,
                records = tokio::time::timeout_at(deadline, self.follower.next()) => match records {
                    Ok(records) => records?,
                    Err(_) => break,
                },
            };
            for record in records {
                let value = record.value.unwrap_or_default();
                let receipt: Receipt = self.codec.decode(&value)?;
                if !outcomes.contains_key(&receipt.receipt_id) {
                    each(&receipt, outcomes.len());
                    outcomes.insert(receipt.receipt_id.clone(), receipt);
                }
            }
        }
        Ok(outcomes)
    }
}
