//! The records as Rust structs, field for field as in the `.avsc` files.
//!
//! Words (class, channel, outcome, ...) are strings here and become types at the edges, so that an
//! old reader survives a new word. Every field that the schema gives a default has the same one
//! here, which is what lets new code read old bytes.

use bongsu_domain::Pairs;
use serde::{Deserialize, Serialize};

use crate::millis::Millis;

mod defaults {
    pub(super) fn transactional() -> String {
        "transactional".to_owned()
    }
    pub(super) fn resend() -> String {
        "resend".to_owned()
    }
    pub(super) fn default() -> String {
        "default".to_owned()
    }
    pub(super) fn other() -> String {
        "other".to_owned()
    }
    pub(super) fn none() -> String {
        "none".to_owned()
    }
    pub(super) fn suppressed() -> String {
        "suppressed".to_owned()
    }
    pub(super) const fn one() -> i32 {
        1
    }
    pub(super) fn event() -> String {
        "event".to_owned()
    }
    pub(super) fn all() -> String {
        "all".to_owned()
    }
}

/// Where to reach a recipient on one channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The channel's word: webhook, discord, ...
    #[serde(default)]
    pub channel: String,
    /// Token, URL, phone number or mailbox; personal data.
    #[serde(default)]
    pub address: String,
    /// The publisher's stable id of the address, kept across versions of a token. Derived from channel, account and address when absent.
    #[serde(default)]
    pub address_id: Option<String>,
    /// Which configured account of the channel sends to it; `default` when absent.
    #[serde(default)]
    pub account: Option<String>,
    /// ios, android, web, desktop, server, phone, mail or other.
    #[serde(default)]
    pub platform: Option<String>,
    /// The publisher's app the address belongs to.
    #[serde(default)]
    pub app: Option<String>,
    /// When this version of the address was registered. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub registered_at: Option<Millis>,
}

/// A person or account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The publisher's id of the recipient.
    #[serde(default)]
    pub id: String,
    /// Where to reach the recipient; without any, the stored ones are used.
    #[serde(default)]
    pub addresses: Vec<Address>,
    /// IANA time zone, for quiet hours.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// ISO 3166-1 alpha-2 country.
    #[serde(default)]
    pub country: Option<String>,
    /// BCP 47 locale, for templates.
    #[serde(default)]
    pub locale: Option<String>,
    /// What the recipient agreed to: advertising, advertising_night.
    #[serde(default)]
    pub consents: Vec<String>,
}

/// Whom to reach: inline recipients, or a stored audience.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Inline recipients, at most 1,000.
    #[serde(default)]
    pub recipients: Vec<Recipient>,
    /// Name of a stored audience.
    #[serde(default)]
    pub audience: Option<String>,
}

/// What to try when the step before it did not reach the recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackStep {
    /// Channels of this step.
    #[serde(default)]
    pub channels: Vec<String>,
    /// Cut-off: how long to wait for the step before, in milliseconds.
    #[serde(default)]
    pub after_ms: Option<i64>,
    /// Outcomes of the step before that start this one; empty means every outcome but accepted and delivered.
    #[serde(default)]
    pub on: Vec<String>,
}

/// Which channels, at once and as fallback.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelPlan {
    /// Channels to use at once.
    #[serde(default)]
    pub channels: Vec<String>,
    /// Later steps, tried in order.
    #[serde(default)]
    pub fallback: Vec<FallbackStep>,
}

/// What to say: inline parts, or a template with its variables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// A short headline, at most 1,024 bytes.
    #[serde(default)]
    pub title: Option<String>,
    /// The text, at most 65,536 bytes.
    #[serde(default)]
    pub body: Option<String>,
    /// Key-value pairs for the receiving program, at most 64.
    #[serde(default)]
    pub data: Pairs,
    /// Where a tap leads: an http or https URL, or an app link.
    #[serde(default)]
    pub link: Option<String>,
    /// URL of an image to show.
    #[serde(default)]
    pub image: Option<String>,
    /// A provider's own request body as JSON text, by channel word; replaces what Bongsu would build for that channel.
    #[serde(default)]
    pub overrides: Pairs,
    /// Name of a stored template, instead of inline parts.
    #[serde(default)]
    pub template: Option<String>,
    /// Values for the template's variables.
    #[serde(default)]
    pub variables: Pairs,
}

