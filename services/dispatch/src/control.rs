//! Stops as dispatch sees them: the `control` topic, read whole before any work starts and followed
//! from there.
//!
//! One [`ControlFollower`] per process and channel owns the state; every partition owner has a
//! [`StopSwitch`], which it asks before each attempt and which wakes it when something changes.
//! While Kafka cannot be reached the last known state holds: a stop stays, and nothing new is
//! stopped.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_domain::{Control, Delivery, Scope, Timestamp};
use bongsu_policy::{Facts, StoppedUntil, Stops};
use bongsu_runtime::{Clock, Shutdown};
use bongsu_schemas::control::control_from_record;
use bongsu_schemas::{Codec, DecodeError, SchemaLookup, learn_missing};
use bongsu_stream::error::ConsumeError;
use bongsu_stream::port::{
    Cluster, Follower, From, Isolation, Record, TailEnds, TailRange, TopicPartition,
};
use tokio::sync::watch;

use crate::config::Settings;
use crate::error::DispatchError;
use crate::metrics::ControlMetrics;
use crate::service::Resources;

/// Wait before the topic is read again after an error.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// What the follower works with.
#[derive(Clone)]
pub struct ControlSource {
    /// The log.
    pub cluster: Arc<dyn Cluster>,
    /// Name of the control topic.
    pub topic: Arc<str>,
    /// Reads control records.
    pub codec: Arc<Codec>,
    /// Finds schemas that are missing.
    pub schemas: Arc<dyn SchemaLookup>,
    /// How long a schema may stay unknown.
    pub schema_patience: Duration,
    /// Time, for stops that end by themselves.
    pub clock: Clock,
    /// Instruments.
    pub metrics: ControlMetrics,
}

impl ControlSource {
    /// The source of a service.
    #[must_use]
    pub fn of(resources: &Resources, settings: &Settings) -> Self {
        Self {
            cluster: Arc::clone(&resources.cluster),
            topic: resources.topics.control(),
            codec: Arc::clone(&resources.codec),
            schemas: Arc::clone(&resources.schemas),
            schema_patience: settings.schema_patience.0,
            clock: resources.clock,
            metrics: ControlMetrics::new(&resources.metrics, resources.channel),
        }
    }
}

/// One owner's view of what is stopped. Asking costs an atomic load and, when nothing is stopped,
/// nothing more; no lock is taken unless something has changed.
#[derive(Debug, Clone)]
pub struct StopSwitch {
    told: watch::Receiver<Arc<Stops>>,
    stops: Arc<Stops>,
}

impl StopSwitch {
    fn new(told: watch::Receiver<Arc<Stops>>) -> Self {
        let stops = Arc::clone(&told.borrow());
        Self { told, stops }
    }

    /// A switch that nothing stops, for what runs without the control topic.
    #[must_use]
    pub fn open() -> Self {
        let (_, told) = watch::channel(Arc::default());
        Self::new(told)
    }

    /// Whether a delivery must wait, and until when. Ask right before each attempt and each retry;
    /// while it waits its deadline goes on.
    pub fn decide(&mut self, delivery: &Delivery, now: Timestamp) -> Option<StoppedUntil> {
        self.stops().decide(&Facts::of(delivery), now)
    }

    /// What is stopped and chosen now.
    pub fn stops(&mut self) -> &Arc<Stops> {
        // An error means that the follower is gone; the last known state holds.
        if self.told.has_changed().unwrap_or(false) {
            self.stops = Arc::clone(&self.told.borrow_and_update());
        }
        &self.stops
    }

    /// Waits until what is stopped has changed; for ever when the follower is gone. Cancel safe.
    pub async fn changed(&mut self) {
        if self.told.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.stops = Arc::clone(&self.told.borrow_and_update());
    }
}

/// Keeps the state.
pub struct ControlFollower {
    source: ControlSource,
    stops: Stops,
    ends: TailEnds,
    tell: watch::Sender<Arc<Stops>>,
}

/// Reads the control topic to its end as of now, until it works, and gives the state and who keeps
/// it. Cancel safe.
///
/// # Errors
/// When the topic does not exist.
pub async fn start(source: ControlSource) -> Result<(StopSwitch, ControlFollower), DispatchError> {
    let (tell, told) = watch::channel(Arc::default());
    let mut follower = ControlFollower {
        source,
        stops: Stops::new(),
        ends: TailEnds::new(),
        tell,
    };
    loop {
        match follower.read_whole().await {
            Ok(true) => break,
            Ok(false) => {
                let topic = &follower.source.topic;
                return Err(DispatchError::Topics(format!(
                    "topic {topic} does not exist"
                )));
            }
            Err(reason) => {
                tracing::error!(
                    topic = %follower.source.topic, %reason,
                    "what is stopped cannot be read; nothing is sent until it can"
                );
                tokio::time::sleep(READ_AGAIN).await;
            }
        }
    }
    follower.source.metrics.stops(follower.stops.len());
    Ok((StopSwitch::new(told), follower))
}

