//! From a checked event to its records: pure.

use std::borrow::Cow;
use std::sync::Arc;

use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{
    Address, Channel, Consent, Content, ContentHash, DeliveryId, Event, Ordering, Reason,
    Recipient, Settled, Timestamp, partition_of,
};
use bongsu_policy::Rules;
use bongsu_policy::rules::{Advertising, Marking};
use bongsu_schemas::convert::{Source, content_hash, event_receipt};
use bongsu_schemas::{Codec, Delivery, EncodeError, NotificationEvent, Topics, headers, records};
use bongsu_stream::port::{Headers, Outgoing, Record};
use bongsu_suppressions::Suppressed;

/// What every expansion needs.
pub struct Expander {
    /// Writes the records.
    pub codec: Arc<Codec>,
    /// Names the topics.
    pub topics: Topics,
    /// N.
    pub partitions: i32,
    /// This process, on deliveries.
    pub worker_id: Arc<str>,
    /// The channels that have topics; no delivery is made for another.
    pub channels: Vec<Channel>,
    /// What must not be sent to.
    pub suppressed: Suppressed,
    /// What law and providers ask of advertising.
    pub rules: Arc<Rules>,
    /// Which contents a channel takes.
    pub fits: ContentCheck,
}

fn told_suppressed(address: &Address) -> String {
    format!(
        "{} address {} is suppressed; `bongsu suppressions list` says since when and why",
        address.channel, address.id.0
    )
}

/// Why a channel can never take a content, in words for the publisher; none when it may. Each
/// channel brings its own; only what holds for every account and address is said here. The last
/// argument forbids cutting what is too long.
pub type ContentCheck = fn(Channel, &Content, bool) -> Option<String>;

/// The records of one event.
#[derive(Debug, Default)]
pub struct Expanded {
    /// To be written, in order.
    pub records: Vec<Outgoing>,
    /// How many of them are deliveries.
    pub deliveries: usize,
    /// Why recipients were refused, one entry each.
    pub refused: Vec<Reason>,
}

/// How a recipient, or one address of it, ends that gets nothing, and why.
type Refusal = (Settled, String);

/// The contents of one event, each made once: as published, and as the law wants it.
struct Contents<'a> {
    event: &'a Event,
    plain: Rendered<'a>,
    marked: Option<(Marking<'a>, Rendered<'a>)>,
    fits: ContentCheck,
}

/// One content with what is known of it.
struct Rendered<'a> {
    content: Cow<'a, Content>,
    hash: ContentHash,
    /// What each planned channel says of it, once asked.
    faults: Vec<(Channel, Option<String>)>,
}

impl<'a> Rendered<'a> {
    fn new(content: Cow<'a, Content>) -> Self {
        Self {
            hash: content_hash(&content),
            content,
            faults: Vec::new(),
        }
    }
}

impl<'a> Contents<'a> {
    fn new(event: &'a Event, fits: ContentCheck) -> Self {
        Self {
            event,
            plain: Rendered::new(Cow::Borrowed(&event.content)),
            marked: None,
            fits,
        }
    }

    /// What is said on a channel, under a recipient's law.
    fn on(
        &mut self,
        channel: Channel,
        advertising: &Advertising<'a>,
    ) -> Result<(&Content, ContentHash), Refusal> {
        let whole = matches!(advertising, Advertising::Marked(_));
        let rendered = match advertising {
            Advertising::Refused(reason, why) => {
                return Err((Settled::refused(*reason), (*why).to_owned()));
            }
            Advertising::AsItIs => &mut self.plain,
            Advertising::Marked(marking) => {
                if !marking.is_in_override(&self.event.content, channel) {
                    let why = format!(
                        "the override for {channel} is advertising without `{}` or without `{}`",
                        marking.mark, marking.closing
                    );
                    return Err((Settled::refused(Reason::MarkingMissing), why));
                }
                let known = self.marked.take().filter(|(known, _)| known == marking);
                let marked = known.unwrap_or_else(|| {
                    let content = Cow::Owned(marking.apply(&self.event.content));
                    (*marking, Rendered::new(content))
                });
                &mut self.marked.insert(marked).1
            }
        };
        let known = rendered.faults.iter().position(|(c, _)| *c == channel);
        let at = known.unwrap_or_else(|| {
            let fault = (self.fits)(channel, &rendered.content, whole);
            rendered.faults.push((channel, fault));
            rendered.faults.len() - 1
        });
        if let Some((_, Some(why))) = rendered.faults.get(at) {
            return Err((
                Settled::refused(Reason::ContentTooLarge),
                format!("{channel}: {why}"),
            ));
        }
        Ok((&rendered.content, rendered.hash))
    }
}

