//! Records to checked domain types and back.

use bongsu_domain::identity::{digest, hash64};
use bongsu_domain::{
    Address, AddressId, Channel, Class, Content, ContentHash, DeliveryId, Fault, FaultCode,
    OnUncertain, Ordering, OutcomeId, Platform, Purpose, Reason, RecipientTerms, Settled,
    Timestamp,
};

use crate::hot::RawDelivery;
use crate::outcome::OutcomeReceipt;
use crate::records::{self, Delivery, NotificationEvent, Receipt};

impl From<&Content> for records::Content {
    fn from(c: &Content) -> Self {
        Self {
            title: c.title.clone(),
            body: c.body.clone(),
            data: c.data.clone(),
            link: c.link.clone(),
            image: c.image.clone(),
            overrides: c.overrides.clone(),
            ..Self::default()
        }
    }
}

impl From<records::Content> for Content {
    fn from(c: records::Content) -> Self {
        Self {
            title: c.title,
            body: c.body,
            data: c.data,
            link: c.link,
            image: c.image,
            overrides: c.overrides,
        }
    }
}

/// Hash of what is said.
#[must_use]
pub fn content_hash(content: &Content) -> ContentHash {
    // JSON of the record with sorted maps is a canonical form: field order is fixed by the struct.
    let text = serde_json::to_vec(&records::Content::from(content)).unwrap_or_default();
    ContentHash(hash64(&[&text]))
}

/// Hash by which a repeated event id is told from a conflicting one: the whole decoded event
/// without its expiry.
#[must_use]
pub fn event_hash(event: &NotificationEvent) -> u64 {
    let without_expiry = NotificationEvent {
        expires_at: None,
        ..event.clone()
    };
    let text = serde_json::to_string(&without_expiry).unwrap_or_default();
    // A field added later and left out by the publisher must not change the hash of an event that an
    // older version has noted. Inside a JSON string no quote stands bare, so this finds fields only.
    let text = text.replace(NO_CONSENTS, "");
    hash64(&[text.as_bytes()])
}

/// How JSON writes a recipient's empty list of consents, the comma before it included.
const NO_CONSENTS: &str = ",\"consents\":[]";

/// Hash of (sender, event id), and of the schedule that released it: what makes a repeat a repeat.
#[must_use]
pub fn event_key(event: &NotificationEvent) -> u128 {
    let full = digest(&[
        event.sender.as_bytes(),
        event.id.as_bytes(),
        event.schedule_id.as_deref().unwrap_or_default().as_bytes(),
    ]);
    let mut out = [0; 16];
    out.copy_from_slice(full.split_at(16).0);
    u128::from_be_bytes(out)
}

fn word<T>(field: &str, read: Result<T, bongsu_domain::UnknownWord>) -> Result<T, Fault> {
    read.map_err(|e| Fault {
        field: field.to_owned(),
        code: FaultCode::UnknownWord,
        message: e.to_string(),
    })
}

/// Reads a delivery record.
///
/// # Errors
/// The first field that is not what fanout writes.
pub fn delivery_from_record(r: Delivery) -> Result<bongsu_domain::Delivery, Fault> {
    delivery_from_parts(RawDelivery {
        delivery_id: &r.delivery_id,
        event_id: &r.event_id,
        sender: &r.sender,
        class: &r.class,
        purpose: &r.purpose,
        category: r.category.as_deref(),
        channel: &r.channel,
        recipient: &r.recipient,
        time_zone: r.time_zone.as_deref(),
        country: r.country.as_deref(),
        address: &r.address,
        address_id: &r.address_id,
        account: &r.account,
        platform: &r.platform,
        app: r.app.as_deref(),
        registered_at: r.registered_at.map(|at| at.0),
        content: r.content,
        content_hash: &r.content_hash,
        step: r.step,
        accepted_at: r.accepted_at.0,
        expires_at: r.expires_at.0,
        ordering: r.ordering.as_deref(),
        collapse_key: r.collapse_key.as_deref(),
        on_uncertain: &r.on_uncertain,
        campaign_id: r.campaign_id.as_deref(),
        replay_id: r.replay_id.as_deref(),
        labels: r.labels,
        night_consent: r.night_consent,
    })
}

