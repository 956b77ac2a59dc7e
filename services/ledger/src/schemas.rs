//! Schemas that receipts need and this process has not met: one look-up at a time, beside the work.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_schemas::lookup::learn_missing;
use bongsu_schemas::{Codec, SchemaLookup, SchemaRef};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

/// Verdicts kept; a log with more unknown schemas than this has other troubles.
const MAX_MISSING: usize = 1_000;

type Learning = BoxFuture<'static, (SchemaRef, Result<(), String>)>;

/// The look-up under way, and what was looked for in vain.
pub(crate) struct Schemas {
    codec: Arc<Codec>,
    lookup: Arc<dyn SchemaLookup>,
    patience: Duration,
    learning: Option<Learning>,
    missing: HashMap<SchemaRef, (Instant, String)>,
}

impl Schemas {
    pub(crate) fn new(
        codec: Arc<Codec>,
        lookup: Arc<dyn SchemaLookup>,
        patience: Duration,
    ) -> Self {
        Self {
            codec,
            lookup,
            patience,
            learning: None,
            missing: HashMap::new(),
        }
    }

    /// Looks for a schema, unless a look-up is under way.
    pub(crate) fn learn(&mut self, reference: SchemaRef) {
        if self.learning.is_some() {
            return;
        }
        tracing::warn!(schema = %reference, "receipts have a schema that is not known yet");
        let (codec, lookup) = (self.codec.clone(), self.lookup.clone());
        let patience = self.patience;
        self.learning = Some(Box::pin(async move {
            let learned = learn_missing(&codec, &*lookup, reference, patience).await;
            (reference, learned)
        }));
    }

    pub(crate) fn is_learning(&self) -> bool {
        self.learning.is_some()
    }

    /// Waits for the look-up to end. Cancel safe; without one it waits for ever.
    pub(crate) async fn learned(&mut self) {
        let Some(learning) = &mut self.learning else {
            return std::future::pending().await;
        };
        let (reference, learned) = learning.await;
        self.learning = None;
        if let Err(why) = learned {
            tracing::error!(schema = %reference, why, "receipts go to the dead letters");
            if self.missing.len() >= MAX_MISSING {
                self.missing.clear();
            }
            self.missing.insert(reference, (Instant::now(), why));
        }
    }

    /// Why a schema is taken to be missing. The verdict holds for as long as it took, so that a
    /// run of such records is put aside in one go, and a schema published later is still found.
    pub(crate) fn missing(&self, reference: SchemaRef) -> Option<String> {
        let (since, why) = self.missing.get(&reference)?;
        (since.elapsed() <= self.patience).then(|| why.clone())
    }
}