/// Something that happened in another system and causes notifications. Keyed by its sender.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationEvent {
    /// The publisher's id of the event, unique per sender; the same id again within an hour is a duplicate.
    #[serde(default)]
    pub id: String,
    /// Who speaks; the unit of order, and the record's key.
    #[serde(default)]
    pub sender: String,
    /// transactional or bulk; decides the lane.
    #[serde(default = "defaults::transactional")]
    pub class: String,
    /// transactional, informational or advertising; law and providers treat them differently.
    #[serde(default = "defaults::transactional")]
    pub purpose: String,
    /// The publisher's category, for preferences and statistics.
    #[serde(default)]
    pub category: Option<String>,
    /// Whom to reach.
    #[serde(default)]
    pub target: Target,
    /// Which channels carry it.
    #[serde(default)]
    pub plan: ChannelPlan,
    /// What to say.
    #[serde(default)]
    pub content: Content,
    /// When it happened in the publisher's system. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub occurred_at: Option<Millis>,
    /// Not before this moment. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub deliver_at: Option<Millis>,
    /// The last useful moment; by default 24 h, 1 h for transactional Discord. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub expires_at: Option<Millis>,
    /// `none` lets this event overtake and be overtaken; absent keeps the sender's order.
    #[serde(default)]
    pub ordering: Option<String>,
    /// A newer notification with the same key replaces an older one where the provider can.
    #[serde(default)]
    pub collapse_key: Option<String>,
    /// After a crash, for an attempt whose answer was never seen: resend, resend_if_idempotent or never_resend.
    #[serde(default = "defaults::resend")]
    pub on_uncertain: String,
    /// The campaign this event belongs to.
    #[serde(default)]
    pub campaign_id: Option<String>,
    /// Set when the scheduler released the event, so that it does not collide with its first appearance.
    #[serde(default)]
    pub schedule_id: Option<String>,
    /// Set when a replay published the event.
    #[serde(default)]
    pub replay_id: Option<String>,
    /// The publisher's own labels, at most 64, carried through to the receipts.
    #[serde(default)]
    pub labels: Pairs,
}

/// The intent to get one content to one address on one channel before a deadline. Keyed by its partition key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// UUID: first 16 bytes of SHA-256 over the length-prefixed sender, event id, channel, recipient, address id and step.
    pub delivery_id: String,
    /// The publisher's id of the event.
    pub event_id: String,
    /// Who speaks.
    pub sender: String,
    /// transactional or bulk.
    pub class: String,
    /// transactional, informational or advertising.
    #[serde(default = "defaults::transactional")]
    pub purpose: String,
    /// The publisher's category.
    #[serde(default)]
    pub category: Option<String>,
    /// The channel's word.
    pub channel: String,
    /// The publisher's id of the recipient.
    pub recipient: String,
    /// IANA time zone of the recipient.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// Country of the recipient.
    #[serde(default)]
    pub country: Option<String>,
    /// Locale of the recipient.
    #[serde(default)]
    pub locale: Option<String>,
    /// Token, URL, phone number or mailbox; personal data.
    pub address: String,
    /// Stable id of the address.
    pub address_id: String,
    /// Which configured account of the channel sends it.
    #[serde(default = "defaults::default")]
    pub account: String,
    /// ios, android, web, desktop, server, phone, mail or other.
    #[serde(default = "defaults::other")]
    pub platform: String,
    /// The publisher's app the address belongs to.
    #[serde(default)]
    pub app: Option<String>,
    /// When this version of the address was registered. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub registered_at: Option<Millis>,
    /// What to say, rendered.
    #[serde(default)]
    pub content: Content,
    /// 16 hexadecimal digits over the content; equal when the same is said again.
    #[serde(default)]
    pub content_hash: String,
    /// Position in the channel plan; 0 is the first.
    #[serde(default)]
    pub step: i32,
    /// Why it exists: event, campaign, schedule, fallback or replay.
    #[serde(default = "defaults::event")]
    pub origin: String,
    /// Broker time of the event. Milliseconds since 1970-01-01T00:00:00Z.
    pub accepted_at: Millis,
    /// The last useful moment. Milliseconds since 1970-01-01T00:00:00Z.
    pub expires_at: Millis,
    /// `none` when it keeps no order; absent keeps the sender's.
    #[serde(default)]
    pub ordering: Option<String>,
    /// Replaces an older notification with the same key where the provider can.
    #[serde(default)]
    pub collapse_key: Option<String>,
    /// resend, resend_if_idempotent or never_resend.
    #[serde(default = "defaults::resend")]
    pub on_uncertain: String,
    /// The campaign it belongs to.
    #[serde(default)]
    pub campaign_id: Option<String>,
    /// The schedule that released its event.
    #[serde(default)]
    pub schedule_id: Option<String>,
    /// The replay that made it.
    #[serde(default)]
    pub replay_id: Option<String>,
    /// Whether it may have been sent before (a redrive or replay of an uncertain delivery).
    #[serde(default)]
    pub possible_duplicate: bool,
    /// The fanout worker that made it.
    #[serde(default)]
    pub worker_id: Option<String>,
    /// The publisher's own labels.
    #[serde(default)]
    pub labels: Pairs,
    /// Whether the recipient agreed to advertising at night.
    #[serde(default)]
    pub night_consent: bool,
}

