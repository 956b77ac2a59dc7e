//! What is answered.

use bongsu_domain::{DeliveryId, Outcome, Timestamp};
use serde::Serialize;

use crate::query::Cursor;
use crate::receipt::Position;

/// An outcome with its reason and moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The fate.
    pub outcome: Outcome,
    /// Bounded reason code.
    pub reason: String,
    /// One line for people.
    pub detail: Option<String>,
    /// When it was decided.
    pub at: Timestamp,
}

/// One entry of a delivery's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    /// attempt, outcome or report.
    pub kind: String,
    /// The attempt's result, or the outcome.
    pub word: String,
    /// Bounded reason code.
    pub reason: String,
    /// One line for people.
    pub detail: Option<String>,
    /// Attempts made so far.
    pub attempts: i64,
    /// When.
    pub at: Timestamp,
    /// The provider's own id.
    pub provider_reference: Option<String>,
    /// The worker that decided.
    pub worker_id: Option<String>,
}

/// A delivery as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryView {
    /// The delivery.
    pub delivery_id: DeliveryId,
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
    /// Which account sends it.
    pub account: Option<String>,
    /// The publisher's id of the recipient.
    pub recipient: Option<String>,
    /// Stable id of the address.
    pub address_id: Option<String>,
    /// Platform of the address.
    pub platform: Option<String>,
    /// App of the address.
    pub app: Option<String>,
    /// Position in the channel plan.
    pub step: i64,
    /// event, campaign, schedule, fallback or replay.
    pub origin: String,
    /// The campaign.
    pub campaign_id: Option<String>,
    /// The schedule.
    pub schedule_id: Option<String>,
    /// The replay.
    pub replay_id: Option<String>,
    /// Hash of what was said.
    pub content_hash: String,
    /// Broker time of the event.
    pub accepted_at: Option<Timestamp>,
    /// The last useful moment.
    pub expires_at: Option<Timestamp>,
    /// The delivery record.
    pub source: Option<Position>,
    /// Its place in lists: broker time of its event, else the first receipt's.
    pub listed_at: Timestamp,
    /// The one fate as it stands now; absent while only attempts are known.
    pub outcome: Option<Outcome>,
    /// The reason beside it.
    pub reason: Option<String>,
    /// One line beside it.
    pub detail: Option<String>,
    /// When the outcome that stands was decided.
    pub decided_at: Option<Timestamp>,
    /// Attempts made.
    pub attempts: i64,
    /// Whether the provider may have got it more than once.
    pub possible_duplicate: bool,
    /// The provider's own id.
    pub provider_reference: Option<String>,
    /// Its life in order; empty in lists.
    pub timeline: Vec<TimelineEntry>,
}

/// A refusal of an event, or of one recipient of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventReceipt {
    /// The receipt.
    pub receipt_id: String,
    /// Who speaks.
    pub sender: String,
    /// The publisher's event id.
    pub event_id: String,
    /// transactional or bulk.
    pub class: String,
    /// The recipient, when not the whole event is meant.
    pub recipient: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Bounded reason code.
    pub reason: String,
    /// One line for people.
    pub detail: Option<String>,
    /// When.
    pub at: Timestamp,
    /// The campaign.
    pub campaign_id: Option<String>,
    /// The event's record.
    pub source: Option<Position>,
}

/// An event as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventView {
    /// Who speaks.
    pub sender: String,
    /// The publisher's event id.
    pub event_id: String,
    /// Deliveries with an outcome or an attempt, in the order of their ids.
    pub deliveries: Vec<DeliveryView>,
    /// Refusals of the event or of recipients; at most a thousand.
    pub receipts: Vec<EventReceipt>,
    /// Where to go on when there are more deliveries.
    pub next_after: Option<DeliveryId>,
}

/// The answer to a look-up by event id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventAnswer {
    /// Nothing is known of it, or nothing the scope permits.
    Unknown,
    /// Here it is.
    Found(Box<EventView>),
    /// Several senders have an event of this id: say which one is meant.
    Ambiguous(Vec<String>),
}

/// A part of a recipient's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientPage {
    /// Newest first.
    pub deliveries: Vec<DeliveryView>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Deliveries of one kind that came to one outcome.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CountRow {
    /// Begin of the span of time.
    pub from: Timestamp,
    /// The channel's word.
    pub channel: String,
    /// transactional or bulk.
    pub class: String,
    /// Platform; empty when not known.
    pub platform: String,
    /// App; empty when not known.
    pub app: String,
    /// The outcome's word.
    pub outcome: String,
    /// How many deliveries.
    pub deliveries: i64,
}
