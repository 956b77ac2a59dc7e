//! From a checked event to its records: pure.

use std::sync::Arc;

use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{
    Address, Channel, ContentHash, DeliveryId, Event, Ordering, Reason, Recipient, Settled,
    Timestamp, partition_of,
};
use bongsu_schemas::convert::{Source, content_hash, event_receipt};
use bongsu_schemas::{Codec, Delivery, EncodeError, NotificationEvent, Topics, headers, records};
use bongsu_stream::port::{Headers, Outgoing, Record};

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
}

/// The records of one event.
#[derive(Debug, Default)]
pub struct Expanded {
    /// To be written, in order.
    pub records: Vec<Outgoing>,
    /// How many of them are deliveries.
    pub deliveries: usize,
    /// How many recipients were refused for want of an address.
    pub unavailable: usize,
}

impl Expander {
    /// Deliveries for every recipient, channel and address, in the order of the event; a recipient
    /// without an address on any planned channel gets a receipt instead, and one with an address on
    /// a channel that has no topics gets a receipt that says so.
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
        let hash = content_hash(&event.content);
        for recipient in recipients {
            let before = out.deliveries;
            let planned = event.channels.iter();
            for channel in planned.filter(|channel| self.channels.contains(channel)) {
                for address in recipient.addresses.iter().filter(|a| a.channel == *channel) {
                    let delivery = self.delivery(record, event, recipient, address, hash);
                    out.records
                        .push(self.delivery_record(record, event, address, &delivery)?);
                    out.deliveries += 1;
                }
            }
            let refused = if let Some(channel) = self.absent(event, recipient) {
                let detail = format!(
                    "channel {channel} has no topics here; the operator adds it to topics.channels"
                );
                Some((Reason::UnknownChannel, detail))
            } else if out.deliveries == before {
                let detail =
                    "no inline address on a planned channel, and stored recipients are not built";
                Some((Reason::NotAvailable, detail.to_owned()))
            } else {
                None
            };
            if let Some((reason, detail)) = refused {
                out.unavailable += 1;
                let settled = Settled::refused(reason);
                let id = Some(recipient.id.as_str());
                out.records
                    .push(self.refusal(record, raw, id, settled, &detail)?);
            }
        }
        Ok(out)
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
        hash: ContentHash,
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
            content: records::Content::from(&event.content),
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