impl Expander {
    /// Deliveries for every recipient, channel and address, in the order of the event. A recipient
    /// who gets less than was planned gets a receipt that says why: no address on a planned channel,
    /// a channel without topics, advertising that the law forbids, or a content that is too large.
    ///
    /// # Errors
    /// When a value does not fit its schema.
    pub fn expand(
        &self,
        record: &Record,
        raw: &NotificationEvent,
        event: &Event,
        recipients: &[Recipient],
    ) -> Result<Expanded, EncodeError> {
        let mut out = Expanded::default();
        let mut contents = Contents::new(event, self.fits);
        for recipient in recipients {
            let refused = self.expand_to(record, event, recipient, &mut contents, &mut out)?;
            if let Some((settled, detail)) = refused {
                out.refused.push(settled.reason);
                let id = Some(recipient.id.as_str());
                out.records
                    .push(self.refusal(record, raw, id, settled, &detail)?);
            }
        }
        Ok(out)
    }

    /// The deliveries of one recipient, and why there are not more.
    fn expand_to<'a>(
        &'a self,
        record: &Record,
        event: &'a Event,
        recipient: &Recipient,
        contents: &mut Contents<'a>,
        out: &mut Expanded,
    ) -> Result<Option<Refusal>, EncodeError> {
        let place = (recipient.country.as_deref(), recipient.time_zone.as_deref());
        let advertising =
            self.rules
                .decide_advertising(event.purpose, &event.sender, place, &recipient.consents);
        let before = out.deliveries;
        let mut refused: Option<Refusal> = None;
        let planned = event.channels.iter();
        for channel in planned.filter(|channel| self.channels.contains(channel)) {
            for address in recipient.addresses.iter().filter(|a| a.channel == *channel) {
                if let Some(settled) = self.suppressed.decide(address) {
                    refused.get_or_insert_with(|| (settled, told_suppressed(address)));
                    continue;
                }
                let said = match contents.on(*channel, &advertising) {
                    Ok(said) => said,
                    Err(why) => {
                        refused.get_or_insert(why);
                        break;
                    }
                };
                let delivery = self.delivery(record, event, recipient, address, said);
                out.records
                    .push(self.delivery_record(record, event, address, &delivery)?);
                out.deliveries += 1;
            }
        }
        if let Some(channel) = self.absent(event, recipient) {
            let detail = format!(
                "channel {channel} has no topics here; the operator adds it to topics.channels"
            );
            return Ok(Some((Settled::refused(Reason::UnknownChannel), detail)));
        }
        if refused.is_none() && out.deliveries == before {
            let detail =
                "no inline address on a planned channel, and stored recipients are not built";
            return Ok(Some((
                Settled::refused(Reason::NotAvailable),
                detail.to_owned(),
            )));
        }
        Ok(refused)
    }

    /// The first planned channel on which the recipient has an address, but which has no topics.
    fn absent(&self, event: &Event, recipient: &Recipient) -> Option<Channel> {
        let mut planned = event.channels.iter().copied();
        planned.find(|channel| {
            !self.channels.contains(channel)
                && recipient.addresses.iter().any(|a| a.channel == *channel)
        })
    }

    /// An event-level receipt.
    ///
    /// # Errors
    /// When a value does not fit its schema.
    pub fn refusal(
        &self,
        record: &Record,
        raw: &NotificationEvent,
        recipient: Option<&str>,
        settled: Settled,
        detail: &str,
    ) -> Result<Outgoing, EncodeError> {
        let source = Source {
            topic: &record.topic,
            partition: record.partition,
            offset: record.offset,
        };
        let at = Timestamp(record.timestamp);
        let receipt = event_receipt(raw, recipient, settled, detail, at, source);
        let headers = self.headers(record, &raw.id).with(headers::KIND, "event");
        Ok(Outgoing {
            topic: self.topics.results(),
            partition: partition_of(raw.sender.as_bytes(), self.partitions),
            key: Some(raw.sender.clone().into()),
            value: Some(self.codec.encode(&receipt)?),
            headers,
        })
    }

    /// The same event for its right partition, with a note of where it lay.
    #[must_use]
    pub fn rehome(&self, record: &Record, home: i32) -> Outgoing {
        Outgoing {
            topic: Arc::clone(&record.topic),
            partition: home,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record
                .headers
                .clone()
                .with(headers::REHOMED_FROM, record.partition.to_string()),
        }
    }

    fn delivery(
        &self,
        record: &Record,
        event: &Event,
        recipient: &Recipient,
        address: &Address,
        (content, hash): (&Content, ContentHash),
    ) -> Delivery {
        let step = 0;
        let id = DeliveryId::derive(DeliveryParts {
            sender: &event.sender,
            event_id: &event.id,
            channel: address.channel.as_str(),
            recipient: &recipient.id,
            address_id: &address.id,
            step,
        });
        let accepted_at = Timestamp(record.timestamp);
        let expires_at = event
            .expires_at
            .unwrap_or_else(|| address.channel.default_expiry(event.class, accepted_at));
        Delivery {
            delivery_id: id.to_string(),
            event_id: event.id.clone(),
            sender: event.sender.clone(),
            class: event.class.as_str().to_owned(),
            purpose: event.purpose.as_str().to_owned(),
            category: event.category.clone(),
            channel: address.channel.as_str().to_owned(),
            recipient: recipient.id.clone(),
            time_zone: recipient.time_zone.clone(),
            country: recipient.country.clone(),
            locale: recipient.locale.clone(),
            address: address.address.clone(),
            address_id: address.id.0.clone(),
            account: address.account.clone(),
            platform: address.platform.as_str().to_owned(),
            app: address.app.clone(),
            registered_at: address.registered_at.map(Into::into),
            content: records::Content::from(content),
            content_hash: hash.to_hex(),
            step,
            origin: "event".to_owned(),
            accepted_at: accepted_at.into(),
            expires_at: expires_at.into(),
            ordering: (event.ordering == Ordering::None).then(|| "none".to_owned()),
            collapse_key: event.collapse_key.clone(),
            on_uncertain: event.on_uncertain.as_str().to_owned(),
            campaign_id: event.campaign_id.clone(),
            schedule_id: None,
            replay_id: None,
            possible_duplicate: false,
            worker_id: Some(self.worker_id.to_string()),
            labels: event.labels.clone(),
            night_consent: recipient.consents.contains(&Consent::AdvertisingAtNight),
        }
    }

    fn delivery_record(
        &self,
        record: &Record,
        event: &Event,
        address: &Address,
        delivery: &Delivery,
    ) -> Result<Outgoing, EncodeError> {
        Ok(Outgoing {
            topic: self.topics.deliveries(address.channel, event.class),
            partition: partition_of(event.sender.as_bytes(), self.partitions),
            key: Some(event.sender.clone().into()),
            value: Some(self.codec.encode(delivery)?),
            headers: self
                .headers(record, &event.id)
                .with(headers::DELIVERY_ID, delivery.delivery_id.clone()),
        })
    }

    fn headers(&self, record: &Record, event_id: &str) -> Headers {
        let mut out = Headers::default()
            .with(headers::EVENT_ID, event_id.to_owned())
            .with(headers::SOURCE_TOPIC, record.topic.as_bytes().to_vec())
            .with(headers::SOURCE_PARTITION, record.partition.to_string())
            .with(headers::SOURCE_OFFSET, record.offset.to_string());
        if let Some(trace) = record.headers.text(headers::TRACEPARENT)
            && bongsu_runtime::telemetry::is_traceparent(trace)
        {
            out = out.with(headers::TRACEPARENT, trace.to_owned());
        }
        out
    }
}