/// The same, from parts that are borrowed.
pub(crate) fn delivery_from_parts(r: RawDelivery<'_>) -> Result<bongsu_domain::Delivery, Fault> {
    let channel = word("channel", Channel::parse(r.channel))?;
    let id = DeliveryId::parse(r.delivery_id).ok_or_else(|| Fault {
        field: "delivery_id".to_owned(),
        code: FaultCode::Invalid,
        message: "is not a UUID".to_owned(),
    })?;
    let ordering = match r.ordering {
        None => Ordering::Sender,
        Some(text) => word("ordering", Ordering::parse(text))?,
    };
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(bongsu_domain::Delivery {
        id,
        event_id: r.event_id.to_owned(),
        sender: r.sender.to_owned(),
        class: word("class", Class::parse(r.class))?,
        purpose: word("purpose", Purpose::parse(r.purpose))?,
        category: owned(r.category),
        recipient: r.recipient.to_owned(),
        terms: RecipientTerms {
            time_zone: owned(r.time_zone),
            country: owned(r.country),
            night_consent: r.night_consent,
        },
        address: Address {
            channel,
            address: r.address.to_owned(),
            id: AddressId(r.address_id.to_owned()),
            account: r.account.to_owned(),
            // A platform added by a newer fanout is no reason not to send.
            platform: Platform::parse(r.platform).unwrap_or(Platform::Other),
            app: owned(r.app),
            registered_at: r.registered_at.map(Timestamp),
        },
        content: r.content.into(),
        content_hash: ContentHash::parse(r.content_hash).unwrap_or(ContentHash(0)),
        step: r.step,
        accepted_at: Timestamp(r.accepted_at),
        expires_at: Timestamp(r.expires_at),
        ordering,
        collapse_key: owned(r.collapse_key),
        on_uncertain: word("on_uncertain", OnUncertain::parse(r.on_uncertain))?,
        campaign_id: owned(r.campaign_id),
        replay_id: owned(r.replay_id),
        labels: r.labels,
    })
}

/// Where a delivery record lies: what a receipt answers.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// Outcome and reason.
    pub settled: Settled,
    /// Attempts made.
    pub attempts: u32,
    /// When.
    pub at: Timestamp,
    /// Whether the provider may have got it more than once.
    pub possible_duplicate: bool,
    /// The provider's own id of the notification, where it gave one.
    pub provider_reference: Option<&'a str>,
    /// Who decided.
    pub worker_id: &'a str,
}

/// The outcome receipt of a delivery, borrowed from it: one is written per delivery.
#[must_use]
pub fn outcome_receipt<'a>(
    d: &'a bongsu_domain::Delivery,
    source: Source<'a>,
    ending: Ending<'a>,
) -> OutcomeReceipt<'a> {
    OutcomeReceipt {
        kind: "outcome",
        receipt_id: OutcomeId::of(d.id).to_string(),
        delivery_id: Some(d.id.to_string()),
        event_id: &d.event_id,
        sender: &d.sender,
        class: d.class.as_str(),
        purpose: d.purpose.as_str(),
        category: d.category.as_deref(),
        channel: Some(d.address.channel.as_str()),
        account: Some(&d.address.account),
        recipient: Some(&d.recipient),
        address_id: Some(&d.address.id.0),
        platform: Some(d.address.platform.as_str()),
        app: d.address.app.as_deref(),
        registered_at: d.address.registered_at.map(Into::into),
        outcome: ending.settled.outcome.as_str(),
        reason: ending.settled.reason.as_str(),
        detail: None,
        attempts: i32::try_from(ending.attempts).unwrap_or(i32::MAX),
        at: ending.at.into(),
        accepted_at: Some(d.accepted_at.into()),
        expires_at: Some(d.expires_at.into()),
        content_hash: d.content_hash.to_hex(),
        step: d.step,
        origin: "event",
        campaign_id: d.campaign_id.as_deref(),
        schedule_id: None,
        replay_id: d.replay_id.as_deref(),
        possible_duplicate: ending.possible_duplicate,
        provider_reference: ending.provider_reference,
        worker_id: Some(ending.worker_id),
        source_topic: Some(source.topic),
        source_partition: Some(source.partition),
        source_offset: Some(source.offset),
        labels: &d.labels,
    }
}