/// Bongsu's answer on the results topic: what became of an event, an attempt or a delivery. Readers upsert by receipt_id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// event (refusals of whole events or recipients), attempt, outcome or report.
    pub kind: String,
    /// UUID; for an outcome, hash of (delivery id, `outcome`): two records with the same id are one receipt.
    pub receipt_id: String,
    /// The delivery; absent for kind event.
    #[serde(default)]
    pub delivery_id: Option<String>,
    /// The publisher's id of the event.
    pub event_id: String,
    /// Who speaks.
    pub sender: String,
    /// transactional or bulk.
    #[serde(default = "defaults::transactional")]
    pub class: String,
    /// transactional, informational or advertising.
    #[serde(default = "defaults::transactional")]
    pub purpose: String,
    /// The publisher's category.
    #[serde(default)]
    pub category: Option<String>,
    /// The channel's word; absent for kind event.
    #[serde(default)]
    pub channel: Option<String>,
    /// Which account sent it.
    #[serde(default)]
    pub account: Option<String>,
    /// The publisher's id of the recipient.
    #[serde(default)]
    pub recipient: Option<String>,
    /// Stable id of the address; never the address.
    #[serde(default)]
    pub address_id: Option<String>,
    /// Platform of the address.
    #[serde(default)]
    pub platform: Option<String>,
    /// App of the address.
    #[serde(default)]
    pub app: Option<String>,
    /// When the address was registered. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub registered_at: Option<Millis>,
    /// accepted, delivered, undelivered, refused, suppressed, expired, cancelled, unknown or dead; for kind attempt the attempt's result.
    pub outcome: String,
    /// Bounded reason code.
    #[serde(default = "defaults::none")]
    pub reason: String,
    /// One line for people; never personal data.
    #[serde(default)]
    pub detail: Option<String>,
    /// Attempts made so far.
    #[serde(default)]
    pub attempts: i32,
    /// When it was decided. Milliseconds since 1970-01-01T00:00:00Z.
    pub at: Millis,
    /// Broker time of the event. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub accepted_at: Option<Millis>,
    /// The last useful moment. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub expires_at: Option<Millis>,
    /// 16 hexadecimal digits over the content.
    #[serde(default)]
    pub content_hash: String,
    /// Position in the channel plan.
    #[serde(default)]
    pub step: i32,
    /// event, campaign, schedule, fallback or replay.
    #[serde(default = "defaults::event")]
    pub origin: String,
    /// The campaign it belongs to.
    #[serde(default)]
    pub campaign_id: Option<String>,
    /// The schedule that released its event.
    #[serde(default)]
    pub schedule_id: Option<String>,
    /// The replay that made it.
    #[serde(default)]
    pub replay_id: Option<String>,
    /// Whether the provider may have got it more than once.
    #[serde(default)]
    pub possible_duplicate: bool,
    /// The provider's own id of the notification.
    #[serde(default)]
    pub provider_reference: Option<String>,
    /// The worker that decided it.
    #[serde(default)]
    pub worker_id: Option<String>,
    /// Topic of the record it answers.
    #[serde(default)]
    pub source_topic: Option<String>,
    /// Partition of the record it answers.
    #[serde(default)]
    pub source_partition: Option<i32>,
    /// Offset of the record it answers.
    #[serde(default)]
    pub source_offset: Option<i64>,
    /// The publisher's own labels.
    #[serde(default)]
    pub labels: Pairs,
}