impl ControlFollower {
    /// Follows the topic until the shutdown. Errors of Kafka are waited for and never end it.
    ///
    /// # Errors
    /// None so far; the form is that of every task of the service.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), DispatchError> {
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = self.follow() => {}
        }
        Ok(())
    }

    /// Whether the topic is there, with its state taken.
    async fn read_whole(&mut self) -> Result<bool, String> {
        let source = &self.source;
        let name = source.topic.to_string();
        let described = source.cluster.topics(vec![name.clone()]).await;
        let described = described.map_err(|e| e.to_string())?;
        let Some(topic) = described.get(&name) else {
            return Ok(false);
        };
        let ranges = (0..topic.partitions)
            .map(|p| TailRange {
                partition: TopicPartition::new(Arc::clone(&source.topic), p),
                from: From::Beginning,
                until: None,
            })
            .collect();
        let found: Arc<Mutex<Vec<Record>>> = Arc::default();
        let sink = Arc::clone(&found);
        let each = Box::new(move |record: Record| {
            sink.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(record);
        });
        let ends = source
            .cluster
            .read_tails(ranges, Isolation::Committed, each)
            .await
            .map_err(|e| e.to_string())?;
        let records = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        self.ends = ends;
        self.take(&records).await;
        Ok(true)
    }

    async fn follow(&mut self) {
        let mut reading: Option<Box<dyn Follower>> = None;
        loop {
            let Some(follower) = &mut reading else {
                match self.go_on() {
                    Ok(follower) => reading = Some(follower),
                    Err(error) => self.broken(&error).await,
                }
                continue;
            };
            match follower.next().await {
                Ok(records) => {
                    for record in &records {
                        let place = TopicPartition::new(record.topic.clone(), record.partition);
                        self.ends.insert(place, record.offset + 1);
                    }
                    self.take(&records).await;
                }
                Err(error) => {
                    reading = None;
                    self.broken(&error).await;
                }
            }
        }
    }

    fn go_on(&self) -> Result<Box<dyn Follower>, ConsumeError> {
        let ranges = self
            .ends
            .iter()
            .map(|(partition, end)| TailRange {
                partition: partition.clone(),
                from: From::Offset(*end),
                until: None,
            })
            .collect();
        self.source.cluster.follow(ranges, Isolation::Committed)
    }

    async fn broken(&self, error: &ConsumeError) {
        tracing::warn!(
            topic = %self.source.topic, %error,
            "stops cannot be followed; the last known state holds"
        );
        tokio::time::sleep(READ_AGAIN).await;
    }

    /// Takes records in order and tells the owners when something has changed.
    async fn take(&mut self, records: &[Record]) {
        let mut changed = false;
        for record in records {
            match self.read(record).await {
                Ok(Read::Act(control)) => {
                    tracing::info!(
                        scope = %control.scope, act = %control.act, who = control.who,
                        why = control.why, "a scope was stopped or started"
                    );
                    changed |= self.stops.apply(control);
                }
                Ok(Read::Tombstone(scope)) => changed |= self.stops.forget(&scope),
                Err(reason) => {
                    self.source.metrics.unreadable();
                    tracing::error!(
                        topic = %record.topic, partition = record.partition, offset = record.offset,
                        reason, "a control record means nothing here and is passed over: what its \
                        scope was before still holds; is this version older than its writer?"
                    );
                }
            }
        }
        if changed {
            let now = Timestamp(self.source.clock.now_millis());
            self.stops.forget_ended(now);
            self.source.metrics.stops(self.stops.len());
            self.tell.send_replace(Arc::new(self.stops.clone()));
        }
    }

    async fn read(&self, record: &Record) -> Result<Read, String> {
        let key = record.key.as_deref().unwrap_or_default();
        let key = std::str::from_utf8(key).map_err(|e| format!("its key is no text: {e}"))?;
        let scope: Scope = key.parse().map_err(|e| format!("its key: {e}"))?;
        let Some(value) = record.value.as_deref() else {
            return Ok(Read::Tombstone(scope));
        };
        let codec = &self.source.codec;
        let mut decoded = codec.decode(value);
        if let Err(DecodeError::UnknownSchema(reference)) = decoded {
            let patience = self.source.schema_patience;
            learn_missing(codec, self.source.schemas.as_ref(), reference, patience).await?;
            decoded = codec.decode(value);
        }
        let decoded = decoded.map_err(|e| e.to_string())?;
        let control = control_from_record(decoded).map_err(|fault| fault.to_string())?;
        if control.scope == scope {
            Ok(Read::Act(control))
        } else {
            Err(format!("its key says {scope}, its value {}", control.scope))
        }
    }
}

enum Read {
    Act(Control),
    /// An administrator's tombstone: as if nothing had ever been said of the scope.
    Tombstone(Scope),
}

#[cfg(test)]
mod tests;
