//! The rows of the tables, as read and as written.

use crate::receipt::{Facts, LedgerReceipt, Position};
use crate::state::Standing;
use crate::table::{Cell, Kind, Table};
use crate::view::TimelineEntry;
use bongsu_domain::{DeliveryId, Timestamp};

use crate::error::StoreError;

/// A row of `deliveries`. It is also the state that receipts are folded into.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct DeliveryRow {
    pub(crate) delivery_id: String,
    pub(crate) revision: i64,
    pub(crate) sender: String,
    pub(crate) event_id: String,
    pub(crate) class: String,
    pub(crate) purpose: String,
    pub(crate) category: Option<String>,
    pub(crate) channel: Option<String>,
    pub(crate) account: Option<String>,
    pub(crate) recipient: Option<String>,
    pub(crate) address_id: Option<String>,
    pub(crate) platform: Option<String>,
    pub(crate) app: Option<String>,
    pub(crate) step: i64,
    pub(crate) origin: String,
    pub(crate) campaign_id: Option<String>,
    pub(crate) schedule_id: Option<String>,
    pub(crate) replay_id: Option<String>,
    pub(crate) content_hash: String,
    pub(crate) accepted_at: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    pub(crate) source_topic: Option<String>,
    pub(crate) source_partition: Option<i64>,
    pub(crate) source_offset: Option<i64>,
    pub(crate) listed_at: i64,
    pub(crate) settled: Option<String>,
    pub(crate) settled_reason: Option<String>,
    pub(crate) settled_detail: Option<String>,
    pub(crate) settled_at: Option<i64>,
    pub(crate) reported: Option<String>,
    pub(crate) reported_reason: Option<String>,
    pub(crate) reported_detail: Option<String>,
    pub(crate) reported_at: Option<i64>,
    pub(crate) attempts: i64,
    pub(crate) possible_duplicate: i16,
    pub(crate) provider_reference: Option<String>,
    pub(crate) worker_id: Option<String>,
    pub(crate) counted_minute: Option<i64>,
}

pub(crate) const DELIVERIES: Table = Table {
    name: "deliveries",
    columns: &[
        ("delivery_id", Kind::Text),
        ("revision", Kind::Int),
        ("sender", Kind::Text),
        ("event_id", Kind::Text),
        ("class", Kind::Text),
        ("purpose", Kind::Text),
        ("category", Kind::Text),
        ("channel", Kind::Text),
        ("account", Kind::Text),
        ("recipient", Kind::Text),
        ("address_id", Kind::Text),
        ("platform", Kind::Text),
        ("app", Kind::Text),
        ("step", Kind::Int),
        ("origin", Kind::Text),
        ("campaign_id", Kind::Text),
        ("schedule_id", Kind::Text),
        ("replay_id", Kind::Text),
        ("content_hash", Kind::Text),
        ("accepted_at", Kind::Int),
        ("expires_at", Kind::Int),
        ("source_topic", Kind::Text),
        ("source_partition", Kind::Int),
        ("source_offset", Kind::Int),
        ("listed_at", Kind::Int),
        ("settled", Kind::Text),
        ("settled_reason", Kind::Text),
        ("settled_detail", Kind::Text),
        ("settled_at", Kind::Int),
        ("reported", Kind::Text),
        ("reported_reason", Kind::Text),
        ("reported_detail", Kind::Text),
        ("reported_at", Kind::Int),
        ("attempts", Kind::Int),
        ("possible_duplicate", Kind::Int),
        ("provider_reference", Kind::Text),
        ("worker_id", Kind::Text),
        ("counted_minute", Kind::Int),
    ],
    // Writing over a revision other than the one that was read changes no row, which the writer
    // notices.
    on_conflict: "ON CONFLICT (delivery_id) DO UPDATE SET \
        revision = excluded.revision, sender = excluded.sender, event_id = excluded.event_id, \
        step = excluded.step, origin = excluded.origin, listed_at = excluded.listed_at, \
        class = excluded.class, purpose = excluded.purpose, \
        category = excluded.category, channel = excluded.channel, account = excluded.account, \
        recipient = excluded.recipient, address_id = excluded.address_id, \
        platform = excluded.platform, app = excluded.app, campaign_id = excluded.campaign_id, \
        schedule_id = excluded.schedule_id, replay_id = excluded.replay_id, \
        content_hash = excluded.content_hash, accepted_at = excluded.accepted_at, \
        expires_at = excluded.expires_at, source_topic = excluded.source_topic, \
        source_partition = excluded.source_partition, source_offset = excluded.source_offset, \
        settled = excluded.settled, settled_reason = excluded.settled_reason, \
        settled_detail = excluded.settled_detail, settled_at = excluded.settled_at, \
        reported = excluded.reported, reported_reason = excluded.reported_reason, \
        reported_detail = excluded.reported_detail, reported_at = excluded.reported_at, \
        attempts = excluded.attempts, possible_duplicate = excluded.possible_duplicate, \
        provider_reference = excluded.provider_reference, worker_id = excluded.worker_id, \
        counted_minute = excluded.counted_minute \
        WHERE deliveries.revision = excluded.revision - 1",
};