/// What the delivery engine notes for its successor on a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// `checkpoint` or `intents`.
    #[serde(default)]
    pub kind: String,
    /// The process that wrote it.
    #[serde(default)]
    pub worker_id: String,
    /// When.
    #[serde(default)]
    pub at: Millis,
    /// Checkpoint: every offset of the deliveries topic below it has ended.
    #[serde(default)]
    pub watermark: i64,
    /// Checkpoint: receipts at lower offsets of `results` are in here already.
    #[serde(default)]
    pub results_floor: i64,
    /// Checkpoint: every offset of the lane below it has ended.
    #[serde(default)]
    pub lane_floor: i64,
    /// Checkpoint: offsets at or above the watermark that have ended, packed.
    #[serde(default, with = "apache_avro::serde::bytes")]
    pub settled: Vec<u8>,
    /// Checkpoint: the same for offsets of the lane.
    #[serde(default, with = "apache_avro::serde::bytes")]
    pub lane_settled: Vec<u8>,
    /// Checkpoint: deliveries that wait for a moment.
    #[serde(default)]
    pub waiting: Vec<JournalWait>,
    /// Calls that may have been made and must not be made again.
    #[serde(default)]
    pub intents: Vec<JournalMark>,
    /// Intents whose call was surely not taken.
    #[serde(default)]
    pub withdrawn: Vec<JournalMark>,
    /// Whether it is its writer's first on the partition: its offset is then its writer's epoch.
    #[serde(default)]
    pub claim: bool,
    /// The offset of its writer's claim; -1 on a claim, and where the writer knew of no claims.
    #[serde(default = "no_epoch")]
    pub epoch: i64,
    /// Checkpoint: the end of the lane when its writer took the partition over.
    #[serde(default)]
    pub lane_end: i64,
    /// Checkpoint: the owners before, in order, as far as the lane still holds something of theirs.
    #[serde(default)]
    pub owners: Vec<JournalOwner>,
}

/// An owner of the partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalOwner {
    /// Its epoch.
    pub epoch: i64,
    /// The end of the lane when it took over: what owners before it write from there on is late.
    pub lane_end: i64,
}

const fn no_epoch() -> i64 {
    JournalEntry::NO_EPOCH
}

impl JournalEntry {
    /// Where there is no epoch.
    pub const NO_EPOCH: i64 = -1;
}

impl Default for JournalEntry {
    fn default() -> Self {
        Self {
            kind: String::new(),
            worker_id: String::new(),
            at: Millis::default(),
            watermark: 0,
            results_floor: 0,
            lane_floor: 0,
            settled: Vec::new(),
            lane_settled: Vec::new(),
            waiting: Vec::new(),
            intents: Vec::new(),
            withdrawn: Vec::new(),
            claim: false,
            epoch: Self::NO_EPOCH,
            lane_end: 0,
            owners: Vec::new(),
        }
    }
}

/// A delivery between two attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalWait {
    /// Whether the offset is one of the lane.
    pub lane: bool,
    /// Its offset.
    pub offset: i64,
    /// Eight bytes of its delivery id.
    pub tag: i64,
    /// Attempts made.
    pub attempts: i32,
    /// The next attempt is due then, milliseconds since the epoch.
    pub not_before: i64,
    /// Whether an earlier attempt may have arrived.
    pub uncertain: bool,
}

/// One delivery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JournalMark {
    /// Whether the offset is one of the lane.
    pub lane: bool,
    /// Its offset.
    pub offset: i64,
    /// Eight bytes of its delivery id.
    pub tag: i64,
}

