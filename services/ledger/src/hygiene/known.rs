//! The `suppressions` topic as the ledger holds it, and its table in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_domain::{AddressKey, Suppression};
use bongsu_policy::hygiene::Held;
use bongsu_schemas::suppression::{
    SuppressionChange, SuppressionFault, learn_suppression, read_suppression,
};
use bongsu_schemas::{Codec, SchemaLookup};
use bongsu_store::{LedgerStore, SuppressionChanges};
use bongsu_stream::compacted::Table;
use bongsu_stream::port::Record;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::metrics::HygieneMetrics;

/// How often windows are forgotten.
const SWEEP: Duration = Duration::from_secs(3_600);
/// How long windows are kept, milliseconds: twice the longest the guard may look back.
const WINDOWS_KEPT_MS: i64 = 2 * 24 * 3_600_000;

/// What is held of every address, and what of it the store does not have yet.
#[derive(Debug, Default)]
struct State {
    held: HashMap<u64, Held>,
    /// The last change of each address since the store was written.
    unwritten: HashMap<AddressKey, Option<Box<Suppression>>>,
    /// The store is to be written anew: the topic was read whole.
    replace: bool,
}

/// The table of the topic.
pub(crate) struct Known {
    state: Mutex<State>,
    changed: Notify,
    pub(super) codec: Arc<Codec>,
    schemas: Arc<dyn SchemaLookup>,
    patience: Duration,
    metrics: HygieneMetrics,
}

impl Known {
    pub(crate) fn new(
        codec: Arc<Codec>,
        schemas: Arc<dyn SchemaLookup>,
        patience: Duration,
        metrics: HygieneMetrics,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                replace: true,
                ..State::default()
            }),
            changed: Notify::new(),
            codec,
            schemas,
            patience,
            metrics,
        }
    }

    /// What is held of some addresses.
    pub(super) fn held(&self, keys: impl Iterator<Item = u64>) -> HashMap<u64, Held> {
        self.with(|state| {
            keys.filter_map(|key| Some((key, *state.held.get(&key)?)))
                .collect()
        })
    }

    /// Wakes who keeps the store.
    pub(super) fn tell(&self) {
        self.changed.notify_one();
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a change that the log has, or is about to hand back.
    pub(super) fn apply(&self, change: SuppressionChange) {
        self.with(|state| match change {
            SuppressionChange::Keep(suppression) => {
                let key = suppression.key();
                state.held.insert(key.0, Held::from(suppression.as_ref()));
                state.unwritten.insert(key, Some(suppression));
            }
            SuppressionChange::Forget(key) => {
                state.held.remove(&key.0);
                state.unwritten.insert(key, None);
            }
        });
    }

    fn unreadable(&self, record: &Record, why: &str) {
        self.metrics.unreadable();
        tracing::error!(
            topic = %record.topic, partition = record.partition, offset = record.offset, why,
            "a suppression means nothing here and is passed over"
        );
    }

    /// Keeps the store's table, for ever, and forgets windows that no guard looks back to.
    pub(crate) async fn keep(&self, store: Arc<dyn LedgerStore>) {
        /// Pause before the store is tried again, and between two writes: changes gather meanwhile.
        const PAUSE: Duration = Duration::from_millis(500);
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            let changes = self.with(|state| {
                let mut changes = SuppressionChanges {
                    replace: state.replace,
                    ..SuppressionChanges::default()
                };
                for (key, change) in &state.unwritten {
                    match change {
                        Some(suppression) => changes.kept.push(suppression.as_ref().clone()),
                        None => changes.gone.push(*key),
                    }
                }
                changes
            });
            if changes == SuppressionChanges::default() {
                tokio::select! {
                    () = self.changed.notified() => {}
                    _ = sweep.tick() => {
                        if let Err(error) = store.forget_windows(WINDOWS_KEPT_MS).await {
                            tracing::debug!(%error, "old windows are not forgotten yet");
                        }
                    }
                }
                continue;
            }
            match store.keep_suppressions(&changes).await {
                Ok(()) => self.with(|state| {
                    state.replace = false;
                    for kept in changes.kept {
                        let same = state.unwritten.get(&kept.key());
                        if same.is_some_and(|now| now.as_deref() == Some(&kept)) {
                            state.unwritten.remove(&kept.key());
                        }
                    }
                    for key in changes.gone {
                        if state.unwritten.get(&key) == Some(&None) {
                            state.unwritten.remove(&key);
                        }
                    }
                }),
                Err(error) => tracing::warn!(%error, "suppressions are not in the store yet"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Table for Known {
    fn take(&self, record: &Record) -> bool {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        match read_suppression(&self.codec, key, value) {
            Ok(change) => self.apply(change),
            Err(SuppressionFault::UnknownSchema(_)) => return false,
            Err(SuppressionFault::Unreadable(why)) => self.unreadable(record, &why),
        }
        true
    }

    fn take_later(&self, records: Vec<Record>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            for record in &records {
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                let lookup = self.schemas.as_ref();
                match learn_suppression(&self.codec, lookup, self.patience, key, value).await {
                    Ok(change) => self.apply(change),
                    Err(why) => self.unreadable(record, &why),
                }
            }
        })
    }

    fn taken(&self) {
        self.changed.notify_one();
    }
}