impl DeliveryRow {
    pub(crate) fn cells(self) -> Vec<Cell> {
        vec![
            self.delivery_id.into(),
            self.revision.into(),
            self.sender.into(),
            self.event_id.into(),
            self.class.into(),
            self.purpose.into(),
            self.category.into(),
            self.channel.into(),
            self.account.into(),
            self.recipient.into(),
            self.address_id.into(),
            self.platform.into(),
            self.app.into(),
            self.step.into(),
            self.origin.into(),
            self.campaign_id.into(),
            self.schedule_id.into(),
            self.replay_id.into(),
            self.content_hash.into(),
            self.accepted_at.into(),
            self.expires_at.into(),
            self.source_topic.into(),
            self.source_partition.into(),
            self.source_offset.into(),
            self.listed_at.into(),
            self.settled.into(),
            self.settled_reason.into(),
            self.settled_detail.into(),
            self.settled_at.into(),
            self.reported.into(),
            self.reported_reason.into(),
            self.reported_detail.into(),
            self.reported_at.into(),
            self.attempts.into(),
            i64::from(self.possible_duplicate).into(),
            self.provider_reference.into(),
            self.worker_id.into(),
            self.counted_minute.into(),
        ]
    }
}

/// A row of `timeline`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct TimelineRow {
    pub(crate) receipt_id: String,
    pub(crate) delivery_id: String,
    pub(crate) kind: String,
    pub(crate) word: String,
    pub(crate) reason: String,
    pub(crate) detail: Option<String>,
    pub(crate) attempts: i64,
    pub(crate) at: i64,
    pub(crate) provider_reference: Option<String>,
    pub(crate) worker_id: Option<String>,
}

pub(crate) const TIMELINE: Table = Table {
    name: "timeline",
    columns: &[
        ("receipt_id", Kind::Text),
        ("delivery_id", Kind::Text),
        ("kind", Kind::Text),
        ("word", Kind::Text),
        ("reason", Kind::Text),
        ("detail", Kind::Text),
        ("attempts", Kind::Int),
        ("at", Kind::Int),
        ("provider_reference", Kind::Text),
        ("worker_id", Kind::Text),
    ],
    on_conflict: "ON CONFLICT (receipt_id) DO NOTHING",
};

impl TimelineRow {
    pub(crate) fn new(
        receipt: &LedgerReceipt,
        delivery: DeliveryId,
        kind: &str,
        word: &str,
    ) -> Self {
        Self {
            receipt_id: receipt.receipt_id.clone(),
            delivery_id: delivery.to_string(),
            kind: kind.to_owned(),
            word: word.to_owned(),
            reason: receipt.reason.clone(),
            detail: receipt.detail.clone(),
            attempts: i64::from(receipt.attempts),
            at: receipt.at.0,
            provider_reference: receipt.provider_reference.clone(),
            worker_id: receipt.worker_id.clone(),
        }
    }