/// A stop, or its end, of one scope. Keyed by the scope; the last one stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// What it covers: channel/NAME, account/CHANNEL/NAME, sender/NAME, campaign/ID or template/ID.
    pub scope: String,
    /// stop or start.
    pub action: String,
    /// Who did it.
    pub who: String,
    /// Why, in the words of who did it.
    pub why: String,
    /// When it was done. A stop holds as soon as it is read. Milliseconds since 1970-01-01T00:00:00Z.
    pub from: Millis,
    /// When a stop ends by itself; absent ends only with a start. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub until: Option<Millis>,
    /// What a start makes of deliveries of its scope accepted before `from`: all, drop-stale or newest.
    #[serde(default = "defaults::all")]
    pub backlog: String,
    /// With drop-stale: what was accepted before this moment is dropped. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub stale_before: Option<Millis>,
}

/// Why nothing is sent to an address, or what is suspected of it. Keyed by 16 hexadecimal digits over channel, account and address id; a record without a value ends it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// The channel's word.
    pub channel: String,
    /// Which account would send.
    pub account: String,
    /// Stable id of the address; never the address.
    pub address_id: String,
    /// The publisher's app the address belongs to.
    #[serde(default)]
    pub app: Option<String>,
    /// suppressed: nothing is sent; suspected: verdicts are counted.
    #[serde(default = "defaults::suppressed")]
    pub hold: String,
    /// Bounded reason code.
    pub reason: String,
    /// Since when. Milliseconds since 1970-01-01T00:00:00Z.
    pub at: Millis,
    /// When the version of the address was registered that the verdict is about; a later one is alive. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub registered_at: Option<Millis>,
    /// Verdicts so far.
    #[serde(default = "defaults::one")]
    pub verdicts: i32,
    /// When the first verdict came. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub first_at: Option<Millis>,
    /// hygiene, or who asked for it.
    #[serde(default)]
    pub by: String,
    /// Why, in the words of who asked for it.
    #[serde(default)]
    pub why: Option<String>,
}

/// An administrative act: who did what, when and why. Keyed by the actor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Who did it.
    pub actor: String,
    /// When. Milliseconds since 1970-01-01T00:00:00Z.
    pub at: Millis,
    /// What was done: stop, start, and later others.
    pub act: String,
    /// What it was done to.
    pub scope: String,
    /// Why, in the words of who did it.
    #[serde(default)]
    pub why: String,
    /// What else belongs to the act, by name: until.
    #[serde(default)]
    pub details: Pairs,
}

/// What one worker claims of a limit that several share, and pauses that providers asked for. Keyed by scope and worker, about one a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateShare {
    /// What the limit is of: `account:<channel>/<account>`, or `egress:<channel>/<name>` for all workers behind one public IP address.
    pub scope: String,
    /// The process that speaks.
    pub worker_id: String,
    /// When this life of the process began; a successor of the same name is another worker. Milliseconds since 1970-01-01T00:00:00Z.
    pub epoch: i64,
    /// Counts up with each record of one life.
    pub sequence: i64,
    /// The limit as this worker is configured, in units per second; 0 when it has none, and tells of a pause or of the rate it has found.
    #[serde(default)]
    pub limit: i32,
    /// Units per second it would spend if they were free.
    #[serde(default)]
    pub demand: i32,
    /// Units it holds now: given out, and not answered for a second yet.
    #[serde(default)]
    pub using: i32,
    /// Units per second it asks to be counted with; granted up to what the records before this one leave of the limit.
    #[serde(default)]
    pub claimed: i32,
    /// Whether the worker is leaving and holds nothing any more.
    #[serde(default)]
    pub left: bool,
    /// The claim may be spent until then at the latest, by the worker's clock. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub expires_at: Option<Millis>,
    /// The provider asked everybody in this scope to wait until then. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub paused_until: Option<Millis>,
    /// What it has found a limit to be that nobody told it, thousandths of a unit per second; 0 when it has found none, or has all it wants.
    #[serde(default)]
    pub rate: i64,
    /// For how long the provider has not throttled it, milliseconds.
    #[serde(default)]
    pub quiet_ms: i64,
}
