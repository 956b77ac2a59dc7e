//! Topic names under one prefix.

use std::sync::Arc;

use bongsu_domain::{Channel, Class};

/// The topics of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

impl Topics {
    /// Topics under `prefix` (normally `bongsu.`).
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn name(&self, rest: &str) -> Arc<str> {
        format!("{}{rest}", self.prefix).into()
    }

    /// Events of a class.
    #[must_use]
    pub fn events(&self, class: Class) -> Arc<str> {
        self.name(&format!("events{}", class.topic_suffix()))
    }

    /// Fanout's notes of which events of a class it has seen.
    #[must_use]
    pub fn seen(&self, class: Class) -> Arc<str> {
        self.name(&format!("seen{}", class.topic_suffix()))
    }

    /// Deliveries of a channel and class.
    #[must_use]
    pub fn deliveries(&self, channel: Channel, class: Class) -> Arc<str> {
        self.name(&format!("deliveries.{channel}{}", class.topic_suffix()))
    }

    /// Receipts.
    #[must_use]
    pub fn results(&self) -> Arc<str> {
        self.name("results")
    }

    /// The engine's own notes of a channel and class: checkpoints, intents, diversions.
    #[must_use]
    pub fn journal(&self, channel: Channel, class: Class) -> Arc<str> {
        self.name(&format!("journal.{channel}{}", class.topic_suffix()))
    }

    /// Parked deliveries of a channel and class.
    #[must_use]
    pub fn lanes(&self, channel: Channel, class: Class) -> Arc<str> {
        self.name(&format!("lanes.{channel}{}", class.topic_suffix()))
    }

    /// Stops and their ends (compacted).
    #[must_use]
    pub fn control(&self) -> Arc<str> {
        self.name("control")
    }

    /// Rate shares of workers and pauses asked for by providers (compacted).
    #[must_use]
    pub fn limits(&self) -> Arc<str> {
        self.name("limits")
    }

    /// Stored reasons not to send to an address (compacted).
    #[must_use]
    pub fn suppressions(&self) -> Arc<str> {
        self.name("suppressions")
    }

    /// Callbacks of providers that carry no reference of ours, early or unknown.
    #[must_use]
    pub fn reports(&self) -> Arc<str> {
        self.name("reports")
    }

    /// Administrative acts: who did what.
    #[must_use]
    pub fn audit(&self) -> Arc<str> {
        self.name("audit")
    }

    /// Writer schemas (compacted).
    #[must_use]
    pub fn schemas(&self) -> Arc<str> {
        self.name("schemas")
    }

    /// Records put aside.
    #[must_use]
    pub fn dead_letters(&self) -> Arc<str> {
        self.name("dead-letters")
    }

    /// The group of a channel's dispatchers.
    #[must_use]
    pub fn dispatch_group(&self, channel: Channel) -> String {
        format!("{}dispatch.{channel}", self.prefix)
    }

    /// The group of fanout.
    #[must_use]
    pub fn fanout_group(&self) -> String {
        format!("{}fanout", self.prefix)
    }

    /// The group of the ledger.
    #[must_use]
    pub fn ledger_group(&self) -> String {
        format!("{}ledger", self.prefix)
    }

    /// The group of the ledgers that map reports without our reference.
    #[must_use]
    pub fn mapping_group(&self) -> String {
        format!("{}ledger.reports", self.prefix)
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self::new("bongsu.")
    }
}