    pub(crate) fn cells(self) -> Vec<Cell> {
        vec![
            self.receipt_id.into(),
            self.delivery_id.into(),
            self.kind.into(),
            self.word.into(),
            self.reason.into(),
            self.detail.into(),
            self.attempts.into(),
            self.at.into(),
            self.provider_reference.into(),
            self.worker_id.into(),
        ]
    }

    pub(crate) fn entry(self) -> TimelineEntry {
        TimelineEntry {
            kind: self.kind,
            word: self.word,
            reason: self.reason,
            detail: self.detail,
            attempts: self.attempts,
            at: Timestamp(self.at),
            provider_reference: self.provider_reference,
            worker_id: self.worker_id,
        }
    }
}

/// A row of `event_receipts`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct EventRow {
    pub(crate) receipt_id: String,
    pub(crate) sender: String,
    pub(crate) event_id: String,
    pub(crate) class: String,
    pub(crate) recipient: Option<String>,
    pub(crate) outcome: String,
    pub(crate) reason: String,
    pub(crate) detail: Option<String>,
    pub(crate) at: i64,
    pub(crate) campaign_id: Option<String>,
    pub(crate) source_topic: Option<String>,
    pub(crate) source_partition: Option<i64>,
    pub(crate) source_offset: Option<i64>,
}

pub(crate) const EVENT_RECEIPTS: Table = Table {
    name: "event_receipts",
    columns: &[
        ("receipt_id", Kind::Text),
        ("sender", Kind::Text),
        ("event_id", Kind::Text),
        ("class", Kind::Text),
        ("recipient", Kind::Text),
        ("outcome", Kind::Text),
        ("reason", Kind::Text),
        ("detail", Kind::Text),
        ("at", Kind::Int),
        ("campaign_id", Kind::Text),
        ("source_topic", Kind::Text),
        ("source_partition", Kind::Int),
        ("source_offset", Kind::Int),
    ],
    on_conflict: "ON CONFLICT (receipt_id) DO NOTHING",
};

impl EventRow {
    pub(crate) fn new(receipt: &LedgerReceipt, outcome: &str) -> Self {
        let facts = &receipt.facts;
        Self {
            receipt_id: receipt.receipt_id.clone(),
            sender: facts.sender.clone(),
            event_id: facts.event_id.clone(),
            class: facts.class.clone(),
            recipient: facts.recipient.clone(),
            outcome: outcome.to_owned(),
            reason: receipt.reason.clone(),
            detail: receipt.detail.clone(),
            at: receipt.at.0,
            campaign_id: facts.campaign_id.clone(),
            source_topic: facts.source.as_ref().map(|s| s.topic.clone()),
            source_partition: facts.source.as_ref().map(|s| s.partition),
            source_offset: facts.source.as_ref().map(|s| s.offset),
        }
    }

    pub(crate) fn cells(self) -> Vec<Cell> {
        vec![
            self.receipt_id.into(),
            self.sender.into(),
            self.event_id.into(),
            self.class.into(),
            self.recipient.into(),
            self.outcome.into(),
            self.reason.into(),
            self.detail.into(),
            self.at.into(),
            self.campaign_id.into(),
            self.source_topic.into(),
            self.source_partition.into(),
            self.source_offset.into(),
        ]
    }
}

/// A key of `delivery_counts`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CountKey {
    pub(crate) minute: i64,
    pub(crate) channel: String,
    pub(crate) class: String,
    pub(crate) platform: String,
    pub(crate) app: String,
    pub(crate) outcome: String,
}

pub(crate) const COUNTS: Table = Table {
    name: "delivery_counts",
    columns: &[
        ("minute", Kind::Int),
        ("channel", Kind::Text),
        ("class", Kind::Text),
        ("platform", Kind::Text),
        ("app", Kind::Text),
        ("outcome", Kind::Text),
        ("deliveries", Kind::Int),
    ],
    on_conflict: "ON CONFLICT (minute, channel, class, platform, app, outcome) \
        DO UPDATE SET deliveries = delivery_counts.deliveries + excluded.deliveries",
};