/// What a provider reported on a delivery.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Which delivery, as our reference says.
    pub reference: bongsu_domain::Reference,
    /// What it makes of the delivery.
    pub settled: Settled,
    /// The account it came through.
    pub account: &'a str,
    /// The provider's own id of the notification.
    pub key: &'a str,
    /// What tells two reports of one notification apart.
    pub said: &'a str,
    /// When it happened.
    pub at: Timestamp,
    /// The topic the delivery came from.
    pub topic: &'a str,
}

/// The receipt of a report. It knows its delivery by our reference alone: sender, event and
/// recipient are those of the delivery's outcome, before or after it in the same partition.
#[must_use]
pub fn report_receipt(report: &Report<'_>) -> Receipt {
    let reference = report.reference;
    Receipt {
        kind: "report".to_owned(),
        receipt_id: OutcomeId::of_report(reference.delivery, report.key, report.said).to_string(),
        delivery_id: Some(reference.delivery.to_string()),
        class: reference.class.as_str().to_owned(),
        channel: Some(reference.channel.as_str().to_owned()),
        account: Some(report.account.to_owned()),
        outcome: report.settled.outcome.as_str().to_owned(),
        reason: report.settled.reason.as_str().to_owned(),
        detail: Some(report.said.chars().take(200).collect()),
        at: report.at.into(),
        origin: "event".to_owned(),
        provider_reference: Some(report.key.to_owned()),
        source_topic: Some(report.topic.to_owned()),
        source_partition: Some(reference.partition),
        ..Receipt::default()
    }
}

/// An event-level receipt: the whole event, or one recipient of it, came to nothing.
#[must_use]
pub fn event_receipt(
    event: &NotificationEvent,
    recipient: Option<&str>,
    settled: Settled,
    detail: &str,
    at: Timestamp,
    source: Source<'_>,
) -> Receipt {
    let about = recipient.map_or_else(
        || settled.reason.as_str().to_owned(),
        |r| format!("{r}\u{1f}{}", settled.reason),
    );
    Receipt {
        kind: "event".to_owned(),
        receipt_id: OutcomeId::of_event(&event.sender, &event.id, &about).to_string(),
        event_id: event.id.clone(),
        sender: event.sender.clone(),
        class: event.class.clone(),
        purpose: event.purpose.clone(),
        category: event.category.clone(),
        recipient: recipient.map(str::to_owned),
        outcome: settled.outcome.as_str().to_owned(),
        reason: settled.reason.as_str().to_owned(),
        detail: Some(detail.chars().take(1_000).collect()),
        at: at.into(),
        expires_at: event.expires_at,
        origin: "event".to_owned(),
        campaign_id: event.campaign_id.clone(),
        schedule_id: event.schedule_id.clone(),
        replay_id: event.replay_id.clone(),
        source_topic: Some(source.topic.to_owned()),
        source_partition: Some(source.partition),
        source_offset: Some(source.offset),
        labels: event.labels.clone(),
        ..Receipt::default()
    }
}

/// The reason code of a refused event, from its leading fault.
#[must_use]
pub const fn reason_of(code: FaultCode) -> Reason {
    match code {
        FaultCode::NotBuilt => Reason::NotBuilt,
        FaultCode::NotAvailable => Reason::NotAvailable,
        FaultCode::UnknownChannel => Reason::UnknownChannel,
        FaultCode::Expired => Reason::DeadlinePassed,
        FaultCode::Missing
        | FaultCode::Invalid
        | FaultCode::UnknownWord
        | FaultCode::TooLarge
        | FaultCode::Contradiction => Reason::InvalidEvent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_without_consents_keeps_the_hash_an_older_version_noted() {
        let mut event = NotificationEvent {
            id: "e".to_owned(),
            ..NotificationEvent::default()
        };
        event.target.recipients = vec![records::Recipient::default(); 2];
        event.content.body = Some(NO_CONSENTS.to_owned());
        let text = serde_json::to_string(&event).unwrap_or_default();
        let (before, after) = (
            text.matches(NO_CONSENTS).count(),
            text.matches("consents").count(),
        );
        assert_eq!(
            (before, after),
            (2, 3),
            "the text that looks like it is left alone"
        );
        let older = text.replace("\"locale\":null,\"consents\":[]", "\"locale\":null");
        assert_eq!(event_hash(&event), hash64(&[older.as_bytes()]));
        event.target.recipients[0].consents = vec!["advertising".to_owned()];
        assert_ne!(event_hash(&event), hash64(&[older.as_bytes()]));
    }
}
