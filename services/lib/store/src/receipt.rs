//! What the store is given: receipts, already checked, with the positions they were read at.

use std::sync::Arc;

use bongsu_domain::{DeliveryId, Outcome, Timestamp};

use crate::hygiene::WindowRow;

/// Where a record lies.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Position {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i64,
    /// Offset.
    pub offset: i64,
}

/// What a receipt says of its event or delivery besides the finding. Words stay text, so that a
/// newer writer's word is stored rather than refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Who speaks.
    pub sender: String,
    /// The publisher's event id.
    pub event_id: String,
    /// transactional or bulk.
    pub class: String,
    /// transactional, informational or advertising.
    pub purpose: String,
    /// The publisher's category.
    pub category: Option<String>,
    /// The channel's word.
    pub channel: Option<String>,
    /// Which account sent it.
    pub account: Option<String>,
    /// The publisher's id of the recipient.
    pub recipient: Option<String>,
    /// Stable id of the address.
    pub address_id: Option<String>,
    /// Platform of the address.
    pub platform: Option<String>,
    /// App of the address.
    pub app: Option<String>,
    /// When the version of the address sent to was registered; not stored.
    pub registered_at: Option<Timestamp>,
    /// Position in the channel plan.
    pub step: i32,
    /// event, campaign, schedule, fallback or replay.
    pub origin: String,
    /// The campaign.
    pub campaign_id: Option<String>,
    /// The schedule that released its event.
    pub schedule_id: Option<String>,
    /// The replay that made it.
    pub replay_id: Option<String>,
    /// Hash of what was said.
    pub content_hash: String,
    /// Broker time of the event.
    pub accepted_at: Option<Timestamp>,
    /// The last useful moment.
    pub expires_at: Option<Timestamp>,
    /// The record that is answered.
    pub source: Option<Position>,
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A whole event, or one recipient of it, came to nothing.
    Event(Outcome),
    /// A provider was called.
    Attempt {
        /// For which delivery.
        delivery: DeliveryId,
        /// The attempt's result, a word.
        result: String,
    },
    /// A delivery ended.
    Outcome {
        /// Which one.
        delivery: DeliveryId,
        /// How.
        outcome: Outcome,
    },
    /// A provider's later word.
    Report {
        /// On which delivery.
        delivery: DeliveryId,
        /// What it says.
        outcome: Outcome,
    },
}

impl Finding {
    /// The delivery it is about; `None` for an event.
    #[must_use]
    pub const fn delivery(&self) -> Option<DeliveryId> {
        match self {
            Self::Event(_) => None,
            Self::Attempt { delivery, .. }
            | Self::Outcome { delivery, .. }
            | Self::Report { delivery, .. } => Some(*delivery),
        }
    }
}

/// One receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerReceipt {
    /// Two records with the same id are one receipt.
    pub receipt_id: String,
    /// What was found out.
    pub finding: Finding,
    /// About what.
    pub facts: Facts,
    /// Bounded reason code.
    pub reason: String,
    /// One line for people.
    pub detail: Option<String>,
    /// Attempts made so far.
    pub attempts: i32,
    /// When it was decided.
    pub at: Timestamp,
    /// Whether the provider may have got it more than once.
    pub possible_duplicate: bool,
    /// The provider's own id of the notification.
    pub provider_reference: Option<String>,
    /// The worker that decided.
    pub worker_id: Option<String>,
}

/// What was read of one partition. Records that hold no receipt (dead letters) count in
/// `next_offset` and are otherwise absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionBatch {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// The offset after the last record read.
    pub next_offset: i64,
    /// Receipts with their offsets, in offset order.
    pub receipts: Vec<(i64, LedgerReceipt)>,
}

/// What one transaction is to write: every partition at most once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiptBatch {
    /// By partition.
    pub partitions: Vec<PartitionBatch>,
    /// What these receipts say of addresses, to be added to the windows; left out when any receipt
    /// of the batch was written before.
    pub windows: Vec<WindowRow>,
}

impl ReceiptBatch {
    /// Number of receipts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.partitions.iter().map(|p| p.receipts.len()).sum()
    }

    /// Whether there is nothing to write, not even an offset.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}