impl CountKey {
    pub(crate) fn cells(self, change: i64) -> Vec<Cell> {
        vec![
            self.minute.into(),
            self.channel.into(),
            self.class.into(),
            self.platform.into(),
            self.app.into(),
            self.outcome.into(),
            change.into(),
        ]
    }
}

/// A row of `ledger_offsets`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct OffsetRow {
    pub(crate) topic: String,
    pub(crate) partition_number: i64,
    pub(crate) next_offset: i64,
}

/// Inserting a position of 0 locks the row and answers what is stored; it changes nothing else.
pub(crate) const OFFSET_LOCKS: Table = Table {
    name: "ledger_offsets",
    columns: &[
        ("topic", Kind::Text),
        ("partition_number", Kind::Int),
        ("next_offset", Kind::Int),
    ],
    on_conflict: "ON CONFLICT (topic, partition_number) \
        DO UPDATE SET next_offset = ledger_offsets.next_offset \
        RETURNING topic, partition_number, next_offset",
};

pub(crate) const OFFSETS: Table = Table {
    name: "ledger_offsets",
    columns: OFFSET_LOCKS.columns,
    on_conflict: "ON CONFLICT (topic, partition_number) \
        DO UPDATE SET next_offset = excluded.next_offset",
};

pub(crate) fn offset_cells(topic: &str, partition: i32, next_offset: i64) -> Vec<Cell> {
    vec![
        topic.to_owned().into(),
        i64::from(partition).into(),
        next_offset.into(),
    ]
}

pub(crate) fn position(
    topic: Option<String>,
    partition: Option<i64>,
    offset: Option<i64>,
) -> Option<Position> {
    Some(Position {
        topic: topic?,
        partition: partition?,
        offset: offset?,
    })
}

impl DeliveryRow {
    /// A row that knows nothing but what it is about.
    pub(crate) fn first(receipt: &LedgerReceipt, delivery: &str) -> Self {
        let facts: Facts = receipt.facts.clone();
        let (source_topic, source_partition, source_offset) = match facts.source {
            Some(s) => (Some(s.topic), Some(s.partition), Some(s.offset)),
            None => (None, None, None),
        };
        Self {
            delivery_id: delivery.to_owned(),
            revision: 0,
            sender: facts.sender,
            event_id: facts.event_id,
            class: facts.class,
            purpose: facts.purpose,
            category: facts.category,
            channel: facts.channel,
            account: facts.account,
            recipient: facts.recipient,
            address_id: facts.address_id,
            platform: facts.platform,
            app: facts.app,
            step: i64::from(facts.step),
            origin: facts.origin,
            campaign_id: facts.campaign_id,
            schedule_id: facts.schedule_id,
            replay_id: facts.replay_id,
            content_hash: facts.content_hash,
            accepted_at: facts.accepted_at.map(|t| t.0),
            expires_at: facts.expires_at.map(|t| t.0),
            source_topic,
            source_partition,
            source_offset,
            listed_at: facts.accepted_at.unwrap_or(receipt.at).0,
            settled: None,
            settled_reason: None,
            settled_detail: None,
            settled_at: None,
            reported: None,
            reported_reason: None,
            reported_detail: None,
            reported_at: None,
            attempts: 0,
            possible_duplicate: 0,
            provider_reference: None,
            worker_id: None,
            counted_minute: None,
        }
    }

    /// Where this delivery is counted; `None` without an outcome.
    pub(crate) fn count_key(&self) -> Result<Option<CountKey>, StoreError> {
        let (Some(minute), Some(verdict)) = (self.counted_minute, self.standing()?) else {
            return Ok(None);
        };
        Ok(Some(CountKey {
            minute,
            channel: self.channel.clone().unwrap_or_default(),
            class: self.class.clone(),
            platform: self.platform.clone().unwrap_or_default(),
            app: self.app.clone().unwrap_or_default(),
            outcome: verdict.outcome.as_str().to_owned(),
        }))
    }
}
